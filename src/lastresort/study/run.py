"""Run a study: a forecast of the missing cells, then one cell after the other. Each row is kept as soon as it is complete."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from lastresort.climb.budget import Budget, forecast_of_judge
from lastresort.climb.costs import paid_by_tokens
from lastresort.climb.identity import without_division
from lastresort.climb.llm_judge import ClimbJudge
from lastresort.climb.prepare import PreparedTask
from lastresort.climb.room import bare_system, max_new_tokens, refuse_what_fits_no_prompt
from lastresort.climb.workbench import StageWriter, open_models, workbench_of
from lastresort.climb.workload import machine_of, workload
from lastresort.climb.workspace import RESPONSES, noted_end, shared_folder
from lastresort.data.split import Split, groups_of
from lastresort.errors import InputError, TaskError
from lastresort.gate.probes.format_leak import LEAST_TOKENS
from lastresort.hardware.memory import has_gpu
from lastresort.records import atomic
from lastresort.records.events.run import StudyBegan, StudyFinished, TaskRead, TokensTimed
from lastresort.records.measurement import ItemScore
from lastresort.records.record import FILE_NAME, Record
from lastresort.records.responses import ResponseCache
from lastresort.report.words import study as words
from lastresort.report.words.rungs import of_training_cards
from lastresort.report.words.wording import counted
from lastresort.rungs.forecast import Forecast, Workload, answering
from lastresort.rungs.prompting.prompts import instruction
from lastresort.rungs.rung import Workbench
from lastresort.rungs.supervised.methods import in_4_bits, method_of, weights_absent
from lastresort.spec.task import Task
from lastresort.stop import FirstOf, Stop, check, stop_file
from lastresort.study.at_workers import StudyWorkers, trained_by
from lastresort.study.call_costs import TimedCalls, TokenSeconds, is_priced
from lastresort.study.cells import (
    LEAK_ITEMS,
    MOST_SHOTS,
    NEAREST,
    PROBED,
    CellBench,
    Learner,
    WantedCell,
    run_prompts,
    run_training,
    tidy,
)
from lastresort.study.gating import StudyGating, forecast_of_gates
from lastresort.study.grid import Cell, Grid, OptimisedInstruction
from lastresort.study.rows import CellGate, CellRow, add_row, rows_in
from lastresort.systems.system import System
from lastresort.train.loop.spawn import Machines, TrainingProcesses
from lastresort.types import JsonObject, Progress, StudyGate

Concluded = TypeVar("Concluded")
NO_PART = ("limits", "bar", "confidence", "goal", "ladder", "on_undecided", "general", "keep", "use")
"""Keys of the task file on which no row depends."""


@dataclass(frozen=True, slots=True)
class PlannedStudy:
    """What is to be done, before a model is opened. gate: of each cell that trains, None for none. optimised: the instruction of
    the optimised prompt, None for none.
    """

    prepared: PreparedTask
    grid: Grid
    learner: Learner
    gate: StudyGate | None = None
    optimised: OptimisedInstruction | None = None

    @property
    def answers(self) -> int:
        """To dev items, of all cells."""
        return len(list(self.grid.cells())) * len(self.prepared.split.dev)


@dataclass(frozen=True, slots=True)
class StudyRows:
    """What the cells of a grid measured, the task's method of training, and the learning rate. grid: without the sizes that come to
    the same rows once those too long for the model are left out. too_long: how many those are. gate, optimised: as of
    `PlannedStudy`. calls: None where what they cost is not compared.
    """

    rows: Mapping[Cell, CellRow]
    method: str
    rate: float
    grid: Grid
    too_long: int = 0
    gate: StudyGate | None = None
    optimised: OptimisedInstruction | None = None
    calls: TimedCalls | None = None


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


def refuse_few_units(prepared: PreparedTask, least: int) -> None:
    """Raises TaskError where dev has fewer items, or fewer groups where rows have one. Of one alone, nothing follows for others."""
    task, dev = prepared.task, prepared.split.dev
    groups = groups_of(dev)
    found = len(dev if groups is None else set(groups))
    if found < least:
        n = counted(len(dev), "dev item")
        raise TaskError(
            f"found {n}"
            if groups is None
            else f"found {n} of {'one group' if found == 1 else counted(found, 'group')}",
            where=f'{task.path.name}, key "split.dev"',
            expected=f"at least {'two' if least == 2 else least} {'items' if groups is None else 'groups'} to measure on",
            remedy="Raise it, or add examples.",
            key=("split", "dev"),
        )


def study_task(task: Task, learning: str) -> Task:
    """With the ladder of a study, whatever a climb of this task would try. learning: its rung that trains."""
    return task.model_copy(update={"ladder": ("prompting", learning)})


def forecast(study: PlannedStudy, cells: Sequence[Cell], progress: Progress) -> tuple[Forecast | None, str]:
    """What these cells would take on this machine, with every answer as long as allowed; None without a cell. Loads no model, and
    does not count the time to load one. Also what is assumed of several cards, a sentence; "" without such.
    """
    total: Forecast | None = None
    works = dict[str, Workload]()
    for cell in cells:
        rung = study.learner.rung if cell.trains else "prompting"
        if rung not in works:
            works[rung] = workload(study.prepared, rung, progress)
        one = _forecast(study, cell, works[rung])
        total = one if total is None else total + one
    if total is not None and (judge := forecast_of_judge(study.prepared, total.answers)) is not None:
        total += judge
    adapters = sum(cell.trains for cell in cells)
    if total is not None and study.gate is not None and adapters:
        total += forecast_of_gates(study.prepared, study.gate, adapters, progress)
    trained = works.get(study.learner.rung)
    known = trained is not None and total is not None and total.seconds is not None
    return total, of_training_cards(trained.machine) if trained is not None and known else ""


def _forecast(study: PlannedStudy, cell: Cell, work: Workload) -> Forecast:
    if cell.trains:
        found = study.learner.forecast(study.prepared, work, cell)
    else:
        shot = work.input_tokens + work.output_tokens
        shots = {"nearest": min(cell.n, NEAREST)}.get(cell.way, min(cell.n, MOST_SHOTS))
        shared = work.instruction_tokens + (0 if cell.way == "nearest" else shots * shot)
        prompt = work.instruction_tokens + shots * shot + work.input_tokens
        found = answering("dev", work.machine, work.n_dev, prompt, shared, work.max_new_tokens)
    if not study.grid.probed:
        return found
    asked = work.about_tokens + work.input_tokens
    return found + answering("unrelated requests", work.machine, LEAK_ITEMS, asked, 0, LEAST_TOKENS).unscored()


def forecast_of_verdicts(study: PlannedStudy) -> Forecast | None:
    """What the judge of all cells would take; None without a judge. Loads no model."""
    return forecast_of_judge(study.prepared, study.answers)


def refuse_before_cells(study: PlannedStudy, folder: Path, began: StudyBegan, progress: Progress, stop: Stop) -> None:
    """Raises what `run_grid` would before its first cell: of the models, of items that are too long for them, of the folder, which
    is made, and of limits that are used up.
    """
    with _opened(study, folder, began, progress, stop, time.monotonic) as (bench, _):
        check(bench.stop)


def run_grid(
    study: PlannedStudy,
    folder: Path,
    began: StudyBegan,
    progress: Progress,
    stop: Stop,
    conclude: Callable[[StudyRows], Concluded],
    *,
    workers: StudyWorkers | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Concluded:
    """Do the cells that have no row yet. The test set is not measured, and no cell gets to see it.

    began: for the record, whose earlier end stays as it is while the study may still be refused. conclude: writes what the rows
    say, after which the study counts as finished, and is what is returned.

    stop: checked between batches and steps, as is a file named stop in the study's folder. Raises StoppedError where it stopped:
    the same call goes on. Raises BudgetError where a limit of the task is reached, which counts all sessions: a call with a higher
    one goes on. workers: that answer and train, None for this process.
    """
    prepared, learner = study.prepared, study.learner
    method = method_of(prepared.task).name
    machines = None if workers is None else workers.machines
    with _opened(study, folder, began, progress, stop, clock, machines) as opened:
        bench, facts = opened
        bench = replace(bench, executor=None if workers is None else workers.measure(bench))
        grid, subsets = learner.subsets(study.grid, bench.train, named=False)
        cell_bench = CellBench(bench, learner, grid.probed, study.optimised)
        facts = {**facts, "study": grid.kind, "method": method, **learner.facts}
        if grid.probed:
            facts["probed"] = PROBED
        written = {"instruction": study.optimised.text} if study.optimised is not None else {}
        keys = {cell: cell.key({**facts, **(written if cell.way == "optimised" else {})}) for cell in grid.cells()}
        gating = None if study.gate is None else StudyGating(prepared, study.gate, workers is None)
        complete = {cell: key if gating is None or not cell.trains else gating.key(key) for cell, key in keys.items()}
        bench.record.append(began.model_copy(update={"keys": tuple(complete.values())}))
        known = rows_in(folder)
        missing = in_turn((cell for cell in keys if complete[cell] not in known), workers)
        again = [keys[cell] for cell in missing if keys[cell] in known]
        for done in known.keys() - {*again}:
            tidy(folder, done)
        expected, assumed = forecast(study, missing, progress)
        progress.say(words.of_cells(len(keys), len(missing), expected))
        if assumed:
            progress.say(assumed)
        calls = timed_calls(bench, str(facts["model"]), str(facts["tuned"])) if grid.kind == "crossover" else None
        if again:
            progress.say(words.of_no_gate(len(again)))

        def gate(cell: Cell, key: str, system: System, items: Sequence[ItemScore]) -> CellGate:
            assert gating is not None
            base = known[keys[Cell("zero-shot", 0, 0)]]
            return gating.run(bench, cell, key, system, items, base)

        wanted = [WantedCell(cell, keys[cell], tuple(subsets.get(cell, ()))) for cell in missing]
        prompts = [one for one in wanted if not one.cell.trains]

        def begin(one: WantedCell) -> None:
            check(bench.stop)
            progress.say(words.of_cell(wanted.index(one) + 1, len(wanted), one.cell.label))

        def keep(row: CellRow) -> None:
            add_row(folder, row)
            known.update(dict.fromkeys(row.known_by, row))
            tidy(folder, row.key)

        run_prompts(cell_bench, prompts, begin, keep, clock)
        with trained_by(workers, cell_bench, wanted, clock) as train:
            for one in wanted[len(prompts) :]:
                begin(one)
                keep(run_training(cell_bench, one, train, clock, None if gating is None else gate))
        too_long = len(prepared.split.train) - len(bench.train)
        found = {cell: known[key] for cell, key in complete.items()}
        if gating is None:  # one of other settings may be there
            found = {cell: row if row.gate is None else row.replaced(gate=None) for cell, row in found.items()}
        rows = StudyRows(found, method, learner.rate, grid, too_long, study.gate, study.optimised, calls)
        concluded = conclude(rows)
        bench.record.append(StudyFinished())
    return concluded


def in_turn(cells: Iterable[Cell], workers: StudyWorkers | None) -> list[Cell]:
    """The cells of a grid in the order in which they are done.

    First the prompts: a training closes the model, and takes the room of the workers that answer. At workers the longest training
    of a seed begins first, so that no worker is left alone with a long one at the end.
    """
    at_workers = workers is not None and workers.train is not None
    return sorted(cells, key=lambda one: (one.trains, *((one.seed, -one.n) if one.trains and at_workers else (0, 0))))


def timed_calls(bench: Workbench, model: str, tuned: str) -> TimedCalls | None:
    """model, tuned: fingerprints. None where the task does not name all prices, no time was measured of a local model, or the base
    of an adapter is in 4 bits, which takes times of its own.
    """
    task = bench.task
    if not is_priced(task) or in_4_bits(task):
        return None
    paid = paid_by_tokens(task, "prompting")
    prompting = None if paid else _timed(bench, task.model, model)
    sft = _timed(bench, task.tuned_model, tuned)
    if sft is None or (prompting is None and not paid):
        return None
    return TimedCalls(sft, prompting, model == tuned, bench.max_new_tokens)


def _timed(bench: Workbench, name: str, fingerprint: str) -> TokenSeconds | None:
    """Once for the study, also by a later session. None on a GPU, and for a model too large to time."""
    known = bench.record.last(TokensTimed, fingerprint)
    if known is None:
        if has_gpu():  # how well a few layers tell the time of all is not known there
            return None
        machine = machine_of(bench.task, name, (None, None), bench.progress)
        if machine.measured is None or not machine.parameters:
            return None
        rates = machine.tokens_per_s()
        known = TokensTimed(model=fingerprint, read_s=1 / rates.reading, write_s=1 / rates.answering)
        bench.record.append(known)
    return TokenSeconds(known.read_s, known.write_s)


def _record(folder: Path, began: StudyBegan) -> Record:
    """A new one is that of a study from its first moment on. Raises InputError where the folder is not this study's."""
    if not (folder / FILE_NAME).is_file():
        return Record.create(folder, began)
    record = Record.open(folder)
    try:
        _refuse_other(record, began)
    except BaseException:
        record.close()
        raise
    return record


def _refuse_other(record: Record, began: StudyBegan) -> None:
    earlier = record.last(StudyBegan)
    if earlier is None and record.last(TaskRead) is None:
        record.append(began)  # a climb died there before it had read its task
    elif earlier is None or earlier.study != began.study:
        raise InputError(
            "found the run of a climb" if earlier is None else f"found a study ({earlier.study})",
            where=f"--out {record.folder}",
            expected="a new folder, or that of this study",
            remedy="Name another.",
        )


def on_which_rows_depend(task: Task) -> JsonObject:
    """The keys of the task file that decide what a row of a study holds."""
    return without_division({key: value for key, value in task.resolved().items() if key not in NO_PART})


@contextmanager
def _opened(
    study: PlannedStudy,
    folder: Path,
    began: StudyBegan,
    progress: Progress,
    stop: Stop,
    clock: Callable[[], float],
    machines: Machines | None = None,
) -> Iterator[tuple[Workbench, JsonObject]]:
    """The workbench of a study, and the facts that all its cells depend on. The folder is held meanwhile. The rows of the rung that
    the study trains have to fit the model, whatever a climb of this task would try. machines: as of `TrainingProcesses`.
    """
    prepared, learning, task = study.prepared, study.learner.rung, study.prepared.task
    with atomic.disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    held = atomic.held(
        folder,
        "another process is at work in this folder",
        expected="one process a folder",
        remedy="Wait for it, or name another folder with --out.",
    )
    with (
        held,
        stop_file(folder) as file,
        _record(folder, began) as record,
        noted_end(record, file),
        ResponseCache(shared_folder(folder) / RESPONSES) as cache,
    ):
        budget = Budget.of(task, record, clock)
        writer = StageWriter(progress, record, budget.spent, clock=clock)
        models, processes, is_open = open_models(task, cache, record, writer.read), TrainingProcesses(machines), False
        try:
            studied = study_task(task, learning)
            bare = bare_system(task, models.base_name, instruction(task))
            writer.stage(f"opening the model {task.model}", None)
            model = models.open(bare)
            tokens = max_new_tokens(prepared, model)
            measured = Split(prepared.split.train, prepared.split.dev, ())
            too_long = set(refuse_what_fits_no_prompt(studied, measured, models, tokens))
            tuned = models.open(replace(bare, model=models.tuned_name))
            facts: JsonObject = {
                "task": on_which_rows_depend(task),
                "files": prepared.files,
                "model": model.fingerprint,
                "tuned": tuned.fingerprint,
                "max_new_tokens": tokens,
            }
            scorer = ClimbJudge(task, record, models, budget.pay).equipped(prepared.scorer)
            stops = FirstOf((stop, file, budget))
            bench = workbench_of(prepared, record, folder, models, writer, budget, stops, scorer, tokens)
            train = tuple(example for example in bench.train if example.id not in too_long)
            is_open = True
            yield replace(bench, train=train, to_resume="Give the same command again", processes=processes), facts
        finally:
            budget.note(left=not is_open)
            processes.close()
            models.close()
