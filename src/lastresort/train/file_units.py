"""A training file's rows as conversations, whatever shape they come in: what is rendered, and which turns are trained."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from lastresort.data.files import read_rows
from lastresort.data.preferences import Pair, are_pairs, as_labelled, read_labelled, read_pairs
from lastresort.data.read import examples_of
from lastresort.data.rendering import training_messages
from lastresort.data.rows import RawRow
from lastresort.errors import DataError
from lastresort.train.training_file import TrainingFile
from lastresort.types import Example, Message


@dataclass(frozen=True, slots=True)
class Unit:
    """What becomes one item: one conversation, or the two of a pair. prompt: units with the same are held out together.

    turns: which turns of each conversation are trained, as `render_training` takes it.
    """

    prompt: str
    conversations: tuple[tuple[Message, ...], ...]
    turns: tuple[Literal["all", "last"] | int, ...]
    place: str
    label: bool | None = None


def read_units(file: TrainingFile, paths: Sequence[Path]) -> list[Unit]:
    """The rows of files as the objective of the training file needs them. Raises DataError naming file, row and key."""
    units: list[Unit] = []
    for path in paths:
        if file.need == "pairs":
            units += [_pair_unit(pair) for pair in read_pairs(path)]
        elif file.need == "labels" and file.pairs_as_labels:
            units += [_side_unit(pair, label) for pair, label in as_labelled(read_pairs(path))]
        elif file.need == "labels":
            units += [_example_unit(example, 1, label) for example, label in read_labelled(path)]
        else:
            units += [_example_unit(example, file.trained_turns) for example in _completions(path)]
    return units


def _completions(path: Path) -> list[Example]:
    rows = read_rows(path)
    if are_pairs(rows[0]):
        raise DataError(
            "found preference pairs",
            where=rows[0].place,
            expected="answers to learn, for objective: sft",
            remedy="Write objective: dpo, or another on pairs.",
        )
    # Rows that share an id, such as several answers to one question, may well be trained on.
    return examples_of([_without(row, "id") for row in rows], path)


def _without(row: RawRow, key: str) -> RawRow:
    return replace(row, values={name: value for name, value in row.values.items() if name != key})


def _example_unit(example: Example, turns: Literal["all", "last"] | int, label: bool | None = None) -> Unit:
    place = f"{example.source}, row {example.row}"
    return Unit(example.input_text, (training_messages(example),), (turns,), place, label)


def _pair_unit(pair: Pair) -> Unit:
    whole = ((*pair.prompt, *pair.chosen), (*pair.prompt, *pair.rejected))
    return Unit(_text(pair.prompt), whole, (len(pair.chosen), len(pair.rejected)), pair.place)


def _side_unit(pair: Pair, label: bool) -> Unit:
    answer = pair.chosen if label else pair.rejected
    return Unit(_text(pair.prompt), ((*pair.prompt, *answer),), (len(answer),), pair.place, label)


def _text(turns: Sequence[Message]) -> str:
    return "\n".join(turn.content for turn in turns)


def split(
    units: Sequence[Any],
    prompt_of: Callable[[Any], str],
    share: float | int,
    seed: int,
    noun: str = "different prompts",
) -> tuple[list[Any], list[Any]]:
    """Train and eval: prompts are drawn, and all rows of one prompt go with it."""
    prompts = list(dict.fromkeys(prompt_of(unit) for unit in units))
    count = int(share) if share >= 1 else max(1, round(share * len(prompts)))
    if count >= len(prompts):
        raise DataError(
            f"found {share} of {len(prompts)} {noun} to hold out",
            where='key "data.eval"',
            expected="some that remain to train on",
            remedy="Hold out fewer, or name a file for eval.",
        )
    drawn = set(random.Random(seed).sample(prompts, count))
    return [u for u in units if prompt_of(u) not in drawn], [u for u in units if prompt_of(u) in drawn]
