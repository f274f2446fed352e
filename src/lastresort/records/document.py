"""Documents that the program writes as JSON: typed values, checked when they are made; their JSON schema is generated from them."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue
from pydantic_core import to_jsonable_python

from lastresort.types import Json

Share = Annotated[float, Field(ge=0, le=1)]
OpenShare = Annotated[float, Field(gt=0, lt=1)]
Difference = Annotated[float, Field(ge=-1, le=1)]
Interval = tuple[Difference, Difference]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
Amount = Annotated[float, Field(ge=0)]
Sentence = Annotated[str, Field(min_length=1)]
Name = Annotated[str, Field(min_length=1)]
Limits = tuple[Share, Share]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class CheckedValue(BaseModel):
    """It can be made from the fields of another value."""

    @classmethod
    def from_fields_of(cls, value: object, **others: Any) -> Self:
        """From what `value` has under the same names, and `others`, which it lacks or has otherwise. All is checked."""
        shared = {
            name: getattr(value, name) for name in cls.model_fields if name not in others and hasattr(value, name)
        }
        return cls.model_validate({**shared, **others}, from_attributes=True)


class JsonDocument(CheckedValue):
    """A frozen value of named fields. What is no number, and a field that is not named, is refused."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        validate_by_name=True,
        serialize_by_alias=True,
        defer_build=True,  # a process reads few of them, and importing them all took an eleventh of the start of one that climbs
    )

    def as_json(self) -> dict[str, Any]:
        """As `json.loads` would give it, in the order of the fields."""
        return self.model_dump(mode="json")

    @property
    def as_text(self) -> str:
        """The content of its file."""
        return document_text(self.as_json())

    def replaced(self, **fields: Any) -> Self:
        """The same with other values in these fields, checked like a new one."""
        return type(self)(**{**dict(self), **fields})


def document_text(content: Json) -> str:
    """The content of the file of a document, from what `as_json` gave."""
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


class ReuseView(JsonDocument):
    """How often earlier runs used these test items: of n, `used` were in their tests, one of them in `most` of these. text: the
    sentence.
    """

    n: Count
    used: Count
    most: Count
    text: Sentence


def code_of(kind: type) -> str:
    """RungSkip -> rung_skip."""
    return re.sub("(?<=[a-z])(?=[A-Z])", "_", kind.__name__).lower()


class Statement(JsonDocument):
    """What a decision says, as a value and in words. code: what kind of statement. rung: which it is about, to be named before the
    text; null where the text names all. figures: what the text was made from.
    """

    code: Name
    rung: Name | None = None
    figures: dict[str, JsonValue]
    text: str

    @classmethod
    def of(cls, value: object, text: str, *, names_rung: bool = True) -> Self:
        """value: a dataclass; the name of its class is the code, as of `code_of`. names_rung: whether the text names the rung
        of the value, where that has one.
        """
        code = code_of(type(value))
        figures: dict[str, Any] = to_jsonable_python(value, inf_nan_mode="null")
        rung = None if names_rung else figures.pop("rung", None)
        return cls(code=code, rung=rung, figures=figures, text=text)
