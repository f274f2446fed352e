"""Does the model get another prompt? A system prompt that is lost, a second begin-of-text token, another chat template."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from lastresort.data.chat_template import ChatTemplate, ChatTokenizer, template_of, token_ids
from lastresort.data.rendering import render_prompt
from lastresort.errors import LastresortError
from lastresort.models.protocol import Prompt
from lastresort.report.verify import CauseTested
from lastresort.report.words import verify as words
from lastresort.stop import check
from lastresort.types import Message
from lastresort.verify.causes.case import Case, Measured, cause_tested, untested


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
        (reply.prompt_tokens, before.prompt_tokens)
        for reply, before in zip(replies, case.again, strict=True)
        if reply.prompt_tokens is not None and before.prompt_tokens is not None
    ]
    unread = not any(now != before for now, before in counts) if counts else None
    tried = words.TRIED_WITHOUT_SYSTEM
    if unread is not None:
        seen = words.of_system(same, case.n, unread, None)
        return cause_tested("SYSTEM_PROMPT", case.most(same) and unread, tried, seen)
    if isinstance(case.local, str):  # a model may answer the same with and without it
        return untested("SYSTEM_PROMPT", words.no_counts_either(case.local))
    given, explains = case.reproduced(case.local.answers(bare, case.decoding))
    return cause_tested("SYSTEM_PROMPT", explains, tried, words.of_system(same, case.n, None, given))


def _whole_prompt(case: Case) -> CauseTested:
    if case.same_counts:
        return cause_tested("SYSTEM_PROMPT", False, words.TRIED_COUNTS, words.longer(case.offsets))
    right, anyway = case.regained(case.prompts[: case.n], case.decoding)
    seen = words.of_whole_prompt(right, case.n, anyway)
    tried = words.TRIED_WHOLE_PROMPT
    return cause_tested("SYSTEM_PROMPT", case.most(right - anyway), tried, seen, remedy=words.SEND_PROMPT)


def _without_system(prompt: Prompt) -> Prompt:
    return tuple(turn for turn in prompt if turn.role != "system")


def doubled_start(case: Case) -> CauseTested | None:
    """One token more in each prompt, and the measured weights answer so with a begin-of-text token before their prompt?"""
    one_more = bool(case.offsets) and all(offset == 1 for offset in case.offsets)
    if case.same_counts:
        return cause_tested("DOUBLED_START", False, words.TRIED_COUNTS, words.longer(case.offsets))
    if isinstance(case.local, str):
        if not case.offsets:
            return untested("DOUBLED_START", words.no_counts_either(case.local))
        return cause_tested("DOUBLED_START", one_more, words.TRIED_COUNTS, words.longer(case.offsets))
    start = case.local.model.loaded.tokenizer.bos_token_id
    if start is None:
        return None
    render = _rendered(case.local)
    texts = case.local.answers(case.prompts, case.decoding, lambda prompt: [start, *render(prompt)])
    same, explains = case.reproduced(texts)
    seen = words.of_second_start(same, case.n, case.offsets)
    return cause_tested("DOUBLED_START", explains, words.TRIED_SECOND_START, seen)


def template(case: Case) -> CauseTested:
    """Do the measured weights answer so with another well-known template? Else the counts of tokens show whether prompts differ."""
    if case.explained:
        return untested("TEMPLATE", words.EXPLAINED)
    if case.same_counts:
        return cause_tested("TEMPLATE", False, words.TRIED_COUNTS, words.longer(case.offsets))
    if isinstance(case.local, str):
        if not case.offsets:
            return untested("TEMPLATE", words.no_counts_either(case.local))
    else:
        known = next((tried for tried in _templates(case, case.local) if tried[2]), None)
        if known is not None:
            return cause_tested("TEMPLATE", True, words.TRIED_TEMPLATES, words.of_template(known[1], case.n, known[0]))
    if not case.offsets:
        return cause_tested("TEMPLATE", False, words.TRIED_TEMPLATES, words.no_template(case.offsets))
    return cause_tested("TEMPLATE", True, words.TRIED_TEMPLATES, words.other_counts(case.offsets))


def _rendered(local: Measured) -> Callable[[Prompt], list[int]]:
    tokenizer, arguments = local.model.loaded.tokenizer, local.model.template_kwargs
    return lambda prompt: render_prompt(tokenizer, prompt, template_kwargs=arguments)


def _templates(case: Case, local: Measured) -> Iterator[tuple[str, int, bool]]:
    """Each with how many of the server's answers it gives, and whether it explains them."""
    tokenizer = local.model.loaded.tokenizer
    own_template = template_of(tokenizer, local.model.template_kwargs)
    renderings = {
        "the model's own, without the opening of the answer": _rendering(tokenizer, own_template, prompt=False),
        _IN_USER: _rendering(tokenizer, own_template, prompt=True),
        **{name: _rendering(tokenizer, ChatTemplate(name, text), prompt=True) for name, text in TEMPLATES.items()},
    }
    for name, render in renderings.items():
        check(case.stop)
        prompts = [_in_user_turn(prompt) for prompt in case.prompts] if name == _IN_USER else case.prompts
        try:
            yield name, *case.reproduced(local.answers(prompts, case.decoding, render))
        except LastresortError:  # too long for the model, or this tokenizer cannot write it
            continue


def _rendering(tokenizer: ChatTokenizer, chat: ChatTemplate, *, prompt: bool) -> Callable[[Prompt], list[int]]:
    return lambda turns: token_ids(tokenizer, chat, turns, prompt=prompt)


_IN_USER = "the model's own, with the system prompt inside the first user turn"


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
