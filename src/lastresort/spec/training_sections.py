"""The sections of a training file: data, adapter, objective; for objectives on groups also the limits of reward code, stop strings
and the server that samples.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from lastresort.errors import InputError
from lastresort.evals.user_code.process import GIB, CodeLimits, limits_in
from lastresort.objectives import OBJECTIVES
from lastresort.spec.paths import check_model_name, existing_path, relative_name
from lastresort.spec.sections import Count
from lastresort.spec.values import (
    NumberBounds,
    ReadContext,
    Section,
    Text,
    WordOrNumber,
    below,
    describe,
    listed,
    nearest,
    refuse,
    refuse_unknown_keys,
    to_number,
    unknown_name,
)
from lastresort.train.settings import AdapterSettings, Objective, ServerPlan
from lastresort.types import AdapterChoice, AdapterKind, Json, JsonObject

USUAL = CodeLimits()
ENDPOINT = "http://host/v1#NAME or openai:NAME"


class LimitKeys(Section):
    """Of reward code. time_s: of one call, which is one answer, or all answers of a step where a function takes lists.
    memory_gib: of its process, or none. load_s: of loading its file.
    """

    time_s: Annotated[float, NumberBounds(above=0)] = USUAL.time_s
    memory_gib: Annotated[float | Literal["none"], WordOrNumber("none", NumberBounds(above=0))] = (
        USUAL.memory_bytes or 0
    ) / GIB
    load_s: Annotated[float, NumberBounds(above=0)] = USUAL.load_s

    @property
    def settings(self) -> CodeLimits:
        return limits_in(dict(self), USUAL)

    def written(self, reading: ReadContext) -> JsonObject:
        return dict(self)


class ServerKeys(Section):
    """model: an endpoint. sync: every so many steps it gets the weights that are trained, or never. adapter_name: what they are
    called there. output_seen_as: the output folder as the server sees it.

    In the file: the endpoint alone, or {model: …, sync: …}.
    """

    model: Text
    sync: Annotated[int | Literal["never"], WordOrNumber("never", NumberBounds(at_least=1, whole=True))] = 1
    adapter_name: Text = Field("policy", description="a name of letters, digits, . _ and -")
    output_seen_as: Text | None = Field(None, description="a folder, as the server sees it")

    @classmethod
    def fields_of(cls, value: Any, reading: ReadContext) -> Any:
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

    def written(self, reading: ReadContext) -> JsonObject:
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


DATA_REMEDY = "Write data: FILE, data: [FILE, FILE], or data: {train: FILE, eval: FILE}."
TARGETS = ("attention", "all-linear")


class DataKeys(Section):
    """train, eval: files, absolute; a folder for plain text. eval_share: a share or a count of the prompts of train.

    In the file: one path, a list of paths, or {train: …, eval: …}, where eval may also be a share such as 0.1 or a count.
    """

    train: tuple[Path, ...]
    eval: tuple[Path, ...] = ()
    eval_share: float | int | None = None

    @classmethod
    def fields_of(cls, value: Any, reading: ReadContext) -> Any:
        if not isinstance(value, dict):
            return {"train": _paths(value, reading)}
        refuse_unknown_keys(value, ("train", "eval"))
        if value.get("train") is None:
            refuse("found nothing", expected="the file to train on", remedy="Add train: FILE.", key=("train",))
        with below("train"):
            found: dict[str, object] = {"train": _paths(value["train"], reading)}
        if value.get("eval") is not None:
            with below("eval"):
                found |= _held_out(value["eval"], reading)
        return found

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        seen: set[Path] = set()
        for name, paths in (("train", self.train), ("eval", self.eval)):
            for path in paths:
                if path in seen:
                    found = f'found "{path.name}" a second time'
                    refuse(found, expected="each file once", remedy="Remove one.", key=(name,))
                seen.add(path)
        return self

    def written(self, reading: ReadContext) -> JsonObject:
        found: JsonObject = {"train": [relative_name(path, reading.folder) for path in self.train]}
        if self.eval:
            found["eval"] = [relative_name(path, reading.folder) for path in self.eval]
        return found | ({"eval": self.eval_share} if self.eval_share is not None else {})


def _paths(value: Any, reading: ReadContext) -> tuple[Path, ...]:
    if not isinstance(value, list):
        if not isinstance(value, str):
            refuse(f"found {describe(value)}", expected="a file, or a list of files", remedy=DATA_REMEDY)
        return (existing_path(value, reading, folders=True),)
    if not value:
        refuse("found an empty list", expected="at least one file", remedy=DATA_REMEDY)
    paths = []
    for index, name in enumerate(value):
        with below(index):
            paths.append(existing_path(name, reading, folders=True))
    return tuple(paths)


def _held_out(value: Any, reading: ReadContext) -> dict[str, object]:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return {"eval": _paths(value, reading)}
    number = to_number(value)
    if (isinstance(number, int) and number >= 1) or 0 < number < 1:
        return {"eval_share": number}
    expected = "a file, a share strictly between 0 and 1 or a count of at least 1"
    return refuse(f"found {describe(value)}", expected=expected, remedy="Write a file, or a share such as 0.1.")


def _targets(value: Any) -> Any:
    """attention or all-linear as they are; names of layers as a tuple."""
    expected = "attention, all-linear or names of layers"
    if value in TARGETS:
        return value
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list | tuple) or not names:
        refuse(
            f"found {describe(value)}", expected=expected, remedy="Write attention, or names such as [q_proj, v_proj]."
        )
    for index, name in enumerate(names):
        if not isinstance(name, str) or not name.strip():
            remedy = "Write names such as [q_proj, v_proj]."
            refuse(f"found {describe(name)}", expected="the name of a layer", remedy=remedy, key=(index,))
    close = nearest(value, TARGETS) if isinstance(value, str) else None
    if close is not None:
        refuse(f"found {describe(value)}", expected=expected, remedy=f"Write {close}.")
    return tuple(names)


class AdapterKeys(Section):
    """kind: lora, rslora, dora, qlora (LoRA on a 4-bit base) or full (the base's own weights). r: rank. alpha: scale, None is
    2r. target: attention, all-linear, or names of layers. dropout: of the adapter's input; it costs the packed form.
    """

    kind: AdapterChoice = "lora"
    r: Count = 16
    alpha: Annotated[float, NumberBounds(above=0)] | None = None
    target: Annotated[
        Literal["attention", "all-linear"] | tuple[str, ...],
        BeforeValidator(_targets),
        WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
    ] = "attention"
    dropout: Annotated[float, NumberBounds(at_least=0, below=1)] = 0.0

    @classmethod
    def fields_of(cls, value: Any, reading: ReadContext) -> Any:
        return {"kind": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _full_has_none(self) -> Self:
        if self.kind == "full" and (others := sorted(self.model_fields_set - {"kind"})):
            found = f'found "{others[0]}" together with kind: full'
            refuse(found, expected="an adapter to which it belongs", remedy="Remove it.", key=(others[0],))
        return self

    @property
    def settings(self) -> AdapterSettings:
        """A scale that is not named is 2r."""
        kind: AdapterKind = "lora" if self.kind == "qlora" else "none" if self.kind == "full" else self.kind
        scale = 2.0 * self.r if self.alpha is None else self.alpha
        return AdapterSettings(
            kind, self.r, scale, self.target, self.dropout, quantize="nf4" if self.kind == "qlora" else None
        )

    def written(self, reading: ReadContext) -> Json:
        if self.kind == "full":
            return "full"
        target = self.target if isinstance(self.target, str) else list(self.target)
        return {"kind": self.kind, "r": self.r, "alpha": self.settings.alpha, "target": target, "dropout": self.dropout}


class ObjectiveKeys(Section):
    """name: of an objective. options: as its function takes them, in the order of the file.

    In the file: the name, or a mapping with the name as its one key: {dpo: {beta: 0.1}}.
    """

    name: str = "sft"
    options: dict[str, bool | float] = Field(default_factory=dict)

    @classmethod
    def fields_of(cls, value: Any, reading: ReadContext) -> Any:
        name, options = _name_and_options(value)
        if name not in OBJECTIVES:
            detail = unknown_name("objective", name, tuple(OBJECTIVES))
            # An objective has near neighbours (ipo, dpo): all of them are named.
            refuse(detail["found"], expected=f"one of {listed(OBJECTIVES, 'or')}", remedy=detail["remedy"])
        with below(name):
            return {"name": name, "options": _options(name, options)}

    @property
    def settings(self) -> Objective:
        return Objective(self.name, tuple(self.options.items()))

    def written(self, reading: ReadContext) -> Json:
        return {self.name: dict(self.options)} if self.options else self.name


def _name_and_options(value: Any) -> tuple[str, Any]:
    expected = "a name, or a name with options such as {dpo: {beta: 0.1}}"
    if isinstance(value, str) and value.strip():
        return value.strip(), {}
    if not isinstance(value, dict) or len(value) != 1:
        refuse(f"found {describe(value)}", expected=expected, remedy="Write objective: dpo.")
    name, options = next(iter(value.items()))
    if options is not None and not isinstance(options, dict):
        with below(name):
            refuse(f"found {describe(options)}", expected="its options", remedy=f"Write {{{name}: {{…}}}}.")
    return str(name), options or {}


def _options(name: str, given: JsonObject) -> dict[str, bool | float]:
    if not given:
        return {}
    from lastresort.train.loop.objective import refused_options

    defaults = Objective(name).defaults()
    known = tuple(defaults)
    if not known:
        refuse(f"found options of {name}", expected="none, since it has none", remedy=f"Write objective: {name}.")
    for option in given:
        if option not in known:
            refuse(**unknown_name("option", option, known), key=(option,))
    options: dict[str, bool | float] = {}
    for option, value in given.items():
        with below(option):
            options[option] = _switch(value) if isinstance(defaults[option], bool) else float(to_number(value))
        try:
            refused = refused_options(Objective(name, ((option, options[option]),)))
        except InputError as error:
            refuse(error.found, expected=error.expected, remedy="Correct it.", key=(option,))
        if refused is not None:
            refuse(f"found {refused.found}", expected=refused.expected, remedy="Change it.", key=(option,))
    return options


def _switch(value: Any) -> bool:
    if not isinstance(value, bool):
        refuse(f"found {describe(value)}", expected="true or false", remedy="Write true.")
    return value
