"""Tasks of lm-eval, asked of a model that is loaded here. lm-eval is an extra (`evals`) and imported only where it is used."""

from lastresort.gate.lm_eval.asking import CHUNK, HarnessAnswers, ask
from lastresort.gate.lm_eval.tasks import PREFIX, Documents, MeasuredTasks, load_parts

__all__ = ["CHUNK", "PREFIX", "Documents", "HarnessAnswers", "MeasuredTasks", "ask", "load_parts"]
