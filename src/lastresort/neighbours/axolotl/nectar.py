"""`zephyr.nectar`: a prompt with ranked answers, of which the two with the highest rank numbers are taken."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lastresort.data.rows import RawRow
from lastresort.errors import DataError
from lastresort.neighbours.axolotl.rendered import Row, list_of, pair, text_of


def two_of(row: RawRow) -> Row:
    answers = sorted(list_of(row, "answers"), key=lambda answer: _rank(answer, row))
    if len(answers) < 2:
        raise DataError("found one answer", where=row.at("answers"), expected="two or more", remedy="Remove the row.")
    chosen, rejected = str(answers[-1].get("answer")), str(answers[-2].get("answer"))
    return pair(f"<|system|>\n</s>\n<|user|>\n{text_of(row, 'prompt')}</s>\n<|assistant|>\n", chosen, rejected)


def _rank(answer: Mapping[str, Any], row: RawRow) -> float:
    rank = answer.get("rank")
    if isinstance(rank, bool) or not isinstance(rank, int | float):
        raise DataError("found no rank", where=row.at("answers.rank"), expected="a number", remedy="Add it.")
    return float(rank)
