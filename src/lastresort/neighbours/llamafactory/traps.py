"""A named template on a model that has another: what is trained is then not what the model is asked with."""

from __future__ import annotations

import json

from lastresort.data.chat_template import rendered_text, start_of_text, template_of
from lastresort.errors import DataError
from lastresort.models.tokenizer import ModelTokenizer
from lastresort.neighbours.given import Given
from lastresort.neighbours.llamafactory.templates import Writing
from lastresort.neighbours.llamafactory.turns import Aligned, Turn
from lastresort.types import Message

_QUESTION, _ANSWER = "Why?", "Because."
_SHOWN, _BEFORE = 200, 60


def name_own_template(given: Given, name: str, writing: Writing, base: ModelTokenizer | None) -> None:
    """Says whether the model's own chat template writes other text, and what is added to answers without a thought."""
    if writing.template.thinks:
        given.remark(
            "enable_thinking" if "enable_thinking" in given else "template",
            "trap",
            "An empty <think></think> is put before every answer that has none, "
            f"{'and trained' if writing.thinking else 'as part of the prompt'}, as LLaMA-Factory does; "
            "another template, such as qwen3_nothink, adds none.",
        )
    if base is None:
        return
    tokenizer = base.tokenizer
    try:
        own = template_of(tokenizer, None)
        messages = (Message("user", _QUESTION),)
        theirs = rendered_text(tokenizer, own, messages, prompt=True)
    except DataError:
        return
    prompt, _ = writing.answered(Aligned("", (Turn("user", _QUESTION),), (Turn("assistant", _ANSWER),), None, "", ""))
    end = tokenizer.eos_token or ""
    text = "".join(segment["text"] + (end if segment.get("end") else "") for segment in prompt)
    start = start_of_text(tokenizer)
    ours = text if text.startswith(start) else start + text
    if ours != theirs:
        pairs = enumerate(zip(ours, theirs, strict=False))
        at = next((number for number, (one, other) in pairs if one != other), min(len(ours), len(theirs)))
        given.remark(
            "template",
            "trap",
            f"template: {name} asks {shown(ours, at)} where the model's own chat template asks {shown(theirs, at)}: what "
            "is trained here must be asked in the same words, which chat and the gate do not do.",
        )


def shown(text: str, at: int) -> str:
    """The text with its special tokens; of a long one what is around the first difference."""
    start = max(0, min(at - _BEFORE, len(text) - _SHOWN))
    stop = start + _SHOWN
    quoted = json.dumps(text[start:stop], ensure_ascii=False)
    return f"{'…' if start else ''}{quoted}{'…' if stop < len(text) else ''}"
