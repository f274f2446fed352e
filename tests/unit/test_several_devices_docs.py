"""The figures in docs/several-devices.md are what its formulas give, and its launch file is one that accelerate reads."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

import pytest

from lastresort.engine.forest import Row, plan_forest, split_evenly
from lastresort.hardware.cards import known_cards
from lastresort.hardware.find import shape_named
from lastresort.hardware.plan.fit import gib, host_memory_bytes, largest_batch
from lastresort.hardware.plan.memory import SCALE_BYTES, training_memory, weight_bytes
from lastresort.hardware.plan.setup import Cards, Setup
from lastresort.hardware.shape import ModelShape

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "several-devices.md").read_text(encoding="utf-8")
NVLINK, NET_400, PCIE, NET_100, NET_10 = 450e9, 50e9, 25e9, 12.5e9, 1.25e9
NVME, CLOUD_DISK = 5e9, 0.2e9


def table(head: str) -> list[list[str]]:
    """The cells of the table with this first column, without its head."""
    lines = PAGE[PAGE.index(f"| {head} |") :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


DRAWS, BATCH_ROWS = 20, 64
Draw = tuple[int, tuple[int, int], int]
"""Prompts, their tokens from and to, and the tokens of an instruction before all of them."""


def batch(drawn: Draw, random_: random.Random) -> list[Row]:
    """Shuffled rows whose answers have 20 to 80 tokens."""

    def ids(count: int) -> tuple[int, ...]:
        return tuple(random_.choices(range(30_000), k=count))

    prompts, (low, high), common = drawn
    instruction = ids(common)
    begun = [instruction + ids(random_.randint(low, high)) for _ in range(prompts)]
    rows = []
    for number in range(BATCH_ROWS):
        beginning, answer = begun[number % prompts], ids(random_.randint(20, 80))
        rows.append(Row(beginning + answer, (False,) * len(beginning) + (True,) * len(answer)))
    random_.shuffle(rows)
    return rows


def computed(rows: Sequence[Row]) -> int:
    return plan_forest(rows).computed_tokens if rows else 0


def in_order(rows: Sequence[Row], count: int) -> list[list[Row]]:
    """The batch as it is, cut by the rows' own lengths."""
    lengths = [len(row.ids) for row in rows]
    middles = [2 * end - own for end, own in zip(accumulate(lengths), lengths, strict=True)]
    owners = [middle * count // (2 * sum(lengths)) for middle in middles]
    return [[row for row, owner in zip(rows, owners, strict=True) if owner == place] for place in range(count)]


@pytest.mark.slow
def test_computed_tokens_of_the_largest_part() -> None:
    drawn: dict[str, Draw] = {
        "16 prompts of 100 to 300 tokens, 4 answers to each": (16, (100, 300), 0),
        "the same below a common instruction of 200 tokens": (16, (100, 300), 200),
        "nothing shared": (64, (100, 300), 0),
    }
    rows, named = table("rows"), ""
    assert len(rows) == 5
    for name, count, *cells in rows:
        named, n = name or named, int(count)
        random_, sums = random.Random(0), [0.0, 0.0, 0.0]
        for _ in range(DRAWS):
            found = batch(drawn[named], random_)
            ours = [[found[i] for i in part] for part in split_evenly([(row,) for row in found], n)]
            largest = (max(map(computed, parts)) for parts in (in_order(found, n), ours))
            sums = [total + more for total, more in zip(sums, (*largest, computed(found) / n), strict=True)]
        assert cells == [f"{total / DRAWS:,.0f}" for total in sums], named


QUANTISED_A_SECOND = 9.5e6


def test_host_memory_of_a_base_in_4_bits() -> None:
    rows = table("4-bit base")
    assert len(rows) == 2
    for model, *cells in rows:
        shape = shape_named(model)
        peak = host_memory_bytes(shape, Setup("qlora"), Cards(known_cards()["h100"], 8, "fsdp"))
        hours = shape.quantised_parameters / QUANTISED_A_SECOND / 3600
        figures = [size(number) for number in (weight_bytes(shape, "qlora", 2), peak, 2 * peak, 4 * peak, 8 * peak)]
        assert cells == [*figures, f"{hours:.1f} h"]


def test_what_shards_of_70b_are_good_for() -> None:
    """Rows of 1,024 tokens in a pass, on one card of 48 GB and on two."""
    shape, card = shape_named("llama-3-70b"), known_cards()["l40s"]
    one, two = (largest_batch(shape, Setup("qlora"), Cards(card, count, "fsdp")) for count in (1, 2))
    for text in (PAGE, (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")):
        assert (
            f"70B fits {one} rows of 1,024 tokens into a pass on one GPU of 48 GB, and {two} on each of two"
            in " ".join(text.split())
        )


def test_all_weights_in_shards() -> None:
    rows = table("all weights of")
    assert len(rows) == 5
    for model, count, *cells in rows:
        found = training_memory(shape_named(model), Setup("full"), Cards(known_cards()["h100"], int(count), "fsdp"))
        held, gathered = found.of("weights", "gradients", "optimizer"), found.of("buffers")
        assert cells == [
            size(n) for n in (held, gathered, found.per_card_bytes - held - gathered, found.per_card_bytes)
        ]
        if (model, count) == ("llama-3-8b", "8"):
            told = f"8B takes {gib(found.per_card_bytes)} on each of 8 GPUs"
            assert told in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


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


def test_what_a_checkpoint_takes() -> None:
    """Weights and two moments in float32; a file of each."""
    rows = table("checkpoint of")
    assert len(rows) == 5
    for named, *cells in rows:
        model, method = named.split(", ")
        shape = shape_named(model)
        count = shape.parameters if method == "full" else shape.adapter_parameters(16, "attention")
        times = [time(12 * count / disk) for disk in (NVME, NET_10, CLOUD_DISK)]
        assert cells == [size(12 * count), size(8 * count), *times]


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
