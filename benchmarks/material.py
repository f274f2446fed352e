"""What is measured on: rows of set lengths over the embedded model's tokens, the same for every peer."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lastresort.embedded import embedded_folder
from lastresort.engine.forest import Row
from lastresort.models.local import load_local
from lastresort.types import Message

LEARNING_RATE = 1e-3


@dataclass(frozen=True)
class Case:
    """A kind of rows. shared: tokens common to all; own: of each row's own, of which the last `answer` are trained.
    vary: whether own parts differ in length, by a fifth."""

    name: str
    shared: int
    own: int
    answer: int
    batch: int = 16
    vary: bool = True


@dataclass(frozen=True)
class PairCase:
    """A kind of pairs. shared: tokens that all prompts have in common; prompt, answer: of each pair's own."""

    name: str
    shared: int
    prompt: int
    answer: int
    batch: int = 8


@dataclass(frozen=True)
class Pairs:
    """texts: prompt, chosen, rejected, for peers that tokenize themselves; chosen, rejected: the same as rows."""

    texts: list[tuple[str, str, str]]
    chosen: list[Row]
    rejected: list[Row]


SFT_CASES = (Case("315 tokens, 280 shared", 280, 35, 25), Case("100 tokens, 60 shared", 60, 40, 25))
CHAT_DATA = Path("..") / "shared" / "data" / "dolly_hhrlhf_small"  # where it is not, its row is left out
CHAT = Case("general chat rows, nothing shared", 0, 0, 0, batch=8)
PAIR_CASES = (
    PairCase("prompt 180, answers 60, all different", 0, 180, 60),
    PairCase("common 200, prompt 40, answers 40", 200, 40, 40),
)
WORDS = (
    "the and of to in is it for on with as was at by an be this from or had not are but have one you were all".split()
)


def rows_of(case: Case, tokenizer: Any, n: int, seed: int = 0, *, known: Sequence[str] = WORDS) -> list[Row]:
    """n rows of known words, each of which is a token."""
    draw = random.Random(f"{case.name}:{seed}")
    vocabulary = [tokenizer(" " + word, add_special_tokens=False)["input_ids"][0] for word in known]

    def words(length: int) -> list[int]:
        return [draw.choice(vocabulary) for _ in range(length)]

    prefix = words(case.shared)
    rows = []
    for _ in range(n):
        own = words(case.own + (draw.randint(-case.own // 5, case.own // 5) if case.vary else 0))
        ids = (*prefix, *own)
        rows.append(Row(ids, tuple(i >= len(ids) - case.answer for i in range(len(ids)))))
    return rows


def chat_rows(folder: Path, tokenizer: Any, n: int) -> list[Row]:
    """n rows of general instructions and answers, at most 512 tokens each, from the files of `folder`."""
    from lastresort.data.read import read_examples
    from lastresort.data.rendering import render_training

    rows: list[Row] = []
    for example in read_examples(next(folder.glob("*.jsonl"))):
        found = render_training(tokenizer, [*example.input, Message("assistant", example.output)], where=example.id)
        if len(found.ids) <= 512:
            rows.append(Row(tuple(found.ids), tuple(found.targets)))
        if len(rows) == n:
            break
    return rows


def pairs_of(case: PairCase, tokenizer: Any, n: int, seed: int = 0, *, known: Sequence[str] = WORDS) -> Pairs:
    """n pairs of known words; own parts vary by a fifth in length. Both answers end with the end token."""
    draw = random.Random(f"{case.name}:{seed}")

    def words(length: int) -> str:
        return "".join(" " + draw.choice(known) for _ in range(length))

    def about(length: int) -> int:
        return length + draw.randint(-length // 5, length // 5)

    begin, end = tokenizer.bos_token, tokenizer.eos_token
    shared, texts = words(case.shared), list[tuple[str, str, str]]()
    rows = (list[Row](), list[Row]())
    for _ in range(n):
        prompt = begin + shared + words(about(case.prompt))
        answers = [words(about(case.answer)) + end for _ in range(2)]
        texts.append((prompt, answers[0], answers[1]))
        before = len(tokenizer(prompt, add_special_tokens=False)["input_ids"])
        for side, answer in zip(rows, answers, strict=True):
            ids = tuple(tokenizer(prompt + answer, add_special_tokens=False)["input_ids"])
            side.append(Row(ids, tuple(i >= before for i in range(len(ids)))))
    return Pairs(texts, *rows)


def embedded(precision: str) -> Any:
    """The embedded model, loaded. precision: float32 or bfloat16."""
    torch.manual_seed(0)
    return load_local(embedded_folder(), precision=precision, adapter=None)
