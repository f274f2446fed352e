"""Logs of Inspect, .eval and .json, read by `inspect_ai.log`: one measure per scorer.

The library sets no limits and compares no checksums of files from others, so both is done here first.
"""

from __future__ import annotations

import importlib
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
from lastresort.foreign import opened, parse_json, read_content
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
from lastresort.report.words import gate as words
from lastresort.types import JsonObject

LETTERS = {"C": 1.0, "I": 0.0, "P": 0.5, "N": 0.0}  # correct, incorrect, partly, no answer
WORDS = {"yes": 1.0, "true": 1.0, "no": 0.0, "false": 0.0}
CHOICE = "choice"  # the scorer of Inspect whose answers can be guessed among a sample's choices

Sample = Mapping[str, Any]


@dataclass
class _Sample:
    """A sample in all its epochs. epochs: how many it should have. scores: by scorer, as they come."""

    same: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    asked: str = ""
    answered: str = ""
    options: int = 0
    epochs: int = 0
    scores: dict[str, list[float | None]] = field(default_factory=lambda: defaultdict(list))


def measures_of(header: Mapping[str, Any], samples: Iterable[Sample], where: str) -> MeasuresAndFaults:
    """One measure per scorer, or per key of a scorer with several values, and why others cannot be used; epochs are averaged.

    A sample without a score (an error, or nothing the scorer could judge) is left out and counted. Raises DataError for repeated
    samples.
    """
    task = str((header.get("eval") or {}).get("task") or "task").rpartition("/")[2]
    by_id: dict[str, _Sample] = {}
    sample_names: list[str] = []
    for sample in samples:
        sample_names.append(f"{sample.get('id')} of epoch {sample.get('epoch', 1)}")
        _add(by_id.setdefault(str(sample.get("id")), _Sample()), sample)
    refuse_repeated(task, sample_names, where)
    for entry in by_id.values():
        entry.epochs = max(entry.epochs, _epochs(header))
    notes = _status(header, task, where)
    names = list(dict.fromkeys(name for entry in by_id.values() for name in entry.scores))
    if not names:
        return [], [
            DataError(
                f"found no score in the samples of {task}",
                where=where,
                expected="samples with scores",
                remedy="Score the log with: inspect score",
            )
        ]
    measures, faults = [], []
    for name in names:
        try:
            measures.append(_measure(task, name, by_id, where, notes))
        except DataError as fault:
            faults.append(fault)
    return measures, faults


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


def _add(entry: _Sample, sample: Sample) -> None:
    question = _without_ids(sample.get("input"))
    prompt = [(turn.get("role"), _without_ids(turn.get("content"))) for turn in _opening(sample)]
    for part, value in (("input", question), ("target", sample.get("target")), ("choices", sample.get("choices"))):
        entry.same[part].add(fingerprint(value))
    if prompt:
        entry.same["prompt"].add(fingerprint(prompt))
    entry.options = len(sample.get("choices") or ())
    if not entry.asked:
        entry.asked = _text(prompt[-1][1] if prompt else question)[-LONGEST:]
        entry.answered = _text((sample.get("output") or {}).get("completion"))[:LONGEST]
    entry.epochs += 1
    if sample.get("invalidation"):
        return
    for name, value in _values(sample):
        entry.scores[name].append(value)


def _values(sample: Sample) -> Iterator[tuple[str, Any]]:
    """Values by scorer; a scorer with several values is several measures."""
    for name, score in (sample.get("scores") or {}).items():
        value = score.get("value") if isinstance(score, Mapping) else score
        if isinstance(value, Mapping):
            yield from ((f"{name}/{key}", inner) for key, inner in value.items())
        else:
            yield str(name), value


def _measure(task: str, scorer: str, by_id: Mapping[str, _Sample], where: str, notes: list[str]) -> LoggedMeasure:
    items, unscored = [], []
    for name, entry in by_id.items():
        scored_values = [value for value in entry.scores.get(scorer, ()) if not _missing(value)]
        if not scored_values:
            unscored.append(name)
            continue
        values = [value_of(value) for value in scored_values]
        refuse_outside(task, scorer, values, where)
        same_parts = {part: fingerprint(sorted(hashes)) for part, hashes in entry.same.items()}
        chance = 1 / entry.options if scorer == CHOICE and entry.options > 1 else None
        score = fmean(value for value in values if value is not None)
        scored_share = len(values) / entry.epochs
        items.append(
            LoggedItem(name, score, same_parts, entry.asked, entry.answered, chance=chance, scored=scored_share)
        )
    measure, left_notes = f"inspect:{task}/{scorer}", list[str]()
    if unscored:
        left_notes.append(words.unscored(measure, len(unscored), where))
    if partly := sum(item.scored < 1 for item in items):
        left_notes.append(words.partly_scored(measure, partly, where))
    return LoggedMeasure(measure, scorer, tuple(items), where, (*notes, *left_notes), tuple(unscored))


def _epochs(header: Mapping[str, Any]) -> int:
    """How many epochs each sample should have, also in a log that ends early."""
    epochs = ((header.get("eval") or {}).get("config") or {}).get("epochs")
    return epochs if isinstance(epochs, int) else 1


def _missing(value: Any) -> bool:
    """A scorer writes NaN for what it could not judge."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def _status(header: Mapping[str, Any], task: str, where: str) -> list[str]:
    status = header.get("status", "started")
    return [] if status == "success" else [words.unfinished_log(f"inspect:{task}", where, status)]


def _opening(sample: Sample) -> list[Mapping[str, Any]]:
    """The turns before the model's first."""
    opening: list[Mapping[str, Any]] = []
    for turn in sample.get("messages") or ():
        if turn.get("role") == "assistant":
            break
        opening.append(turn)
    return opening


def _without_ids(value: Any) -> Any:
    """Without the ids of turns, which differ in every run."""
    if isinstance(value, list):
        return [_without_ids(inner) for inner in value]
    if isinstance(value, Mapping):
        return {key: _without_ids(inner) for key, inner in value.items() if key != "id"}
    return value


def _text(value: Any) -> str:
    if isinstance(value, list):
        return "\n".join(_text(part) for part in value)
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
_PIECE = 4096  # packed bytes, at most 128 MB unpacked


@dataclass(frozen=True, slots=True)
class ArchiveLimits:
    """Members of an archive, bytes of one when unpacked, and of all together."""

    members: int = 500_000
    member_bytes: int = 512 * 1024**2
    all_bytes: int = 16 * 1024**3


def inspect_log(path: Path, limits: ArchiveLimits | None = None) -> MeasuresAndFaults:
    """The measures of an .eval or a .json file, and why others cannot be used.

    Raises DataError if it is not a log of Inspect, is damaged, or exceeds the limits, and PrerequisiteError without inspect-ai.
    """
    library = _library(path)
    file = path.absolute()  # the library could take a relative name for a URL
    if path.suffix == ".json":
        with opened(path, LARGEST_JSON, raised=DataError), _reading(path):
            log = library.read_eval_log(file, resolve_attachments=True, format="json")
        samples = iter(log.samples or ())
    else:
        n_samples = _count_samples(path, limits or ArchiveLimits())
        with _reading(path):
            log = library.read_eval_log(file, header_only=True, format="eval")
        newest = library.EvalLog.model_fields["version"].default
        if log.version > newest:  # for a .json file the library checks it
            raise _no_log(
                path, f"version {log.version} of the format of logs, of which {newest} is the newest known here"
            )
        samples = _samples(library, path, n_samples)
    bodies = (sample.model_dump(mode="json", exclude_none=True, include=SAMPLE) for sample in samples)
    return measures_of(log.model_dump(mode="json", include=HEADER), bodies, str(path))


def json_of(path: Path) -> JsonObject:
    """Raises DataError if the file does not hold a JSON object."""
    content = read_content(path, LARGEST_JSON, raised=DataError)
    try:
        document = parse_json(content.decode(), lenient=True)
    except ValueError as error:
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


def _samples(library: ModuleType, path: Path, n_samples: int) -> Iterator[Any]:
    """Sorted by name, a few at a time. n_samples: how many there must be."""
    with _reading(path):
        summaries = library.read_eval_log_sample_summaries(path.absolute(), format="eval")
    if len(summaries) != n_samples:
        raise _no_log(path, f"{n_samples} samples, of which its summary names {len(summaries)}")
    sample_ids = sorted(((one.id, one.epoch) for one in summaries), key=lambda one: f"{one[0]}_epoch_{one[1]}")
    for start in range(0, len(sample_ids), AT_ONCE):
        with _reading(path):
            samples = library.read_eval_log_samples_by_id(
                path.absolute(),
                sample_ids[start : start + AT_ONCE],
                resolve_attachments=True,
                format="eval",
                exclude_fields=UNREAD,
            )
        yield from samples


def _count_samples(path: Path, limits: ArchiveLimits) -> int:
    """Unpack every member once, piece by piece, and keep nothing. Returns how many are samples."""
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise _no_log(path, f"no zip that can be opened ({error})") from error
    with archive:
        names = set(archive.namelist())
        if not names.intersection(HEADERS):
            raise _no_log(path, f"a zip without {HEADERS[0]}")
        if len(archive.infolist()) > limits.members:
            raise _no_log(path, f"{len(archive.infolist()):,} members, of which {limits.members:,} are read at most")
        bytes_left = limits.all_bytes
        for member in archive.infolist():
            bytes_left -= _size(archive, member, min(limits.member_bytes, bytes_left), path)
    return sum(name.startswith(SAMPLES) and name.endswith(".json") for name in names)


def _size(archive: zipfile.ZipFile, member: zipfile.ZipInfo, room: int, path: Path) -> int:
    """The unpacked size, whatever the archive claims."""
    member.file_size, size = room + 2 * _PIECE, 0  # nor is its claimed end believed
    try:
        with archive.open(member) as stream:
            while size <= room and (piece := stream.read(_PIECE)):
                size += len(piece)
    except Exception as error:  # a decompressor can raise anything on foreign bytes
        raise _no_log(path, f"{member.filename}, which cannot be unpacked ({error})") from error
    if size > room:
        raise _no_log(path, f"{member.filename}, which is larger than {room:,} bytes")
    return size


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """The library can raise anything on a file that somebody else made."""
    try:
        yield
    except Exception as error:
        raise _no_log(path, f"what inspect_ai cannot read ({_in_words(error)})") from error


def _in_words(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return f"{type(error).__name__}: {error}"


def _no_log(path: Path, found: str) -> DataError:
    return DataError(
        f"found {found}",
        where=str(path),
        expected="a whole log of Inspect (.eval or .json)",
        remedy="Make the log again, or name another.",
    )
