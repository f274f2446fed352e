"""The workbench of a climb: models, scorer, record and limits put together, once it is known that the run still has its task.

Also what the climb is at, written into its record as it goes, so that any other process can follow it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

from lastresort.climb.budget import Budget
from lastresort.climb.identity import changed_keys, changed_values
from lastresort.climb.llm_judge import ClimbJudge, refuse_what_the_judge_cannot_read
from lastresort.climb.prepare import PreparedTask, data_report, trained_turns
from lastresort.climb.room import bare_system, check_room, longer_answers, max_new_tokens, refuse_what_fits_no_prompt
from lastresort.climb.workspace import note_resumed, shared_folder
from lastresort.errors import TaskError
from lastresort.evals.scorers import Scorer
from lastresort.hardware.threads import ThreadChoice
from lastresort.models.cached import Cache
from lastresort.models.open import absolute_name
from lastresort.models.protocol import OnRead
from lastresort.records.decision import RunView
from lastresort.records.events.base import LOSSES, Stage
from lastresort.records.events.run import (
    BudgetSpent,
    DataChecked,
    FilesRead,
    ModelOpened,
    RowsTooLong,
    TaskRead,
    ThreadsChosen,
)
from lastresort.records.events.search import PromptOptimised
from lastresort.records.record import Record
from lastresort.records.view import Fold
from lastresort.report.decision import view_of
from lastresort.report.words.data import of_longer_answers
from lastresort.report.words.training import note_line
from lastresort.rungs.open_models import OpenModels
from lastresort.rungs.prompting.prompts import instruction
from lastresort.rungs.rung import Workbench
from lastresort.spec.edit import written
from lastresort.spec.task import Task, named_models
from lastresort.stop import Stop
from lastresort.types import BarSoFar, Json, MeasureSoFar, Progress

READ_EVERY_S = 0.25
LONGEST_SHOWN = 60  # characters of a value that a key had


@runtime_checkable
class ShowsRun(Progress, Protocol):
    """Progress that can show the whole run: how it stands, and what it is at."""

    def show(self, view: RunView | None, stage: Stage) -> None: ...


@runtime_checkable
class ShowsStage(Progress, Protocol):
    """Progress that can show what a run is at: it knows of work that `advance` does not say."""

    def show_stage(self, stage: Stage) -> None: ...


class StageWriter:
    """Progress that is also written to the record. shown: where the climb's own process shows it. spent: seconds and USD so far."""

    def __init__(
        self,
        shown: Progress,
        record: Record,
        spent: Callable[[], tuple[float, float]],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._shown, self._record, self._spent, self._clock = shown, record, spent, clock
        self._now, self._began = Stage(label=""), clock()
        self._begun = 0
        self._read_at = clock()
        self._fold, self._seen = Fold(), 0
        self._view: RunView | None = None

    def stage(self, label: str, total: int | None = None, done: int = 0) -> None:
        self._shown.stage(label, total, done)
        self._began, self._begun = self._clock(), done
        current = self._now  # the place stays until `at` names another: a gate has many stages
        place = {"rung": current.rung, "candidate": current.candidate, "split": current.split, "gate": current.gate}
        self._write(Stage(label=label, done=done, total=total).model_copy(update=place))

    def advance(self, amount: int = 1, note: str = "") -> None:
        self._shown.advance(amount, note)
        self._come_to(self._now.done + amount, max(0.0, self._now.read - amount), note)

    def read(self, prompts: float) -> None:
        """So many prompts are read and have no answer yet. A training counts steps."""
        current = self._now
        if current.total is not None and current.split != "train" and self._clock() - self._read_at >= READ_EVERY_S:
            self._read_at = self._clock()
            self._come_to(current.done, min(prompts, max(0, current.total - current.done)))

    def _come_to(self, done: int, read: float, note: str = "") -> None:
        self._write(self._now.come_to(done, read, note, self._begun, self._clock() - self._began))

    def say(self, text: str) -> None:
        self._shown.say(text)

    def at(
        self,
        rung: str,
        candidate: str = "",
        split: str = "",
        loss: float | None = None,
        test: BarSoFar | None = None,
        gate: tuple[MeasureSoFar, ...] = (),
    ) -> None:
        """Which candidate the present stage is about."""
        current = self._now
        update: dict[str, object] = {"rung": rung, "candidate": candidate, "split": split, "test": test, "gate": gate}
        if (rung, split) != (current.rung, current.split):
            update["eta_s"] = None  # of what came before
        if loss is not None:
            update |= {"loss": loss, "losses": (*current.losses, loss)[-LOSSES:]}
        self._write(current.model_copy(update=update))

    def _write(self, stage: Stage) -> None:
        seconds, usd = self._spent()
        self._now = stage.model_copy(update={"spent_s": seconds, "spent_usd": usd})
        self._record.now(self._now)
        if isinstance(self._shown, ShowsRun):
            self._take_new_events()
            self._shown.show(self._view, self._now)
        if isinstance(self._shown, ShowsStage):
            self._shown.show_stage(self._now)

    def _take_new_events(self) -> None:
        seen_before = self._seen
        for number, event in self._record.since(seen_before):
            self._fold.take(event)
            self._seen = number
        if self._seen > seen_before:
            self._view = view_of(self._fold)


def open_workbench(
    prepared: PreparedTask,
    record: Record,
    run: Path,
    models: OpenModels,
    progress: StageWriter,
    budget: Budget,
    stop: Stop,
) -> Workbench:
    task, bare = prepared.task, bare_system(prepared.task, models.base_name, instruction(prepared.task))
    progress.stage(f"opening the model {task.model}", None)
    model = models.open(bare)
    scorer = ClimbJudge(task, record, models, budget.pay).equipped(prepared.scorer)
    model_opened = record.last(ModelOpened)
    if model_opened is None:
        tokens = max_new_tokens(prepared, model)
        model_opened = ModelOpened(fingerprint=model.fingerprint, max_new_tokens=tokens, price_known=task.price_known)
        too_long = refuse_what_fits_no_prompt(task, prepared.split, models, model_opened.max_new_tokens)
        refuse_what_the_judge_cannot_read(
            scorer, (*prepared.split.dev, *prepared.split.test), model_opened.max_new_tokens
        )
        record.append(RowsTooLong(train=tuple(too_long)))
        model = models.open(bare)
        report = data_report(
            prepared, lambda example: model.count_tokens(trained_turns(task, example)), model.context_tokens
        )
        record.append(DataChecked(report=report))
        record.append(model_opened)
        if (longer := longer_answers(prepared, model, tokens))[0]:
            progress.say(of_longer_answers(*longer, tokens))
    elif model_opened.fingerprint != model.fingerprint:
        raise TaskError(
            f"the model {task.model} is not the one this run began with (its weights, template or precision differ)",
            where=str(run),
            expected="the same model",
            remedy="Start a new run without --resume.",
        )
    note_resumed(record, budget.note)  # here nothing refuses it any more
    bench = workbench_of(prepared, record, run, models, progress, budget, stop, scorer, model_opened.max_new_tokens)
    return replace(
        bench,
        check_room=lambda system: check_room(models.answerer(system), (*prepared.split.dev, *prepared.split.test)),
        test_units=prepared.n_units,
    )


def workbench_of(
    prepared: PreparedTask,
    record: Record,
    folder: Path,
    models: OpenModels,
    progress: StageWriter,
    budget: Budget,
    stop: Stop,
    scorer: Scorer,
    max_new_tokens: int,
) -> Workbench:
    """What the workbenches of a climb and of a study have in common: all of the task's data but the test set."""
    return Workbench(
        task=prepared.task,
        train=tuple(prepared.split.train),
        dev=tuple(prepared.split.dev),
        scorer=scorer,
        record=record,
        folder=folder,
        models=models,
        progress=progress,
        max_new_tokens=max_new_tokens,
        in_words=note_line,
        stop=stop,
        pay=budget.pay,
        preferences=prepared.preferences,
        hours_left=budget.hours_left,
        shared=shared_folder(folder),
        at=progress.at,
    )


def open_models(task: Task, cache: Cache, record: Record | None = None, on_read: OnRead | None = None) -> OpenModels:
    """cache: its owner closes it. on_read: see `OpenModels`. record: where it is noted with how many threads they compute, and what
    failed calls cost."""

    def lost(usd: float) -> None:
        if record is not None:
            record.append(BudgetSpent(seconds=0.0, usd=usd))

    def note(choice: ThreadChoice) -> None:
        if record is not None:
            seconds = {str(threads): round(taken, 6) for threads, taken in choice.seconds.items()}
            record.append(ThreadsChosen(threads=choice.threads, seconds=seconds))

    return OpenModels(
        cache,
        base_folder=task.folder,
        base_name=absolute_name(task.model, task.folder),
        tuned_name=absolute_name(task.tuned_model, task.folder),
        prompt_price=task.use.prompt_price or 0.0,
        output_price=task.use.output_price or 0.0,
        on_threads=note,
        on_read=on_read,
        on_lost=lost,
        named=model_names(task),
    )


def model_names(task: Task) -> list[str]:
    """The models that the task file names, with absolute paths."""
    return list(dict.fromkeys(absolute_name(name, task.folder) for name in named_models(task).values()))


def refuse_another_task(record: Record, prepared: PreparedTask, run: Path) -> None:
    """Note the task and its files at the first start; refuse to go on with others. Limits may change, since more may be spent, and
    so may the volume and the price of an hour, by which costs are only weighed. Those of an optimised prompt are noted again while
    there is none.
    """
    resolved = {key: value for key, value in prepared.task.resolved().items() if key != "limits"}
    task_now = {**resolved, "path": prepared.task.path.name}
    task, files = record.last(TaskRead), record.last(FilesRead)
    schema = prepared.task.output.json_schema
    if task is None:
        record.append(TaskRead(task=task_now, json_schema=schema))
    else:
        changed = [_as_it_was(key, before) for key, before in changed_values(task.task, task_now)]
        _refuse_changed("task", changed, prepared, run)
        if task.task.get("prompting") != task_now["prompting"] and record.last(PromptOptimised) is None:
            record.append(TaskRead(task={**task.task, "prompting": task_now["prompting"]}, json_schema=schema))
    if files is None:
        record.append(FilesRead(files=prepared.files))
    else:
        _refuse_changed("files", changed_keys(files.files, prepared.files), prepared, run)


def _as_it_was(key: str, before: Json) -> str:
    if key == "path":
        return "the name of its file"
    value = "" if before is None else written(before)
    return f"{key} (was {value})" if 0 < len(value) <= LONGEST_SHOWN else key


def _refuse_changed(what: Literal["task", "files"], changed: Sequence[str], prepared: PreparedTask, run: Path) -> None:
    if changed:
        differ, back = "differ from those", "Undo the change"
        if what == "task":  # which another version of the program changes, too, by its defaults
            differ, back = "differs from the one", "Set these keys to what they were"
        raise TaskError(
            f"the {what} of this run {differ} this run began with, in {', '.join(changed)}",
            where=f"{prepared.task.path.name} and {run}",
            expected="an unchanged task and unchanged data",
            remedy=f"{back}, take back what --set changes now, or start a new run without --resume.",
        )
