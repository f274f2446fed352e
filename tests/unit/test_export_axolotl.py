"""Trainings written for Axolotl: what each key says, and the rows in the shapes of its types."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from export_support import configuration, conversation, exported, grouped, rows_in, saved_adapter
from lastresort.errors import DataError, InputError
from train_support import pairs


def config_of(folder: Path, objective: str = "sft", rows: list[Any] | None = None, **keys: Any) -> dict[str, Any]:
    return configuration(exported(folder, "axolotl", objective, rows, **keys), "axolotl.yaml")


def test_the_course_of_a_training_is_said_key_by_key(tmp_path: Path) -> None:
    found = config_of(
        tmp_path, learning_rate=2e-4, epochs=3, batch_size=6, schedule="constant", warmup=0.1, weight_decay=0.02,
        max_grad_norm=0.5, seed=7, checkpointing=True, max_tokens=512, longer_rows="drop", max_steps=4, track=["wandb"],
        data={"train": "rows.jsonl", "eval": 0.25},
    )  # fmt: skip
    said = {key: found[key] for key in (
        "base_model", "learning_rate", "num_epochs", "micro_batch_size", "gradient_accumulation_steps", "lr_scheduler",
        "warmup_ratio", "weight_decay", "max_grad_norm", "seed", "gradient_checkpointing", "sequence_len",
        "excess_length_strategy", "max_steps", "optimizer", "eval_strategy", "use_wandb", "bf16",
    )}  # fmt: skip
    assert said == {
        "base_model": "../model",
        "learning_rate": 2e-4,
        "num_epochs": 3,
        "micro_batch_size": 3,
        "gradient_accumulation_steps": 2,
        "lr_scheduler": "constant_with_warmup",
        "warmup_ratio": 0.1,
        "weight_decay": 0.02,
        "max_grad_norm": 0.5,
        "seed": 7,
        "gradient_checkpointing": True,
        "sequence_len": 512,
        "excess_length_strategy": "drop",
        "max_steps": 4,
        "optimizer": "adamw_torch_fused",
        "eval_strategy": "epoch",
        "use_wandb": True,
        "bf16": False,
    }


@pytest.mark.parametrize(
    ("adapter", "said"),
    [
        (
            {"r": 8, "alpha": 12, "target": ["q_proj"], "dropout": 0.1},
            {"adapter": "lora", "lora_r": 8, "lora_alpha": 12},
        ),
        ("rslora", {"adapter": "lora", "peft_use_rslora": True, "lora_alpha": 32}),
        ("dora", {"adapter": "lora", "peft_use_dora": True}),
        ("qlora", {"adapter": "qlora", "load_in_4bit": True}),
        ({"target": "all-linear"}, {"lora_target_linear": True}),
        ("full", {}),
    ],
)
def test_the_adapter(adapter: Any, said: dict[str, Any], tmp_path: Path) -> None:
    found = config_of(tmp_path, adapter=adapter, precision=None)
    assert {key: found.get(key) for key in said} == said
    assert ("adapter" in found) == (adapter != "full")
    assert ("load_in_4bit" in found) == (adapter == "qlora")
    if adapter == "full":
        assert found["bf16"] is False  # all weights are trained in float32 here
    elif isinstance(adapter, str):
        assert found["lora_target_modules"] == ["q_proj", "k_proj", "v_proj", "o_proj"]
        assert found["bf16"] == "auto"


@pytest.mark.parametrize(
    ("objective", "said"),
    [
        ({"dpo": {"beta": 0.3, "label_smoothing": 0.1}}, {"rl": "dpo", "rl_beta": 0.3, "dpo_label_smoothing": 0.1}),
        ("ipo", {"rl": "dpo", "rl_beta": 0.1, "dpo_loss_type": ["ipo"]}),
        ({"hinge": {"beta": 0.2}}, {"rl": "dpo", "rl_beta": 0.2, "dpo_loss_type": ["hinge"]}),
        ("apo_zero", {"rl": "dpo", "dpo_loss_type": ["apo_zero"]}),
        ("simpo", {"rl": "simpo", "rl_beta": 2.0, "simpo_gamma": 1.0, "cpo_alpha": 0.0}),
        ({"orpo": {"weight": 0.2}}, {"rl": "orpo", "orpo_alpha": 0.2}),
    ],
)
def test_the_losses_on_pairs(objective: Any, said: dict[str, Any], tmp_path: Path) -> None:
    found = config_of(tmp_path, objective, pairs())
    assert {key: found.get(key) for key in said} == said
    assert ("dpo_loss_type" in found) == ("dpo_loss_type" in said)


def test_simpo_counts_its_warm_up_since_it_refuses_a_share(tmp_path: Path) -> None:
    found = config_of(tmp_path, "simpo", warmup=0.25)
    assert found["warmup_steps"] == round(0.25 * 6)  # 12 pairs, 4 a step, 2 epochs
    assert "warmup_ratio" not in found


def test_pairs_are_a_prompt_and_two_turns(tmp_path: Path) -> None:
    found = exported(tmp_path, "axolotl", "dpo")
    assert rows_in(found)[0] == {
        "prompt": [{"role": "user", "content": "Name animal 0 of 12."}],
        "chosen": {"role": "assistant", "content": "ape!"},
        "rejected": {"role": "assistant", "content": "not ape"},
    }
    [entry] = configuration(found, "axolotl.yaml")["datasets"]
    assert (entry["type"], entry["field_messages"]) == ("chat_template.default", "prompt")


def test_orpo_wants_whole_conversations_with_the_system_beside(tmp_path: Path) -> None:
    talk = conversation("system:Be brief.", "Hello?", "Yes.", "Who?")["messages"]
    row = {"prompt": talk, "chosen": "Me.", "rejected": "It is I."}
    found = exported(tmp_path, "axolotl", "orpo", [row])
    [written] = rows_in(found)
    assert written["system"] == "Be brief."
    assert [turn["content"] for turn in written["chosen"]] == ["Hello?", "Yes.", "Who?", "Me."]
    assert written["rejected"][-1] == {"role": "assistant", "content": "It is I."}


def test_orpo_refuses_turns_that_its_type_would_drop(tmp_path: Path) -> None:
    row = {
        "prompt": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}],
        "chosen": "c",
        "rejected": "d",
    }
    with pytest.raises(DataError, match=r"row 1 of those to export.*turns of user, user"):
        exported(tmp_path, "axolotl", "orpo", [row])


def test_kto_is_rendered_by_the_models_own_template(tmp_path: Path) -> None:
    """Its own types for KTO hard-code ChatML or Llama 3, whatever the model is."""
    found = exported(tmp_path, "axolotl", {"kto": {"desirable_weight": 1.5}}, _labelled())
    config = configuration(found, "axolotl.yaml")
    assert rows_in(found)[0] == {
        "prompt": "<|im_start|>user\nOne?<|im_end|>\n<|im_start|>assistant\n",
        "completion": "Yes.<|im_end|>",
        "label": True,
    }
    assert config["datasets"][0]["type"] == {
        "field_prompt": "prompt",
        "field_completion": "completion",
        "field_label": "label",
    }
    assert (config["rl"], config["kto_desirable_weight"], config["kto_undesirable_weight"]) == ("kto", 1.5, 1.0)
    assert (config["micro_batch_size"], config["gradient_accumulation_steps"]) == (4, 1)  # the baseline is of one pass
    assert config["remove_unused_columns"] is False


def _labelled() -> list[dict[str, Any]]:
    return [
        {"prompt": "One?", "completion": "Yes.", "label": True},
        {"prompt": "Two?", "completion": "No.", "label": False},
        {"prompt": "Three?", "completion": "No.", "label": False},
    ]


def test_the_last_turn_alone_is_trained_by_a_mark_on_each(tmp_path: Path) -> None:
    found = exported(tmp_path, "axolotl", "sft", [conversation("a", "b", "c", "d")], trained_turns="last")
    [row] = rows_in(found)
    assert [turn["training"] for turn in row["messages"]] == [False, False, False, True]
    [entry] = configuration(found, "axolotl.yaml")["datasets"]
    assert (entry["message_field_training"], entry["roles_to_train"]) == ("training", [])


def test_segments_keep_what_is_trained_and_end_the_text(tmp_path: Path) -> None:
    row = {"segments": [{"text": "Q: a\nA:"}, {"text": " b", "train": True, "end": True}]}
    found = exported(tmp_path, "axolotl", "sft", [row])
    assert rows_in(found) == [
        {"segments": [{"label": False, "text": "Q: a\nA:"}, {"label": True, "text": " b<|im_end|>"}]}
    ]
    assert configuration(found, "axolotl.yaml")["datasets"][0]["type"] == "input_output"


@pytest.mark.parametrize("to", ["axolotl", "trl"])
def test_answers_that_do_not_end_the_text_are_ended_there(to: str, tmp_path: Path) -> None:
    def ends(name: str, **end: bool) -> bool:
        sides = {"chosen_segments": [{"text": " b", **end}], "rejected_segments": [{"text": " c", "end": True}]}
        found = exported(tmp_path / name, to, "dpo", [{"segments": [{"text": "Q: a\nA:"}], **sides}])
        return any("an end token is trained after all of them there" in note for note in found.notes)

    assert ends("open")
    assert not ends("ended", end=True)


@pytest.mark.parametrize(("objective", "scaled"), [("grpo", "group"), ("dr_grpo", "none"), ("dapo", "group")])
def test_groups_with_their_rewards(objective: str, scaled: str, tmp_path: Path) -> None:
    found = grouped(tmp_path, "axolotl", objective)
    config = configuration(found, "axolotl.yaml")
    trl = config["trl"]
    assert (config["rl"], trl["loss_type"], trl["scale_rewards"]) == ("grpo", objective, scaled)
    assert trl["epsilon_high"] == (0.28 if objective == "dapo" else 0.2)
    assert (config["micro_batch_size"], config["gradient_accumulation_steps"], trl["num_generations"]) == (4, 2, 4)
    assert (trl["reward_funcs"], trl["reward_weights"]) == (["rewards.python_1", "rewards.exact_2"], [0.5, 1.0])
    assert rows_in(found)[0] == {
        "expected": "ape", "prompt": [{"role": "user", "content": "Say ape."}], "hint": "a"
    }  # fmt: skip


def test_going_on_from_an_adapter(tmp_path: Path) -> None:
    found = exported(tmp_path, "axolotl", "orpo", adapter=None, start_from=str(saved_adapter(tmp_path)))
    config = configuration(found, "axolotl.yaml")
    assert (config["lora_model_dir"], config["lora_r"], config["lora_alpha"]) == ("start", 4, 8)
    assert (found.folder / "start" / "adapter_config.json").is_file()


def test_it_would_train_a_fresh_adapter_with_a_reference(tmp_path: Path) -> None:
    """In 0.19.0 `lora_model_dir` is not looked at where `rl` is dpo or kto."""
    with pytest.raises(InputError, match="Axolotl has no counterpart of start_from beside dpo"):
        exported(tmp_path, "axolotl", "dpo", adapter=None, start_from=str(saved_adapter(tmp_path)))


def test_an_alpha_that_is_no_whole_number_has_no_counterpart(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"Axolotl has no counterpart of alpha: 1\.5"):
        exported(tmp_path, "axolotl", adapter={"r": 4, "alpha": 1.5})


def test_what_differs_is_named_in_the_file(tmp_path: Path) -> None:
    found = exported(tmp_path, "axolotl", "ipo")
    text = (found.folder / "axolotl.yaml").read_text(encoding="utf-8")
    assert any(note.startswith("ipo: it divides") for note in found.notes)
    assert "# - ipo: it divides" in text
    per_token = exported(tmp_path / "b", "axolotl", {"ipo": {"per_token": True}}, pairs())
    assert not any(note.startswith("ipo") for note in per_token.notes)


@pytest.mark.parametrize(("ratio", "decay"), [(1, 0.1), (4, 0.0), (4, 0.1)])
def test_a_decay_beside_lora_plus_is_named(ratio: float, decay: float, tmp_path: Path) -> None:
    found = exported(tmp_path, "axolotl", loraplus_lr_ratio=ratio, weight_decay=decay)
    assert configuration(found, "axolotl.yaml").get("loraplus_lr_ratio", 1) == ratio
    assert any("issue 4010" in note for note in found.notes) is (ratio != 1 and decay > 0)
