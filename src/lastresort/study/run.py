"""Run a study: a forecast of the missing cells, then one cell after the other. Each row is kept as soon as it is complete."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from lastresort.climb.budget import Budget, forecast_of_judge
from lastresort.climb.judging import ClimbJudge
from lastresort.climb.prepare import PreparedTask
from lastresort.climb.room import max_new_tokens, refuse_what_fits_no_prompt
from lastresort.climb.workbench import StageWriter, open_models
from lastresort.climb.workload import workload
from lastresort.climb.workspace import RESPONSES, shared_folder
from lastresort.data.preferences import kind_of_preferences
from lastresort.data.split import Split, groups_of, nested
from lastresort.errors import TaskError
from lastresort.gate.probes.format_leak import LEAST_TOKENS
from lastresort.records import atomic
from lastresort.records.record import FILE_NAME, Record
from lastresort.records.responses import ResponseCache
from lastresort.report.words import study as words
from lastresort.report.words.wording import counted
from lastresort.rungs.forecast import Forecast, Workload, answering
from lastresort.rungs.preference.rung import LEAST_PREFERENCES
from lastresort.rungs.prompting.prompts import instruction
from lastresort.rungs.rung import MakeExecutor, Workbench
from lastresort.rungs.supervised.methods import method_of, weights_absent
from lastresort.rungs.supervised.sft import forecast_of_answers, forecast_of_training
from lastresort.spec.task import Task
from lastresort.stop import FirstOf, Stop, check, stop_file
from lastresort.study.arms import RUNG as PREFERENCE
from lastresort.study.arms import ArmRates, forecast_of_arm
from lastresort.study.cells import LEAK_ITEMS, MOST_SHOTS, NEAREST, CellBench, run_cell, tidy
from lastresort.study.grid import ARMS, Cell, Grid, middle_of, of_different_rows
from lastresort.study.rows import CellRow, add_row, rows_in
from lastresort.systems.system import PromptDesign, System
from lastresort.types import Decoding, Example, JsonObject, Progress

RUNG = "sft"
NO_PART = ("limits", "bar", "confidence", "goal", "ladder", "on_undecided", "general", "keep", "use")
"""Keys of the task file on which no row depends."""


@dataclass(frozen=True, slots=True)
class StudyRows:
    """What the cells of a grid measured, the task's method of training, and the learning rate. grid: without the sizes that come to
    the same rows once those too long for the model are left out.
    """

    rows: Mapping[Cell, CellRow]
    method: str
    rate: float
    grid: Grid


def refuse_nothing_to_train(task: Task) -> None:
    """Raises TaskError where no local weights can be trained, which every study does."""
    if weights_absent(task) is not None:
        raise TaskError(
            f"found the endpoint {task.tuned_model} as the model to train",
            where=f'{task.path.name}, key "tune"',
            expected="local weights: a study trains",
            remedy="Name a local model with tune: {model: NAME}.",
            key=("tune",),
        )


def with_pairs(task: Task) -> Task:
    """The task as one whose pairs are read. Raises TaskError where it names no preferences, or trains all weights."""
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
    return task.model_copy(update={"ladder": ("prompting", PREFERENCE)})


def refuse_few_pairs(prepared: PreparedTask) -> None:
    """Raises TaskError where its preferences are labelled answers, or too few."""
    preferences = prepared.preferences or ()
    if preferences and kind_of_preferences(preferences) != "pairs":
        raise _no_pairs(prepared.task, "found labelled answers")
    if len(preferences) < LEAST_PREFERENCES:
        raise _no_pairs(prepared.task, f"found {counted(len(preferences), 'pair')}")


def _no_pairs(task: Task, found: str) -> TaskError:
    return TaskError(
        found,
        where=f'{task.path.name}, key "preferences"',
        expected=f"at least {LEAST_PREFERENCES} pairs of a chosen and a rejected answer, on prompts that dev and test do not hold",
        remedy="Name their file with preferences: FILE, or make some with `lastresort data pairs`.",
        key=("preferences",),
    )


def refuse_one_unit(prepared: PreparedTask) -> None:
    """Raises TaskError where dev is one item or one group, which says nothing about any other."""
    task, dev = prepared.task, prepared.split.dev
    groups = groups_of(dev)
    if len(dev if groups is None else set(groups)) < 2:
        n = counted(len(dev), "dev item")
        raise TaskError(
            f"found {n}" if groups is None else f"found {n} of one group",
            where=f'{task.path.name}, key "split.dev"',
            expected=f"at least two {'items' if groups is None else 'groups'} to measure on",
            remedy="Raise it, or add examples.",
            key=("split", "dev"),
        )


def study_task(task: Task, learning: str = RUNG) -> Task:
    """With the ladder of a study, whatever a climb of this task would try. learning: its rung that trains."""
    return task.model_copy(update={"ladder": ("prompting", learning)})


def study_rate(task: Task) -> float:
    """The one learning rate of a study: the middle of the task's."""
    return middle_of(task.sft.learning_rates)


def forecast(prepared: PreparedTask, grid: Grid, cells: Sequence[Cell], progress: Progress) -> Forecast | None:
    """What these cells would take on this machine, with every answer as long as allowed; None without a cell. Loads no model, and
    does not count the time to load one.
    """
    total: Forecast | None = None
    for cell in cells:
        rung = RUNG if cell.way in ("sft", *ARMS) else "prompting"
        one = _forecast(prepared, cell, workload(prepared, rung, progress), probed=grid.probed)
        total = one if total is None else total + one
    if total is not None and (judge := forecast_of_judge(prepared, total.answers)) is not None:
        total += judge
    return total


def _forecast(prepared: PreparedTask, cell: Cell, work: Workload, *, probed: bool) -> Forecast:
    task, shot, about = prepared.task, work.input_tokens + work.output_tokens, work.about_tokens
    if cell.way == "sft":
        own = replace(work, n_train=cell.n)
        found = forecast_of_training(task, own, "training", epochs=task.sft.epochs, losses=2)
        found += forecast_of_answers(own, "dev", work.n_dev)
    elif cell.way in ARMS:
        found = forecast_of_arm(task, work, prepared.preferences or ())
    else:
        shots = {"nearest": min(cell.n, NEAREST)}.get(cell.way, min(cell.n, MOST_SHOTS))
        shared = work.instruction_tokens + (0 if cell.way == "nearest" else shots * shot)
        prompt = work.instruction_tokens + shots * shot + work.input_tokens
        found = answering("dev", work.machine, work.n_dev, prompt, shared, work.max_new_tokens)
    if not probed:
        return found
    asked = about + work.input_tokens
    return found + answering("unrelated requests", work.machine, LEAK_ITEMS, asked, 0, LEAST_TOKENS).unscored()


def run_grid(
    prepared: PreparedTask,
    grid: Grid,
    folder: Path,
    progress: Progress,
    stop: Stop,
    *,
    rates: ArmRates | None = None,
    executor: MakeExecutor | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> StudyRows:
    """Do the cells that have no row yet. The test set is not measured, and no cell gets to see it.

    rates: of SFT then DPO against ORPO, None for another study. stop: checked between batches and steps, as is a file named stop in
    the study's folder. Raises StoppedError where it stopped: the same call goes on. Raises BudgetError where a limit of the task is
    reached, which counts all sessions: a call with a higher one goes on. executor: makes what measures, None for this process.
    """
    task, rate = prepared.task, study_rate(prepared.task)
    method = method_of(task).name
    learning = RUNG if rates is None else PREFERENCE
    with _opened(prepared, folder, learning, progress, stop, clock) as opened:
        bench, facts = opened
        bench = replace(bench, executor=None if executor is None else executor(bench))
        grid = grid if rates is not None else of_different_rows(grid, bench.train, named=False)
        cell_bench = CellBench(bench, rate, tuned_base=grid.probed, probed=grid.probed, rates=rates)
        facts = {**facts, "study": grid.kind, "rate": rate, "method": method}
        if rates is not None:
            facts["rates"] = asdict(rates)
        keys = {cell: cell.key(facts) for cell in grid.cells()}
        known = rows_in(folder)
        for done in known:
            tidy(folder, done)
        # Of each seed first the prompts: a training closes the model, here and at workers.
        missing = sorted(
            (cell for cell, key in keys.items() if key not in known),
            key=lambda one: (one.seed, one.way in ("sft", *ARMS)),
        )
        expected = forecast(prepared, grid, missing, progress)
        progress.say(words.of_cells(len(keys), len(missing), expected))
        subsets = {seed: nested(bench.train, grid.sizes, seed) for seed in grid.seeds} if rates is None else {}
        for number, cell in enumerate(missing, 1):
            check(bench.stop)
            progress.say(words.of_cell(number, len(missing), cell.label))
            examples: tuple[Example, ...] = subsets[cell.seed][cell.n] if cell.n and rates is None else ()
            row = run_cell(cell_bench, cell, keys[cell], examples, clock)
            add_row(folder, row)
            known[row.key] = row
            tidy(folder, row.key)
    return StudyRows({cell: known[key] for cell, key in keys.items()}, method, rate, grid)


@contextmanager
def _opened(
    prepared: PreparedTask, folder: Path, learning: str, progress: Progress, stop: Stop, clock: Callable[[], float]
) -> Iterator[tuple[Workbench, JsonObject]]:
    """The workbench of a study, and the facts that all its cells depend on. The folder is held meanwhile. learning: the rung whose
    rows have to fit the model, whatever a climb of this task would try.
    """
    task = prepared.task
    folder.mkdir(parents=True, exist_ok=True)
    held = atomic.held(
        folder,
        "another process is running this study",
        expected="one process a study",
        remedy="Wait for it, or name another folder with --out.",
    )
    has_record = (folder / FILE_NAME).is_file()
    with (
        held,
        stop_file(folder) as file,
        Record.open(folder) if has_record else Record.create(folder) as record,
        ResponseCache(shared_folder(folder) / RESPONSES) as cache,
    ):
        budget = Budget.of(task, record, clock)
        writer = StageWriter(progress, record, budget.spent, clock=clock)
        models = open_models(task, cache, record, writer.read)
        try:
            kwargs = task.chat_template_kwargs
            bare = System(
                "bare", models.base_name, PromptDesign(instruction(task)), Decoding(1), template_kwargs=kwargs
            )
            writer.stage(f"opening the model {task.model}", None)
            model = models.open(bare)
            tokens = max_new_tokens(prepared, model)
            measured = Split(prepared.split.train, prepared.split.dev, ())
            too_long = set(refuse_what_fits_no_prompt(study_task(task, learning), measured, models, tokens))
            tuned = models.open(replace(bare, model=models.tuned_name))
            facts: JsonObject = {
                "task": {key: value for key, value in task.resolved().items() if key not in NO_PART},
                "files": prepared.files,
                "model": model.fingerprint,
                "tuned": tuned.fingerprint,
                "max_new_tokens": tokens,
            }
            bench = Workbench(
                task=task,
                train=tuple(example for example in prepared.split.train if example.id not in too_long),
                dev=tuple(prepared.split.dev),
                scorer=ClimbJudge(task, record, models, budget.pay).equipped(prepared.scorer),
                record=record,
                folder=folder,
                models=models,
                progress=writer,
                max_new_tokens=tokens,
                stop=FirstOf((stop, file, budget)),
                pay=budget.pay,
                hours_left=budget.hours_left,
                shared=shared_folder(folder),
                preferences=prepared.preferences,
                at=writer.at,
                to_resume="Give the same command again",
            )
            yield bench, facts
        finally:
            budget.note()
            models.close()
