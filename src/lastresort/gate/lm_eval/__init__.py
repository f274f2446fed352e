"""Tasks of lm-eval as further suites. lm-eval is an extra (`evals`), imported only where it is used."""

from lastresort.gate.lm_eval.asking import CHUNK, DocumentsToAsk, HarnessAnswers, ask_each
from lastresort.gate.lm_eval.tasks import PREFIX, Documents, MeasuredTasks, load_parts

__all__ = [
    "CHUNK",
    "PREFIX",
    "Documents",
    "DocumentsToAsk",
    "HarnessAnswers",
    "MeasuredTasks",
    "ask_each",
    "load_parts",
]
