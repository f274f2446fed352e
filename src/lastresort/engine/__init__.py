"""Shared-prefix scoring, training forward and sampling, on token ids: forest, logp, sampling, and support (what is refused)."""
