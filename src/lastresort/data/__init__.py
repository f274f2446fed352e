"""Labelled examples: read, split, checked, mixed and rendered into tokens with their masks.

read.read_examples -> split.split_examples -> cleaning.clean -> check.check_data -> rendering.render_training
"""
