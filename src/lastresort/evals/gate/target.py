"""The target of a gate: is the bar met, and is the tuned system worth more than the best prompt? Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from lastresort.errors import ContractError
from lastresort.evals.evidence import better, non_inferior
from lastresort.evals.evidence.selection import CHEAPER_MARGIN
from lastresort.evals.gate.compare import mean_score
from lastresort.evals.gate.found import TargetFound
from lastresort.evals.gate.sentences import target_reason
from lastresort.types import Judgement


@dataclass(frozen=True, slots=True)
class Comparator:
    """The best prompt and the tuned system on the whole test set, item by item in one order.

    name: of the prompt's system. prompt, tuned: their scores. groups: label of each item, where items belong together.
    prompt_cost, tuned_cost: of a call, in any one unit; None where a price is not known.
    """

    name: str
    prompt: Sequence[float]
    tuned: Sequence[float]
    binary: bool
    groups: Sequence[str] | None = None
    prompt_cost: float | None = None
    tuned_cost: float | None = None


def not_asked() -> TargetFound:
    """A gate that asks only what else the model can do."""
    return _told(TargetFound(None))


def target_found(
    judgement: Judgement,
    comparator: Comparator | None = None,
    *,
    alpha: float = 0.05,
    margin: float = CHEAPER_MARGIN,
    seed: int = 0,
) -> TargetFound:
    """Passed where the bar is MET and the tuned system is better than the best prompt, or not inferior to it and cheaper.

    "Better" is asked first and at the same alpha, which needs no correction: a system that is better loses less than the
    margin, too. judgement: of the bar. comparator: None where there is no prompt to compare with; the bar alone decides
    then. margin: the loss that a cheaper system may show, as among variants of a prompt.
    Raises ContractError as `better` does, and on a negative cost.
    """
    met = judgement.outcome == "MET"
    found = TargetFound(
        met,
        judgement.outcome,
        judgement.score,
        judgement.n_used,
        judgement.n_needed,
        by="bar" if met else None,
        unit=judgement.unit,
    )
    return _told(found if comparator is None else _compared(found, comparator, alpha, margin, seed))


def _compared(found: TargetFound, comparator: Comparator, alpha: float, margin: float, seed: int) -> TargetFound:
    prompt, tuned = comparator.prompt, comparator.tuned
    binary, groups = comparator.binary, comparator.groups
    won = better(prompt, tuned, confidence=1 - 2 * alpha, binary=binary, groups=groups, seed=seed)
    is_better = won.p <= alpha
    kept = None
    if not is_better:
        tested = non_inferior(prompt, tuned, margin=margin, alpha=alpha, binary=binary, groups=groups, seed=seed)
        kept = tested.verdict == "NON_INFERIOR"
    cheaper = _cheaper(comparator)
    worth = is_better or bool(kept and cheaper)
    passed = bool(found.passed) and worth
    return replace(
        found,
        passed=passed,
        comparator=comparator.name,
        comparator_score=mean_score(prompt, comparator.groups),
        tuned_score=mean_score(tuned, comparator.groups),
        n_compared=won.n,
        gain=won.difference,
        interval=won.interval,
        p_better=won.p,
        better=is_better,
        non_inferior=kept,
        margin=margin,
        cheaper=cheaper,
        by=None if not worth else "better" if is_better else "cheaper",
    )


def _cheaper(comparator: Comparator) -> bool | None:
    if comparator.prompt_cost is None or comparator.tuned_cost is None:
        return None
    if comparator.prompt_cost < 0 or comparator.tuned_cost < 0:
        raise ContractError("a call that costs less than nothing", expected="costs of at least 0")
    return comparator.tuned_cost < comparator.prompt_cost


def _told(found: TargetFound) -> TargetFound:
    return replace(found, reason=target_reason(found))
