"""Testing a frozen system: item by item in the fixed order, until the evidence decides."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

from lastresort.data.split import groups_of
from lastresort.evals.evidence.bar import FALSE_NOT_MET, judge_bar, so_far
from lastresort.evals.evidence.corrected import Correction, errors_left, judge_corrected, outlook_corrected
from lastresort.evals.evidence.outlook import Errors, judge_going_on, outlook
from lastresort.evals.measure import JobFailure, MeasureJob, Result
from lastresort.records.events.search import RungTested
from lastresort.records.measurement import part_of_test
from lastresort.records.record import ItemScore, Measurement, Record
from lastresort.records.view import fold_of
from lastresort.rungs.rung import Workbench
from lastresort.stop import FirstOf, StopSignal
from lastresort.systems.system import System
from lastresort.types import BarSoFar, Example, Judgement, Outlook, PartOfTest


def order_of_test(test: Sequence[Example]) -> list[Example]:
    """The fixed order of the test set; with groups, each group's items together, groups in the order they first appear."""
    groups: dict[str, list[Example]] = {}
    for example, label in zip(test, groups_of(test) or map(str, range(len(test))), strict=True):
        groups.setdefault(label, []).append(example)
    return [example for items in groups.values() for example in items]


@dataclass(frozen=True, slots=True)
class Answered:
    """A part of a test, the test set or fresh items, in its fixed order, and the scores of the first of these."""

    items: Sequence[ItemScore]
    order: Sequence[Example]


@dataclass(frozen=True, slots=True)
class BarRule:
    """How scores are held against the bar. alpha: the error of a false MET. correction: how people's labels correct the scores,
    None where they are taken as they are. once: the test never goes on, so that the items needed are those of a new test.
    """

    bar: float
    binary: bool
    alpha: float
    correction: Correction | None = None
    once: bool = False


def run_test(
    bench: Workbench,
    rung: str,
    system: System,
    parts: Sequence[Sequence[Example]],
    alpha: float,
    *,
    once: bool = False,
) -> tuple[Judgement, list[Measurement]]:
    """Judge a frozen system against the bar: on the test set, and while that is UNDECIDED on the fresh items in turn. A finished
    part is read from the record and never repeated. alpha: the error of a false MET, over all parts. once: it never goes on, so
    that the items needed are those of a new test.
    """
    rule = BarRule(bench.task.bar, bench.scorer.binary, alpha, bench.correction, once)
    measurements: list[Measurement] = []
    parts_so_far: list[Answered] = []
    judgement: Judgement | None = None
    for number, part in enumerate(parts):
        order, split = order_of_test(part), part_of_test(number)
        measurement = bench.record.measurement(rung, system.name, split)
        if measurement is None:
            bench.progress.stage(f"{rung}: testing {system.name}{' on fresh items' if number else ''}", len(order))
            bench.at(rung, system.name, "test")
            items = _until_decided(bench, rung, system, order, parts_so_far, rule)
            measurement = Measurement(rung, system.name, split, len(order), tuple(items))
            bench.record.add_measurement(measurement)
        measurements.append(measurement)
        parts_so_far.append(Answered(measurement.items, order))
        judgement = judge_parts(rule, parts_so_far)
        assert judgement is not None, "a finished test is judged"
        if judgement.outcome != "UNDECIDED":
            return judgement, measurements
    assert judgement is not None, "a test has a test set"
    return _with_outlook(judgement, rule, parts_so_far, bench.task.split.seed), measurements


def items_in_groups(judgement: Judgement, parts: Sequence[Sequence[Example]]) -> int | None:
    """How many items, the first of the parts, the groups that a test used hold; None where it counts items."""
    if judgement.unit == "item":
        return None
    labels = groups_of([example for part in parts for example in order_of_test(part)]) or []
    used_groups = set(list(dict.fromkeys(labels))[: judgement.n_used])
    return sum(label in used_groups for label in labels)


def goes_on(judgement: Judgement, parts: int) -> bool:
    """Whether a test is open and has not seen all of so many parts."""
    return judgement.outcome == "UNDECIDED" and max(1, len(judgement.parts)) < parts


def met_in(record: Record, rungs: Collection[str]) -> frozenset[str]:
    """Those of these rungs whose recorded test says MET and that the gate has not rejected."""
    if all(record.last(RungTested, rung) is None for rung in rungs):
        return frozenset()
    fold, met = fold_of(record), set[str]()
    for name in rungs:
        test, gate = fold.rung(name).standing, fold.rung(name).gate
        if test is not None and test.judgement.outcome == "MET" and (gate is None or gate.verdict != "REJECT"):
            met.add(name)
    return frozenset(met)


def _with_outlook(judgement: Judgement, rule: BarRule, parts: Sequence[Answered], seed: int) -> Judgement:
    """An UNDECIDED that also says how far it is, unless nothing explains its score."""
    if judgement.judged is not None and not judgement.judged.explained:
        return judgement
    units = [_whole_units(part.items, part.order) for part in parts]
    groups = [label for _, labels in units for label in labels or ()]

    def look(bar: float, alpha: float, beta: float) -> Outlook:
        return outlook(
            [scores for scores, _ in units],
            bar=bar,
            alpha=alpha,
            beta=beta,
            binary=rule.binary,
            n_needed=judgement.n_needed,
            groups=groups or None,
            seed=seed,
            once=rule.once,
        )

    if rule.correction is None:
        return replace(judgement, outlook=look(rule.bar, rule.alpha, FALSE_NOT_MET))
    return replace(judgement, outlook=outlook_corrected(look, rule.correction, alpha=rule.alpha, beta=FALSE_NOT_MET))


def _until_decided(
    bench: Workbench,
    rung: str,
    system: System,
    order: Sequence[Example],
    earlier_parts: Sequence[Answered],
    rule: BarRule,
) -> list[ItemScore]:
    """Scores of the first items, batch by batch as jobs, up to the batch by which the evidence decides, or of all.
    earlier_parts: of the test, which ended UNDECIDED.
    """
    size, decided = bench.answerer(system).model.batch_size, StopSignal()
    starts = range(0, len(order), size)
    jobs = [
        MeasureJob(start, system, tuple(order[start : start + size]), refused_is_wrong=True, may_be_dropped=start > 0)
        for start in starts
    ]
    items: list[ItemScore] = []

    def use(job: MeasureJob, result: Result) -> None:
        if decided.requested() is not None:  # it was under way when the evidence decided
            return
        if isinstance(result, JobFailure):
            raise result.error()
        items.extend(result.items)
        parts = [*earlier_parts, Answered(items, order)]
        bench.at(rung, system.name, "test", test=_estimate_so_far(rule, parts))
        judgement = judge_parts(rule, parts)
        if len(items) < len(order) and judgement is not None:
            decided.request()

    request = bench.run_jobs(jobs, use, FirstOf((decided, bench.stop)))
    if request is not None and decided.requested() is None:
        raise request.error()
    return items


def judge_parts(rule: BarRule, parts: Sequence[Answered]) -> Judgement | None:
    """The verdict of a test after its last part so far; None while more of that are needed. All but the last ended UNDECIDED."""
    last_part = parts[-1]
    if rule.binary and not rule.once and groups_of(last_part.order) is None:
        scores = [[item.score for item in part.items] for part in parts]
        pooled = [score for part in scores for score in part]

        def judge(bar: float, alpha: float, beta: float) -> Judgement | None:
            return judge_going_on(scores, bar=bar, alpha=alpha, beta=beta, n_available=len(last_part.order))

        return _judge_scores(judge, rule, pooled, None)
    items, order = [item for part in parts for item in part.items], [item for part in parts for item in part.order]
    judgement = judge_so_far(rule, items, order)
    if len(parts) == 1:
        return judgement
    if judgement is None:
        return None
    errors = Errors(rule.alpha, FALSE_NOT_MET) if rule.correction is None else errors_left(rule.alpha, FALSE_NOT_MET)
    earlier_parts = [_part(rule.bar, part, errors) for part in parts[:-1]]
    n_used = judgement.n_used - sum(part.n_used for part in earlier_parts)
    return replace(judgement, parts=(*earlier_parts, _part(rule.bar, last_part, errors, n_used)))


def _part(bar: float, part: Answered, errors: Errors, max_units: int = 0) -> PartOfTest:
    """Of graded scores, or of groups, which go on at the same errors. max_units: units of it that count, 0 for all."""
    units = max_units if max_units > 0 else len(part.items)
    scores, groups = _first_units(*_whole_units(part.items, part.order), units)
    labels = groups_of(part.order)
    available = len(part.order) if labels is None else len(set(labels))
    estimate = so_far(scores, bar=bar, alpha=errors.alpha, binary=False, groups=groups)
    return PartOfTest(estimate.n, available, estimate.score, errors.alpha, errors.beta)


def judge_so_far(rule: BarRule, items: Sequence[ItemScore], order: Sequence[Example]) -> Judgement | None:
    """The verdict of a test that does not go on after these items, the first of `order`; None while more are needed. A group counts
    once it is whole.
    """
    scores, groups = _whole_units(items, order)
    if not scores:
        return None
    available = len(order if groups is None else set(groups_of(order) or ()))

    def judge(bar: float, alpha: float, beta: float) -> Judgement | None:
        return judge_bar(
            scores, bar=bar, alpha=alpha, beta=beta, binary=rule.binary, n_available=available, groups=groups
        )

    return _judge_scores(judge, rule, scores, groups)


def _judge_scores(
    judge: Callable[[float, float, float], Judgement | None],
    rule: BarRule,
    scores: Sequence[float],
    groups: Sequence[str] | None,
) -> Judgement | None:
    """judge: (bar, alpha, beta) -> the verdict on the scores as they are."""
    if rule.correction is None:
        return judge(rule.bar, rule.alpha, FALSE_NOT_MET)

    def interval(units: int, error: float) -> tuple[float, float]:
        first_scores, labels = _first_units(scores, groups, units)
        return so_far(first_scores, bar=rule.bar, alpha=error, binary=rule.binary, groups=labels).interval

    return judge_corrected(judge, interval, rule.correction, alpha=rule.alpha, beta=FALSE_NOT_MET)


def _estimate_so_far(rule: BarRule, parts: Sequence[Answered]) -> BarSoFar | None:
    """None before the first whole group."""
    items = [item for part in parts for item in part.items]
    scores, groups = _whole_units(items, [example for part in parts for example in part.order])
    if not scores:
        return None
    estimate = so_far(scores, bar=rule.bar, alpha=rule.alpha, binary=rule.binary, groups=groups)
    if rule.correction is None:
        return estimate
    score, interval = rule.correction.on_true_scale(estimate.score, estimate.interval)
    return replace(estimate, score=score, interval=interval)


def _first_units(
    scores: Sequence[float], groups: Sequence[str] | None, units: int
) -> tuple[Sequence[float], Sequence[str] | None]:
    if groups is None:
        return scores[:units], None
    first_groups = set(list(dict.fromkeys(groups))[:units])
    n = sum(label in first_groups for label in groups)
    return scores[:n], groups[:n]


def _whole_units(items: Sequence[ItemScore], order: Sequence[Example]) -> tuple[list[float], Sequence[str] | None]:
    """The scores of the items whose group is complete, and their groups, None where there are none."""
    scores, labels = [item.score for item in items], groups_of(order)
    if labels is None:
        return scores, None
    n_whole = len(items)
    while 0 < n_whole < len(order) and labels[n_whole - 1] == labels[n_whole]:
        n_whole -= 1
    return scores[:n_whole], labels[:n_whole]
