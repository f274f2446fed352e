"""A training as LLaMA-Factory's YAML with its dataset_info.json."""

from __future__ import annotations

import json
from collections.abc import Sequence

from lastresort.errors import DataError, InputError
from lastresort.interop.exporting.job import ExportFiles, ExportJob, Row, header, row_limit, yaml_file
from lastresort.interop.exporting.rows import cannot_hold
from lastresort.interop.exporting.trainer import (
    DROPOUT_OFF,
    IPO_PER_TOKEN,
    KTO_BASELINE,
    answers_trained,
    cannot_skip_answers,
    has_segments,
    in_order,
    integer_alpha,
    no_counterpart,
    template_notes,
    trainer_arguments,
    trainer_notes,
    uses_bf16,
)
from lastresort.types import JsonObject

CONFIG, INFO = "llamafactory.yaml", "dataset_info.json"
STAGES = {
    "sft": "sft",
    "text": "pt",
    "dpo": "dpo",
    "ipo": "dpo",
    "hinge": "dpo",
    "simpo": "dpo",
    "orpo": "dpo",
    "kto": "kto",
}
LOSSES = {"dpo": "sigmoid", "ipo": "ipo", "hinge": "hinge", "simpo": "simpo", "orpo": "orpo"}
# Its trainer calls TRL's dpo_loss without the name of the loss, which from TRL 0.20 on is then the sigmoid's.
BY_OLD_TRL = ("ipo", "hinge")
OPTIMIZERS = {"adamw": "adamw_torch", "paged_adamw_8bit": "paged_adamw_8bit"}
TRAINER_KEYS = """per_device_train_batch_size gradient_accumulation_steps num_train_epochs max_steps learning_rate
    lr_scheduler_type warmup_steps warmup_ratio weight_decay max_grad_norm loraplus_lr_ratio optim bf16 seed logging_steps
    save_strategy eval_strategy per_device_eval_batch_size report_to output_dir"""
TAGS = {
    "role_tag": "role",
    "content_tag": "content",
    "user_tag": "user",
    "assistant_tag": "assistant",
    "observation_tag": "tool",
    "function_tag": "function_call",
    "system_tag": "system",
}
USERS, ASSISTANTS = ("user", "tool"), ("assistant", "function_call")


def export_files(job: ExportJob) -> ExportFiles:
    """llamafactory.yaml, dataset_info.json and the rows.

    Raises InputError for an objective, or segments, that it has no counterpart of; DataError for rows whose turns do not
    alternate, which it would leave out.
    """
    _refuse(job)
    limit, assumed = row_limit(job)
    notes = (*_notes(job), *assumed)
    config = {**_model(job), **_method(job), **_data(job, limit), **_trainer(job)}
    top = header(job, "LLaMA-Factory", notes, "Keys that are not here have LLaMA-Factory's defaults.")
    info = {"train": _info(job, "train.jsonl")} | ({"eval": _info(job, "eval.jsonl")} if job.held_out else {})
    return ExportFiles(
        {CONFIG: yaml_file(top, config), INFO: json.dumps(info, indent=2) + "\n"},
        [_row(job, row, number) for number, row in enumerate(job.train, 1)],
        [_row(job, row, number) for number, row in enumerate(job.held_out, 1)],
        notes,
        (_install(job),),
        (f"llamafactory-cli train {CONFIG}",),
    )


def _refuse(job: ExportJob) -> None:
    if job.file.objective not in STAGES:
        groups = job.file.groups is not None
        remedy = "Export it --to trl or --to axolotl." if groups else "Export it --to trl, or train dpo."
        raise no_counterpart("LLaMA-Factory", f"objective: {job.file.objective}", remedy)
    if has_segments(job):
        raise _rendered(job)
    if job.file.need == "completions" and answers_trained(job) == "some":
        raise cannot_skip_answers("LLaMA-Factory")


def _rendered(job: ExportJob) -> InputError:
    """It renders all rows by a template of its own."""
    by = job.rendered_by
    remedy = "Export it --to axolotl or --to trl."
    if by is None:
        return no_counterpart("LLaMA-Factory", "segments: it renders all rows by a template", remedy)
    key = by.partition(":")[0]
    if key in ("template", "chat_template"):
        remedy = f"Leave {key} out, so that rows stay turns, or export it --to axolotl or --to trl."
    return no_counterpart("LLaMA-Factory", f"rows rendered by {by}, since it renders them itself", remedy)


def _install(job: ExportJob) -> str:
    packages = ["llamafactory", *(["bitsandbytes"] if job.in_4_bits else [])]
    if job.file.objective in BY_OLD_TRL:
        packages.append("'trl<0.20'")
    return f"pip install {' '.join(packages)}"


def _model(job: ExportJob) -> JsonObject:
    start: JsonObject = {"adapter_name_or_path": "start", "create_new_adapter": False}
    return {
        "model_name_or_path": job.base.name,
        **(start if job.starts_from_adapter else {}),
        **({"quantization_bit": 4, "quantization_method": "bnb"} if job.in_4_bits else {}),
        "disable_gradient_checkpointing": not job.file.settings.checkpointing,
    }


def _method(job: ExportJob) -> JsonObject:
    name, adapter = job.file.objective, job.adapter
    found: JsonObject = {"stage": STAGES[name], "do_train": True}
    if adapter is None:
        found["finetuning_type"] = "full"
    elif job.starts_from_adapter:
        found["finetuning_type"] = "lora"  # rank, scale and layers are those of the adapter
    else:
        named = adapter.layers
        found |= {
            "finetuning_type": "lora",
            "lora_rank": adapter.r,
            "lora_alpha": integer_alpha(adapter, "LLaMA-Factory"),
            "lora_dropout": adapter.dropout,
            "lora_target": "all" if named == "all-linear" else named if isinstance(named, str) else ",".join(named),
            **({"use_rslora": True} if adapter.kind == "rslora" else {}),
            **({"use_dora": True} if adapter.kind == "dora" else {}),
        }
    if job.starts_from_adapter and name in ("dpo", "ipo", "hinge", "kto"):
        found |= {"ref_model": job.base.name, "ref_model_adapters": "start"}
    return found | _loss(job)


def _loss(job: ExportJob) -> JsonObject:
    name = job.file.objective
    if name == "kto":
        kept = {"kto_chosen_weight": "desirable_weight", "kto_rejected_weight": "undesirable_weight"}
        return {"pref_beta": job.option("beta"), **{key: job.option(own) for key, own in kept.items()}}
    if name not in LOSSES:
        return {}
    beta = job.option("weight" if name == "orpo" else "beta")
    found = {"pref_loss": LOSSES[name], "pref_beta": beta}
    if name == "simpo":
        found["simpo_gamma"] = job.option("gamma")
    if name == "dpo" and job.option("label_smoothing"):
        found["dpo_label_smoothing"] = job.option("label_smoothing")
    return found


def _data(job: ExportJob, limit: int) -> JsonObject:
    return {
        "dataset_dir": ".",
        "dataset": "train",
        **({"eval_dataset": "eval"} if job.held_out else {}),
        "cutoff_len": limit,
        **({"packing": True} if job.file.need == "text" else {}),
        **({"mask_history": True} if job.file.need == "completions" and answers_trained(job) == "last" else {}),
    }


def _trainer(job: ExportJob) -> JsonObject:
    warmup = job.file.settings.warmup
    own = {
        "optim": OPTIMIZERS[job.file.settings.optimizer],
        "bf16": uses_bf16(job) is not False,
        "output_dir": "out",
        **({"warmup_steps": int(warmup)} if warmup >= 1 else {"warmup_ratio": warmup}),
    }
    return in_order(trainer_arguments(job) | own, TRAINER_KEYS)


def _info(job: ExportJob, name: str) -> JsonObject:
    if job.file.need == "text":
        return {"file_name": name, "columns": {"prompt": "text"}}
    columns = {"messages": "messages"}
    if job.file.need == "pairs":
        columns |= {"chosen": "chosen", "rejected": "rejected"}
    if job.file.need == "labels":
        columns["kto_tag"] = "label"
    ranking = {"ranking": True} if job.file.need == "pairs" else {}
    return {"file_name": name, "formatting": "sharegpt", **ranking, "columns": columns, "tags": dict(TAGS)}


def _row(job: ExportJob, row: Row, number: int) -> Row:
    if job.file.need == "text":
        return dict(row)
    if job.file.need != "pairs":
        _check_turns(row["messages"], number, ends_with="assistant")
        return dict(row)
    _check_turns(row["prompt"], number, ends_with="user")
    for key in ("chosen", "rejected"):
        if len(row[key]) != 1 or "tool_calls" in row[key][0]:
            raise _refused(number, f"{len(row[key])} turns in {key}, or a call of a tool", "one turn of text")
    return {"messages": row["prompt"], "chosen": row["chosen"][0], "rejected": row["rejected"][0]}


def _check_turns(turns: Sequence[Row], number: int, *, ends_with: str) -> None:
    if any("tool_calls" in turn for turn in turns):
        raise _refused(number, "a call of a tool", "text")
    roles = [turn["role"] for turn in turns]
    talk = roles[1:] if roles and roles[0] == "system" else roles
    sides = (USERS, ASSISTANTS)
    if all(role in sides[place % 2] for place, role in enumerate(talk)) and talk and talk[-1] == ends_with:
        return
    raise _refused(
        number, f"turns of {', '.join(roles)}", f"a user and the assistant in turn, ending with the {ends_with}"
    )


def _refused(number: int, found: str, expected: str) -> DataError:
    return cannot_hold(number, found, f"{expected}; LLaMA-Factory leaves other rows out")


def _notes(job: ExportJob) -> list[str]:
    found, name = trainer_notes(job), job.file.objective
    if job.file.need == "text":
        found.append(
            "text: the first token of each packed row is not learned there, and a last row that is not full is dropped."
        )
    else:
        found.append(
            "template: it is made of the tokenizer's own chat template, since none is named; compare the tokens of a row once."
        )
        found.append(
            "What the chat template writes after the end token of an answer, such as a line break, is trained too."
        )
        found += template_notes(job, "LLaMA-Factory")
    if name in BY_OLD_TRL:
        found.append(
            f"pref_loss: with TRL from 0.20 on, which it also takes, {name} is computed as sigmoid; install trl<0.20 beside it."
        )
    if name == "ipo" and not job.option("per_token"):
        found.append(IPO_PER_TOKEN)
    if name == "kto":
        found.append(KTO_BASELINE)
    if job.adapter is not None and job.adapter.dropout and job.file.need in ("pairs", "labels"):
        found.append(DROPOUT_OFF)
    if job.adapter is not None and uses_bf16(job) is False:
        found.append(
            "precision: float32 is that of the adapter alone; on a GPU the frozen base is loaded in 16 bits there."
        )
    if uses_bf16(job) is None:
        found.append("precision: auto is written as bf16: true; set it to false on a machine without bfloat16.")
    return found
