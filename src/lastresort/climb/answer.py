"""The sentence that answers "should I fine-tune?", from the outcomes of the rungs. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lastresort.ladder import trains
from lastresort.report.words.wording import percent_in_text as percent
from lastresort.report.words.wording import short_of_the_bar

if TYPE_CHECKING:
    from lastresort.climb.decide import Cheapest, Rules, RungOutcome


MARGIN_ONLY = 0.90  # few-shot at 90 % or more: tuning adds only a margin (DESIGN part 7)


def answer_of(
    rules: Rules,
    outcomes: Sequence[RungOutcome],
    met: RungOutcome | None,
    leader: RungOutcome | None,
    kept: RungOutcome | None,
) -> str:
    """met: the rung that meets the bar. leader: the one that leads where none does. kept: the untuned one that stays where the gate
    rejected those. At most one is given.
    """
    tested = [outcome for outcome in outcomes if outcome.judgement is not None]
    if met is not None:
        return _answer_met(rules, tested, met)
    if leader is not None:
        return _answer_leading(rules, tested, leader)
    if not tested:
        return f"Cannot tell: no rung of the ladder applies ({'; '.join(str(o.skipped) for o in outcomes)})."
    open_ones = [outcome for outcome in tested if outcome.verdict == "UNDECIDED" and not outcome.rejected]
    if kept is None and open_ones:
        last, score = open_ones[-1], percent(open_ones[-1].score)
        away = _kept_away(rules, tested)
        return f"Cannot tell yet: {last.rung} scored {score} against the bar of {percent(rules.bar)}; {_settle(last)}{away}."
    if any(outcome.rejected for outcome in tested):
        return _answer_rejected(rules, outcomes, tested, kept)
    if left := _not_tried(rules, outcomes):
        return f"Not decided: {_failed(tested).removeprefix(', where ')}; {left}."
    best = max(tested, key=lambda outcome: outcome.score)
    return f"No rung reached the bar of {percent(rules.bar)}: the best was {best.rung} ({best.system}) with {percent(best.score)}."


def answer_of_two(rules: Rules, tested: Sequence[RungOutcome], won: RungOutcome, cheapest: Cheapest) -> str:
    """The answer where several systems meet the bar, and the cheapest of them wins."""
    met = [outcome for outcome in tested if outcome.verdict == "MET" and not outcome.rejected]
    first, last, bar = met[0], met[-1], percent(rules.bar)
    told = f"{first.rung} meets the bar of {bar} ({first.system} scored {percent(first.score)})"
    too = f"{last.rung} meets it too ({last.system} scored {percent(last.score)})"
    open_ones = _open_rungs([outcome for outcome in tested if outcome not in met])
    if won is not first:
        return f"To reach the bar, no: {told}. To save money, yes: {too}, and {cheapest.because}{open_ones}."
    why = "is not shown to be cheaper" if cheapest.rung is None else "is no cheaper"
    return f"No: {told}; {too} and {why}, since {cheapest.because}{open_ones}."


def _answer_met(rules: Rules, tested: Sequence[RungOutcome], met: RungOutcome) -> str:
    bar, score = percent(rules.bar), percent(met.score)
    others = [outcome for outcome in tested if outcome is not met]
    rest = f"{_kept_away(rules, others)}{_open_rungs(others)}"
    if not trains(met.rung):
        margin = "tuning would add only a margin" if met.score >= MARGIN_ONLY else "tuning is not needed to reach it"
        dearer = "".join(
            f"; {outcome.rung}, tried for its cost, stayed at {percent(outcome.score)}"
            for outcome in tested[tested.index(met) + 1 :]
            if outcome.verdict == "NOT_MET"
        )
        return f"No: {met.rung} meets the bar of {bar} ({met.system} scored {score}), and {margin}{dearer}{rest}."
    failed = _failed([outcome for outcome in tested if outcome.verdict == "NOT_MET"])
    sure = "Provisionally yes" if _open_rungs(others) else "Yes"
    return f"{sure}{_but_held(met)}: {met.rung} meets the bar of {bar} with {score}{failed}{_why_held(met)}{rest}."


def _answer_leading(rules: Rules, tested: Sequence[RungOutcome], leader: RungOutcome) -> str:
    others = [outcome for outcome in tested if outcome is not leader]
    return (
        f"Provisionally {'yes' if trains(leader.rung) else 'no'}{_but_held(leader)}: {leader.rung} scored "
        f"{percent(leader.score)} against the bar of {percent(rules.bar)}, but the test set is too small to be sure; "
        f"{_settle(leader)}{_why_held(leader)}{_kept_away(rules, others)}{_open_rungs(others)}."
    )


def _answer_rejected(
    rules: Rules, outcomes: Sequence[RungOutcome], tested: Sequence[RungOutcome], kept: RungOutcome | None
) -> str:
    """Nothing may win that was tuned: what remains, if anything does."""
    failed = "".join(
        f"; {outcome.rung} stayed at {percent(outcome.score)}"
        for outcome in tested
        if trains(outcome.rung) and outcome.verdict == "NOT_MET"
    )
    left = _not_tried(rules, outcomes)
    rest = "no untuned system was tested" if kept is None else _remains(kept)
    gone = _kept_away(rules, tested).removeprefix("; ")
    return (
        f"No: {gone}{failed}{f'; {left}' if left else ''}; {rest}{_open_rungs([o for o in tested if o is not kept])}."
    )


def _remains(kept: RungOutcome) -> str:
    return f"what remains is {kept.rung} ({kept.system}) with {percent(kept.score)}, {short_of_the_bar(kept.verdict)}"


def _kept_away(rules: Rules, outcomes: Sequence[RungOutcome]) -> str:
    """The systems that the gate keeps from winning, each with why."""
    told = []
    for outcome in outcomes:
        if outcome.gate is None or not (outcome.rejected or outcome.held):
            continue
        met = f"meets the bar of {percent(rules.bar)} with" if outcome.verdict == "MET" else "scored"
        says = "rejects" if outcome.rejected else "holds"
        told.append(f"; {outcome.rung} {met} {percent(outcome.score)}, but the gate {says} it: {outcome.gate.because}")
    return "".join(told)


def _but_held(outcome: RungOutcome) -> str:
    return ", but held" if outcome.held else ""


def _why_held(outcome: RungOutcome) -> str:
    return f"; the gate holds it: {outcome.gate.because}" if outcome.gate is not None and outcome.held else ""


def _not_tried(rules: Rules, outcomes: Sequence[RungOutcome]) -> str:
    left = [rung for rung in rules.ladder if rung not in {outcome.rung for outcome in outcomes}]
    return f"{', '.join(left)} {'was' if len(left) == 1 else 'were'} not tried" if left else ""


def _failed(outcomes: Sequence[RungOutcome]) -> str:
    if not outcomes:
        return ""
    return ", where " + " and ".join(f"{outcome.rung} stayed at {percent(outcome.score)}" for outcome in outcomes)


def _open_rungs(outcomes: Sequence[RungOutcome]) -> str:
    """The rungs that are undecided, each with what would settle it."""
    return "".join(
        f"; {outcome.rung} is undecided at {percent(outcome.score)} ({_settle(outcome)})"
        for outcome in outcomes
        if outcome.verdict == "UNDECIDED" and not outcome.rejected
    )


def _settle(outcome: RungOutcome) -> str:
    assert outcome.judgement is not None
    needed, unit = outcome.judgement.n_needed, outcome.judgement.unit
    return (
        f"about {needed} test {unit}s would settle it"
        if needed
        else f"it lies too close to the bar to say how many {unit}s would settle it"
    )
