"""What the rows of SFT then DPO against ORPO say: rows in, document out. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Literal

import numpy as np

from lastresort.evals.evidence.curve_means import LEAST_SEEDS, curve_means
from lastresort.evals.evidence.paired import better
from lastresort.evals.evidence.units import Array, group_means
from lastresort.records.gate import TestedMeasure
from lastresort.report.study import (
    ArmGate,
    ArmPoint,
    ArmSeed,
    ArmSettings,
    ArmWork,
    BetterArm,
    ComputeShare,
    GatedMeasure,
    GateSaid,
    MeanDifference,
    OrpoVsDpoDocument,
    Sign,
)
from lastresort.report.words import study as words
from lastresort.rungs.preference.items import option_of
from lastresort.spec.task import Task
from lastresort.study.compute import TrainingCompute
from lastresort.study.conclude import MeasuredStudy, is_far, leaked, mean_of
from lastresort.study.grid import ARMS, Way
from lastresort.study.rows import ArmTraining, CellGate, CellRow
from lastresort.train.settings import Objective

ENDING = 1  # token that ends a rendered answer, which is learned but is not counted of an answer that the model gives


@dataclass(frozen=True, slots=True)
class ArmComparison:
    """By how much the second way scores more, with the interval at 95% over units and seeds, and which is shown to be better."""

    mean: float
    interval: tuple[float, float]

    @property
    def better(self) -> BetterArm:
        low, high = self.interval
        return "ORPO" if low > 0 else "DPO" if high < 0 else "CANNOT_TELL"


def compare_arms(first: Array, second: Array) -> ArmComparison:
    """Of values of the same units with the same seeds, each of shape (seeds, units), 2 at least of either."""
    found = curve_means((second - first)[None])
    ((low, high),) = found.intervals()
    return ArmComparison(float(found.means[0]), (low, high))


def compare_preferred(dpo: Sequence[ArmTraining], orpo: Sequence[ArmTraining]) -> ArmComparison | None:
    """Of the shares of held-out pairs whose chosen answer is the likelier one, by prompt; None with fewer than two prompts."""
    first, second = (np.array([_right_by_prompt(arm) for arm in arms]) for arms in (dpo, orpo))
    return compare_arms(first, second) if first.shape[1] > 1 else None


def orpo_vs_dpo_of(study: MeasuredStudy) -> OrpoVsDpoDocument:
    grid, task, base = study.grid, study.task, study.row("zero-shot", 0, 0)
    (n,) = grid.sizes
    rows = {way: [study.row(way, n, seed) for seed in grid.seeds] for way in ARMS}
    of = {way: [row.arm for row in found if row.arm is not None] for way, found in rows.items()}
    scores = {way: study.values(way, n, lambda row: row.scores) for way in ARMS}
    found = compare_arms(scores["dpo"], scores["orpo"])
    difference = _bounded(found)
    held = compare_preferred(of["dpo"], of["orpo"])
    right = None if held is None else _bounded(held)
    leaks = dict(zip(ARMS, leaked(base, [rows[way] for way in ARMS]), strict=True))
    gate = study.measured.gate
    gated = {
        way: [row.gate for row in found if row.gate is not None and gate is not None] for way, found in rows.items()
    }
    points = (
        _base_point(study, base, of["dpo"][0]),
        *(_point(study, way, rows[way], of[way], gated[way], leaks=leaks[way]) for way in ARMS),
    )
    by_seed = tuple(
        _of_seed(study, *pair, gated=gate is not None) for pair in zip(rows["dpo"], rows["orpo"], strict=True)
    )
    on, first = study.measured_on, of["dpo"][0]
    held_pairs, settings, compute = len(first.margins), _settings(task, of), _compute(of)
    left_out = n - first.pairs - held_pairs
    chosen = first.chosen_tokens - ENDING
    return OrpoVsDpoDocument(
        task=task.task,
        model=task.tuned_model,
        method=study.measured.method,
        measured_on=on,
        pairs=first.pairs,
        held_pairs=held_pairs,
        left_out=left_out,
        seeds=len(grid.seeds),
        settings=settings,
        compute=compute,
        better=found.better,
        difference=difference,
        preferred=right,
        answer=words.answer_of_arms(found.better, difference, compute),
        points=points,
        by_seed=by_seed,
        chosen_tokens=chosen,
        gate=gate,
        reasons=tuple(words.reasons_of_arms(points, by_seed, right, chosen)),
        notes=(
            words.DEV_ONLY,
            words.of_training(study.measured.method, first.pairs, held_pairs, left_out),
            words.of_rates(settings),
            words.of_compute(_work(of["dpo"]), _work(of["orpo"]), compute),
            words.of_units_of_arms(on.n, on.unit, len(grid.seeds), len(set(first.held_prompts)) or held_pairs),
            words.ONE_LOOK,
            words.NOT_THE_GATE if gate is None else words.of_gate(gate),
        ),
        seconds=study.seconds,
    )


def _bounded(found: ArmComparison) -> MeanDifference:
    low, high = found.interval
    return MeanDifference(mean=found.mean, interval=(max(-1.0, low), min(1.0, high)))


def _settings(task: Task, of: dict[Way, list[ArmTraining]]) -> ArmSettings:
    dpo, orpo = of["dpo"][0], of["orpo"][0]
    assert dpo.sft_rate is not None, "DPO follows SFT"
    return ArmSettings(
        sft_rate=dpo.sft_rate,
        dpo_rate=dpo.learning_rate,
        orpo_rate=orpo.learning_rate,
        loraplus_lr_ratio=task.sft.loraplus_lr_ratio,
        dpo_beta=_option(task, "dpo"),
        orpo_weight=_option(task, "orpo"),
    )


def _option(task: Task, objective: Literal["dpo", "orpo"]) -> float:
    """What `preference.beta` sets of it, or its own default."""
    name, beta = option_of(objective), task.preference.beta
    return float(Objective(objective).defaults()[name] if beta == "auto" else beta)


def _compute(of: dict[Way, list[ArmTraining]]) -> ComputeShare:
    dpo, orpo = ([TrainingCompute(one.trained_tokens, one.reference_tokens).tokens for one in of[way]] for way in ARMS)
    steps = [one.trained_tokens / one.steps for one in of["orpo"]]
    equal = (0 <= first - second < 2 * step for first, second, step in zip(dpo, orpo, steps, strict=True))
    return ComputeShare(share=fmean(orpo) / fmean(dpo), equal=all(equal))


def _of_seed(study: MeasuredStudy, dpo: CellRow, orpo: CellRow, *, gated: bool) -> ArmSeed:
    found = better(dpo.scores, orpo.scores, binary=study.binary, groups=study.groups, seed=study.seed)
    return ArmSeed(
        seed=dpo.seed,
        dpo=study.score(dpo),
        orpo=study.score(orpo),
        difference=found.difference,
        interval=found.interval,
        dpo_gate=_said(dpo.gate) if gated else None,
        orpo_gate=_said(orpo.gate) if gated else None,
    )


def _said(gate: CellGate | None) -> GateSaid | None:
    return None if gate is None else GateSaid(verdict=gate.verdict, reason=gate.reasons[0])


def gates_of(gates: Sequence[CellGate]) -> ArmGate | None:
    """Of one way, by seed; None without any."""
    if not gates:
        return None
    names = list(dict.fromkeys(one.name for gate in gates for one in gate.suites))
    found = {name: [one for gate in gates for one in gate.suites if one.name == name] for name in names}
    tested = {name: [one for one in own if isinstance(one, TestedMeasure)] for name, own in found.items()}
    measures = [_over_seeds(name, own, gates[0].alpha) for name, own in tested.items() if len(own) == len(gates)]
    return ArmGate(
        verdicts=tuple(gate.verdict for gate in gates),
        measures=tuple(measures),
        untested=tuple(name for name, own in tested.items() if len(own) < len(gates)),
    )


def _over_seeds(name: str, found: Sequence[TestedMeasure], alpha: float) -> GatedMeasure:
    """The interval counts the noise of items and of seeds, each by itself, as `curve_means` does. That of items is what the gate
    says of one adapter: all seeds are asked the same, so more of them do not lessen it.
    """
    from scipy.special import ndtri, stdtrit

    differences = [one.difference for one in found]
    mean = fmean(differences)
    items = float(ndtri(0.975) / ndtri(1 - alpha)) * fmean((one.interval[1] - one.interval[0]) / 2 for one in found)
    seeds = 0.0
    if len(found) >= LEAST_SEEDS:
        seeds = float(stdtrit(len(found) - 1, 0.975)) * stdev(differences) / math.sqrt(len(found))
    margin = math.hypot(items, seeds)
    return GatedMeasure(
        name=name,
        difference=mean,
        interval=(max(-1.0, mean - margin), min(1.0, mean + margin)),
        verdicts=tuple(one.verdict for one in found),
    )


def _base_point(study: MeasuredStudy, base: CellRow, arm: ArmTraining) -> ArmPoint:
    scores = study.values("zero-shot", 0, lambda row: row.scores)
    return ArmPoint(
        way=words.BASE_PROMPT,
        score=float(scores.mean()),
        interval=study.interval(scores),
        preferred=_right([arm.base_margins]),
        margin=mean_of(arm.base_margins),
        answer_tokens=fmean(base.answer_tokens),
        kept=mean_of(base.kept or ()),
        kl=None,
        prose=None,
        work=None,
        gate=None,
        signs=(),
    )


def _point(
    study: MeasuredStudy,
    way: Way,
    rows: Sequence[CellRow],
    arms: Sequence[ArmTraining],
    gates: Sequence[CellGate],
    *,
    leaks: bool,
) -> ArmPoint:
    scores = study.values(way, rows[0].n, lambda row: row.scores)
    signs: tuple[Sign, ...] = (*(("FORMAT_LEAK",) if leaks else ()), *(("FAR_FROM_BASE",) if is_far(arms) else ()))
    return ArmPoint(
        way=way,
        score=float(scores.mean()),
        interval=study.interval(scores),
        preferred=_right([one.margins for one in arms]),
        margin=mean_of([margin for one in arms for margin in one.margins]),
        answer_tokens=fmean(tokens for row in rows for tokens in row.answer_tokens),
        kept=mean_of([kept for row in rows for kept in row.kept or ()]),
        kl=mean_of([one.kl for one in arms if one.kl is not None]),
        prose=mean_of([one.prose for one in arms if one.prose is not None]),
        work=_work(arms),
        gate=gates_of(gates),
        signs=signs,
    )


def _work(arms: Sequence[ArmTraining]) -> ArmWork:
    def mean(of: Callable[[ArmTraining], float]) -> float:
        return fmean(map(of, arms))

    return ArmWork(
        sft_steps=mean(lambda one: one.sft_steps),
        steps=mean(lambda one: one.steps),
        trained_tokens=mean(lambda one: one.trained_tokens),
        reference_tokens=mean(lambda one: one.reference_tokens),
        tokens=mean(lambda one: TrainingCompute(one.trained_tokens, one.reference_tokens).tokens),
    )


def _right_by_prompt(arm: ArmTraining) -> Array:
    """The share of pairs of which the chosen answer is the likelier one, of each prompt held out: its pairs are no units, since
    they are held out together.
    """
    right = np.array([float(one > 0) for one in arm.margins])
    return group_means(right, list(map(str, arm.held_prompts))) if arm.held_prompts else right


def _right(margins: Sequence[Sequence[float]]) -> float | None:
    """The share of pairs of which the chosen answer is the likelier one."""
    return mean_of([float(one > 0) for own in margins for one in own])
