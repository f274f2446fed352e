"""What a run that somebody else made may not do: run Python, write files, or reach another endpoint, unless the user says so."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lastresort.climb.identity import relative_path
from lastresort.errors import InputError
from lastresort.models.endpoint import approved, nobody_to_ask, parse_endpoint
from lastresort.models.protocol import is_endpoint
from lastresort.models.scripted import writes_elsewhere
from lastresort.spec.sections import PREFIX
from lastresort.spec.task import Task, load_task, named_models

SCRIPTED = "scripted:"


def code_of(task: Task) -> dict[str, str]:
    """By key of the task, what it names that runs Python or writes files: to be honoured in the user's own task file alone, since a
    run may be somebody else's.
    """
    terms = {"score": task.score, **{f"reward[{number}]": term for number, term in enumerate(task.reward)}}
    code = {
        key: f"{relative_path(Path(str(term.keys['file'])), task.folder)}:{term.keys['function']}"
        for key, term in terms.items()
        if term.python_file
    }
    for key, name in named_models(task).items():
        if name.startswith(SCRIPTED) and writes_elsewhere(task.folder / name.removeprefix(SCRIPTED)):
            code[key] = name
    for name in task.general:
        path = name.removeprefix(PREFIX)
        if name.startswith(PREFIX) and ("/" in path or (task.folder / path).exists()):
            code[f"general {name}"] = name
    return code


def endpoints_of(task: Task) -> frozenset[str]:
    """The endpoints on other machines that a task names, for whatever they are."""
    return frozenset(name for name in all_endpoints_of(task) if not parse_endpoint(name).host.is_this_machine)


def all_endpoints_of(task: Task) -> frozenset[str]:
    """Also those on this machine, which may want a key."""
    names = named_models(task).values()
    return frozenset(filter(asks_endpoint, names))


def asks_endpoint(name: str) -> bool:
    """Whether a model of this name is behind an address, and no script."""
    return is_endpoint(name) and not name.startswith(SCRIPTED)


def refuse_foreign_task(path: Path, settings: Mapping[str, Any], *, remedy: str) -> None:
    """Raises InputError where a task file that its user has not named, but a run, names code, or an endpoint that the user has not
    allowed. settings: of the user's own, which may name other endpoints.
    """
    task = load_task(path, dict(settings))
    refuse_code(code_of(task), {}, where=str(path), remedy=remedy)
    for name in sorted(endpoints_of(task) & endpoints_of(load_task(path))):
        approved(parse_endpoint(name), os.environ, nobody_to_ask)


def refuse_code(run_code: Mapping[str, str], user_code: Mapping[str, str], *, where: str, remedy: str) -> None:
    """Raises InputError for what a run names in `run_code` and the user's own task file does not."""
    for key, value in run_code.items():
        if user_code.get(key) != value:
            raise InputError(
                f"{key} is {value} there, which runs Python or writes files, and a run may be somebody else's",
                where=where,
                expected="it in a task file that you name",
                remedy=remedy,
            )
