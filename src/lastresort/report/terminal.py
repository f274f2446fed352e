"""The ladder in the terminal: legible at 80 columns and without colour.

A dry run's forecast in the terminal.

What this machine can do, in the terminal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lastresort.hardware.plan.fit import NAMES, gib
from lastresort.records.decision import JudgeView, RunView
from lastresort.records.decision_parts import ComparedWay, RepairView
from lastresort.records.gate import ClimbGate
from lastresort.records.measurement import BarTest
from lastresort.report import comparison, repairs
from lastresort.report import gate as gate_summary
from lastresort.report.charts import ladder as ladder_chart
from lastresort.report.charts.scale import Scale
from lastresort.report.words import break_even, judge
from lastresort.report.words.watching import headline
from lastresort.report.words.wording import (
    MARKS,
    NO_BREAK,
    STYLES,
    count,
    duration,
    interval,
    listed,
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


def forecast_table(found: dict[str, Any]) -> RenderableType:
    """What each rung would do and cost, from `dry_run`; legible at 80 columns and without colour."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    sizes, total = found["examples"], found["total"]
    table = Table(box=None, pad_edge=False, show_edge=False)
    for name in ("rung", "tokens in", "tokens out", "trained on", "about", "USD"):
        table.add_column(name, justify="left" if name == "rung" else "right")
    notes = []
    for rung in found["rungs"]:
        if rung["forecast"] is None:
            table.add_row(rung["name"], "", "", "", "skipped", "")
            notes.append(f"{rung['name']}: skipped, {rung['skipped_because']['text']}.")
            continue
        table.add_row(rung["name"], *_cells(rung["forecast"]))
        notes += [f"{rung['name']}: {line}" for line in rung["forecast"]["lines"]]
        if rung["memory"] is not None:
            notes.append(f"{rung['name']}: memory: {rung['memory']['sentence']}")
    if found["compare"] is not None:
        table.add_row("comparison", *_cells(found["compare"]))
        notes += [f"comparison: {line}" for line in found["compare"]["lines"]]
    if found["gate"] is not None:
        table.add_row("gate", *_cells(found["gate"]["forecast"]))
        notes += [_suite(found["gate"]["mode"], suite) for suite in found["gate"]["suites"]]
    if found["judge"] is not None:
        table.add_row(judge.NAME, *_cells(found["judge"]))
        notes += [f"{judge.NAME}: {line}" for line in found["judge"]["lines"]]
    table.add_row("total", *_cells(total))
    head = (
        f"{found['task']}: {sizes['train']} examples to train on, {sizes['dev']} dev, {sizes['test']} test"
        + (f"; {sizes['leaks_removed']} leaks would be removed from train" if sizes["leaks_removed"] else "")
        + f". {found['r']} {'test has' if found['r'] == 1 else 'tests share'} the error rate: {found['alpha_per_rung']:.3g} each."
    )
    foot = (
        "A high estimate: it assumes that every rung misses the bar, every answer has the maximum length and every test uses all "
        "items. The climb stops at the first rung that meets the bar."
    )
    if any(one and one["seconds"] for one in _forecasts(found)):
        notes.append('"about" is based on the rates below; a prefix that all prompts share is computed once.')
    notes += [f"assumed: {assumption}" for assumption in found["assumed"]]
    missing = [Text(sentence) for sentence in found["missing"]]
    return Group(Text(head), Text(), table, Text(), *[Text(note) for note in notes], Text(), Text(foot), *missing)


def _forecasts(found: dict[str, Any]) -> list[dict[str, Any] | None]:
    gate = found["gate"]
    rungs = [rung["forecast"] for rung in found["rungs"]]
    return [*rungs, found["compare"], found["judge"], None if gate is None else gate["forecast"]]


def _suite(mode: str, suite: dict[str, Any]) -> str:
    """Items, tokens and minutes of a suite of the gate."""
    forecast = suite["forecast"]
    seconds, read, said = (forecast[key] for key in ("seconds", "tokens_in", "tokens_out"))
    tokens = f"; {read:,} tokens read and {said:,} answered"
    takes = "" if seconds is None else f", about {duration(seconds)}"
    return (
        f"gate ({mode}): {suite['name']}: up to about {count(suite['pilot_items'])} items on the base model first, then "
        f"{count(suite['items'])} on base and tuned{tokens}{takes}."
    )


def _cells(forecast: dict[str, Any]) -> list[str]:
    return [
        f"{forecast['tokens_in']:,}",
        f"{forecast['tokens_out']:,}",
        f"{forecast['training_tokens']:,}" if forecast["training_tokens"] else "",
        "?" if forecast["seconds"] is None else duration(forecast["seconds"]),
        "?" if forecast["usd"] is None else f"{forecast['usd']:.2f}",
    ]


def environment_text(found: Mapping[str, Any]) -> RenderableType:
    """Legible at 80 columns and without colour."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, told in _facts(found):
        table.add_row(Text(name, style="dim"), Text(printable(told)))
    missing = [
        Text(f"Not installed: {name}, {one['adds']}: {one['install']}", style="dim")
        for name, one in found["extras"].items()
        if not one["installed"]
    ]
    return Group(table, Text(""), *(Text(line) for line in _reach(found)), Text(""), *missing)


def _facts(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    processor, packages = found["processor"], found["packages"]
    cores = f"{processor['cores']} core{'' if processor['cores'] == 1 else 's'}"
    memory = found["memory_bytes"]
    versions = [f"{name} {told or 'missing'}" for name, told in packages.items()]
    return [
        ("lastresort", f"{found['lastresort']}, Python {found['python']}, {found['system']}"),
        (
            "processor",
            f"{processor['name']}, {cores} available, {listed(processor['features']) or 'no known features'}",
        ),
        ("memory", "unknown" if memory is None else gib(memory)),
        ("GPUs", "none visible to torch" if not found["gpus"] else "; ".join(_gpu(one) for one in found["gpus"])),
        ("computes in", f"{found['precision']}, the choice of `precision: auto` here"),
        ("packages", ", ".join(versions)),
        ("installed", listed(name for name, one in found["extras"].items() if one["installed"]) or "no extras"),
    ]


def _gpu(one: Mapping[str, Any]) -> str:
    return f"{one['name']}, {gib(one['memory_bytes'])}, {'bf16' if one['bf16'] else 'no bf16'}"


def _reach(found: Mapping[str, Any]) -> list[str]:
    on = "the first GPU" if found["gpus"] else "this machine's memory"
    lines = [f"The largest models in the catalogue that fit into {on}, with one row of 1,024 tokens at a time:"]
    for method, one in found["reach"].items():
        told = "none" if one is None else f"{one['name']} ({one['parameters'] / 1e9:,.3g} billion)"
        lines.append(f"  {NAMES[method]}: {told}")
    if not found["gpus"]:
        lines.append(
            "Without a GPU, what fits may still take long: `lastresort plan --gpu cpu --rows N` says how long."
        )
    return lines


STRIP = 22


def ladder_table(decision: RunView) -> RenderableType:
    """The answer, the ladder with scores, intervals, verdicts and cost, and what would settle an open verdict."""
    from rich.console import Group
    from rich.text import Text

    lines: list[RenderableType] = [
        Text(printable(headline(decision)), style="bold"),
        Text(""),
        _table(decision),
        Text(""),
    ]
    for rung in decision.rungs:
        name = printable(rung.name)
        if rung.test is None:
            why = "not tested" if rung.skipped_because is None else rung.skipped_because.text
            lines.append(Text(f"{name} was skipped: {printable(stopped(why))}", style="dim"))
        elif rung.test.verdict == "UNDECIDED":
            lines.append(Text(f"{name} is undecided. {what_would_decide(rung.test)}", style="yellow"))
    lines += _gate(decision.gate)
    lines += _repairs(decision.repairs)
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
    from rich import box
    from rich.table import Table
    from rich.text import Text

    scale, bar = ladder_chart.axis_of(decision), decision.bar
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("rung", no_wrap=True)
    table.add_column("score", justify="right", no_wrap=True)
    table.add_column(_head(bar, scale), no_wrap=True)
    table.add_column(f"{unit_of(decision)}s", justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    table.add_column("cost", justify="right", no_wrap=True)
    for rung in decision.rungs:
        test, name = rung.test, Text(printable(rung.name))
        if test is None:
            table.add_row(name, "–", "", "", "skipped" if not rung.applies else "not tested", "", style="dim")
            continue
        style = STYLES[test.verdict]
        word = Text(f"{MARKS[test.verdict]} {verdict(test.verdict)}", style=style)
        drawn = Text(strip(test, bar, scale), style=style)
        cost, score = rung.cost, Text(percent(test.score), style="bold")
        table.add_row(name, score, drawn, count(test.n_used), word, duration(cost.seconds))
        paid = "" if cost.usd == 0 else money(cost.usd)
        table.add_row("", "", interval(test.interval), f"of {count(test.n_available)}", "", paid, style="dim")
    return table


def _gate(gate: ClimbGate | None) -> list[RenderableType]:
    """The gate's verdict, and one line per measure."""
    from rich.text import Text

    if gate is None:
        return []
    first = Text(printable(spaced(stopped(gate_summary.finding(gate)))), style=STYLES[gate.verdict])
    measures = [Text(printable(spaced(f"  {line}")), style="dim") for line in gate_summary.lines(gate)]
    return [first, *measures]


def _repairs(tried: Sequence[RepairView]) -> list[RenderableType]:
    from rich.text import Text

    return [Text(printable(spaced(stopped(repairs.finding(tried)))), style="bold")] if tried else []


def _comparison(entries: Sequence[ComparedWay]) -> list[RenderableType]:
    """Which training methods score differently, and one line per method."""
    from rich.text import Text

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
    from rich.text import Text

    name = f"bar {round_percent(bar)}"
    start = int(STRIP * scale.share(bar)) - len(name) // 2
    return Text(" " * max(0, min(STRIP - len(name), start)) + name)
