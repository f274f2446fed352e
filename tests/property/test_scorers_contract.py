"""Every scorer of the table keeps one contract."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lastresort.evals.scorers import SCORERS, Scorer, build_scorer
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
}


@pytest.fixture(scope="module")
def function(tmp_path_factory: pytest.TempPathFactory) -> str:
    path: Path = tmp_path_factory.mktemp("user") / "metrics.py"
    path.write_text("def score(answer, expected) -> bool:\n    return answer == expected\n")
    return f"{path}:score"


def built(name: str, function: str) -> Scorer:
    parameters: dict[str, Any] = {"regex": {"value": "(?s)(.*)"}, "python": {"value": function}}.get(name, {})
    return build_scorer(name, parameters, choices=LABELS if name == "choice" else None)


@pytest.mark.parametrize("name", list(SCORERS))
@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_contract(name: str, function: str, data: st.DataObject) -> None:
    scorer = built(name, function)
    expected = data.draw(EXPECTED[name])
    example = Example(id="1", input=(Message("user", "?"),), output=expected)
    assert scorer.name == name
    assert scorer(expected, example) == 1.0
    answer = data.draw(TEXT | EXPECTED[name])
    for given_answer in (answer, "", expected + answer):
        value = scorer(given_answer, example)
        assert type(value) is float
        assert 0.0 <= value <= 1.0
        assert value == scorer(given_answer, example)
        if scorer.binary:
            assert value in (0.0, 1.0)


def test_the_contract_covers_the_table() -> None:
    assert set(EXPECTED) == set(SCORERS)
    assert len(SCORERS) == 12
