"""Is the tuned model still needed, by the verdicts on the run's prompts with a new model or prompt? Pure: no model, no disk."""

from __future__ import annotations

from collections.abc import Sequence

from lastresort.evals.evidence import better
from lastresort.ladder import trains
from lastresort.report.recheck import ComparedWithWinner, RunWinner, SystemTried, Verdict
from lastresort.types import Outcome

ROUNDING = 1e-9


def compare(
    winner: Sequence[float],
    scores: Sequence[float],
    *,
    n_items: int,
    groups: Sequence[str] | None,
    binary: bool,
    confidence: float,
    seed: int,
) -> ComparedWithWinner | None:
    """Item by item: a test where both answered the whole test set, a description where one stopped.

    winner, scores: of the first items of the test set in its order. n_items: of all. groups: the label of each of all.
    None where no item was answered by both.
    """
    n = min(len(winner), len(scores))
    if not n:
        return None
    old, now = list(winner[:n]), list(scores[:n])
    if n < n_items:
        before, after = sum(old) / n, sum(now) / n
        return ComparedWithWinner(
            n=n,
            unit="item",
            whole=False,
            winner_score=before,
            score=after,
            difference=_rounded(after - before),
            confidence=confidence,
        )
    found = better(old, now, binary=binary, groups=groups, seed=seed, confidence=confidence)
    return ComparedWithWinner(
        n=found.n,
        unit="item" if groups is None else "group",
        whole=True,
        winner_score=_mean(old, groups),
        score=_mean(now, groups),
        difference=_rounded(found.difference),
        confidence=confidence,
        interval=found.interval,
        p_better=found.p,
        p_worse=better(now, old, binary=binary, groups=groups, seed=seed, confidence=confidence).p,
    )


def _mean(scores: Sequence[float], groups: Sequence[str] | None) -> float:
    """Of the items, or of the groups by their means."""
    if groups is None:
        return sum(scores) / len(scores)
    parts: dict[str, list[float]] = {}
    for score, group in zip(scores, groups, strict=True):
        parts.setdefault(group, []).append(score)
    return sum(sum(part) / len(part) for part in parts.values()) / len(parts)


def _rounded(difference: float) -> float:
    return 0.0 if abs(difference) < ROUNDING else difference


def overall(tried: Sequence[SystemTried]) -> tuple[Outcome, SystemTried]:
    """MET where one is, NOT_MET where all are; and the system that decides it."""
    best = max(tried, key=lambda one: one.test.score)
    met = next((one for one in tried if one.test.verdict == "MET"), None)
    if met is not None:
        return "MET", met
    undecided = [one for one in tried if one.test.verdict == "UNDECIDED"]
    if undecided:
        return "UNDECIDED", max(undecided, key=lambda one: one.test.score)
    return "NOT_MET", best


def verdict_of(outcome: Outcome, winner: RunWinner | None) -> tuple[Verdict, bool | None]:
    """With whether the answer is yes, None where it is open. A tuned model is needed as long as no prompt meets the bar; where none
    won, the question is whether what is new meets the bar.
    """
    if outcome == "UNDECIDED":
        return "CANNOT_TELL", None
    met = outcome == "MET"
    if winner is not None and trains(winner.rung):
        return ("NO_LONGER_NEEDED", False) if met else ("STILL_NEEDED", True)
    return ("MEETS_BAR", True) if met else ("BELOW_BAR", False)
