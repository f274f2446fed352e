"""Tasks of lm-eval, asked of a model that is loaded here. lm-eval is an extra (`evals`) and imported only where it is used."""

from lastresort.evals.harness.asking import CHUNK, Heard, ask
from lastresort.evals.harness.documents import Documents
from lastresort.evals.harness.tasks import PREFIX, Part, load_parts

__all__ = ["CHUNK", "PREFIX", "Documents", "Heard", "Part", "ask", "load_parts"]
