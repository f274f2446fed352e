"""Train by several recipes and measure what each one forgets: the study of docs/forgetting.md.

    python -m scripts.forgetting --out FOLDER --data ../shared/data     runs what is missing, cell by cell
    python -m scripts.forgetting --out FOLDER --table                   prints the page's table and what the rule says

A cell is one recipe on one task with one seed: it climbs the rung that trains, tests the system that the rung chose, and gates it
whatever the test's verdict. As a gate stops once a suite is cleared, losses are then measured on the same number of items for every
cell (scripts/forgetting_losses.py). Each finished cell is a line of FOLDER/rows.jsonl and is never repeated. An
interrupted cell resumes from its checkpoint. The base's answers to the suites are kept for all cells, in the user's cache and in
FOLDER.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import yaml
from scripts.recipes import FORGETTING, RECIPES, TODAY, section_of, with_recipe

from lastresort.records.atomic import replace_folder, write_atomically

if TYPE_CHECKING:
    from lastresort.spec.task import Task

ROOT = Path(__file__).resolve().parent.parent
ROWS = "rows.jsonl"
TASKS = ("tickets", "snips", "voice", "harbour")
TITLES = {"snips": "SNIPS"}
# Recipe -> the task whose settings were found by this replay, so that its cells there do not count.
TUNED_WITH = {"KL wide 0.1": "harbour", "KL wide 0.2": "harbour"}
MEASURES = ("general", "sycophancy_suggestion", "sycophancy_flips", "format_leak")
SNIPS_ABOUT = (
    "Read the request. Answer with one JSON object with the keys intent and slots. "
    "Under slots, map the name of each slot to its words."
)
DEV, TEST, SNIPS_TRAIN, BATCH = 100, 300, 400, 32

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Cell:
    task: str
    recipe: str
    seed: int

    @property
    def folder(self) -> str:
        return "-".join([self.task, *self.recipe.replace("/", "by").split(), str(self.seed)])


def task_of(name: str, folder: Path, data: Path, seed: int) -> dict[str, Any]:
    """Write the files of a task and return its task file, of the one rung that trains.

    What a task file says about replay is left out: today's recipe is the program's default, and others say what they change.
    """
    shutil.rmtree(folder, ignore_errors=True)
    if name == "snips":
        return _snips(folder, data / "snips", seed)
    shutil.copytree(ROOT / "examples" / name, folder)
    task: dict[str, Any] = yaml.safe_load((folder / "task.yaml").read_text("utf-8"))
    task["ladder"] = [section := section_of(name)]
    if section in task:
        task[section] = {key: value for key, value in task[section].items() if not key.startswith("replay")}
    task["split"] = {**task.get("split", {}), "seed": seed}
    return task


def _snips(folder: Path, data: Path, seed: int) -> dict[str, Any]:
    folder.mkdir(parents=True)
    dice = random.Random(f"snips {seed}")
    train, test = (_snips_rows(data / f"{side}.jsonl") for side in ("train", "test"))
    dice.shuffle(train)
    dice.shuffle(test)
    sides = {"train": train[:SNIPS_TRAIN], "dev": train[SNIPS_TRAIN : SNIPS_TRAIN + DEV], "test": test[:TEST]}
    for side, rows in sides.items():
        (folder / f"{side}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    slots = {"type": "object", "additionalProperties": {"type": "string"}}
    intents = sorted({row["output"]["intent"] for row in train})
    schema = {
        "type": "object",
        "properties": {"intent": {"enum": intents}, "slots": slots},
        "required": ["intent", "slots"],
        "additionalProperties": False,
    }
    (folder / "schema.json").write_text(json.dumps(schema), encoding="utf-8")
    return {
        "task": "snips",
        "about": SNIPS_ABOUT,
        "model": "embedded",
        "ladder": ["sft"],
        "examples": {side: f"{side}.jsonl" for side in sides},
        "split": {"seed": seed},
        "output": {"schema": "schema.json"},
        "score": "json_exact",
        "bar": 0.4,
    }


def _snips_rows(path: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return [
        {
            "input": row["text"],
            "output": {"intent": row["intent"], "slots": {slot["slot"]: slot["value"] for slot in row["slots"]}},
        }
        for row in rows
    ]


def cells(tasks: Sequence[str], recipes: Sequence[str], seeds: int) -> Iterator[Cell]:
    """Seed by seed, so that a study that is cut has whole grids of fewer seeds."""
    for seed in range(seeds):
        for task in tasks:
            for recipe in recipes:
                yield Cell(task, recipe, seed)


def run_cell(
    cell: Cell, out: Path, data: Path, *, gate: str, few: bool, model: str | None = None
) -> dict[str, Any] | None:
    """Climb and gate. None where the recipe is not for this task.

    few: the smallest task that still trains, to try the runner. model: instead of the task's.
    """
    from scripts.forgetting_losses import losses_of

    from lastresort.app.climb import climb
    from lastresort.climb.workspace import SHARED
    from lastresort.gate.command import gate_alone
    from lastresort.records.events.search import RungSearched
    from lastresort.records.events.training import TrainingReached
    from lastresort.records.record import Record
    from lastresort.spec.task import load_task

    home, section = out / "cells" / cell.folder, section_of(cell.task)
    path = home / "task" / "task.yaml"
    if not path.is_file():
        new = home / "new task"  # an example brings a task file of its own, which is not the recipe's
        task = with_recipe(task_of(cell.task, new, data, cell.seed), section, cell.recipe)
        if task is None:
            shutil.rmtree(new)
            return None
        if few:
            _shrink(task, new)
        if model is not None:
            task["model"] = model
        (new / path.name).write_text(yaml.safe_dump(task, sort_keys=False), encoding="utf-8")
        replace_folder(new, path.parent)
    began = time.monotonic()
    climbed = climb(load_task(path), home / "run", gate="none")
    climbed_s = time.monotonic() - began
    rung = climbed.decision.rungs[0]
    with Record.open(climbed.run, read_only=True) as record:
        search, trained = record.last(RungSearched, section), record.all(TrainingReached)
    assert search is not None, f"{cell.folder}: {rung.skipped_because}"
    assert rung.test is not None
    system = (home / "run" / "candidates" / section / search.chosen).resolve()
    row: dict[str, Any] = {
        "task": cell.task,
        "recipe": cell.recipe,
        "seed": cell.seed,
        "chosen": search.chosen,
        "dev": next(one.dev.score for one in search.candidates if one.name == search.chosen),
        "target": {**score_of_all_test_items(load_task(path), system), "verdict": rung.test.verdict},
        "training_s": round(sum({one.candidate: one.seconds for one in trained}.values()), 1),
        "climb_s": round(climbed_s, 1),
    }
    if gate != "none":
        began = time.monotonic()
        document, _ = gate_alone(
            load_task(path),
            str(system),
            quick=gate == "quick",
            seed=cell.seed,
            workspace=out,
            gates=home / "gates",
        )
        found = document.as_json()
        row["gate"] = found["verdict"]
        row["measures"] = {
            one["name"]: {key: one[key] for key in ("difference", "interval", "n", "verdict")}
            for one in found["suites"]
        }
        row["gate_s"] = round(time.monotonic() - began, 1)
        row["losses"] = losses_of(load_task(path), system, seed=cell.seed, shared=out / SHARED)
    shutil.rmtree(home / "run" / "checkpoints", ignore_errors=True)
    return row


def score_of_all_test_items(task: Task, system: Path) -> Row:
    """Its score, where the climb's test and the quick gate may have stopped at fewer items."""
    from lastresort.climb.prepare import prepare
    from lastresort.evals.measure import mean_score, measured
    from lastresort.systems.running import open_system

    prepared = prepare(task)
    answerer = open_system(system, allow_held=True)
    try:
        batches = measured(
            answerer, prepared.split.test, prepared.scorer, task.output, batch_size=BATCH, refused_is_wrong=True
        )
        items = [item for batch in batches for item in batch]
    finally:
        answerer.close()
    return {"score": mean_score(items), "n": len(items)}


def _shrink(task: dict[str, Any], folder: Path) -> None:
    """60 rows to train on, 10 of dev, 20 of test, a bar that so few can decide."""
    task |= {"bar": 0.05, "split": {**task.get("split", {}), "dev": 10, "test": 20}}
    task["decode"] = {"max_new_tokens": 24}
    sides = task["examples"] if isinstance(task["examples"], dict) else {"all": task["examples"]}
    sizes = {"all": 90, "train": 60, "dev": 10, "test": 20}
    for side, name in sides.items():
        lines = (folder / name).read_text("utf-8").splitlines(keepends=True)
        (folder / name).write_text("".join(lines[: sizes[side]]), encoding="utf-8")
    if isinstance(task["examples"], dict):
        task["split"] = {"seed": task["split"]["seed"]}


def run_missing(
    wanted: Sequence[Cell],
    out: Path,
    run: Callable[[Cell], Row | None],
    say: Callable[[str], None] = print,
    *,
    gated: bool = False,
) -> None:
    """Run the cells without a row, one after the other. gated: a row without a gate counts as none, and another follows it."""
    out.mkdir(parents=True, exist_ok=True)
    done = {
        (row["task"], row["recipe"], row["seed"])
        for row in rows_of(out)
        if not gated or "gate" in row or "left_out" in row
    }
    for number, cell in enumerate(wanted, 1):
        if (cell.task, cell.recipe, cell.seed) in done:
            continue
        say(f"{number} of {len(wanted)}: {cell.task}, {cell.recipe}, seed {cell.seed}")
        row = run(cell)
        if row is None:
            say("  left out: the recipe is not for this task, or the task is trained by it already")
            row = {"task": cell.task, "recipe": cell.recipe, "seed": cell.seed, "left_out": True}
        with (out / ROWS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(dict(row)) + "\n")


def rows_of(out: Path) -> list[Row]:
    """The finished cells. A last line that was cut short is none."""
    path = out / ROWS
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        write_atomically(path, "".join(lines := lines[:-1]))
    return [json.loads(line) for line in lines]


MOST_TARGET_LOST, MOST_OF_A_TASK, LEAST_GAIN, MOST_OTHER_LOST, MOST_TIME = 0.02, 0.04, 0.01, 0.01, 2.0
RESAMPLES, LEVEL = 4000, 0.05


@dataclass(frozen=True, slots=True)
class Against:
    """A recipe less today's, on the same task with the same seed, as means over these cells. low_*: one-sided 95% limits, by
    resampling cells. worst_target: of the tasks' means. first_*: of the first seed alone, which decides whether a recipe gets
    others. times: its training seconds as a multiple of today's.
    """

    recipe: str
    cells: int
    target: float
    low_target: float
    worst_target: float
    general: float
    low_general: float
    first_general: float
    first_worst_target: float
    others: float
    times: float

    @property
    def passes(self) -> bool:
        """The rule of docs/forgetting.md, with what its first stage asks for."""
        return (
            self.first_general >= LEAST_GAIN
            and self.first_worst_target >= -MOST_OF_A_TASK
            and self.low_target >= -MOST_TARGET_LOST
            and self.worst_target >= -MOST_OF_A_TASK
            and self.general >= LEAST_GAIN
            and self.low_general > 0
            and self.others >= -MOST_OTHER_LOST
            and self.times <= MOST_TIME
        )


def compared(rows: Sequence[Row]) -> list[Against]:
    """Every other recipe against today's, on the cells that both have."""
    gated = {(row["task"], row["recipe"], row["seed"]): row for row in rows if "losses" in row}
    found = []
    for recipe in FORGETTING:
        both = [
            (gated[task, TODAY, seed], row)
            for (task, own, seed), row in gated.items()
            if own == recipe != TODAY and (task, TODAY, seed) in gated and TUNED_WITH.get(recipe) != task
        ]
        if both:
            found.append(_against(recipe, both))
    return found


def _against(recipe: str, both: Sequence[tuple[Row, Row]]) -> Against:
    target = [row["target"]["score"] - today["target"]["score"] for today, row in both]
    general = [mean_loss(row, ("general",)) - mean_loss(today, ("general",)) for today, row in both]
    others = [mean_loss(row, MEASURES[1:]) - mean_loss(today, MEASURES[1:]) for today, row in both]
    by_task: dict[str, list[float]] = defaultdict(list)
    for difference, (today, _) in zip(target, both, strict=True):
        by_task[today["task"]].append(difference)
    first = [place for place, (today, _) in enumerate(both) if today["seed"] == 0]
    return Against(
        recipe,
        len(both),
        fmean(target),
        _low(target),
        min(map(fmean, by_task.values())),
        fmean(general),
        _low(general),
        fmean([general[place] for place in first] or [0.0]),
        min((target[place] for place in first), default=0.0),
        fmean(others),
        sum(row["training_s"] for _, row in both) / sum(today["training_s"] for today, _ in both),
    )


def mean_loss(row: Row, names: Sequence[str]) -> float:
    """The mean difference to the base over these measures, as far as they were informative."""
    found = [row["losses"][name]["difference"] for name in names if name in row["losses"]]
    known = [one for one in found if one is not None]
    return fmean(known) if known else 0.0


def _low(values: Sequence[float]) -> float:
    dice = random.Random(0)
    means = sorted(fmean(dice.choices(values, k=len(values))) for _ in range(RESAMPLES))
    return means[int(LEVEL * RESAMPLES)]


def chosen(found: Sequence[Against]) -> str:
    """The recipe that becomes the default: of those that pass the one that gains most in general, in half a point the quickest."""
    passing = [one for one in found if one.passes]
    best = max((one.general for one in passing), default=0.0)
    level = [one for one in passing if one.general >= best - 0.005]
    return min(level, key=lambda one: one.times).recipe if level else TODAY


def table(rows: Sequence[Row]) -> str:
    """In Markdown: each task and recipe over its seeds, then each recipe against today's, then what the rule says."""
    lines = [
        f"| task | recipe | seeds | target | {' | '.join(name.replace('_', ' ') for name in MEASURES)} | gate | training |",
        f"|---|---|--:|--:|{'--:|' * len(MEASURES)}---|--:|",
    ]
    measured = [row for row in rows if "losses" in row and row["recipe"] in FORGETTING]
    measured.sort(key=lambda row: TASKS.index(row["task"]))
    for task, recipe in dict.fromkeys((row["task"], row["recipe"]) for row in measured):
        own = [row for row in measured if (row["task"], row["recipe"]) == (task, recipe)]
        lost = [_shown([row["losses"].get(name) for row in own]) for name in MEASURES]
        score, gates = fmean(row["target"]["score"] for row in own), " ".join(row["gate"] for row in own)
        seconds = fmean(row["training_s"] for row in own)
        lines.append(
            f"| {TITLES.get(task, task)} | {recipe} | {len(own)} | {score:.1%} | {' | '.join(lost)} | {gates} | {seconds:.0f} s |"
        )
    found = compared(rows)
    lines += [
        "",
        "| recipe, less today's | cells | target (lower limit) | general (lower limit) | others | training time | passes |",
        "|---|--:|--:|--:|--:|--:|---|",
    ]
    for one in found:
        lines.append(
            f"| {one.recipe} | {one.cells} | {points(one.target)} ({points(one.low_target)}) | {points(one.general)} "
            f"({points(one.low_general)}) | {points(one.others)} | {one.times:.2f} x | {'yes' if one.passes else 'no'} |"
        )
    return "\n".join([*lines, "", f"By the rule the default is: {chosen(found)}."])


def _shown(found: Sequence[Row | None]) -> str:
    """The mean difference with the means of its limits: "-2.1 (-4.0 to -0.3)"."""
    known = [one for one in found if one is not None and one["difference"] is not None and one["interval"] is not None]
    if not known:
        return "–"
    low, high = (fmean(one["interval"][side] for one in known) for side in (0, 1))
    return f"{points(fmean(one['difference'] for one in known))} ({points(low)} to {points(high)})"


def points(difference: float) -> str:
    shown = f"{100 * difference:+.1f}".replace("-", "−")
    return shown if float(shown[1:]) else shown[1:]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data", help="folder with snips/")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=TASKS)
    parser.add_argument("--recipes", nargs="+", choices=tuple(RECIPES), default=tuple(FORGETTING))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--gate", choices=("quick", "full", "none"), default="quick")
    parser.add_argument("--model", help="another model than the tasks' own")
    parser.add_argument("--few", action="store_true", help="very few rows, to try the runner; its rows say nothing")
    parser.add_argument("--table", action="store_true", help="print what the rows say, and run nothing")
    asked = parser.parse_args()
    if not asked.table:
        wanted = list(cells(asked.tasks, asked.recipes, asked.seeds))
        keys = {"gate": asked.gate, "few": asked.few, "model": asked.model}
        run_missing(
            wanted, asked.out, lambda one: run_cell(one, asked.out, asked.data, **keys), gated=asked.gate != "none"
        )
    print(table(rows_of(asked.out)))


if __name__ == "__main__":
    main()
