"""Whole commands on a GPU, a pretended one where there is none: what they put where, in which precision, by which kernel."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from climb_support import rows
from engine_support import FAMILIES, every_row, gradients, relative_difference, tiny, twin
from lastresort.engine.logp import target_logps
from lastresort.engine.support import check_first_batch, support
from lastresort.train.adapters.adapters import adapters_in_base_precision, attach_adapter
from lastresort.train.settings import AdapterSettings
from pretend_device import Far
from pretend_gpu import pretend_gpu
from tiny_model import save_tiny_model
from train_support import after_step, lastresort, record, training_file

LETTERS = "def letters(completion):\n    return sum(c in 'abcdefghijklmnopqrstuvwxyz' for c in completion) / 6\n"
GROUPS = {
    "rows": [{"prompt": f"say a letter please {i}"} for i in range(4)],
    "reward": [{"python": "rewards.py:letters"}],
    "group_size": 4,
    "max_new_tokens": 6,
}
TRAININGS: dict[str, dict[str, Any]] = {
    "sft": {"adapter": {"r": 4, "target": "all-linear"}, "checkpointing": True},
    "text": {"loraplus_lr_ratio": 16},
    "dpo": {"adapter": {"kind": "dora", "r": 4}},
    "kto": {"adapter": {"kind": "full"}, "learning_rate": 1e-4, "precision": "bfloat16"},
    "orpo": {"max_pass_tokens": 64},
    "grpo": GROUPS,
}


@contextmanager
def real_gpu() -> Iterator[torch.device]:
    yield torch.device("cuda")


Gpu = Callable[[], AbstractContextManager[torch.device]]
GPUS = [pytest.param(pretend_gpu, id="pretended"), pytest.param(real_gpu, id="cuda", marks=pytest.mark.cuda)]
on_a_gpu = pytest.mark.parametrize("gpu", GPUS)


@pytest.fixture
def no_memory_unwritten() -> Iterator[None]:
    """What is allocated without being written is nan, so that nothing may depend on it."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.sampled(5)
@pytest.mark.parametrize("family", FAMILIES)
@on_a_gpu
@pytest.mark.usefixtures("no_memory_unwritten")
def test_adapters_in_16_bits_are_trained_by_the_fastest_kernel(family: str, gpu: Gpu) -> None:
    """Kernels are tried inside autocast, where a LoRA on a 16-bit base is trained: each was refused for autocast's own rounding."""
    base, adapter = tiny(family, torch.bfloat16), AdapterSettings(r=4, alpha=8, target="all-linear")
    exact = attach_adapter(twin(base).float(), adapter, base_name="tiny")
    draws = torch.Generator().manual_seed(1)
    for parameter in exact.parameters():
        if parameter.requires_grad:
            parameter.data = torch.randn(parameter.shape, generator=draws) * 0.1
    expected = target_logps(exact, every_row(), plain=True)
    model = attach_adapter(base, adapter, base_name="tiny")
    model.load_state_dict(exact.state_dict())
    with gpu() as device:
        model.to(device)
        with adapters_in_base_precision(model):
            found = target_logps(model, every_row())
            assert (found.path, support(model).kernel.name, support(model).passed_over) == ("packed", "levels", ())
            check = check_first_batch(model, every_row()[:4])
            assert check.ok, check.reason
        computed = {name: near(x) for name, x in gradients(model, found.per_token).items()}
    assert float((near(found.per_token) - expected.per_token).detach().abs().mean()) < 0.05
    assert relative_difference(computed, gradients(exact, expected.per_token)) < 0.1


def near(x: torch.Tensor) -> torch.Tensor:
    return x.near if isinstance(x, Far) else x.cpu()  # type: ignore[no-any-return]


@pytest.mark.sampled(3)
@pytest.mark.parametrize("objective", TRAININGS)
@on_a_gpu
@pytest.mark.usefixtures("no_memory_unwritten")
def test_a_training(
    objective: str, gpu: Gpu, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save_tiny_model(tmp_path / "model", head_dim=16)
    file = training_file(tmp_path, objective, **{"precision": "auto", "epochs": 1, **TRAININGS[objective]})
    (tmp_path / "rewards.py").write_text(LETTERS, encoding="utf-8")
    with gpu():
        assert lastresort(monkeypatch, "train", str(file)) == 0, capsys.readouterr().err
    check = record(tmp_path / "out")["trained"]["check"]
    assert (check["ok"], check["kernel"], check["passed_over"]) == (True, "levels", "")


@pytest.mark.slow
@on_a_gpu
def test_a_climb(gpu: Gpu, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Adapters are trained, saved, read again, rounded to answer, and answer."""
    save_tiny_model(tmp_path / "model", head_dim=16)
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows(150)), encoding="utf-8")
    task = {
        "task": "tiny",
        "about": "Route it.",
        "model": "model",
        "ladder": ["prompting", "sft", "full"],
        "examples": "rows.jsonl",
        "split": {"dev": 24, "test": 40},
        "score": "exact",
        "bar": 0.5,
        "sft": {"learning_rates": [0.003], "epochs": 2, "r": 4, "replay": 0.1},
        "decode": {"max_new_tokens": 10},
    }
    (tmp_path / "task.yaml").write_text(yaml.safe_dump(task), encoding="utf-8")
    run = tmp_path / "run"
    with gpu():
        assert lastresort(monkeypatch, "climb", str(tmp_path / "task.yaml"), "--run", str(run), "--yes") == 0
    decision = json.loads((run / "decision.json").read_text(encoding="utf-8"))
    assert [(rung["name"], rung["test"]["verdict"]) for rung in decision["rungs"]] == [
        (rung, "NOT_MET") for rung in ("prompting", "sft", "full")
    ]


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adamw", pytest.param("paged_adamw_8bit", marks=pytest.mark.cuda)])
def test_a_base_in_4_bits_is_trained_stopped_resumed_and_merged(
    optimizer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On this machine's own device, whatever it is."""
    keys: dict[str, Any] = {"adapter": {"kind": "qlora", "r": 4}, "optimizer": optimizer, "precision": "auto"}
    whole, cut = (training_file(tmp_path / name, "sft", **keys) for name in ("whole", "cut"))
    assert lastresort(monkeypatch, "train", str(whole)) == 0
    with monkeypatch.context() as patch:
        after_step(patch, 3, (tmp_path / "cut" / "out" / "stop").touch)
        assert lastresort(patch, "train", str(cut)) == 4
    assert lastresort(monkeypatch, "train", str(cut), "--resume") == 0
    losses = [[epoch["loss"] for epoch in record(tmp_path / name / "out")["epochs"]] for name in ("whole", "cut")]
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)  # GPUs add up in an order of their own
    assert lastresort(monkeypatch, "merge", str(tmp_path / "cut" / "out" / "adapter")) == 0
