"""What is to be made, and how: `app/synth_recipe.py` reads it off a task."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lastresort.knowledge.chunks import Chunk
from lastresort.synthesis.kinds import KINDS, SeedRows
from lastresort.systems.compose import compose
from lastresort.systems.system import PASSAGES_REQUEST, PromptDesign
from lastresort.types import Example, Message

PASSAGE_CHECKS = 2  # answers at least to a question made from a passage, all of which must agree with the row's


@dataclass(frozen=True, slots=True)
class Lengths:
    """In tokens. reply: the longest to a request. blind, answer: the longest prompt for the answer to an input alone, and the
    longest answer.
    """

    reply: int
    blind: int
    answer: int


@dataclass(frozen=True, slots=True)
class Recipe:
    """What is to be made. teacher: its name, as the user gives it. n: rows. kinds: in turn. instruction: of the task, with the
    form of its answers. blind: how the teacher answers an input on its own. agreement: how often it must give the row's answer
    again, 0 to not ask. passage_checks: the same for questions from documents. agrees: whether an answer counts as that of the example. supports: the same of an answer from a passage.
    spelt: an answer as train spells it.
    constrained: whether the teacher is a local model, whose decoding can be held to the form of a reply. made: the date.
    priced: whether it is known what the teacher costs.
    """

    teacher: str
    n: int
    kinds: tuple[str, ...]
    seeds: SeedRows
    instruction: str
    blind: PromptDesign
    agreement: int
    passage_checks: int
    agrees: Callable[[str, Example], bool]
    supports: Callable[[str, Example], bool]
    spelt: Callable[[str], str]
    lengths: Lengths
    seed: int
    made: str
    constrained: bool = False
    priced: bool = True

    def checks(self, kind: str) -> int:
        """How often the teacher answers a new row of this kind, without having seen its answer."""
        return self.passage_checks if KINDS[kind].needs_passages else self.agreement

    @property
    def most_checks(self) -> int:
        """Of a row of any of its kinds."""
        return max(map(self.checks, self.kinds))

    def blind_prompt(self, turns: Sequence[Message], passage: Chunk | None) -> tuple[Message, ...]:
        """For an answer to an input on its own, or from its passage. The shots have no passage."""
        if passage is None:
            return compose(self.blind, turns, self.blind.shots)
        return compose(
            self.blind, turns, self.blind.shots, lambda asked: (passage,) if asked is turns else (), PASSAGES_REQUEST
        )
