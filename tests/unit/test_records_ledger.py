"""The ledger counts runs, not calls, and says in words what reuse means."""

from __future__ import annotations

from pathlib import Path

from lastresort.records.ledger import Ledger, item_hash, reuse_sentence
from lastresort.types import Example, Message


def test_counts_by_item_once_a_run(tmp_path: Path) -> None:
    with Ledger(tmp_path / "state" / "ledger.sqlite") as ledger:
        ledger.use(["a", "b"], run="t-1")
        ledger.use(["a", "b"], run="t-1")
        ledger.use(["b", "c"], run="t-2")
        assert ledger.uses(["a", "b", "c", "d"]) == {"a": 1, "b": 2, "c": 1, "d": 0}
        assert ledger.uses(["a", "b", "c", "d"], excluding_run="t-2") == {"a": 1, "b": 1, "c": 0, "d": 0}
    with Ledger(tmp_path / "state" / "ledger.sqlite") as again:
        assert again.uses(["b"]) == {"b": 2}


def test_summary(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        items = [f"item-{number}" for number in range(1200)]
        ledger.use(items, run="t-1")
        assert ledger.reuse_summary(items, "t-1").startswith("None of the 1,200 test items was used")
        assert ledger.reuse_summary(items, "t-2").startswith("All 1,200 test items were used by earlier runs, once.")
        ledger.use(items[:30], run="t-2")
        sentence = ledger.reuse_summary([*items[:40], "fresh"], "t-3")
        assert sentence.startswith("40 of 41 test items were used by earlier runs, up to 2 times.")
        assert "hold out fresh items" in sentence
    assert reuse_sentence([]) == "There is no test set."


def test_the_hash_is_of_the_question() -> None:
    def example(text: str, output: str, identity: str) -> Example:
        return Example(identity, (Message("user", text),), output)

    assert item_hash(example("q", "right", "1")) == item_hash(example("q", "corrected", "2"))
    assert item_hash(example("q", "right", "1")) != item_hash(example("other", "right", "1"))
