"""What the rows of a study say: rows in, document out. Pure.

Of min-data: the smallest training set that measurably shifts a model's answers. Each training is compared with the base prompt on
the same dev items: exact one-sided McNemar, or a sign-flip test of graded scores. A size is shown where the trainings of all its
seeds are. Sizes are tested from the largest down, and the first that is not shown ends it. So, however many sizes there are, one at
which some training gains nothing is named with a probability of at most LEVEL. Smaller sizes that pass by themselves have no such
promise: they are named as taken alone.

Of format leak each size has one test, of its requests over all seeds, and Holm's rule pays for the number of sizes.

Source: Maurer, Hothorn and Lehmacher 1995 (tests in a fixed order); Berger 1982 (all of several tests); Holm 1979.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from statistics import fmean

import numpy as np

from lastresort.climb.costs import paid_by_tokens
from lastresort.engine.cache import FEWEST_TOKENS
from lastresort.evals.evidence.crossing import CurveCrossing, crossing
from lastresort.evals.evidence.curve_means import curve_means
from lastresort.evals.evidence.learning_curve import LearningCurve, NoForecast, learning_curve
from lastresort.evals.evidence.noninferiority import holm
from lastresort.evals.evidence.paired import better, p_above_zero
from lastresort.evals.evidence.units import Array, group_means
from lastresort.records.data_report import RowsLeftOut
from lastresort.report.study import (
    SIGNS,
    BasePoint,
    CallTimes,
    ComparedInstruction,
    CrossedIn,
    CrossoverDocument,
    CurveForecast,
    CurvePoint,
    DevUnits,
    GainForecast,
    MeanDifference,
    MinDataDocument,
    NoCurveForecast,
    Sign,
    StudyCrossing,
    TokenTimes,
    TrainedPoint,
)
from lastresort.report.words import study as words
from lastresort.spec.task import Task
from lastresort.study.call_costs import (
    ADAPTER_QUICKER,
    ADAPTER_SLOWER,
    RATE_ERROR,
    PricedWays,
    TimedCalls,
    cost_crossing,
    is_priced,
    paid_price,
    priced_ways,
    read_tokens,
)
from lastresort.study.grid import Cell, Grid, Way
from lastresort.study.rows import ArmTraining, CellRow, CellTraining
from lastresort.study.run import StudyRows
from lastresort.train.watch.kept import KL_GENERAL, PERPLEXITY_RATIO

LEVEL = 0.05
RISE = 0.02  # of the loss on dev in the second half of a training, above which it has risen
Values = Callable[[CellRow], Sequence[float]]


@dataclass(frozen=True, slots=True)
class MeasuredStudy:
    """groups: of the dev items, None where each is its own. binary: whether scores are 0 or 1. left_out: rows that are in
    no cell, since they repeat others. seed: of sign flips."""

    task: Task
    grid: Grid
    measured: StudyRows
    groups: list[str] | None
    binary: bool
    left_out: tuple[RowsLeftOut, ...] = ()

    @property
    def seed(self) -> int:
        return self.task.split.seed

    def row(self, way: Way, n: int, seed: int) -> CellRow:
        return self.measured.rows[Cell(way, n, seed)]

    def values(self, way: Way, n: int, of: Values) -> Array:
        """Of the units of dev, shape (seeds, units), one row where n is 0."""
        seeds = self.grid.seeds if n else (0,)
        return np.array([self._by_unit(of(self.row(way, n, seed))) for seed in seeds])

    def along(self, way: Way, of: Values) -> Array:
        """Shape (sizes, seeds, units). A way that uses no examples is the same everywhere."""
        if way in self.grid.bases:
            once = self.values(way, 0, of)
            return np.broadcast_to(once, (len(self.grid.sizes), len(self.grid.seeds), once.shape[1]))
        return np.array([self.values(way, n, of) for n in self.grid.sizes])

    def score(self, row: CellRow) -> float:
        """The mean over the units of dev."""
        return float(self._by_unit(row.scores).mean())

    def _by_unit(self, values: Sequence[float]) -> Array:
        by_item = np.asarray(values, dtype=np.float64)
        return by_item if self.groups is None else group_means(by_item, self.groups)

    @property
    def measured_on(self) -> DevUnits:
        units = self.values("zero-shot", 0, _scores).shape[1]
        return DevUnits(n=units, unit="item" if self.groups is None else "group")

    @property
    def seconds(self) -> float:
        return sum(row.seconds for row in self.measured.rows.values())

    def notes(self) -> list[str]:
        on, sizes = self.measured_on, self.grid.sizes
        rows = [max(self.row("sft", n, seed).rows for seed in self.grid.seeds) for n in sizes]
        trained = words.of_trained(self.measured.method, self.measured.rate)
        units = words.of_units(on.n, on.unit, len(self.grid.seeds))
        return [text for text in (words.DEV_ONLY, trained, units, words.of_subsets(sizes, rows)) if text]

    def interval(self, values: Array) -> tuple[float, float]:
        """Of the mean of values of shape (seeds, units), within [0, 1]."""
        low, high = curve_means(values[None]).intervals()[0]
        return max(0.0, min(low, 1.0)), max(0.0, min(high, 1.0))


def _scores(row: CellRow) -> Sequence[float]:
    return row.scores


def _formed(row: CellRow) -> Sequence[float]:
    """An item that the model refused has no answer, and so none of the right form."""
    return [float(bool(one)) for one in row.format_ok]


def crossover_of(study: MeasuredStudy) -> CrossoverDocument:
    grid, task = study.grid, study.task
    others: list[Way] = [*grid.bases, *(way for way in grid.ways if way != "sft")]
    tested = [way for way in others if way != "optimised"]  # a climb raced it on dev
    crossings: list[tuple[Way, CrossedIn, CurveCrossing]] = []
    of: dict[CrossedIn, Values] = {"score": _scores}
    if _asks_for_form(task):
        of["format"] = _formed
    for what, values in of.items():
        sft = study.along("sft", values)
        for way in tested:
            crossings.append((way, what, crossing(grid.sizes, sft - study.along(way, values))))
    if (calls := study.measured.calls) is not None:
        for way in tested:

            def saved(prices: PricedWays, way: Way = way) -> Array:
                return study.along(way, prices.prompting.of) - study.along("sft", prices.sft.of)

            crossings.append((way, "cost", cost_crossing(grid.sizes, task.use, calls, saved)))
    optimised = _optimised(study)
    return CrossoverDocument(
        task=task.task,
        model=task.model,
        tuned=task.tuned_model,
        method=study.measured.method,
        learning_rate=study.measured.rate,
        measured_on=study.measured_on,
        sizes=grid.sizes,
        seeds=len(grid.seeds),
        call_times=None if calls is None else _call_times(calls),
        answer=words.answer_of_crossover(crossings, grid.sizes, optimised=optimised is not None),
        points=tuple(_point(study, way, n) for way in (*others, "sft") for n in _sizes(grid, way)),
        crossings=tuple(StudyCrossing.from_fields_of(one, way=way, what=what) for way, what, one in crossings),
        optimised=optimised,
        reasons=(
            *words.of_crossings(crossings, grid.sizes),
            *([] if optimised is None else [words.of_optimised(optimised, grid.sizes[-1])]),
        ),
        notes=(*study.notes(), *_of_costs(study)),
        seconds=study.seconds,
    )


def _usd(study: MeasuredStudy, way: Way) -> Values:
    """What calls cost: their tokens at prices that are the same for all, or if no time was measured, seconds of the machine."""
    task, calls, sft = study.task, study.measured.calls, way == "sft"
    if calls is not None:
        prices = priced_ways(task.use, calls)
        return (prices.sft if sft else prices.prompting).of
    if paid_by_tokens(task, "sft" if sft else "prompting"):
        return paid_price(task.use).of
    return lambda row: [seconds * (task.use.hourly_price or 0.0) / 3600 for seconds in row.answer_s]


def _of_costs(study: MeasuredStudy) -> list[str]:
    calls, price = study.measured.calls, study.task.use.hourly_price
    if price is None or not is_priced(study.task):
        return []
    if calls is None:
        return [words.COSTS_SHOWN]
    base = None if calls.same or calls.prompting is None else astuple(calls.prompting)
    adapter = (ADAPTER_QUICKER, ADAPTER_SLOWER)
    return [words.of_call_times(astuple(calls.sft), base, price, RATE_ERROR, adapter, FEWEST_TOKENS)]


def _call_times(calls: TimedCalls) -> CallTimes:
    base = calls.prompting
    return CallTimes(
        sft=TokenTimes(read_s=calls.sft.read_s, write_s=calls.sft.write_s),
        prompting=None if base is None else TokenTimes(read_s=base.read_s, write_s=base.write_s),
        factor=RATE_ERROR,
    )


def _optimised(study: MeasuredStudy) -> ComparedInstruction | None:
    found = study.measured.optimised
    if found is None:
        return None
    rise = study.along("sft", _scores)[-1:] - study.along("optimised", _scores)[-1:]
    low, high = curve_means(rise).intervals()[0]
    difference = MeanDifference(mean=float(rise.mean()), interval=(max(-1.0, low), min(1.0, high)))
    return ComparedInstruction(instruction=found.text, rows=found.rows, difference=difference)


def _asks_for_form(task: Task) -> bool:
    return task.output.choices is not None or task.output.json_schema is not None


def _sizes(grid: Grid, way: Way) -> tuple[int, ...]:
    return (0,) if way in grid.bases else grid.sizes


def _point(study: MeasuredStudy, way: Way, n: int) -> CurvePoint:
    seeds = study.grid.seeds if n else (0,)
    rows, scores = [study.row(way, n, seed) for seed in seeds], study.values(way, n, _scores)
    optimised, calls = study.measured.optimised, study.measured.calls
    return CurvePoint(
        way=way,
        n=optimised.rows if optimised is not None and way == "optimised" else n,
        seeds=len(seeds),
        score=float(scores.mean()),
        interval=study.interval(scores),
        format=float(study.values(way, n, _formed).mean()) if _asks_for_form(study.task) else None,
        shots=max(row.shots for row in rows),
        prompt_tokens=fmean(tokens for row in rows for tokens in row.prompt_tokens),
        read_tokens=None if calls is None else fmean(tokens for row in rows for tokens in read_tokens(row)),
        answer_tokens=fmean(tokens for row in rows for tokens in row.answer_tokens),
        usd=float(study.values(way, n, _usd(study, way)).mean()) if is_priced(study.task) else None,
    )


def smallest_shown(ps: Sequence[Sequence[float]], level: float = LEVEL) -> int | None:
    """The place of the smallest size down to which all are shown, None where the largest is not. ps: by size, then by seed."""
    smallest = None
    for place in range(len(ps) - 1, -1, -1):
        if not passes_alone(ps[place], level):
            break
        smallest = place
    return smallest


def passes_alone(ps: Sequence[float], level: float = LEVEL) -> bool:
    """Whether all trainings of a size are shown, by themselves. ps: by seed."""
    return bool(ps) and max(ps) <= level


def leaking(base: Sequence[bool], trained: Sequence[Sequence[Sequence[bool]]]) -> list[bool]:
    """By size, whether fewer requests are answered correctly than by the base. trained: by size, seed and request."""
    before = np.asarray(base, dtype=np.float64)
    ps = [p_above_zero(before - np.mean(of_size, axis=0), binary=False) for of_size in trained]
    return [p <= LEVEL for p in holm(ps)]


def min_data_of(study: MeasuredStudy) -> MinDataDocument:
    grid, task, base = study.grid, study.task, study.row("zero-shot", 0, 0)
    compared = [
        [_better(study, base.scores, study.row("sft", n, seed).scores) for seed in grid.seeds] for n in grid.sizes
    ]
    place = smallest_shown(compared)
    leaks = leaked(base, [[study.row("sft", n, seed) for seed in grid.seeds] for n in grid.sizes])
    points = [
        _trained_point(study, base, n, max(ps), shown=place is not None and number >= place, leaks=leaks[number])
        for number, (n, ps) in enumerate(zip(grid.sizes, compared, strict=True))
    ]
    shifted = None if place is None else grid.sizes[place]
    alone = [n for n, ps in zip(grid.sizes, compared, strict=True) if passes_alone(ps)]
    signs = [(point.n, tuple(SIGNS[sign] for sign in point.signs)) for point in points if point.shown]
    curve = learning_curve(grid.sizes, 1 - study.along("sft", _scores))
    first = study.values("zero-shot", 0, _scores)
    return MinDataDocument(
        task=task.task,
        model=task.tuned_model,
        method=study.measured.method,
        learning_rate=study.measured.rate,
        measured_on=study.measured_on,
        sizes=grid.sizes,
        seeds=len(grid.seeds),
        level=LEVEL,
        answer=words.answer_of_min_data(study.measured.method, grid.sizes, signs, alone),
        base=BasePoint(score=float(first.mean()), interval=study.interval(first), kept=mean_of(base.kept or ())),
        points=tuple(points),
        shifted=shifted,
        clean=clean_from(points),
        curve=_forecast(curve, grid.sizes[-1]),
        curve_text=words.of_curve(curve, grid.sizes[-1]),
        notes=tuple(study.notes()),
        seconds=study.seconds,
    )


def _better(study: MeasuredStudy, before: Sequence[float], after: Sequence[float]) -> float:
    return better(before, after, binary=study.binary, groups=study.groups, seed=study.seed).p


def _trained_point(study: MeasuredStudy, base: CellRow, n: int, p: float, *, shown: bool, leaks: bool) -> TrainedPoint:
    rows = [study.row("sft", n, seed) for seed in study.grid.seeds]
    trained = [row.trained for row in rows if row.trained is not None]
    scores = study.values("sft", n, _scores)
    rise = scores - study.values("zero-shot", 0, _scores)
    low, high = curve_means(rise[None]).intervals()[0]
    return TrainedPoint(
        n=n,
        seeds=len(rows),
        score=float(scores.mean()),
        interval=study.interval(scores),
        difference=float(rise.mean()),
        difference_interval=(max(-1.0, low), min(1.0, high)),
        p=p,
        shown=shown,
        dev_loss=fmean(one.dev_loss for one in trained),
        train_loss=fmean(one.train_loss for one in trained),
        kl=mean_of([one.kl for one in trained if one.kl is not None]),
        prose=mean_of([one.prose for one in trained if one.prose is not None]),
        kept=mean_of([one for row in rows for one in row.kept or ()]),
        signs=signs_of(rows, leaks=leaks),
    )


def clean_from(points: Sequence[TrainedPoint]) -> int | None:
    """The smallest size that is shown and from which on no size has a sign, None where the largest has one."""
    clean = None
    for point in reversed(points):
        if not point.shown or point.signs:
            break
        clean = point.n
    return clean


def signs_of(rows: Sequence[CellRow], *, leaks: bool) -> tuple[Sign, ...]:
    """What else the trainings of a size changed. The loss rose if the mean of all did; one that is far from the base is enough."""
    trained = [row.trained for row in rows if row.trained is not None]
    rises = [one.dev_loss / one.half_way_loss for one in trained if one.half_way_loss]
    signs: list[Sign] = []
    if rises and fmean(rises) > 1 + RISE:
        signs.append("DEV_LOSS_ROSE")
    if leaks:
        signs.append("FORMAT_LEAK")
    if is_far(trained):
        signs.append("FAR_FROM_BASE")
    return tuple(signs)


def is_far(trained: Sequence[CellTraining | ArmTraining]) -> bool:
    """Whether any of them is far from its base."""
    return any((one.kl or 0.0) > KL_GENERAL or (one.prose or 0.0) > PERPLEXITY_RATIO for one in trained)


def leaked(base: CellRow, trained: Sequence[Sequence[CellRow]]) -> list[bool]:
    """Of each size or way; none where unrelated requests were not measured. trained: its rows, by seed."""
    kept = [[row.kept for row in rows if row.kept is not None] for rows in trained]
    if not base.kept or any(len(own) < len(rows) for own, rows in zip(kept, trained, strict=True)):
        return [False] * len(trained)
    return leaking(base.kept, kept)


def mean_of(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None


def _forecast(curve: LearningCurve | NoForecast, most: int) -> CurveForecast | NoCurveForecast:
    if isinstance(curve, NoForecast):
        return NoCurveForecast(reason=curve.reason)
    after = tuple(GainForecast.from_fields_of(one, more=(one.times - 1) * most) for one in curve.after)
    return CurveForecast.from_fields_of(curve, after=after)
