"""A gate from top to bottom. Where the two models come from is unknown here, so a gate alone and a gate in a climb are the same.

    who is asked   two sides, base and tuned model (sides.py), one in memory at a time
    what           the suites (suite_table.py, plans.py): general, sycophancy and format leak (suites/, probes/); the task's test
                   set (target.py); tasks of lm-eval (lm_eval/)
    how            a pilot shows where this base has something to lose (`run_pilot`), sample sizes follow (plans.py), items are
                   drawn (drawing.py), then the base answers, then the tuned model (suites/asking.py)
    compared       item by item: a measure gives a pair of scores (suites/suite.py), and each measure is tested (verdict/compare.py)
    verdict        SHIP, HOLD or REJECT over all measures and the target (verdict/decide.py)

command.py (`lastresort gate`), in_climb.py and after/repair call it; document.py makes gate.json of the result. from_logs.py takes
what other tools logged: there the models were asked before, so only the last two lines are left.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from lastresort.gate.drawing import DrawnItems, Facts, draw
from lastresort.gate.plans import ExternalSuite, PilotedSuite, SuitePlan, sample_size
from lastresort.gate.sides import GateSide, open_side, refuse_other_rendering
from lastresort.gate.suites.asking import SuiteReplies, ask
from lastresort.gate.suites.suite import ItemTranscripts, ScorePair, SuiteItem, SuiteMeasure
from lastresort.gate.target import GateTarget, SideName
from lastresort.gate.verdict import GateConclusion, conclude, judge_measure, no_target, planned_power, skipped_measure
from lastresort.models.protocol import Model
from lastresort.records.gate import Fingerprints, GateForecast, GateSpent, SuiteFound, TargetFound
from lastresort.records.responses import SuiteAnswers
from lastresort.report.words.wording import count, duration, spaced
from lastresort.stop import NEVER, Stop, check
from lastresort.types import Progress

Margins = Mapping[str, float | Literal["skip"]]


@dataclass(frozen=True, slots=True)
class GateSettings:
    """seed: for drawing the scored items, at least 0. alpha: the error rate of this gate: .05 alone, .025 for each of two.
    facts: which facts items may be about.
    """

    seed: int = 0
    quick: bool = False
    alpha: float = 0.05
    facts: Facts = "all"


@dataclass(frozen=True, slots=True)
class PlannedSuite:
    """A suite after its pilot, with the items to ask.

    seconds: forecast of asking one model. pilot_items: how many the pilot asked the base. needed: items for the planned power.
    """

    plan: SuitePlan
    margin: float
    piloted: PilotedSuite
    drawn: DrawnItems
    seconds: float
    pilot_items: int
    needed: int


@dataclass(frozen=True, slots=True)
class ScoredSuite:
    """A suite with the replies of both models."""

    planned: PlannedSuite
    base: SuiteReplies
    tuned: SuiteReplies

    @property
    def common_items(self) -> list[SuiteItem]:
        """The items that both models could be asked."""
        common = self.base.transcripts.keys() & self.tuned.transcripts.keys()
        return [item for item in self.planned.drawn.items if item.id in common]

    def pairs(self, measure: SuiteMeasure) -> list[ScorePair]:
        """The scores on the common items that are informative for the measure."""
        base, tuned = self.base.transcripts, self.tuned.transcripts
        pairs = [measure.pair(item, base[item.id], tuned[item.id]) for item in self.common_items]
        return [pair for pair in pairs if pair is not None]

    def groups(self, pairs: Sequence[ScorePair]) -> list[str] | None:
        """The fact behind each pair if several share one: these are not independent. None if all differ."""
        facts = {item.id: str(item.facts.get("fact", item.id)) for item in self.planned.drawn.items}
        labels = [facts[pair.id] for pair in pairs]
        return labels if len(set(labels)) < len(labels) else None

    @property
    def left_out(self) -> tuple[str, ...]:
        """Ids of items that do not fit the context of one of the two."""
        return tuple(dict.fromkeys((*self.base.left_out, *self.tuned.left_out)))


@dataclass(frozen=True, slots=True)
class AskedBase:
    """The base's part of a gate. replies: of each planned suite, in order."""

    planned: tuple[PlannedSuite, ...]
    replies: tuple[SuiteReplies, ...]
    forecast: GateForecast
    fingerprint: str


@dataclass(frozen=True, slots=True)
class FinishedGate:
    """A finished gate. spent: by each of the further suites."""

    conclusion: GateConclusion
    scored: tuple[ScoredSuite, ...]
    forecast: GateForecast
    fingerprints: Fingerprints
    power: float
    spent: tuple[GateSpent, ...] = ()


def run_gate(
    base: GateSide,
    tuned: GateSide,
    plans: Sequence[SuitePlan],
    margins: Margins,
    *,
    settings: GateSettings,
    kept: SuiteAnswers,
    training_texts: Sequence[str],
    progress: Progress,
    target: GateTarget | TargetFound | None = None,
    further: Sequence[ExternalSuite] = (),
    stop: Stop = NEVER,
) -> FinishedGate:
    """Ask both models, compare them, and conclude.

    margins: by the name of a suite, as the task's `keep`. training_texts: items too similar to one of them are skipped. target: the
    task's test set to ask, or what was found on it before; None to compare only everything else. further: suites that ask by
    themselves. stop: checked before each model is opened and after every batch.
    Raises InputError if the two render conversations differently, StoppedError if it stopped: the same call then resumes it.
    """
    refuse_other_rendering(base, tuned)
    required = [plan for plan in plans if margins[plan.name] != "skip"]
    to_ask = None if isinstance(target, TargetFound) else target
    runner = GateRunner(settings, kept, training_texts, progress, to_ask, further=further, stop=stop)
    asked = runner.ask_base(base, required, margins)
    scored, tuned_fingerprint = runner.ask_tuned(tuned, asked)
    power = planned_power(_count_measures(required, further))
    measures = judge_suites(plans, scored, margins, settings, power)
    measures += [measure for suite in further for measure in suite.judge(power)]
    return FinishedGate(
        conclude(measures, _judge_target(target, settings.alpha), alpha=settings.alpha),
        scored,
        asked.forecast,
        Fingerprints(base=asked.fingerprint, tuned=tuned_fingerprint),
        power,
        tuple(suite.spent for suite in further),
    )


@dataclass(frozen=True, slots=True)
class GateRunner:
    """Asks one model, then the other. subject: of the sentence that tells the forecast."""

    settings: GateSettings
    kept: SuiteAnswers
    training_texts: Sequence[str]
    progress: Progress
    target: GateTarget | None
    subject: str = "The gate"
    further: Sequence[ExternalSuite] = ()
    stop: Stop = NEVER

    def ask_base(self, side: GateSide, plans: Sequence[SuitePlan], margins: Margins) -> AskedBase:
        """Pilots, sample sizes and the forecast; then all that the base is asked."""
        check(self.stop)
        self.progress.stage(f"opening the base {side.name}", None)
        with open_side(side) as model:
            measures = _count_measures(plans, self.further)
            planned = tuple(self._plan(model, plan, float(margins[plan.name]), measures) for plan in plans)
            if self.target is not None:
                self.progress.stage("base: a first look at the test set", None)
                self.target.answer("base", model, self.progress, most=model.batch_size, stop=self.stop)
            forecast = self._forecast(planned)
            return AskedBase(planned, self._ask("base", model, planned, measures), forecast, model.fingerprint)

    def ask_tuned(self, side: GateSide, base: AskedBase) -> tuple[tuple[ScoredSuite, ...], str]:
        """All that the tuned model is asked. Returns each suite with both replies, and the model's fingerprint."""
        check(self.stop)
        self.progress.stage(f"opening the tuned model {side.name}", None)
        with open_side(side) as model:
            measures = _count_measures([one.plan for one in base.planned], self.further)
            replies = self._ask("tuned", model, base.planned, measures)
            return tuple(map(ScoredSuite, base.planned, base.replies, replies)), model.fingerprint

    def _plan(self, model: Model, plan: SuitePlan, margin: float, measures: int) -> PlannedSuite:
        pilot = run_pilot(model, plan, margin, self.kept, self.progress, self.stop)
        piloted = plan.after_pilot(pilot.transcripts, margin)
        alpha, quick = self.settings.alpha, self.settings.quick
        size = sample_size(piloted.suite, pilot.transcripts, margin, measures=measures, alpha=alpha, quick=quick)
        drawn = draw(piloted.suite, self.settings.seed, size.items, self.training_texts, self.settings.facts)
        return PlannedSuite(plan, margin, piloted, drawn, pilot.seconds_of(drawn.items), len(pilot.items), size.needed)

    def _forecast(self, planned: Sequence[PlannedSuite]) -> GateForecast:
        """Told before the long part begins, by suite, so that a reader sees what takes its time."""
        parts = [(one.plan.name, len(one.drawn.items), one.seconds) for one in planned]
        if self.target is not None:
            parts.append(("target", self.target.n, self.target.n * self.target.seconds_an_item()))
        items, seconds = sum(n for _, n, _ in parts), 2 * sum(took for _, _, took in parts)
        each = "; ".join(f"{name} {count(n)} items, {duration(2 * took)}" for name, n, took in parts)
        self.progress.say(
            spaced(f"{self.subject} asks {count(items)} items of each model, about {duration(seconds)} ({each}).")
        )
        for one in planned:
            if not self.settings.quick and len(one.drawn.items) < one.needed:
                self.progress.say(
                    f"{one.plan.name} asks {count(len(one.drawn.items))} items, where its margin takes about {count(one.needed)}: "
                    "it may hold for want of items."
                )
        return GateForecast(items=2 * items, seconds=seconds)

    def _ask(
        self, side: SideName, model: Model, planned: Sequence[PlannedSuite], measures: int
    ) -> tuple[SuiteReplies, ...]:
        """The suites, the test set, then the further suites."""
        replies = []
        for one in planned:
            self.progress.stage(f"{side}: {one.plan.name}", len(one.drawn.items))
            suite, items = one.piloted.suite, one.drawn.items
            replies.append(ask(model, suite, items, self.kept, progress=self.progress, stop=self.stop))
        if self.target is not None:
            self.progress.stage(f"{side}: the task's test set", self.target.n)
            self.target.answer(side, model, self.progress, stop=self.stop)
        for further in self.further:
            further.answer(side, model, self.kept, planned_power(measures), self.progress, self.stop)
        return tuple(replies)


@dataclass(frozen=True, slots=True)
class PilotResult:
    """items: all that were asked. transcripts: of those that fit the context. seconds: by the id of an item."""

    items: tuple[SuiteItem, ...]
    transcripts: ItemTranscripts
    seconds: dict[str, float]

    def seconds_of(self, items: Sequence[SuiteItem]) -> float:
        """Estimated time for these items: the pilot's mean for their stratum, or for all items where it has none."""
        strata: dict[tuple[str, int], list[float]] = defaultdict(list)
        for item in self.items:
            strata[item.family, item.level].append(self.seconds[item.id])
        overall = fmean(self.seconds.values()) if self.seconds else 0.0
        means = {stratum: fmean(seconds) for stratum, seconds in strata.items()}
        return sum(means.get((item.family, item.level), overall) for item in items)


def run_pilot(
    model: Model, plan: SuitePlan, margin: float, kept: SuiteAnswers, progress: Progress, stop: Stop = NEVER
) -> PilotResult:
    """Ask the base, look by look, until the plan has seen enough. None of these items is scored."""
    pilot = PilotResult((), (), {})
    while items := plan.next_items(pilot.items, pilot.transcripts, margin):
        progress.stage(f"{plan.name}: a pilot of the base", len(items))
        replies = ask(model, plan.pilot, items, kept, progress=progress, stop=stop)
        pilot = PilotResult(
            (*pilot.items, *items),
            (*pilot.transcripts, *replies.with_transcripts(items)),
            pilot.seconds | replies.seconds_by_item,
        )
    return pilot


def judge_suites(
    plans: Sequence[SuitePlan], scored: Sequence[ScoredSuite], margins: Margins, settings: GateSettings, power: float
) -> list[SuiteFound]:
    """The finding of each measure, in the order of the plans."""
    by_name = {one.planned.plan.name: one for one in scored}
    found: list[SuiteFound] = []
    for plan in plans:
        if margins[plan.name] == "skip":
            found += [skipped_measure(measure.name, plan.name) for measure in plan.pilot.measures]
            continue
        one = by_name[plan.name]
        found += [_judge(one, measure, settings, power) for measure in one.planned.piloted.suite.measures]
    return found


def _judge(one: ScoredSuite, measure: SuiteMeasure, settings: GateSettings, power: float) -> SuiteFound:
    pairs = one.pairs(measure)
    return judge_measure(
        measure.name,
        one.planned.plan.name,
        pairs,
        margin=one.planned.margin,
        margin_factor=measure.margin_factor,
        binary=measure.binary,
        alpha=settings.alpha,
        groups=one.groups(pairs),
        uninformative=one.planned.piloted.uninformative.get(measure.name, ""),
        power=power,
        seed=settings.seed,
    )


def _judge_target(target: GateTarget | TargetFound | None, alpha: float) -> TargetFound:
    if target is None:
        return no_target()
    return target if isinstance(target, TargetFound) else target.judge(alpha)


def _count_measures(plans: Sequence[SuitePlan], further: Sequence[ExternalSuite]) -> int:
    return max(1, sum(len(plan.pilot.measures) for plan in plans) + sum(one.measures for one in further))
