"""A training as Axolotl's YAML, with its rows in the shapes of Axolotl's dataset types."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lastresort.data.chat_template import rendered_text, template_of
from lastresort.data.segments import SEGMENTS
from lastresort.interop.axolotl.trainer import DECAY_BESIDE_LORA_PLUS
from lastresort.interop.exporting.job import ExportFiles, ExportJob, Row, header, row_limit, yaml_file
from lastresort.interop.exporting.rewards import INSTALL
from lastresort.interop.exporting.rows import cannot_hold, joined, message_from, pair_texts, with_expected
from lastresort.interop.exporting.trainer import (
    DROPOUT_OFF,
    answers_trained,
    grpo_arguments,
    has_segments,
    in_order,
    integer_alpha,
    lora_plus,
    loss_notes,
    no_counterpart,
    open_end_notes,
    template_notes,
    trainer_arguments,
    turns_trained,
    uses_bf16,
    warmup_notes,
    warmup_steps,
)
from lastresort.types import JsonObject

CONFIG = "axolotl.yaml"
LONGER = {"refuse": "raise", "drop": "drop", "truncate": "truncate"}
DPO_LOSSES = {"ipo": "ipo", "hinge": "hinge", "apo_zero": "apo_zero"}
TRACKERS = {"tensorboard": "use_tensorboard", "mlflow": "use_mlflow", "wandb": "use_wandb", "trackio": "use_trackio"}
# Its own names of arguments of transformers' Trainer.
RENAMED = {
    "micro_batch_size": "per_device_train_batch_size",
    "num_epochs": "num_train_epochs",
    "lr_scheduler": "lr_scheduler_type",
    "optimizer": "optim",
}
TRAINER_KEYS = """micro_batch_size gradient_accumulation_steps num_epochs max_steps learning_rate lr_scheduler warmup_steps
    warmup_ratio weight_decay max_grad_norm loraplus_lr_ratio optimizer gradient_checkpointing seed logging_steps save_strategy
    save_total_limit"""
GRPO_KEYS = """beta use_bias_correction_kl num_generations max_completion_length temperature top_p top_k loss_type scale_rewards
    epsilon epsilon_high num_iterations reward_funcs reward_weights chat_template_kwargs"""
# A type of prompts is a function that Axolotl imports from the folder where it is started.
PROMPTS = '''"""How Axolotl reads the prompts of this training: as they are."""


def rows(cfg, *args, **kwargs):
    def unchanged(example, tokenizer=None):
        return example

    return unchanged
'''


def export_files(job: ExportJob) -> ExportFiles:
    """axolotl.yaml and the rows; with rewards also prompts.py, which reads the prompts.

    Raises InputError for what it has no counterpart of, DataError for rows that none of its types reads, PrerequisiteError
    where rows have to be rendered and the base's tokenizer is not here.
    """
    if job.starts_from_adapter and job.file.objective in ("dpo", "ipo", "hinge", "apo_zero", "kto"):
        # For these losses it makes a fresh adapter, whatever lora_model_dir says (0.19.0, loaders/model.py, _load_adapters).
        raise no_counterpart(
            "Axolotl",
            f"start_from beside {job.file.objective}: it would train a fresh adapter",
            "Merge the adapter with `lastresort merge` and train from the merged model, or export it --to trl.",
        )
    limit, assumed = row_limit(job)
    notes = (*_notes(job), *assumed)
    config = {**_model(job), **_adapter(job), **_data(job, limit), **_objective(job), **_trainer(job)}
    top = header(job, "Axolotl", notes, "Keys that are not here have Axolotl's defaults.")
    return ExportFiles(
        {CONFIG: yaml_file(top, config), **({"prompts.py": PROMPTS} if job.rewards else {})},
        _rows(job, job.train),
        _rows(job, job.held_out),
        notes,
        ("pip install axolotl", *((INSTALL,) if job.rewards else ())),
        (f"axolotl train {CONFIG}",),
    )


def _model(job: ExportJob) -> JsonObject:
    bf16 = uses_bf16(job)
    return {
        "base_model": job.base.name,
        "bf16": "auto" if bf16 is None else bf16,
        **({"fp16": False, "tf32": False} if bf16 is False else {}),
    }


def _adapter(job: ExportJob) -> JsonObject:
    adapter = job.adapter
    if adapter is None:
        return {}
    named = adapter.layers if isinstance(adapter.layers, str) else list(adapter.layers)
    return {
        "adapter": "qlora" if job.in_4_bits else "lora",
        **({"load_in_4bit": True} if job.in_4_bits else {}),
        "lora_r": adapter.r,
        "lora_alpha": integer_alpha(adapter, "Axolotl"),
        "lora_dropout": adapter.dropout,
        **({"lora_target_linear": True} if named == "all-linear" else {"lora_target_modules": named}),
        **({"peft_use_rslora": True} if adapter.kind == "rslora" else {}),
        **({"peft_use_dora": True} if adapter.kind == "dora" else {}),
        **({"lora_model_dir": "start"} if job.starts_from_adapter else {}),
    }


def _data(job: ExportJob, limit: int) -> JsonObject:
    packed = job.file.need == "text"
    rendered = job.file.need in ("completions", "pairs") and not has_segments(job)
    held_out: JsonObject = (
        {"test_datasets": [_data_set(job, "eval.jsonl")], "eval_strategy": "epoch"} if job.held_out else {}
    )
    return {
        "datasets": [_data_set(job, "train.jsonl")],
        "shuffle_merged_datasets": True,
        **held_out,
        **({"chat_template": "tokenizer_default"} if rendered else {}),
        "dataset_prepared_path": "prepared",
        "sequence_len": limit,
        "excess_length_strategy": LONGER[job.file.longer_rows],
        "sample_packing": packed,
        **({"pad_to_sequence_len": True} if packed else {}),
        **({"remove_unused_columns": False} if job.file.need in ("labels", "groups") else {}),
    }


def _objective(job: ExportJob) -> JsonObject:
    name = job.file.objective
    if name in ("sft", "text"):
        return {"train_on_inputs": False} if name == "sft" else {}
    if name == "dpo":
        smoothing = job.option("label_smoothing")
        return {"rl": "dpo", "rl_beta": job.option("beta"), **({"dpo_label_smoothing": smoothing} if smoothing else {})}
    if name in DPO_LOSSES:
        return {"rl": "dpo", "rl_beta": job.option("beta"), "dpo_loss_type": [DPO_LOSSES[name]]}
    if name == "simpo":
        # cpo_alpha is 1 unless it is set, which adds a likelihood that SimPO has not.
        return {"rl": "simpo", "rl_beta": job.option("beta"), "simpo_gamma": job.option("gamma"), "cpo_alpha": 0.0}
    if name == "orpo":
        return {"rl": "orpo", "orpo_alpha": job.option("weight")}
    if name == "kto":
        weights = {f"kto_{key}": job.option(key) for key in ("desirable_weight", "undesirable_weight")}
        return {"rl": "kto", "rl_beta": job.option("beta"), **weights}
    rewards = {"num_iterations": 1, "reward_funcs": [f"rewards.{name}" for name in job.rewards]}
    return {"rl": "grpo", "trl": in_order(grpo_arguments(job) | rewards, GRPO_KEYS)}


def _trainer(job: ExportJob) -> JsonObject:
    settings, values = job.file.settings, trainer_arguments(job)
    values |= {ours: values[theirs] for ours, theirs in RENAMED.items()}
    as_count = settings.warmup >= 1 or job.file.objective == "simpo"  # which refuses a share
    values |= {"warmup_steps": warmup_steps(job)} if as_count else {"warmup_ratio": settings.warmup}
    values["save_total_limit"] = settings.epochs
    trackers = {TRACKERS[name]: True for name in job.file.track}
    return {**in_order(values, TRAINER_KEYS), **trackers, "output_dir": "out"}


def _data_set(job: ExportJob, path: str) -> JsonObject:
    return {"path": path, "ds_type": "json", "split": "train", **_type(job)}


def _type(job: ExportJob) -> JsonObject:
    need = job.file.need
    if need == "text":
        return {"type": "completion", "field": "text"}
    if need == "groups":
        return {"type": "prompts.rows"}
    if need == "labels":
        # Its own types for KTO hard-code ChatML or Llama 3: these texts are rendered already.
        return {"type": {"field_prompt": "prompt", "field_completion": "completion", "field_label": "label"}}
    if has_segments(job):
        return {"type": "input_output"} if need == "completions" else {"type": "passthrough"}
    if job.file.objective == "orpo":
        return {"type": "chat_template.argilla"}
    if need == "pairs":
        return {"type": "chat_template.default", "field_messages": "prompt"}
    marked = answers_trained(job) != "all"
    roles = (
        {"message_field_training": "training", "roles_to_train": []} if marked else {"roles_to_train": ["assistant"]}
    )
    return {"type": "chat_template", **roles, "train_on_eos": "turn"}


def _rows(job: ExportJob, rows: Sequence[Row]) -> list[Row]:
    need = job.file.need
    if need in ("text", "groups") or not rows:
        return [with_expected(row) for row in rows]
    if need == "labels":
        return _rendered(job, rows)
    if has_segments(job):
        ends = any(one.get("end") for row in rows for one in row[SEGMENTS])
        end = job.tokenizer().eos_token if ends else ""
        return [{"segments": _ended(row, end)} if need == "completions" else pair_texts(row) for row in rows]
    if job.file.objective == "orpo":
        return [_argilla(row, number) for number, row in enumerate(rows, 1)]
    if need == "pairs":
        return [_pair(row, number) for number, row in enumerate(rows, 1)]
    if answers_trained(job) != "all":
        return [_marked_by_turn(job, row) for row in rows]
    return list(rows)


def _marked_by_turn(job: ExportJob, row: Row) -> Row:
    trained = turns_trained(job, row)
    return {"messages": [{**turn, "training": number in trained} for number, turn in enumerate(row["messages"])]}


def _pair(row: Row, number: int) -> Row:
    chosen, rejected = _only(row, "chosen", number), _only(row, "rejected", number)
    return {"prompt": row["prompt"], "chosen": chosen, "rejected": rejected}


def _argilla(row: Row, number: int) -> Row:
    """Whole conversations of user and assistant in turn, the system's text beside them."""
    prompt = row["prompt"]
    system = prompt[0]["content"] if prompt and prompt[0]["role"] == "system" else None
    turns = prompt[1:] if system is not None else prompt
    roles = [turn["role"] for turn in turns]
    if roles != ["user", "assistant"] * (len(roles) // 2) + ["user"]:
        raise cannot_hold(
            number, f"turns of {', '.join(roles)}", "a user and the assistant in turn, as its types for orpo read"
        )
    sides = {key: [*turns, _only(row, key, number)] for key in ("chosen", "rejected")}
    return {"system": system, **sides}


def _only(row: Row, key: str, number: int) -> JsonObject:
    turns = row[key]
    if any("tool_calls" in turn for turn in turns):
        raise cannot_hold(number, f"a call of a tool in {key}", "text, which is all that it takes")
    if len(turns) != 1:
        raise cannot_hold(number, f"{len(turns)} turns in {key}", "one, since it takes the last one alone")
    only: JsonObject = turns[0]
    return only


def _rendered(job: ExportJob, rows: Sequence[Row]) -> list[Row]:
    """Prompt and answer as texts, by the base's own template."""
    tokenizer = job.tokenizer()
    template = template_of(tokenizer, job.file.chat_template_kwargs)
    found = []
    for row in rows:
        if SEGMENTS in row:
            prompt = joined([one for one in row[SEGMENTS] if not one.get("train")])
            answer = joined([one for one in _ended(row, tokenizer.eos_token) if one["label"]])
        else:
            turns = [message_from(turn) for turn in row["messages"]]
            prompt = rendered_text(tokenizer, template, turns[:-1], prompt=True)
            answer = rendered_text(tokenizer, template, turns, prompt=False)[len(prompt) :].rstrip()
        found.append({"prompt": _without_start(tokenizer, prompt), "completion": answer, "label": row["label"]})
    return found


def _without_start(tokenizer: Any, text: str) -> str:
    """Without the begin-of-text token where the tokenizer puts one there anyway."""
    start = getattr(tokenizer, "bos_token", None) or ""
    twice = start and text.startswith(start) and tokenizer(text)["input_ids"][:2] == [tokenizer.bos_token_id] * 2
    return text.removeprefix(start) if twice else text


def _ended(row: Row, end: str) -> list[Row]:
    """The segments as input_output reads them, each with its end token. label: whether it is trained."""
    return [
        {"label": bool(one.get("train")), "text": one["text"] + (end if one.get("end") else "")}
        for one in row[SEGMENTS]
    ]


def _notes(job: ExportJob) -> list[str]:
    found = warmup_notes(job)
    found += loss_notes(job)
    if job.file.need in ("pairs", "labels"):
        found += open_end_notes(job)
    if job.file.need == "text":
        found.append(
            "text: documents are packed whole there, and which of them see each other depends on attn_implementation; here they "
            "are one stream."
        )
    if job.adapter is not None and job.adapter.dropout and job.file.need in ("pairs", "labels"):
        found.append(DROPOUT_OFF)
    if job.file.need == "labels" and 0.0 in (job.option("desirable_weight"), job.option("undesirable_weight")):
        found.append("kto: a weight of 0 is read as 1 there.")
    if lora_plus(job) and job.file.settings.weight_decay:
        found.append("weight_decay: " + DECAY_BESIDE_LORA_PLUS.format("a later one decays"))
    if job.file.groups is None:
        found += template_notes(job, "Axolotl")
    elif job.file.groups.sampling.stop:
        found.append("stop: there is no key for strings that end an answer; an answer ends at the end token.")
    if job.file.need != "text" and warmup_steps(job) == 1:
        found.append("warmup: one step becomes two there.")
    if job.file.settings.warmup and job.file.settings.warmup < 1 and job.file.objective == "simpo":
        found.append("warmup is a count here, since a share is refused beside simpo.")
    return found
