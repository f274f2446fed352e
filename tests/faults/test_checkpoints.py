"""Checkpoints and adapters when the disk refuses, when the process is killed half way, and on a device that is not the CPU."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from lastresort.errors import DataError, InfrastructureError
from lastresort.records.atomic import replace_file, replace_folder
from lastresort.train.adapters.adapters import trainable
from lastresort.train.loop.checkpoints import (
    OPTIMIZER,
    STATE,
    WEIGHTS,
    CheckpointState,
    _optimizer_state,
    load_checkpoint,
    save_checkpoint,
    save_part,
)
from lastresort.train.loop.processes import Processes
from processes_support import Program

FULL = """
import resource, sys
from pathlib import Path
import torch
from lastresort.errors import InfrastructureError
{setup}
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    {save}
except InfrastructureError as error:
    print(error)
"""
CHECKPOINT = (
    "from lastresort.train.loop.checkpoints import *\nmodel = torch.nn.Linear(100, 100)",
    'save_checkpoint(Path(sys.argv[1]) / "c", model, torch.optim.AdamW(model.parameters()), CheckpointState(1, "r", 0, 0, 0.0))',
)
ADAPTER = (
    """
from transformers import AutoConfig, AutoModelForCausalLM
from lastresort.train.adapters.adapters import attach_adapter, save_adapter
from lastresort.train.settings import AdapterSettings
config = AutoConfig.for_model("llama", vocab_size=89, hidden_size=128, intermediate_size=64, num_hidden_layers=1,
    num_attention_heads=4, num_key_value_heads=2, head_dim=8)
model = attach_adapter(AutoModelForCausalLM.from_config(config), AdapterSettings(r=16), base_name="tiny")
""",
    'save_adapter(model, Path(sys.argv[1]) / "c")',
)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="a limit on file sizes stands for the full disk")
@pytest.mark.parametrize(("setup", "save"), [CHECKPOINT, ADAPTER], ids=["checkpoint", "adapter"])
def test_a_disk_that_refuses_is_one_sentence(setup: str, save: str, tmp_path: Path) -> None:
    code = FULL.format(setup=setup, save=save)
    out, error = (saving := Program(str(tmp_path), code=code)).communicate()
    assert saving.returncode == 0, error
    assert str(tmp_path / "c") in out
    assert "File too large" in out
    assert "Check the disk and the permissions of the folder." in out


def test_a_checkpoint_that_fills_the_disk_is_removed_and_so_is_that_of_a_killed_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of a large model would keep the disk full until the next checkpoint, for which there is then no room."""
    from safetensors import torch as library

    whole = library.save_file

    def full(tensors: Any, path: str) -> None:
        whole(tensors, path)
        if path.endswith(OPTIMIZER):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    folder = saved(tmp_path / "c", 2)
    monkeypatch.setattr(library, "save_file", full)
    with pytest.raises(InfrastructureError, match="the disk is full"):
        saved(folder, 3)
    assert list(tmp_path.iterdir()) == [folder]
    shutil.copytree(folder, tmp_path / "c.new")
    found = load_checkpoint(folder, *trained(0), "r")
    assert found is not None
    assert found.step == 2
    assert list(tmp_path.iterdir()) == [folder]


def trained(steps: int, device: str = "cpu") -> tuple[torch.nn.Module, Any]:
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, fused=device == "cpu")
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.ones(4, 3)).square().sum().backward()
        optimizer.step()
    return model, optimizer


def saved(folder: Path, steps: int) -> Path:
    save_checkpoint(folder, *trained(steps), CheckpointState(steps, "r", 10, 20, 1.5))
    return folder


def test_weights_and_optimizer_come_back_exactly(tmp_path: Path) -> None:
    model, optimizer = trained(0)
    assert load_checkpoint(saved(tmp_path / "c", 3), model, optimizer, "r") == CheckpointState(3, "r", 10, 20, 1.5)
    expected, whole = trained(3)
    for ours, theirs in zip(model.parameters(), expected.parameters(), strict=True):
        assert torch.equal(ours, theirs)
        assert optimizer.state[ours].keys() == whole.state[theirs].keys() == {"step", "exp_avg", "exp_avg_sq"}
        for key, value in whole.state[theirs].items():
            assert torch.equal(optimizer.state[ours][key], value)


def test_a_checkpoint_before_the_first_step_holds_no_state(tmp_path: Path) -> None:
    model, optimizer = trained(0)
    assert load_checkpoint(saved(tmp_path / "c", 0), model, optimizer, "r") is not None
    assert not optimizer.state


def in_parts(folder: Path, steps: int, count: int) -> Path:
    """As so many processes write it that hold the rows of each tensor as FSDP cuts them."""
    model, optimizer = trained(steps)
    whole = {WEIGHTS: dict(model.state_dict()), OPTIMIZER: _optimizer_state(optimizer, trainable(model))}
    folder.mkdir()
    for place in range(count):
        for name, tensors in whole.items():
            most = {key: -(-len(value) // count) for key, value in tensors.items() if value.ndim}
            rows = {key: tensors[key][place * n : (place + 1) * n] for key, n in most.items()}
            save_part(folder / name, {**tensors, **rows}, Processes(place, count))
    (folder / STATE).write_text(json.dumps(asdict(CheckpointState(steps, "r", 10, 20, 1.5))))
    return folder


def test_one_process_goes_on_from_the_parts_of_three(tmp_path: Path) -> None:
    """Of two rows the third holds none."""
    model, optimizer = trained(0)
    folder = in_parts(tmp_path / "c", 3, 3)
    assert load_checkpoint(folder, model, optimizer, "r") == CheckpointState(3, "r", 10, 20, 1.5)
    expected, whole = trained(3)
    for ours, theirs in zip(model.parameters(), expected.parameters(), strict=True):
        assert torch.equal(ours, theirs)
        for key, value in whole.state[theirs].items():
            assert torch.equal(optimizer.state[ours][key], value)


@pytest.mark.parametrize("name", ["weights-1-of-3", "weights-2-of-3", "optimizer-3-of-3"])
@pytest.mark.parametrize("how", ["gone", "cut"])
def test_a_part_that_is_missing_or_cut_short_is_said(name: str, how: str, tmp_path: Path) -> None:
    part = in_parts(tmp_path / "c", 3, 3) / f"{name}.safetensors"
    if how == "gone":
        part.unlink()
    else:
        os.truncate(part, part.stat().st_size - 1)
    with pytest.raises(DataError, match="the checkpoint is cut short or damaged"):
        load_checkpoint(tmp_path / "c", *trained(0), "r")


@pytest.mark.parametrize("fused", [False, True])
def test_the_state_goes_to_the_device_of_its_parameter(fused: bool, tmp_path: Path) -> None:
    """The meta device stands for CUDA. A fused optimizer keeps its step there too; another keeps it on the CPU."""
    model, optimizer = trained(0, "meta")
    optimizer.param_groups[0]["fused"] = fused
    assert load_checkpoint(saved(tmp_path / "c", 2), model, optimizer, "r") is not None
    for parameter in model.parameters():
        state = optimizer.state[parameter]
        assert {state["exp_avg"].device.type, state["exp_avg_sq"].device.type} == {"meta"}
        assert state["step"].device.type == ("meta" if fused else "cpu")


AS_FIFOS = """
import os, sys
from pathlib import Path
from lastresort.errors import DataError
from lastresort.train.loop import checkpoints, reference
path = Path(sys.argv[1])
os.mkfifo(path)
assert reference._read(path, "r", begun=False) is None
for read in (lambda path: checkpoints._checked(path).__enter__(), lambda path: reference._read(path, "r", begun=True)):
    try:
        read(path)
    except DataError as error:
        print(error)
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="FIFOs")
def test_a_fifo_in_the_place_of_a_file_is_not_waited_for(tmp_path: Path) -> None:
    out, error = (reading := Program(str(tmp_path / "a.safetensors"), code=AS_FIFOS)).communicate(timeout=300)
    assert reading.returncode == 0, error
    damaged, gone = out.splitlines()
    assert "the checkpoint is cut short or damaged" in damaged
    assert "the reference of this run is gone" in gone


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize("renames", [0, 1, 2])
def test_killed_while_a_checkpoint_is_replaced(renames: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed before the old one moved away, before the new one came, and before the old one was removed."""
    folder, left, rename = saved(tmp_path / "c", 3), [renames], Path.rename

    def dying_rename(path: Path, target: Path) -> Path:
        if not left[0]:
            raise Killed
        left[0] -= 1
        return rename(path, target)

    def dying_rmtree(path: Path, **_: Any) -> None:
        if path.name == ".c.old":
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", dying_rename)
        patch.setattr(shutil, "rmtree", dying_rmtree)
        with pytest.raises(Killed):
            saved(folder, 5)
    state = load_checkpoint(folder, *trained(0), "r")
    assert state is not None
    assert state.step == (5 if renames == 2 else 3)
    assert load_checkpoint(saved(folder, 7), *trained(0), "r") is not None
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_files_are_on_the_disk_before_the_folder_moves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "new" / "inner").mkdir(parents=True)
    for name in ("a", "inner/b"):
        (tmp_path / "new" / name).write_text("x")
    inodes = {path.stat().st_ino for path in (tmp_path / "new").rglob("*") if path.is_file()}
    synced: set[int] = set()
    moved: list[set[int]] = []
    rename = Path.rename
    monkeypatch.setattr(os, "fsync", lambda handle: synced.add(os.fstat(handle).st_ino))
    monkeypatch.setattr(Path, "rename", lambda path, to: moved.append(set(synced)) or rename(path, to))
    replace_folder(tmp_path / "new", tmp_path / "final")
    assert len(moved) == 1
    assert inodes <= moved[0]


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    new = tmp_path / "reference.new"
    new.write_text("x")
    inode = new.stat().st_ino
    synced: set[int] = set()
    moved: list[set[int]] = []
    replace = Path.replace
    monkeypatch.setattr(os, "fsync", lambda handle: synced.add(os.fstat(handle).st_ino))
    monkeypatch.setattr(Path, "replace", lambda path, to: moved.append(set(synced)) or replace(path, to))
    replace_file(new, tmp_path / "reference")
    assert [path.name for path in tmp_path.iterdir()] == ["reference"]
    assert inode in moved[0]


def in_8_bits() -> tuple[torch.nn.Module, Any]:
    """As bitsandbytes runs it without CUDA: two weights whose moments have 8 bits and share their tables, the others 32."""
    from bitsandbytes.optim import PagedAdamW8bit

    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(80, 80), torch.nn.Linear(80, 80))
    return model, PagedAdamW8bit(model.parameters(), lr=0.01)


def further(model: torch.nn.Module, optimizer: Any, steps: int) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.linspace(-1, 1, 160).view(2, 80)).square().sum().backward()
        optimizer.step()


@pytest.mark.filterwarnings("ignore:Paged optimizers are not supported on CPU")
def test_an_optimizer_of_8_bits_goes_on_as_if_uncut(tmp_path: Path) -> None:
    whole, cut, resumed = in_8_bits(), in_8_bits(), in_8_bits()
    further(*whole, steps=5)
    further(*cut, steps=3)
    save_checkpoint(tmp_path / "c", *cut, CheckpointState(3, "r", 10, 20, 1.5))
    assert load_checkpoint(tmp_path / "c", *resumed, "r") is not None
    states = [resumed[1].state[parameter] for parameter in resumed[0].parameters()]
    assert {state["step"] for state in states} == {3}
    assert {type(state["step"]) for state in states} == {int}
    assert [state["state1"].dtype for state in states] == [torch.uint8, torch.float32] * 2
    further(*resumed, steps=2)
    for ours, theirs in zip(resumed[0].parameters(), whole[0].parameters(), strict=True):
        assert torch.equal(ours, theirs)
