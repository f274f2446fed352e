"""Verdicts on the run's prompts with a new model or prompt -> is the tuned model still needed? Pure: no model, no disk.

Two systems on the frozen test set, item by item: a test where both answered all of it, a description where one stopped. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lastresort.evals.evidence import better
from lastresort.records.measurement import BarTest
from lastresort.report.recheck import ComparedWithWinner, Verdict
from lastresort.report.words.wording import how_decided, spaced
from lastresort.report.words.wording import round_percent as percent
from lastresort.types import Judgement, Outcome

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
    """winner, scores: of the first items of the test set in its order. n_items: of all. groups: the label of each of all.

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
    before = _mean(old, groups)
    return ComparedWithWinner(
        n=found.n,
        unit="item" if groups is None else "group",
        whole=True,
        winner_score=before,
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


@dataclass(frozen=True, slots=True)
class RetriedPrompt:
    """A prompt of the run, by the rung that chose it, with what is new. compared: None where the run has no winner."""

    rung: str
    name: str
    judgement: Judgement
    compared: ComparedWithWinner | None = None


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """What the run decided. winner: its rung, None without one. shown: whether the winner was shown to meet the bar."""

    winner: str | None
    name: str
    tuned: bool
    shown: bool


@dataclass(frozen=True, slots=True)
class RecheckAnswer:
    """yes: whether the answer is yes, None where it cannot be told. It answers: is the tuned model still needed? Of a run that
    no tuned model won: does what is new meet the bar?
    """

    verdict: Verdict
    yes: bool | None
    answer: str
    reasons: tuple[str, ...]


def answer(new: str, bar: float, before: RunOutcome, tried: Sequence[RetriedPrompt]) -> RecheckAnswer:
    """new: what is new, as the subject of a sentence ("openai:large prompted"). Raises ValueError where nothing was tried."""
    if not tried:
        raise ValueError("a recheck tries at least one system")
    outcome, decisive = _overall(tried)
    verdict, yes = _verdict(outcome, before)
    reasons = [_tested(one, bar) for one in tried]
    reasons += [_against_winner(one, before) for one in tried if one.compared is not None]
    if before.tuned and not before.shown:
        reasons.append(f"The run itself did not show that the tuned model ({before.name}) meets the bar.")
    return RecheckAnswer(verdict, yes, _sentence(new, bar, before, outcome, decisive), tuple(reasons))


def _overall(tried: Sequence[RetriedPrompt]) -> tuple[Outcome, RetriedPrompt]:
    """MET where one is, NOT_MET where all are; and the system that the answer speaks of."""
    best = max(tried, key=lambda one: one.judgement.score)
    met = next((one for one in tried if one.judgement.outcome == "MET"), None)
    if met is not None:
        return "MET", met
    open_ones = [one for one in tried if one.judgement.outcome == "UNDECIDED"]
    if open_ones:
        return "UNDECIDED", max(open_ones, key=lambda one: one.judgement.score)
    return "NOT_MET", best


def _verdict(outcome: Outcome, before: RunOutcome) -> tuple[Verdict, bool | None]:
    """A tuned model is needed while no prompt meets the bar."""
    if outcome == "UNDECIDED":
        return "CANNOT_TELL", None
    met = outcome == "MET"
    if before.tuned:
        return ("NO_LONGER_NEEDED", False) if met else ("STILL_NEEDED", True)
    return ("MEETS_BAR", True) if met else ("BELOW_BAR", False)


def _sentence(new: str, bar: float, before: RunOutcome, outcome: Outcome, one: RetriedPrompt) -> str:
    found, told_bar = one.judgement, percent(bar)
    scored = f"{one.name} scored {percent(found.score)}"
    if outcome == "UNDECIDED":
        return f"Cannot tell: {new} is undecided against the bar of {told_bar} ({scored}); {_settle(found)}."
    if before.tuned:
        if outcome == "MET":
            return (
                f"No, the tuned model is no longer needed: {new} meets the bar of {told_bar} ({scored}){_margin(one)}."
            )
        return f"Yes, the tuned model is still needed: {new} stays below the bar of {told_bar} ({scored})."
    if before.winner is None:
        told = "now meets" if outcome == "MET" else "does not reach"
        return f"{_yes(outcome)}, {new} {told} the bar of {told_bar}, which no rung of the run was shown to reach ({scored})."
    told = "meets the bar, too" if outcome == "MET" else "does not meet the bar"
    return f"{_yes(outcome)}, {new} {told} ({scored} against {told_bar}); the run needed no tuned model."


def _yes(outcome: Outcome) -> str:
    return "Yes" if outcome == "MET" else "No"


def _margin(one: RetriedPrompt) -> str:
    """What dropping the tuned model would cost in score, where that is shown."""
    found = one.compared
    if found is None or found.p_worse is None or found.p_worse > (1 - found.confidence) / 2:
        return ""
    return f", though the tuned model is better still by {_points(-found.difference)}"


def _settle(found: Judgement) -> str:
    if found.n_needed is None:
        return f"how many test {found.unit}s would settle it cannot be told, so close is it to the bar"
    return f"about {found.n_needed:,} test {found.unit}s would settle it, and there are {found.n_available:,}"


def _tested(one: RetriedPrompt, bar: float) -> str:
    found = one.judgement
    low, high = found.interval
    told = (
        f"{one.rung}: {one.name} scored {percent(found.score)} on {found.n_used} of {found.n_available} test {found.unit}s "
        f"(interval {percent(low)} to {percent(high)})"
    )
    if found.outcome == "UNDECIDED":
        return f"{told}: undecided; {_settle(found)}."
    how = spaced(how_decided(BarTest.of(found).as_json(), bar))
    return f"{told}: the bar of {percent(bar)} is {'met' if found.outcome == 'MET' else 'not met'}; {how}."


def _against_winner(one: RetriedPrompt, before: RunOutcome) -> str:
    found = one.compared
    assert found is not None
    side = "more" if found.difference > 0 else "less"
    told = f"{percent(found.score)} against {percent(found.winner_score)} of {before.name}"
    if found.interval is None:
        return (
            f"{one.name} on the {found.n} test {found.unit}s that both answered: {told} (a description, not a test: each stopped "
            "when its own evidence sufficed)."
        )
    low, high = found.interval
    gap = "no difference" if found.difference == 0 else f"{_points(abs(found.difference))} {side}"
    p = found.p_better if found.difference > 0 else found.p_worse
    shown = "" if p is None or found.difference == 0 else f", p = {p:.2g}"
    return (
        f"{one.name} on all {found.n} test {found.unit}s: {told}, {gap} ({percent(found.confidence)} interval of the difference "
        f"{100 * low:+.1f} to {100 * high:+.1f} points{shown})."
    )


def _points(difference: float) -> str:
    return f"{100 * difference:.1f} points"
