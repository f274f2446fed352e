"""A climb whose reward is a judge that costs money: it stops at the limit, goes on, and pays for no answer twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from judge_support import judge_calls, write_judge
from lastresort.errors import BudgetError
from lastresort.records.events.run import BudgetSpent
from lastresort.records.record import Record
from tuning_support import climbed, steps_of, tiny_task

LETTERS = {"rules": [{"match": r"<answer>[^<]*[a-m]", "answer": "5"}], "default": "1"}


@pytest.mark.slow
def test_a_judge_that_rewards_keeps_to_the_limit_and_is_paid_once(tmp_path: Path) -> None:
    judge = write_judge(tmp_path / "judge", LETTERS, rubric="It is short.", prompt_price=1e6, output_price=0)

    def task(usd: float) -> Path:
        keys: dict[str, Any] = {"learning_rates": [0.003], "samples": 2, "batch_size": 24}
        return tiny_task(
            tmp_path / "task", ladder=["preference"], reward=[{"judge": judge}], preference=keys, limits={"usd": usd}
        )

    with pytest.raises(BudgetError, match="USD are spent"):
        climbed(task(100), tmp_path / "run")  # a dollar a token: the first answers take thousands
    assert len(judge_calls(tmp_path / "judge")) >= 16
    found = climbed(task(1e9), tmp_path / "run")
    keys = [call["key"] for call in judge_calls(tmp_path / "judge")]
    assert len(set(keys)) == len(keys) > 48
    with Record.open(found.run, read_only=True) as record:
        paid = sum(spent.usd for spent in record.all(BudgetSpent))
        curve = steps_of(record, "grpo-lr0.003")
    assert found.decision.as_json()["rungs"][0]["cost"]["usd"] == pytest.approx(paid)
    assert paid > 1000
    assert any(0 < point["reward_judge"] < 1 for point in curve)
