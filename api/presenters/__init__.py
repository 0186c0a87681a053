"""What goes out: records to JSON, the same nouns as the handlers."""
