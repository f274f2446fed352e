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
