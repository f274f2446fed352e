"""A gate from its pilot to its verdict: all that the base is asked first, then all that the tuned model is asked.

Nothing here knows where the two models come from, so that a climb asks the same of the system that it froze.

The pilot of a base: look by look, until its suite has seen enough; and what asking more would take. Nothing of it is scored.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Literal

from lastresort.gate.drawing import DrawnItems, Facts, draw
from lastresort.gate.plans import ExternalSuite, ReadySuite, SuitePlan, sample_size
from lastresort.gate.sides import GateSide, open_side, refuse_other_rendering
from lastresort.gate.suites.asking import SuiteReplies, ask
from lastresort.gate.suites.suite import ScorePair, SuiteItem, SuiteMeasure, Transcript
from lastresort.gate.target import GateTarget
from lastresort.gate.verdict import (
    GateConclusion,
    conclude,
    judge_measure,
    no_target,
    planned_power,
    skipped_measure,
)
from lastresort.models.protocol import Model
from lastresort.records.gate import Fingerprints, GateForecast, GateSpent, SuiteFound, TargetFound
from lastresort.records.responses import SuiteAnswers
from lastresort.report.words.wording import count, duration, spaced
from lastresort.stop import NEVER, Stop, check
from lastresort.types import Progress


@dataclass(frozen=True, slots=True)
class PilotResult:
    """items: all that were asked. said: of those that the context can hold. seconds: by the id of an item."""

    items: tuple[SuiteItem, ...]
    said: tuple[tuple[SuiteItem, Transcript], ...]
    seconds: dict[str, float]

    def seconds_of(self, items: Sequence[SuiteItem]) -> float:
        """About what asking these takes: what the pilot's items of the same stratum took, of other strata what all of them did."""
        strata: dict[tuple[str, int], list[float]] = defaultdict(list)
        for item in self.items:
            strata[item.family, item.level].append(self.seconds[item.id])
        whole = fmean(self.seconds.values()) if self.seconds else 0.0
        means = {stratum: fmean(found) for stratum, found in strata.items()}
        return sum(means.get((item.family, item.level), whole) for item in items)


def run_pilot(
    model: Model, plan: SuitePlan, margin: float, kept: SuiteAnswers, progress: Progress, stop: Stop = NEVER
) -> PilotResult:
    """Ask the base what the plan wants to know of it."""
    found = PilotResult((), (), {})
    while items := plan.look(found.items, found.said, margin):
        progress.stage(f"{plan.name}: a pilot of the base", len(items))
        asked = ask(model, plan.pilot, items, kept, progress=progress, stop=stop)
        found = PilotResult(
            (*found.items, *items), (*found.said, *asked.said(items)), found.seconds | asked.seconds_by_item
        )
    return found


Margins = Mapping[str, float | Literal["skip"]]


@dataclass(frozen=True, slots=True)
class GateSettings:
    """seed: of the items that are scored, at least 0. alpha: the error of this gate, .05 alone, .025 for each of two. facts: what
    items may be about.
    """

    seed: int = 0
    quick: bool = False
    alpha: float = 0.05
    facts: Facts = "all"


@dataclass(frozen=True, slots=True)
class ScoredSuite:
    """A suite with its items and what both said. seconds: forecast of asking one side. pilot_items: asked of the base before.
    needed: items that the planned power takes.
    """

    plan: SuitePlan
    margin: float
    ready: ReadySuite
    drawn: DrawnItems
    seconds: float
    pilot_items: int
    needed: int
    base: SuiteReplies | None = None
    tuned: SuiteReplies | None = None

    def pairs(self, measure: SuiteMeasure) -> list[ScorePair]:
        """Of the items that both could be asked and that say something about the measure."""
        assert self.base is not None
        assert self.tuned is not None
        made = [
            measure.pair(item, self.base.transcripts[item.id], self.tuned.transcripts[item.id]) for item in self.both
        ]
        return [pair for pair in made if pair is not None]

    @property
    def both(self) -> list[SuiteItem]:
        """The items that both could be asked."""
        assert self.base is not None
        assert self.tuned is not None
        said = self.base.transcripts.keys() & self.tuned.transcripts.keys()
        return [item for item in self.drawn.items if item.id in said]

    def groups(self, pairs: Sequence[ScorePair]) -> list[str] | None:
        """What each pair's item is about, where a suite names it and several items are about the same; they are no independent
        ones then.
        """
        about = {item.id: str(item.facts.get("fact", item.id)) for item in self.drawn.items}
        labels = [about[pair.id] for pair in pairs]
        return labels if len(set(labels)) < len(labels) else None

    @property
    def left_out(self) -> tuple[str, ...]:
        """Ids of items that do not fit the context of one of the two."""
        asked = [one.left_out for one in (self.base, self.tuned) if one is not None]
        return tuple(dict.fromkeys(name for left in asked for name in left))


@dataclass(frozen=True, slots=True)
class FinishedGate:
    """A finished gate. spent: by each of the suites that ask by themselves."""

    found: GateConclusion
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
    """Ask both models and judge.

    margins: by the name of a suite, as the task's `keep`. training_texts: items that are too much like one of them are passed
    over. target: what the task itself says, to be asked here or found before; None where only what else the model can do is in
    question. further: suites that ask by themselves. stop: looked at before each model is opened and after every batch.
    Raises InputError where the two render conversations differently, StoppedError where asking stopped: the same call then goes on.
    """
    refuse_other_rendering(base, tuned)
    required = [plan for plan in plans if margins[plan.name] != "skip"]
    to_ask = None if isinstance(target, TargetFound) else target
    asking = GateRunner(settings, kept, training_texts, progress, to_ask, further=further, stop=stop)
    scored, forecast, one = asking.base(base, required, margins)
    scored, other = asking.tuned(tuned, scored)
    power = planned_power(_measures(required, further))
    suites = judge_suites(plans, scored, margins, settings, power)
    beside = [one for suite in further for one in suite.found(power)]
    found = conclude([*suites, *beside], _target(target, settings.alpha), alpha=settings.alpha)
    spent = tuple(suite.spent for suite in further)
    return FinishedGate(found, tuple(scored), forecast, Fingerprints(base=one, tuned=other), power, spent)


@dataclass(frozen=True, slots=True)
class GateRunner:
    """The two sides of a gate at work. asker: who the forecast speaks of."""

    settings: GateSettings
    kept: SuiteAnswers
    training_texts: Sequence[str]
    progress: Progress
    target: GateTarget | None
    asker: str = "The gate"
    further: Sequence[ExternalSuite] = ()
    stop: Stop = NEVER

    def base(
        self, side: GateSide, plans: Sequence[SuitePlan], margins: Margins
    ) -> tuple[list[ScoredSuite], GateForecast, str]:
        """Pilots, sizes and the forecast; then everything the base is asked."""
        check(self.stop)
        self.progress.stage(f"opening the base {side.name}", None)
        with open_side(side) as model:
            measures = _measures(plans, self.further)
            scored = [self._piloted(model, plan, float(margins[plan.name]), measures) for plan in plans]
            if self.target is not None:
                self.progress.stage("base: a first look at the test set", None)
                self.target.answer("base", model, self.progress, most=model.batch_size, stop=self.stop)
            forecast = self._forecast(scored)
            asked = [replace(one, base=self._asked("base", model, one)) for one in scored]
            self._target("base", model)
            for one in self.further:
                one.answer("base", model, self.kept, planned_power(measures), self.progress, self.stop)
            return asked, forecast, model.fingerprint

    def tuned(self, side: GateSide, scored: Sequence[ScoredSuite]) -> tuple[list[ScoredSuite], str]:
        check(self.stop)
        self.progress.stage(f"opening the tuned model {side.name}", None)
        with open_side(side) as model:
            asked = [replace(one, tuned=self._asked("tuned", model, one)) for one in scored]
            self._target("tuned", model)
            for one in self.further:
                one.answer("tuned", model, self.kept, 0.0, self.progress, self.stop)
            return asked, model.fingerprint

    def _piloted(self, model: Model, plan: SuitePlan, margin: float, measures: int) -> ScoredSuite:
        piloted = run_pilot(model, plan, margin, self.kept, self.progress, self.stop)
        ready = plan.ready(piloted.said, margin)
        size = sample_size(
            ready.suite,
            piloted.said,
            margin,
            measures=measures,
            alpha=self.settings.alpha,
            quick=self.settings.quick,
        )
        drawn = draw(ready.suite, self.settings.seed, size.items, self.training_texts, self.settings.facts)
        seconds = piloted.seconds_of(drawn.items)
        return ScoredSuite(plan, margin, ready, drawn, seconds, len(piloted.items), size.needed)

    def _forecast(self, scored: Sequence[ScoredSuite]) -> GateForecast:
        """Said before the long part begins, and by suite, so that a reader sees what takes its time."""
        parts = [(one.plan.name, len(one.drawn.items), one.seconds) for one in scored]
        if self.target is not None:
            parts.append(("target", self.target.n, self.target.n * self.target.seconds_an_item()))
        items, took = sum(n for _, n, _ in parts), sum(seconds for _, _, seconds in parts)
        whole = GateForecast(items=2 * items, seconds=2 * took)
        told = "; ".join(f"{name} {count(n)} items, {duration(2 * seconds)}" for name, n, seconds in parts)
        self.progress.say(
            spaced(
                f"{self.asker} asks {count(whole.items // 2)} items of each model, about {duration(whole.seconds)} ({told})."
            )
        )
        for one in scored:
            if not self.settings.quick and len(one.drawn.items) < one.needed:
                self.progress.say(
                    f"{one.plan.name} asks {count(len(one.drawn.items))} items, where its margin takes about {count(one.needed)}: "
                    "it may hold for want of items."
                )
        return whole

    def _asked(self, side: str, model: Model, one: ScoredSuite) -> SuiteReplies:
        self.progress.stage(f"{side}: {one.plan.name}", len(one.drawn.items))
        return ask(model, one.ready.suite, one.drawn.items, self.kept, progress=self.progress, stop=self.stop)

    def _target(self, side: Literal["base", "tuned"], model: Model) -> None:
        if self.target is not None:
            self.progress.stage(f"{side}: the task's test set", self.target.n)
            self.target.answer(side, model, self.progress, stop=self.stop)


def _measures(plans: Sequence[SuitePlan], further: Sequence[ExternalSuite]) -> int:
    return max(1, sum(len(plan.pilot.measures) for plan in plans) + sum(one.measures for one in further))


def judge_suites(
    plans: Sequence[SuitePlan], scored: Sequence[ScoredSuite], margins: Margins, settings: GateSettings, power: float
) -> list[SuiteFound]:
    """One finding a measure, in the order of the plans."""
    by_name = {one.plan.name: one for one in scored}
    found: list[SuiteFound] = []
    for plan in plans:
        if margins[plan.name] == "skip":
            found += [skipped_measure(measure.name, plan.name) for measure in plan.pilot.measures]
            continue
        one = by_name[plan.name]
        found += [_found(one, measure, settings, power) for measure in one.ready.suite.measures]
    return found


def _found(one: ScoredSuite, measure: SuiteMeasure, settings: GateSettings, power: float) -> SuiteFound:
    pairs = one.pairs(measure)
    return judge_measure(
        measure.name,
        one.plan.name,
        pairs,
        margin=one.margin,
        margin_factor=measure.margin_factor,
        binary=measure.binary,
        alpha=settings.alpha,
        groups=one.groups(pairs),
        uninformative=one.ready.uninformative.get(measure.name, ""),
        power=power,
        seed=settings.seed,
    )


def _target(target: GateTarget | TargetFound | None, alpha: float) -> TargetFound:
    if target is None:
        return no_target()
    return target if isinstance(target, TargetFound) else target.found(alpha)
