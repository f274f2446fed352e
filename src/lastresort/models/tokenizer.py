"""A model's tokenizer and context length, read without the weights, and a fingerprint of how it renders conversations.

The fingerprint shows whether training, measuring, the gate and serving render alike.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lastresort.data.chat_template import template_of
from lastresort.data.rendering import render_prompt, stop_token_ids
from lastresort.errors import DataError, TaskError
from lastresort.libraries import loading, without_length_warning
from lastresort.models.open import local_weights
from lastresort.types import Message


@dataclass(frozen=True, slots=True)
class ModelTokenizer:
    """context_tokens: None if unknown."""

    tokenizer: Any
    context_tokens: int | None


def read_tokenizer(folder: Path | str) -> ModelTokenizer:
    """Read from a folder, or from the cache of a hub id. Raises TaskError if it cannot be loaded."""
    from transformers import AutoConfig

    from lastresort.models.loading import context_tokens

    tokenizer = _read_tokenizer(folder)
    with _tokenizer_loading(folder):
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    return ModelTokenizer(without_length_warning(tokenizer), context_tokens(config, tokenizer))


def _read_tokenizer(folder: Path | str) -> Any:
    from transformers import AutoTokenizer

    with _tokenizer_loading(folder):
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def _tokenizer_loading(folder: Path | str) -> AbstractContextManager[None]:
    return loading(
        folder,
        "a tokenizer as save_pretrained writes it",
        of="the tokenizer",
        remedy="Save it again with save_pretrained, or name another model.",
    )


def tokenizer_on_disk(name: str, base_folder: Path) -> ModelTokenizer | None:
    """The tokenizer of this model, if it is on this machine and can be loaded, else None. Nothing is downloaded."""
    from lastresort.models.loading import weights_folder

    try:
        place = local_weights(name, base_folder)
        return read_tokenizer(weights_folder(place) if isinstance(place, Path) else place)
    except TaskError:
        return None


TOKENIZER = "tokenizer_config.json"
_NEVER_PRINTED = {"pad_token"}  # trainers set it to what they like, and no conversation holds it
_PROBES = (
    (Message("user", "What is 12 x 7?"),),
    (
        Message("system", "Answer in one word."),
        Message("user", "Is it día?\n"),
        Message("assistant", "No."),
        Message("user", "Why?"),
    ),
)


def read_rendering_fingerprint(folder: Path, template_kwargs: Mapping[str, Any]) -> str:
    """`rendering_fingerprint` of the tokenizer in a folder. Raises TaskError if it cannot be loaded."""
    return rendering_fingerprint(_read_tokenizer(folder), template_kwargs)


def rendering_fingerprint(tokenizer: Any, template_kwargs: Mapping[str, Any]) -> str:
    """Hash of the chat template with its arguments, of the special tokens that it may print, and of two conversations in tokens.

    Two models with the same fingerprint see, and were trained on, the same text for the same conversation.
    """
    template = template_of(tokenizer, template_kwargs)
    special = {name: str(token) for name, token in tokenizer.special_tokens_map.items() if name not in _NEVER_PRINTED}
    parts = [
        template.name,
        template.text,
        dict(template.arguments),
        special,
        [_rendered(tokenizer, probe, template_kwargs) for probe in _PROBES],
        list(stop_token_ids(tokenizer, template_kwargs=template_kwargs)),
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def refuse_other_tokenizer(adapter: Path, base: Path, template_kwargs: Mapping[str, Any]) -> None:
    """Raises TaskError if the adapter's own tokenizer renders differently from that of its base, which is the one in use."""
    if not (adapter / TOKENIZER).is_file():
        return
    own, used = read_rendering_fingerprint(adapter, template_kwargs), read_rendering_fingerprint(base, template_kwargs)
    if own != used:
        raise TaskError(
            f"the chat template or the special tokens of {adapter} differ from those of {base}",
            where=str(adapter / TOKENIZER),
            expected=f"the rendering {own[:16]} that it was trained with, not {used[:16]}",
            remedy="Put the template that it was trained with into the base's folder, or train it again.",
        )


def _rendered(tokenizer: Any, probe: tuple[Message, ...], template_kwargs: Mapping[str, Any]) -> list[int] | None:
    try:
        return render_prompt(tokenizer, probe, template_kwargs=template_kwargs)
    except DataError:  # a template may refuse some turns; then the other one must, too
        return None
