"""An entry of `datasets`: where its rows are, which of them are taken, and what becomes of each."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lastresort.data.rows import RawRow
from lastresort.errors import DataError
from lastresort.neighbours.axolotl.local_data import KINDS, file_rows, folder_rows, kind_of_file, names_file
from lastresort.neighbours.axolotl.types import Read
from lastresort.neighbours.given import Given
from lastresort.neighbours.hub_data import hub_rows
from lastresort.neighbours.imported import Source
from lastresort.neighbours.places import found_place

_SLICE = re.compile(r"(?P<split>[\w.-]+)(?:\[(?P<start>-?\d+%?)?:(?P<stop>-?\d+%?)?\])?")
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
class Place:
    """Where an entry's rows are. found: on this machine, None for the Hub. split: with a slice, as the file writes it."""

    path: str
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
            rows = [row for file in self.files for row in file_rows(file, self.kind or kind_of_file(file))]
        elif self.found is None:
            rows = hub_rows(
                self.path, name=self.name, split=split, revision=self.revision, data_files=self.remote_files
            )
        elif self.found.is_dir():
            rows = folder_rows(self.found, split, self.kind)
        else:
            rows = file_rows(self.found, self.kind or kind_of_file(self.found))
        rows = rows[_bound(start, len(rows), 0) : _bound(stop, len(rows), len(rows))]
        rows = self.shards.of(rows)
        if not rows:
            raise DataError("found no row", where=self.path, expected="at least one", remedy="Check path and split.")
        return rows


def places_of(entry: Given, beside: Path, *, shard_seed: int | None, default_split: str) -> list[Place]:
    """One place, or one for each of several names. shard_seed: None where `shards` is not honoured, as with rl.

    Raises TaskError for an entry that names no place that is read.
    """
    path = entry.text("path")
    if path is None:
        entry.refuse("path", "nothing", expected="a file, a folder or a name on the Hub", remedy="Write path: FILE.")
    if path.startswith(_REMOTE):
        entry.refuse("path", path, expected="data on this machine or a name on the Hub", remedy="Download it.")
    kind = entry.choice("ds_type", KINDS, "json") if "ds_type" in entry else path if path in KINDS else None
    found, names = found_place(path, beside), entry.names("data_files")
    if found is None and names_file(path):
        remedy = "Correct the name: it is looked for from the current folder, and from that of this file."
        entry.refuse("path", f'no file "{path}"', expected="a file or folder that exists", remedy=remedy)
    files = [found_place(name, beside) or _below(found, name) for name in names]
    local = found is not None or (path in KINDS and bool(names))
    if local and None in files:
        missing = names[files.index(None)]
        entry.refuse("data_files", f'no file "{missing}"', expected="files that exist", remedy="Correct the name.")
    here = tuple(file for file in files if file is not None) if local else ()
    shards, split = _shards_of(entry, shard_seed), entry.text("split") or default_split
    _split(split)
    revision, remote = entry.text("revision"), () if local else tuple(names)
    configurations: list[str | None] = [*entry.names("name")] or [None]
    return [Place(path, found, here, remote, kind, split, name, revision, shards) for name in configurations]


def _shards_of(entry: Given, seed: int | None) -> Shards:
    count, index = entry.count("shards", 1, least=1), entry.count("shards_idx", 0)
    if seed is None:
        if count > 1:
            entry.remark("shards", "ignored", "shards is not honoured beside rl, there either: all rows are taken.")
        return Shards(1, 0, 0)
    if index >= count:
        entry.refuse("shards_idx", str(index), expected=f"less than shards, {count}", remedy="Correct it.")
    return Shards(count, index, seed)


def source_of(place: Place, read: Read) -> Source:
    def rows() -> Iterator[tuple[str, dict[str, Any]]]:
        for row in place.rows():
            yield row.place, read(row)

    return Source(place.path, rows)


def _below(folder: Path | None, name: str) -> Path | None:
    path = folder / name if folder is not None and folder.is_dir() else None
    return path if path is not None and path.exists() else None


def _split(text: str) -> tuple[str, str | None, str | None]:
    match = _SLICE.fullmatch(text.strip())
    if match is None:
        raise DataError(
            f'found the split "{text}"', where="datasets", expected="a name such as train[:500]", remedy="Correct it."
        )
    return match["split"], match["start"], match["stop"]


def _bound(text: str | None, count: int, default: int) -> int:
    if text is None:
        return default
    value = round(count * int(text[:-1]) / 100) if text.endswith("%") else int(text)
    return max(0, value + count if value < 0 else value)
