"""`score` and `reward`: a scorer's name with its parameters.

In the file: a bare name (`json_exact`), or a mapping with the name as its one key (`{number: {tolerance: 0.01}}`,
`{regex: "…"}`, `{python: "metrics.py:score"}`, `{judge: MODEL}`). A reward is written the same way, with `weight` next to it.

`FILE:FUNCTION`: a function in a Python file of the user's. It is looked up here without running the file.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import Field, JsonValue, model_validator
from pydantic.json_schema import JsonSchemaValue

from lastresort.errors import InputError
from lastresort.foreign import read_content
from lastresort.spec.judge import JudgeKeys, WrittenJudge
from lastresort.spec.paths import existing_path, relative_name
from lastresort.spec.values import (
    NumberBounds,
    ReadContext,
    Section,
    WordOrNumber,
    below,
    describe,
    nearest,
    refuse,
    refuse_unknown_keys,
    unknown_name,
)

if TYPE_CHECKING:
    from lastresort.evals.scorers.scorer import ScorerEntry


EXPECTED = "FILE:FUNCTION, such as metrics.py:score"


def existing_function(value: Any, reading: ReadContext) -> dict[str, str]:
    """{"file": absolute path, "function": name}. Refuses a file or function that is not there.

    value: `metrics.py:score`, relative to the task file's folder.
    """
    file_name, colon, function = value.rpartition(":") if isinstance(value, str) else ("", "", "")
    if not colon or not file_name.strip() or not function.strip().isidentifier():
        refuse(f"found {describe(value)}", expected=EXPECTED, remedy="Write the file, a colon and the function.")
    path, function = existing_path(file_name.strip(), reading), function.strip()
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
        tree = ast.parse(read_content(path))
    except SyntaxError as error:
        refuse(
            f"found a syntax error in {name}, line {error.lineno} ({error.msg})",
            expected="Python that parses",
            remedy="Correct it.",
        )
    except InputError as error:
        refuse(f"{error.found} in {name}", expected=error.expected or "a Python file", remedy=error.remedy)
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


Parameters = dict[str, JsonValue]


class Score(Section):
    """How an answer is judged. keys: {} for most; regex: pattern; number: tolerance, perhaps relative; python: file (absolute),
    function, perhaps binary (whether it answers only 0 or 1) and limits. judge: the keys of a judge, None for every other scorer.
    """

    name: str
    keys: Parameters = Field(default_factory=dict)
    judge: WrittenJudge = None

    @classmethod
    def fields_of(cls, value: Any, reading: ReadContext) -> Any:
        return _read_scorer(value, reading)

    @model_validator(mode="after")
    def _known(self) -> Self:
        _refuse_unknown(self.name)
        return self

    @property
    def parameters(self) -> Parameters:
        """As `build_scorer` takes them."""
        return self.keys if self.judge is None else self.judge.parameters()

    @property
    def python_file(self) -> Path | None:
        """The file of the user's own function."""
        return Path(str(self.keys["file"])) if self.name == "python" else None

    def written(self, reading: ReadContext) -> str | Parameters:
        """As the task file writes it."""
        if self.judge is not None:
            return {self.name: self.judge.written(reading.folder)}
        return _written(self.name, self.keys, reading)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: Any, handler: Any) -> JsonSchemaValue:
        return _json_schema({})


class Reward(Score):
    """One term of the reward that GRPO maximises: weight times the scorer's value."""

    weight: Annotated[float, NumberBounds()] = 1.0

    @classmethod
    def fields_of(cls, value: Any, reading: ReadContext) -> Any:
        weight = {"weight": value["weight"]} if isinstance(value, dict) and "weight" in value else {}
        scorer = {name: inner for name, inner in value.items() if name != "weight"} if weight else value
        return {**_read_scorer(scorer, reading), **weight}

    @model_validator(mode="after")
    def _not_labelled(self) -> Self:
        if self.judge is not None and self.judge.labelled is not None:
            refuse(
                "found labelled of a judge that is a reward",
                expected="it under score alone, whose judge is compared with people",
                remedy="Remove it.",
                key=("judge", "labelled"),
            )
        return self

    def written(self, reading: ReadContext) -> Parameters:
        """As the task file writes it."""
        scorer = super().written(reading)
        return {**({scorer: {}} if isinstance(scorer, str) else scorer), "weight": self.weight}

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: Any, handler: Any) -> JsonSchemaValue:
        return _json_schema({"weight": {"type": "number", "default": 1.0}})


def _no_keys(value: Any) -> Parameters:
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


# Of a function of the user's, in the place of the usual ones. They may be raised while a run waits.
LIMITS: dict[str, NumberBounds | WordOrNumber] = {
    "time_s": NumberBounds(above=0),
    "memory_gib": WordOrNumber("none", NumberBounds(above=0)),
    "load_s": NumberBounds(above=0),
}


def _python(value: Any, reading: ReadContext) -> Parameters:
    if not isinstance(value, dict):
        return {**existing_function(value, reading)}
    refuse_unknown_keys(value, ("function", "binary", *LIMITS))
    with below("function"):
        parameters: Parameters = {**existing_function(value.get("function"), reading)}
    binary = value.get("binary")
    if binary is not None and not isinstance(binary, bool):
        refuse(f"found {describe(binary)}", expected="true or false", remedy="Write true.", key=("binary",))
    for name, bounds in LIMITS.items():
        if name in value:
            with below(name):
                parameters[name] = bounds.check(value[name])
    return parameters if binary is None else {**parameters, "binary": binary}


def _only(value: Any, key: str) -> Any:
    """The value of `key` where `value` is a mapping, else the value itself."""
    if not isinstance(value, dict):
        return value
    refuse_unknown_keys(value, (key,))
    return value.get(key)


# How the file writes the keys of these scorers; any other's are read by `_plain`.
_READERS: dict[str, Callable[[Any, ReadContext], Parameters]] = {"number": _number, "regex": _regex, "python": _python}
_HOW = {"regex": '{regex: "…"}', "python": '{python: "metrics.py:score"}', "judge": "{judge: MODEL}"}
_KNOWN_KEYS = (*_READERS, "judge")


def _table() -> Mapping[str, ScorerEntry]:
    """All scorers with their parameters; loaded with the first file that names one."""
    from lastresort.evals.scorers import SCORERS

    return SCORERS


def _known_scorers() -> tuple[str, ...]:
    """Those without parameters first."""
    table = _table()
    others = [name for name in table if table[name].parameters and name not in _KNOWN_KEYS]
    return (*_bare(), *others, *_KNOWN_KEYS)


def _bare() -> tuple[str, ...]:
    return tuple(name for name, entry in _table().items() if not entry.parameters)


def _keys(name: str, value: Any, reading: ReadContext) -> Parameters:
    entry = _table()[name]
    if name in _READERS:
        return _READERS[name](value, reading)
    return _plain(entry, value) if entry.parameters else _no_keys(value)


def _plain(entry: ScorerEntry, value: Any) -> Parameters:
    """Parameters as they are: by name, or the main one alone."""
    if not isinstance(value, dict):
        return {} if value is None else {entry.main or entry.parameters[0]: value}
    refuse_unknown_keys(value, entry.parameters)
    return dict(value)


def _read_scorer(value: Any, reading: ReadContext) -> dict[str, object]:
    """{"name", "keys"} of a scorer as the file writes it; {"name", "judge"} of a judge, whose keys pydantic checks."""
    if isinstance(value, str):
        name, given = value.strip(), None
        _refuse_unknown(name)
        if name in _HOW:
            expected = f"{name} with what it needs"
            refuse(f'found "{name}" alone', expected=expected, remedy=f"Write {_HOW[name]}.")
        return {"name": name, "keys": _keys(name, None, reading)}
    if not isinstance(value, dict) or len(value) != 1:
        remedy = f"Write for instance json_exact, or {_HOW['python']}."
        refuse(f"found {describe(value)}", expected="the name of one scorer, alone or as the one key", remedy=remedy)
    [(name, given)] = value.items()
    _refuse_unknown(name)
    if name == "judge":
        return {"name": name, "judge": given}
    with below(name):
        return {"name": name, "keys": _keys(name, given, reading)}


def _refuse_unknown(name: str) -> None:
    if name in _table():
        return
    file_and_function = re.fullmatch(r"[^:]+\.py:\w+", name)
    remedy = f'Write {{python: "{name}"}}.' if file_and_function else None
    detail = unknown_name("scorer", name, _known_scorers())
    refuse(detail["found"], expected=detail["expected"], remedy=remedy or detail["remedy"])


def _written(name: str, keys: Parameters, reading: ReadContext) -> str | Parameters:
    if name == "python":
        reference = f"{relative_name(Path(str(keys['file'])), reading.folder)}:{keys['function']}"
        further = {key: value for key, value in keys.items() if key not in ("file", "function")}
        return {name: {"function": reference, **further} if further else reference}
    if name == "regex":
        return {name: keys["pattern"]}
    return {name: dict(keys)} if keys else name


_PYTHON_SCHEMA: dict[str, JsonSchemaValue] = {
    "function": {"type": "string", "pattern": "^.+:[^:]+$"},
    "binary": {"type": "boolean"},
    "time_s": {"type": "number", "exclusiveMinimum": 0},
    "memory_gib": {"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"const": "none"}]},
    "load_s": {"type": "number", "exclusiveMinimum": 0},
}


def _json_schema(more: JsonSchemaValue) -> JsonSchemaValue:
    """JSON schema of a scorer as the file writes it. more: further keys next to the scorer's."""
    amount = {"type": "number", "minimum": 0}
    reference = _PYTHON_SCHEMA["function"]
    forms: dict[str, JsonSchemaValue] = {
        **{name: {"type": ["object", "null"], "maxProperties": 0} for name in _bare()},
        **{name: {} for name, entry in _table().items() if entry.parameters and name not in _KNOWN_KEYS},
        "number": _closed({"tolerance": amount, "relative": amount}),
        "regex": {"type": "string", "format": "regex"},
        "python": {"anyOf": [reference, _closed(_PYTHON_SCHEMA, ["function"])]},
        "judge": {"anyOf": [{"type": "string"}, JudgeKeys.model_json_schema()]},
    }
    mappings = [_closed({name: form, **more}, [name]) for name, form in forms.items()]
    return {"anyOf": [{"enum": [*_bare(), "number"]}, *mappings]}


def _closed(properties: JsonSchemaValue, required: Sequence[str] = ()) -> JsonSchemaValue:
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}
