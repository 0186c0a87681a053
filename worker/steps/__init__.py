"""What one step of each operation does: one bounded call to a broker, and what follows from its answer."""
