"""Objectives on groups: answers sampled for each step, rewarded, and compared with their group."""
