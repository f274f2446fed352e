"""A training file's rows as conversations or segments, whatever shape they come in: what is rendered, and what of it is trained."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from lastresort.data.files import read_rows
from lastresort.data.preferences import Pair, are_pairs, as_labelled, label_of, labelled_of, pairs_of
from lastresort.data.read import examples_of
from lastresort.data.rendering import training_messages
from lastresort.data.rows import RawRow
from lastresort.data.segments import Segments, are_segments, prompt_text, read_segment_pair, read_segments
from lastresort.errors import DataError
from lastresort.train.training_file import TrainingFile
from lastresort.types import Example, Message


@dataclass(frozen=True, slots=True)
class Conversation:
    """turns: which turns of the messages are trained, as `render_training` takes it."""

    messages: tuple[Message, ...]
    turns: Literal["all", "last"] | int


@dataclass(frozen=True, slots=True)
class Unit:
    """What becomes one item: one text, or the two of a pair. prompt: units with the same are held out together."""

    prompt: str
    texts: tuple[Conversation | Segments, ...]
    place: str
    label: bool | None = None


def read_units(file: TrainingFile, paths: Sequence[Path]) -> list[Unit]:
    """The rows of files as the objective of the training file needs them. Raises DataError naming file, row and key."""
    return [unit for path in paths for unit in _units(file, path)]


def _units(file: TrainingFile, path: Path) -> list[Unit]:
    rows = read_rows(path)
    if are_segments(rows[0]):
        return [unit for row in rows for unit in _segment_units(file, row)]
    if file.need == "pairs":
        return [_pair_unit(pair) for pair in pairs_of(rows)]
    if file.need == "labels" and file.pairs_as_labels:
        return [_side_unit(pair, label) for pair, label in as_labelled(pairs_of(rows))]
    if file.need == "labels":
        return [_example_unit(example, 1, label) for example, label in labelled_of(rows, path)]
    return [_example_unit(example, file.trained_turns) for example in _completions(rows, path)]


def _segment_units(file: TrainingFile, row: RawRow) -> list[Unit]:
    if file.trained_turns == "last":
        raise DataError(
            "found segments beside trained_turns: last",
            where=row.place,
            expected="one of them, since a segment says itself whether it is trained",
            remedy="Remove trained_turns.",
        )
    if file.need == "pairs":
        chosen, rejected = read_segment_pair(row)
        return [Unit(prompt_text(chosen), (chosen, rejected), row.place)]
    if file.need == "labels" and file.pairs_as_labels:
        sides = zip(read_segment_pair(row), (True, False), strict=True)
        return [Unit(prompt_text(side), (side,), row.place, label) for side, label in sides]
    label = label_of(row) if file.need == "labels" else None
    whole = read_segments(row)
    return [Unit(prompt_text(whole), (whole,), row.place, label)]


def _completions(rows: list[RawRow], path: Path) -> list[Example]:
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
    return Unit(example.input_text, (Conversation(training_messages(example), turns),), place, label)


def _pair_unit(pair: Pair) -> Unit:
    return Unit(_text(pair.prompt), (_side(pair, pair.chosen), _side(pair, pair.rejected)), pair.place)


def _side_unit(pair: Pair, label: bool) -> Unit:
    return Unit(_text(pair.prompt), (_side(pair, pair.chosen if label else pair.rejected),), pair.place, label)


def _side(pair: Pair, answer: tuple[Message, ...]) -> Conversation:
    return Conversation((*pair.prompt, *answer), len(answer))


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
