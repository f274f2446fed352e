"""A system: everything that decides an answer, as one frozen value.

The joint on which the program hangs: rungs build systems, `evals` measures them, the run saves the winner, `chat` and
`serve` load it. Nothing that changes an answer may live outside this value and the files it names.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from lastresort.types import Decoding, Message


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
class System:
    """Whatever answers an input: prompt design, model with or without an adapter, decoding.

    model: a name as in the task file; relative paths are meant from the folder of system.yaml. adapter: a PEFT folder.
    rendering: hash of the chat template and its arguments that this system was measured with ("" for endpoints); a model
    that renders otherwise is refused when the system is opened. fingerprint: that of the model it was measured with ("" where
    it was not measured), likewise.
    """

    name: str
    model: str
    prompt: PromptDesign
    decoding: Decoding
    adapter: Path | None = None
    precision: str = "auto"
    template_kwargs: dict[str, Any] = field(default_factory=dict)
    rendering: str = ""
    fingerprint: str = ""
