"""Do the studies keep their rates? Simulated curves of which the truth is known: prints the tables of docs/simulations.md.

    python -m scripts.study_rates 400

A score is 1 where  m(n) + t g + r h + sqrt(1 - r^2) e > 0  with normal g of a seed and size, h of an item (shared by all sizes,
seeds and ways), e of the answer; the true score at a size is Phi(m / sqrt(1 + t^2)).
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from lastresort.evals.evidence.crossing import CurveCrossing, crossing
from lastresort.evals.evidence.learning_curve import LearningCurve, learning_curve
from lastresort.evals.evidence.paired import p_above_zero
from lastresort.evals.evidence.units import Array
from lastresort.study.shift import LEVEL, smallest_shown

SIZES = (10, 20, 40, 80, 160, 320)
ITEM_SHARE = 0.7  # r
NORMAL = NormalDist()


def scores_of(truth: Sequence[float], items: Array, seeds: int, spread: float, dice: np.random.Generator) -> Array:
    """0/1, shape (sizes, seeds, items). truth: the true score at each size. items: h. spread: t."""
    middle = np.array([NORMAL.inv_cdf(one) * math.sqrt(1 + spread**2) for one in truth])
    by_seed = spread * dice.standard_normal((len(truth), seeds))
    own = math.sqrt(1 - ITEM_SHARE**2) * dice.standard_normal((len(truth), seeds, len(items)))
    return np.asarray(middle[:, None, None] + by_seed[:, :, None] + ITEM_SHARE * items + own > 0).astype(np.float64)


@dataclass(frozen=True, slots=True)
class TwoWays:
    """The true scores of two ways at each of SIZES."""

    name: str
    first: tuple[float, ...]
    second: tuple[float, ...]

    def place(self) -> float:
        """Where the second passes the first: a logarithm, -inf or inf outside of the sizes."""
        rises = [b - a for a, b in zip(self.first, self.second, strict=True)]
        if rises[0] > 0:
            return -math.inf
        for at in range(1, len(rises)):
            if rises[at] > 0:
                share = -rises[at - 1] / (rises[at] - rises[at - 1])
                return math.log(SIZES[at - 1]) + share * math.log(SIZES[at] / SIZES[at - 1])
        return math.inf


WAYS = (
    TwoWays("crosses steeply", (0.50, 0.55, 0.58, 0.60, 0.60, 0.60), (0.10, 0.25, 0.45, 0.65, 0.78, 0.85)),
    TwoWays("crosses flatly", (0.55, 0.58, 0.60, 0.60, 0.60, 0.60), (0.50, 0.54, 0.57, 0.60, 0.62, 0.64)),
    TwoWays("never crosses", (0.70,) * 6, (0.30, 0.40, 0.48, 0.54, 0.58, 0.60)),
    TwoWays("ahead from the start", (0.40,) * 6, (0.45, 0.50, 0.55, 0.60, 0.62, 0.64)),
)


def holds(found: CurveCrossing, place: float) -> bool:
    """Whether the interval holds the true place; outside of the sizes it does where it is open on that side."""
    if found.kind == "CANNOT_TELL":
        return True
    low = -math.inf if found.low is None else math.log(found.low)
    high = math.inf if found.high is None else math.log(found.high)
    return low - 1e-9 <= place <= high + 1e-9


@dataclass(frozen=True, slots=True)
class Coverage:
    """held: intervals that hold the truth, of those that say something. told: studies that do."""

    held: int
    told: int
    runs: int


def crossings(ways: TwoWays, seeds: int, spread: float, items: int, runs: int, seed: int) -> Coverage:
    dice, place = np.random.default_rng(seed), ways.place()
    held = told = 0
    for run in range(runs):
        shared = dice.standard_normal(items)
        first = scores_of(ways.first, shared, seeds, spread, dice)
        second = scores_of(ways.second, shared, seeds, spread, dice)
        found = crossing(SIZES, second - first, seed=run)
        told += found.kind != "CANNOT_TELL"
        held += found.kind != "CANNOT_TELL" and holds(found, place)
    return Coverage(held, told, runs)


ERRORS: dict[str, Callable[[float], float]] = {  # by n over the largest size
    ".1 + .3 n^-.5": lambda n: 0.1 + 0.3 * n**-0.5 / 2,
    ".3 n^-.3": lambda n: 0.3 * n**-0.3,
    ".2 + .1 n^-1": lambda n: 0.2 + 0.02 * n**-1,
    ".25 + .5 exp(-4n)": lambda n: 0.25 + 0.5 * math.exp(-4 * n),
    ".4 (does not fall)": lambda n: 0.4,
}


def forecasts(name: str, seeds: int, spread: float, items: int, runs: int, seed: int) -> dict[int, Coverage]:
    """By how many times the examples: whether the interval of the gain holds the true one."""
    dice, curve = np.random.default_rng(seed), ERRORS[name]
    truth = [1 - curve(size / SIZES[-1]) for size in SIZES]
    held, told = {2: 0, 4: 0}, {2: 0, 4: 0}
    for _ in range(runs):
        shared = dice.standard_normal(items)
        found = learning_curve(SIZES, 1 - scores_of(truth, shared, seeds, spread, dice))
        if not isinstance(found, LearningCurve):
            continue
        for one in found.after:
            gain = curve(1) - curve(one.times)
            told[one.times] += 1
            held[one.times] += one.interval[0] - 1e-9 <= gain <= one.interval[1] + 1e-9
    return {times: Coverage(held[times], told[times], runs) for times in held}


def false_shifts(
    gains: Sequence[float], seeds: int, spread: float, items: int, runs: int, seed: int
) -> tuple[int, int]:
    """How often the rule names a size at which nothing is gained, and how often it names any. gains: true ones, by size."""
    dice, base = np.random.default_rng(seed), 0.5
    false = named = 0
    for _ in range(runs):
        shared = dice.standard_normal(items)
        before = scores_of([base], shared, 1, 0.0, dice)[0, 0]
        after = scores_of([base + gain for gain in gains], shared, seeds, spread, dice)
        ps = [[p_above_zero(own - before, binary=True) for own in of_size] for of_size in after]
        found = smallest_shown(ps, LEVEL)
        named += found is not None
        false += found is not None and gains[found] <= 0
    return false, named


def _percent(count: int, of: int) -> str:
    return f"{100 * count / of:.0f}" if of else ""


def lines(runs: int) -> Iterator[str]:
    yield "| curves | seeds | spread of seeds | items | percent that say something | of these the interval holds the place |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for ways in WAYS:
        for seeds, spread, items in ((2, 0.1, 100), (3, 0.0, 100), (3, 0.2, 100), (5, 0.2, 100), (3, 0.1, 300)):
            found = crossings(ways, seeds, spread, items, runs, 1)
            told, held = _percent(found.told, runs), _percent(found.held, found.told)
            yield f"| {ways.name} | {seeds} | {spread} | {items} | {told} | {held} |"
    yield ""
    yield "| error, by the examples over those of the largest size | seeds | spread of seeds | items | twice | four times |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for name in ERRORS:
        for seeds, spread, items in ((2, 0.05, 100), (3, 0.05, 300), (2, 0.05, 1000)):
            by = forecasts(name, seeds, spread, items, runs, 2)
            cells = [f"{_percent(by[t].told, runs)}, {_percent(by[t].held, by[t].told)}".rstrip(", ") for t in (2, 4)]
            yield f"| {name} | {seeds} | {spread} | {items} | {cells[0]} | {cells[1]} |"
    yield ""
    yield "| true gain in points, by size | seeds | spread of seeds | items | names a size | names one with no gain |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for gains in ((0.0,) * 6, (0.0, 0.0, 0.0, 0.05, 0.10, 0.15), (0.0, 0.0, 0.0, 0.2, 0.3, 0.4)):
        for seeds, spread, items in ((1, 0.0, 100), (2, 0.0, 100), (2, 0.1, 100), (3, 0.1, 300)):
            false, named = false_shifts(gains, seeds, spread, items, runs, 3)
            shown = " / ".join(f"{100 * gain:.0f}" for gain in gains)
            yield f"| {shown} | {seeds} | {spread} | {items} | {100 * named / runs:.1f} | {100 * false / runs:.1f} |"


if __name__ == "__main__":
    for line in lines(int(sys.argv[1]) if len(sys.argv) > 1 else 400):
        print(line, flush=True)
