"""Tables and verdicts in the terminal, the same in all that is printed there."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from rich import box
from rich.console import JustifyMethod
from rich.table import Table
from rich.text import Text

from lastresort.report.words.wording import MARKS, STYLES, printable, verdict


def ruled(*names: str | Text, figures: Collection[str] = (), wraps: Collection[str] = ()) -> Table:
    """A table with a line below its head. figures: columns that are set to the right. wraps: columns that may wrap."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for name in names:
        justify: JustifyMethod = "right" if str(name) in figures else "left"
        table.add_column(name, justify=justify, no_wrap=str(name) not in wraps)
    return table


def grid(*widths: int | None, style: str = "") -> Table:
    """A table without lines: columns of these widths, or as wide as they need, then one that takes what is left and wraps."""
    table = Table.grid(padding=(0, 1, 0, 0))
    for width in widths:
        table.add_column(width=width, no_wrap=True, style=style)
    table.add_column(overflow="fold")
    return table


def named_texts(texts: Mapping[str, str]) -> Table:
    """Texts below each other, each after its name."""
    table = grid(None, style="dim")
    for name, text in texts.items():
        table.add_row(name, Text(printable(text) or "(empty)"))
    return table


def verdict_text(name: str) -> Text:
    """With its mark, since colour alone must not carry the meaning."""
    return Text(f"{MARKS[name]} {verdict(name)}", style=STYLES[name])
