"""The arguments of TRL's configurations, as Python that a script holds: name -> source."""

from __future__ import annotations

import json
from typing import Any

from lastresort.neighbours.exporting.course import OPTIMIZERS, SCHEDULES, max_steps, passes, takes_bf16
from lastresort.neighbours.exporting.job import Job
from lastresort.neighbours.trl.rows import learns_several

# Objective -> trainer, and what its loss is called in TRL where the trainer has several.
TRAINERS: dict[str, str] = {
    "sft": "SFT",
    "text": "SFT",
    "dpo": "DPO",
    "ipo": "DPO",
    "hinge": "DPO",
    "apo_zero": "DPO",
    "simpo": "CPO",
    "orpo": "ORPO",
    "kto": "KTO",
    "grpo": "GRPO",
    "dr_grpo": "GRPO",
    "dapo": "GRPO",
}
EXPERIMENTAL = {"CPO": "trl.experimental.cpo", "ORPO": "trl.experimental.orpo"}
DPO_LOSSES = {"dpo": "sigmoid", "ipo": "ipo", "hinge": "hinge", "apo_zero": "apo_zero"}


def trainer_of(job: Job) -> str:
    """The first part of its class's name: SFT of SFTTrainer and SFTConfig."""
    return TRAINERS[job.file.objective]


def arguments(job: Job) -> dict[str, str]:
    """Of the trainer's configuration."""
    file = job.file
    at_once, accumulated = passes(job)
    found: dict[str, Any] = {
        "num_train_epochs": file.epochs,
        "per_device_train_batch_size": at_once,
        "gradient_accumulation_steps": accumulated,
        "learning_rate": file.learning_rate,
        "lr_scheduler_type": SCHEDULES[file.schedule],
        "warmup_steps": file.warmup,
        "weight_decay": file.weight_decay,
        "max_grad_norm": file.max_grad_norm,
        "optim": OPTIMIZERS[file.optimizer],
        "gradient_checkpointing": file.checkpointing,
        "seed": file.seed,
        "logging_steps": 1,
        "save_strategy": "epoch",
        "report_to": list(file.track) or "none",
    }
    found |= max_steps(job)
    if job.held_out:
        found |= {"eval_strategy": "epoch", "per_device_eval_batch_size": at_once}
    found |= _OF_NEED[file.need](job)
    written = {name: source(value) for name, value in found.items()}
    bf16 = takes_bf16(job)
    return {"output_dir": 'str(HERE / "out")', **written, "bf16": "BF16" if bf16 is None else source(bf16)}


def source(value: Any) -> str:
    """A value as Python with double quotes."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, list):
        return f"[{', '.join(source(one) for one in value)}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{source(key)}: {source(one)}' for key, one in value.items())}}}"
    return repr(value)


def _completions(job: Job) -> dict[str, Any]:
    several = learns_several(job)
    masked = {"assistant_only_loss": True} if several else {"completion_only_loss": True}
    return {"max_length": job.row_tokens, **masked}


def _text(job: Job) -> dict[str, Any]:
    return {"max_length": job.row_tokens, "packing": True, "packing_strategy": "wrapped", "dataset_text_field": "text"}


def _pairs(job: Job) -> dict[str, Any]:
    name = job.file.objective
    found: dict[str, Any] = {"max_length": job.row_tokens, **_keeps_dropout(job)}
    if name == "orpo":
        return {**found, "beta": job.option("weight")}
    if name == "simpo":
        gamma = job.option("gamma")
        return {**found, "loss_type": "simpo", "beta": job.option("beta"), "simpo_gamma": gamma, "cpo_alpha": 0.0}
    smoothing = {"label_smoothing": job.option("label_smoothing")} if name == "dpo" else {}
    return {**found, "loss_type": [DPO_LOSSES[name]], "beta": job.option("beta"), **smoothing}


def _labels(job: Job) -> dict[str, Any]:
    weights = {name: job.option(name) for name in ("desirable_weight", "undesirable_weight")}
    return {"max_length": job.row_tokens, **_keeps_dropout(job), "beta": job.option("beta"), **weights}


def _groups(job: Job) -> dict[str, Any]:
    groups, name = job.file.groups, job.file.objective
    assert groups is not None
    kwargs = dict(job.file.chat_template_kwargs)
    kl = job.option("kl_weight")
    return {
        "num_generations": groups.group_size,
        "max_completion_length": groups.max_new_tokens,
        "temperature": groups.temperature,
        "top_p": groups.top_p,
        "top_k": groups.top_k,
        "loss_type": name,
        "scale_rewards": "none" if name == "dr_grpo" else "group",
        "epsilon": job.option("eps_low"),
        "epsilon_high": job.option("eps_high"),
        "beta": kl,
        **({"use_bias_correction_kl": False} if kl else {}),
        "reward_weights": [term.weight for term in groups.reward],
        **({"chat_template_kwargs": kwargs} if kwargs else {}),
    }


def _keeps_dropout(job: Job) -> dict[str, Any]:
    """These trainers turn the adapter's dropout off unless told not to."""
    return {"disable_dropout": False} if job.adapter is not None and job.adapter.dropout else {}


_OF_NEED = {"completions": _completions, "text": _text, "pairs": _pairs, "labels": _labels, "groups": _groups}
