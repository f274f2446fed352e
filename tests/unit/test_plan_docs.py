"""The figures in docs/plan.md are those that the plan computes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from lastresort.hardware.cards import GIB, Card, cards_named
from lastresort.hardware.find import shape_named
from lastresort.hardware.plan.fit import fit
from lastresort.hardware.plan.memory import training_memory
from lastresort.hardware.plan.setup import Cards, Setup

PAGE = (Path(__file__).parent.parent.parent / "docs" / "plan.md").read_text(encoding="utf-8")
ROOMY = Cards(Card("roomy", 10_000 * GIB))


def table(marker: str) -> list[list[str]]:
    """The cells of the table that follows the marker, without its head."""
    lines = PAGE[PAGE.index(marker) :].split("\n\n")[0].splitlines()[3:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def total(model: str, method: Any, **settings: Any) -> int:
    return training_memory(shape_named(model), Setup(method, **settings), ROOMY).total_bytes


def test_the_table_of_figures_is_computed() -> None:
    rows = table("<!-- figures")
    assert len(rows) == 5
    for model, method, *figures, cards in rows:
        found = [f"{total(model, method, row_tokens=tokens) / GIB:.1f}" for tokens in (512, 1024, 2048)]
        assert found == figures, f"{model} {method}"
        setup: Any = Setup(method)  # type: ignore[arg-type]
        for name in cards.split(", "):
            count, card = cards_named(name)
            assert fit(shape_named(model), setup, Cards(card, count, "fsdp")).fits, f"{model} on {name}"


def test_the_row_beside_the_other_frameworks_is_computed() -> None:
    row = next(line for line in PAGE.splitlines() if line.startswith("| this plan |"))
    cells = [cell.strip() for cell in row.strip("|").split("|")][1:]
    models = [
        "mistral-7b",
        "llama-3-8b",
        "qwen2.5-14b",
        "llama-3-70b",
        "mistral-7b",
        "llama-3-8b",
        "llama-3-70b",
        "mistral-7b",
    ]
    methods = ["qlora"] * 4 + ["lora"] * 3 + ["full"]
    for model, method, cell in zip(models, methods, cells, strict=True):
        low, high = (float(number) for number in cell.split("–"))
        found = (total(model, method, row_tokens=512), total(model, method, row_tokens=2048, target="all-linear"))
        digits = 0 if high > 100 else 1
        assert [round(size / 1e9, digits) for size in found] == [low, high], f"{model} {method}"


def test_what_the_text_says_of_70b_and_of_a_job_is_computed() -> None:
    from lastresort.hardware.cards import known_cards
    from lastresort.hardware.plan.time import TrainingWork, training_time, usd

    share = re.search(r"weights alone are (\d+)% of it", PAGE)
    assert share is not None
    weights = training_memory(shape_named("llama-3-70b"), Setup("qlora"), ROOMY).of("weights")
    assert round(100 * weights / known_cards()["l40s"].memory_bytes) == int(share[1])
    told = re.search(r"come to about (\d+) USD on an A100 for ([\d.]+) USD", PAGE)
    assert told is not None
    a100 = Cards(known_cards()["a100-80"])
    seconds = training_time(shape_named("mistral-7b"), Setup("qlora"), a100, TrainingWork(10_000, 1024, 3)).seconds
    assert round(usd(seconds, a100, float(told[2])) or 0) == int(told[1])
