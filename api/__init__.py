"""The HTTP front end: HTTP in, HTTP out. Knows shared, never worker."""
