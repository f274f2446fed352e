"""Axolotl's keys: what each becomes, what is said of those that are not honoured, and what cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from axolotl_support import LEAST, config, imported, told
from lastresort.app.train import train
from lastresort.errors import TaskError
from lastresort.interop.axolotl.keys import FILE, TRL
from lastresort.interop.reading import framework_of, read
from lastresort.types import SILENT

LORA: dict[str, Any] = {"adapter": "lora", "lora_r": 8, "lora_alpha": 16, "lora_target_linear": True}


def document(folder: Path, **keys: Any) -> dict[str, Any]:
    return imported(folder, **keys).document


def test_the_defaults_are_those_of_the_other_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert document(tmp_path) == {
        "model": "./model",
        "objective": "sft",
        "adapter": "full",
        "learning_rate": 1e-4,
        "epochs": 1,
        "schedule": "cosine",
        "warmup": 0.03,
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "optimizer": "adamw",
        "checkpointing": False,
        "seed": 42,
        "precision": "auto",
        "batch_size": 1,
        "max_tokens": 512,
        "longer_rows": "drop",
        "output": str(tmp_path / "model-out"),
    }


COURSE: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "batch": ({"micro_batch_size": 3, "gradient_accumulation_steps": 4}, {"batch_size": 12}),
    "whole batch": ({"micro_batch_size": 4, "batch_size": 12}, {"batch_size": 12}),
    "epochs": ({"num_epochs": 4.0}, {"epochs": 4}),
    "part of an epoch": ({"num_epochs": 0.5}, {"epochs": 1}),
    "steps win": ({"max_steps": 200, "num_epochs": 3}, {"max_steps": 200, "epochs": 200, "warmup": 6}),
    "no steps": ({"max_steps": -1}, {"warmup": 0.03}),
    "rate as text": ({"learning_rate": "5e-5"}, {"learning_rate": 5e-5}),
    "warm-up as a count": ({"warmup_steps": 10}, {"warmup": 10}),
    "one step becomes two": ({"warmup_steps": 1}, {"warmup": 2}),
    "less than a step is a share": ({"warmup_steps": 0.1}, {"warmup": 0.1}),
    "no warm-up": ({"warmup_steps": 0}, {"warmup": 0.0}),
    "warm-up as a share": ({"warmup_ratio": 0.1}, {"warmup": 0.1}),
    "constant has no warm-up": (
        {"lr_scheduler": "constant", "warmup_steps": 5},
        {"schedule": "constant", "warmup": 0.0},
    ),
    "constant with one": (
        {"lr_scheduler": "constant_with_warmup", "warmup_steps": 5},
        {"schedule": "constant", "warmup": 5},
    ),
    "linear": ({"lr_scheduler": "linear"}, {"schedule": "linear"}),
    "decay and norm": ({"weight_decay": 0.1, "max_grad_norm": 0.3}, {"weight_decay": 0.1, "max_grad_norm": 0.3}),
    "no clipping": ({"max_grad_norm": 0}, {"max_grad_norm": 1e9}),
    "LoRA+": ({**LORA, "loraplus_lr_ratio": 16}, {"loraplus_lr_ratio": 16}),
    "8 bits, all weights": ({"optimizer": "adamw_bnb_8bit"}, {"optimizer": "paged_adamw_8bit"}),
    "8 bits, an adapter": ({**LORA, "optimizer": "adamw_bnb_8bit"}, {"optimizer": "adamw"}),
    "paged": ({**LORA, "optimizer": "paged_adamw_8bit"}, {"optimizer": "paged_adamw_8bit"}),
    "checkpointing": ({"gradient_checkpointing": True}, {"checkpointing": True}),
    "offloaded": ({"gradient_checkpointing": "offload"}, {"checkpointing": True}),
    "bf16": ({"bf16": True}, {"precision": "bfloat16"}),
    "bf16 auto": ({"bf16": "auto"}, {"precision": "auto"}),
    "float32": ({"bf16": False}, {"precision": "float32"}),
    "seed": ({"seed": 7}, {"seed": 7}),
    "length": (
        {"sequence_len": 2048, "excess_length_strategy": "raise"},
        {"max_tokens": 2048, "longer_rows": "refuse"},
    ),
    "cut": ({"excess_length_strategy": "truncate"}, {"longer_rows": "truncate"}),
    "trackers": ({"use_wandb": True, "use_tensorboard": True}, {"track": ["wandb", "tensorboard"]}),
    "template": (
        {"chat_template_kwargs": {"enable_thinking": False}},
        {"chat_template_kwargs": {"enable_thinking": False}},
    ),
}


@pytest.mark.parametrize("name", COURSE)
def test_the_course_of_a_training(name: str, tmp_path: Path) -> None:
    keys, expected = COURSE[name]
    found = document(tmp_path, **keys)
    assert {key: found[key] for key in expected} == expected


ADAPTERS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "lora": (LORA, {"kind": "lora", "r": 8, "alpha": 16, "target": "all-linear", "dropout": 0.0}),
    "names": ({**LORA, "lora_target_linear": None, "lora_target_modules": ["q_proj"]}, {"target": ["q_proj"]}),
    "a pattern": (
        {**LORA, "lora_target_linear": None, "lora_target_modules": r"model.layers.[\d]+.(mlp|self_attn).(up|q)_proj"},
        {"target": ["up_proj", "q_proj"]},
    ),
    "one name": ({**LORA, "lora_target_linear": None, "lora_target_modules": "q_proj"}, {"target": ["q_proj"]}),
    "dropout": ({**LORA, "lora_dropout": 0.05}, {"dropout": 0.05}),
    "dora": ({**LORA, "peft_use_dora": True}, {"kind": "dora"}),
    "rslora": ({**LORA, "peft_use_rslora": True}, {"kind": "rslora", "alpha": 16}),
    "qlora": ({**LORA, "adapter": "qlora", "load_in_4bit": True}, {"kind": "qlora", "alpha": 16}),
    "rslora in 4 bits": (
        {**LORA, "lora_r": 16, "adapter": "qlora", "load_in_4bit": True, "peft_use_rslora": True},
        {"kind": "qlora", "alpha": 64.0},
    ),
    "16 bits": ({**LORA, "load_in_4bit": True}, {"kind": "lora"}),
}


@pytest.mark.parametrize("name", ADAPTERS)
def test_adapters(name: str, tmp_path: Path) -> None:
    keys, expected = ADAPTERS[name]
    found = document(tmp_path, **keys)["adapter"]
    assert {key: found[key] for key in expected} == expected


def test_an_adapter_to_go_on_from(tmp_path: Path) -> None:
    (tmp_path / "adapter").mkdir()
    found = imported(tmp_path, **LORA, lora_model_dir=str(tmp_path / "adapter"), rl="dpo", kind="chatml")
    assert found.document["start_from"] == str(tmp_path / "adapter")
    assert "adapter" not in found.document
    [sentence] = told(found, "lora_model_dir", "trap")
    assert "trains a fresh adapter" in sentence
    compared = imported(
        tmp_path, **LORA, lora_model_dir=str(tmp_path / "adapter"), rl="orpo", kind="chat_template.argilla"
    )
    assert not told(compared, "lora_model_dir")


OBJECTIVES: dict[str, tuple[dict[str, Any], Any]] = {
    "dpo": ({"rl": "dpo"}, {"dpo": {"beta": 0.1}}),
    "rl_beta": ({"rl": "dpo", "rl_beta": 0.3, "orpo_alpha": 0.5}, {"dpo": {"beta": 0.3}}),
    "dpo_beta": ({"rl": "dpo", "dpo_beta": 0.2}, {"dpo": {"beta": 0.2}}),
    "trl.beta wins": ({"rl": "dpo", "trl": {"beta": 0.7}, "rl_beta": 0.3}, {"dpo": {"beta": 0.7}}),
    "smoothed": ({"rl": "dpo", "dpo_label_smoothing": 0.1}, {"dpo": {"beta": 0.1, "label_smoothing": 0.1}}),
    "ipo": ({"rl": "ipo", "rl_beta": 0.2}, {"ipo": {"beta": 0.2, "per_token": True}}),
    "ipo as a loss": ({"rl": "dpo", "dpo_loss_type": ["ipo"]}, {"ipo": {"beta": 0.1, "per_token": True}}),
    "hinge": ({"rl": "dpo", "dpo_loss_type": ["hinge"]}, {"hinge": {"beta": 0.1}}),
    "apo_zero": ({"rl": "dpo", "dpo_loss_type": ["apo_zero"]}, {"apo_zero": {"beta": 0.1}}),
    "simpo": ({"rl": "simpo", "simpo_gamma": 0.8, "rl_beta": 2.0}, {"simpo": {"beta": 2.0, "gamma": 0.8}}),
    "orpo": ({"rl": "orpo", "orpo_alpha": 0.2, "kind": None}, {"orpo": {"weight": 0.2}}),
    "kto": (
        {"rl": "kto", "remove_unused_columns": False, "kto_undesirable_weight": 0.5, "kind": "chatml.intel"},
        {"kto": {"beta": 0.1, "desirable_weight": 1.0, "undesirable_weight": 0.5}},
    ),
    "a weight of 0 is 1 there": (
        {"rl": "kto", "remove_unused_columns": False, "kto_desirable_weight": 0, "kind": "chatml.intel"},
        {"kto": {"beta": 0.1, "desirable_weight": 1.0, "undesirable_weight": 1.0}},
    ),
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_objectives(name: str, tmp_path: Path) -> None:
    keys, expected = OBJECTIVES[name]
    assert document(tmp_path, **{"kind": "chatml", **keys})["objective"] == expected


def grpo(folder: Path, **keys: Any) -> dict[str, Any]:
    (folder / "rewards.py").write_text(
        "def score(prompts, completions, **kwargs):\n    return [1.0 for _ in completions]\n"
    )
    trl = {"reward_funcs": ["rewards.score"], **keys.pop("trl", {})}
    return {
        "rl": "grpo",
        "kind": None,
        "rows": [{"prompt": "q", "answer": "a"}],
        "micro_batch_size": 16,
        "trl": trl,
        **keys,
    }


def test_groups(tmp_path: Path) -> None:
    trl = {"num_generations": 4, "max_completion_length": 64, "beta": 0.04, "temperature": 0.7, "epsilon_high": 0.28}
    found = imported(tmp_path, **grpo(tmp_path, trl={**trl, "loss_type": "grpo", "reward_weights": [2.0]}))
    assert found.document["objective"] == {"grpo": {"eps_low": 0.2, "eps_high": 0.28, "kl_weight": 0.04}}
    expected = {"group_size": 4, "batch_size": 4, "max_new_tokens": 64, "temperature": 0.7, "tries": 1}
    assert {key: found.document[key] for key in expected} == expected
    assert found.document["reward"] == [{"python": f"{tmp_path / 'rewards.py'}:score", "weight": 2.0}]
    assert next(found.train[0].rows())[1] == {"prompt": "q", "answer": "a"}
    assert "max_tokens" not in found.document
    assert told(found, "trl.reward_funcs", "trap")
    assert told(found, "datasets", "differs")


def test_bnpo_is_dapo_with_another_divisor(tmp_path: Path) -> None:
    found = imported(tmp_path, **grpo(tmp_path, trl={"loss_type": "bnpo"}))
    assert "dapo" in found.document["objective"]
    assert "tokens of the whole step" in told(found, "loss_type", "differs")[0]


def test_the_defaults_of_groups_are_trls(tmp_path: Path) -> None:
    found = document(tmp_path, **grpo(tmp_path))
    assert found["objective"] == {"dapo": {"eps_low": 0.2, "eps_high": 0.2, "kl_weight": 0.0}}
    assert (found["group_size"], found["batch_size"], found["max_new_tokens"]) == (8, 2, 512)


@pytest.mark.parametrize(
    ("keys", "weight"),
    [({"rl_beta": 0.04}, 0.04), ({"rl_beta": 0.04, "trl": {"beta": 0.01}}, 0.01), ({"rl_beta": 0}, 0.0)],
)
def test_the_kl_weight_of_groups_is_beta_by_any_of_its_names(
    keys: dict[str, Any], weight: float, tmp_path: Path
) -> None:
    found = imported(tmp_path, **grpo(tmp_path, **keys))
    assert found.document["objective"]["dapo"]["kl_weight"] == weight
    assert not told(found, "rl_beta")


@pytest.mark.parametrize(("sampled", "micro", "prompts"), [(64, 16, 2), (16, 16, 2), (32, 4, 4)])
def test_a_step_trains_what_a_step_trains_there(sampled: int, micro: int, prompts: int, tmp_path: Path) -> None:
    """Not what is sampled at once, unless a step there is no whole group of 8."""
    found = imported(tmp_path, **grpo(tmp_path, micro_batch_size=micro, trl={"generation_batch_size": sampled}))
    assert found.document["batch_size"] == prompts
    assert bool(told(found, "generation_batch_size", "differs")) is (sampled != micro)


@pytest.mark.parametrize(("rl", "dropout"), [("", 0.1), ("dpo", 0.0), ("simpo", 0.0)])
def test_dropout_is_off_where_trl_turns_it_off(rl: str, dropout: float, tmp_path: Path) -> None:
    keys = {"rl": rl, "kind": "chatml"} if rl else {}
    assert document(tmp_path, **LORA, lora_dropout=0.1, **keys)["adapter"]["dropout"] == dropout


def test_an_adapter_on_a_base_in_4_bits(tmp_path: Path) -> None:
    """Its base is in 4 bits here only where the adapter's own folder says so."""
    adapter, keys = tmp_path / "adapter", {**LORA, "adapter": "qlora", "load_in_4bit": True}
    adapter.mkdir()
    assert told(imported(tmp_path, **keys, lora_model_dir=str(adapter)), "load_in_4bit", "ignored")
    (adapter / "trained_on.json").write_text('{"quantize": "nf4", "dtype": "bfloat16"}')
    assert not told(imported(tmp_path, **keys, lora_model_dir=str(adapter)), "load_in_4bit")


def test_prompts_by_a_function_of_the_user(tmp_path: Path) -> None:
    (tmp_path / "data.py").write_text(
        "def transform(cfg, *args, **kwargs):\n"
        "    def one(example, tokenizer=None):\n"
        "        from beside_data import role\n"  # of the user's folder, imported only when rows are read
        "        return {'prompt': [{'role': role, 'content': example['question']}], 'seen': cfg['seed']}\n"
        "    return one, {'remove_columns': ['question']}\n"
    )
    (tmp_path / "beside_data.py").write_text("role = 'user'\n")
    keys = grpo(tmp_path, kind="data.transform", seed=5, rows=[{"question": "q", "answer": "a"}])
    row = next(imported(tmp_path, **keys).train[0].rows())[1]
    assert row == {"question": "q", "answer": "a", "prompt": [{"role": "user", "content": "q"}], "seen": 5}


def test_rows_that_are_held_out(tmp_path: Path) -> None:
    found = imported(tmp_path, val_set_size=0.1, evals_per_epoch=2)
    assert found.eval_share == 0.1
    assert not told(found, "val_set_size", "trap")
    assert told(found, "evals_per_epoch", "differs")
    assert imported(tmp_path, val_set_size=20).eval_share == 20
    assert imported(tmp_path, val_set_size=0.0).eval_share is None
    rows = {"path": str(tmp_path / "rows.jsonl"), "type": "alpaca", "split": "train"}
    tested = imported(tmp_path, test_datasets=[rows])
    assert [source.name for source in tested.held_out] == [str(tmp_path / "rows.jsonl")]


def test_plain_text(tmp_path: Path) -> None:
    found = imported(tmp_path, [{"text": "a"}], kind="completion", sequence_len=64)
    assert found.document["objective"] == "text"
    assert found.document["max_tokens"] == 64
    assert "longer_rows" not in found.document
    assert not told(found, "sequence_len")
    path = str(tmp_path / "rows.jsonl")
    pretraining = imported(
        tmp_path, datasets=None, pretraining_dataset=[{"path": path, "text_column": "text"}], max_steps=5
    )
    assert pretraining.document["objective"] == "text"
    assert next(pretraining.train[0].rows())[1] == {"text": "a"}


REMARKED: dict[str, tuple[dict[str, Any], str, str]] = {
    "unknown": ({"lora_rr": 8}, "lora_rr", "ignored"),
    "ignored": ({"neftune_noise_alpha": 5}, "neftune_noise_alpha", "ignored"),
    "tokens": ({"special_tokens": {"eos_token": "</s>"}}, "special_tokens", "ignored"),
    "modules to save": ({**LORA, "lora_modules_to_save": ["lm_head"]}, "lora_modules_to_save", "ignored"),
    "8 bits": ({**LORA, "load_in_8bit": True}, "load_in_8bit", "ignored"),
    "schedule": ({"lr_scheduler": "rex"}, "lr_scheduler", "ignored"),
    "half precision": ({"fp16": True, "bf16": False}, "fp16", "ignored"),
    "dora in 4 bits": (
        {**LORA, "adapter": "qlora", "load_in_4bit": True, "peft_use_dora": True},
        "peft_use_dora",
        "ignored",
    ),
    "order": ({"shuffle_merged_datasets": False}, "shuffle_merged_datasets", "ignored"),
    "beside the others": ({"rl_adapter_ref_model": True}, "rl_adapter_ref_model", "ignored"),
    "fast plugins": ({"plugins": ["axolotl.integrations.liger.LigerPlugin"]}, "plugins", "differs"),
    "other plugins": ({"plugins": ["axolotl.integrations.spectrum.SpectrumPlugin"]}, "plugins", "ignored"),
    "ends of turns": ({"eot_tokens": ["<|eot_id|>"]}, "eot_tokens", "differs"),
    "a template that renders nothing": ({"chat_template": "chatml"}, "chat_template", "differs"),
    "the template of the family": (
        {"base_model": "google/gemma-3-1b-it", "chat_template": "gemma3", "kind": "chat_template"},
        "chat_template",
        "differs",
    ),
    "packed": ({"sample_packing": True}, "sample_packing", "differs"),
    "several of no result": (
        {"flash_attention": True, "logging_steps": 1},
        "flash_attention, logging_steps",
        "differs",
    ),
    "lora in 4 bits": ({**LORA, "load_in_4bit": True}, "load_in_4bit", "trap"),
    "never evaluated": ({"val_set_size": 0.1}, "val_set_size", "trap"),
    "dropped": ({}, "sequence_len", "differs"),
    "code of a model": ({"trust_remote_code": True}, "trust_remote_code", "differs"),
    "a warm-up that nobody set": ({}, "warmup_ratio", "differs"),
    "all weights in bfloat16": ({}, "bf16", "differs"),
    "few bits": ({**LORA, "optimizer": "adamw_bnb_8bit"}, "optimizer", "differs"),
    "lora without adapter": ({"lora_r": 8}, "lora_r", "trap"),
    "simpo with likelihood": ({"rl": "simpo", "simpo_gamma": 1.0, "kind": "chatml"}, "cpo_alpha", "ignored"),
    "steps beside epochs": ({"max_steps": 3, "num_epochs": 1}, "num_epochs", "differs"),
    "dropout beside a loss on preferences": (
        {**LORA, "lora_dropout": 0.1, "rl": "dpo", "kind": "chatml"},
        "lora_dropout",
        "trap",
    ),
    "kto in passes": (
        {"rl": "kto", "remove_unused_columns": False, "gradient_accumulation_steps": 4, "kind": "chatml.intel"},
        "gradient_accumulation_steps",
        "differs",
    ),
    "weight of 0": (
        {"rl": "kto", "remove_unused_columns": False, "kto_desirable_weight": 0, "kind": "chatml.intel"},
        "kto_desirable_weight",
        "trap",
    ),
    "the worst of nectar": ({"rl": "dpo", "kind": "zephyr.nectar"}, "datasets[0].type", "trap"),
}


@pytest.mark.parametrize("name", REMARKED)
def test_what_a_reader_must_know_is_said(name: str, tmp_path: Path) -> None:
    keys, key, kind = REMARKED[name]
    assert told(imported(tmp_path, **keys), key, kind)


@pytest.mark.parametrize("key", [key for names in FILE.ignored.values() for key in names])
def test_every_key_that_is_not_honoured_is_named(key: str, tmp_path: Path) -> None:
    value: Any = {"bos_token": "<s>"} if key == "special_tokens" else False if key.startswith("shuffle") else 3
    if key == "cpo_alpha":
        assert told(imported(tmp_path, rl="simpo", simpo_gamma=1.0, cpo_alpha=3, kind="chatml"), key, "ignored")
    elif key == "chat_template_jinja":
        with pytest.raises(TaskError, match="chat_template"):
            imported(tmp_path, kind="chat_template", **{key: "{{ messages }}"})
        assert told(imported(tmp_path, **{key: "{{ messages }}"}), key, "ignored")
    else:
        assert told(imported(tmp_path, **{key: value}), key, "ignored")


@pytest.mark.parametrize("key", [key for names in FILE.no_effect.values() for key in names])
def test_every_key_of_no_result_is_named(key: str, tmp_path: Path) -> None:
    assert key in ", ".join(
        remark.key for remark in imported(tmp_path, **{key: True}).remarks if remark.kind == "differs"
    )


@pytest.mark.parametrize("key", [key for names in TRL.ignored.values() for key in names])
def test_every_key_of_trl_that_is_not_honoured_is_named(key: str, tmp_path: Path) -> None:
    found = imported(tmp_path, **grpo(tmp_path, trl={key: "sequence"}))
    assert told(found, key, "ignored") or told(found, f"trl.{key}", "ignored")


def test_no_key_stands_in_two_lists() -> None:
    groups = (FILE.honoured, *FILE.no_effect.values(), *FILE.ignored.values(), tuple(FILE.refused))
    names = [name for group in groups for name in group]
    assert sorted(names) == sorted(set(names))
    trl = TRL.known()
    assert sorted(trl) == sorted(set(trl))


def test_what_is_switched_off_is_not_remarked(tmp_path: Path) -> None:
    off = {"load_in_8bit": False, "neftune_noise_alpha": None, "early_stopping_patience": 0, "adam_beta1": 0.9}
    found = imported(
        tmp_path,
        **off,
        special_tokens={"pad_token": "<pad>"},
        sequence_len=512,
        excess_length_strategy="drop",
        bf16=True,
        warmup_steps=10,
    )
    assert found.remarks == ()


def test_a_key_that_is_not_known_is_told_the_nearest_that_is_honoured(tmp_path: Path) -> None:
    (sentence,) = told(imported(tmp_path, **LORA, lora_rank=8), "lora_rank", "ignored")
    assert sentence.endswith("did you mean lora_r?")


def test_an_adapter_in_auto_is_as_there(tmp_path: Path) -> None:
    assert not told(imported(tmp_path, **LORA), "bf16")


CONTRADICTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "packing with rl": ({"rl": "dpo", "sample_packing": True}, "true beside rl: dpo"),
    "qlora without 4 bits": ({**LORA, "adapter": "qlora"}, "none beside qlora"),
    "qlora in 8 bits": ({**LORA, "adapter": "qlora", "load_in_8bit": True}, "it beside qlora"),
    "4 bits without adapter": ({"load_in_4bit": True}, "it without an adapter"),
    "kto without columns": ({"rl": "kto"}, "remove_unused_columns: false"),
    "two warm-ups": ({"warmup_steps": 5, "warmup_ratio": 0.1}, "it beside warmup_ratio"),
    "share with simpo": ({"rl": "simpo", "warmup_ratio": 0.1}, "it beside rl: simpo"),
    "two ways to hold out": ({"val_set_size": 0.1, "test_datasets": [{"path": "a"}]}, "it beside val_set_size"),
    "evaluation of nothing": ({"val_set_size": 0, "eval_steps": 5}, "it beside val_set_size: 0"),
    "two schedules": ({"val_set_size": 0.1, "eval_steps": 5, "evals_per_epoch": 2}, "it beside eval_steps"),
    "batch twice": ({"batch_size": 8, "gradient_accumulation_steps": 2}, "it beside gradient_accumulation_steps"),
    "batch alone": ({"batch_size": 8}, "micro_batch_size beside it"),
    "loss of another rl": ({"rl": "kto", "remove_unused_columns": False, "dpo_loss_type": ["ipo"]}, "it with rl: dpo"),
    "no number to hold out": ({"val_set_size": "some"}, "expected a number of at least 0"),
    "half a row to hold out": ({"val_set_size": 2.5}, "expected a share or a count"),
    "no rate": ({"learning_rate": None}, 'key "learning_rate": found nothing'),
    "no rank": ({"adapter": "lora", "lora_target_linear": True}, "nothing beside adapter: lora"),
    "no layers": ({**LORA, "lora_target_linear": False}, "layers that get adapters"),
    "a pattern": ({**LORA, "lora_target_linear": False, "lora_target_modules": ".*proj"}, "found the pattern"),
    "another family's template": (
        {"base_model": "google/gemma-3-1b-it", "chat_template": "qwen3", "kind": "chat_template"},
        "found qwen3, expected tokenizer_default",
    ),
    "another adapter": ({"adapter": "llama-adapter"}, "expected lora or qlora"),
    "LoRA+ of all weights": ({"loraplus_lr_ratio": 16}, 'key "loraplus_lr_ratio".*beside a training of all weights'),
    "another optimizer": ({"optimizer": "muon"}, "muon, which is not here"),
    "gdpo": ({"rl": "gdpo"}, "The nearest thing here is grpo"),
    "ebft": ({"rl": "ebft"}, "The nearest thing here is grpo with a reward"),
    "reward model": ({"reward_model": True}, "rl: dpo or kto learn"),
    "gone": ({"rpo_alpha": 1.0}, "Axolotl has removed it too"),
    "mixed losses": ({"rl": "dpo", "dpo_loss_type": ["ipo", "sigmoid"]}, "losses are not mixed here"),
    "another loss": ({"rl": "dpo", "dpo_loss_type": ["robust"]}, "expected one of sigmoid, ipo, hinge, apo_zero"),
    "another template": (
        {"chat_template": "gemma", "kind": "chat_template"},
        "save the template as chat_template.jinja",
    ),
    "misspelt rank": (
        {**LORA, "lora_r": None, "lora_rank": 8},
        'key "lora_rank": found an unknown key, expected lora_r',
    ),
    "misspelt rate": ({"learning_rate": None, "learnig_rate": 1e-4}, 'key "learnig_rate".*Write "learning_rate"'),
    "no truth value": ({"gradient_checkpointing": "maybe"}, "expected true or false"),
    "no list": ({"datasets": "rows.jsonl"}, "a list of entries"),
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_what_cannot_be_is_refused(name: str, tmp_path: Path) -> None:
    keys, sentence = CONTRADICTIONS[name]
    with pytest.raises(TaskError, match=sentence):
        imported(tmp_path, **keys)


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"trl": {"num_generations": 5}}, "groups of 5"),
        ({"trl": {"reward_funcs": ["org/reward-model"]}}, "a reward that is a model is not asked"),
        ({"trl": {"reward_funcs": ["..etc.x"]}}, 'found "..etc.x", which is no function here'),
        ({"trl": {"reward_funcs": []}}, 'trl", key "reward_funcs": found nothing'),
        ({"trl": {"reward_weights": [1.0, 2.0]}}, "expected 1 numbers"),
        ({"trl": {"reward_weights": ["much"]}}, "expected 1 numbers"),
        ({"trl": {"loss_type": "sapo"}}, "expected grpo, dr_grpo, dapo or bnpo"),
    ],
)
def test_groups_that_cannot_be_are_refused(keys: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=sentence):
        imported(tmp_path, **grpo(tmp_path, **keys))


def test_a_file_is_known_by_its_keys(tmp_path: Path) -> None:
    assert framework_of(config(tmp_path)) == "axolotl"
    (tmp_path / "ours.yaml").write_text("model: embedded\ndata: rows.jsonl\n")
    (tmp_path / "broken.yaml").write_text("a: [\n")
    (tmp_path / "llama.yaml").write_text("model_name_or_path: a\nstage: sft\n")
    assert framework_of(tmp_path / "ours.yaml") is None
    assert framework_of(tmp_path / "broken.yaml") is None
    assert framework_of(tmp_path / "nothing.yaml") is None
    assert framework_of(tmp_path / "llama.yaml") == "llamafactory"


def test_a_file_that_lacks_a_key_is_known_by_the_others(tmp_path: Path) -> None:
    cases = {
        "base_model: a\nsequence_len: 64\n": ("axolotl", 'key "datasets": found nothing in what looks like an Axolotl'),
        "base_modell: a\ndatasets: []\n": ("axolotl", 'key "base_modell": found an unknown key, expected base_model.'),
        "model_name_or_path: a\ntemplate: qwen\ndo_train: true\n": (
            "llamafactory",
            'key "dataset": found nothing in what looks like a LLaMA-Factory file',
        ),
        "model_name_or_path: a\ntemplate: qwen\ndatset: b\n": (
            "llamafactory",
            "found an unknown key, expected dataset.",
        ),
        "finetuning_type: lora\ndataset: a\n": ("llamafactory", 'key "model_name_or_path": found nothing'),
    }
    for text, (framework, sentence) in cases.items():
        path = tmp_path / "file.yaml"
        path.write_text(text)
        assert framework_of(path) == framework
        with pytest.raises(TaskError) as refused:
            read(path)
        assert sentence in str(refused.value)


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("trl.yaml", "model_name_or_path: a\ndataset_name: b\nlora_r: 8\n", "settings of TRL (model_name_or_path, "),
        ("s.yaml", "model_name: a\nmax_seq_length: 64\nlora_alpha: 8\n", "settings of Unsloth (model_name, max_seq"),
        ("sft.py", "import torch\nfrom trl import SFTTrainer\n", "a Python script of TRL,"),
        ("sft.py", "import torch\n", "a Python script,"),
        ("sft.ipynb", '{"cells": [{"source": ["from unsloth import F\\n"]}]}', "a notebook of Unsloth,"),
    ],
)
def test_files_of_frameworks_that_are_only_written(name: str, text: str, found: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(TaskError) as refused:
        train(tmp_path / name, SILENT)
    assert f"found {found}" in str(refused.value)
    assert "Files of TRL and Unsloth are written (`lastresort export`), not read" in str(refused.value)


def test_our_own_file_with_keys_of_others_stays_ours(tmp_path: Path) -> None:
    for text in ("data: rows.jsonl\nnum_epochs: 3\nlora_rank: 8\n", "start_from: adapter\ndataset: rows.jsonl\n"):
        (tmp_path / "ours.yaml").write_text(text)
        assert framework_of(tmp_path / "ours.yaml") is None


def test_a_key_that_is_set_makes_no_other_file_of_it(tmp_path: Path) -> None:
    for key, value in (("model", "embedded"), ("objective", "dpo")):
        found = read(config(tmp_path), {key: value})
        assert (found.framework, [one.kind for one in found.remarks if one.key == key]) == ("axolotl", ["ignored"])


def test_keys_are_set_from_outside_and_aliases_are_read(tmp_path: Path) -> None:
    path = config(tmp_path)
    assert read(path, {"base_model": "embedded", "lr_scheduler": "linear"}).document["model"] == "embedded"
    path.write_text(path.read_text() + "weight_decay: &same 0.1\nmax_grad_norm: *same\n")
    assert read(path).document["max_grad_norm"] == 0.1


def test_a_decay_beside_lora_plus_is_named(tmp_path: Path) -> None:
    """Axolotl's issue 4010."""
    for keys, named in (({"weight_decay": 0.1}, True), ({}, False)):
        found = imported(tmp_path, **{**LORA, "loraplus_lr_ratio": 16, **keys})
        assert found.document["weight_decay"] == keys.get("weight_decay", 0.0)
        assert bool(told(found, "weight_decay", "differs")) is named


def test_strict_refuses_what_is_not_honoured(tmp_path: Path) -> None:
    path = config(tmp_path, neftune_noise_alpha=5, flash_attention=True, lora_rr=1)
    with pytest.raises(TaskError, match=r"found keys that are ignored \(2\): neftune_noise_alpha .* lora_rr is no key"):
        read(path, strict=True)
    assert read(config(tmp_path, flash_attention=True), strict=True).document["model"] == LEAST["base_model"]
