"""Talking to service brokers: the HTTP client, the wire types, and what an answer means."""
