"""Two processes of `lastresort train`: one fails, both end, and the run goes on with torchrun."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from processes_support import ended, started
from tiny_model import save_tiny_model
from train_support import lastresort, record, training_file

KEYS = {"objective": "dpo", "epochs": 3, "checkpoint_every_s": 0, "data": {"train": "rows.jsonl", "eval": 3}}
"""Nine steps."""
ADAPTER = "adapter/adapter_model.safetensors"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("base") / "model")


def adapter(folder: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = load_file(folder / ADAPTER)
    return found


FAULTY = """
import os, sys
import lastresort.train.loop.gradients as gradients
share = gradients._share
def failing(*arguments):
    log = os.path.join({out!r}, "log.jsonl")
    if os.environ["RANK"] == "1" and os.path.exists(log) and open(log).read().count("step") >= 3:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4294967296 bytes")
    return share(*arguments)
gradients._share = failing
sys.argv = ["lastresort", "train", {path!r}]
from lastresort.cli.main import run
run()
"""
SAID = "there is not enough memory for 4.0 GiB more"


@pytest.mark.slow
def test_one_that_runs_out_of_memory_ends_both_and_torchrun_goes_on(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the second one, after three steps; the first one says so, once."""
    path = training_file(tmp_path / "cut", model=str(model), **KEYS)
    code = FAULTY.format(out=str(tmp_path / "cut" / "out"), path=str(path))
    (first, out, told), second = ended(started(code))
    assert (first, second[0]) == (4, 4), told + second[2]
    assert SAID in told
    assert "--resume" in told
    assert "Traceback" not in told
    assert (out, *second[1:]) == ("", "", "")
    assert not (tmp_path / "cut" / "out" / "training.json").exists()

    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "lastresort", "train"]
    done = subprocess.run(
        [sys.executable, *command, str(path), "--resume", "--json"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == record(tmp_path / "cut" / "out")
    assert "training continues from step" in done.stderr
    assert done.stderr.count("loading the model") == 1, "both processes spoke"
    assert record(tmp_path / "cut" / "out")["trained"]["processes"] == 2

    path = training_file(tmp_path / "whole", model=str(model), **KEYS)
    assert lastresort(monkeypatch, "train", str(path)) == 0
    whole, cut = adapter(tmp_path / "whole" / "out"), adapter(tmp_path / "cut" / "out")
    for name, value in whole.items():
        torch.testing.assert_close(cut[name], value, rtol=1e-3, atol=1e-5)
    kept, ours = (record(tmp_path / which / "out") for which in ("whole", "cut"))
    assert [line["step"] for line in ours["steps"]] == list(range(1, 10))
    assert [line["loss"] for line in ours["steps"]] == pytest.approx([line["loss"] for line in kept["steps"]], rel=1e-5)
    assert [epoch["eval_loss"] for epoch in ours["epochs"]] == pytest.approx(
        [epoch["eval_loss"] for epoch in kept["epochs"]], rel=1e-5
    )
