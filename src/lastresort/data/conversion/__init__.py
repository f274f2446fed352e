"""Rows from one shape and file into another, one at a time, so that a file of any size fits into memory."""
