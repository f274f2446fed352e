"""Constrained decoding: whatever the model wants, only valid answers can be written."""

from __future__ import annotations

import json
import random
from typing import Any

import jsonschema
import pytest
import torch
from llguidance import LLMatcher

from lastresort.errors import CandidateError, ContractError
from lastresort.models.constrained import Constraint, TokenTable
from lastresort.types import Grammar
from models_support import tiny_tokenizer

SCHEMA = {
    "type": "object",
    "properties": {"team": {"enum": ["billing", "tech"]}, "n": {"type": "integer", "minimum": 0, "maximum": 99}},
    "required": ["team", "n"],
    "additionalProperties": False,
}
STOP = 2
TOKENIZER: Any = tiny_tokenizer()
TABLE = TokenTable(TOKENIZER, len(TOKENIZER), frozenset({STOP}))


def written_by_chance(constraint: Constraint, seed: int, row: int = 0, limit: int = 200) -> str:
    """The text of a writer that picks any allowed token, until it picks the stop token."""
    chance, tokens = random.Random(seed), list[int]()
    while len(tokens) < limit:
        choices = constraint.allowed(row, tokens).nonzero()[:, 0].tolist()
        token = chance.choice(choices)
        if token == STOP:
            return str(TOKENIZER.decode(tokens))
        tokens.append(token)
    raise AssertionError(f"not finished: {TOKENIZER.decode(tokens)}")


def accepts(constraint: Constraint, text: str, row: int) -> bool:
    tokens = TOKENIZER(text, add_special_tokens=False)["input_ids"]
    for place, token in enumerate(tokens):
        if not constraint.allowed(row, tokens[:place])[token]:
            return False
    return bool(constraint.allowed(row, tokens)[STOP])


@pytest.mark.parametrize("seed", range(20))
def test_whatever_is_written_validates_and_stands_on_one_line(seed: int) -> None:
    text = written_by_chance(Constraint(TABLE, Grammar(json_schema=SCHEMA)), seed)
    jsonschema.validate(json.loads(text), SCHEMA)
    assert "\n" not in text
    assert "  " not in text


def test_both_styles_of_json_can_be_written_and_nothing_wider() -> None:
    constraint = Constraint(TABLE, Grammar(json_schema=SCHEMA))
    written = [
        '{"team":"tech","n":3}',
        '{"team": "tech", "n": 3}',
        '{ "team": "tech", "n": 3 }',
        '{\n"team": "tech", "n": 3}',
    ]
    assert [accepts(constraint, text, row) for row, text in enumerate(written)] == [True, True, False, False]


def test_an_incomplete_answer_may_not_stop_and_a_wrong_one_not_begin() -> None:
    constraint = Constraint(TABLE, Grammar(json_schema=SCHEMA))
    tokens = TOKENIZER('{"team": "tech"', add_special_tokens=False)["input_ids"]
    assert not constraint.allowed(0, tokens)[STOP]
    assert not constraint.complete(0, tokens)
    assert not accepts(constraint, '{"team": "sales", "n": 3}', 1)
    assert not accepts(constraint, '{"n": 3, "team": "tech"}', 2)  # the schema's order


@pytest.mark.parametrize("seed", range(8))
def test_choices_are_written_exactly_whatever_characters_they_hold(seed: int) -> None:
    choices = ("billing", "billing team", 'a "quoted" \\ one', "née\n2", "| x", "/re/")
    assert written_by_chance(Constraint(TABLE, Grammar(choices=choices)), seed) in choices


def test_all_choices_are_reachable_and_one_that_begins_another_may_end_or_go_on() -> None:
    choices = ("bill", "billing", "tech")
    constraint = Constraint(TABLE, Grammar(choices=choices))
    assert all(accepts(constraint, choice, row) for row, choice in enumerate(choices))
    tokens = TOKENIZER("bill", add_special_tokens=False)["input_ids"]
    assert constraint.allowed(7, tokens).sum() > 1
    assert not constraint.complete(7, tokens)
    assert constraint.complete(8, TOKENIZER("tech", add_special_tokens=False)["input_ids"])


def test_rows_keep_states_of_their_own_and_take_only_what_is_new() -> None:
    constraint = Constraint(TABLE, Grammar(choices=("ab", "cd")))
    a, b, c, d = (TOKENIZER.convert_tokens_to_ids(letter) for letter in "abcd")
    assert constraint.allowed(0, [])[[a, c]].all()
    assert constraint.allowed(0, [a]).nonzero()[:, 0].tolist() == [b]
    assert constraint.allowed(1, [c]).nonzero()[:, 0].tolist() == [d]
    assert constraint.allowed(0, [a]).nonzero()[:, 0].tolist() == [b]  # asked again without a new token
    assert constraint.allowed(0, [a, b]).nonzero()[:, 0].tolist() == [STOP]


def test_tokens_that_were_not_allowed_or_vanish_are_a_fault_of_ours() -> None:
    constraint = Constraint(TABLE, Grammar(choices=("ab",)))
    a, b = (TOKENIZER.convert_tokens_to_ids(letter) for letter in "ab")
    with pytest.raises(ContractError, match="row 0"):
        constraint.allowed(0, [b])
    constraint.allowed(1, [a])
    with pytest.raises(ContractError, match="shorter"):
        constraint.allowed(1, [])


def test_any_of_several_stop_tokens_may_end_it_and_padding_of_the_logits_never_comes() -> None:
    table = TokenTable(TOKENIZER, len(TOKENIZER) + 17, frozenset({0, 2}))
    constraint = Constraint(table, Grammar(choices=("ab",)))
    mask = constraint.allowed(0, TOKENIZER("ab", add_special_tokens=False)["input_ids"])
    assert mask.nonzero()[:, 0].tolist() == [0, 2]
    assert mask.shape == (len(TOKENIZER) + 17,)


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ({"type": "object", "properties": {"a": {"not": {"const": 1}}}}, "not"),
        ({"type": "text"}, "Invalid type"),
        ({"$ref": "#/nowhere"}, "nowhere"),
        ({"type": "string", "pattern": "("}, "regex"),
    ],
)
def test_a_schema_that_cannot_be_enforced_is_refused_with_the_reason(schema: dict[str, Any], says: str) -> None:
    with pytest.raises(CandidateError, match=says) as caught:
        Constraint(TABLE, Grammar(json_schema=schema))
    assert "\n" not in str(caught.value)


def test_a_tokenizer_of_another_kind_is_refused() -> None:
    with pytest.raises(CandidateError, match="does not allow constrained decoding"):
        TokenTable(object(), 10, frozenset({0}))


def test_a_grammar_is_compiled_once_while_it_is_among_the_newest(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = list[str]()
    validate = LLMatcher.validate_grammar_with_warnings

    def counting(source: str, table: Any) -> Any:
        compiled.append(source)
        return validate(source, table)

    monkeypatch.setattr(LLMatcher, "validate_grammar_with_warnings", counting)
    table = TokenTable(TOKENIZER, len(TOKENIZER), frozenset({STOP}))
    grammars = [Grammar(choices=(f"answer {i}",)) for i in range(9)]
    for grammar in (grammars[0], grammars[0], *grammars, grammars[8], grammars[0]):
        fresh = Constraint(table, grammar)
        first = fresh.allowed(0, [])
        [token, *_] = first.nonzero().flatten().tolist()
        fresh.allowed(0, [token])  # a row that goes on changes nothing for the next one
        assert torch.equal(Constraint(table, grammar).allowed(0, []), first)
    assert len(compiled) == 10  # each once, and the oldest again after eight others
