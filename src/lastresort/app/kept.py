"""Rows that a person has kept or marked: JSON Lines in the workspace, whole after every row."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from lastresort.data.duplicates import normalised
from lastresort.errors import DataError, InfrastructureError, InputError
from lastresort.foreign import ROWS, NotJson, parse_json, read_text
from lastresort.records.atomic import LockHeld, disk_errors, locked, write_atomically
from lastresort.records.measurement import DEV, FRESH, REST, TEST
from lastresort.records.record import Record
from lastresort.types import Json, JsonObject

EXAMPLES, PAIRS = "kept.jsonl", "kept_pairs.jsonl"
WAIT_S = 10.0  # a file is written in milliseconds


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Hold a file or a folder while it is read and written again: other threads wait, and so do other pages on the same folder.

    Raises InfrastructureError where another holds it for longer than WAIT_S.
    """
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(path.with_name(f".{path.name}.lock"), wait_s=WAIT_S))
        except LockHeld:
            raise InfrastructureError(
                f"another process has held this for {WAIT_S:.0f} s",
                where=path.name,
                expected="a process that writes it and lets go",
                remedy="Try again, or end the other process.",
            ) from None
        yield


def append_row(path: Path, row: JsonObject) -> int:
    """Add a row to the file; returns how many it holds. A reader finds it with the row or without, never with half of it.

    Raises InputError for a row that is its last already: a button was pressed twice. Raises DataError for a link, which would be
    replaced and not what it leads to, and InfrastructureError for the disk.
    """
    with writing(path):
        old_text = _text(path)
        if old_text and not old_text.endswith("\n"):
            old_text += "\n"
        if old_text.endswith(f"\n{_line(row)}") or old_text == _line(row):
            raise InputError("this is its last row already, so it was not added again", where=path.name)
        text = old_text + _line(row)
        write_atomically(path, text)
        return sum(bool(line.strip()) for line in text.split("\n"))


def write_rows(path: Path, rows: Sequence[JsonObject]) -> None:
    """Replace the rows of the file. Whoever changes what it has read does so within `writing`. Raises as `append_row` does."""
    _refuse_link(path)
    write_atomically(path, "".join(map(_line, rows)))


def rows_in(path: Path) -> list[JsonObject]:
    """The rows of the file, none where it is missing. Raises DataError for a line that is no JSON object."""
    rows: list[JsonObject] = []
    for number, line in enumerate(_text(path).split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = parse_json(line)
        except NotJson as error:
            raise _not_a_row(path, number, error.reason) from error
        if not isinstance(row, dict):
            raise _not_a_row(path, number, "no object")
        rows.append(row)
    return rows


@dataclass(frozen=True, slots=True)
class HeldInputs:
    """What was measured. splits: of every dev and test input, by its normalised text. single: whether each was surely one message,
    since a record holds the turns of a conversation as lines of one text.
    """

    splits: dict[str, str]
    single: bool

    @classmethod
    def of(cls, record: Record) -> HeldInputs:
        splits: dict[str, str] = {}
        single = True
        for split, text in record.inputs():
            single = single and "\n" not in text.strip()
            if split in (DEV, TEST, REST, FRESH) and splits.get(key := normalised(text)) != TEST:
                splits[key] = DEV if split == DEV else TEST
        return cls(splits, single)

    def split_of(self, turns: Sequence[JsonObject]) -> str:
        """In which split the conversation, or one message of its user, is an input, "" where in none."""
        contents = [str(turn["content"]) for turn in turns]
        texts = ["\n".join(contents), *(str(turn["content"]) for turn in turns if turn["role"] == "user")]
        splits = [self.splits[key] for key in map(normalised, texts) if key in self.splits]
        return max(splits, default="")  # test before dev


def turns_as_input(turns: list[JsonObject]) -> Json:
    """The text of a single question, else all turns: as the files of examples and preferences have them."""
    return turns[0]["content"] if len(turns) == 1 else turns


def _line(row: JsonObject) -> str:
    return json.dumps(row, ensure_ascii=False) + "\n"


def _refuse_link(path: Path) -> None:
    if path.is_symlink():
        raise DataError("found a link", where=str(path), expected="the file itself", remedy="Copy the file there.")


def _text(path: Path) -> str:
    _refuse_link(path)
    return read_text(path, ROWS, raised=DataError) if path.exists() else ""


def _not_a_row(path: Path, number: int, reason: str) -> DataError:
    return DataError(
        f"found in line {number}: {reason}",
        where=str(path),
        expected="a JSON object a line",
        remedy="Correct the line.",
    )
