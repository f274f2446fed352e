"""Files of Inspect, .eval and .json, as `inspect_ai.log` reads them.

It sets no limits and compares no checksums of what somebody else made, so that both is done here before it reads.

A log of Inspect -> a measure a scorer. Pure: samples come one by one, as JSON of `inspect_ai.log.EvalSample`.
"""

from __future__ import annotations

import importlib
import json
import math
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from types import ModuleType
from typing import Any

from pydantic import ValidationError

from lastresort.errors import DataError, PrerequisiteError
from lastresort.gate.logs.logged import (
    LONGEST,
    LoggedItem,
    LoggedMeasure,
    MeasuresAndFaults,
    fingerprint,
    number_of,
    refuse_outside,
    refuse_repeated,
)
from lastresort.types import JsonObject

LETTERS = {"C": 1.0, "I": 0.0, "P": 0.5, "N": 0.0}  # correct, incorrect, partly, no answer
WORDS = {"yes": 1.0, "true": 1.0, "no": 0.0, "false": 0.0}
CHOICE = "choice"  # the scorer of Inspect whose answers can be guessed among a sample's choices

Sample = Mapping[str, Any]


@dataclass
class _Asked:
    """A sample in all its epochs. epochs: in which it was to be asked. scores: by scorer, as they are found."""

    same: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    asked: str = ""
    answered: str = ""
    options: int = 0
    epochs: int = 0
    scores: dict[str, list[float | None]] = field(default_factory=lambda: defaultdict(list))


def measures_of(header: Mapping[str, Any], samples: Iterable[Sample], where: str) -> MeasuresAndFaults:
    """One measure a scorer, or a key of a scorer that gives several, and why the others cannot be weighed; epochs are averaged.

    A sample without a score (an error, or what a scorer could not judge) is left out and counted. Raises DataError for repeated
    samples.
    """
    task = str((header.get("eval") or {}).get("task") or "task").rpartition("/")[2]
    by_id: dict[str, _Asked] = {}
    seen: list[str] = []
    for sample in samples:
        seen.append(f"{sample.get('id')} of epoch {sample.get('epoch', 1)}")
        _add(by_id.setdefault(str(sample.get("id")), _Asked()), sample)
    refuse_repeated(task, seen, where)
    for one in by_id.values():
        one.epochs = max(one.epochs, _epochs(header))
    notes = _status(header, task, where)
    names = list(dict.fromkeys(name for one in by_id.values() for name in one.scores))
    if not names:
        return [], [
            DataError(
                f"found no score in the samples of {task}",
                where=where,
                expected="samples with scores",
                remedy="Score the log with: inspect score",
            )
        ]
    found, faults = [], []
    for name in names:
        try:
            found.append(_measure(task, name, by_id, where, notes))
        except DataError as fault:
            faults.append(fault)
    return found, faults


def value_of(value: Any) -> float | None:
    """A score as Inspect reads it: letters, yes and no, numbers and numbers as text; None for anything else."""
    if isinstance(value, str):
        if value in LETTERS:
            return LETTERS[value]
        if value.lower() in WORDS:
            return WORDS[value.lower()]
        try:
            return number_of(float(value))
        except ValueError:
            return None
    return number_of(value)


def _add(known: _Asked, sample: Sample) -> None:
    asked = _told(sample.get("input"))
    prompt = [(turn.get("role"), _told(turn.get("content"))) for turn in _opening(sample)]
    for part, told in (("input", asked), ("target", sample.get("target")), ("choices", sample.get("choices"))):
        known.same[part].add(fingerprint(told))
    if prompt:
        known.same["prompt"].add(fingerprint(prompt))
    known.options = len(sample.get("choices") or ())
    if not known.asked:
        known.asked = _text(prompt[-1][1] if prompt else asked)[-LONGEST:]
        known.answered = _text((sample.get("output") or {}).get("completion"))[:LONGEST]
    known.epochs += 1
    if sample.get("invalidation"):
        return
    for name, value in _values(sample):
        known.scores[name].append(value)


def _values(sample: Sample) -> Iterator[tuple[str, Any]]:
    """By scorer; one that gives several values at once is several measures."""
    for name, score in (sample.get("scores") or {}).items():
        value = score.get("value") if isinstance(score, Mapping) else score
        if isinstance(value, Mapping):
            yield from ((f"{name}/{key}", one) for key, one in value.items())
        else:
            yield str(name), value


def _measure(task: str, scorer: str, by_id: Mapping[str, _Asked], where: str, notes: list[str]) -> LoggedMeasure:
    items, unscored = [], []
    for name, one in by_id.items():
        told = [value for value in one.scores.get(scorer, ()) if not _missing(value)]
        if not told:
            unscored.append(name)
            continue
        values = [value_of(value) for value in told]
        refuse_outside(task, scorer, values, where)
        same = {part: fingerprint(sorted(hashes)) for part, hashes in one.same.items()}
        chance = 1 / one.options if scorer == CHOICE and one.options > 1 else None
        score = fmean(value for value in values if value is not None)
        scored = len(told) / one.epochs
        items.append(LoggedItem(name, score, same, one.asked, one.answered, chance=chance, scored=scored))
    left = []
    if unscored:
        left.append(f"inspect:{task}/{scorer}: {len(unscored)} samples of {where} have no score and were left out.")
    if partly := sum(item.scored < 1 for item in items):
        left.append(f"inspect:{task}/{scorer}: {partly} samples of {where} have a score in some of their epochs only.")
    return LoggedMeasure(f"inspect:{task}/{scorer}", scorer, tuple(items), where, (*notes, *left), tuple(unscored))


def _epochs(header: Mapping[str, Any]) -> int:
    """How often each sample was to be asked, also where the log ends before."""
    told = ((header.get("eval") or {}).get("config") or {}).get("epochs")
    return told if isinstance(told, int) else 1


def _missing(value: Any) -> bool:
    """What a scorer could not judge is no number in the log."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def _status(header: Mapping[str, Any], task: str, where: str) -> list[str]:
    status = header.get("status", "started")
    return [] if status == "success" else [f"inspect:{task}: {where} says that its evaluation did not end ({status})."]


def _opening(sample: Sample) -> list[Mapping[str, Any]]:
    """What the model saw before it first spoke."""
    opening: list[Mapping[str, Any]] = []
    for turn in sample.get("messages") or ():
        if turn.get("role") == "assistant":
            break
        opening.append(turn)
    return opening


def _told(value: Any) -> Any:
    """Without the ids of turns, which are drawn anew in every run."""
    if isinstance(value, list):
        return [_told(one) for one in value]
    if isinstance(value, Mapping):
        return {key: _told(one) for key, one in value.items() if key != "id"}
    return value


def _text(value: Any) -> str:
    if isinstance(value, list):
        return "\n".join(_text(one) for one in value)
    if isinstance(value, Mapping):
        return _text(value.get("text") or value.get("content") or "")
    return "" if value is None else str(value)


HEADERS, SAMPLES = ("header.json", "_journal/start.json"), "samples/"
LARGEST_JSON = 1024**3  # bytes
HEADER = {"status": True, "eval": {"task": True, "config": {"epochs"}}}
PARTS = ("id", "epoch", "input", "choices", "target", "messages", "scores", "invalidation")
SAMPLE = {**dict.fromkeys(PARTS, True), "output": {"completion"}}
UNREAD = {"events", "store", "timelines"}
AT_ONCE = 128  # samples
_PIECE = 4096  # bytes packed, which are at most 128 MB unpacked


@dataclass(frozen=True, slots=True)
class ArchiveLimits:
    """Members of an archive, bytes of one when unpacked, and of all together."""

    members: int = 500_000
    member_bytes: int = 512 * 1024**2
    all_bytes: int = 16 * 1024**3


def inspect_log(path: Path, limits: ArchiveLimits | None = None) -> MeasuresAndFaults:
    """Of an .eval or a .json file: its measures, and why others cannot be weighed.

    Raises DataError where it is no log of Inspect, is damaged, or holds more than the limits allow, and PrerequisiteError without
    inspect-ai.
    """
    library = _library(path)
    file = path.absolute()  # a relative name could read as the address of another machine
    if path.suffix == ".json":
        _refuse_large(path)
        with _reading(path):
            log = library.read_eval_log(file, resolve_attachments=True, format="json")
        samples = iter(log.samples or ())
    else:
        logged = _checked(path, limits or ArchiveLimits())
        with _reading(path):
            log = library.read_eval_log(file, header_only=True, format="eval")
        newest = library.EvalLog.model_fields["version"].default
        if log.version > newest:  # of a .json file the library says so itself
            raise _no_log(
                path, f"version {log.version} of the format of logs, of which {newest} is the newest known here"
            )
        samples = _samples(library, path, logged)
    told = (sample.model_dump(mode="json", exclude_none=True, include=SAMPLE) for sample in samples)
    return measures_of(log.model_dump(mode="json", include=HEADER), told, str(path))


def json_of(path: Path) -> JsonObject:
    """Raises DataError where the file holds no object of JSON."""
    _refuse_large(path)
    try:
        document = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise _no_log(path, f"no JSON ({error})") from error
    if not isinstance(document, dict):
        raise _no_log(path, "no object")
    return document


def _library(path: Path) -> ModuleType:
    try:
        return importlib.import_module("inspect_ai.log")
    except ImportError as error:
        raise PrerequisiteError(
            "inspect-ai is not installed, and logs of Inspect need it",
            where=str(path),
            remedy="Run: pip install 'lastresort[evals]'",
        ) from error


def _samples(library: ModuleType, path: Path, logged: int) -> Iterator[Any]:
    """In the order of their names, a few at a time. logged: how many there must be."""
    with _reading(path):
        summaries = library.read_eval_log_sample_summaries(path.absolute(), format="eval")
    if len(summaries) != logged:
        raise _no_log(path, f"{logged} samples, of which its summary names {len(summaries)}")
    asked = sorted(((one.id, one.epoch) for one in summaries), key=lambda one: f"{one[0]}_epoch_{one[1]}")
    for start in range(0, len(asked), AT_ONCE):
        with _reading(path):
            read = library.read_eval_log_samples_by_id(
                path.absolute(),
                asked[start : start + AT_ONCE],
                resolve_attachments=True,
                format="eval",
                exclude_fields=UNREAD,
            )
        yield from read


def _checked(path: Path, limits: ArchiveLimits) -> int:
    """Unpack every member once, a piece at a time, into nothing; returns how many are samples."""
    try:
        opened = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise _no_log(path, f"no zip that can be opened ({error})") from error
    with opened:
        names = set(opened.namelist())
        if not names.intersection(HEADERS):
            raise _no_log(path, f"a zip without {HEADERS[0]}")
        if len(opened.infolist()) > limits.members:
            raise _no_log(path, f"{len(opened.infolist()):,} members, of which {limits.members:,} are read at most")
        left = limits.all_bytes
        for member in opened.infolist():
            left -= _size(opened, member, min(limits.member_bytes, left), path)
    return sum(name.startswith(SAMPLES) and name.endswith(".json") for name in names)


def _size(opened: zipfile.ZipFile, member: zipfile.ZipInfo, room: int, path: Path) -> int:
    """Unpacked, whatever the archive says of it."""
    member.file_size, size = room + 2 * _PIECE, 0  # nor is it believed where it ends
    try:
        with opened.open(member) as stream:
            while size <= room and (piece := stream.read(_PIECE)):
                size += len(piece)
    except Exception as error:  # a decompressor raises what it likes at bytes that are none of its own
        raise _no_log(path, f"{member.filename}, which cannot be unpacked ({error})") from error
    if size > room:
        raise _no_log(path, f"{member.filename}, which is larger than {room:,} bytes")
    return size


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """What the library raises at a file that somebody else made can be anything."""
    try:
        yield
    except Exception as error:
        raise _no_log(path, f"what inspect_ai cannot read ({_said(error)})") from error


def _said(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return f"{type(error).__name__}: {error}"


def _refuse_large(path: Path) -> None:
    if path.stat().st_size > LARGEST_JSON:
        raise _no_log(path, f"more than {LARGEST_JSON:,} bytes")


def _no_log(path: Path, found: str) -> DataError:
    return DataError(
        f"found {found}",
        where=str(path),
        expected="a whole log of Inspect (.eval or .json)",
        remedy="Make the log again, or name another.",
    )
