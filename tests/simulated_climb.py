"""Climbs without models: item scores are drawn where a model would answer; all that decides is the program's own.

Selection on dev is `evidence.choose`, the test `climb.bar_test.judge_so_far` at the shares of `climb.shares`, the way up
`climb.decide.next_rung`, the end `conclude`.
"""

from __future__ import annotations

import functools
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal
from unittest import mock

import numpy as np
import numpy.typing as npt

from bar_table import bar_table, items_of, scored_item, task_for, without_intervals
from climb_support import statement
from lastresort.climb.bar_test import BarRule, judge_so_far
from lastresort.climb.decide import Conclusion, Rules, RungOutcome, conclude, next_rung
from lastresort.climb.loop import rules_of
from lastresort.climb.shares import error_shares
from lastresort.evals.evidence import selection
from lastresort.evals.evidence.bar import check_test_size, usable_share
from lastresort.evals.evidence.noninferiority import NonInferiority, non_inferior
from lastresort.evals.evidence.selection import choose
from lastresort.ladder import RUNGS
from lastresort.records.reasons import Stopped
from lastresort.types import Judgement

Floats = npt.NDArray[np.float64]
Kind = Literal["right or wrong", "in quarters", "groups of five"]

QUARTERS, GROUP = 4, 5
COHESION = 0.7  # of the items of a group (of the criteria of an item in quarters), how many go as the whole group goes


@dataclass(frozen=True, slots=True)
class Cell:
    """What is true in all climbs of one cell.

    rates: true score of each rung, in the order of the ladder; None for a rung that is skipped. kind: how an answer is
    scored. n, n_dev: items. shared: of the items, how many are as hard for one rung as for every other. ways: the ways that
    a rung tries on dev, each with what its true score has beside the rung's. dearer: whether each way costs more than the
    one before it, or all cost the same. tested_on_dev: what must never be, the test on the items that the choice was made on.
    """

    rates: tuple[float | None, ...]
    bar: float = 0.8
    n: int = 150
    on_undecided: Literal["lead", "collect"] = "lead"
    kind: Kind = "right or wrong"
    shared: float = 0.7
    ways: tuple[float, ...] = (0.0,)
    dearer: bool = False
    n_dev: int = 60
    confidence: float = 0.95
    tested_on_dev: bool = False


@dataclass(frozen=True, slots=True)
class Tried:
    """A rung in every climb of a cell: the true score of the way that was chosen, its dev score, and the test's judgement."""

    truth: Floats
    dev: Floats
    judgements: list[Judgement]


@dataclass
class Tally:
    """What happened, in climbs. stops: by rung from 1, None where the climb ended above all rungs.

    wrong_met: MET at a rung whose true score is at most the bar. first_good: climbs that tested the first rung whose true
    score is at least the bar. lost: it was NOT_MET. limit_too_high: MET saying "at least L" of a rung below L.
    led_below: won provisionally by a rung below the bar. items: tested in all. dev_gain: of the tests in all, by how much the
    dev score of what was chosen lay above its true score.
    """

    climbs: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    stops: Counter[int | None] = field(default_factory=Counter)
    wrong_met: int = 0
    first_good: int = 0
    lost: int = 0
    limit_too_high: int = 0
    led_below: int = 0
    items: int = 0
    tests: int = 0
    dev_gain: float = 0.0


def climbed(rules: Rules, try_rung: Callable[[str], RungOutcome]) -> tuple[list[RungOutcome], Conclusion]:
    """One climb, as `climb.loop` makes it."""
    outcomes: list[RungOutcome] = []
    while True:
        step = next_rung(rules, outcomes)
        if isinstance(step, Stopped):
            return outcomes, conclude(rules, outcomes, step)
        outcomes.append(try_rung(step))


def simulate(cell: Cell, climbs: int, seed: int = 0) -> Tally:
    """So many climbs of a cell. The same cell, number and seed give the same climbs, whatever else is simulated."""
    task = task_for(len(cell.rates), cell.bar, cell.confidence, cell.on_undecided)
    rules = rules_of(task, None)
    tried = dict(zip(rules.ladder, tried_rungs(cell, climbs, seed), strict=True))
    tally = Tally(climbs)
    for climb in range(climbs):

        def try_rung(name: str, climb: int = climb) -> RungOutcome:
            rung = tried[name]
            if rung is None:
                return RungOutcome(name, skipped=statement("it does not apply"))
            return RungOutcome(name, rung.judgements[climb], "chosen")

        outcomes, conclusion = climbed(rules, try_rung)
        truths = {name: float(rung.truth[climb]) for name, rung in tried.items() if rung is not None}
        count(tally, cell, outcomes, conclusion, truths)
        tally.dev_gain += sum(
            float(rung.dev[climb] - rung.truth[climb])
            for outcome in outcomes
            if (rung := tried[outcome.rung]) is not None
        )
    return tally


def count(
    tally: Tally, cell: Cell, outcomes: Sequence[RungOutcome], conclusion: Conclusion, truths: dict[str, float]
) -> None:
    """Add one climb. truths: the true score of every rung that applies, tested or not."""
    tested = {outcome.rung: outcome.judgement for outcome in outcomes if outcome.judgement is not None}
    stopped = conclusion.stopped_at
    ladder = [outcome.rung for outcome in outcomes]
    tally.verdicts[conclusion.verdict] += 1
    tally.stops[ladder.index(stopped) + 1 if stopped is not None else None] += 1
    tally.tests += len(tested)
    tally.items += sum(found.n_used for found in tested.values()) * (GROUP if cell.kind == "groups of five" else 1)
    if stopped is not None and conclusion.meets_bar:
        tally.wrong_met += truths[stopped] <= cell.bar
    elif conclusion.winner is not None:
        tally.led_below += truths[conclusion.winner] < cell.bar
    tally.limit_too_high += any(
        found.outcome == "MET" and found.decided is not None and found.decided.limit > truths[rung]
        for rung, found in tested.items()
    )
    good = next((rung for rung, truth in truths.items() if truth >= cell.bar), None)
    if good in tested:
        tally.first_good += 1
        tally.lost += tested[good].outcome == "NOT_MET"


def alphas_of(cell: Cell) -> list[float]:
    """The error of each rung's test. A rung that is skipped has its share: why it is skipped shows in the climb."""
    names = list(RUNGS)[: len(cell.rates)]
    counted = cell.kind == "right or wrong"
    usable = partial(usable_share, n=cell.n, bar=cell.bar) if counted else float
    shares = error_shares(names, 1 - cell.confidence, usable)
    return [shares[name] for name in names]


def tried_rungs(cell: Cell, climbs: int, seed: int, alphas: Sequence[float] | None = None) -> list[Tried | None]:
    """Every rung in every climb, also where the climb will not come so far. None for a rung that is skipped.

    alphas: the error of each rung's test. The same scores are drawn whatever it is.
    """
    alphas = alphas_of(cell) if alphas is None else alphas
    check_test_size(
        cell.n // GROUP if cell.kind == "groups of five" else cell.n,
        bar=cell.bar,
        alpha=min(alphas),
        binary=cell.kind == "right or wrong",
    )
    generator = np.random.default_rng([seed, zlib.crc32(repr(cell).encode())])
    dev_items, test_items = Items(cell, climbs, cell.n_dev, generator), Items(cell, climbs, cell.n, generator)
    found: list[Tried | None] = []
    for rate, alpha in zip(cell.rates, alphas, strict=True):
        if rate is None:
            found.append(None)
            continue
        rates = rate + np.asarray(cell.ways)
        on_dev = np.stack([dev_items.scores(np.full(climbs, one)) for one in rates], axis=1)
        chosen = chosen_ways(cell, on_dev)
        every = np.arange(climbs)
        on_test = on_dev[every, chosen] if cell.tested_on_dev else test_items.scores(rates[chosen])
        found.append(Tried(rates[chosen], on_dev[every, chosen].mean(axis=1), judgements(cell, on_test, alpha)))
    return found


class Items:
    """The items of one split in every climb: how hard each is for all, and a model's luck with it.

    Luck is uniform on (0, 1) and an answer is right where it is below the true score, so that rungs of equal luck with an
    item are alike and each keeps its true score. Of a group's items a share COHESION has the luck of the group.
    """

    def __init__(self, cell: Cell, climbs: int, n: int, generator: np.random.Generator) -> None:
        self._cell, self._generator = cell, generator
        self._block = {"right or wrong": 1, "in quarters": QUARTERS, "groups of five": GROUP}[cell.kind]
        self._shape = (climbs, n * (QUARTERS if cell.kind == "in quarters" else 1))
        self._hardness = self._luck()
        alike = generator.random((climbs, n)) < cell.shared
        self._alike = alike.repeat(self._shape[1] // n, axis=1)

    def scores(self, rate: Floats) -> Floats:
        """Item scores, shape (climbs, n), of a system with this true score in each climb, shape (climbs,)."""
        right = np.where(self._alike, self._hardness, self._luck()) < rate[:, None]
        if self._cell.kind == "in quarters":
            return np.asarray(right.reshape(len(right), -1, QUARTERS).mean(axis=-1))
        return right.astype(np.float64)

    def _luck(self) -> Floats:
        own = self._generator.random(self._shape)
        if self._block == 1:
            return own
        whole = self._generator.random((self._shape[0], self._shape[1] // self._block)).repeat(self._block, axis=1)
        return np.where(self._generator.random(self._shape) < COHESION, whole, own)


def chosen_ways(cell: Cell, on_dev: Floats) -> npt.NDArray[np.intp]:
    """The way that `choose` sends to the test in each climb. on_dev: shape (climbs, ways, n_dev)."""
    names = [f"way {number}" for number in range(len(cell.ways))]
    cost = {name: float(number * cell.dearer) for number, name in enumerate(names)}
    if len(names) == 1:
        return np.zeros(len(on_dev), dtype=np.intp)
    with mock.patch.object(selection, "non_inferior", non_inferior_by_counts):
        chosen = [choose(dict(zip(names, scores.tolist(), strict=True)), cost).name for scores in on_dev]
    return np.fromiter(map(names.index, chosen), dtype=np.intp, count=len(on_dev))


def non_inferior_by_counts(base: Sequence[float], other: Sequence[float], **settings: Any) -> NonInferiority:
    """`non_inferior` on 0/1 scores, asked once for every number of wins and losses, on which alone it hangs."""
    difference = np.subtract(other, base)
    wins, losses = int((difference > 0).sum()), int((difference < 0).sum())
    return _non_inferior(wins, losses, len(difference), **settings)


@functools.cache
def _non_inferior(wins: int, losses: int, n: int, **settings: Any) -> NonInferiority:
    base = [0.0] * wins + [1.0] * losses + [1.0] * (n - wins - losses)
    other = [1.0] * wins + [0.0] * losses + [1.0] * (n - wins - losses)
    return non_inferior(base, other, **settings)


def judgements(cell: Cell, on_test: Floats, alpha: float) -> list[Judgement]:
    """The judgement on each row of scores, shape (climbs, n)."""
    if cell.kind == "right or wrong":
        table = bar_table(cell.bar, alpha, on_test.shape[1])
        return table.judge(on_test.astype(np.bool_))
    with without_intervals():
        return list(_graded_judgements(cell, on_test, alpha))


def _graded_judgements(cell: Cell, on_test: Floats, alpha: float) -> Iterator[Judgement]:
    n, grouped = on_test.shape[1], cell.kind == "groups of five"
    rule = BarRule(cell.bar, grouped, alpha)
    order = items_of([str(number // GROUP) for number in range(n)] if grouped else n)
    items: dict[float, Any] = {float(score): scored_item(float(score)) for score in np.unique(on_test)}
    for row in on_test.tolist():
        judgement = judge_so_far(rule, [items[score] for score in row], order)
        assert judgement is not None, "a whole test set is judged"
        yield judgement
