"""Does the server generate otherwise than it was asked to? Settings of its own, no enforced form, answers that end early."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lastresort.errors import TaskError
from lastresort.evals.evidence.paired import mcnemar_p
from lastresort.evals.scorers import format_ok
from lastresort.foreign import NotJson, parse_json
from lastresort.models.api.replies import Reply
from lastresort.models.api.requests import schema_sent, unwrapped
from lastresort.report.verify import CauseTested
from lastresort.report.words import verify as words
from lastresort.systems.system import System
from lastresort.types import Decoding, Grammar, JsonObject, Message
from lastresort.verify.asking import ServedAnswer
from lastresort.verify.causes.case import TIMES, Case, Regained, cause_tested, more_tokens
from lastresort.verify.outcome import CHANCE, apart, exchanged_p

REPEATED = 4  # items that are asked again
SHARE = CHANCE / 2  # of each of the two tests of settings
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
    if case.decoding.temperature > 0:
        return _heeds_no_temperature(case)
    asked = case.sendings[:REPEATED]
    replies = case.replies([prompt for prompt in asked for _ in range(TIMES)])
    varying, n = sum(len({reply.text for reply in times}) > 1 for times in _each(replies)), len(asked)
    tried, seen = words.tried_seeds(n, TIMES), words.of_seeds(varying, n, 0.0)
    samples: bool | None = False
    if case.most(varying, n):
        samples, alone = _samples(case)
        tried, seen = words.and_alone(tried), words.both_seen(seen, alone)
        if samples:
            return cause_tested("SETTINGS", True, tried, words.so_it_samples(seen))
    regained = _without_penalties(case)
    if regained is None:
        return cause_tested("SETTINGS", samples, tried, words.takes_no_penalties(seen))
    tried, seen = words.and_no_penalties(tried), words.of_penalties(seen, regained.right, case.n, regained.anyway)
    if case.most(regained.right - regained.anyway):
        return cause_tested("SETTINGS", True, tried, seen, chance=regained.chance, level=SHARE)
    return cause_tested("SETTINGS", samples, tried, seen)


def _each(replies: Sequence[Reply]) -> list[Sequence[Reply]]:
    """Those to each of the requests that were sent `TIMES` times."""
    return [replies[i : i + TIMES] for i in range(0, len(replies), TIMES)]


def _heeds_no_temperature(case: Case) -> CauseTested:
    """Does a server that should sample answer the same each time? One that samples as it should gives the recorded text each time
    as often as the one that it gave first, since either came once.
    """
    decoding = case.sender.system.decoding
    other = replace(decoding, seed=decoding.seed + 1)  # or a server that heeds seeds would give its first answer again
    each = _each(case.replies([prompt for prompt in case.sendings for _ in range(TIMES)], other))
    only = [
        texts.pop() if len(texts) == 1 else None for texts in ({case.text(reply) for reply in times} for times in each)
    ]
    served = sum(text == one.answer.text for text, one in zip(only, case.differing, strict=True))
    recorded = sum(text == one.recorded.answer.strip() for text, one in zip(only, case.differing, strict=True))
    seen = words.of_seeds(sum(text is None for text in only), case.n, decoding.temperature)
    tried = words.tried_seeds(case.n, TIMES)
    return cause_tested("SETTINGS", case.most(served), tried, seen, chance=mcnemar_p(served, recorded))


def _samples(case: Case) -> tuple[bool | None, str]:
    """Whether the server draws its answers, None if nobody can tell, and what was seen. Each request is sent alone.

    It draws if texts are the same more often with one seed than with different ones. However busy the server, only a gateway that
    keeps replies does that, too. A server that draws and ignores seeds looks like one that others use, where rounding depends on
    their requests.
    """
    turns = [case.by_seed(prompt) for prompt in case.sendings]
    changed = sum(one.vary for one in turns)
    seen = words.of_alone(changed, case.n)
    if not case.most(changed):
        return False, seen
    turns += [case.by_seed(case.sender.prompt(served.example.input)) for served in case.controls]
    draws = exchanged_p(turns, apart) <= SHARE
    return draws or None, words.of_seed(seen, draws=draws)


def _without_penalties(case: Case) -> Regained | None:
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
    wrapped = _wrapped(case, grammar)
    if wrapped is not None and wrapped.explains:
        return wrapped
    odd = Decoding(PROBE_TOKENS, grammar=Grammar(json_schema=PROBE))
    probes_kept = sum(_is_probe(reply.text) for reply in case.replies(PROBED, odd))
    n = len(PROBED)
    free = replace(case.decoding, grammar=None)
    same = case.as_served([case.text(reply, case.decoding) for reply in case.replies(case.sendings, free)])
    seen = words.of_odd_schema(probes_kept, n, invalid, same, case.n)
    explains = probes_kept < n and (case.most(invalid) or case.most(same))
    free_of_it = cause_tested("FORM", explains, words.TRIED_ODD_SCHEMA, seen)
    return free_of_it if explains or wrapped is None else wrapped


def _wrapped(case: Case, grammar: Grammar) -> CauseTested | None:
    """A choice travels inside an object, where a model may choose otherwise than of bare labels. None where it does not."""
    if grammar.choices is None or isinstance(case.local, str):
        return None
    decoding = replace(case.sender.system.decoding, grammar=Grammar(json_schema=schema_sent(grammar)))
    texts = [unwrapped(text, grammar) for text in case.local.answers(case.prompts, decoding)]
    given = case.reproduced(texts)
    if not given.alike:
        return None
    seen, remedy = words.of_wrapped_choice(given.hits, case.n), words.BARE_CHOICES
    return cause_tested("FORM", True, words.TRIED_OWN_SCHEMA, seen, chance=given.chance, remedy=remedy)


def _keeps(grammar: Grammar, text: str) -> bool:
    return format_ok(text, json_schema=grammar.json_schema, choices=grammar.choices) is not False


def _is_probe(text: str) -> bool:
    try:
        return bool(parse_json(text) == {"probe": "kept"})
    except NotJson:
        return False


def ended_early(case: Case) -> CauseTested:
    """Are its answers beginnings of those that were measured, rather than the other way round? How long do they get if they may be
    longer? Rounding also moves an end that is near a tie, but as often to either side; it cuts no answer below its limit.
    """
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
    chance = 0.0 if case.most(cut) else _shorter_p(case)
    return cause_tested("ENDED_EARLY", True, words.TRIED_LONGER, seen, chance=chance)


def _shorter_p(case: Case) -> float:
    """Of all answers that differ: the sign test on those of which one begins the other."""
    texts = [(served.answer.text, served.recorded.answer.strip()) for served in case.answers if not served.refused]
    shorter = sum(len(text) < len(whole) and whole.startswith(text) for text, whole in texts)
    return mcnemar_p(shorter, sum(len(text) > len(whole) and text.startswith(whole) for text, whole in texts))


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
    return bool(more_tokens(served, system))


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
