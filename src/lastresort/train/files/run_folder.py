"""The output folder of a training run: whether it is new or can be resumed, its log, its record, and the trackers of its figures.

The record is OUTPUT/training.json, by which a finished run is known.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, Field, ValidationError

from lastresort.errors import DataError, InputError, PrerequisiteError
from lastresort.evals.user_code.process import without_limits
from lastresort.foreign import DOCUMENT, ROWS, NotJson, parse_json, read_content, read_json, read_text
from lastresort.records import atomic as lock
from lastresort.records.atomic import disk_errors, write_atomically
from lastresort.records.document import Count, JsonDocument
from lastresort.records.training import AdaptedLayers, TrainedSteps
from lastresort.train.adapters.folder import CONFIG
from lastresort.train.settings import TrainingFile
from lastresort.types import Json

RECORD = "training.json"


class RowFinding(JsonDocument):
    """Something about rows. what: a clause after "n rows". places: files and rows, the first 20."""

    what: str
    count: Count
    places: tuple[str, ...]

    def sentence(self) -> str:
        more = ", …" if self.count > len(self.places[:3]) else ""
        return f"{self.count} {self.what} ({', '.join(self.places[:3])}{more})"


class TrainingData(JsonDocument):
    """items: that were trained on; what they are, in the plural. eval_items: held out. row_limit_tokens: of a row."""

    items: Count
    what: str
    eval_items: Count
    rows_read: Count
    row_limit_tokens: int | None
    findings: tuple[RowFinding, ...]


class Quantised(JsonDocument):
    """dtype: what the weights were rounded to before they were quantised, and what they computed in."""

    quantize: str
    dtype: str


class TrainedModel(JsonDocument):
    """rendering: how its tokenizer renders conversations, by which a gate compares it."""

    name: str
    fingerprint: str
    rendering: str
    precision: str
    quantised: Quantised | None
    trained_parameters: Count
    adapted: AdaptedLayers | None


class SavedWeights(JsonDocument):
    """folder: below the output."""

    kind: Literal["adapter", "model"]
    folder: str


class TrainingRecord(JsonDocument):
    """What `lastresort train FILE` writes as training.json and prints with --json.

    file: the training file with every default. epochs: mean loss of each, and what was found on the items held out at its end.
    steps: a step a line, with the figures of its objective.
    """

    model_config = ConfigDict(allow_inf_nan=True)  # an objective's figures may be no number where the loss is one

    version: Literal[1] = Field(default=1, alias="schema")
    file: dict[str, Any]
    data: TrainingData
    trained: TrainedSteps
    epochs: tuple[dict[str, int | float], ...]
    steps: tuple[dict[str, int | float], ...]
    early_warning: str | None
    versions: dict[str, str]
    model: TrainedModel
    saved: SavedWeights


BEGUN, LOG = "begun.json", "log.jsonl"
CHECKPOINT = "checkpoint"
IMPORTED = "imported"
"""What a file of another framework was translated to, in the output folder before the run begins."""
REPORTING = {"track", "output", "checkpoint_every_s", "origin"}
MEMORY = {"max_pass_tokens", "checkpointing", "rows_at_once"}
CORRECTABLE = {"on_error", "limits", "server"}
FREE = frozenset(REPORTING | MEMORY | CORRECTABLE)
"""Keys that a resumed run may change: where it writes and tells; what memory follows, and of the result its rounding alone; what
may have stopped it."""

RunState = Literal["new", "begun", "finished"]


def run_state(folder: Path, *, resume: bool) -> RunState:
    """How far the run in `folder` is. Raises InputError if the folder cannot be used, or not be resumed."""
    if folder.exists() and not folder.is_dir():
        raise InputError("found a file", where=str(folder), expected="a folder for the output", remedy="Name another.")
    ours = (folder / BEGUN).is_file()
    if not resume and _holds(folder, IMPORTED):
        remedy = "Add --resume to go on with it, or name another output." if ours else "Name another output."
        raise InputError("the output folder is not empty", where=str(folder), expected="a new folder", remedy=remedy)
    if resume and not ours:
        if _holds(folder, IMPORTED, lock.LOCK):
            raise InputError(
                f"no {BEGUN} there", where=str(folder), expected="a run to resume", remedy="Name another output."
            )
        return "new"
    if not ours:
        return "new"
    return "finished" if (folder / RECORD).is_file() else "begun"


def _holds(folder: Path, *but: str) -> bool:
    return folder.is_dir() and any(path.name not in but for path in folder.iterdir())


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold the folder, so that no second process trains into it; the hold ends with the process, however it ends."""
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    remedy = "Wait for it, or name another output."
    with lock.held(folder, "another process trains into this folder", expected="one process a run", remedy=remedy):
        yield


@dataclass(frozen=True, slots=True)
class RunIdentity:
    """What a run is a run of. file: its keys. content: hashes of the data and of the adapter it starts from. code: of the files of
    its reward functions, which may be corrected while the run waits. base: fingerprint of the model, None before it is loaded.
    """

    file: Mapping[str, Json]
    content: Mapping[str, str]
    code: Mapping[str, str]
    base: str | None = None


def identity(file: TrainingFile) -> RunIdentity:
    rewards = file.groups.reward if file.groups is not None else ()
    code = [Path(str(term.parameters["file"])) for term in rewards if term.name == "python"]
    paths = [*file.data.train, *file.data.eval, *([file.start_from] if file.start_from is not None else [])]
    return RunIdentity(
        {key: without_limits(value) for key, value in file.resolved.items() if key not in FREE},
        {Path(os.path.relpath(path, file.folder)).as_posix(): _content_hash(path) for path in paths},
        {Path(os.path.relpath(path, file.folder)).as_posix(): _content_hash(path) for path in code},
    )


def check_same(folder: Path, found: RunIdentity) -> None:
    """Raise InputError where the run in `folder` was begun with other keys, data or weights than `found`."""
    try:
        begun = _begun(folder)
        before, now = begun.file, json.loads(json.dumps(found.file))
    except (ValueError, TypeError) as error:
        raise DataError(
            "the note of how the run began is damaged",
            where=str(folder / BEGUN),
            expected="JSON as training writes it",
            remedy="Name another output.",
        ) from error
    remedy = "Set it back to go on, or name another output."
    for key in {**before, **now}:
        if before.get(key) != now.get(key):
            raise InputError(
                f"{key} was {json.dumps(before.get(key))} when this run began and is {json.dumps(now.get(key))} now",
                where=str(folder),
                expected="the same file",
                remedy=remedy,
            )
    for name, digest in found.content.items():
        if begun.content.get(name) != digest:
            raise InputError(
                f"{name} has changed since this run began", where=str(folder), expected="the same data", remedy=remedy
            )
    if found.base is not None and begun.base not in (None, found.base):
        raise InputError(
            "the model's weights, precision or chat template have changed since this run began",
            where=str(folder),
            expected="the same model",
            remedy=remedy,
        )


def _begun(folder: Path) -> RunIdentity:
    begun = RunIdentity(**read_json(folder / BEGUN, raised=DataError))
    if not all(isinstance(part, dict) for part in (begun.file, begun.content, begun.code)):
        raise TypeError("found no objects")
    return begun


def changed_code(folder: Path, found: RunIdentity) -> list[str]:
    """Names of the reward functions' files that are not what they were when the run in `folder` last went on."""
    before = _begun(folder).code
    return [name for name, digest in found.code.items() if before.get(name, digest) != digest]


def trained_rendering(trained: Path) -> str:
    """How the training rows of the adapter or model in this folder were rendered, by the record next to it; "" if there is none,
    or if it does not say so.
    """
    return _recorded_model(trained, "rendering")


def trained_from(trained: Path) -> str:
    """Which model the adapter or model in this folder was trained from, as `trained_rendering` finds it."""
    return _recorded_model(trained, "name")


def _recorded_model(trained: Path, key: str) -> str:
    try:
        record = read_json(trained.parent / RECORD, DOCUMENT)
        return str(record["model"][key]) if record["saved"]["folder"] == trained.name else ""
    except (OSError, InputError, KeyError, TypeError):
        return ""


def trained_weights(output: Path) -> Path | None:
    """The adapter or model that a finished training saved below its output folder. None for a folder that is itself one, whatever
    else another framework wrote into it, and for one in which no training of ours began. Raises InputError where the training has
    not finished, DataError where its record is damaged or what it names has gone.
    """
    itself = any((output / name).is_file() for name in (CONFIG, "config.json"))
    if itself or not (output / BEGUN).is_file():
        return None
    if not (output / RECORD).is_file():
        raise InputError(
            f"found a training that has not finished: {BEGUN}, but no {RECORD}",
            where=str(output),
            expected="the output of a finished training",
            remedy="Finish it: lastresort train FILE --resume.",
        )
    saved = finished_record(output).saved
    if not (output / saved.folder).is_dir():
        raise DataError(
            f"no {saved.folder}/ there, though {RECORD} says that the training saved it",
            where=str(output),
            expected=f"the {saved.kind} that was trained",
            remedy="Put it back, or train again into another output.",
        )
    return output / saved.folder


def finished_record(folder: Path) -> TrainingRecord:
    """What the finished training in this folder recorded. Raises DataError where it is damaged."""
    try:
        return TrainingRecord.model_validate_json(read_content(folder / RECORD, DOCUMENT, raised=DataError))
    except ValidationError as error:
        fault = error.errors()[0]
        raise DataError(
            f"found at key {'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}",
            where=str(folder / RECORD),
            expected="the record of a training",
            remedy="Restore it from a copy, or name another output.",
        ) from error


def begin(folder: Path, found: RunIdentity) -> None:
    write_atomically(folder / BEGUN, json.dumps(asdict(found), ensure_ascii=False, indent=1) + "\n")


def withdraw(folder: Path) -> None:
    """Take back a run that was refused before its first step, so that the corrected one may have its folder."""
    if not (folder / LOG).is_file():
        shutil.rmtree(folder, ignore_errors=True)


class StepLog:
    """log.jsonl: one line a step, and one for each evaluation. A resumed run first drops the lines of steps it does again."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def lines(self) -> list[dict[str, float]]:
        """What is there; a line that was cut by a kill, or is no step, is left out."""
        if not self._path.is_file():
            return []
        values = []
        for line in read_text(self._path, ROWS, raised=DataError).splitlines():
            with suppress(NotJson):
                values.append(parse_json(line, lenient=True))  # a loss may be NaN
        return [line for line in values if isinstance(line, dict) and type(line.get("step")) in (int, float)]

    def go_on_at(self, step: int) -> None:
        """Forget what was logged of step `step` and later ones."""
        earlier = [line for line in self.lines() if line["step"] < step]
        write_atomically(self._path, "".join(json.dumps(line) + "\n" for line in earlier))

    def add(self, line: Mapping[str, float]) -> None:
        with disk_errors(self._path), self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def _content_hash(path: Path) -> str:
    """Of a file, or of all files of a folder with their places in it."""
    digest = hashlib.sha256()
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file():
            with file.open("rb") as opened:
                name = file.name if file == path else file.relative_to(path).as_posix()
                digest.update(f"{name}\0{hashlib.file_digest(opened, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()


MODULES = {
    "tensorboard": ("tensorboard", "tensorboardX"),
    "mlflow": ("mlflow",),
    "wandb": ("wandb",),
    "trackio": ("trackio",),
}
PROJECT = "lastresort"


def require_trackers(names: Sequence[str]) -> None:
    """Raise PrerequisiteError for the first tracker whose package is not here."""
    for name in names:
        if not any(importlib.util.find_spec(module) for module in MODULES[name]):
            raise PrerequisiteError(
                f"{name} is not installed", where="track", remedy=f"Run: pip install {name}, or remove it from track."
            )


class Trackers:
    """Open trackers; none of them is no trouble. names: of `MODULES`, or trackers of accelerate's own type.

    folder: where those that write files put them. settings: shown as the run's configuration.
    """

    def __init__(self, names: Sequence[Any], folder: Path, settings: Mapping[str, Json]) -> None:
        self._accelerator: Any = None
        if not names:
            return
        require_trackers([name for name in names if isinstance(name, str)])
        import torch
        from accelerate import Accelerator

        self._accelerator = Accelerator(
            log_with=list(names), project_dir=str(folder / "trackers"), cpu=not torch.cuda.is_available()
        )
        if len(self._accelerator.log_with) < len(names):  # accelerate leaves out, without a word, what it finds unfit
            listed = ", ".join(str(name) for name in names)
            raise PrerequisiteError(
                f"accelerate cannot use one of {listed} here",
                where="track",
                remedy="Install its whole package, or remove it.",
            )
        self._accelerator.init_trackers(PROJECT, config=_flat(settings))

    def log(self, values: Mapping[str, float], step: int) -> None:
        if self._accelerator is not None:
            self._accelerator.log(dict(values), step=step)

    def close(self) -> None:
        """Not by accelerate's end_training, which also cuts the connection to the other processes of the run."""
        for tracker in self._accelerator.trackers if self._accelerator is not None else ():
            tracker.finish()


def _flat(settings: Mapping[str, Json]) -> dict[str, str | int | float | bool]:
    """Plain values as they are, all else as JSON: trackers take nothing else."""
    plain = (str, int, float, bool)
    return {
        key: value if isinstance(value, plain) else json.dumps(value)
        for key, value in settings.items()
        if value is not None
    }
