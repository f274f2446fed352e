"""What a reader of the decision must know beyond the verdicts: comparisons, what was searched, thin data, what was not checked.

Test items whose text stands in the task's documents: answering them is finding them again, in a search or in what was read.

What would change the answer: another bar, more items, what kept a rung out, a newer model, other knowledge. Pure.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from lastresort.climb.decide import Conclusion, Rules, RungOutcome
from lastresort.climb.decision import retrieval_entry, retrieval_reasons
from lastresort.climb.judging import judge_entry, judge_reasons
from lastresort.climb.prepare import Prepared
from lastresort.data.duplicates import normalised
from lastresort.knowledge.reading import read_documents
from lastresort.knowledge.store import Store, open_store, rows_where
from lastresort.ladder import RUNGS, trains
from lastresort.records.events import DriftMeasured, RowsTooLong, RungSearched, StoreBuilt, TextLearned
from lastresort.records.record import Measurement, Record
from lastresort.report.words import drift
from lastresort.report.words.wording import percent_in_text as percent
from lastresort.rungs.preference.data import LEAST_HELD_TEXT
from lastresort.rungs.rung import Workbench
from lastresort.rungs.staleness import stale_warning
from lastresort.rungs.supervised.sft import ADVISED_ROWS
from lastresort.spec.task import Task
from lastresort.types import Example, Judgement


def known_beforehand(bench: Workbench, test: Sequence[Example]) -> list[str]:
    """A sentence where the documents that a rung used hold test inputs word for word."""
    if bench.record.last(StoreBuilt) is not None:
        texts = _texts(open_store(bench.folder / "store"))
    elif bench.record.last(TextLearned) is not None and bench.task.knowledge is not None:
        texts = (document.text for document in read_documents(bench.task.knowledge).documents)
    else:
        return []
    held = inputs_held(texts, test)
    if not held:
        return []
    stand = "input stands" if held == 1 else "inputs stand"
    return [
        f"{held} of {len(test)} test {stand} word for word in the knowledge: where an answer stands beside, what was measured is "
        "finding it again. That is fair only if the questions of production will stand there too."
    ]


def inputs_held(texts: Iterable[str], examples: Sequence[Example]) -> int:
    """How many inputs stand in one of the texts, whatever their case and space; those too short to tell anything do not count."""
    whole = "\n".join(normalised(text) for text in texts)
    inputs = (normalised(example.input_text) for example in examples)
    return sum(len(text) >= LEAST_HELD_TEXT and text in whole for text in inputs)


def _texts(store: Store) -> Iterator[str]:
    """Of each document, as far as its chunks hold it: an input may stand where one ends and the next begins."""
    columns = ["document", "start", "end", "text"]
    rows = rows_where(store, None, columns)
    pieces = sorted(zip(*(rows[column].to_pylist() for column in columns), strict=True))
    for _, own in groupby(pieces, key=lambda piece: piece[0]):
        whole, position = "", 0
        for _, start, end, text in own:
            gap = " " if start > position else ""
            whole += gap + text[max(0, position - start) :]
            position = max(position, end)
        yield whole


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
        search = bench.record.last(RungSearched, outcome.rung)
        if search is not None and outcome.judgement is not None and outcome.judgement.outcome != "MET":
            reasons.append(f"{outcome.rung}: {search.note}")
        reasons += _refused(bench.record, outcome)
        reasons += _drift(bench.record, outcome)
    if any(RUNGS[outcome.rung].learns == "examples" for outcome in tested):
        reasons += _training_rows(bench)
    if any(trains(outcome.rung) for outcome in tested) and (warning := stale_warning(bench.task)) is not None:
        reasons.append(warning)
    if any(outcome.rung == conclusion.winner and outcome.gate is None for outcome in tested if trains(outcome.rung)):
        reasons.append("No gate has been run: whether tuning broke anything else has not been measured.")
    reasons += prepared.notes
    reasons += _not_honoured(bench.task)
    return reasons


def _training_rows(bench: Workbench) -> list[str]:
    """What was too long to train on, and whether the rest is enough."""
    found = []
    rows = bench.record.last(RowsTooLong)
    too_long = 0 if rows is None else len(rows.train)
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
    moved = record.last(DriftMeasured, outcome.system) if outcome.system is not None else None
    return [f"{outcome.rung}: {drift.sentence(moved)}"] if moved is not None and moved.rung == outcome.rung else []


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


def would_change(
    rules: Rules, outcomes: Sequence[RungOutcome], conclusion: Conclusion, *, knowledge: bool
) -> tuple[str, ...]:
    """Sentences, the nearest at hand first. knowledge: whether the task names documents."""
    return (
        *_items(outcomes),
        *_gate(outcomes),
        *_bar(rules, outcomes, conclusion),
        *_rungs(rules, outcomes, conclusion),
        *_world(conclusion, knowledge=knowledge),
    )


def _items(outcomes: Sequence[RungOutcome]) -> list[str]:
    """How many test items would settle what is open."""
    return [
        f"About {found.n_needed} test {found.unit}s instead of {found.n_available} would settle whether {rung} meets the bar."
        for rung, found in _tested(outcomes)
        if found.outcome == "UNDECIDED" and found.n_needed is not None
    ]


def _gate(outcomes: Sequence[RungOutcome]) -> list[str]:
    """What would let a system ship that the gate holds or rejects."""
    told = [sentence for outcome in outcomes if outcome.gate is not None for sentence in outcome.gate.would_decide]
    told += [
        f"A system of {outcome.rung} that loses less: a lower scale of its adapter, more general rows among its training rows, a "
        "lower learning rate or fewer epochs."
        for outcome in outcomes
        if outcome.rejected and not outcome.repairs
    ]
    told += [
        f"A system of {outcome.rung} that loses less than those that were tried after the gate: other training rows, or fewer of "
        "their kind."
        for outcome in outcomes
        if outcome.rejected and outcome.repairs
    ]
    return told


def _bar(rules: Rules, outcomes: Sequence[RungOutcome], conclusion: Conclusion) -> list[str]:
    """Bars that the intervals do not exclude: below which a cheaper rung might do, above which the winner is not shown to."""
    told = []
    below = [(rung, found) for rung, found in _tested(outcomes) if found.outcome == "NOT_MET"]
    if below:
        rung, found = max(below, key=lambda pair: pair[1].interval[1])
        told.append(
            f"A bar of {percent(found.interval[1])} or lower instead of {percent(rules.bar)}: up to there {rung} is not excluded."
        )
    met = next(
        (found for rung, found in _tested(outcomes) if rung == conclusion.winner and found.outcome == "MET"), None
    )
    if met is not None and met.interval[0] > rules.bar:
        told.append(
            f"A bar above {percent(met.interval[0])}: from there on these items do not show that {conclusion.winner} meets it."
        )
    elif met is not None:
        told.append(
            f"A higher bar than {percent(rules.bar)}: these items do not show that {conclusion.winner} meets one."
        )
    return told


def _rungs(rules: Rules, outcomes: Sequence[RungOutcome], conclusion: Conclusion) -> list[str]:
    """What kept rungs out: of those below the winner, which would be cheaper, or of all where none met the bar."""
    told = [
        f"{outcome.rung.capitalize()}, if it became possible: it was skipped because {_because(outcome.skipped)}."
        for outcome in outcomes
        if outcome.skipped is not None
    ]
    if conclusion.winner is None:
        tried = {outcome.rung for outcome in outcomes}
        left = [rung for rung in rules.ladder if rung not in tried]
        told += [f"The rest of the ladder, not tried: {', '.join(left)}."] if left else []
        out = [rung for rung in RUNGS if rung not in rules.ladder]
        told += [f"Rungs that the task leaves out of `ladder`: {', '.join(out)}."] if out else []
    return told


def _world(conclusion: Conclusion, *, knowledge: bool) -> list[str]:
    told = []
    if conclusion.winner is None or trains(conclusion.winner):
        told.append(
            "A newer or larger model that meets the bar when it is only prompted: `lastresort recheck RUN --model NEW` "
            "asks it the same test items."
        )
    if conclusion.winner is not None and knowledge:
        told.append("Changed documents: `lastresort recheck RUN` says whether the answers are out of date.")
    return told


def _because(reason: str) -> str:
    return reason.rstrip(".")


def _tested(outcomes: Sequence[RungOutcome]) -> list[tuple[str, Judgement]]:
    return [(outcome.rung, outcome.judgement) for outcome in outcomes if outcome.judgement is not None]
