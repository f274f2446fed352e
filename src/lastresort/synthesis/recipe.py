"""What is to be made, and how: `app/synth_recipe.py` reads it off a task."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lastresort.synthesis.kinds import SeedRows
from lastresort.systems.system import PromptDesign
from lastresort.types import Example


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
    again, 0 to not ask. agrees: whether an answer counts as that of the example. spelt: an answer as train spells it.
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
    agrees: Callable[[str, Example], bool]
    spelt: Callable[[str], str]
    lengths: Lengths
    seed: int
    made: str
    constrained: bool = False
    priced: bool = True
