"""How many tokens a model makes of a text, before it is loaded: by its tokenizer where that is here, else by the text's bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

from lastresort.data.rendering import render_prompt
from lastresort.embedded import converted_already, embedded_gguf
from lastresort.errors import DataError, InputError
from lastresort.libraries import loading, without_length_warning
from lastresort.models.open import EMBEDDED
from lastresort.models.protocol import estimated_tokens, is_endpoint
from lastresort.spec.task import Task
from lastresort.types import Message

BYTES_PER_TOKEN = (
    3  # of short texts, labels and JSON: 2.4 to 4.1 on the examples of this project, with the embedded model
)
_SCRIPTED = 16  # so that turns of examples, which a script counts without markers, are on the high side too
TEMPLATE_TOKENS = 32  # turn markers, and the system prompt that some templates add


@dataclass(frozen=True, slots=True)
class TokenCounts:
    """count: tokens of a text alone. template: what a chat template puts around a prompt of one turn. summary: how it is counted,
    as "tokens counted …" ends.
    """

    count: Callable[[str], int]
    template: int
    summary: str


def counts_of(task: Task, model: str) -> TokenCounts:
    """Of the model by this name. What a script answers is counted as the script itself counts, four bytes a token."""
    if model.startswith("scripted:"):
        return TokenCounts(estimated_tokens, _SCRIPTED, "as four bytes a token, as the scripted model counts")
    folder = None if is_endpoint(model) else _folder(model, task.folder)
    if folder is None or not (folder / "tokenizer_config.json").is_file():
        return TokenCounts(_estimated, TEMPLATE_TOKENS, f"as {BYTES_PER_TOKEN} bytes a token, as no tokenizer is here")
    tokenizer = _tokenizer(folder)
    if tokenizer is None:
        return TokenCounts(
            _estimated, TEMPLATE_TOKENS, f"as {BYTES_PER_TOKEN} bytes a token: the tokenizer cannot be read"
        )
    return TokenCounts(_lengths(folder), _template(tokenizer, task), f"by the tokenizer of {model}")


def _folder(model: str, base_folder: Path) -> Path | None:
    """Of a model on disk; nothing is converted or downloaded."""
    if model == EMBEDDED:
        return converted_already(embedded_gguf())
    path = base_folder / Path(model).expanduser()
    if path.suffix == ".gguf":
        return converted_already(path) if path.is_file() else None
    return path if path.is_dir() else None


@cache
def _tokenizer(folder: Path) -> Any:
    """None where it cannot be read; the climb says why."""
    from transformers import AutoTokenizer

    try:
        with loading(folder, "a tokenizer"):
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except InputError:
        return None
    return without_length_warning(tokenizer)


class TextLengths:
    """Tokens of texts, each counted once for all rungs.

    They are kept by the hash of the text, since texts may be long; once there are MOST_KEPT it starts again.
    """

    MOST_KEPT = 20_000  # about 3 MB

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._known: dict[bytes, int] = {}

    def __call__(self, text: str) -> int:
        key = blake2b(text.encode(errors="surrogatepass"), digest_size=16).digest()
        if key not in self._known:
            if len(self._known) >= self.MOST_KEPT:
                self._known.clear()
            self._known[key] = len(self._tokenizer(text, add_special_tokens=False)["input_ids"])
        return self._known[key]


@cache
def _lengths(folder: Path) -> TextLengths:
    return TextLengths(_tokenizer(folder))


def _template(tokenizer: Any, task: Task) -> int:
    word = "x"
    try:
        whole = render_prompt(tokenizer, [Message("user", word)], template_kwargs=task.chat_template_kwargs)
    except DataError:  # the climb says so
        return TEMPLATE_TOKENS
    return max(0, len(whole) - len(tokenizer(word, add_special_tokens=False)["input_ids"]))


def _estimated(text: str) -> int:
    return -(-len(text.encode(errors="surrogatepass")) // BYTES_PER_TOKEN)
