"""What the tuned systems of docs/forgetting.md lost, each on the same number of items.

    python -m scripts.forgetting_losses --out FOLDER     measures the cells of FOLDER/rows.jsonl that lack it

A gate stops a suite as soon as it is cleared, after a stretch that favours the model, so differences of two gates are on different
numbers of items and overshoot. Here nothing stops early. Answers that a gate has kept are not asked again.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from scripts.forgetting import ROWS, Cell, Row, rows_of
from scripts.recipes import section_of

from lastresort.records.atomic import write_atomically

if TYPE_CHECKING:
    from lastresort.spec.task import Task

ITEMS = 384  # of each suite


class Loss(TypedDict):
    """A tuned system less its base in one measure, in the row of a cell. None: the base has nothing to lose there. n: the items
    that count.
    """

    difference: float | None
    interval: tuple[float, float] | None
    n: int


def losses_of(task: Task, system: Path, *, seed: int, shared: Path) -> dict[str, Loss]:
    """By measure.

    seed: of the items, which are those of a gate with this seed. shared: the folder that keeps answers.
    """
    from lastresort.climb.prepare import prepare
    from lastresort.gate.built_in import suite_inputs, suite_plans
    from lastresort.gate.drawing import draw, training_texts
    from lastresort.gate.run import GateRunner
    from lastresort.gate.scored import GateSettings, ScoredSuite, judge_suites
    from lastresort.gate.sides import OpenedSides, resolve_sides
    from lastresort.gate.suites.asking import kept_answers
    from lastresort.models.open import absolute_name
    from lastresort.stop import NEVER
    from lastresort.types import SilentProgress

    prepared, progress = prepare(task), SilentProgress()
    texts, settings = training_texts(prepared), GateSettings(seed, quick=True, looks=False)
    sides = resolve_sides(absolute_name(task.tuned_model, task.folder), str(system), task.chat_template_kwargs, system)
    assert sides.system is not None, "a cell's system has a prompt of its own"
    plans = suite_plans(suite_inputs(prepared, sides.scores, sides.system.prompt, quick=True))
    with (
        kept_answers(shared, scores=sides.base.scores) as kept,
        OpenedSides({"base": sides.base, "tuned": sides.tuned}, progress, NEVER) as opened,
    ):
        runner = GateRunner(settings, kept, texts, progress, None)
        planned, _ = runner.plan(opened.model("base"), plans, task.keep)
        drawn = [draw(one.piloted.suite, seed, ITEMS, texts, settings.facts) for one in planned]
        whole = [
            replace(one, drawn=items, schedule=(len(items.items),), fixed=len(items.items))
            for one, items in zip(planned, drawn, strict=True)
        ]
        base = runner.ask_parts("base", opened.model("base"), whole, 0)
        tuned = runner.ask_parts("tuned", opened.model("tuned"), whole, 0)
    scored = [ScoredSuite(*suite, 1) for suite in zip(whole, base, tuned, strict=True)]
    found = judge_suites(plans, scored, task.keep, settings)
    return {one.name: Loss(difference=one.difference, interval=one.interval, n=one.n) for one in found}


def with_losses(row: Row, out: Path) -> Row:
    """The row of a finished cell with its losses; as it is where it has them, or was left out."""
    from lastresort.climb.workspace import SHARED
    from lastresort.spec.task import load_task

    home = out / "cells" / Cell(row["task"], row["recipe"], row["seed"]).folder
    if "losses" in row or "gate" not in row or not home.is_dir():
        return row
    section = section_of(row["task"])
    system = (home / "run" / "candidates" / section / row["chosen"]).resolve()
    task = load_task(home / "task" / "task.yaml")
    return {**row, "losses": losses_of(task, system, seed=row["seed"], shared=out / SHARED)}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    rows = list(rows_of(out))
    for number, row in enumerate(rows):
        rows[number] = with_losses(row, out)
        if rows[number] is not row:
            print(f"{row['task']}, {row['recipe']}, seed {row['seed']}: {rows[number]['losses']}", flush=True)
            write_atomically(out / ROWS, "".join(json.dumps(dict(one)) + "\n" for one in rows))


if __name__ == "__main__":
    main()
