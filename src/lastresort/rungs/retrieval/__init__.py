"""The rung retrieval: passages in the prompt."""
