"""Tasks of lm-eval by name, or from a folder of their definitions, with their documents."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lastresort.errors import InputError, PrerequisiteError
from lastresort.evals.harness.faults import first_line
from lastresort.evals.harness.quiet import quiet
from lastresort.evals.logs.lm_eval_results import PREFIX, results_of

__all__ = ["PREFIX", "Part", "load_parts"]

SEED = 1234  # of few-shot examples, and of what a task draws when it is read: lm-eval's own


@dataclass(frozen=True, slots=True)
class Part:
    """What becomes a measure: a task, or the tasks of a group that lm-eval averages. tasks: its own objects, by name."""

    name: str
    tasks: Mapping[str, Any]


def load_parts(name: str, here: Path) -> list[Part]:
    """name: "lm_eval:TASK" (a task, a group or a tag), or "lm_eval:PATH", of a folder or a YAML file. here: where paths start.

    Raises PrerequisiteError where lm-eval or the documents are not to be had, InputError for a name that it does not know, a task
    that cannot be read, and one that runs what a model writes or wants more than text.
    """
    if find_spec("lm_eval") is None:
        raise PrerequisiteError(
            "lm-eval is not installed",
            where=name,
            remedy="Run: pip install 'lastresort[evals]', or remove it from general.",
        )
    told = name.removeprefix(PREFIX)
    path = here / Path(told).expanduser()
    with quiet(SEED):
        loaded = _loaded(name, told, path if path.exists() else None)
    if not loaded["tasks"]:
        raise _refused(name, "no task there")
    for task in loaded["tasks"].values():
        _refuse_what_is_no_text(name, task)
        _as_the_command_line_does(task)
    return _parts(loaded)


def _loaded(name: str, told: str, path: Path | None) -> Mapping[str, Any]:
    from lm_eval.tasks import TaskManager

    if path is None:
        manager = TaskManager()
        if told not in manager.all_tasks:
            raise _refused(name, f'found "{told}", which lm-eval does not know and which is nothing on disk')
        wanted = [told]
    elif path.is_dir():
        manager = TaskManager(include_path=str(path), include_defaults=False)
        wanted = _outermost(manager)
    else:
        manager = TaskManager(include_path=str(path.parent), include_defaults=False)
        wanted = [str(path)]
    try:
        loaded: Mapping[str, Any] = manager.load(wanted)
    except OSError as error:  # of datasets and its hub: no network, no such data set, no such file
        raise PrerequisiteError(
            f"the documents of {name} cannot be had here ({first_line(error)})",
            remedy="Connect to the network once, so that they are kept in the cache of Hugging Face, or remove it from general.",
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError, ImportError, LookupError, RuntimeError) as error:
        raise _refused(name, f"a task that lm-eval cannot read ({first_line(error)})") from error
    return loaded


def _outermost(manager: Any) -> list[str]:
    """The groups of a folder, and its tasks that are in none of them."""
    inside: set[str] = set()
    for group in manager.all_groups:
        told = manager.task_index[group].cfg.get("task", ())
        inside |= {one if isinstance(one, str) else str(one.get("task") or one.get("group")) for one in told}
    return [name for name in (*manager.all_groups, *manager.all_subtasks) if name not in inside]


def _parts(loaded: Mapping[str, Any]) -> list[Part]:
    """Groups that lm-eval averages, the outermost, then tasks that are in none of these."""
    groups = loaded.get("groups") or {}
    averaged: dict[str, Any] = {name: {} for name, group in groups.items() if group.has_aggregation}
    told = {"groups": averaged, "group_subtasks": {name: list(group.child_names) for name, group in groups.items()}}
    tasks, parts = dict(loaded["tasks"]), []
    for group, names in results_of(told).groups.items():
        own = {name: tasks.pop(name) for name in sorted(names) if name in tasks}
        if own:
            parts.append(Part(group, own))
    return [*parts, *(Part(name, {name: task}) for name, task in sorted(tasks.items()))]


def _as_the_command_line_does(task: Any) -> None:
    if task.get_config("num_fewshot") is None:
        task.set_config(key="num_fewshot", value=0)
    task.set_fewshot_seed(seed=SEED)


def _refuse_what_is_no_text(name: str, task: Any) -> None:
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
