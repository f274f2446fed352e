"""A dry run's forecast in the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lastresort.report import judge
from lastresort.report.wording import count, duration

if TYPE_CHECKING:
    from rich.console import RenderableType


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
            notes.append(f"{rung['name']}: skipped, {rung['skipped_because']}.")
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
    table.add_row("all of them", *_cells(total))
    head = (
        f"{found['task']}: {sizes['train']} examples to train on, {sizes['dev']} dev, {sizes['test']} test"
        + (f"; {sizes['leaks_removed']} leaks would leave train" if sizes["leaks_removed"] else "")
        + f". {found['r']} {'test has' if found['r'] == 1 else 'tests share'} the error: {found['alpha_per_rung']:.3g} each."
    )
    foot = (
        "An estimate on the high side: every rung as if the one below had missed the bar, every answer as long as allowed, every "
        "test to its last item. The climb stops at the first rung that meets the bar."
    )
    if any(one and one["seconds"] for one in _forecasts(found)):
        notes.append(
            '"about" is the tokens that are computed at the rates below: what all prompts share is computed once.'
        )
    notes += [f"assumed of {told}" for told in found["assumed"]]
    missing = [Text(told) for told in found["missing"]]
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
        f"gate ({mode}): {suite['name']}: up to about {count(suite['pilot_items'])} items of the base first, then "
        f"{count(suite['items'])} of base and tuned{tokens}{takes}."
    )


def _cells(forecast: dict[str, Any]) -> list[str]:
    return [
        f"{forecast['tokens_in']:,}",
        f"{forecast['tokens_out']:,}",
        f"{forecast['training_tokens']:,}" if forecast["training_tokens"] else "",
        "?" if forecast["seconds"] is None else duration(forecast["seconds"]),
        "?" if forecast["usd"] is None else f"{forecast['usd']:.2f}",
    ]
