"""One measure: sample size, headroom of the base, and the test of base against tuned model on the same items. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import numpy as np

from lastresort.errors import ContractError
from lastresort.evals.evidence.bar import wilson_interval
from lastresort.evals.evidence.noninferiority import items_needed, non_inferior
from lastresort.evals.evidence.sequential import Looks, non_inferior_so_far
from lastresort.evals.evidence.units import group_means
from lastresort.gate.suites.suite import ScorePair
from lastresort.records.gate import SkippedMeasure, StratumScores, SuiteFound, TestedMeasure, UninformativeMeasure
from lastresort.records.uninformative import Among, LowScore, NothingSaid, WhyUninformative
from lastresort.report.words.gate import suite_reason

# Assumed mean squared difference of two scores if nothing was lost, by whether scores are 0/1: a tenth of the answers differ,
# graded scores by half a point as often as by a whole one.
SPREAD = {True: 0.1, False: 0.0625}


def planned_power(measures: int) -> float:
    """Of each of k measures, 1 - .2/k: then a model that lost nothing ships with probability .8, however they are correlated."""
    if measures < 1:
        raise ContractError(f"a gate of {measures} measures", expected="at least one")
    return 1 - 0.2 / measures


def needed_items(
    margin: float,
    *,
    power: float,
    alpha: float,
    binary: bool = True,
    spread: float | None = None,
    informative: float = 1.0,
) -> int:
    """How many items to draw for a measure with this power.

    margin: on the measure's scale. spread: mean squared difference of two scores, None for `SPREAD`. informative: share of items
    that say something about the measure. Raises ContractError if that is not in (0, 1], and as `items_needed` does.
    """
    if not 0 < informative <= 1:
        raise ContractError(f"a share of {informative!r} of informative items", expected="0 < share <= 1")
    spread = SPREAD[binary] if spread is None else spread
    return math.ceil(items_needed(margin, spread, power=power, alpha=alpha, binary=binary) / informative)


CONFIDENCE = 0.95
NOTHING_SAID = NothingSaid(among="asked")


def why_no_headroom(
    scores: Sequence[float], *, chance: float, margin: float, among: Among = "pilot"
) -> WhyUninformative | None:
    """Why the base has nothing to lose by an accuracy: its lower limit, one-sided at 95%, is below chance + 2 margins. None if it
    has something.

    scores: of the base. margin: on the scale of the scores. among: which items these are.
    """
    if not scores:
        return NothingSaid(among=among)
    mean = sum(scores) / len(scores)
    low, _ = wilson_interval(sum(scores), len(scores), 2 * CONFIDENCE - 1)
    floor = chance + 2 * margin
    if low >= floor:
        return None
    return LowScore(among=among, score=mean, n=len(scores), at_least=low, needed=floor)


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
    uninformative: WhyUninformative | None = None,
    seed: int = 0,
    looks: Looks | None = None,
) -> SuiteFound:
    """The verdict on one measure, as if it were the only one; `gate` corrects REGRESSED over all of them.

    name: of the measure. suite: whose margin `keep` names. pairs: of the informative items. groups: label of each pair if items
    belong together; the mean of a group is then one unit. uninformative: why the measure says nothing about this base, which makes
    it UNINFORMATIVE whatever was seen; so does a lack of pairs. looks: when the pairs were looked at as they came, in their order;
    None where all came before they were tested.
    Raises ContractError as `non_inferior` does.
    """
    scaled_margin = margin * margin_factor
    if not pairs:
        return uninformative_measure(
            name, suite, margin=scaled_margin, binary=binary, why=(uninformative or NOTHING_SAID,)
        )
    base, tuned = [pair.base for pair in pairs], [pair.tuned for pair in pairs]
    test = non_inferior if looks is None else partial(non_inferior_so_far, looks=looks)
    comparison = test(base, tuned, margin=scaled_margin, binary=binary, groups=groups, alpha=alpha, seed=seed)
    finding = TestedMeasure.from_fields_of(
        comparison,
        name=name,
        suite=suite,
        margin=scaled_margin,
        base=mean_score(base, groups),
        tuned=mean_score(tuned, groups),
        binary=binary,
        unit="item" if groups is None else "group",
        strata=strata(pairs),
    )
    if uninformative is None:
        return finding.replaced(reason=suite_reason(finding))
    fields = {**dict(finding), "verdict": "UNINFORMATIVE", "n_needed": None, "why": (uninformative,)}
    unclear = UninformativeMeasure(**fields)
    return unclear.replaced(reason=suite_reason(unclear))


def uninformative_measure(
    name: str, suite: str, *, margin: float, why: Sequence[WhyUninformative], binary: bool = True
) -> UninformativeMeasure:
    """A measure without any informative item. margin: on its own scale. why: at least one."""
    finding = UninformativeMeasure(name=name, suite=suite, margin=margin, binary=binary, why=tuple(why))
    return finding.replaced(reason=suite_reason(finding))


def skipped_measure(name: str, suite: str) -> SkippedMeasure:
    """A measure that the task leaves out with `keep: {SUITE: skip}`."""
    finding = SkippedMeasure(name=name, suite=suite)
    return finding.replaced(reason=suite_reason(finding))


def strata(pairs: Sequence[ScorePair]) -> tuple[StratumScores, ...]:
    """Mean scores by stratum, in the order of their names; none if there is only one stratum."""
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
    """The mean over items, or over the means of groups."""
    values = np.asarray(scores, dtype=np.float64)
    return float((values if groups is None else group_means(values, groups)).mean())
