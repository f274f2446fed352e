"""Verdicts -> the next rung or a stop, with reasons. Pure: no model, no disk, no clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from lastresort.climb.answer import answer_of, answer_of_two
from lastresort.climb.break_even import Saving
from lastresort.ladder import trains
from lastresort.report.words.wording import NO_BREAK, how_decided
from lastresort.report.words.wording import percent_in_text as percent
from lastresort.types import GateVerdict, Judgement, Outcome

GATE_SAYS = {"SHIP": "lets it ship", "HOLD": "holds it", "REJECT": "rejects it"}


@dataclass(frozen=True, slots=True)
class Gating:
    """What the gate says of a tuned system. because: what its verdict hangs on, as a clause. would_decide: what would turn a HOLD
    into an answer, as sentences.
    """

    verdict: GateVerdict
    because: str
    would_decide: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RungOutcome:
    """What became of a rung: tested (judgement, the system's name, and the gate's word where it was asked) or skipped (why).

    repairs: what became of those that were tried after the gate, as a clause; "" where none was.
    """

    rung: str
    judgement: Judgement | None = None
    system: str | None = None
    skipped: str | None = None
    gate: Gating | None = None
    repairs: str = ""

    @property
    def verdict(self) -> Outcome | None:
        return self.judgement.outcome if self.judgement else None

    @property
    def score(self) -> float:
        return self.judgement.score if self.judgement else 0.0

    @property
    def rejected(self) -> bool:
        """Tried and not won, whatever the bar says."""
        return self.gate is not None and self.gate.verdict == "REJECT"

    @property
    def held(self) -> bool:
        return self.gate is not None and self.gate.verdict == "HOLD"


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
    """How the climb ended. verdict: of the bar alone, whatever the gate says. meets_bar: a system that may win does.

    winner: the rung whose system won, None where none did; with `goal: cost` the cheapest of those that meet the bar. held: the
    gate holds it. stopped_at: where the winner, or what is undecided, stands. best: the tested rung with the highest score.
    """

    verdict: Outcome
    meets_bar: bool
    provisional: bool
    stopped_at: str | None
    winner: str | None
    best: str | None
    answer: str
    reasons: tuple[str, ...]
    held: bool = False


def next_step(rules: Rules, outcomes: Sequence[RungOutcome], saving: Saving | None = None) -> Step:
    """Where to go after these outcomes (in the order of the ladder). Up only when the rung below is not shown to meet the bar, or
    when the gate rejects what it made.

    saving: with `goal: cost`, whether to go on to sft although the bar is met, with a sentence of its own that says why; None
    where that is not asked.
    """
    met = _first_met(outcomes)
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
            return Step(rung, _why_up(outcomes))
    return Step(None, "No rung is left.")


def may_ship(outcomes: Sequence[RungOutcome]) -> frozenset[str]:
    """The rungs of which the gate says nothing else: those among which the cheapest may win."""
    return frozenset(outcome.rung for outcome in outcomes if not outcome.rejected and not outcome.held)


def conclude(
    rules: Rules, outcomes: Sequence[RungOutcome], why_stopped: str, cheapest: Cheapest | None = None
) -> Conclusion:
    """The decision as an argument. cheapest: of several systems that meet the bar, where it is to win.

    Raises ValueError if no rung was tested or skipped.
    """
    if not outcomes:
        raise ValueError("a climb ends with at least one outcome")
    tested = [outcome for outcome in outcomes if outcome.judgement is not None]
    undecided = [outcome for outcome in tested if outcome.verdict == "UNDECIDED"]
    met, leader = _first_met(tested), _leader(rules, tested)
    collecting = bool(undecided) and rules.on_undecided == "collect"
    kept = _kept(tested) if met is None and leader is None and not collecting else None
    won = next((outcome for outcome in tested if cheapest is not None and outcome.rung == cheapest.rung), met)
    winner = won or (None if collecting else leader) or kept
    stopped_at = won or leader or kept or (tested[-1] if collecting else None)
    if cheapest is not None and won is not None:
        answer = answer_of_two(rules, tested, won, cheapest)
    else:
        answer = answer_of(rules, outcomes, met, leader, kept)
    return Conclusion(
        verdict=_verdict_of(tested),
        meets_bar=met is not None,
        provisional=bool(undecided),
        stopped_at=stopped_at.rung if stopped_at else None,
        winner=winner.rung if winner else None,
        best=max(tested, key=lambda outcome: outcome.score).rung if tested else None,
        answer=answer,
        reasons=(*_reasons(rules, outcomes), *([why_stopped] if why_stopped else [])),
        held=winner is not None and winner.held,
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


def _first_met(outcomes: Sequence[RungOutcome]) -> RungOutcome | None:
    return next((outcome for outcome in outcomes if outcome.verdict == "MET" and not outcome.rejected), None)


def _leader(rules: Rules, tested: Sequence[RungOutcome]) -> RungOutcome | None:
    """The last tested, where it is undecided with its estimate at or above the bar and no other meets it."""
    if not tested or _first_met(tested) is not None:
        return None
    last = tested[-1]
    leads = last.verdict == "UNDECIDED" and last.score >= rules.bar and not last.rejected
    return last if leads else None


def _kept(tested: Sequence[RungOutcome]) -> RungOutcome | None:
    """Where the gate rejected what met the bar: the best untuned system, which is there and breaks nothing."""
    if not any(outcome.rejected for outcome in tested):
        return None
    untuned = [outcome for outcome in tested if not trains(outcome.rung)]
    return max(untuned, key=lambda outcome: outcome.score, default=None)


def _verdict_of(tested: Sequence[RungOutcome]) -> Outcome:
    found = {outcome.verdict for outcome in tested}
    return "MET" if "MET" in found else "UNDECIDED" if "UNDECIDED" in found or not tested else "NOT_MET"


def _why_up(outcomes: Sequence[RungOutcome]) -> str:
    if not outcomes:
        return "the first rung"
    if outcomes[-1].rejected:
        return "the gate rejected the rung below"
    return "the rung below is not shown to meet the bar"


def _stop_after(rules: Rules, last: RungOutcome) -> str | None:
    """Why the climb stops after this outcome, None if it goes on."""
    if last.judgement is not None and not last.rejected:
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


def _reasons(rules: Rules, outcomes: Sequence[RungOutcome]) -> list[str]:
    """One sentence a rung, one more where the gate was asked, and one on repairs."""
    found = []
    for outcome in outcomes:
        found.append(_reason(rules, outcome))
        if outcome.gate is not None:
            found.append(f"{outcome.rung}: the gate {GATE_SAYS[outcome.gate.verdict]}: {outcome.gate.because}.")
        if outcome.repairs:
            found.append(f"{outcome.rung}: {outcome.repairs}.")
    return found


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
