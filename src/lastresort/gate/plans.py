"""What a gate needs of a suite before it scores anything: the pilot of the base, then the sample size."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Protocol

from lastresort.evals.evidence.sequential import LOOKING, expected_units, look_schedule
from lastresort.gate.suites.asking import AnswerBatches, SuiteBatch, ask
from lastresort.gate.suites.suite import ItemTranscripts, Suite, SuiteItem, SuiteMeasure, Transcript
from lastresort.gate.verdict.compare import SPREAD, needed_items, planned_power, why_no_headroom
from lastresort.models.protocol import Model
from lastresort.records.responses import SuiteAnswers
from lastresort.records.uninformative import WhyUninformative
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
    of the task's longest answer. quick: whether the gate is bounded in items.
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
    uninformative: dict[str, WhyUninformative] = field(default_factory=dict)


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

    why_uninformative: (transcripts, measure, margin) -> why it has not, None if it has.
    """

    pilot: Suite
    pilot_items: int = PILOT_ITEMS
    why_uninformative: Callable[[ItemTranscripts, SuiteMeasure, float], WhyUninformative | None] = field(
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
        reasons = {
            measure.name: self.why_uninformative(transcripts, measure, margin) for measure in self.pilot.measures
        }
        return PilotedSuite(self.pilot, {name: why for name, why in reasons.items() if why})


def why_uninformative(transcripts: ItemTranscripts, measure: SuiteMeasure, margin: float) -> WhyUninformative | None:
    """Why an accuracy has nothing to lose: its lower limit is below chance + 2 margins. None if it has something."""
    if measure.chance is None:
        return None
    return why_no_headroom(
        base_scores(transcripts, measure), chance=measure.chance, margin=margin * measure.margin_factor
    )


def base_scores(transcripts: ItemTranscripts, measure: SuiteMeasure) -> list[float]:
    """The base's scores by a measure, on the items that are informative for it."""
    pairs = (measure.pair(item, transcript, transcript) for item, transcript in transcripts)
    return [pair.base for pair in pairs if pair is not None]


@dataclass(frozen=True, slots=True)
class PilotResult:
    """items: all that were asked. transcripts: of those that fit the context. seconds: by the id of an item."""

    items: tuple[SuiteItem, ...]
    transcripts: ItemTranscripts
    seconds: dict[str, float]

    @property
    def item_seconds(self) -> float:
        """The mean over all items; 0 without any."""
        return fmean(self.seconds.values()) if self.seconds else 0.0

    def seconds_of(self, items: Sequence[SuiteItem]) -> float:
        """Estimated time for these items: the pilot's mean for their stratum, or for all items where it has none."""
        strata: dict[tuple[str, int], list[float]] = defaultdict(list)
        for item in self.items:
            strata[item.family, item.level].append(self.seconds[item.id])
        means = {stratum: fmean(seconds) for stratum, seconds in strata.items()}
        return sum(means.get((item.family, item.level), self.item_seconds) for item in items)


def run_pilot(
    model: Model,
    plan: SuitePlan,
    margin: float,
    kept: SuiteAnswers,
    progress: Progress,
    stop: Stop = NEVER,
    answered: AnswerBatches[SuiteBatch] | None = None,
) -> PilotResult:
    """Ask the base, look by look, until the plan has seen enough. None of these items is scored. answered: as of `ask`."""
    pilot = PilotResult((), (), {})
    while items := plan.next_items(pilot.items, pilot.transcripts, margin):
        progress.stage(f"{plan.name}: a pilot of the base", len(items))
        replies = ask(model, plan.pilot, items, kept, progress=progress, stop=stop, answered=answered)
        pilot = PilotResult(
            (*pilot.items, *items),
            (*pilot.transcripts, *replies.with_transcripts(items)),
            pilot.seconds | replies.seconds_by_item,
        )
    return pilot


# Of a suite that cannot look as it goes, by alpha: the fewest items, in steps of 16, that can rule out a loss of 2 points.
QUICK_ITEMS = {0.05: 160, 0.025: 208}
# Of a suite that looks as it goes: the test of a fixed size comes after at most so many items, and never after fewer than can rule
# out a loss of 2 points in each of two gates. Looking alone goes on beyond it where it is likely to decide. Both models get so many
# seconds together up to that test, by the rate of the pilot, and as many again beyond it.
QUICK_FIXED, QUICK_LEAST, QUICK_MOST, QUICK_SECONDS = 384, 256, 1024, 240.0
FEWEST, MOST, STEP = 64, 4096, 16


@dataclass(frozen=True, slots=True)
class SampleSize:
    """items: the most to ask. fixed: after how many the test of a fixed size is made. needed: for the planned power of that test,
    if no more answers differ than `SPREAD` assumes. expected: about how many it takes if nothing is lost and half as many differ.
    """

    items: int
    fixed: int
    needed: int
    expected: int


@dataclass(frozen=True, slots=True)
class SizeRule:
    """How large the samples of a gate are. measures: how many it has. alpha: .05 or .025. quick: bounded in items, the
    fewer the slower the models. looks: whether it may stop before the last item, so that the test of a fixed size has its share of
    alpha alone.
    """

    measures: int
    alpha: float
    quick: bool
    looks: bool = True

    @property
    def alpha_once(self) -> float:
        """Of the test of a fixed size."""
        return self.alpha * (1 - LOOKING) if self.looks else self.alpha

    def fixed(self, item_seconds: float) -> int:
        """The most items of the test of a fixed size. item_seconds: of one model. Limits can cost power, and nothing else: they are
        set before an item is scored."""
        if not self.quick:
            return MOST
        if not self.looks:
            return QUICK_ITEMS[self.alpha]
        return max(QUICK_LEAST, min(QUICK_FIXED, _in_time(QUICK_SECONDS, item_seconds)))

    def most(self, item_seconds: float) -> int:
        """The most items to look at; beyond the test of a fixed size only in a quick gate, whose other bound is low."""
        fixed = self.fixed(item_seconds)
        if not (self.quick and self.looks):
            return fixed
        return max(fixed, min(QUICK_MOST, _in_time(2 * QUICK_SECONDS, item_seconds)))


def _in_time(seconds: float, item_seconds: float) -> int:
    """How many items both models answer, in steps of 16."""
    return math.floor(seconds / (2 * item_seconds) / STEP) * STEP if item_seconds else MOST


def sample_size(
    suite: Suite, transcripts: ItemTranscripts, margin: float, rule: SizeRule, item_seconds: float = 0.0
) -> SampleSize:
    """How many items of the suite each of its measures needs, in steps of 16.

    transcripts: of the pilot, which shows how many items are informative for a measure. margin: of the suite. item_seconds: of one
    model, as in the pilot.
    """
    of_any = sum(_is_informative(suite, transcript) for transcript in transcripts)
    shares = [len(base_scores(transcripts, measure)) / of_any if of_any else 1.0 for measure in suite.measures]
    power, alpha = planned_power(rule.measures), rule.alpha_once
    informative = [(measure, share) for measure, share in zip(suite.measures, shares, strict=True) if share > 0]
    needs = [
        needed_items(margin * measure.margin_factor, power=power, alpha=alpha, binary=measure.binary, informative=share)
        for measure, share in informative
    ]
    needed = math.ceil(max([FEWEST, *needs]) / STEP) * STEP
    fixed, most = min(needed, rule.fixed(item_seconds)), min(needed, rule.most(item_seconds))
    if not rule.looks:
        return SampleSize(most, fixed, needed, most)
    takes = [
        expected_units(
            margin * measure.margin_factor, SPREAD[measure.binary] / 2, alpha=rule.alpha, binary=measure.binary
        )
        / share
        for measure, share in informative
    ]
    longest = max(takes, default=0)
    expected = fixed if longest > most else next(stop for stop in look_schedule(most, fixed) if stop >= longest)
    return SampleSize(most, fixed, needed, expected)


def _is_informative(suite: Suite, pilot_item: tuple[SuiteItem, Transcript]) -> bool:
    """Whether one measure at least finds the item informative. Items that only a pilot asks are not."""
    item, transcript = pilot_item
    return any(measure.pair(item, transcript, transcript) is not None for measure in suite.measures)
