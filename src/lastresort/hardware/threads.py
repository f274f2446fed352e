"""How many threads compute, chosen by measurement: all of them, or one if others use this machine.

Threads that work together wait for each other after every product. If another process takes one of the cores, even at the
lowest priority, all wait for the thread that lost it, and one thread alone is several times faster. A probe of about a tenth of
a second, with the model's own weights, shows which is the case. `OMP_NUM_THREADS` or `MKL_NUM_THREADS`, if set, is respected,
and nothing is probed.

Answers do not depend on it: products of 16-bit weights are the same bit for bit, so only such models choose again and again while
they answer. Sums in float32 may be rounded otherwise. A training keeps the number that it began with, save that
of a worker, which has few: who goes on from there chooses again.
"""

from __future__ import annotations

import math
import os
import statistics
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

SET_BY_USER = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
PROBE_S, ROUNDS = 0.02, 2  # of the products that are timed with one thread; how often each number of threads does them
LOST, CLEAR = 3.0, 2.0  # so many times slower ends a turn; so many times faster needs no second round
FRESH_S, STALE_S = (
    20.0,
    320.0,
)  # how long a choice holds without another look: twice as long each time that it was confirmed
STEPS, SLOWED = 8, 2.0
FEW_ROWS = 16  # at most, one thread may win where with more rows all would
MOST_ROWS = 256
KINDS = (1, FEW_ROWS)  # of products by their rows: one row waits for memory, a few for both, many for the processor

Clock = Callable[[], float]
Products = Sequence[Callable[[], object]]
Timed = Callable[[Any, int, Sequence[int]], Mapping[int, float]]


@dataclass(frozen=True, slots=True)
class ThreadChoice:
    """seconds: that the same products took, by number of threads."""

    threads: int
    seconds: Mapping[int, float]


def fastest(seconds: Mapping[int, float]) -> ThreadChoice:
    """Of two that took equally long, the one with more threads."""
    return ThreadChoice(min(seconds, key=lambda threads: (seconds[threads], -threads)), seconds)


def choices(environment: Mapping[str, str], available: int) -> tuple[int, ...]:
    """The numbers of threads to choose from. A single one where the user has set it."""
    if available < 2 or any(environment.get(name) for name in SET_BY_USER):
        return (available,)
    return (available, 1)


class Pace:
    """Whether steps have become much slower than the first ones were."""

    def __init__(self) -> None:
        self._first: list[float] = []
        self._last: deque[float] = deque(maxlen=STEPS)

    def slowed(self, seconds: float) -> bool:
        """seconds: of one more step."""
        if len(self._first) < STEPS:
            self._first.append(seconds)
            return False
        self._last.append(seconds)
        full = len(self._last) == STEPS
        return full and statistics.median(self._last) > SLOWED * statistics.median(self._first)


class Threads:
    """The number of threads that a model computes with. model: on a processor.

    counts: to choose from, None for what this machine, its user and the model's precision allow. on_choice: called with the
    first choice, and with each that changes the number.
    """

    def __init__(
        self,
        model: Any,
        *,
        counts: Sequence[int] | None = None,
        on_choice: Callable[[ThreadChoice], None] | None = None,
        clock: Clock = time.perf_counter,
        timed: Timed | None = None,
    ) -> None:
        self._model, self._on_choice, self._clock = model, on_choice, clock
        self._counts = _for_answers(model) if counts is None else tuple(counts)
        self._timed = timed or time_products
        self._chosen: int | None = None
        self._chosen_at = self._step_at = 0.0
        self._holds_s = FRESH_S
        self._rows = 1
        self._pace = Pace()

    @contextmanager
    def chosen(self, rows: int) -> Iterator[None]:
        """Inside, the number of threads that was fastest computes. rows: that are multiplied at once."""
        if len(self._counts) < 2:
            yield
            return
        import torch

        before = torch.get_num_threads()
        other_work = (rows > FEW_ROWS) != (self._rows > FEW_ROWS)
        self._rows, self._pace, self._step_at = min(rows, MOST_ROWS), Pace(), self._clock()
        if self._chosen is None or other_work or self._step_at - self._chosen_at > self._holds_s:
            self._choose()
        try:
            torch.set_num_threads(self._chosen or before)
            yield
        finally:
            torch.set_num_threads(before)

    def step(self) -> None:
        """One step of the work is done. Choose again if the steps have become twice as slow as at the beginning."""
        if len(self._counts) < 2:
            return
        now = self._clock()
        slowed = self._pace.slowed(now - self._step_at)
        self._step_at = now
        if slowed:
            import torch

            self._choose()
            torch.set_num_threads(self._chosen or torch.get_num_threads())

    def release(self) -> None:
        """Let go of the model, and choose no more."""
        self._model, self._counts = None, ()

    def _choose(self) -> None:
        found = choice_of(self._model, self._rows, self._counts, self._timed)
        before, self._chosen, self._pace = self._chosen, found.threads, Pace()
        self._chosen_at = self._step_at = self._clock()
        self._holds_s = min(STALE_S, 2 * self._holds_s) if found.threads == before else FRESH_S
        if self._on_choice is not None and found.threads != before:
            self._on_choice(found)


class ThreadsByRows:
    """A choice of its own for one row, for a few and for many, so that work which changes between them chooses once for each.

    For a server, whose answers are the same up to rounding only: the numbers of threads are all that this machine and its user
    allow, in float32, too.
    """

    def __init__(self, model: Any, timed: Timed | None = None) -> None:
        self._by_kind = [Threads(model, counts=allowed(model), timed=timed) for _ in range(len(KINDS) + 1)]

    def chosen(self, rows: int) -> AbstractContextManager[None]:
        """As that of Threads."""
        return self._by_kind[kind_of(rows)].chosen(rows)

    def release(self) -> None:
        """Let go of the model, and choose no more."""
        for threads in self._by_kind:
            threads.release()


def kind_of(rows: int) -> int:
    return bisect_left(KINDS, rows)


def choice_of(model: Any, rows: int, counts: Sequence[int], timed: Timed | None = None) -> ThreadChoice:
    """Of a model without a product that can be timed, the first of the counts."""
    seconds = (timed or time_products)(model, rows, counts)
    return fastest(seconds) if seconds else ThreadChoice(counts[0], {})


def time_products(model: Any, rows: int, counts: Sequence[int]) -> dict[int, float]:
    """Seconds of the model's own matrix products on so many rows, by number of threads. None of them where it has none."""
    import torch

    before = torch.get_num_threads()
    try:
        with torch.no_grad():
            return timed_in_turns(_products(model, rows), counts, torch.set_num_threads, time.perf_counter)
    finally:
        torch.set_num_threads(before)


def timed_in_turns(
    products: Products, counts: Sequence[int], use: Callable[[int], None], clock: Clock
) -> dict[int, float]:
    """The products that the last of the counts does in PROBE_S, by all counts in turns, so that all meet the same load.

    A turn that is clearly lost is cut short, and its time extrapolated: on a busy machine it could take seconds.
    """
    if not products:
        return {}
    *others, least = counts
    use(least)
    products[0]()
    began, fit = clock(), 0
    while fit < len(products) and (fit == 0 or clock() - began < PROBE_S):
        products[fit]()
        fit += 1
    seconds = dict.fromkeys(counts, 0.0)
    for _ in range(ROUNDS):
        use(least)
        taken = _turn(products[:fit], math.inf, clock)
        seconds[least] += taken
        for threads in others:
            use(threads)
            seconds[threads] += _turn(products[:fit], LOST * taken, clock)
        if max(seconds.values()) > CLEAR * min(seconds.values()):
            break
    return seconds


def _turn(products: Products, limit_s: float, clock: Clock) -> float:
    """Seconds of all the products, extrapolated from those within the limit."""
    began, taken = clock(), 0.0
    for done, product in enumerate(products, 1):
        product()
        taken = clock() - began
        if taken > limit_s:
            return taken * len(products) / done
    return taken


def _products(model: Any, rows: int) -> Products:
    import torch

    def product(layer: Any) -> Callable[[], object]:
        given = torch.ones(rows, layer.weight.shape[1], dtype=layer.weight.dtype)
        return lambda: layer(given)

    layers = (layer for layer in model.modules() if isinstance(layer, torch.nn.Linear))
    return [
        product(layer) for layer in layers if layer.weight.is_floating_point() and layer.weight.device.type == "cpu"
    ]


def allowed(model: Any) -> tuple[int, ...]:
    """The numbers of threads to choose from here. None for a model on a GPU."""
    return choices(os.environ, _available()) if model.device.type == "cpu" else ()


def _for_answers(model: Any) -> tuple[int, ...]:
    """Those that give the same answers, of the numbers allowed: one alone in float32, whose sums depend on it."""
    counts = allowed(model)
    return counts if model.dtype.itemsize == 2 else counts[:1]


@cache
def _available() -> int:
    """As many as torch takes by itself, before this program changes it."""
    import torch

    return torch.get_num_threads()


@contextmanager
def pinned(threads: int | None) -> Iterator[None]:
    """Inside, so many threads compute. None: as many as before."""
    import torch

    before = torch.get_num_threads()
    try:
        if threads is not None:
            torch.set_num_threads(threads)
        yield
    finally:
        torch.set_num_threads(before)


def quickest(model: Any, rows: int, counts: Sequence[int] | None = None, timed: Timed | None = None) -> int | None:
    """The number of threads for products of so many rows. None where there is nothing to choose."""
    counts = allowed(model) if counts is None else counts
    return choice_of(model, min(rows, MOST_ROWS), counts, timed).threads if len(counts) > 1 else None
