"""A comparison as a decision holds it, with invented numbers: one way loses, one is kept, one is open, one could not be had."""

from __future__ import annotations

from typing import Any

from lastresort.records.decision_parts import ComparedWay

SPENT = {"memory_bytes": 2_340_000_000, "seconds": 184.2, "tokens_per_s": 812.4}
ANSWERED = {"memory_bytes": 1_120_000_000, "seconds": 41.0, "tokens_per_s": 95.0}
COST = {"tokens_in": 21_300, "tokens_out": 8_100, "seconds": 675.6, "usd": 0.0}


def entry(way: str, score: float | None, difference: float | None = None, **keys: Any) -> dict[str, Any]:
    """interval, verdict, said and what else is given."""
    made = way in ("merged", "nf4")
    return {
        "way": way,
        "made_of": "lora" if made else None,
        "learning_rate": None if made else 0.0003,
        "epoch": 3,
        "score": score,
        "n": 300,
        "difference": difference,
        "interval": None,
        "alpha": 0.05,
        "margin": 0.03,
        "verdict": None,
        "seed_sd": None if difference is None else 0.004,
        "seeds": [{"seed": seed, "score": score, "difference": difference, "failed": None} for seed in (1, 2, 3)],
        "training": None if made else SPENT,
        "answering": ANSWERED,
        "cost": COST,
        "said": f"{way} was tried.",
        **keys,
    }


def compared_ways(
    said: str = "QLoRA costs 4.0 points (3.3 to 4.7) against LoRA on this task; more.",
) -> list[dict[str, Any]]:
    failed = [{"seed": seed, "score": None, "difference": None, "failed": "it diverged"} for seed in (1, 2, 3)]
    return [
        entry("lora", 0.93, said="LoRA scores 93% on the test set, the mean of 3 seeds."),
        entry("qlora", 0.89, -0.04, interval=[-0.047, -0.033], verdict="REGRESSED", said=said),
        entry("merged", 0.931, 0.001, interval=[-0.002, 0.004], verdict="NON_INFERIOR"),
        entry("nf4", 0.92, -0.01, interval=[-0.06, 0.04], verdict="UNDERPOWERED"),
        entry("full", None, learning_rate=None, seeds=failed, training=None, answering=None),
    ]


def typed_ways(ways: list[dict[str, Any]] | None = None) -> list[ComparedWay]:
    return [ComparedWay.model_validate(way) for way in ways or compared_ways()]
