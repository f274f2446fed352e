"""`score` and `reward`: a scorer's name with its parameters.

In the file: a bare name (`json_exact`), or a mapping with the name as its one key (`{number: {tolerance: 0.01}}`,
`{regex: "…"}`, `{python: "metrics.py:score"}`, `{judge: MODEL}`). A reward is written the same way, with `weight` beside.

`FILE:FUNCTION`: a function in a Python file of the user's. It is looked up here without running the file.

`{judge: …}`: the scorer that asks another model, with its keys.

In the file: the model alone, or a mapping. `against: reference` (the default) compares with the right answer, by `criteria`
where these are given; `rubric` grades without one, on `scale`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self, get_args

from pydantic import Field, ValidationInfo, model_validator

from lastresort.models.open import settled_name
from lastresort.models.protocol import is_endpoint
from lastresort.spec.paths import check_model_name, found_path, is_paid, relative_name
from lastresort.spec.values import (
    NumberBounds,
    ReadContext,
    Section,
    below,
    describe,
    listed,
    nearest,
    refuse,
    refuse_unknown_keys,
    unknown_name,
)
from lastresort.types import ReasoningEffort

if TYPE_CHECKING:
    from lastresort.evals.scorers.scorer import ScorerEntry

EXPECTED = "FILE:FUNCTION, such as metrics.py:score"


def found_function(value: Any, reading: ReadContext) -> dict[str, str]:
    """{"file": absolute path, "function": name}. Refuses a file or function that is not there.

    value: `metrics.py:score`, relative to the task file's folder.
    """
    file_name, colon, function = value.rpartition(":") if isinstance(value, str) else ("", "", "")
    if not colon or not file_name.strip() or not function.strip().isidentifier():
        refuse(f"found {describe(value)}", expected=EXPECTED, remedy="Write the file, a colon and the function.")
    path, function = found_path(file_name.strip(), reading), function.strip()
    name = relative_name(path, reading.folder)
    known = _names(path, name)
    if known is not None and function not in known:
        close = nearest(function, known)
        remedy = f'Did you mean "{name}:{close}"?' if close else f"Define it at the top level of {name}."
        refuse(f'found no function "{function}" in {name}', expected=EXPECTED, remedy=remedy)
    return {"file": str(path), "function": function}


def _names(path: Path, name: str) -> set[str] | None:
    """The names that the file's top level binds to functions, or may; None where a star import hides them."""
    try:
        tree = ast.parse(path.read_bytes())
    except SyntaxError as error:
        refuse(
            f"found a syntax error in {name}, line {error.lineno} ({error.msg})",
            expected="Python that parses",
            remedy="Correct it.",
        )
    except (OSError, ValueError, RecursionError, MemoryError) as error:
        refuse(f"found a Python file that cannot be read, {name} ({error})", remedy="Check the file.")
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom | ast.Import):
            if any(alias.name == "*" for alias in node.names):
                return None
            names |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return names | _functions(tree)


def _functions(tree: ast.Module) -> set[str]:
    """Functions and classes at the top level, also below `if` and `try`, but not inside one another."""
    names: set[str] = set()
    waiting: list[ast.AST] = [tree]
    while waiting:
        for child in ast.iter_child_nodes(waiting.pop()):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                names.add(child.name)
            else:
                waiting.append(child)
    return names


Parameters = dict[str, Any]
SCALES = ("1-5", "yes-no")
EFFORTS: tuple[str, ...] = get_args(ReasoningEffort)
PRICES = ("prompt_price", "output_price")
_NUMBERS = {
    "max_new_tokens": NumberBounds(at_least=1, whole=True),
    "prompt_price": NumberBounds(at_least=0),
    "output_price": NumberBounds(at_least=0),
}


def read_judge(value: Any, reading: ReadContext) -> Parameters:
    """The keys as given; `labelled` and a model's path are absolute."""
    given = value if isinstance(value, dict) else {"model": value}
    refuse_unknown_keys(given, _table()["judge"].parameters)
    with below(*(("model",) if isinstance(value, dict) else ())):
        parameters: Parameters = {"model": _model(given.get("model"), reading)}
    for name, inner in given.items():
        if name != "model":
            with below(name):
                parameters[name] = _value(name, inner, reading)
    _check_question(parameters)
    return parameters


def refuse_in_a_reward(parameters: Parameters) -> None:
    """Refuse what nothing would come of where the judge is a term of a reward."""
    if "labelled" in parameters:
        refuse(
            "found labelled of a judge that is a reward",
            expected="it under score alone, whose judge is compared with people",
            remedy="Remove it.",
            key=("judge", "labelled"),
        )


def without_price(parameters: Parameters) -> bool:
    """Whether the judge's calls cost what the file does not say."""
    known = set(PRICES) <= set(parameters)
    return is_paid(parameters["model"]) and not known


def written_judge(parameters: Parameters, reading: ReadContext) -> str | Parameters:
    """As the file writes it."""
    model = written_model(parameters["model"], reading.folder)
    if len(parameters) == 1:
        return model
    written = {**parameters, "model": model}
    if "labelled" in written:
        written["labelled"] = relative_name(Path(parameters["labelled"]), reading.folder)
    return written


def judge_json_schema() -> dict[str, Any]:
    """JSON schema of the judge as the file writes it."""
    text, price = {"type": "string", "minLength": 1}, {"type": "number", "minimum": 0}
    properties = {
        "model": {"type": "string"},
        "against": {"enum": ["reference"]},
        "criteria": text,
        "rubric": text,
        "scale": {"enum": list(SCALES), "default": SCALES[0]},
        "labelled": {"type": "string"},
        "max_new_tokens": {"type": "integer", "minimum": 1, "default": 32},
        "reasoning_effort": {"enum": list(EFFORTS)},
        "prompt_price": price,
        "output_price": price,
    }
    mapping = {"type": "object", "properties": properties, "required": ["model"], "additionalProperties": False}
    return {"anyOf": [{"type": "string"}, mapping]}


def _model(value: Any, reading: ReadContext) -> str:
    model = check_model_name(value, reading)
    if not isinstance(model, str) or not model.strip():
        remedy = "Write {judge: MODEL}, with a model as under `model`."
        refuse(f"found {describe(model)}", expected="the judge's model", remedy=remedy)
    return settled_name(model, reading.folder)


def _value(name: str, value: Any, reading: ReadContext) -> Any:
    if name in _NUMBERS:
        return _NUMBERS[name].check(value)
    if name == "labelled":
        return str(found_path(value, reading))
    allowed = {"against": ("reference",), "scale": SCALES, "reasoning_effort": EFFORTS}.get(name)
    if allowed is not None and value not in allowed:
        remedy = f"Write {allowed[0]}" + (
            ", or a rubric to have answers graded by themselves." if name == "against" else "."
        )
        refuse(f"found {describe(value)}", expected=listed(allowed, "or"), remedy=remedy)
    if not isinstance(value, str) or not value.strip():
        remedy = "Write a sentence that says what makes an answer good."
        refuse(f"found {describe(value)}", expected="text", remedy=remedy)
    return value.strip()


def _check_question(parameters: Parameters) -> None:
    """A judge compares or grades, not both; and only an endpoint can be told how long to think."""
    if "reasoning_effort" in parameters and not is_endpoint(parameters["model"]):
        refuse(
            "found a reasoning effort of a judge that runs here",
            expected="a judge behind an endpoint",
            remedy="Remove it.",
            key=("reasoning_effort",),
        )
    if "rubric" in parameters:
        for name, remedy in (
            ("against", "Remove one of them: with a rubric an answer is graded without the reference."),
            ("criteria", "Write all of it under rubric, or all of it under criteria to compare with the reference."),
        ):
            if name in parameters:
                refuse(f"found {name} beside rubric", expected="one of them", remedy=remedy, key=(name,))
    elif "scale" in parameters:
        refuse(
            "found a scale without a rubric",
            expected="what the grades are for",
            remedy="Add rubric: TEXT, or remove the scale.",
            key=("scale",),
        )


def written_model(name: str, folder: Path) -> str:
    """A judge's model as a file in `folder` names it."""
    kind, path = ("scripted:", name.removeprefix("scripted:")) if name.startswith("scripted:") else ("", name)
    return kind + relative_name(Path(path), folder) if Path(path).is_absolute() else name


class Score(Section):
    """How an answer is judged. parameters: {} for most; regex: pattern; number: tolerance, perhaps relative; python: file
    (absolute), function, perhaps binary (whether it answers only 0 or 1); judge: the keys of spec/score.py.
    """

    name: str
    parameters: Parameters = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _from_file(cls, value: Any, info: ValidationInfo) -> Any:
        return _read_scorer(value, info.context) if isinstance(info.context, ReadContext) else value

    @model_validator(mode="after")
    def _known(self) -> Self:
        _refuse_unknown(self.name)
        return self

    def written(self, reading: ReadContext) -> str | dict[str, Any]:
        """As the task file writes it."""
        return _written(self.name, self.parameters, reading)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: Any, handler: Any) -> dict[str, Any]:
        return scorer_json_schema({})


class Reward(Section):
    """One term of the reward that GRPO maximises: weight times the scorer's value."""

    name: str
    parameters: Parameters = Field(default_factory=dict)
    weight: Annotated[float, NumberBounds()] = 1.0

    @model_validator(mode="before")
    @classmethod
    def _from_file(cls, value: Any, info: ValidationInfo) -> Any:
        if not isinstance(info.context, ReadContext):
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

    def written(self, reading: ReadContext) -> dict[str, Any]:
        """As the task file writes it."""
        scorer = _written(self.name, self.parameters, reading)
        return {**({scorer: {}} if isinstance(scorer, str) else scorer), "weight": self.weight}

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: Any, handler: Any) -> dict[str, Any]:
        return scorer_json_schema({"weight": {"type": "number", "default": 1.0}})


def _no_parameters(value: Any, reading: ReadContext) -> Parameters:
    if value not in (None, {}):
        refuse(f"found {describe(value)}", expected="no parameters, since this scorer has none", remedy="Remove them.")
    return {}


def _regex(value: Any, reading: ReadContext) -> Parameters:
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


def _number(value: Any, reading: ReadContext) -> Parameters:
    value = {} if value is None else value
    if not isinstance(value, dict):
        remedy = "Write {number: {tolerance: 0.01}}."
        refuse(f"found {describe(value)}", expected="a mapping with tolerance or relative", remedy=remedy)
    refuse_unknown_keys(value, ("tolerance", "relative"))
    amounts: Parameters = {"tolerance": 0.0}
    for name, amount in value.items():
        with below(name):
            amounts[name] = NumberBounds(at_least=0).check(amount)
    return amounts


def _python(value: Any, reading: ReadContext) -> Parameters:
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


# Of scorers with parameters that more must be said of than their names; the others are read by `_plain`.
_READERS: dict[str, Callable[[Any, ReadContext], Parameters]] = {
    "number": _number,
    "regex": _regex,
    "python": _python,
    "judge": read_judge,
}
_HOW = {"regex": '{regex: "…"}', "python": '{python: "metrics.py:score"}', "judge": "{judge: MODEL}"}


def _table() -> Mapping[str, ScorerEntry]:
    """Where a scorer stands with its parameters; loaded with the first file that names one."""
    from lastresort.evals.scorers import SCORERS

    return SCORERS


def _known_scorers() -> tuple[str, ...]:
    """Those without parameters first."""
    table = _table()
    others = [name for name in table if table[name].parameters and name not in _READERS]
    return (*_bare(), *others, *_READERS)


def _bare() -> tuple[str, ...]:
    return tuple(name for name, entry in _table().items() if not entry.parameters)


def _parameters(name: str, value: Any, reading: ReadContext) -> Parameters:
    entry = _table()[name]
    if name in _READERS:
        return _READERS[name](value, reading)
    return _plain(entry, value) if entry.parameters else _no_parameters(value, reading)


def _plain(entry: ScorerEntry, value: Any) -> Parameters:
    """Parameters as they are: by name, or the main one alone."""
    if not isinstance(value, dict):
        return {} if value is None else {entry.main or entry.parameters[0]: value}
    refuse_unknown_keys(value, entry.parameters)
    return dict(value)


def _read_scorer(value: Any, reading: ReadContext) -> dict[str, Any]:
    """{"name", "parameters"} of a scorer as the file writes it."""
    if isinstance(value, str):
        name, given = value.strip(), None
        _refuse_unknown(name)
        if name in _HOW:
            expected = f"{name} with what it needs"
            refuse(f'found "{name}" alone', expected=expected, remedy=f"Write {_HOW[name]}.")
        return {"name": name, "parameters": _parameters(name, None, reading)}
    if not isinstance(value, dict) or len(value) != 1:
        remedy = f"Write for instance json_exact, or {_HOW['python']}."
        refuse(f"found {describe(value)}", expected="the name of one scorer, alone or as the one key", remedy=remedy)
    [(name, given)] = value.items()
    _refuse_unknown(name)
    with below(name):
        return {"name": name, "parameters": _parameters(name, given, reading)}


def _refuse_unknown(name: str) -> None:
    if name in _table():
        return
    file_and_function = re.fullmatch(r"[^:]+\.py:\w+", name)
    remedy = f'Write {{python: "{name}"}}.' if file_and_function else None
    detail = unknown_name("scorer", name, _known_scorers())
    refuse(detail["found"], expected=detail["expected"], remedy=remedy or detail["remedy"])


def _written(name: str, parameters: Parameters, reading: ReadContext) -> str | dict[str, Any]:
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
        **{name: {"type": ["object", "null"], "maxProperties": 0} for name in _bare()},
        **{name: {} for name, entry in _table().items() if entry.parameters and name not in _READERS},
        "number": _closed({"tolerance": amount, "relative": amount}),
        "regex": {"type": "string", "format": "regex"},
        "python": {"anyOf": [reference, _closed({"function": reference, "binary": {"type": "boolean"}}, ["function"])]},
        "judge": judge_json_schema(),
    }
    mappings = [_closed({name: form, **beside}, [name]) for name, form in forms.items()]
    return {"anyOf": [{"enum": [*_bare(), "number"]}, *mappings]}


def _closed(properties: dict[str, Any], required: Sequence[str] = ()) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}
