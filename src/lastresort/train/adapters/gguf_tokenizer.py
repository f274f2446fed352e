"""A byte-level BPE tokenizer as the metadata of a GGUF.

The file names the way in which text is cut before merging, and llama.cpp knows each by a name of its own. The name is taken
from what the tokenizer does, not from the model's name: only then are the served tokens those that were trained on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lastresort.data.chat_template import PLAIN_NAME, template_of
from lastresort.errors import DataError
from lastresort.foreign import DOCUMENT, read_json

NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5  # gguf.TokenType

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_LLAMA3 = _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}" + _REST
_QWEN2 = _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}" + _REST
# (the steps before bytes, whether a word that is a token is taken unmerged) -> llama.cpp's name
_NAMES = {
    (("gpt-2",), False): "gpt-2",
    (("digits", "gpt-2"), False): "smollm",
    ((_LLAMA3,), True): "llama-bpe",
    ((_LLAMA3,), False): "dbrx",
    ((_QWEN2,), False): "qwen2",
}


@dataclass(frozen=True, slots=True)
class GgufTokenizer:
    """tokens, types: one for each row of the embedding. merges: "left right". special: role ("eos") -> id.

    start, end: whether every text begins with the bos token and ends with the eos token. template: the chat template as text is
    rendered with, Jinja.
    """

    pre: str
    tokens: tuple[str, ...]
    types: tuple[int, ...]
    merges: tuple[str, ...]
    special: Mapping[str, int]
    start: bool
    end: bool
    template: str

    def add_to(self, writer: Any) -> None:
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(self.pre)
        writer.add_token_list(list(self.tokens))
        writer.add_token_types(list(self.types))
        writer.add_token_merges(list(self.merges))
        for role, number in self.special.items():
            getattr(writer, f"add_{role}_token_id")(number)
        writer.add_add_bos_token(self.start)
        writer.add_add_eos_token(self.end)
        writer.add_chat_template(self.template)


def gguf_tokenizer(folder: Path, tokenizer: Any, rows: int) -> GgufTokenizer:
    """The tokenizer of `folder`, for an embedding of `rows` rows. Raises DataError for one that a GGUF cannot say."""
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise DataError(
            "no tokenizer.json", where=str(folder), expected="a fast tokenizer", remedy="Save it with save_pretrained."
        )
    described: Any = read_json(path, DOCUMENT, lenient=True, raised=DataError)
    pre = pre_tokenizer_name(described, str(path))
    tokens, types = _tokens(described, rows, str(path))
    merges = tuple(merge if isinstance(merge, str) else " ".join(merge) for merge in described["model"]["merges"])
    roles = {role: getattr(tokenizer, f"{role}_token_id", None) for role in ("bos", "eos", "unk", "pad")}
    special = {role: int(number) for role, number in roles.items() if number is not None}
    sample = tokenizer("a")["input_ids"]
    template = template_of(tokenizer, {})
    text = template.text
    if template.name == PLAIN_NAME:
        text = f"{{% set start = {json.dumps(template.arguments['start'])} %}}{text}"
    return GgufTokenizer(
        pre=pre,
        tokens=tokens,
        types=types,
        merges=merges,
        special=special,
        start=sample[0] == special.get("bos") and len(sample) > 1,
        end=sample[-1] == special.get("eos") and len(sample) > 1,
        template=text,
    )


def pre_tokenizer_name(described: Mapping[str, Any], where: str) -> str:
    """llama.cpp's name for how this tokenizer.json cuts text. Raises DataError where there is none."""
    model, normalizer = described["model"], described.get("normalizer")
    if model.get("type") != "BPE" or model.get("byte_fallback"):
        raise _unknown("a tokenizer in the manner of SentencePiece", where)
    if normalizer is not None and normalizer.get("type") != "NFC":
        raise _unknown(f"a normaliser ({normalizer.get('type')})", where)
    name = _NAMES.get((_steps(described.get("pre_tokenizer")), bool(model.get("ignore_merges"))))
    if name is None:
        raise _unknown("a way of cutting text that llama.cpp has no name for", where)
    return name


def _steps(pre: Mapping[str, Any] | None) -> tuple[str, ...]:
    """The steps of a pre-tokenizer: a pattern, "digits" (one by one), or "gpt-2" for the pattern within ByteLevel."""
    if pre is None:
        return ()
    parts = pre["pretokenizers"] if pre["type"] == "Sequence" else [pre]
    steps = []
    for part in parts:
        match part:
            case {"type": "ByteLevel", "add_prefix_space": False, "use_regex": regex}:
                steps += ["gpt-2"] if regex else []
            case {"type": "Digits", "individual_digits": True}:
                steps.append("digits")
            case {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}:
                steps.append(pattern)
            case _:
                steps.append(f"unknown {part.get('type')}")
    return tuple(steps)


def _tokens(described: Mapping[str, Any], rows: int, where: str) -> tuple[tuple[str, ...], tuple[int, ...]]:
    tokens, types = [f"[PAD{i}]" for i in range(rows)], [UNUSED] * rows
    added = {token["content"]: token for token in described.get("added_tokens", [])}
    places = {**described["model"]["vocab"], **{content: token["id"] for content, token in added.items()}}
    for content, place in places.items():
        if place >= rows:
            raise DataError(
                f"token {place} has no row in the embedding, which has {rows}",
                where=where,
                expected="a tokenizer of this model",
                remedy="Save the model with its own tokenizer.",
            )
        tokens[place] = content
        types[place] = NORMAL if content not in added else CONTROL if added[content]["special"] else USER_DEFINED
    return tuple(tokens), tuple(types)


def _unknown(found: str, where: str) -> DataError:
    return DataError(
        found,
        where=where,
        expected="byte-level BPE as GPT-2, SmolLM, Llama 3 or Qwen cut it",
        remedy="Serve the merged folder, or convert it with llama.cpp.",
    )
