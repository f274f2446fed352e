"""A gate's findings as lines, as rows of a table, and in the terminal, legible at 80 columns; and `gate.json`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from lastresort.records.atomic import write_atomically
from lastresort.records.gate import (
    ChangedItem,
    ClimbGate,
    GateDocument,
    GateFindings,
    ItemsAsked,
    SuiteFound,
    TargetFound,
    TargetNotAsked,
)
from lastresort.report.words.gate import why
from lastresort.report.words.wording import (
    MARKS,
    STYLES,
    count,
    counted,
    in_limits,
    in_points,
    percent,
    printable,
    sentence,
    shortened,
    spaced,
    stopped,
    verdict,
)
from lastresort.types import Outcome

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table


def finding(gate: GateFindings) -> str:
    """ "The gate says HOLD: whether too much was lost cannot be told yet for general"."""
    return f"The gate says {gate.verdict}: {why(gate)}"


def about(gate: ClimbGate) -> str:
    """What was compared, and on how many items."""
    items = {
        "quick": "This is a quick gate: bounded in items, with less statistical power.",
        "full": "This is a full gate: as many items as a verdict needs.",
    }
    return f"{gate.system} ({gate.rung}) was compared with its base model on the same items. {items[gate.mode]}"


def lines(gate: ClimbGate) -> list[str]:
    """One per measure, the target first: scores before and after, the difference in points, the verdict."""
    return [_line(row) for row in rows(gate)]


def _line(row: GateRow | SuiteFound) -> str:
    mark = f"{MARKS[row.verdict]} {row.name}"
    if row.base is None or row.tuned is None:
        scored = f" {percent(row.tuned)}," if row.tuned is not None else ""
        return f"{mark}:{scored} {verdict(row.verdict)}"
    shown = row.base, row.tuned, row.difference or 0.0
    digits = 2 if not _adds_up(*shown, 1) and _adds_up(*shown, 2) else 1
    points = in_points(row.difference, digits)
    scores = f"{percent(row.base, digits)} to {percent(row.tuned, digits)} ({points} points)"
    return f"{mark}: {scores}, {verdict(row.verdict)}"


NEEDS = "Needs: the items that would decide a measure with 80% probability if the difference seen is the true one."


def _adds_up(base: float, tuned: float, difference: float, digits: int) -> bool:
    """Whether the scores differ by the difference, each in points and rounded."""
    shown = round(100 * tuned, digits) - round(100 * base, digits)
    return round(shown - round(100 * difference, digits), digits) == 0


class GateCells(NamedTuple):
    """A row of the table, as text. limits: of the interval. needs: items that would decide."""

    name: str
    base: str
    tuned: str
    difference: str
    limits: str
    margin: str
    verdict: str
    n: str
    needs: str


def table(gate: GateFindings) -> list[GateCells]:
    """For the page and for Markdown."""
    return [
        GateCells(
            name=row.name,
            base=_share(row.base),
            tuned=_share(row.tuned),
            difference=in_points(row.difference) or "–",
            limits=in_limits(row.interval) or "–",
            margin="–" if row.margin is None else in_points(-row.margin),
            verdict=verdict(row.verdict),
            n=count(row.n) if row.n else "–",
            needs="" if row.n_needed is None else count(row.n_needed),
        )
        for row in rows(gate)
    ]


def reasons(gate: ClimbGate) -> list[str]:
    """All but the first, which is the headline, and what else is to be said of its measures."""
    return [stopped(line) for line in (*gate.reasons[1:], *(note for suite in gate.suites for note in suite.notes))]


def _share(value: float | None) -> str:
    return "–" if value is None else percent(value)


FILE_NAME = "gate.json"
MOST = 3  # items per measure in the terminal
MILDER = (
    "To lose less, try a smaller alpha for the same adapter, an earlier checkpoint, more replay of general answers, or a third of "
    "the learning rate."
)


def write_gate(folder: Path, document: GateDocument) -> None:
    """Write `gate.json`, whole or not at all."""
    write_atomically(folder / FILE_NAME, document.as_text)


def gate_text(document: GateDocument) -> RenderableType:
    """A table of the measures, the verdict with its reasons, and the answers that changed most."""
    from rich.console import Group
    from rich.text import Text

    parts: list[RenderableType] = [_table(document), Text("")]
    first, *others = document.reasons
    parts.append(Text(printable(first), style=f"bold {STYLES[document.verdict]}"))
    parts += [Text(printable(sentence(reason))) for reason in others]
    if document.would_decide:
        parts += [Text(""), Text("What would decide:", style="bold")]
        parts += [Text(printable(sentence(would))) for would in document.would_decide]
    parts += [Text(""), Text(MILDER)] * (document.verdict == "REJECT")
    parts += _changes(document)
    parts += [Text(printable(sentence(note)), style="yellow") for note in warnings(document)]
    return Group(*parts)


def warnings(document: GateDocument) -> list[str]:
    """What else a reader must know."""
    found = [*document.notes, *(note for suite in document.suites for note in suite.notes)]
    asked = {suite.suite: suite.asked for suite in document.suites if suite.asked is not None}
    for name, items in asked.items():
        found += [f"{name}: {told}" for told in not_scored(items)]
    if document.test_reuse is not None and document.test_reuse.used:
        found.append(document.test_reuse.text)
    return found


def not_scored(asked: ItemsAsked) -> list[str]:
    """Which items of a suite were not scored."""
    left_out, passed_over = asked.left_out, asked.passed_over
    sentences = []
    if left_out:
        sentences.append(
            f"{counted(left_out, 'item')} did not fit the context of one of the models, so neither was asked."
        )
    if passed_over:
        repeats, were = ("repeats", "was") if passed_over == 1 else ("repeat", "were")
        sentences.append(f"{counted(passed_over, 'item')} that {repeats} a training row {were} skipped.")
    return sentences


@dataclass(frozen=True, slots=True)
class GateRow:
    """What a table shows of the target, by the names that a measure has."""

    name: str
    base: float | None
    tuned: float | None
    difference: float | None
    interval: tuple[float, float] | None
    verdict: Outcome
    n: int
    n_needed: int | None
    margin: None = None


def rows(gate: GateFindings) -> list[GateRow | SuiteFound]:
    """The target first where it was asked."""
    return [*_target_row(gate.target), *gate.suites]


def _target_row(target: TargetFound) -> list[GateRow]:
    if isinstance(target, TargetNotAsked):
        return []
    tuned = target.score if target.tuned_score is None else target.tuned_score
    n = target.n_compared or target.n
    row = GateRow(
        "target", target.comparator_score, tuned, target.gain, target.interval, target.outcome, n, target.n_needed
    )
    return [row]


def _table(document: GateDocument) -> Table:
    from rich.text import Text

    from lastresort.report.tables import ruled, verdict_text

    figures = ("base", "tuned", "points", "margin", "items")
    table = ruled(
        "measure", "base", "tuned", "points", "margin", "verdict", "items", figures=figures, wraps=("measure",)
    )
    table.columns[0].min_width = 11
    for row in rows(document):
        margin = "" if row.margin is None else f"−{100 * row.margin:.3g}"
        scores = [Text("" if one is None else percent(one), style="bold") for one in (row.base, row.tuned)]
        asked, name = count(row.n) if row.n else "", printable(row.name.replace("_", " "))
        table.add_row(name, *scores, in_points(row.difference), margin, verdict_text(row.verdict), asked)
        needed = "" if row.n_needed is None else f"of {count(row.n_needed)}"
        if row.interval is not None or needed:
            table.add_row("", "", "", in_limits(row.interval), "", "", needed, style="dim")
    return table


def _changes(document: GateDocument) -> list[RenderableType]:
    from rich.text import Text

    parts: list[RenderableType] = []
    for suite in document.suites:
        if suite.changed:
            parts += [Text("")] * (not parts)
            parts.append(Text(f"What changed most in {printable(suite.name)}:", style="bold"))
            parts += [part for one in suite.changed[:MOST] for part in (_side_by_side(one), Text(""))]
    return parts


def _side_by_side(one: ChangedItem) -> Table:
    from lastresort.report.tables import named_texts

    scores = spaced(f"{percent(one.base_score, 0)} to {percent(one.tuned_score, 0)}")
    sides = {"prompt": asked_of(one), "base": shortened(one.base), "tuned": shortened(one.tuned), "score": scores}
    return named_texts(sides)


def asked_of(one: ChangedItem, longest: int = 160) -> str:
    """The prompt, then in brackets which question of the item this is, and what else its score depends on. Each part is cut at
    `longest` characters.
    """
    detail = "" if one.detail == one.asked else shortened(one.detail, longest)
    remarks = "; ".join(filter(None, (one.question.replace("_", " "), detail)))
    asked = shortened(one.asked, longest)
    return f"{asked} ({remarks})" if remarks else asked
