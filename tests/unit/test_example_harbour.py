"""The example harbour: made again alike, clean, right by a second reading of each message, and not solved by a list of answers."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from examples_support import EXAMPLES, module_of
from lastresort.climb.prepare import PreparedTask, data_report, prepare
from lastresort.spec.task import given_task, load_task

FOLDER = EXAMPLES / "harbour"
TASK = FOLDER / "task.yaml"
PHRASE = re.compile(r"\b(?:[Aa]t|for|since) ((?:[a-z'-]+ ){2,3})in the (morning|afternoon|evening)")
PARTS = {"morning": 10 / 42, "afternoon": 20 / 42, "evening": 12 / 42}
NUMBERS = {
    "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10, "eleven": 11,
    "twelve": 12, "thirteen": 13, "fourteen": 14, "fifteen": 15, "sixteen": 16, "seventeen": 17, "eighteen": 18, "nineteen": 19,
    "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "quarter": 15, "half": 30,
}  # fmt: skip


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    return module_of(FOLDER / "make_harbour.py")


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    return [json.loads(line) for line in (FOLDER / "harbour.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def prepared() -> PreparedTask:
    return prepare(load_task(TASK))


def phrase_of(message: str) -> str:
    """The time in a message, as it is said."""
    found = PHRASE.search(message)
    assert found is not None, message
    return found[1] + found[2]


def number(words: str) -> int:
    return sum(NUMBERS[word] for word in words.split("-"))


def clock(phrase: str) -> str:
    """ten past seven evening -> 19:10. Written without the generator's tables."""
    match phrase.split():
        case [name, "o'clock", part]:
            hour, minute = number(name), 0
        case [past, "past", name, part]:
            hour, minute = number(name), number(past)
        case [name, "oh", ones, part]:
            hour, minute = number(name), number(ones)
        case [name, minutes, part]:
            hour, minute = number(name), number(minutes)
        case _:
            raise AssertionError(phrase)
    return f"{hour + 12 * (part != 'morning'):02d}:{minute:02d}"


def test_the_rows_can_be_made_again_byte_for_byte(maker: ModuleType) -> None:
    lines = "".join(json.dumps(row) + "\n" for row in maker.made())
    assert lines.encode() == (FOLDER / "harbour.jsonl").read_bytes()


def test_every_answer_validates_and_no_message_comes_twice(rows: list[dict[str, Any]]) -> None:
    schema = json.loads((FOLDER / "log.schema.json").read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)
    for row in rows:
        assert set(row) == {"id", "input", "output"}
        validator.validate(row["output"])
        assert list(row["output"]) == schema["required"]
    for wrong in ({"time": "7:10"}, {"time": "19.10"}, {"time": "19:60"}, {"boat": None}, {"berth": "4"}):
        assert not validator.is_valid(rows[0]["output"] | wrong), wrong
    assert len({row["input"].lower() for row in rows}) == len({row["id"] for row in rows}) == len(rows) == 900


def test_the_boat_and_the_time_of_every_answer_are_in_its_message(
    rows: list[dict[str, Any]], maker: ModuleType
) -> None:
    for row in rows:
        named = [boat for boat in maker.BOATS if re.search(rf"\b{boat}\b", row["input"])]
        assert named == [row["output"]["boat"]], row
        assert clock(phrase_of(row["input"])) == row["output"]["time"], row


@pytest.mark.parametrize(
    ("hour", "minute", "said"),
    [
        (7, 0, {"seven o'clock in the morning"}),
        (7, 5, {"seven oh five in the morning"}),
        (11, 59, {"eleven fifty-nine in the morning"}),
        (13, 15, {"one fifteen in the afternoon", "quarter past one in the afternoon"}),
        (17, 9, {"five oh nine in the afternoon"}),
        (18, 30, {"six thirty in the evening", "half past six in the evening"}),
        (19, 43, {"seven forty-three in the evening"}),
        (20, 20, {"eight twenty in the evening", "twenty past eight in the evening"}),
        (20, 25, {"eight twenty-five in the evening"}),
        (21, 40, {"nine forty in the evening"}),
    ],
)
def test_times_said_by_hand(maker: ModuleType, hour: int, minute: int, said: set[str]) -> None:
    draw = random.Random(1)
    assert {maker.spoken(hour, minute, draw) for _ in range(20)} == said


def test_the_afternoon_is_busiest_in_train_and_test_alike(prepared: PreparedTask) -> None:
    """5 hours each at 4 and 2 parts of 42, 4 at 3: of 540 rows 51 an hour in the afternoon, 26 in the morning, 39 at night."""
    for rows, apart in ((prepared.split.train, 0.05), (prepared.split.test, 0.07)):
        shares = {part: sum(f"in the {part}" in row.input[0].content for row in rows) / len(rows) for part in PARTS}
        assert shares == pytest.approx(PARTS, abs=apart)


def test_every_time_reads_back_however_it_is_said(maker: ModuleType) -> None:
    draw = random.Random(2)
    for hour in sorted(set(maker.HOURS)):
        for minute in range(60):
            for _ in range(4):
                said = maker.spoken(hour, minute, draw)
                assert clock(phrase_of(f"Fuel for Anna at {said}, please.")) == f"{hour:02d}:{minute:02d}"


def test_the_data_greet_nobody_with_a_finding(prepared: PreparedTask) -> None:
    assert (prepared.leaks, prepared.notes) == (0, ())
    assert data_report(prepared, None, None).findings == ()
    assert prepared.scorer.binary
    assert len(prepared.split.train) >= 500


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_list_of_known_answers_does_not_help(seed: int) -> None:
    """Seen at these seeds: 94 to 95% of the answers are new to train, 41% of the times, 44% of the times as said."""
    task = given_task(TASK, {"split.seed": seed})
    split = prepare(task).split

    def new(of: Any) -> float:
        known = {of(one) for one in split.train}
        return sum(of(one) not in known for one in split.test) / len(split.test)

    assert new(lambda one: one.output) > 0.93
    assert new(lambda one: json.loads(one.output)["time"]) > 0.4
    assert (said := new(lambda one: phrase_of(one.input[0].content))) > 0.42
    assert 1 - said < task.bar, "whoever reads only the times of train would meet the bar"


def test_the_instruction_says_what_the_log_wants_and_not_how_to_tell_the_time(rows: list[dict[str, Any]]) -> None:
    about = load_task(TASK).about
    assert all(key in about for key in rows[0]["output"])
    assert not {"morning", "afternoon", "evening", "past"} & set(re.findall(r"\w+", about.lower()))


def test_the_files_are_those_that_the_task_names() -> None:
    assert {path.name for path in Path(FOLDER).iterdir() if path.is_file()} == {
        "harbour.jsonl",
        "log.schema.json",
        "make_harbour.py",
        "task.yaml",
    }
