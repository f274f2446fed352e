"""The repairs of a climb: after the first gate milder systems are tried, and the best of the good ones is tested and gated once.

There is at most one such phase in a climb. Repairs come in stages, the cheapest first; the next stage is tried only where none was
good before. Every repair is recorded when it is measured, so that a climb that was killed resumes after it and chooses the same.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from lastresort.after.repair.choose import (
    RepairCandidate,
    RepairLosses,
    best,
    findings_on,
    goes_to_the_gate,
    is_good,
)
from lastresort.climb.bar_test import items_in_groups, run_test
from lastresort.climb.budget import over_time
from lastresort.climb.decide import RungOutcome, best_prompt
from lastresort.climb.prepare import PreparedTask
from lastresort.errors import CandidateError
from lastresort.evals.measure import mean_score
from lastresort.gate.in_climb import gating_of, recorded_gate, run_second_gate
from lastresort.gate.verdict.decide import UNTRAINED, RepairNeed, repairs_after
from lastresort.records.decision_parts import RepairFinding, RepairKind, RepairView
from lastresort.records.events.after_test import RepairPostponed, RepairsBegun, RepairTested, RepairTried, repair_key
from lastresort.records.events.training import TrainingReached
from lastresort.records.gate import ClimbGate, GateSpent, stands
from lastresort.records.measurement import DevScore
from lastresort.records.reasons import RepairsTried
from lastresort.records.record import ItemScore
from lastresort.records.view import fold_of
from lastresort.report.words.answer import line, of_reason
from lastresort.rungs.rung import Rung, Workbench, find_rung
from lastresort.rungs.supervised.milder import RepeatableTraining, Retrainable, scale_system, training_of
from lastresort.rungs.tuning import constrain, on_dev
from lastresort.systems.files import load_system
from lastresort.systems.system import System
from lastresort.types import GateMode, GateVerdict


def result_of(rung: str, repairs: Sequence[RepairView], first: GateVerdict, *, wins: bool) -> RepairsTried:
    """repairs: as in the decision, of one rung. first: verdict of the gate before. wins: whether a repaired system does now."""
    good = sum(repair.good for repair in repairs)
    frozen = next((repair for repair in repairs if repair.frozen), None)
    if frozen is None:
        return RepairsTried(rung, first, len(repairs), good)
    gate = None if frozen.gate is None else frozen.gate.verdict
    assert frozen.test is not None, "what is frozen is tested"
    return RepairsTried(rung, first, len(repairs), good, frozen.system, frozen.test.score, gate, wins)


SCALES = (0.75, 0.5, 0.25)
REPLAY = (0.1, 0.25)
SLOWER = 1 / 3


@dataclass(frozen=True, slots=True)
class Repair:
    """setting: the scale; the epoch or step of a checkpoint; the share of replay; the learning rate."""

    kind: RepairKind
    setting: float

    def key(self, rung: str) -> str:
        """Of its events."""
        return repair_key(rung, self.kind, self.setting)


def stages(kinds: Collection[RepairKind], training: RepeatableTraining | None) -> list[list[Repair]]:
    """training: what the system came of, None where its rung cannot tell; then there are scales alone."""
    stages_of_repairs = [[Repair("scale", scale) for scale in SCALES]]
    if training is not None:
        stages_of_repairs.append([Repair("fewer_epochs", number) for number, _ in training.earlier])
        if training.replay is not None:
            stages_of_repairs += [[Repair("replay", share)] for share in REPLAY if share > training.replay]
        stages_of_repairs.append([Repair("learning_rate", rounded(training.learning_rate * SLOWER))])
    wanted = ([repair for repair in stage if repair.kind in kinds] for stage in stages_of_repairs)
    return [stage for stage in wanted if stage]


def rounded(rate: float) -> float:
    """To three digits, so that a rate that was raced before is found again."""
    return float(f"{rate:.3g}")


class RepairTrainer:
    """gated: the system that the gate rejected or held, of this rung."""

    def __init__(self, bench: Workbench, rung: str, gated: System) -> None:
        self._bench, self._gated = bench, gated
        self._rung: Rung = find_rung(rung)
        self._name = rung

    def training(self) -> RepeatableTraining | None:
        """What it came of, None where its rung cannot tell."""
        if not isinstance(self._rung, Retrainable):
            return None
        return training_of(self._bench, self._rung, self._gated.name)

    def made(self, repair: Repair) -> System | None:
        """Not kept yet. None where training diverges; raises CandidateError where this system cannot be repaired so."""
        if repair.kind == "scale":
            return scale_system(self._bench, self._gated, repair.setting)
        if repair.kind == "fewer_epochs":
            return self._earlier(repair.setting)
        assert isinstance(self._rung, Retrainable)
        if repair.kind == "replay":
            return self._rung.retrain(self._bench, self._gated, replay=repair.setting)
        return self._rung.retrain(self._bench, self._gated, learning_rate=repair.setting)

    def _earlier(self, number: float) -> System:
        """The checkpoint, held to the form of the output where the gated system is."""
        training = self.training()
        assert training is not None
        system = load_system(self._bench.candidate_folder(self._name, dict(training.earlier)[int(number)]))
        grammar = self._gated.decoding.grammar
        if grammar is None or system.decoding.grammar is not None:
            return system
        return constrain(self._bench.record, system, grammar)


def beyond_time(bench: Workbench, rung: str, repair: Repair) -> RepairFinding | None:
    """Why a repair does not start; None if it fits or nothing is known. A training takes as long as the longest of its rung."""
    if repair.kind in UNTRAINED:
        return None
    took = [training.seconds for training in bench.record.all(TrainingReached) if training.rung == rung]
    beyond = over_time(max(took, default=None), bench.hours_left())
    if beyond is None:
        return None
    hours = bench.task.limits.hours
    bench.record.append(RepairPostponed(rung=rung, repair=repair.kind, setting=repair.setting, limit_hours=hours))
    return RepairFinding(kind="OVER_TIME", value=beyond.planned_s, limit=beyond.hours_left)


def has_other_time(bench: Workbench, rung: str, repair: Repair) -> bool:
    """Whether a repair that did not fit is tried again, because `limits.hours` is another. No more once a repaired system was
    tested: a second one has no share of the error.
    """
    postponed = bench.record.last(RepairPostponed, repair.key(rung))
    tested = bench.record.last(RepairTested, rung) is not None
    return postponed is not None and not tested and postponed.limit_hours != bench.task.limits.hours


def after_repairs(
    bench: Workbench, prepared: PreparedTask, outcomes: Sequence[RungOutcome], gated: RungOutcome, mode: GateMode
) -> RungOutcome:
    """The outcome of the rung after its gate: of the repaired system where it takes the place of the gated one, else `gated`.

    outcomes: of the climb so far, among which is the best prompt. mode: of the gate; with "none" nothing more is tried.
    Raises StoppedError if a limit is reached or a model does not answer: a resumed climb continues from there.
    """
    first, begun = recorded_gate(bench.record, gated.rung, gated.system), bench.record.last(RepairsBegun)
    needed = repairs_after(first) if first is not None else None
    if begun is None and mode == "none":
        return gated
    if first is None or needed is None or (begun is not None and begun.rung != gated.rung):
        return gated
    if begun is None:
        bench.record.append(RepairsBegun(rung=gated.rung, system=str(gated.system), **asdict(needed)))
    tested = bench.record.last(RepairTested, gated.rung)
    if (
        tested is None
        and mode != "none"
        and (chosen := best(_tried(bench, prepared, outcomes, gated, needed))) is not None
    ):
        tested = _tested(bench, prepared, gated.rung, chosen)
    outcome = gated if tested is None else _settled(bench, prepared, outcomes, gated, tested, first)
    result = result_of(gated.rung, fold_of(bench.record).repairs, first.verdict, wins=outcome is not gated)
    bench.progress.say(line(of_reason(result)))
    return replace(outcome, repairs=result)


def _tried(
    bench: Workbench, prepared: PreparedTask, outcomes: Sequence[RungOutcome], gated: RungOutcome, needed: RepairNeed
) -> list[RepairCandidate]:
    """Stage after stage until one holds a good repair."""
    assert gated.system is not None
    system = load_system(bench.candidate_folder(gated.rung, gated.system))
    making = RepairTrainer(bench, gated.rung, system)
    trying = _Trying(bench, prepared, gated.rung, needed, making, _prompted(bench, outcomes))
    candidates: list[RepairCandidate] = []
    for stage in stages(needed.kinds, trying.making.training()):
        candidates += [tried for repair in stage if (tried := trying.tried(repair)) is not None]
        if any(tried.good for tried in candidates):
            break
    return candidates


class _Trying:
    """Repairs one by one, each in the record when it is measured. prompted: scores of the best prompt on dev, by item."""

    def __init__(
        self,
        bench: Workbench,
        prepared: PreparedTask,
        rung: str,
        needed: RepairNeed,
        making: RepairTrainer,
        prompted: dict[str, float],
    ) -> None:
        self.making = making
        self._bench, self._rung, self._needed, self._prompted = bench, rung, needed, prompted
        self._losses = RepairLosses(bench, prepared)

    def tried(self, repair: Repair) -> RepairCandidate | None:
        """None where there is no such system."""
        known = self._bench.record.last(RepairTried, repair.key(self._rung))
        if known is None or has_other_time(self._bench, self._rung, repair):
            known = self._measured(repair)
            self._bench.record.append(known)
        if known.dev is None or known.system is None:
            return None
        return RepairCandidate(known.system, known.dev.score, known.measures, known.good)

    def _measured(self, repair: Repair) -> RepairTried:
        bench, rung = self._bench, self._rung
        if beyond := beyond_time(bench, rung, repair):
            return _not_made(rung, repair, beyond)
        try:
            system = self.making.made(repair)
        except CandidateError as error:
            return _not_made(rung, repair, RepairFinding(kind="NOT_MADE", error=str(error)))
        if system is None:
            return _not_made(rung, repair, RepairFinding(kind="DIVERGED"))
        items = on_dev(bench, rung, system)
        dev = mean_score(items)
        measures, spent = self._losses.of(bench.candidate_folder(rung, system.name))
        findings = findings_on(dev, measures, self._needed, bar=bench.judged_bar, won=_won(items, self._prompted))
        return RepairTried(
            rung=rung,
            repair=repair.kind,
            setting=repair.setting,
            system=system.name,
            dev=DevScore(score=dev, n=len(items)),
            measures=measures,
            good=is_good(findings),
            findings=findings,
            spent=spent,
        )


def _tested(bench: Workbench, prepared: PreparedTask, rung: str, chosen: RepairCandidate) -> RepairTested:
    """The frozen repair against the bar: once, whatever error a later session could give it."""
    system = load_system(bench.candidate_folder(rung, chosen.system))
    parts = [prepared.split.test]
    judgement, _ = run_test(bench, rung, system, parts, bench.alpha_of_repair(rung), once=True)
    items = items_in_groups(judgement, parts)
    tested = RepairTested(rung=rung, system=system.name, judgement=judgement, items=items)
    bench.record.append(tested)
    return tested


def _settled(
    bench: Workbench,
    prepared: PreparedTask,
    outcomes: Sequence[RungOutcome],
    gated: RungOutcome,
    tested: RepairTested,
    first: ClimbGate,
) -> RungOutcome:
    """The outcome of the rung after the gate of the repaired system, on fresh items."""
    if not goes_to_the_gate(tested.judgement, bench.task.bar):
        return gated
    repaired = RungOutcome(gated.rung, tested.judgement, tested.system)
    second = run_second_gate(bench, prepared, outcomes, repaired, first)
    assert gated.judgement is not None
    if not stands(first.verdict, gated.judgement, second.verdict, tested.judgement):
        return gated
    return replace(repaired, gate=gating_of(second))


def _prompted(bench: Workbench, outcomes: Sequence[RungOutcome]) -> dict[str, float]:
    """Scores of the best prompt on dev, as far as its race went; none where there is no prompt."""
    prompt = best_prompt(outcomes)
    if prompt is None:
        return {}
    return {name: item.score for name, item in bench.record.dev_items(prompt.rung, prompt.system).items()}


def _won(items: Sequence[ItemScore], prompted: Mapping[str, float]) -> float | None:
    """By how much these items are better than the prompt's, on those that both answered; None without any."""
    both = [item for item in items if item.id in prompted]
    return mean_score(both) - sum(prompted[item.id] for item in both) / len(both) if both else None


def _not_made(rung: str, repair: Repair, why: RepairFinding) -> RepairTried:
    return RepairTried(
        rung=rung,
        repair=repair.kind,
        setting=repair.setting,
        system=None,
        dev=None,
        measures=(),
        good=False,
        findings=(why,),
        spent=GateSpent(),
    )
