"""Whether a training still points at the bar after its first third: a warning and a question, never a verdict.

The scores on dev are drawn straight on from what the untrained model scores with the same prompt, or from 0 where that was not
measured. That flatters, as learning slows down. Where even so the end lies below the bar, the rest is unlikely to be worth it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lastresort.evals.evidence.paired import reweighted_mean
from lastresort.evals.evidence.units import as_scores, group_means
from lastresort.records.events.training import CurveSeen, TrainingReached
from lastresort.records.rungs import CurveBelowBar
from lastresort.rungs.notes import TrainOn
from lastresort.rungs.prompting.prompts import PLAIN, instruction
from lastresort.rungs.rung import Workbench
from lastresort.types import GoOnAbout

if TYPE_CHECKING:
    from lastresort.systems.system import System

THIRD = 1 / 3  # of the training, where the race of learning rates ends
MOST_SEEN = 96  # dev items answered
LONG_REST_S = 600.0  # a rest of the training that takes less is not worth a look
ERROR = 0.05  # of a warning where the straight line reaches the bar
ABOUT: GoOnAbout = "curve"


@dataclass(frozen=True, slots=True)
class StraightOn:
    """Where a straight line ends. score: mean at a third of the training. end: mean at its end. p: of "both lie below the bar"."""

    score: float
    end: float
    p: float

    @property
    def below(self) -> bool:
        return self.p <= ERROR


def straight_on(
    now: Sequence[float],
    before: Sequence[float] | None,
    bar: float,
    *,
    seed: int,
    groups: Sequence[str] | None = None,
) -> StraightOn:
    """Draw the mean score straight on from the start of the training through its third to its end.

    now: scores at a third, one a dev item. before: of the untrained model on the same items, None to take it for 0, which is the
    steepest line. groups: label of each item where items belong together. An end that reaches the bar is called below it in at
    most 5% of simulations; that this holds for every distribution is a conjecture (`reweighted_mean`).
    """
    third = as_scores(now, binary=False)
    start = 0 * third if before is None else as_scores(before, binary=False)
    end = start + (third - start) / THIRD
    if groups is not None:
        third, end = group_means(third, groups), group_means(end, groups)
    p_end = reweighted_mean(end * THIRD, seed).p_below(bar * THIRD)  # scaled into [-1, 1]
    p_third = reweighted_mean(third, seed).p_below(bar)  # a curve that fell may stay where it is
    return StraightOn(float(third.mean()), float(end.mean()), max(p_end, p_third))


def rest_is_long(bench: Workbench, run: str) -> bool:
    """Whether the other two thirds of a training take long, by what its first third took."""
    reached = bench.record.last(TrainingReached, run)
    return reached is not None and reached.seconds * (1 / THIRD - 1) >= LONG_REST_S


def look_at_curve(bench: Workbench, rung: str, system: System, step: int, steps: int) -> CurveBelowBar | None:
    """Measure the system after a third of its training, say what a straight line makes of it, and where that ends below the bar ask
    whether to go on. None where it does not. Raises StopRequestedError where the user answers no.
    """
    curve = bench.record.last(CurveSeen, rung)
    if curve is None:
        curve = _measure_third(bench, rung, system, step, steps)
        bench.record.append(curve)
    if not curve.below:
        return None
    bar, is_judged = bench.missed_below, bench.correction is not None
    finding = CurveBelowBar(
        curve.step, curve.steps, curve.n, curve.score, curve.before, curve.end, bar, is_judged, ERROR
    )
    bench.say(rung, finding)
    if bench.task.limits.hours is None:
        bench.ask_to_go_on(rung, ABOUT, bench.in_words(rung, TrainOn(finding)))
    return finding


def _measure_third(bench: Workbench, rung: str, system: System, step: int, steps: int) -> CurveSeen:
    groups = bench.dev_groups()
    n = min(len(bench.dev), MOST_SEEN) if groups is None else len(bench.dev)  # half a group proves nothing
    bench.progress.stage(f"{rung}: {system.name} on dev, a third of the way", n)
    bench.keep(rung, system)
    items = bench.dev_results(rung, [system], 0, n)[system.name]
    if not isinstance(items, list):
        raise items.error()
    scores, untrained_scores = [item.score for item in items], _untrained_scores(bench, n)
    line = straight_on(scores, untrained_scores, bench.missed_below, seed=bench.task.split.seed, groups=groups)
    return CurveSeen.from_fields_of(
        line,
        rung=rung,
        candidate=system.name,
        step=step,
        steps=steps,
        n=n,
        before=None if untrained_scores is None else sum(untrained_scores) / n,
    )


def _untrained_scores(bench: Workbench, n: int) -> list[float] | None:
    """What the model that is tuned scored on the same items with the prompt it is tuned with: that of zero-shot, unless this adds
    choices or a schema. None where it did not answer all of them.
    """
    task = bench.task
    if bench.models.tuned_name != bench.models.base_name or instruction(task) != task.about.strip():
        return None
    zero_shot_items = bench.record.dev_items("prompting", PLAIN)
    scores = [zero_shot_items[example.id].score for example in bench.dev[:n] if example.id in zero_shot_items]
    return scores if len(scores) == n else None
