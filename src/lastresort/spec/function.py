"""`FILE:FUNCTION`: a function in a Python file of the user's. It is looked up here without running the file."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

from lastresort.spec.paths import existing_path, relative_name
from lastresort.spec.values import ReadContext, describe, nearest, refuse

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
