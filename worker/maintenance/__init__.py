"""What keeps the store small and in order, one class each on the loop base."""
