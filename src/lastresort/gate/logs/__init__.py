"""Sample logs of other evaluation tools, as scores of items that can be paired. No torch. from_logs.py reads a path."""
