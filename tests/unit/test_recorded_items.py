"""Answers in a record, filtered, counted and paged by SQLite, also against those of another system."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from lastresort.records.events.search import CeilingMeasured
from lastresort.records.items import ItemsWanted, SystemName, excerpt
from lastresort.records.measurement import ItemScore, Measurement, failure_kind
from lastresort.records.record import Record
from lastresort.types import Judgement

PLAIN, SHOTS = SystemName("prompting", "zero-shot"), SystemName("prompting", "few-shot-3")


def answer(name: str, score: float, text: str = "spam", **keys: object) -> ItemScore:
    made = ItemScore(name, score, text, "ham", f"message {name}", "stop", True, 40, 2, 0.1, 0.0)
    return replace(made, **keys)  # type: ignore[arg-type]


RIGHT, WRONG = answer("a", 1.0, "ham"), answer("b", 0.0)
ILL = answer("c", 0.0, "Well: 100%_sure", format_ok=False, finish="length")
LACKS, REFUSED, HALF = answer("d", 0.0), answer("e", 0.0, "", finish="refused", format_ok=None), answer("f", 0.5)
FIRST = (RIGHT, WRONG, ILL, LACKS, REFUSED, HALF)
SECOND = tuple(answer(item.id, score) for item, score in zip(FIRST, (0.0, 1.0, 0.0, 1.0, 0.0, 0.5), strict=True))


@pytest.fixture
def record(tmp_path: Path):
    with Record.create(tmp_path / "run") as made:
        for start, stop in ((0, 2), (2, 4)):
            items = tuple(answer(f"dev{number}", 1.0) for number in range(start, stop))
            made.add_measurement(Measurement("prompting", "zero-shot", f"dev[{start}:{stop}]", 4, items))
        made.add_measurement(Measurement("prompting", "zero-shot", "test", 6, FIRST[:1]))  # an early stop
        made.add_measurement(Measurement("prompting", "few-shot-3", "test", 6, SECOND))
        made.add_measurement(Measurement("prompting", "zero-shot", "test", 6, FIRST))
        yield made


def ids(record: Record, wanted: ItemsWanted, start: int = 0, count: int = 50) -> list[str]:
    return [found.item.id for found, _ in record.page_of_items(wanted, start, count)]


def test_of_a_split_measured_twice_the_newer_counts_and_stretches_of_dev_are_one_split(record: Record) -> None:
    assert ids(record, ItemsWanted(PLAIN)) == ["dev0", "dev1", "dev2", "dev3", *"abcdef"]
    assert ids(record, ItemsWanted(PLAIN, "test")) == [*"abcdef"]
    assert ids(record, ItemsWanted(PLAIN, "dev"), start=1, count=2) == ["dev1", "dev2"]
    assert ids(record, ItemsWanted(split="test")) == [*"abcdef", *"abcdef"]
    assert {(part.system, part.split) for part in record.parts()} == {(PLAIN, "dev"), (PLAIN, "test"), (SHOTS, "test")}


def test_kinds_are_those_of_the_report(record: Record) -> None:
    record.append(
        CeilingMeasured(n=6, labelled=6, closed_book=0.5, systems={}, dropped={}, knowledge=("d", "c", "elsewhere"))
    )
    assert record.lacking_knowledge is None  # no system could be tried
    record.append(
        CeilingMeasured(
            n=6, labelled=6, closed_book=0.5, systems={"x": _judgement()}, dropped={}, knowledge=("d", "c", "elsewhere")
        )
    )
    of = {kind: ids(record, ItemsWanted(PLAIN, "test", kind)) for kind in ("format", "knowledge", "other")}
    assert of == {"format": ["c"], "knowledge": ["d"], "other": ["b", "e", "f"]}
    for item in FIRST[1:]:
        assert item.id in of[failure_kind(item, {"d", "c"}) or ""]
    assert ids(record, ItemsWanted(PLAIN, "test", "right")) == ["a"]
    assert ids(record, ItemsWanted(PLAIN, "test", "cut")) == ["c"]
    assert ids(record, ItemsWanted(PLAIN, "test", "refused")) == ["e"]


def _judgement() -> Judgement:
    return Judgement("UNDECIDED", 0.5, 6, 6, (0.1, 0.9))


@pytest.mark.parametrize("text", ["", "message"])
def test_counts_are_the_same_from_events_and_from_the_items(record: Record, text: str) -> None:
    """Without a text they come from the events of the measurements, with one from the items: all hold "message"."""
    found = record.count_items(ItemsWanted(PLAIN, "test", "wrong", text))
    assert (found.selected, found.every, found.changes) == (5, 6, {})
    assert found.kinds == {"right": 1, "wrong": 5, "format": 1, "knowledge": 0, "other": 4, "cut": 1, "refused": 1}


def test_two_systems_on_the_same_items(record: Record) -> None:
    wanted = ItemsWanted(PLAIN, "test", against=SHOTS)
    both = record.page_of_items(wanted, 0, 50)
    assert [(one.item.id, other and other.item.score) for one, other in both] == [
        (item.id, item.score) for item in SECOND
    ]
    assert all(other is not None and other.system == SHOTS for _, other in both)
    found = record.count_items(wanted)
    assert found.changes == {"improved": 1, "regressed": 2, "both wrong": 3, "both right": 0}
    assert ids(record, replace(wanted, change="improved")) == ["a"]  # SHOTS is the baseline
    assert ids(record, replace(wanted, change="regressed")) == ["b", "d"]
    assert record.count_items(replace(wanted, change="both wrong", kind="cut")).selected == 1


@pytest.mark.parametrize(
    ("text", "found"), [("100%_", ["c"]), ("100_", []), ("WELL", ["c"]), ("message a", ["a"]), ("\\", []), ("'", [])]
)
def test_a_text_is_searched_as_it_is(record: Record, text: str, found: list[str]) -> None:
    assert ids(record, ItemsWanted(PLAIN, "test", text=text)) == found
    assert record.count_items(ItemsWanted(PLAIN, "test", text=text)).selected == len(found)


def test_an_item_is_found_by_its_place_and_by_its_id(record: Record) -> None:
    [(first, _)] = record.page_of_items(ItemsWanted(PLAIN, "test"), 2, 1)
    assert record.item(first.measurement, first.position) == first
    assert first.item == ILL
    assert record.item(first.measurement, 99) is None
    assert record.item(99, 0) is None
    assert [(one.system, one.item.score) for one in record.answers_to("b")] == [(SHOTS, 1.0), (PLAIN, 0.0)]


def test_a_list_keeps_the_beginning_of_a_text(record: Record) -> None:
    [(found, _)] = record.page_of_items(ItemsWanted(PLAIN, "test"), 2, 1, partial(excerpt, longest=4))
    assert (found.item.answer, found.item.input, found.item.expected) == ("Well", "mess", "ham")
