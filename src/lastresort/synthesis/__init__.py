"""What a model makes for training: replay rows, preference pairs from its own samples, synthetic rows."""
