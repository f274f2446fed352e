"""What `data check` says of preferences, and what of them a climb would train on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lastresort.app.data_check import check_task
from lastresort.data.check import check_preferences
from lastresort.data.preferences import PreferenceRow
from lastresort.records.data_report import DataReport, PreferenceReport
from lastresort.report.words import data as words
from lastresort.spec.task import load_task
from lastresort.types import Message
from tuning_support import labels, pairs, questions, tiny_task


def said(*texts: str) -> tuple[tuple[Message, ...], ...]:
    return tuple((Message("assistant", text),) for text in texts)


def pair(prompt: str, chosen: str, rejected: str) -> PreferenceRow:
    return PreferenceRow((Message("user", prompt),), said(chosen, rejected), "row")


def labelled(prompt: str, answer: str, label: bool) -> PreferenceRow:
    return PreferenceRow((Message("user", prompt),), said(answer), "row", label, (True,))


def of_pairs(*preferences: PreferenceRow) -> PreferenceReport:
    return check_preferences(preferences, 0, {})


def lines(found: PreferenceReport) -> list[str]:
    """What is printed of the preferences, below clean examples."""
    clean = DataReport(ok=True, counts={}, labels={}, tokens={}, findings=())
    return [line for line in words.lines(clean, found)[1:] if line != "no problems found"]


def test_pairs_and_answers_are_counted_by_kind() -> None:
    assert lines(of_pairs(pair("a", "x", "yy")))[0] == "preferences: 1 pair"
    found = of_pairs(labelled("a", "x", True), labelled("b", "x", False), labelled("c", "x", False))
    assert lines(found)[0] == "preferences: 3 answers, 1 good, 2 bad"


def test_a_pair_the_other_way_round_contradicts_and_the_same_again_repeats() -> None:
    found = of_pairs(pair("a", "x", "y"), pair("a", "Y!", "x"), pair("b", "x", "y"), pair("b", "x", "y"))
    assert (found.opposed, found.repeated) == (2, 1)
    assert "warning: 2 contradict another one: the same answers, ranked the other way round" in lines(found)


def test_an_answer_labelled_both_ways_contradicts() -> None:
    found = of_pairs(labelled("a", "x", True), labelled("a", "x", False), labelled("a", "y", False))
    assert (found.opposed, found.repeated) == (2, 0)


@pytest.mark.parametrize(
    ("longer", "says"),
    [
        (
            13,
            "warning: the better answer is the longer one in 65% of comparisons, so a model may learn to write longer",
        ),
        (12, "note: the better answer is the longer one in 60% of comparisons"),
        (
            7,
            "warning: the better answer is the shorter one in 65% of comparisons, so a model may learn to write shorter",
        ),
    ],
)
def test_length_that_gives_the_better_answer_away_is_a_warning(longer: int, says: str) -> None:
    found = of_pairs(*(pair(str(n), "long answer" if n < longer else "a", "answer") for n in range(20)))
    assert lines(found)[-1].startswith(says)


def test_pairs_of_equal_length_say_nothing_of_length() -> None:
    assert of_pairs(pair("a", "xy", "yx")).longer is None


def test_every_good_answer_is_compared_with_every_bad_one() -> None:
    """Good of 1 and 3 letters, bad of 2, 2 and 3: longer in two comparisons, shorter in three, equal in one."""
    found = of_pairs(
        *(labelled(text, text, True) for text in ("a", "aaa")),
        *(labelled(text, text, False) for text in ("bb", "cc", "ddd")),
    )
    assert found.longer == 2 / 5


def test_a_task_says_what_of_its_preferences_could_be_trained_on(tmp_path: Path) -> None:
    own = pairs(60)
    held = [{**own[0], "prompt": row["input"]} for row in questions()]  # dev and test hold 50 of them
    path = tiny_task(tmp_path, preferences=[*own, *held, {"prompt": "same", "chosen": "a", "rejected": "a"}])
    checked = check_task(load_task(path))
    assert checked.preferences is not None
    assert (checked.preferences.pairs, checked.preferences.leaking) == (131, 50)
    assert checked.preferences.left_out["same_answers"] == 1
    assert "note: 1 cannot be trained on: chosen and rejected the same" in checked.lines()
    assert json.loads(json.dumps(checked.as_dict()))["preferences"]["leaking"] == 50


def test_a_warning_about_preferences_is_something_to_complain_about(tmp_path: Path) -> None:
    longer = [{**row, "chosen": "a much longer answer"} for row in pairs(60)]
    assert "no problems found" not in check_task(load_task(tiny_task(tmp_path, preferences=longer))).lines()


def test_a_task_without_preferences_and_one_that_does_not_climb_to_them_say_nothing(tmp_path: Path) -> None:
    assert check_task(load_task(tiny_task(tmp_path / "a"))).preferences is None
    path = tiny_task(tmp_path / "b", preferences=labels(60), ladder=["sft"])
    checked = check_task(load_task(path))
    assert checked.preferences is None
    assert not any(line.startswith("preferences") for line in checked.lines())
