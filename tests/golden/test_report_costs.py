"""What calls cost and when training is paid back, in words, on the page, in the terminal and as Markdown."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from cost_support import costs, priced
from decision_support import decide
from lastresort.records.decision import RunView
from lastresort.records.decision_parts import BreakEven
from lastresort.report.charts.cost import calls_shown, cost_chart, lines_of
from lastresort.report.decision import read_decision
from lastresort.report.html import write_report
from lastresort.report.markdown import markdown
from lastresort.report.terminal import ladder_table
from lastresort.report.words import break_even
from lastresort.report.words.wording import price, short_duration, spaced
from report_support import HOSTILE, make, remade

NEVER = {"crossing": "never", "calls": None, "months": None}
AT_ONCE = {"crossing": "at_once", "calls": 0, "months": 0.0}
UNKNOWN = {"crossing": "unknown", "calls": None, "months": None}
NO_MONTHS = {"calls_per_month": None, "pair": {"months": None}}
IN_SECONDS = {
    "currency": "machine_seconds",
    "missing": ["use.hourly_price"],
    "hourly_price": None,
    "prompting": {"per_call_usd": None, "per_call_machine_s": 1.9},
    "sft": {"per_call_usd": None, "one_off_usd": None},
    "pair": {"calls": 5000, "months": 12.5},
}
NO_PRICE = {
    "currency": None,
    "missing": ["use.prompt_price", "use.output_price"],
    "prompting": {"per_call_usd": None},
    "pair": UNKNOWN,
}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({}, "SFT becomes cheaper than prompting after 1,000 calls (2.5 months of use)"),
        (NO_MONTHS, "SFT becomes cheaper than prompting after 1,000 calls"),
        ({"pair": {"calls": 1, "months": 0.0025}}, "after 1 call (less than 0.1 months of use)"),
        ({"pair": AT_ONCE}, "SFT is cheaper than prompting from the first call"),
        ({"pair": NEVER}, "SFT never becomes cheaper than prompting because its calls cost no less"),
        (
            {"pair": NEVER, "prompting": {"verdict": "NOT_MET"}},
            "SFT never becomes cheaper than prompting, which misses the bar, because its calls cost no less",
        ),
        (
            {"prompting": {"verdict": "UNDECIDED"}},
            "SFT becomes cheaper than prompting, which is not shown to meet the bar, after 1,000 calls (2.5 months of use)",
        ),
        (
            NO_PRICE,
            "Whether SFT is cheaper than prompting is unknown: the task does not set `use.prompt_price` or `use.output_price`",
        ),
        ({"sft": {"verdict": "NOT_MET"}}, "1,000 calls cost $3.75 with prompting and $0.25 with SFT"),
        (IN_SECONDS, "SFT becomes cheaper than prompting after 5,000 calls (12.5 months of use)"),
    ],
)
def test_the_finding(changes: dict[str, Any], sentence: str) -> None:
    assert sentence in spaced(break_even.finding(priced(**changes)))


def test_seconds_that_contradict_the_tokens_are_not_passed_on_without_a_word() -> None:
    """Fewer tokens by the same model take no longer on the same machine, unless it had other work."""
    said = "; calls with SFT took longer for fewer tokens, so the load of the machine may have differed"
    slow = {**IN_SECONDS, "pair": NEVER, "prompting": {**IN_SECONDS["prompting"], "model": "org/small", "seconds": 0.3}}
    slow["prompting"]["per_call_machine_s"] = 0.3
    odd = priced(**slow)
    assert break_even.finding(odd).endswith(said)
    assert break_even.reasons(odd, "cost")[0].text.endswith(f"{said}.")
    open_bar = {**slow, "sft": {**IN_SECONDS["sft"], "verdict": "UNDECIDED"}}
    assert break_even.finding(priced(**open_bar)).startswith("1,000 calls cost")
    assert break_even.finding(priced(**open_bar)).endswith(said)
    larger = {**slow, "prompting": {**slow["prompting"], "model": "org/large"}}
    assert "took longer" not in break_even.finding(priced(**larger)), "another model"
    assert "took longer" not in break_even.finding(priced(**IN_SECONDS))


def test_the_finding_where_one_system_was_measured() -> None:
    one = priced(pairs=[], systems=costs()["systems"][:1])
    assert break_even.finding(one) == "1,000 calls cost $3.75 with prompting"
    none = costs(**{**NO_PRICE, "pair": {}}) | {"pairs": []}
    none["systems"] = none["systems"][:1]
    assert break_even.finding(BreakEven.model_validate(none)).startswith(
        "The cost per call is unknown: the task does not set `use.prompt_price`"
    )
    assert not break_even.is_worth_a_line(one, "quality")
    assert break_even.is_worth_a_line(one, "cost")
    assert not break_even.is_worth_a_line(None, "cost")


REASONS = [
    "Cost of 1,000 calls: prompting (few-shot-5) $3.75, with 1000 prompt and 50 answer tokens in 900 ms per call; sft "
    "(lora-lr0.0003-epoch3) $0.25, with 70 prompt and 24 answer tokens in 500 ms per call.",
    "Two models: org/small, tuned by SFT, scored 93.3% (85.4–97.1%, MET), and openai:large with prompting 95% (86.0–99.0%, "
    "MET); on the 42 test items that both answered 93% against 95% (descriptive only).",
    "Break-even: SFT becomes cheaper than prompting after 1,000 calls (2.5 months of use).",
]


def cost_reasons(entry: dict[str, Any] | None, goal: str) -> list[str]:
    return [reason.text for reason in break_even.reasons(entry, goal)]


def test_reasons() -> None:
    assert cost_reasons(priced(), "quality") == REASONS
    one_model = cost_reasons(priced(sft={"model": "openai:large"}), "quality")
    assert one_model == [REASONS[0], REASONS[2]]
    assert cost_reasons(None, "cost") == []


def test_reasons_where_money_is_unknown() -> None:
    told = cost_reasons(priced(**IN_SECONDS), "quality")
    assert "prompting (few-shot-5) 31 min 40 s of this machine, with" in told[0]
    assert told[-1] == (
        "Some costs are unknown in money: the task does not set `use.hourly_price`; systems on this "
        "machine are compared by its time."
    )
    assert not any("$" in sentence for sentence in told)
    assert "prompting (few-shot-5) unknown, with" in cost_reasons(priced(**NO_PRICE), "quality")[0]


def test_what_the_figures_rest_on() -> None:
    told = spaced(break_even.basis(priced()))
    assert told.startswith("Means over 42 test items. Endpoint calls: every token at full price, no discount")
    assert "Local calls: their share of this machine at $1.80 an hour, measured in batches" in told
    assert "endpoint" not in break_even.basis(priced(**IN_SECONDS))
    assert "use.hourly_price" in break_even.basis(priced(**IN_SECONDS))


@pytest.mark.parametrize(
    ("usd", "text"),
    [
        (0, "$0"),
        (12.4, "$12.40"),
        (1234.5, "$1,234.50"),
        (1.0, "$1.00"),
        (0.9999, "$1.00"),
        (0.25, "$0.25"),
        (0.1, "$0.10"),
        (0.041234, "$0.0412"),
        (0.005, "$0.005"),
        (0.00000123456, "$0.00000123"),
    ],
)
def test_money_of_any_size_keeps_its_digits(usd: float, text: str) -> None:
    assert price(usd) == text


def test_single_calls_are_told_in_milliseconds() -> None:
    assert spaced(short_duration(0.0412)) == "41 ms"
    assert spaced(short_duration(1.25)) == "1.2 s"


def numbers(pattern: str, drawn: str) -> list[float]:
    return [float(found) for found in re.findall(pattern, drawn)]


def test_the_curves_begin_at_the_training_and_cross_where_it_is_paid_back() -> None:
    entry = priced()
    assert [(line.name, line.start, line.per_call) for line in lines_of(entry)] == [
        ("prompting", 0.0, 0.00375),
        ("sft", 3.5, 0.00025),
    ]
    drawn = str(cost_chart(entry, 'crosses at "1,000"'))
    assert 'aria-label="crosses at &#34;1,000&#34;"' in drawn
    prompting, sft = (
        [tuple(map(float, point.split(","))) for point in points.split()]
        for points in re.findall(r'polyline points="([^"]*)"', drawn)
    )
    x, y = numbers(r'circle class="crossing" cx="([\d.]+)"', drawn)[0], numbers(r'cy="([\d.]+)"', drawn)[0]
    for (x0, y0), (x1, y1) in (prompting, sft):
        assert y0 + (x - x0) / (x1 - x0) * (y1 - y0) == pytest.approx(y, abs=0.2)  # both lines pass through the ring
    assert prompting[0][1] > sft[0][1]  # the tuned one begins higher up
    assert prompting[1][1] < sft[1][1]  # and ends lower
    assert "1,000 calls, 2.5 months</text>" in drawn
    assert ">USD, cumulative</text>" in drawn


def test_without_a_crossing_a_year_is_shown() -> None:
    entry = priced(pair=NEVER, sft={"per_call_usd": 0.004})
    assert calls_shown(entry, lines_of(entry)) == 4800
    drawn = str(cost_chart(entry, ""))
    assert "crossing" not in drawn
    assert drawn.count("<polyline") == 2
    unknown_volume = entry.replaced(calls_per_month=None)
    assert calls_shown(unknown_volume, lines_of(unknown_volume)) == pytest.approx(3.5 / 0.004)


def test_curves_in_hours_of_the_machine() -> None:
    drawn = str(cost_chart(priced(**IN_SECONDS), ""))
    assert "hours of this machine, cumulative" in drawn
    assert "$" not in drawn
    assert ">5,000 calls, 12.5 months</text>" in drawn


@pytest.mark.parametrize(
    "changes",
    [
        NO_PRICE,
        {"pairs": []},
        {
            "pair": NEVER,
            "prompting": {"per_call_usd": 0.0},
            "sft": {"per_call_usd": 0.0, "one_off_usd": 0.0},
        },
    ],
)
def test_what_cannot_be_compared_is_not_drawn(changes: dict[str, Any]) -> None:
    assert cost_chart(priced(**changes), "") is None


def test_many_crossings_have_labels_apart() -> None:
    entry = costs()
    retrieval = {**entry["systems"][0], "rung": "retrieval", "per_call_usd": 0.00376}
    entry["systems"].insert(1, retrieval)
    entry["pairs"].append({**entry["pairs"][0], "untuned": "retrieval", "calls": 998, "months": 2.495})
    drawn = str(cost_chart(BreakEven.model_validate(entry), ""))
    assert drawn.count('class="crossing"') == 2
    labels = [float(y) for y in re.findall(r'y="([\d.]+)" text-anchor="\w+">[\d,]+ calls', drawn)]
    assert abs(labels[0] - labels[1]) >= 16
    names = [float(y) for y in re.findall(r'class="name(?: front)?" x="651" y="([\d.]+)"', drawn)]
    assert len(names) == 3
    assert min(abs(a - b) for i, a in enumerate(names) for b in names[:i]) >= 15.9


def costed(folder: Path, **changes: Any) -> RunView:
    decision = remade(read_decision(make(folder, "costed")), break_even=costs(**changes))
    decide(folder, decision)
    return decision


def page_of(folder: Path) -> str:
    text = write_report(folder).read_text("utf-8")
    return " ".join(re.sub(r"<[^>]*>", " ", text).replace("\u00a0", " ").split())


def test_the_page_shows_table_and_curves(tmp_path: Path) -> None:
    saving = {"rung": "prompting", "goes_on": True, "because": "goal: cost: it went on.", "currency": "usd"}
    saving |= {"now": 0.00375, "then": 0.0003, "one_off": 3.0, "crossing": "after", "calls": 870, "months": 2.2}
    costed(tmp_path / "run", saving=saving)
    page = page_of(tmp_path / "run")
    assert "SFT becomes cheaper than prompting after 1,000 calls (2.5 months of use)" in page
    assert "A month has 400 calls." in page
    assert "prompting few-shot-5 openai:large 95.0% 86.0–99.0% MET 1,000 50 900 ms $3.75 –" in page
    assert "sft lora-lr0.0003-epoch3 org/small 93.3% 85.4–97.1% MET 70 24 500 ms $0.25 $3.50" in page
    assert (
        "On the 42 test items that both answered, SFT scored 93.0% and prompting 95.0%: −2.0 points. This is descriptive"
        in page
    )
    assert "goal: cost: it went on." in page
    assert (tmp_path / "run" / "report.html").read_text("utf-8").count('class="crossing"') == 1


def test_a_page_of_one_system_has_a_table_and_no_curve(tmp_path: Path) -> None:
    costed(tmp_path / "run", pairs=[], systems=costs()["systems"][:1])
    page = page_of(tmp_path / "run")
    assert "1,000 calls cost $3.75 with prompting" in page
    assert "What each system has cost after so many calls" not in page


def test_names_from_outside_stay_text(tmp_path: Path) -> None:
    costed(tmp_path / "run", sft={"model": HOSTILE, "name": HOSTILE})
    text = write_report(tmp_path / "run").read_text("utf-8")
    assert "<script>" not in text
    assert "&lt;script&gt;" in text


LINE = "SFT becomes cheaper than prompting after 1,000 calls (2.5 months of use)."


def test_a_line_in_the_terminal_and_in_markdown(tmp_path: Path) -> None:
    decision = costed(tmp_path / "run")
    out = io.StringIO()
    Console(file=out, width=80).print(ladder_table(decision))
    assert LINE in " ".join(out.getvalue().split())
    assert f"\n\n{LINE}\n\n" in markdown(decision)
    money = costed(tmp_path / "other", sft={"verdict": "NOT_MET"})
    assert "1,000 calls cost \\$3.75 with prompting and \\$0.25 with SFT." in markdown(money)
