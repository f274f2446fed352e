"""How long a checkpoint of all weights takes, and how much of that is the disk: one process that holds all of it, and two that hold
half each and write their own rows, both as `lastresort train` does it. To compare: two that gather all of it to the first, and two
that each write their half with torch.distributed.checkpoint (DCP).

    OMP_NUM_THREADS=1 python -m benchmarks.checkpoints [--layers 40] [--folder .]

A layer has 2,048 x 2,048 weights in float32, with AdamW's two moments 50 MB. Memory is needed for five times the whole, and disk
for three times.
"""

from __future__ import annotations

import argparse
import os
import socket
import tempfile
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import save_file
from torch.distributed.checkpoint.state_dict import get_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from lastresort.hardware.memory import PeakMemory
from lastresort.records.atomic import sync_below
from lastresort.train.loop.checkpoints import CheckpointState, load_checkpoint, save_checkpoint
from lastresort.train.loop.processes import Processes

WIDTH, BLOCK_BYTES = 2_048, 1 << 26
SAVED = CheckpointState(1, "run", 0, 0, 0.0)


def size_bytes(layers: int) -> int:
    return 12 * layers * WIDTH**2


def trained(layers: int, *, shards: int = 1) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    """A model after its first step, and its optimizer."""
    model = torch.nn.Sequential(*(torch.nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(layers)))
    if shards > 1:
        mesh = init_device_mesh("cpu", (shards,))
        for layer in model:
            fully_shard(layer, mesh=mesh)
        fully_shard(model, mesh=mesh)
    optimizer = torch.optim.AdamW(model.parameters())
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 1e-3)
    optimizer.step()
    optimizer.zero_grad()
    return model, optimizer


def timed(name: str, written_bytes: int, work: Callable[[], object]) -> None:
    peak = PeakMemory()
    before, began = _resident_bytes(), time.monotonic()
    work()
    seconds, most = time.monotonic() - began, peak.read_bytes()
    more = "unknown" if most is None else f"{(most - before) / 1e9:.2f} GB"
    print(f"{name}: {seconds:.1f} s, {written_bytes / 1e9 / seconds:.2f} GB/s, more memory here: {more}", flush=True)


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def plain_file(path: Path, written_bytes: int) -> None:
    block = os.urandom(BLOCK_BYTES)
    with path.open("wb") as file:
        for _ in range(written_bytes // BLOCK_BYTES):
            file.write(block)
        os.fsync(file.fileno())


def alone(folder: Path, layers: int) -> None:
    size = size_bytes(layers)
    for _ in range(2):
        timed("the disk alone", size, lambda: plain_file(folder / "plain", size))
        (folder / "plain").unlink()
    model, optimizer = trained(layers)
    for _ in range(3):
        timed("one writes all", size, lambda: save_checkpoint(folder / "one", model, optimizer, SAVED))
    timed("one reads all", size, lambda: load_checkpoint(folder / "one", model, optimizer, SAVED.run))


def together(place: int, port: int, folder: Path, layers: int) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(place), "WORLD_SIZE": "2"}
    torch.distributed.init_process_group("gloo")
    model, optimizer = trained(layers, shards=2)

    def write_gathered() -> None:
        whole = {name: shard.full_tensor() for name, shard in shards_of(model, optimizer).items()}
        if place == 0:
            (folder / "gathered").mkdir(exist_ok=True)
            save_file(whole, str(folder / "gathered" / "all.safetensors"))
            sync_below(folder / "gathered")
        torch.distributed.barrier()

    def write_dcp() -> None:
        weights, moments = get_state_dict(model, optimizer)
        dcp.save({"weights": weights, "moments": moments}, checkpoint_id=str(folder / "dcp"))

    def write_own() -> None:
        save_checkpoint(folder / "own", model, optimizer, SAVED, Processes(place, 2))
        torch.distributed.barrier()

    ways = (("gathered to the first", write_gathered), ("each its half, DCP", write_dcp), ("each its rows", write_own))
    for name, work in ways:
        for _ in range(2):
            if place == 0:
                timed(f"two, {name}", size_bytes(layers), work)
            else:
                work()
    torch.distributed.destroy_process_group()


def shards_of(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, DTensor]:
    """Weights and moments by name."""
    found: dict[str, Any] = dict(model.named_parameters())
    for name, parameter in model.named_parameters():
        found |= {f"{name}|{key}": value for key, value in optimizer.state[parameter].items()}
    return {name: value for name, value in found.items() if isinstance(value, DTensor)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=40)
    parser.add_argument("--folder", type=Path, default=Path())
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as name, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port, folder = free.getsockname()[1], Path(name)
        free.close()
        _in_processes(alone, [(folder, given.layers)])
        _in_processes(together, [(place, port, folder, given.layers) for place in range(2)])


def _in_processes(work: Callable[..., None], arguments: list[tuple[Any, ...]]) -> None:
    started = [get_context("spawn").Process(target=work, args=one) for one in arguments]
    for process in started:
        process.start()
    for process in started:
        process.join()
    if any(process.exitcode for process in started):
        raise SystemExit("A process ended with an error; its message is above.")


if __name__ == "__main__":
    main()
