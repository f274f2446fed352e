"""What a reader of the decision must know beyond the verdicts: comparisons, what was searched, thin data, what was not checked."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from lastresort.ladder.decide import Conclusion, RungOutcome
from lastresort.ladder.judge_summary import judge_entry, judge_reasons
from lastresort.ladder.known_beforehand import known_beforehand
from lastresort.ladder.prepare import Prepared
from lastresort.ladder.retrieval_summary import retrieval_entry, retrieval_reasons
from lastresort.records.record import Measurement, Record
from lastresort.report import drift
from lastresort.report.wording import percent_in_text as percent
from lastresort.rungs import TRAINED
from lastresort.rungs.rung import Workbench
from lastresort.rungs.sft import ADVISED_ROWS
from lastresort.rungs.staleness import stale_warning
from lastresort.spec.task import Task


def extra_reasons(
    bench: Workbench, prepared: Prepared, conclusion: Conclusion, outcomes: Sequence[RungOutcome]
) -> list[str]:
    """What else a reader must know: paired comparison, what was searched, thin data, leaks, and what was not checked."""
    reasons = judge_reasons(judge_entry(bench.task, bench.record))
    reasons += retrieval_reasons(retrieval_entry(bench.record))
    reasons += known_beforehand(bench, prepared.split.test)
    tested = [outcome for outcome in outcomes if outcome.judgement is not None]
    for lower, upper in itertools.pairwise(tested):
        reasons.append(_paired(bench, lower, upper))
    for outcome in tested:
        search = bench.record.last("search", outcome.rung)
        if search is not None and outcome.judgement is not None and outcome.judgement.outcome != "MET":
            reasons.append(f"{outcome.rung}: {search['note']}")
        reasons += _refused(bench.record, outcome)
        reasons += _drift(bench.record, outcome)
    if any(outcome.rung in ("sft", "full") for outcome in tested):
        reasons += _training_rows(bench)
    if any(outcome.rung in TRAINED for outcome in tested) and (warning := stale_warning(bench.task)) is not None:
        reasons.append(warning)
    if any(outcome.rung == conclusion.winner and outcome.gate is None for outcome in tested if outcome.rung in TRAINED):
        reasons.append("No gate has been run: whether tuning broke anything else has not been measured.")
    reasons += prepared.notes
    reasons += _not_honoured(bench.task)
    return reasons


def _training_rows(bench: Workbench) -> list[str]:
    """What was too long to train on, and whether the rest is enough."""
    found = []
    too_long = len((bench.record.last("too_long") or {"train": ()})["train"])
    if too_long:
        were = (
            "row is longer than the context and was" if too_long == 1 else "rows are longer than the context and were"
        )
        found.append(f"{too_long} training {were} left out of training.")
    if len(bench.train) - too_long < ADVISED_ROWS:
        found.append(f"SFT had {len(bench.train) - too_long} rows; a narrow task wants {ADVISED_ROWS} to 5,000.")
    return found


def _drift(record: Record, outcome: RungOutcome) -> list[str]:
    """How far preference training moved the answers: whether it won by talking longer must be seen."""
    noted = record.last("drift", outcome.system) if outcome.system is not None else None
    return [f"{outcome.rung}: {drift.sentence(noted)}"] if noted is not None and noted["rung"] == outcome.rung else []


def _refused(record: Record, outcome: RungOutcome) -> list[str]:
    """Test items that the model did not take."""
    refused = sum(item.finish == "refused" for item in _test_of(record, outcome).items)
    if not refused:
        return []
    return [
        f"{outcome.rung}: the model refused {refused} test item{'' if refused == 1 else 's'} as too long; "
        f"{'it counts' if refused == 1 else 'they count'} as wrong."
    ]


def _paired(bench: Workbench, lower: RungOutcome, upper: RungOutcome) -> str:
    """How the two rungs did on the items that both answered. No test: where each stopped depended on its results."""
    first, second = (_test_of(bench.record, outcome) for outcome in (lower, upper))
    scores = {item.id: item.score for item in first.items}
    both = [(scores[item.id], item.score) for item in second.items if item.id in scores]
    below, above = (sum(pair[side] for pair in both) / len(both) for side in (0, 1))
    return (
        f"{upper.rung} against {lower.rung} on the {len(both)} test items that both answered: {percent(above)} against "
        f"{percent(below)} (a description, not a test: each stopped when its own evidence sufficed)."
    )


def _test_of(record: Record, outcome: RungOutcome) -> Measurement:
    assert outcome.system is not None
    measurement = record.measurement(outcome.rung, outcome.system, "test")
    assert measurement is not None
    return measurement


def _not_honoured(task: Task) -> list[str]:
    """Keys of the task file that this version reads and checks but does not act on."""
    found = []
    if task.limits.gpu != "auto":
        found.append(f"limits.gpu: {task.limits.gpu} is not acted on by this version.")
    return found
