"""In which settings several runs differ: task file, options, data, versions, machine. The seed of the split is that of all else."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from pydantic import JsonValue

from lastresort.records.decision import RunView
from lastresort.records.events.run import FilesRead, ItemsAdded, ModelOpened, TaskRead
from lastresort.records.record import Record
from lastresort.records.view import options_in

HASH = 12  # characters of a hash
NOWHERE = "–"  # a run without this setting
_OF_EVERY_RUN = ("task file", "options", "data")  # to have none of these is a difference, too
_LATER = ("model", "versions", "machine")  # which a run knows only once it got that far
_NOTED = ("path",)  # of the task in the record: nothing follows from them

RunSettings = Mapping[tuple[str, str], str]


@dataclass(frozen=True, slots=True)
class DifferingSetting:
    """group: what kind of setting. values: one a run, in the order of the runs."""

    group: str
    name: str
    values: tuple[str, ...]


def settings_in(record: Record, view: RunView) -> RunSettings:
    """What the record says of how a run was made, by group and name. Versions and machine are known once a run has decided."""
    return {(group, name): value for group, name, value in _settings(record, view)}


def _settings(record: Record, view: RunView) -> Iterator[tuple[str, str, str]]:
    read, files, model = record.last(TaskRead), record.last(FilesRead), record.last(ModelOpened)
    given = options_in(record)
    for key, value in _flat({} if read is None else read.task):
        if key not in _NOTED:
            yield "task file", key, PurePath(value).name if key.partition(".")[0] == "examples" else value
    if given.chosen is not None:
        yield "options", "until", given.chosen.until or "the top of the ladder"
        yield from (("options", f"set {key}", _text(value)) for key, value in given.chosen.settings.items())
    yield "options", "gate", "full" if given.gate is None else given.gate.mode
    for name, sha256 in ({} if files is None else files.files).items():
        yield "data", PurePath(name).name, sha256[:HASH]  # where a task keeps it is no difference
    added = [one.sha256[:HASH] for one in record.all(ItemsAdded)]
    if added:
        yield "data", "fresh items", ", ".join(dict.fromkeys(added))
    if model is not None:
        yield "model", "weights", model.fingerprint[:HASH]
        yield "model", "max_new_tokens", str(model.max_new_tokens)
    if view.provenance is not None:
        found = view.provenance
        for group, part in (("versions", found.versions), ("machine", found.machine)):
            yield from ((group, name, str(value)) for name, value in part.items())


def _flat(values: Mapping[str, JsonValue], above: str = "") -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", _text(value)


def _text(value: JsonValue) -> str:
    if isinstance(value, str):
        return value
    return NOWHERE if value is None or value == {} else json.dumps(value, ensure_ascii=False)


def differing(runs: Sequence[RunSettings]) -> list[DifferingSetting]:
    """The settings that are not the same in all of them, in the order in which they come."""
    found = []
    for group, name in dict.fromkeys(key for one in runs for key in one):
        values = tuple(one.get((group, name), NOWHERE) for one in runs)
        known = {value for value in values if value != NOWHERE}
        if len(known) > 1 or (group in _OF_EVERY_RUN and known and NOWHERE in values):
            found.append(DifferingSetting(group, name, values))
    return found


def not_known_yet(run: RunSettings) -> tuple[str, ...]:
    """The groups of which its record says nothing so far, and in which it may therefore differ from any other."""
    known = {group for group, _ in run}
    return tuple(group for group in _LATER if group not in known)
