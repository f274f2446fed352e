"""The figures in docs/several-devices.md are what its formulas give, and its launch file is one that accelerate reads."""

from __future__ import annotations

import re
from pathlib import Path

from lastresort.hardware.find import shape_named
from lastresort.hardware.plan.memory import SCALE_BYTES
from lastresort.hardware.shape import ModelShape

PAGE = (Path(__file__).parent.parent.parent / "docs" / "several-devices.md").read_text(encoding="utf-8")
NVLINK, NET_400, PCIE, NET_100, NET_10 = 450e9, 50e9, 25e9, 12.5e9, 1.25e9


def table(head: str) -> list[list[str]]:
    """The cells of the table with this first column, without its head."""
    lines = PAGE[PAGE.index(f"| {head} |") :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def size(count: float) -> str:
    return f"{count / 1e6:,.0f} MB" if count < 1e9 else f"{count / 1e9:,.1f} GB"


def time(seconds: float) -> str:
    return f"{seconds * 1e3:,.1f} ms" if seconds < 0.1 else f"{seconds:,.1f} s"


def test_gradients_of_sixteen_processes() -> None:
    rows = table("trained")
    assert len(rows) == 4
    for named, *cells in rows:
        model, method = named.split(", ")
        shape = shape_named(model)
        count = shape.parameters if method == "full" else shape.adapter_parameters(16, "attention")
        sent = 2 * 15 / 16 * 4 * count
        times = [time(sent / link) for link in (NVLINK, NET_400, NET_100, NET_10)]
        assert cells == [f"{count:,}", size(4 * count), size(sent), *times]


def held(shape: ModelShape, bits: str) -> tuple[float, float]:
    """Bytes of a frozen base that are cut into shards, and those that stay whole."""
    inside, embeddings = shape.linear_parameters + shape.small_parameters, 2 * shape.embedding_parameters
    if bits == "16 bits":
        return 2 * inside, embeddings
    packed = 0.5 * shape.quantised_parameters + 2 * (inside - shape.quantised_parameters)
    return packed, embeddings + SCALE_BYTES * shape.quantised_parameters


def test_layers_gathered_in_a_pass() -> None:
    rows = table("base")
    assert len(rows) == 5
    for named, processes, *cells in rows:
        model, bits = named.split(", ")
        count, (cut, whole) = int(processes), held(shape_named(model), bits)
        gathered = 2 * (count - 1) / count * cut
        times = [time(gathered / link) for link in (NVLINK, NET_400, PCIE, NET_100)]
        assert cells == [size(cut), size(cut / count + whole), size(gathered), *times]


def test_accelerate_reads_the_launch_file(tmp_path: Path) -> None:
    from accelerate.commands.config.config_args import load_config_from_file

    block = re.search(r"```yaml\n(compute_environment:.*?)```", PAGE, re.DOTALL)
    assert block is not None
    (tmp_path / "nodes.yaml").write_text(block[1], encoding="utf-8")
    found = load_config_from_file(str(tmp_path / "nodes.yaml"))
    assert (found.num_machines, found.num_processes, found.fsdp_config) == (2, 16, {"fsdp_version": 2})
