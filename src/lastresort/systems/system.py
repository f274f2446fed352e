"""A system: everything that decides an answer, as one frozen value.

The joint on which the program hangs: rungs build systems, `evals` measures them, the run saves the winner, `chat` and
`serve` load it. Nothing that changes an answer may live outside this value and the files it names.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from lastresort.knowledge.search import Mode
from lastresort.types import Decoding, JsonObject, Message

PASSAGES_REQUEST = "Passages that may help stand before the question. Answer from them."


@dataclass(frozen=True, slots=True)
class Shot:
    """A solved example shown in the prompt. input: its turns up to the answer."""

    input: tuple[Message, ...]
    output: str


@dataclass(frozen=True, slots=True)
class PromptDesign:
    """How an input becomes a prompt.

    instruction: text of the system turn. layout "sections" wraps instruction and input in XML tags. shots: the pool of
    solved examples; with selection "nearest" the `k` most similar to the input are shown, else the first `k`.
    reasoning: the model thinks first and the answer is what follows the last "Answer:".
    """

    instruction: str
    layout: Literal["plain", "sections"] = "plain"
    shots: tuple[Shot, ...] = ()
    k: int = 0
    selection: Literal["fixed", "nearest"] = "fixed"
    reasoning: bool = False


@dataclass(frozen=True, slots=True)
class Retriever:
    """Where a system looks things up before it answers, and how what it finds stands in the prompt.

    store: folder of a knowledge store. k: how many passages are shown. reranker: a cross-encoder, as knowledge names one.
    request: what the instruction says of the passages. contents: content hash of the store that the system was measured
    with, reranker_fingerprint: of the cross-encoder ("" where it was not measured); others are refused when it is opened.
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
    """Whatever answers an input: prompt design, a retriever or none, model with or without an adapter, decoding.

    model: a name as in the task file; relative paths are meant from the folder of system.yaml. adapter: a PEFT folder.
    rendering: hash of the chat template and its arguments that this system was measured with ("" for endpoints); a model
    that renders otherwise is refused when the system is opened. fingerprint: that of the model it was measured with ("" where
    it was not measured), likewise. tuned_from: the base, where model is a folder of weights that were all trained: it then is
    a part of the system and goes where it goes; "" otherwise. trained_rendering: how the rows that it was trained on were rendered
    (models/tokenizer.py), "" where it was not trained, or by a version that did not note it; a model that renders otherwise is
    refused when the system is opened.
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
