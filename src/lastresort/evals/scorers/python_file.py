"""The scorer that the user wrote: FILE:FUNCTION. It runs in a process of its own."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lastresort.errors import DataError, TaskError
from lastresort.evals.scorers.scorer import AnswerForm
from lastresort.evals.user_code.process import CallFault, CodeLimits, UserFunction, limits_in
from lastresort.foreign import read_content
from lastresort.types import Example, JsonObject

_KEY = 'task file, key "score.python"'
# A call is one answer, whose code may be run and tested; the function may load a model of its own, such as one for similarity.
LIMITS = CodeLimits(time_s=20.0, memory_bytes=8 << 30)


class PythonFunction:
    """Calls function(answer, expected) or function(answer, expected, example): a bool, or a number from 0 to 1.

    binary, in this order: the parameter `binary` of the task file; the attribute `binary` of the function; True if it
    is annotated `-> bool`; else False, which is valid for 0/1 scores too and only needs more items. The user's code may
    do anything, and what is not a score becomes a DataError. Nothing of it runs before it is first called, or `binary` is read.
    """

    name = "python"

    def __init__(self, file: Path, function: str, limits: CodeLimits = LIMITS, *, binary: bool | None = None) -> None:
        self._file, self._name, self._binary = file, function, binary
        self._function = UserFunction(file, function, "score", limits)

    @property
    def binary(self) -> bool:
        return self._binary if self._binary is not None else self._function.manner["binary"] is True

    @property
    def binary_as_written(self) -> bool:
        """`binary` as the text of the file shows it, of which nothing runs. False where the text does not show it."""
        return self._binary if self._binary is not None else _binary_in(self._file, self._name)

    def without_running(self) -> PythonFunction:
        """This scorer, whose `binary` is as its file says, for what only forecasts."""
        return PythonFunction(self._file, self._name, binary=self.binary_as_written)

    def open(self) -> None:
        """Raises TaskError where it cannot be loaded, or takes other arguments."""
        self._function.manner  # noqa: B018  read for what it raises

    def __call__(self, answer: str, example: Example) -> float:
        row: JsonObject = {"answer": answer, "expected": example.output}
        if self._function.manner["takes_example"]:
            row["example"] = asdict(example)
        values = self._function.call([row])
        if isinstance(values, CallFault):
            expected = "an answer scored within it" if values.key else ""
            raise self._fault(example, values.text, expected, values.or_raise)
        [score] = values
        if isinstance(score, str):
            raise self._fault(example, f"returned {score}", "True, False, or a number from 0 to 1")
        if self.binary and score not in (0.0, 1.0):
            raise self._fault(example, f"returned {score} though it is declared binary", "0 or 1")
        return score

    def _fault(self, example: Example, found: str, expected: str = "", or_raise: str = "") -> DataError:
        remedy = f"Correct the function, or {or_raise}" if or_raise else "Correct the function"
        where = f"{self._file}, {self._name}(), example {example.id}"
        return DataError(found, where=where, expected=expected, remedy=f"{remedy}; scores are never guessed.")


def python(parameters: Mapping[str, Any], output: AnswerForm) -> PythonFunction:
    """The function, of which nothing runs yet. Raises TaskError where its file is not there.

    parameters: file and function, or function alone as FILE:FUNCTION; and, if wanted, binary and limits.
    """
    name = parameters.get("function")
    file = parameters.get("file")
    if file is None and isinstance(name, str):
        file, _, name = name.rpartition(":")
    if not file or not isinstance(name, str) or not name:
        found = repr(parameters.get("function"))
        raise TaskError(found, where=_KEY, expected="FILE:FUNCTION, such as metrics.py:score")
    path, binary = Path(file), parameters.get("binary")
    if not path.is_file():
        raise TaskError(
            f"no such file: {path}",
            where=_KEY,
            expected="a Python file",
            remedy="Correct the path.",
        )
    if binary is not None and not isinstance(binary, bool):
        raise TaskError(f"binary = {binary!r}", where=f"{path}, {name}", expected="true or false")
    return PythonFunction(path, name, limits_in(parameters, LIMITS), binary=binary)


def _binary_in(file: Path, name: str) -> bool:
    """The last word of the file's top level on the function's attribute or, without one, its annotation."""
    attribute, annotation = None, ""
    for node in ast.parse(read_content(file, raised=TaskError)).body:
        match node:
            case ast.FunctionDef(name=defined, returns=returns) if defined == name:
                attribute, annotation = None, "" if returns is None else ast.unparse(returns)
            case ast.Assign(targets=[target], value=ast.Constant(value=value)):
                attribute = value if ast.unparse(target) == f"{name}.binary" else attribute
    return annotation in ("bool", "'bool'") if attribute is None else attribute is True
