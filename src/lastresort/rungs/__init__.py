"""rungs."""
