"""The suites of a gate, and what a pilot of the base says of each before anything is scored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from lastresort.evals.gate.headroom import without_headroom
from lastresort.evals.suites.suite import Item, Measure, Suite, Transcript
from lastresort.spec.task import Task
from lastresort.systems.system import PromptDesign

PILOT_SEED = -1  # of no gate: `--seed` begins at 0, so that what is piloted is never scored
PILOT_ITEMS = 48

Said = Sequence[tuple[Item, Transcript]]


@dataclass(frozen=True, slots=True)
class Known:
    """What the suites are made from. scores: whether both models can tell how likely an answer is; otherwise each suite asks for
    answers in words. design: of the tuned system's prompt. inputs: real ones of the task that were not trained on. answer_tokens:
    about as many as the longest answer of the task takes. quick: whether the gate is bounded in time.
    """

    task: Task
    scores: bool
    design: PromptDesign
    inputs: tuple[str, ...]
    answer_tokens: int
    quick: bool = False


@dataclass(frozen=True, slots=True)
class Ready:
    """suite: whose items are scored. uninformative: by the name of a measure, why it can say nothing of this base."""

    suite: Suite
    uninformative: dict[str, str] = field(default_factory=dict)


class Plan(Protocol):
    """A suite before the base is known. name: of its margin in the task's `keep`. pilot: its items are asked of the base first."""

    @property
    def name(self) -> str: ...
    @property
    def pilot(self) -> Suite: ...
    @property
    def pilot_items(self) -> int:
        """About as many as the pilot may ask; for a forecast."""

    def look(self, asked: Sequence[Item], said: Said, margin: float) -> Sequence[Item]:
        """What the pilot asks next, after what was asked and said before; nothing when it is over."""

    def ready(self, said: Said, margin: float) -> Ready:
        """said: the pilot. margin: the loss that the task accepts for the suite."""


@dataclass(frozen=True, slots=True)
class Plain:
    """A suite that is scored as it is piloted; a measure is informative where the base has something to lose by it.

    lacks: (said, measure, margin) -> why not, empty where it has.
    """

    pilot: Suite
    pilot_items: int = PILOT_ITEMS
    lacks: Callable[[Said, Measure, float], str] = field(
        default=lambda said, measure, margin: no_headroom(said, measure, margin)
    )

    @property
    def name(self) -> str:
        return self.pilot.name

    def look(self, asked: Sequence[Item], said: Said, margin: float) -> Sequence[Item]:
        return () if asked else self.pilot.draw(PILOT_SEED, 0, self.pilot_items)

    def ready(self, said: Said, margin: float) -> Ready:
        told = {measure.name: self.lacks(said, measure, margin) for measure in self.pilot.measures}
        return Ready(self.pilot, {name: why for name, why in told.items() if why})


def no_headroom(said: Said, measure: Measure, margin: float) -> str:
    """Why an accuracy has nothing to lose: its lower limit is below chance + 2 margins (DESIGN part 9). Empty otherwise."""
    if measure.chance is None:
        return ""
    return without_headroom(base_scores(said, measure), chance=measure.chance, margin=margin * measure.margin_factor)


def base_scores(said: Said, measure: Measure) -> list[float]:
    """What the base scores by a measure, on the items that say something about it."""
    pairs = (measure.pair(item, transcript, transcript) for item, transcript in said)
    return [pair.base for pair in pairs if pair is not None]
