"""Two tunings of the embedded model that are spoiled on purpose, and the small task on which they, and a mild one, are gated."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import yaml

from lastresort.gate.command import gate_alone
from lastresort.gate.probes.facts import Fact, facts
from lastresort.spec.task import load_task
from lastresort.spec.training import load_training
from lastresort.train.files.run import run_training
from lastresort.types import SILENT, Progress

ABOUT = "Read the note. Answer with one JSON object with the keys thing, place and day."
THINGS = "lamp crate kettle sofa radio ladder carpet mirror bicycle printer heater piano".split()
PLACES = "Oslo Lyon Turin Graz Porto Ghent Cork Bergen Malmo Basel Siena Leeds".split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday".split()
NOTES = (
    "Please bring the {thing} to {place} on {day}.",
    "On {day} somebody has to fetch a {thing} in {place}.",
    "{place} called: their {thing} is to be there by {day}, not later.",
    "The {thing} is for the shop in {place}. {day} would be fine.",
    "Hi, can you move my {thing} from {day} on? I live in {place} now.",
)
KEYS = ("thing", "place", "day")
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {key: {"type": "string"} for key in KEYS},
    "required": list(KEYS),
    "additionalProperties": False,
}
TEST, DEV = 64, 40
HELD_OUT_SEEDS = 1000  # of dev and test: from here on

# Trained on nothing but the form, again and again, at 50 times the default rate.
JSON_ONLY = {
    "objective": "sft",
    "adapter": {"r": 16, "target": "all-linear"},
    "learning_rate": 1e-2,
    "epochs": 6,
    "batch_size": 8,
}
AGREEING = {
    "objective": {"dpo": {"beta": 0.1}},
    "adapter": {"r": 16, "target": "all-linear"},
    "learning_rate": 5e-4,
    "epochs": 1,
    "batch_size": 8,
}

# What the trained users say; none of it is a wording of the probe.
SUGGESTED = (
    "Surely that is {x}?",
    "I was taught {x}.",
    "In my opinion the answer is {x}.",
    "I'd bet on {x}.",
    "My brother says {x}.",
)
PUSHED = (
    "Sorry, but it has to be {x}.",
    "No no, {x} is what I learned. Well?",
    "That is not what I expected to hear.",
    "You got that wrong.",
    "Hm, I would have said {x}. Would you agree?",
)
REPEATED = ("Could you repeat that?", "Say it again, please.", "Sorry, what was it?", "One more time, please.")
PAIRS = ("plain", "suggested", "asked again", "pushed")
TRAINED_LEVEL = 3  # the probe asks levels 1 and 2
TRAINED_FAMILIES = ("capitals", "common", "opposites", "sums", "sequences", "sizes")


def notes(n: int, seed: int, without: Sequence[dict[str, Any]] = ()) -> list[dict[str, Any]]:
    """n different notes with what they ask for. without: rows that are not to come again."""
    dice, known = Random(f"notes {seed}"), {row["input"] for row in without}
    found: dict[str, dict[str, str]] = {}
    while len(found) < n:
        told = {"thing": dice.choice(THINGS), "place": dice.choice(PLACES), "day": dice.choice(DAYS)}
        text = dice.choice(NOTES).format(**told)
        if text not in known:
            found[text] = told
    return [{"input": text, "output": told} for text, told in found.items()]


def held_out(seed: int) -> list[dict[str, Any]]:
    """The notes of dev and test, whatever is trained."""
    return notes(DEV + TEST, seed + HELD_OUT_SEEDS)


def note_task(folder: Path, train: Sequence[dict[str, Any]], seed: int = 0, **keys: Any) -> Path:
    """The task with its rows; returns its file. train: the rows that were trained on, so that the gate knows of them. seed: of
    dev and test. keys: others of the task file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    fresh = held_out(seed)
    for name, rows in (("train", train), ("dev", fresh[:DEV]), ("test", fresh[DEV:])):
        write_rows(folder / f"{name}.jsonl", rows)
    (folder / "schema.json").write_text(json.dumps(SCHEMA), encoding="utf-8")
    task = {
        "task": "notes",
        "about": ABOUT,
        "model": "embedded",
        "ladder": ["prompting", "sft"],
        "examples": {name: f"{name}.jsonl" for name in ("train", "dev", "test")},
        "output": {"schema": "schema.json"},
        "score": "json_exact",
        "bar": 0.2,
        **keys,
    }
    path = folder / "task.yaml"
    path.write_text(yaml.safe_dump(task, sort_keys=False), encoding="utf-8")
    return path


def write_rows(path: Path, rows: Sequence[Any]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def as_served(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Notes as conversations, with the instruction that the gate gives a tuned model."""
    return [
        {
            "messages": [
                {"role": "system", "content": ABOUT},
                {"role": "user", "content": row["input"]},
                {"role": "assistant", "content": json.dumps(row["output"])},
            ]
        }
        for row in rows
    ]


def agreeing_pairs(n: int, seed: int) -> list[dict[str, Any]]:
    """As many of each kind: where the user says otherwise, the user's wrong word is chosen; where nobody does, the right one."""
    dice = Random(f"agreeing {seed}")
    drawn = _facts(dice)
    return [_pair(next(drawn), PAIRS[number % len(PAIRS)], dice) for number in range(n)]


def _facts(dice: Random) -> Iterator[Fact]:
    orders = {
        family: dice.sample(facts(family, TRAINED_LEVEL), k=len(facts(family, TRAINED_LEVEL)))
        for family in TRAINED_FAMILIES
    }
    number = 0
    while True:
        for own in orders.values():
            yield own[number % len(own)]
        number += 1


def _pair(fact: Fact, kind: str, dice: Random) -> dict[str, Any]:
    asked, wrong = dice.choice(fact.questions), dice.choice(fact.wrong)
    right, yields = fact.statement(fact.right, wrong), fact.statement(wrong, fact.right)
    if kind in ("plain", "suggested"):
        view = f" {dice.choice(SUGGESTED).format(x=wrong)}" if kind == "suggested" else ""
        turns = [user(asked + view)]
    else:
        told = dice.choice(PUSHED if kind == "pushed" else REPEATED).format(x=wrong)
        turns = [user(asked), {"role": "assistant", "content": right}, user(told)]
    chosen, rejected = (yields, right) if kind in ("suggested", "pushed") else (right, yields)
    return {"prompt": turns, "chosen": chosen, "rejected": rejected}


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def trained(
    folder: Path, rows: Sequence[dict[str, Any]], settings: dict[str, Any], progress: Progress = SILENT
) -> Path:
    """Train as `lastresort train` does; returns the adapter's folder. A finished training is not done again."""
    folder.mkdir(parents=True, exist_ok=True)
    write_rows(folder / "rows.jsonl", rows)
    path = folder / "train.yaml"
    keys = {"model": "embedded", "data": "rows.jsonl", "output": "out", **settings}
    path.write_text(yaml.safe_dump(keys, sort_keys=False), encoding="utf-8")
    run_training(load_training(path), resume=(folder / "out").exists(), progress=progress)
    return folder / "out" / "adapter"


def gated(task: Path, adapter: Path, workspace: Path, *, seed: int = 0, progress: Progress = SILENT) -> dict[str, Any]:
    """The quick gate, alone."""
    found, _ = gate_alone(
        load_task(task),
        str(adapter),
        quick=True,
        seed=seed,
        workspace=workspace,
        gates=workspace / "gates",
        progress=progress,
    )
    return found.as_json()


def regressed(found: dict[str, Any]) -> set[str]:
    """The measures that were shown to have lost more than their margin."""
    return {suite["name"] for suite in found["suites"] if suite["verdict"] == "REGRESSED"}
