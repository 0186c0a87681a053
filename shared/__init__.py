"""What API and workers both need. Imports neither of them."""
