"""A streamed answer is the answer, piece by piece, whatever computes it."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lastresort.errors import ContractError
from lastresort.models.constrained import StreamedText, cut_at_stop
from lastresort.models.local import LocalModel, load_local
from lastresort.models.protocol import Model
from lastresort.models.scripted import Script, ScriptedModel
from lastresort.stop import StopSignal
from lastresort.types import Answer, Decoding, Grammar, Message
from models_support import save_tiny

PROMPT = (Message("user", "the parcel is late"),)
GREEDY, DRAWN = Decoding(12), Decoding(12, temperature=1.0, seed=4)
SCHEMA = {"type": "object", "properties": {"team": {"enum": ["billing", "tech"]}}, "required": ["team"]}


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LASTRESORT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LocalModel:
    loaded = load_local(save_tiny(tmp_path_factory.mktemp("tiny")), precision="float64")
    return LocalModel(loaded, name="tiny", clock=lambda: 0.0)


def streamed(model: Model, decoding: Decoding, stop: StopSignal | None = None) -> tuple[list[str], Answer]:
    answers: list[Answer] = []
    pieces = list(model.stream(PROMPT, decoding, on_answer=lambda _, answer: answers.append(answer), stop=stop))
    assert len(answers) == 1
    return pieces, answers[0]


@pytest.mark.parametrize(
    "decoding",
    [
        GREEDY,
        DRAWN,
        replace(DRAWN, top_p=0.8),
        replace(GREEDY, grammar=Grammar(choices=("billing", "tech support"))),
        replace(DRAWN, max_new_tokens=40, grammar=Grammar(json_schema=SCHEMA)),
    ],
)
def test_the_pieces_are_the_answer(model: LocalModel, decoding: Decoding) -> None:
    [whole] = model.generate([PROMPT], decoding)
    pieces, answer = streamed(model, decoding)
    assert answer == whole
    assert "".join(pieces) == whole.text
    assert len(pieces) > 1
    assert all(pieces)


def test_nothing_of_a_stop_string_is_shown(model: LocalModel) -> None:
    [whole] = model.generate([PROMPT], replace(GREEDY, max_new_tokens=40))
    for length in (1, 2, 5):
        decoding = replace(GREEDY, max_new_tokens=40, stop=(whole.text[8 : 8 + length], "never to be seen"))
        [cut] = model.generate([PROMPT], decoding)
        pieces, answer = streamed(model, decoding)
        assert ("".join(pieces), answer) == (cut.text, cut)
        assert len(cut.text) <= 8


def test_a_request_to_stop_ends_the_answer_where_it_is(model: LocalModel) -> None:
    stop, answers = StopSignal(), list[Answer]()
    pieces = model.stream(PROMPT, GREEDY, on_answer=lambda _, answer: answers.append(answer), stop=stop)
    first = next(pieces)
    stop.request()
    rest = list(pieces)
    [whole] = model.generate([PROMPT], GREEDY)
    assert answers[0].text == first + "".join(rest)
    assert (answers[0].finish, answers[0].completion_tokens < whole.completion_tokens) == ("length", True)
    assert whole.text.startswith(answers[0].text)


def test_a_scripted_model_says_its_answer_word_by_word() -> None:
    for text in ("to the billing team \n", "", "  one"):
        model = ScriptedModel(Script(default=text))
        pieces, answer = streamed(model, GREEDY)
        assert "".join(pieces) == answer.text == text
        assert answer == model.generate([PROMPT], GREEDY)[0]
    model, stop = ScriptedModel(Script(default="one two")), StopSignal()
    stop.request()
    assert streamed(model, GREEDY, stop)[1].finish == "length"


def test_a_closed_model_gives_its_memory_back_and_answers_no_more(tmp_path: Path) -> None:
    model = LocalModel(load_local(save_tiny(tmp_path)), name="tiny")
    weights = weakref.ref(model.loaded.model)
    assert weights() is not None
    model.generate([PROMPT], GREEDY)
    model.close()
    assert weights() is None
    with pytest.raises(ContractError, match="closed"):
        model.generate([PROMPT], GREEDY)


@given(st.text("ab\N{REPLACEMENT CHARACTER}", max_size=12), st.lists(st.text("ab", min_size=1, max_size=4), max_size=3))
def test_growing_text_shows_all_of_it_once_and_never_what_is_cut(text: str, stops: list[str]) -> None:
    growing, shown = StreamedText(stops), ""
    final = cut_at_stop(text, stops)
    for end in range(1, len(text) + 1):
        shown += growing.grow(text[:end])
        assert final.startswith(shown)
        if any(stop in text[:end] for stop in stops):
            break
    assert shown + growing.finish(final) == final
