"""From an input and a prompt design to the conversation for the model, and from the model's text to the answer."""

from __future__ import annotations

import re
from collections.abc import Sequence

from lastresort.knowledge.chunks import Chunk
from lastresort.systems.lookup import Lookup
from lastresort.systems.system import PromptDesign, Shot
from lastresort.types import Message


def render_passages(passages: Sequence[Chunk]) -> str:
    """Passages numbered from 1, each below its source and headings, separated by blank lines."""
    return "\n\n".join(f"[{number}] {_title(chunk)}\n{chunk.text.strip()}" for number, chunk in enumerate(passages, 1))


def _title(chunk: Chunk) -> str:
    return ": ".join(part for part in (chunk.document, " > ".join(chunk.headings)) if part)


REASONING_REQUEST = 'Think step by step first. Then give the final answer on a new line that starts with "Answer:".'
_ANSWER_MARK = re.compile(r"(?:^|\n)[ \t>*#]*(?:final )?answer[*]*[ \t]*:[*]*[ \t]*", re.IGNORECASE)


def compose(
    design: PromptDesign,
    turns: Sequence[Message],
    shots: Sequence[Shot],
    lookup: Lookup | None = None,
    request: str = "",
) -> tuple[Message, ...]:
    """The whole conversation: one system turn, the shots as solved turns, then the input.

    turns: the input. Its own system turns are appended to the instruction. shots: those for this input, in order. lookup: finds
    the passages that go before the input. The input of each shot gets its passages, too, so a shot shows how to use them.
    request: the instruction about passages. It and the shots come first and are shared by all prompts.
    """
    own = [turn.content for turn in turns if turn.role == "system"]
    instruction = "\n\n".join(part for part in (_instruction(design), request if lookup else "", *own) if part).strip()
    conversation = [Message("system", instruction)] if instruction else []
    for shot in shots:
        conversation += _input_turns(design, shot.input, lookup)
        conversation.append(Message("assistant", shot.output))
    conversation += _input_turns(design, turns, lookup)
    return tuple(conversation)


def extract(design: PromptDesign, text: str) -> str:
    """The answer in the model's text: all of it, or with reasoning what follows the last "Answer:"."""
    if not design.reasoning:
        return text.strip()
    marks = list(_ANSWER_MARK.finditer(text))
    return text[marks[-1].end() :].strip() if marks else text.strip()


def _instruction(design: PromptDesign) -> str:
    parts = [design.instruction] if design.instruction else []
    if design.reasoning:
        parts.append(REASONING_REQUEST)
    return "\n\n".join(parts)


def _input_turns(design: PromptDesign, turns: Sequence[Message], lookup: Lookup | None) -> list[Message]:
    """The turns except system turns, with the passages before the last user turn."""
    conversation = [turn for turn in turns if turn.role != "system"]
    passages = lookup(turns) if lookup is not None else ()
    last = max((place for place, turn in enumerate(conversation) if turn.role == "user"), default=-1)
    return [_wrap(design, turn, passages if place == last else ()) for place, turn in enumerate(conversation)]


def _wrap(design: PromptDesign, turn: Message, passages: Sequence[Chunk]) -> Message:
    if turn.role != "user":
        return turn
    shown = render_passages(passages)
    if design.layout == "plain":
        content = f"{shown}\n\nQuestion: {turn.content}" if shown else turn.content
    else:
        content = f"<input>\n{turn.content}\n</input>"
        content = f"<passages>\n{shown}\n</passages>\n{content}" if shown else content
    return Message(turn.role, content, turn.extra)
