"""Files of others are opened and parsed by `lastresort.foreign` alone in the folders that read tasks, data and documents."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SRC = Path(__file__).parents[2] / "src" / "lastresort"
FOLDERS = ("data", "evals", "gate", "hardware", "knowledge", "spec")
PARSING = {
    "json.load",
    "json.loads",
    "yaml.load",
    "yaml.safe_load",
    "yaml.compose",
    "gzip.open",
    "gzip.decompress",
    "os.open",
    "io.open",
}
READING = {"read_text", "read_bytes"}  # of any path
ALLOWED = {
    "data/answer_schema.py": "reads again the schema that it wrote itself",
    "data/patterns.py": "reads what its own process answers",
    "data/template_limits.py": "reads what the system says of itself",
    "data/wording.py": "reads a file of the package",
    "evals/user_code/child.py": "reads what its own parent asks, and what the system says of itself",
    "evals/user_code/process.py": "reads what its own process answers",
    "gate/lm_eval/asking.py": "reads the source of an installed package",
    "gate/sides.py": "reads the settings of an adapter",
    "hardware/cards.py": "reads a file of the package",
    "hardware/environment.py": "reads what the system says of itself",
    "hardware/find.py": "reads a file of the package, and the configuration of a model",
    "hardware/memory.py": "reads what the system says of itself",
    "knowledge/sentence_models.py": "reads the weights of a model",
    "spec/document.py": "has the YAML of task files, which it reads from text that `foreign` opened",
}


def read_here(tree: ast.Module) -> set[str]:
    """The calls that open or parse a file without `foreign`."""
    found = set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = node.func
        if isinstance(called, ast.Name) and called.id == "open":
            found.add("open")
        elif isinstance(called, ast.Attribute):
            owner = called.value.id if isinstance(called.value, ast.Name) else ""
            if f"{owner}.{called.attr}" in PARSING or (called.attr in READING and owner != "foreign"):
                found.add(called.attr)
            elif called.attr == "open" and _mode(node).startswith("r"):
                found.add("open")
    return found


def _mode(call: ast.Call) -> str:
    first = call.args[0] if call.args else None
    return first.value if isinstance(first, ast.Constant) and isinstance(first.value, str) else ""


@pytest.mark.parametrize("folder", FOLDERS)
def test_nothing_else_opens_and_parses_files(folder: str) -> None:
    elsewhere = {
        path.relative_to(SRC).as_posix(): calls
        for path in sorted((SRC / folder).rglob("*.py"))
        if (calls := read_here(ast.parse(path.read_text("utf-8"))))
    }
    assert {name: calls for name, calls in elsewhere.items() if name not in ALLOWED} == {}


@pytest.mark.parametrize(
    "line", ["json.loads(a)", "yaml.safe_load(a)", "path.read_text()", "a.b.read_bytes()", "open(a)", 'path.open("rb")']
)
def test_such_a_line_is_noticed(line: str) -> None:
    assert read_here(ast.parse(line))


@pytest.mark.parametrize("line", ["read_text(path)", "model.open()", 'path.open("w")', "json.dumps(a)"])
def test_other_lines_are_not(line: str) -> None:
    assert not read_here(ast.parse(line))
