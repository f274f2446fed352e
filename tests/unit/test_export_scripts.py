"""Trainings written as scripts for TRL and Unsloth: what the trainers are given."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

from export_support import conversation, exported, grouped, rows_in, saved_adapter
from lastresort.errors import InputError
from lastresort.interop.exporting.export import ExportedFolder
from train_support import pairs


def calls(found: ExportedFolder) -> dict[str, dict[str, Any]]:
    """Name -> keyword arguments of each call in the script that has some; what is no literal as its source."""
    made: dict[str, dict[str, Any]] = {}
    for node in ast.walk(ast.parse((found.folder / "train.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and node.keywords:
            made[ast.unparse(node.func)] = {str(one.arg): _value(one.value) for one in node.keywords}
    return made


def _value(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:
        return ast.unparse(node)


def test_the_course_of_a_training_is_said_argument_by_argument(tmp_path: Path) -> None:
    found = exported(
        tmp_path, "trl", learning_rate=2e-4, epochs=3, batch_size=8, schedule="constant", warmup=0.1, weight_decay=0.02,
        max_grad_norm=0.5, seed=7, checkpointing=True, max_tokens=512, max_steps=4, track=["wandb"],
        data={"train": "rows.jsonl", "eval": 0.25},
    )  # fmt: skip
    given = calls(found)["SFTConfig"]
    said = {
        "learning_rate": 2e-4,
        "num_train_epochs": 3,
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 2,
        "lr_scheduler_type": "constant_with_warmup",
        "warmup_steps": 0.1,
        "weight_decay": 0.02,
        "max_grad_norm": 0.5,
        "seed": 7,
        "gradient_checkpointing": True,
        "max_length": 512,
        "max_steps": 4,
        "optim": "adamw_torch_fused",
        "eval_strategy": "epoch",
        "report_to": ["wandb"],
        "completion_only_loss": True,
        "bf16": False,
    }
    assert {key: given.get(key) for key in said} == said
    assert calls(found)["SFTTrainer"]["eval_dataset"] == "held_out"


@pytest.mark.parametrize("to", ["trl", "unsloth"])
def test_lora_plus_is_a_trainer_of_its_own(to: str, tmp_path: Path) -> None:
    found = exported(tmp_path, to, loraplus_lr_ratio=2.5)
    assert calls(found)["create_loraplus_optimizer"]["loraplus_lr_ratio"] == 2.5
    assert "settings" in calls(found)["LoraPlus"]["args"]
    assert "SFTTrainer" not in calls(found)


@pytest.mark.parametrize(
    ("objective", "trainer", "said"),
    [
        (
            {"dpo": {"beta": 0.3, "label_smoothing": 0.1}},
            "DPO",
            {"loss_type": ["sigmoid"], "beta": 0.3, "label_smoothing": 0.1},
        ),
        ("ipo", "DPO", {"loss_type": ["ipo"], "beta": 0.1}),
        ("hinge", "DPO", {"loss_type": ["hinge"], "beta": 0.1}),
        ("apo_zero", "DPO", {"loss_type": ["apo_zero"], "beta": 0.1}),
        ("simpo", "CPO", {"loss_type": "simpo", "beta": 2.0, "simpo_gamma": 1.0, "cpo_alpha": 0.0}),
        ({"orpo": {"weight": 0.2}}, "ORPO", {"beta": 0.2}),
    ],
)
@pytest.mark.parametrize("to", ["trl", "unsloth"])
def test_the_losses_on_pairs(to: str, objective: Any, trainer: str, said: dict[str, Any], tmp_path: Path) -> None:
    given = calls(exported(tmp_path, to, objective, pairs()))[f"{trainer}Config"]
    assert {key: given.get(key) for key in said} == said
    assert ("label_smoothing" in given) == ("label_smoothing" in said)


def test_kto_compares_within_one_pass(tmp_path: Path) -> None:
    rows = [{"prompt": f"{n}?", "completion": "Yes.", "label": n % 2 == 0} for n in range(6)]
    given = calls(exported(tmp_path, "trl", {"kto": {"desirable_weight": 1.5}}, rows))["KTOConfig"]
    assert (given["per_device_train_batch_size"], given["gradient_accumulation_steps"]) == (4, 1)
    assert (given["desirable_weight"], given["undesirable_weight"], given["beta"]) == (1.5, 1.0, 0.1)


@pytest.mark.parametrize(
    ("objective", "scaled", "high"), [("grpo", "group", 0.2), ("dr_grpo", "none", 0.2), ("dapo", "group", 0.28)]
)
def test_groups_hold_one_prompt_a_pass(objective: str, scaled: str, high: float, tmp_path: Path) -> None:
    found = grouped(tmp_path, "trl", objective)
    given = calls(found)["GRPOConfig"]
    said = {
        "loss_type": objective,
        "scale_rewards": scaled,
        "epsilon": 0.2,
        "epsilon_high": high,
        "beta": 0.0,
        "num_generations": 4,
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 2,
        "max_completion_length": 8,
        "reward_weights": [0.5, 1.0],
    }
    assert {key: given.get(key) for key in said} == said
    assert "use_bias_correction_kl" not in given
    assert calls(found)["GRPOTrainer"]["reward_funcs"] == "[python_1, exact_2]"
    assert any("drawn again" in note for note in found.notes) == (objective == "dapo")


def test_a_kl_term_is_the_papers(tmp_path: Path) -> None:
    given = calls(grouped(tmp_path, "trl", {"grpo": {"kl_weight": 0.04}}))["GRPOConfig"]
    assert (given["beta"], given["use_bias_correction_kl"]) == (0.04, False)


@pytest.mark.parametrize(
    ("adapter", "said"),
    [
        ({"r": 8, "alpha": 1.5, "dropout": 0.1}, {"r": 8, "lora_alpha": 1.5, "lora_dropout": 0.1}),
        ("rslora", {"use_rslora": True, "r": 16, "lora_alpha": 32}),
        ("dora", {"use_dora": True}),
        ({"target": "all-linear"}, {"target_modules": "all-linear"}),
    ],
)
def test_the_adapter_of_trl(adapter: Any, said: dict[str, Any], tmp_path: Path) -> None:
    given = calls(exported(tmp_path, "trl", "dpo", adapter=adapter))
    assert {key: given["LoraConfig"].get(key) for key in said} == said
    dropout = isinstance(adapter, dict) and bool(adapter.get("dropout"))
    assert given["DPOConfig"].get("disable_dropout") == (False if dropout else None)  # on unless it would be lost


def test_four_bits(tmp_path: Path) -> None:
    trl = calls(exported(tmp_path / "a", "trl", adapter="qlora", precision=None))
    assert trl["BitsAndBytesConfig"]["bnb_4bit_quant_type"] == "nf4"
    assert trl["BitsAndBytesConfig"]["bnb_4bit_use_double_quant"] is True
    unsloth = calls(exported(tmp_path / "b", "unsloth", adapter="qlora", precision=None))
    assert unsloth["FastLanguageModel.from_pretrained"]["load_in_4bit"] is True


@pytest.mark.parametrize("adapter", ["lora", "qlora", "full", None])
def test_no_script_runs_the_code_of_a_model(tmp_path: Path, adapter: str | None) -> None:
    """Without a word on it, transformers asks on stdin whether to run it."""
    start = {"start_from": str(saved_adapter(tmp_path))} if adapter is None else {}
    found = calls(exported(tmp_path, "trl", "dpo", adapter=adapter, precision=None, **start))
    loading = {name: given for name, given in found.items() if name.endswith(".from_pretrained")}
    assert {"AutoTokenizer.from_pretrained", "AutoModelForCausalLM.from_pretrained"} <= set(loading)
    for name, given in loading.items():
        assert name.startswith("PeftModel.") or given["trust_remote_code"] is False  # PEFT's takes none: it runs none


def test_all_weights_are_trained_in_float32(tmp_path: Path) -> None:
    trl = calls(exported(tmp_path / "a", "trl", adapter="full", precision=None))
    assert trl["AutoModelForCausalLM.from_pretrained"]["dtype"] == "float32"
    assert "peft_config" not in trl["SFTTrainer"]
    unsloth = calls(exported(tmp_path / "b", "unsloth", adapter="full", precision=None))
    loaded = unsloth["FastLanguageModel.from_pretrained"]
    assert (loaded["full_finetuning"], loaded["dtype"]) == (True, "torch.float32")
    assert "FastLanguageModel.get_peft_model" not in unsloth


def test_unsloth_keeps_the_model_that_is_named(tmp_path: Path) -> None:
    given = calls(exported(tmp_path, "unsloth", "dpo", adapter={"r": 8, "alpha": 4}, max_tokens=256))
    loaded, adapted = given["FastLanguageModel.from_pretrained"], given["FastLanguageModel.get_peft_model"]
    assert (loaded["use_exact_model_name"], loaded["max_seq_length"], loaded["load_in_4bit"]) == (True, 256, False)
    assert (adapted["r"], adapted["lora_alpha"]) == (8, 4)
    assert adapted["target_modules"] == ["q_proj", "k_proj", "v_proj", "o_proj"]


def test_unsloth_has_no_dora(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Unsloth has no counterpart of adapter: dora"):
        exported(tmp_path, "unsloth", adapter="dora")


def test_several_answers_of_one_row_are_masked_by_the_template(tmp_path: Path) -> None:
    rows = [conversation("a", "b", "c", "d")]
    found = exported(tmp_path / "all", "trl", "sft", rows)
    assert calls(found)["SFTConfig"]["assistant_only_loss"] is True
    assert list(rows_in(found)[0]) == ["messages"]
    last = exported(tmp_path / "last", "trl", "sft", rows, trained_turns="last")
    assert calls(last)["SFTConfig"]["completion_only_loss"] is True
    assert [turn["content"] for turn in rows_in(last)[0]["prompt"]] == ["a", "b", "c"]


def test_rows_with_columns_of_other_names_are_exported_under_ours(tmp_path: Path) -> None:
    rows = [{"question": "a", "note": "-", "team": "b"}]
    named = exported(tmp_path / "named", "trl", "sft", rows, columns={"input": "question", "output": "team"})
    plain = exported(tmp_path / "plain", "trl", "sft", [{"input": "a", "output": "b"}])
    assert rows_in(named) == rows_in(plain)
    assert calls(named) == calls(plain)


def test_segments_are_texts_unless_they_take_turns(tmp_path: Path) -> None:
    segments = [{"text": "Q: a\nA:"}, {"text": " b", "train": True, "end": True}]
    found = exported(tmp_path / "a", "trl", "sft", [{"segments": segments}])
    assert rows_in(found) == [{"prompt": "Q: a\nA:", "completion": " b"}]
    with pytest.raises(InputError, match="TRL has no counterpart of segments"):
        exported(tmp_path / "b", "trl", "sft", [{"segments": [*segments, *segments]}])


def test_a_training_that_goes_on_loads_its_adapter(tmp_path: Path) -> None:
    adapter = str(saved_adapter(tmp_path))
    trl = exported(tmp_path, "trl", "dpo", adapter=None, start_from=adapter)
    assert calls(trl)["PeftModel.from_pretrained"] == {"is_trainable": True}
    assert "peft_config" not in calls(trl)["DPOTrainer"]
    assert (trl.folder / "start" / "adapter_model.safetensors").is_file()


def test_rewards_are_those_of_lastresort(tmp_path: Path) -> None:
    """The user's own counts characters; `exact` compares with the right answer, which TRL hands over as a column."""
    from lastresort.interop.trl.rewards import reward_function

    found = grouped(tmp_path, "trl")
    assert (found.folder / "mine.py").is_file()
    prompts = [[{"role": "user", "content": "Say ape."}]] * 2
    answers: list[Any] = [[{"role": "assistant", "content": "ape"}], [{"role": "assistant", "content": "gibbon"}]]
    exact = reward_function({"exact": {}}, found.folder, {}, name="exact")
    assert exact(prompts, answers, expected=["ape", "ape"], trainer_state=object()) == [1.0, 0.0]
    own = reward_function({"python": "mine.py:score"}, found.folder, {}, name="own")
    assert own(["Say ape."] * 2, ["ape", "gibbon"], hint=["a", "a"]) == [3.0, 6.0]


def test_an_adapter_whose_base_was_in_4_bits_goes_on_so(tmp_path: Path) -> None:
    note = saved_adapter(tmp_path) / "trained_on.json"
    note.write_text('{"quantize": "nf4", "dtype": "bfloat16"}', encoding="utf-8")
    found = exported(tmp_path, "trl", start_from="adapter", adapter=None)
    assert calls(found)["BitsAndBytesConfig"]["load_in_4bit"] is True
    note.unlink()
    assert "BitsAndBytesConfig" not in calls(exported(tmp_path, "trl", start_from="adapter", adapter=None))
