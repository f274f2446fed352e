"""Samples of a model in a file: several answers to the same prompts, to be scored; and which row of a task they answer.

One answer a row, in any shape of a labelled example, or all answers to a prompt in one row:
{"prompt": …, "samples": ["…", …]}, the prompt also as `messages`, `input`, `question` or `instruction` (with its `input`), or
{"id": …, "samples": […]} with the id of the task's row. An answer that was cut at the token limit says so: "finish": "length".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lastresort.data.conversion.content import source_shape
from lastresort.data.conversion.streams import stream_rows
from lastresort.data.duplicates import normalised
from lastresort.data.formats import SHAPES
from lastresort.data.formats.rows import RawRow, kind_of
from lastresort.data.formats.shape import input_turns
from lastresort.data.read import PROMPT_KEYS
from lastresort.data.split import Split, find_leaks, prompt_key
from lastresort.errors import DataError
from lastresort.types import Example, Message


@dataclass(frozen=True, slots=True)
class FileSample:
    """One answer. prompt: the turns before it, empty where the row names an id alone. whole: it was not cut. place: for errors."""

    prompt: tuple[Message, ...]
    id: str | None
    text: str
    whole: bool
    place: str


def read_samples(path: Path) -> Iterator[FileSample]:
    """Raises DataError naming row and field."""
    for row in stream_rows(path):
        yield from _in_list(row) if "samples" in row.values else _alone(row)


def _in_list(row: RawRow) -> Iterator[FileSample]:
    texts = row.values["samples"]
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise DataError(
            f"found {kind_of(texts)}",
            where=row.at("samples"),
            expected="a list of texts",
            remedy="Write the answers as a list of texts.",
        )
    if row.values.get("finish") is not None:
        raise DataError(
            "found how one answer ended beside a list of samples",
            where=row.at("finish"),
            expected="one answer a row, each with its own finish",
            remedy="Write each sample as a row, or leave finish out if none was cut.",
        )
    prompt = _prompt(row)
    if not prompt and row.values.get("id") is None:
        raise DataError(
            "found samples without a prompt",
            where=row.place,
            expected=f"one of {', '.join(PROMPT_KEYS)}, or the id of a row of the task",
            remedy="Add the prompt.",
        )
    for text in texts:
        yield FileSample(prompt, _id(row), text, True, row.place)


def _prompt(row: RawRow) -> tuple[Message, ...]:
    """As a task reads the same row with an answer; empty where there is none."""
    key = next((key for key in PROMPT_KEYS if row.values.get(key) not in (None, "", [])), None)
    if row.values.get("instruction") in (None, ""):
        return () if key is None else input_turns(row, key)
    prompt, _ = SHAPES["alpaca"].parse(replace(row, values={**row.values, "output": "none yet"}))
    return prompt


def _alone(row: RawRow) -> Iterator[FileSample]:
    source = source_shape(row)
    if source.kind != "examples":
        raise DataError(
            f"found {source.words}",
            where=row.place,
            expected="one sample a row, or a list of `samples`",
            remedy="Name a file of answers that were not compared yet.",
        )
    content = source.content(row)
    (answer,) = content.answers
    if len(answer) > 1:
        raise DataError(
            f"found an answer of {len(answer)} turns",
            where=row.place,
            expected="one turn of the assistant, which is scored",
            remedy="Put the turns before the last one into the prompt, or remove the row.",
        )
    yield FileSample(content.prompt, _id(row), answer[0].content, row.values.get("finish") != "length", row.place)


def _id(row: RawRow) -> str | None:
    value = row.values.get("id")
    return None if value is None else str(value)


@dataclass(frozen=True, slots=True)
class SamplesByRow:
    """Of each row of train the samples that answer it, and how many make no pair.

    held_out: for items of dev or test, or near copies of them. ambiguous: for a prompt that several training rows have.
    unknown: for prompts that the task does not have. blank: without text.
    """

    of_train: tuple[tuple[Example, tuple[FileSample, ...]], ...]
    held_out: int
    ambiguous: int
    unknown: int
    blank: int


def sort_samples(samples: Iterable[FileSample], split: Split) -> SamplesByRow:
    """Raises DataError for a sample whose id names another item than its prompt."""
    prompts = _TaskPrompts(split)
    by_row: dict[str, tuple[Example, list[FileSample]]] = {}
    strange: list[FileSample] = []
    held_out = ambiguous = blank = 0
    for sample in samples:
        items = prompts.items_of(sample)
        if not sample.text.strip():
            blank += 1
        elif not items:
            strange.append(sample)
        elif any(prompts.is_held_out(item) for item in items):
            held_out += 1
        elif len({(prompt_key(item.input), item.output) for item in items}) > 1:
            ambiguous += 1
        else:
            by_row.setdefault(items[0].id, (items[0], []))[1].append(sample)
    near = _near_held_out(strange, split)
    of_train = tuple((row, tuple(row_samples)) for row, row_samples in by_row.values())
    return SamplesByRow(of_train, held_out + near, ambiguous, len(strange) - near, blank)


_Key = Callable[[Sequence[Message]], object]
# A prompt is looked for as it is, then by its text; last without its system prompt, which may be the task's instruction.
_KEYS: tuple[_Key, ...] = (
    prompt_key,
    lambda turns: normalised(_text(turns)),
    lambda turns: prompt_key(_bare(turns)),
    lambda turns: normalised(_text(_bare(turns))),
)


class _TaskPrompts:
    """The items of train, dev and test by what they ask."""

    def __init__(self, split: Split) -> None:
        self._held_out = {id(item) for item in (*split.dev, *split.test)}
        self._by_key: list[dict[object, list[Example]]] = [{} for _ in _KEYS]
        self._by_id: dict[str, list[Example]] = {}
        for item in (*split.train, *split.dev, *split.test):
            self._by_id.setdefault(item.id, []).append(item)
            for key, items in zip(_KEYS, self._by_key, strict=True):
                items.setdefault(key(item.input), []).append(item)

    def is_held_out(self, item: Example) -> bool:
        return id(item) in self._held_out

    def items_of(self, sample: FileSample) -> list[Example]:
        """What the sample answers: several where several items are asked alike, or have its id."""
        by_id = self._by_id.get(sample.id or "", [])
        if not sample.prompt:
            return by_id
        alike = (items.get(key(sample.prompt)) for key, items in zip(_KEYS, self._by_key, strict=True))
        asked = next(filter(None, alike), [])
        both = [item for item in asked if item in by_id]
        if asked and by_id and not both:
            raise DataError(
                f"found the prompt of one row of the task with the id of another ({sample.id})",
                where=sample.place,
                expected="an id and a prompt of the same row",
                remedy="Leave one of them out.",
            )
        return both or asked or [item for item in by_id if self.is_held_out(item)]


def _near_held_out(samples: Sequence[FileSample], split: Split) -> int:
    """How many have a prompt that is nearly one of dev or test."""
    asked = [Example(str(number), _bare(sample.prompt), "") for number, sample in enumerate(samples) if sample.prompt]
    dev, test = ([replace(item, input=_bare(item.input)) for item in side] for side in (split.dev, split.test))
    return len(find_leaks(asked, dev, test))


def _text(turns: Sequence[Message]) -> str:
    return "\n".join(turn.content for turn in turns)


def _bare(turns: Sequence[Message]) -> tuple[Message, ...]:
    return tuple(turn for turn in turns if turn.role != "system")
