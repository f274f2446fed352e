"""The parts a page is made of: differences, axes, curves, wording, titles."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lastresort.records.decision import Failures, RungView
from lastresort.records.measurement import BarTest, Cost
from lastresort.records.record import ItemScore
from lastresort.report.charts import scale
from lastresort.report.charts.loss import finite_points, is_smoothed, loss_chart, smoothed, thinned, went_furthest
from lastresort.report.charts.runs import RunPoint, runs_chart
from lastresort.report.decision import read_decision
from lastresort.report.differences import changed, clipped, side_by_side
from lastresort.report.html import labelled
from lastresort.report.story import examples
from lastresort.report.words import titles as findings
from lastresort.report.words import verdicts, wording
from lastresort.types import JsonObject
from report_support import make

KEYED = '{"team": "billing", "urgent": true, "tags": ["a", "b"], "n": 1}'


@pytest.mark.parametrize(
    ("got", "expected_marks", "got_marks", "note"),
    [
        (KEYED, [], [], ""),
        (KEYED.replace("billing", "sales"), ['"billing"'], ['"sales"'], ""),
        (KEYED.replace('"b"', '"c"'), ['"b"'], ['"c"'], ""),
        (KEYED.replace("true", "1"), ["true"], ["1"], ""),
        ('{"team": "billing", "urgent": true, "tags": ["a", "b"]}', ['"n": 1'], [], ""),
        (KEYED.replace("}", ', "more": null}'), [], ['"more": null'], ""),
        ('{"team": "billing",', [], [""], "Not JSON: "),
        ("Sure! It is billing.", [], ["Sure! It is billing."], "Not JSON: Expecting value at character 1."),
        ("  ", [], [], "Empty answer."),
        ("3", None, ["3"], ""),
    ],
)
def test_json_is_compared_key_by_key(
    got: str, expected_marks: list[str] | None, got_marks: list[str], note: str
) -> None:
    sides = side_by_side(KEYED, got)
    if expected_marks is not None:
        assert marks(sides.expected) == expected_marks
    assert sides.note.startswith(note)
    assert bool(sides.note) == bool(note)
    if got_marks != [""]:
        assert marks(sides.got) == [mark for mark in got_marks if mark]


def test_json_of_the_wrong_form_is_said_with_what_the_schema_says_against_it() -> None:
    team = {"type": "string", "enum": ["billing", "returns"]}
    schema: JsonObject = {"type": "object", "properties": {"team": team}, "additionalProperties": False}
    right = '{"team": "billing"}'
    sides = side_by_side(right, '{"team": "sales"}', schema)
    assert sides.note == "JSON that does not fit the schema, at $.team: 'sales' is not one of ['billing', 'returns']."
    assert "'day' was unexpected" in side_by_side(right, '{"team": "billing", "day": 1}', schema).note
    assert side_by_side(right, '{"team": "returns"}', schema).note == "", "of the right form, and wrong"
    team["enum"] = [f"team {number}" for number in range(500)]
    assert len(side_by_side(right, '{"team": "sales"}', schema).note) < 400


def marks(html: str) -> list[str]:
    import re
    from html import unescape

    return [unescape(found) for found in re.findall(r"<mark>(.*?)</mark>", html, re.S) if found.strip()]


def test_text_is_compared_word_by_word() -> None:
    sides = side_by_side("the parcel is late", "the letter is late")
    assert (marks(sides.expected), marks(sides.got)) == (["parcel"], ["letter"])
    sides = side_by_side("billing", "shipping")
    assert (marks(sides.expected), marks(sides.got)) == (["billing"], ["shipping"])


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=80), st.text(max_size=80))
def test_any_text_is_escaped_and_complete(expected: str, got: str) -> None:
    from html import unescape

    sides = side_by_side(expected, got)
    for side in (sides.expected, sides.got):
        assert "<" not in side.replace("<mark>", "").replace("</mark>", "")
    if not sides.note and not expected.strip().startswith(("{", "[")):
        assert unescape(sides.got.replace("<mark>", "").replace("</mark>", "")) == unescape(unescape(html_of(got)))


def html_of(text: str) -> str:
    from markupsafe import escape

    return str(escape(text))


def test_deep_and_long_answers_end() -> None:
    deep = "[" * 400 + "]" * 400
    assert "[" in side_by_side(deep, deep).got
    assert side_by_side('{"a": 1}', "[" * 100_000).note.startswith("Not JSON")
    long = side_by_side("x", "word " * 20_000)
    assert len(long.got) < 5_000
    assert "more characters" in long.got
    assert clipped("short") == "short"


@pytest.mark.parametrize(
    ("values", "low", "high", "ticks"),
    [
        ([0.55, 0.85], 0.5, 0.9, (0.5, 0.6, 0.7, 0.8, 0.9)),
        ([0.0, 1.0], 0.0, 1.0, (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)),
        ([0.97, 0.99], 0.6, 1.0, (0.6, 0.7, 0.8, 0.9, 1.0)),
        ([0.01, 0.03], 0.0, 0.4, (0.0, 0.1, 0.2, 0.3, 0.4)),
        ([], 0.0, 1.0, (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)),
    ],
)
def test_an_axis_of_scores(values: list[float], low: float, high: float, ticks: tuple[float, ...]) -> None:
    found = scale.scores(values)
    assert (found.low, found.high, found.ticks) == (low, high, ticks)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_every_score_lies_on_its_axis(values: list[float]) -> None:
    found = scale.scores(values)
    assert 0 <= found.low <= min(values)
    assert max(values) <= found.high <= 1
    assert all(found.low <= tick <= found.high for tick in found.ticks)
    assert len(found.ticks) >= 3


@pytest.mark.parametrize(
    ("largest", "ticks"),
    [(2.19, (0, 1, 2, 3)), (102, (0, 50, 100, 150)), (0.16, (0, 0.05, 0.1, 0.15, 0.2)), (0, (0, 0.5, 1))],
)
def test_an_axis_of_amounts(largest: float, ticks: tuple[float, ...]) -> None:
    assert scale.amounts([largest]).ticks == ticks


@pytest.mark.parametrize(
    ("largest", "ticks"),
    [
        (0.004, (0, 0.001, 0.002, 0.003, 0.004)),
        (8.1, (0, 5, 10)),
        (50, (0, 15, 30, 45, 60)),
        (470, (0, 120, 240, 360, 480)),
        (4_000, (0, 1_200, 2_400, 3_600, 4_800)),
        (86_400, (0, 21_600, 43_200, 64_800, 86_400)),
        (30 * 86_400, (0, 864_000, 1_728_000, 2_592_000)),
    ],
)
def test_an_axis_of_time_has_ticks_that_are_round_in_its_unit(largest: float, ticks: tuple[float, ...]) -> None:
    assert scale.durations([largest]).ticks == ticks


def test_runs_are_drawn_with_round_times_and_a_line_a_bar() -> None:
    found = [
        RunPoint("a-1", 470.0, 0.8, (0.7, 0.9), 0.75, "MET"),
        RunPoint("a-2", 130.0, 0.5, (0.4, 0.6), 0.85, "NOT_MET"),
    ]
    drawn = runs_chart(found, in_money=False).replace("\u00a0", " ")
    assert re.findall(r'text-anchor="middle">(.*?)<', drawn) == ["0", "2 min", "4 min", "6 min", "8 min", "time spent"]
    assert re.findall(">bar (.*?)<", drawn) == ["85%", "75%"]
    assert "bar at 75% and 85%" in drawn
    paid = runs_chart([replace(one, spent=one.spent / 100) for one in found], in_money=True)
    assert re.findall(r'text-anchor="middle">(.*?)<', paid)[:2] == ["0", "$2.00"]


def curve(*losses: float) -> list[dict[str, float]]:
    return [{"step": number + 1, "loss": loss} for number, loss in enumerate(losses)]


def test_loss_chart_draws_every_run_and_names_it() -> None:
    curves = {"lr<1>": curve(2, 1.5), "lr2": [*curve(2, 1, 0.5), {"step": 3, "dev_loss": 0.7}]}
    drawn = loss_chart(curves, 'falls "fast"')
    assert drawn is not None
    assert drawn.count("<polyline") == 2
    assert drawn.count('class="dev"') == 1
    assert "lr&lt;1&gt;" in drawn
    assert 'aria-label="falls &#34;fast&#34;"' in drawn
    assert drawn.index("line front") > drawn.index('"line"')  # drawn last, so that it lies in front
    assert went_furthest(curves) == "lr2"


def test_loss_chart_leaves_out_what_cannot_be_drawn() -> None:
    assert loss_chart({}, "") is None
    assert loss_chart({"a": curve(1.0)}, "") is None
    assert loss_chart({"a": [{"step": 1, "dev_loss": 0.5}]}, "") is None
    drawn = loss_chart({"a": curve(2.0, math.nan, math.inf, 1.0)}, "")
    assert drawn is not None
    assert "nan" not in drawn
    assert "inf" not in drawn


def test_a_diverging_run_does_not_flatten_the_others() -> None:
    drawn = loss_chart({"good": curve(*[2.0 - n / 50 for n in range(90)]), "bad": curve(2.0, 1e6)}, "")
    assert drawn is not None
    assert ">1000000<" not in drawn
    assert ">2<" in drawn


def test_the_title_of_a_training_names_the_ends_of_the_line_that_is_drawn() -> None:
    """A short run is drawn as it was measured: the mean of its last steps is nowhere in the picture."""
    short = {"a": curve(4.47, 2.0, 0.5, 0.4, 0.3, 0.2, 0.247)}
    assert findings.of_training(short, None) == "Training loss falls from 4.47 to 0.25"
    assert not is_smoothed(short)
    long = {"a": curve(*[2 - n / 50 for n in range(90)])}
    end = smoothed(finite_points(long["a"], "loss"))[-1][1]
    assert findings.of_training(long, None) == f"Training loss falls from 2.00 to {end:.2f}"
    assert is_smoothed(long)
    rewards = {"a": [{"step": n, "loss": 0.0, "reward": n / 10} for n in range(8)]}
    assert findings.of_training(rewards, None) == "Mean reward rises from 0.00 to 0.70"


def test_one_batch_at_an_end_does_not_say_what_a_training_did() -> None:
    falling = [2 - n / 20 for n in range(20)]
    said = findings.of_training({"a": curve(*falling[:-1], 2.4)}, None)
    assert said == "Training loss falls from 1.90 to 1.42 as means of 5 steps"
    rewards = [{"step": n, "loss": 0.0, "reward": value} for n, value in enumerate([0.9, *[0.1 * n for n in range(8)]])]
    assert findings.of_training({"a": rewards}, None) == "Mean reward rises from 0.30 to 0.55 as means of 4 steps"
    assert findings.of_training({"a": curve(1.0, 1.0)}, None) == "Training loss does not fall: from 1.00 to 1.00"
    assert findings.of_training({"a": curve(*[1.0] * 6)}, None) == "Training loss does not fall: from 1.00 to 1.00"
    still = [{"step": n, "loss": 0.0, "reward": 0.5} for n in range(6)]
    assert findings.of_training({"a": still}, None) == "Mean reward does not rise: from 0.50 to 0.50"


def test_smoothing_and_thinning_keep_ends() -> None:
    points = [(float(step), 1.0 / (1 + step)) for step in range(1000)]
    assert smoothed(points[:10]) == points[:10]
    even = smoothed(points)
    assert len(even) == 1000
    assert even[0] == points[0]
    thin = thinned(points)
    assert len(thin) <= 241
    assert (thin[0], thin[-1]) == (points[0], points[-1])
    assert thinned(points[:1]) == points[:1]


def tested(verdict: str, **keys: Any) -> BarTest:
    decided = None if verdict == "UNDECIDED" else {"by": "sequence", "error": 0.05, "limit": 0.8}
    found = {"score": 0.5, "n_used": 9, "n_available": 9, "unit": "item", "interval": (0.2, 0.9), "n_needed": None}
    return BarTest.model_validate({**found, "verdict": verdict, "decided": decided, **keys})


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (wording.percent(0.8125), "81.2%"),
        (wording.percent(1.0), "100.0%"),
        (wording.percent(0.99999), "99.9%"),
        (wording.percent(0.0), "0.0%"),
        (wording.percent(0.00001), "0.1%"),
        (wording.round_percent(0.85), "85%"),
        (wording.round_percent(0.855), "85.5%"),
        (wording.points(-0.021), "−2.1 points"),
        (wording.points(0.3), "+30.0 points"),
        (wording.duration(0.44), "0.4 s"),
        (wording.duration(59.6), "1 min"),
        (wording.duration(583), "9 min 43 s"),
        (wording.duration(3600), "1 h"),
        (wording.duration(11_520), "3 h 12 min"),
        (wording.money(0), "$0"),
        (wording.money(0.004), "< $0.01"),
        (wording.money(1234.5), "$1,234.50"),
        (wording.interval((0.393, 0.803)), "39.3–80.3%"),
        (wording.listed(["a", "b", "c"]), "a, b and c"),
        (wording.sentence("no knowledge"), "No knowledge."),
        (wording.sentence("why?"), "Why?"),
        (
            verdicts.what_would_decide(tested("UNDECIDED", unit="group")),
            "More than 90 test groups would decide it: the score is too close to the bar.",
        ),
        (
            verdicts.what_would_decide(tested("UNDECIDED", n_needed=30)),
            "Label about 21 fresh items (30 test items in all) to decide it with 80% probability if the score seen is the "
            "true one.",
        ),
        (
            verdicts.what_would_decide(tested("UNDECIDED", n_needed=10)),
            "Label about 1 fresh item (10 test items in all) to decide it with 80% probability if the score seen is the true one.",
        ),
        (
            verdicts.what_would_decide(tested("UNDECIDED", n_needed=30), repaired=True),
            "A new test of about 30 items would decide it with 80% probability if the score seen is the true one.",
        ),
        (verdicts.of_units(tested("MET", unit="group")), "all 9 groups"),
        (verdicts.of_units(tested("MET", n_available=1200)), "9 of 1,200 items"),
        (wording.counted(1, "group"), "1 group"),
    ],
)
def test_wording(found: str, text: str) -> None:
    assert found.replace("\u00a0", " ") == text


@pytest.mark.parametrize(
    ("by", "verdict", "limit", "interval", "text"),
    [
        (
            "sequence",
            "MET",
            0.83,
            (0.82, 0.9),
            "the sequential test after each group puts the true score at 83.0% or more",
        ),
        (
            "sequence",
            "MET",
            0.81,
            (0.82, 0.9),
            "the sequential test after each group puts the true score at 81.0% or more; "
            "quote 82.0%, the limit of the interval, which shows more",
        ),
        (
            "sequence",
            "NOT_MET",
            0.75,
            (0.6, 0.74),
            "the sequential test after each group puts the true score at 75.0% or less; "
            "quote 74.0%, the limit of the interval, which shows more",
        ),
        (
            "exact",
            "MET",
            0.805,
            (0.78, 0.9),
            "the exact test on all items puts the true score at 80.5% or more; "
            "the interval is wider and includes the bar, because it holds after every item",
        ),
        (
            "sequence",
            "NOT_MET",
            0.79,
            (0.7, 0.81),
            "the sequential test after each group puts the true score at 79.0% or less, at an error rate of 5.0%; "
            "the interval uses a smaller one and includes the bar",
        ),
    ],
)
def test_how_it_was_decided(by: str, verdict: str, limit: float, interval: tuple[float, float], text: str) -> None:
    test = tested(verdict, interval=interval, unit="group", decided={"by": by, "limit": limit, "error": 0.05})
    assert verdicts.how_decided(test, 0.8).replace("\u00a0", " ") == text


def test_of_a_climb_without_a_winner_no_score_is_said_to_have_led_on() -> None:
    """It may lie above the bar, where the gate rejected what had it."""
    said = verdicts.provisional("item", collects=False, met=False, won=False)
    assert said == "Nothing won, and a test is UNDECIDED. No rung is left to try."


def test_figures_of_the_provenance_are_named_in_words() -> None:
    body: dict[str, str | int] = {"memory_bytes": 1_200_000, "torch": "2.5", "gpu": ""}
    assert labelled(body) == [("memory bytes", "1,200,000"), ("torch", "2.5")]


def item(name: str, score: float, format_ok: bool | None) -> ItemScore:
    return ItemScore(name, score, "a", "b", "c", "stop", format_ok, 1, 1, 0.0, 0.0)


@pytest.mark.parametrize(
    ("before", "after", "shown"),
    [
        ("Route the case.", "Route the <b> case.", "Route the <ins>&lt;b&gt; </ins>case."),
        ("Route the case to a team.", "Route the case.", "Route the case<del> to a team</del>."),
        ("Route the case.", "Route the case.\nMoney is billing, as is every refund.", None),
        ("Route the case.", "Money is billing.", "<del>Route the case.</del><ins>Money is billing.</ins>"),
    ],
)
def test_a_text_that_changed_shows_what_fell_away_and_what_came(before: str, after: str, shown: str | None) -> None:
    """Word by word; line by line where little is left."""
    expected = shown or f"{before}<ins>{after.removeprefix(before)}</ins>"
    assert str(changed(before, after)) == expected


def test_examples_show_every_kind_and_the_worst_first() -> None:
    wrong = [item(f"o{n}", n / 10, True) for n in range(9, 0, -1)] + [item("f1", 0, False), item("k1", 0, True)]
    found = examples(wrong, knowledge=frozenset({"k1"}))
    assert [(failing.kind, failing.item.id) for failing in found] == [
        ("format", "f1"),
        ("knowledge", "k1"),
        ("other", "o1"),
        ("other", "o2"),
        ("other", "o3"),
    ]
    assert examples([]) == ()


def rung(name: str, verdict: str | None) -> RungView:
    return RungView(
        name=name,
        applies=True,
        skipped_because=None,
        candidates=(),
        chosen=None,
        test=None if verdict is None else tested(verdict),
        gate=None,
        failures=Failures(format=0, knowledge=None, other=0),
        cost=Cost(tokens_in=0, tokens_out=0, seconds=0, usd=0),
        early_warnings=(),
    )


@pytest.mark.parametrize(
    ("rungs", "title"),
    [
        ([rung("prompting", "MET")], "Prompting meets the bar of 80%"),
        (
            [rung("prompting", "NOT_MET"), rung("retrieval", None), rung("sft", "MET")],
            "SFT meets the bar of 80%; prompting misses it",
        ),
        (
            [rung("prompting", "NOT_MET"), rung("sft", "NOT_MET")],
            "Prompting and SFT miss the bar of 80%",
        ),
        (
            [rung("prompting", "NOT_MET"), rung("sft", "UNDECIDED")],
            "Prompting misses the bar of 80%; SFT is undecided",
        ),
        (
            [rung("prompting", "UNDECIDED"), rung("retrieval", "NOT_MET"), rung("sft", "MET")],
            "SFT meets the bar of 80%; retrieval misses it; prompting is undecided",
        ),
        (
            [rung("prompting", "UNDECIDED"), rung("sft", "MET")],
            "SFT meets the bar of 80%; prompting is undecided",
        ),
        (
            [rung("prompting", "MET"), rung("sft", "MET")],
            "Prompting and SFT meet the bar of 80%",
        ),
        (
            [rung("prompting", "MET"), rung("sft", "NOT_MET")],
            "Prompting meets the bar of 80%; SFT misses it",
        ),
        ([rung("retrieval", None)], "No rung could be tested"),
    ],
)
def test_titles_state_the_finding(tmp_path: Path, rungs: list[RungView], title: str) -> None:
    decision = read_decision(make(tmp_path, "prompting-met")).replaced(bar=0.8, rungs=rungs)
    assert findings.of_ladder(decision).replace("\u00a0", " ") == title
