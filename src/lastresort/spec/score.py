"""`score` and `reward`: a scorer's name with its parameters.

In the file: a bare name (`json_exact`), or a mapping with the name as its one key (`{number: {tolerance: 0.01}}`,
`{regex: "…"}`, `{python: "metrics.py:score"}`, `{judge: MODEL}`). A reward is written the same way, with `weight` beside.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, ValidationInfo, model_validator

from lastresort.spec.judge import judge_json_schema, read_judge, refuse_in_a_reward, written_judge
from lastresort.spec.paths import relative_name
from lastresort.spec.user_function import found_function
from lastresort.spec.values import Number, Reading, Section, below, refuse, refuse_unknown_keys, unknown_name
from lastresort.spec.wording import describe

Parameters = dict[str, Any]


class Score(Section):
    """How an answer is judged. parameters: {} for most; regex: pattern; number: tolerance, perhaps relative; python: file
    (absolute), function, perhaps binary (whether it answers only 0 or 1); judge: the keys of spec/judge.py.
    """

    name: str
    parameters: Parameters = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _from_file(cls, value: Any, info: ValidationInfo) -> Any:
        return _read_scorer(value, info.context) if isinstance(info.context, Reading) else value

    @model_validator(mode="after")
    def _known(self) -> Self:
        _refuse_unknown(self.name)
        return self

    def written(self, reading: Reading) -> str | dict[str, Any]:
        """As the task file writes it."""
        return _written(self.name, self.parameters, reading)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: Any, handler: Any) -> dict[str, Any]:
        return scorer_json_schema({})


class Reward(Section):
    """One term of the reward that GRPO maximises: weight times the scorer's value."""

    name: str
    parameters: Parameters = Field(default_factory=dict)
    weight: Annotated[float, Number()] = 1.0

    @model_validator(mode="before")
    @classmethod
    def _from_file(cls, value: Any, info: ValidationInfo) -> Any:
        if not isinstance(info.context, Reading):
            return value
        weight = {"weight": value["weight"]} if isinstance(value, dict) and "weight" in value else {}
        scorer = {name: inner for name, inner in value.items() if name != "weight"} if weight else value
        found = _read_scorer(scorer, info.context)
        if found["name"] == "judge":
            refuse_in_a_reward(found["parameters"])
        return {**found, **weight}

    @model_validator(mode="after")
    def _known(self) -> Self:
        _refuse_unknown(self.name)
        return self

    def written(self, reading: Reading) -> dict[str, Any]:
        """As the task file writes it."""
        scorer = _written(self.name, self.parameters, reading)
        return {**({scorer: {}} if isinstance(scorer, str) else scorer), "weight": self.weight}

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: Any, handler: Any) -> dict[str, Any]:
        return scorer_json_schema({"weight": {"type": "number", "default": 1.0}})


def _no_parameters(value: Any, reading: Reading) -> Parameters:
    if value not in (None, {}):
        refuse(f"found {describe(value)}", expected="no parameters, since this scorer has none", remedy="Remove them.")
    return {}


def _regex(value: Any, reading: Reading) -> Parameters:
    pattern = _only(value, "pattern")
    if not isinstance(pattern, str) or not pattern:
        remedy = 'Write {regex: "…"}, with the pattern in quotes.'
        refuse(f"found {describe(pattern)}", expected="a regular expression", remedy=remedy)
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        found = f"found {describe(pattern)}, which is not a regular expression ({error})"
        refuse(found, expected="a pattern of Python's re", remedy="Correct it.")
    return {"pattern": pattern}


def _number(value: Any, reading: Reading) -> Parameters:
    value = {} if value is None else value
    if not isinstance(value, dict):
        remedy = "Write {number: {tolerance: 0.01}}."
        refuse(f"found {describe(value)}", expected="a mapping with tolerance or relative", remedy=remedy)
    refuse_unknown_keys(value, ("tolerance", "relative"))
    amounts: Parameters = {"tolerance": 0.0}
    for name, amount in value.items():
        with below(name):
            amounts[name] = Number(at_least=0).check(amount)
    return amounts


def _python(value: Any, reading: Reading) -> Parameters:
    if not isinstance(value, dict):
        return dict(found_function(value, reading))
    refuse_unknown_keys(value, ("function", "binary"))
    with below("function"):
        parameters: Parameters = dict(found_function(value.get("function"), reading))
    binary = value.get("binary")
    if binary is not None and not isinstance(binary, bool):
        refuse(f"found {describe(binary)}", expected="true or false", remedy="Write true.", key=("binary",))
    return parameters if binary is None else {**parameters, "binary": binary}


def _only(value: Any, key: str) -> Any:
    """The value of `key` where `value` is a mapping, else the value itself."""
    if not isinstance(value, dict):
        return value
    refuse_unknown_keys(value, (key,))
    return value.get(key)


_BARE = ("exact", "normalized", "contains", "choice", "json_valid", "json_exact", "json_fields", "token_f1", "rouge_l")
_READERS: dict[str, Callable[[Any, Reading], Parameters]] = {
    **dict.fromkeys(_BARE, _no_parameters),
    "number": _number,
    "regex": _regex,
    "python": _python,
    "judge": read_judge,
}
_HOW = {"regex": '{regex: "…"}', "python": '{python: "metrics.py:score"}', "judge": "{judge: MODEL}"}
SCORERS = tuple(_READERS)


def _read_scorer(value: Any, reading: Reading) -> dict[str, Any]:
    """{"name", "parameters"} of a scorer as the file writes it."""
    if isinstance(value, str):
        name, given = value.strip(), None
        _refuse_unknown(name)
        if name in _HOW:
            expected = f"{name} with what it needs"
            refuse(f'found "{name}" alone', expected=expected, remedy=f"Write {_HOW[name]}.")
        return {"name": name, "parameters": _READERS[name](None, reading)}
    if not isinstance(value, dict) or len(value) != 1:
        remedy = f"Write for instance json_exact, or {_HOW['python']}."
        refuse(f"found {describe(value)}", expected="the name of one scorer, alone or as the one key", remedy=remedy)
    [(name, given)] = value.items()
    _refuse_unknown(name)
    with below(name):
        return {"name": name, "parameters": _READERS[name](given, reading)}


def _refuse_unknown(name: str) -> None:
    if name in _READERS:
        return
    file_and_function = re.fullmatch(r"[^:]+\.py:\w+", name)
    remedy = f'Write {{python: "{name}"}}.' if file_and_function else None
    detail = unknown_name("scorer", name, SCORERS)
    refuse(detail["found"], expected=detail["expected"], remedy=remedy or detail["remedy"])


def _written(name: str, parameters: Parameters, reading: Reading) -> str | dict[str, Any]:
    if name == "python":
        reference = f"{relative_name(Path(parameters['file']), reading.folder)}:{parameters['function']}"
        binary = {"binary": parameters["binary"]} if "binary" in parameters else {}
        return {name: {"function": reference, **binary} if binary else reference}
    if name == "judge":
        return {name: written_judge(parameters, reading)}
    if name == "regex":
        [only] = parameters.values()
        return {name: only}
    return {name: dict(parameters)} if parameters else name


def scorer_json_schema(beside: dict[str, Any]) -> dict[str, Any]:
    """JSON schema of a scorer as the file writes it. beside: further keys that may stand next to the scorer's."""
    amount = {"type": "number", "minimum": 0}
    reference = {"type": "string", "pattern": "^.+:[^:]+$"}
    forms: dict[str, dict[str, Any]] = {
        **{name: {"type": ["object", "null"], "maxProperties": 0} for name in _BARE},
        "number": _closed({"tolerance": amount, "relative": amount}),
        "regex": {"type": "string", "format": "regex"},
        "python": {"anyOf": [reference, _closed({"function": reference, "binary": {"type": "boolean"}}, ["function"])]},
        "judge": judge_json_schema(),
    }
    mappings = [_closed({name: form, **beside}, [name]) for name, form in forms.items()]
    return {"anyOf": [{"enum": [*_BARE, "number"]}, *mappings]}


def _closed(properties: dict[str, Any], required: Sequence[str] = ()) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}
