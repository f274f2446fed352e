"""What a rule is: facts -> a sentence of advice or nothing, with its reason, its source and what it favours and opposes."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Literal

from lastresort.ladder.advice.facts import Facts

Strength = Literal["STRONG", "MODERATE", "WEAK"]
STRENGTHS: tuple[Strength, ...] = ("STRONG", "MODERATE", "WEAK")
PRACTICE = "practice"


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of thumb.

    when: in words, what `advice` looks for. advice: the sentence for these facts, None where the rule has nothing to say.
    because: the reason, a sentence. source: who published it, `practice` where it is only what people do. favours, opposes:
    rungs; a STRONG rule rules out what it opposes. concerns: rungs without which the advice is pointless, beside those it
    favours or opposes.
    """

    name: str
    strength: Strength
    when: str
    advice: Callable[[Facts], str | None]
    because: str
    source: str = PRACTICE
    favours: tuple[str, ...] = ()
    opposes: tuple[str, ...] = ()
    concerns: tuple[str, ...] = ()

    def matters(self, open_rungs: Collection[str]) -> bool:
        """Whether the advice is of use where only these rungs are left. STRONG advice always is."""
        about = {*self.favours, *self.opposes, *self.concerns}
        return self.strength == "STRONG" or not about or not about.isdisjoint(open_rungs)


@dataclass(frozen=True, slots=True)
class Given:
    """A rule that had something to say, and what it said."""

    rule: Rule
    advice: str


def given(rules: tuple[Rule, ...], facts: Facts) -> tuple[Given, ...]:
    """What the rules say of these facts, strongest first, each strength in the order of the table."""
    said = [Given(rule, sentence) for rule in rules if (sentence := rule.advice(facts)) is not None]
    return tuple(sorted(said, key=lambda one: STRENGTHS.index(one.rule.strength)))
