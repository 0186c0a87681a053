"""Middlewares, one concern each."""
