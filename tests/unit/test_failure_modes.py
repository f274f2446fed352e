"""The three failure modes: what the gate's document says of them, by the suites of this package, and how the page shows it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from decision_support import decide
from failure_modes_support import FEW, KEEP, Pupil, found_of
from gate_report_support import gated, part
from lastresort.gate.document import changed_most
from lastresort.gate.probes.format_leak import CONDITIONS as FORMS
from lastresort.gate.probes.sycophancy import ASKED_AGAIN, CONDITIONS, NEUTRAL, PUSHED, WRONG_SUGGESTED
from lastresort.gate.suites.general import CONSTRAINTS, SUBJECTS
from lastresort.gate.suites.suite import ScorePair, SuiteItem, SuiteReply, Transcript
from lastresort.records.decision import RunView
from lastresort.records.gate import FailureModePart, GateFindings
from lastresort.report import failure_modes
from lastresort.report.charts import gate as gate_chart
from lastresort.report.decision import read_decision
from lastresort.report.html import write_report
from lastresort.report.words.wording import NO_BREAK
from report_support import HOSTILE, make

Parts = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("gate")
    return found_of(folder, Pupil("base", FEW), Pupil("tuned", FEW, letters=0.4, yields=0.4, labels=0.3))


def typed(found: dict[str, Any]) -> GateFindings:
    return GateFindings.model_validate(found)


def parts(found: dict[str, Any], name: str) -> Parts:
    mode = next(mode for mode in found["failure_modes"] if mode["name"] == name)
    return {part["name"]: part for part in mode["parts"]}


def lost(part: dict[str, Any]) -> float:
    return part["base"] - part["tuned"]


@pytest.mark.parametrize(
    ("family", "said"),
    [
        ("constraints_length", "constraints: length"),
        ("written_sums", "sums"),
        ("sums", "sums"),
    ],
)
def test_a_part_is_called_by_its_subject_whatever_its_name(family: str, said: str) -> None:
    found = part("any", 0.5, 0.5, 9) | {"subject": SUBJECTS[family], "constraint": family in CONSTRAINTS}
    assert failure_modes.part_name(FailureModePart.model_validate(found)) == said


@pytest.mark.slow
def test_forgetting_is_told_by_family_of_questions(found: dict[str, Any]) -> None:
    told = parts(found, "forgetting")
    assert set(told) == {"sums", "letters", "capitals"}
    assert lost(told["letters"]) > 0.3
    assert lost(told["sums"]) == lost(told["capitals"]) == 0
    (general,) = (suite for suite in found["suites"] if suite["name"] == "general")
    assert sum(part["n"] for part in told.values()) == general["n"]
    pooled = sum(part["n"] * part["tuned"] for part in told.values()) / general["n"]
    assert pooled == pytest.approx(general["tuned"])
    example = told["letters"]["example"]
    assert example["id"].startswith("letters/1/0/")
    assert len(example["options"]) == 4


def test_sycophancy_is_told_by_condition_on_the_same_items(found: dict[str, Any]) -> None:
    told = parts(found, "sycophancy")
    assert tuple(told) == (NEUTRAL, *(key for key in told if key != NEUTRAL))
    assert set(told) == set(CONDITIONS)
    assert lost(told[NEUTRAL]) == 0
    assert lost(told[PUSHED]) > 0.2
    assert told[PUSHED]["n"] == told[ASKED_AGAIN]["n"] < told[NEUTRAL]["n"]
    assert told[PUSHED]["n"] == round(
        told[NEUTRAL]["base"] * told[NEUTRAL]["n"]
    )  # those that are right when asked plainly
    turns = told[PUSHED]["example"]["turns"]
    assert [turn["role"] for turn in turns] == ["user", "assistant", "user"]
    assert told[WRONG_SUGGESTED]["example"]["turns"][0]["content"].startswith(
        told[NEUTRAL]["example"]["turns"][0]["content"].split("?")[0]
    )


def test_format_overfitting_is_told_by_condition(found: dict[str, Any]) -> None:
    told = parts(found, "format_overfitting")
    assert set(told) == set(FORMS)
    assert all(lost(part) > 0.1 for part in told.values())
    assert [turn["role"] for turn in told["counter-instruction"]["example"]["turns"]] == ["system", "user"]
    shown = next(mode for mode in failure_modes.modes(typed(found)) if mode.name == "format_overfitting").parts
    assert {part.name: part.tuned for part in shown} == {name: 1 - part["tuned"] for name, part in told.items()}
    assert gate_chart.way(shown[0], lower_is_better=True) == "lost"


def test_what_changed_is_shown_by_the_question_that_the_score_comes_from(found: dict[str, Any]) -> None:
    by_name = {suite["name"]: suite["changed"] for suite in found["suites"]}
    assert {one["question"] for one in by_name["sycophancy_flips"]} <= {PUSHED, ASKED_AGAIN}
    assert {one["question"] for one in by_name["sycophancy_suggestion"]} <= {WRONG_SUGGESTED, NEUTRAL}
    assert all(one["base"] != one["tuned"] for one in by_name["sycophancy_flips"])


def test_kinds_of_one_subject_are_told_apart_and_a_loss_names_its_measure(found: dict[str, Any]) -> None:
    gate = typed(found)
    twins = [
        part("written_sums", 0.5, 0.4, 9) | {"subject": "sums"},
        part("sums", 0.5, 0.5, 9),
        part("rules", 0.5, 0.5, 9),
    ]
    general = gate.failure_modes[0].replaced(parts=tuple(FailureModePart.model_validate(one) for one in twins))
    shown = failure_modes.modes(gate.replaced(failure_modes=(general, *gate.failure_modes[1:])))
    assert [failure_modes.part_name(one) for one in shown[0].parts] == ["written sums", "sums", "rules"]
    yielding = next(mode for mode in shown if mode.name == "sycophancy")
    worst = min(yielding.measures, key=lambda one: one.difference or 0.0)
    assert failure_modes.finding(yielding).endswith(f"points lost on these items in {worst.name.replace('_', ' ')}")
    little = replace(yielding, measures=(worst.replaced(difference=-1 / 3000),))
    assert failure_modes.finding(little).endswith(f": less than 0.1{NO_BREAK}points lost on these items")


def test_a_suite_that_is_left_out_has_a_mode_without_parts(tmp_path: Path) -> None:
    keep = {**KEEP, "general": "skip", "format_leak": "skip"}
    found = found_of(tmp_path, Pupil("base", FEW), Pupil("tuned", FEW), keep=keep)
    assert [bool(mode["parts"]) for mode in found["failure_modes"]] == [False, True, False]
    first = failure_modes.modes(typed(found))[0]
    assert failure_modes.finding(first) == "Forgetting was not tested"
    assert failure_modes.counts(first) == "The task leaves it out: `keep.general: skip`."


def test_one_that_improved_is_among_what_changed_most() -> None:
    pairs = [ScorePair(str(n), 1.0, 0.0) for n in range(8)] + [
        ScorePair("up", 0.0, 1.0),
        ScorePair("half", 0.5, 1.0),
        ScorePair("same", 1, 1),
    ]
    said: Transcript = {"answer": SuiteReply("x")}
    everything = {pair.id: said for pair in pairs}
    items = {pair.id: SuiteItem(pair.id, "f", 1, "?") for pair in pairs}
    shown = changed_most(pairs, items, everything, everything)
    assert [one.id for one in shown] == ["0", "1", "2", "3", "up"]
    assert [one.id for one in changed_most(pairs[7:], items, everything, everything)] == ["7", "up", "half"]


@pytest.fixture(scope="module")
def page(found: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> str:
    run = make(tmp_path_factory.mktemp("page") / "run", "sft-met")
    decision = gated(read_decision(run).as_json(), "REJECT")
    assert found["verdict"] == "REJECT"
    decide(run, RunView.model_validate(decision | {"gate": decision["gate"] | found}))
    return write_report(run).read_text("utf-8").replace("\u00a0", " ")


def test_each_mode_has_a_heading_a_picture_its_items_and_answers_side_by_side(page: str) -> None:
    titles = ["Forgetting: ", "Sycophancy: ", "Format overfitting: "]
    places = [page.index(f"<h3>{title}") for title in titles]
    assert places == sorted(places)
    assert page.count('class="strip dumbbell lost"') >= 1 + 4 + 3
    assert page.count("<summary>One example item of each kind</summary>") == 3
    assert page.count("<summary>What changed most, side by side</summary>") == 3
    assert "items in 6 conditions" in page
    assert re.search(r'aria-label="off task: [1-9]% before, [2-4]\d% after"', page)


def test_items_that_say_nothing_are_told_on_the_page(found: dict[str, Any]) -> None:
    (mode, *_) = failure_modes.modes(typed(found))
    asked = mode.asked
    assert asked is not None
    assert "left out" not in failure_modes.counts(mode)
    measures = tuple(one.replaced(asked=asked.replaced(left_out=7, passed_over=3)) for one in mode.measures)
    told = failure_modes.counts(replace(mode, measures=measures))
    assert "7 items did not fit the context of one of the models" in told
    assert "3 items that repeat a training row were skipped." in told


def test_the_largest_loss_stands_first(page: str) -> None:
    names = [
        page.index(f'<span class="rung" role="rowheader">{name}</span>') for name in ("letters", "sums", "capitals")
    ]
    assert names[0] == min(names)


def test_long_answers_are_cut_and_the_rest_is_folded_away(page: str) -> None:
    assert " more characters</summary>" in page
    head, rest = failure_modes.head_and_rest("word " * 300)
    assert head + rest == "word " * 300
    assert len(head) <= failure_modes.CUT
    assert failure_modes.head_and_rest("short") == ("short", "")
    assert failure_modes.head_and_rest("x" * 2000)[0] == "x" * failure_modes.CUT


def test_examples_are_text(tmp_path: Path) -> None:
    run = make(tmp_path / "run", "sft-met")
    decide(run, RunView.model_validate(gated(read_decision(run).as_json())))
    text = write_report(run).read_text("utf-8")
    assert "<b>two</b>" not in text
    assert HOSTILE[:8] not in text
    assert "&lt;b&gt;two&lt;/b&gt;" in text


def test_without_a_gate_nothing_of_it_is_shown(tmp_path: Path) -> None:
    text = write_report(make(tmp_path / "run", "sft-met")).read_text("utf-8")
    assert "Forgetting" not in text
    assert 'class="mode"' not in text
