"""The commands that make a run and its report again, as they are typed."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from pathlib import PurePosixPath

from pydantic import JsonValue

from lastresort.records.events import GateChosen, OptionsChosen, TaskPlaced, WaysChosen
from lastresort.records.record import Record

NEAR = 3  # folders between a run and what it shares with its task file
YAML_WORDS = ("true", "false", "null", "yes", "no", "on", "off")  # text that YAML would read as something else


def commands(record: Record) -> tuple[str, str]:
    """The climb with its options, and its report, as typed in the folder that the task file and the run have in common.

    Where they lie far apart, both are named without their folders: a report says nothing of the machine.
    """
    placed = record.last(TaskPlaced)
    task, run = PurePosixPath("task.yaml"), PurePosixPath("runs", record.folder.name)
    if placed is not None:
        task, run = PurePosixPath(placed.path), PurePosixPath(placed.run)
        if task.is_absolute() or max(path.parts.count("..") for path in (task, run)) > NEAR:
            task, run = PurePosixPath(task.name), PurePosixPath(run.name)
    climb = ["lastresort", "climb", _downwards(task), *_options(record)]
    return shlex.join(climb), shlex.join(["lastresort", "report", _downwards(run)])


def _downwards(path: PurePosixPath) -> str:
    return str(PurePosixPath(*(part for part in path.parts if part != "..")))


def _options(record: Record) -> list[str]:
    """The options of the climb that are not the defaults."""
    chosen, gate, ways = record.last(OptionsChosen), record.last(GateChosen), record.last(WaysChosen)
    found: list[str] = []
    for key, value in ({} if chosen is None else _without_places(chosen.settings)).items():
        found += ["--set", f"{key}={json.dumps(value, ensure_ascii=False) if _needs_json(value) else value}"]
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
