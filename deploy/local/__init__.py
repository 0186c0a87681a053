"""The embedded stack for development: PostgreSQL and the queue from Python packages, without root or Docker."""
