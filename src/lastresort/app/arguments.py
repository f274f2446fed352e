"""The border of the Python API: what a function is given is checked once, against the types in its signature, before it begins.

Words, names and numbers out of their range are judged further inside, where the command line's are judged as well.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, wraps
from numbers import Integral, Real
from pathlib import Path
from types import NoneType, SimpleNamespace, UnionType
from typing import Any, Literal, ParamSpec, TypeAlias, TypeVar, Union, get_args, get_origin, get_type_hints

from lastresort.errors import InputError

P = ParamSpec("P")
R = TypeVar("R")
Arguments: TypeAlias = dict[str, Any]

WORDS = {
    NoneType: "None",
    str: "text",
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    os.PathLike: "a path",
    Path: "a path",
    Mapping: "a mapping whose keys are text",
}
WHOLE_SEQUENCES = {int: float}  # whether each is whole is said with all of them, as on the command line
FILES = {"task": "task.yaml", "file": "train.yaml"}  # by argument
ROWS = ("data", "files")  # arguments that are files of rows


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """The function behind the border: it raises InputError naming an argument of another type, or one that it does not have."""

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        args_taken, kwargs_taken = _bound(function, args, kwargs)
        return function(*args_taken, **kwargs_taken)

    return call


def checked_fields(function: str, kind: type, given: Mapping[str, object]) -> Arguments:
    """Options that a function takes as the fields of a request. Raises InputError as `checked` does."""
    types = get_type_hints(kind)
    _refuse_unknown(function, given, types)
    return {name: _taken(value, types[name], f"{function}({name}=…)", name) for name, value in given.items()}


def _bound(
    function: Callable[..., object], args: Sequence[object], kwargs: Mapping[str, object]
) -> tuple[tuple[Any, ...], Arguments]:
    """What it is called with: paths as `Path`, numbers as Python's own."""
    from inspect import Parameter, signature

    call, types = signature(function), _types(function)
    if all(one.kind is not Parameter.VAR_KEYWORD for one in call.parameters.values()):
        _refuse_unknown(function.__name__, kwargs, [name for name in call.parameters if name != "self"])
    try:
        bound = call.bind(*args, **kwargs)
    except TypeError as error:
        raise InputError(
            str(error), where=f"{function.__name__}(…)", remedy=f"help({function.__name__}) shows what it takes."
        ) from None
    for name, value in bound.arguments.items():
        if name not in types:
            continue
        if call.parameters[name].kind is Parameter.VAR_POSITIONAL:
            where = f"{function.__name__}(*{name})"
            bound.arguments[name] = tuple(_taken(one, types[name], where, name) for one in value)
        else:
            bound.arguments[name] = _taken(value, types[name], f"{function.__name__}({name}=…)", name)
    return bound.args, bound.kwargs


@cache
def _types(function: Callable[..., object]) -> Mapping[str, object]:
    """By parameter, those that say more than Any."""
    from lastresort import stop, types
    from lastresort.spec.task import Task

    type_names = {name: kind for name, kind in function.__annotations__.items() if name != "return"}
    names = {**vars(types), **vars(stop), "Task": Task}
    hints = get_type_hints(SimpleNamespace(__annotations__=type_names), function.__globals__, names)
    return {name: kind for name, kind in hints.items() if kind is not Any}


_FORECASTS = {
    ("dry_run", function): f"Call lr.{forecast} with the other arguments."
    for function, forecast in {
        "climb": "forecast",
        "study": "forecast_study",
        "make_pairs": "forecast_pairs",
        "synth_data": "forecast_synth",
    }.items()
}


def _refuse_unknown(function: str, given: Iterable[str], known: Iterable[str]) -> None:
    from lastresort.spec.values import listed, nearest

    names = tuple(known)
    for name in given:
        if name not in names:
            close = nearest(name, names, likeness=0.75)
            raise InputError(
                f'found the unknown argument "{name}"',
                where=f"{function}(…)",
                expected=close or listed(names, "or", most=len(names)),
                remedy=f'Write "{close}".' if close else _FORECASTS.get((name, function), "Leave it out."),
            )


class _OtherTypeError(Exception):
    """A value is none of this type."""


def _taken(value: object, kind: Any, where: str, name: str) -> Any:
    try:
        return _as(value, kind)
    except _OtherTypeError:
        pass
    from lastresort.spec.values import describe, listed

    found = f"the class {value.__name__}" if isinstance(value, type) else describe(value)
    raise InputError(
        f"found {found}", where=where, expected=listed(_words(kind), "or"), remedy=_remedy(value, kind, name)
    )


def _as(value: object, kind: Any) -> Any:
    """The value as one of this type. Raises _OtherTypeError."""
    origin, inner = get_origin(kind) or kind, get_args(kind)
    anything = kind in (Any, object)  # of settings, which are recorded, and of facts
    if anything or getattr(value, "ndim", None) == 0:  # of numpy or torch
        from lastresort.spec.document import plain

        value = plain(value)
    if anything:
        return value
    if origin in (Union, UnionType):
        return _as_one_of(value, inner)
    if origin is Literal:
        return _as(value, str)  # whether there is such a word is said inside
    if origin in (Path, os.PathLike) and isinstance(value, os.PathLike):
        return Path(value)
    if origin is Path and isinstance(value, str):
        return Path(value)
    if isinstance(value, bool) and origin is not bool:  # which Python takes for a number
        raise _OtherTypeError
    if origin in (int, float) and isinstance(value, Integral):
        return int(value)
    if origin is float and isinstance(value, Real):
        return float(value)
    if origin is Mapping and isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: _as(one, inner[1]) for key, one in value.items()}
    if origin is Sequence and isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping):
        return tuple(_as(one, WHOLE_SEQUENCES.get(inner[0], inner[0])) for one in value)
    if origin is tuple and isinstance(value, list | tuple) and len(value) == len(inner):
        return tuple(map(_as, value, inner))
    if origin in (str, bool, NoneType) and isinstance(value, origin):
        return value
    if origin not in (*WORDS, Sequence, tuple) and _is_a(value, origin):
        return value
    raise _OtherTypeError


def _as_one_of(value: object, kinds: Iterable[Any]) -> Any:
    for kind in kinds:
        try:
            return _as(value, kind)
        except _OtherTypeError:
            continue
    raise _OtherTypeError


def _is_a(value: object, kind: type) -> bool:
    """An instance of a class, or of what has the methods of a protocol. A class is none itself."""
    if isinstance(value, type):
        return False
    if not getattr(kind, "_is_protocol", False):
        return isinstance(value, kind)
    return all(callable(getattr(value, name, None)) for name in vars(kind) if not name.startswith("_"))


def _words(kind: Any) -> list[str]:
    """What is expected, one word or more for each of the types."""
    origin, inner = get_origin(kind) or kind, get_args(kind)
    if origin in (Union, UnionType):
        return [word for one in inner for word in _words(one)]
    if origin is Literal:
        return [f'"{word}"' for word in inner]
    if origin is Sequence:
        return ["a list of text" if inner[0] is str else "a list of whole numbers"]
    if origin is tuple:
        return [f"a tuple of {len(inner)}"]
    return ["text for each key" if origin is Mapping and inner[1] is str else WORDS.get(origin, f"a {origin.__name__}")]


def _remedy(value: object, kind: Any, name: str) -> str:
    kinds = {get_origin(one) or one for one in (get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,))}
    by_name = {one.__name__: one for one in kinds if isinstance(one, type)}
    if isinstance(value, Mapping) and name in FILES:
        return f"Write it to a file, such as {FILES[name]} (JSON will do), and name that: what is begun goes on by its file."
    if "Progress" in by_name:
        return "Pass lastresort.types.SilentProgress() to show nothing, None for lines on stderr."
    if "Stop" in by_name:
        return "Pass a lastresort.stop.StopSignal(), whose request() stops the work."
    if Sequence in kinds and isinstance(value, str):
        return f'Write {name}=["{value}"].'
    if tuple in kinds:
        return f"Write {name}=(…, …)."
    if Mapping in kinds:
        return f'Write {name}={{"split.seed": 3}} for instance.' if name == "settings" else f'Write {name}={{"…": …}}.'
    if kinds & {Path, os.PathLike} and hasattr(value, "to_csv"):
        written = 'Write it with to_csv("rows.csv", index=False)'
        if name == "task":
            return f"{written}, and draft a task of that file with lr.init."
        if name in ROWS:
            return f"{written}, and name that file."
    words = _words(kind)
    return "Pass one of them." if len(words) > 1 else f"Pass {words[0]}."
