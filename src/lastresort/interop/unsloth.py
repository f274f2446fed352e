"""A training as a script of Unsloth's: TRL's trainers on a model that Unsloth has loaded."""

from __future__ import annotations

from lastresort.interop.exporting.job import ExportFiles, ExportJob, row_limit
from lastresort.interop.exporting.rewards import INSTALL
from lastresort.interop.exporting.trainer import no_counterpart, uses_bf16
from lastresort.interop.trl.export import call, layers, number, script, training, trl_notes, trl_rows

SCRIPT = "train.py"


def export_files(job: ExportJob) -> ExportFiles:
    """train.py and the rows. Raises InputError for dora, of which its own adapters know nothing."""
    if job.adapter is not None and job.adapter.kind == "dora":
        raise no_counterpart("Unsloth", "adapter: dora", "Export it --to trl, or train a lora adapter.")
    _, assumed = row_limit(job)
    notes = (*trl_notes(job), *assumed, *_own_notes(job))
    return ExportFiles(
        {SCRIPT: _script(job, notes)},
        trl_rows(job, job.train, "Unsloth"),
        trl_rows(job, job.held_out, "Unsloth"),
        notes,
        ("pip install unsloth", *((INSTALL,) if job.rewards else ())),
        (f"python {SCRIPT}",),
    )


def _own_notes(job: ExportJob) -> list[str]:
    found = []
    if job.starts_from_adapter:
        found.append("start/ names its base: Unsloth loads the base by that name, not by the one in this script.")
    if job.adapter is not None and job.adapter.kind != "qlora" and uses_bf16(job) is None:
        found.append("precision: auto is decided by Unsloth (dtype=None).")
    return found


def _script(job: ExportJob, notes: tuple[str, ...]) -> str:
    imports = [
        "from unsloth import FastLanguageModel  # first: it changes what is imported after it",
        "",
        "from pathlib import Path",
        "",
        "import torch",
        "from datasets import load_dataset",
    ]
    main = [*_model(job), *_adapter(job), *training(job, peft=None)]
    return script(job, "Unsloth", notes, imports=imports, bf16="torch.cuda.is_bf16_supported()", main=main)


def _model(job: ExportJob) -> list[str]:
    bf16, (limit, _) = uses_bf16(job), row_limit(job)
    given = {
        "model_name": 'str(HERE / "start")' if job.starts_from_adapter else "BASE",
        "max_seq_length": repr(limit),
        "dtype": "None" if bf16 is None else "torch.bfloat16" if bf16 else "torch.float32",
        "load_in_4bit": repr(job.in_4_bits),
        "full_finetuning": repr(job.adapter is None),
        "use_gradient_checkpointing": repr(job.file.settings.checkpointing),
        "use_exact_model_name": "True",
        "random_state": repr(job.file.settings.seed),
    }
    return call("    model, tokenizer = FastLanguageModel.from_pretrained", given)


def _adapter(job: ExportJob) -> list[str]:
    adapter = job.adapter
    if adapter is None or job.starts_from_adapter:
        return []
    given = {
        "model": "model",
        "r": repr(adapter.r),
        "lora_alpha": number(adapter.alpha),
        "lora_dropout": repr(adapter.dropout),
        "target_modules": layers(adapter),
        "use_rslora": repr(adapter.kind == "rslora"),
        "use_gradient_checkpointing": repr(job.file.settings.checkpointing),
        "random_state": repr(job.file.settings.seed),
    }
    return call("    model = FastLanguageModel.get_peft_model", given)
