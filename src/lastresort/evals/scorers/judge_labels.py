"""Cases that people have judged, and how far the judge agrees with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lastresort.data.files import read_rows
from lastresort.data.rows import RawRow, kind_of
from lastresort.errors import DataError
from lastresort.evals.evidence import Agreement, agreement
from lastresort.evals.scorers.judge import Judged
from lastresort.evals.scorers.judge_questions import Case, Comparison, Question

_SIDES = ("a", "tie", "b")
_GRADES = {"true": "yes", "false": "no"}


@dataclass(frozen=True, slots=True)
class Labelled:
    """A case with what people said of it: a, b or tie for a comparison (the case's answer is a), else one of its choices."""

    case: Case
    label: str


def read_labelled(path: Path, question: Question) -> list[Labelled]:
    """The cases of a file. Raises DataError for a row without a key, or with a label that is none.

    Rows: {"input", "a", "b", "label": a | b | tie} for a comparison, {"input", "answer", "grade"} for a grading.
    """
    return [_labelled(row, question) for row in read_rows(path)]


def agreement_with(labelled: Sequence[Labelled], judged: Sequence[Judged], question: Question) -> Agreement:
    """Of people with the judge on the same cases; a verdict that could not be read counts as it does in a score.

    Kappa counts grades by how far apart they are (quadratic weights), everything else as alike or not.
    """
    pairs = [(one.label, _label_of(found, question)) for one, found in zip(labelled, judged, strict=True)]
    if isinstance(question, Comparison):
        return agreement(pairs, _SIDES)
    return agreement(pairs, question.choices, weights="none" if question.binary else "quadratic")


def _label_of(found: Judged, question: Question) -> str:
    if isinstance(question, Comparison):
        return {1.0: "a", 0.0: "b"}.get(found.score, "tie")
    if question.binary:
        return "yes" if found.score else "no"
    return question.choices[round(found.score * (len(question.choices) - 1))]


def _labelled(row: RawRow, question: Question) -> Labelled:
    if isinstance(question, Comparison):
        case = Case(_text(row, "input"), _text(row, "a"), _text(row, "b"))
        return Labelled(case, _label(row, "label", _SIDES))
    return Labelled(Case(_text(row, "input"), _text(row, "answer")), _label(row, "grade", question.choices))


def _text(row: RawRow, key: str) -> str:
    value = row.values.get(key)
    if isinstance(value, str):
        return value
    found = kind_of(value) if key in row.values else "nothing"
    raise DataError(f"found {found}", where=row.at(key), expected="text", remedy="Add it, or remove the row.")


def _label(row: RawRow, key: str, known: Sequence[str]) -> str:
    value = row.values.get(key)
    word = str(value).strip().lower()
    word = _GRADES.get(word, word) if "yes" in known else word
    if value is not None and word in known:
        return word
    found = "nothing" if key not in row.values else f'"{value}"' if isinstance(value, str) else kind_of(value)
    raise DataError(
        f"found {found}",
        where=row.at(key),
        expected=f"one of {', '.join(known)}",
        remedy="Write what people said, or remove the row.",
    )
