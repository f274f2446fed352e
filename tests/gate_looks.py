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
from lastresort.gate.verdict import needed_items, planned_power
from lastresort.types import GateVerdict

WHOLES = np.array([-1.0, 0.0, 1.0])
NEVER = 1.0  # p of what was not tested


@dataclass(frozen=True, slots=True)
class LookedMeasure:
    """p of both sides after each look, looking's share counted, the last with the test at the last item, shape (runs, looks).
    items: after each look.
    """

    kept: Floats
    regressed: Floats
    items: tuple[int, ...]


def planned(asked: Sequence[Asked], alpha: float, at_most: int | None = None) -> list[int]:
    """The most items of each measure: those with which the test at the last one has its power, at its share of the error."""
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
    paths = [counts @ np.log1p(stake * (moves - value) / (1 + value)) for stake in STAKES]
    log_e = np.logaddexp.reduce(np.stack(paths), axis=0) - np.log(len(STAKES))
    return np.exp(-np.maximum(np.maximum.accumulate(log_e, axis=1), 0.0))


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
    exact: bool = False,
) -> LookedMeasure:
    """A measure in every run, at every look, as if it went on to the last item. exact: whether the test there is the program's."""
    looks = look_schedule(n)
    counts = counts_of(one, loss, looks, generator, runs, None if luck is None else luck[:, : len(looks)])
    moves = WHOLES if one.binary else HALVES
    kept = evidence_p(counts, moves, -one.margin) / LOOKING
    regressed = evidence_p(counts[..., ::-1], moves, one.margin) / LOOKING
    last = counts[:, -1]
    open_ones = (kept[:, -1] > alpha) & (regressed[:, -1] * measures > alpha)
    final = _final(one, last[open_ones], n, alpha, measures, exact=exact)
    for side, found in zip((kept, regressed), final, strict=True):
        side[open_ones, -1] = np.minimum(side[open_ones, -1], found / (1 - LOOKING))
    return LookedMeasure(np.minimum(kept, NEVER), np.minimum(regressed, NEVER), looks)


def _final(one: Asked, tables: Floats, n: int, alpha: float, measures: int, *, exact: bool) -> tuple[Floats, Floats]:
    """p of both sides at the last item. Exact ones are rounded up to the level that they reach: no comparison with alpha, or with
    alpha over the number of measures, changes.
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
    exact: bool = False,
) -> LookedGates:
    """Whole gates. A measure goes on until it is NON_INFERIOR or has no more items; the gate ends when one is REGRESSED by Holm,
    which is so as soon as the smallest p times the number of measures is at most alpha.

    sizes: the most items of each. losses, together: as of `gate_simulation.gates`.
    """
    generator = np.random.default_rng(seed)
    most = max(len(look_schedule(n)) for n in sizes)
    common = generator.standard_normal((runs, most))
    measures = [
        looked(
            one,
            n,
            loss,
            alpha=alpha,
            measures=len(asked),
            generator=generator,
            runs=runs,
            luck=np.sqrt(together) * common + np.sqrt(1 - together) * generator.standard_normal((runs, most))
            if together
            else None,
            exact=exact,
        )
        for one, n, loss in zip(asked, sizes, losses, strict=True)
    ]
    return _ended(measures, alpha, runs, most)


def _ended(measures: Sequence[LookedMeasure], alpha: float, runs: int, most: int) -> LookedGates:
    done = np.zeros((len(measures), runs), dtype=bool)
    shipped = np.zeros((len(measures), runs), dtype=bool)
    asked = np.zeros((len(measures), runs))
    rejected = np.zeros(runs, dtype=bool)
    for look in range(most):
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
            done[number] |= shipped[number] | (look + 1 >= len(one.items))
    ship = shipped.all(axis=0) & ~rejected
    verdicts: list[GateVerdict] = [
        "REJECT" if lost else "SHIP" if kept else "HOLD" for kept, lost in zip(ship, rejected, strict=True)
    ]
    return LookedGates(verdicts, float(asked.sum(axis=0).mean()), float(asked[0].mean()))
