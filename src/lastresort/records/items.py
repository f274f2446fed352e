"""Items of a record: how its table holds them, and which of them somebody wants to see: by system, split, outcome and text, also
against another system's.

The record may hold hundreds of thousands of answers. SQLite filters and counts them, and only those of a page are read.
"""

from __future__ import annotations

import dataclasses
import json
import sqlite3
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from lastresort.keys import redacted
from lastresort.records.chain import NotAsWritten, body_of, place_of
from lastresort.records.events.search import CandidateMeasured
from lastresort.records.measurement import ItemScore, whole_of

ItemKind = Literal["right", "wrong", "format", "knowledge", "other", "cut", "refused"]
ItemChange = Literal["improved", "regressed", "both wrong", "both right"]
KINDS: tuple[ItemKind, ...] = get_args(ItemKind)
CHANGES: tuple[ItemChange, ...] = get_args(ItemChange)

_LACKS = "item.id IN (SELECT value FROM json_each(:knowledge))"
_OF_KIND: dict[ItemKind, str] = {  # as `failure_kind` has it
    "right": "item.score >= 1",
    "wrong": "item.score < 1",
    "format": "item.score < 1 AND item.format_ok IS 0",
    "knowledge": f"item.score < 1 AND item.format_ok IS NOT 0 AND {_LACKS}",
    "other": f"item.score < 1 AND item.format_ok IS NOT 0 AND NOT {_LACKS}",
    "cut": "item.finish = 'length'",
    "refused": "item.finish = 'refused'",
}
_OF_CHANGE: dict[ItemChange, str] = {
    "improved": "item.score > other.score",
    "regressed": "item.score < other.score",
    "both wrong": "item.score < 1 AND other.score < 1",
    "both right": "item.score >= 1 AND other.score >= 1",
}

_ITEM_FIELDS = tuple(field.name for field in dataclasses.fields(ItemScore))
ADD_ITEM = (
    f"INSERT INTO item (measurement, position, {', '.join(_ITEM_FIELDS)}) "
    f"VALUES (?, ?, {', '.join('?' * len(_ITEM_FIELDS))})"
)


def item_of(row: sqlite3.Row) -> ItemScore:
    """Raises NotAsWritten."""
    passages, score = body_of("item", row, "passages"), row["score"]
    if not isinstance(passages, list) or not all(isinstance(name, str) for name in passages) or not 0 <= score <= 1:
        raise NotAsWritten(f"{place_of('item', row)}: a score or passages that are none")
    format_ok = None if row["format_ok"] is None else bool(row["format_ok"])
    values = {name: row[name] for name in _ITEM_FIELDS}
    return ItemScore(**{**values, "format_ok": format_ok, "passages": tuple(passages)})


def stored_item(item: ItemScore, keys: Sequence[str]) -> Iterator[Any]:
    """The values of ADD_ITEM, after its place. keys: that must not be kept."""
    return (_storable(getattr(item, field), keys) for field in _ITEM_FIELDS)


def _storable(value: Any, keys: Sequence[str]) -> Any:
    """Half of a surrogate pair, which JSON files can hold and SQLite's text cannot, is kept in its escaped form. No key is kept."""
    if isinstance(value, tuple):
        return redacted(json.dumps(value), keys)
    return redacted(value, keys).encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


@dataclass(frozen=True, slots=True)
class SystemName:
    """A candidate of a rung, of which answers are recorded."""

    rung: str
    candidate: str

    @property
    def name(self) -> str:
        return f"{self.rung}/{self.candidate}"


@dataclass(frozen=True, slots=True)
class MeasuredPart:
    """A measurement without its items: the newest of a system on a split, or a stretch of it. split: without the stretch."""

    number: int
    system: SystemName
    split: str

    @classmethod
    def of(cls, row: sqlite3.Row) -> MeasuredPart:
        return cls(row["id"], SystemName(row["rung"], row["candidate"]), whole_of(row["split"]))


@dataclass(frozen=True, slots=True)
class TextFilter:
    """Which texts a column may hold: one of these, or, where they are `excluded`, any other."""

    texts: tuple[str, ...]
    excluded: bool = False


@dataclass(frozen=True, slots=True)
class ItemsWanted:
    """None, or "" for text and split, matches all. text: in input, answer, expected answer or id, in either case of ASCII letters.

    against: the baseline, whose answers to the same items are set next to those of `system`. change: from `against` to `system`.
    expected, answered: the whole expected answer, and the whole answer of `system`.
    """

    system: SystemName | None = None
    split: str = ""
    kind: ItemKind | None = None
    text: str = ""
    against: SystemName | None = None
    change: ItemChange | None = None
    expected: TextFilter | None = None
    answered: TextFilter | None = None

    @property
    def is_of_texts(self) -> bool:
        """Whether the items have to be read to know which are wanted."""
        return bool(self.text or self.expected or self.answered)


@dataclass(frozen=True, slots=True)
class AnswerGroup:
    """n items with the same expected answer and the same answer."""

    expected: str
    answer: str
    n: int


@dataclass(frozen=True, slots=True)
class RecordedItem:
    """An answer, and where the record holds it: its place in a measurement never changes."""

    measurement: int
    position: int
    system: SystemName
    split: str
    item: ItemScore


@dataclass(frozen=True, slots=True)
class ItemPlace:
    """Of an answer in a record, with that of another system's answer to the same item. id: of the item."""

    measurement: int
    position: int
    id: str
    other: ItemPlace | None = None


@dataclass(frozen=True, slots=True)
class ItemCounts:
    """selected: as wanted. The others leave out what is wanted of kind and change, to choose it by."""

    selected: int
    every: int
    kinds: dict[ItemKind, int]
    changes: dict[ItemChange, int]


@dataclass(frozen=True, slots=True)
class ItemQuery:
    """beginning, source: the query's text before SELECT, and from FROM on. condition: of kind and change. values: by name."""

    beginning: str
    source: str
    condition: str
    values: dict[str, str | int]

    @property
    def groups(self) -> str:
        """Expected answer, answer and how many."""
        beginning = (
            f"{self.beginning}," if self.beginning else "WITH"
        )  # grouped by itself: a join loses its index to a grouping
        return (
            f"{beginning} found AS MATERIALIZED (SELECT item.expected AS expected, item.answer AS answer {self.source}) "
            "SELECT expected, answer, count(*) FROM found GROUP BY 1, 2"
        )

    @property
    def counting(self) -> str:
        tests = ["1", self.condition, *_OF_KIND.values(), *(_OF_CHANGE.values() if self.beginning else ())]
        return f"{self.beginning} SELECT {', '.join(f'sum({test})' for test in tests)} {self.source}"

    @property
    def places(self) -> str:
        """Where the items are: measurement and position, those of the other system's answer, and the id."""
        others = "other.measurement, other.position" if self.beginning else "NULL, NULL"
        return (
            f"{self.beginning} SELECT item.measurement, item.position, {others}, item.id {self.source} AND {self.condition} "
            "ORDER BY item.measurement, item.position LIMIT :count OFFSET :start"
        )


def query_of(wanted: ItemsWanted, parts: Sequence[MeasuredPart], lacking_knowledge: Collection[str]) -> ItemQuery:
    """parts: all of the record. lacking_knowledge: ids of the items of the kind "knowledge"."""
    chosen = _numbers(part for part in parts if _is_wanted(part.system, part.split, wanted))
    values: dict[str, str | int] = {"knowledge": json.dumps(sorted(lacking_knowledge))}
    beginning, joined = "", ""
    if wanted.against is not None:
        others = _numbers(part for part in parts if part.system == wanted.against)
        beginning = (
            "WITH other AS MATERIALIZED "
            f"(SELECT id, measurement, position, score FROM item WHERE measurement IN ({others}))"
        )
        joined = " JOIN other ON other.id = item.id"
    source = f"FROM item{joined} WHERE item.measurement IN ({chosen})"
    if wanted.text:
        values["text"] = f"%{_literal(wanted.text)}%"
        tests = [f"item.{column} LIKE :text ESCAPE '\\'" for column in ("input", "answer", "expected", "id")]
        source += f" AND ({' OR '.join(tests)})"
    for column, only in (("expected", wanted.expected), ("answer", wanted.answered)):
        if only is not None:
            values[column] = json.dumps(only.texts)
            source += f" AND item.{column} {'NOT ' * only.excluded}IN (SELECT value FROM json_each(:{column}))"
    tests = [_OF_KIND[wanted.kind]] if wanted.kind is not None else []
    if wanted.change is not None and wanted.against is not None:
        tests.append(_OF_CHANGE[wanted.change])
    return ItemQuery(beginning, source, f"({' AND '.join(tests) or '1'})", values)


def counts_of(row: Sequence[int | None]) -> ItemCounts:
    """From the row of `ItemQuery.counting`."""
    every, selected, *others = (number or 0 for number in row)
    kinds = dict(zip(KINDS, others, strict=False))
    return ItemCounts(selected, every, kinds, dict(zip(CHANGES, others[len(KINDS) :], strict=False)))


def counts_by_events(
    wanted: ItemsWanted, measured: Iterable[CandidateMeasured], lacking_knowledge: Collection[str]
) -> ItemCounts:
    """As `counts_of`, where no text and no other system is wanted, from what the record says of each measurement as a whole."""
    kinds: Counter[ItemKind] = Counter()
    every = 0
    for one in measured:
        if not _is_wanted(SystemName(one.rung, one.candidate), whole_of(one.split), wanted):
            continue
        lacking = sum(name in lacking_knowledge for name in one.wrong)
        wrong = len(one.ill_formed) + len(one.wrong)
        every += one.n
        kinds.update(right=one.n - wrong, wrong=wrong, format=len(one.ill_formed), knowledge=lacking)
        kinds.update(other=len(one.wrong) - lacking, cut=one.cut, refused=one.refused)
    found = {kind: kinds[kind] for kind in KINDS}
    return ItemCounts(every if wanted.kind is None else kinds[wanted.kind], every, found, {})


def excerpt(item: ItemScore, longest: int) -> ItemScore:
    """With texts of at most so many characters, for a list."""
    return replace(item, input=item.input[:longest], answer=item.answer[:longest], expected=item.expected[:longest])


def _is_wanted(system: SystemName, split: str, wanted: ItemsWanted) -> bool:
    return wanted.system in (None, system) and wanted.split in ("", split)


def _numbers(parts: Iterable[MeasuredPart]) -> str:
    """As SQL has a list; they are numbers of this program's own."""
    return ", ".join(str(int(part.number)) for part in parts)


def _literal(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
