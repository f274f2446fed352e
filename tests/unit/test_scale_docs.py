"""The figures of docs/scale.md on one GPU, eight GPUs and a thousand tasks are what plans give."""

from __future__ import annotations

from pathlib import Path

import pytest

import lastresort as lr
from lastresort.report.words.wording import duration as told

PAGE = (Path(__file__).parent.parent.parent / "docs" / "scale.md").read_text(encoding="utf-8")


def duration(seconds: float) -> str:
    return told(seconds).replace("\N{NO-BREAK SPACE}", " ")


def training(model: str, method: str, gpu: str) -> tuple[float, float]:
    """Seconds, and GiB on each card."""
    sharing = {"sharing": "ddp"} if gpu != "h100" else {}
    plan = lr.plan(
        model, method=method, gpu=gpu, rows=10_000, epochs=3, tokens=1024, mean_tokens=512, batch=8,
        target="all-linear", **sharing,
    ).document  # fmt: skip
    assert plan.time is not None
    return plan.time.seconds, plan.memory.per_card_bytes / 2**30


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("model", "method", "name"), [("llama-3-8b", "lora", "LoRA"), ("llama-3-70b", "qlora", "QLoRA")]
)
def test_times_and_memory(model: str, method: str, name: str) -> None:
    one, gib = training(model, method, "h100")
    eight, gib_of_eight = training(model, method, "8xh100")
    assert gib == gib_of_eight
    alone, together = duration(one), duration(eight)
    assert f"| {model}, {name} | {gib:.1f} | {alone} | {together} | 8 training runs in {alone} |" in PAGE
    race = {"llama-3-8b": "44 min for 8B", "llama-3-70b": "9 h 41 min for 70B"}[model]
    assert duration(1.5 * one).startswith(race.split(" for ")[0])
    assert race in PAGE


def test_a_thousand_trainings() -> None:
    one, _ = training("llama-3-8b", "lora", "h100")
    hours = 1000 * 1.5 * one / 3600
    assert (
        f"{hours:.0f} GPU-hours of training, ${3 * round(hours):,} at $3 an hour: {duration(hours / 64 * 3600)} on 64 GPUs"
        in PAGE
    )
    trained = 41_943_040  # of r 16 on all linear layers of the 8B, as the plan counts
    assert f"{4 * trained / 1e6:.0f} MB | {4 * trained / 1e6:.0f} GB" in PAGE
