"""Replay: rows that the base model itself answers, so that tuning keeps what it does not mean to change.

Training on the model's own answers adds no new knowledge and pulls its general behaviour back to where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lastresort.models.protocol import Model
from lastresort.types import Answer, Decoding, Example, Message

REPLAY_TOKENS = 96


@dataclass(frozen=True, slots=True)
class Replay:
    """Rows for replay. ends[i] is False where the answer was cut, so that its end must not be trained.

    tokens_in, tokens_out, seconds: what making them took.
    """

    examples: tuple[Example, ...] = ()
    ends: tuple[bool, ...] = ()
    tokens_in: int = 0
    tokens_out: int = 0
    seconds: float = 0.0


def generate_replay(
    model: Model,
    prompts: Sequence[tuple[Message, ...]],
    seed: int,
    *,
    keep: Callable[[str], bool] = bool,
    on_batch: Callable[[int], None] = lambda _: None,
) -> Replay:
    """The prompts answered greedily by `model`, in turn. keep: of an answer, whether it is to be trained; empty ones never are."""
    decoding = Decoding(REPLAY_TOKENS, seed=seed)
    examples: list[Example] = []
    ends: list[bool] = []
    answers: list[Answer] = []
    for start in range(0, len(prompts), model.batch_size):
        batch = prompts[start : start + model.batch_size]
        answers += model.generate(batch, decoding)
        for offset, answer in enumerate(answers[start:]):
            text = answer.text.strip()
            if text and keep(text):
                examples.append(Example(f"replay-{start + offset}", batch[offset], text))
                ends.append(answer.finish == "stop")
        on_batch(len(batch))
    return Replay(
        tuple(examples),
        tuple(ends),
        sum(answer.prompt_tokens for answer in answers),
        sum(answer.completion_tokens for answer in answers),
        sum(answer.seconds for answer in answers),
    )


def replay_rows(n_train: int, share: float) -> int:
    """How many replay rows make `share` of the whole training set."""
    return round(n_train * share / (1.0 - share))
