"""Does the server generate otherwise than it was asked to? Settings of its own, no enforced form, answers that end early."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lastresort.errors import TaskError
from lastresort.evals.scorers import format_ok
from lastresort.foreign import NotJson, parse_json
from lastresort.models.api.replies import Reply
from lastresort.models.api.requests import schema_sent, unwrapped
from lastresort.models.protocol import Prompt
from lastresort.report.verify import CauseTested
from lastresort.report.words import verify as words
from lastresort.types import Decoding, Grammar, JsonObject, Message
from lastresort.verify.asking import ServedAnswer
from lastresort.verify.causes.case import Case, found

REPEATED, TIMES = 4, 3  # items that are asked again, and how often
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
    """Is the likeliest answer another each time? Do the measured answers come once penalties are switched off?"""
    asked = case.sendings[:REPEATED]
    varying, n = _varying(case, asked), len(asked)
    tried = words.tried_seeds(n, TIMES)
    seen = words.of_seeds(varying, n, case.decoding.temperature)
    if case.decoding.temperature > 0:
        return found("SETTINGS", varying == 0, tried, seen)
    if case.most(varying, n):
        if _samples(case, asked):
            return found("SETTINGS", True, tried, words.so_it_samples(seen))
        seen = words.none_of_the_same(seen)
    neutral = _without_penalties(case)
    if neutral is None:
        return found("SETTINGS", False, tried, words.takes_no_penalties(seen))
    right = case.as_recorded([case.text(reply) for reply in neutral])
    seen = words.of_penalties(seen, right, case.n)
    return found("SETTINGS", case.most(right), words.and_no_penalties(tried), seen)


def _varying(case: Case, asked: Sequence[Prompt]) -> int:
    """How many of these requests get other answers with other seeds."""
    replies = case.replies([prompt for prompt in asked for _ in range(TIMES)])
    return sum(len({reply.text for reply in replies[i : i + TIMES]}) > 1 for i in range(0, len(replies), TIMES))


def _samples(case: Case, asked: Sequence[Prompt]) -> bool:
    """Whether the seed alone changes answers, or those change too that were the same text. Near a tie, rounding changes one."""
    before = [reply.text for reply in case.again[: len(asked)]]
    if before == [reply.text for reply in case.replies(asked)]:
        return True
    controls = [case.sender.prompt(one.example.input) for one in case.controls[:REPEATED]]
    return not controls or _varying(case, controls) > 0


def _without_penalties(case: Case) -> list[Reply] | None:
    for extra in NEUTRAL:
        try:
            return case.replies(case.sendings, extra=extra)
        except TaskError:  # it refuses a key that it does not know
            continue
    return None


def form(case: Case) -> CauseTested | None:
    """Does the server keep to a form that no model writes by chance? Are its answers the same if no form is asked for?"""
    grammar = case.decoding.grammar
    if grammar is None:
        return None
    invalid = sum(not _keeps(grammar, one.answer.text) for one in case.differing)
    if case.sent == "input":
        return found("FORM", case.most(invalid), words.TRIED_FORM, words.of_form(invalid, case.n))
    if (wrapped := _wrapped(case, grammar)) is not None:
        return wrapped
    odd = Decoding(PROBE_TOKENS, grammar=Grammar(json_schema=PROBE))
    kept = sum(_is_probe(reply.text) for reply in case.replies(PROBED, odd))
    n = len(PROBED)
    free = replace(case.decoding, grammar=None)
    same = case.as_served([case.text(reply, case.decoding) for reply in case.replies(case.sendings, free)])
    seen = words.of_odd_schema(kept, n, invalid, same, case.n)
    explains = kept < n and (case.most(invalid) or case.most(same))
    return found("FORM", explains, words.TRIED_ODD_SCHEMA, seen)


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
    return found("FORM", True, words.TRIED_OWN_SCHEMA, seen, remedy=words.BARE_CHOICES)


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
    short = [place for place, one in enumerate(case.differing) if _ends_early(one, limit)]
    cut = sum(case.differing[place].answer.finish == "length" for place in short)
    seen = words.of_ends(len(short), case.n, cut)
    if not case.most(len(short)):
        return found("ENDED_EARLY", False, words.TRIED_ENDS, seen)
    longer = replace(case.sender.system.decoding, max_new_tokens=4 * limit)
    replies = case.replies([case.sendings[place] for place in short], longer)
    still = [
        reply.completion_tokens
        for reply, place in zip(replies, short, strict=True)
        if case.text(reply) == case.differing[place].answer.text and reply.completion_tokens is not None
    ]
    seen = words.of_longer_limit(seen, longer.max_new_tokens, still)
    return found("ENDED_EARLY", True, words.TRIED_LONGER, seen)


def _ends_early(one: ServedAnswer, limit: int) -> bool:
    """A beginning of the measured answer, or one that is cut below the limit that was sent. An empty one says nothing."""
    text, whole, cut = one.answer.text, one.recorded.answer.strip(), one.answer.finish == "length"
    if len(text) < len(whole) and whole.startswith(text):
        return cut or bool(text)
    return cut and one.recorded.finish != "length" and one.answer.completion_tokens < limit
