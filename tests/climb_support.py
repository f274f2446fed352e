"""Small tasks on the scripted model, for tests of the climb."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from lastresort.records.document import Statement
from lastresort.records.rungs import Skip
from lastresort.report.words.answer import line
from lastresort.report.words.rungs import clause
from record_support import edit

TEAMS = ("billing", "delivery", "repairs")


THINGS = "invoice parcel kettle refund courier lamp receipt crate toaster discount van drill bill".split()
PLACES = "Oslo Lyon Turin Graz Porto Ghent Cork Bergen Malmo Basel Siena Leeds Aarhus".split()
STATES = "lost late broken wrong missing double torn gone wet dull".split()


def rows(n: int = 260) -> list[dict[str, str]]:
    """n different inputs with a team each."""
    found = []
    for i in range(n):
        place = PLACES[(i * 7 + i // 13) % 13]
        text = f"{THINGS[i % 13]} {STATES[i // 13 % 10]} in {place}, case {i * 37 % 1009} of week {i % 53}"
        found.append({"input": text, "output": TEAMS[i % 3]})
    return found


def scripted_task(
    folder: Path,
    *,
    quality: list[dict[str, Any]],
    task: dict[str, Any] | None = None,
    script: dict[str, Any] | None = None,
) -> Path:
    """Write rows, script and task file; returns the path of the task file."""
    folder.mkdir(parents=True, exist_ok=True)
    data = rows()
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in data), encoding="utf-8")
    body = {
        "answers_from": ["rows.jsonl"],
        "wrong": ["unknown"],
        "quality": quality,
        "calls": "calls.jsonl",
        **(script or {}),
    }
    (folder / "script.json").write_text(json.dumps(body), encoding="utf-8")
    settings: dict[str, Any] = {
        "task": "routing",
        "about": "Route the case to a team.",
        "model": "scripted:script.json",
        "ladder": ["prompting", "sft"],
        "examples": "rows.jsonl",
        "split": {"dev": 60, "test": 120},
        "output": {"choices": list(TEAMS)},
        "score": "choice",
        "bar": 0.8,
        **(task or {}),
    }
    path = folder / "task.yaml"
    path.write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
    return path


def unfinish(run: Path) -> None:
    """Make a finished run one that was killed before its end."""
    edit(run, "DELETE FROM event WHERE kind = 'climb_finished'", rechain=True)


def calls(folder: Path, name: str = "calls.jsonl") -> list[dict[str, Any]]:
    """Every call that the scripted model got, over all processes. name: of the file that its script names."""
    path = folder / name
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def statement(text: str) -> Statement:
    """One whose figures do not matter."""
    return Statement(code="of_a_test", figures={}, text=text)


def in_words(skip: Skip | None) -> str | None:
    return None if skip is None else clause(skip)


def reason_lines(decision: Mapping[str, Any]) -> list[str]:
    """The reasons of a decision as the report lists them."""
    return [line(Statement.model_validate(reason)) for reason in decision["reasons"]]


def comparable(decision: dict[str, Any]) -> dict[str, Any]:
    """A decision without what may differ between two runs of the same climb.

    That is measured seconds and what follows from them, how often items were used, and the winner's hash, in which the scripted
    model's own path counts.
    """
    kept = json.loads(json.dumps(decision))
    kept.pop("test_reuse")
    kept["winner"].pop("sha256")
    for rung in kept["rungs"]:
        rung["cost"].pop("seconds")
    for gate in filter(None, (kept["gate"], kept["first_gate"])):  # what was asked now and what was kept differs
        gate.pop("spent")
        for name in ("seconds", "expected_seconds"):
            gate["forecast"].pop(name)
    for repair in kept["repairs"]:
        for name in ("asked_now", "seconds"):
            repair["spent"].pop(name)
        if repair["gate"] is not None:
            repair["gate"].pop("spent")
    costs = kept["break_even"] or {"systems": (), "pairs": ()}
    for system in costs["systems"]:
        for name in ("seconds", "per_call_usd", "per_call_machine_s", "one_off_usd", "one_off_machine_s"):
            system.pop(name)
    for pair in costs["pairs"]:
        for name in ("crossing", "calls", "months"):
            pair.pop(name)
    kept["reasons"] = [
        reason for reason in kept["reasons"] if not reason["text"].startswith(("Cost of 1,000", "Break-even"))
    ]
    return kept
