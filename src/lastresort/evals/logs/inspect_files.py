"""Files of Inspect, .eval and .json, as `inspect_ai.log` reads them.

It sets no limits and compares no checksums of what somebody else made, so that both is done here before it reads.
"""

from __future__ import annotations

import importlib
import json
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import ValidationError

from lastresort.errors import DataError, PrerequisiteError
from lastresort.evals.logs.inspect_log import measures_of
from lastresort.evals.logs.logged import Found

HEADERS, SAMPLES = ("header.json", "_journal/start.json"), "samples/"
LARGEST_JSON = 1024**3  # bytes
HEADER = {"status": True, "eval": {"task": True, "config": {"epochs"}}}
PARTS = ("id", "epoch", "input", "choices", "target", "messages", "scores", "invalidation")
SAMPLE = {**dict.fromkeys(PARTS, True), "output": {"completion"}}
UNREAD = {"events", "store", "timelines"}
AT_ONCE = 128  # samples
_PIECE = 4096  # bytes packed, which are at most 128 MB unpacked


@dataclass(frozen=True, slots=True)
class Limits:
    """Members of an archive, bytes of one when unpacked, and of all together."""

    members: int = 500_000
    member_bytes: int = 512 * 1024**2
    all_bytes: int = 16 * 1024**3


def inspect_log(path: Path, limits: Limits | None = None) -> Found:
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
        logged = _checked(path, limits or Limits())
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


def json_of(path: Path) -> dict[str, Any]:
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


def _checked(path: Path, limits: Limits) -> int:
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
    except Exception as error:
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
