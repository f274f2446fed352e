"""What a climb would do and cost: the document of a dry run, and the same in the terminal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from lastresort.records.document import JsonDocument, Statement
from lastresort.report.words import judge
from lastresort.report.words.wording import count, duration
from lastresort.rungs.forecast import Forecast

if TYPE_CHECKING:
    from rich.console import RenderableType


class DryRunExamples(JsonDocument):
    """leaks_removed: training rows that also stand in dev or test, and would be left out."""

    train: int
    dev: int
    test: int
    leaks_removed: int


class RungMemory(JsonDocument):
    """What training would hold here, by the plan. parts: bytes by kind."""

    method: str
    bytes: int
    parts: dict[str, int]
    free_bytes: int
    fits: bool
    sentence: str


class DryRunRung(JsonDocument):
    """forecast: None for a rung that would be skipped. memory: None for one that trains nothing, and where it is not known."""

    name: str
    applies: bool
    skipped_because: Statement | None = None
    forecast: Forecast | None = None
    memory: RungMemory | None = None


@dataclass(frozen=True, slots=True)
class SuiteForecast:
    """pilot_items: asked of the base, at most about so many. items: asked of both models."""

    name: str
    pilot_items: int
    items: int
    forecast: Forecast


class DryRunGate(JsonDocument):
    """What the first gate would take; what the test sets take is in the rungs."""

    mode: Literal["quick", "full"]
    suites: tuple[SuiteForecast, ...]
    forecast: Forecast


class DryRun(JsonDocument):
    """What `lastresort climb TASK --dry-run --json` prints. compare, gate, judge: None where the climb would do without.

    assumed: what the figures rest on. missing: what the climb would stop for before anything is spent. Both in sentences.
    """

    task: str
    examples: DryRunExamples
    r: int
    alpha_per_rung: float
    rungs: tuple[DryRunRung, ...]
    compare: Forecast | None
    gate: DryRunGate | None
    judge: Forecast | None
    total: Forecast
    assumed: tuple[str, ...]
    missing: tuple[str, ...]


def forecast_table(found: DryRun) -> RenderableType:
    """What each rung would do and cost, legible at 80 columns and without colour."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    sizes, total = found.examples, found.total
    table = Table(box=None, pad_edge=False, show_edge=False)
    for name in ("rung", "tokens in", "tokens out", "trained on", "about", "USD"):
        table.add_column(name, justify="left" if name == "rung" else "right")
    notes = []
    for rung in found.rungs:
        if rung.forecast is None:
            table.add_row(rung.name, "", "", "", "skipped", "")
            why = "it does not apply" if rung.skipped_because is None else rung.skipped_because.text
            notes.append(f"{rung.name}: skipped, {why}.")
            continue
        table.add_row(rung.name, *_cells(rung.forecast))
        notes += [f"{rung.name}: {line}" for line in rung.forecast.lines]
        if rung.memory is not None:
            notes.append(f"{rung.name}: memory: {rung.memory.sentence}")
    if found.compare is not None:
        table.add_row("comparison", *_cells(found.compare))
        notes += [f"comparison: {line}" for line in found.compare.lines]
    if found.gate is not None:
        table.add_row("gate", *_cells(found.gate.forecast))
        notes += [_suite(found.gate.mode, suite) for suite in found.gate.suites]
    if found.judge is not None:
        table.add_row(judge.NAME, *_cells(found.judge))
        notes += [f"{judge.NAME}: {line}" for line in found.judge.lines]
    table.add_row("total", *_cells(total))
    head = (
        f"{found.task}: {sizes.train} examples to train on, {sizes.dev} dev, {sizes.test} test"
        + (f"; {sizes.leaks_removed} leaks would be removed from train" if sizes.leaks_removed else "")
        + f". {found.r} {'test has' if found.r == 1 else 'tests share'} the error rate: {found.alpha_per_rung:.3g} each."
    )
    foot = (
        "A high estimate: it assumes that every rung misses the bar, every answer has the maximum length and every test uses all "
        "items. The climb stops at the first rung that meets the bar."
    )
    if any(one and one.seconds for one in _forecasts(found)):
        notes.append('"about" is based on the rates below; a prefix that all prompts share is computed once.')
    notes += [f"assumed: {assumption}" for assumption in found.assumed]
    missing = [Text(sentence) for sentence in found.missing]
    return Group(Text(head), Text(), table, Text(), *[Text(note) for note in notes], Text(), Text(foot), *missing)


def _forecasts(found: DryRun) -> list[Forecast | None]:
    gate = found.gate
    rungs = [rung.forecast for rung in found.rungs]
    return [*rungs, found.compare, found.judge, None if gate is None else gate.forecast]


def _suite(mode: str, suite: SuiteForecast) -> str:
    """Items, tokens and minutes of a suite of the gate."""
    forecast = suite.forecast
    tokens = f"; {forecast.tokens_in:,} tokens read and {forecast.tokens_out:,} answered"
    takes = "" if forecast.seconds is None else f", about {duration(forecast.seconds)}"
    return (
        f"gate ({mode}): {suite.name}: up to about {count(suite.pilot_items)} items on the base model first, then "
        f"{count(suite.items)} on base and tuned{tokens}{takes}."
    )


def _cells(forecast: Forecast) -> list[str]:
    return [
        f"{forecast.tokens_in:,}",
        f"{forecast.tokens_out:,}",
        f"{forecast.training_tokens:,}" if forecast.training_tokens else "",
        "?" if forecast.seconds is None else duration(forecast.seconds),
        "?" if forecast.usd is None else f"{forecast.usd:.2f}",
    ]
