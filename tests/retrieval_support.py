"""A small handbook, its questions, and a scripted model that answers only from what stands in its prompt."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

QUESTION = "Which code has the {name}?"
NAMES = [
    f"{first}{last}"
    for first in "bar kel mun tor vas zim dro fen gil hap".split()
    for last in "ane elt irk omb upo".split()
]
# Reads the code where the passage of the machine that is asked for stands in the prompt.
READS = {"match": r"(?s)The (\w+) shows the code (\w+)\..*Question: Which code has the \1\?", "answer": r"\2"}


def code(number: int) -> str:
    return f"Q{number * 37 % 900 + 100}"


def handbook(folder: Path, names: list[str] | None = None) -> None:
    """One document a machine, with a section that tells its code and one that does not."""
    (folder / "docs").mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names or NAMES):
        page = f"# {name}\n\n## Use\n\nThe {name} is easy to use.\n\n## Code\n\nThe {name} shows the code {code(number)}.\n"
        (folder / "docs" / f"{name}.md").write_text(page, encoding="utf-8")


def questions(*, labelled: bool = True) -> list[dict[str, Any]]:
    """Five questions a machine, which differ in a polite word."""
    rows = []
    for number, name in enumerate(NAMES):
        for word in ("Please", "Quickly", "Kindly", "Now", "Today"):
            row: dict[str, Any] = {"input": f"{word}. {QUESTION.format(name=name)}", "output": code(number)}
            rows.append({**row, "passages": [f"{name}.md#code"]} if labelled else row)
    return rows


def handbook_task(
    folder: Path,
    *,
    task: dict[str, Any] | None = None,
    script: dict[str, Any] | None = None,
    labelled: bool = True,
) -> Path:
    """Write documents, questions, script and task file; returns the path of the task file."""
    handbook(folder)
    lines = [json.dumps(row) for row in questions(labelled=labelled)]
    (folder / "questions.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    rule = {**READS, "match": READS["match"].replace("Question: ", r"Question: \w+\. ")}
    body = {"rules": [rule], "default": "no idea", "calls": "calls.jsonl", **(script or {})}
    (folder / "script.json").write_text(json.dumps(body), encoding="utf-8")
    settings: dict[str, Any] = {
        "task": "handbook",
        "about": "Answer the question.",
        "model": "scripted:script.json",
        "ladder": ["prompting", "retrieval", "sft"],
        "examples": "questions.jsonl",
        "split": {"dev": 60, "test": 100},
        "score": "exact",
        "bar": 0.7,
        "knowledge": "docs/",
        "retrieval": {"embedder": "hashing"},
        **(task or {}),
    }
    path = folder / "task.yaml"
    path.write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
    return path
