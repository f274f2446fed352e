"""The prompt of a recorded answer as tokens, with what training teaches marked, against the count of the measurement."""

from __future__ import annotations

from pathlib import Path

import pytest

from lastresort.app.items import RemadePrompt, rendered_tokens
from lastresort.data.rendering import render_prompt
from lastresort.systems.system import PromptDesign, System
from lastresort.types import Decoding, Message
from models_support import save_adapter, save_tiny

TURNS = (Message("system", "Say what it is."), Message("user", "Win money"))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("models") / "base")


def prompt(model: str, adapter: Path | None = None) -> RemadePrompt:
    system = System("one", model, PromptDesign(""), Decoding(4), adapter=adapter)
    return RemadePrompt(system, Path(), TURNS, (), as_read=True, lost=(), shots_lack_passages=False)


def test_of_a_tuned_system_the_answer_and_its_end_are_taught(base: Path, tmp_path: Path) -> None:
    from lastresort.models.tokenizer import read_tokenizer

    read = rendered_tokens(prompt(str(base), save_adapter(base, tmp_path / "adapter")), "spam")
    assert read is not None
    tokenizer = read_tokenizer(base).tokenizer
    assert read.prompt == len(render_prompt(tokenizer, TURNS))
    taught = [token for token in read.tokens if token.trained]
    assert tokenizer.decode([token.id for token in taught[:-1]]) == "spam"
    assert taught[-1].id == tokenizer.eos_token_id
    assert not any(token.trained for token in read.tokens[: read.prompt])


def test_of_a_prompt_nothing_is_taught_and_an_empty_answer_shows_the_prompt_alone(base: Path) -> None:
    read = rendered_tokens(prompt(str(base)), "spam")
    assert read is not None
    assert not any(token.trained for token in read.tokens)
    bare = rendered_tokens(prompt(str(base)), " ")
    assert bare is not None
    assert len(bare.tokens) == bare.prompt == read.prompt


def test_a_tokenizer_that_is_not_here_is_none(tmp_path: Path) -> None:
    assert rendered_tokens(prompt(str(tmp_path / "nowhere")), "spam") is None
