"""How a climb of a task is started: the gate and the last rung to try, kept beside the task until somebody chooses others."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from lastresort.app.start import GATES
from lastresort.errors import InputError
from lastresort.foreign import read_yaml
from lastresort.ladder import RUNGS
from lastresort.records.atomic import write_atomically
from lastresort.records.events import GateChosen, OptionsChosen
from lastresort.records.record import Record
from lastresort.spec.values import one_of

KEPT = "start.yaml"  # beside the draft


@dataclass(frozen=True, slots=True)
class ClimbOptions:
    """gate, until: as the options of `lastresort climb`, "" for the default."""

    gate: str = ""
    until: str = ""

    def within(self, ladder: Sequence[str]) -> ClimbOptions:
        """Of a task with this ladder, which may have lost the rung."""
        return self if self.until in ladder else ClimbOptions(self.gate)

    @property
    def arguments(self) -> list[str]:
        gate = ["--gate", self.gate] if self.gate else []
        return [*gate, *(["--until", self.until] if self.until else [])]

    def typed(self, task_file: str) -> str:
        """The climb as a line for a terminal."""
        return shlex.join(["lastresort", "climb", task_file, *self.arguments])


@dataclass(frozen=True, slots=True)
class StartForm:
    """What is beside Start. typed: the same in a terminal."""

    options: ClimbOptions
    rungs: tuple[str, ...]
    typed: str
    gates: tuple[str, ...] = GATES


def chosen(gate: str, until: str, ladder: tuple[str, ...]) -> ClimbOptions:
    """What somebody chose. Raises InputError for what is no gate, and no rung of the ladder."""
    return ClimbOptions(gate and one_of("gate", gate, GATES), until and one_of("until", until, ladder))


def keep_options(folder: Path, options: ClimbOptions) -> None:
    if options != kept_options(folder):
        write_atomically(folder / KEPT, yaml.safe_dump({"gate": options.gate, "until": options.until}))


def kept_options(folder: Path) -> ClimbOptions:
    """Those of a task's folder; the defaults in place of what cannot be read."""
    path = folder / KEPT
    if path.is_symlink() or not path.is_file():
        return ClimbOptions()
    try:
        found = read_yaml(path)
    except InputError:
        return ClimbOptions()
    gate, until = (found.get("gate"), found.get("until")) if isinstance(found, dict) else ("", "")
    return ClimbOptions(gate if gate in GATES else "", until if until in tuple(RUNGS) else "")


def options_of(record: Record) -> ClimbOptions:
    """Those of a run."""
    options, gate = record.last(OptionsChosen), record.last(GateChosen)
    until = None if options is None else options.until
    return ClimbOptions("" if gate is None or gate.mode == "full" else gate.mode, until or "")
