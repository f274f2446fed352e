"""Measuring: scorers, the statistics of evidence, and the measurement of a system."""
