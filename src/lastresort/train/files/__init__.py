"""A training file and the run that it describes."""
