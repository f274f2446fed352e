"""The version, where every folder can read it."""

__version__ = "0.1.0"
