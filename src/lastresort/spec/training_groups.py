"""The keys of a training file that belong to objectives on groups: limits of reward code, stop strings, the server that samples."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, ValidationInfo, WithJsonSchema, model_validator

from lastresort.spec.model_name import check_model_name
from lastresort.spec.values import Number, Reading, Section, Text, below, refuse, refuse_unknown_keys, to_number
from lastresort.spec.wording import describe
from lastresort.train.reward_process import RewardLimits
from lastresort.train.training_file import ServerPlan

USUAL = RewardLimits()
GIB = 1 << 30
ENDPOINT = "http://host/v1#NAME or openai:NAME"


def _none_or_gib(value: Any) -> Any:
    return value if value == "none" else Number(above=0).check(value)


def _never_or_steps(value: Any) -> Any:
    """Every so many steps, or never."""
    if value == "never":
        return value
    expected = "never or a whole number of steps of at least 1"
    number = to_number(value, expected)
    if number < 1 or not float(number).is_integer():
        refuse(f"found {describe(value)}", expected=expected, remedy="Write 1 for every step.")
    return int(number)


class Limits(Section):
    """Of reward code. time_s: of one call, which is one answer, or all answers of a step where a function takes lists.
    memory_gib: of its process, or none. load_s: of loading its file.
    """

    time_s: Annotated[float, Number(above=0)] = USUAL.time_s
    memory_gib: Annotated[
        float | Literal["none"],
        BeforeValidator(_none_or_gib),
        WithJsonSchema({"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"const": "none"}]}),
    ] = (USUAL.memory_bytes or 0) / GIB
    load_s: Annotated[float, Number(above=0)] = USUAL.load_s

    @property
    def plan(self) -> RewardLimits:
        memory_bytes = None if isinstance(self.memory_gib, str) else max(1, round(self.memory_gib * GIB))
        return RewardLimits(self.time_s, memory_bytes, self.load_s)

    def written(self, reading: Reading) -> dict[str, Any]:
        return dict(self)


class Server(Section):
    """model: an endpoint. sync: every so many steps it gets the weights that are trained, or never. adapter_name: what they are
    called there. output_seen_as: the output folder as the server sees it.

    In the file: the endpoint alone, or {model: …, sync: …}.
    """

    model: Text
    sync: Annotated[
        int | Literal["never"],
        BeforeValidator(_never_or_steps),
        WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1}, {"const": "never"}]}),
    ] = 1
    adapter_name: Text = Field("policy", description="a name of letters, digits, . _ and -")
    output_seen_as: Text | None = Field(None, description="a folder, as the server sees it")

    @model_validator(mode="before")
    @classmethod
    def _from_file(cls, value: Any, info: ValidationInfo) -> Any:
        if not isinstance(info.context, Reading):
            return value
        if isinstance(value, str):
            return {"model": _endpoint(value)}
        if not isinstance(value, dict):
            refuse(f"found {describe(value)}", expected=ENDPOINT, remedy="Write server: http://localhost:8000/v1#NAME.")
        refuse_unknown_keys(value, tuple(cls.model_fields))
        with below("model"):
            return {**value, "model": _endpoint(value.get("model"))}

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", self.adapter_name):
            expected = "a name of letters, digits, . _ and -"
            refuse(
                f"found {describe(self.adapter_name)}", expected=expected, remedy="Write policy.", key=("adapter_name",)
            )
        if self.model.startswith("openai:") and self.sync != "never":
            remedy = f"Write server: {{model: {self.model}, sync: never}}; its answers then come from another policy."
            refuse(
                f"found {self.model}, which loads no adapters",
                expected="a server that samples from the weights that are trained, or sync: never",
                remedy=remedy,
                key=("sync",),
            )
        return self

    @property
    def plan(self) -> ServerPlan:
        sync = None if isinstance(self.sync, str) else self.sync
        return ServerPlan(self.model, sync, self.adapter_name, self.output_seen_as)

    def written(self, reading: Reading) -> dict[str, Any]:
        return {name: value for name, value in self if value is not None}


def _endpoint(value: Any) -> Any:
    name = check_model_name(value, None)
    if not isinstance(name, str) or not name.startswith(("openai:", "http:", "https:")):
        remedy = "Write for instance http://localhost:8000/v1#NAME, with the name that it lists under /models."
        refuse(f"found {describe(value)}", expected=ENDPOINT, remedy=remedy)
    return name


def _strings(value: Any) -> Any:
    """One string or several, as they are: spaces and line breaks count."""
    strings = [value] if isinstance(value, str) else value
    if not isinstance(strings, list | tuple):
        refuse(f"found {describe(value)}", expected="a string or a list of strings", remedy='Write ["\\n\\n"].')
    for index, string in enumerate(strings):
        if not isinstance(string, str) or not string:
            found = "found an empty string" if string == "" else f"found {describe(string)}"
            refuse(found, expected="a string that an answer may hold", remedy="Put it in quotes.", key=(index,))
        if string in strings[:index]:
            refuse(f"found {describe(string)} twice", expected="it once", remedy="Remove one.", key=(index,))
    return tuple(strings)


StopStrings = Annotated[tuple[str, ...], BeforeValidator(_strings)]
