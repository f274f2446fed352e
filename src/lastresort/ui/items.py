"""Which items of a run a page lists, by what its address says, and what a row of the list shows."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import get_args
from urllib.parse import urlencode

from markupsafe import Markup

from lastresort.records.decision import RunView
from lastresort.records.gate import ChangedItem, ClimbGate, SuiteFound
from lastresort.records.items import (
    CHANGES,
    KINDS,
    ItemChange,
    ItemKind,
    ItemsWanted,
    MeasuredPart,
    RecordedItem,
    SystemName,
    excerpt,
)
from lastresort.records.measurement import ItemScore, failure_kind
from lastresort.records.record import Record
from lastresort.report.confusion import Confusion
from lastresort.report.differences import AnswerSides, side_by_side
from lastresort.types import JsonObject

A_PAGE = 50
CUT = 240  # characters of a text in a list
LONGEST_TEXT = 200  # of what is searched for
ALL = "all"


@dataclass(frozen=True, slots=True)
class ItemsAddress:
    """What the query string says, "" where it says nothing. number: of the first item, from 0; of an opened item its own.

    expected, answered: labels of the task, NO_LABEL for a text that names none.
    """

    system: str = ""
    against: str = ""
    split: str = ""
    kind: str = ""
    change: str = ""
    text: str = ""
    number: int = 0
    expected: str = ""
    answered: str = ""

    @property
    def is_of_labels(self) -> bool:
        """Whether it names a cell, a row or a column of the table of labels."""
        return bool(self.expected or self.answered)

    def query(self, *, number: int | None = None, **parts: str) -> str:
        """The query string, with these parts changed, by the names of the fields. Another choice starts at its first item."""
        named = ("system", "against", "split", "kind", "change", "text", "expected", "answered")
        values = {name: getattr(self, name) for name in named} | parts
        chosen: dict[str, str | int] = {
            "with" if name == "against" else name: value for name, value in values.items() if value
        }
        return urlencode(chosen if number is None else {**chosen, "n": number})

    def settled(self, parts: Sequence[MeasuredPart], view: RunView | None) -> ItemsAddress:
        """With a system and a split where none is named: the one that was tested, on dev, so that the test set stays held out."""
        if self.system or not parts:
            return self
        system, split = _decisive(parts, view)
        on_dev = any((part.system, part.split) == (system, "dev") for part in parts)
        return replace(self, system=system.name, split=self.split or ("dev" if on_dev else split))

    def wanted(self, parts: Sequence[MeasuredPart]) -> ItemsWanted:
        """An unknown system, split, kind or change is left out."""
        systems = {part.system.name: part.system for part in parts}
        return ItemsWanted(
            system=systems.get(self.system),
            split=self.split if self.split in {part.split for part in parts} else "",
            kind=next((kind for kind in KINDS if kind == self.kind), None),
            text=self.text[:LONGEST_TEXT],
            against=systems.get(self.against),
            change=next((change for change in CHANGES if change == self.change), None),
        )


def narrowed(wanted: ItemsWanted, confused: Confusion | None, address: ItemsAddress) -> ItemsWanted:
    """Only those of the cell, row or column of the table of labels that the address names."""
    if confused is None:
        return wanted
    expected, answered = confused.filters(address.expected, address.answered)
    return replace(wanted, expected=expected, answered=answered)


def splits_of_both(parts: Sequence[MeasuredPart], wanted: ItemsWanted) -> list[str]:
    """The splits that both systems answered, other than the one that is wanted."""
    found = dict.fromkeys(part.split for part in parts if wanted.system in (None, part.system))
    other = {part.split for part in parts if part.system == wanted.against}
    return [split for split in found if split in other and split != wanted.split]


def _decisive(parts: Sequence[MeasuredPart], view: RunView | None) -> tuple[SystemName, str]:
    tested = [] if view is None else [rung for rung in view.rungs if rung.test is not None]
    tested.sort(key=lambda rung: view is not None and rung.name == view.stopped_at)
    for rung in reversed(tested):
        for part in parts:
            if (part.system.rung, part.system.candidate, part.split) == (rung.name, rung.chosen, "test"):
                return part.system, part.split
    return parts[-1].system, parts[-1].split


@dataclass(frozen=True, slots=True)
class ItemRow:
    """An item in the list, its texts cut. number: its place among all that are wanted. kind: of a wrong answer, else None.

    sides: expected and got, or the answers of the two systems, with what differs marked; None where a text is cut. expected: of two
    systems, written as their answers are.
    """

    number: int
    found: RecordedItem
    kind: str | None
    other: RecordedItem | None = None
    other_kind: str | None = None
    change: ItemChange | None = None
    sides: AnswerSides | None = None
    expected: Markup | None = None


def rows_of(record: Record, wanted: ItemsWanted, start: int, count: int = A_PAGE) -> tuple[ItemRow, ...]:
    lacking = record.lacking_knowledge or frozenset()
    pairs = record.page_of_items(wanted, start, count, partial(excerpt, longest=CUT))
    return tuple(_row(start + at, found, other, lacking) for at, (found, other) in enumerate(pairs))


def rows_to_keep(record: Record, wanted: ItemsWanted) -> Iterator[JsonObject]:
    """Every wanted item as a row of a file, with the answer of the other system where one is wanted."""
    for place in record.places_of_items(wanted):
        found = record.item(place.measurement, place.position)
        other = None if place.other is None else record.item(place.other.measurement, place.other.position)
        if found is None:
            continue
        item = found.item
        row: JsonObject = {"id": item.id, "split": found.split, "input": item.input, "expected": item.expected}
        row |= {"system": found.system.name, "answer": item.answer, "score": item.score}
        if other is not None:
            row |= {
                "against": other.system.name,
                "answer_against": other.item.answer,
                "score_against": other.item.score,
            }
            row["change"] = change_of(other.item, item)
        yield row


def _row(number: int, found: RecordedItem, other: RecordedItem | None, lacking: Collection[str]) -> ItemRow:
    kind = failure_kind(found.item, lacking)
    if other is None:
        return ItemRow(number, found, kind, sides=_sides(found.item.expected, found.item.answer) if kind else None)
    expected, sides = _sides(found.item.expected, found.item.expected), _sides(found.item.answer, other.item.answer)
    return ItemRow(
        number,
        found,
        kind,
        other,
        failure_kind(other.item, lacking),
        change_of(other.item, found.item),
        sides,
        None if expected is None else expected.expected,
    )


def _sides(left: str, right: str) -> AnswerSides | None:
    """Only of whole texts: half a JSON object would look broken."""
    return None if max(len(left), len(right)) >= CUT else side_by_side(left, right)


def change_of(before: ItemScore, after: ItemScore) -> ItemChange | None:
    """before: of the system that is compared with. None where the score is the same, and neither right nor wrong."""
    if after.score != before.score:
        return "improved" if after.score > before.score else "regressed"
    return "both right" if after.score >= 1 else "both wrong"


GATE_CHANGES = ("got worse", "improved")


@dataclass(frozen=True, slots=True)
class GateItem:
    """An item of a gate that the two models answered otherwise. system: that was gated."""

    rung: str
    system: str
    measure: SuiteFound
    item: ChangedItem


def gate_items(gates: Sequence[ClimbGate]) -> list[GateItem]:
    """Those that the record keeps, of every gate of a run."""
    return [
        GateItem(gate.rung, gate.system, measure, item)
        for gate in gates
        for measure in gate.suites
        for item in measure.changed
    ]


def those_wanted(items: Sequence[GateItem], *, measure: str, change: str, text: str) -> list[GateItem]:
    folded = text.lower()
    return [
        one
        for one in items
        if measure in ("", one.measure.name)
        and change in ("", GATE_CHANGES[one.item.improved])
        and any(folded in part.lower() for part in (one.item.asked, one.item.base, one.item.tuned, one.item.id))
    ]


KIND_WORDS: dict[ItemKind, str] = {
    "right": "right",
    "wrong": "wrong",
    "format": "wrong format",
    "knowledge": "lacks knowledge",
    "other": "well-formed and wrong",
    "cut": "cut at the token limit",
    "refused": "rejected by the model",
}
assert set(KIND_WORDS) == set(get_args(ItemKind))
