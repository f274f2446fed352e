"""One cell: a prompt made of its examples or an adapter trained on them, measured on dev by what a climb measures with."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Protocol

from lastresort.climb.prepare import PreparedTask
from lastresort.climb.room import check_room
from lastresort.climb.trainings import own_record
from lastresort.data.split import nested
from lastresort.errors import SAME_COMMAND, CandidateError, DataError
from lastresort.evals.measure import JobFailure, JobPlace, MeasureJob, Result
from lastresort.evals.scorers.scorer import AnswerForm
from lastresort.gate.probes.format_leak import COUNTER, KEY, OFF_TASK, FormatLeak, LeakMeasure
from lastresort.gate.suites.asking import ask
from lastresort.models.protocol import SharedTokens
from lastresort.records.events.training import TrainingReached
from lastresort.records.measurement import ItemScore
from lastresort.records.record import Record
from lastresort.records.training import loss_on_task
from lastresort.rungs.forecast import Forecast, Workload
from lastresort.rungs.prompting.many_shot import MORE
from lastresort.rungs.prompting.prompts import grammar_of, instruction, instruction_of, prompting_decoding, shots_of
from lastresort.rungs.rung import Workbench
from lastresort.rungs.supervised.methods import method_of
from lastresort.rungs.supervised.sft import SftRung, forecast_of_answers, forecast_of_training, tuned_system
from lastresort.rungs.supervised.training import SupervisedTraining
from lastresort.stop import check
from lastresort.study.grid import Cell, Grid, OptimisedInstruction, of_different_rows
from lastresort.study.rows import ArmTraining, CellGate, CellRow, CellTraining
from lastresort.systems.compose import question_of
from lastresort.systems.system import PromptDesign, System
from lastresort.train.watch.kept import measured as looked_at
from lastresort.train.watch.kept import ratio
from lastresort.types import Example, JsonObject

CELLS = "cells"
NEAREST = 5  # shots, as in the largest hand-made prompt of a climb
MOST_SHOTS = MORE[-1]  # as many as a climb ever shows
LEAK_ITEMS = 40
PROBED = (
    OFF_TASK,
    COUNTER,
)  # not off topic: a base that never gives the form gives none there either, and learning it is no leak


Subsets = Mapping[Cell, Sequence[Example]]


class Learner(Protocol):
    """How the cells of a study train. rung: by which they learn, whose rows have to fit the model. rate: of SFT. facts: settings of
    the training on which rows depend, besides the task's own.
    """

    @property
    def rung(self) -> str: ...

    @property
    def rate(self) -> float: ...

    @property
    def facts(self) -> JsonObject: ...

    def subsets(self, grid: Grid, train: Sequence[Example], *, named: bool) -> tuple[Grid, Subsets]:
        """The grid with one size for each different subset of train, and the examples of its cells. named: whether the user named
        the sizes; then InputError says which are the same. Raises TaskError where this train is nothing to compare trainings on.
        """

    def forecast(self, prepared: PreparedTask, work: Workload, cell: Cell) -> Forecast:
        """Of the training of a cell, and of its answers on dev."""

    def train(self, bench: Workbench, cell: Cell) -> tuple[System, CellTraining | ArmTraining]:
        """Train with the cell's seed, or go on where it was cut. bench: with a record and the examples of the cell's own.

        Raises DataError where the training diverged, StoppedError where it stopped.
        """


@dataclass(frozen=True, slots=True)
class CellBench:
    """What cells share. bench: of the study, with all of train. learner: of the cells that train. probed: whether it is measured
    what else training changed. Prompts are then those of the model that is trained, with whose own answers an adapter is compared.
    optimised: the instruction of the optimised prompt, None where the study has none.
    """

    bench: Workbench
    learner: Learner
    probed: bool
    optimised: OptimisedInstruction | None = None


@dataclass(frozen=True, slots=True)
class TrainedCell:
    """The system of a cell that trains, and what training left besides. seconds: of the session that finished the training.
    answered_s: that a worker then took for its answers.
    """

    system: System
    left: CellTraining | ArmTraining
    seconds: float
    answered_s: float = 0.0


@dataclass(frozen=True, slots=True)
class WantedCell:
    """A cell without a row, with its key and its examples."""

    cell: Cell
    key: str
    examples: tuple[Example, ...]


TrainCell = Callable[[Cell, str, Sequence[Example]], TrainedCell]
"""(cell, its key, its examples) -> what training it left, here or at a worker."""
GateCell = Callable[[Cell, str, System, Sequence[ItemScore]], CellGate]
"""(cell, its key, its system, its answers on dev) -> what the gate says."""


def run_prompts(
    shared: CellBench,
    wanted: Sequence[WantedCell],
    begin: Callable[[WantedCell], None],
    keep: Callable[[CellRow], None],
    clock: Callable[[], float],
) -> None:
    """Do cells that train nothing, in their order, though workers answer for several at once: a cell may be one batch.

    begin: called as a cell begins. keep: with each row once it is complete. Raises StoppedError where it stopped.
    """
    bench = shared.bench
    jobs = list[MeasureJob]()
    if wanted:
        bench.progress.stage("making the prompts", len(wanted))
    for number, one in enumerate(wanted):
        check(bench.stop)
        jobs.append(_job(bench, prompt_of(shared, one.cell, one.examples), one.cell.label, number))
        bench.progress.advance(1)
    began = clock()

    def use(job: MeasureJob, result: Result) -> None:
        nonlocal began
        if isinstance(result, JobFailure):
            raise result.error()
        one = wanted[job.number]
        shared_by_all = shared_tokens(bench, job.system)
        kept = kept_requests(bench, job.system, one.cell.label) if shared.probed else None
        now = clock()
        keep(_row(one, job.system, result.items, shared_by_all, now - began, kept=kept))
        began = now
        if job.number + 1 < len(wanted):
            begin(wanted[job.number + 1])

    if wanted:
        begin(wanted[0])
    request = bench.run_jobs(jobs, use, bench.stop)
    if request is not None:
        raise request.error()


def run_training(
    shared: CellBench,
    wanted: WantedCell,
    train: TrainCell,
    clock: Callable[[], float],
    gate: GateCell | None = None,
) -> CellRow:
    """Do a cell that trains, or go on where it was cut. gate: None for none. Raises StoppedError where it stopped, DataError where
    training diverged.
    """
    bench = replace(shared.bench, executor=None)  # a worker that trained it has also answered for it
    cell, key = wanted.cell, wanted.key
    done = train(cell, key, wanted.examples)
    began = clock()
    items = measure(bench, done.system, cell.label)
    shared_by_all = shared_tokens(bench, done.system)
    kept = kept_requests(bench, done.system, cell.label) if shared.probed else None
    gated = None if gate is None else gate(cell, key, done.system, items)
    seconds = done.seconds + done.answered_s + clock() - began
    return _row(wanted, done.system, items, shared_by_all, seconds, kept=kept, left=done.left, gated=gated)


def _row(
    wanted: WantedCell,
    system: System,
    items: Sequence[ItemScore],
    shared: SharedTokens,
    seconds: float,
    *,
    kept: tuple[bool, ...] | None,
    left: CellTraining | ArmTraining | None = None,
    gated: CellGate | None = None,
) -> CellRow:
    cell, arm = wanted.cell, left if isinstance(left, ArmTraining) else None
    return CellRow(
        key=wanted.key,
        way=cell.way,
        n=cell.n,
        seed=cell.seed,
        rows=len(wanted.examples) if arm is None else arm.pairs,
        shots=system.prompt.k,
        scores=tuple(item.score for item in items),
        format_ok=tuple(item.format_ok for item in items),
        prompt_tokens=tuple(item.prompt_tokens for item in items),
        shared_tokens=shared.by_all,
        begun_tokens=shared.by_two,
        answer_tokens=tuple(item.completion_tokens for item in items),
        answer_s=tuple(item.seconds for item in items),
        seconds=seconds,
        kept=kept,
        trained=left if isinstance(left, CellTraining) else None,
        arm=arm,
        gate=gated,
    )


def train_here(
    shared: CellBench, clock: Callable[[], float], cell: Cell, key: str, examples: Sequence[Example]
) -> TrainedCell:
    """In this process."""
    with cell_record(shared.bench.folder, key) as record:
        folder = cell_folder(shared.bench.folder, key)
        own = replace(shared.bench, record=record, folder=folder, train=tuple(examples))
        return train_with(own, shared.learner, cell, clock)


def train_with(bench: Workbench, learner: Learner, cell: Cell, clock: Callable[[], float]) -> TrainedCell:
    """Here or at a worker, in the folder of the cell, which is held. bench: with a record and the examples of the cell's own."""
    began = clock()
    system, left = learner.train(bench, cell)
    return TrainedCell(system, left, clock() - began)


def prompt_of(shared: CellBench, cell: Cell, examples: Sequence[Example]) -> System:
    """The prompt of a cell that trains nothing. Of too many shots as many as leave room for an answer to every dev item."""
    bench, task = shared.bench, shared.bench.task
    decoding = prompting_decoding(task, bench.max_new_tokens)
    if cell.way in ("constrained zero-shot", "constrained few-shot"):
        decoding = replace(decoding, grammar=grammar_of(task))
    model = bench.models.tuned_name if shared.probed else bench.models.base_name
    kwargs = task.chat_template_kwargs
    pool = shots_of(examples, cell.seed)
    design = PromptDesign(instruction(task))
    if cell.way == "optimised":
        assert shared.optimised is not None, "the grid has one"
        design = PromptDesign(instruction_of(shared.optimised.text, task), written_by="model")
    if cell.way == "nearest":
        design = replace(design, shots=pool, k=min(NEAREST, len(pool)), selection="nearest")
    k = min(len(pool), MOST_SHOTS)
    while cell.way in ("few-shot", "constrained few-shot") and k:
        design = replace(design, shots=pool[:k], k=k)
        if _has_room(bench, System(cell.way, model, design, decoding, template_kwargs=kwargs)):
            break
        k -= max(1, k // 8)
    return System(cell.way, model, design, decoding, template_kwargs=kwargs)


def _has_room(bench: Workbench, system: System) -> bool:
    try:
        check_room(bench.answerer(system), bench.dev)
    except CandidateError:
        return False
    return True


def measure(bench: Workbench, system: System, label: str) -> list[ItemScore]:
    """Of all dev items. One that the model refuses is wrong."""
    return bench.scores_of(_job(bench, system, label))


def shared_tokens(bench: Workbench, system: System) -> SharedTokens:
    """Of the prompts of all dev items."""
    answerer = bench.answerer(system)
    return answerer.model.shared_tokens(answerer.prompts([example.input for example in bench.dev]))


def _job(bench: Workbench, system: System, label: str, number: int = 0) -> MeasureJob:
    place = JobPlace("study", label, "dev")
    return MeasureJob(number, system, bench.dev, refused_is_wrong=True, label=f"{label}: dev", place=place)


@contextmanager
def cell_record(study: Path, key: str) -> Iterator[Record]:
    """A training has a record of its own, since records know trainings by names that do not hold the number of examples.

    Its folder is held meanwhile. Raises as `own_record` does.
    """
    with own_record(cell_folder(study, key), SAME_COMMAND) as record:
        yield record


def cell_folder(study: Path, key: str) -> Path:
    return study / CELLS / key[:16]


def tidy(study: Path, key: str) -> None:
    """What training left, once its row is kept."""
    shutil.rmtree(cell_folder(study, key), ignore_errors=True)


def kept_requests(bench: Workbench, system: System, label: str) -> tuple[bool, ...]:
    """The gate's probe of format leak on a few items, base and tuned with the prompt of the tuned model. Off-topic inputs are
    left out: whether they say anything of a base takes a pilot, which only a gate has.
    """
    task = bench.task
    form = AnswerForm(task.output.json_schema, task.output.choices)
    design = PromptDesign(task.about.strip())
    inputs = tuple(text for example in bench.dev if (text := question_of(example.input)))
    suite, judged = FormatLeak(form, design, inputs, bench.max_new_tokens), LeakMeasure(form, design)
    items = [item for item in suite.draw(task.split.seed, 0, LEAK_ITEMS) if item.family in PROBED]
    bench.progress.stage(f"{label}: unrelated requests", len(items))
    replies = ask(bench.models.open(system), suite, items, progress=bench.progress, stop=bench.stop)
    return tuple(judged.kept(item, said[KEY].text) for item, said in replies.with_transcripts(items))


@dataclass(frozen=True, slots=True)
class SftLearner:
    """One learning rate to the end: no choice is made on dev, so that its score stays a fair one."""

    rate: float
    rung = SftRung.name

    @property
    def facts(self) -> JsonObject:
        return {"rate": self.rate}

    def subsets(self, grid: Grid, train: Sequence[Example], *, named: bool) -> tuple[Grid, Subsets]:
        grid = of_different_rows(grid, train, named=named)
        by_seed = {seed: nested(train, grid.sizes, seed) for seed in grid.seeds}
        return grid, {cell: by_seed[cell.seed][cell.n] for cell in grid.cells() if cell.n}

    def forecast(self, prepared: PreparedTask, work: Workload, cell: Cell) -> Forecast:
        task, own = prepared.task, replace(work, n_train=cell.n)
        found = forecast_of_training(task, own, "training", epochs=task.sft.epochs, losses=2)
        return found + forecast_of_answers(own, "dev", work.n_dev)

    def train(self, bench: Workbench, cell: Cell) -> tuple[System, CellTraining]:
        remedy = f"Leave {cell.n} examples out with --sizes, which keeps the finished cells, or {LOWER_RATE}"
        return train_by_sft(bench, cell, self.rate, remedy)


LOWER_RATE = "name a lower rate with --set sft.learning_rates=[RATE], which does all of them again."


def train_by_sft(
    bench: Workbench, cell: Cell, rate: float, remedy: str, steps: int | None = None, look: int | None = None
) -> tuple[System, CellTraining]:
    """Train on the rows of the bench, or go on where it was cut. remedy: where it diverges. steps: None for the epochs of the task.
    look: a step up to half of them after which the loss on dev is measured in place of half way.

    Raises DataError where it diverged, StoppedError where it stopped.
    """
    method = method_of(bench.task)
    section = bench.task.sft.model_copy(update={"learning_rates": (rate,)})
    training = SupervisedTraining(bench, SftRung.name, section, method, seed=cell.seed, steps=steps)
    half, end = (training.stop_at("step", part, of_steps=2) for part in (1, 2))
    half = half if look is None or look > half.step else training.stop_at("step", look)
    folder = bench.folder / method.folder
    half_way = training.to_stop(rate, half, folder / f"{method.name}-half") if half.step < end.step else None
    loss = training.to_stop(rate, end, folder / f"{method.name}-end")
    training.close()
    if not math.isfinite(loss) or (half_way is not None and not math.isfinite(half_way)):
        raise DataError(
            f"training diverged at learning rate {rate:g}",
            where=cell.label,
            expected="a finite loss; the cells after this one have no row yet",
            remedy=remedy,
        )
    name = training.run_name(rate)
    curve = bench.record.curve(name)
    losses = [found for found in map(loss_on_task, curve) if found is not None]
    looks = looked_at(curve)
    reached = bench.record.last(TrainingReached, name)
    assert reached is not None, "a finished training is recorded"
    facts = CellTraining(
        learning_rate=rate,
        steps=end.step,
        train_loss=fmean(losses[-max(1, len(losses) // 3) :]),
        dev_loss=loss,
        half_way_loss=half_way,
        kl=looks[-1].get("kl_general") if looks else None,
        prose=ratio(looks[-1]) if looks else None,
    )
    return tuned_system(bench, SftRung.name, folder / f"{method.name}-end"), facts
