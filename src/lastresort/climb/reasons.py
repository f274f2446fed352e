"""What a reader of the decision must know beyond the verdicts: comparisons, what was searched, thin data, what was not checked.

Also what would change the answer: another bar, more items, a skipped rung, a newer model, other documents. Values, no sentences.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from types import MappingProxyType

from lastresort.climb.decide import Conclusion, Rules, RungOutcome
from lastresort.climb.prepare import PreparedTask, ignored_keys
from lastresort.data.duplicates import normalised
from lastresort.data.preferences import LEAST_HELD_TEXT
from lastresort.evals.evidence.more_examples import forecast_loss
from lastresort.evals.judged import judge_view
from lastresort.knowledge.reading import read_documents
from lastresort.knowledge.store import Store, open_store, rows_where
from lastresort.ladder import PROMPT_RUNG, RUNGS, trains
from lastresort.records.document import Statement
from lastresort.records.events.run import RowsTooLong
from lastresort.records.events.search import RungSearched, StoreBuilt
from lastresort.records.events.training import CandidateTrained, DriftMeasured, TextLearned, TrainingReached
from lastresort.records.reasons import (
    AnswersMoved,
    BetterJudge,
    Change,
    ChangedDocuments,
    ExamplesForecast,
    FewRows,
    HigherBar,
    InputsInDocuments,
    InputsTooLong,
    LongRowsLeftOut,
    LowerBar,
    MilderTraining,
    MoreLabelledCases,
    MoreTestItems,
    NeighboursCompared,
    NewerModel,
    NotGated,
    PromptingLeftOut,
    Reason,
    RestOfLadder,
    SearchedOnDev,
    SkippedRung,
)
from lastresort.records.record import Measurement, Record
from lastresort.records.training import loss_on_task
from lastresort.records.view import fold_of
from lastresort.report.words import judge, untuned
from lastresort.rungs.rung import Workbench
from lastresort.rungs.supervised.sft import ADVISED_ROWS, stale_weights
from lastresort.types import Example, Judgement


def inputs_in_documents(bench: Workbench, test: Sequence[Example]) -> list[Reason]:
    """Where the documents that a rung used hold test inputs word for word."""
    if bench.record.last(StoreBuilt) is not None:
        texts = _texts(open_store(bench.folder / "store"))
    elif bench.record.last(TextLearned) is not None and bench.task.knowledge is not None:
        texts = (document.text for document in read_documents(bench.task.knowledge).documents)
    else:
        return []
    n_held = inputs_held(texts, test)
    return [InputsInDocuments(n_held, len(test))] if n_held else []


def inputs_held(texts: Iterable[str], examples: Sequence[Example]) -> int:
    """How many inputs appear in one of the texts, whatever their case and space. Those too short to prove anything do not count."""
    all_text = "\n".join(normalised(text) for text in texts)
    inputs = (normalised(example.input_text) for example in examples)
    return sum(len(text) >= LEAST_HELD_TEXT and text in all_text for text in inputs)


def _texts(store: Store) -> Iterator[str]:
    """The text of each document, as far as its chunks hold it: an input may cross the end of a chunk."""
    columns = ["document", "start", "end", "text"]
    rows = rows_where(store, None, columns)
    pieces = sorted(zip(*(rows[column].to_pylist() for column in columns), strict=True))
    for _, chunks in groupby(pieces, key=lambda piece: piece[0]):
        document_text, position = "", 0
        for _, start, end, text in chunks:
            gap = " " if start > position else ""
            document_text += gap + text[max(0, position - start) :]
            position = max(position, end)
        yield document_text


def extra_reasons(
    bench: Workbench, prepared: PreparedTask, conclusion: Conclusion, outcomes: Sequence[RungOutcome]
) -> list[Reason | Statement]:
    """What else a reader must know: paired comparison, what was searched, thin data, leaks, and what was not checked."""
    fold = fold_of(bench.record)
    reasons: list[Reason | Statement] = [
        *judge.reasons(judge_view(fold)),
        *untuned.retrieval_reasons(fold.retrieval),
    ]
    reasons += inputs_in_documents(bench, prepared.split.test)
    tested = [outcome for outcome in outcomes if outcome.judgement is not None]
    reasons += [_neighbours_compared(bench, lower, upper) for lower, upper in itertools.pairwise(tested)]
    for outcome in tested:
        search = bench.record.last(RungSearched, outcome.rung)
        if search is not None and search.findings and outcome.verdict != "MET":
            reasons.append(SearchedOnDev(outcome.rung, search.findings))
        reasons += _refused_inputs(bench.record, outcome)
        reasons += _answers_moved(bench.record, outcome)
    if learning_rungs := tuple(outcome.rung for outcome in tested if RUNGS[outcome.rung].learns == "examples"):
        reasons += _training_rows(bench, learning_rungs)
        reasons += [
            reason
            for outcome in tested
            if outcome.rung in learning_rungs
            for reason in more_examples(bench.record, outcome, bench.task.bar)
        ]
    if any(trains(outcome.rung) for outcome in tested) and (stale := stale_weights(bench.task)) is not None:
        reasons.append(stale)
    if any(outcome.rung == conclusion.winner and outcome.ungated for outcome in tested):
        reasons.append(NotGated())
    reasons += prepared.notes
    reasons += ignored_keys(bench.task)
    return reasons


def _training_rows(bench: Workbench, rungs: tuple[str, ...]) -> list[Reason]:
    """What was too long to train on, and whether the rest is enough. rungs: that were trained on it."""
    rows = bench.record.last(RowsTooLong)
    too_long = 0 if rows is None else len(rows.train)
    n_left = len(bench.train) - too_long
    reasons: list[Reason] = [LongRowsLeftOut(too_long)] if too_long else []
    return [*reasons, FewRows(rungs, n_left, ADVISED_ROWS)] if n_left < ADVISED_ROWS else reasons


def more_examples(record: Record, outcome: RungOutcome, bar: float) -> list[Reason]:
    """What more examples would do for a rung that learned from them, by the first epoch of the training that its system came of.
    Empty where it meets the bar, or came of no training.
    """
    training = None if outcome.system is None else record.last(CandidateTrained, outcome.system)
    reached = None if training is None else record.last(TrainingReached, training.run)
    test = outcome.judgement
    if test is None or test.outcome == "MET" or training is None or reached is None:
        return []
    settings = reached.settings
    epoch, warmup = math.ceil(reached.rows / settings.batch_size), settings.warmup
    warmup_steps = round(warmup * reached.steps) if warmup < 1 else round(warmup)
    points = [
        ((point["step"] - 1) * settings.batch_size, loss)
        for point in record.curve(training.run)
        if (loss := loss_on_task(point)) is not None and max(1, warmup_steps) < point["step"] <= epoch
    ]
    loss_forecast = forecast_loss([n for n, _ in points], [loss for _, loss in points])
    replay = (reached.replay_rows or 0) / reached.rows
    return [ExamplesForecast(outcome.rung, test.score, test.interval, bar, loss_forecast, replay)]


def _answers_moved(record: Record, outcome: RungOutcome) -> list[Reason]:
    """How far preference training moved the answers: whether it won by talking longer must be seen."""
    drift = record.last(DriftMeasured, outcome.system) if outcome.system is not None else None
    return [AnswersMoved(outcome.rung, drift)] if drift is not None and drift.rung == outcome.rung else []


def _refused_inputs(record: Record, outcome: RungOutcome) -> list[Reason]:
    n_refused = sum(item.finish == "refused" for item in _test_of(record, outcome).items)
    return [InputsTooLong(outcome.rung, n_refused)] if n_refused else []


def _neighbours_compared(bench: Workbench, lower: RungOutcome, upper: RungOutcome) -> Reason:
    """How the two rungs did on the items that both answered. No test: where each stopped depended on its results."""
    lower_test, upper_test = (_test_of(bench.record, outcome) for outcome in (lower, upper))
    scores = {item.id: item.score for item in lower_test.items}
    score_pairs = [(scores[item.id], item.score) for item in upper_test.items if item.id in scores]
    lower_mean, upper_mean = (sum(pair[side] for pair in score_pairs) / len(score_pairs) for side in (0, 1))
    return NeighboursCompared(lower.rung, upper.rung, len(score_pairs), lower_mean, upper_mean)


def _test_of(record: Record, outcome: RungOutcome) -> Measurement:
    assert outcome.system is not None
    measurement = record.measurement(outcome.rung, outcome.system, "test")
    assert measurement is not None
    return measurement


def would_change(
    rules: Rules,
    outcomes: Sequence[RungOutcome],
    conclusion: Conclusion,
    *,
    knowledge: bool,
    labelled: int = 0,
    inapplicable: Mapping[str, Statement] = MappingProxyType({}),
) -> tuple[Change, ...]:
    """The nearest at hand first. knowledge: whether the task names documents. labelled: cases by which a judge is corrected.
    inapplicable: why a climb skips rungs of the ladder that were not tried.
    """
    return (
        *_items(outcomes, labelled),
        *_gate(outcomes),
        *_bar(rules, outcomes, conclusion),
        *_rungs(rules, outcomes, conclusion, inapplicable),
        *_world(conclusion, knowledge=knowledge),
    )


def _items(outcomes: Sequence[RungOutcome], labelled: int) -> list[Change]:
    """How many test items, or labelled cases, would settle what is open."""
    changes: list[Change] = []
    for rung, judgement in _judgements(outcomes):
        if judgement.outcome == "UNDECIDED" and judgement.n_needed is not None:
            changes.append(MoreTestItems(rung, judgement.n_needed, judgement.n_available, judgement.unit))
        elif judgement.judged is not None and judgement.judged.labels_needed is not None:
            changes.append(MoreLabelledCases(rung, judgement.judged.labels_needed, labelled))
        elif judgement.outcome == "UNDECIDED" and judgement.judged is not None and not judgement.judged.corrects:
            changes.append(BetterJudge(rung, judgement.judged.explained))
    return changes


def _gate(outcomes: Sequence[RungOutcome]) -> list[Change]:
    """What would let a system ship that the gate holds or rejects."""
    gates = [outcome.gate for outcome in outcomes if outcome.gate is not None]
    items: list[Change] = [need for gate in gates for need in gate.needs]
    rejected = [outcome for outcome in outcomes if outcome.rejected]
    return [*items, *(MilderTraining(outcome.rung, outcome.repairs is not None) for outcome in rejected)]


def _bar(rules: Rules, outcomes: Sequence[RungOutcome], conclusion: Conclusion) -> list[Change]:
    """Bars that the intervals do not exclude: below which a cheaper rung might do, above which the winner is not shown to."""
    changes: list[Change] = []
    below = [(rung, judgement) for rung, judgement in _judgements(outcomes) if judgement.outcome == "NOT_MET"]
    if below:
        rung, judgement = max(below, key=lambda pair: pair[1].interval[1])
        changes.append(LowerBar(rung, judgement.interval[1], rules.bar))
    winner_judgement = next((judgement for rung, judgement in _judgements(outcomes) if rung == conclusion.winner), None)
    if winner_judgement is not None and winner_judgement.outcome == "MET" and conclusion.winner is not None:
        changes.append(HigherBar(conclusion.winner, max(winner_judgement.interval[0], rules.bar)))
    return changes


def _rungs(
    rules: Rules, outcomes: Sequence[RungOutcome], conclusion: Conclusion, inapplicable: Mapping[str, Statement]
) -> list[Change]:
    """What kept rungs out: of those below the winner, which would be cheaper, or of all where none met the bar."""
    changes: list[Change] = [
        SkippedRung(outcome.rung, outcome.skipped) for outcome in outcomes if outcome.skipped is not None
    ]
    if PROMPT_RUNG not in rules.ladder:
        changes.append(PromptingLeftOut())
    if conclusion.winner is None:
        tried = {outcome.rung for outcome in outcomes}
        untried = [rung for rung in rules.ladder if rung not in tried]
        changes += [SkippedRung(rung, inapplicable[rung]) for rung in untried if rung in inapplicable]
        applicable = tuple(rung for rung in untried if rung not in inapplicable)
        off_ladder = tuple(rung for rung in RUNGS if rung not in (PROMPT_RUNG, *rules.ladder))
        changes += [RestOfLadder(rungs, on) for rungs, on in ((applicable, True), (off_ladder, False)) if rungs]
    return changes


def _world(conclusion: Conclusion, *, knowledge: bool) -> list[Change]:
    changes: list[Change] = [NewerModel()] if conclusion.winner is None or trains(conclusion.winner) else []
    return [*changes, ChangedDocuments()] if conclusion.winner is not None and knowledge else changes


def _judgements(outcomes: Sequence[RungOutcome]) -> list[tuple[str, Judgement]]:
    return [(outcome.rung, outcome.judgement) for outcome in outcomes if outcome.judgement is not None]
