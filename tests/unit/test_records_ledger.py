"""The ledger counts runs, not calls, and says in words what reuse means."""

from __future__ import annotations

from pathlib import Path

import pytest

from lastresort.records.ledger import ItemReuse, Ledger, item_hash, reuse_of
from lastresort.report.words.data import of_reuse
from lastresort.types import Example, Message


def test_counts_by_item_once_a_run(tmp_path: Path) -> None:
    with Ledger(tmp_path / "state" / "ledger.sqlite") as ledger:
        ledger.use(["a", "b"], run="t-1")
        ledger.use(["a", "b"], run="t-1")
        ledger.use(["b", "c"], run="t-2")
        assert ledger.uses(["a", "b", "c", "d"]) == {"a": 1, "b": 2, "c": 1, "d": 0}
        assert ledger.uses(["a", "b", "c", "d"], "t-2") == {"a": 1, "b": 1, "c": 0, "d": 0}
    with Ledger(tmp_path / "state" / "ledger.sqlite") as again:
        assert again.uses(["b"]) == {"b": 2}


def test_reuse_of_test_items(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        items = [f"item-{number}" for number in range(1200)]
        ledger.use(items, run="t-1")
        assert ledger.reuse(items, "t-1") == ItemReuse(1200, 0, 0)
        assert ledger.reuse(items, "t-2") == ItemReuse(1200, 1200, 1)
        ledger.use(items[:30], run="t-2")
        assert ledger.reuse([*items[:40], "fresh"], "t-3") == ItemReuse(41, 40, 2)


@pytest.mark.parametrize(
    ("uses", "words"),
    [
        ([], "There is no test set."),
        ([0] * 1200, "None of the 1,200 test items was used by an earlier run in this workspace."),
        ([1] * 1200, "All 1,200 test items have already been used in an earlier run. Whatever was changed"),
        (
            [2, 0, 1],
            "2 of 3 test items have already been used in earlier runs, up to 2 times each. Whatever was changed",
        ),
    ],
)
def test_reuse_in_words(uses: list[int], words: str) -> None:
    found = of_reuse(reuse_of(uses))
    assert found.text.startswith(words)
    assert ("hold out fresh items" in found.text) == (found.used > 0)


def test_the_hash_is_of_the_question() -> None:
    def example(text: str, output: str, identity: str) -> Example:
        return Example(identity, (Message("user", text),), output)

    assert item_hash(example("q", "right", "1")) == item_hash(example("q", "corrected", "2"))
    assert item_hash(example("q", "right", "1")) != item_hash(example("other", "right", "1"))
