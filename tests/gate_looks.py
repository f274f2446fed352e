"""Gates that look as they go, without models. The evidence at a look depends on counts alone, not on the order between two looks,
so that a measure is drawn as counts of its differences from look to look.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gate_simulation import HALVES, Asked, Floats, changes, critical_z, graded_p
from lastresort.evals.evidence.sequential import LOOKING, STAKES, look_schedule
from lastresort.evals.evidence.tango import score_z
from lastresort.gate.verdict.compare import needed_items, planned_power
from lastresort.types import GateVerdict

WHOLES = np.array([-1.0, 0.0, 1.0])
NEVER = 1.0  # p of what was not tested


@dataclass(frozen=True, slots=True)
class LookedMeasure:
    """p of both sides after each look, looking's share counted, from that of the fixed size on with the test there, shape (runs,
    looks). items: after each look. fixed: at which look the test of a fixed size is made. in_reach: as `is_in_reach` of the
    last item, by look; all True before the fixed one.
    """

    kept: Floats
    regressed: Floats
    items: tuple[int, ...]
    fixed: int
    in_reach: Floats


def planned(asked: Sequence[Asked], alpha: float, at_most: int | None = None) -> list[int]:
    """The items of each measure with which the test of a fixed size has its power, at its share of the error."""
    power, share = planned_power(len(asked)), alpha * (1 - LOOKING)
    needed = [needed_items(one.margin, power=power, alpha=share, binary=one.binary, spread=one.spread) for one in asked]
    return needed if at_most is None else [min(n, at_most) for n in needed]


def counts_of(
    one: Asked, loss: float, looks: Sequence[int], generator: np.random.Generator, runs: int, luck: Floats | None
) -> Floats:
    """How often each difference came up to each look, shape (runs, looks, differences).

    luck: standard normal, shape (runs, looks): of the losses between two looks, by which measures are unlucky together; None where
    they are not.
    """
    from scipy.special import ndtr
    from scipy.stats import binom

    share = max(one.share, loss if one.binary else 4 * loss / 3)
    chances = _chances(one, share, loss)
    half = len(chances) // 2
    steps = np.broadcast_to(np.diff([0, *looks]), (runs, len(looks)))
    if luck is None:
        lost = generator.binomial(steps, chances[:half].sum())
    else:
        lost = np.asarray(binom.ppf(ndtr(-luck), steps, chances[:half].sum()), dtype=np.int64)
    won = generator.binomial(steps - lost, chances[half + 1 :].sum() / (1 - chances[:half].sum()))
    same = steps - lost - won
    if one.binary:
        parts = [lost, same, won]
    else:
        whole_lost = generator.binomial(lost, chances[0] / chances[:half].sum())
        whole_won = generator.binomial(won, chances[-1] / max(chances[half + 1 :].sum(), 1e-12))
        parts = [whole_lost, lost - whole_lost, same, won - whole_won, whole_won]
    return np.stack(parts, axis=-1).cumsum(axis=1)


def _chances(one: Asked, share: float, loss: float) -> Floats:
    if one.binary:
        return np.array([(share + loss) / 2, 1 - share, (share - loss) / 2])
    return changes("wholes and halves", share, loss)


def evidence_p(counts: Floats, moves: Floats, value: float) -> Floats:
    """`running_p` of counts: p of "the mean is above value" at each look, shape (runs, looks)."""
    return np.exp(-np.maximum(np.maximum.accumulate(log_fortune(counts, moves, value), axis=1), 0.0))


def log_fortune(counts: Floats, moves: Floats, value: float) -> Floats:
    paths = [counts @ np.log1p(stake * (moves - value) / (1 + value)) for stake in STAKES]
    return np.asarray(np.logaddexp.reduce(np.stack(paths), axis=0) - np.log(len(STAKES)))


def looked(
    one: Asked,
    n: int,
    loss: float,
    *,
    alpha: float,
    measures: int,
    generator: np.random.Generator,
    runs: int,
    luck: Floats | None = None,
    most: int | None = None,
    exact: bool = False,
) -> LookedMeasure:
    """A measure in every run, at every look, as if it went on to the last item. n: of the test of a fixed size. most: the last
    item, None for n. exact: whether the test of a fixed size is the program's.
    """
    looks = look_schedule(most or n, n)
    fixed = looks.index(n)
    counts = counts_of(one, loss, looks, generator, runs, None if luck is None else luck[:, : len(looks)])
    moves = WHOLES if one.binary else HALVES
    sides = ((counts, -one.margin), (counts[..., ::-1], one.margin))
    kept, regressed = (evidence_p(tables, moves, value) / LOOKING for tables, value in sides)
    in_reach = np.ones(kept.shape, dtype=bool)
    for look in range(fixed, len(looks) - 1):
        table, times = counts[:, look], looks[-1] / looks[look]
        kept_then = table + (times - 1) * (table + table[:, ::-1]) / 2
        found = (log_fortune(kept_then, moves, -one.margin), log_fortune(times * table[:, ::-1], moves, one.margin))
        in_reach[:, look] = np.maximum(*found) >= -np.log(LOOKING * alpha)
    open_ones = (kept[:, fixed] > alpha) & (regressed[:, fixed] * measures > alpha)
    once = _final(one, counts[open_ones, fixed], n, alpha, measures, exact=exact)
    for side, found in zip((kept, regressed), once, strict=True):
        side[open_ones, fixed:] = np.minimum(side[open_ones, fixed:], found[:, None] / (1 - LOOKING))
    return LookedMeasure(np.minimum(kept, NEVER), np.minimum(regressed, NEVER), looks, fixed, in_reach)


def _final(one: Asked, tables: Floats, n: int, alpha: float, measures: int, *, exact: bool) -> tuple[Floats, Floats]:
    """p of both sides by the test of a fixed size. Exact ones are rounded up to the level that they reach: no comparison with
    alpha, or with alpha over the number of measures, changes.
    """
    if not len(tables):
        return np.ones(0), np.ones(0)
    if not exact:
        return _final_by_z(one, tables, n)
    share = alpha * (1 - LOOKING)
    if not one.binary:
        p = np.array([graded_p(tuple(table), one.margin) for table in tables.tolist()]).reshape(-1, 2)
        return p[:, 0], p[:, 1]
    lost, won = tables[:, 0], tables[:, 2]
    level, first = share * (1 - 1e-9), share / measures * (1 - 1e-9)
    kept = np.where(score_z(won, lost, n, -one.margin) >= critical_z(n, -one.margin, level), level, NEVER)
    back = score_z(lost, won, n, one.margin)
    regressed = np.full(len(tables), NEVER)
    if (back > 1).any():
        regressed = np.where(back >= critical_z(n, one.margin, first), first, NEVER)
    return kept, regressed


def _final_by_z(one: Asked, tables: Floats, n: int) -> tuple[Floats, Floats]:
    """By a normal z, which accepts a little more than the program's tests, so that no promise is kept by it alone."""
    from scipy.special import ndtr

    if one.binary:
        lost, won = tables[:, 0], tables[:, 2]
        return ndtr(-score_z(won, lost, n, -one.margin)), ndtr(-score_z(lost, won, n, one.margin))
    means = tables @ HALVES / n
    errors = np.sqrt(np.maximum(tables @ HALVES**2 / n - means**2, 1e-9) / n)
    z = (means + one.margin) / errors
    return ndtr(-z), ndtr(z)


@dataclass(frozen=True, slots=True)
class LookedGates:
    """Simulated gates. verdicts: of each run. items, first: their mean number, of all measures together and of the first."""

    verdicts: list[GateVerdict]
    items: float
    first: float

    @property
    def ship(self) -> float:
        return self.verdicts.count("SHIP") / len(self.verdicts)

    @property
    def reject(self) -> float:
        return self.verdicts.count("REJECT") / len(self.verdicts)

    @property
    def hold(self) -> float:
        return 1 - self.ship - self.reject


def looked_gates(
    asked: Sequence[Asked],
    sizes: Sequence[int],
    losses: Sequence[float],
    *,
    alpha: float,
    runs: int,
    together: float = 0.0,
    seed: int = 0,
    most: Sequence[int] | None = None,
    exact: bool = False,
) -> LookedGates:
    """Whole gates. A measure goes on until it is NON_INFERIOR, has no more items, or is out of reach beyond the test of a fixed
    size; the gate ends when one is REGRESSED by Holm, which is so as soon as the smallest p times the number of measures is at most
    alpha.

    sizes: items of the test of a fixed size of each. most: the last item of each, None for these. losses, together:
    as of `gate_simulation.gates`.
    """
    generator = np.random.default_rng(seed)
    last = sizes if most is None else most
    longest = max(len(look_schedule(end, n)) for n, end in zip(sizes, last, strict=True))
    common = generator.standard_normal((runs, longest))
    measures = [
        looked(
            one,
            n,
            loss,
            alpha=alpha,
            measures=len(asked),
            generator=generator,
            runs=runs,
            luck=np.sqrt(together) * common + np.sqrt(1 - together) * generator.standard_normal((runs, longest))
            if together
            else None,
            most=end,
            exact=exact,
        )
        for one, n, end, loss in zip(asked, sizes, last, losses, strict=True)
    ]
    return _ended(measures, alpha, runs, longest)


def _ended(measures: Sequence[LookedMeasure], alpha: float, runs: int, longest: int) -> LookedGates:
    done = np.zeros((len(measures), runs), dtype=bool)
    shipped = np.zeros((len(measures), runs), dtype=bool)
    asked = np.zeros((len(measures), runs))
    rejected = np.zeros(runs, dtype=bool)
    for look in range(longest):
        p_lost = np.ones((len(measures), runs))
        for number, one in enumerate(measures):
            if look >= len(one.items):
                continue
            open_ones = ~done[number] & ~rejected
            asked[number] = np.where(open_ones, one.items[look], asked[number])
            p_lost[number] = np.where(open_ones, one.regressed[:, look], NEVER)
            shipped[number] |= open_ones & (one.kept[:, look] <= alpha)
        rejected |= len(measures) * p_lost.min(axis=0) <= alpha
        for number, one in enumerate(measures):
            over = look + 1 >= len(one.items)
            done[number] |= shipped[number] | (True if over else ~one.in_reach[:, look])
    ship = shipped.all(axis=0) & ~rejected
    verdicts: list[GateVerdict] = [
        "REJECT" if lost else "SHIP" if kept else "HOLD" for kept, lost in zip(ship, rejected, strict=True)
    ]
    return LookedGates(verdicts, float(asked.sum(axis=0).mean()), float(asked[0].mean()))
