"""The judge in the report: its title and its figures in words."""

from __future__ import annotations

import math
from collections.abc import Mapping

from lastresort.records.decision import JudgeAgreement, JudgeCorrection, JudgeRate, JudgeView, OrderEffect
from lastresort.records.document import Statement
from lastresort.report.words.wording import count, counted, interval, listed, percent, round_percent, shortened

NAME = "the judge"
_VERDICTS = {
    "won": "won in both orders",
    "lost": "lost in both",
    "tied": "tied in both",
    "changed": "changed with order",
    "same_text": "identical to the reference, not shown",
}


def finding(judge: JudgeView) -> str:
    """One line: which model judged, and whether it was checked against people."""
    agreed = judge.agreement
    if agreed is None:
        return f"Scores come from the judge {judge.model}, not checked against people"
    cases = counted(agreed.n, "labelled case")
    chance = "" if agreed.beyond_chance else ", not shown to be more than chance"
    return f"Scores come from the judge {judge.model}, which agreed with people on {percent(agreed.share)} of {cases}{chance}"


def reasons(judge: JudgeView | None) -> list[Statement]:
    """What a reader must know about scores from a judge: which model, how far to trust it, and its biases."""
    if judge is None:
        return []
    whole = judge.as_json()

    def statement(code: str, text: str, *figures: str) -> Statement:
        return Statement(code=code, figures={name: whole[name] for name in figures}, text=text)

    scored = f"Scores come from the judge {judge.model}, {_how(judge)}; {_trust(judge.agreement)}."
    found = [statement("judge_scored", scored, "model", "asks", "criterion", "scale", "agreement")]
    if judge.correction is not None:
        found.append(statement("judge_corrected", f"{corrected(judge.correction)} {KIND}", "correction"))
    if judge.self_preference:
        itself = (
            f"Self-preference: the judge {judge.model} is the model it judges, and models favour their own answers. Its scores "
            "may be too high until another judge confirms them."
        )
        found.append(statement("judge_self_preference", itself, "model"))
    if judge.order is not None:
        found.append(statement("judge_order_bias", f"{_order_bias(judge.order)}.", "order"))
    if judge.unparsed:
        found.append(statement("judge_unreadable", _unreadable(judge), "unparsed", "asked"))
    return found


def _how(judge: JudgeView) -> str:
    if judge.asks == "grading":
        scale = "from 1 to 5" if judge.scale == "1-5" else "yes or no"
        return f'which graded every answer {scale} by the rubric "{shortened(judge.criterion or "", 80)}"'
    by = f' by "{shortened(judge.criterion, 80)}"' if judge.criterion else ""
    return f"which compared every answer with the reference in both orders{by} (1 if it wins both, 0 if it loses both, else 0.5)"


def _trust(agreed: JudgeAgreement | None) -> str:
    if agreed is None:
        return "it was not checked against people, so the verdicts rest on the judge alone"
    low, high = agreed.interval
    cases = counted(agreed.n, "labelled case")
    share = f"it agreed with people on {round_percent(agreed.share)} of {cases} ({round_percent(low)} to {round_percent(high)}"
    if agreed.kappa is None or agreed.kappa_interval is None:
        return f"{share}), which may be chance because only one verdict was given"
    low, high = agreed.kappa_interval
    weighted = "weighted kappa" if agreed.weights == "quadratic" else "kappa"
    figures = f"{share}; {weighted} {agreed.kappa:.2f}, {low:.2f} to {high:.2f})"
    return figures if agreed.beyond_chance else f"{figures}, which is not shown to be more than chance"


KIND = (
    "That holds if the labelled cases are like those of the test: inputs and answers of the same kind, from systems like those "
    "tested, and not chosen because the judge was right or wrong on them."
)


def corrected(by: JudgeCorrection) -> str:
    """What the labels say of the judge, and what that makes of the bar, in sentences."""
    cases = counted(by.n, "labelled case")
    if by.sensitivity is not None and by.specificity is not None:
        seen = f"{_of(by.sensitivity, 'accepted', 'right')}, and {_of(by.specificity, 'refused', 'wrong')}"
    elif by.off is not None and by.off_interval is not None:
        low, high = by.off_interval
        side = "above" if by.off >= 0 else "below"
        seen = f"it scored {100 * abs(by.off):.1f} points {side} people on average (between {100 * low:+.1f} and {100 * high:+.1f})"
    else:
        raise AssertionError("a correction is by rates or by differences")
    return f"Verdicts are on the score corrected by {cases}: {seen}. {_limits(by)}"


def _of(rate: JudgeRate, did: str, kind: str) -> str:
    if rate.share is None:
        return f"how many {kind} answers it would have {did} is unknown, as no labelled answer is {kind}"
    return f"it {did} {round_percent(rate.share)} of {count(rate.n)} {kind} answers ({interval(rate.interval)})"


def _limits(by: JudgeCorrection) -> str:
    """Rounded away from the bar, so that no score that reads the same falls short."""
    met = missed = None
    if by.met_above is not None:
        shown = percent(math.ceil(1000 * by.met_above) / 1000)
        met = f"a system meets the bar if it is shown to be judged above {shown}"
    if by.not_met_below is not None:
        shown = percent(math.floor(1000 * by.not_met_below) / 1000)
        missed = f"{'a system' if met is None else 'it'} misses the bar if it is shown to be judged below {shown}"
    if met is None and missed is None:
        return "With these labels no judged score shows that the bar is met or missed."
    if met is None:
        return f"With these labels no judged score shows that the bar is met; {missed}."
    if missed is None:
        return f"With these labels {met}; no judged score shows that it is missed."
    return f"With these labels {met}, and {missed}."


def _order_bias(order: OrderEffect) -> str:
    low, high = order.interval
    weak = ". Order matters more than the answers, so these scores say little" if low > 0.5 else ""
    return (
        f"The order alone changed the judge's verdict in {round_percent(order.changed)} of {counted(order.n, 'comparison')} "
        f"({round_percent(low)} to {round_percent(high)}; {order.to_first} times in favour of the first answer, "
        f"{order.to_second} of the second), and {round_percent(order.ties)} were ties{weak}"
    )


def _unreadable(judge: JudgeView) -> str:
    counts = "no" if judge.scale == "yes-no" else "ties" if judge.asks == "comparison" else "the middle grade"
    n = judge.unparsed
    count = "counts" if n == 1 else "count"
    return f"{n} of {judge.asked} verdicts could not be read after a second request and {count} as {counts}."


def rows(judge: JudgeView) -> list[tuple[str, str]]:
    """(what, figures) for the table of the judge."""
    asked = "compared with the reference, in both orders"
    if judge.asks == "grading":
        asked = "graded from 1 to 5, without a reference" if judge.scale == "1-5" else "yes or no, without a reference"
    found = [("asked", f"{count(judge.answers)} answers {asked}")]
    if judge.criterion:
        found.append(("criterion", judge.criterion))
    found.append(("agreement with people", _agreement(judge.agreement)))
    found.append(("correction", _correction(judge.correction)))
    found.append(("verdicts", _verdicts(judge.verdicts)))
    if judge.order is not None:
        found.append(("effect of order", _order(judge.order)))
    found.append(("unreadable", f"{count(judge.unparsed)} of {count(judge.asked)} verdicts"))
    if judge.self_preference:
        found.append(("self-preference", "the judge is the model it judges, and models favour their own answers"))
    return found


def _agreement(agreed: JudgeAgreement | None) -> str:
    if agreed is None:
        return "not measured: the task sets no score.judge.labelled"
    share = f"{percent(agreed.share)} of {counted(agreed.n, 'labelled case')} ({interval(agreed.interval)})"
    if agreed.kappa is None or agreed.kappa_interval is None:
        return f"{share}; kappa is undefined because only one verdict was given"
    low, high = agreed.kappa_interval
    name = "kappa, with grades weighted by distance," if agreed.weights == "quadratic" else "kappa"
    return f"{share}; {name} {agreed.kappa:.2f} ({low:.2f} to {high:.2f}; 0 is chance)"


def _correction(by: JudgeCorrection | None) -> str:
    return "none: verdicts rest on the judge alone" if by is None else corrected(by)


def _verdicts(verdicts: Mapping[str, int]) -> str:
    if "won" in verdicts:
        return (
            listed(f"{count(verdicts[kind])} {words}" for kind, words in _VERDICTS.items() if verdicts[kind]) or "none"
        )
    return listed(f"{count(number)} × {grade}" for grade, number in verdicts.items())


def _order(order: OrderEffect) -> str:
    return (
        f"in {percent(order.changed)} of {count(order.n)} comparisons ({interval(order.interval)}) the order alone "
        f"changed the verdict: {count(order.to_first)} times in favour of the first answer, {count(order.to_second)} of "
        f"the second; {percent(order.ties)} were ties"
    )
