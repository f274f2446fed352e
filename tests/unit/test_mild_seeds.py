"""The script behind the table of mild tunings: a seed that is done is not done again, and the page shows what was found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import mild_seeds
from mild_seeds import HEAD, done, row, run, sentence, write_page

DIFFERENCES = (0.0, -0.0125, None, -0.025)
VERDICTS = ("NON_INFERIOR", "UNDERPOWERED", "UNINFORMATIVE", "REGRESSED")


def found(seed: int, verdict: str = "HOLD") -> dict[str, Any]:
    suites = [
        {"name": name, "verdict": told, "difference": difference}
        for name, told, difference in zip(mild_seeds.MEASURES, VERDICTS, DIFFERENCES, strict=True)
    ]
    return {"seed": seed, "items": 0, "verdict": verdict, "target": {"plain": 0.0, "tuned": 0.41}, "suites": suites}


def test_a_run_that_was_cut_goes_on_with_the_next_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def one_seed(out: Path, seed: int) -> dict[str, Any]:
        asked.append(seed)
        if len(asked) == 3:
            raise KeyboardInterrupt
        return found(seed)

    monkeypatch.setattr(mild_seeds, "one_seed", one_seed)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, 4)
    assert done(tmp_path) == [found(0), found(1)]
    run(tmp_path, 4)
    assert asked == [0, 1, 2, 2, 3]
    assert done(tmp_path) == [found(seed) for seed in range(4)]


def test_the_page_shows_each_seed_and_counts_the_verdicts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "gate.md"
    page.write_text("Before.\n<!-- mild tunings: written by a script -->\nold\n<!-- end of mild tunings -->\nAfter.\n")
    monkeypatch.setattr(mild_seeds, "PAGE", page)
    lines = [found(3), found(4, "REJECT"), found(5, "SHIP")]
    write_page(json.loads(json.dumps(lines)))
    text = page.read_text(encoding="utf-8")
    assert sentence(lines) == "3 seeds: 1 SHIP, 1 HOLD, 1 REJECT."
    assert row(lines[0]) == ("3", "0", "0% → 41%", "+0.0", "-1.2 ?", "○", "-2.5 ×", "HOLD")
    assert len(HEAD) == len(row(lines[0]))
    assert "| 4 | 0 | 0% → 41% | +0.0 | -1.2 ? | ○ | -2.5 × | REJECT |" in text
    assert (text[:7], text[-7:]) == ("Before.", "After.\n")
    assert "old" not in text
