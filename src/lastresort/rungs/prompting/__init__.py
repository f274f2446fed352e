"""Prompting: the prompts of a task, raced on dev."""
