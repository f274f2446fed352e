"""Masks of text in segments, one token a line: `#` is trained, `.` is context."""

from __future__ import annotations

from typing import Any

import pytest

from data_support import CHATML, masks, merging_tokenizer, word_tokenizer
from lastresort.data.formats.rows import RawRow
from lastresort.data.rendering import render_training
from lastresort.data.segments import Segment, prompt_text, read_segment_pair, read_segments, render_segments
from lastresort.errors import DataError
from lastresort.types import Message

ASKED, ANSWERED = Segment("<|im_start|> hi yo"), Segment(" ok now", train=True, end=True)
MASK = r"""
.  '<|im_start|>'
.  ' hi'
.  ' yo'
#  ' ok'
#  ' now'
#  '</s>'
"""
SEVERAL = r"""
.  'hi'
.  ' yo'
.  '</s>'
#  ' ok'
.  '\n'
"""


def row(**values: Any) -> RawRow:
    return RawRow(values, 3, "rows.jsonl, row 3")


def test_the_answer_and_its_end_token_are_trained() -> None:
    assert masks(word_tokenizer(CHATML), render_segments(word_tokenizer(CHATML), (ASKED, ANSWERED))) == MASK.strip()


def test_every_segment_says_itself_whether_it_is_trained() -> None:
    segments = (Segment("hi", train=True), Segment(" yo", end=True), Segment(" ok", train=True), Segment("\n"))
    found = render_segments(word_tokenizer(None), segments)
    assert found.targets == (False, False, False, True, False)  # nothing stands before the first token
    assert masks(word_tokenizer(None), found) == SEVERAL.strip()


def test_a_begin_of_text_token_stands_once_where_the_tokenizer_puts_it() -> None:
    tokenizer = merging_tokenizer(None, bos_first=True)
    plain = render_segments(merging_tokenizer(None), (Segment("q"), Segment("a", train=True, end=True)))
    found = render_segments(tokenizer, (Segment("q"), Segment("a", train=True, end=True)))
    assert found.ids == (tokenizer.bos_token_id, *plain.ids)
    assert found.targets == (False, *plain.targets)
    assert render_segments(tokenizer, (Segment("<s>q"), Segment("a", train=True, end=True))) == found
    trained = render_segments(tokenizer, (Segment("qa", train=True),))
    assert trained.targets == (False, True, True)
    with pytest.raises(DataError, match="twice"):
        render_segments(tokenizer, (Segment("<s><s>q"), Segment("a", train=True)))


def test_an_end_token_that_the_text_has_is_not_put_again() -> None:
    tokenizer = word_tokenizer(None)
    written = render_segments(tokenizer, (Segment("hi"), Segment(" ok</s>", train=True, end=True)))
    assert written == render_segments(tokenizer, (Segment("hi"), Segment(" ok", train=True, end=True)))


def test_a_conversation_in_segments_is_the_one_that_its_template_renders() -> None:
    tokenizer = word_tokenizer(CHATML, eos_token="<|im_end|>")
    segments = (
        Segment("<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"),
        Segment("ok now", train=True, end=True),
        Segment("\n"),
    )
    rendered = render_training(tokenizer, [Message("user", "hi"), Message("assistant", "ok now")])
    assert render_segments(tokenizer, segments) == rendered


def test_of_a_pair_both_answers_are_trained_behind_one_prompt() -> None:
    answers = {"chosen_segments": [{"text": " ok", "end": True}], "rejected_segments": [{"text": " bye"}]}
    chosen, rejected = read_segment_pair(row(segments=[{"text": "hi"}, {"text": " yo"}], **answers))
    assert chosen == (Segment("hi"), Segment(" yo"), Segment(" ok", train=True, end=True))
    assert rejected == (Segment("hi"), Segment(" yo"), Segment(" bye", train=True))
    assert prompt_text(chosen) == prompt_text(rejected) == "hi yo"


WRONG: dict[str, tuple[Any, str]] = {
    "no list": ("text", 'row 3, key "segments": found text, expected a list of segments'),
    "an empty list": ([], 'key "segments": found a list of 0'),
    "a text": (["text"], r'key "segments\[0\]": found text, expected a segment'),
    "no text": ([{"train": True}], "found the keys train"),
    "another key": ([{"text": "a", "label": True}], r'key "segments\[0\].label": found the unknown key "label"'),
    "no truth": ([{"text": "a", "train": "yes"}], "found text, expected true or false"),
    "a prompt alone": ([{"text": "a"}], "every token is masked"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_named(name: str) -> None:
    value, told = WRONG[name]
    with pytest.raises(DataError, match=told):
        read_segments(row(segments=value))


def test_a_trained_prompt_of_a_pair_is_refused() -> None:
    answers = {"chosen_segments": [{"text": " ok"}], "rejected_segments": [{"text": " bye"}]}
    with pytest.raises(DataError, match="the prompt of a pair, which is never trained"):
        read_segment_pair(row(segments=[{"text": "a", "train": True}], **answers))


def test_text_that_ends_needs_an_end_token() -> None:
    tokenizer = word_tokenizer(CHATML)
    tokenizer.eos_token = None
    with pytest.raises(DataError, match="the model has no end-of-text token"):
        render_segments(tokenizer, (ASKED, ANSWERED), where="rows.jsonl, row 3")
