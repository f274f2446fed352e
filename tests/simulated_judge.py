"""Climbs without models that a judge scores and people's labels correct: labels, answers and verdicts are drawn.

All that decides is the program's own: what the labels say (`evidence.correction`), the test (`climb.bar_test.judge_so_far`,
`evidence.judge_corrected`), and the ladder of `simulated_ladder`, repairs included.
"""

from __future__ import annotations

import functools
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from bar_table import items_of, scored_item
from lastresort.climb.bar_test import BarRule, judge_so_far
from lastresort.climb.decide import RungOutcome, conclude
from lastresort.evals.evidence.bar import FALSE_NOT_MET
from lastresort.evals.evidence.corrected import LABELS_SHARE, Correction, Line, correction, judge_corrected
from lastresort.types import Judgement
from simulated_climb import Cell, Items
from simulated_ladder import ALPHA, Ladder, ladder_of

Bools = npt.NDArray[np.bool_]
TESTS = ("prompting", "retrieval", "sft", "sft repair")


@dataclass(frozen=True, slots=True)
class JudgedCell:
    """What is true in all climbs of one cell.

    rates: true score of each system of TESTS. sensitivity, specificity: of the judge. labels: how many right and wrong answers
    people have labelled; None where the judge is known. n: test items; None for endless ones, which show the judged score itself.
    """

    rates: tuple[float, ...] = (0.8,) * len(TESTS)
    sensitivity: float = 0.95
    specificity: float = 0.9
    labels: tuple[int, int] | None = (90, 60)
    n: int | None = 200
    bar: float = 0.8
    goal_cost: bool = False

    def judged(self, rate: float) -> float:
        """The judge's score of a system with this true score."""
        return rate * self.sensitivity + (1 - rate) * (1 - self.specificity)


@dataclass
class JudgedTally:
    """wrong_met: climbs in which some test says MET of a system whose true score is at most the bar. first_good: climbs that tested
    the first rung whose true score reaches the bar. lost: it was NOT_MET. verdicts: of the climbs.
    """

    climbs: int
    wrong_met: int = 0
    first_good: int = 0
    lost: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)


def simulate(cell: JudgedCell, climbs: int, seed: int = 0) -> JudgedTally:
    """So many climbs of a cell. The same cell, number and seed give the same climbs."""
    generator = np.random.default_rng([seed, zlib.crc32(repr(cell).encode())])
    ladder = ladder_of(dict(zip(TESTS, cell.rates, strict=False)), cell.n, bar=cell.bar, goal_cost=cell.goal_cost)
    accepted = _accepted(cell, climbs, generator)
    tally = JudgedTally(climbs)
    for climb in range(climbs):
        _add(tally, ladder, _tested(cell, ladder, [one[climb] for one in accepted], generator))
    return tally


def _accepted(cell: JudgedCell, climbs: int, generator: np.random.Generator) -> list[Bools]:
    """What the judge says of every system's answers, each of shape (climbs, n). Luck with an item is shared as in a `Cell`."""
    if cell.n is None:
        return [np.zeros((climbs, 0), dtype=np.bool_) for _ in cell.rates]
    items, found = Items(Cell(()), climbs, cell.n, generator), []
    for rate in cell.rates:
        right = items.scores(np.full(climbs, rate)) == 1
        found.append(_said(cell, right, generator))
    return found


def _said(cell: JudgedCell, right: Bools, generator: np.random.Generator) -> Bools:
    return generator.random(right.shape) < np.where(right, cell.sensitivity, 1 - cell.specificity)


def _correction(cell: JudgedCell, generator: np.random.Generator) -> Correction:
    if cell.labels is None:
        at, spent = cell.judged(cell.bar), LABELS_SHARE * ALPHA
        line = Line(cell.judged(0), cell.judged(1) - cell.judged(0))
        return Correction(10**9, cell.bar, line, line, line, at, at, spent, spent)
    return _corrected(*drawn_labels(cell, generator), cell.bar)


def drawn_labels(cell: JudgedCell, generator: np.random.Generator) -> tuple[Bools, Bools]:
    """What people, and what the judge, say of the labelled answers."""
    assert cell.labels is not None
    people = np.repeat([True, False], cell.labels)
    return people, _said(cell, people, generator)


def _corrected(people: Bools, said: Bools, bar: float) -> Correction:
    people_scores, judged = people.astype(np.float64).tolist(), said.astype(np.float64).tolist()
    return correction(people_scores, judged, bar=bar, alpha=ALPHA, beta=FALSE_NOT_MET, binary=True)


def corrected_outcome(people: Bools, said: Bools, scores: npt.NDArray[np.float64], bar: float) -> str:
    """The verdict of one test, at the whole error, on the score that these labels correct. scores: the judge's."""
    rule = BarRule(bar, True, ALPHA, _corrected(people, said, bar))
    found = judge_so_far(rule, [SCORED[score == 1] for score in scores.tolist()], _order(len(scores)))
    assert found is not None, "a whole test set is judged"
    return found.outcome


def _tested(
    cell: JudgedCell, ladder: Ladder, accepted: Sequence[Bools], generator: np.random.Generator
) -> dict[str, Judgement]:
    """What every test of one climb says."""
    by, places = _correction(cell, generator), list(ladder.rates)

    def judge(test: str, alpha: float) -> Judgement:
        if cell.n is None:
            return _endless(cell.judged(ladder.rates[test]), by, alpha)
        items = [SCORED[answer] for answer in accepted[places.index(test)].tolist()]
        found = judge_so_far(BarRule(cell.bar, True, alpha, by), items, _order(cell.n))
        assert found is not None, "a whole test set is judged"
        return found

    return ladder.tested(judge)


def _endless(score: float, by: Correction, alpha: float) -> Judgement:
    """The judgement where so many items are judged that any error shows on which side of a bar the judged score lies."""

    def judge(bar: float, alpha: float, beta: float) -> Judgement:
        outcome: Literal["MET", "NOT_MET", "UNDECIDED"] = "UNDECIDED"
        if alpha > 0 and score > bar:
            outcome = "MET"
        elif beta > 0 and score < bar:
            outcome = "NOT_MET"
        return Judgement(outcome, score, 1, 1, (score, score))

    found = judge_corrected(judge, lambda units, error: (score, score), by, alpha=alpha, beta=FALSE_NOT_MET)
    assert found is not None
    return found


SCORED = {False: scored_item(0.0), True: scored_item(1.0)}
_order = functools.cache(items_of)


def _add(tally: JudgedTally, ladder: Ladder, said: dict[str, Judgement]) -> None:
    tally.wrong_met += ladder.wrong(said)
    outcomes = [RungOutcome(rung, said[rung], "system") for rung in ladder.rungs if rung in said]
    tally.verdicts[conclude(ladder.rules, outcomes).verdict] += 1
    good = next((rung for rung in ladder.rungs if ladder.rates[rung] >= ladder.bar), None)
    if good in said:
        tally.first_good += 1
        tally.lost += said[good].outcome == "NOT_MET"
