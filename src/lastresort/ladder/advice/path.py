"""The recommended way up: each rung with do, only if, or not, and why. It never recommends what a climb would skip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from lastresort.ladder.advice.facts import Facts
from lastresort.ladder.advice.rule import Given
from lastresort.report.wording import percent_in_text as percent
from lastresort.spec.task import RUNGS

Stance = Literal["DO", "ONLY_IF", "NOT"]

_DEFAULTS = {
    "prompting": "It is the cheapest rung, and the measure of all others.",
    "retrieval": "It mends missing knowledge and nothing else.",
    "sft": "It teaches form, style and a narrow skill.",
    "preference": "It teaches which of two possible answers is better.",
    "full": "It is the dearest rung, and breaks most elsewhere.",
}
_KINDS = {
    "retrieval": "the failures are for want of knowledge",
    "sft": "the answers fail in form, style or skill rather than in knowledge",
    "preference": "better answers are easier to choose than to write",
    "full": "a capability is missing that an adapter did not learn",
}


@dataclass(frozen=True, slots=True)
class Advised:
    """One rung. condition: for ONLY_IF, what has to be so; None otherwise. reasons: sentences, never none."""

    rung: str
    stance: Stance
    condition: str | None
    reasons: tuple[str, ...]


def recommended_path(facts: Facts, said: Sequence[Given]) -> tuple[Advised, ...]:
    """All rungs in the order of the ladder.

    NOT: the task leaves it out, a climb would skip it, or a STRONG rule opposes it. DO: the lowest rung, and above it the first
    that a rule favours and none opposes, where the best prompt is known to miss the bar. ONLY_IF: the rest.
    """
    steps: list[Advised] = []
    for rung in RUNGS:
        against = _ruled_out(rung, facts, said)
        if against:
            steps.append(Advised(rung, "NOT", None, against))
            continue
        favoured, cautions = _favouring(rung, said), _cautioning(rung, said)
        reasons = (*cautions, *favoured) or (_DEFAULTS[rung],)
        below = [step.rung for step in steps if step.stance != "NOT"]
        untried = [step.rung for step in steps if step.stance == "DO" and _has_more(step.rung, said)]
        needed = favoured and not cautions and not untried and facts.prompt_misses
        if rung == "prompting" or not below or needed:
            steps.append(Advised(rung, "DO", None, reasons))
        else:
            steps.append(Advised(rung, "ONLY_IF", _condition(rung, below, untried, facts), reasons))
    return tuple(steps)


def _ruled_out(rung: str, facts: Facts, said: Sequence[Given]) -> tuple[str, ...]:
    """Why this rung is out, in sentences; () where it is not."""
    if rung not in facts.ladder:
        return ("Your task leaves it out of its ladder.",)
    strong = tuple(one.advice for one in said if rung in one.rule.opposes and one.rule.strength == "STRONG")
    skipped = dict(facts.skips).get(rung)
    if skipped is not None:
        return (f"A climb would skip it: {skipped.rstrip('.')}.", *strong)
    if strong:
        return strong
    if rung == "retrieval" and facts.knowledge is False:
        return ("There are no documents to retrieve from.",)
    if rung == "retrieval" and facts.wrong and not facts.is_wrong("knowledge"):
        return ("What is wrong is not for want of knowledge.",)
    return ()


def _favouring(rung: str, said: Sequence[Given]) -> tuple[str, ...]:
    return tuple(one.advice for one in said if rung in one.rule.favours and one.rule.strength != "WEAK")


def _cautioning(rung: str, said: Sequence[Given]) -> tuple[str, ...]:
    return tuple(one.advice for one in said if rung in one.rule.opposes)


def _has_more(rung: str, said: Sequence[Given]) -> bool:
    """Whether a rung that was not measured yet, or not as it should be, may still do."""
    return rung != "prompting" or any(rung in one.rule.favours and one.rule.strength == "STRONG" for one in said)


def _condition(rung: str, below: Sequence[str], untried: Sequence[str], facts: Facts) -> str:
    if rung == "sft" and facts.prompt_meets:
        return "what it saves a year is worth training, serving and training again"
    if not untried and facts.prompt_misses and rung in ("retrieval", "sft"):
        return _KINDS[rung]
    wanted = ("sft", *untried[::-1], "prompting") if rung in ("preference", "full") else (*untried[::-1], "prompting")
    after = next((lower for lower in wanted if lower in below), below[-1])
    bar = "your bar" if facts.bar is None else f"the bar of {percent(facts.bar)}"
    return f"{after} misses {bar}, and {_KINDS[rung]}"
