"""ChatML and Llama 3 as text, which some types write whatever the model's own template is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lastresort.types import Message

Segment = dict[str, str | bool]


@dataclass(frozen=True, slots=True)
class Markup:
    """head, neck: around a turn's role. end: after its content; it ends an answer. between: after that, before the next turn.

    mark: by which a template is known to write it. strips: whether a template of it strips a turn's content.
    """

    name: str
    head: str
    neck: str
    end: str
    between: str
    mark: str
    strips: bool

    def turn(self, role: str, content: str) -> str:
        return f"{self.head}{role}{self.neck}{content}{self.end}{self.between}"

    def opening(self) -> str:
        """Of the assistant's answer."""
        return f"{self.head}assistant{self.neck}"

    def prompt(self, asked: str, system: str = "") -> str:
        before = self.turn("system", system) if system else ""
        return f"{before}{self.turn('user', asked)}{self.opening()}"

    def answer(self, content: str) -> str:
        return f"{content}{self.end}"

    def conversation(self, turns: Sequence[Message], trained: Sequence[bool]) -> list[Segment]:
        """The turns as its template writes them; of a trained one the content with its end is trained."""
        found: list[Segment] = []
        for turn, train in zip(turns, trained, strict=True):
            content = turn.content.strip() if self.strips else turn.content
            if train:
                found += [{"text": f"{self.head}{turn.role}{self.neck}"}, {"text": self.answer(content), "train": True}]
                found += [{"text": self.between}] if self.between else []
            else:
                found.append({"text": self.turn(turn.role, content)})
        return found


CHATML = Markup("ChatML", "<|im_start|>", "\n", "<|im_end|>", "\n", "<|im_start|>", strips=False)
LLAMA3 = Markup(
    "Llama 3", "<|start_header_id|>", "<|end_header_id|>\n\n", "<|eot_id|>", "", "<|start_header_id|>", strips=True
)
MARKUPS: Mapping[str, Markup] = {"chatml": CHATML, "llama3": LLAMA3}
