"""A judge as a reward of GRPO: asked about a whole group at once, by the same verdicts as a score."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from judge_support import FAIR, GRADER, judge_calls, write_judge
from lastresort.errors import BudgetError, DataError, InfrastructureError, TaskError
from lastresort.records.events.training import RewardsJudged
from lastresort.records.responses import ResponseCache
from lastresort.rungs.open_models import OpenModels
from lastresort.rungs.preference.items import seated
from lastresort.stop import StopRequest
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


def bench_of(folder: Path, cache: ResponseCache, limit_usd: float = math.inf) -> tuple[Any, list[float], list[Any]]:
    """What a climb hands to its rungs, as far as a judge needs it; what is paid, and what is noted."""
    paid: list[float] = []
    noted: list[Any] = []

    class Limit:
        def requested(self) -> StopRequest | None:
            spent = sum(paid)
            return None if spent < limit_usd else StopRequest("money", f"{spent:.2f} USD are spent", "limits.usd")

    bench = SimpleNamespace(
        task=SimpleNamespace(about="Reply politely."),
        models=OpenModels(cache, base_folder=folder, base_name="none", tuned_name="none"),
        record=SimpleNamespace(append=noted.append),
        pay=paid.append,
        stop=Limit(),
    )
    return bench, paid, noted


def rewards_of(bench: Any, *keys: dict[str, Any]) -> Rewards:
    return Rewards([reward(one) for one in keys], {}, wrap=partial(seated, bench, "preference"))


def test_in_a_climb_it_is_asked_once_and_paid_once(tmp_path: Path) -> None:
    """The second time is a step that is repeated after a kill."""
    keys = write_judge(tmp_path, FAIR, prompt_price=1e6, output_price=0)  # a dollar a token
    asked = [example("bad reference")] * 2
    with ResponseCache(tmp_path / "cache.sqlite") as cache:
        bench, paid, noted = bench_of(tmp_path, cache)
        for _ in range(2):
            assert [one.total for one in rewards_of(bench, keys).score(asked, ["good", "bad"])] == [1.0, 0.5]
    assert len(judge_calls(tmp_path)) == 4
    first, second = (event.spent for event in noted if isinstance(event, RewardsJudged))
    assert first.tokens_in == first.usd == first.paid_usd == sum(paid) > 100
    assert second == first.model_copy(update={"paid_usd": 0.0})


def test_in_a_climb_it_is_told_what_the_task_asks(tmp_path: Path) -> None:
    told = {"rules": [{"match": r"<task>\s*Reply politely\.\s*</task>", "answer": "yes"}], "default": "no"}
    keys = write_judge(tmp_path, told, rubric="It is polite.", scale="yes-no")
    with ResponseCache(tmp_path / "cache.sqlite") as cache:
        in_a_climb = rewards_of(bench_of(tmp_path, cache)[0], keys)
        assert [one.total for one in in_a_climb.score([example("")], ["good"])] == [1.0]
    assert [one.total for one in Rewards([reward(keys)], {}).score([example("")], ["good"])] == [0.0]


def test_in_a_climb_it_stops_at_the_limit_and_what_it_said_is_kept(tmp_path: Path) -> None:
    keys = write_judge(tmp_path, GRADER, rubric="It is polite.", prompt_price=1e6, output_price=0)
    asked = [example("")] * 2
    with ResponseCache(tmp_path / "cache.sqlite") as cache:
        with pytest.raises(BudgetError, match="USD are spent"):
            rewards_of(bench_of(tmp_path, cache, limit_usd=10)[0], keys).score(asked, ["good", "bad"])
        bench, paid, _ = bench_of(tmp_path, cache, limit_usd=10)
        assert [one.total for one in rewards_of(bench, keys).score(asked, ["good", "bad"])] == [1.0, 0.25]
    assert len(judge_calls(tmp_path)) == 2
    assert paid == []


def test_two_judges_of_a_climb_stay_open_side_by_side_each_with_its_price(tmp_path: Path) -> None:
    dear = write_judge(tmp_path, GRADER, rubric="It is polite.", prompt_price=1e6, output_price=0)
    free = {**write_judge(tmp_path / "other", FAIR), "rubric": "It is short."}
    with ResponseCache(tmp_path / "cache.sqlite") as cache:
        bench, paid, noted = bench_of(tmp_path, cache)
        rewards_of(bench, dear, free).score([example("")], ["good"])
        opened = [
            bench.models.judge(one["model"], prompt_price=price, output_price=0)
            for one, price in ((dear, 1e6), (free, 0))
        ]
        again = bench.models.judge(dear["model"], prompt_price=1e6, output_price=0)
    assert again is opened[0] is not opened[1]
    assert [event.spent.usd > 0 for event in noted if isinstance(event, RewardsJudged)] == [True, False]
    assert len(paid) == 1
