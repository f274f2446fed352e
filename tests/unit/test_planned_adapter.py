"""The memory of a training is forecast for the adapter that is trained, also where that was there before it."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM

from adapters_support import tuned
from export_support import saved_adapter
from lastresort.engine.forest import Row
from lastresort.spec.training import load_training
from lastresort.train.adapters.adapters import ranks_of
from lastresort.train.files.memory import plan_of_loaded, with_ranks
from lastresort.train.files.model import name_model, room_of
from lastresort.train.groups.groups import SampledGroups
from lastresort.train.loop.batches import completions, replayed
from lastresort.train.settings import AdapterSettings, GroupSettings, Objective, TrainSettings
from tiny_model import save_tiny_model
from train_support import training_file

ITEMS = completions([Row((3, 4, 5), (False, False, True))])
DEFAULT = AdapterSettings()


def test_the_largest_rank_counts_and_one_layer_outside_attention_makes_all_linear() -> None:
    attention, inner = "model.layers.0.self_attn.q_proj", "model.layers.0.mlp.up_proj"
    assert with_ranks(DEFAULT, {}) == DEFAULT
    assert with_ranks(AdapterSettings(target="all-linear"), {attention: 5}) == AdapterSettings(r=5, target="attention")
    assert with_ranks(DEFAULT, {attention: 5, inner: 7}) == AdapterSettings(r=7, target="all-linear")


@pytest.mark.parametrize("target", ["attention", "all-linear"])
def test_of_a_model_in_memory(target: str, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(save_tiny_model(tmp_path / "model"))
    adapted = tuned(model, target=target)
    assert set(ranks_of(adapted).values()) == {4}
    planned = plan_of_loaded(adapted, TrainSettings(1e-3), ITEMS)
    assert (planned.setup.r, planned.setup.target) == (4, target)


def test_of_a_model_all_of_whose_weights_are_trained(tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(save_tiny_model(tmp_path / "model"))
    settings = TrainSettings(1e-3, adapter=AdapterSettings("none"))
    assert ranks_of(model) == {}
    assert plan_of_loaded(model, settings, ITEMS).setup.method == "full"


def test_of_items_that_are_held_to_the_base(tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(save_tiny_model(tmp_path / "model"))
    general = [row for item in ITEMS for row in item.rows]
    for held, loss in ((True, "kl"), (False, "likelihood")):
        items = [*ITEMS, *replayed(general, held=held)]
        assert plan_of_loaded(model, TrainSettings(1e-3), items).setup.replay_loss == loss


def test_of_groups_that_a_penalty_holds_to_the_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(save_tiny_model(tmp_path / "model"))
    source = object.__new__(SampledGroups)
    source._settings, source._sampler, source._prompts = GroupSettings(), object(), ()
    monkeypatch.setattr(SampledGroups, "longest_tokens", 64)
    for weight in (0.0, 0.1):
        objective = Objective("grpo", (("kl_weight", weight),))
        settings = TrainSettings(1e-3, adapter=AdapterSettings("none"), objective=objective)
        assert plan_of_loaded(model, settings, source).setup.keeps_start == (weight > 0)


def test_of_a_file_that_goes_on_from_an_adapter(tmp_path: Path) -> None:
    file = load_training(training_file(tmp_path, "dpo", adapter=None, start_from=str(saved_adapter(tmp_path))))
    setup = room_of(file, name_model(file), ITEMS).planned.setup
    assert (setup.method, setup.r, setup.target) == ("lora", 4, "all-linear")
