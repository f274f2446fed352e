"""Real rows alone, synthetic rows alone, and both: what each of the three learns, and for how many steps.

All three train for as many steps as both take in the epochs of the task, so that a gain does not come from more steps. Each learns
all rows of its kind; a seed draws the order of the batches and the first weights of the adapter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from lastresort.climb.prepare import PreparedTask
from lastresort.errors import TaskError
from lastresort.report.words.wording import capital
from lastresort.rungs.forecast import Forecast, Workload
from lastresort.rungs.rung import Workbench
from lastresort.rungs.supervised.replay_rows import replay_size
from lastresort.rungs.supervised.sft import SftRung, forecast_of_answers, forecast_of_training
from lastresort.spec.task import Task
from lastresort.study.cells import LOWER_RATE, Subsets, train_by_sft
from lastresort.study.grid import Cell, Grid, Way
from lastresort.study.rows import CellTraining
from lastresort.systems.system import System
from lastresort.types import Example, JsonObject


def rows_of(way: Way, train: Sequence[Example]) -> tuple[Example, ...]:
    """What one of SOURCES learns."""
    return tuple(example for example in train if way == "both" or example.synthetic == (way == "synthetic"))


def steps_of(task: Task, n: int) -> int:
    """Of a training on n rows and their replay in the epochs of the task."""
    return task.sft.epochs * _steps_per_epoch(task, n)


def passes_of(task: Task, n: int, steps: int) -> float:
    """How often a training of so many steps sees each of n rows."""
    return steps / _steps_per_epoch(task, n)


def _steps_per_epoch(task: Task, n: int) -> int:
    from lastresort.train.loop.batches import steps_per_epoch

    sft = task.sft
    return steps_per_epoch(n + replay_size(n, sft.replay, sft.replay_prompts), sft.batch_size)


@dataclass(frozen=True, slots=True)
class SourceLearner:
    """One learning rate for all three. The n of a cell are the rows of both, which set the steps."""

    task: Task
    rate: float
    rung = SftRung.name

    @property
    def facts(self) -> JsonObject:
        return {"rate": self.rate, "look": "own epochs"}

    def subsets(self, grid: Grid, train: Sequence[Example], *, named: bool) -> tuple[Grid, Subsets]:
        """Raises TaskError where rows of one kind are all too long."""
        _refuse_one_source(self.task, train)
        grid = replace(grid, sizes=(len(train),))
        return grid, {cell: rows_of(cell.way, train) for cell in grid.cells() if cell.trains}

    def forecast(self, prepared: PreparedTask, work: Workload, cell: Cell) -> Forecast:
        task, n = prepared.task, len(rows_of(cell.way, prepared.split.train))
        own, epochs = replace(work, n_train=n), passes_of(task, n, steps_of(task, cell.n))
        found = forecast_of_training(task, own, "training", epochs=epochs, losses=2)
        return found + forecast_of_answers(own, "dev", work.n_dev)

    def train(self, bench: Workbench, cell: Cell) -> tuple[System, CellTraining]:
        steps, own = (steps_of(bench.task, n) for n in (cell.n, len(bench.train)))
        return train_by_sft(bench, cell, self.rate, capital(LOWER_RATE), steps, own)


def _refuse_one_source(task: Task, train: Sequence[Example]) -> None:
    """train: rows to train on. Raises TaskError where none is synthetic, or all are."""
    made = len(rows_of("synthetic", train))
    if not made:
        raise TaskError(
            "found no synthetic rows to train on",
            where=f'{task.path.name}, key "examples.synthetic"',
            expected="rows that neither repeat dev or test nor were made from them, and that fit the model",
            remedy="Make some with `lastresort data synth`, and name their file. `lastresort data check` says which are left out.",
            key=("examples", "synthetic"),
        )
    if made == len(train):
        raise TaskError(
            "found no real rows to train on",
            where=f'{task.path.name}, key "examples"',
            expected="real rows that fit the model, with which to compare synthetic ones",
            remedy="Name the file of real rows under train, or if all of them are too long, shorten them or name another model.",
            key=("examples",),
        )
