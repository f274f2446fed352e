"""An exportable training -> a folder that another framework runs: its configuration, the rows, a README."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from lastresort.errors import DataError, InputError
from lastresort.foreign import printable, read_json
from lastresort.interop.exporting import TARGETS
from lastresort.interop.exporting.base import adapter_of, base_for, tokenizer_of
from lastresort.interop.exporting.job import ExportableTraining, ExportBase, ExportFiles, ExportJob, Row, readme
from lastresort.interop.exporting.rewards import reward_files
from lastresort.interop.exporting.rows import accepted_rows
from lastresort.models.open import EMBEDDED
from lastresort.records.atomic import check_new_folder, disk_errors, new_folder, refuse_links_out, replace_folder
from lastresort.spec.training import load_training
from lastresort.spec.values import one_of
from lastresort.systems.files import as_yaml

TRAINING, TRAIN, HELD_OUT, START = "training.yaml", "train.jsonl", "eval.jsonl", "start"
MARK = "exported.json"


@dataclass(frozen=True, slots=True)
class ExportedFolder:
    """folder: what was written. files: names of all in it. notes: what the framework cannot be told, or takes otherwise. told: what
    was chosen for the user."""

    to: str
    folder: Path
    files: tuple[str, ...]
    rows: int
    held_out: int
    base: str
    notes: tuple[str, ...]
    commands: tuple[str, ...]
    told: tuple[str, ...]


def export(
    training: ExportableTraining,
    to: str,
    folder: Path,
    *,
    base: str | None = None,
    with_base: bool = False,
    **details: Any,
) -> ExportedFolder:
    """Write the training for a framework into `folder`, which is replaced if an export wrote all that it holds.

    base: what the base model is called there. with_base: copy its folder. details: for the framework's own writer.
    Raises InputError for a framework that is not known, or that has no counterpart of the objective, and for a folder that
    holds something else; DataError for rows that it cannot hold.
    """
    one_of("--to", to, tuple(TARGETS))
    final = folder.absolute()
    _refuse_halves([training.name, str(final), base, training.document])
    check_new_folder(final, own=_written_before(final))
    with new_folder(final) as working:
        job = _job(training, working, to, named=base, copied=with_base)
        written = _write(job, to, working, details)
        notes = tuple(dict.fromkeys((*job.notes, *written.notes)))
        _put(working, {"README.md": readme(job, to, written, notes)})
        files = tuple(sorted(path.name for path in working.iterdir()))
        _put(working, {MARK: json.dumps({"to": to, "name": training.name, "files": files}) + "\n"})
        working.chmod(0o755)
        replace_folder(working, final)
    return ExportedFolder(
        to, final, files, len(job.train), len(job.held_out), job.base.name, notes, written.commands, written.told
    )


def _refuse_halves(value: Any) -> None:
    """Raises InputError for a name of a file that is not UTF-8, anywhere in what goes into the files."""
    if isinstance(value, str) and printable(value) != value:
        raise InputError("found a file name that is not UTF-8", where=printable(value), remedy="Rename the file.")
    for inner in value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ():
        _refuse_halves(inner)


def _written_before(folder: Path) -> list[str]:
    """Names of what an earlier export wrote there. What was added since, such as a trained model, is not to be lost."""
    if not (folder / MARK).is_file():
        return []
    mark = read_json(folder / MARK)
    files = mark.get("files") if isinstance(mark, dict) else None
    return [MARK, *(str(name) for name in files)] if isinstance(files, list) else []


def _job(training: ExportableTraining, working: Path, to: str, *, named: str | None, copied: bool) -> ExportJob:
    """The training file with its rows in the folder, read back: what every framework's writer sees."""
    if not training.train:
        raise DataError("no row is left to train on", where=training.name, expected="at least one")
    document = dict(training.document)
    base, base_notes = base_for(str(document["model"]), working, named=named, copied=copied)
    if TARGETS[to].runs_us and document["model"] == EMBEDDED and named is None and not copied:
        base, base_notes = replace(base, name=EMBEDDED), ()  # which runs there too
    start = document.get("start_from")
    if start is not None:
        with disk_errors(working):
            refuse_links_out(Path(start))
            shutil.copytree(start, working / START)
        document["start_from"] = START
    names, needs = reward_files(document, working, functions=not TARGETS[to].runs_us)
    document |= {"model": base.name, "output": "out"}
    document["data"] = {"train": TRAIN} | ({"eval": HELD_OUT} if training.held_out else {})
    train, held_out = _as_rendered(training, base)
    _rows(working / TRAIN, train)
    if held_out:
        _rows(working / HELD_OUT, held_out)
    _put(working, {TRAINING: as_yaml(document)})
    file = load_training(working / TRAINING)
    adapter, assumed = adapter_of(file, training.layers, base)
    rows = training.row_tokens if file.max_tokens is None else file.max_tokens
    notes = (*training.notes, *base_notes, *needs, *assumed)
    tokenizer = tokenizer_of(base)
    return ExportJob(
        training.name, file, train, held_out, base, adapter, rows, tokenizer, names, notes, training.rendered_by
    )


def _as_rendered(training: ExportableTraining, base: ExportBase) -> tuple[tuple[Row, ...], tuple[Row, ...]]:
    """Rows to train on and held out, as the base's template takes them, as far as it is here."""
    conversations = [row.get("messages") or row.get("prompt") or [] for row in training.train]
    has_system = any(turn["role"] == "system" for turns in conversations for turn in turns)
    if base.here is None or not has_system:
        return training.train, training.held_out
    tokenizer, kwargs = tokenizer_of(base)(), training.document.get("chat_template_kwargs") or {}
    return accepted_rows(training.train, tokenizer, kwargs), accepted_rows(training.held_out, tokenizer, kwargs)


def _write(job: ExportJob, to: str, working: Path, details: Mapping[str, Any]) -> ExportFiles:
    module, function = TARGETS[to].path.split(":")
    written: ExportFiles = getattr(import_module(module), function)(job, **details)
    _rows(working / TRAIN, written.train)
    if job.held_out:
        _rows(working / HELD_OUT, written.held_out)
    (working / TRAINING).unlink()
    _put(working, written.texts)
    return written


def _put(folder: Path, texts: Mapping[str, str]) -> None:
    with disk_errors(folder):
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8")


def _rows(path: Path, rows: Sequence[Row]) -> None:
    with disk_errors(path), path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
