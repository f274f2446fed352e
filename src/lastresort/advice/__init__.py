"""Advice from published rules of thumb: what is known of a task -> what to do, with reasons. Pure; nothing is run."""
