"""What a gate needs of a suite before it scores anything: the pilot of the base, then the sample size.

An `ExternalSuite` asks by itself while a gate has one of its two models open.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from lastresort.gate.suites.suite import ItemTranscripts, Suite, SuiteItem, SuiteMeasure, Transcript
from lastresort.gate.target import SideName
from lastresort.gate.verdict.compare import needed_items, planned_power, why_no_headroom
from lastresort.models.protocol import Model
from lastresort.records.gate import GateSpent, SkippedMeasure, SuiteFound, UninformativeMeasure
from lastresort.records.responses import SuiteAnswers
from lastresort.spec.task import Task
from lastresort.stop import NEVER, Stop
from lastresort.systems.system import PromptDesign
from lastresort.types import Progress

PILOT_SEED = -1  # `--seed` begins at 0, so no item of a pilot is ever scored
PILOT_ITEMS = 48


@dataclass(frozen=True, slots=True)
class SuiteInputs:
    """What the suites are made from. scores: whether both models give likelihoods; otherwise every suite asks for answers in words.
    design: of the tuned system's prompt. task_inputs: inputs of the task that were not trained on. answer_tokens: about the length
    of the task's longest answer. quick: whether the gate asks a fixed number of items.
    """

    task: Task
    scores: bool
    design: PromptDesign
    task_inputs: tuple[str, ...]
    answer_tokens: int
    quick: bool = False


@dataclass(frozen=True, slots=True)
class PilotedSuite:
    """A suite after its pilot. suite: whose items are scored. uninformative: why a measure can say nothing about this base, by its
    name."""

    suite: Suite
    uninformative: dict[str, str] = field(default_factory=dict)


class SuitePlan(Protocol):
    """A suite before its pilot. name: of its margin in the task's `keep`. pilot: the suite whose items the pilot asks."""

    @property
    def name(self) -> str: ...
    @property
    def pilot(self) -> Suite: ...
    @property
    def pilot_items(self) -> int:
        """About how many the pilot asks at most, for a forecast."""

    def next_items(
        self, asked: Sequence[SuiteItem], transcripts: ItemTranscripts, margin: float
    ) -> Sequence[SuiteItem]:
        """What the pilot asks next, given the items asked so far and their transcripts; nothing when the pilot is over."""

    def after_pilot(self, transcripts: ItemTranscripts, margin: float) -> PilotedSuite:
        """transcripts: of the whole pilot. margin: the largest loss that the task accepts in this suite."""


@dataclass(frozen=True, slots=True)
class PlainPlan:
    """A suite whose pilot asks the same kind of items. A measure is informative if the base has something to lose by it.

    why_uninformative: (transcripts, measure, margin) -> why it has not, "" if it has.
    """

    pilot: Suite
    pilot_items: int = PILOT_ITEMS
    why_uninformative: Callable[[ItemTranscripts, SuiteMeasure, float], str] = field(
        default=lambda *pilot: why_uninformative(*pilot)
    )

    @property
    def name(self) -> str:
        return self.pilot.name

    def next_items(
        self, asked: Sequence[SuiteItem], transcripts: ItemTranscripts, margin: float
    ) -> Sequence[SuiteItem]:
        return () if asked else self.pilot.draw(PILOT_SEED, 0, self.pilot_items)

    def after_pilot(self, transcripts: ItemTranscripts, margin: float) -> PilotedSuite:
        found = {measure.name: self.why_uninformative(transcripts, measure, margin) for measure in self.pilot.measures}
        return PilotedSuite(self.pilot, {name: why for name, why in found.items() if why})


def why_uninformative(transcripts: ItemTranscripts, measure: SuiteMeasure, margin: float) -> str:
    """Why an accuracy has nothing to lose: its lower limit is below chance + 2 margins. Empty if it has."""
    if measure.chance is None:
        return ""
    return why_no_headroom(
        base_scores(transcripts, measure), chance=measure.chance, margin=margin * measure.margin_factor
    )


def base_scores(transcripts: ItemTranscripts, measure: SuiteMeasure) -> list[float]:
    """The base's scores by a measure, on the items that are informative for it."""
    pairs = (measure.pair(item, transcript, transcript) for item, transcript in transcripts)
    return [pair.base for pair in pairs if pair is not None]


class ExternalSuite(Protocol):
    """A suite that asks by itself. measures: how many it has, 0 if the task leaves it out."""

    @property
    def name(self) -> str: ...
    @property
    def measures(self) -> int: ...
    @property
    def spent(self) -> GateSpent: ...

    def answer(
        self, side: SideName, model: Model, kept: SuiteAnswers, power: float, progress: Progress, stop: Stop = NEVER
    ) -> None:
        """Ask the base, which comes first, or the tuned model. power: to plan each measure for. stop: checked after every batch,
        which is kept by then."""

    def judge(self, power: float) -> list[SuiteFound]:
        """The finding of each measure, after both models answered."""


@dataclass(frozen=True, slots=True)
class SettledSuite:
    """A suite that asks nothing: the task leaves it out, or it cannot run here."""

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

    def judge(self, power: float) -> list[SuiteFound]:
        return [self.measure]


# By alpha: the fewest items, in steps of 16, that can rule out a loss of 2 points.
QUICK_ITEMS = {0.05: 160, 0.025: 208}
FEWEST, MOST, STEP = 64, 4096, 16


@dataclass(frozen=True, slots=True)
class SampleSize:
    """items: to ask. needed: for the planned power, if no more answers differ than `SPREAD` assumes."""

    items: int
    needed: int


def sample_size(
    suite: Suite, transcripts: ItemTranscripts, margin: float, *, measures: int, alpha: float, quick: bool
) -> SampleSize:
    """How many items of the suite each of its measures needs, in steps of 16.

    transcripts: of the pilot, which shows how many items are informative for a measure. margin: of the suite. measures: how many
    the whole gate has. alpha: .05 or .025. quick: at most QUICK_ITEMS. That limit and MOST can cost power, and nothing else.
    """
    of_any = sum(_is_informative(suite, one) for one in transcripts)
    shares = [len(base_scores(transcripts, measure)) / of_any if of_any else 1.0 for measure in suite.measures]
    power = planned_power(measures)
    needs = [
        needed_items(margin * measure.margin_factor, power=power, alpha=alpha, binary=measure.binary, informative=share)
        for measure, share in zip(suite.measures, shares, strict=True)
        if share > 0
    ]
    needed = math.ceil(max([FEWEST, *needs]) / STEP) * STEP
    return SampleSize(min(needed, QUICK_ITEMS[alpha] if quick else MOST), needed)


def _is_informative(suite: Suite, one: tuple[SuiteItem, Transcript]) -> bool:
    """Whether one measure at least finds the item informative. Items that only a pilot asks are not."""
    item, transcript = one
    return any(measure.pair(item, transcript, transcript) is not None for measure in suite.measures)
