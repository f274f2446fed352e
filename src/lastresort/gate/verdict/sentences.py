"""What a gate found, as sentences."""

from __future__ import annotations

from collections.abc import Iterable

from lastresort.records.gate import SuiteFound, TargetAtBar, TargetCompared, TargetFound, TargetNotAsked, TestedMeasure


def percent(share: float) -> str:
    """0.8125 -> "81.3%"."""
    return f"{100 * share:.1f}%"


def points(difference: float) -> str:
    """0.03 -> "3 points", 0.0125 -> "1.3 points", 0.001 -> "0.1 points"."""
    text = f"{100 * difference:.1f}".removesuffix(".0")
    return f"{text} point{'' if text in ('1', '-1') else 's'}"


def counted(number: int, unit: str) -> str:
    return f"{number:,} {unit}{'' if number == 1 else 's'}"


def listed(names: Iterable[str]) -> str:
    """`a, b and c`."""
    words = list(names)
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}" if words else "nothing"


def suite_reason(found: SuiteFound, family: int = 1) -> str:
    """The verdict on a measure with its figures. family: the number of measures that Holm corrected over."""
    if found.verdict == "SKIPPED":
        return f"{found.name}: left out, as keep.{found.suite}: skip says."
    if found.verdict == "UNINFORMATIVE":
        return (
            f"{found.name}: says nothing about this model, and so does not pass: {found.why.rstrip('.')}.{_seen(found)}"
        )
    return f"{_figures(found)}; {_judged(found, family)}"


def _judged(found: TestedMeasure, family: int) -> str:
    accepted = points(found.margin)
    low, high = found.interval
    if found.verdict == "NON_INFERIOR":
        small = " A smaller loss is shown." if found.loss_seen else ""
        return f"a loss of {accepted} is excluded (p = {found.p:.2g}).{small}"
    if found.verdict == "REGRESSED":
        over = f", over {family} measures by Holm" if family > 1 else ""
        return (
            f"the loss is shown to be larger than the {accepted} that are accepted (p = {found.p_regressed:.2g}{over})."
        )
    if high < -found.margin:
        return (
            f"the loss seems larger than the {accepted} that are accepted, but of {family} measures one may seem so by chance "
            f"(p = {found.p_regressed:.2g}, too large over {family} by Holm); {needed(found)}."
        )
    seen = "a loss is shown, but not" if found.loss_seen else "it cannot be told"
    return (
        f"{seen} whether it stays below {accepted}: the difference lies between {100 * low:+.1f} and {100 * high:+.1f} points; "
        f"{needed(found)}."
    )


def needed(found: TestedMeasure) -> str:
    """What would decide an UNDERPOWERED, as a clause."""
    if found.n_needed is None:
        return f"how many {found.unit}s would decide cannot be told, so close does the loss lie to the margin"
    return f"about {counted(found.n_needed, found.unit)} would decide"


def _figures(found: TestedMeasure) -> str:
    return (
        f"{found.name}: {percent(found.base)} before, {percent(found.tuned)} after, on {counted(found.n, found.unit)}"
    )


def _seen(found: SuiteFound) -> str:
    if found.base is None or found.tuned is None:
        return ""
    return f" ({percent(found.base)} before, {percent(found.tuned)} after, on {counted(found.n, found.unit)}.)"


def target_reason(found: TargetFound) -> str:
    """Whether the tuned system met the bar, and what it is worth beside the best prompt."""
    if isinstance(found, TargetNotAsked):
        return "Whether the tuned model is better at its task was not asked: the verdict speaks only of what else it can do."
    told = {"MET": "is shown to meet the bar", "NOT_MET": "is shown to stay below the bar"}
    met = told.get(found.outcome, "is undecided against the bar")
    bar = f"The tuned system {met} ({percent(found.score)} on {counted(found.n, found.unit)})"
    return f"{bar}{_beside(found)}."


def _beside(found: TargetAtBar | TargetCompared) -> str:
    if isinstance(found, TargetAtBar):
        return "; no prompt was there to compare it with"
    seen = (
        f"; compared on {counted(found.n_compared, found.unit)}, it scores {percent(found.tuned_score)} against "
        f"{percent(found.comparator_score)} of {found.comparator}"
    )
    return f"{seen}, and {_worth(found)}"


def _worth(found: TargetCompared) -> str:
    if found.better:
        return f"is shown to be better (p = {found.p_better:.2g})"
    not_better = f"is not shown to be better (p = {found.p_better:.2g})"
    kept = f"a loss of {points(found.margin)} is {'' if found.non_inferior else 'not '}excluded"
    cost = {
        True: "its calls are cheaper",
        False: "its calls are no cheaper",
        None: "whether its calls are cheaper is not known",
    }
    return f"{not_better}; {kept}, and {cost[found.cheaper]}"
