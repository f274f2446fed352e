"""What decides how a task of lm-eval scores an answer, as something that can be hashed: kept scores are of one definition."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import partial
from pathlib import Path
from typing import Any

from lastresort.evals.logs.logged import fingerprint


def definition_of(task: Any) -> str:
    """Hash of its configuration and class, and of the documents that its requests are made of, whole: their right answers are not
    in what is asked."""
    documents = {one.doc_id: one.doc for one in task.instances}
    return fingerprint([_told(task.config), _told(type(task)), documents])


def _told(value: Any) -> Any:
    """The same in every process. A function is the file that it stands in, since it may call others there; in a folder of tasks,
    all of the folder's."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _told(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _told(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_told(one) for one in value]
    if isinstance(value, set | frozenset):
        return sorted(map(str, value))
    if isinstance(value, partial):
        return [_told(value.func), _told(value.args), _told(value.keywords)]
    if callable(value):
        return [getattr(value, "__qualname__", type(value).__qualname__), _sources(value)]
    return value


def _sources(function: Any) -> list[str]:
    if isinstance(function, type):  # whose module is not known where it was loaded by its path; that of its methods is
        function = next(filter(inspect.isfunction, vars(function).values()), function)
    try:
        found = inspect.getsourcefile(function)
    except TypeError:  # built in
        found = None
    if found is None:
        return []
    path = Path(found)
    of_tasks = any(path.parent.glob("*.yaml"))
    return [
        one.read_text(encoding="utf-8", errors="replace")
        for one in sorted(path.parent.glob("*.py"))
        if of_tasks or one == path
    ]
