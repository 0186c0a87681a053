"""What comes in: bodies and queries, validated into messages for the store."""
