"""What the record holds of every way and seed -> the `compare` of decision.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from lastresort.after.compare.training import RUNG
from lastresort.after.compare.ways import Trial, Way, recorded_request
from lastresort.evals.evidence.noninferiority import OverSeeds, over_seeds
from lastresort.records.decision_parts import ComparedWay, SeedOfWay, SpentOfWay, WayFigures
from lastresort.records.events.after_test import (
    AnsweringSpent,
    TrainingSpent,
    WayMeasured,
    WaysCompared,
    WaysRefused,
    way_key,
)
from lastresort.records.events.training import TrainingReached
from lastresort.records.measurement import Cost
from lastresort.records.reasons import NothingCompared, Reason
from lastresort.records.record import Measurement, Record
from lastresort.report.words.candidates import of_way

MARGIN = 0.03  # the usual upper estimate of what QLoRA costs


@dataclass(frozen=True, slots=True)
class ComparisonSetup:
    """What the ways have in common.

    ways: the reference first. groups: labels of the test items in the order of their answers. alpha: of each limit of an interval,
    not shared among the ways: they are estimates and decide nothing. epoch, unit: to which all were trained. seed: of the
    resampling. trainings: names in the record, of every trial ever requested of the run.
    """

    ways: tuple[Way, ...]
    seeds: tuple[int, ...]
    groups: tuple[str, ...] | None
    alpha: float
    epoch: int
    seed: int
    trainings: Mapping[Trial, Sequence[str]]
    unit: Literal["epoch", "step"] = "epoch"


def comparison_of(record: Record) -> tuple[ComparedWay, ...]:
    """The `compare` of a decision: the ways requested last; empty until all of them are measured."""
    request, compared = recorded_request(record), record.last(WaysCompared)
    if request is None or compared is None or (compared.names, compared.seeds) != (request.names, request.seeds):
        return ()
    return compared.ways


def why_not_compared(record: Record) -> list[Reason]:
    """A reason for the decision where a comparison was requested and did not start."""
    request, refused = recorded_request(record), record.last(WaysRefused)
    if request is None or not request.names or refused is None or record.last(WayMeasured) is not None:
        return []
    return [NothingCompared(request.names, refused.because)]


def compared_ways(record: Record, setup: ComparisonSetup) -> tuple[ComparedWay, ...]:
    """Each way against the first, in their order."""
    reference = _measured(record, setup.ways[0], setup.seeds)
    figures: list[WayFigures] = []
    for way in setup.ways:
        measured = _measured(record, way, setup.seeds)
        against = _Against((), None) if way is setup.ways[0] else _against(record, reference, measured, setup)
        figures.append(_figures(record, way, measured, against, setup))
    return tuple(ComparedWay(**dict(way), said=of_way(way, figures[0])) for way in figures)


def _measured(record: Record, way: Way, seeds: Sequence[int]) -> list[WayMeasured]:
    by_seed = [record.last(WayMeasured, way_key(way.name, seed)) for seed in seeds]
    known = [measured for measured in by_seed if measured is not None]
    assert len(known) == len(seeds), "every way and seed is measured before they are compared"
    return known


@dataclass(frozen=True, slots=True)
class _Against:
    """A way against the reference. seeds: with which both were trained. found: None where these are fewer than two."""

    seeds: tuple[int, ...]
    found: OverSeeds | None


def _against(
    record: Record, reference: Sequence[WayMeasured], other: Sequence[WayMeasured], setup: ComparisonSetup
) -> _Against:
    both = [pair for pair in zip(reference, other, strict=True) if not any(measured.failed for measured in pair)]
    if len(both) < 2:
        return _Against((), None)
    first, second = ([_scores(record, pair[side]) for pair in both] for side in (0, 1))
    comparison = over_seeds(first, second, margin=MARGIN, groups=setup.groups, alpha=setup.alpha, seed=setup.seed)
    return _Against(tuple(pair[0].seed for pair in both), comparison)


def _figures(
    record: Record, way: Way, measured: Sequence[WayMeasured], against: _Against, setup: ComparisonSetup
) -> WayFigures:
    comparison = against.found
    differences = {} if comparison is None else dict(zip(against.seeds, comparison.by_seed, strict=True))
    seeds = tuple(_seed(record, way, differences.get(way.seed)) for way in measured)
    scores = [seed.score for seed in seeds if seed.score is not None]
    rates = [way.training.learning_rate for way in measured if way.training is not None]
    units = len(set(setup.groups)) if setup.groups else max((_items(record, way) for way in measured), default=0)
    return WayFigures(
        way=way.name,
        made_of=way.made_of,
        learning_rate=rates[0] if rates else None,
        epoch=setup.epoch,
        unit=setup.unit,
        score=sum(scores) / len(scores) if scores else None,
        n=units if comparison is None else comparison.n,
        difference=None if comparison is None else comparison.difference,
        interval=None if comparison is None else comparison.interval,
        alpha=setup.alpha,
        margin=MARGIN,
        verdict=None if comparison is None else comparison.verdict,
        seed_sd=None if comparison is None else comparison.seed_sd,
        seeds=seeds,
        training=_spent([way.training for way in measured]),
        answering=_spent([way.answering for way in measured]),
        cost=_cost(record, way, setup),
    )


def _seed(record: Record, measured: WayMeasured, difference: float | None) -> SeedOfWay:
    scores = [] if measured.failed else _scores(record, measured)
    score = sum(scores) / len(scores) if scores else None
    return SeedOfWay(seed=measured.seed, score=score, difference=difference, failed=measured.failed)


def _spent(parts: Sequence[TrainingSpent | AnsweringSpent | None]) -> SpentOfWay | None:
    """The largest peak, the mean time, and the tokens per second of all seeds together."""
    known = [part for part in parts if part is not None]
    if not known:
        return None
    seconds = sum(part.seconds for part in known)
    peaks = [part.memory_bytes for part in known if part.memory_bytes is not None]
    return SpentOfWay(
        memory_bytes=max(peaks, default=None),
        seconds=seconds / len(known),
        tokens_per_s=sum(part.tokens for part in known) / seconds if seconds else None,
    )


def _cost(record: Record, way: Way, setup: ComparisonSetup) -> Cost:
    """Of all seeds, with races and what diverged. usd: 0, as the weights are local."""
    trials = {trial.key: names for trial, names in setup.trainings.items() if trial.way is way}
    answered = [measured for measured in record.measured(RUNG) if measured.candidate in trials]
    trained = [record.last(TrainingReached, name) for names in trials.values() for name in names]
    training_s = sum(reached.seconds for reached in trained if reached is not None)
    return Cost(
        tokens_in=sum(measured.tokens_in for measured in answered),
        tokens_out=sum(measured.tokens_out for measured in answered),
        seconds=round(sum(measured.seconds for measured in answered) + training_s, 3),
        usd=0.0,
    )


def _scores(record: Record, measured: WayMeasured) -> list[float]:
    return [item.score for item in _tested(record, measured).items]


def _items(record: Record, measured: WayMeasured) -> int:
    return 0 if measured.failed else _tested(record, measured).n


def _tested(record: Record, measured: WayMeasured) -> Measurement:
    measurement = record.measurement(RUNG, measured.key, "test")
    assert measurement is not None, "what did not fail was measured"
    return measurement
