"""What the verdicts of a run's judge add up to: the `judge` of its decision, as far as the run came."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

from lastresort.evals.evidence.bar import FALSE_NOT_MET, wilson_interval
from lastresort.evals.evidence.corrected import Correction, correction
from lastresort.evals.scorers.judge_model import SCALES, UNPARSED
from lastresort.records.decision import JudgeAgreement, JudgeCorrection, JudgeRate, JudgeView, OrderEffect
from lastresort.records.events.run import JudgeCalls, JudgeChecked, JudgeOpened
from lastresort.records.measurement import Cost
from lastresort.records.record import Record
from lastresort.records.view import Fold, noted_task

Said = Sequence[str]


def judge_view(run: Fold) -> JudgeView | None:
    """None where no judge was opened."""
    opened, checked = run.judge, run.agreement
    if opened is None:
        return None
    judged = list(run.judged.values())
    said = [item.said for item in judged]
    spent = JudgeCalls.sum_of([*judged, *([checked.spent] if checked is not None else [])])
    return JudgeView.from_fields_of(
        opened,
        answers=len(judged),
        verdicts=outcomes(said) if opened.scale is None else grades(said, SCALES[opened.scale]),
        order=order_effect(said, [item.id for item in judged]) if opened.scale is None else None,
        asked=sum(len(verdicts) for verdicts in said),
        unparsed=sum(verdicts.count(UNPARSED) for verdicts in said),
        agreement=None if checked is None else JudgeAgreement.from_fields_of(checked),
        correction=_correction(run, checked),
        cost=Cost(
            tokens_in=spent.tokens_in,
            tokens_out=spent.tokens_out,
            seconds=round(spent.seconds, 3),
            usd=spent.usd if opened.price_known else None,
        ),
    )


def correction_in(record: Record, bar: float, confidence: float) -> Correction | None:
    """How the labels of this run correct the scores of its judge; None without labels."""
    checked, opened = record.last(JudgeChecked), record.last(JudgeOpened)
    if checked is None or opened is None or not checked.people:
        return None
    return corrected_bar(checked.people, checked.judged, bar, confidence, opened.scale)


@lru_cache(maxsize=8)  # asked for at every look, and betting limits are found by halving
def corrected_bar(
    people: tuple[float, ...], judged: tuple[float, ...], bar: float, confidence: float, scale: str | None
) -> Correction:
    """The bar on the scale of a judge, at the errors of a whole climb. scale: of its grades, None where it compares."""
    alpha = round(1 - confidence, 12)
    return correction(people, judged, bar=bar, alpha=alpha, beta=FALSE_NOT_MET, binary=scale == "yes-no")


def _correction(run: Fold, checked: JudgeChecked | None) -> JudgeCorrection | None:
    if checked is None or not checked.people or run.task is None or run.judge is None:
        return None
    task = noted_task(run.task)
    by = corrected_bar(checked.people, checked.judged, task.bar, task.confidence, run.judge.scale)
    accepted = refused = None
    if by.rates is not None:
        n, (low, high) = by.rates, (by.lowest, by.highest)
        accepted = _rate(n.right_accepted, n.right, low.judged(1), high.judged(1))
        refused = _rate(n.wrong - n.wrong_accepted, n.wrong, 1 - high.judged(0), 1 - low.judged(0))
    return JudgeCorrection(
        n=by.n,
        sensitivity=accepted,
        specificity=refused,
        off=by.off,
        off_interval=by.off_limits,
        met_above=by.met_above if by.can_be_met else None,
        not_met_below=by.not_met_below if by.can_be_missed else None,
        error=by.alpha,
    )


def _rate(right: int, n: int, low: float, high: float) -> JudgeRate:
    return JudgeRate(n=n, share=right / n if n else None, interval=(max(0.0, low), min(1.0, high)))


def outcomes(said: Sequence[Said]) -> dict[str, int]:
    """How comparisons ended, of the verdicts in both orders. changed: the order alone changed the verdict. same_text: the
    answer was the reference, and was not shown."""
    kinds = Counter(_outcome(verdicts) for verdicts in said)
    return {kind: kinds[kind] for kind in ("won", "lost", "tied", "changed", "same_text")}


def order_effect(said: Sequence[Said], items: Sequence[str] | None = None) -> OrderEffect | None:
    """How often the order alone changed the verdict, as a share of n comparisons with its 95% interval, and how often that
    was for the answer shown first, and second. ties: the share of ties in both orders. None where nothing was compared.

    items: of each comparison the item that was answered. Answers to one item are alike and so are the verdicts on them: the
    interval counts an item once, however many answers to it were compared.

    Source: Zheng et al. 2023 (consistency and bias of a judge under swapped positions).
    """
    compared = [verdicts for verdicts in said if verdicts]
    if not compared:
        return None
    known = range(len(said)) if items is None else items
    units = len({item for item, verdicts in zip(known, said, strict=True) if verdicts})
    n, kinds = len(compared), Counter(_outcome(verdicts) for verdicts in compared)
    first, second = (sum(tuple(verdicts) == (place, place) for verdicts in compared) for place in ("A", "B"))
    return OrderEffect(
        n=n,
        changed=kinds["changed"] / n,
        interval=wilson_interval(units * kinds["changed"] / n, units),
        to_first=first,
        to_second=second,
        ties=kinds["tied"] / n,
    )


def grades(said: Sequence[Said], choices: Sequence[str]) -> dict[str, int]:
    """How often each grade was given."""
    kinds = Counter(verdict for verdicts in said for verdict in verdicts)
    return {choice: kinds[choice] for choice in choices}


def _outcome(verdicts: Said) -> str:
    if not verdicts:
        return "same_text"
    first, second = ("tie" if verdict == UNPARSED else verdict for verdict in verdicts)
    return {("A", "B"): "won", ("B", "A"): "lost", ("tie", "tie"): "tied"}.get((first, second), "changed")
