"""What a verification of a server found, in sentences: how its answers compare, and which causes were tried."""

from __future__ import annotations

from typing import Literal

from lastresort.evals.evidence.noninferiority import Standing
from lastresort.report.words.wording import count, counted, listed, percent, points, points_of, sentence
from lastresort.types import FARTHEST, Unit

CauseName = Literal[
    "SYSTEM_PROMPT", "DOUBLED_START", "TEMPLATE", "SETTINGS", "FORM", "ENDED_EARLY", "ADAPTER", "PRECISION"
]
Sent = Literal["prompt", "input"]

TITLES: dict[CauseName, str] = {
    "SYSTEM_PROMPT": "the prompt does not reach the model whole",
    "DOUBLED_START": "a second begin-of-text token",
    "TEMPLATE": "another chat template",
    "SETTINGS": "the server's own generation settings",
    "FORM": "the form of the answer is not enforced",
    "ENDED_EARLY": "answers end early",
    "ADAPTER": "the tuned weights are not applied",
    "PRECISION": "different rounding, from the precision, a quantisation or, in 16 bits, the batch",
}
REMEDIES: dict[CauseName, str] = {
    "SYSTEM_PROMPT": "Send the system prompt, and serve the model with its own chat template, which keeps system turns.",
    "DOUBLED_START": "Let only one of them write it: the chat template or the server's tokenizer.",
    "TEMPLATE": "Serve the chat template that comes with the model's tokenizer.",
    "SETTINGS": "Switch the server's defaults off (vLLM: --generation-config vllm), or have each request do it, as that of "
    "`lastresort handoff` does. Verify with --request then.",
    "FORM": "Serve with structured outputs switched on, or with a server that enforces response_format.",
    "ENDED_EARLY": "Raise the server's limit of tokens, and send max_tokens.",
    "ADAPTER": "Load the adapter and name it as the model, or serve merged weights.",
    "PRECISION": "Serve in the precision that was measured, or climb and gate the quantised model itself.",
}
IN_16_BITS = ("bfloat16", "float16")
BARE_CHOICES = "Use a server that takes bare choices (vLLM: structured_outputs), or lastresort serve."
SEND_PROMPT = "Verify with --send prompt, or let the server put the winner's prompt around each input."


def plan(n: int, recorded: int, margin: float, *, power: float, units: int, unit: Unit, needed: int, least: int) -> str:
    """Before anything is sent. units: of these items. needed: units that show it with this power. least: units that can show it,
    if none differs.
    """
    asked = "the only recorded item" if recorded == 1 else f"all {count(recorded)} recorded items"
    asked = asked if n == recorded else f"{count(n)} of {count(recorded)} items"
    aim = f"to show a loss below {points_of(margin)} with a probability of {percent(power, 0)}"
    aim += ", if the server answers as measured"
    once = " A group counts once." if unit == "group" else ""
    if units >= needed:
        return f"Sends {asked}: enough {aim}.{once}"
    planned = f"The plan {aim}, is {counted(needed, unit)}."
    if units >= least:
        return f"Sends {asked}. {planned} With fewer the result may stay open.{once}"
    only_worse = f"Fewer than {count(least)} can show that the server is worse, but never that it is not."
    return f"Sends {asked}. {planned} {only_worse}{once}"


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
    every = "the one" if n == 1 else f"all {count(n)}"
    if spoilt:
        did = f"{every} that did {_are(n)} the same text" if identical == n else f"{scores} on the {count(n)} that did"
        return f"Cannot tell, because {counted(missing, 'answer')} did not arrive: {did}."
    if identical == n:
        same = f"No difference seen: {every} {'answer' if n == 1 else 'answers'}"
        if missing:
            return f"{same} that arrived {_are(n)} the same text, but {count(missing)} did not arrive."
        return f"{same} {_are(n)} the same text, the best result that so few items can give."
    return f"Cannot tell yet whether the server answers worse: {scores} on {counted(n, 'item')}."


EVEN = 2  # half as many items as decide with a power of 80% decide with one of about 55%


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
    is_open: bool,
    needed: int | None,
    least: int,
    sent: int,
    available: int,
) -> list[str]:
    """units: whose answers arrived, of those that were sent. is_open: whether more would decide. needed: units that do, None where
    that is more than ten times as many. least: as in `plan`. available: that the run recorded.
    """
    apart = "The scores do not differ" if abs(difference) < 5e-4 else f"The scores differ by {points(difference)}"
    low, high = (points(limit).removesuffix(" points") for limit in interval)
    found = [
        f"{count(identical)} of {counted(n, 'answer')} {_are(identical)} the same text.",
        f"{apart} on {counted(units, unit)} ({percent(confidence, 0)} interval {low} to {high}); a loss of {points_of(margin)} is "
        "accepted, as in the gate's target.",
    ]
    if not is_open:
        return found
    again = f"verify again once the server answers all {count(available)}"
    never = (
        f"The run recorded only {counted(available, unit)}, so it cannot show here that less than {points_of(margin)} are lost: "
        "that takes"
    )
    if needed is None:
        found.append(_beyond(FARTHEST * units, unit, again, never, least=least, sent=sent, available=available))
        return found
    would = f"About {counted(needed, unit)} would decide"
    if needed <= available and sent == available:
        found.append(f"{would}: {again}.")
    elif needed <= available:
        found.append(f"{would}. The run recorded {count(available)}: send more with --n.")
    elif sent < available and least <= available and needed <= EVEN * available:
        found.append(f"{would}. The run recorded {count(available)}, which may be enough: send all of them with --n.")
    elif sent < available and least <= available:
        found.append(
            f"No number of the {counted(available, f'recorded {unit}')} is likely to decide: that takes about {count(needed)}."
        )
    else:
        found.append(f"{never} about {count(needed)}{' without any difference' if identical == n else ''}.")
    return found


def _beyond(beyond: int, unit: Unit, again: str, never: str, *, least: int, sent: int, available: int) -> str:
    """Where more than `beyond` would decide, and nobody knows how many."""
    would = f"More than {counted(beyond, unit)} would decide"
    if beyond >= EVEN * available:
        return f"{would}. The run recorded only {count(available)}."
    if available < least:
        return f"{never} at least {count(least)}."
    if sent == available:
        return f"{would}: {again}."
    return f"{would}. The run recorded {count(available)}: send more with --n."


def missing_reason(missing: int, *, spoils: bool) -> str:
    """spoils: whether the verdict would be better without them."""
    were = (
        "did not arrive and counts as neither right nor wrong"
        if missing == 1
        else "did not arrive and count as neither"
    )
    more = (
        f" If {'it' if missing == 1 else 'all of them'} were wrong, the loss could be larger, so no less is shown."
        if spoils
        else ""
    )
    return f"{counted(missing, 'answer')} {were}.{more}"


def refused_reason(refused: int) -> str:
    return f"{counted(refused, 'request')} {'was' if refused == 1 else 'were'} refused, which counts as wrong, as for any client."


def request_note(key: str, sent: object, measured: object) -> str:
    """What a request sends of a setting that the run measured with another value."""
    said = f"no {key}" if sent is None or sent == [] else f"{key} {sent}"
    return f"The request sends {said}, the run measured with {'none' if measured == [] else measured}."


def causes_reason(found: list[CauseName], undecided: list[CauseName], tried: int) -> str:
    """found: those that explain the differences. undecided: those of which nobody can tell. tried: those that are decided."""
    if found:
        return f"{'Cause' if len(found) == 1 else 'Causes'} found: {listed(TITLES[one] for one in found)}."
    said = f"No cause found: of {counted(tried, 'cause')} that could be tested, none explains the differing answers."
    if undecided:
        does = "this one" if len(undecided) == 1 else "one of these"
        said += f" These answers cannot tell whether {does} does: {listed(TITLES[one] for one in undecided)}."
    return said


def too_few_reason(differing: int, n: int) -> str:
    return (
        f"{count(differing)} of {counted(n, 'answer')} {'differs' if differing == 1 else 'differ'}: too few to look for a cause. "
        "In 16 bits rounding depends on the batch, which changes a few answers of any server."
    )


def no_fault(precision: str) -> str:
    """The measured model answers as the server does."""
    here = "The measured model gives these answers on this machine too, so there is nothing to change at the server."
    return f"{here} {_by_batch(precision)}" if precision in IN_16_BITS else here


def of_rounding(precision: str) -> str:
    """The server's answers are near ties of the model that was measured in this precision."""
    if precision not in IN_16_BITS:
        return REMEDIES["PRECISION"]
    return (
        f"{_by_batch(precision)} If the server computes in {precision}, quantises nothing and does not sample, there is nothing to "
        "change. Otherwise serve in that way, or climb and gate the quantised model itself."
    )


def _by_batch(precision: str) -> str:
    return f"The run measured in {precision}, where rounding depends on what else is in the batch."


def samples_note(temperature: float) -> str:
    return f"The winner samples (temperature {temperature:g}), so its answers need not be the same text twice; only scores count."


def left_out_note(differing: int, n: int) -> str:
    return (
        f"A client that sends no temperature, top_p or seed gets other answers from this server ({count(differing)} of "
        f"{count(n)} tried): its defaults are not those that were measured."
    )


def counts_note(offsets: list[int], n: int) -> str:
    """offsets: how the server's counts of prompt tokens differ from the measured ones. n: answers of the same text."""
    return sentence(
        f"{longer(offsets)}, in {count(len(offsets))} of {counted(n, 'answer')} of the same text: it counts differently, or its "
        "prompts differ and these answers do not show it"
    )


# What each experiment saw. m of n: of the differing answers that were tried.


def of_tried(m: int, n: int) -> str:
    return f"{count(m)} of {counted(n, 'differing answer')}"


def reproduced(m: int, n: int, how: str) -> str:
    return f"{of_tried(m, n)} {_are(m)} what the measured weights answer {how}"


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
    amount = count(many) if few == many else f"{count(few)} to {count(many)}"
    return f"the server counts {amount} {'more' if high > 0 else 'fewer'} prompt {'token' if many == 1 else 'tokens'} than measured"


def as_measured(m: int, n: int, when: str) -> str:
    return f"{of_tried(m, n)} {_are(m)} as measured {when}"


def _are(m: int) -> str:
    return "is" if m == 1 else "are"


def _do(m: int) -> str:
    return "does" if m == 1 else "do"


# Why a cause is not tested.

ONLY_SYSTEM = "these prompts are nothing but a system turn"
EXPLAINED = "another cause explains the differences"
ANOTHER_MAY = "but of another cause, too, nobody can tell"
NO_TOKEN = "the answers differ in no token that can be compared"


def no_weights(model: str) -> str:
    return f"the winner's model, {model}, has no weights here"


def weights_elsewhere(model: str) -> str:
    return f"the weights of {model} are not on this machine"


def cannot_open(error: BaseException) -> str:
    return f"the measured model cannot be opened here ({error})"


def experiment_failed(error: BaseException) -> str:
    return f"the experiment failed ({error})"


def no_counts_either(why: str) -> str:
    """why: the measured model is not here."""
    return f"{longer([])}, and {why}"


# What was tried.

TRIED_WITHOUT_SYSTEM = "the same requests without their system turn"
TRIED_WHOLE_PROMPT = "the winner's whole prompt in place of the input alone"
TRIED_COUNTS = "its counts of prompt tokens"
TRIED_SECOND_START = "the measured weights with one more begin-of-text token, and counts of prompt tokens"
TRIED_TEMPLATE = "the template nearest in its tokens with the measured weights, and counts of prompt tokens"
TRIED_FORM = "the form of its answers"
TRIED_ODD_SCHEMA = "an unusual schema, and requests without response_format"
TRIED_OWN_SCHEMA = "the measured weights with the schema of the request"
TRIED_ENDS = "the ends of its answers"
TRIED_LONGER = "the ends of its answers, and a higher limit of tokens"
TRIED_BASE = "the base model with the same prompts"
TRIED_AGAIN = "the measured model once more"
TRIED_TOKEN = "the likelihood of the first token that differs"
ROUNDED = "the measured weights rounded to 4 bits"


def tried_seeds(requests: int, times: int) -> str:
    return f"{counted(requests, 'request')} {times} times each with other seeds"


def and_alone(tried: str) -> str:
    return f"{tried}, and one at a time"


def and_no_penalties(tried: str) -> str:
    return f"{tried}, and requests that switch penalties off"


# What each experiment saw, in more words.


def of_system(same: int, n: int, unread: bool | None, reproduced_without: int | None) -> str:
    """same: answers without the system turn. unread: whether the server counts as many tokens without it, None where it does not
    count. reproduced_without: by the measured weights, None where they are not asked.
    """
    seen = f"{of_tried(same, n)} {_are(same)} the same without the system turn"
    if unread is not None:
        seen += f", and the server counts {'as many' if unread else 'other'} prompt tokens without it"
    if reproduced_without is not None:
        seen += f", and {reproduced(reproduced_without, n, 'without it')}"
    return seen


def of_whole_prompt(right: int, n: int, anyway: int) -> str:
    """anyway: of these, answers that are as measured without it, too."""
    return _regained(right, n, "once the server gets the whole prompt", anyway)


def _regained(right: int, n: int, when: str, anyway: int) -> str:
    seen = as_measured(right, n, when)
    return f"{seen}, and {count(anyway)} of them without that, too" if anyway else seen


def of_second_start(same: int, n: int, offsets: list[int]) -> str:
    return f"{reproduced(same, n, 'after a second one')}, and {longer(offsets)}"


def of_template(same: int, n: int, rendering: str) -> str:
    return reproduced(same, n, f"to prompts rendered as {rendering}")


def and_same_texts(seen: str, other: int, n: int) -> str:
    """other: of n answers that are the same text, those whose prompt tokens are counted otherwise than measured."""
    return f"{seen}, and so of {count(other)} of {counted(n, 'answer')} that are the same text" if n else seen


def by_chance(seen: str, chance: float) -> str:
    """An experiment that looks as if it explained the differences, and that chance can pass, too."""
    return f"{seen}; chance does as well in {percent(chance)} of cases, too often to tell"


def of_seeds(varying: int, n: int, temperature: float) -> str:
    seen = f"{varying} of {counted(n, 'request')} got other answers"
    return (
        f"{seen} with other seeds at temperature {temperature:g}"
        if temperature > 0
        else f"{seen} the next time, at temperature 0"
    )


def so_it_samples(seen: str) -> str:
    return f"{seen}, so the server samples with settings of its own"


def of_alone(varying: int, n: int) -> str:
    """Requests that are sent one at a time."""
    seen = f"sent one at a time, {count(varying)} of {count(n)} {_do(varying)}"
    return seen if varying else f"{seen}, as where rounding depends on the batch"


def of_seed(seen: str, *, draws: bool) -> str:
    """draws: whether the texts depend on the seed."""
    if draws:
        return f"{seen}, less often with one seed than with others"
    return (
        f"{seen}, about as often with one seed, as where others use the server and rounding depends on the batch; if nobody else "
        "uses it, it samples"
    )


def takes_no_penalties(seen: str) -> str:
    return f"{seen}; the server takes no penalties in a request"


def of_penalties(seen: str, right: int, n: int, anyway: int) -> str:
    """anyway: as in `of_whole_prompt`."""
    return f"{seen}; {_regained(right, n, 'once penalties are switched off', anyway)}"


def of_form(invalid: int, n: int) -> str:
    return f"{of_tried(invalid, n)} {'lacks' if invalid == 1 else 'lack'} the form that the winner enforces"


def of_odd_schema(kept: int, asked: int, invalid: int, same: int, n: int) -> str:
    """kept: answers to the schema. same: those without response_format."""
    lack = f"{of_tried(invalid, n)} {'lacks' if invalid == 1 else 'lack'} the form"
    free = f"{of_tried(same, n)} {_are(same)} the same without response_format"
    return f"{kept} of {counted(asked, 'answer')} kept to an unusual schema; {lack}, and {free}"


def of_wrapped_choice(same: int, n: int) -> str:
    return reproduced(same, n, "where the choice is sent inside an object, as response_format has it")


def of_ends(short: int, n: int, cut: int) -> str:
    ends = "ends before the one that was measured" if short == 1 else "end before those that were measured"
    return f"{of_tried(short, n)} {ends}, {cut} of them at a limit of tokens"


def of_longer_limit(seen: str, limit: int, still: list[int]) -> str:
    """still: tokens of the answers that end as early."""
    if not still:
        return seen
    end = "ends" if len(still) == 1 else "end"
    return f"{seen}; with a limit of {counted(limit, 'token')}, {len(still)} still {end} after at most {max(still)}"


def of_base(same: int, n: int) -> str:
    return f"{of_tried(same, n)} {_are(same)} what the base model answers"


def of_measured_again(same: int, n: int) -> str:
    return f"{of_tried(same, n)} {_are(same)} what the measured model answers here, in a batch of these"


def of_first_token(near: int, n: int) -> str:
    return (
        f"in {near} of {counted(n, 'differing answer')} the measured weights find the server's first other token nearly as likely "
        "as their own"
    )


def of_precision(same: int, n: int, precision: str) -> str:
    return f"{precision} gives {of_tried(same, n)}"


def of_four_bits(spread_nats: float, within: int, compared: int, times: int, same: int, n: int) -> str:
    return (
        f"rounding them to 4 bits moves that by {spread_nats:.1f} nats, and {within} of {compared} are within {times} times as "
        f"much; 4 bits give {of_tried(same, n)}"
    )


def both_tried(first: str, second: str) -> str:
    return f"{first}, and {second}"


def both_seen(first: str, second: str) -> str:
    return f"{first}; {second}"
