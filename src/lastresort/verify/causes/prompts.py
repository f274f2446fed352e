"""Does the model get another prompt? A system prompt that is lost, a second begin-of-text token, another chat template."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from lastresort.data.chat_template import ChatTemplate, ChatTokenizer, template_of, token_ids
from lastresort.data.rendering import render_prompt
from lastresort.errors import LastresortError
from lastresort.evals.evidence.paired import mcnemar_p
from lastresort.models.protocol import Prompt
from lastresort.report.verify import CauseTested
from lastresort.report.words import verify as words
from lastresort.types import Message
from lastresort.verify.causes.case import Case, Measured, Reproduced, cause_tested, more_tokens, untested
from lastresort.verify.outcome import CHANCE, together_p

EACH = CHANCE / 2  # of the two tests of a template


def system_prompt(case: Case) -> CauseTested | None:
    """Does the server answer the same with and without the system turn? If it was sent the input alone: does it answer as measured
    once it gets the whole prompt?
    """
    if case.sent == "input":
        return _whole_prompt(case)
    if not any(turn.role == "system" for prompt in case.prompts for turn in prompt):
        return None
    bare = [_without_system(prompt) for prompt in case.prompts]
    if not all(bare):
        return untested("SYSTEM_PROMPT", words.ONLY_SYSTEM)
    replies = case.replies(bare[: case.n])
    same = case.as_served([case.text(reply) for reply in replies])
    counts = [
        (reply.prompt_tokens, served.answer.prompt_tokens)
        for reply, served in zip(replies, case.differing, strict=True)
        if reply.prompt_tokens is not None and served.counted
    ]
    unread = not any(now != before for now, before in counts) if counts else None
    tried = words.TRIED_WITHOUT_SYSTEM
    if unread is not None:
        seen = words.of_system(same, case.n, unread, None)
        return cause_tested("SYSTEM_PROMPT", case.most(same) and unread, tried, seen)
    if isinstance(case.local, str):  # a model may answer the same with and without it
        return untested("SYSTEM_PROMPT", words.no_counts_either(case.local))
    given = case.reproduced(case.local.answers(bare, case.decoding))
    seen = words.of_system(same, case.n, None, given.hits)
    return cause_tested("SYSTEM_PROMPT", given.alike, tried, seen, chance=given.chance)


def _whole_prompt(case: Case) -> CauseTested:
    regained = case.regained(case.prompts[: case.n], case.decoding)
    seen = words.of_whole_prompt(regained.right, case.n, regained.anyway)
    right, tried = case.most(regained.right - regained.anyway), words.TRIED_WHOLE_PROMPT
    return cause_tested("SYSTEM_PROMPT", right, tried, seen, chance=regained.chance, remedy=words.SEND_PROMPT)


def _without_system(prompt: Prompt) -> Prompt:
    return tuple(turn for turn in prompt if turn.role != "system")


def doubled_start(case: Case) -> CauseTested | None:
    """One token more in each prompt, and the measured weights answer so with a begin-of-text token before their prompt?"""
    one_more = bool(case.offsets) and all(offset == 1 for offset in case.offsets)
    if case.offsets and not one_more:
        return cause_tested("DOUBLED_START", False, words.TRIED_COUNTS, words.longer(case.offsets))
    if isinstance(case.local, str):
        if not one_more:
            return untested("DOUBLED_START", words.no_counts_either(case.local))
        chance, seen = _by_counts(case)
        return cause_tested("DOUBLED_START", True, words.TRIED_COUNTS, seen, chance=chance)
    start = case.local.model.loaded.tokenizer.bos_token_id
    if start is None:
        return None
    render = _rendered(case.local)
    given = case.reproduced(case.local.answers(case.prompts, case.decoding, lambda prompt: [start, *render(prompt)]))
    seen = words.of_second_start(given.hits, case.n, case.offsets)
    return cause_tested("DOUBLED_START", given.alike, words.TRIED_SECOND_START, seen, chance=given.chance)


def template(case: Case) -> CauseTested:
    """Do the measured weights answer so with the well-known template whose prompts have the most nearly as many tokens as the
    server counts? Else the counts show whether prompts differ where texts do.
    """
    if case.explained:
        return untested("TEMPLATE", words.EXPLAINED)
    if not case.offsets:
        return untested(
            "TEMPLATE", words.no_counts_either(case.local) if isinstance(case.local, str) else words.longer([])
        )
    chance, seen = _by_counts(case)
    tried, nearest = words.TRIED_COUNTS, None if isinstance(case.local, str) else _nearest_template(case, case.local)
    if nearest is not None:
        name, given = nearest
        tried, reproduced = words.TRIED_TEMPLATE, words.of_template(given.hits, case.n, name)
        if given.alike and given.chance <= EACH:
            return cause_tested("TEMPLATE", True, tried, reproduced)
        seen = words.both_seen(seen, reproduced)
    return cause_tested("TEMPLATE", case.most(_nonzero(case.offsets)), tried, seen, chance=chance, level=EACH)


def _nonzero(offsets: Iterable[int]) -> int:
    return sum(offset != 0 for offset in offsets)


def _by_counts(case: Case) -> tuple[float, str]:
    """What the counts of all answers show, and the chance of as much if the server renders prompts as measured and only counts
    otherwise. Where it counts some as measured: that so many of the others differ. Where it counts none so: that more texts differ
    than rounding changes even if all are near a tie, half of them.
    """
    counted = [
        (served.same_text, more) for served in case.answers if (more := more_tokens(served, case.system)) is not None
    ]
    other, same = ([more for is_same, more in counted if is_same == wanted] for wanted in (False, True))
    seen = words.and_same_texts(words.longer(case.offsets), _nonzero(same), len(same))
    if all(more for _, more in counted):
        return mcnemar_p(len(other), len(same)), seen
    both = _nonzero(other)
    return together_p(both, both + _nonzero(same), len(other), len(counted)), seen


def _rendered(local: Measured) -> Callable[[Prompt], list[int]]:
    tokenizer, arguments = local.model.loaded.tokenizer, local.model.template_kwargs
    return lambda prompt: render_prompt(tokenizer, prompt, template_kwargs=arguments)


def _nearest_template(case: Case, local: Measured) -> tuple[str, Reproduced] | None:
    """The one whose prompts have the most nearly as many tokens as the server counts, and what it gives. Chosen by counts alone:
    the best of many by their answers would often be good by chance.
    """
    tokenizer = local.model.loaded.tokenizer
    own_template = template_of(tokenizer, local.model.template_kwargs)
    own = _rendering(tokenizer, own_template, prompt=True)
    renderings: dict[str, Callable[[Prompt], list[int]]] = {
        "the model's own, without the opening of the answer": _rendering(tokenizer, own_template, prompt=False),
        "the model's own, with the system prompt inside the first user turn": lambda turns: own(_in_user_turn(turns)),
        **{name: _rendering(tokenizer, ChatTemplate(name, text), prompt=True) for name, text in TEMPLATES.items()},
    }
    counted = [served.answer.prompt_tokens for served in case.differing]
    apart: dict[str, int] = {}
    for name, render in renderings.items():
        try:
            lengths = [len(render(prompt)) for prompt in case.prompts[: case.n]]
        except LastresortError:  # this tokenizer cannot write it
            continue
        apart[name] = sum(abs(length - count) for length, count in zip(lengths, counted, strict=True))
    nearest = min(apart, key=apart.__getitem__, default=None)
    if nearest is None:
        return None
    try:
        return nearest, case.reproduced(local.answers(case.prompts, case.decoding, renderings[nearest]))
    except LastresortError:  # too long for the model
        return None


def _rendering(tokenizer: ChatTokenizer, chat: ChatTemplate, *, prompt: bool) -> Callable[[Prompt], list[int]]:
    return lambda turns: token_ids(tokenizer, chat, turns, prompt=prompt)


def _in_user_turn(prompt: Prompt) -> Prompt:
    system = "\n\n".join(turn.content for turn in prompt if turn.role == "system")
    first, *others = _without_system(prompt) or (Message("user", ""),)
    if not system:
        return prompt
    return (replace(first, content=f"{system}\n\n{first.content}"), *others)


TEMPLATES: dict[str, str] = {  # of well-known models, and what servers do without one
    "ChatML": (
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
        "<|im_start|>assistant\n"
    ),
    "ChatML with a default system prompt": (
        "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
        "<|im_start|>assistant\n"
    ),
    "Llama 2": (
        "{% for m in messages %}{% if m['role'] == 'system' %}[INST] <<SYS>>\n{{ m['content'] }}\n<</SYS>>\n\n"
        "{% elif m['role'] == 'user' %}{% if loop.first or messages[loop.index0 - 1]['role'] != 'system' %}[INST] {% endif %}"
        "{{ m['content'] }} [/INST]{% else %} {{ m['content'] }} {% endif %}{% endfor %}"
    ),
    "Llama 3": (
        "{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n{{ m['content'] }}<|eot_id|>"
        "{% endfor %}<|start_header_id|>assistant<|end_header_id|>\n\n"
    ),
    "Zephyr": (
        "{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}{{ eos_token }}\n{% endfor %}<|assistant|>\n"
    ),
    "Alpaca": (
        "{% for m in messages %}{% if m['role'] == 'system' %}{{ m['content'] }}\n\n{% elif m['role'] == 'user' %}"
        "### Instruction:\n{{ m['content'] }}\n\n{% else %}### Response:\n{{ m['content'] }}\n\n{% endif %}{% endfor %}"
        "### Response:\n"
    ),
    "Vicuna": (
        "{% for m in messages %}{% if m['role'] == 'system' %}{{ m['content'] }} {% elif m['role'] == 'user' %}"
        "USER: {{ m['content'] }} {% else %}ASSISTANT: {{ m['content'] }}</s>{% endif %}{% endfor %}ASSISTANT:"
    ),
    "text with role names": "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant:",
    "text without roles": ("{% for m in messages %}{{ m['content'] }}{% if not loop.last %}\n{% endif %}{% endfor %}"),
}
