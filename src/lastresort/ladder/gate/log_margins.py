"""The margins of measures that come from logs: those named on the command line, then the task's `keep`, then the default."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from lastresort.errors import InputError
from lastresort.spec.suites import KEEP
from lastresort.spec.task import Task

Margin = float | Literal["skip"]
EVERY = ""  # the name under which a margin without a name stands


def read_margins(told: Sequence[str]) -> dict[str, Margin]:
    """`0.03`, of every measure, or `NAME=0.03`, `NAME=skip`. Raises InputError for anything else."""
    found: dict[str, Margin] = {}
    for text in told:
        name, _, value = text.rpartition("=")
        if name in found:
            raise _refused(text, "each measure once")
        found[name] = "skip" if value == "skip" and name else _share(text, value)
    return found


def margins_of(names: Sequence[str], told: Mapping[str, Margin], task: Task | None) -> dict[str, Margin]:
    """Of each measure. Raises InputError where a margin is told of one that is not there."""
    for name in told:
        if name != EVERY and name not in names:
            raise _refused(name, f"a measure that both logs hold: {', '.join(names)}")
    keep = {} if task is None else task.keep
    general = keep.get("general", "skip")
    default = KEEP["general"] if general == "skip" else general
    return {name: told.get(name, told.get(EVERY, keep.get(name, default))) for name in names}


def _share(text: str, value: str) -> float:
    try:
        share = float(value)
    except ValueError:
        share = 0.0
    if not 0 < share < 1:
        raise _refused(text, "a share strictly between 0 and 1, or NAME=share, or NAME=skip")
    return share


def _refused(found: str, expected: str) -> InputError:
    return InputError(
        f'found "{found}"', where="--margin", expected=expected, remedy="For three points: --margin lm_eval:mmlu=0.03"
    )
