"""The example sums: made again alike, judged by a program alone, and rewarded so that nothing pays better than a right answer."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples_support import EXAMPLES, module_of
from lastresort.climb.prepare import prepare
from lastresort.rungs.preference.items import plan_of
from lastresort.rungs.preference.rung import PreferenceRung
from lastresort.spec.task import load_task

FOLDER = EXAMPLES / "sums"
SUMS = module_of(FOLDER / "sums.py")


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    return module_of(FOLDER / "make_sums.py")


def test_the_rows_can_be_made_again_byte_for_byte(maker: ModuleType) -> None:
    lines = "".join(json.dumps(row) + "\n" for row in maker.made())
    assert lines.encode() == (FOLDER / "sums.jsonl").read_bytes()


def test_every_number_is_asked_for_once_and_has_a_right_answer(maker: ModuleType) -> None:
    rows = maker.made()
    assert sorted(int(row["input"]) for row in rows) == list(range(maker.SMALLEST, maker.LARGEST + 1))
    for row in rows:
        first, second = map(int, row["output"].split(" + "))
        assert first + second == int(row["input"])
        assert SUMS.score(row["output"], row["output"]) is True
    assert len({row["output"].split(" + ")[0] for row in rows}) > 30, "shots must not show a way that always works"


@pytest.mark.parametrize(
    ("answer", "right", "rewarded"),
    [
        ("12 + 22", True, 1.0),
        (" 2 + 32\n", True, 1.0),
        ("12 + 23", False, 0.1),
        ("12 + 12", False, 0.1 + 0.2 + 0.2 * 24 / 34),
        ("22 + 22", False, 0.1 + 0.2 + 0.2 * 24 / 34),
        ("33 + 31", False, 0.1 + 0.2 + 0.2 * 4 / 34),
        ("2 + 34", False, 0.0),
        ("90 + 94", False, 0.0),
        ("1 + 33", False, 0.0),
        ("0 + 34", False, 0.0),
        ("34", False, 0.0),
        ("12+22", False, 0.0),
        ("12 + 22 = 34", False, 0.0),
        ("12 + 11 + 11", False, 0.0),
        ("-2 + 36", False, 0.0),
        ("", False, 0.0),
    ],
)
def test_answers_to_34_judged_by_hand(answer: str, right: bool, rewarded: float) -> None:
    assert SUMS.score(answer, "30 + 4") is right
    assert SUMS.reward(answer, "30 + 4") == pytest.approx(rewarded)


@given(st.integers(2, 200), st.integers(2, 200), st.integers(2, 99), st.integers(2, 99))
def test_only_a_right_answer_is_rewarded_in_full(first: int, second: int, a: int, b: int) -> None:
    answer, expected = f"{first} + {second}", f"{a} + {b}"
    assert SUMS.score(answer, expected) == (first + second == a + b) == (SUMS.reward(answer, expected) == 1)


@pytest.mark.parametrize("off", [10, 20])
def test_where_the_last_digit_is_right_a_nearer_sum_is_rewarded_more(off: int) -> None:
    nearer, farther = (SUMS.reward(f"30 + {70 + by}", "60 + 40") for by in (off - 10, off))
    assert SUMS.FORM < farther < nearer


def test_the_task_leads_to_grpo_on_prompts_that_no_test_asks(maker: ModuleType) -> None:
    task = load_task(FOLDER / "task.yaml")
    prepared = prepare(task)
    assert (prepared.leaks, prepared.notes) == (0, ())
    assert prepared.scorer.binary
    assert PreferenceRung().skip_reason(task, prepared.split.train) is None
    plan = plan_of(task, None, on_sft=False)
    assert (plan.objective, plan.source) == ("grpo", "reward")
    assert not any(number in task.about.split() for number in map(str, range(maker.SMALLEST, maker.LARGEST + 1)))


def test_the_files_are_those_that_the_task_names() -> None:
    assert {path.name for path in Path(FOLDER).iterdir() if path.is_file()} == {
        "make_sums.py",
        "sums.jsonl",
        "sums.py",
        "task.yaml",
    }
