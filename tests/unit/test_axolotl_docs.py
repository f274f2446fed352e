"""docs/neighbours.md names every key and every type of Axolotl's that the code knows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lastresort.interop.axolotl.keys import TRL_HONOURED, TRL_IGNORED, TRL_OWN, known
from lastresort.interop.axolotl.types import NOT_READ, names

TEXT = (Path(__file__).parent.parent.parent / "docs" / "neighbours.md").read_text(encoding="utf-8")
AXOLOTL = TEXT.split("## Axolotl\n", 1)[1].split("\n## ", 1)[0]
NAMED = set(re.findall(r"`([^`\n]+)`", AXOLOTL))


def test_every_key_is_named() -> None:
    assert set(known()) <= NAMED
    assert {*TRL_HONOURED, *TRL_OWN, *TRL_IGNORED} <= NAMED


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
