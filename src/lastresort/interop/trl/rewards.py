"""Rewards of a training file as functions of TRL's form: what an exported rewards.py calls."""

from __future__ import annotations

import atexit
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lastresort.interop.exporting.job import EXPECTED
from lastresort.spec.score import Reward
from lastresort.spec.training_sections import LimitKeys
from lastresort.spec.values import ReadContext
from lastresort.train.rewards import Rewards
from lastresort.types import Example, JsonObject, Message


def reward_function(term: Any, folder: Path, settings: Mapping[str, Any], *, name: str) -> Callable[..., list[float]]:
    """A function of prompts and completions, with a row's further columns by name, that gives the reward of each answer.

    term: as a training file writes it, without its weight. folder: base of its paths. settings: `on_error` and `limits` of the
    training file. The right answer is the column `expected`. Raises TaskError for a term that cannot be built, at its first call.
    """
    scored: list[Rewards] = []
    columns: dict[str, Mapping[str, Any]] = {}

    def rewards() -> Rewards:
        if not scored:
            reading = ReadContext(folder.resolve())
            wanted = Reward.model_validate(term, context=reading)
            limits = LimitKeys.model_validate(settings.get("limits") or {}, context=reading).settings
            made = Rewards([wanted], columns, on_error=settings.get("on_error", "stop"), limits=limits)
            atexit.register(made.close)
            scored.append(made)
        return scored[0]

    def reward(prompts: Sequence[Any], completions: Sequence[Any], **further: Any) -> list[float]:
        asked = [_example(number, prompt, further) for number, prompt in enumerate(prompts)]
        columns.clear()
        columns.update({one.id: _columns(number, len(asked), further) for number, one in enumerate(asked)})
        return [one.total for one in rewards().score(asked, [_text(answer) for answer in completions])]

    reward.__name__ = name  # TRL names the reward so in its log
    return reward


def _example(number: int, prompt: Any, further: Mapping[str, Any]) -> Example:
    turns: list[Any] = prompt if isinstance(prompt, list) else [{"role": "user", "content": str(prompt)}]
    expected = further.get(EXPECTED)
    answer = expected[number] if isinstance(expected, list) else None
    return Example(
        str(number), tuple(Message(turn["role"], turn["content"]) for turn in turns), "" if answer is None else answer
    )


def _columns(number: int, count: int, further: Mapping[str, Any]) -> JsonObject:
    """Of one row. TRL gives beside the columns what is no list of them, such as the trainer's state."""
    return {key: value[number] for key, value in further.items() if isinstance(value, list) and len(value) == count}


def _text(answer: Any) -> str:
    """Of a completion, a text or the turns of an answer."""
    return answer if isinstance(answer, str) else "".join(turn["content"] for turn in answer)
