"""The ladder in the terminal: legible at 80 columns and without colour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lastresort.records.ledger import speaks_of_reuse
from lastresort.report import break_even, comparison, gate_summary, judge, ladder_chart, repairs
from lastresort.report.marks import MARKS, STYLES
from lastresort.report.scale import Scale
from lastresort.report.wording import (
    NO_BREAK,
    count,
    duration,
    interval,
    money,
    percent,
    printable,
    round_percent,
    spaced,
    stopped,
    unit_of,
    verdict,
    what_would_decide,
)

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

STRIP = 22


def ladder_table(decision: Mapping[str, Any]) -> RenderableType:
    """The answer, the ladder with scores, intervals, verdicts and cost, and what an open verdict asks for."""
    from rich.console import Group
    from rich.text import Text

    lines: list[RenderableType] = [
        Text(printable(decision["answer"]), style="bold"),
        Text(""),
        _table(decision),
        Text(""),
    ]
    for rung in decision["rungs"]:
        name = printable(rung["name"])
        if rung["test"] is None:
            lines.append(
                Text(f"{name} skipped: {printable(stopped(rung['skipped_because'] or 'not tested'))}", style="dim")
            )
        elif rung["test"]["verdict"] == "UNDECIDED":
            lines.append(Text(f"{name} is undecided. {what_would_decide(rung['test'])}", style="yellow"))
    lines += _gate(decision["gate"])
    lines += _repairs(decision["repairs"])
    lines += _comparison(decision["compare"])
    if break_even.is_worth_a_line(decision["break_even"], decision["goal"]):
        lines.append(Text(printable(spaced(stopped(break_even.finding(decision["break_even"]))))))
    if decision["judge"]:
        lines.append(Text(printable(stopped(_judge(decision["judge"]))), style="yellow"))
    if speaks_of_reuse(decision["test_reuse"] or ""):
        lines.append(Text(printable(decision["test_reuse"]), style="yellow"))
    return Group(*lines)


def strip(test: Mapping[str, Any], bar: float, scale: Scale, width: int = STRIP) -> str:
    """Interval, estimate and bar in one line of characters: `·····━━━━×━━━┃·····`. The estimate wins over the bar."""

    def cell(value: float) -> int:
        return min(width - 1, int(width * scale.share(value)))

    low, high = (cell(limit) for limit in test["interval"])
    line = ["━" if low <= place <= high else "·" for place in range(width)]
    line[cell(bar)] = "┃"
    line[cell(test["score"])] = MARKS[test["verdict"]]
    return "".join(line)


def _table(decision: Mapping[str, Any]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    scale, bar = ladder_chart.axis_of(decision), decision["bar"]
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("rung", no_wrap=True)
    table.add_column("score", justify="right", no_wrap=True)
    table.add_column(_head(bar, scale), no_wrap=True)
    table.add_column(f"{unit_of(decision)}s", justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    table.add_column("cost", justify="right", no_wrap=True)
    for rung in decision["rungs"]:
        test, name = rung["test"], Text(printable(rung["name"]))
        if test is None:
            table.add_row(name, "–", "", "", "skipped" if not rung["applies"] else "not tested", "", style="dim")
            continue
        style = STYLES[test["verdict"]]
        word = Text(f"{MARKS[test['verdict']]} {verdict(test['verdict'])}", style=style)
        drawn = Text(strip(test, bar, scale), style=style)
        cost, score = rung["cost"], Text(percent(test["score"]), style="bold")
        table.add_row(name, score, drawn, count(test["n_used"]), word, duration(cost["seconds"]))
        paid = "" if cost["usd"] == 0 else money(cost["usd"])
        table.add_row("", "", interval(test["interval"]), f"of {count(test['n_available'])}", "", paid, style="dim")
    return table


def _gate(gate: Mapping[str, Any] | None) -> list[RenderableType]:
    """The gate's verdict, and a line a measure."""
    from rich.text import Text

    if gate is None:
        return []
    first = Text(printable(spaced(stopped(gate_summary.finding(gate)))), style=STYLES[gate["verdict"]])
    measures = [Text(printable(spaced(f"  {line}")), style="dim") for line in gate_summary.lines(gate)]
    return [first, *measures]


def _repairs(tried: Sequence[Mapping[str, Any]]) -> list[RenderableType]:
    from rich.text import Text

    return [Text(printable(spaced(stopped(repairs.finding(tried)))), style="bold")] if tried else []


def _comparison(entries: Sequence[Mapping[str, Any]]) -> list[RenderableType]:
    """Which ways of training score otherwise, and a line a way."""
    from rich.text import Text

    if not entries:
        return []
    first = Text(printable(spaced(stopped(comparison.finding(entries)))), style="bold")
    return [first, *[Text(printable(spaced(f"  {line}")), style="dim") for line in comparison.lines(entries)]]


def _judge(found: Mapping[str, Any]) -> str:
    """Whose opinion the scores are, and what it took to have it."""
    cost = found["cost"]
    paid = "" if cost["usd"] == 0 else f", {money(cost['usd'])}"
    return f"{judge.finding(found)} (the judge took {duration(cost['seconds'])}{paid})".replace(NO_BREAK, " ")


def _head(bar: float, scale: Scale) -> Text:
    """The bar's name over its place in the strips."""
    from rich.text import Text

    name = f"bar {round_percent(bar)}"
    start = int(STRIP * scale.share(bar)) - len(name) // 2
    return Text(" " * max(0, min(STRIP - len(name), start)) + name)
