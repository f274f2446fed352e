"""A stop string is found at the very token that completes it, and the text before the first one is what remains."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from lastresort.models.constrained import cut_at_stop, holds_stop
from models_support import tiny_tokenizer

STOPS: dict[str, tuple[str, ...]] = {
    "one": ("an",),
    "a line break": ("\n",),
    "several": ("zzz", " ro", "}"),
    "outside ascii": ("é", "字"),
    "long": ("the parcel is late",),
}


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return tiny_tokenizer(merges=40)


def answer(tokenizer: Any, random: Random) -> list[int]:
    """Text with characters of several bytes, cut into single bytes here and there, and special tokens that decode to nothing."""
    pieces = ["the parcel is late", "route this ticket", "né à 字", "\n", '{"n": 12}', "zzz", "can", "🙂"]
    tokens: list[int] = []
    for _ in range(30):
        tokens += tokenizer(random.choice(pieces), add_special_tokens=False)["input_ids"]
        tokens += [random.randrange(3)] * random.choice([0, 0, 0, 1, 25])
        tokens += [random.randrange(3, len(tokenizer)) for _ in range(random.choice([0, 0, 3]))]
    return tokens


@pytest.mark.sampled(3)
@pytest.mark.parametrize("which", STOPS)
def test_it_is_found_at_the_token_at_which_the_whole_text_first_holds_it(which: str, tokenizer: Any) -> None:
    stops, found = STOPS[which], 0

    def decode(tokens: Any) -> str:
        return str(tokenizer.decode(list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False))

    for seed in range(40):
        tokens = answer(tokenizer, Random(f"{which} {seed}"))
        for n in range(1, len(tokens) + 1):
            whole = any(stop in decode(tokens[:n]) for stop in stops)
            assert holds_stop(tokens[:n], stops, decode) == whole, (seed, n)
            if whole:
                found += n > 1
                break
    assert found >= 20


def test_special_tokens_in_a_string_do_not_hide_it(tokenizer: Any) -> None:
    def decode(tokens: Any) -> str:
        return str(tokenizer.decode(list(tokens), skip_special_tokens=True))

    tokens = [*tokenizer("a")["input_ids"], *[2] * 500, *tokenizer("b")["input_ids"]]
    assert holds_stop(tokens, ("ab",), decode)
    assert not holds_stop(tokens[:-1], ("ab",), decode)


def test_a_tail_that_begins_otherwise_than_the_whole_text_finds_nothing_of_its_own() -> None:
    """As WordPiece writes a piece that goes on: with ## at the beginning of a text alone."""

    def decode(tokens: Any) -> str:
        return "##" + "x" * len(tokens) if tokens and tokens[0] else "x" * len(tokens)

    assert not holds_stop([0, *[1] * 40], ("#",), decode)


def test_an_answer_costs_its_tokens_and_not_their_square() -> None:
    decoded: list[int] = []

    def decode(tokens: Any) -> str:
        decoded.append(len(tokens))
        return "x" * len(tokens)

    for n in range(1, 2001):
        holds_stop([1] * n, ("END",), decode)
    assert sum(decoded) < 2000 * 50


def test_the_first_of_several_stop_strings_counts() -> None:
    assert cut_at_stop("one two three", ("three", "two")) == "one "
    assert cut_at_stop("one", ("x",)) == "one"
    assert cut_at_stop("one", ()) == "one"
