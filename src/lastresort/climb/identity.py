"""What produced a decision: versions, seeds, hashes, machine. No path and no name of a person or host.

Whether a run that goes on still has the task that it began with.

Where a run came from: the way to its task file, and its documents as they were, for a later recheck; the options it was given,
for when it is resumed.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic_core import to_jsonable_python

from lastresort.evals.user_code.process import without_limits
from lastresort.hardware.environment import processor_name, version_of
from lastresort.hardware.memory import physical_memory_bytes
from lastresort.knowledge.update import file_hashes
from lastresort.records.decision import RunProvenance
from lastresort.records.events.run import DocumentsRead, JudgeOpened, ModelOpened, OptionsChosen, TaskPlaced
from lastresort.records.record import Record
from lastresort.spec.task import Task
from lastresort.types import Json, JsonObject
from lastresort.version import __version__

_ONLY_WEIGHED = ("calls_per_month", "hourly_price")  # of `use`: no prompt and no training depends on them
_LIMITS_OF_PROMPTING = ("calls", "usd")  # what they bounded is in the record, or is yet to come


def changed_keys(known: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Keys in which two notes differ: tasks as they were resolved, or files by name."""
    return _changed(_without_what_may_change(known), _without_what_may_change(now))


def changed_values(known: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[tuple[str, Json]]:
    """As `changed_keys`, of a section each key by itself ("sft.replay_loss"), with the value before, None where there was none."""
    known, now = (_without_what_may_change(one) for one in (known, now))
    for key in _changed(known, now):
        before, after = known.get(key), now.get(key)
        # No name where one says null and the other nothing.
        if isinstance(before, Mapping) and isinstance(after, Mapping) and (names := _changed(before, after)):
            yield from ((f"{key}.{name}", before.get(name)) for name in names)
        else:
            yield key, before


def _changed(known: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    return sorted(key for key in {**known, **now} if _json(known.get(key)) != _json(now.get(key)))


def differing(
    known: tuple[JsonObject, dict[str, str]],
    now: tuple[JsonObject, dict[str, str]],
    keys: Sequence[str],
) -> list[str]:
    """In which of these keys of the task, and in which files that the run read, a run and a task differ. known, now: of each the
    task as it was resolved, and the hashes of its files.
    """
    (task, files), (task_now, files_now) = known, now
    changed = changed_keys({key: task.get(key) for key in keys}, {key: task_now.get(key) for key in keys})
    return changed + [name for name, sha256 in files.items() if files_now.get(name) != sha256]


def _without_what_may_change(values: Mapping[str, Any]) -> dict[str, Any]:
    values = {key: without_limits(value) if key in ("score", "reward") else value for key, value in values.items()}
    values.pop("facts", None)
    values = without_division(values)
    for key, changeable in (("use", _ONLY_WEIGHED), ("prompting", _LIMITS_OF_PROMPTING)):
        section = values.get(key)
        if isinstance(section, Mapping):
            values[key] = {name: value for name, value in section.items() if name not in changeable}
    return values


def without_division(task: Mapping[str, Json]) -> JsonObject:
    """A task as it was resolved, without the number of processes: a training is the same by any."""
    tune = task.get("tune")
    if not isinstance(tune, Mapping):
        return dict(task)
    return {**task, "tune": {name: value for name, value in tune.items() if name != "processes"}}


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def record_origin(record: Record, task: Task, run: Path) -> None:
    """Record how the task file is reached from the run's folder, again if it was moved; and the documents, once, at the start."""
    place = TaskPlaced(path=relative_path(task.path, run), run=relative_path(run.resolve(), task.folder))
    if record.last(TaskPlaced) != place:
        record.append(place)
    if task.knowledge is not None and record.last(DocumentsRead) is None:
        record.append(DocumentsRead(files=file_hashes(task.knowledge)))


def settle_options(record: Record, settings: Mapping[str, Any], until: str | None) -> str | None:
    """The last rung to try: as given now, else as the run was started or last resumed with. Recorded with the settings, which add
    to those of before.
    """
    last_options = record.last(OptionsChosen)
    last_rung = until if until is not None or last_options is None else last_options.until
    earlier_settings = {} if last_options is None else last_options.settings
    options = OptionsChosen(
        settings=merged_settings(earlier_settings, to_jsonable_python(dict(settings))), until=last_rung
    )
    if options != last_options:
        record.append(options)
    return last_rung


def merged_settings(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """Settings are applied in order: those given now come last, and replace earlier ones of the same key or below it."""
    remaining = {
        key: value for key, value in earlier.items() if not any(f"{key}.".startswith(f"{new}.") for new in now)
    }
    return {**remaining, **now}


def settings_of(run: Path) -> dict[str, Any]:
    """The keys that overrode the task file when the run was started or last resumed."""
    with Record.open(run, read_only=True) as record:
        return settings_in(record)


def settings_in(record: Record) -> JsonObject:
    """As `settings_of`, of a record that is open."""
    options = record.last(OptionsChosen)
    return {} if options is None else dict(options.settings)


def documents_of(record: Record) -> dict[str, str] | None:
    """Of each document's file its sha256 when the run began; None where the task names none."""
    documents = record.last(DocumentsRead)
    return None if documents is None else dict(documents.files)


def relative_path(path: Path, run: Path) -> str:
    """Relative, so that run and task may be moved together; absolute where they lie on different drives."""
    try:
        return Path(os.path.relpath(path, run.resolve())).as_posix()
    except ValueError:
        return path.as_posix()


PACKAGES = ("torch", "transformers", "peft", "accelerate", "llguidance", "openai", "scipy", "numpy")


def provenance(task: Task, files: dict[str, str], record: Record) -> RunProvenance:
    model, judge = record.last(ModelOpened), record.last(JudgeOpened)
    hashes = {**files, "model": model.fingerprint if model is not None else ""}
    return RunProvenance(
        versions=versions(),
        seeds={"split": task.split.seed, "training": task.split.seed, "decoding": task.split.seed},
        hashes=hashes if judge is None else {**hashes, "judge": judge.fingerprint},
        machine=machine(),
    )


def machine() -> dict[str, str | int]:
    """System, processor, cores and memory of this machine; 0 bytes where it does not say."""
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": processor_name(),
        "cores": os.cpu_count() or 0,
        "memory_bytes": physical_memory_bytes() or 0,
    }


def versions() -> dict[str, str]:
    """Of this program, of Python, and of the packages that decide what a model says."""
    by_package = {package: version_of(package) for package in PACKAGES}
    installed = {package: number for package, number in by_package.items() if number is not None}
    return {"lastresort": __version__, "python": platform.python_version(), **installed}
