"""The commands that take a run up, or make it and its report again, as they are typed."""

from __future__ import annotations

import json
import posixpath
import re
import shlex
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import PurePosixPath

from pydantic import JsonValue

from lastresort.errors import TaskError
from lastresort.models.endpoint import parse_endpoint
from lastresort.models.protocol import is_endpoint
from lastresort.records.events.run import ItemsAdded, OptionsChosen, TaskPlaced
from lastresort.records.record import Record
from lastresort.records.view import Options, options_in

NEAR = 3  # folders between a run and what it shares with its task file
YAML_WORDS = ("true", "false", "null", "yes", "no", "on", "off")  # text that YAML would read as something else
ENDPOINT, PLACE = "ENDPOINT", "PATH"  # written for an address and for a folder that are not shown
_PLAIN = re.compile(r"[A-Za-z_][\w./#-]*|[a-z]+:[\w./:#-]*\w|[\w-]+(/[\w.-]+)+")
_ADDRESS = re.compile(r"^https?://[^#]*")
_FOLDERS = re.compile(r"^(?!https?://)([a-z_]+:)?(?:[~/]|[A-Za-z]:[\\/])(?:.*[\\/])?")  # perhaps after "lm_eval:"


@dataclass(frozen=True, slots=True)
class ResumeCommand:
    """text: as it is typed. stand_ins: words in it in whose place the user writes what the run was started with."""

    text: str
    stand_ins: tuple[str, ...] = ()


def commands(record: Record) -> tuple[str, ...]:
    """The climb with its options, how it went on with each file of fresh items, and its report: as typed in the folder that the
    task file and the run have in common.

    Where they lie far apart, all are named without their folders: a report says nothing of the machine.
    """
    task, run = _places(record)
    given = options_in(record)
    climb, options = ["lastresort", "climb", task], _options(given)
    again = list(set_options(_without_places(_named_again(_settings(given.chosen)))))
    fresh = {added.sha256: added.path for added in record.all(ItemsAdded)}.values()
    went_on = [[*climb, "--resume", "--more", _in_folder(path, run), *again] for path in fresh]
    return tuple(shlex.join(words) for words in ([*climb, *options], *went_on, ["lastresort", "report", run]))


def resume_command(record: Record) -> ResumeCommand:
    """The command that takes the run up, typed as `commands`. The run keeps its settings, but for those that hold code or an
    endpoint: these are named again.
    """
    task, run = _places(record)
    again = _named_again(_settings(record.last(OptionsChosen)))
    texts = [text for value in again.values() for text in _texts(value)]
    hidden = {ENDPOINT: any(map(_ADDRESS.match, texts)), PLACE: any(map(_FOLDERS.match, texts))}
    return ResumeCommand(
        climb_command(task, run, _without_places(again)), tuple(word for word in hidden if hidden[word])
    )


def climb_command(task: str, run: str, settings: Mapping[str, JsonValue]) -> str:
    """The command that takes the run up, with these settings named again."""
    return shlex.join(["lastresort", "climb", task, "--resume", run, *set_options(settings)])


def set_options(settings: Mapping[str, JsonValue]) -> Iterator[str]:
    """The options that set these keys of a task file: plain words as they are, all else as JSON, which YAML reads the same way.
    Without a backtick, so that a sentence can hold them as code.
    """
    for key, value in settings.items():
        plain = isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in YAML_WORDS
        written = str(value) if plain else json.dumps(value, ensure_ascii=False).replace("`", "\\u0060")
        yield from ("--set", f"{key}={written}")


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


def _settings(chosen: OptionsChosen | None) -> Mapping[str, JsonValue]:
    return {} if chosen is None else chosen.settings


def _named_again(settings: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """The settings that a run does not keep: they name code or another machine, and a run may be somebody else's."""
    return {
        key: value
        for key, value in settings.items()
        if {"python", "general"} & {*key.split("."), *_keys(value)} or any(map(_is_elsewhere, _texts(value)))
    }


def _is_elsewhere(name: str) -> bool:
    """Whether a text names a model that answers on another machine, or by a script."""
    with suppress(TaskError):
        return is_endpoint(name) and not parse_endpoint(name).host.is_this_machine
    return True


def _parts(value: JsonValue) -> Iterator[JsonValue]:
    """It, and all that it holds."""
    yield value
    for one in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _parts(one)


def _keys(value: JsonValue) -> set[str]:
    return {key for one in _parts(value) if isinstance(one, dict) for key in one}


def _texts(value: JsonValue) -> list[str]:
    return [one for one in _parts(value) if isinstance(one, str)]


def _options(given: Options) -> list[str]:
    """Those that are not the defaults."""
    found = list(set_options(_without_places(_settings(given.chosen))))
    if given.chosen is not None and given.chosen.until is not None:
        found += ["--until", given.chosen.until]
    if given.gate is not None and given.gate.mode != "full":
        found += ["--gate", given.gate.mode]
    if given.ways is not None and given.ways.names:
        found += ["--compare", ",".join(given.ways.names), "--compare-seeds", str(given.ways.seeds)]
    return found


def _without_places(settings: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """A word in place of addresses and of the folders of absolute paths: a report says nothing of the machine."""
    return {key: _without_place(value) for key, value in settings.items()}


def _without_place(value: JsonValue) -> JsonValue:
    if isinstance(value, dict):
        return _without_places(value)
    if isinstance(value, list):
        return [_without_place(one) for one in value]
    if not isinstance(value, str):
        return value
    value = _ADDRESS.sub(ENDPOINT, value)
    return _FOLDERS.sub(rf"\1{PLACE}/", value.rstrip("/") or value) if _FOLDERS.match(value) else value
