"""The reference service broker: real PostgreSQL databases, real dumps, real restores."""
