"""Every call that loads a model stands within the one border, and the border tells a library's faults from ours."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import lastresort
from lastresort.errors import DataError, TaskError
from lastresort.libraries import loading

SOURCE = Path(lastresort.__file__).parent
LOADERS = {"from_pretrained", "SentenceTransformer", "CrossEncoder"}
BORDERS = {"loading", "model_errors", "_tokenizer_loading"}


class PanicException(BaseException):
    """As libraries in Rust raise it."""


def _name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def _calls(tree: ast.AST, *, within: bool = False) -> list[tuple[int, bool]]:
    """Line of each loading call, and whether a border is around it."""
    found = []
    for node in ast.iter_child_nodes(tree):
        inside = within
        if isinstance(node, ast.With):
            opened = [item.context_expr.func for item in node.items if isinstance(item.context_expr, ast.Call)]
            inside = within or any(_name(one) in BORDERS for one in opened)
        if isinstance(node, ast.Call) and _name(node.func) in LOADERS:
            found.append((node.lineno, within))
        found += _calls(node, within=inside)
    return found


def test_every_loading_call_stands_within_the_border() -> None:
    found = {
        f"{path.relative_to(SOURCE)}:{line}": inside
        for path in sorted(SOURCE.rglob("*.py"))
        if any(loader in (text := path.read_text(encoding="utf-8")) for loader in LOADERS)
        for line, inside in _calls(ast.parse(text))
    }
    assert len(found) > 8
    assert [place for place, inside in found.items() if not inside] == []


@pytest.mark.parametrize(
    "error",
    [ValueError("x\ny"), RecursionError("x"), MemoryError("x"), OverflowError("x"), KeyError("x"), PanicException("x")],
)
def test_what_a_library_raises_becomes_one_sentence(error: BaseException, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught, loading(tmp_path, "a model", raised=DataError):
        raise error
    assert f"{tmp_path}: the model cannot be loaded ({type(error).__name__}: " in str(caught.value)
    assert "\n" not in str(caught.value)


def test_errors_of_ours_and_interrupts_pass(tmp_path: Path) -> None:
    for error in (TaskError("ours"), KeyboardInterrupt(), SystemExit(3)):
        with pytest.raises(type(error)) as caught, loading(tmp_path, "a model", raised=DataError):
            raise error
        assert caught.value is error
