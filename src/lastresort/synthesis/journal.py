"""The file of synthetic rows, and the journal of how they were made, from which a stopped run goes on.

What a call cost is a line of the journal, written as its answer arrives. A batch of requests is one line, written before its
rows; another line follows when they are in their file. So a process that is killed loses the batch at work, whose answers the
response cache keeps, and at most the rows of the last batch are missing from the file of rows, to which they are then added. Rows
that the user has changed or removed stay so; a file that is gone is written again.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, NonNegativeFloat, NonNegativeInt, ValidationError

from lastresort.errors import DataError, InputError
from lastresort.foreign import ROWS, is_json, read_content
from lastresort.keys import without_keys
from lastresort.records.atomic import disk_error, write_atomically
from lastresort.synthesis.filters import FilterName
from lastresort.types import JsonObject, Message


class _Line(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RowOrigin(_Line):
    """Where a synthetic row comes from, under its key `synthetic`. seeds: ids of the rows of train that the teacher was shown.
    seed_inputs: hashes of their inputs, which stay when ids or answers change. prompt: name and version. passed: the filters.
    made: the date. usd: its share of its request, and of its agreement.
    """

    kind: str
    teacher: str
    seeds: tuple[str, ...]
    seed_inputs: tuple[str, ...]
    prompt: str
    passed: tuple[str, ...]
    made: str
    usd: NonNegativeFloat = 0.0


class SyntheticRow(_Line):
    """turns: up to the answer."""

    id: str
    turns: tuple[Message, ...]
    output: str
    passages: tuple[str, ...] = ()
    synthetic: RowOrigin

    def written(self, *, as_messages: bool) -> JsonObject:
        """As a row of the file. as_messages: because some input is a conversation; all rows of a file have one shape."""
        provenance = self.synthetic.model_dump(mode="json")
        passages: JsonObject = {"passages": list(self.passages)} if self.passages else {}
        if as_messages:
            turns = [*(turn.as_dict() for turn in self.turns), {"role": "assistant", "content": self.output}]
            return {"id": self.id, "messages": turns, **passages, "synthetic": provenance}
        return {
            "id": self.id, "input": self.turns[-1].content, "output": self.output, **passages, "synthetic": provenance,
        }  # fmt: skip


class FilteredRow(_Line):
    """kind: of its request. input, output: "" where a whole reply could not be read."""

    by: FilterName
    kind: str
    input: str = ""
    output: str = ""


class CallSpending(_Line):
    """What a call took, also where another synthesis left its answer in the cache. asked: a hash of its prompt and seed, None where
    it gave no answer and may have cost all the same.
    """

    asked: str | None
    tokens_in: NonNegativeInt = 0
    tokens_out: NonNegativeInt = 0
    usd: NonNegativeFloat = 0.0
    seconds: NonNegativeFloat = 0.0


class RequestBatch(_Line):
    """What a batch of requests gave. shown: kind and first row of each."""

    number: NonNegativeInt
    requests: NonNegativeInt
    rows: tuple[SyntheticRow, ...]
    dropped: tuple[FilteredRow, ...]
    shown: tuple[tuple[str, str], ...] = ()
    surplus: NonNegativeInt = 0


class RowsWritten(_Line):
    """The rows of so many batches are in the file of rows."""

    written: NonNegativeInt


_WRITTEN, _ASKED = '{"written"', '{"asked"'  # how these lines begin


class Header(_Line):
    """What makes two commands the same synthesis. Limits are not part of it, so that they can be raised."""

    journal: int = 1
    teacher: str
    fingerprint: str
    train: str
    task: str
    kinds: tuple[str, ...]
    seed: int
    balance: str
    agreement: int
    prompts: int


@dataclass(frozen=True, slots=True)
class Tally:
    """All batches together, and all calls. dearest_usd: of one answer."""

    rows: tuple[SyntheticRow, ...]
    dropped: tuple[FilteredRow, ...]
    batches: int
    requests: int
    calls: int
    surplus: int
    tokens_in: int
    tokens_out: int
    usd: float
    dearest_usd: float
    seconds: float

    @property
    def proposed(self) -> int:
        """Rows that could be read or not, and whole replies that could not."""
        return len(self.rows) + len(self.dropped) + self.surplus

    @property
    def drops(self) -> Counter[FilterName]:
        return Counter(row.by for row in self.dropped)


def tally(batches: Sequence[RequestBatch], calls: Sequence[CallSpending]) -> Tally:
    answered = [call for call in calls if call.asked is not None]
    return Tally(
        tuple(row for batch in batches for row in batch.rows),
        tuple(row for batch in batches for row in batch.dropped),
        len(batches),
        sum(batch.requests for batch in batches),
        len(answered),
        sum(batch.surplus for batch in batches),
        sum(call.tokens_in for call in calls),
        sum(call.tokens_out for call in calls),
        sum(call.usd for call in calls),
        max((call.usd for call in answered), default=0.0),
        sum(call.seconds for call in calls),
    )


class Journal:
    """Open it holding its folder's lock. path: of the journal. rows_path: of the file of rows. as_messages: their shape.

    Raises InputError where the file of rows is there without a journal, or the journal is of another synthesis, DataError where it
    is damaged, InfrastructureError where the disk refuses.
    """

    def __init__(self, path: Path, rows_path: Path, header: Header, *, as_messages: bool) -> None:
        self.path, self.rows_path, self._as_messages = path, rows_path, as_messages
        lines = _whole_lines(path)
        if not lines:
            if rows_path.exists() and rows_path.stat().st_size:
                raise InputError(
                    "found a file that was not made here",
                    where=str(rows_path),
                    expected="a new file",
                    remedy="Name another with --out, or move it away.",
                )
            _append(path, [header.model_dump_json()])
            _append(rows_path, [])
        else:
            self._refuse_another(_parsed(Header, lines[0], path, 1), header)
        self.batches: list[RequestBatch] = []
        self.calls: list[CallSpending] = []
        self._written = 0
        for number, line in enumerate(lines[1:], start=2):
            if line.startswith(_WRITTEN):
                self._written = _parsed(RowsWritten, line, path, number).written
            elif line.startswith(_ASKED):
                self.calls.append(_parsed(CallSpending, line, path, number))
            else:
                self.batches.append(_parsed(RequestBatch, line, path, number))
        self._asked = {call.asked for call in self.calls}
        self._settle()

    def append(self, batch: RequestBatch) -> None:
        _append(self.path, [batch.model_dump_json()])
        self.batches.append(batch)
        self._write(batch.rows)

    def spend(self, call: CallSpending) -> None:
        _append(self.path, [call.model_dump_json()])
        self.calls.append(call)
        self._asked.add(call.asked)

    def has_answer(self, asked: str) -> bool:
        return asked in self._asked

    def rows_in_file(self) -> int:
        """Without those that the user has removed."""
        return sum(bool(line.strip()) for line in _whole_lines(self.rows_path, may_lack_end=True))

    @property
    def tally(self) -> Tally:
        return tally(self.batches, self.calls)

    def _write(self, rows: Sequence[SyntheticRow]) -> None:
        _append(self.rows_path, self._row_lines(rows))
        self._written = len(self.batches)
        _append(self.path, [RowsWritten(written=self._written).model_dump_json()])

    def _row_lines(self, rows: Sequence[SyntheticRow]) -> list[str]:
        return [json.dumps(row.written(as_messages=self._as_messages), ensure_ascii=False) for row in rows]

    def _settle(self) -> None:
        """Cut a row that was half written, add those of the last batch that a kill kept out of the file, and write a file anew that
        is gone.
        """
        if not self.rows_path.exists():
            rows = self._row_lines([row for batch in self.batches for row in batch.rows])
            write_atomically(self.rows_path, "".join(f"{row}\n" for row in rows))
        kept = _whole_lines(self.rows_path, may_lack_end=True)
        if not self.batches or self._written == len(self.batches):
            return
        last = self.batches[-1].rows
        known = kept[-2 * len(last) :]
        self._write([row for row in last if not any(f'"{row.id}"' in line for line in known)])

    def _refuse_another(self, found: Header, wanted: Header) -> None:
        other = [name for name in Header.model_fields if getattr(found, name) != getattr(wanted, name)]
        if other:
            raise InputError(
                f"found rows that were made with other settings ({', '.join(other)})",
                where=str(self.rows_path),
                expected="the same task, train rows, teacher and options",
                remedy="Name another file with --out, or move this one and its journal away.",
            )


_L = TypeVar("_L", bound=_Line)


def _parsed(model: type[_L], line: str, path: Path, number: int) -> _L:
    try:
        return model.model_validate_json(line)
    except ValidationError as error:
        raise DataError(
            f"found a line that cannot be read ({error.errors()[0]['msg']})",
            where=f"{path}, line {number}",
            expected="the journal of `lastresort data synth`",
            remedy="Move it and its rows away, or name another file with --out.",
        ) from error


def _whole_lines(path: Path, *, may_lack_end: bool = False) -> list[str]:
    """The lines of a file; a last one without its end was half written, and is cut off. may_lack_end: unless it is whole JSON, as
    an editor leaves it, and gets its end.
    """
    try:
        content = read_content(path, ROWS, raised=DataError)
    except FileNotFoundError:
        return []
    end = content.rfind(b"\n") + 1
    if end < len(content):
        rest = content[end:].decode(errors="replace")
        if may_lack_end and is_json(rest):
            _append(path, [""])
            return [*_lines(content[:end]), rest]
        with _disk(path), path.open("rb+") as file:
            file.truncate(end)
    return _lines(content[:end])


def _lines(content: bytes) -> list[str]:
    return content.decode(errors="replace").split("\n")[:-1]


def _append(path: Path, lines: Sequence[str]) -> None:
    """All lines in one write, on the disk when this returns."""
    data = "".join(f"{without_keys(line)}\n" for line in lines).encode(errors="backslashreplace")
    with _disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())


@contextmanager
def _disk(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise disk_error(error, path) from error
