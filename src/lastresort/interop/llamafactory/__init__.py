"""LLaMA-Factory's training file and its data sets, read and written."""
