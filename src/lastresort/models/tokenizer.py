"""A model's tokenizer and its context, read without the weights.

How conversations are rendered, told from a tokenizer alone: by it training, measuring, the gate and serving are compared.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lastresort.data.chat_template import template_of
from lastresort.data.rendering import render_prompt, stop_token_ids
from lastresort.errors import DataError, TaskError
from lastresort.libraries import own_code_refused, quiet_transformers, without_length_warning
from lastresort.models.loading import context_tokens, weights_folder
from lastresort.models.open import local_folder
from lastresort.types import Message


@dataclass(frozen=True, slots=True)
class ModelTokenizer:
    """context_tokens: None where the model does not say."""

    tokenizer: Any
    context_tokens: int | None


def read_tokenizer(folder: Path | str) -> ModelTokenizer:
    """Of a folder, or of a hub id that is in the cache. Raises TaskError where it cannot be loaded."""
    from transformers import AutoConfig, AutoTokenizer

    try:
        with quiet_transformers(), own_code_refused(folder):
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
            config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
        raise TaskError(
            f"the tokenizer cannot be loaded ({type(error).__name__}: {reason[:200]})",
            where=str(folder),
            expected="a causal language model with its tokenizer",
            remedy="Name another.",
        ) from error
    return ModelTokenizer(without_length_warning(tokenizer), context_tokens(config, tokenizer))


def tokenizer_on_disk(name: str, base_folder: Path) -> ModelTokenizer | None:
    """Of the model of this name, if it is on this machine: nothing is fetched. None elsewhere, and where it cannot be loaded."""
    try:
        place = local_folder(name, base_folder)
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


def rendering_of(folder: Path, template_kwargs: Mapping[str, Any]) -> str:
    """`rendering_fingerprint` of the tokenizer in a folder. Raises TaskError where there is none that can be read."""
    from transformers import AutoTokenizer

    try:
        with quiet_transformers(), own_code_refused(folder):
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        raise TaskError(
            f"its tokenizer cannot be read ({type(error).__name__})",
            where=str(folder),
            expected="a tokenizer as transformers saves it",
            remedy="Save it again with save_pretrained.",
        ) from error
    return rendering_fingerprint(tokenizer, template_kwargs)


def rendering_fingerprint(tokenizer: Any, template_kwargs: Mapping[str, Any]) -> str:
    """Hash of the chat template with its arguments, of the special tokens that it may print, and of two conversations in tokens.

    Two models that have it in common are shown, and were trained on, the same text for the same conversation.
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
    """Raises TaskError where the tokenizer that an adapter brings renders otherwise than its base's, by which it is asked."""
    if not (adapter / TOKENIZER).is_file():
        return
    own, shown = rendering_of(adapter, template_kwargs), rendering_of(base, template_kwargs)
    if own != shown:
        raise TaskError(
            f"the chat template or the special tokens of {adapter} differ from those of {base}",
            where=str(adapter / TOKENIZER),
            expected=f"the rendering {own[:16]} that it was trained with, not {shown[:16]}",
            remedy="Put the template that it was trained with into the base's folder, or train it anew.",
        )


def _rendered(tokenizer: Any, probe: tuple[Message, ...], template_kwargs: Mapping[str, Any]) -> list[int] | None:
    try:
        return render_prompt(tokenizer, probe, template_kwargs=template_kwargs)
    except DataError:  # a template may refuse some turns; then the other's must, too
        return None
