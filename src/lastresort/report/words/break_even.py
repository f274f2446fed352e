"""What calls cost and when training is paid back, in words: for reasons, the terminal, Markdown and the page."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations
from typing import TypeGuard, assert_never

from pydantic import JsonValue

from lastresort.ladder import COST_RUNG
from lastresort.records.decision_parts import BreakEven, CostPair, Currency, PricedSystem
from lastresort.records.document import Statement
from lastresort.records.reasons import BeyondUntil, CostSaving, DoesNotApply, NotOnLadder
from lastresort.report.words.rungs import clause
from lastresort.report.words.verdicts import short_of_the_bar
from lastresort.report.words.wording import (
    capital,
    count,
    counted,
    duration,
    interval,
    listed,
    percent,
    points,
    price,
    round_percent,
    rung_in_prose,
    short_duration,
    spaced,
    verdict,
)

UNKNOWN = "unknown"


def cost(value: float, currency: Currency) -> str:
    """ "$0.0041", or "3.2 s of this machine"."""
    return price(value) if currency == "usd" else f"{duration(value)} of this machine"


def thousand_calls(system: PricedSystem, entry: BreakEven) -> str:
    """What a thousand calls of this system cost, in money where known; the cost of one is too small to read."""
    if system.per_call_usd is not None and entry.currency != "machine_seconds":
        return price(1000 * system.per_call_usd)
    if system.per_call_machine_s:
        return cost(1000 * system.per_call_machine_s, "machine_seconds")
    return UNKNOWN


def once(system: PricedSystem, entry: BreakEven) -> str:
    """What training this system cost; a dash for one that was not trained."""
    if not system.tuned:
        return "–"
    if system.one_off_usd is not None and entry.currency != "machine_seconds":
        return price(system.one_off_usd)
    return cost(system.one_off_machine_s, "machine_seconds")


def finding(entry: BreakEven) -> str:
    """One line: when the tuned system becomes cheaper, or what calls cost."""
    pairs = _tuned_pairs(entry)
    if pairs:
        return _crossing(pairs[0], entry) + _slower_with_fewer_tokens(entry)
    costs = {system.rung: thousand_calls(system, entry) for system in entry.systems}
    known = [f"{cost} with {rung_in_prose(rung)}" for rung, cost in costs.items() if cost != UNKNOWN]
    if not known:
        return f"The cost per call is unknown: {_gives_no(entry.missing)}"
    return f"1,000 calls cost {listed(known)}{_slower_with_fewer_tokens(entry)}"


def _slower_with_fewer_tokens(entry: BreakEven) -> str:
    """A clause where the seconds of two systems contradict their tokens: another load of the machine is as good a reason as any."""
    here = [system for system in entry.systems if system.per_call_machine_s]
    for slow, fast in permutations(here, 2):
        fewer = slow.prompt_tokens < fast.prompt_tokens and slow.completion_tokens <= fast.completion_tokens
        if fewer and slow.model == fast.model and slow.per_call_machine_s > fast.per_call_machine_s:
            rung = rung_in_prose(slow.rung)
            return f"; calls with {rung} took longer for fewer tokens, so the load of the machine may have differed"
    return ""


def crossings(entry: BreakEven) -> list[str]:
    """A sentence for every tuned system that meets the bar, against every untuned one."""
    return [f"{_crossing(pair, entry)}." for pair in _tuned_pairs(entry)]


def is_worth_a_line(entry: BreakEven | None, goal: str) -> TypeGuard[BreakEven]:
    """Whether to show cost with the answer: it is the goal, or several systems were measured."""
    return entry is not None and (goal == "cost" or len(entry.systems) > 1)


def reasons(entry: BreakEven | None, goal: str) -> list[Statement]:
    """What a decision says about cost; nothing if a single system was measured and cost is not the goal."""
    if entry is None or not is_worth_a_line(entry, goal):
        return []
    whole, measured = entry.as_json(), [_measured(system, entry) for system in entry.systems]
    calls = f"Cost of 1,000 calls: {'; '.join(measured)}{_slower_with_fewer_tokens(entry)}."
    found = [] if entry.saving is None else [_statement("saving_weighed", entry.saving.because, whole["saving"])]
    found.append(_statement("cost_of_calls", calls, {"currency": entry.currency, "systems": whole["systems"]}))
    found += [_statement("two_models", text, pair.as_json()) for pair, text in _two_models(entry)]
    pairs = _tuned_pairs(entry)
    found += [_statement("break_even", f"Break-even: {_crossing(pair, entry)}.", pair.as_json()) for pair in pairs]
    if entry.missing:
        found.append(_statement("unknown_prices", f"{_unknown_money(entry)}.", {"missing": list(entry.missing)}))
    return found


def _statement(code: str, text: str, figures: dict[str, JsonValue]) -> Statement:
    return Statement(code=code, figures=figures, text=spaced(text))


def paired(entry: BreakEven) -> list[str]:
    """How tuned and untuned systems did on the same items, and the crossings that `finding` leaves out."""
    return [*crossings(entry)[1:], *(line for pair in entry.pairs for line in _on_shared_items(pair))]


def _on_shared_items(pair: CostPair) -> list[str]:
    """Empty where they share none."""
    n, tuned, untuned = pair.both.n, pair.both.tuned, pair.both.untuned
    if tuned is None or untuned is None:
        return []
    return [
        f"On the {counted(n, 'test item')} that both answered, {rung_in_prose(pair.tuned)} scored {percent(tuned)} and "
        f"{rung_in_prose(pair.untuned)} {percent(untuned)}: {points(tuned - untuned)}. This is descriptive only: each test stopped "
        "on its own evidence."
    ]


def basis(entry: BreakEven) -> str:
    """How the figures were computed, so that a reader can reproduce them."""
    items = sorted({system.items for system in entry.systems})
    told = [f"Means over {listed((count(number) for number in items), 'or')} test items."]
    here = [system for system in entry.systems if system.per_call_machine_s]
    if len(here) < len(entry.systems):
        told.append(
            "Endpoint calls: every token at full price, no discount for cached prompts; time is wall-clock time."
        )
    if here:
        hour = "" if entry.hourly_price is None else f" at {price(entry.hourly_price)} an hour"
        told.append(
            f"Local calls: their share of this machine{hour}, measured in batches that compute a shared prompt prefix once. "
            "Retrieval and idle hours are not included."
        )
    if entry.missing:
        told.append(f"{_unknown_money(entry)}.")
    return " ".join(told)


def why_gone_on(saving: CostSaving) -> str:
    """Why a climb with `goal: cost` goes on to training after a rung met the bar, or not."""
    head, went = (
        f"goal: cost: {saving.rung} meets the bar, and the climb",
        "went on" if saving.goes_on else "did not go on",
    )
    if saving.currency is None or saving.now is None or saving.then is None or saving.one_off is None:
        return f"{head} {went} to {rung_in_prose(COST_RUNG)}: {_not_compared(saving)}."
    currency, calls = saving.currency, saving.calls
    plan = (
        f"{head} {went} to {rung_in_prose(COST_RUNG)}. The plan puts 1,000 calls of the tuned model at "
        f"{cost(1000 * saving.then, currency)}, against {cost(1000 * saving.now, currency)} measured with {saving.rung}. Training "
        f"and testing it would cost {cost(saving.one_off, currency)}"
    )
    if calls is None or not saving.calls_per_month:
        return spaced(f"{plan} and never pay off.")
    limit, per_month = saving.limit_months, saving.calls_per_month
    return spaced(
        f"{plan} and pay off after {counted(calls, 'call')}: {_months(calls / per_month)} at {count(per_month)} calls a month, "
        f"{'within' if saving.goes_on else 'beyond'} the limit of {limit} months"
        f"{'' if saving.goes_on else f'. It takes more than {count(calls // limit)} calls a month'}."
    )


def _not_compared(saving: CostSaving) -> str:
    match saving.obstacle:
        case NotOnLadder(rung):
            return f"the task leaves {rung} out of `ladder`"
        case BeyondUntil(until):
            return f"the climb is limited to {until}"
        case DoesNotApply(rung, why):
            return f"{rung} does not apply, since {clause(why)}"
        case None if saving.missing:
            return f"the task does not set {' and '.join(f'`{key}`' for key in saving.missing)}"
        case None:
            return "how long a call of the tuned model would take cannot be predicted"
        case _:
            assert_never(saving.obstacle)


def _tuned_pairs(entry: BreakEven) -> list[CostPair]:
    """Pairs whose tuned system meets the bar; those against a system that meets it too come first."""
    met = {system.rung for system in entry.systems if system.verdict == "MET"}
    found = [pair for pair in entry.pairs if pair.tuned in met]
    return sorted(found, key=lambda pair: pair.untuned not in met)


def _crossing(pair: CostPair, entry: BreakEven) -> str:
    tuned, untuned = rung_in_prose(pair.tuned), rung_in_prose(pair.untuned)
    untuned_verdict = next(system for system in entry.systems if system.rung == pair.untuned).verdict
    apart = "" if untuned_verdict == "MET" else f", {short_of_the_bar(untuned_verdict)}"
    than = f"{untuned}{apart}{',' if apart else ''}"
    if pair.crossing == "unknown":
        return f"Whether {tuned} is cheaper than {untuned} is unknown: {_gives_no(entry.missing)}"
    if pair.calls is None:
        return f"{capital(tuned)} never becomes cheaper than {than} because its calls cost no less"
    if pair.crossing == "at_once":
        return f"{capital(tuned)} is cheaper than {than} from the first call"
    months = "" if pair.months is None else f" ({_months(pair.months)} of use)"
    return f"{capital(tuned)} becomes cheaper than {than} after {counted(pair.calls, 'call')}{months}"


def _measured(system: PricedSystem, entry: BreakEven) -> str:
    return (
        f"{system.rung} ({system.name}) {thousand_calls(system, entry)}, with {system.prompt_tokens:.0f} prompt and "
        f"{system.completion_tokens:.0f} answer tokens in {short_duration(system.seconds)} per call"
    )


def _two_models(entry: BreakEven) -> list[tuple[CostPair, str]]:
    """Pairs with the score of a tuned model and of the other model that was prompted."""
    by_rung = {system.rung: system for system in entry.systems}
    told = []
    for pair in entry.pairs:
        tuned, untuned = by_rung[pair.tuned], by_rung[pair.untuned]
        if tuned.model == untuned.model:
            continue
        both, paired = pair.both, ""
        if both.tuned is not None and both.untuned is not None:
            paired = (
                f"; on the {counted(both.n, 'test item')} that both answered {round_percent(both.tuned)} against "
                f"{round_percent(both.untuned)} (descriptive only)"
            )
        text = (
            f"Two models: {tuned.model}, tuned by {rung_in_prose(tuned.rung)}, scored {_scored(tuned)}, and {untuned.model} with "
            f"{rung_in_prose(untuned.rung)} {_scored(untuned)}{paired}."
        )
        told.append((pair, text))
    return told


def _scored(system: PricedSystem) -> str:
    return f"{round_percent(system.score)} ({interval(system.interval)}, {verdict(system.verdict)})"


def _unknown_money(entry: BreakEven) -> str:
    rest = "; systems on this machine are compared by its time" if entry.currency == "machine_seconds" else ""
    return f"Some costs are unknown in money: {_gives_no(entry.missing)}{rest}"


def _gives_no(keys: Sequence[str]) -> str:
    return f"the task does not set {listed((f'`{key}`' for key in keys), 'or')}"


def _months(months: float) -> str:
    return "less than 0.1 months" if months < 0.1 else f"{months:,.1f} months"
