"""The response cache gives back what was stored; the first answer to a key stays."""

from __future__ import annotations

from pathlib import Path

import pytest

from lastresort.records.responses import ResponseCache


def test_get_and_put(tmp_path: Path) -> None:
    with ResponseCache(tmp_path / "cache" / "responses.sqlite") as cache:
        assert cache.get_many([]) == {}
        cache.put_many({f"k{number}": {"text": f"ä{number}"} for number in range(1100)})
        cache.put_many({"k1": {"text": "other"}, "new": {"text": "x", "usd": 0.1}})
        assert cache.get_many(["k1", "new", "unknown"]) == {"k1": {"text": "ä1"}, "new": {"text": "x", "usd": 0.1}}
        assert len(cache.get_many(f"k{number}" for number in range(1100))) == 1100
    with ResponseCache(tmp_path / "cache" / "responses.sqlite") as again:
        assert again.get_many(["k7"]) == {"k7": {"text": "ä7"}}


def test_forgetting_says_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with ResponseCache(tmp_path / "r.sqlite") as cache:
        cache.put_many({"a": {"text": "A"}, "b": {"text": "B"}})
        cache.forget_many(["a", "c"])
        assert set(cache.get_many(["a", "b"])) == {"b"}
    assert not caplog.records
