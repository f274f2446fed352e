"""A growing answer is decoded at its end alone, and its text is at each token that of all its tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import pytest

from lastresort.models.constrained import GrowingText, StreamedText, cut_at_stop
from models_support import tiny_tokenizer

Decode = Callable[[Sequence[int]], str]
PIECES = [
    "the parcel is late",
    "né à 字",
    "\n\n",
    "🙂",
    "👩‍👩‍👧",
    "e\u0301a\u0308",
    "   ",
    '{"n": 12}',
    "한국어",
    "\ufffd",
    "🏳️‍🌈 zzz",
]
STOPS = ("zzz", " ro", "字\n", "the parcel is late")


def byte_level() -> Any:
    """Characters of several bytes are several tokens, and bytes that are none become replacement characters."""
    return tiny_tokenizer(merges=40)


def byte_fallback() -> Any:
    """As Llama 2's: what is in no word is bytes, of which those that follow one another are a text together, or none of them."""
    from tokenizers import Tokenizer, decoders, models
    from transformers import PreTrainedTokenizerFast

    words = [
        "<unk>",
        "<s>",
        "</s>",
        *(f"<0x{byte:02X}>" for byte in range(256)),
        "▁",
        "▁the",
        "▁par",
        "cel",
        "is",
        "a",
        "▁zz",
        "z",
    ]
    core = Tokenizer(models.BPE(vocab={word: i for i, word in enumerate(words)}, merges=[], byte_fallback=True))
    core.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def by_words() -> Any:
    """As SentencePiece's: a word's token holds the space before it, which is dropped at the beginning of a text."""
    from tokenizers import Tokenizer, decoders, models
    from transformers import PreTrainedTokenizerFast

    words = ["<unk>", "<s>", "</s>", "▁", "▁the", "▁par", "cel", "e", "\u0301", "🙂", "字", "▁字", "▁zz", "z", "\n"]
    core = Tokenizer(models.Unigram([(word, -1.0) for word in words], unk_id=0))
    core.decoder = decoders.Metaspace()
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


TOKENIZERS = {made.__name__: made for made in (byte_level, byte_fallback, by_words)}


def decoder(tokenizer: Any) -> Decode:
    return lambda tokens: str(
        tokenizer.decode(list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False)
    )


def answer(tokenizer: Any, random: Random, pieces: int = 40) -> list[int]:
    """Text of many kinds, cut into bytes here and there, with tokens that are no text together and special ones."""
    names = tokenizer.get_vocab()
    tokens: list[int] = []
    for _ in range(pieces):
        piece = random.choice(PIECES)
        whole = [names[f"<0x{byte:02X}>"] for byte in piece.encode()] if "<0x00>" in names else None
        tokens += tokenizer(piece, add_special_tokens=False)["input_ids"] if whole is None else whole
        tokens += [random.randrange(3)] * random.choice([0, 0, 0, 1, 25])
        tokens += [random.randrange(3, len(tokenizer)) for _ in range(random.choice([0, 1, 3, 30]))]
    return tokens


@pytest.mark.sampled(3)
@pytest.mark.parametrize("which", TOKENIZERS)
def test_the_text_is_that_of_all_tokens_at_each_of_them(which: str) -> None:
    tokenizer = TOKENIZERS[which]()
    decode = decoder(tokenizer)
    for seed in range(12):
        tokens = answer(tokenizer, Random(f"{which} {seed}"))
        growing, steps = GrowingText(decode), Random(seed)
        n = 0
        while n < len(tokens):
            n = min(len(tokens), n + steps.choice([1, 1, 1, 2, 5]))
            assert growing.of(tokens[:n]) == decode(tokens[:n]), (seed, n)


@pytest.mark.parametrize("which", TOKENIZERS)
def test_what_is_shown_of_it_is_what_whole_decoding_shows(which: str) -> None:
    """Also around stop strings that begin in one token and end in another."""
    tokenizer = TOKENIZERS[which]()
    decode = decoder(tokenizer)
    for seed in range(12):
        tokens = answer(tokenizer, Random(f"{which} {seed}"), 12)
        growing, shown, whole = GrowingText(decode), StreamedText(STOPS), StreamedText(STOPS)
        for n in range(1, len(tokens) + 1):
            assert shown.grow(growing.of(tokens[:n])) == whole.grow(decode(tokens[:n])), (seed, n)
        text = cut_at_stop(decode(tokens), STOPS)
        assert shown.finish(text) == whole.finish(text)


@pytest.mark.parametrize("which", TOKENIZERS)
def test_each_token_of_a_long_answer_is_decoded_a_few_times(which: str) -> None:
    tokenizer = TOKENIZERS[which]()
    plain, decoded = decoder(tokenizer), [0]

    def decode(tokens: Sequence[int]) -> str:
        decoded[0] += len(tokens)
        return plain(tokens)

    random, growing = Random(which), GrowingText(decode)
    words = [tokenizer.get_vocab()[word] for word in (("Ġ", "a", "l") if which == "byte_level" else ("▁the", "cel"))]
    tokens = [random.choice(words) for _ in range(2000)]
    for n in range(1, len(tokens) + 1):
        text = growing.of(tokens[:n])
    assert text == plain(tokens)
    assert decoded[0] < 30 * len(tokens)
