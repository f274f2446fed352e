"""What the texts of a server begin with, such as a system prompt: found by itself, and kept once for all of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from lastresort.engine.cache import PREFIX_STEP, Prefix
from lastresort.engine.forest import common_length

KEPT, REMEMBERED = 4, 64
SHARED_BY = 2  # so many others, so that two who ask the same do not push out what all share
FEWEST_TOKENS = 4 * PREFIX_STEP


class Beginnings:
    """Keys and values of what several texts began with, at most `limit_tokens` of them, and the latest texts themselves."""

    def __init__(self, limit_tokens: int) -> None:
        self.limit_tokens = limit_tokens
        self._kept: list[Prefix] = []  # the most recently used last
        self._seen: deque[tuple[int, ...]] = deque(maxlen=REMEMBERED)

    @property
    def kept(self) -> Sequence[Prefix]:
        return self._kept

    def of(self, tokens: tuple[int, ...]) -> Prefix | None:
        """The longest kept one that the text begins with; it leaves a token of its own."""
        fitting = [p for p in self._kept if len(p.tokens) < len(tokens) and tokens[: len(p.tokens)] == p.tokens]
        return max(fitting, key=lambda prefix: len(prefix.tokens), default=None)

    def shared_length(self, tokens: tuple[int, ...], waiting: Sequence[tuple[int, ...]] = ()) -> int:
        """How much of this text, which is not remembered yet, is worth keeping; 0 if too few texts share too little. waiting:
        texts that will be remembered, too."""
        lengths = sorted((common_length(tokens, other) for other in (*self._seen, *waiting)), reverse=True)
        if len(lengths) < SHARED_BY:
            return 0
        length = min(lengths[SHARED_BY - 1], len(tokens) - 1, self.limit_tokens) // PREFIX_STEP * PREFIX_STEP
        known = self.of(tokens)
        new = length - (0 if known is None else len(known.tokens))
        return length if new >= FEWEST_TOKENS else 0

    def remember(self, tokens: tuple[int, ...]) -> None:
        self._seen.append(tokens)
        used = self.of(tokens)
        if used is not None:
            self._kept.sort(key=lambda prefix: prefix is used)

    def keep(self, prefix: Prefix) -> None:
        self._kept.append(prefix)
        while len(self._kept) > KEPT or sum(len(kept.tokens) for kept in self._kept) > self.limit_tokens:
            self._kept.pop(0)
