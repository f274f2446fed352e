"""What is measured on: rows of set lengths over the embedded model's tokens, the same for every peer."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import torch

from lastresort.embedded import embedded_folder
from lastresort.engine.forest import Row
from lastresort.models.local import load_local

LEARNING_RATE = 1e-3


@dataclass(frozen=True)
class Case:
    """A kind of rows. shared: tokens common to all; own: of each row's own, of which the last `answer` are trained."""

    name: str
    shared: int
    own: int
    answer: int
    batch: int = 16


SFT_CASES = (Case("315 tokens, 280 shared", 280, 35, 25), Case("100 tokens, 60 shared", 60, 40, 25))
WORDS = (
    "the and of to in is it for on with as was at by an be this from or had not are but have one you were all".split()
)


def rows_of(case: Case, tokenizer: Any, n: int, seed: int = 0) -> list[Row]:
    """n rows of real words; own parts vary by a fifth in length."""
    draw = random.Random(f"{case.name}:{seed}")
    vocabulary = [tokenizer(" " + word, add_special_tokens=False)["input_ids"][0] for word in WORDS]

    def words(length: int) -> list[int]:
        return [draw.choice(vocabulary) for _ in range(length)]

    prefix = words(case.shared)
    rows = []
    for _ in range(n):
        own = words(case.own + draw.randint(-case.own // 5, case.own // 5))
        ids = (*prefix, *own)
        rows.append(Row(ids, tuple(i >= len(ids) - case.answer for i in range(len(ids)))))
    return rows


def embedded(precision: str) -> Any:
    """The embedded model, loaded. precision: float32 or bfloat16."""
    torch.manual_seed(0)
    return load_local(embedded_folder(), precision=precision, adapter=None)
