"""Sample logs of other evaluation tools, as scores of items that can be paired. No torch. from_logs.py reads a path."""

from lastresort.gate.logs.logged import LoggedItem, LoggedMeasure, PairedMeasure, pair_measures

__all__ = ["LoggedItem", "LoggedMeasure", "PairedMeasure", "pair_measures"]
