"""What a gate finds: a measure of a suite, the target, and the verdict on them.

Has a base anything to lose by an accuracy? Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from lastresort.evals.evidence import wilson_interval
from lastresort.types import GateVerdict, Outcome, Unit

CONFIDENCE = 0.95


def without_headroom(scores: Sequence[float], *, chance: float, margin: float, of: str = "of a pilot") -> str:
    """Why it has not: its lower limit, one-sided at 95 %, is below chance + 2 margins (DESIGN part 9). Empty where it has.

    scores: of the base. margin: on the scale of the scores. of: which items these are.
    """
    if not scores:
        return f"no item {of} says anything about it"
    mean = sum(scores) / len(scores)
    low, _ = wilson_interval(sum(scores), len(scores), 2 * CONFIDENCE - 1)
    floor = chance + 2 * margin
    if low >= floor:
        return ""
    return (
        f"the base scores {mean:.1%} on the {len(scores)} items {of} (at least {low:.1%}), and to have something to lose it "
        f"would have to score {floor:.1%}, which is chance and twice the margin"
    )


SuiteVerdict = Literal["NON_INFERIOR", "REGRESSED", "UNDERPOWERED", "UNINFORMATIVE", "SKIPPED"]


@dataclass(frozen=True, slots=True)
class Stratum:
    """A part of a measure, shown and never voted. base, tuned: mean scores of its n items."""

    name: str
    base: float
    tuned: float
    n: int


@dataclass(frozen=True, slots=True)
class SuiteFound:
    """One measure of a suite, tuned against base on the same items.

    base, tuned: mean scores. difference: tuned - base, interval: its limits at confidence 1 - 2 alpha. All None where
    nothing was asked. margin: the largest loss that is accepted, on the measure's own scale; None where it was skipped.
    n: items that said something, or groups. n_needed: those that would decide; None where the verdict stands, or where it
    cannot be told. p: of "the loss is smaller than the margin". p_regressed: of "the loss is larger", before Holm.
    loss_seen: a loss is shown, of whatever size. spread: mean squared difference, of 0/1 scores the share of items that
    differ, from which another gate is planned. binary: whether scores are 0 or 1. strata: shown, never voted.
    why: of an UNINFORMATIVE, in words. reason: the verdict in words, with its figures.
    """

    name: str
    suite: str
    verdict: SuiteVerdict
    margin: float | None = None
    base: float | None = None
    tuned: float | None = None
    difference: float | None = None
    interval: tuple[float, float] | None = None
    n: int = 0
    n_needed: int | None = None
    p: float | None = None
    p_regressed: float | None = None
    loss_seen: bool = False
    spread: float | None = None
    binary: bool = True
    unit: Unit = "item"
    strata: tuple[Stratum, ...] = ()
    why: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class TargetFound:
    """The task itself: does the tuned system meet the bar, and is it worth more than the best prompt?

    passed: None where it was not asked. outcome, score, n, n_needed: of the test of the bar, which may have stopped early.
    comparator: the best prompt's system, None where nothing was compared. comparator_score, tuned_score: means over all
    n_compared items. gain: tuned - comparator, interval: its limits at confidence 1 - 2 alpha. better: shown to be better,
    p_better its p. non_inferior: shown to lose less than `margin`, asked only where it is not better. cheaper: per call,
    None where a price is missing. by: what speaks for it, None where nothing does.
    """

    passed: bool | None
    outcome: Outcome | None = None
    score: float | None = None
    n: int = 0
    n_needed: int | None = None
    comparator: str | None = None
    comparator_score: float | None = None
    tuned_score: float | None = None
    n_compared: int = 0
    gain: float | None = None
    interval: tuple[float, float] | None = None
    p_better: float | None = None
    better: bool | None = None
    non_inferior: bool | None = None
    margin: float | None = None
    cheaper: bool | None = None
    by: Literal["better", "cheaper", "bar"] | None = None
    unit: Unit = "item"
    reason: str = ""


@dataclass(frozen=True, slots=True)
class GateFound:
    """The verdict, with one sentence a reason, the decisive ones first.

    would_decide: what would turn a HOLD into an answer, as sentences. alpha: the error of this gate: .05 alone, .025 where a second
    may follow.
    """

    verdict: GateVerdict
    reasons: tuple[str, ...]
    suites: tuple[SuiteFound, ...]
    target: TargetFound
    would_decide: tuple[str, ...]
    alpha: float
