"""Texts that grow side by side, each with settings, random numbers, a grammar and an end of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Literal

from torch import Tensor

from lastresort.engine.choose import Sampling, choose, random_stream, restrict, to_choose_from
from lastresort.engine.sampling import Generated


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Continuation:
    """A text to continue, as `generate` would it alone.

    seed: in place of settings.seed. allowed, stopped: as for `generate`, of this row. top_logps: how many alternatives of each
    token are reported with its log-probability, None for no log-probabilities.
    """

    tokens: tuple[int, ...]
    settings: Sampling
    seed: int = 0
    allowed: Callable[[Sequence[int]], Tensor | None] | None = None
    stopped: Callable[[Sequence[int]], bool] | None = None
    top_logps: int | None = None

    @property
    def longest_tokens(self) -> int:
        return len(self.tokens) + self.settings.max_new_tokens


@dataclass(frozen=True, slots=True)
class ChosenLogp:
    """Of a token, in nats, before temperature and grammar. top: (token, its logp), the likeliest first."""

    token: int
    logp: float
    top: tuple[tuple[int, float], ...]


@dataclass(slots=True, eq=False)
class LiveRow:
    """What is known of a text while it grows. reason: why its path is plain, None if it is packed. result: once it has ended.
    error: why it never will."""

    asked: Continuation
    reason: str | None = None
    tokens: list[int] = field(default_factory=list)
    logps: list[ChosenLogp] = field(default_factory=list)
    result: Generated | None = None
    error: Exception | None = None
    _stream: Random = field(init=False)

    def __post_init__(self) -> None:
        self._stream = random_stream(self.asked.seed, 0)

    @property
    def over(self) -> bool:
        return self.result is not None or self.error is not None

    def draw(self) -> float:
        return 0.0 if self.asked.settings.temperature == 0 else self._stream.random()

    def mask(self) -> Tensor | None:
        return None if self.asked.allowed is None else self.asked.allowed(self.tokens)

    def take(self, token: int, logps: Tensor | None) -> None:
        """The next token. logps: of all tokens at this place, None where they are not reported."""
        settings, stopped = self.asked.settings, self.asked.stopped
        if token in settings.stop_ids:
            self._finish("stop")
            return
        self.tokens.append(token)
        if logps is not None:
            self.logps.append(_reported(token, logps, self.asked.top_logps or 0))
        if stopped is not None and stopped(self.tokens):
            self._finish("stop")
        elif len(self.tokens) >= settings.max_new_tokens:
            self._finish("length")

    def _finish(self, finish: Literal["stop", "length"]) -> None:
        self.result = Generated(tuple(self.tokens), finish, "packed" if self.reason is None else "plain", self.reason)


def advance(rows: Sequence[LiveRow], logits: Tensor) -> list[int]:
    """Give each row its next token by its line of logits [rows, vocabulary], which is written over. Returns the tokens chosen.

    A row that cannot go on, as its grammar fails or its logits are not finite, gets an error; the others do not notice.
    """
    logits = to_choose_from(logits)
    logps = [None if row.asked.top_logps is None else logits[i].log_softmax(-1) for i, row in enumerate(rows)]
    for i, row in enumerate(rows):
        _guarded(row, lambda row=row, i=i: restrict(logits[i : i + 1], [row.mask()]))  # type: ignore[misc]
    draws = [row.draw() for row in rows]
    chosen = [0] * len(rows)
    for lines in _alike(rows):
        for i, token in zip(lines, _chosen(rows, logits, lines, draws), strict=True):
            chosen[i] = token
    for row, token, own in zip(rows, chosen, logps, strict=True):
        if row.error is None:
            _guarded(row, lambda row=row, token=token, own=own: row.take(token, own))  # type: ignore[misc]
    return chosen


def _guarded(row: LiveRow, work: Callable[[], None]) -> None:
    try:
        work()
    except Exception as error:  # noqa: BLE001 - a fault of one row's grammar or stop rule is that row's end alone
        row.error = error


def _alike(rows: Sequence[LiveRow]) -> list[list[int]]:
    """Lines whose tokens are chosen by the same settings."""
    found: dict[tuple[float, float, int], list[int]] = {}
    for i, row in enumerate(rows):
        if row.error is None:
            settings = row.asked.settings
            found.setdefault((settings.temperature, settings.top_p, settings.top_k), []).append(i)
    return list(found.values())


def _chosen(rows: Sequence[LiveRow], logits: Tensor, lines: list[int], draws: Sequence[float]) -> list[int]:
    settings = rows[lines[0]].asked.settings
    try:
        return choose(logits if len(lines) == len(logits) else logits[lines], settings, [draws[i] for i in lines])
    except Exception as error:  # noqa: BLE001 - looked into row by row
        if len(lines) == 1:
            rows[lines[0]].error = error
            return [0]
        return [_chosen(rows, logits, [i], draws)[0] for i in lines]


def _reported(token: int, logps: Tensor, count: int) -> ChosenLogp:
    top = logps.topk(count) if count else None
    likeliest = () if top is None else tuple(zip(top.indices.tolist(), top.values.tolist(), strict=True))
    return ChosenLogp(token, float(logps[token]), likeliest)
