"""Tasks of lm-eval, by name or from a folder, and their documents as items of a gate: some for the pilot, the rest in an order per
seed.

What lm-eval or a task's code raises becomes one sentence. What lm-eval changes in its process is undone: random seeds, logging,
progress bars.
"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import io
import logging
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass
from functools import cached_property, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lastresort.errors import (
    DataError,
    InfrastructureError,
    InputError,
    LastresortError,
    PrerequisiteError,
)
from lastresort.gate.logs.lm_eval import results_of
from lastresort.gate.logs.logged import fingerprint
from lastresort.gate.suites.suite import SuiteItem
from lastresort.hardware.memory import is_lack_of_memory
from lastresort.spec.sections import PREFIX


@contextmanager
def faults_of(task: str) -> Iterator[None]:
    """Turns what a task raises into a DataError, which makes its suite uninformative and does not end a climb. A lack of memory and
    what could not be read are InfrastructureErrors: they say nothing about the task. Errors of the system stay as they are.
    """
    try:
        yield
    except LastresortError:
        raise
    except Exception as error:  # a task's code can raise anything
        if is_lack_of_memory(error):
            fault = "lm-eval ran out of memory"
            raise InfrastructureError(fault, where=task, remedy="Free some.") from error
        if isinstance(error, OSError):
            if error.errno is not None:
                raise
            raise InfrastructureError(
                f"lm-eval could not read what it needs ({first_line(error)})",
                where=task,
                remedy="Check the network.",
            ) from error
        raise DataError(
            f"lm-eval could not ask or score it ({type(error).__name__}: {first_line(error)})",
            where=task,
            expected="a task that this model can answer",
            remedy="Fix the task, or remove it from general.",
        ) from error


def first_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return (text[0] if text else type(error).__name__)[:200].rstrip(".")


@contextlib.contextmanager
def quiet(seed: int) -> Iterator[None]:
    """Seed all random generators and silence lm-eval; afterwards everything is as before."""
    import numpy as np
    import torch

    python, numpy = random.getstate(), np.random.get_state()
    log = logging.getLogger("lm_eval")
    level = log.level
    try:
        random.seed(seed)
        np.random.seed(seed)
        log.setLevel(logging.ERROR)
        with (
            torch.random.fork_rng(range(torch.cuda.device_count())),
            contextlib.redirect_stderr(io.StringIO()),
            contextlib.redirect_stdout(io.StringIO()),
        ):
            torch.manual_seed(seed)
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        log.setLevel(level)


__all__ = ["PREFIX", "MeasuredTasks", "load_parts"]

SEED = 1234  # lm-eval's own, for few-shot examples and for what a task draws when it loads


@dataclass(frozen=True, slots=True)
class MeasuredTasks:
    """The tasks behind one measure: a single one, or a group that lm-eval averages. tasks: lm-eval's objects, by name."""

    name: str
    tasks: Mapping[str, Any]


def load_parts(name: str, here: Path) -> list[MeasuredTasks]:
    """name: "lm_eval:TASK" (a task, a group or a tag), or "lm_eval:PATH" (a folder or a YAML file). here: what paths start from.

    Raises PrerequisiteError if lm-eval or the documents are missing, InputError for an unknown name, a task that cannot be read,
    and a task that runs code written by a model or needs more than text.
    """
    if find_spec("lm_eval") is None:
        raise PrerequisiteError(
            "lm-eval is not installed",
            where=name,
            remedy="Run: pip install 'lastresort[evals]', or remove it from general.",
        )
    task_name = name.removeprefix(PREFIX)
    path = here / Path(task_name).expanduser()
    with quiet(SEED):
        loaded = _loaded(name, task_name, path if path.exists() else None)
    if not loaded["tasks"]:
        raise _refused(name, "no task there")
    for task in loaded["tasks"].values():
        _refuse_code_and_images(name, task)
        _set_defaults(task)
    return _parts(loaded)


def _loaded(name: str, task_name: str, path: Path | None) -> Mapping[str, Any]:
    from lm_eval.tasks import TaskManager

    if path is None:
        manager = TaskManager()
        if task_name not in manager.all_tasks:
            raise _refused(name, f'found "{task_name}", which lm-eval does not know and which is nothing on disk')
        names = [task_name]
    elif path.is_dir():
        manager = TaskManager(include_path=str(path), include_defaults=False)
        names = _outermost(manager)
    else:
        manager = TaskManager(include_path=str(path.parent), include_defaults=False)
        names = [str(path)]
    try:
        loaded: Mapping[str, Any] = manager.load(names)
    except OSError as error:  # of datasets and its hub: no network, no such data set, no such file
        raise PrerequisiteError(
            f"the documents of {name} are missing here ({first_line(error)})",
            remedy="Connect to the network once to fill the cache of Hugging Face, or remove it from general.",
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError, ImportError, LookupError, RuntimeError) as error:
        raise _refused(name, f"a task that lm-eval cannot read ({first_line(error)})") from error
    return loaded


def _outermost(manager: Any) -> list[str]:
    """The groups of a folder, and its tasks outside of any group."""
    children: set[str] = set()
    for group in manager.all_groups:
        members = manager.task_index[group].cfg.get("task", ())
        children |= {
            member if isinstance(member, str) else str(member.get("task") or member.get("group")) for member in members
        }
    return [name for name in (*manager.all_groups, *manager.all_subtasks) if name not in children]


def _parts(loaded: Mapping[str, Any]) -> list[MeasuredTasks]:
    """The outermost groups that lm-eval averages, then the tasks in none of them."""
    groups = loaded.get("groups") or {}
    averaged: dict[str, Any] = {name: {} for name, group in groups.items() if group.has_aggregation}
    results = {"groups": averaged, "group_subtasks": {name: list(group.child_names) for name, group in groups.items()}}
    tasks, parts = dict(loaded["tasks"]), []
    for group, names in results_of(results).groups.items():
        group_tasks = {name: tasks.pop(name) for name in sorted(names) if name in tasks}
        if group_tasks:
            parts.append(MeasuredTasks(group, group_tasks))
    return [*parts, *(MeasuredTasks(name, {name: task}) for name, task in sorted(tasks.items()))]


def _set_defaults(task: Any) -> None:
    if task.get_config("num_fewshot") is None:
        task.set_config(key="num_fewshot", value=0)
    task.set_fewshot_seed(seed=SEED)


def _refuse_code_and_images(name: str, task: Any) -> None:
    if getattr(task, "UNSAFE_CODE", False):
        raise _refused(name, f"the task {task.task_name}, which runs code that a model writes")
    if getattr(task, "MULTIMODAL", False):
        raise _refused(name, f"the task {task.task_name}, which shows more than text")


def _refused(name: str, found: str) -> InputError:
    return InputError(
        found,
        where=f"general, {name}",
        expected="a task, group or tag of lm-eval, or the path of a folder with such tasks",
        remedy="lm_eval ls tasks shows them.",
    )


PILOT_ITEMS, PILOT_SHARE = 48, 0.2  # at most so many, and at most this share of a small set


@dataclass(frozen=True)
class Documents:
    """name: of the suite. The id of an item is TASK/NUMBER, its family the task, its text the question without examples."""

    name: str
    part: MeasuredTasks

    @cached_property
    def _read(self) -> dict[str, Any]:
        with quiet(SEED), faults_of(self.name):
            return {name: task.eval_docs for name, task in self.part.tasks.items()}

    @cached_property
    def _orders(self) -> dict[int, list[tuple[str, int]]]:
        """The scored documents by seed, kept because a gate draws them in many parts."""
        return {}

    @cached_property
    def _fixed(self) -> list[tuple[str, int]]:
        """All documents, in the order of the pilot."""
        documents = [(task, number) for task, docs in self._read.items() for number in range(len(docs))]
        return sorted(documents, key=lambda one: _sort_key("pilot", one))

    @property
    def _piloted(self) -> int:
        return min(PILOT_ITEMS, int(PILOT_SHARE * len(self._fixed)))

    def pilot(self) -> list[SuiteItem]:
        """Documents that no seed ever scores."""
        return [self._item(place) for place in self._fixed[: self._piloted]]

    def draw(self, seed: int, start: int, stop: int) -> list[SuiteItem]:
        """Documents [start, stop) of the seed's order, fewer at its end."""
        if seed not in self._orders:
            self._orders[seed] = sorted(self._fixed[self._piloted :], key=lambda one: _sort_key(str(seed), one))
        return [self._item(place) for place in self._orders[seed][start:stop]]

    def _item(self, document: tuple[str, int]) -> SuiteItem:
        task, number = document
        with faults_of(self.name):
            text = self.part.tasks[task].doc_to_text(self._read[task][number])
        return SuiteItem(f"{task}/{number}", task, 0, str(text), number=number)


def _sort_key(seed: str, document: tuple[str, int]) -> bytes:
    return hashlib.sha256(f"{seed} {document[0]} {document[1]}".encode()).digest()


def definition_of(task: Any) -> str:
    """Hash of the task's configuration and class, and of whole documents, since requests do not hold their right answers."""
    documents = {instance.doc_id: instance.doc for instance in task.instances}
    return fingerprint([_hashable(task.config), _hashable(type(task)), documents])


def _hashable(value: Any) -> Any:
    """The same in every process. A function is represented by its file, since it may call others there; in a folder of tasks by all
    files of the folder."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _hashable(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _hashable(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_hashable(inner) for inner in value]
    if isinstance(value, set | frozenset):
        return sorted(map(str, value))
    if isinstance(value, partial):
        return [_hashable(value.func), _hashable(value.args), _hashable(value.keywords)]
    if callable(value):
        return [getattr(value, "__qualname__", type(value).__qualname__), _sources(value)]
    return value


def _sources(function: Any) -> list[str]:
    if isinstance(function, type):  # one loaded by its path has no known module, its methods have
        function = next(filter(inspect.isfunction, vars(function).values()), function)
    try:
        file = inspect.getsourcefile(function)
    except TypeError:  # built in
        file = None
    if file is None:
        return []
    path = Path(file)
    of_tasks = any(path.parent.glob("*.yaml"))
    return [
        file.read_text(encoding="utf-8", errors="replace")
        for file in sorted(path.parent.glob("*.py"))
        if of_tasks or file == path
    ]
