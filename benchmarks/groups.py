"""GRPO with sampling, ours or TRL's: `python -m benchmarks.groups PEER PRECISION STEPS CHECKPOINTING` prints one JSON line.

4 prompts of about 100 tokens, 8 answers each of at most 40 tokens, one update a step. Both sample at temperature 1 from the weights
they train; the reward counts vowels, so that groups differ.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.material import WORDS, embedded
from benchmarks.meter import now, peak_bytes
from benchmarks.trl_side import TrlSetting, prepared, trl_arguments, watch
from lastresort.train.adapters.adapters import attach_adapter
from lastresort.train.settings import Objective, TrainSettings
from lastresort.types import Example, Message


@dataclass(frozen=True)
class GroupCase:
    """prompts: of a step, of `words` words each. members: answers to a prompt, of at most `new_tokens`."""

    prompts: int = 4
    members: int = 8
    new_tokens: int = 40
    words: int = 70

    @property
    def answers(self) -> int:
        return self.prompts * self.members


CASE = GroupCase()
LEARNING_RATE = 1e-5
REWARD = "def vowels(prompt, completion, **_):\n    return sum(letter in 'aeiou' for letter in completion) / 100\n"


def prompts_of(n: int, words: int, known: Sequence[str] = WORDS) -> list[str]:
    draw = random.Random(5)
    return [" ".join(draw.choice(known) for _ in range(words)) for _ in range(n)]


def ours(
    loaded: Any, prompts: list[str], settings: TrainSettings, case: GroupCase
) -> tuple[list[float], list[float], list[float]]:
    """Ends of steps in seconds, mean rewards and mean answer lengths of each step."""
    from lastresort.spec.score import Reward
    from lastresort.spec.values import ReadContext
    from lastresort.train.groups.groups import groups_from
    from lastresort.train.loop.loop import StepSeen, train
    from lastresort.train.settings import GroupSettings

    model = attach_adapter(loaded.model, settings.adapter, base_name="embedded", seed=settings.seed)
    ends, rewards, lengths = list[float](), list[float](), list[float]()

    def on_step(seen: StepSeen) -> None:
        ends.append(now(loaded.model.device))
        rewards.append(seen.figures["reward"])
        lengths.append(seen.figures["answer_length"])

    examples = [Example(f"p{i}", (Message("user", prompt),), "") for i, prompt in enumerate(prompts)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "reward.py").write_text(REWARD, encoding="utf-8")
        term = Reward.model_validate({"python": "reward.py:vowels"}, context=ReadContext(folder.resolve()))
        sampling = GroupSettings(
            group_size=case.members, max_new_tokens=case.new_tokens, rows_at_once=max(64, case.answers)
        )
        with groups_from(
            examples,
            [term],
            objective="grpo",
            tokenizer=loaded.tokenizer,
            batch_size=case.prompts,
            seed=0,
            settings=sampling,
        ) as groups:
            train(
                model, groups, settings, folder=folder / "checkpoint", max_new_tokens=case.new_tokens, on_step=on_step
            )
    return ends, rewards, lengths


def trl(
    loaded: Any, prompts: list[str], settings: TrainSettings, setting: TrlSetting, case: GroupCase
) -> tuple[list[float], list[float], list[float]]:
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    ends, logged = list[float](), list[dict[str, float]]()

    def vowels(completions: list[Any], **_: Any) -> list[float]:
        return [sum(letter in "aeiou" for letter in said[0]["content"]) / 100 for said in completions]

    with tempfile.TemporaryDirectory() as folder:
        arguments = GRPOConfig(
            **trl_arguments(settings, folder, setting, device=loaded.model.device, rows=case.answers),
            num_generations=case.members,
            max_completion_length=case.new_tokens,
            beta=0.0,
            loss_type="grpo",
        )
        trainer = GRPOTrainer(
            model=attach_adapter(
                prepared(loaded.model, setting), settings.adapter, base_name="embedded", seed=settings.seed
            ),
            reward_funcs=[vowels],
            args=arguments,
            train_dataset=Dataset.from_list([{"prompt": [{"role": "user", "content": text}]} for text in prompts]),
            processing_class=loaded.tokenizer,
            callbacks=[watch(ends, logged, "reward", loaded.model.device)],
        )
        trainer.train()
    return ends, [logs["reward"] for logs in logged], [logs["completions/mean_length"] for logs in logged]


def main(peer: str, precision: str, steps: int, checkpointing: bool) -> dict[str, Any]:
    loaded = embedded(precision)
    prompts = prompts_of(CASE.prompts * steps, CASE.words)
    settings = TrainSettings(
        LEARNING_RATE,
        epochs=1,
        batch_size=CASE.prompts,
        objective=Objective("grpo"),
        warmup=0.0,
        checkpointing=checkpointing,
    )
    reduced = TrlSetting(reduced=precision == "bfloat16")
    found = ours(loaded, prompts, settings, CASE) if peer == "ours" else trl(loaded, prompts, settings, reduced, CASE)
    ends, rewards, lengths = found
    seconds = ends[-1] - ends[0]
    return {
        "rows_per_s": CASE.answers * (len(ends) - 1) / seconds,  # the first step warms up
        "tokens_per_s": CASE.answers * sum(lengths[1:]) / seconds,
        "rewards": rewards,
        "lengths": lengths,
        "peak_bytes": peak_bytes("cpu"),
    }


if __name__ == "__main__":
    peer, precision, steps, checkpointing = sys.argv[1:]
    print(json.dumps(main(peer, precision, int(steps), checkpointing == "on")))
