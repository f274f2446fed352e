"""What was noted of every way and seed -> the `compare` of decision.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lastresort.after.compare.names import MADE, asked_before
from lastresort.after.compare.training import RUNG
from lastresort.evals.evidence import OverSeeds, over_seeds
from lastresort.records.decision_parts import ComparedWay
from lastresort.records.events import (
    AnsweringSpent,
    TrainingReached,
    TrainingSpent,
    WayMeasured,
    WaysCompared,
    WaysRefused,
    way_key,
)
from lastresort.records.reasons import NothingCompared, Reason
from lastresort.records.record import Measurement, Record
from lastresort.report.words.comparison import said

Entry = Mapping[str, Any]


MARGIN = 0.03  # the most that QLoRA is commonly said to cost


@dataclass(frozen=True, slots=True)
class ComparisonSetup:
    """What the ways have in common. names: the reference first. groups: labels of the test items in the order of their answers.
    alpha: of each limit of an interval, the whole of it to each of several ways: they are estimates and decide nothing. epoch: to
    which all were trained. seed: of the resampling.
    """

    names: tuple[str, ...]
    seeds: tuple[int, ...]
    groups: tuple[str, ...] | None
    alpha: float
    epoch: int
    seed: int


def shown(record: Record) -> tuple[ComparedWay, ...]:
    """The `compare` of a decision: what was found of the ways that were asked for last; empty until all of them are measured."""
    asked, found = asked_before(record), record.last(WaysCompared)
    if asked is None or found is None or (found.names, found.seeds) != (asked.names, asked.seeds):
        return ()
    return found.ways


def why_nothing(record: Record) -> list[Reason]:
    """A reason for the decision where a comparison was asked for and was not begun."""
    asked, refused = asked_before(record), record.last(WaysRefused)
    if asked is None or not asked.names or refused is None or record.last(WayMeasured) is not None:
        return []
    return [NothingCompared(asked.names, refused.because)]


def entries_of(record: Record, whole: ComparisonSetup) -> list[dict[str, Any]]:
    """An entry a way, in their order."""
    notes = {name: [_done(record, name, seed) for seed in whole.seeds] for name in whole.names}
    reference = notes[whole.names[0]]
    entries: list[dict[str, Any]] = []
    for name in whole.names:
        found = None if name == whole.names[0] else _difference(record, reference, notes[name], whole)
        entry = _entry(record, name, notes[name], found, whole)
        entries.append({**entry, "said": said(entry, entries[0] if entries else None)})
    return entries


def _done(record: Record, way: str, seed: int) -> WayMeasured:
    noted = record.last(WayMeasured, way_key(way, seed))
    assert noted is not None, "every way and seed is noted before they are compared"
    return noted


def _difference(
    record: Record, reference: Sequence[WayMeasured], other: Sequence[WayMeasured], whole: ComparisonSetup
) -> tuple[OverSeeds, tuple[int, ...]] | None:
    """Of the seeds with which both were trained, and these; None where they are fewer than two."""
    both = [pair for pair in zip(reference, other, strict=True) if not any(note.failed for note in pair)]
    if len(both) < 2:
        return None
    first, second = ([_scores(record, pair[side]) for pair in both] for side in (0, 1))
    found = over_seeds(first, second, margin=MARGIN, groups=whole.groups, alpha=whole.alpha, seed=whole.seed)
    return found, tuple(pair[0].seed for pair in both)


def _entry(
    record: Record,
    way: str,
    notes: Sequence[WayMeasured],
    compared: tuple[OverSeeds, tuple[int, ...]] | None,
    whole: ComparisonSetup,
) -> dict[str, Any]:
    found, seeds = compared or (None, ())
    differences = dict(zip(seeds, found.by_seed, strict=True)) if found is not None else {}
    parts = [_seed(record, note, differences.get(note.seed)) for note in notes]
    scores = [part["score"] for part in parts if part["score"] is not None]
    rates = [note.training.learning_rate for note in notes if note.training is not None]
    return {
        "way": way,
        "made_of": MADE.get(way),
        "learning_rate": rates[0] if rates else None,
        "epoch": whole.epoch,
        "score": sum(scores) / len(scores) if scores else None,
        "n": found.n if found is not None else len(set(whole.groups)) if whole.groups else _items(record, notes),
        "difference": None if found is None else found.difference,
        "interval": None if found is None else list(found.interval),
        "alpha": whole.alpha,
        "margin": MARGIN,
        "verdict": None if found is None else found.verdict,
        "seed_sd": None if found is None else found.seed_sd,
        "seeds": parts,
        "training": _spent([note.training for note in notes]),
        "answering": _spent([note.answering for note in notes]),
        "cost": _cost(record, way),
    }


def _seed(record: Record, note: WayMeasured, difference: float | None) -> dict[str, Any]:
    scores = [] if note.failed else _scores(record, note)
    score = sum(scores) / len(scores) if scores else None
    return {"seed": note.seed, "score": score, "difference": difference, "failed": note.failed}


def _spent(parts: Sequence[TrainingSpent | AnsweringSpent | None]) -> dict[str, Any] | None:
    """The largest peak, the mean time, and the tokens a second of all seeds together."""
    known = [part for part in parts if part is not None]
    if not known:
        return None
    seconds = sum(part.seconds for part in known)
    peaks = [part.memory_bytes for part in known if part.memory_bytes is not None]
    return {
        "memory_bytes": max(peaks, default=None),
        "seconds": seconds / len(known),
        "tokens_per_s": sum(part.tokens for part in known) / seconds if seconds else None,
    }


def _cost(record: Record, way: str) -> dict[str, Any]:
    """Of all seeds, with races and what diverged. usd: nothing, as the weights are here."""
    start = way_key(way, 0).removesuffix("0")
    done = [m for m in record.measured(RUNG) if m.candidate.startswith(start)]
    training = {
        one.candidate: one.seconds
        for one in record.all(TrainingReached)
        if one.rung == RUNG and one.candidate.startswith(f"{RUNG}-{start}")
    }
    return {
        "tokens_in": sum(m.tokens_in for m in done),
        "tokens_out": sum(m.tokens_out for m in done),
        "seconds": round(sum(m.seconds for m in done) + sum(training.values()), 3),
        "usd": 0.0,
    }


def _scores(record: Record, note: WayMeasured) -> list[float]:
    return [item.score for item in _tested(record, note).items]


def _items(record: Record, notes: Sequence[WayMeasured]) -> int:
    return max((_tested(record, note).n for note in notes if not note.failed), default=0)


def _tested(record: Record, note: WayMeasured) -> Measurement:
    found = record.measurement(RUNG, note.key, "test")
    assert found is not None, "what did not fail was measured"
    return found
