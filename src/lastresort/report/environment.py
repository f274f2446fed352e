"""What this machine can do, in the terminal."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from lastresort.hardware.plan.fit import NAMES, gib
from lastresort.hardware.plan.setup import Method
from lastresort.records.document import JsonDocument
from lastresort.report.words.wording import listed, printable


class ProcessorFound(JsonDocument):
    """cores: those that this process may use."""

    name: str
    cores: int
    features: tuple[str, ...]


class GpuFound(JsonDocument):
    """known: whether the catalogue has its speed."""

    name: str
    memory_bytes: int
    bf16: bool
    known: bool


class Extra(JsonDocument):
    installed: bool
    adds: str
    install: str


class LargestModel(JsonDocument):
    name: str
    parameters: int


class Environment(JsonDocument):
    """What `lastresort env --json` prints. precision: what `precision: auto` chooses. reach: by method, the largest model of the
    catalogue that can be trained here, None where none fits.
    """

    lastresort: str
    python: str
    system: str
    processor: ProcessorFound
    memory_bytes: int | None
    gpus: tuple[GpuFound, ...]
    packages: dict[str, str | None]
    extras: dict[str, Extra]
    precision: str
    reach: dict[Method, LargestModel | None]


def environment_text(found: Environment) -> RenderableType:
    """Legible at 80 columns and without colour."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, told in facts_of(found):
        table.add_row(Text(name, style="dim"), Text(printable(told)))
    missing = (Text(line, style="dim") for line in missing_of(found))
    return Group(table, Text(""), *(Text(line) for line in reach_of(found)), Text(""), *missing)


def missing_of(found: Environment) -> list[str]:
    """What is not installed, and how to install it."""
    return [
        f"Not installed: {name}, {one.adds}: {one.install}" for name, one in found.extras.items() if not one.installed
    ]


def facts_of(found: Environment) -> list[tuple[str, str]]:
    processor, packages = found.processor, found.packages
    cores = f"{processor.cores} core{'' if processor.cores == 1 else 's'}"
    memory = found.memory_bytes
    gpus = [f"{one.name}, {gib(one.memory_bytes)}, {'bf16' if one.bf16 else 'no bf16'}" for one in found.gpus]
    versions = [f"{name} {told or 'missing'}" for name, told in packages.items()]
    return [
        ("lastresort", f"{found.lastresort}, Python {found.python}, {found.system}"),
        (
            "processor",
            f"{processor.name}, {cores} available, {listed(processor.features) or 'no known features'}",
        ),
        ("memory", "unknown" if memory is None else gib(memory)),
        ("GPUs", "; ".join(gpus) or "none visible to torch"),
        ("computes in", f"{found.precision}, the choice of `precision: auto` here"),
        ("packages", ", ".join(versions)),
        ("installed", listed(name for name, one in found.extras.items() if one.installed) or "no extras"),
    ]


def reach_of(found: Environment) -> list[str]:
    on = "the first GPU" if found.gpus else "this machine's memory"
    lines = [f"The largest models in the catalogue that fit into {on}, with one row of 1,024 tokens at a time:"]
    for method, one in found.reach.items():
        told = "none" if one is None else f"{one.name} ({one.parameters / 1e9:,.3g} billion)"
        lines.append(f"  {NAMES[method]}: {told}")
    if not found.gpus:
        lines.append(
            "Without a GPU, what fits may still take long: `lastresort plan --gpu cpu --rows N` says how long."
        )
    return lines
