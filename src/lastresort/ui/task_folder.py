"""The folder of a task that is being made: what its pages find in it, and how its climb is started.

The gate and the last rung to try are kept there until somebody chooses others.
"""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import yaml

from lastresort.app.start import GATE_MODES
from lastresort.errors import InputError, LastresortError
from lastresort.foreign import read_yaml
from lastresort.ladder import RUNGS
from lastresort.records.atomic import write_atomically
from lastresort.records.record import Record
from lastresort.records.view import options_in
from lastresort.spec.task import Task
from lastresort.spec.values import one_of
from lastresort.ui import drafts
from lastresort.ui.site import Site
from lastresort.ui.workspace import NotThere

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
    gates: tuple[str, ...] = GATE_MODES


def chosen(gate: str, until: str, ladder: tuple[str, ...]) -> ClimbOptions:
    """What somebody chose. Raises InputError for what is no gate, and no rung of the ladder."""
    return ClimbOptions(gate and one_of("gate", gate, GATE_MODES), until and one_of("until", until, ladder))


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
    return ClimbOptions(gate if gate in GATE_MODES else "", until if until in tuple(RUNGS) else "")


def options_of(record: Record) -> ClimbOptions:
    """Those of a run."""
    given = options_in(record)
    until = None if given.chosen is None else given.chosen.until
    return ClimbOptions("" if given.gate is None or given.gate.mode == "full" else given.gate.mode, until or "")


def there(site: Site, name: str) -> Path:
    folder = site.workspace.task_folder(name)
    if not folder.is_dir():
        raise NotThere(f'There is no task "{name}" here.')
    return folder


def data_in(site: Site, name: str) -> Path:
    found = drafts.data_file(there(site, name))
    if found is None:
        raise NotThere(f'There is no task "{name}" here.')
    return found


def uploaded_in(site: Site, name: str) -> Path:
    """The file that somebody gave, also where the task reads a copy without some of its rows."""
    data = data_in(site, name)
    copied = drafts.copies_in(data.parent).get(data.name)
    found = None if copied is None else data.with_name(Path(copied.source).name)
    return data if found is None or not found.is_file() else found


def task_in(site: Site, name: str) -> Task:
    folder = there(site, name)
    return drafts.task_from(drafts.text_of(folder) or "", folder)


def ladder_of(site: Site, name: str) -> tuple[str, ...]:
    """Of the text as it is now; every rung where it has a fault."""
    try:
        return task_in(site, name).ladder
    except LastresortError:
        return tuple(RUNGS)


def start_form(site: Site, name: str) -> StartForm:
    folder, rungs = there(site, name), ladder_of(site, name)
    options = kept_options(folder).within(rungs)
    return StartForm(options, rungs, options.typed(below(site, folder / drafts.DRAFT)))


def state_of(site: Site, name: str) -> object:
    """Changes with what a command would read."""
    folder = there(site, name)
    text = drafts.text_of(folder) or ""
    data = []
    for path in sorted(folder.iterdir()):
        if path.suffix != ".yaml" and not path.name.startswith(
            "."
        ):  # which no command reads: it is still being written
            with suppress(FileNotFoundError):  # a link that leads nowhere, or it was removed a moment ago
                data.append((path.name, path.stat().st_mtime_ns))
    return hashlib.sha256(text.encode()).hexdigest(), tuple(data)


def below(site: Site, path: Path) -> str:
    return path.relative_to(site.workspace.folder).as_posix()
