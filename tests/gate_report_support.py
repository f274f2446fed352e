"""A gate's findings as a decision holds them, with invented numbers."""

from __future__ import annotations

from typing import Any

from report_support import HOSTILE

NOTHING_SAID = {"kind": "nothing_said", "among": "pilot"}

HELD = "it needs more items for general; this base model has nothing to lose in yielding"


def gate_found(verdict: str = "HOLD") -> dict[str, Any]:
    """Of sft: the target won, general is open (or lost, or kept), sycophancy says nothing, format leak is kept."""
    general = {"HOLD": "UNDERPOWERED", "REJECT": "REGRESSED", "SHIP": "NON_INFERIOR"}[verdict]
    parts = [
        {"name": "letters/2", "base": 0.7, "tuned": 0.6, "n": 90},
        {"name": "dates/1", "base": 0.5, "tuned": 0.5, "n": 70},
    ]
    suites = [
        measure(
            "general",
            general,
            0.61,
            0.57,
            [-0.07, -0.01],
            n=400,
            n_needed=1100 if verdict == "HOLD" else None,
            strata=parts,
        ),
        measure("yielding", "UNINFORMATIVE", None, None, None, suite="sycophancy", n=0),
        measure("leaking", "NON_INFERIOR", 0.99, 0.995, [-0.004, 0.014], suite="format_leak", n=160),
    ]
    suites[0]["changed"] = [changed(1.0, 0.0, HOSTILE), changed(0.0, 1.0, '{"team": "billing"}')]
    sentences = {"HOLD": f"Hold: {HELD}.", "SHIP": "Ship: nothing got worse."}
    return {
        "rung": "sft",
        "system": "lr0.0003-epoch3",
        "mode": "quick",
        "seed": 0,
        "artefact_sha256": "3c" * 32,
        "alpha": 0.05,
        "power": 0.9,
        "verdict": verdict,
        "reasons": [
            sentences.get(verdict, "Reject: the tuned model lost more than is accepted in general."),
            "general: 61.0% before, 57.0% after, on 400 items; about 1,100 items would decide.",
        ],
        "would_decide": ["general: about 1,100 items would decide it; 400 were used."] if verdict == "HOLD" else [],
        "target": TARGET,
        "suites": suites,
        "failure_modes": [
            {
                "name": "forgetting",
                "suite": "general",
                "parts": [part("letters", 0.7, 0.6, 90), part("dates", 0.5, 0.5, 70)],
            },
            {"name": "sycophancy", "suite": "sycophancy", "parts": []},
            {"name": "format_overfitting", "suite": "format_leak", "parts": [part("off task", 0.99, 0.9, 160)]},
        ],
        "forecast": {"items": 1120, "seconds": 95.0, "expected_items": 560, "expected_seconds": 47.5},
        "spent": {"seconds": 88.5, "asked_now": 1120, "tokens_in": 70123, "tokens_out": 1230},
        "fingerprints": {"base": "1a" * 32, "tuned": "2b" * 32},
    }


TARGET = {
    "passed": True,
    "outcome": "MET",
    "score": 0.933,
    "n": 180,
    "n_needed": None,
    "comparator": "prompting (nearest-5+constrained)",
    "comparator_score": 0.61,
    "tuned_score": 0.92,
    "n_compared": 300,
    "gain": 0.31,
    "interval": [0.26, 0.36],
    "p_better": 1e-20,
    "better": True,
    "non_inferior": None,
    "margin": 0.02,
    "cheaper": None,
    "by": "better",
    "unit": "item",
    "reason": "The tuned system is shown to meet the bar.",
}


def measure(
    name: str,
    verdict: str,
    base: float | None,
    tuned: float | None,
    interval: list[float] | None,
    *,
    n: int,
    suite: str = "general",
    n_needed: int | None = None,
    strata: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    difference = None if base is None or tuned is None else round(tuned - base, 6)
    return {
        "name": name,
        "suite": suite,
        "base": base,
        "tuned": tuned,
        "difference": difference,
        "interval": interval,
        "margin": 0.03,
        "verdict": verdict,
        "n": n,
        "n_needed": n_needed,
        "p": None if base is None else 0.2,
        "p_regressed": None if base is None else 0.4,
        "loss_seen": False,
        "spread": None if base is None else 0.1,
        "binary": True,
        "unit": "item",
        "strata": strata or [],
        "why": [NOTHING_SAID] if verdict == "UNINFORMATIVE" else [],
        "reason": f"{name}: {verdict}.",
        "asked": {"version": 1, "items": n or 160, "left_out": 0, "passed_over": 0, "pilot_items": 48},
        "changed": [],
    }


def part(name: str, base: float, tuned: float, n: int) -> dict[str, Any]:
    example = {
        "id": f"{name}/1/0/0",
        "turns": [{"role": "user", "content": HOSTILE}],
        "options": ["three", "<b>two</b>"],
    }
    return {
        "name": name,
        "subject": name,
        "constraint": False,
        "base": base,
        "tuned": tuned,
        "n": n,
        "example": example,
    }


def changed(base_score: float, tuned_score: float, tuned: str) -> dict[str, Any]:
    return {
        "id": "letters/2/0/17",
        "stratum": "letters",
        "asked": f"How many r are in strawberry? {HOSTILE}",
        "question": "answer",
        "base": "three",
        "tuned": tuned,
        "base_score": base_score,
        "tuned_score": tuned_score,
        "detail": "right is three",
    }


def gated(decision: dict[str, Any], verdict: str = "HOLD") -> dict[str, Any]:
    """The decision of a climb whose rung sft was gated, in place."""
    decision["gate"] = gate_found(verdict)
    next(rung for rung in decision["rungs"] if rung["name"] == "sft")["gate"] = verdict
    decision["winner"]["held"] = verdict == "HOLD"
    return decision
