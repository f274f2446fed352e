"""`recheck-<n>.json`: checked against its schema when it is written; and the same in the terminal, legible at 80 columns."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lastresort.records.ledger import speaks_of_reuse
from lastresort.report.schema import validate, write_document
from lastresort.report.words.wording import (
    MARKS,
    STYLES,
    count,
    duration,
    interval,
    money,
    percent,
    printable,
    sentence,
    verdict,
)

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table


VERSION = 1
SHOWN = 10  # affected items in the terminal; all stand in the file


def file_name(number: int) -> str:
    return f"recheck-{number}.json"


def write_recheck(run: Path, document: Mapping[str, Any]) -> Path:
    """Write a recheck into its run's folder, whole or not at all. Raises ContractError if it is not valid."""
    validate_recheck(document)
    return write_document(run / file_name(document["number"]), document)


def validate_recheck(document: Mapping[str, Any]) -> None:
    """Raises ContractError, naming the first fault, unless the document is as recheck_schema.json says."""
    validate(document, "recheck", where=file_name(document.get("number", 0)))


def recheck_text(document: Mapping[str, Any]) -> RenderableType:
    """The answer, what was tried, the reasons, the items that need a look, and what to beware of."""
    from rich.console import Group
    from rich.text import Text

    parts: list[RenderableType] = [Text(printable(document["answer"]), style="bold")]
    if document["tried"]:
        parts += [Text(""), _tried(document)]
    parts.append(Text(""))
    parts += [Text(printable(sentence(reason))) for reason in document["reasons"]]
    affected = (document["knowledge"] or {"affected": []})["affected"]
    if affected:
        parts += [Text(""), _affected(affected)]
        if len(affected) > SHOWN:
            more = f"{len(affected) - SHOWN} more stand in {file_name(document['number'])}."
            parts.append(Text(more, style="dim"))
    parts += [Text(printable(sentence(note)), style="yellow") for note in document["notes"]]
    if speaks_of_reuse(document["test_reuse"] or ""):
        parts.append(Text(printable(document["test_reuse"]), style="yellow"))
    return Group(*parts)


def _tried(document: Mapping[str, Any]) -> Table:
    """The systems that were put to the test set, and the winner of the run below them."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("rung", no_wrap=True)
    for name in ("score", "interval", "items"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    table.add_column("cost", justify="right", no_wrap=True)
    for one in document["tried"]:
        cost = one["cost"]
        paid = "" if cost["usd"] == 0 else f", {money(cost['usd'])}"
        table.add_row(one["rung"], *_test(one["test"]), f"{duration(cost['seconds'])}{paid}")
    winner = document["winner"]
    if winner is not None:
        table.add_row(Text(f"{winner['rung']} (the run's winner)"), *_test(winner["test"]), "", style="dim")
    return table


def _test(test: Mapping[str, Any]) -> tuple[Any, ...]:
    from rich.text import Text

    word = Text(f"{MARKS[test['verdict']]} {verdict(test['verdict'])}", style=STYLES[test["verdict"]])
    used = f"{count(test['n_used'])} of {count(test['n_available'])}"
    return percent(test["score"]), interval(test["interval"]), used, word


def _affected(affected: list[Mapping[str, Any]]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 1, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for one in affected[:SHOWN]:
        told = f"{one['input']} -> {one['answer']}"
        if one["answer_now"] is not None and one["answer_now"] != one["answer"]:
            told += f", now {one['answer_now']}"
        if one["passages"]:
            told += f" [{', '.join(one['passages'])}]"
        table.add_row(Text(printable(one["id"]), style="dim"), Text(printable(" ".join(told.split()))))
    return table
