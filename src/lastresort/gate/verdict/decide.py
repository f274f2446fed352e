"""The verdict of a gate. Pure: no model, no disk, no clock.

First the target: is the bar met, and is the tuned system better than the best prompt? Then all measures: SHIP, HOLD or
REJECT. Then whether that calls for repairs, and for which.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lastresort.errors import ContractError
from lastresort.evals.evidence.noninferiority import holm, items_that_decide, non_inferior
from lastresort.evals.evidence.paired import better
from lastresort.evals.evidence.selection import CHEAPER_MARGIN
from lastresort.evals.evidence.sequential import LOOKING
from lastresort.gate.verdict.compare import mean_score
from lastresort.records.decision_parts import RepairKind
from lastresort.records.gate import (
    GENERAL,
    ClimbGate,
    GateConclusion,
    SuiteFound,
    TargetAtBar,
    TargetCompared,
    TargetFound,
    TargetNotAsked,
    TestedMeasure,
    lost_in_general,
    pays_too_much,
)
from lastresort.report.words import gate as words
from lastresort.report.words.wording import listed
from lastresort.spec.sections import SUITES
from lastresort.types import GateVerdict, Judgement


@dataclass(frozen=True, slots=True)
class Comparator:
    """The best prompt and the tuned system on the same test items, in one order.

    name: of the prompt's system. prompt, tuned: their scores. groups: label of each item if items belong together. prompt_cost,
    tuned_cost: of a call, in the same unit; None if a price is unknown.
    """

    name: str
    prompt: Sequence[float]
    tuned: Sequence[float]
    binary: bool
    groups: Sequence[str] | None = None
    prompt_cost: float | None = None
    tuned_cost: float | None = None


def no_target() -> TargetFound:
    """The target of a gate that compares only everything else."""
    return _with_reason(TargetNotAsked())


def judge_target(
    judgement: Judgement,
    comparator: Comparator | None = None,
    *,
    alpha: float = 0.05,
    seed: int = 0,
) -> TargetFound:
    """Passed if the bar is MET and the tuned system is better than the best prompt, or not inferior to it and cheaper.

    "Better" is tested first and at the same alpha. That needs no correction: a better system also loses less than the margin.
    judgement: of the bar. comparator: None without a prompt to compare with, so that the bar alone decides. Raises ContractError as
    `better` does, and on a negative cost.
    """
    met = judgement.outcome == "MET"
    target = TargetAtBar(
        passed=met,
        outcome=judgement.outcome,
        score=judgement.score,
        judged_score=None if judgement.judged is None else judgement.judged.score,
        n=judgement.n_used,
        n_needed=judgement.n_needed,
        by="bar" if met else None,
        unit=judgement.unit,
    )
    return _with_reason(target if comparator is None else _compare(target, comparator, alpha, seed))


def _compare(target: TargetAtBar, comparator: Comparator, alpha: float, seed: int) -> TargetCompared:
    prompt, tuned = comparator.prompt, comparator.tuned
    binary, groups = comparator.binary, comparator.groups
    improvement = better(prompt, tuned, confidence=1 - 2 * alpha, binary=binary, groups=groups, seed=seed)
    is_better = improvement.p <= alpha
    is_non_inferior = None
    if not is_better:
        comparison = non_inferior(
            prompt, tuned, margin=CHEAPER_MARGIN, alpha=alpha, binary=binary, groups=groups, seed=seed
        )
        is_non_inferior = comparison.verdict == "NON_INFERIOR"
    cheaper = _cheaper(comparator)
    worth = is_better or bool(is_non_inferior and cheaper)
    return TargetCompared.from_fields_of(
        target,
        passed=target.passed and worth,
        comparator=comparator.name,
        comparator_score=mean_score(prompt, comparator.groups),
        tuned_score=mean_score(tuned, comparator.groups),
        n_compared=improvement.n,
        gain=improvement.difference,
        interval=improvement.interval,
        p_better=improvement.p,
        better=is_better,
        non_inferior=is_non_inferior,
        margin=CHEAPER_MARGIN,
        cheaper=cheaper,
        by=None if not worth else "better" if is_better else "cheaper",
    )


def _cheaper(comparator: Comparator) -> bool | None:
    if comparator.prompt_cost is None or comparator.tuned_cost is None:
        return None
    if comparator.prompt_cost < 0 or comparator.tuned_cost < 0:
        raise ContractError("a call that costs less than nothing", expected="costs of at least 0")
    return comparator.tuned_cost < comparator.prompt_cost


def judged_again(gate: ClimbGate, test: Judgement) -> ClimbGate:
    """The gate of a system whose test of the bar went on with fresh items. All else stays, also what it was compared with: nothing
    is asked, and no second comparison adds an error of its own.
    """
    old_target, met = gate.target, test.outcome == "MET"
    by = old_target.by if isinstance(old_target, TargetCompared) else "bar" if met else None
    counts = {
        "outcome": test.outcome,
        "score": test.score,
        "judged_score": None if test.judged is None else test.judged.score,
        "n": test.n_used,
        "n_needed": test.n_needed,
        "unit": test.unit,
    }
    target = _with_reason(old_target.replaced(passed=met and by is not None, by=by, **counts))
    conclusion = conclude(gate.suites, target, power=gate.power, alpha=gate.alpha)
    return gate.replaced(
        verdict=conclusion.verdict,
        reasons=conclusion.reasons,
        suites=conclusion.suites,
        target=conclusion.target,
        would_decide=conclusion.would_decide,
    )


def _with_reason(target: TargetFound) -> TargetFound:
    return target.replaced(reason=words.target_reason(target))


PASSED = {"NON_INFERIOR", "SKIPPED"}


def kept_out(suite: str) -> str:
    return f"keep.{suite}: skip"


def conclude(
    suites: Sequence[SuiteFound],
    target: TargetFound,
    *,
    power: float,
    alpha: float = 0.05,
    leaves_out: Callable[[str], str] = kept_out,
) -> GateConclusion:
    """SHIP if the target passed and every required measure is NON_INFERIOR, REJECT if one is REGRESSED, HOLD otherwise.

    NON_INFERIOR: p <= alpha. A model ships only if all measures are (an intersection-union test), so a model that lost its margin
    anywhere ships with probability at most alpha, without correction. REGRESSED: Holm's p <= alpha over the tested measures, so a
    model that lost no more than its margins is rejected with probability at most alpha. UNINFORMATIVE never counts as passed;
    SKIPPED is not required. HOLD also if the loss seen in general is more than half of the gain on the target.

    suites: from `judge_measure` and `skipped_measure`, at the same alpha: .05 alone, .025 for each of two gates if repairs may
    follow. power: what each measure was planned for. leaves_out: how a user writes that a suite is not required. Raises
    ContractError without any measure, or if two share a name. Source: Berger 1982 (intersection-union); Holm 1979. Simulations:
    docs/gate-simulations.md.
    """
    names = [finding.name for finding in suites]
    if not names or len(set(names)) < len(names):
        raise ContractError(f"the measures {listed(names)}", expected="at least one, each with a name of its own")
    findings = _after_holm(suites, alpha)
    costly = pays_too_much(lost_in_general(findings), target)
    verdict = _verdict(findings, target, costly=costly)
    return GateConclusion(
        verdict=verdict,
        reasons=words.reasons(verdict, findings, target, costly=costly),
        would_decide=words.would_decide(findings, target, costly=costly, leaves_out=leaves_out)
        if verdict == "HOLD"
        else (),
        alpha=alpha,
        power=power,
        target=target,
        suites=findings,
    )


def _after_holm(suites: Sequence[SuiteFound], alpha: float) -> tuple[SuiteFound, ...]:
    tested = [finding for finding in suites if isinstance(finding, TestedMeasure)]
    adjusted = dict(
        zip([finding.name for finding in tested], holm([finding.p_regressed for finding in tested]), strict=True)
    )
    return tuple(
        _with_verdict(finding, adjusted[finding.name], len(tested), alpha)
        if isinstance(finding, TestedMeasure)
        else finding
        for finding in suites
    )


def _with_verdict(finding: TestedMeasure, adjusted: float, family: int, alpha: float) -> TestedMeasure:
    within_margin, regressed = finding.p <= alpha, adjusted <= alpha
    if within_margin and not regressed:
        finding = finding.replaced(verdict="NON_INFERIOR", n_needed=None)
    elif regressed and not within_margin:
        finding = finding.replaced(verdict="REGRESSED", n_needed=None)
    else:  # where both are shown, two looks contradict each other, and neither is claimed
        finding = finding.replaced(verdict="UNDERPOWERED")
        if finding.difference < -finding.margin and finding.spread is not None:
            finding = finding.replaced(n_needed=_needed_among(finding, finding.spread, family, alpha))
    return finding.replaced(reason=words.suite_reason(finding, family))


def _needed_among(finding: TestedMeasure, spread: float, family: int, alpha: float) -> int | None:
    """Of a loss beyond the margin, which Holm has to see at alpha over the number of measures, at worst."""
    once = alpha if finding.looked_at is None else alpha * (1 - LOOKING)
    binary = finding.binary and finding.unit == "item"
    return items_that_decide(finding.margin, spread, finding.difference, finding.n, alpha=once / family, binary=binary)


def _verdict(suites: Sequence[SuiteFound], target: TargetFound, *, costly: bool) -> GateVerdict:
    verdicts = {finding.verdict for finding in suites}
    if "REGRESSED" in verdicts:
        return "REJECT"
    passed = target.passed is not False and verdicts <= PASSED
    return "SHIP" if passed and not costly else "HOLD"


CLIMB_ALPHA = 0.025  # of each of the two gates of a climb

KINDS: tuple[RepairKind, ...] = ("scale", "fewer_epochs", "replay", "learning_rate")
UNTRAINED: tuple[RepairKind, ...] = ("scale", "fewer_epochs")


@dataclass(frozen=True, slots=True)
class RepairNeed:
    """What a repair has to fix. offending: the measures that lost too much. costly: general lost more than half of what the target
    gained. kinds: which repairs may be tried, the cheapest first.
    """

    offending: tuple[str, ...]
    costly: bool
    kinds: tuple[RepairKind, ...]


def repairs_after(gate: ClimbGate) -> RepairNeed | None:
    """What repairs have to fix after this gate; None if there are none to try.

    They are tried after REJECT, and after HOLD if a loss is seen or general lost too much for the gain. Milder training fixes
    neither a lack of items, nor an uninformative suite, nor a missed target, and lm-eval's documents leave no separate draw to
    measure it on. After a quick gate only REJECT is followed by repairs, without training.
    """
    quick = gate.mode == "quick"
    if gate.verdict == "SHIP" or gate.target.passed is False:
        return None
    if quick and gate.verdict != "REJECT":
        return None
    offending = [finding for finding in gate.suites if _offends(finding, gate)]
    if not offending or any(finding.suite not in SUITES for finding in offending):
        return None
    return RepairNeed(tuple(finding.name for finding in offending), gate.costly, UNTRAINED if quick else KINDS)


def _offends(finding: SuiteFound, gate: ClimbGate) -> bool:
    if not isinstance(finding, TestedMeasure):
        return False
    if finding.verdict == "REGRESSED" or (gate.costly and finding.suite == GENERAL and finding.difference < 0):
        return True
    return gate.verdict == "HOLD" and finding.verdict == "UNDERPOWERED" and finding.loss_seen
