"""Masks of pairs and of plain text, one token a line: `#` is trained, `.` is context.

Of a pair only what follows the common prompt is trained, also where the prompt holds earlier answers.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from data_support import CHATML, masks, word_tokenizer
from lastresort.data.files import read_rows
from lastresort.data.plain_text import TextDocument, packed_rows
from lastresort.data.preferences import pairs_of
from lastresort.data.rendering import render_training

CHOSEN_MASK = r"""
.  '<|im_start|>'
.  'user'
.  '\n'
.  'hi'
.  '<|im_end|>'
.  '\n'
.  '<|im_start|>'
.  'assistant'
.  '\n'
.  'yo'
.  '<|im_end|>'
.  '\n'
.  '<|im_start|>'
.  'user'
.  '\n'
.  'bye'
.  '<|im_end|>'
.  '\n'
.  '<|im_start|>'
.  'assistant'
.  '\n'
#  'ok'
#  ' now'
#  '<|im_end|>'
.  '\n'
"""
REJECTED_END = r"""
.  '<|im_start|>'
.  'assistant'
.  '\n'
#  'bye'
#  '<|im_end|>'
.  '\n'
.  '<|im_start|>'
.  'user'
.  '\n'
.  'hi'
.  '<|im_end|>'
.  '\n'
.  '<|im_start|>'
.  'assistant'
.  '\n'
#  'yo'
#  '<|im_end|>'
.  '\n'
"""
# Two documents in rows of four: a row begins with the last token of the one before it.
TEXT_MASKS = (
    r"""
.  'hi'
#  ' yo'
#  '</s>'
#  'ok'
""",
    r"""
.  'ok'
#  ' now'
#  ' be'
#  ' brief'
""",
    r"""
.  ' brief'
#  '</s>'
""",
)


def turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def masks_of(folder: Path, row: dict[str, Any]) -> tuple[str, str]:
    (folder / "rows.jsonl").write_text(json.dumps(row), encoding="utf-8")
    (pair,) = pairs_of(read_rows(folder / "rows.jsonl"))
    tokenizer = word_tokenizer(CHATML, eos_token="<|im_end|>")
    chosen, rejected = (
        masks(tokenizer, render_training(tokenizer, (*pair.prompt, *answer), trained_turns=len(answer)))
        for answer in (pair.chosen, pair.rejected)
    )
    return chosen, rejected


BEFORE = [turn("user", "hi"), turn("assistant", "yo"), turn("user", "bye")]


def test_a_pair_after_earlier_answers(tmp_path: Path) -> None:
    more = [turn("assistant", "bye"), turn("user", "hi"), turn("assistant", "yo")]
    row = {"prompt": BEFORE, "chosen": [turn("assistant", "ok now")], "rejected": more}
    chosen, rejected = masks_of(tmp_path, row)
    assert chosen == CHOSEN_MASK.strip()
    assert rejected.endswith(REJECTED_END.strip())
    assert "#" not in rejected[: -len(REJECTED_END.strip())]


def test_whole_conversations_have_the_same_masks(tmp_path: Path) -> None:
    answers = [turn("assistant", "ok now")], [turn("assistant", "yo")]
    whole = {"chosen": [*BEFORE, *answers[0]], "rejected": [*BEFORE, *answers[1]]}
    assert masks_of(tmp_path, whole) == masks_of(
        tmp_path, {"prompt": BEFORE, "chosen": answers[0], "rejected": answers[1]}
    )


def test_text_in_rows_of_four() -> None:
    tokenizer = word_tokenizer(None)
    packed = packed_rows(tokenizer, [TextDocument("hi yo", ""), TextDocument("ok now be brief", "")], 4)
    assert tuple(masks(tokenizer, row) for row in packed) == tuple(mask.strip() for mask in TEXT_MASKS)
