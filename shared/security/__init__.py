"""Keeping secrets secret: sealing at rest, and the tokens of callers."""
