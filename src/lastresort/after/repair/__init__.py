"""Repairs after a gate that rejects or holds: milder systems are tried, one is tested and gated once more."""
