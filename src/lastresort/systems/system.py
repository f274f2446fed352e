"""A system: everything that determines an answer, as one frozen value.

Rungs build systems, `evals` measures them, the run saves the winner, and `chat` and `serve` load it. Nothing that changes an
answer may be outside this value and the files that it names.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from lastresort.knowledge.search import Mode
from lastresort.types import Decoding, JsonObject, Message

PASSAGES_REQUEST = "Passages that may help stand before the question. Answer from them."

Author = Literal["task", "model"]  # of an instruction


@dataclass(frozen=True, slots=True)
class Shot:
    """A solved example in the prompt. input: its turns up to the answer."""

    input: tuple[Message, ...]
    output: str


@dataclass(frozen=True, slots=True)
class PromptDesign:
    """How an input becomes a prompt.

    instruction: text of the system turn. layout: "sections" wraps input and passages in XML tags. shots: the pool of solved
    examples. selection: "nearest" shows the `k` most similar to the input, "fixed" the first `k`. reasoning: the model thinks
    first, and the answer is what follows the last "Answer:". written_by: whose words the instruction is; no answer depends on it.
    """

    instruction: str
    layout: Literal["plain", "sections"] = "plain"
    shots: tuple[Shot, ...] = ()
    k: int = 0
    selection: Literal["fixed", "nearest"] = "fixed"
    reasoning: bool = False
    written_by: Author = "task"


@dataclass(frozen=True, slots=True)
class Retriever:
    """How a system finds passages, and how they appear in the prompt.

    store: folder of a knowledge store. k: number of passages in the prompt. reranker: a cross-encoder, by name. request: the
    instruction about passages. contents, reranker_fingerprint: hashes of the store and the cross-encoder that the system was
    measured with, "" if it was not measured. Opening refuses any other.
    """

    store: Path
    k: int
    mode: Mode = "hybrid"
    reranker: str | None = None
    request: str = PASSAGES_REQUEST
    contents: str = ""
    reranker_fingerprint: str = ""


@dataclass(frozen=True, slots=True)
class System:
    """All that answers an input: prompt design, optional retriever, model with or without an adapter, decoding.

    model: a name as in the task file; relative paths start at the folder of system.yaml. adapter: a PEFT folder. tuned_from: the
    base, if model is a folder of fully trained weights, which then are part of the system; else "".
    The remaining fields are checks: opening the system refuses a model that differs in one of them, unless it is "".
    rendering: hash of the chat template and its arguments that it was measured with ("" for endpoints). fingerprint: of the
    model that it was measured with. trained_rendering: fingerprint of how its training rows were rendered
    (models/tokenizer.py), "" if it was not trained or the version did not record it.
    """

    name: str
    model: str
    prompt: PromptDesign
    decoding: Decoding
    adapter: Path | None = None
    precision: str = "auto"
    template_kwargs: JsonObject = field(default_factory=dict)
    rendering: str = ""
    fingerprint: str = ""
    retriever: Retriever | None = None
    tuned_from: str = ""
    trained_rendering: str = ""

    def answered_by(self, endpoint: str) -> System:
        """The same prompt and decoding over an endpoint, which renders and has weights of its own: nothing can be checked here."""
        return replace(self, model=endpoint, adapter=None, rendering="", fingerprint="", trained_rendering="")

    @property
    def has_constant_prompt(self) -> bool:
        """Whether every input gets the same turns before it: no passages, and no shots chosen by the input."""
        nearest = self.prompt.selection == "nearest" and self.prompt.k > 0 and bool(self.prompt.shots)
        return self.retriever is None and not nearest
