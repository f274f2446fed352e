"""The scorer that the user wrote: FILE:FUNCTION."""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, redirect_stdout
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from types import ModuleType
from typing import Any

from lastresort.errors import DataError, TaskError
from lastresort.evals.scorers.scorer import AnswerForm
from lastresort.types import Example

_KEY = 'task file, key "score.python"'


@dataclass(frozen=True, slots=True)
class PythonFunction:
    """Calls function(answer, expected) or function(answer, expected, example): a bool, or a number from 0 to 1.

    binary, in this order: the parameter `binary` of the task file; the attribute `binary` of the function; True if it
    is annotated `-> bool`; else False, which is valid for 0/1 scores too and only needs more items. The user's code may
    raise anything, and whatever it raises becomes a DataError.
    """

    function: Callable[..., Any]
    place: str
    takes_example: bool
    binary: bool
    name: str = "python"

    def __call__(self, answer: str, example: Example) -> float:
        arguments: tuple[Any, ...] = (
            (answer, example.output, example) if self.takes_example else (answer, example.output)
        )
        try:
            with _aside():
                value = self.function(*arguments)
                score = _as_score(value)
        except (Exception, SystemExit) as error:
            raise self._fault(example, f"raised {type(error).__name__}: {error}") from error
        if score is None:
            raise self._fault(example, f"returned {_shown(value)}", "True, False, or a number from 0 to 1")
        if self.binary and score not in (0.0, 1.0):
            raise self._fault(example, f"returned {_shown(value)} though it is declared binary", "0 or 1")
        return score

    def _fault(self, example: Example, found: str, expected: str = "") -> DataError:
        remedy = "Correct the function; scores are never guessed."
        return DataError(found, where=f"{self.place}, example {example.id}", expected=expected, remedy=remedy)


def python(parameters: Mapping[str, Any], output: AnswerForm) -> PythonFunction:
    """Loads the file by its path. Raises TaskError on whatever is wrong with it.

    parameters: file and function, or function alone as FILE:FUNCTION; and, if wanted, binary.
    """
    name = parameters.get("function")
    file = parameters.get("file")
    if file is None and isinstance(name, str):
        file, _, name = name.rpartition(":")
    if not file or not isinstance(name, str) or not name:
        found = repr(parameters.get("function"))
        raise TaskError(found, where=_KEY, expected="FILE:FUNCTION, such as metrics.py:score")
    path = Path(file)
    function = _function(_load(path), name, path)
    declared = parameters.get("binary", getattr(function, "binary", None))
    if declared is None:
        declared = _signature(function, path, name).return_annotation in (bool, "bool")
    if not isinstance(declared, bool):
        raise TaskError(f"binary = {declared!r}", where=f"{path}, {name}", expected="true or false")
    return PythonFunction(function, f"{path}, {name}()", _takes_example(function, path, name), declared)


def _load(path: Path) -> ModuleType:
    if not path.is_file():
        raise TaskError(
            f"no such file: {path}",
            where=_KEY,
            expected="a Python file",
            remedy="Correct the path.",
        )
    name = "lastresort_scorer_" + hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]
    specification = importlib.util.spec_from_file_location(name, path)
    if specification is None or specification.loader is None:
        raise TaskError(f"{path} is not a Python file", where=_KEY, expected="a file that ends in .py")
    module = importlib.util.module_from_spec(specification)
    folder = str(path.resolve().parent)
    # Registered while it loads, since dataclasses look their module up; its folder is on the path for its neighbours.
    sys.modules[name] = module
    sys.path.insert(0, folder)
    try:
        with _aside():
            specification.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise TaskError(
            f"it cannot be loaded ({type(error).__name__}: {error})",
            where=str(path),
            remedy="Run it with python to see.",
        ) from error
    finally:
        sys.path.remove(folder)
    return module


def _function(module: ModuleType, name: str, path: Path) -> Callable[..., Any]:
    function = getattr(module, name, None)
    if callable(function):
        return function  # type: ignore[no-any-return]
    known = [key for key, value in vars(module).items() if inspect.isfunction(value)]
    nearest = difflib.get_close_matches(name, known, n=1)
    raise TaskError(
        f"no function {name!r}",
        where=str(path),
        expected=f"one of {', '.join(known)}" if known else "a function",
        remedy=f"Did you mean {nearest[0]}?" if nearest else "",
    )


def _signature(function: Callable[..., Any], path: Path, name: str) -> inspect.Signature:
    try:
        return inspect.signature(function)
    except (ValueError, TypeError) as error:  # some functions written in C do not say
        raise TaskError(
            "a function without a readable signature",
            where=f"{path}, {name}",
            expected="(answer, expected) or (answer, expected, example)",
            remedy="Wrap it in a Python function.",
        ) from error


def _takes_example(function: Callable[..., Any], path: Path, name: str) -> bool:
    """Whether it takes the example too: a third argument that is required or is called `example`."""
    signature = _signature(function, path, name)
    positional = [p for p in signature.parameters.values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    third = positional[2] if len(positional) > 2 else None
    wants = third is not None and (third.default is third.empty or third.name == "example")
    try:
        signature.bind(*["answer", "expected", "example"][: 3 if wants else 2])
    except TypeError as error:
        raise TaskError(
            f"a function that takes {signature}",
            where=f"{path}, {name}",
            expected="(answer, expected) or (answer, expected, example)",
        ) from error
    return wants


def _aside() -> AbstractContextManager[Any]:
    """What the user's code prints goes to stderr: stdout belongs to the command, which may put a document there."""
    return redirect_stdout(sys.stderr)


def _shown(value: Any) -> str:
    """The value for an error, shortened; its type where it cannot be written, such as a number of 5,000 digits."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001  the user's own __repr__ may raise anything
        return f"a {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:79]}…"


def _as_score(value: Any) -> float | None:
    """The value as a score; None if it is not a bool or a real number from 0 to 1. numpy and torch scalars count."""
    plain: Any = value.item() if hasattr(value, "item") and getattr(value, "ndim", 0) == 0 else value
    if not isinstance(plain, Real):
        return None
    number: Any = plain  # numbers.Real has no order to mypy
    return float(number) if 0 <= number <= 1 else None
