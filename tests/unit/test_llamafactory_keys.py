"""Keys of a LLaMA-Factory file: honoured with their defaults and meanings, refused, or named."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from lastresort.errors import TaskError
from lastresort.interop.llamafactory.keys import FILE
from lastresort.interop.llamafactory.rows import TEMPLATES
from llamafactory_support import ROWS, data_set, imported, remarks

FOR_PPO_ALONE = {"reward_model"}
PAIRS = [{"instruction": f"Q{n}", "chosen": "good", "rejected": "bad"} for n in range(4)]
PAIR_COLUMNS = {"prompt": "instruction", "chosen": "chosen", "rejected": "rejected"}


@pytest.fixture
def rows(tmp_path: Path) -> dict[str, Any]:
    return data_set(tmp_path)


@pytest.fixture
def pairs(tmp_path: Path) -> dict[str, Any]:
    return data_set(tmp_path, PAIRS, name="pairs", ranking=True, columns=PAIR_COLUMNS) | {"stage": "dpo"}


def test_the_defaults_are_theirs(tmp_path: Path, rows: dict[str, Any]) -> None:
    assert imported(tmp_path, rows).document == {
        "model": "nobody/nothing",
        "adapter": {"kind": "lora", "r": 8, "alpha": 16, "target": "all-linear", "dropout": 0.0},
        "precision": "auto",
        "objective": "sft",
        "learning_rate": 5e-5,
        "batch_size": 8,
        "schedule": "linear",
        "warmup": 0.0,
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "optimizer": "adamw",
        "checkpointing": True,
        "seed": 42,
        "max_tokens": 2048,
        "longer_rows": "truncate",
        "epochs": 3,
    }


@pytest.mark.parametrize(
    ("keys", "ours"),
    [
        ({"learning_rate": "1e-4"}, {"learning_rate": 1e-4}),
        ({"per_device_train_batch_size": 2, "gradient_accumulation_steps": 8}, {"batch_size": 16}),
        ({"num_train_epochs": 2.0}, {"epochs": 2}),
        ({"num_train_epochs": 1.5, "per_device_train_batch_size": 1}, {"epochs": 2, "max_steps": 6}),
        ({"max_steps": 10, "per_device_train_batch_size": 1}, {"epochs": 3, "max_steps": 10}),
        ({"lr_scheduler_type": "cosine", "warmup_ratio": 0.1}, {"schedule": "cosine", "warmup": 0.1}),
        ({"warmup_steps": 20, "warmup_ratio": 0.1}, {"warmup": 20}),
        ({"warmup_steps": 0.1}, {"warmup": 0.1}),
        ({"lr_scheduler_type": "constant_with_warmup", "warmup_steps": 5}, {"schedule": "constant", "warmup": 5}),
        ({"max_grad_norm": 0}, {"max_grad_norm": 1e9}),
        ({"loraplus_lr_ratio": 16.0}, {"loraplus_lr_ratio": 16}),
        ({"optim": "adamw_8bit"}, {"optimizer": "adamw"}),
        ({"optim": "adamw_8bit", "finetuning_type": "full"}, {"optimizer": "paged_adamw_8bit"}),
        ({"optim": "paged_adamw_8bit"}, {"optimizer": "paged_adamw_8bit"}),
        ({"disable_gradient_checkpointing": True}, {"checkpointing": False}),
        (
            {"seed": 7, "weight_decay": 0.1, "max_grad_norm": 0.5},
            {"seed": 7, "weight_decay": 0.1, "max_grad_norm": 0.5},
        ),
        ({"cutoff_len": 512}, {"max_tokens": 512}),
        ({"bf16": True}, {"precision": "bfloat16"}),
        ({"finetuning_type": "full", "bf16": True}, {"adapter": "full", "precision": "auto"}),
        ({"finetuning_type": "full", "pure_bf16": True}, {"precision": "bfloat16"}),
        ({"report_to": "tensorboard,wandb"}, {"track": ["tensorboard", "wandb"]}),
        ({"mask_history": True}, {"trained_turns": "last"}),
        ({"enable_thinking": False}, {"chat_template_kwargs": {"enable_thinking": False}}),
        ({"quantization_bit": 4, "bf16": True}, {"precision": "auto"}),
    ],
)
def test_keys_that_decide_are_honoured(
    tmp_path: Path, rows: dict[str, Any], keys: dict[str, Any], ours: dict[str, Any]
) -> None:
    document = imported(tmp_path, rows, keys).document
    assert {key: document.get(key) for key in ours} == ours


@pytest.mark.parametrize(
    ("keys", "ours"),
    [
        ({"lora_rank": 4}, {"kind": "lora", "r": 4, "alpha": 8}),
        ({"lora_rank": 4, "lora_alpha": 4, "lora_dropout": 0.1}, {"r": 4, "alpha": 4, "dropout": 0.1}),
        ({"lora_target": "q_proj, v_proj"}, {"target": ["q_proj", "v_proj"]}),
        ({"use_rslora": True}, {"kind": "rslora", "alpha": 16}),
        ({"use_dora": True}, {"kind": "dora", "alpha": 16}),
        ({"use_dora": True, "use_rslora": True}, {"kind": "dora", "alpha": 16 * math.sqrt(8)}),
        ({"quantization_bit": 4}, {"kind": "qlora", "alpha": 16}),
    ],
)
def test_adapters(tmp_path: Path, rows: dict[str, Any], keys: dict[str, Any], ours: dict[str, Any]) -> None:
    adapter = imported(tmp_path, rows, keys).document["adapter"]
    assert {key: adapter[key] for key in ours} == ours


@pytest.mark.parametrize(
    ("keys", "objective"),
    [
        ({}, {"dpo": {"beta": 0.1, "label_smoothing": 0.0}}),
        ({"pref_beta": 0.3, "dpo_label_smoothing": 0.2}, {"dpo": {"beta": 0.3, "label_smoothing": 0.2}}),
        ({"pref_loss": "ipo"}, {"ipo": {"beta": 0.1, "per_token": True}}),
        ({"pref_loss": "hinge"}, {"hinge": {"beta": 0.1}}),
        ({"pref_loss": "orpo", "pref_beta": 0.2}, {"orpo": {"weight": 0.2}}),
        ({"pref_loss": "simpo", "pref_beta": 2, "simpo_gamma": 1.2}, {"simpo": {"beta": 2.0, "gamma": 1.2}}),
    ],
)
def test_losses_of_pairs(tmp_path: Path, pairs: dict[str, Any], keys: dict[str, Any], objective: Any) -> None:
    assert imported(tmp_path, pairs, keys).document["objective"] == objective


def test_labels_have_their_weights(tmp_path: Path) -> None:
    labelled = [row | {"good": number % 2 == 0} for number, row in enumerate(ROWS)]
    columns = {"prompt": "instruction", "response": "output", "kto_tag": "good"}
    keys = data_set(tmp_path, labelled, columns=columns) | {"stage": "kto", "gradient_accumulation_steps": 2}
    found = imported(tmp_path, keys, kto_chosen_weight=1.5, kto_rejected_weight=0.5)
    assert found.document["objective"] == {"kto": {"beta": 0.1, "desirable_weight": 1.5, "undesirable_weight": 0.5}}
    assert "baseline" in remarks(found, "differs")["gradient_accumulation_steps"]


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"stage": "ppo"}, "objective: grpo and reward"),
        ({"stage": "rm"}, "Write stage: dpo"),
        ({"stage": "sftt"}, "expected sft, pt, dpo, kto, ppo or rm"),
        ({"finetuning_type": "freeze"}, "expected lora or full"),
        ({"finetuning_type": "oft"}, "expected lora or full"),
        ({"finetuning_type": "qlora"}, "Write finetuning_type: lora and quantization_bit: 4."),
        ({"finetuning_type": "lore"}, "expected lora or full. Write lora"),
        ({"quantization_bit": 8}, "expected 4 by bitsandbytes"),
        ({"quantization_bit": 4, "quantization_method": "hqq"}, "4 bits by hqq"),
        ({"quantization_bit": 4, "use_dora": True}, "since DoRA needs an unquantised base here"),
        ({"optim": "lion"}, 'found "lion"'),
        ({"lr_scheduler_type": "inverse_sqrt"}, "expected linear, cosine"),
        ({"learning_rate": "fast"}, 'key "learning_rate": found text ("fast")'),
        ({"learning_rte": 1e-4}, 'Write "learning_rate", or remove the key.'),
        ({"use_galore": True}, "expected AdamW"),
        ({"loraplus_lr_ratio": 4, "finetuning_type": "full"}, "beside a training of all weights"),
        ({"loraplus_lr_ration": 16}, 'Write "loraplus_lr_ratio"'),
        ({"neftune_noise_alpha": 5}, "expected embeddings without noise"),
        ({"do_train": False}, "this command trains"),
        ({"train_on_prompt": True, "mask_history": True}, "found it beside mask_history"),
        ({"stage": "pt", "mask_history": True}, "found it beside stage: pt"),
        ({"val_size": 0.1, "eval_dataset": "mine"}, "found 0.1 beside eval_dataset"),
        ({"eval_strategy": "steps"}, "found steps without rows to evaluate"),
        ({"stage": "pt", "num_train_epochs": 1.5}, "or max_steps"),
        ({"adapter_name_or_path": "a,b"}, "found 2 adapters"),
        ({"model_name_or_path": None}, "Write a folder or a hub id"),
        ({"dataset": None}, "Write dataset: NAME"),
        ({"bf16": "perhaps"}, "expected true or false"),
    ],
)
def test_what_cannot_be_honoured_is_refused(
    tmp_path: Path, rows: dict[str, Any], keys: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(TaskError) as refused:
        imported(tmp_path, rows, keys)
    assert sentence in str(refused.value)


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"pref_loss": "kto_pair"}, "The nearest is stage: kto"),
        ({"pref_ftx": 0.5}, "no likelihood of the chosen answer"),
        ({"pref_bco_weight": 1.0}, "no BCO term"),
        ({"ld_alpha": 0.5}, "are not weighted"),
        ({"pref_loss": "ipo", "dpo_label_smoothing": 0.1}, "only with pref_loss: sigmoid"),
        ({"ref_model": "other/model"}, "the reference is the model as it starts"),
    ],
)
def test_other_preference_losses_are_refused(
    tmp_path: Path, pairs: dict[str, Any], keys: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(TaskError) as refused:
        imported(tmp_path, pairs, keys)
    assert sentence in str(refused.value)


def test_keys_that_are_not_honoured_are_named_one_group_or_one_key_at_a_time(
    tmp_path: Path, rows: dict[str, Any]
) -> None:
    keys = {
        "early_stopping_steps": 3,
        "load_best_model_at_end": True,
        "adam_beta2": 0.95,
        "vllm_maxlen": 4096,
        "pref_beta": 0.5,
        "of_the_future": 1,
    }
    named = remarks(imported(tmp_path, rows, keys), "ignored")
    assert set(named) == {
        "early_stopping_steps, load_best_model_at_end", "adam_beta2", "vllm_maxlen", "pref_beta",
        "of_the_future",
    }  # fmt: skip
    assert all(" ignored: " in sentence for sentence in named.values())


def test_keys_of_no_result_are_named_together(tmp_path: Path, rows: dict[str, Any]) -> None:
    keys = {
        "logging_steps": 10,
        "plot_loss": True,
        "save_steps": 500,
        "deepspeed": "ds.json",
        "flash_attn": "fa2",
        "kt_x": 1,
    }
    found = imported(tmp_path, rows, keys)
    assert remarks(found, "ignored") == {}
    assert remarks(found, "differs")["logging_steps, plot_loss, save_steps, deepspeed, flash_attn, kt_x"].startswith(
        "logging_steps, plot_loss, save_steps, deepspeed, flash_attn and kt_x do not change the result"
    )


def test_a_tracker_that_is_not_here_is_named_with_those_that_are(tmp_path: Path, rows: dict[str, Any]) -> None:
    found = imported(tmp_path, rows, report_to="wandbb,mlflow")
    assert found.document["track"] == ["mlflow"]
    assert remarks(found, "ignored")["report_to"] == (
        "report_to is ignored for wandbb: nothing is written there. Trackers here: tensorboard, wandb, mlflow and trackio."
    )


def test_what_is_switched_off_is_not_named(tmp_path: Path, rows: dict[str, Any]) -> None:
    keys = {"use_unsloth": False, "flash_attn": "auto", "resume_from_checkpoint": None, "report_to": "none",
            "ddp_timeout": 1800, "use_galore": False}  # fmt: skip
    found = imported(tmp_path, rows, keys)
    assert {remark.key for remark in found.remarks} == {"cutoff_len", "template"}


@pytest.mark.parametrize(
    ("keys", "key", "sentence"),
    [
        ({"do_train": None}, "do_train", "LLaMA-Factory trains nothing"),
        ({"val_size": 0.25}, "val_size", "never evaluates held-out rows"),
        ({"template": "gemma4"}, "template", "template: gemma4 is not known here. Rows"),
        ({"template": "lama3"}, "template", "template: lama3 is not known here; did you mean llama3? Rows"),
        (
            {"template": "qwen3"},
            "template",
            "Answers without a thought get an empty <think></think>, which is trained",
        ),
        ({"template": "qwen3", "enable_thinking": False}, "enable_thinking", "as part of the prompt"),
        ({"gradient_checkpointing": False}, "gradient_checkpointing", "has no effect"),
        ({"lr_scheduler_type": "constant", "warmup_steps": 9}, "warmup_steps", "has no warm-up"),
    ],
)
def test_traps_are_said(tmp_path: Path, rows: dict[str, Any], keys: dict[str, Any], key: str, sentence: str) -> None:
    assert sentence in remarks(imported(tmp_path, rows, keys), "trap")[key]


def test_steps_that_win_over_epochs_are_said(tmp_path: Path, rows: dict[str, Any]) -> None:
    said = remarks(imported(tmp_path, rows, {"max_steps": 3, "num_train_epochs": 1}), "differs")
    assert "max_steps: 3 ends the training" in said["num_train_epochs"]
    assert "num_train_epochs" not in remarks(imported(tmp_path, rows, {"max_steps": 3}), "differs")


def test_no_code_of_a_model_is_run(tmp_path: Path, rows: dict[str, Any]) -> None:
    found = imported(tmp_path, rows, trust_remote_code=True)
    assert "refused when it is loaded" in remarks(found, "differs")["trust_remote_code"]
    assert remarks(found, "ignored") == {}


def test_rows_that_may_be_longer_are_no_trap_yet(tmp_path: Path, rows: dict[str, Any]) -> None:
    found = imported(tmp_path, rows)
    assert "Rows longer than 2048 tokens are cut" in remarks(found, "differs")["cutoff_len"]
    assert "cutoff_len" not in remarks(found, "trap")


def test_no_output_is_overwritten(tmp_path: Path, rows: dict[str, Any]) -> None:
    named = remarks(imported(tmp_path, rows, overwrite_output_dir=True, logging_steps=10), "differs")
    assert "a second run needs another output_dir or --resume" in named["overwrite_output_dir"]
    assert "overwrite_output_dir" not in remarks(imported(tmp_path, rows, overwrite_output_dir=False), "differs")


def test_dropout_is_off_where_preferences_are_trained(tmp_path: Path, pairs: dict[str, Any]) -> None:
    found = imported(tmp_path, pairs, lora_dropout=0.1)
    assert found.document["adapter"]["dropout"] == 0.0
    assert "every dropout is off with stage: dpo" in remarks(found, "trap")["lora_dropout"]


def test_an_adapter_is_trained_further_with_another_reference(tmp_path: Path, pairs: dict[str, Any]) -> None:
    (tmp_path / "sft").mkdir()
    found = imported(tmp_path, pairs, adapter_name_or_path="sft", lora_rank=16)
    assert found.document["start_from"] == str(tmp_path / "sft")
    assert "adapter" not in found.document
    assert "the base without any adapter" in remarks(found, "differs")["adapter_name_or_path"]
    assert "keeps its own" in remarks(found, "ignored")["lora_rank"]


def test_an_adapter_on_a_base_in_4_bits_says_so_itself(tmp_path: Path, rows: dict[str, Any]) -> None:
    (tmp_path / "sft").mkdir()
    keys = {"adapter_name_or_path": "sft", "quantization_bit": 4}
    assert "16 bits" in remarks(imported(tmp_path, rows, **keys), "ignored")["quantization_bit"]
    (tmp_path / "sft" / "trained_on.json").write_text('{"quantize": "nf4", "dtype": "bfloat16"}')
    assert "quantization_bit" not in remarks(imported(tmp_path, rows, **keys), "ignored")


def test_the_adapter_that_is_trained_further_may_be_named_as_the_reference(
    tmp_path: Path, pairs: dict[str, Any]
) -> None:
    (tmp_path / "sft").mkdir()
    same = {"adapter_name_or_path": "sft", "ref_model": "nobody/nothing", "ref_model_adapters": "sft"}
    found = imported(tmp_path, pairs, **same)
    assert found.document["start_from"] == str(tmp_path / "sft")
    assert "adapter_name_or_path" not in remarks(found, "differs")


@pytest.mark.parametrize(("loss", "told"), [("ipo", True), ("hinge", True), ("sigmoid", False), ("simpo", False)])
def test_losses_that_newer_trl_computes_as_sigmoid_there_are_a_trap(
    loss: str, told: bool, tmp_path: Path, pairs: dict[str, Any]
) -> None:
    assert ("pref_loss" in remarks(imported(tmp_path, pairs, pref_loss=loss), "trap")) == told


def test_the_share_that_is_held_out(tmp_path: Path, rows: dict[str, Any]) -> None:
    assert imported(tmp_path, rows, val_size=0.25).eval_share == 0.25
    assert imported(tmp_path, rows, val_size=2.0).eval_share == 2
    assert imported(tmp_path, rows).eval_share is None
    found = imported(tmp_path, rows, val_size=0.25, eval_strategy="epoch")
    assert "val_size" not in remarks(found, "trap")


def test_the_page_names_what_is_refused_and_which_templates_are_written_out() -> None:
    page = (Path(__file__).parents[2] / "docs" / "neighbours.md").read_text(encoding="utf-8")
    section = page.partition("## LLaMA-Factory")[2]
    assert [key for key in FILE.refused if f"`{key}`" not in section and key not in FOR_PPO_ALONE] == []
    assert [name for name in TEMPLATES if f"`{name}`" not in section] == []
