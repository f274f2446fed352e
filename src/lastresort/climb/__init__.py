"""The ladder: the climb and its decisions."""
