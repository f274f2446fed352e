"""An entry of `datasets`: where its rows are (files, a folder, one that `datasets` saved, or the Hub), and which are taken."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lastresort.data.arrow import arrow_rows
from lastresort.data.files import read_lines, read_rows
from lastresort.data.formats.rows import RawRow
from lastresort.errors import DataError
from lastresort.foreign import ROWS, read_content, read_json
from lastresort.interop.axolotl.types import Read
from lastresort.interop.foreign_keys import ForeignKeys, RowSource, existing_path, hub_rows
from lastresort.spec.values import shortened
from lastresort.types import JsonObject

KINDS = ("json", "csv", "parquet", "arrow", "text")
_SUFFIXES = {".jsonl": "json", ".ndjson": "json", ".json": "json", ".csv": "csv", ".tsv": "csv", ".parquet": "parquet"}
_SUFFIXES |= {".arrow": "arrow", ".txt": "text"}
_SAVED, _SAVED_SPLITS = "state.json", "dataset_dict.json"
_HELD_OUT = {"validation": ("validation", "valid", "dev", "val"), "test": ("test", "testing", "eval", "evaluation")}


def is_local_name(name: str) -> bool:
    """Whether a missing name can only mean a file or folder of this machine, nothing on the Hub."""
    return name.startswith(("./", "../", "/", "~")) or Path(name.removesuffix(".gz")).suffix.lower() in _SUFFIXES


def file_kind(path: Path) -> str:
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
        return _arrow_rows(_saved_files(path))
    files = sorted(file for file in path.rglob("*") if file.is_file() and file.suffix.lower() in _SUFFIXES)
    chosen = [file for file in files if split_of(file.relative_to(path)) == split]
    if not chosen:
        raise DataError(
            f'found no file of the split "{split}"',
            where=str(path),
            expected=f"files that end in {', '.join(_SUFFIXES)}",
            remedy="Name the files under data_files.",
        )
    return [row for file in chosen for row in file_rows(file, kind or file_kind(file))]


def _saved_files(folder: Path) -> list[Path]:
    """The files of a folder that `datasets` saved. Raises DataError for a list that is none, or leads out of the folder."""
    path = folder / _SAVED
    saved = read_json(path, raised=DataError)
    files = saved.get("_data_files") if isinstance(saved, dict) else None
    names = [one.get("filename") if isinstance(one, dict) else None for one in files] if isinstance(files, list) else []
    if not names or not all(isinstance(name, str) and name == Path(name).name for name in names):
        raise DataError(
            "found no list of the files in this folder",
            where=f'{path}, key "_data_files"',
            expected="file names as `datasets` saves them",
            remedy="Save the data again.",
        )
    return [folder / str(name) for name in names]


def split_of(path: Path) -> str:
    """train, unless a part of the name says validation or test."""
    words = {word for part in (*path.parts[:-1], path.stem) for word in re.split(r"[^a-z]+", part.lower())}
    return next((split for split, names in _HELD_OUT.items() if words & set(names)), "train")


def _arrow_rows(paths: Sequence[Path]) -> list[RawRow]:
    rows: list[RawRow] = []
    for path in paths:
        try:
            rows += arrow_rows(read_content(path, ROWS, raised=DataError), path)
        except OSError as error:
            raise DataError("found no file", where=str(path), remedy="Write it again.") from error
    return rows


_SLICE = re.compile(r"(?P<split>[\w.-]+)(?:\[(?P<start>-?\d{1,15}%?)?:(?P<stop>-?\d{1,15}%?)?\])?")
_REMOTE = ("s3://", "gs://", "gcs://", "adl://", "abfs://", "az://", "oci://", "https://", "http://")
# What an entry may say that changes nothing here.
IDLE = ("trust_remote_code", "preprocess_shards", "input_format")


@dataclass(frozen=True, slots=True)
class Shards:
    """The rows are shuffled by the seed, as `datasets` shuffles, and of so many shards of neighbours one is taken."""

    count: int
    index: int
    seed: int

    def of(self, rows: list[RawRow]) -> list[RawRow]:
        if self.count == 1:
            return rows
        import numpy as np

        order = np.random.default_rng(self.seed).permutation(len(rows))
        each, more = divmod(len(rows), self.count)
        start = each * self.index + min(self.index, more)
        return [rows[int(number)] for number in order[start : start + each + (1 if self.index < more else 0)]]


@dataclass(frozen=True, slots=True)
class EntryPlace:
    """Where an entry's rows are. where: the file and key that say so. found: on this machine, None for the Hub. split: with a
    slice, as the file writes it."""

    path: str
    where: str
    found: Path | None
    files: tuple[Path, ...]
    remote_files: tuple[str, ...]
    kind: str | None
    split: str
    name: str | None
    revision: str | None
    shards: Shards

    def rows(self) -> list[RawRow]:
        """Raises DataError, or PrerequisiteError for data on the Hub without `datasets`."""
        split, start, stop = _split(self.split)
        if self.files:
            rows = [row for file in self.files for row in file_rows(file, self.kind or file_kind(file))]
        elif self.found is None:
            rows = hub_rows(
                self.path,
                where=self.where,
                name=self.name,
                split=split,
                revision=self.revision,
                data_files=self.remote_files,
            )
        elif self.found.is_dir():
            rows = folder_rows(self.found, split, self.kind)
        else:
            rows = file_rows(self.found, self.kind or file_kind(self.found))
        rows = rows[_bound(start, len(rows), 0) : _bound(stop, len(rows), len(rows))]
        rows = self.shards.of(rows)
        if not rows:
            raise DataError("found no row", where=self.path, expected="at least one", remedy="Check path and split.")
        return rows


def places_of(entry: ForeignKeys, beside: Path, *, shard_seed: int | None, default_split: str) -> list[EntryPlace]:
    """One place, or one for each of several names. shard_seed: None where `shards` is not honoured, as with rl.

    Raises TaskError for an entry that names no place that is read.
    """
    path = entry.text("path")
    if path is None:
        entry.refuse("path", "nothing", expected="a file, a folder or a name on the Hub", remedy="Write path: FILE.")
    if path.startswith(_REMOTE):
        entry.refuse("path", path, expected="data on this machine or a name on the Hub", remedy="Download it.")
    kind = entry.choice("ds_type", KINDS, "json") if "ds_type" in entry else path if path in KINDS else None
    found, names = existing_path(path, beside), entry.names("data_files")
    if found is None and is_local_name(path):
        remedy = "Correct the name: it is looked for from the current folder, and from that of this file."
        entry.refuse("path", f'no file "{path}"', expected="a file or folder that exists", remedy=remedy)
    files = [existing_path(name, beside) or _below(found, name) for name in names]
    for place in (found, *files):
        if place is not None and not (place.is_file() or place.is_dir()):
            entry.refuse("path", f"{place}, a device or a pipe", expected="a file or folder", remedy="Name one.")
    local = found is not None or (path in KINDS and bool(names))
    if local and None in files:
        missing = names[files.index(None)]
        entry.refuse("data_files", f'no file "{missing}"', expected="files that exist", remedy="Correct the name.")
    here = tuple(file for file in files if file is not None) if local else ()
    shards, split = _shards_of(entry, shard_seed), entry.text("split") or default_split
    _split(split)
    revision, remote = entry.text("revision"), () if local else tuple(names)
    configurations: list[str | None] = [*entry.names("name")] or [None]
    where = entry.where("path")
    return [
        EntryPlace(path, where, found, here, remote, kind, split, name, revision, shards) for name in configurations
    ]


def _shards_of(entry: ForeignKeys, seed: int | None) -> Shards:
    count, index = entry.count("shards", 1, least=1), entry.count("shards_idx", 0)
    if seed is None:
        if count > 1:
            entry.note_ignored("shards", "shards is ignored with rl, there too: all rows are taken.")
        return Shards(1, 0, 0)
    if index >= count:
        entry.refuse("shards_idx", str(index), expected=f"less than shards, {count}")
    return Shards(count, index, seed)


def source_of(place: EntryPlace, read: Read) -> RowSource:
    def rows() -> Iterator[tuple[str, JsonObject]]:
        for row in place.rows():
            yield row.place, read(row)

    return RowSource(place.path, rows)


def _below(folder: Path | None, name: str) -> Path | None:
    path = folder / name if folder is not None and folder.is_dir() else None
    return path if path is not None and path.exists() else None


def _split(text: str) -> tuple[str, str | None, str | None]:
    match = _SLICE.fullmatch(text.strip())
    if match is None:
        raise DataError(
            f"found the split {shortened(text)}",
            where="datasets",
            expected="a name such as train[:500]",
            remedy="Correct it.",
        )
    return match["split"], match["start"], match["stop"]


def _bound(text: str | None, count: int, default: int) -> int:
    if text is None:
        return default
    value = round(count * int(text[:-1]) / 100) if text.endswith("%") else int(text)
    return max(0, value + count if value < 0 else value)
