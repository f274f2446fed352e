"""Rewards of an exported training: rewards.py, whose functions have TRL's signature and return what `lastresort train` computes."""

from __future__ import annotations

import ast
import filecmp
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lastresort.records.atomic import disk_errors
from lastresort.spec.values import listed


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


FILE = "rewards.py"
_TAKEN = (FILE, "train.py", "prompts.py")  # by the scripts of TRL and Unsloth, and by Axolotl's prompts
INSTALL = "pip install SOURCE  # the folder of lastresort, whose functions the rewards are"
_HEAD = '''"""The rewards of this training in TRL's form: each takes prompts and completions as lists, and gives a list of numbers.

They are what `lastresort train` computes, so that lastresort has to be installed here (a process of its own runs a user's code).
"""

from pathlib import Path

from lastresort.interop.trl.rewards import reward_function

HERE = Path(__file__).resolve().parent
'''


def reward_files(document: dict[str, Any], folder: Path, *, functions: bool) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Copy the user's own files, name them so in the document, and write rewards.py; returns the names of its functions, and
    sentences on what the files need beside them.

    functions: False where nobody calls them, and only the files are wanted.
    """
    terms = [dict(term) for term in document.get("reward") or []]
    if not terms:
        return (), ()
    notes = tuple(dict.fromkeys(note for term in terms if "python" in term for note in _needs(term["python"])))
    document["reward"] = terms
    named, lines = [], [_HEAD]
    kept = {"on_error": document.get("on_error", "stop"), "limits": document.get("limits") or {}}
    for number, term in enumerate(terms, 1):
        scorer = {key: value for key, value in term.items() if key != "weight"}
        kind = next(iter(scorer))
        if kind == "python":
            scorer = {"python": _copied(scorer["python"], folder)}
            term["python"] = scorer["python"]
        name = f"{kind}_{number}"
        named.append(name)
        lines.append(f"{name} = reward_function({scorer!r}, HERE, {kept!r}, name={name!r})\n")
    if not functions:
        return (), notes
    with disk_errors(folder):
        (folder / FILE).write_text("".join(lines), encoding="utf-8")
    return tuple(named), notes


def _needs(value: Any) -> list[str]:
    file = _file_of(value)
    beside = imported_beside(file)
    if not beside:
        return []
    return [
        f"{file.name} imports {listed(beside)} from beside it, which is not copied: copy that into this folder too."
    ]


def _file_of(value: Any) -> Path:
    return Path(str(value if isinstance(value, str) else value["function"]).rpartition(":")[0])


def _free_name(source: Path, folder: Path) -> str:
    """Its own, unless an export writes a file of this name, or another file was copied under it."""
    name, number = source.name if source.name not in _TAKEN else f"own_{source.name}", 1
    while (folder / name).exists() and not filecmp.cmp(source, folder / name, shallow=False):
        number += 1
        name = f"{source.stem}_{number}{source.suffix}"
    return name


def _copied(value: Any, folder: Path) -> Any:
    """The function of a copy beside, whose name is free."""
    reference = value if isinstance(value, str) else value["function"]
    function, source = str(reference).rpartition(":")[2], _file_of(value)
    name = _free_name(source, folder)
    with disk_errors(folder):
        shutil.copyfile(source, folder / name)
    named = f"{name}:{function}"
    return named if isinstance(value, str) else {**value, "function": named}
