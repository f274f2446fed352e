"""Training: one loop for every objective, adapters, checkpoints."""
