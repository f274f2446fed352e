"""Preference pairs from scored samples: `lastresort data pairs`."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from lastresort.climb.identity import changed_keys
from lastresort.climb.prepare import PreparedTask, prepare
from lastresort.data.check import check_preferences
from lastresort.data.conversion.content import RowContent
from lastresort.data.conversion.samples import read_samples, sort_samples
from lastresort.data.conversion.sinks import refuse_existing, row_sink
from lastresort.data.conversion.writers import WRITERS, traits_of
from lastresort.data.duplicates import near_pairs, normalised
from lastresort.data.formats.rows import RawRow
from lastresort.data.preferences import PreferenceRow
from lastresort.errors import DataError, InputError
from lastresort.evals.scorers import AsksAModel, scores_of
from lastresort.ladder import PREFERENCE_RUNG
from lastresort.records.events import FilesRead, PromptCounts, RankedPair, SamplesPaired, TaskRead
from lastresort.records.record import Record
from lastresort.report.data_files import PairedFile, SamplesLeftOut
from lastresort.spec.paths import refuse_unwritable
from lastresort.spec.task import Task, given_task
from lastresort.stop import NEVER, NOTHING_KEPT, Stop, check
from lastresort.synthesis.pairs import PAIRS_A_PROMPT, Sample, pairs_from_samples
from lastresort.types import Example, Message, Progress


@dataclass(frozen=True, slots=True)
class PairsRequest:
    """The options of `lastresort data pairs`, by their names. samples: a file. run: a folder whose rung preference made pairs of
    its samples; one of the two. margin: between the best and the worst score of a prompt. own_answers: whether a row's own answer
    is chosen where no sample is right. most: pairs of a prompt.
    """

    task: Path | Task
    samples: Path | None = None
    run: Path | None = None
    out: Path | None = None
    margin: float = 0.0
    own_answers: bool = False
    most: int = PAIRS_A_PROMPT
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ScoredPair:
    """example: of train, whose input both answer."""

    example: Example
    chosen: Sample
    rejected: Sample


def pair_samples(request: PairsRequest, progress: Progress, stop: Stop = NEVER) -> PairedFile:
    """Write preference pairs for rows of train, from samples that the task's scorer scores. Never overwrites a file.

    Samples for items of dev and test, or for near copies of them, are left out. Raises InputError for options that cannot be used
    together and for the run of another task, DataError naming row and field for samples that cannot be read, and where no pair is
    left.
    """
    _check(request)
    task = given_task(request.task, dict(request.settings))
    out = request.out or task.folder / f"{task.task}-pairs.jsonl"
    refuse_unwritable("--out", out)
    refuse_existing(out)
    progress.stage("reading the task")
    prepared = prepare(task, begins=False)
    found, left = (
        _of_file(request, prepared, progress, stop) if request.samples is not None else _of_run(request, prepared)
    )
    kept, more = _different(found, request.most)
    left = replace(left, **more)
    if not kept:
        raise DataError(
            f"no pair is left ({left.sentence})",
            where=str(request.samples or request.run),
            expected="samples of which the scorer takes some as better than others",
            remedy="Sample more answers to rows of train at a higher temperature, or add --own-answers.",
        )
    shape = _write(out, kept)
    preferences = [_preference(pair) for pair in kept]
    return PairedFile(
        path=out,
        task_file=task.path,
        shape=shape,
        pairs=len(kept),
        prompts=len({pair.example.id for pair in kept}),
        chosen_characters=fmean(len(pair.chosen.text) for pair in kept),
        rejected_characters=fmean(len(pair.rejected.text) for pair in kept),
        longer=check_preferences(preferences, 0, {}).longer,
        left_out=left,
    )


def _check(request: PairsRequest) -> None:
    if (request.samples is None) == (request.run is None):
        raise InputError(
            f"found {'no samples' if request.samples is None else '--samples and --from'}",
            expected="--samples FILE or --from RUN",
            remedy="Name one of them.",
        )
    if not 0 <= request.margin < math.inf:
        raise InputError(
            f"found {request.margin:g}", where="--margin", expected="a number of at least 0", remedy="Correct it."
        )
    if not 1 <= request.most <= PAIRS_A_PROMPT:
        raise InputError(
            f"found {request.most}", where="--most", expected=f"1 to {PAIRS_A_PROMPT}", remedy="Correct it."
        )
    if request.run is not None and request.own_answers:
        raise InputError("found --from with --own-answers", expected="one of them", remedy="Leave --own-answers out.")


def _of_file(
    request: PairsRequest, prepared: PreparedTask, progress: Progress, stop: Stop
) -> tuple[list[ScoredPair], SamplesLeftOut]:
    scorer = prepared.scorer
    if isinstance(scorer, AsksAModel):
        raise InputError(
            "found a task scored by a judge",
            where=prepared.task.path.name,
            expected="a scorer that asks no model",
            remedy="Climb to the rung preference, which samples and asks the judge, and use --from RUN.",
        )
    assert request.samples is not None, "checked before"
    found = sort_samples(read_samples(request.samples), prepared.split)
    progress.stage("scoring samples", len(found.of_train))
    scored: list[tuple[Example, list[Sample]]] = []
    within = 0
    for example, samples in found.of_train:
        check(stop, resume=NOTHING_KEPT)
        texts = [sample.text for sample in samples]
        scores = scores_of(scorer, texts, [example] * len(texts))
        own = [Sample(s.text, score, s.whole) for s, score in zip(samples, scores, strict=True)]
        if request.own_answers and max(scores) < 1 <= (score := float(scorer(example.output, example))):
            own.append(Sample(example.output, score))
        gaps = [sample.score for sample in own]
        if 0 < max(gaps) - min(gaps) < request.margin:
            within += 1
        else:
            scored.append((example, own))
        progress.advance()
    paired = pairs_from_samples([samples for _, samples in scored], most=None)
    left = SamplesLeftOut(
        held_out=found.held_out, ambiguous=found.ambiguous, unknown=found.unknown, blank=found.blank, within=within
    )
    pairs = [ScoredPair(scored[pair.prompt][0], pair.chosen, pair.rejected) for pair in paired.pairs]
    return pairs, _with_counts(left, paired.counts)


def _of_run(request: PairsRequest, prepared: PreparedTask) -> tuple[list[ScoredPair], SamplesLeftOut]:
    assert request.run is not None, "checked before"
    with Record.open(request.run, read_only=True) as record:
        known = record.last(SamplesPaired, PREFERENCE_RUNG)
        if known is None:
            raise InputError(
                "this run made no pairs of its own samples",
                where=str(request.run),
                expected="a run that reached the rung preference without pairs or rewards of yours",
                remedy="Name a file with --samples.",
            )
        _refuse_another_task(record, known.pairs, prepared, request.run)
    train = {example.id: example for example in prepared.split.train}
    pairs, within = list[ScoredPair](), set[str]()
    for pair in known.pairs:
        if pair.chosen.score - pair.rejected.score < request.margin:
            within.add(pair.example)
        else:
            sides = (Sample(side.text, side.score, side.whole) for side in (pair.chosen, pair.rejected))
            pairs.append(ScoredPair(train[pair.example], *sides))
    return pairs, _with_counts(SamplesLeftOut(within=len(within)), known.counts)


_DECIDES = ("examples", "columns", "split", "output", "score")  # of a task: which rows it has, and what a score means


def _refuse_another_task(record: Record, pairs: Sequence[RankedPair], prepared: PreparedTask, run: Path) -> None:
    """The record has the ids of the rows alone, which another task may give to other rows."""
    task, files = record.last(TaskRead), record.last(FilesRead)
    known, now = ({} if task is None else task.task), prepared.task.resolved()
    changed = changed_keys({key: known.get(key) for key in _DECIDES}, {key: now.get(key) for key in _DECIDES})
    if files is not None:
        changed += [name for name, sha256 in files.files.items() if prepared.files.get(name) != sha256]
    if not changed and not {pair.example for pair in pairs} <= {example.id for example in prepared.split.train}:
        changed = ["the rows of train"]
    if task is None or files is None or changed:
        raise InputError(
            f"found the run of a task that differs in {', '.join(changed)}"
            if changed
            else "found a run without a task",
            where=str(run),
            expected=f"a run of {prepared.task.path.name} as it is now, with the same rows, split and score",
            remedy="Name a run of this task, or sample again and name the file with --samples.",
        )


def _with_counts(left: SamplesLeftOut, counts: PromptCounts) -> SamplesLeftOut:
    return replace(
        left, all_right=counts.all_right, all_wrong=counts.all_wrong, ties=counts.ties, unusable=counts.unusable
    )


def _different(pairs: Sequence[ScoredPair], most: int) -> tuple[list[ScoredPair], dict[str, int]]:
    """At most so many pairs of each prompt, and how many were left out, by the names of SamplesLeftOut: without those whose answers
    are nearly the same, and without cut answers, since a file of pairs cannot say that their end is not to be trained.
    """
    kept: dict[str, list[ScoredPair]] = {}
    left = Counter[str]()
    for pair in pairs:
        own = kept.setdefault(pair.example.id, [])
        chosen, rejected = pair.chosen.text, pair.rejected.text
        if not (pair.chosen.whole and pair.rejected.whole):
            left["cut"] += 1
        elif normalised(chosen) == normalised(rejected) or near_pairs([chosen, rejected]):
            left["alike"] += 1
        elif len(own) == most:
            left["beyond"] += 1
        else:
            own.append(pair)
    return [pair for own in kept.values() for pair in own], dict(left)


def _write(path: Path, pairs: Sequence[ScoredPair]) -> str:
    """The name of the shape: plain texts where every prompt is one question."""
    contents = [
        RowContent(
            pair.example.input,
            _answers(pair),
            None,
            {"example": pair.example.id, "score_chosen": pair.chosen.score, "score_rejected": pair.rejected.score},
            RawRow({}, pair.example.row, f"{pair.example.source}, row {pair.example.row}"),
        )
        for pair in pairs
    ]
    plain = all(set(traits_of(content)) <= WRITERS["preference"].holds for content in contents)
    shape = "preference" if plain else "preference-chat"
    with row_sink(path) as sink:
        for content in contents:
            sink.write({**WRITERS[shape].write(content), **content.further}, content.row.place)
    return shape


def _answers(pair: ScoredPair) -> tuple[tuple[Message, ...], tuple[Message, ...]]:
    return (Message("assistant", pair.chosen.text),), (Message("assistant", pair.rejected.text),)


def _preference(pair: ScoredPair) -> PreferenceRow:
    return PreferenceRow(pair.example.input, _answers(pair), "")
