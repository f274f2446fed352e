"""What would change the answer: another bar, more items, what kept a rung out, a newer model, other knowledge. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from lastresort.ladder.decide import Conclusion, Rules, RungOutcome
from lastresort.report.wording import percent_in_text as percent
from lastresort.types import Judgement

UNTUNED = ("prompting", "retrieval")


def would_change(
    rules: Rules, outcomes: Sequence[RungOutcome], conclusion: Conclusion, *, knowledge: bool
) -> tuple[str, ...]:
    """Sentences, the nearest at hand first. knowledge: whether the task names documents."""
    return (
        *_items(outcomes),
        *_gate(outcomes),
        *_bar(rules, outcomes, conclusion),
        *_rungs(rules, outcomes, conclusion),
        *_world(conclusion, knowledge=knowledge),
    )


def _items(outcomes: Sequence[RungOutcome]) -> list[str]:
    """How many test items would settle what is open."""
    return [
        f"About {found.n_needed} test {found.unit}s instead of {found.n_available} would settle whether {rung} meets the bar."
        for rung, found in _tested(outcomes)
        if found.outcome == "UNDECIDED" and found.n_needed is not None
    ]


def _gate(outcomes: Sequence[RungOutcome]) -> list[str]:
    """What would let a system ship that the gate holds or rejects."""
    told = [sentence for outcome in outcomes if outcome.gate is not None for sentence in outcome.gate.would_decide]
    told += [
        f"A system of {outcome.rung} that loses less: a lower scale of its adapter, more general rows among its training rows, a "
        "lower learning rate or fewer epochs."
        for outcome in outcomes
        if outcome.rejected and not outcome.repairs
    ]
    told += [
        f"A system of {outcome.rung} that loses less than those that were tried after the gate: other training rows, or fewer of "
        "their kind."
        for outcome in outcomes
        if outcome.rejected and outcome.repairs
    ]
    return told


def _bar(rules: Rules, outcomes: Sequence[RungOutcome], conclusion: Conclusion) -> list[str]:
    """Bars that the intervals do not exclude: below which a cheaper rung might do, above which the winner is not shown to."""
    told = []
    below = [(rung, found) for rung, found in _tested(outcomes) if found.outcome == "NOT_MET"]
    if below:
        rung, found = max(below, key=lambda pair: pair[1].interval[1])
        told.append(
            f"A bar of {percent(found.interval[1])} or lower instead of {percent(rules.bar)}: up to there {rung} is not excluded."
        )
    met = next(
        (found for rung, found in _tested(outcomes) if rung == conclusion.winner and found.outcome == "MET"), None
    )
    if met is not None and met.interval[0] > rules.bar:
        told.append(
            f"A bar above {percent(met.interval[0])}: from there on these items do not show that {conclusion.winner} meets it."
        )
    elif met is not None:
        told.append(
            f"A higher bar than {percent(rules.bar)}: these items do not show that {conclusion.winner} meets one."
        )
    return told


def _rungs(rules: Rules, outcomes: Sequence[RungOutcome], conclusion: Conclusion) -> list[str]:
    """What kept rungs out: of those below the winner, which would be cheaper, or of all where none met the bar."""
    told = [
        f"{outcome.rung.capitalize()}, if it became possible: it was skipped because {_because(outcome.skipped)}."
        for outcome in outcomes
        if outcome.skipped is not None
    ]
    if conclusion.winner is None:
        tried = {outcome.rung for outcome in outcomes}
        left = [rung for rung in rules.ladder if rung not in tried]
        told += [f"The rest of the ladder, not tried: {', '.join(left)}."] if left else []
        out = [rung for rung in ("prompting", "retrieval", "sft", "preference", "full") if rung not in rules.ladder]
        told += [f"Rungs that the task leaves out of `ladder`: {', '.join(out)}."] if out else []
    return told


def _world(conclusion: Conclusion, *, knowledge: bool) -> list[str]:
    told = []
    if conclusion.winner is None or conclusion.winner not in UNTUNED:
        told.append(
            "A newer or larger model that meets the bar when it is only prompted: `lastresort recheck RUN --model NEW` "
            "asks it the same test items."
        )
    if conclusion.winner is not None and knowledge:
        told.append("Changed documents: `lastresort recheck RUN` says whether the answers are out of date.")
    return told


def _because(reason: str) -> str:
    return reason.rstrip(".")


def _tested(outcomes: Sequence[RungOutcome]) -> list[tuple[str, Judgement]]:
    return [(outcome.rung, outcome.judgement) for outcome in outcomes if outcome.judgement is not None]
