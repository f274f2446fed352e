"""Does the server generate otherwise than it was asked to? Settings of its own, no enforced form, answers that end early."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lastresort.errors import TaskError
from lastresort.evals.evidence.bar import least_tail
from lastresort.evals.scorers import format_ok
from lastresort.foreign import NotJson, parse_json
from lastresort.models.api.replies import Reply
from lastresort.models.api.requests import schema_sent, unwrapped
from lastresort.models.protocol import Prompt, is_endpoint
from lastresort.report.verify import CauseTested
from lastresort.report.words import verify as words
from lastresort.systems.system import System
from lastresort.types import Decoding, Grammar, JsonObject, Message
from lastresort.verify.asking import ServedAnswer
from lastresort.verify.causes.case import NEARLY_ALL, TIMES, Case, cause_tested

REPEATED = 4  # items that are asked again
BY_CHANCE = 4 / 27  # most of v * (1 - v) * v: what changes with a chance of v changes, does not, and changes again
DRAWN = 0.01  # the chance of as many that change with the seed alone where nothing is drawn
NEUTRAL: tuple[JsonObject, ...] = (  # the first that a server takes; repeat_penalty is llama.cpp's name
    {"repetition_penalty": 1.0, "repeat_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0},
    {"presence_penalty": 0.0, "frequency_penalty": 0.0},
)
PROBE: JsonObject = {
    "type": "object",
    "properties": {"probe": {"type": "string", "enum": ["kept"]}},
    "required": ["probe"],
    "additionalProperties": False,
}
PROBE_TOKENS = 48
PROBED = tuple((Message("user", text),) for text in ("Say hello.", "Name a colour.", "What is two plus two?"))


def settings(case: Case) -> CauseTested:
    """Is the likeliest answer another each time? Do the measured answers come once penalties are switched off?

    In 16 bits rounding depends on the batch, so an answer near a tie changes from batch to batch on any server. See `_samples`
    and `Case.regained` for what tells that from sampling and from a penalty.
    """
    asked = case.sendings[:REPEATED]
    varying, n = _varying(case, asked), len(asked)
    tried = words.tried_seeds(n, TIMES)
    seen = words.of_seeds(varying, n, case.decoding.temperature)
    if case.decoding.temperature > 0:
        return cause_tested("SETTINGS", varying == 0 and n == REPEATED, tried, seen)
    if case.most(varying, n):
        samples, alone = _samples(case)
        tried, seen = words.and_alone(tried), words.both_seen(seen, alone)
        if samples:
            return cause_tested("SETTINGS", True, tried, words.so_it_samples(seen, compared=bool(case.controls)))
    regained = _without_penalties(case)
    if regained is None:
        return cause_tested("SETTINGS", False, tried, words.takes_no_penalties(seen))
    right, anyway = regained
    seen = words.of_penalties(seen, right, case.n, anyway)
    return cause_tested("SETTINGS", case.most(right - anyway), words.and_no_penalties(tried), seen)


def _varying(case: Case, asked: Sequence[Prompt]) -> int:
    """How many of these requests get other answers with other seeds."""
    replies = case.replies([prompt for prompt in asked for _ in range(TIMES)])
    return sum(_vary(replies[i : i + TIMES]) for i in range(0, len(replies), TIMES))


def _vary(replies: Sequence[Reply]) -> bool:
    return len({reply.text for reply in replies}) > 1


def _samples(case: Case) -> tuple[bool, str]:
    """Whether the server draws its answers, and what was seen. Each request is sent alone, so that no batch changes.

    It draws if most differing answers still change with the seed, and either nearly all that were the same text change as well, or
    more of the differing ones change with the seed, not without, and with it again than chance explains: 5 of 8, 4 of 4, and no
    number of 2. Where no text was the same, the first alone is enough.

    A server that rounds by its batch gives a request that is alone the same answer each time, so it is hardly ever taken for one
    that samples. If others use it, too, it is not alone. Of 80 items with a share near a tie that either text can win, it was then
    taken for one in .1% (a share of 10%), 0% (30%), .1% (60%) and 11% (90%) of 1,000 runs each
    (tests/simulation/test_verify_rates.py).
    """
    changed = [_vary(times) for times in case.alone(case.sendings, other_seeds=True)]
    if not case.most(sum(changed)):
        return False, words.of_alone(sum(changed), case.n)
    same = [case.sender.prompt(served.example.input) for served in case.controls]
    too = sum(_vary(times) for times in case.alone(same, other_seeds=True))
    seen = words.of_alone(sum(changed), case.n, too, len(same))
    if too >= NEARLY_ALL * len(same):
        return True, seen
    without = [_vary(times) for times in case.alone(case.sendings)]
    by_seed = [
        prompt
        for prompt, with_seeds, anyway in zip(case.sendings, changed, without, strict=True)
        if with_seeds and not anyway
    ]
    enough = least_tail(case.n, BY_CHANCE, DRAWN)
    if len(by_seed) >= enough:  # once more, since others may have stopped using the server after the first time
        again = case.alone(by_seed, other_seeds=True)
        by_seed = [prompt for prompt, times in zip(by_seed, again, strict=True) if _vary(times)]
    draws = len(by_seed) >= enough
    return draws, words.both_seen(seen, words.of_one_seed(len(by_seed), case.n, draws=draws))


def _without_penalties(case: Case) -> tuple[int, int] | None:
    """As `Case.regained` has it, None where the server takes no such keys."""
    for extra in NEUTRAL:
        try:
            return case.regained(case.sendings, extra=extra)
        except TaskError:  # it refuses a key that it does not know
            continue
    return None


def form(case: Case) -> CauseTested | None:
    """Does the server keep to a form that no model writes by chance? Are its answers the same if no form is asked for?"""
    grammar = case.decoding.grammar
    if grammar is None:
        return None
    invalid = sum(not _keeps(grammar, served.answer.text) for served in case.differing)
    if case.sent == "input":
        return cause_tested("FORM", case.most(invalid), words.TRIED_FORM, words.of_form(invalid, case.n))
    if (wrapped := _wrapped(case, grammar)) is not None:
        return wrapped
    odd = Decoding(PROBE_TOKENS, grammar=Grammar(json_schema=PROBE))
    probes_kept = sum(_is_probe(reply.text) for reply in case.replies(PROBED, odd))
    n = len(PROBED)
    free = replace(case.decoding, grammar=None)
    same = case.as_served([case.text(reply, case.decoding) for reply in case.replies(case.sendings, free)])
    seen = words.of_odd_schema(probes_kept, n, invalid, same, case.n)
    explains = probes_kept < n and (case.most(invalid) or case.most(same))
    return cause_tested("FORM", explains, words.TRIED_ODD_SCHEMA, seen)


def _wrapped(case: Case, grammar: Grammar) -> CauseTested | None:
    """A choice travels inside an object, where a model may choose otherwise than of bare labels. None where it does not."""
    if grammar.choices is None or isinstance(case.local, str):
        return None
    decoding = replace(case.sender.system.decoding, grammar=Grammar(json_schema=schema_sent(grammar)))
    texts = [unwrapped(text, grammar) for text in case.local.answers(case.prompts, decoding)]
    same, explains = case.reproduced(texts)
    if not explains:
        return None
    seen = words.of_wrapped_choice(same, case.n)
    return cause_tested("FORM", True, words.TRIED_OWN_SCHEMA, seen, remedy=words.BARE_CHOICES)


def _keeps(grammar: Grammar, text: str) -> bool:
    return format_ok(text, json_schema=grammar.json_schema, choices=grammar.choices) is not False


def _is_probe(text: str) -> bool:
    try:
        return bool(parse_json(text) == {"probe": "kept"})
    except NotJson:
        return False


def ended_early(case: Case) -> CauseTested:
    """Are its answers beginnings of those that were measured? How long do they get if they may be longer?"""
    limit = case.decoding.max_new_tokens
    short = [place for place, served in enumerate(case.differing) if _ends_early(served, limit)]
    cut = sum(case.differing[place].answer.finish == "length" for place in short)
    seen = words.of_ends(len(short), case.n, cut)
    if not case.most(len(short)):
        return cause_tested("ENDED_EARLY", False, words.TRIED_ENDS, seen)
    longer = replace(case.sender.system.decoding, max_new_tokens=4 * limit)
    replies = case.replies([case.sendings[place] for place in short], longer)
    still = [
        reply.completion_tokens
        for reply, place in zip(replies, short, strict=True)
        if case.text(reply) == case.differing[place].answer.text and reply.completion_tokens is not None
    ]
    seen = words.of_longer_limit(seen, longer.max_new_tokens, still)
    return cause_tested("ENDED_EARLY", True, words.TRIED_LONGER, seen)


def beyond_rounding(served: ServedAnswer, system: System) -> bool:
    """What no rounding does: another number of prompt tokens, an answer without its form, or one that is cut below its limit. At
    its limit it lacks the form because it is long, which rounding can do.
    """
    answer, recorded, grammar = served.answer, served.recorded, system.decoding.grammar
    if _is_cut_below(served, system.decoding.max_new_tokens):
        return True
    whole = answer.finish != "length" and recorded.format_ok is not False
    if grammar is not None and whole and not _keeps(grammar, answer.text):
        return True
    counted = served.counted and not is_endpoint(system.model) and recorded.prompt_tokens > 0
    return counted and answer.prompt_tokens != recorded.prompt_tokens


def _ends_early(served: ServedAnswer, limit: int) -> bool:
    """A beginning of the measured answer, or one that is cut below the limit that was sent. An empty one says nothing."""
    text, whole, cut = served.answer.text, served.recorded.answer.strip(), served.answer.finish == "length"
    if len(text) < len(whole) and whole.startswith(text):
        return cut or bool(text)
    return _is_cut_below(served, limit)


def _is_cut_below(served: ServedAnswer, limit: int) -> bool:
    """Without the server's count nobody knows where it was cut."""
    cut = served.answer.finish == "length" != served.recorded.finish
    return cut and served.counted and served.answer.completion_tokens < limit
