"""Sample logs of other evaluation tools, as scores of items that can be paired. Pure, but for the reading of files; no torch."""

from lastresort.gate.logs.logged import LoggedItem, LoggedMeasure, PairedMeasure, pair_measures
from lastresort.gate.logs.read import Logs, read_logs

__all__ = ["LoggedItem", "LoggedMeasure", "Logs", "PairedMeasure", "pair_measures", "read_logs"]
