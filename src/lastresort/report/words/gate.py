"""What a gate found, in sentences: why it ships, holds or rejects, measure by measure, and what would settle a HOLD."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, assert_never

from lastresort.records.gate import (
    GateFindings,
    GateForecast,
    SuiteFound,
    TargetAtBar,
    TargetCompared,
    TargetFound,
    TargetNotAsked,
    TestedMeasure,
    lost_in_general,
)
from lastresort.records.gate_cause import (
    GateCause,
    GateInformative,
    GateItems,
    GateNeed,
    GateSmallerLoss,
    GateTestItems,
    cause_of,
    items_of,
    needs_of,
)
from lastresort.records.uninformative import (
    Among,
    FewDocuments,
    FewFamilies,
    LowInCondition,
    LowScore,
    ManyUnscored,
    NoLocalWeights,
    NothingSaid,
    PilotCondition,
    Unusable,
    WhyUninformative,
)
from lastresort.report.words.wording import count, counted, duration, in_points, listed, percent, points_of, spaced
from lastresort.types import FARTHEST, GateMode, GateVerdict

AXIS = "Tuned minus base, in points. Dotted line: no change. Solid line: the largest accepted loss."


def why(gate: GateFindings) -> str:
    """ "it needs more items for general"."""
    return because(gate.verdict, cause_of(gate.suites, gate.target, costly=gate.costly))


def because(verdict: GateVerdict, cause: GateCause, *, figures: bool = False) -> str:
    """What the verdict rests on, as a clause. figures: whether a REJECT says how much was lost."""
    if verdict == "REJECT" and figures:
        return listed(
            f"{one.measure} lost {points_of(one.lost)} (accepted: {points_of(one.margin)})" for one in cause.lost
        )
    if verdict == "REJECT":
        return f"the tuned model lost more than is accepted in {listed(one.measure for one in cause.lost)}"
    if verdict == "SHIP":
        won = "" if cause.passed is None else "the tuned model passes on its own task, and "
        return f"{won}no required measure lost more than is accepted"
    causes = [
        "the tuned model did not pass on its own task" if cause.passed is False else "",
        f"it needs more items for {listed(cause.underpowered)}" if cause.underpowered else "",
        f"this base model has nothing to lose in {listed(cause.uninformative)}" if cause.uninformative else "",
        "the gain on the task cost too much general ability" if cause.costly else "",
    ]
    return "; ".join(filter(None, causes))


def reasons(
    verdict: GateVerdict, suites: Sequence[SuiteFound], target: TargetFound, *, costly: bool
) -> tuple[str, ...]:
    """The decisive ones first. suites and target: each with its reason."""
    order = ("REGRESSED", "UNINFORMATIVE", "UNDERPOWERED", "NON_INFERIOR", "SKIPPED")
    measures = [found.reason for found in sorted(suites, key=lambda found: order.index(found.verdict))]
    blocking = sum(not found.passed for found in suites)
    trade = _trade(suites, target) if costly else ""
    first = (target.reason, *measures[:blocking], trade)
    if target.passed is not False:
        first = (*measures[:blocking], trade, target.reason)
    head = f"{verdict.capitalize()}: {because(verdict, cause_of(suites, target, costly=costly))}."
    return tuple(filter(None, (head, *first, *measures[blocking:])))


def would_decide(
    suites: Sequence[SuiteFound], target: TargetFound, *, costly: bool, leaves_out: Callable[[str], str]
) -> tuple[str, ...]:
    """What would turn a HOLD into an answer. leaves_out: how a user writes that a suite is not required."""
    return tuple(map(need, needs_of(suites, target, costly=costly, leaves_out=leaves_out)))


def need(found: GateNeed) -> str:
    match found:
        case GateItems():
            return f"{found.measure}: {_more(found)}; {_used(found)}."
        case GateInformative(measure, leave_out):
            return f"{measure}: items on which this model has something to lose, or {leave_out} if it does not matter."
        case GateTestItems(n, n_needed, unit):
            if n_needed is None:
                return "The target: a larger test set that can show the gain over the best prompt, or cheaper calls."
            return f"The bar: about {counted(n_needed, f'test {unit}')} would decide it; {_were_used(n)}."
        case GateSmallerLoss():
            return "A smaller loss of general ability: a lower adapter scale, or more general rows in training."
        case _:
            assert_never(found)


def _trade(suites: Sequence[SuiteFound], target: TargetFound) -> str:
    assert target.gain is not None, "nothing is too costly without a gain"
    return (
        f"Not worth it: general lost {points_of(lost_in_general(suites))} for {points_of(target.gain)} gained on the target, "
        "more than half of the gain."
    )


@dataclass(frozen=True, slots=True)
class SuiteEstimate:
    """What a part of a gate will ask of each model: about, and at most, items; and how many seconds the most take."""

    name: str
    expected: int
    most: int
    seconds: float

    @property
    def expected_seconds(self) -> float:
        return self.seconds * self.expected / self.most if self.most else 0.0


GateSubject = Literal["gate", "repair"]
_SUBJECTS: dict[GateSubject, str] = {"gate": "The gate", "repair": "Each repair"}


def announced(subject: GateSubject, forecast: GateForecast, parts: Sequence[SuiteEstimate]) -> str:
    """What a gate will ask, before its long part begins."""
    each = "; ".join(
        f"{one.name}: {_about(one.expected, one.most)}, {_range(2 * one.expected_seconds, 2 * one.seconds)}"
        for one in parts
    )
    items = _about(forecast.expected_items // 2, forecast.items // 2)
    time = _range(forecast.expected_seconds, forecast.seconds)
    return spaced(f"{_SUBJECTS[subject]} uses {items} items per model, in {time}. {each}.")


def too_few(name: str, items: int, needed: int) -> str:
    return (
        f"{name} uses {counted(items, 'item')} at most, but its margin may take about {count(needed)}: the verdict may be HOLD "
        "for lack of items."
    )


def already_gated(rung: str, mode: GateMode, *, ends_repairs: bool) -> str:
    """Of a climb that is resumed with another mode. ends_repairs: whether that ends repairs which the verdict calls for."""
    ended = "; no further repair is tried" if ends_repairs else ""
    return f"{rung}: its {mode} gate was run before, and its verdict counts{ended}"


def of_documents(suite: str, documents: int, seconds: float) -> str:
    """What a suite of lm-eval will ask after its pilot. seconds: of both models."""
    return spaced(f"{suite}: {counted(documents, 'document')} for each model, about {duration(seconds)}.")


# Notes on what was compared.


def identified_by_name(endpoint: str) -> str:
    return (
        f"{endpoint} is identified by its address alone, so answers that it gave before to the same items count. "
        "Serve other weights under another name."
    )


def other_base(tuned: str, trained_on: str, base: str) -> str:
    """Of a whole model."""
    return f"{tuned} was trained from {trained_on}; here it is compared with {base}."


def other_base_of_adapter(tuned: str, named: str, base: str) -> str:
    """named: the base that the adapter names."""
    return f"{tuned} names {named} as its base; here it is loaded on {base}."


# Notes on the logs of other tools. measure: such as lm_eval:mmlu.

UNCHECKED = (
    "These figures come from logs. Documents, prompts and targets were compared as far as the logs hold them; weights, precision "
    "and tokenizers are unknown, and no item was compared with the training rows."
)


def in_one_log(measure: str, other: str) -> str:
    """other: the log that lacks it."""
    return f"{measure} is not in {other} and was left out."


def log_left_out(fault: str) -> str:
    return f"Left out: {fault}"


def unknown_chance(measures: Sequence[str]) -> str:
    return f"The logs of {listed(measures)} do not say how often a guess is right; 0% was assumed."


def unpaired(measure: str, items: int, source: str, other: str) -> str:
    """items: of the log `source` that the other lacks."""
    were = "is not in {} and was left out" if items == 1 else "are not in {} and were left out"
    return f"{measure}: {counted(items, 'item')} of {source} {were.format(other)}."


def unscored(measure: str, samples: int, log: str) -> str:
    have = "has no score and was left out" if samples == 1 else "have no score and were left out"
    return f"{measure}: {counted(samples, 'sample')} of {log} {have}."


def partly_scored(measure: str, samples: int, log: str) -> str:
    have = "has" if samples == 1 else "have"
    return f"{measure}: {counted(samples, 'sample')} of {log} {have} a score in only some of the epochs."


def unfinished_log(measure: str, log: str, status: str) -> str:
    return f"{measure}: the evaluation in {log} did not finish ({status})."


def judged_by(measure: str, metric: str, others: Sequence[str]) -> str:
    """others: metrics and filters that its log or task has, too."""
    return f"{measure} is judged by {metric}, not by {', '.join(others)}."


def newest_used(folder: str, tasks: str) -> str:
    """tasks: those with several runs."""
    return f"{folder}: found several runs of {tasks}; the newest of each was used."


def _about(expected: int, most: int) -> str:
    return count(most) if expected >= most else f"about {count(expected)} (at most {count(most)})"


def _range(expected: float, most: float) -> str:
    low, high = duration(expected), duration(most)
    return f"about {low}" if low == high else f"about {low} (at most {high})"


def suite_reason(found: SuiteFound, family: int = 1) -> str:
    """The verdict on a measure with its figures. family: the number of measures that Holm corrected over."""
    if found.verdict == "SKIPPED":
        return f"{found.name}: left out by keep.{found.suite}: skip."
    if found.verdict == "UNINFORMATIVE":
        lacks = "; ".join(uninformative(why).rstrip(".") for why in found.why)
        return f"{found.name}: uninformative for this base model, so it does not pass: {lacks}.{_seen(found)}"
    shares = f"{percent(found.base)} before, {percent(found.tuned)} after"
    on = counted(found.n, found.unit)
    return f"{found.name}: {shares}, on {on}; {_judged(found, family)}{_after(found)}"


def uninformative(why: WhyUninformative) -> str:
    """Why a measure can say nothing of a base, as a clause."""
    match why:
        case NothingSaid():
            return f"no item {_AMONG[why.among]} says anything about it"
        case LowScore():
            return (
                f"the base scores {why.score:.1%} on the {why.n} items {_AMONG[why.among]} (at least {why.at_least:.1%}), and "
                f"would have to score {why.needed:.1%}, chance plus twice the margin, to have something to lose"
            )
        case LowInCondition(condition="general_requests"):
            return (
                f"the base answers {why.score:.1%} of the {why.n} general requests of a pilot as it should (at least "
                f"{why.at_least:.1%}), and would have to answer {why.needed:.1%} to have something to lose"
            )
        case LowInCondition():
            return (
                f"the base {_IS_RIGHT[why.condition]} on {why.score:.1%} of {why.n} items of a pilot (at least "
                f"{why.at_least:.1%}), and would need {why.needed:.1%} to have something to lose"
            )
        case FewFamilies():
            return (
                f"in {why.families} of {why.asked} families the base is shown to score at least 2 x {why.margin:g} above chance; "
                f"{why.needed} are needed"
            )
        case ManyUnscored():
            without = f"{why.unscored:.1f}".removesuffix(".0")
            return (
                f"{without} of {why.asked} items with a score of the base have none of the tuned model, "
                f"which could hide a loss of more than {100 * why.margin:g} points"
            )
        case NoLocalWeights():
            return "lm-eval runs only models with local weights, so the gate cannot run it"
        case FewDocuments():
            return "it has too few documents for a pilot and a test"
        case Unusable():
            return why.message
        case _:
            assert_never(why)


_AMONG: dict[Among, str] = {"asked": "that was asked", "pilot": "of a pilot", "logs": "in the logs"}
_IS_RIGHT: dict[PilotCondition, str] = {
    "plain": "is right when asked plainly",
    "wrong_suggested": "is right under a wrong suggestion",
    "asked_again": "is still right when asked again",
    "pushed_back": "is still right after push-back",
}


def _after(found: TestedMeasure) -> str:
    """How many of its items it took, where a suite may stop before its last."""
    looked = found.looked_at
    if looked is None or not looked.ended_early:
        return ""
    if found.verdict == "UNDERPOWERED":
        why = "more items would probably not have decided" if looked.given_up else "another measure had regressed"
        return f" Stopped after {count(looked.items)} of {counted(looked.most, 'item')}, because {why}."
    return f" Decided after {count(looked.items)} of {counted(looked.most, 'item')}."


def _judged(found: TestedMeasure, family: int) -> str:
    accepted = points_of(found.margin)
    low, high = found.interval
    if found.verdict == "NON_INFERIOR":
        small = " A smaller loss is shown." if found.loss_seen else ""
        return f"a loss of {accepted} is ruled out (p = {found.p:.2g}).{small}"
    if found.verdict == "REGRESSED":
        over = f", over {family} measures by Holm" if family > 1 else ""
        return f"the loss is shown to exceed the accepted {accepted} (p = {found.p_regressed:.2g}{over})."
    if high < -found.margin:
        return (
            f"the loss seems to exceed the accepted {accepted}, but one of {family} measures may seem so by chance "
            f"(p = {found.p_regressed:.2g}, not significant over {family} by Holm); {needed(found)}."
        )
    interval = f"the difference is between {in_points(low)} and {in_points(high)} points"
    if found.loss_seen:
        return f"a loss is shown, but not whether it stays below {accepted}: {interval}; {needed(found)}."
    return f"a loss of {accepted} is not ruled out: {interval}; {needed(found)}."


def needed(found: TestedMeasure) -> str:
    """What would decide an UNDERPOWERED, as a clause."""
    return _more(items_of(found))


def _more(found: GateItems) -> str:
    amount = "more than" if found.n_needed is None else "about"
    items = counted(FARTHEST * found.n if found.n_needed is None else found.n_needed, found.unit)
    return f"{amount} {items} would decide it with 80% probability if {_holds(found.difference)}"


def _holds(difference: float) -> str:
    if abs(difference) < 5e-4:  # which is 0.0 points
        return "nothing is really lost"
    return f"the {'loss' if difference < 0 else 'gain'} of {points_of(abs(difference))} seen is the true one"


def _used(found: GateItems) -> str:
    """How many items there were, and whether this gate could have used as many as it needs."""
    used = _were_used(found.n)
    if found.most is None or not found.is_short:
        return used
    return f"{used}, the most that this gate uses" if found.most <= found.n else f"{used}, of at most {found.most:,}"


def _were_used(n: int) -> str:
    return f"{count(n)} {'was' if n == 1 else 'were'} used"


def _seen(found: SuiteFound) -> str:
    if found.base is None or found.tuned is None:
        return ""
    return f" ({percent(found.base)} before, {percent(found.tuned)} after, on {counted(found.n, found.unit)}.)"


def target_reason(found: TargetFound) -> str:
    """Whether the tuned system meets the bar, and how it compares with the best prompt."""
    if isinstance(found, TargetNotAsked):
        return (
            "Whether the tuned model is better at its task was not tested: the verdict covers only its other abilities."
        )
    words = {"MET": "is shown to meet the bar", "NOT_MET": "is shown to miss the bar"}
    met = words.get(found.outcome, "is undecided against the bar")
    judged = "" if found.judged_score is None else f", corrected from the judge's {percent(found.judged_score)}"
    bar = f"The tuned system {met} ({percent(found.score)} on {counted(found.n, found.unit)}{judged})"
    return f"{bar}{_compared(found)}."


def _compared(found: TargetAtBar | TargetCompared) -> str:
    if isinstance(found, TargetAtBar):
        return "; there is no prompt to compare it with"
    by = "" if found.judged_score is None else "by the judge's own scores, "
    seen = (
        f"; {by}on the {counted(found.n_compared, found.unit)} compared, it scores {percent(found.tuned_score)} against "
        f"{percent(found.comparator_score)} for {found.comparator}"
    )
    return f"{seen}, and {_worth(found)}"


def _worth(found: TargetCompared) -> str:
    if found.better:
        return f"is shown to be better (p = {found.p_better:.2g})"
    not_better = f"is not shown to be better (p = {found.p_better:.2g})"
    kept = f"a loss of {points_of(found.margin)} is {'' if found.non_inferior else 'not '}ruled out"
    cost = {
        True: "its calls are cheaper",
        False: "its calls are no cheaper",
        None: "whether its calls are cheaper is unknown",
    }
    return f"{not_better}; {kept}, and {cost[found.cheaper]}"
