"""Rows of studies as if they had been measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lastresort.records.data_report import RowsLeftOut
from lastresort.spec.task import Task, load_task
from lastresort.study.conclude import MeasuredStudy
from lastresort.study.grid import (
    ARMS,
    BASES,
    SOURCES,
    Cell,
    OptimisedInstruction,
    arms_grid,
    crossover_grid,
    min_data_grid,
    sources_grid,
)
from lastresort.study.rows import ArmTraining, CellRow, CellTraining
from lastresort.study.run import StudyRows
from tuning_support import COLOURS, tiny_task

SIZES = (10, 20, 40, 80, 160, 320)
ITEMS = 120


def task_of(folder: Path, **keys: object) -> Task:
    return load_task(tiny_task(folder, output={"choices": list(COLOURS)}, score="choice", **keys))


def truth(cell: Cell) -> float:
    """SFT passes a prompt between 40 and 80 examples."""
    if cell.way == "sft":
        return {10: 0.05, 20: 0.05, 40: 0.4, 80: 0.75, 160: 0.88, 320: 0.94}[cell.n]
    return 0.1 if cell.way in BASES else 0.55


def row_of(cell: Cell, score: float, **facts: object) -> CellRow:
    dice = np.random.default_rng([cell.n, cell.seed, len(cell.way)])
    right = dice.random(ITEMS) < score
    trained = CellTraining(
        learning_rate=0.001, steps=cell.n or 1, train_loss=0.4, dev_loss=0.5, half_way_loss=0.6, kl=0.1, prose=1.1
    )
    tokens = 40 if cell.way == "sft" else 60 + 10 * min(cell.n, 64)
    values = {
        "key": cell.key({}),
        "way": cell.way,
        "n": cell.n,
        "seed": cell.seed,
        "rows": cell.n,
        "shots": 0 if cell.way == "sft" else min(cell.n, 64),
        "scores": tuple(right.astype(float)),
        "format_ok": tuple(bool(one) for one in right | (dice.random(ITEMS) < 0.5)),
        "prompt_tokens": (tokens,) * ITEMS,
        "shared_tokens": 32 if cell.way == "sft" else 48 if cell.way == "nearest" else tokens - 16,
        "begun_tokens": (32 if cell.way == "sft" else 48 if cell.way == "nearest" else tokens - 16,) * ITEMS,
        "answer_tokens": (3,) * ITEMS,
        "answer_s": (tokens / 100,) * ITEMS,
        "seconds": 5.0,
        "kept": (True,) * 40,
        "trained": trained if cell.way in ("sft", *SOURCES) else None,
        "arm": arm_of(cell.way) if cell.way in ARMS else None,
    }
    return CellRow.model_validate({**values, **facts})


def study_of(
    task: Task,
    kind: str,
    rows: dict[Cell, CellRow] | None = None,
    seeds: int = 3,
    optimised: OptimisedInstruction | None = None,
) -> MeasuredStudy:
    """rows: in place of those that follow `truth`."""
    with_it = optimised is not None
    crossover = crossover_grid(task, 320, SIZES, seeds, optimised=with_it)
    grid = crossover if kind == "crossover" else min_data_grid(320, SIZES, seeds)
    found = {cell: row_of(cell, truth(cell)) for cell in grid.cells()}
    measured = StudyRows({**found, **(rows or {})}, "lora", 0.001, grid, optimised=optimised)
    return MeasuredStudy(task, grid, measured, None, binary=True)


def arm_of(way: str, **facts: object) -> ArmTraining:
    """Nine tenths of the held-out pairs right after DPO, eight tenths after ORPO, half by the base."""
    first = way == "dpo"
    values = {
        "pairs": 54,
        "sft_rate": 0.001 if first else None,
        "sft_steps": 12 if first else 0,
        "learning_rate": 0.0001,
        "steps": 12 if first else 20,
        "trained_tokens": 9000 if first else 9900,
        "reference_tokens": 2000 if first else 0,
        "chosen_tokens": 5.0,
        "margins": tuple([1.0] * (9 if first else 8) + [-1.0] * (1 if first else 2)),
        "base_margins": (0.5, -0.5) * 5,
        "kl": 0.1,
        "prose": 1.1,
    }
    return ArmTraining.model_validate({**values, **facts})


def arms_study_of(task: Task, dpo: float, orpo: float, seeds: int = 5, **facts: object) -> MeasuredStudy:
    """dpo, orpo: their true scores. facts: of ORPO's rows."""
    grid = arms_grid(64, seeds)
    score = {"dpo": dpo, "orpo": orpo, "zero-shot": 0.2}
    rows = {cell: row_of(cell, score[cell.way], **(facts if cell.way == "orpo" else {})) for cell in grid.cells()}
    return MeasuredStudy(task, grid, StudyRows(rows, "lora", 0.001, grid), None, binary=True)


def sources_study_of(
    task: Task, real: float, synthetic: float, both: float, seeds: int = 5, half_way_loss: float = 0.6
) -> MeasuredStudy:
    """Trainings on 60 real rows, 30 synthetic ones and both, with their true scores. half_way_loss: of real rows alone."""
    score = {"real": real, "synthetic": synthetic, "both": both, "zero-shot": 0.2}
    rows = {"real": 60, "synthetic": 30, "both": 90, "zero-shot": 0}
    grid = sources_grid(90, seeds)
    found = {cell: row_of(cell, score[cell.way], rows=rows[cell.way]) for cell in grid.cells()}
    for cell, row in found.items():
        if row.trained is not None and cell.way == "real":
            found[cell] = row.replaced(trained=row.trained.replaced(half_way_loss=half_way_loss))
    left_out = (RowsLeftOut("train", "in dev or test", 3),)
    return MeasuredStudy(task, grid, StudyRows(found, "lora", 0.001, grid), None, binary=True, left_out=left_out)
