"""Gates without models: how often each verdict comes, counted over all tables where these are few enough, drawn where they are not.

Two 0/1 scores of an item give one of three differences, so that a measure is a table: b items won, c lost, n asked. What decides
on it is z (`evidence.tango`), whose exact p falls as z grows; the program's p is therefore asked once for the least z that it
accepts, and the chance of such a table is summed. Scores of 0, .5 and 1 give five differences, which are drawn.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lastresort.evals.evidence.paired import bootstrap_mean, mean_interval, reweighted_mean
from lastresort.evals.evidence.tango import exact_p_of_z, fewest_wins, tail_chance
from lastresort.gate.verdict.compare import needed_items, planned_power
from lastresort.gate.verdict.decide import conclude
from lastresort.records.gate import SuiteFound, TargetCompared, TestedMeasure
from lastresort.types import GateVerdict

ALPHA = 0.05
SCORE_Z = 1.6448536269514722
HALVES = np.array([-1.0, -0.5, 0.0, 0.5, 1.0])
NEAR, FAR, MANY = (
    0.7,
    3.5,
    500,
)  # standard errors from the margin within which p is above any alpha, and beyond which, of many, below
BCA_RUNS = 2_000
_LEAST_P = 1e-4  # of 9,999 draws
Floats = np.ndarray


@functools.cache
def critical_z(n: int, difference: float, alpha: float) -> float:
    """The least z, to 1e-4, at which the exact p of "more than `difference`" is at most alpha."""
    low, high = 0.5, 4.5
    while high - low > 1e-4:
        middle = (low + high) / 2
        low, high = (low, middle) if exact_p_of_z(middle, n, difference) <= alpha else (middle, high)
    return high


def accepted(z: float, n: int, hypothesis: float, shares: Sequence[float], true: float) -> Floats:
    """Chance of a z of at least `z` against `hypothesis`, at each share of differing items, where the difference is `true`."""
    psi = np.maximum(np.asarray(shares, dtype=np.float64), max(abs(true), 1e-9))
    return tail_chance(psi, fewest_wins(z, n, hypothesis), n, true)


def shares_from(margin: float, most: float = 0.3, points: int = 81) -> Floats:
    """Shares of differing items, dense near the margin, where the excess of the score test lies."""
    return margin + (most - margin) * np.linspace(0, 1, points) ** 2


@dataclass(frozen=True, slots=True)
class Size:
    """The largest chance of a wrong verdict at a true loss equal to the margin, and the share of differing items where it is."""

    chance: float
    share: float


def size(n: int, margin: float, *, side: str, exact: bool) -> Size:
    """side: "NON_INFERIOR" or "REGRESSED", wrong at the margin both. exact: the program's test, else the score test."""
    hypothesis = -margin if side == "NON_INFERIOR" else margin
    z = critical_z(n, hypothesis, ALPHA) if exact else SCORE_Z
    shares = shares_from(margin)
    chances = accepted(z, n, hypothesis, shares, hypothesis)
    worst = int(chances.argmax())
    return Size(float(chances[worst]), float(shares[worst]))


def power(n: int, margin: float, share: float, alpha: float) -> float:
    """Chance of NON_INFERIOR where nothing was lost."""
    return float(accepted(critical_z(n, -margin, alpha), n, -margin, [share], 0.0)[0])


def changes(kind: str, share: float, loss: float) -> Floats:
    """Chances of the differences -1, -.5, 0, .5, 1, so that a share of items differs and `loss` is lost on average.

    halves: only half points move. wholes and halves: as many of each. rare: whole points lost, half points won.
    """
    if kind == "halves":
        lost, won = share / 2 + loss, share / 2 - loss
        return np.array([0.0, lost, 1 - share, won, 0.0])
    if kind == "wholes and halves":
        move = loss / 3
        return np.array([share / 4 + move, share / 4 + move, 1 - share, share / 4 - move, share / 4 - move])
    lost = (loss + share / 2) / 1.5  # lost + won = share, lost - won / 2 = loss
    return np.array([lost, 0.0, 1 - share, share - lost, 0.0])


@dataclass(frozen=True, slots=True)
class GradedSize:
    """Shares of simulated measures with each verdict. bca: NON_INFERIOR by the BCa limit, None where it was not asked."""

    non_inferior: float
    regressed: float
    bca: float | None


def graded_size(
    kind: str, share: float, n: int, loss: float, margin: float, runs: int, *, seed: int = 0, bca: bool = False
) -> GradedSize:
    drawn = np.random.default_rng(seed).multinomial(n, changes(kind, share, loss), size=runs)
    tables, times = np.unique(drawn, axis=0, return_counts=True)
    p = np.array([graded_p(tuple(table), margin) for table in tables.tolist()])
    by_bca = _share_by_bca(drawn[:BCA_RUNS], margin) if bca else None
    kept, lost = ((p[:, side] <= ALPHA) @ times / runs for side in (0, 1))
    return GradedSize(float(kept), float(lost), by_bca)


@functools.cache
def graded_p(table: tuple[int, ...], margin: float) -> tuple[float, float]:
    """The program's p and p_regressed on a table of HALVES; not asked where both are plain, which a test confirms."""
    counts = np.array(table)
    n, mean = counts.sum(), counts @ HALVES / counts.sum()
    error = np.sqrt(max(counts @ HALVES**2 / n - mean**2, 1 / n) / n)
    z = (mean + margin) / error
    if abs(z) < NEAR:
        return 1.0, 1.0
    if n >= MANY and abs(z) > FAR:
        return (_LEAST_P, 1.0) if z > 0 else (1.0, _LEAST_P)
    drawn = reweighted_mean(np.repeat(HALVES, counts), 0)
    return (drawn.p_above(-margin), 1.0) if z > 0 else (1.0, drawn.p_below(-margin))


def _share_by_bca(drawn: Floats, margin: float) -> float:
    tables, times = np.unique(drawn, axis=0, return_counts=True)
    return float(sum(times[i] * _bca_accepts(table, margin) for i, table in enumerate(tables)) / len(drawn))


def _bca_accepts(table: Floats, margin: float) -> bool:
    values = np.repeat(HALVES, table)
    return mean_interval(values, bootstrap_mean(values, 0), 1 - 2 * ALPHA)[0] > -margin


@dataclass(frozen=True, slots=True)
class Asked:
    """A measure of a simulated gate. share: of items that differ where nothing was lost."""

    name: str
    margin: float
    share: float
    binary: bool = True

    @property
    def spread(self) -> float:
        """The mean squared difference: of wholes and halves, as many of each."""
        return self.share if self.binary else self.share * (1 + 0.25) / 2


GENERAL = Asked("general", 0.03, 0.10)
SUGGESTED = Asked("suggestion", 0.025, 0.08, binary=False)
FLIPS = Asked("flips", 0.05, 0.10)
LEAK = Asked("format_leak", 0.02, 0.02)
COUNTER = Asked("counter_instructions", 0.02, 0.05)
FURTHER = Asked("further", 0.03, 0.15)
GATES = {4: (GENERAL, SUGGESTED, FLIPS, LEAK), 5: (GENERAL, SUGGESTED, FLIPS, LEAK, COUNTER)}
GATES[6] = (*GATES[5], FURTHER)
WON = TargetCompared(
    passed=True,
    outcome="MET",
    score=0.9,
    n=300,
    comparator="five shots",
    comparator_score=0.8,
    tuned_score=0.9,
    n_compared=300,
    gain=0.1,
    interval=(0.05, 0.15),
    p_better=0.001,
    better=True,
    margin=0.02,
    by="better",
    reason="The target passed.",
)


def plan(asked: Sequence[Asked], alpha: float, at_most: int | None = None) -> list[int]:
    """The items of each measure, given the true spread."""
    power = planned_power(len(asked))
    needed = [needed_items(one.margin, power=power, alpha=alpha, binary=one.binary, spread=one.spread) for one in asked]
    return needed if at_most is None else [min(n, at_most) for n in needed]


@dataclass(frozen=True, slots=True)
class Rates:
    """Shares of simulated gates with each verdict."""

    ship: float
    hold: float
    reject: float


def gates(
    asked: Sequence[Asked],
    sizes: Sequence[int],
    losses: Sequence[float],
    *,
    alpha: float,
    runs: int,
    together: float = 0.0,
    seed: int = 0,
) -> Rates:
    """Whole gates: a table of each measure is drawn, and the program's `conclude` judges.

    losses: the true ones. together: correlation of the measures' luck, by which a model that is unlucky in one is so in others.
    """
    verdicts = gate_verdicts(asked, sizes, losses, alpha=alpha, runs=runs, together=together, seed=seed)
    return Rates(*(verdicts.count(verdict) / runs for verdict in ("SHIP", "HOLD", "REJECT")))


def gate_verdicts(
    asked: Sequence[Asked],
    sizes: Sequence[int],
    losses: Sequence[float],
    *,
    alpha: float,
    runs: int,
    together: float = 0.0,
    seed: int = 0,
) -> list[GateVerdict]:
    """As `gates`, run by run."""
    generator = np.random.default_rng(seed)
    columns = [
        _p_values(one, n, loss, alpha, len(asked), uniform)
        for one, n, loss, uniform in zip(
            asked, sizes, losses, _luck(generator, len(asked), runs, together), strict=True
        )
    ]
    return [conclude([column[run] for column in columns], WON, power=0.8, alpha=alpha).verdict for run in range(runs)]


def _luck(generator: np.random.Generator, measures: int, runs: int, together: float) -> Floats:
    """Standard normal luck, shape (measures, runs), and a uniform beside it, shape (2, measures, runs) by measure."""
    common = generator.standard_normal(runs)
    own = generator.standard_normal((measures, runs))
    luck = np.sqrt(together) * common + np.sqrt(1 - together) * own
    return np.stack([luck, generator.standard_normal((measures, runs))], axis=1)


def _p_values(one: Asked, n: int, loss: float, alpha: float, measures: int, luck: Floats) -> list[SuiteFound]:
    """The finding of each run, with what `conclude` reads of it."""
    shape = np.array([(one.share - loss) / 2, 1 - one.share, (one.share + loss) / 2])
    if loss > one.share:
        shape = np.array([0.0, 1 - loss, loss])
    found = TestedMeasure(
        name=one.name,
        suite=one.name,
        verdict="UNDERPOWERED",
        margin=one.margin,
        base=0.8,
        tuned=0.8,
        difference=0.0,
        interval=(0.0, 0.0),
        n=n,
        n_needed=n + 1,
        p=1.0,
        p_regressed=1.0,
        binary=one.binary,
    )
    if not one.binary:
        tables = _graded_tables(one, n, loss, luck)
        rows = [(*graded_p(tuple(t), one.margin), float(np.array(t) @ HALVES / n)) for t in tables.tolist()]
    else:
        rows = _binary_rows(one, n, alpha, measures, _tables(shape, n, luck))
    return [found.model_copy(update={"p": p, "p_regressed": q, "difference": d}) for p, q, d in rows]


def _tables(shape: Floats, n: int, luck: Floats) -> Floats:
    """b and c of each run, shape (runs, 2): c from the quantile of a binomial at the luck, b from the rest at other luck."""
    from scipy.special import ndtr
    from scipy.stats import binom

    won, _, lost = shape
    c = binom.ppf(ndtr(-luck[0]), n, lost)
    b = binom.ppf(ndtr(luck[1]), n - c, won / (1 - lost))
    return np.stack([b, c], axis=1)


def _binary_rows(one: Asked, n: int, alpha: float, measures: int, tables: Floats) -> list[tuple[float, float, float]]:
    """p rounded up to alpha, p_regressed up to the next alpha/j that Holm may ask for: no comparison changes."""
    from lastresort.evals.evidence.tango import score_z

    b, c = tables.T
    kept = score_z(b, c, n, -one.margin) >= critical_z(n, -one.margin, alpha)
    back = score_z(c, b, n, one.margin)
    p_regressed = np.ones(len(b))
    if (back > 1).any():
        for j in range(1, measures + 1):
            level = alpha / j * (1 - 1e-9)
            p_regressed = np.where(back >= critical_z(n, one.margin, level), level, p_regressed)
    p = np.where(kept, alpha * (1 - 1e-9), 1.0)
    return list(zip(p.tolist(), p_regressed.tolist(), ((b - c) / n).tolist(), strict=True))


def _graded_tables(one: Asked, n: int, loss: float, luck: Floats) -> Floats:
    """Counts of HALVES in each run, the losses by the luck, shape (runs, 5)."""
    from scipy.special import ndtr

    chances = changes("wholes and halves", max(one.share, 4 * loss / 3), loss)
    lost = _tables(np.array([chances[3:].sum(), chances[2], chances[:2].sum()]), n, luck)
    b, c = lost.T.astype(int)
    generator = np.random.default_rng(int(1e6 * abs(float(ndtr(luck[0, 0])))))
    whole_lost = generator.binomial(c, chances[0] / chances[:2].sum())
    whole_won = generator.binomial(b, chances[4] / max(chances[3:].sum(), 1e-12)) if loss < one.share else 0 * b
    return np.stack([whole_lost, c - whole_lost, n - b - c, b - whole_won, whole_won], axis=1)
