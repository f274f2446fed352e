"""Answers from several processes and machines: batches as jobs, the workers that answer them, and Ray, which runs the workers."""
