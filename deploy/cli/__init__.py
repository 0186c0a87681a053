"""The safekeep command."""
