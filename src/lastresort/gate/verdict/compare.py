"""One measure of a suite: the base and the tuned model on the same items -> what was found. Pure.

How many items each measure of a gate needs, and whether a bounded gate lacks power. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lastresort.errors import ContractError
from lastresort.evals.evidence import items_needed, non_inferior, power_of
from lastresort.evals.evidence.units import group_means
from lastresort.gate.suites.suite import ScorePair
from lastresort.records.gate import SkippedMeasure, StratumScores, SuiteFound, TestedMeasure, UninformativeMeasure
from lastresort.report.words.gate import suite_reason

# Without a pilot: the mean squared difference of two scores where nothing was lost. A tenth of 0/1 answers differ; of graded
# scores as many, by half a point as often as by a whole one.
SPREAD = {True: 0.1, False: 0.0625}


@dataclass(frozen=True, slots=True)
class MeasureDesign:
    """A measure before it is asked. margin: on its own scale. spread: mean squared difference in a pilot, of 0/1 scores the
    share of items that differ; None takes `SPREAD`. says: share of items that say something about it, above 0.
    """

    name: str
    margin: float
    binary: bool = True
    spread: float | None = None
    says: float = 1.0


@dataclass(frozen=True, slots=True)
class MeasureSize:
    """n: items to draw. n_needed: items to draw for the planned power. power: about what n gives, of this measure alone."""

    name: str
    n: int
    n_needed: int
    power: float

    @property
    def lacks_power(self) -> bool:
        return self.n < self.n_needed


def planned_power(measures: int) -> float:
    """Of each of k measures, 1 - .2/k: a model that lost nothing then ships with probability .8, however they hang together."""
    if measures < 1:
        raise ContractError(f"a gate of {measures} measures", expected="at least one")
    return 1 - 0.2 / measures


def sample_sizes(
    wanted: Sequence[MeasureDesign], *, alpha: float, at_most: int | None = None, measures: int | None = None
) -> tuple[MeasureSize, ...]:
    """The items of each measure. at_most: of each, as `--gate quick` sets it, which can cost power and nothing else. measures: of
    the whole gate, where these are some of them.

    Raises ContractError where a share that says something is not in (0, 1], and as `items_needed` does.
    """
    power = planned_power(len(wanted) if measures is None else measures)
    return tuple(_planned(one, power, alpha, at_most) for one in wanted)


def _planned(one: MeasureDesign, power: float, alpha: float, at_most: int | None) -> MeasureSize:
    if not 0 < one.says <= 1:
        raise ContractError(
            f"{one.name}: a share of {one.says!r} of items that say something", expected="0 < share <= 1"
        )
    spread = SPREAD[one.binary] if one.spread is None else one.spread
    needed = math.ceil(items_needed(one.margin, spread, power=power, alpha=alpha, binary=one.binary) / one.says)
    n = needed if at_most is None else min(needed, at_most)
    reached = power_of(math.floor(n * one.says), one.margin, spread, alpha=alpha, binary=one.binary)
    return MeasureSize(one.name, n, needed, reached)


NOTHING_SAID = "no item that was asked says anything about it"


def judge_measure(
    name: str,
    suite: str,
    pairs: Sequence[ScorePair],
    *,
    margin: float,
    margin_factor: float = 1.0,
    binary: bool,
    alpha: float,
    groups: Sequence[str] | None = None,
    uninformative: str = "",
    power: float = 0.8,
    seed: int = 0,
) -> SuiteFound:
    """The verdict on one measure, as if it were the only one; `gate` corrects REGRESSED over all of them.

    name: of the measure. suite: whose margin `keep` names. pairs: of the items that said something. groups: label of each pair,
    where items belong together; each group's mean is then one unit. uninformative: why the measure can say nothing of this base,
    which makes it UNINFORMATIVE whatever was seen; so does a lack of pairs. power: that n_needed is told for; `planned_power`.
    Raises ContractError as `non_inferior` does.
    """
    own = margin * margin_factor
    if not pairs:
        return uninformative_measure(name, suite, margin=own, binary=binary, why=uninformative or NOTHING_SAID)
    base, tuned = [pair.base for pair in pairs], [pair.tuned for pair in pairs]
    tested = non_inferior(base, tuned, margin=own, binary=binary, groups=groups, alpha=alpha, power=power, seed=seed)
    found = TestedMeasure(
        name=name,
        suite=suite,
        verdict=tested.verdict,
        margin=own,
        base=mean_score(base, groups),
        tuned=mean_score(tuned, groups),
        difference=tested.difference,
        interval=tested.interval,
        n=tested.n,
        n_needed=tested.n_needed,
        p=tested.p,
        p_regressed=tested.p_regressed,
        loss_seen=tested.loss_seen,
        spread=tested.spread,
        binary=binary,
        unit="item" if groups is None else "group",
        strata=strata(pairs),
    )
    if not uninformative:
        return found.replaced(reason=suite_reason(found))
    seen = {**dict(found), "verdict": "UNINFORMATIVE", "n_needed": None, "why": uninformative}
    unclear = UninformativeMeasure(**seen)
    return unclear.replaced(reason=suite_reason(unclear))


def uninformative_measure(
    name: str, suite: str, *, margin: float, why: str, binary: bool = True
) -> UninformativeMeasure:
    """A measure of which no item says anything. margin: on its own scale."""
    found = UninformativeMeasure(name=name, suite=suite, margin=margin, binary=binary, why=why)
    return found.replaced(reason=suite_reason(found))


def skipped_measure(name: str, suite: str) -> SkippedMeasure:
    """A measure that the task leaves out with `keep: {SUITE: skip}`."""
    found = SkippedMeasure(name=name, suite=suite)
    return found.replaced(reason=suite_reason(found))


def strata(pairs: Sequence[ScorePair]) -> tuple[StratumScores, ...]:
    """Mean scores of the pairs of each stratum, by name; nothing where all are of one."""
    names = sorted({pair.stratum for pair in pairs})
    if len(names) < 2:
        return ()
    parts = [(name, [pair for pair in pairs if pair.stratum == name]) for name in names]
    return tuple(
        StratumScores(
            name=name,
            base=mean_score([pair.base for pair in part]),
            tuned=mean_score([pair.tuned for pair in part]),
            n=len(part),
        )
        for name, part in parts
    )


def mean_score(scores: Sequence[float], groups: Sequence[str] | None = None) -> float:
    """Of the items, or of the groups by their means."""
    values = np.asarray(scores, dtype=np.float64)
    return float((values if groups is None else group_means(values, groups)).mean())
