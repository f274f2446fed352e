"""From the rows of a file to a draft of its task: columns, kind of answer, its schema, scorer, split and bar. Pure.

Every choice keeps what it rests on, so that the task file can say why. What the rows leave open is not guessed: see `OpenColumns`.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any, Literal

from lastresort.climb.shares import Usable, error_shares
from lastresort.data.check import LEAST_ROWS_A_LABEL, are_codes, short
from lastresort.data.duplicates import usual_spellings
from lastresort.data.formats import COMMON_COLUMNS, SHAPES
from lastresort.data.formats.rows import RawRow
from lastresort.data.split import UnitSize, fill, least_dev
from lastresort.errors import DataError
from lastresort.evals.evidence.bar import smallest_deciding_test, usable_share
from lastresort.foreign import NotJson, parse_json
from lastresort.types import JsonObject

MOST_VALUES, MOST_UNSEEN = 20, 0.02


def documents_in(outputs: Sequence[str]) -> list[Any] | None:
    """The answers as JSON objects or lists; None where one of them is something else."""
    found = []
    for text in outputs:
        if not text.lstrip().startswith(("{", "[")):
            return None
        try:
            found.append(parse_json(text))
        except NotJson:
            return None
    return found


def schema_of(values: Sequence[Any]) -> JsonObject:
    """The draft 2020-12 schema that all values meet.

    Of objects every key that occurs is named, those of all are required, and no others are allowed. A text becomes an enum of the
    values seen only where another value is improbable: at most MOST_VALUES different ones, and (values seen once + 1) / rows at
    most MOST_UNSEEN. Otherwise it stays any text, since a schema refuses a right answer with a value that it does not list.
    Values seen once / rows estimates the share of rows to come whose value is new (Good 1953, with Turing); one is added because
    a few rows without a value seen once show little.
    """
    kinds = sorted({_kind(value) for value in values})
    if kinds == ["integer", "number"]:
        kinds = ["number"]
    if kinds == ["object"]:
        return _object(values)
    schema: JsonObject = {"type": kinds[0] if len(kinds) == 1 else kinds}
    if kinds == ["array"] and (items := [item for value in values for item in value]):
        schema["items"] = schema_of(items)
    if kinds == ["string"] and (choices := _few(values)) is not None:
        schema["enum"] = choices
    return schema


def _object(objects: Sequence[Mapping[str, Any]]) -> JsonObject:
    keys = dict.fromkeys(key for one in objects for key in one)
    return {
        "type": "object",
        "properties": {key: schema_of([one[key] for one in objects if key in one]) for key in keys},
        "required": [key for key in keys if all(key in one for one in objects)],
        "additionalProperties": False,
    }


def _kind(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "number"
        case str():
            return "string"
        case list():
            return "array"
    return "object"


def _few(values: Sequence[str]) -> list[str] | None:
    counted = Counter(values)
    once = sum(rows == 1 for rows in counted.values())
    if len(counted) > MOST_VALUES or once + 1 > MOST_UNSEEN * len(values):
        return None
    return sorted(counted)


MOST_LABELS, LONGEST_LABEL = 60, 80  # characters
SHORT_WORDS = 6
DEV_MOST, TEST_MOST = 200, 500
ABOVE_MAJORITY = 0.1
MOSTLY_FILLED = 0.8  # reading the file reports each row that lacks it
INPUTS = (
    "input", "text", "question", "query", "prompt", "sentence", "message", "utterance", "request", "instruction", "body",
    "content", "comment", "review", "ticket", "email", "description", "document", "article", "title", "feedback", "complaint",
    "transcript", "post", "said", "says", "wrote",
)  # fmt: skip
OUTPUTS = (
    "output", "label", "answer", "target", "intent", "category", "class", "completion", "response", "expected", "sentiment",
    "topic", "tag", "summary", "reply", "translation", "team", "queue", "priority",
)  # fmt: skip
PLAIN_OUTPUTS = ("output", "label", "answer", "target")  # a column of this very name is meant, whatever else there is
METADATA = frozenset(
    "id uuid guid number no nr index created updated modified opened closed resolved date time timestamp day month year channel "
    "source labelled labeled annotated annotator author by status url link version".split()
)
SHOWN_VALUES = 3
WORKED_OUT = re.compile(r"\n#### *[-+$]?[0-9][0-9,.]*\s*$")  # a solution with its result on the last line
GROUPS = (
    "group",
    "customer",
    "user",
    "account",
    "author",
    "session",
    "conversation",
    "thread",
    "patient",
    "company",
    "document",
)

Side = Literal["input", "output"]
AnswerKind = Literal["labels", "json", "number", "short", "text"]


@dataclass(frozen=True, slots=True)
class ColumnFacts:
    """A column of the file. filled: rows that have a value. distinct: different values. words: median of its values as text.
    samples: a few of the values, the most frequent first. codes: whether they are codes or numbers, without words.
    """

    name: str
    filled: int
    distinct: int
    words: float
    samples: tuple[str, ...]
    codes: bool = False


@dataclass(frozen=True, slots=True)
class OpenColumns:
    """Which column is the input or the output is open. side: that one. candidates: the best first. likely: how many of them are as
    plausible as the first.
    """

    side: Side
    candidates: tuple[ColumnFacts, ...]
    likely: int


@dataclass(frozen=True, slots=True)
class Answers:
    """What the answers of a file are. labels: all of them where they are labels, the most frequent first. respelt: (usual
    spelling, another one that differs only by case or spaces, rows of the other). schema: of JSON.
    majority: share of the most frequent answer. words: median length.
    """

    kind: AnswerKind
    distinct: int
    majority: float
    words: float
    labels: tuple[str, ...] = ()
    respelt: tuple[tuple[str, str, int], ...] = ()
    schema: Mapping[str, Any] | None = None


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


def known_shape(rows: Sequence[RawRow]) -> str | None:
    """The name of the shape that these rows have by their keys alone; None where columns have to be named."""
    keys = frozenset(rows[0].values)
    return next((shape.name for shape in SHAPES.values() if shape.fits(keys)), None)


def facts_of(rows: Sequence[RawRow]) -> tuple[ColumnFacts, ...]:
    """Of every column that is not ours already and not empty, in the file's order."""
    names = dict.fromkeys(name for row in rows for name in row.values if name not in COMMON_COLUMNS)
    found = []
    for name in names:
        texts = [str(value) for row in rows if (value := row.values.get(name)) not in (None, "", [], {})]
        if texts:
            words = median(len(text.split()) for text in texts)
            counted = Counter(texts)
            samples = tuple(text for text, _ in counted.most_common(SHOWN_VALUES))
            found.append(ColumnFacts(name, len(texts), len(counted), words, samples, are_codes(texts)))
    return tuple(found)


def choose_columns(
    facts: Sequence[ColumnFacts], rows: int, *, given_input: str | None = None, given_output: str | None = None
) -> tuple[str, str] | OpenColumns:
    """Input and output, by their names or because only one column is left; `OpenColumns` where more than one would do.

    given_input, given_output: as the user named them.
    """
    source = given_input or _input_by_name(facts, given_output)
    target = given_output or _output_by_name(facts, source) or _same_in_all_rows(facts, source)
    left = [one for one in facts if one.name not in (source, target) and one.filled >= MOSTLY_FILLED * rows]
    if source is None and target is not None and len(left) == 1:
        source = left[0].name
    elif target is None and source is not None and len(left) == 1:
        target = left[0].name
    if source is None:
        return _open("input", _without(facts, target), lambda one: (_input_rank(one), -one.words), lambda _: ())
    if target is None:
        return _open(
            "output", _without(facts, source), lambda one: (_output_rank(one),), lambda one: (one.distinct, one.words)
        )
    return source, target


Rank = Callable[[ColumnFacts], tuple[float, ...]]


def _open(side: Side, columns: Sequence[ColumnFacts], rank: Rank, order: Rank) -> OpenColumns:
    """rank: how plausible a column is, the lowest first. order: among those that are equally plausible."""
    best_first = sorted(columns, key=lambda one: (rank(one), order(one)))
    return OpenColumns(side, tuple(best_first), sum(rank(one) == rank(best_first[0]) for one in best_first))


def _input_by_name(facts: Sequence[ColumnFacts], taken: str | None) -> str | None:
    """The column whose name is first in the list of them, or the only one with such a word in its name."""
    left = _without(facts, taken)
    by_lower = {one.name.lower(): one.name for one in left if not one.codes}
    exact = next((by_lower[name] for name in INPUTS if name in by_lower), None)
    return exact or _sole([one for one in left if _input_rank(one) == 0])


def _output_by_name(facts: Sequence[ColumnFacts], taken: str | None) -> str | None:
    """The only column that is named as plainly as any for an output."""
    left = [one for one in _without(facts, taken) if _output_rank(one) < UNNAMED]
    best = min(map(_output_rank, left), default=UNNAMED)
    return _sole([one for one in left if _output_rank(one) == best])


def _same_in_all_rows(facts: Sequence[ColumnFacts], source: str | None) -> str | None:
    """The only column that could be the output, where its values are at fault: each of the others names or numbers the rows."""
    if source is None:
        return None
    left = [one for one in _without(facts, source) if not (_words(one.name) & METADATA or _numbers_rows(one))]
    return left[0].name if len(left) == 1 and left[0].distinct == 1 else None


def _numbers_rows(one: ColumnFacts) -> bool:
    return one.codes and one.distinct == one.filled


def _sole(columns: Sequence[ColumnFacts]) -> str | None:
    return columns[0].name if len(columns) == 1 else None


UNNAMED, UNLIKELY = 3, 4  # no word of the name says what the column is; one says that it is something else


def _output_rank(one: ColumnFacts) -> int:
    words = _words(one.name)
    if one.name.lower() == "output":
        return 0
    if one.name.lower() in PLAIN_OUTPUTS:
        return 1
    if words & METADATA or one.distinct == 1:
        return UNLIKELY
    return 2 if words.intersection(OUTPUTS) else UNNAMED


def _input_rank(one: ColumnFacts) -> int:
    words = _words(one.name)
    if words & METADATA or words.intersection(OUTPUTS) or one.codes:
        return UNLIKELY
    return 0 if words.intersection(INPUTS) else UNNAMED


def _words(name: str) -> frozenset[str]:
    """The words of a column's name, and those in the plural without their s: "Team labels", team_label and teamLabel alike."""
    found = re.split(r"[\W_]+", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name).lower())
    return frozenset(found) | {word.removesuffix("s") for word in found}


def _without(facts: Sequence[ColumnFacts], name: str | None) -> list[ColumnFacts]:
    return [one for one in facts if one.name != name]


def answers_of(outputs: Sequence[str]) -> Answers:
    """What kind of answer these are. outputs: of every row, as text."""
    counted = Counter(text.strip() for text in outputs)
    words = median(len(text.split()) for text in outputs)
    majority = max(counted.values()) / len(outputs)
    documents = documents_in(outputs)
    if documents is not None:
        return Answers("json", len(counted), majority, words, schema=schema_of(documents))
    few = 2 <= len(counted) <= MOST_LABELS and len(outputs) >= LEAST_ROWS_A_LABEL * len(counted)
    if few and max(map(len, counted)) <= LONGEST_LABEL:
        labels = tuple(label for label, _ in counted.most_common())
        return Answers("labels", len(counted), majority, words, labels=labels, respelt=_respelt(counted))
    if all(_is_number(text) or WORKED_OUT.search(text) for text in outputs):
        return Answers("number", len(counted), majority, words)
    return Answers("short" if words <= SHORT_WORDS else "text", len(counted), majority, words)


def _respelt(counted: Counter[str]) -> tuple[tuple[str, str, int], ...]:
    return tuple((usual, label, counted[label]) for label, usual in usual_spellings(counted).items() if usual != label)


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
LADDERS = (("prompting", "sft", "preference", "full"), ("prompting", "sft", "full"), ("prompting", "sft"))
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

    group_by: the column that names whose row it is. grouped: whether rows have groups, though no column is named. together: rows
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
            of = f" of {units} inputs" if units < n_test else ""
            raise DataError(
                f"found {n_test} rows{of}",
                where=where_test,
                expected=f"at least {least} {'inputs' if of else 'rows'}",
                remedy="Add labelled examples to it, or remove it, so that the test set is drawn from the other rows.",
            )
        found, inputs = _counted(each), _inputs(each)
        unit = f"values of {group_by or 'group'}" if grouped else "inputs" if inputs < rows else "rows"
        enough = math.ceil(least / 0.5)
        cause: Cause = "few" if min(found, len(each)) < enough else "uneven"
        if grouped and len(each) < enough <= found:
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
        raise refusal
    bar, ladder = decided
    dev, test = sides.dev if n_dev is None else None, sides.test if n_test is None else None
    return TaskDraft(rows, answers, score, bar, dev, test, sides.train, ladder, columns, group_by)


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


def group_column(facts: Sequence[ColumnFacts], rows: int, taken: Sequence[str | None]) -> ColumnFacts | None:
    """A column that names whose row it is and repeats: rows of one owner must not be divided over train and test."""
    for one in facts:
        stem = one.name.lower().removesuffix("id").strip("_ ")
        if stem in GROUPS and one.name not in taken and one.filled == rows and 10 <= one.distinct <= 0.9 * rows:
            return one
    return None
