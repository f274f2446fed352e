"""A training as a script of TRL's, and its rewards in TRL's form."""
