"""What trainings on real rows, on synthetic rows and on both say: rows in, document out. Pure.

Two comparisons on the same units with the same seeds, each by its interval at 95% over units and seeds: both against real rows
alone, then synthetic rows alone against them. The second is tested only where the first shows a difference. So a study says
something false of either with a probability of at most 5%, and the first pays nothing for the second.

Source: Maurer, Hothorn and Lehmacher 1995 (tests in a fixed order).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from lastresort.evals.evidence.paired import better
from lastresort.evals.evidence.units import Array
from lastresort.report.study import (
    OtherRows,
    RowsDifference,
    RowsEffect,
    RowsPoint,
    SourceSeed,
    SourceTraining,
    SyntheticDocument,
)
from lastresort.report.words import study as words
from lastresort.report.words import study_synthetic as own_words
from lastresort.report.words.answer import of_left_out, of_too_long
from lastresort.study.compare import compare_arms
from lastresort.study.conclude import MeasuredStudy, leaked, mean_of, signs_of
from lastresort.study.grid import SOURCES, Way
from lastresort.study.rows import CellRow
from lastresort.study.synthetic import passes_of, steps_of


@dataclass(frozen=True, slots=True)
class SourceComparison:
    """By how much a training on other rows scores more than on real rows alone, with the interval at 95%, and what it shows.
    tested: whether all before it in the order have shown something.
    """

    mean: float
    interval: tuple[float, float]
    tested: bool

    @property
    def effect(self) -> RowsEffect:
        low, high = self.interval
        return "CANNOT_TELL" if not self.tested or low <= 0 <= high else "BETTER" if low > 0 else "WORSE"


def compare_in_order(real: Array, others: Sequence[Array]) -> list[SourceComparison]:
    """Each of shape (seeds, units), of the same units with the same seeds."""
    found, tested = list[SourceComparison](), True
    for values in others:
        one = compare_arms(real, values)
        found.append(SourceComparison(one.mean, one.interval, tested))
        tested = found[-1].effect != "CANNOT_TELL"
    return found


def synthetic_of(study: MeasuredStudy) -> SyntheticDocument:
    grid, task, base = study.grid, study.task, study.row("zero-shot", 0, 0)
    (n,) = grid.sizes
    rows = {way: [study.row(way, n, seed) for seed in grid.seeds] for way in SOURCES}
    scores = {way: study.values(way, n, lambda row: row.scores) for way in SOURCES}
    first, second = compare_in_order(scores["real"], [scores["both"], scores["synthetic"]])
    both, synthetic = _difference("both", first), _difference("synthetic", second)
    leaks = dict(zip(SOURCES, leaked(base, [rows[way] for way in SOURCES]), strict=True))
    points = (_base_point(study, base), *(_point(study, way, rows[way], leaks=leaks[way]) for way in SOURCES))
    by_seed = tuple(_of_seed(study, *three) for three in zip(*(rows[way] for way in SOURCES), strict=True))
    on, real = study.measured_on, points[1]
    left_out = [one for one in study.left_out if one.rows == "train"]
    return SyntheticDocument(
        task=task.task,
        model=task.tuned_model,
        method=study.measured.method,
        learning_rate=study.measured.rate,
        measured_on=on,
        left_out=sum(one.n for one in left_out),
        seeds=len(grid.seeds),
        epochs=task.sft.epochs,
        effect=both.effect,
        differences=(both, synthetic),
        answer=own_words.answer(both, overfits="DEV_LOSS_ROSE" in real.signs),
        points=points,
        by_seed=by_seed,
        reasons=tuple(own_words.reasons(synthetic, by_seed)),
        notes=(
            words.DEV_ONLY,
            words.of_trained(study.measured.method, study.measured.rate),
            own_words.of_steps(points[1:], task.sft.epochs),
            *map(of_left_out, left_out),
            *([of_too_long(too_long)] if (too_long := study.measured.too_long) else []),
            words.of_units(on.n, on.unit, len(grid.seeds)),
            own_words.IN_ORDER,
            words.ONE_LOOK,
        ),
        seconds=study.seconds,
    )


def _difference(way: OtherRows, found: SourceComparison) -> RowsDifference:
    low, high = found.interval
    return RowsDifference(
        way=way, mean=found.mean, interval=(max(-1.0, low), min(1.0, high)), tested=found.tested, effect=found.effect
    )


def _of_seed(study: MeasuredStudy, real: CellRow, synthetic: CellRow, both: CellRow) -> SourceSeed:
    found = better(real.scores, both.scores, binary=study.binary, groups=study.groups, seed=study.seed)
    return SourceSeed(
        seed=real.seed,
        real=study.score(real),
        synthetic=study.score(synthetic),
        both=study.score(both),
        difference=found.difference,
        interval=found.interval,
    )


def _base_point(study: MeasuredStudy, base: CellRow) -> RowsPoint:
    scores = study.values("zero-shot", 0, lambda row: row.scores)
    return RowsPoint(
        way=words.BASE_PROMPT,
        rows=0,
        score=float(scores.mean()),
        interval=study.interval(scores),
        training=None,
        kept=mean_of(base.kept or ()),
        signs=(),
    )


def _point(study: MeasuredStudy, way: Way, rows: Sequence[CellRow], *, leaks: bool) -> RowsPoint:
    scores = study.values(way, rows[0].n, lambda row: row.scores)
    trained = [row.trained for row in rows if row.trained is not None]
    n, steps = rows[0].rows, trained[0].steps
    return RowsPoint(
        way=way,
        rows=n,
        score=float(scores.mean()),
        interval=study.interval(scores),
        training=SourceTraining(
            steps=steps,
            passes=passes_of(study.task, n, steps),
            steps_in_epochs=steps_of(study.task, n),
            train_loss=fmean(one.train_loss for one in trained),
            dev_loss=fmean(one.dev_loss for one in trained),
        ),
        kept=mean_of([one for row in rows for one in row.kept or ()]),
        signs=signs_of(rows, leaks=leaks),
    )
