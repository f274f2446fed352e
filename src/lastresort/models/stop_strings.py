"""Stop strings: whether an answer holds one by now, and what stands before it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

SPARE = 8
"""Tokens and characters more than the strings need: tokens may decode to nothing, and a tail may begin inside a character."""


def holds_stop(tokens: Sequence[int], stops: Sequence[str], decode: Callable[[Sequence[int]], str]) -> bool:
    """Whether the text of `tokens` holds one of `stops`, known that it held none before the newest token.

    Only a tail is decoded, as long as it must be: whatever the newest token completes lies in its own text and in as many
    characters before it as the longest string has. So an answer costs its tokens, not their square.
    """
    longest = max(map(len, stops), default=0)
    taken = max((len(stop.encode()) for stop in stops), default=0) + 2 * SPARE
    while True:
        tail = tokens[-taken:]
        text = decode(tail)
        if any(stop in text for stop in stops):
            whole = decode(tokens)  # a tail may begin with what the whole text lacks
            return any(stop in whole for stop in stops)
        if taken >= len(tokens) or len(decode(tail[:-1])) >= longest + SPARE:
            return False
        taken *= 2


def cut_at_stop(text: str, stops: Sequence[str]) -> str:
    """The text before the first stop string in it."""
    ends = [position for stop in stops if (position := text.find(stop)) >= 0]
    return text[: min(ends)] if ends else text
