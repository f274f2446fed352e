"""Verdicts -> the next rung or a stop; at the end, the winner and the reasons. Pure: no model, no disk, no clock, no sentences.

`next_rung`, after every rung: up, or stop and why. `conclude`, at the end: among the tested systems that the gate has not rejected,
the lowest that meets the bar wins (the cheapest with `goal: cost`), else the last one if it is undecided at or above the bar, else,
where the gate rejected what met the bar, the best that was not trained.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from lastresort.ladder import COST_RUNG, PROMPT_RUNG, trains
from lastresort.records.document import Statement
from lastresort.records.gate_cause import GateCause, GateNeed
from lastresort.records.reasons import (
    Answer,
    BarMet,
    CheapestOfSeveral,
    CostSaving,
    GateDecided,
    GateRejected,
    Leads,
    NoneMet,
    NotFinished,
    NothingApplies,
    PromptingLeftOut,
    Reason,
    RepairsTried,
    RungResult,
    RungSkip,
    StillOpen,
    Stopped,
)
from lastresort.types import GateVerdict, Judgement, Outcome


@dataclass(frozen=True, slots=True)
class Gating:
    """The gate's verdict on a tuned system. needs: what would turn a HOLD into an answer."""

    verdict: GateVerdict
    cause: GateCause
    needs: tuple[GateNeed, ...] = ()


@dataclass(frozen=True, slots=True)
class RungOutcome:
    """How a rung ended: tested (judgement, the system's name, and the gate's verdict where it ran) or skipped (why).

    repairs: what became of those tried after the gate, None where none was.
    """

    rung: str
    judgement: Judgement | None = None
    system: str | None = None
    skipped: Statement | None = None
    gate: Gating | None = None
    repairs: RepairsTried | None = None

    @property
    def verdict(self) -> Outcome | None:
        return self.judgement.outcome if self.judgement else None

    @property
    def score(self) -> float:
        return self.judgement.score if self.judgement else 0.0

    @property
    def rejected(self) -> bool:
        """Tried, and not allowed to win, whatever the bar says."""
        return self.gate is not None and self.gate.verdict == "REJECT"

    @property
    def held(self) -> bool:
        return self.gate is not None and self.gate.verdict == "HOLD"

    @property
    def ungated(self) -> bool:
        """Tuned, and no gate ran."""
        return trains(self.rung) and self.gate is None


@dataclass(frozen=True, slots=True)
class Rules:
    """The part of the task that steers the climb."""

    ladder: tuple[str, ...]
    bar: float
    on_undecided: Literal["lead", "collect"] = "lead"
    until: str | None = None

    @property
    def rungs(self) -> tuple[str, ...]:
        """Those that may be climbed."""
        return self.ladder if self.until is None else self.ladder[: self.ladder.index(self.until) + 1]


@dataclass(frozen=True, slots=True)
class Cheapest:
    """Which of several systems that meet the bar has the cheapest calls. rung: None where prices are missing."""

    rung: str | None


@dataclass(frozen=True, slots=True)
class Conclusion:
    """How the climb ended. verdict: of the bar alone, whatever the gate says. meets_bar: a system that may win does.

    winner: the rung whose system won, None where none did; with `goal: cost` the cheapest of those that meet the bar. held: the
    gate holds it. stopped_at: the rung of the winner, or of what is undecided. best: the tested rung with the highest score.
    """

    verdict: Outcome
    meets_bar: bool
    provisional: bool
    stopped_at: str | None
    winner: str | None
    best: str | None
    answer: Answer
    reasons: tuple[Reason, ...]
    held: bool = False


def next_rung(
    rules: Rules, outcomes: Sequence[RungOutcome], saving: CostSaving | None = None, met_above: Collection[str] = ()
) -> str | Stopped:
    """The next rung after these outcomes (in the order of the ladder), or why the climb stops. Up only when the rung below is not
    shown to meet the bar, or when the gate rejects what it made.

    saving: with `goal: cost`, whether to go on to the rung with cheaper calls although the bar is met; None where that is not in
    question. met_above: rungs above that said MET before the test of a rung below went on, and that the gate has not rejected:
    where one of them stands, no UNDECIDED ends the climb by its score.
    """
    met = _first_met(outcomes)
    if met is not None and met is not outcomes[-1]:
        return Stopped("COST_TRIED", outcomes[-1].rung)
    if met is not None and saving is not None:
        return COST_RUNG if saving.goes_on else Stopped("NO_SAVING", met.rung)
    if outcomes and (stopped := _stop_after(rules, outcomes[-1], met_above)) is not None:
        return stopped
    climbed = {outcome.rung for outcome in outcomes}
    return next((rung for rung in rules.ladder if rung not in climbed), Stopped("TOP", rules.ladder[-1]))


def may_ship(outcomes: Sequence[RungOutcome]) -> frozenset[str]:
    """The rungs that the gate neither rejects nor holds: among them the cheapest may win."""
    return frozenset(outcome.rung for outcome in outcomes if not outcome.rejected and not outcome.held)


def conclude(
    rules: Rules, outcomes: Sequence[RungOutcome], stopped: Stopped | None = None, cheapest: Cheapest | None = None
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
    fallback = _fallback(tested) if met is None and leader is None and not collecting else None
    met_winner = next((outcome for outcome in tested if cheapest is not None and outcome.rung == cheapest.rung), met)
    winner = met_winner or (None if collecting else leader) or fallback
    stopped_at = met_winner or leader or fallback or (tested[-1] if collecting else None)
    if cheapest is not None and met_winner is not None:
        answer: Answer = _cheapest_answer(rules, tested, met_winner, cheapest)
    else:
        answer = _answer(rules, outcomes, met, leader, fallback)
    return Conclusion(
        verdict=_verdict_of(tested),
        meets_bar=met is not None,
        provisional=bool(undecided) and winner is not None,
        stopped_at=stopped_at.rung if stopped_at else None,
        winner=winner.rung if winner else None,
        best=max(tested, key=lambda outcome: outcome.score).rung if tested else None,
        answer=answer,
        reasons=(*_reasons(rules, outcomes), *([stopped] if stopped else [])),
        held=winner is not None and winner.held,
    )


def _answer(
    rules: Rules,
    outcomes: Sequence[RungOutcome],
    met: RungOutcome | None,
    leader: RungOutcome | None,
    fallback: RungOutcome | None,
) -> Answer:
    """met: the rung that meets the bar. leader: the one that leads where none does. fallback: the untuned one that stays where
    the gate rejected those. At most one is given.
    """
    tested = [outcome for outcome in outcomes if outcome.judgement is not None]
    if met is not None:
        provisional = any(one is not met and one.verdict == "UNDECIDED" and not one.rejected for one in tested)
        return BarMet(met.rung, met.score, rules.bar, trains(met.rung), provisional, met.held, met.ungated)
    if leader is not None:
        # Where items are collected nothing has won yet, and the gate is to come.
        ungated = leader.ungated and rules.on_undecided != "collect"
        return Leads(leader.rung, leader.score, rules.bar, trains(leader.rung), leader.held, ungated)
    if not tested:
        return NothingApplies()
    still_open = [outcome for outcome in tested if outcome.verdict == "UNDECIDED" and not outcome.rejected]
    if fallback is None and still_open:
        last = still_open[-1]
        assert last.judgement is not None
        judgement, best = last.judgement, max(still_open, key=lambda one: one.score)
        answer = StillOpen(last.rung, last.score, rules.bar, judgement.n_needed, judgement.unit, judgement.judged)
        return answer if best is last else replace(answer, ahead=best.rung, ahead_score=best.score)
    if rejected := tuple(outcome.rung for outcome in tested if outcome.rejected):
        if fallback is None:
            return GateRejected(rejected, rules.bar, None, 0.0)
        return GateRejected(rejected, rules.bar, fallback.rung, fallback.score)
    best = max(tested, key=lambda outcome: outcome.score)
    climbed = {outcome.rung for outcome in outcomes}
    if rungs_left := tuple(rung for rung in rules.ladder if rung not in climbed):
        return NotFinished(best.rung, best.score, rules.bar, rungs_left)
    return NoneMet(best.rung, best.score, rules.bar)


def _cheapest_answer(
    rules: Rules, tested: Sequence[RungOutcome], winner: RungOutcome, cheapest: Cheapest
) -> CheapestOfSeveral:
    met = [outcome for outcome in tested if outcome.verdict == "MET" and not outcome.rejected]
    first, last, last_wins, comparable = met[0].rung, met[-1].rung, winner is not met[0], cheapest.rung is not None
    return CheapestOfSeveral(first, last, last_wins, comparable, rules.bar, winner.ungated)


def _first_met(outcomes: Sequence[RungOutcome]) -> RungOutcome | None:
    return next((outcome for outcome in outcomes if outcome.verdict == "MET" and not outcome.rejected), None)


def _leader(rules: Rules, tested: Sequence[RungOutcome]) -> RungOutcome | None:
    """The last tested, where it is undecided with its estimate at or above the bar and no other meets it."""
    if not tested or _first_met(tested) is not None:
        return None
    last = tested[-1]
    leads = last.judgement is not None and _leads(rules, last.judgement) and not last.rejected
    return last if leads else None


def _leads(rules: Rules, judgement: Judgement) -> bool:
    """Undecided with an estimate at or above the bar: a judge's score that labels cannot correct is none."""
    estimated = judgement.judged is None or judgement.judged.corrects
    return judgement.outcome == "UNDECIDED" and judgement.score >= rules.bar and estimated


def _fallback(tested: Sequence[RungOutcome]) -> RungOutcome | None:
    """Where the gate rejected what met the bar: the best untuned system, which is there and breaks nothing."""
    return best_prompt(tested) if any(outcome.rejected for outcome in tested) else None


def best_prompt(outcomes: Sequence[RungOutcome]) -> RungOutcome | None:
    """The untuned system with the highest test score; None if none was tested."""
    untuned = [outcome for outcome in outcomes if outcome.judgement is not None and not trains(outcome.rung)]
    return max(untuned, key=lambda outcome: outcome.score, default=None)


def _verdict_of(tested: Sequence[RungOutcome]) -> Outcome:
    verdicts = {outcome.verdict for outcome in tested}
    return "MET" if "MET" in verdicts else "UNDECIDED" if "UNDECIDED" in verdicts or not tested else "NOT_MET"


def _stop_after(rules: Rules, last: RungOutcome, met_above: Collection[str]) -> Stopped | None:
    """Why the climb stops after this outcome, None if it goes on."""
    if last.judgement is not None and not last.rejected:
        verdict = last.judgement.outcome
        if verdict == "MET":
            return Stopped("MET", last.rung)
        if verdict == "UNDECIDED" and rules.on_undecided == "collect":
            return Stopped("COLLECT", last.rung)
        if _leads(rules, last.judgement) and not met_above:
            return Stopped("LEADS", last.rung)
    return Stopped("UNTIL", last.rung) if rules.until == last.rung else None


def _reasons(rules: Rules, outcomes: Sequence[RungOutcome]) -> list[Reason]:
    """One a rung, one more where the gate ran, and one on repairs; before them, what no rung tests."""
    reasons: list[Reason] = [] if PROMPT_RUNG in rules.ladder else [PromptingLeftOut()]
    for outcome in outcomes:
        if outcome.skipped is not None:
            reasons.append(RungSkip(outcome.rung, outcome.skipped))
        if outcome.judgement is not None:
            reasons.append(RungResult(outcome.rung, outcome.system or "", outcome.judgement, rules.bar))
        if outcome.gate is not None:
            reasons.append(GateDecided(outcome.rung, outcome.gate.verdict, outcome.gate.cause))
        if outcome.repairs is not None:
            reasons.append(outcome.repairs)
    return reasons
