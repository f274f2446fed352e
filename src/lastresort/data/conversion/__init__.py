"""Rows from one shape and file into another, one at a time."""
