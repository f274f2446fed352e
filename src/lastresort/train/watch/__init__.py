"""Early warnings: how far a model in training is from its base."""
