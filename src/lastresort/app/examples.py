"""The examples to start with: inside the package in an installed wheel, next to it in a checkout."""

from __future__ import annotations

from pathlib import Path

from lastresort.errors import InputError, PrerequisiteError
from lastresort.spec.values import nearest

PACKAGE = Path(__file__).resolve().parents[1]
PLACES = (PACKAGE / "examples", PACKAGE.parent.parent / "examples")


def example_tasks() -> dict[str, Path]:
    """Name -> task file. Raises PrerequisiteError where none came with the program."""
    for place in PLACES:
        if tasks := {path.parent.name: path for path in sorted(place.glob("*/task.yaml"))}:
            return tasks
    raise PrerequisiteError(
        "no examples", where=str(PLACES[0]), expected="those of the wheel", remedy="Install lastresort again."
    )


def example_task(name: str) -> Path:
    """The task file of an example. Raises InputError for a name that is none."""
    tasks = example_tasks()
    if name in tasks:
        return tasks[name]
    close = nearest(name, tasks)
    remedy = f'Did you mean "{close}"?' if close else "Name one of them."
    raise InputError(f'no example "{name}"', where="NAME", expected=", ".join(tasks), remedy=remedy)
