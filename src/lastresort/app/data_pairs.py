"""Preference pairs from scored samples: `lastresort data pairs`. A file or a run has the samples, or a model gives them now."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from lastresort.app.data_samples import SAMPLES, SampleOrder, forecast_samples, sample_model
from lastresort.app.prices import refuse_below, refuse_unknown_model
from lastresort.app.start import RUNS
from lastresort.climb.identity import differing
from lastresort.climb.prepare import PreparedTask, prepare
from lastresort.data.check import check_preferences
from lastresort.data.conversion.content import RowContent
from lastresort.data.conversion.samples import read_samples, sort_samples
from lastresort.data.conversion.sinks import refuse_existing, row_sink
from lastresort.data.conversion.writers import WRITERS, traits_of
from lastresort.data.duplicates import near_pairs, normalised
from lastresort.data.formats.rows import RawRow
from lastresort.data.preferences import PreferenceRow
from lastresort.errors import SAME_COMMAND, DataError, InputError
from lastresort.evals.scorers import AsksAModel, format_ok, scores_of
from lastresort.ladder import PREFERENCE_RUNG
from lastresort.records.atomic import LOCK, disk_errors, held
from lastresort.records.events.run import FilesRead, TaskRead
from lastresort.records.events.training import PromptCounts, RankedPair, SamplesPaired
from lastresort.records.record import Record
from lastresort.report.words.data_files import PairedFile, PairsForecast, SampledAnswers, SamplesLeftOut
from lastresort.report.words.wording import listed
from lastresort.spec.paths import refuse_unwritable
from lastresort.spec.task import Task, given_task
from lastresort.stop import NEVER, NOTHING_KEPT, GoOn, Stop, check
from lastresort.synthesis.pairs import PAIRS_A_PROMPT, Sample, pairs_from_samples
from lastresort.types import Example, Message, Progress


@dataclass(frozen=True, slots=True)
class PairsRequest:
    """The options of `lastresort data pairs`, by their names. samples: a file. run: a folder whose rung preference made pairs of
    its samples. model: that is sampled now; one of the three. margin: between the best and the worst score of a prompt.
    own_answers: whether a row's own answer is chosen where no sample is right. most: pairs of a prompt. n: answers to a row, rows:
    of train, None for all; usd and the prices as of `SynthRequest`: all of a model. runs: the folder with the response cache.
    """

    task: Path | Task
    samples: Path | None = None
    run: Path | None = None
    out: Path | None = None
    margin: float = 0.0
    own_answers: bool = False
    most: int = PAIRS_A_PROMPT
    settings: Mapping[str, Any] = field(default_factory=dict)
    model: str | None = None
    n: int | None = None
    rows: int | None = None
    usd: float | None = None
    prompt_price: float | None = None
    output_price: float | None = None
    runs: Path = RUNS

    @property
    def order(self) -> SampleOrder | None:
        """What a model is asked for; None where samples are there."""
        if self.model is None:
            return None
        n = SAMPLES if self.n is None else self.n
        return SampleOrder(self.model, n, self.rows, self.usd, (self.prompt_price, self.output_price), self.runs)


@dataclass(frozen=True, slots=True)
class ScoredPair:
    """example: of train, whose input both answer."""

    example: Example
    chosen: Sample
    rejected: Sample


def pair_samples(
    request: PairsRequest, progress: Progress, stop: Stop = NEVER, go_on: GoOn | None = None
) -> PairedFile:
    """Write preference pairs for rows of train, from samples that the task's scorer scores. Never overwrites a file.

    Samples for items of dev and test, or for near copies of them, are left out. go_on: asks the user before paid calls of a model,
    None to start them without. Raises InputError for options that cannot be used together and for the run of another task,
    DataError naming row and field for samples that cannot be read, and where no pair is left, BudgetError at the limit of money:
    the same call goes on with a higher one, as a model's answers are kept.
    """
    _check(request)
    task, out = _named(request)
    with _held(out) if request.model is not None else nullcontext():
        return _paired(request, task, out, progress, stop, go_on)


def forecast_pairs(request: PairsRequest, progress: Progress) -> PairsForecast:
    """What --model would be asked, and what is kept of that. Asks no model, runs no code of the user, writes no pairs; the model is
    opened, as by `forecast_samples`.

    Raises InputError as `pair_samples` does, and where no model is named.
    """
    _check(request)
    order = request.order
    if order is None:
        raise InputError(
            f"found --dry-run with {'--samples' if request.run is None else '--from'}",
            expected="--dry-run with --model, which asks a model",
            remedy="Leave it out.",
        )
    task, _ = _named(request)
    progress.stage("reading the task")
    prepared = prepare(task, run_code=False, begins=False)
    _refuse_judge(prepared)
    return forecast_samples(order, prepared, progress)


def _named(request: PairsRequest) -> tuple[Task, Path]:
    """The task, and where the pairs are written."""
    task = given_task(request.task, dict(request.settings))
    out = request.out or task.folder / f"{task.task}-pairs.jsonl"
    refuse_unwritable("--out", out)
    refuse_existing(out)
    if (order := request.order) is not None:
        refuse_unknown_model(order.place(task), task.folder, "--model")
    return task, out


@contextmanager
def _held(out: Path) -> Iterator[None]:
    """Two commands for the same file would ask the model twice, and one of them would write nothing. No empty folder is left
    behind: a stop needs nothing from there.
    """
    folder = out.with_name(f".{out.name}")
    missing = [place for place in out.parents if not place.exists()]
    with disk_errors(folder):
        refuse_unwritable("--out", folder / LOCK)
        folder.mkdir(parents=True, exist_ok=True)
    wait = "Wait for it, or name another file with --out."
    try:
        with held(folder, "another process is making these pairs", expected="one process a file", remedy=wait):
            try:
                refuse_existing(out)
                yield
            finally:
                with suppress(OSError):
                    (folder / LOCK).unlink()  # while it is held, so that no other process's lock is removed
    finally:
        with suppress(OSError):  # synthetic rows may have a journal there
            for place in (folder, *missing):
                place.rmdir()


def _paired(
    request: PairsRequest, task: Task, out: Path, progress: Progress, stop: Stop, go_on: GoOn | None
) -> PairedFile:
    progress.stage("reading the task")
    prepared = prepare(task, begins=False)
    sampled: SampledAnswers | None = None
    if (order := request.order) is not None:
        sampled, pairs, left_out = _of_model(request, order, prepared, progress, stop, go_on)
    elif request.samples is not None:
        pairs, left_out = _of_file(request, prepared, progress, stop)
    else:
        pairs, left_out = _of_run(request, prepared)
    kept_pairs, more = _different(pairs, request.most)
    left_out = replace(left_out, **more)
    if not kept_pairs:
        raise DataError(
            f"no pair is left ({left_out.sentence})",
            where=str(request.samples or request.run or request.model),
            expected="samples of which the scorer takes some as better than others",
            remedy="Sample more answers to each row, from a model that is sometimes right"
            + (", or add --own-answers." if request.run is None and not request.own_answers else "."),
        )
    shape = _write(out, kept_pairs)
    preferences = [PreferenceRow(pair.example.input, _answers(pair), "") for pair in kept_pairs]
    return PairedFile(
        path=out,
        task_file=task.path,
        shape=shape,
        pairs=len(kept_pairs),
        prompts=len({pair.example.id for pair in kept_pairs}),
        chosen_characters=fmean(len(pair.chosen.text) for pair in kept_pairs),
        rejected_characters=fmean(len(pair.rejected.text) for pair in kept_pairs),
        longer=check_preferences(preferences, 0, {}).longer,
        by_form=sum(_by_form(pair, prepared) for pair in kept_pairs),
        left_out=left_out,
        sampled=sampled,
    )


def _check(request: PairsRequest) -> None:
    sources = {"--samples": request.samples, "--from": request.run, "--model": request.model}
    named = [option for option, value in sources.items() if value is not None]
    if len(named) != 1:
        raise InputError(
            f"found {listed(named) or 'no samples'}",
            expected="--samples FILE, --from RUN or --model MODEL",
            remedy="Name one of them.",
        )
    of_model: tuple[tuple[str, float | None, float], ...] = (
        ("--n", request.n, 2),
        ("--rows", request.rows, 1),
        ("--usd", request.usd, 0),
        ("--prompt-price", request.prompt_price, 0),
        ("--output-price", request.output_price, 0),
    )
    for option, number, _ in of_model:
        if number is not None and request.model is None:
            raise InputError(
                f"found {option} with {named[0]}",
                expected=f"{option} with --model, which samples now",
                remedy="Leave it out.",
            )
    refuse_below(*of_model, ("--margin", request.margin, 0))
    if not 1 <= request.most <= PAIRS_A_PROMPT:
        raise InputError(
            f"found {request.most}", where="--most", expected=f"1 to {PAIRS_A_PROMPT}", remedy="Correct it."
        )
    if request.run is not None and request.own_answers:
        raise InputError("found --from with --own-answers", expected="one of them", remedy="Leave --own-answers out.")


def _of_file(
    request: PairsRequest, prepared: PreparedTask, progress: Progress, stop: Stop
) -> tuple[list[ScoredPair], SamplesLeftOut]:
    _refuse_judge(prepared)
    assert request.samples is not None, "checked before"
    sorted_samples = sort_samples(read_samples(request.samples), prepared.split)
    left_out = SamplesLeftOut(
        held_out=sorted_samples.held_out,
        ambiguous=sorted_samples.ambiguous,
        unknown=sorted_samples.unknown,
        blank=sorted_samples.blank,
    )
    of_train = [
        (example, [_Text(one.text, one.whole) for one in samples]) for example, samples in sorted_samples.of_train
    ]
    return _scored(request, prepared, of_train, left_out, progress, stop, resume=NOTHING_KEPT)


def _refuse_judge(prepared: PreparedTask) -> None:
    if isinstance(prepared.scorer, AsksAModel):
        raise InputError(
            "found a task scored by a judge",
            where=prepared.task.path.name,
            expected="a scorer that asks no model",
            remedy="Climb to the rung preference, which samples and asks the judge, and use --from RUN.",
        )


class _Text(NamedTuple):
    """A sample before it is scored. whole: it was not cut."""

    text: str
    whole: bool


def _scored(
    request: PairsRequest,
    prepared: PreparedTask,
    of_train: Sequence[tuple[Example, Sequence[_Text]]],
    left_out: SamplesLeftOut,
    progress: Progress,
    stop: Stop,
    *,
    resume: str,
) -> tuple[list[ScoredPair], SamplesLeftOut]:
    """resume: what a user does after a stop."""
    scorer = prepared.scorer
    progress.stage("scoring samples", len(of_train))
    scored: list[tuple[Example, list[Sample]]] = []
    within = 0
    for example, samples in of_train:
        check(stop, resume=resume)
        texts = [sample.text for sample in samples]
        scores = scores_of(scorer, texts, [example] * len(texts))
        row_samples = [Sample(s.text, score, s.whole) for s, score in zip(samples, scores, strict=True)]
        if request.own_answers and max(scores) < 1 <= (score := float(scorer(example.output, example))):
            row_samples.append(Sample(example.output, score))
        gaps = [sample.score for sample in row_samples]
        if 0 < max(gaps) - min(gaps) < request.margin:
            within += 1
        else:
            scored.append((example, row_samples))
        progress.advance()
    paired = pairs_from_samples([samples for _, samples in scored], most=None)
    pairs = [ScoredPair(scored[pair.prompt][0], pair.chosen, pair.rejected) for pair in paired.pairs]
    return pairs, _with_counts(replace(left_out, within=within), paired.counts)


def _of_model(
    request: PairsRequest,
    order: SampleOrder,
    prepared: PreparedTask,
    progress: Progress,
    stop: Stop,
    go_on: GoOn | None,
) -> tuple[SampledAnswers, list[ScoredPair], SamplesLeftOut]:
    _refuse_judge(prepared)
    model_samples = sample_model(order, prepared, progress, stop, go_on)
    texts = [
        (row, [_Text(one.text, one.finish == "stop") for one in row_samples if one.text.strip()])
        for row, row_samples in model_samples.answers
    ]
    blank = model_samples.sampled.n * len(texts) - sum(len(row_samples) for _, row_samples in texts)
    left_out = SamplesLeftOut(blank=blank, no_room=model_samples.no_room, conflicting=model_samples.conflicting)
    of_train = [(row, row_samples) for row, row_samples in texts if row_samples]
    return model_samples.sampled, *_scored(request, prepared, of_train, left_out, progress, stop, resume=SAME_COMMAND)


def _of_run(request: PairsRequest, prepared: PreparedTask) -> tuple[list[ScoredPair], SamplesLeftOut]:
    assert request.run is not None, "checked before"
    with Record.open(request.run, read_only=True) as record:
        samples_paired = record.last(SamplesPaired, PREFERENCE_RUNG)
        if samples_paired is None:
            raise InputError(
                "this run made no pairs of its own samples",
                where=str(request.run),
                expected="a run that reached the rung preference without pairs or rewards of yours",
                remedy="Name a file with --samples.",
            )
        _refuse_another_task(record, samples_paired.pairs, prepared, request.run)
    train = {row.id: row for row in prepared.split.train}
    pairs, within = list[ScoredPair](), set[str]()
    for pair in samples_paired.pairs:
        if pair.chosen.score - pair.rejected.score < request.margin:
            within.add(pair.example)
        else:
            sides = (Sample(side.text, side.score, side.whole) for side in (pair.chosen, pair.rejected))
            pairs.append(ScoredPair(train[pair.example], *sides))
    left_out = SamplesLeftOut(within=len(within), conflicting=samples_paired.counts.conflicting)
    return pairs, _with_counts(left_out, samples_paired.counts)


_DECIDES = ("examples", "columns", "split", "output", "score")  # of a task: which rows it has, and what a score means


def _refuse_another_task(record: Record, pairs: Sequence[RankedPair], prepared: PreparedTask, run: Path) -> None:
    """The record has the ids of the rows alone, which another task may give to other rows."""
    task, files = record.last(TaskRead), record.last(FilesRead)
    of_run = ({} if task is None else task.task), ({} if files is None else files.files)
    changed = differing(of_run, (prepared.task.resolved(), prepared.files), _DECIDES)
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


def _with_counts(left_out: SamplesLeftOut, counts: PromptCounts) -> SamplesLeftOut:
    return replace(
        left_out, all_right=counts.all_right, all_wrong=counts.all_wrong, ties=counts.ties, unusable=counts.unusable
    )


def _different(pairs: Sequence[ScoredPair], most: int) -> tuple[list[ScoredPair], dict[str, int]]:
    """At most so many pairs of each prompt, and how many were left out, by the names of SamplesLeftOut: without those whose answers
    are nearly the same, and without cut answers, since a file of pairs cannot say that their end is not to be trained.
    """
    by_prompt: dict[str, list[ScoredPair]] = {}
    left_out = Counter[str]()
    for pair in pairs:
        prompt_pairs = by_prompt.setdefault(pair.example.id, [])
        chosen, rejected = pair.chosen.text, pair.rejected.text
        if not (pair.chosen.whole and pair.rejected.whole):
            left_out["cut"] += 1
        elif normalised(chosen) == normalised(rejected) or near_pairs([chosen, rejected]):
            left_out["alike"] += 1
        elif len(prompt_pairs) == most:
            left_out["beyond"] += 1
        else:
            prompt_pairs.append(pair)
    return [pair for prompt_pairs in by_prompt.values() for pair in prompt_pairs], dict(left_out)


def _by_form(pair: ScoredPair, prepared: PreparedTask) -> bool:
    """Whether the rejected answer lacks the form that the task asks for, and the chosen one has it."""
    output = prepared.task.output
    chosen, rejected = (
        format_ok(side.text, json_schema=output.json_schema, choices=output.choices, scorer=prepared.scorer.name)
        for side in (pair.chosen, pair.rejected)
    )
    return chosen is True and rejected is False


def _write(path: Path, pairs: Sequence[ScoredPair]) -> str:
    """The name of the shape: plain texts where every prompt is one question."""
    contents = [
        RowContent(
            pair.example.input,
            _answers(pair),
            None,
            {"example": pair.example.id, "score_chosen": pair.chosen.score, "score_rejected": pair.rejected.score},
            RawRow({}, pair.example.row, pair.example.place),
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
