"""What a user's reward file imports of the files beside it, which an export does not copy."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path


def imported_beside(file: Path) -> tuple[str, ...]:
    """Names of the modules and folders beside the file that it imports, wherever in it; () for one that cannot be read."""
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return ()
    names = (name.partition(".")[0] for name in _imported(tree))
    return tuple(dict.fromkeys(name for name in names if _stands_in(file.parent, name)))


def _imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (one.name for one in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from [node.module] if node.module else [one.name for one in node.names]


def _stands_in(folder: Path, name: str) -> bool:
    return (folder / f"{name}.py").is_file() or any((folder / name).glob("*.py"))
