"""HTTP handlers, one file per noun. They return a response or raise a typed error, and write no JSON themselves."""
