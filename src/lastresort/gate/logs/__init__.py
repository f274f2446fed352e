"""Sample logs of other evaluation tools, as scores of items that can be paired. Pure, but for the reading of files; no torch."""

from lastresort.gate.logs.logged import Logged, LoggedItem, Paired, paired
from lastresort.gate.logs.read import Logs, read_logs

__all__ = ["Logged", "LoggedItem", "Logs", "Paired", "paired", "read_logs"]
