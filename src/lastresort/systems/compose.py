"""An input and a prompt design -> the conversation shown to the model; and the model's text -> the answer."""

from __future__ import annotations

import re
from collections.abc import Sequence

from lastresort.systems.system import PromptDesign, Shot
from lastresort.types import Message

REASONING_REQUEST = 'Think step by step first. Then give the final answer on a new line that starts with "Answer:".'
_ANSWER_MARK = re.compile(r"(?:^|\n)[ \t>*#]*(?:final )?answer[*]*[ \t]*:[*]*[ \t]*", re.IGNORECASE)


def compose(design: PromptDesign, turns: Sequence[Message], shots: Sequence[Shot]) -> tuple[Message, ...]:
    """The whole conversation: one system turn, the shots as solved turns, then the input.

    turns: the input; system turns of its own are joined to the instruction. shots: those chosen for this input, in order.
    """
    own = [turn.content for turn in turns if turn.role == "system"]
    instruction = "\n\n".join([_instruction(design), *own]).strip()
    conversation = [Message("system", instruction)] if instruction else []
    for shot in shots:
        conversation += _wrapped(design, [turn for turn in shot.input if turn.role != "system"])
        conversation.append(Message("assistant", shot.output))
    conversation += _wrapped(design, [turn for turn in turns if turn.role != "system"])
    return tuple(conversation)


def extract(design: PromptDesign, text: str) -> str:
    """What counts as the answer in the model's text: all of it, or what follows the last "Answer:" after reasoning."""
    if not design.reasoning:
        return text.strip()
    marks = list(_ANSWER_MARK.finditer(text))
    return text[marks[-1].end() :].strip() if marks else text.strip()


def _instruction(design: PromptDesign) -> str:
    parts = [design.instruction] if design.instruction else []
    if design.reasoning:
        parts.append(REASONING_REQUEST)
    return "\n\n".join(parts)


def _wrapped(design: PromptDesign, turns: Sequence[Message]) -> list[Message]:
    if design.layout == "plain":
        return list(turns)
    return [
        Message(turn.role, f"<input>\n{turn.content}\n</input>", turn.extra) if turn.role == "user" else turn
        for turn in turns
    ]
