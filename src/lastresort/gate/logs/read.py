"""Read the logs at a path: sample logs of lm-eval, logs of Inspect, or a folder of either."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from lastresort.errors import DataError
from lastresort.gate.logs.inspect import inspect_log, json_of
from lastresort.gate.logs.lm_eval import lm_eval_file, lm_eval_folder
from lastresort.gate.logs.logged import LoggedMeasure, MeasuresAndFaults


@dataclass(frozen=True, slots=True)
class Logs:
    """measures: sorted by name. notes: for the reader, as sentences. sha256: over measures and scores."""

    measures: tuple[LoggedMeasure, ...]
    notes: tuple[str, ...]
    sha256: str


def read_logs(path: Path) -> Logs:
    """The measures at a path. Those that cannot be used are named in a note.

    Raises DataError for a path without logs, a log that cannot be read, a measure that occurs twice, and if no measure can be used.
    """
    (found, faults), notes = _read(path)
    if not found:
        raise faults[0]
    twice = next((name for name, times in Counter(one.name for one in found).items() if times > 1), None)
    if twice is not None:
        raise DataError(
            f"found {twice} in more than one log",
            where=str(path),
            expected="each measure once",
            remedy="Name the log of a single run.",
        )
    measures = tuple(sorted(found, key=lambda one: one.name))
    return Logs(measures, (*notes, *(f"Left out: {fault}" for fault in faults)), _hash(measures))


def _read(path: Path) -> tuple[MeasuresAndFaults, list[str]]:
    if path.is_file():
        return _file(path), []
    if not path.is_dir():
        raise _refused(path, "nothing on disk")
    (measures, faults), notes = lm_eval_folder(path)
    for one in sorted(path.rglob("*")):
        own, others = _of_inspect(one) if one.is_file() else ([], [])
        measures, faults = [*measures, *own], [*faults, *others]
    if not measures and not faults:
        raise _refused(path, "a folder without logs")
    return (measures, faults), notes


def _file(path: Path) -> MeasuresAndFaults:
    if path.suffix == ".jsonl":
        return lm_eval_file(path)
    if path.suffix in (".eval", ".json"):
        return inspect_log(path)
    raise _refused(path, "another kind of file")


def _of_inspect(path: Path) -> MeasuresAndFaults:
    """Other files of a folder are ignored."""
    if path.suffix == ".eval":
        return inspect_log(path)
    if path.suffix != ".json" or path.name.startswith("results_"):
        return [], []
    try:
        document = json_of(path)
    except DataError:
        return [], []
    return inspect_log(path) if isinstance(document.get("eval"), dict) else ([], [])


def _hash(measures: tuple[LoggedMeasure, ...]) -> str:
    digest = hashlib.sha256()
    for one in measures:
        for item in one.items:
            digest.update(repr((one.name, one.metric, item.id, item.score, sorted(item.same.items()))).encode())
    return digest.hexdigest()


def _refused(path: Path, found: str) -> DataError:
    return DataError(
        f"found {found}",
        where=str(path),
        expected="samples_*.jsonl of lm-eval, a log of Inspect (.eval, .json), or a folder of these",
        remedy="lm-eval writes them with --log_samples --output_path FOLDER.",
    )
