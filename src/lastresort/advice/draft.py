"""From the answers of a file to a draft of its task: kind of answer, its schema, scorer, split and bar. Pure.

Every choice keeps what it rests on, so that the task file can say why. The columns are chosen before (columns.py).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any, Literal

from lastresort.climb.shares import Usable, error_shares
from lastresort.data.answer_schema import documents_in, schema_of
from lastresort.data.check import LEAST_ROWS_A_LABEL, short
from lastresort.data.duplicates import misspelt, usual_spellings
from lastresort.data.split import UnitSize, fill, least_dev
from lastresort.errors import DataError
from lastresort.evals.evidence.bar import smallest_deciding_test, usable_share
from lastresort.ladder import COST_RUNG, PREFERENCE_RUNG, PROMPT_RUNG, RUNGS, STORE_RUNG

MOST_LABELS, LONGEST_LABEL = 60, 80  # characters
SHORT_WORDS = 6
DEV_MOST, TEST_MOST = 200, 500
ABOVE_MAJORITY = 0.1
WORKED_OUT = re.compile(r"\n#### *[-+$]?[0-9][0-9,.]*\s*$")  # a solution with its result on the last line

AnswerKind = Literal["labels", "json", "number", "short", "text"]


@dataclass(frozen=True, slots=True)
class Answers:
    """What the answers of a file are. labels: all of them where they are labels, the most frequent first. respelt: (usual
    spelling, another one that differs only by case or spaces, rows of the other). misspelt: alike, of labels that may be typos.
    schema: of JSON. repeat: whether other answers may be labels all the same, in too few rows to tell.
    majority: share of the most frequent answer. words: median length.
    """

    kind: AnswerKind
    distinct: int
    majority: float
    words: float
    labels: tuple[str, ...] = ()
    respelt: tuple[tuple[str, str, int], ...] = ()
    misspelt: tuple[tuple[str, str, int], ...] = ()
    schema: Mapping[str, Any] | None = None
    repeat: bool = False


@dataclass(frozen=True, slots=True)
class TaskDraft:
    """A task file before it is written. columns: (input, output) where the rows have no shape that is known by itself. dev, test:
    counts, None where a file of its own holds the part. ladder: the rungs that the test set is large enough for.
    """

    rows: int
    answers: Answers
    score: str
    bar: float
    dev: int | None
    test: int | None
    train: int
    ladder: tuple[str, ...]
    columns: tuple[str, str] | None = None
    group_by: str | None = None


def answers_of(outputs: Sequence[str]) -> Answers:
    """What kind of answer these are. outputs: of every row, as text."""
    counted = Counter(text.strip() for text in outputs)
    words = median(len(text.split()) for text in outputs)
    majority = max(counted.values()) / len(outputs)
    documents = documents_in(outputs)
    if documents is not None:
        return Answers("json", len(counted), majority, words, schema=schema_of(documents))
    like_labels = 2 <= len(counted) <= MOST_LABELS and max(map(len, counted)) <= LONGEST_LABEL
    if like_labels and len(outputs) >= LEAST_ROWS_A_LABEL * len(counted):
        labels = tuple(label for label, _ in counted.most_common())
        respelt = _with_rows(usual_spellings(counted), counted)
        others = {label for _, label, _ in respelt}
        typos = {label: usual for label, usual in misspelt(counted, LEAST_ROWS_A_LABEL).items() if label not in others}
        return Answers("labels", len(counted), majority, words, labels, respelt, _with_rows(typos, counted))
    if all(_is_number(text) or WORKED_OUT.search(text) for text in outputs):
        return Answers("number", len(counted), majority, words)
    repeat = like_labels and len(outputs) >= 2 * len(counted)
    return Answers("short" if words <= SHORT_WORDS else "text", len(counted), majority, words, repeat=repeat)


def _with_rows(meant: Mapping[str, str], counted: Counter[str]) -> tuple[tuple[str, str, int], ...]:
    return tuple((usual, label, counted[label]) for label, usual in meant.items() if usual != label)


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text.replace(",", "").strip().lstrip("$€£").rstrip("%")))
    except ValueError:
        return False


SCORES: dict[AnswerKind, str] = {
    "labels": "choice",
    "json": "json_exact",
    "number": "number",
    "short": "normalized",
    "text": "rouge_l",
}
BARS: dict[AnswerKind, float] = {"labels": 0.85, "json": 0.8, "number": 0.7, "short": 0.7, "text": 0.4}
GRADED = frozenset({"rouge_l"})
LADDER = tuple(rung for rung in RUNGS if rung != STORE_RUNG)  # a draft names no documents
# The shorter ones for fewer test items, which more rungs divide among them.
LADDERS = (LADDER, tuple(rung for rung in LADDER if rung != PREFERENCE_RUNG), (PROMPT_RUNG, COST_RUNG))
CONFIDENCE, LOWEST_BAR, STEP = 0.95, 0.5, 0.05
TEST_SHARE = 0.3
TEST_SHARES = (0.7, 0.5, 0.35, 0.25)  # of the usual size, where groups do not fit that
AS_USUAL, LEAST_TRAIN = 0.75, 0.5  # of what a side usually gets: no other try is better; train is refused below

Cause = Literal["few", "connected", "uneven"]


class FewUnitsError(DataError):
    """No split of these rows, inputs or groups leaves enough on every side.

    cause: they are too few; groups would be enough, but equal inputs connect them; or some have too many of the rows.
    """

    cause: Cause = "few"


def draft(
    outputs: Sequence[str],
    *,
    columns: tuple[str, str] | None = None,
    group_by: str | None = None,
    grouped: bool = False,
    together: Sequence[UnitSize] = (),
    n_dev: int | None = None,
    n_test: int | None = None,
    where: str = "",
    where_test: str = "",
    skipped: Collection[str] = (),
    units: int | None = None,
) -> TaskDraft:
    """The draft for a file with these answers.

    group_by: the column that names whose row it is. grouped: whether test counts groups, though no column is named. together: rows
    that stay on one side, in the order in which the split takes them; empty where each may go on any. n_dev, n_test: rows of a dev
    or test file of its own, None where the file is split. where, where_test: the file and that of test, for errors. skipped: rungs
    that a climb of these rows would skip: the bar is chosen for the others, the split for all. units: test items or groups that
    the split then has, None before it is known. Raises DataError where all answers are the same, FewUnitsError where the rows,
    inputs or groups are too few for any verdict.
    """
    rows, answers = len(outputs), answers_of(outputs)
    if rows > 1 and answers.distinct == 1:
        raise DataError(
            f'found one answer in all {rows} rows ("{short(outputs[0])}")',
            where=where if columns is None else f'{where}, key "{columns[1]}"',
            expected="at least two different answers",
            remedy="Add rows with other answers, or name another column with --output.",
        )
    if answers.schema is not None and answers.schema["type"] == "object" and "properties" not in answers.schema:
        raise DataError(
            "found answers that are objects without a key in common",
            where=where if columns is None else f'{where}, key "{columns[1]}"',
            expected="a label, a number, text, or objects with the same keys",
            remedy="Write the right answer of each row into a column of its own, and name it with --output.",
        )
    score = SCORES[answers.kind]
    each = together or [UnitSize(1, 1, 1)] * rows
    grouped = grouped or group_by is not None
    binary = score not in GRADED and not grouped
    usual = _usual_bar(answers)
    sides = _sides(each, usual, binary, n_dev is None, n_test is None)
    if units is None:
        units = sides.test_units if n_test is None else n_test
    decided = _decidable(units, usual, binary, [[one for one in ladder if one not in skipped] for ladder in LADDERS])
    if decided is None or (grouped and n_dev is n_test is None and not sides.enough):
        least = smallest_for(LOWEST_BAR, binary, LADDERS[-1])
        if n_test is not None:
            unit = "values of group" if grouped else "inputs" if units < n_test else "rows"
            raise DataError(
                f"found {n_test} rows" + (f" of {units} {unit}" if units < n_test else ""),
                where=where_test,
                expected=f"at least {least} {unit}",
                remedy="Add labelled examples to it, or remove it, so that the test set is drawn from the other rows.",
            )
        raise _few_units(
            rows, each, f"values of {group_by or 'group'}" if grouped else "", math.ceil(least / 0.5), where
        )
    bar, ladder = decided
    dev, test = sides.dev if n_dev is None else None, sides.test if n_test is None else None
    return TaskDraft(rows, answers, score, bar, dev, test, sides.train, ladder, columns, group_by)


def _few_units(rows: int, each: Sequence[UnitSize], groups: str, enough: int, where: str) -> FewUnitsError:
    """groups: what they are called, "" where there are none. enough: of the rows, inputs or groups."""
    found, inputs = _counted(each), _inputs(each)
    unit = groups or ("inputs" if inputs < rows else "rows")
    cause: Cause = "few" if min(found, len(each)) < enough else "uneven"
    if groups and len(each) < enough <= found:
        cause = "connected"
    to = f", which equal inputs connect to {len(each)}" if cause == "connected" else ""
    refusal = FewUnitsError(
        f"found {rows} rows" + (f" of {found} {unit}{to}" if unit != "rows" else ""),
        where=where,
        expected=f"at least {enough} {unit}, half of them to test on"
        if cause != "uneven"
        else f"{unit} that leave each of train, dev and test enough, however many rows the largest has",
        remedy="Add labelled examples.",
    )
    refusal.cause = cause
    return refusal


def _usual_bar(answers: Answers) -> float:
    """The usual one of this kind of answer, well above what always giving the most frequent answer scores, in steps of .05."""
    above = math.ceil(20 * (answers.majority + ABOVE_MAJORITY)) / 20 if answers.kind == "labels" else 0.0
    return round(min(0.95, max(BARS[answers.kind], above)), 2)


@dataclass(frozen=True, slots=True)
class _Sides:
    """test, dev: rows to ask for. train: rows that are left. test_units: what the split then has in test. enough: on every side.
    share: the inputs of a side over those that it usually gets, of that with the lowest share.
    """

    test: int
    dev: int
    train: int
    test_units: int
    enough: bool
    share: float


def _sides(each: Sequence[UnitSize], bar: float, binary: bool, with_dev: bool, with_test: bool) -> _Sides:
    """The usual shares of the inputs; others where groups are few or some of them large, so that a side has too few."""
    inputs, counted = _inputs(each), _counted(each)
    test_size, dev_size = _test_rows(inputs, bar, binary), _dev_rows(inputs)
    least = smallest_for(min(bar, LOWEST_BAR), binary, LADDERS[-1])

    def filled(asked: int) -> _Sides:
        n_test = _rows(fill(each, asked if with_test else 0, lambda one: one.inputs)[0])
        test, rest = fill(each, n_test, lambda one: one.rows)  # as in the split, whose sizes are rows
        n_dev = _rows(fill(rest, dev_size if with_dev else 0, lambda one: one.inputs)[0])
        dev, train = fill(rest, n_dev, lambda one: one.rows)
        usually = (
            (test, min(test_size, round(TEST_SHARE * inputs))),
            (dev, dev_size),
            (train, inputs - test_size - dev_size),
        )
        shares = [_inputs(side) / max(1, size) for side, size in usually]
        accepted = _inputs(dev) >= least_dev(dev_size, _inputs(dev), inputs) and shares[-1] >= LEAST_TRAIN
        enough = accepted and _counted(test) >= least
        return _Sides(n_test, n_dev, _rows(train), _counted(test), enough, min(shares))

    usual = filled(test_size)
    if not (with_test and with_dev and len(each) < inputs) or (usual.enough and usual.share >= AS_USUAL):
        return usual
    sizes = [math.ceil(least * inputs / counted), inputs // 2, *(round(share * test_size) for share in TEST_SHARES)]
    tries = [usual, *(filled(min(size, inputs // 2)) for size in sizes)]
    return max(tries, key=lambda sides: (sides.enough, min(sides.share, AS_USUAL)))


def _rows(units: Sequence[UnitSize]) -> int:
    return sum(one.rows for one in units)


def _inputs(units: Sequence[UnitSize]) -> int:
    return sum(one.inputs for one in units)


def _counted(units: Sequence[UnitSize]) -> int:
    return sum(one.counted for one in units)


def _test_rows(rows: int, bar: float, binary: bool) -> int:
    """Three tenths, at most what a verdict uses, at least what one needs on the whole ladder, but never more than half."""
    return min(max(round(TEST_SHARE * rows), smallest_for(bar, binary, LADDERS[0])), TEST_MOST, rows // 2)


def _dev_rows(rows: int) -> int:
    return min(max(round(0.2 * rows), min(100, rows // 4)), DEV_MOST)


def _decidable(
    units: int, bar: float, binary: bool, ladders: Sequence[Sequence[str]]
) -> tuple[float, tuple[str, ...]] | None:
    """The highest bar up to `bar` on which a perfect score of so many test items is a verdict, with the first of the ladders, the
    longest one first, for which it is.
    """
    lowest = min(bar, LOWEST_BAR)
    while bar >= lowest:
        for ladder in ladders:
            if units >= smallest_for(bar, binary, ladder):
                return bar, tuple(ladder)
        bar = round(bar - STEP, 2)
    return None


def smallest_for(bar: float, binary: bool, ladder: Sequence[str]) -> int:
    """Test items from which on a perfect score shows at every rung that the bar is met, each at its share of a climb."""

    def needed(usable: Usable = float) -> int:
        shares = error_shares(ladder, 1 - CONFIDENCE, usable)
        return smallest_deciding_test(bar, min(shares[rung] for rung in ladder), binary=binary)

    n = needed()  # what is passed on only adds to a share
    while binary and n > 1 and needed(partial(usable_share, n=n - 1, bar=bar)) <= n - 1:
        n -= 1
    return n
