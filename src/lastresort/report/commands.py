"""The commands that take a run up, or make it and its report again, as they are typed."""

from __future__ import annotations

import json
import posixpath
import re
import shlex
from collections.abc import Mapping
from pathlib import PurePosixPath

from pydantic import JsonValue

from lastresort.records.events import GateChosen, ItemsAdded, OptionsChosen, TaskPlaced, WaysChosen
from lastresort.records.record import Record

NEAR = 3  # folders between a run and what it shares with its task file
YAML_WORDS = ("true", "false", "null", "yes", "no", "on", "off")  # text that YAML would read as something else


def commands(record: Record) -> tuple[str, ...]:
    """The climb with its options, how it went on with each file of fresh items, and its report: as typed in the folder that the
    task file and the run have in common.

    Where they lie far apart, all are named without their folders: a report says nothing of the machine.
    """
    task, run = _places(record)
    climb, options = ["lastresort", "climb", task], _options(record)
    fresh = {added.sha256: added.path for added in record.all(ItemsAdded)}.values()
    went_on = [[*climb, "--resume", "--more", _in_folder(path, run), *_settings(record)] for path in fresh]
    return tuple(shlex.join(words) for words in ([*climb, *options], *went_on, ["lastresort", "report", run]))


def resume_command(record: Record) -> str:
    """The command that takes the run up, typed as `commands`. Settings are named again: those that hold code or an endpoint are not
    taken from a run.
    """
    task, run = _places(record)
    return shlex.join(["lastresort", "climb", task, "--resume", run, *_settings(record)])


def _places(record: Record) -> tuple[str, str]:
    """Of the task file and of the run, from the folder that they have in common."""
    placed = record.last(TaskPlaced)
    task, run = PurePosixPath("task.yaml"), PurePosixPath("runs", record.folder.name)
    if placed is not None:
        task, run = PurePosixPath(placed.path), PurePosixPath(placed.run)
        if task.is_absolute() or max(path.parts.count("..") for path in (task, run)) > NEAR:
            task, run = PurePosixPath(task.name), PurePosixPath(run.name)
    return _downwards(task), _downwards(run)


def _in_folder(path: str, run: str) -> str:
    """A file that is named from the folder of the run, named from the one in which that is `run`; the name alone of one far off."""
    found = PurePosixPath(posixpath.normpath(PurePosixPath(run, path)))
    return found.name if found.is_absolute() or ".." in found.parts else str(found)


def _downwards(path: PurePosixPath) -> str:
    return str(PurePosixPath(*(part for part in path.parts if part != "..")))


def _settings(record: Record) -> list[str]:
    chosen = record.last(OptionsChosen)
    found: list[str] = []
    for key, value in ({} if chosen is None else _without_places(chosen.settings)).items():
        found += ["--set", f"{key}={json.dumps(value, ensure_ascii=False) if _needs_json(value) else value}"]
    return found


def _options(record: Record) -> list[str]:
    """The options of the climb that are not the defaults."""
    chosen, gate, ways = record.last(OptionsChosen), record.last(GateChosen), record.last(WaysChosen)
    found = _settings(record)
    if chosen is not None and chosen.until is not None:
        found += ["--until", chosen.until]
    if gate is not None and gate.mode != "full":
        found += ["--gate", gate.mode]
    if ways is not None and ways.names:
        found += ["--compare", ",".join(ways.names), "--compare-seeds", str(ways.seeds)]
    return found


def _without_places(settings: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """Absolute paths as their names, addresses without their host: a report says nothing of the machine."""
    return {key: _without_place(value) for key, value in settings.items()}


def _without_place(value: JsonValue) -> JsonValue:
    if isinstance(value, dict):
        return _without_places(value)
    if isinstance(value, list):
        return [_without_place(one) for one in value]
    if not isinstance(value, str):
        return value
    if address := re.match(r"(https?://)[^/]+", value):
        return f"{address[1]}HOST{value[address.end() :]}"
    return value.rstrip("/").rpartition("/")[2] if value.startswith(("/", "~")) else value


def _needs_json(value: JsonValue) -> bool:
    """Plain words are typed as they are; YAML reads everything else as JSON writes it."""
    plain = isinstance(value, str) and re.fullmatch(r"[A-Za-z_][\w./-]*", value) and value.lower() not in YAML_WORDS
    return not plain
