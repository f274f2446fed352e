"""A training as Axolotl's YAML."""

from __future__ import annotations

import yaml

from lastresort.interop.axolotl.course import DECAY_BESIDE_LORA_PLUS
from lastresort.interop.axolotl.written_rows import axolotl_rows, dataset_of
from lastresort.interop.exporting.course import (
    DROPOUT_OFF,
    OPTIMIZERS,
    SCHEDULES,
    has_segments,
    lora_plus,
    max_steps,
    no_counterpart,
    of_open_ends,
    of_template,
    of_trainer,
    of_trl,
    passes,
    takes_bf16,
    warmup_steps,
    whole_alpha,
)
from lastresort.interop.exporting.job import ExportFiles, ExportJob, commented, header, row_limit
from lastresort.interop.exporting.rewards import INSTALL
from lastresort.types import JsonObject

CONFIG = "axolotl.yaml"
LONGER = {"refuse": "raise", "drop": "drop", "truncate": "truncate"}
DPO_LOSSES = {"ipo": "ipo", "hinge": "hinge", "apo_zero": "apo_zero"}
TRACKERS = {"tensorboard": "use_tensorboard", "mlflow": "use_mlflow", "wandb": "use_wandb", "trackio": "use_trackio"}


def written(job: ExportJob) -> ExportFiles:
    """axolotl.yaml and the rows, for groups also rewards.py and how prompts are read.

    Raises InputError for what it has no counterpart of, DataError for rows that none of its types reads, PrerequisiteError
    where rows have to be rendered and the base's tokenizer is not here.
    """
    _refuse(job)
    limit, assumed = row_limit(job)
    notes = (*_notes(job), *assumed)
    config = {**_model(job), **_adapter(job), **_data(job, limit), **_objective(job), **_course(job)}
    top = commented(header(job, "Axolotl", notes, "Keys that are not here have Axolotl's defaults."))
    text = top + yaml.safe_dump(config, sort_keys=False, allow_unicode=True, width=120)
    rewards = (INSTALL,) if job.rewards else ()
    return ExportFiles(
        {CONFIG: text, **_prompts(job)},
        axolotl_rows(job, job.train),
        axolotl_rows(job, job.held_out),
        notes,
        ("pip install axolotl", *rewards),
        (f"axolotl train {CONFIG}",),
    )


def _refuse(job: ExportJob) -> None:
    """For these losses it makes a fresh adapter, whatever lora_model_dir says (0.19.0, loaders/model.py, _load_adapters)."""
    if job.starts_from_adapter and job.file.objective in ("dpo", "ipo", "hinge", "apo_zero", "kto"):
        raise no_counterpart(
            "Axolotl",
            f"start_from beside {job.file.objective}: it would train a fresh adapter",
            "Merge the adapter with `lastresort merge` and train from the merged model, or export it --to trl.",
        )


def _model(job: ExportJob) -> JsonObject:
    bf16 = takes_bf16(job)
    return {
        "base_model": job.base.name,
        "bf16": "auto" if bf16 is None else bf16,
        **({"fp16": False, "tf32": False} if bf16 is False else {}),
    }


def _adapter(job: ExportJob) -> JsonObject:
    adapter = job.adapter
    if adapter is None:
        return {}
    layers = (
        {"lora_target_linear": True}
        if adapter.layers == "all-linear"
        else {"lora_target_modules": adapter.layers if isinstance(adapter.layers, str) else list(adapter.layers)}
    )
    quantised = adapter.kind == "qlora"
    start: JsonObject = {"lora_model_dir": "start"} if job.starts_from_adapter else {}
    return {
        "adapter": "qlora" if quantised else "lora",
        **({"load_in_4bit": True} if quantised else {}),
        "lora_r": adapter.r,
        "lora_alpha": whole_alpha(adapter, "Axolotl"),
        "lora_dropout": adapter.dropout,
        **layers,
        **({"peft_use_rslora": True} if adapter.kind == "rslora" else {}),
        **({"peft_use_dora": True} if adapter.kind == "dora" else {}),
        **start,
    }


def _data(job: ExportJob, limit: int) -> JsonObject:
    packed = job.file.need == "text"
    found: JsonObject = {"datasets": [dataset_of(job, "train.jsonl")], "shuffle_merged_datasets": True}
    if job.held_out:
        found["test_datasets"] = [dataset_of(job, "eval.jsonl")]
        found["eval_strategy"] = "epoch"
    if job.file.need in ("completions", "pairs") and not has_segments(job):
        found["chat_template"] = "tokenizer_default"
    return {
        **found,
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
    return {"rl": "grpo", "trl": _groups(job)}


def _groups(job: ExportJob) -> JsonObject:
    groups = job.file.groups
    assert groups is not None
    return {
        "beta": job.option("kl_weight"),
        **(
            {"use_bias_correction_kl": False} if job.option("kl_weight") else {}
        ),  # true there: another gradient of the KL
        "num_generations": groups.sampling.group_size,
        "max_completion_length": groups.sampling.max_new_tokens,
        "temperature": groups.sampling.temperature,
        "top_p": groups.sampling.top_p,
        "top_k": groups.sampling.top_k,
        "loss_type": job.file.objective,
        "scale_rewards": "none" if job.file.objective == "dr_grpo" else "group",
        "epsilon": job.option("eps_low"),
        "epsilon_high": job.option("eps_high"),
        "num_iterations": 1,
        "reward_funcs": [f"rewards.{name}" for name in job.rewards],
        "reward_weights": [term.weight for term in groups.reward],
        **({"chat_template_kwargs": dict(job.file.chat_template_kwargs)} if job.file.chat_template_kwargs else {}),
    }


def _course(job: ExportJob) -> JsonObject:
    file = job.file
    at_once, accumulated = passes(job)
    as_count = file.settings.warmup >= 1 or file.objective == "simpo"  # which refuses a share
    return {
        "micro_batch_size": at_once,
        "gradient_accumulation_steps": accumulated,
        "num_epochs": file.settings.epochs,
        **max_steps(job),
        "learning_rate": file.settings.learning_rate,
        "lr_scheduler": SCHEDULES[file.settings.schedule],
        **({"warmup_steps": warmup_steps(job)} if as_count else {"warmup_ratio": file.settings.warmup}),
        "weight_decay": file.settings.weight_decay,
        "max_grad_norm": file.settings.max_grad_norm,
        **lora_plus(job),
        "optimizer": OPTIMIZERS[file.settings.optimizer],
        "gradient_checkpointing": file.settings.checkpointing,
        "seed": file.settings.seed,
        "logging_steps": 1,
        "save_strategy": "epoch",
        "save_total_limit": file.settings.epochs,
        **{TRACKERS[name]: True for name in file.track},
        "output_dir": "out",
    }


def _prompts(job: ExportJob) -> dict[str, str]:
    """A type of prompts is a function that Axolotl imports from where it is started."""
    if not job.rewards:
        return {}
    return {
        "prompts.py": (
            '"""How Axolotl reads the prompts of this training: as they are."""\n\n\n'
            "def rows(cfg, *args, **kwargs):\n"
            "    def unchanged(example, tokenizer=None):\n"
            "        return example\n\n"
            "    return unchanged\n"
        )
    }


def _notes(job: ExportJob) -> list[str]:
    found = [note for note in of_trainer(job) if not note.startswith("longer_rows")]
    found += of_trl(job)
    if job.file.need in ("pairs", "labels"):
        found += of_open_ends(job)
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
        found += of_template(job, "Axolotl")
    elif job.file.groups.sampling.stop:
        found.append("stop: there is no key for strings that end an answer; an answer ends at the end token.")
    if job.file.need != "text" and warmup_steps(job) == 1:
        found.append("warmup: one step becomes two there.")
    if job.file.settings.warmup and job.file.settings.warmup < 1 and job.file.objective == "simpo":
        found.append("warmup is a count here, since a share is refused beside simpo.")
    return found
