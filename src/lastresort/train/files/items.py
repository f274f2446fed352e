"""A training file's data -> items: rows are read, rendered and held to the longest row; what is left out is reported."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from lastresort.data.files import read_rows
from lastresort.data.formats import COMMON_COLUMNS
from lastresort.data.formats.rows import RawRow
from lastresort.data.plain_text import packed_rows, read_documents
from lastresort.data.preferences import PreferencePair, are_pairs, as_labelled, label_of, labelled_of, pairs_of
from lastresort.data.read import examples_of, renamed
from lastresort.data.rendering import Rendered, render_training, training_messages
from lastresort.data.segments import (
    Segments,
    are_segments,
    prompt_text,
    read_segment_pair,
    read_segments,
    render_segments,
)
from lastresort.engine.forest import Row
from lastresort.errors import DataError
from lastresort.train.files.run_folder import RowFinding
from lastresort.train.loop.batches import TrainingItem, completions, labelled, pairs
from lastresort.train.settings import LongerRows, TrainingFile
from lastresort.types import Example, Message

Unit = TypeVar("Unit")


@dataclass(frozen=True, slots=True)
class Conversation:
    """turns: which turns of the messages are trained, as `render_training` takes it."""

    messages: tuple[Message, ...]
    turns: Literal["all", "last"] | int


@dataclass(frozen=True, slots=True)
class TrainingUnit:
    """What becomes one item: one text, or the two of a pair. prompt: units with the same are held out together."""

    prompt: str
    texts: tuple[Conversation | Segments, ...]
    place: str
    label: bool | None = None


def read_units(file: TrainingFile, paths: Sequence[Path]) -> list[TrainingUnit]:
    """The rows of files as the objective of the training file needs them. Raises DataError naming file, row and key."""
    return [unit for path in paths for unit in _units(file, path)]


def _units(file: TrainingFile, path: Path) -> list[TrainingUnit]:
    rows = read_rows(path)
    if file.columns:
        rows = renamed(rows, file.columns, COMMON_COLUMNS)
    if are_segments(rows[0]):
        return [unit for row in rows for unit in _segment_units(file, row)]
    if file.need == "pairs":
        return [
            TrainingUnit(_text(one.prompt), (_side(one, one.chosen), _side(one, one.rejected)), one.place)
            for one in pairs_of(rows)
        ]
    if file.need == "labels" and file.pairs_as_labels:
        return [
            TrainingUnit(_text(one.prompt), (_side(one, one.chosen if label else one.rejected),), one.place, label)
            for one, label in as_labelled(pairs_of(rows))
        ]
    if file.need == "labels":
        return [_example_unit(example, 1, label) for example, label in labelled_of(rows, path)]
    return [_example_unit(example, file.trained_turns) for example in _completions(rows, path)]


def _segment_units(file: TrainingFile, row: RawRow) -> list[TrainingUnit]:
    if file.trained_turns == "last":
        raise DataError(
            "found segments together with trained_turns: last",
            where=row.place,
            expected="one of them, since a segment says itself whether it is trained",
            remedy="Remove trained_turns.",
        )
    if file.need == "pairs":
        chosen, rejected = read_segment_pair(row)
        return [TrainingUnit(prompt_text(chosen), (chosen, rejected), row.place)]
    if file.need == "labels" and file.pairs_as_labels:
        sides = zip(read_segment_pair(row), (True, False), strict=True)
        return [TrainingUnit(prompt_text(side), (side,), row.place, label) for side, label in sides]
    label = label_of(row) if file.need == "labels" else None
    whole = read_segments(row)
    return [TrainingUnit(prompt_text(whole), (whole,), row.place, label)]


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


def _example_unit(example: Example, turns: Literal["all", "last"] | int, label: bool | None = None) -> TrainingUnit:
    return TrainingUnit(example.input_text, (Conversation(training_messages(example), turns),), example.place, label)


def _side(pair: PreferencePair, answer: tuple[Message, ...]) -> Conversation:
    return Conversation((*pair.prompt, *answer), len(answer))


def _text(turns: Sequence[Message]) -> str:
    return "\n".join(turn.content for turn in turns)


def split(
    units: Sequence[Unit],
    prompt_of: Callable[[Unit], str],
    share: float | int,
    seed: int,
    noun: str = "different prompts",
    where: str = "",
) -> tuple[list[Unit], list[Unit]]:
    """Train and eval: prompts are drawn, and all rows of one prompt go with it. where: the user says how many, for errors."""
    prompts = list(dict.fromkeys(prompt_of(unit) for unit in units))
    count = int(share) if share >= 1 else max(1, round(share * len(prompts)))
    if count >= len(prompts):
        raise DataError(
            f"found {share} of {len(prompts)} {noun} to hold out",
            where=where,
            expected="some that remain to train on",
            remedy="Hold out fewer, or name a file for eval.",
        )
    drawn = set(random.Random(seed).sample(prompts, count))
    return [u for u in units if prompt_of(u) not in drawn], [u for u in units if prompt_of(u) in drawn]


def _share_key(file: TrainingFile) -> str:
    """The key by which the user holds rows out: ours, or that of another framework's file that this one was made of."""
    return (file.resolved.get("origin") or {}).get("eval_key") or "data.eval"


def _place_of_share(file: TrainingFile) -> str:
    origin = file.resolved.get("origin") or {}
    origin_file = origin.get("file") if origin.get("eval_key") else None
    return f'{origin_file or file.path}, key "{_share_key(file)}"'


def split_of(
    file: TrainingFile, train: list[TrainingUnit], held: list[TrainingUnit]
) -> tuple[list[TrainingUnit], list[TrainingUnit]]:
    """Train and eval of a file: as they are, or with the share of train that it holds out."""
    share = file.data.eval_share
    if share is None:
        return train, held
    return split(train, lambda unit: unit.prompt, share, file.settings.seed, where=_place_of_share(file))


TEXT_ROW_TOKENS = 1024
NAMED_PLACES = 20


@dataclass(frozen=True, slots=True)
class TrainingItems:
    """The items of a run. read: rows of the files. noun: what an item is, in the plural. row_tokens: the longest row allowed,
    None for no limit."""

    items: tuple[TrainingItem, ...]
    held_out: tuple[TrainingItem, ...]
    findings: tuple[RowFinding, ...]
    read: int
    noun: str
    row_tokens: int | None


def prepare_items(file: TrainingFile, tokenizer: Any, context_tokens: int | None) -> TrainingItems:
    """Everything that `train` needs of the data. context_tokens: of the model, None if it does not say.

    Raises DataError for rows that cannot be trained on, naming file and row.
    """
    limit = _row_tokens(file, context_tokens)
    if file.need == "text":
        return _prepare_text(file, tokenizer, limit or TEXT_ROW_TOKENS)
    train, held = split_of(file, read_units(file, file.data.train), read_units(file, file.data.eval))
    findings = _Findings()
    items = _items(file, _render(file, train, tokenizer, limit, findings), limit, "train", findings)
    rendered = _render(file, held, tokenizer, limit, findings)
    held_out = _items(file, rendered, limit, "eval", findings) if held else ()
    noun = {"pairs": "pairs", "labels": "labelled answers"}.get(file.need, "rows")
    return TrainingItems(items, held_out, findings.all(), len(train) + len(held), noun, limit)


def _row_tokens(file: TrainingFile, context_tokens: int | None) -> int | None:
    if file.max_tokens is not None and context_tokens is not None and file.max_tokens > context_tokens:
        raise DataError(
            f"found {file.max_tokens}",
            where=f'{file.path}, key "max_tokens"',
            expected=f"at most the model's context of {context_tokens}",
            remedy="Lower it, or leave it out.",
        )
    if file.max_tokens is None and file.need == "text":
        return min(context_tokens or TEXT_ROW_TOKENS, TEXT_ROW_TOKENS)
    return file.max_tokens or context_tokens


class _Findings:
    """What is found on the way, by what it is."""

    def __init__(self) -> None:
        self._places: dict[str, list[str]] = {}

    def add(self, what: str, place: str) -> None:
        self._places.setdefault(what, []).append(place)

    def all(self) -> tuple[RowFinding, ...]:
        return tuple(
            RowFinding(what=what, count=len(at), places=tuple(at[:NAMED_PLACES])) for what, at in self._places.items()
        )


@dataclass(frozen=True, slots=True)
class _Made:
    rows: tuple[Row, ...]
    place: str
    label: bool | None


def _render(
    file: TrainingFile, units: Sequence[TrainingUnit], tokenizer: Any, limit: int | None, found: _Findings
) -> list[_Made]:
    made, longer = [], []
    for unit in units:
        rows = _rows(file, unit, tokenizer)
        if limit is not None and max(len(row.ids) for row in rows) > limit:
            longer.append((max(len(row.ids) for row in rows), unit.place))
            fitted = _fitted(rows, limit, file.longer_rows)
            if fitted is None:
                if file.longer_rows != "refuse":
                    found.add(f"left out, longer than {limit} tokens", unit.place)
                continue
            found.add(f"cut to {limit} tokens", unit.place)
            rows = fitted
        if len(rows) == 2 and rows[0] == rows[1]:
            found.add("left out, chosen and rejected are the same", unit.place)
            continue
        made.append(_Made(rows, unit.place, unit.label))
    if longer and file.longer_rows == "refuse":
        _refuse_longer(file, longer, limit)
    return made


def _rows(file: TrainingFile, unit: TrainingUnit, tokenizer: Any) -> tuple[Row, ...]:
    rendered = [_rendered(file, text, tokenizer, unit.place) for text in unit.texts]
    rows = [Row(row.ids, row.targets) for row in rendered]
    if len({row.prompt for row in rows}) > 1:
        raise DataError(
            "the prompt has other tokens before chosen than before rejected",
            where=unit.place,
            expected="the same prompt, token for token",
            remedy="Remove the row, or write one prompt, with chosen and rejected as its answers.",
        )
    return tuple(rows)


def _rendered(file: TrainingFile, text: Conversation | Segments, tokenizer: Any, place: str) -> Rendered:
    if not isinstance(text, Conversation):
        return render_segments(tokenizer, text, where=place)
    kwargs = file.chat_template_kwargs
    return render_training(tokenizer, text.messages, trained_turns=text.turns, template_kwargs=kwargs, where=place)


def _fitted(rows: Sequence[Row], limit: int, how: LongerRows) -> tuple[Row, ...] | None:
    """The rows cut at their end, None where that is not asked for or nothing would remain to be trained."""
    if how != "truncate":
        return None
    cut = tuple(Row(row.ids[:limit], row.targets[:limit]) for row in rows)
    return cut if all(any(row.targets) for row in cut) else None


def _refuse_longer(file: TrainingFile, longer: Sequence[tuple[int, str]], limit: int | None) -> None:
    tokens, place = longer[0]
    also = f", and {len(longer) - 1} more rows are too long" if len(longer) > 1 else ""
    what = "as max_tokens says" if file.max_tokens is not None else "the model's context"
    raise DataError(
        f"found {tokens} tokens{also}",
        where=place,
        expected=f"at most {limit}, {what}",
        remedy="Shorten what is too long, or write longer_rows: drop or longer_rows: truncate.",
    )


def _items(
    file: TrainingFile, made: Sequence[_Made], limit: int | None, part: str, found: _Findings
) -> tuple[TrainingItem, ...]:
    where = _where(file, part)
    if not made:
        left = "; ".join(finding.sentence() for finding in found.all())
        raise DataError(
            f"no row of {part} can be trained on: {left}" if left else f"no row of {part} is left",
            where=where,
            expected="at least one",
            remedy="Look at the data.",
        )
    if file.need == "pairs":
        return tuple(pairs([unit.rows[0] for unit in made], [unit.rows[1] for unit in made]))
    if file.need == "labels":
        return _labelled(file, made, limit, part, found)
    return tuple(completions([unit.rows[0] for unit in made]))


def _where(file: TrainingFile, part: str) -> str:
    return ", ".join(str(path) for path in (file.data.eval if part == "eval" and file.data.eval else file.data.train))


def _labelled(
    file: TrainingFile, made: Sequence[_Made], limit: int | None, part: str, found: _Findings
) -> tuple[TrainingItem, ...]:
    where = _where(file, part)
    labels = [bool(unit.label) for unit in made]
    if part == "train" and len(set(labels)) == 1:
        raise DataError(
            f"all {len(labels)} labels are {str(labels[0]).lower()}",
            where=where,
            expected="good and bad answers",
            remedy="Add answers of the other kind, or train on the good ones with objective: sft.",
        )
    if len({unit.rows[0].prompt for unit in made}) == 1:
        raise DataError(
            f"all {len(made)} prompts of {part} are the same",
            where=where,
            expected="at least two different ones, since kto compares a prompt with the answer to another",
            remedy=_more_prompts(file, part),
        )
    items = labelled([unit.rows[0] for unit in made], labels)
    return tuple(_mismatched_fits(item, unit.place, limit, found) for item, unit in zip(items, made, strict=True))


def _more_prompts(file: TrainingFile, part: str) -> str:
    """What to do about a part whose prompts are all the same."""
    if part == "eval" and file.data.eval_share is not None:
        too_few = "there may be too few rows to hold some out"
        return f"Raise {_share_key(file)} from {file.data.eval_share:g}, or leave it out: {too_few}."
    held_out = f", or lower {_share_key(file)}" if file.data.eval_share is not None else ""
    return f"Add rows with other prompts{held_out}."


def _mismatched_fits(item: TrainingItem, place: str, limit: int | None, found: _Findings) -> TrainingItem:
    """A prompt with another row's answer may be longer than either row: that answer is cut."""
    row, other = item.rows
    if limit is None or len(other.ids) <= limit:
        return item
    found.add(f"whose mismatched answer, for kto's baseline, was cut to {limit} tokens", place)
    return replace(item, rows=(row, Row(other.ids[:limit], other.targets[:limit])))


def _prepare_text(file: TrainingFile, tokenizer: Any, row_tokens: int) -> TrainingItems:
    documents = [document for path in file.data.train for document in read_documents(path)]
    held = [document for path in file.data.eval for document in read_documents(path)]
    rows = packed_rows(tokenizer, documents, row_tokens)
    held_rows = packed_rows(tokenizer, held, row_tokens) if held else []
    if file.data.eval_share is not None:
        numbered = list(enumerate(rows))
        train, out = split(
            numbered,
            lambda pair: str(pair[0]),
            file.data.eval_share,
            file.settings.seed,
            f"rows of {row_tokens} tokens",
            _place_of_share(file),
        )
        rows, held_rows = [row for _, row in train], [row for _, row in out]
    items = completions([Row(row.ids, row.targets) for row in rows])
    held_out = completions([Row(row.ids, row.targets) for row in held_rows])
    noun = f"rows of up to {row_tokens} tokens from {len(documents)} documents"
    return TrainingItems(tuple(items), tuple(held_out), (), len(documents) + len(held), noun, row_tokens)
