"""A training as a script of Unsloth's."""
