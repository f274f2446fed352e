"""A named template on a model that has another: what is trained is then not what the model is asked with."""

from __future__ import annotations

from lastresort.data.chat_template import rendered_text, template_of
from lastresort.errors import DataError
from lastresort.models.tokenizer import ModelTokenizer
from lastresort.neighbours.given import Given
from lastresort.neighbours.llamafactory.templates import Writing
from lastresort.neighbours.llamafactory.turns import Aligned, Turn
from lastresort.spec.wording import shortened
from lastresort.types import Message

_QUESTION, _ANSWER = "Why?", "Because."


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
        theirs = rendered_text(tokenizer, own, messages, prompt=True).removeprefix(tokenizer.bos_token or "")
    except DataError:
        return
    prompt, _ = writing.answered(Aligned("", (Turn("user", _QUESTION),), (Turn("assistant", _ANSWER),), None, "", ""))
    end = tokenizer.eos_token or ""
    ours = "".join(segment["text"] + (end if segment.get("end") else "") for segment in prompt)
    if ours != theirs:
        given.remark(
            "template",
            "trap",
            f"template: {name} asks {shortened(ours, 200)} where the model's own chat template asks {shortened(theirs, 200)}: what "
            "is trained here must be asked in the same words, which serve, chat and the gate do not do.",
        )
