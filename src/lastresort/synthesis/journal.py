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
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, NonNegativeFloat, NonNegativeInt, ValidationError

from lastresort.errors import DataError, InputError
from lastresort.foreign import ROWS, read_content
from lastresort.keys import without_keys
from lastresort.records.atomic import disk_errors, write_atomically
from lastresort.synthesis.filters import FilterName
from lastresort.types import Answer, JsonObject, Message, SeedPassage


class _Line(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RowOrigin(_Line):
    """Where a synthetic row comes from, under its key `synthetic`. seeds: ids of the rows of train that the teacher was shown.
    seed_inputs: hashes of their inputs, which stay when ids or answers change. prompt: name and version. passed: the filters.
    made: the date. usd: its share of its request, and of its agreement, None where the price is unknown. passage: that holds the
    answer, None where none was shown.
    """

    kind: str
    teacher: str
    seeds: tuple[str, ...]
    seed_inputs: tuple[str, ...]
    prompt: str
    passed: tuple[str, ...]
    made: str
    usd: NonNegativeFloat | None = None
    passage: SeedPassage | None = None


class SyntheticRow(_Line):
    """turns: up to the answer."""

    id: str
    turns: tuple[Message, ...]
    output: str
    passages: tuple[str, ...] = ()
    synthetic: RowOrigin

    def written(self, *, as_messages: bool) -> JsonObject:
        """As a row of the file. as_messages: because some input is a conversation; all rows of a file have one shape."""
        provenance = self.synthetic.model_dump(mode="json", exclude=set() if self.synthetic.passage else {"passage"})
        passages: JsonObject = {"passages": list(self.passages)} if self.passages else {}
        if as_messages:
            turns = [*(turn.as_dict() for turn in self.turns), {"role": "assistant", "content": self.output}]
            return {"id": self.id, "messages": turns, **passages, "synthetic": provenance}
        return {
            "id": self.id, "input": self.turns[-1].content, "output": self.output, **passages, "synthetic": provenance,
        }  # fmt: skip


class FilteredRow(_Line):
    """kind: of its request. output: where a whole reply could not be read, how it begins."""

    by: FilterName
    kind: str
    input: str = ""
    output: str = ""


class CallSpending(_Line):
    """What a call took. prompt_hash: of its prompt and seed, None where it gave no answer. is_check: of an answer, rather than a
    request for rows. usd: paid for it, 0 where another synthesis left the answer in the cache. worth_usd: what the answer cost when
    it was made.
    """

    prompt_hash: str | None
    is_check: bool = False
    tokens_in: NonNegativeInt = 0
    tokens_out: NonNegativeInt = 0
    usd: NonNegativeFloat = 0.0
    worth_usd: NonNegativeFloat = 0.0
    seconds: NonNegativeFloat = 0.0


class RequestBatch(_Line):
    """What a batch of requests gave. shown: of each the kind, and its passage or else its first row."""

    number: NonNegativeInt
    requests: NonNegativeInt
    rows: tuple[SyntheticRow, ...]
    dropped: tuple[FilteredRow, ...]
    shown: tuple[tuple[str, str], ...] = ()
    surplus: NonNegativeInt = 0


class RowsWritten(_Line):
    """The rows of so many batches are in the file of rows. The calls before this line belong to no batch that is still to come."""

    written: NonNegativeInt


_WRITTEN, _CALL = '{"written"', '{"prompt_hash"'  # how these lines begin


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
    passages: str = ""


_SETTINGS = {  # the fields of a header, as a user knows them
    "journal": "the version of lastresort",
    "teacher": "--teacher",
    "fingerprint": "--teacher",
    "train": "the train rows",
    "task": "the task",
    "kinds": "--kinds",
    "seed": "--seed",
    "balance": "--balance",
    "agreement": "--agreement",
    "prompts": "the version of lastresort",
    "passages": "the documents, or the passages that dev and test rows name",
}


@dataclass(slots=True)
class Tally:
    """All batches and all calls so far. requests: of the batches. calls: those that gave an answer. checks: those for agreement.
    shown: how often each kind showed each passage, or each row as the first, by its id. dearest_usd: of one answer. under_way: the
    `prompt_hash` of all calls of a batch that is not in the journal yet.
    """

    rows: list[SyntheticRow] = field(default_factory=list)
    dropped: list[FilteredRow] = field(default_factory=list)
    shown: Counter[tuple[str, str]] = field(default_factory=Counter)
    batches: int = 0
    requests: int = 0
    surplus: int = 0
    calls: int = 0
    checks: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    usd: float = 0.0
    dearest_usd: float = 0.0
    seconds: float = 0.0
    under_way: set[str] = field(default_factory=set)

    @property
    def proposed(self) -> int:
        """Rows, and replies that could not be read at all, each of which counts as one."""
        return len(self.rows) + len(self.dropped) + self.surplus

    @property
    def drops(self) -> Counter[FilterName]:
        return Counter(row.by for row in self.dropped)

    def add_batch(self, batch: RequestBatch) -> None:
        self.rows += batch.rows
        self.dropped += batch.dropped
        self.shown.update(batch.shown)
        self.batches += 1
        self.requests += batch.requests
        self.surplus += batch.surplus
        self.under_way.clear()

    def add_call(self, call: CallSpending) -> None:
        self.usd += call.usd
        if call.prompt_hash is None:
            return
        self.calls += 1
        self.checks += call.is_check
        self.tokens_in += call.tokens_in
        self.tokens_out += call.tokens_out
        self.seconds += call.seconds
        self.dearest_usd = max(self.dearest_usd, call.worth_usd)
        self.under_way.add(call.prompt_hash)


class Journal:
    """Opening it changes no file. Begin it, holding its folder's lock, before anything is added. path: of the journal. rows_path:
    of the file of rows. as_messages: their shape.

    Raises DataError where it is damaged, InfrastructureError where the disk refuses.
    """

    def __init__(self, path: Path, rows_path: Path, *, as_messages: bool) -> None:
        self.path, self.rows_path, self._as_messages = path, rows_path, as_messages
        self.tally = Tally()
        self._header: Header | None = None
        self._counted: set[str] = set()
        self._last: tuple[SyntheticRow, ...] = ()
        self._written = 0
        for number, line in enumerate(_whole_lines(path), start=1):
            self._read(line, number)

    @property
    def fingerprint(self) -> str:
        """Of the teacher so far, "" where nothing was made yet."""
        return "" if self._header is None else self._header.fingerprint

    def check(self, header: Header) -> None:
        """Raises InputError where the journal has rows of another synthesis, or the file of rows has some without a journal."""
        if not self.tally.batches:
            if self.rows_path.exists() and self.rows_path.stat().st_size:
                raise InputError(
                    "found a file that was not made here",
                    where=str(self.rows_path),
                    expected="a new file",
                    remedy="Name another with --out, or move it away.",
                )
        elif self._header is not None:
            self._refuse_another(self._header, header)

    def begin(self, header: Header) -> None:
        """Go on with the files as they are, mended where a kill left half a line. Raises as `check` does."""
        self.check(header)
        if not self.tally.batches and self._header != header:
            self._write_header(header)
        elif (size := _whole(_content(self.path))) < self.path.stat().st_size:
            _cut(self.path, size)
        self._settle()

    def append(self, batch: RequestBatch) -> None:
        _append(self.path, [batch.model_dump_json()])
        self._add(batch)
        self._write(batch.rows)

    def record_answer(self, prompt_hash: str, answer: Answer, *, is_check: bool) -> None:
        """prompt_hash, is_check: see `CallSpending`. A replay of an answer that was counted is not counted again."""
        if answer.paid or prompt_hash not in self._counted:
            self._spend(
                CallSpending(
                    prompt_hash=prompt_hash,
                    is_check=is_check,
                    tokens_in=answer.prompt_tokens,
                    tokens_out=answer.completion_tokens,
                    usd=answer.paid,
                    worth_usd=max(answer.usd, answer.paid),
                    seconds=answer.seconds,
                )
            )

    def record_lost(self, usd: float) -> None:
        """What a call may have cost that gave no answer."""
        self._spend(CallSpending(prompt_hash=None, usd=usd))

    def rows_in_file(self) -> int:
        """Without those that the user has removed."""
        return sum(bool(line.strip()) for line in _content(self.rows_path).split(b"\n"))

    def _read(self, line: str, number: int) -> None:
        if self._header is None:
            self._header = _parsed(Header, line, self.path, number)
        elif line.startswith(_WRITTEN):
            self._written = _parsed(RowsWritten, line, self.path, number).written
            self.tally.under_way.clear()
        elif line.startswith(_CALL):
            self._count(_parsed(CallSpending, line, self.path, number))
        else:
            self._add(_parsed(RequestBatch, line, self.path, number))

    def _add(self, batch: RequestBatch) -> None:
        self.tally.add_batch(batch)
        self._last = batch.rows

    def _spend(self, call: CallSpending) -> None:
        _append(self.path, [call.model_dump_json()])
        self._count(call)

    def _count(self, call: CallSpending) -> None:
        self.tally.add_call(call)
        if call.prompt_hash is not None:
            self._counted.add(call.prompt_hash)

    def _write_header(self, header: Header) -> None:
        """In place of that of another synthesis, which has made no row. Its calls stay counted."""
        self._header = header
        calls, mark = _whole_lines(self.path)[1:], RowsWritten(written=0).model_dump_json()
        write_atomically(self.path, "".join(f"{line}\n" for line in (header.model_dump_json(), *calls, mark)))
        self.tally.under_way.clear()

    def _write(self, rows: Sequence[SyntheticRow]) -> None:
        if rows:
            _append(self.rows_path, self._row_lines(rows))
        self._written = self.tally.batches
        _append(self.path, [RowsWritten(written=self._written).model_dump_json()])

    def _row_lines(self, rows: Sequence[SyntheticRow]) -> list[str]:
        lines = [json.dumps(row.written(as_messages=self._as_messages), ensure_ascii=False) for row in rows]
        return [without_keys(line) for line in lines]

    def _settle(self) -> None:
        """Write the rows again where their file is gone, and add those of the last batch that a kill kept out of it, in place of
        half a row. Any other last line without its end comes from the user's editor, and gets one.
        """
        if self.tally.rows and not self.rows_path.exists():
            write_atomically(self.rows_path, "".join(f"{row}\n" for row in self._row_lines(self.tally.rows)))
        content, last = _content(self.rows_path), self._row_lines(self._last)
        whole, half = content[: _whole(content)], content[_whole(content) :]
        unfinished = self._written < self.tally.batches
        if half and unfinished and any(line.encode(errors="backslashreplace").startswith(half) for line in last):
            _cut(self.rows_path, len(whole))
        elif half:
            whole = content
            _append(self.rows_path, [""])
        if unfinished:
            self._write([row for row in self._last if f'"{row.id}"'.encode() not in whole])

    def _refuse_another(self, found: Header, wanted: Header) -> None:
        other = [what for name, what in _SETTINGS.items() if getattr(found, name) != getattr(wanted, name)]
        if other:
            raise InputError(
                f"found rows that were made with other settings ({', '.join(dict.fromkeys(other))})",
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


def _content(path: Path) -> bytes:
    try:
        return read_content(path, ROWS, raised=DataError)
    except FileNotFoundError:
        return b""


def _whole_lines(path: Path) -> list[str]:
    """The lines of a journal, without a last one that was half written."""
    content = _content(path)
    return content[: _whole(content)].decode(errors="replace").split("\n")[:-1]


def _whole(content: bytes) -> int:
    """The length of all whole lines."""
    return content.rfind(b"\n") + 1


def _cut(path: Path, size: int) -> None:
    with disk_errors(path), path.open("rb+") as file:
        file.truncate(size)


def _append(path: Path, lines: Sequence[str]) -> None:
    """All lines or, where the disk refuses, none. On the disk when this returns."""
    data = "".join(f"{without_keys(line)}\n" for line in lines).encode(errors="backslashreplace")
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab", buffering=0) as file:
            size, left = os.fstat(file.fileno()).st_size, memoryview(data)
            try:
                while left:
                    left = left[file.write(left) :]
            finally:
                if left:
                    file.truncate(size)
            os.fsync(file.fileno())
