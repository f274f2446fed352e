"""What a reflecting model reads, and what it must not write.

It reads about each answer: the right one, and what the scorer or the schema finds wrong. An instruction that copies training rows
is refused: it would know these answers by heart, and help with no other input.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from lastresort.data.answer_schema import schema_validator, violation
from lastresort.evals.measure import Format
from lastresort.evals.scorers.forms import leaves, same_json
from lastresort.evals.scorers.text import words
from lastresort.foreign import NotJson, parse_json
from lastresort.records.events.search import RefusedPrompt
from lastresort.records.measurement import ItemScore
from lastresort.types import Example

LONGEST = 2_000  # characters of an input or an answer
MOST_LABELS = 60
MOST_FIELDS = 8


def reflection_record(item: ItemScore, output: Format) -> dict[str, str]:
    """One answered row, as GEPA renders it: each key is a heading."""
    right = {"Right answer": _cut(item.expected)} if item.expected.strip() else {}
    return {
        "Input": _cut(item.input),
        "Answer of the assistant": _cut(item.answer) if item.answer.strip() else "(empty)",
        **right,
        "Feedback": feedback(item, output),
    }


def feedback(item: ItemScore, output: Format) -> str:
    """What is wrong with an answer, in a few sentences."""
    if item.score >= 1:
        return "The answer is right."
    if item.finish == "refused":
        return "There is no answer: instruction and input together are longer than the assistant can read."
    sentences = []
    if item.finish == "length":
        sentences.append("The answer was cut off, since it is longer than an answer may be.")
    if form := _form(item, output):
        sentences.append(form)
    elif differences := _fields(item):
        sentences.append(differences)
    elif item.expected.strip():
        sentences.append(f"Expected {_quoted(item.expected)}, got {_quoted(item.answer)}.")
    if item.score > 0 or not sentences:
        sentences.append(f"The score is {item.score:.2f} of 1.")
    return " ".join(sentences)


def _form(item: ItemScore, output: Format) -> str:
    """What is wrong with the form, "" where nothing is."""
    if item.format_ok is not False:
        return ""
    if output.choices is not None:
        labels = ", ".join(output.choices[:MOST_LABELS]) + (", …" if len(output.choices) > MOST_LABELS else "")
        return f"The answer is not among the labels, or holds more than one label. The labels are: {labels}."
    try:
        value = parse_json(item.answer)
    except NotJson as error:
        if output.json_schema is None and not item.expected.lstrip().startswith(("{", "[")):
            return "The answer holds no number."
        return f"The answer is not JSON and nothing else: {error.reason} at character {error.position + 1}."
    if output.json_schema is None:
        return "The answer holds no number."
    fault = violation(schema_validator(output.json_schema), value)
    return f"The answer does not match the schema: {fault}." if fault is not None else ""


def _fields(item: ItemScore) -> str:
    """Which fields differ, where both are JSON objects."""
    try:
        expected, got = parse_json(item.expected), parse_json(item.answer)
    except NotJson:
        return ""
    if not isinstance(expected, dict) or not isinstance(got, dict):
        return ""
    right_fields, answer_fields = dict(leaves(expected)), dict(leaves(got))
    wrong_fields = [
        f"{'.'.join(path)}: expected {_value(right_fields, path)}, got {_value(answer_fields, path)}"
        for path in dict.fromkeys([*right_fields, *answer_fields])
        if path not in right_fields
        or path not in answer_fields
        or not same_json(right_fields[path], answer_fields[path])
    ]
    more = "; …" if len(wrong_fields) > MOST_FIELDS else ""
    return f"Wrong fields: {'; '.join(wrong_fields[:MOST_FIELDS])}{more}." if wrong_fields else ""


def _value(fields: dict[tuple[str, ...], object], path: tuple[str, ...]) -> str:
    return _cut(repr(fields[path])) if path in fields else "nothing"


def _quoted(text: str) -> str:
    return f'"{_cut(text.strip())}"'


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} […]"


MOST_SHARED_WORDS = 8
NEAR_WORDS = 8  # between an input and its answer in a list, other inputs not counted
NAMED_WORDS = 1  # between two answers that are named in one go: "a, b or c"
IN_ORDER_WORDS = 2  # between two that stand in the order of the inputs: "first a, second b"
LISTED_ROWS, LISTED_WORDS = 2, 4  # of their inputs together: a rule, too, names an input of one word next to its answer
LINE_BREAK = re.compile(r"\\[nrt]|<br ?/?>")  # in JSON and in a table

Words = tuple[str, ...]
Row = tuple[Words, Words]  # of the input and of the answer
Place = tuple[int, int]  # first word, and the one after the last


@dataclass(frozen=True, slots=True)
class CopiedRows:
    """kind: how. words: those that a row and the instruction share; of a list, the first row of it."""

    kind: RefusedPrompt
    words: str


def copied_rows(instruction: str, plain: str, rows: Sequence[Example]) -> CopiedRows | None:
    """What an instruction copies of the rows, None where it copies nothing.

    It copies if it shares more than 8 words in a row with an input or an answer, or if it holds at least two whole rows, with at
    least four words of input: the input, and its answer as the next one before or after it, at most 8 words away. Other inputs
    between them do not count, since a list may name an answer once for several. Answers that are named in one go, such as all
    labels, are nobody's, unless there is one for each input, in the same order. Case, punctuation and line breaks do not count; a
    character of a script without spaces is a word. plain: the instruction before, whose words and examples are the task's own.
    """
    text, plain_words = _words(instruction), _words(plain)
    runs = frozenset(_runs(text, MOST_SHARED_WORDS + 1)) - frozenset(_runs(plain_words, MOST_SHARED_WORDS + 1))
    sides = [(tuple(_words(row.input_text)), tuple(_words(row.output))) for row in rows]
    for side in itertools.chain.from_iterable(sides):
        shared = next((run for run in _runs(side, MOST_SHARED_WORDS + 1) if run in runs), None)
        if shared is not None:
            return CopiedRows("shares words", " ".join(shared))
    listed = _listed(text, sides)
    if listed:
        listed_before = _listed(plain_words, sides)
        listed = [row for row in listed if row not in listed_before]
    if len(listed) < LISTED_ROWS or sum(len(asked) for asked, _ in listed) < LISTED_WORDS:
        return None
    return CopiedRows("lists rows", " ".join(itertools.chain(*listed[0])))


def _words(text: str) -> list[str]:
    return words(LINE_BREAK.sub(" ", text))


def _runs(text: Sequence[str], length: int) -> Iterator[Words]:
    return (tuple(text[start : start + length]) for start in range(len(text) - length + 1))


def _listed(text: Sequence[str], rows: Sequence[Row]) -> list[Row]:
    """The rows that the text holds, in the order of rows."""
    inputs = {place for asked in {asked for asked, _ in rows} for place in _places(text, asked)}
    if not inputs:
        return []
    answers = {place for answer in {answer for _, answer in rows} for place in _places(text, answer)} - inputs
    outermost = _outermost(inputs | answers)
    in_input = {word for place in outermost if place in inputs for word in range(*place)}
    # Those of no input.
    words_before = [0, *itertools.accumulate(word not in in_input for word in range(len(text)))]

    def words_of(place: Place) -> Words:
        return tuple(text[slice(*place)])

    def between(one: Place, other: Place) -> int:
        first, second = sorted((one, other))
        return words_before[second[0]] - words_before[first[1]]

    listed = set[Row]()
    runs = [(kind, list(places)) for kind, places in itertools.groupby(outermost, inputs.__contains__)]
    for (input_first, one), (_, other) in itertools.pairwise(runs):
        asked, named = (one, other) if input_first else (other, one)
        nearest, *further = named if input_first else named[::-1]
        alone = not further or between(nearest, further[0]) > NAMED_WORDS or words_of(nearest) == words_of(further[0])
        if alone:
            listed |= {(words_of(i), words_of(nearest)) for i in asked if between(i, nearest) <= NEAR_WORDS}
        in_order = all(between(*pair) <= IN_ORDER_WORDS for pair in itertools.pairwise(named))
        if len(asked) == len(named) and in_order and between(one[-1], other[0]) <= NEAR_WORDS:
            listed |= {(words_of(i), words_of(answer)) for i, answer in zip(asked, named, strict=True)}
    return [row for row in dict.fromkeys(rows) if row in listed]


def _outermost(places: Iterable[Place]) -> list[Place]:
    """Those that no other one holds, in the order of the text."""
    outermost = list[Place]()
    for place in sorted(places, key=lambda place: (place[0], -place[1])):
        if not outermost or place[1] > outermost[-1][1]:
            outermost.append(place)
    return outermost


def _places(text: Sequence[str], run: Sequence[str]) -> list[Place]:
    """Where the text holds the run, which is nowhere if that is empty."""
    starts = (i for i, word in enumerate(text) if run and word == run[0])
    return [(i, i + len(run)) for i in starts if tuple(text[i : i + len(run)]) == tuple(run)]
