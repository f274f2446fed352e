"""Tables and verdicts in the terminal, the same in all that is printed there."""

from __future__ import annotations

from collections.abc import Mapping

from rich import box
from rich.table import Table
from rich.text import Text

from lastresort.report.words.wording import MARKS, STYLES, printable, verdict


def ruled(*names: str | Text) -> Table:
    """A table with a line below its head. A name that begins with ">" is of a column of figures."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for name in names:
        figures = isinstance(name, str) and name.startswith(">")
        table.add_column(name[1:] if figures else name, justify="right" if figures else "left", no_wrap=True)
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
