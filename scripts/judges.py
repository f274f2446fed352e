"""A bar tested on a judge's scores, simulated: the two tables of docs/simulations.md on judges, which this writes anew.

python -m scripts.judges tests     one test, beside the judge alone and the delta method
python -m scripts.judges climbs    climbs from prompting to the repair of SFT
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from climb_table import PAGE, shown
from lastresort.evals.evidence.bar import outcome_of
from page_tables import filled, table
from simulated_judge import TESTS, JudgedCell, JudgedTally, corrected_outcome, drawn_labels, simulate

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

RUNS, FEWER_RUNS, CLIMBS, SEED = 1_000, 250, 2_000, 28
ALPHA, RIGHT = 0.05, 0.6  # RIGHT: of the labelled answers
Z = 1.6449  # normal quantile of 1 - ALPHA


def labelled(n: int) -> tuple[int, int]:
    """Right and wrong ones among n labelled answers."""
    right = round(RIGHT * n)
    return right, n - right


@dataclass(frozen=True, slots=True)
class OneTest:
    """A judge, how much is labelled and measured, and the bar."""

    sensitivity: float
    specificity: float
    labels: int
    n: int
    bar: float


TESTED = (
    OneTest(0.6, 0.9, 20, 50, 0.6),
    OneTest(0.9, 0.8, 20, 50, 0.6),
    OneTest(0.9, 0.8, 20, 200, 0.85),
    OneTest(0.95, 0.95, 20, 200, 0.95),
    OneTest(0.9, 0.6, 60, 200, 0.7),
    OneTest(0.9, 0.9, 60, 200, 0.85),
    OneTest(0.95, 0.9, 150, 200, 0.85),
    OneTest(0.99, 0.99, 150, 200, 0.85),
    OneTest(0.95, 0.9, 300, 500, 0.85),
    OneTest(0.99, 0.6, 300, 500, 0.85),
    OneTest(0.99, 0.95, 300, 500, 0.95),
    OneTest(0.8, 0.8, 300, 500, 0.6),
)
TEST_COLUMNS = (
    "sensitivity / specificity",
    "labels",
    "test items",
    "bar",
    "alone: MET",
    "delta: MET",
    "corrected: MET",
    "corrected: NOT MET",
    "10 above: MET",
    "10 below: NOT MET",
)


@dataclass(frozen=True, slots=True)
class Said:
    """Of each run: MET by the judge alone, MET by the delta method, and the verdict on the corrected score."""

    alone: Bools
    delta: Bools
    corrected: list[str]


def said_of(case: OneTest, rate: float, runs: int, seed: int = SEED) -> Said:
    """Tests of systems with this true score."""
    random = np.random.default_rng([seed, *(round(1000 * value) for value in (*_values(case), rate))])
    cell = JudgedCell((rate,), case.sensitivity, case.specificity, labelled(case.labels), case.n, case.bar)
    alone, delta, corrected = np.zeros(runs, bool), np.zeros(runs, bool), []
    for run in range(runs):
        people, said = drawn_labels(cell, random)
        scores = (random.random(case.n) < cell.judged(rate)).astype(np.float64)
        alone[run] = outcome_of(scores, case.bar, ALPHA, ALPHA, binary=True) == "MET"
        delta[run] = delta_limit(people, said, scores) > case.bar
        corrected.append(corrected_outcome(people, said, scores, case.bar))
    return Said(alone, delta, corrected)


def _values(case: OneTest) -> tuple[float, ...]:
    return case.sensitivity, case.specificity, case.labels, case.n, case.bar


def delta_limit(people: Bools, said: Bools, scores: Floats) -> float:
    """One-sided lower limit of Rogan and Gladen's estimate (q - f) / (se - f), its variance by the delta method; like the estimate,
    it may exceed 1. -inf where the labels do not show that the judge accepts right answers more often than wrong ones.
    """
    accepts, false, judged = said[people].mean(), said[~people].mean(), scores.mean()
    slope = accepts - false
    if slope <= 0:
        return -np.inf
    estimate = (judged - false) / slope
    variance = judged * (1 - judged) / len(scores) + estimate**2 * accepts * (1 - accepts) / people.sum()
    variance += (1 - estimate) ** 2 * false * (1 - false) / (~people).sum()
    return float(estimate - Z * np.sqrt(variance) / slope)


def row_of_test(case: OneTest, runs: int = RUNS, fewer: int = FEWER_RUNS) -> tuple[str, ...]:
    at = said_of(case, case.bar, runs)
    above = said_of(case, min(case.bar + 0.1, (1 + case.bar) / 2), fewer)
    below = said_of(case, case.bar - 0.1, fewer)
    return (
        f"{case.sensitivity:g} / {case.specificity:g}",
        f"{case.labels}",
        f"{case.n}",
        f"{case.bar:.0%}",
        *(f"{100 * said.mean():.1f}" for said in (at.alone, at.delta)),
        *(f"{100 * at.corrected.count(outcome) / runs:.1f}" for outcome in ("MET", "NOT_MET")),
        f"{100 * above.corrected.count('MET') / fewer:.0f}",
        f"{100 * below.corrected.count('NOT_MET') / fewer:.0f}",
    )


Profile = Literal[
    "all at the bar", "all 5 below", "all 5 above", "prompt 5 below, others 5 above", "prompt alone, at the bar"
]
BELOW, ABOVE = -0.05, 0.05
PROFILES: dict[Profile, tuple[float, ...]] = {
    "all at the bar": (0.0,) * len(TESTS),
    "all 5 below": (BELOW,) * len(TESTS),
    "all 5 above": (ABOVE,) * len(TESTS),
    "prompt 5 below, others 5 above": (BELOW, *(ABOVE,) * (len(TESTS) - 1)),
}
JUDGES = ((0.99, 0.99), (0.95, 0.9), (0.98, 0.6))
SIZES: tuple[tuple[int | None, int | None], ...] = ((100, 200), (300, 500))
EDGES: tuple[tuple[int | None, int | None], ...] = ((None, 200), (300, None))
ONE_LIMIT = JudgedCell((), specificity=1.0, labels=(300, 2_000), n=None)  # nearly all can go wrong at one limit alone


@dataclass(frozen=True, slots=True)
class Climbed:
    """A line of the table."""

    profile: Profile
    cell: JudgedCell


def climb_cells() -> Iterator[Climbed]:
    """Judges by sizes and profiles; for one judge also a known one, and endless items. Then what goes wrong at one limit, in one
    test and in all.
    """
    sizes = [(judge, size) for judge in JUDGES for size in (*SIZES, *(EDGES if judge == JUDGES[1] else ()))]
    for (sensitivity, specificity), (labels, n) in sizes:
        cell = JudgedCell((), sensitivity, specificity, None if labels is None else labelled(labels), n)
        for profile, steps in PROFILES.items():
            rates = tuple(round(cell.bar + step, 12) for step in steps)
            yield Climbed(profile, replace(cell, rates=rates))
    yield Climbed("prompt alone, at the bar", replace(ONE_LIMIT, rates=(ONE_LIMIT.bar,)))
    yield Climbed("all at the bar", replace(ONE_LIMIT, rates=(ONE_LIMIT.bar,) * len(TESTS)))


CLIMB_COLUMNS = (
    "sensitivity / specificity",
    "labels",
    "test items",
    "true scores",
    "wrongly MET",
    "first good rung NOT MET",
    "MET",
    "NOT MET",
    "UNDECIDED",
)


def row_of_climbs(one: Climbed, tally: JudgedTally) -> tuple[str, ...]:
    cell, n = one.cell, tally.climbs
    return (
        f"{cell.sensitivity:g} / {cell.specificity:g}",
        "known" if cell.labels is None else f"{sum(cell.labels)}",
        "endless" if cell.n is None else f"{cell.n}",
        one.profile,
        shown(tally.wrong_met, n) if min(cell.rates) <= cell.bar else "",
        shown(tally.lost, n) if max(cell.rates) >= cell.bar else "",
        *(f"{100 * tally.verdicts[verdict] / n:.1f}" for verdict in ("MET", "NOT_MET", "UNDECIDED")),
    )


def rows(which: str) -> tuple[Sequence[str], Iterator[tuple[str, ...]]]:
    """Head and lines of a table."""
    if which == "tests":
        return TEST_COLUMNS, (row_of_test(case) for case in TESTED)
    return CLIMB_COLUMNS, (row_of_climbs(one, simulate(one.cell, CLIMBS)) for one in climb_cells())


def main(which: str) -> None:
    body = table(*rows(which))
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(filled(text, f"judged {which}", body), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
