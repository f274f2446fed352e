"""Every scorer of the table keeps one contract."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from judge_support import write_judge
from lastresort.evals.scorers import SCORERS, Scorer, build_scorer, scores_of
from lastresort.types import Example, Message

TEXT = st.text(max_size=40)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
JSON = VALUES.map(lambda value: json.dumps(value, ensure_ascii=False))
NUMBERS = st.integers(-(10**12), 10**12).map(str) | st.floats(-1e6, 1e6, allow_nan=False).map(repr)
LABELS = ("billing", "Technische Hilfe", "退款", "a-1")
EXPECTED: dict[str, st.SearchStrategy[str]] = {
    **dict.fromkeys(SCORERS, TEXT),
    "choice": st.sampled_from(LABELS),
    "json_valid": JSON,
    "json_exact": JSON,
    "json_fields": JSON,
    "number": NUMBERS,
    "judge": st.text(min_size=1, max_size=40).filter(str.strip),
}


@pytest.fixture(scope="module")
def function(tmp_path_factory: pytest.TempPathFactory) -> str:
    path: Path = tmp_path_factory.mktemp("user") / "metrics.py"
    path.write_text("def score(answer, expected) -> bool:\n    return answer == expected\n")
    return f"{path}:score"


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Of answers by themselves: one that compares gives the expected answer half a point, not a whole one."""
    approves = {"rules": [{"match": "<answer>\\s*</answer>", "answer": "1"}], "default": "5", "calls": "none.jsonl"}
    return write_judge(tmp_path_factory.mktemp("judge"), approves, rubric="It says something.")


def built(name: str, function: str, judge: dict[str, Any]) -> Scorer:
    named = {"regex": {"value": "(?s)(.*)"}, "python": {"value": function}, "judge": judge}
    parameters: dict[str, Any] = named.get(name, {})
    return build_scorer(name, parameters, choices=LABELS if name == "choice" else None)


@pytest.mark.sampled(11)
@pytest.mark.parametrize("name", list(SCORERS))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_contract(name: str, function: str, judge: dict[str, Any], data: st.DataObject) -> None:
    scorer = built(name, function, judge)
    expected = data.draw(EXPECTED[name])
    example = Example(id="1", input=(Message("user", "?"),), output=expected)
    assert scorer.name == name
    assert scorer(expected, example) == 1.0
    answer = data.draw(TEXT | EXPECTED[name])
    answers = (answer, "", expected + answer)
    assert scores_of(scorer, answers, [example] * 3) == [scorer(given_answer, example) for given_answer in answers]
    for given_answer in answers:
        value = scorer(given_answer, example)
        assert type(value) is float
        assert 0.0 <= value <= 1.0
        assert value == scorer(given_answer, example)
        if scorer.binary:
            assert value in (0.0, 1.0)


def test_the_contract_covers_the_table() -> None:
    assert set(EXPECTED) == set(SCORERS)
    assert len(SCORERS) == 13


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pairs=st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=4), habit=st.sampled_from(["A", "B", "tie", "well"]))
def test_a_judge_that_looks_at_the_order_alone_prefers_nobody(
    pairs: list[tuple[str, str]], habit: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    scorer = build_scorer("judge", write_judge(tmp_path_factory.getbasetemp() / "habit", {"default": habit}))
    examples = [Example(id=str(i), input=(Message("user", "?"),), output=output) for i, (_, output) in enumerate(pairs)]
    assert not scorer.binary
    assert scores_of(scorer, [answer for answer, _ in pairs], examples) == [0.5] * len(pairs)
