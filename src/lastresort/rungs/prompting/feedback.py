"""What a reflecting model reads about an answer: the right one, and what the scorer or the schema finds wrong."""

from __future__ import annotations

from lastresort.data.answer_schema import schema_validator, violation
from lastresort.evals.measure import Format
from lastresort.evals.scorers.forms import leaves, same_json
from lastresort.foreign import NotJson, parse_json
from lastresort.records.measurement import ItemScore

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
    found = []
    if item.finish == "length":
        found.append("The answer was cut off, since it is longer than an answer may be.")
    if form := _form(item, output):
        found.append(form)
    elif differences := _fields(item):
        found.append(differences)
    elif item.expected.strip():
        found.append(f"Expected {_quoted(item.expected)}, got {_quoted(item.answer)}.")
    if item.score > 0 or not found:
        found.append(f"The score is {item.score:.2f} of 1.")
    return " ".join(found)


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
    right, said = dict(leaves(expected)), dict(leaves(got))
    wrong = [
        f"{'.'.join(path)}: expected {_value(right, path)}, got {_value(said, path)}"
        for path in dict.fromkeys([*right, *said])
        if path not in right or path not in said or not same_json(right[path], said[path])
    ]
    more = "; …" if len(wrong) > MOST_FIELDS else ""
    return f"Wrong fields: {'; '.join(wrong[:MOST_FIELDS])}{more}." if wrong else ""


def _value(fields: dict[tuple[str, ...], object], path: tuple[str, ...]) -> str:
    return _cut(repr(fields[path])) if path in fields else "nothing"


def _quoted(text: str) -> str:
    return f'"{_cut(text.strip())}"'


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} […]"
