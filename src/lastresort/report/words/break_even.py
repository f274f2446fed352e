"""What calls cost and when training is paid back, in words: for reasons, the terminal, Markdown and the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from lastresort.report.words.wording import (
    count,
    counted,
    duration,
    interval,
    listed,
    percent,
    percent_in_text,
    points,
    price,
    short_duration,
    short_of_the_bar,
    spaced,
    verdict,
)

Currency = Literal["usd", "machine_seconds"]
Entry = Mapping[str, Any]
Measured = Mapping[str, Any]

UNKNOWN = "not known"


def cost(value: float, currency: Currency) -> str:
    """ "$0.0041", or "3.2 s of this machine"."""
    return price(value) if currency == "usd" else f"{duration(value)} of this machine"


def thousand_calls(system: Measured, entry: Entry) -> str:
    """What a thousand calls of this system cost, in the best that is known; of one the figure is too small to read."""
    if system["per_call_usd"] is not None and entry["currency"] != "machine_seconds":
        return price(1000 * system["per_call_usd"])
    if system["per_call_machine_s"]:
        return cost(1000 * system["per_call_machine_s"], "machine_seconds")
    return UNKNOWN


def once(system: Measured, entry: Entry) -> str:
    """What training this system took; nothing for one that was not trained."""
    if not system["tuned"]:
        return "–"
    if system["one_off_usd"] is not None and entry["currency"] != "machine_seconds":
        return price(system["one_off_usd"])
    return cost(system["one_off_machine_s"], "machine_seconds")


def finding(entry: Entry) -> str:
    """One line: from when on the tuned system is the cheaper, or what calls cost."""
    told = _told_pairs(entry)
    if told:
        return _crossing(told[0], entry)
    costs = {system["rung"]: thousand_calls(system, entry) for system in entry["systems"]}
    known = [f"{cost} with {rung}" for rung, cost in costs.items() if cost != UNKNOWN]
    if not known:
        return f"What a call costs is not known: {_gives_no(entry['missing'])}"
    return f"1,000 calls cost {listed(known)}"


def crossings(entry: Entry) -> list[str]:
    """A sentence for every tuned system that meets the bar, against every untuned one."""
    return [f"{_crossing(pair, entry)}." for pair in _told_pairs(entry)]


def is_worth_a_line(entry: Entry | None, goal: str) -> bool:
    """Whether cost belongs beside the answer: it is the goal, or several systems were measured."""
    return entry is not None and (goal == "cost" or len(entry["systems"]) > 1)


def reasons(entry: Entry | None, goal: str) -> list[str]:
    """What a decision says of cost: nothing where a single system was measured and cost is not the goal."""
    if entry is None or not is_worth_a_line(entry, goal):
        return []
    told = [] if entry["saving"] is None else [entry["saving"]["because"]]
    told += [f"Cost of 1,000 calls: {'; '.join(_measured(system, entry) for system in entry['systems'])}."]
    told += _two_models(entry)
    told += [f"Break-even: {sentence}" for sentence in crossings(entry)]
    if entry["missing"]:
        told.append(f"{_unknown_money(entry)}.")
    return [spaced(sentence) for sentence in told]


def paired(entry: Entry) -> list[str]:
    """How tuned and untuned systems did on the same items, and the crossings that `finding` does not say."""
    told = [
        f"On the {counted(pair['both']['n'], 'test item')} that both answered, {pair['tuned']} scored "
        f"{percent(pair['both']['tuned'])} and {pair['untuned']} {percent(pair['both']['untuned'])}: "
        f"{points(pair['both']['tuned'] - pair['both']['untuned'])} (a description, not a test: each stopped when its own evidence "
        "sufficed)."
        for pair in entry["pairs"]
        if pair["both"]["n"]
    ]
    return [*crossings(entry)[1:], *told]


def basis(entry: Entry) -> str:
    """What the figures rest on: whoever reads them must be able to work them out."""
    items = sorted({system["items"] for system in entry["systems"]})
    told = [f"Means over {listed((count(number) for number in items), 'or')} test items."]
    here = [system for system in entry["systems"] if system["per_call_machine_s"]]
    if len(here) < len(entry["systems"]):
        told.append(
            "Calls of an endpoint: every token at its full price, no discount for cached prompts; time as waited for."
        )
    if here:
        hour = "" if entry["hourly_price"] is None else f" at {price(entry['hourly_price'])} an hour"
        told.append(
            f"Calls here: their share of this machine{hour}, as measured in batches, in which what prompts share is computed once; "
            "a search for passages and the hours that a machine waits are not in it."
        )
    if entry["missing"]:
        told.append(f"{_unknown_money(entry)}.")
    return " ".join(told)


def not_foretold(rung: str, why: str) -> str:
    """Why a climb with `goal: cost` does not go on after `rung` met the bar, where no numbers decide."""
    return f"goal: cost: {rung} meets the bar, and the climb did not go on to sft: {why}."


def payback(
    rung: str,
    currency: Currency,
    spent: Sequence[float],
    *,
    calls: int | None,
    calls_per_month: int,
    limit_months: int,
    goes_on: bool,
) -> str:
    """Why a climb with `goal: cost` goes on to sft after `rung` met the bar, or does not, by the plan's numbers.

    spent: a call now, a call then and all of sft, as planned, in `currency`. calls: after how many it is paid back, None for
    never.
    """
    now, then, one_off = spent
    plan = (
        f"goal: cost: {rung} meets the bar, and the climb {'went on' if goes_on else 'did not go on'} to sft. By the plan 1,000 "
        f"calls of the tuned model cost {cost(1000 * then, currency)} instead of the {cost(1000 * now, currency)} measured with "
        f"{rung}, and training and testing it take {cost(one_off, currency)}, which"
    )
    if calls is None:
        return spaced(f"{plan} would never be paid back.")
    return spaced(
        f"{plan} {'is' if goes_on else 'would be'} paid back after {counted(calls, 'call')}: {_months(calls / calls_per_month)} "
        f"of {count(calls_per_month)} calls each, {'within' if goes_on else 'not within'} the {limit_months} that are allowed"
        f"{'' if goes_on else f', which takes more than {count(calls // limit_months)} calls a month'}."
    )


def _told_pairs(entry: Entry) -> list[Mapping[str, Any]]:
    """Pairs whose tuned system meets the bar; those against a system that meets it too come first."""
    met = {system["rung"] for system in entry["systems"] if system["verdict"] == "MET"}
    found = [pair for pair in entry["pairs"] if pair["tuned"] in met]
    return sorted(found, key=lambda pair: pair["untuned"] not in met)


def _crossing(pair: Mapping[str, Any], entry: Entry) -> str:
    tuned, untuned = pair["tuned"], pair["untuned"]
    stands = next(system for system in entry["systems"] if system["rung"] == untuned)["verdict"]
    apart = "" if stands == "MET" else f", {short_of_the_bar(stands)}"
    than = f"{untuned}{apart}{',' if apart else ''}"
    if pair["crossing"] == "unknown":
        return f"Whether {tuned} is cheaper than {untuned} cannot be told: {_gives_no(entry['missing'])}"
    if pair["crossing"] == "never":
        return f"{tuned} never becomes cheaper than {untuned}{apart}: its calls cost no less"
    if pair["crossing"] == "at_once":
        return f"{tuned} is cheaper than {than} from the first call on"
    months = "" if pair["months"] is None else f" ({_months(pair['months'])} of use)"
    return f"{tuned} is cheaper than {than} from {counted(pair['calls'], 'call')} on{months}"


def _measured(system: Measured, entry: Entry) -> str:
    return (
        f"{system['rung']} ({system['name']}) {thousand_calls(system, entry)}, with {system['prompt_tokens']:.0f} prompt and "
        f"{system['completion_tokens']:.0f} answer tokens in {short_duration(system['seconds'])} each"
    )


def _two_models(entry: Entry) -> list[str]:
    """Score, cost and time of another model that was tuned, beside the one that was prompted."""
    by_rung = {system["rung"]: system for system in entry["systems"]}
    told = []
    for pair in entry["pairs"]:
        tuned, untuned = by_rung[pair["tuned"]], by_rung[pair["untuned"]]
        if tuned["model"] == untuned["model"]:
            continue
        both = pair["both"]
        paired = (
            f"; on the {counted(both['n'], 'test item')} that both answered {percent_in_text(both['tuned'])} against "
            f"{percent_in_text(both['untuned'])} (a description, not a test)"
        )
        told.append(
            f"Two models: {tuned['model']}, tuned by {tuned['rung']}, scored {_scored(tuned)}, and {untuned['model']} with "
            f"{untuned['rung']} {_scored(untuned)}{paired if both['n'] else ''}."
        )
    return told


def _scored(system: Measured) -> str:
    return f"{percent_in_text(system['score'])} ({interval(system['interval'])}, {verdict(system['verdict'])})"


def _unknown_money(entry: Entry) -> str:
    rest = "; systems that run here are compared by its seconds" if entry["currency"] == "machine_seconds" else ""
    return f"Some of what calls cost is not known in money: {_gives_no(entry['missing'])}{rest}"


def _gives_no(keys: Sequence[str]) -> str:
    return f"the task gives no {listed((f'`{key}`' for key in keys), 'or')}"


def _months(months: float) -> str:
    return "less than 0.1 months" if months < 0.1 else f"{months:,.1f} months"
