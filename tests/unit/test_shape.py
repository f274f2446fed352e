"""The shape of the source as a whole: what no single file can show."""

import ast
from collections import defaultdict
from pathlib import Path

import lastresort

SOURCE = Path(lastresort.__file__).parent


def test_no_two_public_classes_share_a_name() -> None:
    """A name that is searched for leads to one class."""
    places: dict[str, list[str]] = defaultdict(list)
    for path in SOURCE.rglob("*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(str(path.relative_to(SOURCE)))
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


def _sources() -> dict[str, str]:
    return {str(path.relative_to(SOURCE)): path.read_text(encoding="utf-8") for path in SOURCE.rglob("*.py")}


def test_the_source_stays_within_its_shape() -> None:
    """How many files there are, how long the command line is, and how often a value has no type but that of foreign JSON."""
    texts = _sources()
    assert len(texts) <= 605
    assert sum(text.count("\n") for name, text in texts.items() if name.startswith("cli/")) < 1640
    assert sum(text.count("dict[str, Any]") for text in texts.values()) <= 150
    assert (
        sum(line.startswith(("from lastresort", "import lastresort")) for line in texts["climb/loop.py"].splitlines())
        <= 20
    )
