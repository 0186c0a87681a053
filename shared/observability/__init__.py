"""What operators see of a running Safekeep: its log."""
