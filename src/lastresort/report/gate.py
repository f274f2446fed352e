"""`gate.json`: checked against its schema when it is written; and the same in the terminal, legible at 80 columns.

The gate of a climb in a few lines: for the terminal, Markdown and the head of the page's section.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lastresort.records.ledger import speaks_of_reuse
from lastresort.report.schema import validate, write_document
from lastresort.report.words.wording import (
    MARKS,
    NO_BREAK,
    STYLES,
    count,
    percent,
    printable,
    sentence,
    stopped,
    verdict,
)

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text


Gate = Mapping[str, Any]


def finding(gate: Gate) -> str:
    """ "The gate says HOLD: whether too much was lost cannot be told yet for general"."""
    _, _, why = gate["reasons"][0].partition(": ")
    return f"The gate says {gate['verdict']}: {why.rstrip('.')}"


def about(gate: Gate) -> str:
    """Who was asked, and how much."""
    bounded = ", of a bounded number of items, which can cost power and nothing else" if gate["mode"] == "quick" else ""
    return (
        f"{gate['system']} of {gate['rung']} beside the model that it was tuned from, on the same items: a {gate['mode']} gate"
        f"{bounded}."
    )


def lines(gate: Gate) -> list[str]:
    """One a measure, the target first: scores before and after, the difference in points, the verdict."""
    return [_line(row) for row in rows(gate)]


def _line(row: Mapping[str, Any]) -> str:
    mark = f"{MARKS[row['verdict']]} {row['name']}"
    if row["base"] is None or row["tuned"] is None:
        scored = f" {percent(row['tuned'])}," if row["tuned"] is not None else ""
        return f"{mark}:{scored} {verdict(row['verdict'])}"
    scores = f"{percent(row['base'])} to {percent(row['tuned'])} ({in_points(row['difference'])} points)"
    return f"{mark}: {scores}, {verdict(row['verdict'])}"


def table(gate: Gate) -> list[dict[str, str]]:
    """The rows of the page's table, as text."""
    return [
        {
            "name": row["name"],
            "base": _share(row["base"]),
            "tuned": _share(row["tuned"]),
            "difference": in_points(row["difference"]) or "–",
            "limits": in_limits(row["interval"]) or "–",
            "margin": "–" if row["margin"] is None else in_points(-row["margin"]),
            "n": count(row["n"]) if row["n"] else "–",
            "needs": "" if row["n_needed"] is None else count(row["n_needed"]),
            "verdict": row["verdict"],
        }
        for row in rows(gate)
    ]


def reasons(gate: Gate) -> list[str]:
    """All but the first, which is the title."""
    return [stopped(reason) for reason in gate["reasons"][1:]]


def _share(value: float | None) -> str:
    return "–" if value is None else percent(value)


FILE_NAME = "gate.json"
VERSION = 3  # 1 knew no failure modes, 2 no logs
LONGEST, MOST = 160, 3  # letters of an answer in the terminal, items a measure
MILDER = (
    "What may keep what was lost: the same adapter at a smaller alpha, an earlier checkpoint, more replay of general answers, or "
    "a third of the learning rate."
)
MODES = {"general": "forgetting", "sycophancy": "sycophancy", "format_leak": "format_overfitting"}  # by suite


def write_gate(folder: Path, document: Mapping[str, Any]) -> Path:
    """Write `gate.json`, whole or not at all. Raises ContractError if it is not valid."""
    validate_gate(document)
    return write_document(folder / FILE_NAME, document)


def validate_gate(document: Mapping[str, Any]) -> None:
    """Raises ContractError, naming the first fault, unless the document is as gate_schema.json says."""
    validate(document, "gate", where=FILE_NAME)


def completed(gate: Mapping[str, Any]) -> dict[str, Any]:
    """A gate that an older version may have written, with what this one adds."""
    suites = dict.fromkeys(suite["suite"] for suite in gate["suites"] if suite["suite"] in MODES)
    modes = [{"name": MODES[suite], "suite": suite, "parts": []} for suite in suites]
    spent = {"tokens_in": 0, "tokens_out": 0, **gate["spent"]}
    return {"artefact_sha256": None, "failure_modes": modes, **gate, "spent": spent}


def gate_text(document: Mapping[str, Any]) -> RenderableType:
    """A table by measure, the verdict and its reasons, and what changed most, side by side."""
    from rich.console import Group
    from rich.text import Text

    parts: list[RenderableType] = [_table(document), Text("")]
    first, *others = document["reasons"]
    parts.append(Text(printable(first), style=f"bold {STYLES[document['verdict']]}"))
    parts += [Text(printable(sentence(reason))) for reason in others]
    if document["would_decide"]:
        parts += [Text(""), Text("What would decide:", style="bold")]
        parts += [Text(printable(sentence(would))) for would in document["would_decide"]]
    parts += [Text(""), Text(MILDER)] * (document["verdict"] == "REJECT")
    parts += _changes(document)
    parts += [Text(printable(sentence(note)), style="yellow") for note in warnings(document)]
    return Group(*parts)


def warnings(document: Mapping[str, Any]) -> list[str]:
    """What a reader must know beside the verdict."""
    found = list(document["notes"])
    for suite in {suite["suite"]: suite for suite in document["suites"] if suite["asked"]}.values():
        found += [f"{suite['suite']}: {told}" for told in not_scored(suite["asked"])]
    if speaks_of_reuse(document["test_reuse"] or ""):
        found.append(document["test_reuse"])
    return found


def not_scored(asked: Mapping[str, Any]) -> list[str]:
    """Which items of a suite say nothing, as sentences. asked: as a suite has it."""
    left_out, passed_over = asked["left_out"], asked["passed_over"]
    told = [f"{left_out} items do not fit the context of one of the models and were left out."] * bool(left_out)
    return [*told, *[f"{passed_over} items say what a training row says and were passed over."] * bool(passed_over)]


def rows(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What a table shows, by measure, the target first where it was asked."""
    target = document["target"]
    keys = ("name", "base", "tuned", "difference", "interval", "margin", "verdict", "n", "n_needed")
    found = [{key: suite[key] for key in keys} for suite in document["suites"]]
    if target["passed"] is None:
        return found
    first = (
        "target",
        target["comparator_score"],
        target["score"] if target["tuned_score"] is None else target["tuned_score"],
        target["gain"],
        target["interval"],
        None,
        target["outcome"],
        target["n_compared"] or target["n"],
        target["n_needed"],
    )
    return [dict(zip(keys, first, strict=True)), *found]


def in_points(difference: float | None) -> str:
    """-0.021 -> "−2.1": where a column is of points."""
    return "" if difference is None else f"{100 * difference:+.1f}".replace("-", "−")


def in_limits(interval: list[float] | None) -> str:
    return "" if interval is None else f"{in_points(interval[0])} to {in_points(interval[1])}"


def _table(document: Mapping[str, Any]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("measure", min_width=11)
    for name in ("base", "tuned", "points", "margin"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    table.add_column("items", justify="right", no_wrap=True)
    for row in rows(document):
        margin = "" if row["margin"] is None else f"−{100 * row['margin']:.3g}"
        scores = [Text("" if row[side] is None else percent(row[side]), style="bold") for side in ("base", "tuned")]
        asked = count(row["n"]) if row["n"] else ""
        table.add_row(
            printable(row["name"].replace("_", " ")),
            *scores,
            in_points(row["difference"]),
            margin,
            _word(row["verdict"]),
            asked,
        )
        needed = "" if row["n_needed"] is None else f"of {count(row['n_needed'])}"
        if row["interval"] is not None or needed:
            table.add_row("", "", "", in_limits(row["interval"]), "", "", needed, style="dim")
    return table


def _word(name: str) -> Text:
    from rich.text import Text

    return Text(f"{MARKS[name]} {verdict(name)}", style=STYLES[name])


def _changes(document: Mapping[str, Any]) -> list[RenderableType]:
    from rich.text import Text

    parts: list[RenderableType] = []
    for suite in document["suites"]:
        if suite["changed"]:
            parts += [Text(""), Text(f"What changed most in {printable(suite['name'])}:", style="bold")]
            for one in suite["changed"][:MOST]:
                parts.append(_side_by_side(one))
    return [*parts, Text("")] if parts else parts


def _side_by_side(one: Mapping[str, Any]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 1, 0, 0))
    table.add_column(no_wrap=True, style="dim")
    table.add_column(overflow="fold")
    score = f"{percent(one['base_score'], 0)} to {percent(one['tuned_score'], 0)}".replace(NO_BREAK, " ")
    for name, text in (
        ("asked", asked_of(one, LONGEST)),
        ("base", one["base"]),
        ("tuned", one["tuned"]),
        ("score", score),
    ):
        table.add_row(name, Text(printable(text if name == "asked" else shortened(text)) or "(nothing)"))
    return table


def asked_of(one: Mapping[str, Any], longest: int) -> str:
    """What was asked, to which of an item's questions the answers are, and what else its score comes from; each cut at `longest`
    letters."""
    detail = "" if one["detail"] == one["asked"] else shortened(one["detail"], longest)
    beside = "; ".join(filter(None, (one["question"].replace("_", " "), detail)))
    asked = shortened(one["asked"], longest)
    return f"{asked} ({beside})" if beside else asked


def shortened(text: str, longest: int = LONGEST) -> str:
    """On one line, cut where it is long."""
    line = " ".join(text.split())
    return line if len(line) <= longest else f"{line[: longest - 1]}…"
