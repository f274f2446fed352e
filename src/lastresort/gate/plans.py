"""The suites of a gate, and what a pilot of the base says of each before anything is scored.

Suites beside those of this package, which ask by themselves while a gate has one of its two models open.

How many items of a suite a gate asks. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from lastresort.gate.suites.suite import Suite, SuiteItem, SuiteMeasure, Transcript
from lastresort.gate.target import SideName
from lastresort.gate.verdict.compare import MeasureDesign, sample_sizes
from lastresort.gate.verdict.findings import why_no_headroom
from lastresort.models.protocol import Model
from lastresort.records.gate import GateSpent, SkippedMeasure, SuiteFound, UninformativeMeasure
from lastresort.records.responses import SuiteAnswers
from lastresort.spec.task import Task
from lastresort.stop import NEVER, Stop
from lastresort.systems.system import PromptDesign
from lastresort.types import Progress

PILOT_SEED = -1  # of no gate: `--seed` begins at 0, so that what is piloted is never scored
PILOT_ITEMS = 48

Said = Sequence[tuple[SuiteItem, Transcript]]


@dataclass(frozen=True, slots=True)
class SuiteInputs:
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
class ReadySuite:
    """suite: whose items are scored. uninformative: by the name of a measure, why it can say nothing of this base."""

    suite: Suite
    uninformative: dict[str, str] = field(default_factory=dict)


class SuitePlan(Protocol):
    """A suite before the base is known. name: of its margin in the task's `keep`. pilot: its items are asked of the base first."""

    @property
    def name(self) -> str: ...
    @property
    def pilot(self) -> Suite: ...
    @property
    def pilot_items(self) -> int:
        """About as many as the pilot may ask; for a forecast."""

    def look(self, asked: Sequence[SuiteItem], said: Said, margin: float) -> Sequence[SuiteItem]:
        """What the pilot asks next, after what was asked and said before; nothing when it is over."""

    def ready(self, said: Said, margin: float) -> ReadySuite:
        """said: the pilot. margin: the loss that the task accepts for the suite."""


@dataclass(frozen=True, slots=True)
class PlainPlan:
    """A suite that is scored as it is piloted; a measure is informative where the base has something to lose by it.

    lacks: (said, measure, margin) -> why not, empty where it has.
    """

    pilot: Suite
    pilot_items: int = PILOT_ITEMS
    lacks: Callable[[Said, SuiteMeasure, float], str] = field(
        default=lambda said, measure, margin: why_uninformative(said, measure, margin)
    )

    @property
    def name(self) -> str:
        return self.pilot.name

    def look(self, asked: Sequence[SuiteItem], said: Said, margin: float) -> Sequence[SuiteItem]:
        return () if asked else self.pilot.draw(PILOT_SEED, 0, self.pilot_items)

    def ready(self, said: Said, margin: float) -> ReadySuite:
        told = {measure.name: self.lacks(said, measure, margin) for measure in self.pilot.measures}
        return ReadySuite(self.pilot, {name: why for name, why in told.items() if why})


def why_uninformative(said: Said, measure: SuiteMeasure, margin: float) -> str:
    """Why an accuracy has nothing to lose: its lower limit is below chance + 2 margins (DESIGN part 9). Empty otherwise."""
    if measure.chance is None:
        return ""
    return why_no_headroom(base_scores(said, measure), chance=measure.chance, margin=margin * measure.margin_factor)


def base_scores(said: Said, measure: SuiteMeasure) -> list[float]:
    """What the base scores by a measure, on the items that say something about it."""
    pairs = (measure.pair(item, transcript, transcript) for item, transcript in said)
    return [pair.base for pair in pairs if pair is not None]


class ExternalSuite(Protocol):
    """measures: how many are required, 0 where the task leaves the suite out."""

    @property
    def name(self) -> str: ...
    @property
    def measures(self) -> int: ...
    @property
    def spent(self) -> GateSpent: ...

    def answer(
        self, side: SideName, model: Model, kept: SuiteAnswers, power: float, progress: Progress, stop: Stop = NEVER
    ) -> None:
        """Ask the base, which comes first, or the tuned model. power: that each measure is planned for, of the base's sizes. stop:
        looked at after every batch, which is kept by then."""

    def found(self, power: float) -> list[SuiteFound]:
        """After both answered, with what was asked and what changed most."""


@dataclass(frozen=True, slots=True)
class SettledSuite:
    """A suite of which nothing is asked: it was left out, or cannot be run here."""

    name: str
    measure: SkippedMeasure | UninformativeMeasure

    @property
    def measures(self) -> int:
        return int(self.measure.verdict != "SKIPPED")

    @property
    def spent(self) -> GateSpent:
        return GateSpent()

    def answer(
        self, side: SideName, model: Model, kept: SuiteAnswers, power: float, progress: Progress, stop: Stop = NEVER
    ) -> None: ...

    def found(self, power: float) -> list[SuiteFound]:
        return [self.measure]


# By alpha, the fewest, in whole steps of 16, of which a loss of 2 points can be excluded.
QUICK_ITEMS = {0.05: 160, 0.025: 208}
FEWEST, MOST, STEP = 64, 4096, 16


@dataclass(frozen=True, slots=True)
class SampleSize:
    """items: to be asked. needed: what the planned power takes, if no more answers differ than `SPREAD` has it."""

    items: int
    needed: int


def sample_size(suite: Suite, said: Said, margin: float, *, measures: int, alpha: float, quick: bool) -> SampleSize:
    """Items of the suite that give each of its measures what it needs, in steps of 16, whatever model answers.

    said: the pilot of the base, which tells how many items say something about a measure. margin: of the suite. measures: of all
    suites that are asked. alpha: .05 or .025. quick: QUICK_ITEMS at most, which can cost power and nothing else; so can MOST.
    """
    of_any = sum(_says_something(suite, one) for one in said)
    wanted = [
        MeasureDesign(measure.name, margin * measure.margin_factor, measure.binary, says=share)
        for measure in suite.measures
        if (share := len(base_scores(said, measure)) / of_any if of_any else 1.0) > 0
    ]
    needed = max((one.n_needed for one in sample_sizes(wanted, alpha=alpha, measures=measures)), default=0)
    needed = math.ceil(max(FEWEST, needed) / STEP) * STEP
    return SampleSize(min(needed, QUICK_ITEMS[alpha] if quick else MOST), needed)


def _says_something(suite: Suite, one: tuple[SuiteItem, Transcript]) -> bool:
    """By one measure at least; what a pilot alone asks says nothing by any."""
    item, transcript = one
    return any(measure.pair(item, transcript, transcript) is not None for measure in suite.measures)
