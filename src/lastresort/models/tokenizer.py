"""A model's tokenizer and its context, read without the weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lastresort.embedded import own_code_refused, quiet_transformers, without_length_warning
from lastresort.errors import TaskError
from lastresort.models.loading import context_tokens, weights_folder
from lastresort.models.open import local_folder


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
