"""End to end: a random model that is rewarded for letters comes to write letters."""

from __future__ import annotations

from dataclasses import replace

import pytest

from groups_support import ADAPTER, SETTINGS, python_reward, reward_file, sampled_groups, tiny_and_tokenizer
from lastresort.train.loop.loop import train
from lastresort.train.settings import Objective, TrainSettings


@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", ["grpo", "dr_grpo", "dapo"])
def test_the_mean_reward_rises(name, tmp_path):
    model, tokenizer = tiny_and_tokenizer(tmp_path, head=8.0)
    settings = TrainSettings(
        learning_rate=2e-2,
        epochs=20,
        batch_size=6,
        max_steps=20,
        adapter=ADAPTER,
        objective=Objective(name),
        schedule="constant",
        seed=5,
    )
    seen = []
    rewards = [python_reward(reward_file(tmp_path), "letters")]
    drawn = replace(SETTINGS, group_size=8, tries=1)
    with sampled_groups(tmp_path, tokenizer, objective=name, batch_size=6, rewards=rewards, settings=drawn) as groups:
        train(
            model, groups, settings, folder=tmp_path / "run", max_new_tokens=drawn.max_new_tokens, on_step=seen.append
        )
    reward = [step.figures["reward"] for step in seen]
    assert len(reward) == 20
    print(name, [round(r, 2) for r in reward])
    assert sum(reward[:2]) / 2 < 0.2  # 26 of 259 tokens are letters
    assert sum(reward[-3:]) / 3 > 0.6
