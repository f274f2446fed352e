"""How a model's folder renders conversations, told from its tokenizer alone: a mismatch is found before weights are loaded."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lastresort.data.chat_template import template_of
from lastresort.data.rendering import render_prompt, stop_token_ids
from lastresort.embedded import quiet_transformers
from lastresort.errors import DataError, TaskError
from lastresort.types import Message

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


def rendering_of(folder: Path, template_kwargs: Mapping[str, Any]) -> str:
    """Hash of the chat template with its arguments, of the special tokens that it may print, and of two conversations in tokens.

    Raises TaskError where the folder holds no tokenizer that can be read.
    """
    from transformers import AutoTokenizer

    try:
        with quiet_transformers():
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        raise TaskError(
            f"its tokenizer cannot be read ({type(error).__name__})",
            where=str(folder),
            expected="a tokenizer as transformers saves it",
            remedy="Save it again with save_pretrained.",
        ) from error
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


def _rendered(tokenizer: Any, probe: tuple[Message, ...], template_kwargs: Mapping[str, Any]) -> list[int] | None:
    try:
        return render_prompt(tokenizer, probe, template_kwargs=template_kwargs)
    except DataError:  # a template may refuse some turns; then the other's must, too
        return None
