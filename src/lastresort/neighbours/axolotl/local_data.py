"""Data on this machine: a file of any kind, several, a folder of them, or one that `datasets` saved."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lastresort.data.files import read_lines, read_rows
from lastresort.data.rows import RawRow
from lastresort.errors import DataError

KINDS = ("json", "csv", "parquet", "arrow", "text")
_SUFFIXES = {".jsonl": "json", ".ndjson": "json", ".json": "json", ".csv": "csv", ".tsv": "csv", ".parquet": "parquet"}
_SUFFIXES |= {".arrow": "arrow", ".txt": "text"}
_SAVED, _SAVED_SPLITS = "state.json", "dataset_dict.json"
_HELD_OUT = {"validation": ("validation", "valid", "dev", "val"), "test": ("test", "testing", "eval", "evaluation")}


def names_file(name: str) -> bool:
    """Whether a name that is not found can only be meant for a file or folder of this machine, and for nothing on the Hub."""
    return name.startswith(("./", "../", "/", "~")) or Path(name.removesuffix(".gz")).suffix.lower() in _SUFFIXES


def kind_of_file(path: Path) -> str:
    """json where the suffix says nothing else."""
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() != ".gz"]
    return _SUFFIXES.get(suffixes[-1], "json") if suffixes else "json"


def file_rows(path: Path, kind: str) -> list[RawRow]:
    """Raises DataError for what keeps a file from being read as this kind."""
    if kind == "arrow":
        return _arrow_rows([path])
    if kind == "text":
        return [RawRow({"text": line}, n, f"{path}, row {n}") for n, line in enumerate(read_lines(path), 1)]
    suffix = path.suffixes[0].lower() if path.suffix.lower() == ".gz" and path.suffixes[1:] else path.suffix.lower()
    same = _SUFFIXES.get(suffix) == kind
    return read_rows(path, kind=None if same else f".{kind}")


def folder_rows(path: Path, split: str, kind: str | None) -> list[RawRow]:
    """The split of a folder: one that `datasets` saved, or its files whose names do not say that they are another split."""
    if (path / _SAVED_SPLITS).is_file():
        if not (path / split).is_dir():
            there = ", ".join(sorted(inner.name for inner in path.iterdir() if inner.is_dir()))
            raise DataError(
                f'found no split "{split}"', where=str(path), expected=f"one of {there}", remedy="Name one."
            )
        path = path / split
    if (path / _SAVED).is_file():
        names = [one["filename"] for one in json.loads((path / _SAVED).read_text(encoding="utf-8"))["_data_files"]]
        return _arrow_rows([path / name for name in names])
    files = sorted(file for file in path.rglob("*") if file.is_file() and file.suffix.lower() in _SUFFIXES)
    chosen = [file for file in files if split_named(file.relative_to(path)) == split]
    if not chosen:
        raise DataError(
            f'found no file of the split "{split}"',
            where=str(path),
            expected=f"files that end in {', '.join(_SUFFIXES)}",
            remedy="Name the files under data_files.",
        )
    return [row for file in chosen for row in file_rows(file, kind or kind_of_file(file))]


def split_named(path: Path) -> str:
    """train, unless a part of the name says validation or test."""
    words = {word for part in (*path.parts[:-1], path.stem) for word in re.split(r"[^a-z]+", part.lower())}
    return next((split for split, names in _HELD_OUT.items() if words & set(names)), "train")


def _arrow_rows(paths: Sequence[Path]) -> list[RawRow]:
    import pyarrow

    rows: list[RawRow] = []
    for path in paths:
        try:
            values = _read_arrow(path)
        except (pyarrow.ArrowException, OSError) as error:
            reason = str(error).split("\n")[0]
            raise DataError(
                f"found a file that is not Arrow or is damaged ({reason})", where=str(path), remedy="Write it again."
            ) from error
        rows += [RawRow(value, number, f"{path}, row {number}") for number, value in enumerate(values, 1)]
    return rows


def _read_arrow(path: Path) -> list[dict[str, Any]]:
    import pyarrow

    with pyarrow.memory_map(str(path)) as source:
        try:
            table = pyarrow.ipc.open_stream(source).read_all()
        except pyarrow.ArrowInvalid:
            table = pyarrow.ipc.open_file(source).read_all()
        found: list[dict[str, Any]] = table.to_pylist()
        return found
