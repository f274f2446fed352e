"""Public figures of models, cards and prices, with their sources."""
