"""Rewards of sampled answers, each function of the user in a process of its own."""
