"""What another framework's training file becomes: keys of our training file, rows in our shapes, and remarks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from lastresort.data.formats.rows import RawRow
from lastresort.errors import DataError, PrerequisiteError
from lastresort.types import JsonObject

Framework = Literal["axolotl", "llamafactory"]
Kind = Literal["ignored", "differs", "trap"]


@dataclass(frozen=True, slots=True)
class ImportRemark:
    """Something about the file that its reader must know.

    key: of that file, dotted. kind: ignored (the key has no effect here), differs (honoured, but differs in a detail), trap
    (honoured, but probably does not do what was intended).
    """

    key: str
    kind: Kind
    sentence: str


@dataclass(frozen=True, slots=True)
class RowSource:
    """Rows in our own shapes, read when they are wanted.

    name: for errors and the record. rows(): dictionaries in a shape that `lastresort train` reads, each beside its
    place ("FILE, row 3").
    """

    name: str
    rows: Callable[[], Iterator[tuple[str, JsonObject]]]


@dataclass(frozen=True, slots=True)
class ImportedTraining:
    """document: keys of our training file (docs/train.md), without `data`. eval_share: a share or a count of the rows to hold
    out. rendered_by: the key and value of the foreign file by which rows become text ("template: llama3"), None where they
    stay turns.
    """

    framework: Framework
    document: JsonObject
    train: tuple[RowSource, ...]
    held_out: tuple[RowSource, ...]
    eval_share: float | int | None
    remarks: tuple[ImportRemark, ...]
    rendered_by: str | None = None


def hub_rows(
    path: str,
    *,
    name: str | None,
    split: str,
    revision: str | None,
    data_files: Sequence[str] = (),
    data_dir: str | None = None,
) -> list[RawRow]:
    """The rows of one split of data on the Hub.

    Raises PrerequisiteError without `datasets`, DataError where the data cannot be loaded.
    """
    try:
        import datasets
    except ImportError as error:
        raise PrerequisiteError(
            f'"{path}" is not on this machine, and the package datasets is not installed',
            where="datasets",
            remedy="Run: pip install datasets, or name a local file.",
        ) from error
    wanted: JsonObject = {"name": name, "split": split, "revision": revision}
    if data_files:
        wanted["data_files"] = list(data_files)
    if data_dir is not None:
        wanted["data_dir"] = data_dir
    try:
        found = datasets.load_dataset(path, **wanted)
    except (OSError, ValueError, RuntimeError) as error:
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise DataError(
            f'"{path}" is not on this machine and cannot be loaded from the Hub ({reason[:200]})',
            where="datasets",
            expected="a local file or folder, or a data set that can be reached",
            remedy="Download it, or correct its name.",
        ) from error
    return [RawRow(dict(row), number, f"{path}, row {number}") for number, row in enumerate(found, 1)]
