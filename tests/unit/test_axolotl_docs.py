"""docs/neighbours.md names every key and every type of Axolotl's that the code knows. Run as a script it rewrites the tables."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from lastresort.interop.axolotl.keys import FILE, TRL
from lastresort.interop.axolotl.types import NOT_READ, names

PAGE = Path(__file__).parent.parent.parent / "docs" / "neighbours.md"
TEXT = PAGE.read_text(encoding="utf-8")
AXOLOTL = TEXT.split("## Axolotl\n", 1)[1].split("\n## ", 1)[0]
NAMED = set(re.findall(r"`([^`\n]+)`", AXOLOTL))


def table(head: str, groups: Mapping[str, Sequence[str]], of_trl: Mapping[str, Sequence[str]]) -> str:
    rows = {**groups, **{f"of `trl`: {why}": keys for why, keys in of_trl.items()}}
    lines = [f"| {why} | {', '.join(f'`{key}`' for key in keys)} |" for why, keys in rows.items()]
    return "\n".join((f"| {head} | keys |", "|---|---|", *lines))


TABLES = {
    "ignored": table("why", FILE.ignored, TRL.ignored),
    "without effect": table("what", FILE.no_effect, TRL.no_effect),
}


def block(name: str) -> re.Pattern[str]:
    return re.compile(rf"(<!-- {name}: [^>]*-->\n)(.*?)(\n<!-- end of {name} -->)", re.DOTALL)


@pytest.mark.parametrize("name", TABLES)
def test_the_tables_of_keys_are_those_of_the_code(name: str) -> None:
    found = block(name).search(TEXT)
    assert found is not None
    assert found[2] == TABLES[name], "run python tests/unit/test_axolotl_docs.py"


def test_every_key_is_named() -> None:
    assert set(FILE.known()) <= NAMED
    assert set(TRL.known()) <= NAMED


@pytest.mark.parametrize("family", ["sft", "pairs", "orpo", "labels"])
def test_every_type_is_named(family: str) -> None:
    for name in names(family):  # type: ignore[arg-type]
        base, _, rest = name.partition(".")
        shown = {base, f".{rest}"} if base in ("chatml", "llama3") and rest else {name}
        if ":" in name and not name.startswith("alpaca:"):
            shown = {name.partition(":")[0]}  # the styles are shown once, of alpaca
        if name in ("alpaca:instruct", "passthrough.default"):
            shown = {name.partition(":")[0].partition(".")[0]}
        assert shown <= NAMED


def test_every_type_that_is_refused_is_named() -> None:
    assert set(NOT_READ) <= NAMED


if __name__ == "__main__":
    for name, rows in TABLES.items():
        TEXT = block(name).sub(lambda found, rows=rows: f"{found[1]}{rows}{found[3]}", TEXT)  # type: ignore[misc]
    PAGE.write_text(TEXT, encoding="utf-8")
