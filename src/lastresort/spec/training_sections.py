"""The groups of keys of a training file: its data, its adapter, its objective with options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, ValidationInfo, WithJsonSchema, model_validator

from lastresort.errors import InputError
from lastresort.objectives import OBJECTIVES
from lastresort.spec.paths import found_path, relative_name
from lastresort.spec.sections import Count
from lastresort.spec.values import (
    Number,
    Reading,
    Section,
    below,
    refuse,
    refuse_unknown_keys,
    to_number,
    unknown_name,
)
from lastresort.spec.wording import describe, listed, nearest

DATA_REMEDY = "Write data: FILE, data: [FILE, FILE], or data: {train: FILE, eval: FILE}."
TARGETS = ("attention", "all-linear")


class TrainingData(Section):
    """train, eval: files, absolute; a folder for plain text. eval_share: a share or a count of the prompts of train.

    In the file: one path, a list of paths, or {train: …, eval: …}, where eval may also be a share such as 0.1 or a count.
    """

    train: tuple[Path, ...]
    eval: tuple[Path, ...] = ()
    eval_share: float | int | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_file(cls, value: Any, info: ValidationInfo) -> Any:
        if not isinstance(info.context, Reading):
            return value
        if not isinstance(value, dict):
            return {"train": _paths(value, info.context)}
        refuse_unknown_keys(value, ("train", "eval"))
        if value.get("train") is None:
            refuse("found nothing", expected="the file to train on", remedy="Add train: FILE.", key=("train",))
        with below("train"):
            found: dict[str, Any] = {"train": _paths(value["train"], info.context)}
        if value.get("eval") is not None:
            with below("eval"):
                found |= _held_out(value["eval"], info.context)
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

    def written(self, reading: Reading) -> dict[str, Any]:
        found: dict[str, Any] = {"train": [relative_name(path, reading.folder) for path in self.train]}
        if self.eval:
            found["eval"] = [relative_name(path, reading.folder) for path in self.eval]
        return found | ({"eval": self.eval_share} if self.eval_share is not None else {})


def _paths(value: Any, reading: Reading) -> tuple[Path, ...]:
    if not isinstance(value, list):
        if not isinstance(value, str):
            refuse(f"found {describe(value)}", expected="a file, or a list of files", remedy=DATA_REMEDY)
        return (found_path(value, reading, folders=True),)
    if not value:
        refuse("found an empty list", expected="at least one file", remedy=DATA_REMEDY)
    paths = []
    for index, name in enumerate(value):
        with below(index):
            paths.append(found_path(name, reading, folders=True))
    return tuple(paths)


def _held_out(value: Any, reading: Reading) -> dict[str, Any]:
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
            refuse(f"found {describe(name)}", expected="the name of a layer", remedy="Correct it.", key=(index,))
    close = nearest(value, TARGETS) if isinstance(value, str) else None
    if close is not None:
        refuse(f"found {describe(value)}", expected=expected, remedy=f"Write {close}.")
    return tuple(names)


class Adapter(Section):
    """kind: lora, rslora, dora, qlora (LoRA on a 4-bit base) or full (the base's own weights). r: rank. alpha: scale, None is
    2r. target: attention, all-linear, or names of layers. dropout: of the adapter's input; it costs the packed form.
    """

    kind: Literal["lora", "rslora", "dora", "qlora", "full"] = "lora"
    r: Count = 16
    alpha: Annotated[float, Number(above=0)] | None = None
    target: Annotated[
        Literal["attention", "all-linear"] | tuple[str, ...],
        BeforeValidator(_targets),
        WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
    ] = "attention"
    dropout: Annotated[float, Number(at_least=0, below=1)] = 0.0

    @model_validator(mode="before")
    @classmethod
    def _from_file(cls, value: Any, info: ValidationInfo) -> Any:
        return {"kind": value} if isinstance(info.context, Reading) and isinstance(value, str) else value

    @model_validator(mode="after")
    def _full_has_none(self) -> Self:
        if self.kind == "full" and (beside := sorted(self.model_fields_set - {"kind"})):
            found = f'found "{beside[0]}" beside kind: full'
            refuse(found, expected="an adapter to which it belongs", remedy="Remove it.", key=(beside[0],))
        return self

    @property
    def scale(self) -> float:
        return 2.0 * self.r if self.alpha is None else self.alpha

    def written(self, reading: Reading) -> Any:
        if self.kind == "full":
            return "full"
        target = self.target if isinstance(self.target, str) else list(self.target)
        return {"kind": self.kind, "r": self.r, "alpha": self.scale, "target": target, "dropout": self.dropout}


class Objective(Section):
    """name: of an objective. options: as its function takes them, in the order of the file.

    In the file: the name, or a mapping with the name as its one key: {dpo: {beta: 0.1}}.
    """

    name: str = "sft"
    options: dict[str, bool | float] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _from_file(cls, value: Any, info: ValidationInfo) -> Any:
        if not isinstance(info.context, Reading):
            return value
        name, options = _name_and_options(value)
        if name not in OBJECTIVES:
            detail = unknown_name("objective", name, tuple(OBJECTIVES))
            # An objective has near neighbours (ipo, dpo): all of them are named.
            refuse(detail["found"], expected=f"one of {listed(OBJECTIVES, 'or')}", remedy=detail["remedy"])
        with below(name):
            return {"name": name, "options": _options(name, options)}

    def written(self, reading: Reading) -> Any:
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


def _options(name: str, given: dict[str, Any]) -> dict[str, bool | float]:
    if not given:
        return {}
    from lastresort.train.objective import Objective as Loss
    from lastresort.train.options import refused_options

    defaults = Loss(name).defaults()
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
            refused = refused_options(Loss(name, ((option, options[option]),)))
        except InputError as error:
            refuse(error.found, expected=error.expected, remedy="Correct it.", key=(option,))
        if refused is not None:
            refuse(f"found {refused.found}", expected=refused.expected, remedy="Change it.", key=(option,))
    return options


def _switch(value: Any) -> bool:
    if not isinstance(value, bool):
        refuse(f"found {describe(value)}", expected="true or false", remedy="Write true.")
    return value
