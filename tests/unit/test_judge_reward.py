"""A judge as a reward of GRPO: asked about a whole group at once, by the same verdicts as a score."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from judge_support import FAIR, GRADER, judge_calls, write_judge
from lastresort.errors import DataError, InfrastructureError, TaskError
from lastresort.train.rewards import Rewards
from lastresort.types import Example, Message


def reward(parameters: dict[str, Any], weight: float = 1.0) -> Any:
    return SimpleNamespace(name="judge", parameters=parameters, weight=weight)


def example(output: str) -> Example:
    return Example(id="1", input=(Message("user", "q"),), output=output, row=4, source="prompts.jsonl")


def test_a_group_is_compared_with_its_reference(tmp_path: Path) -> None:
    rewards = Rewards([reward(write_judge(tmp_path, FAIR), weight=2.0)], {})
    asked = [example("bad reference")] * 3
    rewards.check(asked)
    scored = rewards.score(asked, ["good", "bad", "bad reference"])
    assert [one.total for one in scored] == [2.0, 1.0, 1.0]
    assert [one.values for one in scored] == [{"judge": 1.0}, {"judge": 0.5}, {"judge": 0.5}]
    assert len(judge_calls(tmp_path)) == 4


def test_only_a_judge_that_compares_needs_an_expected_answer(tmp_path: Path) -> None:
    prompts = [example("")]
    with pytest.raises(
        DataError, match=r"prompts\.jsonl, row 4: no expected answer, expected what the reward judge needs"
    ):
        Rewards([reward(write_judge(tmp_path, FAIR))], {}).check(prompts)
    graded = Rewards([reward(write_judge(tmp_path, GRADER, rubric="It is polite."))], {})
    graded.check(prompts)
    assert [one.total for one in graded.score(prompts * 2, ["good", "bad"])] == [1.0, 0.25]


def test_a_judge_that_leads_nowhere_is_told_before_anything_is_sampled(tmp_path: Path) -> None:
    rewards = Rewards([reward({"model": f"scripted:{tmp_path / 'none.json'}"})], {})
    with pytest.raises(TaskError, match=r"none\.json: not a readable script"):
        rewards.check([example("good")])


def test_another_judge_or_another_question_is_another_reward(tmp_path: Path) -> None:
    keys = write_judge(tmp_path, GRADER, rubric="It is polite.")
    prints = {Rewards([reward(keys | changed)], {}).fingerprint() for changed in ({}, {"rubric": "x"}, {"model": "m"})}
    assert len(prints) == 3


def test_a_judge_that_cannot_be_reached_stops_the_training_and_rewards_nothing(tmp_path: Path) -> None:
    rewards = Rewards([reward(write_judge(tmp_path, {**FAIR, "faults": {"fail_at": [3]}}))], {}, on_error="zero")
    with pytest.raises(InfrastructureError):
        rewards.score([example("bad")] * 2, ["good", "good 2"])
