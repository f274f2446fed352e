"""One measure of a suite: the base and the tuned model on the same items -> what was found. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from lastresort.evals.evidence import non_inferior
from lastresort.evals.evidence.units import group_means
from lastresort.evals.gate.found import Stratum, SuiteFound
from lastresort.evals.gate.sentences import suite_reason
from lastresort.evals.suites.suite import Pair

NOTHING_SAID = "no item that was asked says anything about it"


def suite_found(
    name: str,
    suite: str,
    pairs: Sequence[Pair],
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
    if not pairs:
        why = uninformative or NOTHING_SAID
        return _told(SuiteFound(name, suite, "UNINFORMATIVE", margin * margin_factor, binary=binary, why=why))
    base, tuned = [pair.base for pair in pairs], [pair.tuned for pair in pairs]
    tested = non_inferior(
        base,
        tuned,
        margin=margin * margin_factor,
        binary=binary,
        groups=groups,
        alpha=alpha,
        power=power,
        seed=seed,
    )
    found = SuiteFound(
        name=name,
        suite=suite,
        verdict=tested.verdict,
        margin=margin * margin_factor,
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
    if uninformative:
        found = replace(found, verdict="UNINFORMATIVE", n_needed=None, why=uninformative)
    return _told(found)


def skipped(name: str, suite: str) -> SuiteFound:
    """A measure that the task leaves out with `keep: {SUITE: skip}`."""
    return _told(SuiteFound(name, suite, "SKIPPED"))


def strata(pairs: Sequence[Pair]) -> tuple[Stratum, ...]:
    """Mean scores of the pairs of each stratum, by name; nothing where all are of one."""
    names = sorted({pair.stratum for pair in pairs})
    if len(names) < 2:
        return ()
    parts = [(name, [pair for pair in pairs if pair.stratum == name]) for name in names]
    return tuple(
        Stratum(name, mean_score([pair.base for pair in part]), mean_score([pair.tuned for pair in part]), len(part))
        for name, part in parts
    )


def mean_score(scores: Sequence[float], groups: Sequence[str] | None = None) -> float:
    """Of the items, or of the groups by their means."""
    values = np.asarray(scores, dtype=np.float64)
    return float((values if groups is None else group_means(values, groups)).mean())


def _told(found: SuiteFound) -> SuiteFound:
    return replace(found, reason=suite_reason(found))
