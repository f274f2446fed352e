"""What a reader of the decision must know beyond the verdicts: comparisons, what was searched, thin data, what was not checked."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from lastresort.evals.evidence import better
from lastresort.ladder.decide import Conclusion, RungOutcome
from lastresort.ladder.prepare import Prepared
from lastresort.records.record import Measurement, Record
from lastresort.rungs.rung import Workbench
from lastresort.rungs.sft import ADVISED_ROWS


def extra_reasons(
    bench: Workbench, prepared: Prepared, conclusion: Conclusion, outcomes: Sequence[RungOutcome]
) -> list[str]:
    """What else a reader must know: paired comparison, what was searched, thin data, leaks, and what was not checked."""
    reasons = []
    tested = [outcome for outcome in outcomes if outcome.judgement is not None]
    for lower, upper in itertools.pairwise(tested):
        reasons.append(_paired(bench, lower, upper))
    for outcome in tested:
        search = bench.record.last("search", outcome.rung)
        if search is not None and outcome.judgement is not None and outcome.judgement.outcome != "MET":
            reasons.append(f"{outcome.rung}: {search['note']}")
    if any(outcome.rung == "sft" and outcome.judgement is not None for outcome in outcomes):
        if len(bench.train) < ADVISED_ROWS:
            reasons.append(f"SFT had {len(bench.train)} rows; a narrow task wants {ADVISED_ROWS} to 5,000.")
        if conclusion.winner == "sft":
            reasons.append("No gate has been run: whether tuning broke anything else has not been measured.")
    if prepared.leaks:
        reasons.append(f"{prepared.leaks} training rows also stood in dev or test and were left out of training.")
    return reasons


def _paired(bench: Workbench, lower: RungOutcome, upper: RungOutcome) -> str:
    """Is the upper rung better than the lower one, on the items that both answered?"""
    first, second = (_test_of(bench.record, outcome) for outcome in (lower, upper))
    scores = {item.id: item.score for item in first.items}
    both = [(scores[item.id], item.score) for item in second.items if item.id in scores]
    found = better([a for a, _ in both], [b for _, b in both], binary=bench.scorer.binary, seed=bench.task.split.seed)
    low, high = found.interval
    return (
        f"{upper.rung} against {lower.rung} on the {len(both)} test items that both answered: "
        f"{100 * found.difference:+.1f} points (interval {100 * low:+.1f} to {100 * high:+.1f}, p = {found.p:.2g})."
    )


def _test_of(record: Record, outcome: RungOutcome) -> Measurement:
    assert outcome.system is not None
    measurement = record.measurement(outcome.rung, outcome.system, "test")
    assert measurement is not None
    return measurement
