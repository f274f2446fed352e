"""lastresort: should I fine-tune, how, and did it work? Answered with evidence."""

__version__ = "0.1.0"
