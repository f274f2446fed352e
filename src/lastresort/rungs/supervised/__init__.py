"""The rungs sft and full: supervised training of an adapter or of all weights."""
