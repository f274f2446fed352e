"""Tasks of lm-eval, asked of a model that is loaded here. lm-eval is an extra (`evals`) and imported only where it is used."""

from lastresort.gate.lm_eval.asking import CHUNK, Heard, ask
from lastresort.gate.lm_eval.tasks import PREFIX, Documents, Part, load_parts

__all__ = ["CHUNK", "PREFIX", "Documents", "Heard", "Part", "ask", "load_parts"]
