"""What lm-eval's results say about its samples: which way a metric is better, and which tasks are parts of one. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from lastresort.evals.logs.logged import Logged

PREFIX = "lm_eval:"


@dataclass(frozen=True, slots=True)
class Results:
    """higher: by task and metric, whether more is better. groups: the tasks of each group that lm-eval itself averages; of groups
    within groups only the outermost.
    """

    higher: Mapping[str, Mapping[str, bool]] = field(default_factory=dict)
    groups: Mapping[str, frozenset[str]] = field(default_factory=dict)


def results_of(document: Mapping[str, Any]) -> Results:
    """document: a results file, or what `simple_evaluate` returns. What is not as expected there is not known."""
    higher = {
        str(task): {str(name): bool(up) for name, up in told.items() if up is not None}
        for task, told in _mapping(document.get("higher_is_better")).items()
        if isinstance(told, Mapping)
    }
    children = {name: told for name, told in _mapping(document.get("group_subtasks")).items() if isinstance(told, list)}
    averaged = [name for name in _mapping(document.get("groups")) if name in children]
    inner = {below for name in averaged for below in _below(name, children) if below != name}
    groups = {name: frozenset(_below(name, children) - children.keys()) for name in averaged if name not in inner}
    return Results(higher, groups)


def pooled(logs: Sequence[Logged], results: Results, source: str) -> list[Logged]:
    """The tasks of a group as one measure, whose items keep their task as a stratum; all else as it is.

    Tasks of a group that are scored by different metrics stay apart.
    """
    by_task = {one.name.removeprefix(PREFIX): one for one in logs}
    rest, found = dict(by_task), []
    for group, tasks in results.groups.items():
        parts = {task: by_task[task] for task in sorted(tasks) if task in rest}
        if len(parts) > 1 and len({one.metric for one in parts.values()}) == 1:
            found.append(_one(group, parts, source))
            rest = {task: one for task, one in rest.items() if task not in parts}
    return [*found, *rest.values()]


def _one(group: str, parts: Mapping[str, Logged], source: str) -> Logged:
    items = tuple(
        replace(item, id=f"{task}/{item.id}", stratum=task) for task, one in parts.items() for item in one.items
    )
    metric = next(iter(parts.values())).metric
    notes = [note.replace(one.name, f"{PREFIX}{group}", 1) for one in parts.values() for note in one.notes]
    return Logged(f"{PREFIX}{group}", metric, items, source, tuple(dict.fromkeys(notes)))


def _below(name: str, children: Mapping[str, list[Any]]) -> set[str]:
    """A group, its groups and its tasks, however deep."""
    found, open_ = set(), [name]
    while open_:
        one = open_.pop()
        if one not in found:
            found.add(one)
            open_ += [str(child) for child in children.get(one, ())]
    return found


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
