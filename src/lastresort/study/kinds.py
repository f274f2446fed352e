"""The kinds of studies, a row of a table each: how its cells learn, its grid, and what is concluded from its rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import get_args

from lastresort.climb.identity import differing
from lastresort.climb.prepare import PreparedTask
from lastresort.data.preferences import kind_of_preferences
from lastresort.errors import InputError, TaskError
from lastresort.records.document import code_of
from lastresort.records.events.run import FilesRead, TaskRead
from lastresort.records.events.search import PromptOptimised, RungSearched
from lastresort.records.record import Record
from lastresort.records.rungs import PromptKept
from lastresort.records.view import refuse_study
from lastresort.report.study import StudyDocument
from lastresort.report.words.wording import counted, percent
from lastresort.rungs.preference.rung import LEAST_PREFERENCES
from lastresort.spec.task import Task
from lastresort.study.arms import rates_of
from lastresort.study.cells import Learner, SftLearner
from lastresort.study.compare import orpo_vs_dpo_of
from lastresort.study.conclude import MeasuredStudy, crossover_of, min_data_of
from lastresort.study.effect import synthetic_of
from lastresort.study.grid import (
    LEAST_SOURCE_UNITS,
    Grid,
    OptimisedInstruction,
    arms_grid,
    crossover_grid,
    middle_of,
    min_data_grid,
    sources_grid,
)
from lastresort.study.run import study_task
from lastresort.study.synthetic import SourceLearner
from lastresort.types import StudyKind


@dataclass(frozen=True, slots=True)
class StudyOptions:
    """As of the command `study`, None for those that are not given. Each kind refuses those that it does not take."""

    sizes: tuple[int, ...] | None = None
    seeds: int | None = None
    dpo_rate: float | None = None
    orpo_rate: float | None = None
    optimised: Path | None = None


@dataclass(frozen=True, slots=True)
class StudyDesign:
    """learning: the task as one whose rows are to be read, and how cells learn from them; raises InputError for an option and
    TaskError for a task that does not fit, before anything is read. grid: of the task that was read; raises alike. conclude: rows
    in, document out. least_units: items or groups of dev.
    """

    learning: Callable[[Task, StudyOptions], tuple[Task, Learner]]
    grid: Callable[[PreparedTask, StudyOptions], Grid]
    conclude: Callable[[MeasuredStudy], StudyDocument]
    least_units: int = 2


def _refuse_rates(options: StudyOptions) -> None:
    for option, rate in (("--dpo-rate", options.dpo_rate), ("--orpo-rate", options.orpo_rate)):
        if rate is not None:
            raise InputError(
                f"found {rate:g}",
                where=option,
                expected="none: only orpo-vs-dpo trains by DPO and ORPO",
                remedy="Leave it out; sft.learning_rates sets the rate of SFT.",
            )


def _refuse_sizes(options: StudyOptions, why: str) -> None:
    if options.sizes is not None:
        raise InputError(
            f"found {', '.join(map(str, options.sizes))}",
            where="--sizes",
            expected=f"none: {why}",
            remedy="Leave it out.",
        )


def _by_sft(task: Task, options: StudyOptions) -> tuple[Task, Learner]:
    _refuse_rates(options)
    return task, SftLearner(middle_of(task.sft.learning_rates))


def _by_both_ways(task: Task, options: StudyOptions) -> tuple[Task, Learner]:
    _refuse_sizes(options, "orpo-vs-dpo trains on all pairs of the task")
    if task.tune.method == "full":
        raise TaskError(
            "found full",
            where=f'{task.path.name}, key "tune.method"',
            expected="lora, qlora or auto: this study trains adapters",
            remedy="Set it for the study alone with --set tune.method=lora.",
            key=("tune", "method"),
        )
    if task.preferences is None:
        raise _no_pairs(task, "found nothing")
    learner = rates_of(task, options.dpo_rate, options.orpo_rate)
    return study_task(task, learner.rung), learner


def _by_sources(task: Task, options: StudyOptions) -> tuple[Task, Learner]:
    _refuse_rates(options)
    _refuse_sizes(options, "synthetic trains on all rows of each kind")
    return task, SourceLearner(task, middle_of(task.sft.learning_rates))


def _crossover_grid(prepared: PreparedTask, options: StudyOptions) -> Grid:
    n_train = len(prepared.split.train)
    return crossover_grid(prepared.task, n_train, options.sizes, options.seeds, optimised=options.optimised is not None)


def _min_data_grid(prepared: PreparedTask, options: StudyOptions) -> Grid:
    return min_data_grid(len(prepared.split.train), options.sizes, options.seeds)


def _arms_grid(prepared: PreparedTask, options: StudyOptions) -> Grid:
    preferences = prepared.preferences or ()
    if preferences and kind_of_preferences(preferences) != "pairs":
        raise _no_pairs(prepared.task, "found labelled answers")
    if len(preferences) < LEAST_PREFERENCES:
        raise _no_pairs(prepared.task, f"found {counted(len(preferences), 'pair')}")
    return arms_grid(len(preferences), options.seeds)


def _sources_grid(prepared: PreparedTask, options: StudyOptions) -> Grid:
    return sources_grid(len(prepared.split.train), options.seeds)


def _no_pairs(task: Task, found: str) -> TaskError:
    return TaskError(
        found,
        where=f'{task.path.name}, key "preferences"',
        expected=f"at least {LEAST_PREFERENCES} pairs of a chosen and a rejected answer, on prompts that dev and test do not hold",
        remedy="Name their file with preferences: FILE, or make some with `lastresort data pairs`.",
        key=("preferences",),
    )


MUST_AGREE = (
    "task",
    "about",
    "model",
    "examples",
    "columns",
    "split",
    "output",
    "score",
    "decode",
    "chat_template_kwargs",
)
"""Keys in which a climb must agree with a study that takes its instruction: what that is about, and which rows it saw."""


def optimised_in(run: Path, prepared: PreparedTask) -> OptimisedInstruction:
    """The instruction that this climb of the same task optimised. Raises InputError where it is of another task, or optimised none,
    and DataError where the folder holds no run.
    """
    with Record.open(run, read_only=True) as record:
        refuse_study(record)
        task, files = record.last(TaskRead), record.last(FilesRead)
        if task is None or files is None:
            raise _no_optimised(run, "found a run that has not read its task", prepared.task)
        now = (prepared.task.resolved(), prepared.files)
        apart = differing((task.task, files.files), now, MUST_AGREE)
        if apart:
            raise InputError(
                f"found a run of another task or other data: it differs in {', '.join(apart)}",
                where=f"--optimised {run}",
                expected="a climb of this task, whose instruction has seen the same train rows, and no others",
                remedy="Name a run of this task file as it is now.",
            )
        found = record.last(PromptOptimised, "prompting")
        if found is None:
            raise _no_optimised(run, _why_none(record, task), prepared.task)
    if not found.better:
        scores = f"{percent(found.best_score)} on {counted(found.n, 'row')} of train"
        raise _no_optimised(run, f"found that no instruction beat the task's own, which scores {scores}", prepared.task)
    return OptimisedInstruction(found.best, found.n + found.learned_from)


def _why_none(record: Record, task: TaskRead) -> str:
    if "prompting" not in task.task.get("ladder", ()):
        return "found no rung prompting in its ladder"
    search = record.last(RungSearched, "prompting")
    if search is None:
        return "found a run that stopped before it optimised a prompt"
    kept = {code_of(kind) for kind in get_args(PromptKept)}
    said = [one.text.rstrip(".") for one in search.findings if one.code in kept]
    if said:
        return f"found none. The run says: {said[0]}"
    prompting = task.task.get("prompting")
    off = isinstance(prompting, dict) and prompting.get("optimise") == "off"
    return f"found none: {'prompting.optimise is off' if off else 'no prompt could be measured on dev'}"


def _no_optimised(run: Path, found: str, task: Task) -> InputError:
    command = f"lastresort climb {quote(str(task.path))} --until prompting --set prompting.optimise=on"
    return InputError(
        found,
        where=f"--optimised {run}",
        expected="a climb whose rung prompting has optimised an instruction",
        remedy=f"Run `{command}`, and name its folder.",
    )


KINDS: dict[StudyKind, StudyDesign] = {
    "crossover": StudyDesign(_by_sft, _crossover_grid, crossover_of),
    "min-data": StudyDesign(_by_sft, _min_data_grid, min_data_of),
    "orpo-vs-dpo": StudyDesign(_by_both_ways, _arms_grid, orpo_vs_dpo_of),
    "synthetic": StudyDesign(_by_sources, _sources_grid, synthetic_of, LEAST_SOURCE_UNITS),
}
