"""A document that is made from the fields of another value."""

from __future__ import annotations

from dataclasses import dataclass, fields

import pytest
from pydantic import ValidationError

from lastresort.evals.evidence.noninferiority import NonInferiority
from lastresort.records.document import Count, JsonDocument, Share
from lastresort.records.gate import TestedMeasure
from lastresort.records.measurement import BarTest
from lastresort.types import Judgement


class Part(JsonDocument):
    name: str
    score: Share


class Whole(JsonDocument):
    n: Count
    parts: tuple[Part, ...]
    said: str
    kind: str = "whole"


@dataclass(frozen=True, slots=True)
class MeasuredPart:
    name: str
    score: float
    seconds: float = 1.0


@dataclass(frozen=True, slots=True)
class Measured:
    n: int
    parts: tuple[MeasuredPart, ...]
    said: bytes = b""


def test_fields_of_the_same_name_are_taken_those_of_its_parts_too() -> None:
    found = Whole.from_fields_of(Measured(2, (MeasuredPart("a", 0.5),)), said="two")
    assert found == Whole(n=2, parts=(Part(name="a", score=0.5),), said="two", kind="whole")


def test_what_is_taken_is_checked() -> None:
    with pytest.raises(ValidationError, match="less than or equal to 1"):
        Whole.from_fields_of(Measured(2, (MeasuredPart("a", 1.5),)), said="two")


def test_a_field_without_a_default_has_to_come_from_somewhere() -> None:
    with pytest.raises(ValidationError, match="score"):
        Part.from_fields_of(Measured(2, ()), name="a")


def test_what_is_no_field_is_refused() -> None:
    with pytest.raises(ValidationError, match="other"):
        Part.from_fields_of(MeasuredPart("a", 0.5), other=1)


@pytest.mark.parametrize(
    ("document", "value", "otherwise"), [(BarTest, Judgement, {"outcome"}), (TestedMeasure, NonInferiority, set())]
)
def test_what_a_test_found_has_the_same_name_in_its_document(
    document: type[JsonDocument], value: type[Judgement] | type[NonInferiority], otherwise: set[str]
) -> None:
    """A field that has a default there and is renamed on one side alone would take its default without a word."""
    assert {one.name for one in fields(value)} - otherwise <= document.model_fields.keys()
