"""What is to be made, and how: `app/synth_recipe.py` reads it off a task."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lastresort.knowledge.chunks import Chunk
from lastresort.synthesis.kinds import KINDS, SeedRows
from lastresort.synthesis.prompts import ANSWER_FROM_PASSAGE, NOT_STATED
from lastresort.systems.compose import compose
from lastresort.systems.system import PromptDesign
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
    again, 0 to not ask. passage_checks: the same for questions from documents. agrees: whether an answer counts as that of the
    example. supports: the same of an answer from a passage. spelt: an answer as train spells it.
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

    def blind_prompt(self, turns: Sequence[Message]) -> tuple[Message, ...]:
        """For an answer to an input on its own."""
        return compose(self.blind, turns, self.blind.shots)

    def passage_prompt(self, turns: Sequence[Message], passage: Chunk, shown: Sequence[Example]) -> tuple[Message, ...]:
        """For an answer from a passage, or the word that it has none. shown: rows that the request for the question showed, none of
        which is a shot here: an answer copied from one of them would be copied again. The shots have no passage.
        """
        seen = [row.input for row in shown]
        shots = tuple(shot for shot in self.blind.shots if shot.input not in seen)
        return compose(
            self.blind, turns, shots, lambda asked: (passage,) if asked is turns else (), ANSWER_FROM_PASSAGE
        )

    def gives_again(self, answer: str, example: Example, passage: Chunk | None) -> bool:
        """Whether an answer to the example's input counts as the example's."""
        if passage is None:
            return self.agrees(answer, example)
        return NOT_STATED.casefold() not in answer.casefold() and self.supports(answer, example)
