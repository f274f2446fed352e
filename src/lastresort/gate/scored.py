"""A suite after its pilot, with the replies of both models: what is asked at each look, what they show so far, and the verdict.

Each measure is tested at every look (evals/evidence/sequential.py) and at the end (verdict/compare.py). run.py asks the models.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from lastresort.evals.evidence.sequential import LookedP, Looks, is_in_reach, p_by_looking
from lastresort.gate.drawing import DrawnItems, Facts
from lastresort.gate.plans import PilotedSuite, SuitePlan
from lastresort.gate.suites.asking import SuiteReplies
from lastresort.gate.suites.suite import ScorePair, SideName, SuiteItem, SuiteMeasure
from lastresort.gate.verdict.compare import judge_measure, skipped_measure
from lastresort.records.gate import Look, LookedAt, SuiteFound
from lastresort.types import MeasureSoFar

Margins = Mapping[str, float | Literal["skip"]]


@dataclass(frozen=True, slots=True)
class GateSettings:
    """seed: for drawing the scored items, at least 0. alpha: the error rate of this gate: .05 alone, .025 for each of two.
    facts: which facts items may be about. looks: whether a suite may stop before its last item.
    """

    seed: int = 0
    quick: bool = False
    alpha: float = 0.05
    facts: Facts = "all"
    looks: bool = True


@dataclass(frozen=True, slots=True)
class PlannedSuite:
    """A suite after its pilot, with the most items to ask.

    seconds: forecast of asking one model all of them. pilot_items: how many the pilot asked the base. needed: items for the planned
    power. expected: as of `SampleSize`. schedule: after how many items to look. fixed: after how many of them the test of a
    fixed size is made.
    """

    plan: SuitePlan
    margin: float
    piloted: PilotedSuite
    drawn: DrawnItems
    seconds: float
    pilot_items: int
    needed: int
    expected: int
    schedule: tuple[int, ...]
    fixed: int

    def part(self, look: int) -> tuple[SuiteItem, ...]:
        """The items that come at this look, the first being 0."""
        return self.drawn.items[slice(*self._places(look))]

    def stage(self, side: SideName, look: int) -> str:
        """Which items come at this look, in words. Later looks come only where the earlier ones do not decide."""
        first, last = self._places(look)
        return f"{side}: {self.plan.name}, items {first + 1}-{last} of at most {len(self.drawn.items)}"

    def _places(self, look: int) -> tuple[int, int]:
        return self.schedule[look - 1] if look else 0, self.schedule[look]


@dataclass(frozen=True, slots=True)
class ScoredSuite:
    """A suite with the replies of both models. looks: how many there were."""

    planned: PlannedSuite
    base: SuiteReplies
    tuned: SuiteReplies
    looks: int

    @property
    def asked(self) -> int:
        """Items of each model."""
        return self.planned.schedule[self.looks - 1] if self.looks else 0

    def looks_in(self, pairs: Sequence[ScorePair]) -> Looks:
        """How many of these pairs had come at each look."""
        places = {item.id: place for place, item in enumerate(self.planned.drawn.items)}
        positions = [places[pair.id] for pair in pairs]
        stops = self.planned.schedule[: self.looks]
        fixed = stops.index(self.planned.fixed) if self.planned.fixed in stops else None
        return Looks(tuple(bisect_left(positions, stop) for stop in stops), fixed)

    @property
    def informative(self) -> list[SuiteMeasure]:
        """The measures that can say something about this base."""
        piloted = self.planned.piloted
        return [measure for measure in piloted.suite.measures if measure.name not in piloted.uninformative]

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


def is_decided(looked: Sequence[LookedP], alpha: float) -> bool:
    """Whether each measure of a suite that can say something is NON_INFERIOR by looking."""
    return all(p.kept[-1] <= alpha for p in looked)


def is_regressed(looked: Sequence[LookedP], alpha: float, measures: int) -> bool:
    """Whether a measure of a suite lost more than its margin by looking, whatever Holm makes of the others."""
    return any(p.regressed[-1] * measures <= alpha < p.kept[-1] for p in looked)


def looked_p(scored: ScoredSuite) -> list[LookedP]:
    p_values = []
    for measure in scored.informative:
        pairs = scored.pairs(measure)
        p_values.append(_p_by_looking(scored, measure, pairs) if pairs else LookedP((1.0,), (1.0,)))
    return p_values


def _p_by_looking(scored: ScoredSuite, measure: SuiteMeasure, pairs: Sequence[ScorePair]) -> LookedP:
    return p_by_looking(
        [pair.base for pair in pairs],
        [pair.tuned for pair in pairs],
        scored.looks_in(pairs),
        margin=scored.planned.margin * measure.margin_factor,
        groups=scored.groups(pairs),
    )


def goes_on(scored: ScoredSuite, settings: GateSettings) -> bool:
    """Whether to ask a suite more that looking has not decided: always up to the test of a fixed size; beyond it if looking
    would decide each measure that is still open, as `is_in_reach` has it.
    """
    if scored.asked < scored.planned.fixed:
        return True
    times = len(scored.planned.drawn.items) / scored.asked
    still_open = [
        (measure, pairs)
        for measure in scored.informative
        if (pairs := scored.pairs(measure)) and _finding(scored, measure, settings).verdict != "NON_INFERIOR"
    ]
    return bool(still_open) and all(
        is_in_reach(
            [pair.base for pair in pairs],
            [pair.tuned for pair in pairs],
            times=times,
            margin=scored.planned.margin * measure.margin_factor,
            groups=scored.groups(pairs),
            alpha=settings.alpha,
        )
        for measure, pairs in still_open
    )


def measures_so_far(
    scored: ScoredSuite, looked: Sequence[LookedP], alpha: float, measures: int, *, goes_on: bool
) -> Iterator[MeasureSoFar]:
    """The measures of a suite after a look."""
    for measure, p in zip(scored.informative, looked, strict=True):
        pairs = scored.pairs(measure)
        if not pairs:
            continue
        base, tuned = (
            sum(scores) / len(pairs) for scores in zip(*((pair.base, pair.tuned) for pair in pairs), strict=True)
        )
        state: Literal["open", "no loss", "loss", "at its end"] = "open" if goes_on else "at its end"
        if is_decided([p], alpha):
            state = "no loss"
        elif is_regressed([p], alpha, measures):
            state = "loss"
        yield MeasureSoFar(measure.name, len(pairs), len(scored.planned.drawn.items), base, tuned, state)


def judge_suites(
    plans: Sequence[SuitePlan],
    scored_suites: Sequence[ScoredSuite],
    margins: Margins,
    settings: GateSettings,
) -> list[SuiteFound]:
    """The finding of each measure, in the order of the plans."""
    by_name = {scored.planned.plan.name: scored for scored in scored_suites}
    findings: list[SuiteFound] = []
    for plan in plans:
        if margins[plan.name] == "skip":
            findings += [skipped_measure(measure.name, plan.name) for measure in plan.pilot.measures]
            continue
        scored = by_name[plan.name]
        findings += [_judge(scored, measure, settings) for measure in scored.planned.piloted.suite.measures]
    return findings


def _finding(scored: ScoredSuite, measure: SuiteMeasure, settings: GateSettings) -> SuiteFound:
    pairs = scored.pairs(measure)
    return judge_measure(
        measure.name,
        scored.planned.plan.name,
        pairs,
        margin=scored.planned.margin,
        margin_factor=measure.margin_factor,
        binary=measure.binary,
        alpha=settings.alpha,
        groups=scored.groups(pairs),
        uninformative=scored.planned.piloted.uninformative.get(measure.name),
        seed=settings.seed,
        looks=scored.looks_in(pairs) if settings.looks and pairs else None,
    )


def _judge(scored: ScoredSuite, measure: SuiteMeasure, settings: GateSettings) -> SuiteFound:
    finding, pairs = _finding(scored, measure, settings), scored.pairs(measure)
    if not settings.looks or not pairs:
        return finding
    looks, most = scored.looks_in(pairs), len(scored.planned.drawn.items)
    p_values = _p_by_looking(scored, measure, pairs)
    rows = zip(scored.planned.schedule, looks.units, p_values.kept, p_values.regressed, strict=False)
    return finding.replaced(
        looked_at=LookedAt(
            items=scored.asked,
            most=most,
            fixed=scored.planned.fixed,
            given_up=finding.verdict == "UNDERPOWERED" and scored.asked < most and not goes_on(scored, settings),
            looks=tuple(Look(items=items, n=n, p=p, p_regressed=worse) for items, n, p, worse in rows),
        )
    )
