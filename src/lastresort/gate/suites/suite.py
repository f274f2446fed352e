"""What a suite of the gate is: a fixed long sequence of items, a way to ask them, and measures that compare two answers.

A suite is asked in rounds, so that it can react to a reply: `ask` gives the questions of the next round, given the replies so far.
All replies are kept as a `Transcript`, from which the measures are computed afterwards. So the base is asked once for every version
of a suite, however often a measure is computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from lastresort.types import Decoding, Message

SideName = Literal["base", "tuned"]  # of the two models that a gate compares


@dataclass(frozen=True, slots=True)
class SuiteItem:
    """One item. id: "<family>/<level>/<seed>/<number>", which fixes the whole item for a version of the suite; it is never
    read. number: its place among the items of its family, level and seed. facts: what the suite needs to ask and to score it, as
    JSON.
    """

    id: str
    family: str
    level: int
    text: str
    facts: dict[str, Any] = field(default_factory=dict)
    number: int = 0


@dataclass(frozen=True, slots=True)
class ChoiceRequest:
    """Asks for the likeliest of some answers. options: at least two, as the assistant would begin with them."""

    key: str
    prompt: tuple[Message, ...]
    options: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TextRequest:
    """Asks for an answer in words."""

    key: str
    prompt: tuple[Message, ...]
    decoding: Decoding


Question = ChoiceRequest | TextRequest


@dataclass(frozen=True, slots=True)
class SuiteReply:
    """text: the likeliest option, or the answer in words. logps: those of all options, in their order, in nats."""

    text: str
    logps: tuple[float, ...] = ()
    finish: str = "stop"


Transcript = dict[str, SuiteReply]  # the replies to an item, by the key of the question
ItemTranscripts = Sequence[tuple[SuiteItem, Transcript]]


@dataclass(frozen=True, slots=True)
class ScorePair:
    """The scores of base and tuned model on one item by one measure, in [0, 1], higher is better.

    stratum: what the item is counted under in tables (its family, or a condition). detail: in words, for the report. keys: the
    questions that the scores come from, the decisive one first; () if the item has only one.
    """

    id: str
    base: float
    tuned: float
    stratum: str = ""
    detail: str = ""
    keys: tuple[str, ...] = ()


class SuiteMeasure(Protocol):
    """One figure of a suite, with a margin of its own.

    name: as in decision.json. binary: whether scores are 0 or 1. margin_factor: what the task's margin for the suite is
    multiplied by, where scores are scaled. chance: the score of guessing, None where it is no accuracy and needs no headroom.
    """

    @property
    def name(self) -> str: ...
    @property
    def binary(self) -> bool: ...
    @property
    def margin_factor(self) -> float: ...
    @property
    def chance(self) -> float | None: ...

    def pair(self, item: SuiteItem, base: Transcript, tuned: Transcript) -> ScorePair | None:
        """None where the item says nothing about this measure."""


class Suite(Protocol):
    """name: of the margin in the task's `keep`. version: grows whenever an item of the same id would be another."""

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> int: ...
    @property
    def measures(self) -> Sequence[SuiteMeasure]: ...

    def draw(self, seed: int, start: int, stop: int) -> list[SuiteItem]:
        """Items [start, stop) of the sequence of this seed, fewer where it ends: the same whatever was drawn before."""

    def ask(self, item: SuiteItem, transcript: Transcript) -> Sequence[Question]:
        """The questions of the next round, given the replies so far; none when the item is finished."""


@runtime_checkable
class ByCondition(Protocol):
    """A suite that asks about the same thing in several conditions, the keys of its questions: a report shows each of them."""

    def right(self, item: SuiteItem, transcript: Transcript) -> dict[str, float]:
        """By condition, in their order: 1 if the answer is right, else 0."""
