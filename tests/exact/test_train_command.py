"""`lastresort train` from the command line: every objective and adapter, what is held out, and what the record says."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from adapters_support import family_folder
from engine_support import reference
from lastresort.data.files import read_rows
from lastresort.data.preferences import pairs_of
from lastresort.data.rendering import render_training
from lastresort.engine.forest import Row
from lastresort.models.loading import load_local
from lastresort.objectives import OBJECTIVES as ALL
from lastresort.spec.training import load_training
from lastresort.train.files.run import run_training
from lastresort.train.files.run_folder import Trackers
from lastresort.types import SilentProgress
from train_support import data_for, lastresort, pairs, record, training_file, write_rows

OBJECTIVES = sorted(name for name, one in ALL.items() if one.need != "groups")
AT_FIRST = {"dpo": math.log(2), "ipo": 25.0, "hinge": 1.0, "apo_zero": 1.0, "kto": 0.5}
"""Loss where policy and reference are the same: -log sigmoid(0), (0 - 1/(2 beta))^2, 1 - 0, 2 sigmoid(0), 1 - sigmoid(0)."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tiny_model import save_tiny_model

    return save_tiny_model(tmp_path_factory.mktemp("base") / "model")


def run(folder: Path, model: Path, objective: str = "dpo", rows: Any = None, **keys: Any) -> dict[str, Any]:
    file = load_training(training_file(folder, objective, rows, model=str(model), **keys))
    return run_training(file, resume=False, progress=SilentProgress()).as_json()


@pytest.mark.sampled(6)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective(
    objective: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = training_file(tmp_path, objective, model=str(model), data={"train": "rows.jsonl", "eval": 3})
    assert lastresort(monkeypatch, "train", str(path), "--set", "batch_size=3", "--set", "max_tokens=100") == 0
    out, told = capsys.readouterr()
    assert f"adapter: {tmp_path / 'out' / 'adapter'}" in out
    assert "path: packed; first batch: packed and plain agree" in out
    assert "computed of" in out
    assert "epoch 2: loss" in told
    found = record(tmp_path / "out")
    steps = found["steps"]
    assert len(steps) == found["trained"]["steps"] == 2 * -(-found["data"]["items"] // 3)
    assert found["data"]["eval_items"] == 3
    assert found["data"]["row_limit_tokens"] == 100, "a limit, whatever the rows have"
    assert all(math.isfinite(line["loss"]) for line in steps)
    assert [epoch["epoch"] for epoch in found["epochs"]] == [1, 2]
    assert all("eval_loss" in epoch for epoch in found["epochs"])
    if objective in AT_FIRST:
        assert steps[0]["loss"] == pytest.approx(AT_FIRST[objective], rel=1e-5)
    trained = load_local(model, precision="float32", adapter=tmp_path / "out" / "adapter")
    assert any(float(p.abs().max()) > 0 for n, p in trained.model.named_parameters() if "lora_B" in n)


@pytest.mark.parametrize("kind", ["lora", "rslora", "dora", "qlora"])
def test_every_adapter_is_found_by_its_settings(kind: str, model: Path, tmp_path: Path) -> None:
    precision = "bfloat16" if kind == "qlora" else "float32"
    found = run(tmp_path, model, "sft", adapter={"kind": kind, "r": 4}, precision=precision, max_steps=2)
    config = json.loads((tmp_path / "out" / "adapter" / "adapter_config.json").read_text(encoding="utf-8"))
    assert (config["use_rslora"], config["use_dora"]) == (kind == "rslora", kind == "dora")
    assert (config["r"], config["lora_alpha"]) == (4, 8)
    assert config["base_model_name_or_path"] == str(model)
    assert (tmp_path / "out" / "adapter" / "trained_on.json").exists() == (kind == "qlora")
    assert (found["model"]["quantised"] is not None) == (kind == "qlora")


def test_a_whole_model_is_trained_in_float32_and_loads_again(model: Path, tmp_path: Path) -> None:
    found = run(tmp_path, model, "sft", adapter="full", precision=None, learning_rate=0.01)
    assert found["saved"] == {"kind": "model", "folder": "model"}
    assert found["model"]["precision"] == "float32"
    before, after = (load_local(folder, precision="float32") for folder in (model, tmp_path / "out" / "model"))
    ids = torch.tensor([[5, 6, 7]])
    assert not torch.allclose(before.model(ids).logits, after.model(ids).logits)
    assert found["model"]["trained_parameters"] == sum(p.numel() for p in after.model.parameters())
    assert found["model"]["adapted"] is None


HYBRID = {
    "num_hidden_layers": 8,
    "attn_layer_period": 8,
    "attn_layer_offset": 4,
    "num_experts": 2,
    "mamba_d_state": 8,
    "mamba_dt_rank": 4,
}


class Said(SilentProgress):
    """Progress that keeps what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


@pytest.mark.slow
@pytest.mark.parametrize("target", ["attention", "all-linear"])
def test_how_many_layers_the_adapters_reach_is_said_and_recorded(target: str, tmp_path: Path) -> None:
    """Of a model with attention in one layer of eight, before it is trained."""
    base = family_folder(tmp_path / "jamba", "jamba", **HYBRID)
    keys: dict[str, Any] = {"adapter": {"kind": "lora", "r": 2, "target": target}, "max_steps": 1}
    file = load_training(training_file(tmp_path / "run", "sft", model=str(base), **keys))
    progress = Said()
    found = run_training(file, resume=False, progress=progress).as_json()["model"]
    layers = 1 if target == "attention" else 8
    assert found["adapted"] == {"layers": layers, "all_layers": 8, "parameters": found["trained_parameters"]}
    assert f"adapters in {layers} of 8 layers, {found['trained_parameters']:,} parameters" in progress.lines
    warned = "the adapters reach only 1 of 8 layers, and the others learn nothing. Set adapter.target to all-linear."
    assert (warned in progress.lines) == (target == "attention")


def rendered(model: Path, rows: Path) -> list[tuple[Row, Row]]:
    tokenizer = load_local(model, precision="float32").tokenizer
    return [
        tuple(  # type: ignore[misc]
            Row(found.ids, found.targets)
            for found in (
                render_training(tokenizer, (*pair.prompt, *answer), trained_turns=len(answer))
                for answer in (pair.chosen, pair.rejected)
            )
        )
        for pair in pairs_of(read_rows(rows))
    ]


def logps(model: Path, adapter: Path | None, rows: list[Row]) -> list[float]:
    loaded = load_local(model, precision="float32", adapter=adapter).model
    with torch.no_grad():
        return [float(reference(loaded, [row]).sum()) for row in rows]


@pytest.mark.slow
def test_the_loss_held_out_is_that_of_what_was_saved(model: Path, tmp_path: Path) -> None:
    held = write_rows(tmp_path / "held.jsonl", pairs()[8:])
    found = run(tmp_path, model, "dpo", pairs()[:8], data={"train": "rows.jsonl", "eval": "held.jsonl"})
    rows = rendered(model, held)
    policy, base = (
        [logps(model, adapter, [pair[side] for pair in rows]) for side in (0, 1)]
        for adapter in (tmp_path / "out" / "adapter", None)
    )
    margins = [
        (policy[0][i] - base[0][i]) - (policy[1][i] - base[1][i])  # chosen's gain less rejected's
        for i in range(len(rows))
    ]
    by_hand = sum(math.log1p(math.exp(-0.1 * margin)) for margin in margins) / len(margins)
    assert found["epochs"][-1]["eval_loss"] == pytest.approx(by_hand, rel=1e-4)
    assert found["epochs"][-1]["eval_margin"] == pytest.approx(sum(margins) / len(margins), rel=1e-3)
    assert len(set(margins)) == len(margins)


def test_going_on_from_an_adapter_makes_it_the_reference(model: Path, tmp_path: Path) -> None:
    run(tmp_path / "sft", model, "sft", learning_rate=0.01)
    adapter = tmp_path / "sft" / "out" / "adapter"
    found = run(tmp_path / "dpo", model, start_from=str(adapter), adapter=None, batch_size=12, epochs=1)
    assert found["steps"][0]["loss"] == pytest.approx(math.log(2), rel=1e-6)
    moved = run(tmp_path / "orpo", model, "orpo", start_from=str(adapter), adapter=None, batch_size=12, epochs=1)
    fresh = run(tmp_path / "fresh", model, "orpo", batch_size=12, epochs=1)
    assert moved["steps"][0]["loss"] < fresh["steps"][0]["loss"]  # the answers were learnt already
    config = json.loads((tmp_path / "dpo" / "out" / "adapter" / "adapter_config.json").read_text(encoding="utf-8"))
    assert config["r"] == 4


def test_going_on_from_a_qlora_adapter_keeps_its_base(model: Path, tmp_path: Path) -> None:
    run(tmp_path / "sft", model, "sft", adapter={"kind": "qlora", "r": 4}, precision=None, max_steps=1)
    adapter = str(tmp_path / "sft" / "out" / "adapter")
    found = run(tmp_path / "dpo", model, start_from=adapter, adapter=None, precision=None, max_steps=1)
    assert found["model"]["quantised"] == {"quantize": "nf4", "dtype": "bfloat16"}
    assert (tmp_path / "dpo" / "out" / "adapter" / "trained_on.json").exists()


def test_pairs_as_labels_make_two_items_of_each(model: Path, tmp_path: Path) -> None:
    found = run(tmp_path, model, "kto", pairs(), pairs_as_labels=True)
    assert found["data"]["items"] == 24


def test_a_share_is_held_out_by_prompt(model: Path, tmp_path: Path) -> None:
    doubled = [row for row in pairs() for row in (row, {**row, "rejected": "nothing"})]
    found = run(tmp_path, model, "dpo", doubled, data={"train": "rows.jsonl", "eval": 0.25})
    assert (found["data"]["items"], found["data"]["eval_items"]) == (18, 6)


def test_groups_are_sampled_and_rewarded(model: Path, tmp_path: Path) -> None:
    (tmp_path / "rewards.py").write_text(
        "def score(answer, expected):\n    return float(len(answer) % 7)\n", encoding="utf-8"
    )
    groups = {"group_size": 3, "max_new_tokens": 5, "reward": [{"python": "rewards.py:score"}]}
    found = run(tmp_path, model, "grpo", data_for("sft")[:4], epochs=1, batch_size=2, **groups)
    assert len(found["steps"]) == 2
    assert all("reward" in line for line in found["steps"])
    assert len((tmp_path / "out" / "completions.jsonl").read_text(encoding="utf-8").splitlines()) == 12


def test_only_the_last_turn_is_trained_where_asked(model: Path, tmp_path: Path) -> None:
    turns = [{"role": role, "content": "hi"} for role in ("user", "assistant", "user", "assistant")]
    rows = [{"messages": turns}] * 2
    every, last = (run(tmp_path / which, model, "sft", rows, trained_turns=which) for which in ("all", "last"))
    assert every["steps"][0]["loss"] != last["steps"][0]["loss"]


def test_one_json_document(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = training_file(tmp_path, "sft", model=str(model), max_steps=1)
    assert lastresort(monkeypatch, "train", str(path), "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == record(tmp_path / "out")
    assert printed["file"]["max_steps"] == 1
    assert [line["step"] for line in printed["steps"]] == [1]


def test_trackers_get_every_figure_of_every_step(tmp_path: Path) -> None:
    from accelerate.tracking import GeneralTracker

    class Kept(GeneralTracker):
        name, requires_logging_directory, tracker = "kept", False, None

        def __init__(self) -> None:
            super().__init__()
            self.settings: dict[str, Any] = {}
            self.lines: list[tuple[int, dict[str, float]]] = []
            self.ended = False

        def store_init_configuration(self, values: dict[str, Any]) -> None:
            self.settings = values

        def log(self, values: dict[str, float], step: int | None = None, **_: Any) -> None:
            self.lines.append((step or 0, values))

        def finish(self) -> None:
            self.ended = True

    kept = Kept()
    trackers = Trackers([kept], tmp_path, {"epochs": 2, "adapter": {"r": 4}, "max_steps": None})
    trackers.log({"loss": 1.5}, 1)
    trackers.log({"loss": 1.25}, 2)
    trackers.close()
    assert kept.settings == {"epochs": 2, "adapter": '{"r": 4}'}
    assert kept.lines == [(1, {"loss": 1.5}), (2, {"loss": 1.25})]
    assert kept.ended
