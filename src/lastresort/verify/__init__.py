"""Whether a running server answers as the run measured."""
