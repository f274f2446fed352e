"""A tokenizer's chat template, with a fixed date and the turns that it accepts; a plain one for models without a template.

The plain template puts a line break before each answer and the model's end-of-text token after it. Its headings end in a line break
and not in a space, because "Answer: " followed by "yes" has other tokens than "Answer:" followed by " yes". `start` is the
begin-of-text token where the tokenizer puts one before every text, else empty.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from lastresort.data.template_limits import TemplateUnbounded, within_limits
from lastresort.errors import DataError
from lastresort.foreign import reason_of
from lastresort.types import Message

PLAIN_NAME = "lastresort-plain-1"

PLAIN_TEMPLATE = (
    "{{ start }}"
    "{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{ message['content'] + '\\n\\n' }}"
    "{% elif message['role'] == 'assistant' %}{{ '### Answer:\\n' + message['content'] + eos_token }}"
    "{% if not loop.last %}{{ '\\n\\n' }}{% endif %}"
    "{% elif message['role'] == 'tool' %}{{ '### Result:\\n' + message['content'] + '\\n\\n' }}"
    "{% else %}{{ '### Question:\\n' + message['content'] + '\\n\\n' }}"
    "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '### Answer:\\n' }}{% endif %}"
)


# Some templates print today's date. A prompt that changes overnight is neither what was trained nor what was measured,
# so the date is the one that the Llama 3 templates fall back to. `chat_template_kwargs: {date_string: …}` sets another.
_FIXED_DATE = {"%Y": "2024", "%m": "07", "%d": "26", "%b": "Jul", "%B": "July", "%A": "Friday", "%a": "Fri"} | {
    "%y": "24",
    "%H": "00",
    "%M": "00",
    "%S": "00",
    "%-d": "26",
}
RESERVED = frozenset(
    {"conversation", "chat_template", "add_generation_prompt", "continue_final_message", "tokenize", "messages"}
    | {"padding", "truncation", "max_length", "return_tensors", "return_dict", "return_assistant_tokens_mask"}
    | {"tokenizer_kwargs"}
)
_PROBE = "xyzzy"


class ChatTokenizer(Protocol):
    """The part of a transformers tokenizer that rendering needs."""

    chat_template: Any
    eos_token_id: int | None

    def __call__(self, text: str, **kwargs: Any) -> Any: ...
    def apply_chat_template(self, conversation: Any, **kwargs: Any) -> Any: ...
    def decode(self, token_ids: Any, **kwargs: Any) -> Any: ...


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """name: "model" for the tokenizer's own, else the plain one's. text: Jinja. arguments: passed at every rendering."""

    name: str
    text: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


def template_of(tokenizer: ChatTokenizer, template_kwargs: Mapping[str, Any] | None) -> ChatTemplate:
    """The template with which this tokenizer is always rendered.

    Raises DataError if template_kwargs would replace what rendering itself decides, or if a model without a template
    has no end-of-text token either.
    """
    arguments = dict(template_kwargs or {})
    reserved = sorted(RESERVED & set(arguments))
    if reserved:
        raise DataError(
            f'found "{reserved[0]}"',
            where="chat_template_kwargs",
            expected="variables of the chat template, such as enable_thinking",
            remedy="Leave it out.",
        )
    own = tokenizer.chat_template
    if isinstance(own, Mapping):
        own = own.get("tool_use" if arguments.get("tools") and "tool_use" in own else "default")
    if own:
        return ChatTemplate("model", _dated(str(own)), arguments)
    if tokenizer.eos_token_id is None:
        raise DataError(
            "the model has neither a chat template nor an end-of-text token",
            expected="one of them, so that an answer can end",
            remedy="Set eos_token in the model's tokenizer_config.json.",
        )
    return ChatTemplate(PLAIN_NAME, PLAIN_TEMPLATE, {"start": start_of_text(tokenizer), **arguments})


def template_hash(tokenizer: ChatTokenizer, template_kwargs: Mapping[str, Any] | None = None) -> str:
    """Hash of all that turns messages into text: template, arguments, and the special tokens that it may print."""
    template = template_of(tokenizer, template_kwargs)
    special = getattr(tokenizer, "special_tokens_map", {})
    parts = [
        template.name,
        template.text,
        dict(template.arguments),
        {name: str(token) for name, token in special.items()},
    ]
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def token_ids(
    tokenizer: ChatTokenizer, template: ChatTemplate, messages: Sequence[Message], *, prompt: bool, where: str = ""
) -> list[int]:
    """The tokens of a conversation; prompt: with the opening of the answer that is to come."""
    text = _written(tokenizer, template, messages, prompt=prompt, where=where)
    return [int(token) for token in tokenizer(text, add_special_tokens=False)["input_ids"]]


def rendered_text(
    tokenizer: ChatTokenizer, template: ChatTemplate, messages: Sequence[Message], *, prompt: bool
) -> str:
    """The text of which `token_ids` are the tokens."""
    return _written(tokenizer, template, messages, prompt=prompt)


def accepted_turns(
    tokenizer: ChatTokenizer, template: ChatTemplate, messages: Sequence[Message]
) -> tuple[Message, ...]:
    """The turns as they are, or, where the template refuses or drops a system turn, its text before the next user turn."""
    if not any(message.role == "system" for message in messages) or _takes_system(tokenizer, template):
        return tuple(messages)
    return without_system_turns(messages)


def without_system_turns(messages: Sequence[Message]) -> tuple[Message, ...]:
    """The text of each system turn before that of the next user turn."""
    turns: list[Message] = []
    waiting: list[str] = []
    for message in messages:
        if message.role == "system":
            waiting.append(message.content)
        elif waiting and message.role == "user":
            turns.append(replace(message, content="\n\n".join([*waiting, message.content])))
            waiting = []
        else:
            turns += [Message("user", "\n\n".join(waiting))] if waiting else []
            turns.append(message)
            waiting = []
    return (*turns, Message("user", "\n\n".join(waiting))) if waiting else tuple(turns)


def _takes_system(tokenizer: ChatTokenizer, template: ChatTemplate) -> bool:
    probe = (Message("system", _PROBE), Message("user", "a"))
    try:
        return _PROBE in rendered_text(tokenizer, template, probe, prompt=True)
    except DataError:
        return False


def _written(
    tokenizer: ChatTokenizer, template: ChatTemplate, messages: Sequence[Message], *, prompt: bool, where: str = ""
) -> str:
    import jinja2

    roles = ", ".join(message.role for message in messages)
    try:
        found = within_limits(
            template.text,
            lambda: tokenizer.apply_chat_template(
                [message.as_dict() for message in messages],
                chat_template=template.text,
                add_generation_prompt=prompt,
                tokenize=False,
                return_dict=False,
                **template.arguments,
            ),
        )
    except TemplateUnbounded as error:
        raise DataError(
            f"the model's chat template could take, or takes, any time or memory ({error})",
            where=where,
            expected="a template that writes out its turns",
            remedy="Correct chat_template in the model's folder, or name another model.",
        ) from error
    except jinja2.TemplateError as error:
        raise DataError(
            f"the model's chat template refuses the turns {roles} ({error})",
            where=where,
            remedy="Bring the turns into the order that the model was made for.",
        ) from error
    except Exception as error:
        raise DataError(
            f"the model's chat template fails on the turns {roles} ({reason_of(error)})",
            where=where,
            remedy="Correct chat_template in the model's folder, or name another model.",
        ) from error
    return str(found)


def _dated(text: str) -> str:
    """Shadows the clock that transformers offers to templates with a macro; values passed as arguments cannot be called."""
    if "strftime_now" not in text:
        return text
    chain = "".join(f" | replace('{code}', '{value}')" for code, value in _FIXED_DATE.items())
    return f"{{% macro strftime_now(format) %}}{{{{ format{chain} }}}}{{% endmacro %}}\n{text}"


def start_of_text(tokenizer: ChatTokenizer) -> str:
    """The begin-of-text token if the tokenizer puts one before every text, "" if not."""
    first = tokenizer("a")["input_ids"][:1]
    bos = getattr(tokenizer, "bos_token_id", None)
    return str(getattr(tokenizer, "bos_token", "")) if bos is not None and list(first) == [bos] else ""
