"""The guards of rendering, stop tokens, system turns and the hash. The masks themselves are in tests/golden."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from data_support import CHATML, GEMMA, LLAMA3, MISTRAL, QWEN3, merging_tokenizer, word_tokenizer
from lastresort.data.chat_template import PLAIN_NAME, template_of
from lastresort.data.rendering import (
    Rendered,
    mask_lines,
    render_prompt,
    render_training,
    stop_token_ids,
    template_hash,
    training_messages,
)
from lastresort.errors import DataError
from lastresort.types import Example, Message

HI, YO = Message("user", "hi"), Message("assistant", "yo")
BYE, OK = Message("user", "bye"), Message("assistant", "ok now")
SPACED = (
    "{% for m in messages %}{{ m['role'] + ': ' + m['content'] }}"
    "{% if m['role'] == 'assistant' %}{{ eos_token }}{% endif %}{{ '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)


def trained(tokenizer: Any, rendered: Rendered) -> str:
    return "".join(tokenizer.decode([i]) for i, t in zip(rendered.ids, rendered.targets, strict=True) if t)


def text_of(tokenizer: Any, ids: list[int]) -> str:
    return "".join(tokenizer.decode([token]) for token in ids)


@pytest.mark.parametrize(
    ("template", "special", "names"),
    [
        (CHATML, {"eos_token": "<|im_end|>"}, ["<|im_end|>"]),
        (CHATML, {}, ["<|im_end|>", "</s>"]),
        (LLAMA3, {}, ["<|eot|>", "</s>"]),
        (GEMMA, {}, ["</turn>", "</s>"]),
        (MISTRAL, {}, ["</s>"]),
        (QWEN3, {}, ["<|im_end|>", "</s>"]),
        (None, {}, ["</s>"]),
        (SPACED.replace("{{ eos_token }}", ""), {}, ["</s>"]),
    ],
)
def test_stop_tokens_come_from_the_template(template: str | None, special: dict[str, Any], names: list[str]) -> None:
    tokenizer = word_tokenizer(template, **special)
    assert stop_token_ids(tokenizer) == tuple(tokenizer.convert_tokens_to_ids(names))


def test_only_the_last_turn_by_choice() -> None:
    tokenizer = word_tokenizer(CHATML)
    assert trained(tokenizer, render_training(tokenizer, (HI, YO, BYE, OK))) == "yo<|im_end|>ok now<|im_end|>"
    assert trained(tokenizer, render_training(tokenizer, (HI, YO, BYE, OK), trained_turns="last")) == "ok now<|im_end|>"


@pytest.mark.parametrize("mark", [{"weight": 0}, {"train": False}, {"loss_weight": 0.0}])
def test_a_turn_marked_as_context_is_not_trained(mark: dict[str, Any]) -> None:
    tokenizer = word_tokenizer(CHATML)
    rendered = render_training(tokenizer, (HI, Message("assistant", "yo", mark), BYE, OK))
    assert trained(tokenizer, rendered) == "ok now<|im_end|>"


def test_a_greeting_that_answers_nothing_is_context() -> None:
    tokenizer = word_tokenizer(CHATML)
    assert trained(tokenizer, render_training(tokenizer, (YO, HI, OK))) == "ok now<|im_end|>"


@pytest.mark.parametrize("messages", [(HI,), (YO, HI), (HI, Message("assistant", "yo", {"weight": 0}))])
def test_guard_all_masked(messages: tuple[Message, ...]) -> None:
    tokenizer = word_tokenizer(CHATML)
    with pytest.raises(DataError, match=r"a.jsonl, row 3: every token is masked"):
        render_training(tokenizer, messages, where="a.jsonl, row 3")


def test_guard_stop_token_never_trained() -> None:
    tokenizer = word_tokenizer(CHATML.replace("<|im_end|>", ""))
    with pytest.raises(DataError, match=r"row 3: the end token of turn 2 would never be trained.*eos_token"):
        render_training(tokenizer, (HI, YO), where="a.jsonl, row 3")


def test_guard_doubled_start() -> None:
    tokenizer = word_tokenizer("{{ bos_token }}" + LLAMA3)
    for render in (render_prompt, render_training):
        with pytest.raises(DataError, match="begin-of-text token '<s>' twice"):
            render(tokenizer, (HI, YO))
    assert tokenizer.decode(render_prompt(word_tokenizer(LLAMA3), (HI,))).count("<s>") == 1


def test_guard_prompt_whose_tokens_change() -> None:
    """The prompt ends in a space, which the tokenizer joins with the answer's first letter."""
    with pytest.raises(
        DataError, match=r"token 22 begins ' ' in the prompt and ' yo.*Remove the spaces.*in the template"
    ):
        render_training(merging_tokenizer(SPACED), (Message("user", "hi bob"), YO))


def test_guard_answer_that_begins_with_a_line_break() -> None:
    """ChatML's header ends in a line break, which joins another one."""
    tokenizer = merging_tokenizer(CHATML)
    with pytest.raises(DataError, match="Remove the spaces and line breaks"):
        render_training(tokenizer, (HI, Message("assistant", "\nyo")))
    assert trained(tokenizer, render_training(tokenizer, (HI, Message("assistant", " yo")))) == " yo<|im_end|>"


def test_guard_template_that_writes_earlier_turns_differently() -> None:
    with pytest.raises(DataError, match=r"answer of turn 2 .*trained_turns: last"):
        render_training(word_tokenizer(QWEN3), (HI, YO, BYE, OK))


def test_a_literal_end_token_inside_an_answer_does_not_cut_the_mask() -> None:
    tokenizer = word_tokenizer(CHATML)
    rendered = render_training(tokenizer, (HI, Message("assistant", "yo<|im_end|> now"), BYE, OK))
    assert trained(tokenizer, rendered) == "yo<|im_end|> now<|im_end|>ok now<|im_end|>"


def test_turns_that_the_template_refuses_are_named() -> None:
    with pytest.raises(DataError, match=r"row 3: .*refuses the turns user, user.*roles must alternate"):
        render_training(word_tokenizer(MISTRAL), (HI, BYE, OK), where="a.jsonl, row 3")


def test_a_system_turn_that_is_silently_dropped_is_merged_too() -> None:
    dropping = CHATML.replace("{{ '<|im_start|>' + m", "{{ '' if m['role'] == 'system' else '<|im_start|>' + m")
    tokenizer = word_tokenizer(dropping)
    text = text_of(tokenizer, render_prompt(tokenizer, (Message("system", "be brief"), HI)))
    assert text == "<|im_start|>user\nbe brief\n\nhi<|im_end|>\n<|im_start|>assistant\n"


def test_merged_system_turns_go_to_the_next_user_turn() -> None:
    tokenizer = word_tokenizer(GEMMA)
    turns = (Message("system", "be"), Message("system", "brief"), HI, YO, Message("system", "now"), BYE)
    assert text_of(tokenizer, render_prompt(tokenizer, turns)) == (
        "<s><turn>user\nbe\n\nbrief\n\nhi</turn>\n<turn>model\nyo</turn>\n<turn>user\nnow\n\nbye</turn>\n<turn>model\n"
    )
    alone = text_of(tokenizer, render_prompt(tokenizer, (Message("system", "be brief"),)))
    assert alone == "<s><turn>user\nbe brief</turn>\n<turn>model\n"


def test_tool_calls_render_and_are_trained() -> None:
    template = CHATML.replace(
        "m['content'] +", "m['content'] + (m['tool_calls'][0]['name'] if m['tool_calls'] else '') +"
    )
    tokenizer = word_tokenizer(template)
    call = Message("assistant", "", {"tool_calls": [{"name": "now"}]})
    rendered = render_training(tokenizer, (HI, call, Message("tool", "noon"), OK))
    assert trained(tokenizer, rendered) == "now<|im_end|>ok now<|im_end|>"


@pytest.mark.parametrize(("bos_first", "start"), [(True, ["<s>", "#"]), (False, ["#", "#"])])
def test_a_plain_template_starts_as_the_tokenizer_does(bos_first: bool, start: list[str]) -> None:
    tokenizer = merging_tokenizer(None, bos_first=bos_first)
    rendered = render_training(tokenizer, (HI, YO))
    assert [tokenizer.decode([token]) for token in rendered.ids[:2]] == start
    assert template_of(tokenizer, None).name == PLAIN_NAME


def test_no_template_and_no_end_of_text_token() -> None:
    tokenizer = word_tokenizer(None)
    tokenizer.eos_token = None
    with pytest.raises(DataError, match="neither a chat template nor an end-of-text token"):
        render_prompt(tokenizer, (HI,))


def test_a_date_in_the_template_does_not_change_overnight() -> None:
    template = "{{ strftime_now('%d %b %Y') }}{{ strftime_now('%Y-%m-%d') }}" + CHATML
    text = text_of(tokenizer := merging_tokenizer(template), render_prompt(tokenizer, (HI,)))
    assert text.startswith("26 Jul 20242024-07-26<|im_start|>user")
    day = datetime.date(2024, 7, 26)
    assert text.startswith(f"{day:%d %b %Y}{day:%Y-%m-%d}")


def test_template_arguments_reach_the_template_and_cannot_replace_rendering() -> None:
    tokenizer = word_tokenizer(QWEN3)
    plain = render_prompt(tokenizer, (HI,))
    assert render_prompt(tokenizer, (HI,), template_kwargs={"enable_thinking": False})[: len(plain)] == plain
    assert render_prompt(tokenizer, (HI,), template_kwargs={"enable_thinking": False}) != plain
    with pytest.raises(DataError, match=r'chat_template_kwargs: found "tokenize"'):
        render_prompt(tokenizer, (HI,), template_kwargs={"tokenize": False})


def test_the_hash_changes_with_all_that_changes_the_text() -> None:
    base = template_hash(word_tokenizer(QWEN3), None)
    assert base == template_hash(word_tokenizer(QWEN3), {})
    others = {
        template_hash(word_tokenizer(CHATML), None),
        template_hash(word_tokenizer(None), None),
        template_hash(word_tokenizer(QWEN3), {"enable_thinking": False}),
        template_hash(word_tokenizer(QWEN3, eos_token="<|im_end|>"), None),
    }
    assert len(others | {base}) == 5


def test_named_templates_choose_the_default_and_the_one_for_tools() -> None:
    tokenizer = word_tokenizer(None)
    tokenizer.chat_template = {"default": CHATML, "tool_use": LLAMA3}
    assert template_of(tokenizer, None).text == CHATML
    assert template_of(tokenizer, {"tools": [{}]}).text == LLAMA3


def test_mask_lines_are_aligned_and_refuse_unequal_lengths() -> None:
    tokenizer = word_tokenizer(CHATML)
    lines = mask_lines(tokenizer, render_training(tokenizer, (HI, YO, BYE, OK)))
    assert len({line.index("'") for line in lines}) == 1
    with pytest.raises(DataError):
        mask_lines(tokenizer, Rendered((1, 2), (True,)))


def test_training_turns_end_with_the_output() -> None:
    assert training_messages(Example("1", (HI,), "yo")) == (HI, YO)
