"""The Ollama Modelfile beside a GGUF.

Ollama renders with a Go template, not with the file's Jinja. One is written only where it gives the same text as the model's
own template on conversations of several turns; elsewhere Ollama chooses by itself, and the file says so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from lastresort.data.chat_template import Template, rendered_text, template_of
from lastresort.types import Message


@dataclass(frozen=True, slots=True)
class Style:
    """A way of writing turns: as Go template, and the same in Python. stop: ends an answer."""

    go: str
    turn: Callable[[str, str], str]
    opening: str
    stop: str
    start: str = ""


CHATML = Style(
    go="{{- range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}<|im_start|>assistant\n",
    turn=lambda role, text: f"<|im_start|>{role}\n{text}<|im_end|>\n",
    opening="<|im_start|>assistant\n",
    stop="<|im_end|>",
)
LLAMA3 = Style(
    go="{{- range .Messages }}<|start_header_id|>{{ .Role }}<|end_header_id|>\n\n{{ .Content }}<|eot_id|>{{ end }}"
    "<|start_header_id|>assistant<|end_header_id|>\n\n",
    turn=lambda role, text: f"<|start_header_id|>{role}<|end_header_id|>\n\n{text}<|eot_id|>",
    opening="<|start_header_id|>assistant<|end_header_id|>\n\n",
    stop="<|eot_id|>",
    start="<|begin_of_text|>",
)
STYLES = (CHATML, LLAMA3)
_TALKS = (
    ("user",),
    ("system", "user"),
    ("user", "assistant", "user"),
    ("system", "user", "assistant", "user", "assistant", "user"),
)


def modelfile(gguf_name: str, tokenizer: Any) -> str:
    """The text of the Modelfile: the GGUF, the template where one is known, the stop token, and greedy answers as measured."""
    lines = [f"FROM ./{gguf_name}"]
    template = template_of(tokenizer, {})
    for style in STYLES:
        system = _default_system(style, tokenizer, template)
        if _writes_alike(style, tokenizer, template, system):
            lines.append(f'TEMPLATE """{style.go}"""')
            if system is not None:
                lines.append(f'SYSTEM """{system}"""')
            lines.append(f'PARAMETER stop "{style.stop}"')
            break
    else:
        lines.append("# Ollama takes the chat template that is in the GGUF, as far as it knows it: compare an answer.")
        if tokenizer.eos_token:
            lines.append(f'PARAMETER stop "{tokenizer.eos_token}"')
    lines.append("PARAMETER temperature 0")
    return "\n".join(lines) + "\n"


def _default_system(style: Style, tokenizer: Any, template: Template) -> str | None:
    """The system turn that the template adds by itself."""
    user = style.turn("user", "Q")
    text = rendered_text(tokenizer, template, (Message("user", "Q"),), prompt=True).removeprefix(style.start)
    before, after = style.turn("system", "\0").split("\0")
    if text.startswith(before) and text.endswith(after + user + style.opening):
        return text.removeprefix(before).removesuffix(after + user + style.opening)
    return None


def _writes_alike(style: Style, tokenizer: Any, template: Template, system: str | None) -> bool:
    return all(_expected(style, talk, system) == _rendered(style, tokenizer, template, talk) for talk in _TALKS)


def _expected(style: Style, talk: Sequence[str], system: str | None) -> str:
    turns = [style.turn(role, f"text {i} of {role}") for i, role in enumerate(talk)]
    if system is not None and talk[0] != "system":
        turns.insert(0, style.turn("system", system))
    return "".join(turns) + style.opening


def _rendered(style: Style, tokenizer: Any, template: Template, talk: Sequence[Any]) -> str:
    turns = tuple(Message(role, f"text {i} of {role}") for i, role in enumerate(talk))
    return rendered_text(tokenizer, template, turns, prompt=True).removeprefix(style.start)
