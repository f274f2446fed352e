"""Verdicts -> the next rung or a stop, with reasons. Pure: no model, no disk, no clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from lastresort.ladder.break_even import Saving
from lastresort.report.wording import NO_BREAK, how_decided
from lastresort.report.wording import percent_in_text as percent
from lastresort.types import Judgement, Outcome

MARGIN_ONLY = 0.90  # few-shot at 90 % or more: tuning adds only a margin (DESIGN part 7)


@dataclass(frozen=True, slots=True)
class RungOutcome:
    """What became of a rung: tested (judgement, and the system's name) or skipped (why)."""

    rung: str
    judgement: Judgement | None = None
    system: str | None = None
    skipped: str | None = None


@dataclass(frozen=True, slots=True)
class Rules:
    """What of the task steers the climb."""

    ladder: tuple[str, ...]
    bar: float
    on_undecided: Literal["lead", "collect"] = "lead"
    until: str | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """Go to `rung`, or stop where it is None. because: in words."""

    rung: str | None
    because: str


@dataclass(frozen=True, slots=True)
class Cheapest:
    """Which of several systems that meet the bar has the cheapest calls. rung: None where that cannot be told. because: in
    words."""

    rung: str | None
    because: str


@dataclass(frozen=True, slots=True)
class Conclusion:
    """How the climb ended. winner: the rung whose system won, None where none did; with `goal: cost` the cheapest of those that
    meet the bar. stopped_at: where the winner, or what is undecided, stands. best: the tested rung with the highest score.
    """

    verdict: Outcome
    meets_bar: bool
    provisional: bool
    stopped_at: str | None
    winner: str | None
    best: str | None
    answer: str
    reasons: tuple[str, ...]


def next_step(rules: Rules, outcomes: Sequence[RungOutcome], saving: Saving | None = None) -> Step:
    """Where to go after these outcomes (in the order of the ladder). Up only when the rung below is not shown to meet the bar.

    saving: with `goal: cost`, whether to go on to sft although the bar is met, with a sentence of its own that says why; None
    where that is not asked.
    """
    met = next((outcome for outcome in outcomes if _verdict(outcome) == "MET"), None)
    if met is not None and met is not outcomes[-1]:
        last = outcomes[-1].rung
        return Step(None, f"The bar was met before {last}, which only its cost called for: nothing is left to try.")
    if met is not None and saving is not None:
        return Step("sft" if saving.goes_on else None, "")
    if outcomes:
        stop = _stop_after(rules, outcomes[-1])
        if stop is not None:
            return Step(None, stop)
    done = {outcome.rung for outcome in outcomes}
    for rung in rules.ladder:
        if rung not in done:
            return Step(rung, "the first rung" if not outcomes else "the rung below is not shown to meet the bar")
    return Step(None, "No rung is left.")


def conclude(
    rules: Rules, outcomes: Sequence[RungOutcome], why_stopped: str, cheapest: Cheapest | None = None
) -> Conclusion:
    """The decision as an argument. cheapest: of several systems that meet the bar, where it is to win.

    Raises ValueError if no rung was tested or skipped.
    """
    if not outcomes:
        raise ValueError("a climb ends with at least one outcome")
    tested = [outcome for outcome in outcomes if outcome.judgement is not None]
    best = max(tested, key=lambda outcome: _score(outcome), default=None)
    undecided = [outcome for outcome in tested if _verdict(outcome) == "UNDECIDED"]
    met = next((outcome for outcome in tested if _verdict(outcome) == "MET"), None)
    leader = None
    if met is None and undecided and undecided[-1] is tested[-1] and _score(tested[-1]) >= rules.bar:
        leader = tested[-1]
    verdict: Outcome = "MET" if met else "UNDECIDED" if undecided or not tested else "NOT_MET"
    won = next((outcome for outcome in tested if cheapest is not None and outcome.rung == cheapest.rung), met)
    winner = won or (leader if rules.on_undecided == "lead" else None)
    stopped_at = won or leader or (tested[-1] if undecided and rules.on_undecided == "collect" else None)
    if cheapest is not None and won is not None:
        answer = _answer_of_two(rules, tested, won, cheapest)
    else:
        answer = _answer(rules, outcomes, tested, met, leader, best)
    reasons = [_reason(rules, outcome) for outcome in outcomes]
    if why_stopped:
        reasons.append(why_stopped)
    return Conclusion(
        verdict=verdict,
        meets_bar=met is not None,
        provisional=bool(undecided),
        stopped_at=stopped_at.rung if stopped_at else None,
        winner=winner.rung if winner else None,
        best=best.rung if best else None,
        answer=answer,
        reasons=tuple(reasons),
    )


def as_test(found: Judgement) -> dict[str, Any]:
    """A judgement as `test` in decision.json."""
    return {
        "verdict": found.outcome,
        "score": found.score,
        "n_used": found.n_used,
        "n_available": found.n_available,
        "unit": found.unit,
        "interval": list(found.interval),
        "decided": None if found.decided is None else asdict(found.decided),
        "n_needed": found.n_needed,
    }


def _stop_after(rules: Rules, last: RungOutcome) -> str | None:
    """Why the climb stops after this outcome, None if it goes on."""
    if last.judgement is not None:
        verdict = last.judgement.outcome
        if verdict == "MET":
            return f"{last.rung} meets the bar, and every dearer rung would only cost more."
        if verdict == "UNDECIDED" and rules.on_undecided == "collect":
            return f"{last.rung} is undecided, and the task says to collect more examples before going on."
        if verdict == "UNDECIDED" and last.judgement.score >= rules.bar:
            return f"{last.rung} is undecided with its estimate at or above the bar, so the climb stops here for now."
    if rules.until == last.rung:
        return f"The climb was told to go no further than {last.rung}."
    return None


def _reason(rules: Rules, outcome: RungOutcome) -> str:
    if outcome.judgement is None:
        return f"{outcome.rung}: skipped, {outcome.skipped}."
    found = outcome.judgement
    low, high = found.interval
    measured = (
        f"{outcome.rung}: {outcome.system} scored {percent(found.score)} on {found.n_used} of {found.n_available} test "
        f"{found.unit}s (interval {percent(low)} to {percent(high)})"
    )
    if found.outcome != "UNDECIDED":
        how = how_decided(as_test(found), rules.bar).replace(NO_BREAK, " ")
        met = "met" if found.outcome == "MET" else "not met"
        return f"{measured}: the bar of {percent(rules.bar)} is {met}{f'; {how}' if how else ''}."
    more = (
        f"about {found.n_needed} test {found.unit}s would decide it"
        if found.n_needed is not None
        else "how many would decide it cannot be told: the score lies too close to the bar"
    )
    side = "at or above" if found.score >= rules.bar else "below"
    return f"{measured}: undecided, with the estimate {side} the bar of {percent(rules.bar)}; {more}."


def _answer(
    rules: Rules,
    outcomes: Sequence[RungOutcome],
    tested: Sequence[RungOutcome],
    met: RungOutcome | None,
    leader: RungOutcome | None,
    best: RungOutcome | None,
) -> str:
    """The sentence that answers "should I fine-tune?"."""
    bar = percent(rules.bar)
    open_below = _open_rungs([outcome for outcome in tested if outcome not in (met, leader)])
    if met is not None:
        score = percent(_score(met))
        if met.rung in ("prompting", "retrieval"):
            margin = (
                "tuning would add only a margin" if _score(met) >= MARGIN_ONLY else "tuning is not needed to reach it"
            )
            dearer = "".join(
                f"; {outcome.rung}, tried for its cost, stayed at {percent(_score(outcome))}"
                for outcome in tested[tested.index(met) + 1 :]
                if _verdict(outcome) == "NOT_MET"
            )
            return f"No: {met.rung} meets the bar of {bar} ({met.system} scored {score}), and {margin}{dearer}{open_below}."
        failed = _cheaper_rungs([outcome for outcome in tested if _verdict(outcome) == "NOT_MET"])
        sure = "Provisionally yes" if open_below else "Yes"
        return f"{sure}: {met.rung} meets the bar of {bar} with {score}{failed}{open_below}."
    if leader is not None:
        untuned = leader.rung in ("prompting", "retrieval")
        return (
            f"Provisionally {'no' if untuned else 'yes'}: {leader.rung} scored {percent(_score(leader))} against the bar of "
            f"{bar}, but the test set is too small to be sure; {_settle(leader)}{open_below}."
        )
    if best is None:
        return f"Cannot tell: no rung of the ladder applies ({'; '.join(str(o.skipped) for o in outcomes)})."
    if any(_verdict(outcome) == "UNDECIDED" for outcome in tested):
        open_one = next(outcome for outcome in reversed(tested) if _verdict(outcome) == "UNDECIDED")
        return f"Cannot tell yet: {open_one.rung} scored {percent(_score(open_one))} against the bar of {bar}; {_settle(open_one)}."
    left = [rung for rung in rules.ladder if rung not in {outcome.rung for outcome in outcomes}]
    if left:
        were = "was" if len(left) == 1 else "were"
        return f"Not decided: {_cheaper_rungs(tested).removeprefix(', where ')}; {', '.join(left)} {were} not tried."
    return f"No rung reached the bar of {bar}: the best was {best.rung} ({best.system}) with {percent(_score(best))}."


def _answer_of_two(rules: Rules, tested: Sequence[RungOutcome], won: RungOutcome, cheapest: Cheapest) -> str:
    """The answer where several systems meet the bar, and the cheapest of them wins."""
    met = [outcome for outcome in tested if _verdict(outcome) == "MET"]
    first, last, bar = met[0], met[-1], percent(rules.bar)
    told = f"{first.rung} meets the bar of {bar} ({first.system} scored {percent(_score(first))})"
    too = f"{last.rung} meets it too ({last.system} scored {percent(_score(last))})"
    open_ones = _open_rungs([outcome for outcome in tested if outcome not in met])
    if won is not first:
        return f"To reach the bar, no: {told}. To save money, yes: {too}, and {cheapest.because}{open_ones}."
    why = "is not shown to be cheaper" if cheapest.rung is None else "is no cheaper"
    return f"No: {told}; {too} and {why}, since {cheapest.because}{open_ones}."


def _cheaper_rungs(outcomes: Sequence[RungOutcome]) -> str:
    if not outcomes:
        return ""
    return ", where " + " and ".join(f"{outcome.rung} stayed at {percent(_score(outcome))}" for outcome in outcomes)


def _open_rungs(outcomes: Sequence[RungOutcome]) -> str:
    """The rungs that are undecided, each with what would settle it."""
    return "".join(
        f"; {outcome.rung} is undecided at {percent(_score(outcome))} ({_settle(outcome)})"
        for outcome in outcomes
        if _verdict(outcome) == "UNDECIDED"
    )


def _settle(outcome: RungOutcome) -> str:
    assert outcome.judgement is not None
    needed, unit = outcome.judgement.n_needed, outcome.judgement.unit
    return (
        f"about {needed} test {unit}s would settle it"
        if needed
        else f"it lies too close to the bar to say how many {unit}s would settle it"
    )


def _score(outcome: RungOutcome) -> float:
    return outcome.judgement.score if outcome.judgement else 0.0


def _verdict(outcome: RungOutcome) -> Outcome | None:
    return outcome.judgement.outcome if outcome.judgement else None
