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
from lastresort.types import Message
from lastresort.verify.causes.case import Case, Measured, found, untested


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
        return untested("SYSTEM_PROMPT", "these prompts are nothing but a system turn")
    replies = case.replies(bare[: case.n])
    same = case.as_served([case.text(reply) for reply in replies])
    counts = [
        (reply.prompt_tokens, before.prompt_tokens)
        for reply, before in zip(replies, case.again, strict=True)
        if reply.prompt_tokens is not None and before.prompt_tokens is not None
    ]
    seen, tried = f"{words.of_tried(same, case.n)} are the same without the system turn", _WITHOUT
    if counts:
        unread = not any(now != before for now, before in counts)
        seen += f", and the server counts {'as many' if unread else 'other'} prompt tokens without it"
        return found("SYSTEM_PROMPT", case.most(same) and unread, tried, seen)
    if isinstance(case.local, str):  # a model may answer the same with and without it
        return untested("SYSTEM_PROMPT", f"{words.longer([])}, and {case.local}")
    given, explains = case.reproduced(case.local.answers(bare, case.decoding))
    seen += f", and {words.reproduced(given, case.n, 'without it')}"
    return found("SYSTEM_PROMPT", explains, tried, seen)


_WITHOUT = "the same requests without their system turn"


def _whole_prompt(case: Case) -> CauseTested:
    if case.same_counts:
        return found("SYSTEM_PROMPT", False, _COUNTS, words.longer(case.offsets))
    replies = case.replies(case.prompts[: case.n], case.decoding)
    right = case.as_recorded([case.text(reply, case.decoding) for reply in replies])
    anyway = case.as_recorded([case.text(reply) for reply in case.again])  # as where rounding depends on the batch
    seen = f"{words.of_tried(right, case.n)} are as measured once the server gets the whole prompt"
    seen += f", and {anyway} if the same is sent again" if anyway else ""
    tried = "the winner's whole prompt in place of the input alone"
    return found("SYSTEM_PROMPT", case.most(right - anyway), tried, seen, remedy=words.SEND_PROMPT)


def _without_system(prompt: Prompt) -> Prompt:
    return tuple(turn for turn in prompt if turn.role != "system")


def doubled_start(case: Case) -> CauseTested | None:
    """One token more in each prompt, and the measured weights answer so with a begin-of-text token before their prompt?"""
    one_more = bool(case.offsets) and all(offset == 1 for offset in case.offsets)
    if case.same_counts:
        return found("DOUBLED_START", False, _COUNTS, words.longer(case.offsets))
    if isinstance(case.local, str):
        if not case.offsets:
            return untested("DOUBLED_START", f"{words.longer([])}, and {case.local}")
        return found("DOUBLED_START", one_more, _COUNTS, words.longer(case.offsets))
    start = case.local.model.loaded.tokenizer.bos_token_id
    if start is None:
        return None
    render = _rendered(case.local)
    texts = case.local.answers(case.prompts, case.decoding, lambda prompt: [start, *render(prompt)])
    same, explains = case.reproduced(texts)
    seen = f"{words.reproduced(same, case.n, 'after a second one')}, and {words.longer(case.offsets)}"
    tried = "the measured weights with one more begin-of-text token, and counts of prompt tokens"
    return found("DOUBLED_START", explains, tried, seen)


def template(case: Case) -> CauseTested:
    """Do the measured weights answer so with another well-known template? Else the counts of tokens show whether prompts differ."""
    if case.explained:
        return untested("TEMPLATE", "another cause explains the differences")
    counted = words.longer(case.offsets)
    if case.same_counts:
        return found("TEMPLATE", False, _COUNTS, counted)
    if isinstance(case.local, str):
        if not case.offsets:
            return untested("TEMPLATE", f"{counted}, and {case.local}")
    else:
        known = next((tried for tried in _templates(case, case.local) if tried[2]), None)
        if known is not None:
            seen = words.reproduced(known[1], case.n, f"to prompts rendered as {known[0]}")
            return found("TEMPLATE", True, _TEMPLATES_TRIED, seen)
    if not case.offsets:
        return found(
            "TEMPLATE", False, _TEMPLATES_TRIED, f"no template that was tried gives these answers, and {counted}"
        )
    return found("TEMPLATE", True, _TEMPLATES_TRIED, f"{counted}, so it renders or cuts prompts otherwise")


_COUNTS = "its counts of prompt tokens"
_TEMPLATES_TRIED = "other templates with the measured weights, and counts of prompt tokens"


def _rendered(local: Measured) -> Callable[[Prompt], list[int]]:
    tokenizer, arguments = local.model.loaded.tokenizer, local.model.template_kwargs
    return lambda prompt: render_prompt(tokenizer, prompt, template_kwargs=arguments)


def _templates(case: Case, local: Measured) -> Iterator[tuple[str, int, bool]]:
    """Each with how many of the server's answers it gives, and whether it explains them."""
    tokenizer = local.model.loaded.tokenizer
    own = template_of(tokenizer, local.model.template_kwargs)
    renderings = {
        "the model's own, without the opening of the answer": _rendering(tokenizer, own, prompt=False),
        _IN_USER: _rendering(tokenizer, own, prompt=True),
        **{name: _rendering(tokenizer, ChatTemplate(name, text), prompt=True) for name, text in TEMPLATES.items()},
    }
    for name, render in renderings.items():
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
