"""The ladder in the terminal: legible at 80 columns and without colour."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from lastresort.errors import DataError
from lastresort.records.chain import Table as RecordTable
from lastresort.records.decision import JudgeView, RunView
from lastresort.records.decision_parts import ComparedWay
from lastresort.records.events.base import Stage
from lastresort.records.gate import ClimbGate
from lastresort.records.measurement import BarTest
from lastresort.records.salvage import Salvaged
from lastresort.records.view import Fold
from lastresort.report import comparison, repairs
from lastresort.report import gate as gate_summary
from lastresort.report.charts import ladder as ladder_chart
from lastresort.report.charts.scale import Scale
from lastresort.report.tables import ruled, verdict_text
from lastresort.report.words import break_even, judge, progress
from lastresort.report.words.titles import answer_line, below_headline, untested
from lastresort.report.words.verdicts import how_far, of_parts, unit_of, what_would_decide
from lastresort.report.words.wording import (
    MARKS,
    NO_BREAK,
    STYLES,
    capital,
    count,
    duration,
    interval,
    money,
    percent,
    printable,
    round_percent,
    rung_in_prose,
    spaced,
    state_of,
    stopped,
)

STRIP = 22
BLOCKS, SPARKS = "▁▂▃▄▅▆▇█", 30
BAR = 20


def run_at_work(view: RunView | None, stage: Stage | None, since_s: float = 0.0) -> RenderableType:
    """What the run is at, how fast and for how long, what it has spent, and the ladder so far. since_s: how long ago the stage was
    so.

    The ladder comes last, since a live display is cut where the terminal ends.
    """
    parts: list[RenderableType] = []
    if stage is not None and stage.label:
        parts.append(Text(printable(stage.label), style="bold cyan", no_wrap=True, overflow="ellipsis"))
        noted = printable(progress.note_of(stage))
        told = " · ".join(part for part in (progress.rate_line(stage, since_s), noted) if part)
        if stage.total or told:
            line = f"{progress_bar(int(stage.worked), stage.total)} {told}".strip()
            # Without a total it may say of each of several trainings how far it is.
            parts.append(Text(line, no_wrap=bool(stage.total), overflow="ellipsis"))
        if stage.loss is not None:
            parts.append(Text(f"loss {sparkline(stage.losses)} {stage.loss:.3f}"))
        if stage.spent_s:
            parts.append(Text(progress.spent_line(stage, since_s), style="dim", no_wrap=True, overflow="ellipsis"))
    if view is not None:
        parts += [Text(""), ladder_table(view)] if parts else [ladder_table(view)]
    return Group(*parts)


MOST_DAMAGE = 20  # lines; a damaged page may cost hundreds of rows


def salvaged_text(found: Salvaged) -> RenderableType:
    """The ladder as far as whole events tell, how much is whole, and what is not."""
    parts: list[RenderableType] = []
    try:
        view = Fold.of(found.events).view()
    except DataError as error:
        found.damage.append(error.found)
        view = None
    if view is not None:
        parts += [ladder_table(view), Text("")]
    names: dict[RecordTable, str] = {
        "event": "events",
        "measurement": "measurements",
        "curve": "points of training curves",
    }
    whole = [f"{count(found.whole[table])} of {count(found.of[table])} {name}" for table, name in names.items()]
    parts.append(Text(f"Whole: {', '.join(whole)}."))
    parts += [Text(f"Not whole: {printable(line)}.") for line in found.damage[:MOST_DAMAGE]]
    if (more := len(found.damage) - MOST_DAMAGE) > 0:
        parts.append(Text(f"And {count(more)} more."))
    return Group(*parts)


def progress_bar(done: int, total: int | None, width: int = BAR) -> str:
    """Nothing where the total is unknown."""
    if not total:
        return ""
    full = min(width, width * done // total)
    return "━" * full + "─" * (width - full)


def sparkline(values: Sequence[float], width: int = SPARKS) -> str:
    """The values as a line of blocks, the mean of neighbours where there are more than fit. What is not finite is left out."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return ""
    n = min(width, len(finite))
    pieces = [finite[len(finite) * i // n : len(finite) * (i + 1) // n] for i in range(n)]
    means = [sum(piece) / len(piece) for piece in pieces]
    low, span = min(means), max(means) - min(means)
    last = len(BLOCKS) - 1
    return "".join(BLOCKS[round(last * (mean - low) / span)] if span else BLOCKS[0] for mean in means)


def ladder_table(decision: RunView) -> RenderableType:
    """The answer, the ladder with scores, intervals, verdicts and cost, and what would settle an open verdict.

    What to do next holds a command, which no table may break into lines: whoever draws this prints it below.
    """
    lines: list[RenderableType] = [
        Text(printable(answer_line(decision)), style="bold"),
        *([Text(printable(below), style="yellow")] if (below := below_headline(decision)) else []),
        Text(""),
        _table(decision),
        Text(""),
    ]
    held = decision.winner is not None and decision.winner.held
    if held:
        chosen = [f"{rung.name}: {rung.chosen}" for rung in decision.rungs if rung.test is not None]
        lines.append(Text(printable(f"Systems: {'; '.join(chosen)}."), style="dim"))
    for rung in decision.rungs:
        name, begins = printable(rung.name), printable(capital(rung_in_prose(rung.name)))
        if rung.test is None:
            skipped = rung.skipped_because
            why = (
                f"{printable(untested(rung))}."
                if skipped is None
                else f"was {state_of(rung)}: {printable(stopped(skipped.text))}"
            )
            lines.append(Text(f"{begins} {why}", style="dim"))
            continue
        repaired = decision.is_repaired(rung)
        if rung.test.verdict == "UNDECIDED":
            needs = what_would_decide(rung.test, repaired=repaired)
            lines.append(Text(f"{begins} is undecided. {needs}", style="yellow"))
        said = (of_parts(rung.test), how_far(rung.test))
        lines += [Text(f"{name}: {text}" if text != said[1] else text, style="dim") for text in said if text]
    lines += _gate(decision.gate)
    if decision.repairs:
        gated = None if decision.gate is None else decision.gate.system
        lines.append(Text(printable(spaced(stopped(repairs.finding(decision.repairs, gated)))), style="bold"))
    if held and decision.would_change:
        lines.append(Text("What would change this answer:"))
        lines += [Text(printable(f"  {change.text}"), style="dim") for change in decision.would_change]
    lines += _comparison(decision.compare)
    if break_even.is_worth_a_line(decision.break_even, decision.goal):
        lines.append(Text(printable(spaced(stopped(break_even.finding(decision.break_even))))))
    if decision.judge:
        lines.append(Text(printable(stopped(_judge(decision.judge))), style="yellow"))
    if decision.test_reuse is not None and decision.test_reuse.used:
        lines.append(Text(printable(decision.test_reuse.text), style="yellow"))
    return Group(*lines)


def strip(test: BarTest, bar: float, scale: Scale, width: int = STRIP) -> str:
    """Interval, estimate and bar in one line of characters: `·····━━━━×━━━┃·····`. The estimate wins over the bar."""

    def cell(value: float) -> int:
        return min(width - 1, int(width * scale.share(value)))

    low, high = (cell(limit) for limit in test.interval)
    line = ["━" if low <= place <= high else "·" for place in range(width)]
    line[cell(bar)] = "┃"
    line[cell(test.score)] = MARKS[test.verdict]
    return "".join(line)


def _table(decision: RunView) -> Table:
    scale, bar = ladder_chart.axis_of(decision), decision.bar
    units = f"{unit_of(decision)}s"
    table = ruled("rung", "score", _head(bar, scale), units, "verdict", "cost", figures=("score", units, "cost"))
    for rung in decision.rungs:
        test, name = rung.test, Text(printable(rung.name))
        if test is None:
            table.add_row(name, "–", "", "", state_of(rung), "", style="dim")
            continue
        word, drawn = verdict_text(test.verdict), Text(strip(test, bar, scale), style=STYLES[test.verdict])
        cost, score = rung.cost, Text(percent(test.score), style="bold")
        table.add_row(name, score, drawn, count(test.n_used), word, duration(cost.seconds))
        paid = "" if cost.usd == 0 else money(cost.usd)
        table.add_row("", "", interval(test.interval), f"of {count(test.n_available)}", "", paid, style="dim")
    return table


def _gate(gate: ClimbGate | None) -> list[RenderableType]:
    """The gate's verdict, and one line per measure."""
    if gate is None:
        return []
    first = Text(printable(spaced(stopped(gate_summary.finding(gate)))), style=STYLES[gate.verdict])
    measures = [Text(printable(spaced(f"  {line}")), style="dim") for line in gate_summary.lines(gate)]
    return [first, *measures]


def _comparison(entries: Sequence[ComparedWay]) -> list[RenderableType]:
    """Which training methods score differently, and one line per method."""
    if not entries:
        return []
    first = Text(printable(spaced(stopped(comparison.finding(entries)))), style="bold")
    return [first, *[Text(printable(spaced(f"  {line}")), style="dim") for line in comparison.lines(entries)]]


def _judge(found: JudgeView) -> str:
    """Which model judged, and what that cost."""
    cost = found.cost
    paid = "" if cost.usd == 0 else f", {money(cost.usd)}"
    return f"{judge.finding(found)} (the judge took {duration(cost.seconds)}{paid})".replace(NO_BREAK, " ")


def _head(bar: float, scale: Scale) -> Text:
    """The bar's name over its place in the strips."""
    name = f"bar {round_percent(bar)}"
    start = int(STRIP * scale.share(bar)) - len(name) // 2
    return Text(" " * max(0, min(STRIP - len(name), start)) + name)
