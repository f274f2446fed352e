"""What a verification of a server found, in sentences: how its answers compare, and which causes were tried."""

from __future__ import annotations

from typing import Literal

from lastresort.evals.evidence.noninferiority import Standing
from lastresort.report.words.wording import count, counted, listed, percent, points, points_of
from lastresort.types import Unit

CauseName = Literal[
    "SYSTEM_PROMPT", "DOUBLED_START", "TEMPLATE", "SETTINGS", "FORM", "ENDED_EARLY", "ADAPTER", "PRECISION"
]
Sent = Literal["prompt", "input"]

TITLES: dict[CauseName, str] = {
    "SYSTEM_PROMPT": "the prompt does not reach the model whole",
    "DOUBLED_START": "a second begin-of-text token",
    "TEMPLATE": "another chat template",
    "SETTINGS": "generation settings of the server's own",
    "FORM": "the form of the answer is not enforced",
    "ENDED_EARLY": "answers end early",
    "ADAPTER": "the tuned weights are not applied",
    "PRECISION": "another precision or quantisation",
}
REMEDIES: dict[CauseName, str] = {
    "SYSTEM_PROMPT": "Send the system prompt, and serve the model with its own chat template, which keeps system turns.",
    "DOUBLED_START": "Let only one of them write it: the chat template or the server's tokenizer.",
    "TEMPLATE": "Serve the chat template that lies beside the model's tokenizer.",
    "SETTINGS": "Switch the server's defaults off (vLLM: --generation-config vllm), or have each request do it, as that of "
    "`lastresort handoff` does. Verify with --request then.",
    "FORM": "Serve with structured outputs switched on, or with a server that enforces response_format.",
    "ENDED_EARLY": "Raise the server's limit of tokens, and send max_tokens.",
    "ADAPTER": "Load the adapter and name it as the model, or serve merged weights.",
    "PRECISION": "Serve in the precision that was measured, or climb and gate the quantised model itself.",
}
BARE_CHOICES = "Use a server that takes bare choices (vLLM: structured_outputs), or lastresort serve."
SEND_PROMPT = "Verify with --send prompt, or let the server put the winner's prompt around each input."


def plan(n: int, recorded: int, margin: float, *, power: float, units: int, unit: Unit, needed: int, least: int) -> str:
    """Before anything is sent. units: of these items. needed: units that show it with this power. least: units that can show it,
    if none differs.
    """
    asked = f"all {counted(recorded, 'recorded item')}" if n == recorded else f"{count(n)} of {count(recorded)} items"
    aim = f"to show a loss below {points_of(margin)} with a probability of {percent(power, 0)}"
    aim += ", if the server answers as measured"
    if units >= needed:
        return f"Asks {asked}: enough {aim}."
    planned = f"The plan {aim}, is {counted(needed, unit)}."
    if units >= least:
        return f"Asks {asked}. {planned} With fewer the result may stay open."
    return f"Asks {asked}. {planned} Fewer than {count(least)} can show that the server is worse, but never that it is not."


def answer(
    verdict: Standing,
    identical: int,
    n: int,
    recorded: float,
    served: float,
    *,
    margin: float,
    loss_seen: bool,
    missing: int = 0,
    spoilt: bool = False,
) -> str:
    """spoilt: whether it would be a yes without the answers that are missing."""
    scores = f"{percent(served)} against {percent(recorded)}"
    if verdict == "REGRESSED":
        return f"No, the server answers worse than measured: {scores} on {counted(n, 'item')}."
    if verdict == "NON_INFERIOR":
        return f"Yes, the server answers as measured: {scores}, a loss below {points_of(margin)} is shown."
    if loss_seen:
        return f"No, the server answers worse than measured: {scores}, a loss is shown, though not yet how large."
    if spoilt:
        did = f"all {count(n)} that did are the same text" if identical == n else f"{scores} on the {count(n)} that did"
        return f"Cannot tell, because {counted(missing, 'answer')} did not arrive: {did}."
    if identical == n:
        same = f"No difference seen: all {counted(n, 'answer')}"
        if missing:
            return f"{same} that arrived are the same text, but {count(missing)} did not arrive."
        return f"{same} are the same text, the best result that so few items can give."
    return f"Cannot tell yet whether the server answers worse: {scores} on {counted(n, 'item')}."


def reasons(
    identical: int,
    n: int,
    difference: float,
    interval: tuple[float, float],
    *,
    unit: Unit,
    units: int,
    margin: float,
    confidence: float,
    needed: int | None,
    available: int,
) -> list[str]:
    """needed: units that would decide, None if the verdict stands or nobody knows. available: units that the run recorded."""
    apart = "The scores do not differ" if abs(difference) < 5e-4 else f"The scores differ by {points(difference)}"
    low, high = (points(limit).removesuffix(" points") for limit in interval)
    found = [
        f"{count(identical)} of {counted(n, 'answer')} are the same text.",
        f"{apart} on {counted(units, unit)} ({percent(confidence, 0)} interval {low} to {high}); a loss of {points_of(margin)} is "
        "accepted, as in the gate's target.",
    ]
    if needed is not None and needed <= available:
        found.append(
            f"About {counted(needed, unit)} would decide. The run recorded {count(available)}: ask more with --n."
        )
    elif needed is not None:
        found.append(
            f"The run recorded only {counted(available, unit)}, so it cannot show here that less than {points_of(margin)} are "
            f"lost: that takes about {count(needed)}{' without any difference' if identical == n else ''}."
        )
    return found


def missing_reason(missing: int, *, spoils: bool) -> str:
    """spoils: whether the verdict would be better without them."""
    were = (
        "did not arrive and counts as neither right nor wrong"
        if missing == 1
        else "did not arrive and count as neither"
    )
    more = " If all of them were wrong, the loss could be larger, so no less is shown." if spoils else ""
    return f"{counted(missing, 'answer')} {were}.{more}"


def refused_reason(refused: int) -> str:
    return f"{counted(refused, 'request')} {'was' if refused == 1 else 'were'} refused, which counts as wrong, as for any client."


def request_note(key: str, sent: object, measured: object) -> str:
    """What a request sends of a setting that the run measured with another value."""
    said = f"no {key}" if sent is None or sent == [] else f"{key} {sent}"
    return f"The request sends {said}, the run measured with {'none' if measured == [] else measured}."


def causes_reason(found: list[CauseName], tried: int) -> str:
    """found: those that explain the differences."""
    if found:
        return f"{'Cause' if len(found) == 1 else 'Causes'} found: {listed(TITLES[one] for one in found)}."
    return f"No cause found: of {counted(tried, 'cause')} that could be tested, none explains the differing answers."


def samples_note(temperature: float) -> str:
    return f"The winner samples (temperature {temperature:g}), so its answers need not be the same text twice; only scores count."


def left_out_note(differing: int, n: int) -> str:
    return (
        f"A client that sends no temperature, top_p or seed gets other answers from this server ({count(differing)} of "
        f"{count(n)} tried): its defaults are not those that were measured."
    )


# What each experiment saw. m of n: of the differing answers that were tried.


def of_tried(m: int, n: int) -> str:
    return f"{count(m)} of {count(n)} differing answers"


def reproduced(m: int, n: int, how: str) -> str:
    return f"{of_tried(m, n)} {'is' if m == 1 else 'are'} what the measured weights answer {how}"


def longer(offsets: list[int]) -> str:
    """How the server's counts of prompt tokens differ from ours."""
    if not offsets:
        return "the server does not count prompt tokens"
    low, high = min(offsets), max(offsets)
    if low == high == 0:
        return "the server counts as many prompt tokens as were measured"
    if low < 0 < high:
        return f"the server counts {low:+d} to {high:+d} prompt tokens against those measured".replace("-", "−")
    few, many = sorted((abs(low), abs(high)))
    amount = counted(many, "prompt token") if few == many else f"{few} to {many} prompt tokens"
    return f"the server counts {amount} {'more' if high > 0 else 'fewer'} than were measured"
