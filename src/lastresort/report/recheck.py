"""`recheck-<n>.json`: checked against its schema when it is written; and the same in the terminal, legible at 80 columns."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lastresort.errors import ContractError
from lastresort.records.atomic import write_atomically
from lastresort.records.ledger import speaks_of_reuse
from lastresort.report.terminal import MARKS, STYLES
from lastresort.report.wording import count, duration, interval, money, percent, printable, sentence, verdict

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
    path = run / file_name(document["number"])
    write_atomically(path, json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    return path


def validate_recheck(document: Mapping[str, Any]) -> None:
    """Raises ContractError, naming the first fault, unless the document is as recheck_schema.json says."""
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import best_match

    plain = json.loads(json.dumps(document, allow_nan=False))
    misfit = best_match(Draft202012Validator(recheck_schema()).iter_errors(plain))
    if misfit is not None:
        raise ContractError(
            f'found at key "{misfit.json_path}" {misfit.message}',
            where=file_name(plain.get("number", 0)),
            expected="a recheck as in recheck_schema.json",
        )


@cache
def recheck_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of `recheck-<n>.json`, as shipped in the package."""
    schema: dict[str, Any] = json.loads(files("lastresort.report").joinpath("recheck_schema.json").read_text("utf-8"))
    return schema


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
    for name, side in (
        ("rung", "left"),
        ("score", "right"),
        ("interval", "right"),
        ("items", "right"),
        ("verdict", "left"),
    ):
        table.add_column(name, justify=side, no_wrap=True)  # type: ignore[arg-type]
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
