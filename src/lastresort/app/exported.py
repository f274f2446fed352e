"""What can be exported of a climb: the training of the winner, or of another rung that trained, with its rows.

sft and full: the task's rows under its instruction, then replay; dev is held out. preference: pairs, labelled answers, pairs of the
model's own samples, or prompts with their reward.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lastresort.after.recheck.finished import measured_system, of_another_version, read_again
from lastresort.climb.prepare import PreparedTask
from lastresort.data.preferences import PreferenceRow
from lastresort.errors import DataError, InputError, PrerequisiteError
from lastresort.interop.exporting.base import layers_in
from lastresort.interop.exporting.job import ExportableTraining, Row
from lastresort.interop.exporting.rows import messages, pair_row, prompt_row
from lastresort.interop.exporting.trained import absolute_term, context_of
from lastresort.ladder import RUNGS, trains, trains_all
from lastresort.models.open import absolute_name
from lastresort.models.tokenizer import tokenizer_on_disk
from lastresort.records.decision import RunView
from lastresort.records.events.run import ModelOpened, RowsTooLong
from lastresort.records.events.search import SystemFrozen
from lastresort.records.events.training import CandidateTrained, SamplesPaired, TextLearned, TrainingReached
from lastresort.records.record import Record
from lastresort.report.decision import decision_in
from lastresort.report.words import training as words
from lastresort.rungs.preference.items import (
    columns_of,
    render_preferences,
    split_held_out,
    with_instruction,
    with_room,
)
from lastresort.rungs.preference.samples import noted_pairs
from lastresort.rungs.supervised.replay_rows import recorded_replay, replay_size
from lastresort.spec.values import ReadContext, listed
from lastresort.synthesis.replay import Replay
from lastresort.systems.compose import compose
from lastresort.systems.files import candidate_folder, load_system
from lastresort.systems.running import refuse_changed_run
from lastresort.systems.system import PromptDesign, System
from lastresort.types import Example, Message, ReplayPrompts


@dataclass(frozen=True, slots=True)
class ExportSource:
    """noted: the training in the record. trained: the candidate that came of it. system: the candidate as it answers. base: name of
    its model.
    """

    run: Path
    record: Record
    prepared: PreparedTask
    noted: TrainingReached
    trained: CandidateTrained
    system: System
    base: str

    def tokenizer(self) -> tuple[Any, int | None]:
        """Of the base, with the model's context. Raises PrerequisiteError where it is not local."""
        on_disk = tokenizer_on_disk(self.base, self.run)
        if on_disk is None:
            raise PrerequisiteError(
                "the tokenizer of the model is not on this machine, and is needed to tell which rows fit its context",
                where=self.base,
            )
        return on_disk.tokenizer, on_disk.context_tokens

    def check_count(self, rows: int) -> None:
        """Raises DataError unless as many rows were trained on."""
        if rows != self.noted.rows:
            raise DataError(
                f"found {rows} rows, but {self.noted.rows} were trained on",
                where=str(self.run),
                expected="the rows of the training",
                remedy="The task's files or this program have changed since the climb: climb again.",
            )


@dataclass(frozen=True, slots=True)
class ExportRows:
    """notes: what the export cannot express. keys: of the training file, beyond those of the training's settings."""

    train: tuple[Row, ...]
    held_out: tuple[Row, ...]
    notes: tuple[str, ...]
    keys: Mapping[str, Any]


def supervised_rows(source: ExportSource, rung: str) -> ExportRows:
    task, split = source.prepared.task, source.prepared.split
    rows_too_long = source.record.last(RowsTooLong)
    too_long = frozenset(() if rows_too_long is None else rows_too_long.train)
    examples = [example for example in split.train if example.id not in too_long]
    section = task.full if trains_all(rung) else task.sft
    replay = _replay(source, len(examples), source.trained.replay or 0.0, section.replay_prompts)
    design = PromptDesign(task.about.strip())
    rows = (
        *_supervised_rows(design, examples),
        *(_supervised_row(example.input, example.output) for example in replay.examples),
    )
    source.check_count(len(rows))
    held_out, notes = (
        tuple(_supervised_rows(design, split.dev)),
        tuple(_replay_notes(replay, held=source.noted.held)),
    )
    return ExportRows(rows, held_out, notes, _supervised_start(source, rung))


def _supervised_rows(design: PromptDesign, examples: Sequence[Example]) -> list[Row]:
    return [_supervised_row(compose(design, example.input, ()), example.output) for example in examples]


def _supervised_row(turns: Sequence[Message], answer: str) -> Row:
    return {"messages": messages([*turns, Message("assistant", answer)])}


def _replay(source: ExportSource, rows: int, share: float, prompts: ReplayPrompts) -> Replay:
    size = replay_size(rows, share, prompts)
    if not size:
        return Replay()
    replay = recorded_replay(source.record, size, prompts)
    if replay is None:
        raise DataError(
            f"the record does not hold the {size} rows of replay",
            where=str(source.run),
            expected="those of the training",
        )
    return replay


def _replay_notes(replay: Replay, *, held: bool) -> list[str]:
    if not replay.examples:
        return []
    n_cut = sum(not end for end in replay.ends)
    return words.of_replay_export(len(replay.examples), n_cut, held=held)


def _supervised_start(source: ExportSource, rung: str) -> Mapping[str, Any]:
    """Full training may start from a base that has read the task's documents first."""
    pretrained = source.run / "models" / "pretrained"
    if source.record.last(TextLearned, rung) is None or not pretrained.is_dir():
        return {}
    return {"model": str(pretrained.resolve())}


def preference_rows(source: ExportSource, rung: str) -> ExportRows:
    start = _preference_start(source, rung)
    if source.noted.learns_from == "reward":
        return _prompts(source, start)
    tokenizer, limit = source.tokenizer()
    design, kwargs = source.system.prompt, dict(source.system.template_kwargs)
    rendered = render_preferences(
        _preferences(source, rung), design, tokenizer, context_tokens=limit, template_kwargs=kwargs
    )
    train, held = split_held_out(list(rendered.rows), source.prepared.task.split.seed)
    replay = source.noted.replay_rows or 0
    source.check_count(len(train) + replay)
    train_preferences = [preferred for preferred, _ in train]
    rows, held_out = (
        _preference_rows(design, train_preferences),
        _preference_rows(design, [preferred for preferred, _ in held]),
    )
    notes = [*_preference_notes(train_preferences), *([words.replay_not_exported(replay)] if replay else [])]
    return ExportRows(rows, held_out, tuple(notes), start)


def _preferences(source: ExportSource, rung: str) -> Sequence[PreferenceRow]:
    if source.noted.learns_from == "samples":
        samples_paired = source.record.last(SamplesPaired, rung)
        if samples_paired is None:
            raise DataError(
                "the record does not hold the samples", where=str(source.run), expected="those of the training"
            )
        return noted_pairs(samples_paired, source.prepared.split.train)
    return source.prepared.preferences or ()


def _preference_rows(design: PromptDesign, preferences: Sequence[PreferenceRow]) -> tuple[Row, ...]:
    return tuple(_preference_row(design, preferred) for preferred in preferences)


def _preference_row(design: PromptDesign, preferred: PreferenceRow) -> Row:
    prompt = with_instruction(design, preferred.prompt)
    if preferred.label is None:
        return pair_row(prompt, *preferred.answers)
    return {"messages": messages([*prompt, *preferred.answers[0]]), "label": preferred.label}


def _preference_notes(preferences: Sequence[PreferenceRow]) -> list[str]:
    n_cut = sum(not all(preferred.ends) for preferred in preferences)
    return [words.of_cut_rows(n_cut)] if n_cut else []


def _preference_start(source: ExportSource, rung: str) -> dict[str, Any]:
    """The adapter that the training continued; it has none of its own then."""
    below = RUNGS[rung].starts_from
    frozen = None if below is None else source.record.last(SystemFrozen, below)
    if source.noted.start in (None, "base") or below is None or frozen is None:
        return {}
    system = load_system(candidate_folder(source.run, below, str(source.noted.start)))
    return {"start_from": str(system.adapter), "adapter": None} if system.adapter is not None else {}


def _prompts(source: ExportSource, start: Mapping[str, Any]) -> ExportRows:
    task, train = source.prepared.task, source.prepared.split.train
    model_opened = source.record.last(ModelOpened)
    assert model_opened is not None, "a run that trained has opened its model"
    new_tokens = model_opened.max_new_tokens
    tokenizer, limit = source.tokenizer()
    design, kwargs = source.system.prompt, dict(source.system.template_kwargs)
    examples = with_room(train, design, tokenizer, limit, kwargs, new_tokens)
    source.check_count(len(examples))
    columns = columns_of(examples)
    rows = tuple(
        prompt_row(compose(design, example.input, ()), example, dict(columns.get(example.id, {})))
        for example in examples
    )
    reading = ReadContext(task.folder)
    keys = {
        **start,
        "reward": [absolute_term(term.written(reading), task.folder) for term in task.reward],
        "group_size": task.preference.samples,
        "max_new_tokens": new_tokens,
    }
    has_form = task.output.json_schema is not None or task.output.choices is not None
    notes = (words.form_not_exported(),) if has_form else ()
    return ExportRows(rows, (), notes, keys)


def of_climb(run: Path, rung: str | None = None, task_file: Path | None = None) -> ExportableTraining:
    """The training of the winner, or of `rung`, with the rows that it was trained on. task_file: as `open_finished` takes it.

    Raises InputError where nothing was trained there, DataError where the run is not finished, it or its files have changed,
    or the record does not hold the rows.
    """
    with Record.open(run, read_only=True) as record:
        decision = decision_in(record)
        refuse_changed_run(record, decision)
        name, candidate = _chosen(run, record, decision, rung)
        system = measured_system(run, record, name, candidate)
        candidate_trained, reached = _training(run, record, candidate)
        preferring = RUNGS[name].learns == "preferences"
        unused = ("path", "knowledge") if preferring else ("path", "preferences", "reward", "knowledge")
        path, _, prepared = read_again(run, record, task_file, without=unused)
        base = absolute_name(prepared.task.tuned_model, path.parent)
        source = ExportSource(run, record, prepared, reached, candidate_trained, system, base)
        rows = preference_rows(source, name) if preferring else supervised_rows(source, name)
        document = {**_document(reached, source), **rows.keys}
        layers = layers_in(system.adapter) if system.adapter is not None else ()
        notes = (*rows.notes, *_kept_differently(reached, candidate_trained))
        title = f"{decision.task}, {name} of a climb"
        return ExportableTraining(
            title, document, rows.train, rows.held_out, layers, context_of(str(document["model"])), notes
        )


def _chosen(run: Path, record: Record, decision: RunView, rung: str | None) -> tuple[str, str]:
    """The rung and the name of its system."""
    candidate_by_rung = {one.name: one.chosen for one in decision.rungs if one.chosen is not None}
    trained_names = [name for name in candidate_by_rung if trains(name)]
    if rung is None:
        return _winner(run, decision, candidate_by_rung, trained_names)
    if rung in trained_names:
        return rung, str(candidate_by_rung[rung])
    trained_note = f"; {listed(trained_names)} did" if trained_names else ""
    raise InputError(
        f"the rung {rung} trained nothing in this climb{trained_note}",
        where=str(run),
        expected="a rung that trained",
        remedy=f"Name {listed(trained_names, 'or')}." if trained_names else "Climb further.",
    )


def _winner(
    run: Path, decision: RunView, candidate_by_rung: Mapping[str, str], trained_names: list[str]
) -> tuple[str, str]:
    winner = decision.winner
    system = load_system(run / winner.path) if winner is not None and winner.path is not None else None
    rungs = [name for name in trained_names if system is not None and candidate_by_rung[name] == system.name]
    if rungs and winner is not None and winner.kind in ("adapter", "merged"):
        return rungs[0], candidate_by_rung[rungs[0]]
    reason = "no system won" if system is None else f"the winner is {system.name}, which was not tuned"
    remedy = (
        f"Add --rung {trained_names[0]} to export what {listed(trained_names)} trained."
        if trained_names
        else "Nothing was trained in it."
    )
    raise InputError(reason, where=str(run), expected="a winner that was trained", remedy=remedy)


def _training(run: Path, record: Record, candidate: str) -> tuple[CandidateTrained, TrainingReached]:
    """What the candidate came of, and how far that training went."""
    candidate_trained = record.last(CandidateTrained, candidate)
    reached = None if candidate_trained is None else record.last(TrainingReached, candidate_trained.run)
    if candidate_trained is None or reached is None:
        raise of_another_version(run, f"the record does not say how {candidate} was trained")
    return candidate_trained, reached


def _document(reached: TrainingReached, source: ExportSource) -> dict[str, Any]:
    """Keys of a training file."""
    document: dict[str, Any] = {"model": source.base}
    objective, adapter = reached.settings.objective, reached.settings.adapter
    options = dict(objective.options)
    document["objective"] = {objective.name: options} if options else objective.name
    document |= reached.settings.model_dump(exclude={"objective", "adapter"})
    adapter_keys = adapter.model_dump(mode="json", exclude={"kind", "quantize"})
    document["adapter"] = "full" if adapter.choice == "full" else {"kind": adapter.choice, **adapter_keys}
    document["chat_template_kwargs"] = dict(source.prepared.task.chat_template_kwargs)
    return document


def _kept_differently(reached: TrainingReached, candidate_trained: CandidateTrained) -> list[str]:
    """Notes where the climb did not keep the end of the training, or changed it afterwards."""
    notes, last_stop = list[str](), reached.settings.epochs if candidate_trained.unit == "epoch" else reached.steps
    if candidate_trained.stop < last_stop:
        notes.append(words.of_checkpoint_kept(candidate_trained.unit, candidate_trained.stop, last_stop))
    if candidate_trained.scale != 1:
        notes.append(words.of_scale_kept(candidate_trained.scale))
    return notes
