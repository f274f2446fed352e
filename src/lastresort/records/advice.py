"""What `advise` finds, as `--json` prints it: the rungs, the rules that apply, what to find out, frameworks."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from lastresort.records.document import JsonDocument, Sentence

Stance = Literal["DO", "ONLY_IF", "NOT"]
Strength = Literal["STRONG", "MODERATE", "WEAK"]  # strongest first: rules are sorted by this
FrameworkFit = Literal["TAKE", "CAN", "NOT"]  # best first: frameworks are sorted by this
Fact = str | bool | int | float | tuple[str, ...] | dict[str, str]  # skips: why a climb would skip a rung


class RungAdvice(JsonDocument):
    """condition: for ONLY_IF, what has to be so; null otherwise."""

    rung: str
    stance: Stance
    condition: str | None
    reasons: tuple[Sentence, ...] = Field(min_length=1)


class RuleAdvice(JsonDocument):
    """A rule of thumb that applies. source: who published it. favours, opposes: rungs."""

    name: Sentence
    strength: Strength
    advice: Sentence
    because: Sentence
    source: Sentence
    favours: tuple[str, ...]
    opposes: tuple[str, ...]


class OpenFact(JsonDocument):
    """An unknown fact that would change the advice. decides: rungs."""

    fact: Sentence
    question: Sentence
    choices: tuple[Sentence, ...]
    decides: tuple[str, ...]


class FrameworkAdvice(JsonDocument):
    name: Sentence
    fit: FrameworkFit
    because: Sentence
    good_at: Sentence
    lacks: Sentence


class AdviceDocument(JsonDocument):
    """What `lastresort advise --json` prints: rules of thumb applied to what is known, nothing measured. It grows by version.

    task: null without a task file. answer: to "should I fine-tune?". path: all rungs in the order of the ladder. ladder: as a task
    file that follows the advice has it: the rungs that are not NOT, and what a STRONG rule favours although the task's own ladder
    leaves it out. frameworks: empty where the rules leave nothing to train.
    facts: what was known; what is missing here was not.
    """

    version: Literal[1] = Field(default=1, alias="schema")
    task: str | None
    answer: Sentence
    path: tuple[RungAdvice, ...] = Field(min_length=1)
    ladder: tuple[str, ...]
    rules: tuple[RuleAdvice, ...]
    to_find_out: tuple[OpenFact, ...]
    frameworks: tuple[FrameworkAdvice, ...]
    facts: dict[str, Fact]
    notes: tuple[Sentence, ...]
