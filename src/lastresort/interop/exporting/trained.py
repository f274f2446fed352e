"""A training file, or the output folder of its training, as it is exported."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from lastresort.errors import DataError, InputError, LastresortError
from lastresort.foreign import DOCUMENT, read_json
from lastresort.interop.exporting.base import layers_in
from lastresort.interop.exporting.job import ExportableTraining
from lastresort.interop.exporting.rows import rows_of
from lastresort.interop.reading import framework_of, read, write_imported
from lastresort.models.open import absolute_name
from lastresort.models.tokenizer import tokenizer_on_disk
from lastresort.spec.document import YamlDocument
from lastresort.spec.training import load_training, training_of
from lastresort.train.files.items import TEXT_ROW_TOKENS
from lastresort.train.files.run_folder import IMPORTED, RECORD
from lastresort.train.settings import TrainingFile
from lastresort.types import JsonObject

_LEFT = frozenset({"data", "output", "origin", "columns", "pairs_as_labels"})  # an export has its own rows


def is_output_folder(folder: Path) -> bool:
    """Whether `lastresort train` has written this folder to the end."""
    return (folder / RECORD).is_file()


def training_from_output(folder: Path) -> ExportableTraining:
    """The training that this output folder came of.

    Raises DataError where its record is damaged, or the data are not where they were: the training file can be named instead.
    """
    try:
        record = read_json(folder / RECORD, DOCUMENT, raised=DataError)
        values, limit, saved = dict(record["file"]), record["data"]["row_limit_tokens"], record["saved"]["folder"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            "the record of this training is damaged",
            where=str(folder / RECORD),
            expected="JSON as training writes it",
            remedy="Name the training file instead.",
        ) from error
    place = _place(folder.absolute(), str(values.get("output", "")))
    try:
        file = training_of(YamlDocument(f"{folder / RECORD}", values), place / "training.yaml")
    except LastresortError as error:
        raise DataError(
            error.found,
            where=error.where,
            expected="the files of the training, where they were when it ran",
            remedy="Name the training file itself: lastresort export FILE --to X.",
        ) from error
    return exportable(file, name=folder.absolute().name, layers=layers_in(folder / saved), row_tokens=limit)


def exportable(
    file: TrainingFile, *, name: str | None = None, layers: tuple[str, ...] = (), row_tokens: int | None = None
) -> ExportableTraining:
    """The training that this file describes. layers, row_tokens: where a run has shown them. Raises DataError for its rows."""
    train, held_out = rows_of(file)
    origin = file.resolved.get("origin") or {}
    notes = _of_import(origin)
    if file.need == "text" and file.data.eval_share is not None:
        notes += ("eval: a share of packed rows was held out, which stand in no file: here nothing is held out.",)
    return ExportableTraining(
        name or file.path.stem,
        document_of(file),
        tuple(train),
        tuple(held_out),
        layers,
        row_tokens if row_tokens is not None else _row_tokens(file),
        notes,
        by if isinstance(by := origin.get("rendered_by"), str) else None,
    )


def _of_import(origin: Mapping[str, Any]) -> tuple[str, ...]:
    """What an import said of keys that are not honoured, and of traps: an export does not honour them either."""
    found = origin.get("remarks")
    remarks = [one for one in found if isinstance(one, Mapping)] if isinstance(found, list) else []
    kept = [
        (str(one.get("key")), str(one.get("sentence"))) for one in remarks if one.get("kind") in ("ignored", "trap")
    ]
    return tuple(text if text.startswith(key.partition(",")[0]) else f"{key}: {text}" for key, text in kept)


def training_from_file(path: Path) -> ExportableTraining:
    """The training that a file describes: one of ours, or one that `lastresort train` reads as another framework's.

    Raises TaskError for whatever is wrong with it, InputError for a folder, DataError for its rows.
    """
    if path.is_dir():
        raise InputError(
            f"found a folder without {RECORD} or record.sqlite",
            where=str(path),
            expected="a climb's run, the output folder of a finished training, or a training file",
            remedy="Name one of them.",
        )
    if framework_of(path) is None:
        return exportable(load_training(path))
    imported = read(path)
    with tempfile.TemporaryDirectory() as folder:
        file = load_training(write_imported(imported, Path(folder), path))
        return exportable(file, name=path.stem)


def document_of(file: TrainingFile) -> JsonObject:
    """Every key with its value, paths absolute, without what an export says itself."""
    found = {key: value for key, value in file.resolved.items() if key not in _LEFT}
    found["model"] = absolute_name(file.model, file.folder)
    if file.start_from is not None:
        found["start_from"] = str(file.start_from)
    if "reward" in found:
        found["reward"] = [absolute_term(term, file.folder) for term in found["reward"]]
    return found


def absolute_term(term: Mapping[str, Any], folder: Path) -> JsonObject:
    """A term of the reward whose own function is named by its whole path."""
    own = term.get("python")
    if own is None:
        return dict(term)
    if isinstance(own, str):
        return {**term, "python": str(folder / own)}
    return {**term, "python": {**own, "function": str(folder / own["function"])}}


def _place(output: Path, named: str) -> Path:
    """The folder of the training file, which `named` leads from to the output folder. One that was imported lies in it."""
    if (output / IMPORTED / "training.yaml").is_file():
        return output / IMPORTED
    parts = PurePosixPath(named).parts
    if PurePosixPath(named).is_absolute() or ".." in parts:
        return output.parent
    return output.parents[len(parts) - 1] if parts else output


def _row_tokens(file: TrainingFile) -> int | None:
    """The longest row that the file allows, None where the model is not here to say it."""
    if file.max_tokens is not None:
        return file.max_tokens
    found = context_of(absolute_name(file.model, file.folder))
    return min(found or TEXT_ROW_TOKENS, TEXT_ROW_TOKENS) if file.need == "text" else found


def context_of(model: str) -> int | None:
    """Tokens of the context of a model, None where it is not on this machine or does not say. model: its name, settled."""
    found = tokenizer_on_disk(model, Path.cwd())
    return None if found is None else found.context_tokens
