"""What a model makes for training."""
