"""What this machine can do, in the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lastresort.hardware.plan.fit import NAMES, gib
from lastresort.report.wording import listed, printable

if TYPE_CHECKING:
    from rich.console import RenderableType


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
        ("processor", f"{processor['name']}, {cores} to use, {listed(processor['features']) or 'no features known'}"),
        ("memory", "unknown" if memory is None else gib(memory)),
        ("cards", "none that torch sees" if not found["gpus"] else "; ".join(_gpu(one) for one in found["gpus"])),
        ("computes in", f"{found['precision']}, which is what `precision: auto` takes here"),
        ("packages", ", ".join(versions)),
        ("installed", listed(name for name, one in found["extras"].items() if one["installed"]) or "no extras"),
    ]


def _gpu(one: Mapping[str, Any]) -> str:
    return f"{one['name']}, {gib(one['memory_bytes'])}, {'bf16' if one['bf16'] else 'no bf16 products'}"


def _reach(found: Mapping[str, Any]) -> list[str]:
    on = "the first card" if found["gpus"] else "this machine's memory"
    lines = [f"The largest models of the catalogue that fit into {on}, rows of 1,024 tokens one at a time:"]
    for method, one in found["reach"].items():
        told = "none" if one is None else f"{one['name']} ({one['parameters'] / 1e9:,.3g} billion)"
        lines.append(f"  {NAMES[method]}: {told}")
    if not found["gpus"]:
        lines.append(
            "What fits may still take long without a card: `lastresort plan --gpu cpu --rows N` says how long."
        )
    return lines
