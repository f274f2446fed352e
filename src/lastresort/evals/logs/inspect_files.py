"""Files of Inspect: .eval, a zip with header.json and a JSON file a sample, and .json, one document with all of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lastresort.errors import DataError
from lastresort.evals.logs.archive import Archive, Limits, archive
from lastresort.evals.logs.inspect_log import Sample, measures_of
from lastresort.evals.logs.logged import Found, as_written_by

HEADER, BEGUN, SAMPLES = "header.json", "_journal/start.json", "samples/"
LARGEST_JSON = 1024**3  # bytes


def inspect_archive(path: Path, limits: Limits | None = None) -> Found:
    """Of an .eval file: its measures, and why others cannot be weighed.

    Raises DataError where it is none, or holds more than the limits allow.
    """
    with archive(path, limits) as opened:
        header = _header(opened)
        with as_written_by("Inspect", str(path)):
            return measures_of(header, _samples(opened), str(path))


def inspect_json(path: Path, document: dict[str, Any]) -> Found:
    """Of a .json log, likewise. document: as `json_of` reads it. Raises DataError where it is none."""
    samples = document.get("samples")
    if not isinstance(document.get("eval"), dict) or not isinstance(samples, list):
        raise _no_log(path, "no log of Inspect with its samples")
    with as_written_by("Inspect", str(path)):
        return measures_of(document, (_sample(path, one) for one in samples), str(path))


def json_of(path: Path) -> dict[str, Any]:
    if path.stat().st_size > LARGEST_JSON:
        raise _no_log(path, f"more than {LARGEST_JSON:,} bytes")
    try:
        document = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise _no_log(path, f"no JSON ({error})") from error
    if not isinstance(document, dict):
        raise _no_log(path, "no object")
    return document


def _header(opened: Archive) -> dict[str, Any]:
    """An evaluation that was cut off has only its beginning."""
    for name in (HEADER, BEGUN):
        if name in opened.names:
            header = opened.json(name)
            if isinstance(header, dict):
                return header
    raise _no_log(opened.path, f"a zip without {HEADER}")


def _samples(opened: Archive) -> Iterator[Sample]:
    for name in sorted(opened.names):
        if name.startswith(SAMPLES) and name.endswith(".json"):
            yield _sample(opened.path, opened.json(name))


def _sample(path: Path, body: Any) -> Sample:
    if not isinstance(body, dict) or "id" not in body:
        raise _no_log(path, "a sample without an id")
    return body


def _no_log(path: Path, found: str) -> DataError:
    return DataError(
        f"found {found}", where=str(path), expected="a log of Inspect (.eval or .json)", remedy="Name another file."
    )
