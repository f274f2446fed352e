"""For every template: what is asked is how the training row begins, and what is trained is what was to be said."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_support import CHATML, GEMMA, LLAMA3, MISTRAL, merging_tokenizer
from lastresort.data.rendering import render_prompt, render_training, stop_token_ids
from lastresort.types import Message

TEMPLATES = {"chatml": CHATML, "llama3": LLAMA3, "gemma": GEMMA, "mistral": MISTRAL, "plain": None}
TOKENIZERS = {name: merging_tokenizer(template) for name, template in TEMPLATES.items()}
# Templates trim, and guards refuse what joins with the header: the words stand alone, spaces only between them.
TEXT = st.lists(st.text("abyzäß5.,:{}\"'€", min_size=1, max_size=6), min_size=1, max_size=4).map(" ".join)
PAIRS = st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=3)


def turns_of(pairs: list[tuple[str, str]], system: str | None) -> list[Message]:
    turns = [Message("system", system)] if system else []
    for question, answer in pairs:
        turns += [Message("user", question), Message("assistant", answer)]
    return turns


@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", TEMPLATES)
@settings(max_examples=60, deadline=None)
@given(pairs=PAIRS, system=st.one_of(st.none(), TEXT))
def test_prompt_is_a_prefix_and_targets_are_the_answers(
    name: str, pairs: list[tuple[str, str]], system: str | None
) -> None:
    tokenizer = TOKENIZERS[name]
    turns = turns_of(pairs, system)
    rendered = render_training(tokenizer, turns)
    prompt = render_prompt(tokenizer, turns[:-1])
    assert list(rendered.ids[: len(prompt)]) == prompt
    assert len(rendered.ids) == len(rendered.targets)

    said, end = [], stop_token_ids(tokenizer)[0]
    run: list[int] = []
    for token, target in zip(rendered.ids, rendered.targets, strict=True):
        if target:
            run.append(token)
        elif run:
            said.append(run)
            run = []
    said += [run] if run else []
    assert [piece[-1] for piece in said] == [end] * len(pairs)
    assert [tokenizer.decode(piece[:-1]).strip() for piece in said] == [answer for _, answer in pairs]

    last = render_training(tokenizer, turns, trained_turns="last")
    assert last.ids == rendered.ids
    assert [i for i, t in enumerate(last.targets) if t] == [
        i for i, t in enumerate(rendered.targets) if t and i >= len(prompt)
    ]
