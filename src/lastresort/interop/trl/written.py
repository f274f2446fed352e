"""A training as a script of TRL's: the same rows, rates and losses, with PEFT's adapter."""

from __future__ import annotations

from lastresort.interop.exporting.course import takes_bf16
from lastresort.interop.exporting.job import ExportFiles, ExportJob
from lastresort.interop.exporting.rewards import INSTALL
from lastresort.interop.trl.script import call, layers, number, script, training, trl_notes, trl_rows

SCRIPT = "train.py"


def written(job: ExportJob) -> ExportFiles:
    """train.py and the rows. Raises InputError for segments that are no prompt with one answer."""
    notes = trl_notes(job)
    quantised = job.adapter is not None and job.adapter.kind == "qlora"
    packages = ["trl>=1.16", "peft", *(["bitsandbytes"] if quantised else [])]
    return ExportFiles(
        {SCRIPT: _script(job, notes)},
        trl_rows(job, job.train, "TRL"),
        trl_rows(job, job.held_out, "TRL"),
        notes,
        (f"pip install {' '.join(repr(package) for package in packages)}", *((INSTALL,) if job.rewards else ())),
        (f"python {SCRIPT}",),
    )


def _script(job: ExportJob, notes: tuple[str, ...]) -> str:
    adapter = job.adapter
    quantised = adapter is not None and adapter.kind == "qlora"
    peft = None if adapter is None else "PeftModel" if job.starts_from_adapter else "LoraConfig"
    imports = [
        "from pathlib import Path",
        "",
        *(["import torch"] if takes_bf16(job) is None or quantised else []),
        "from datasets import load_dataset",
        *([f"from peft import {peft}"] if peft else []),
        f"from transformers import AutoModelForCausalLM, AutoTokenizer{', BitsAndBytesConfig' if quantised else ''}",
    ]
    main = [
        "    tokenizer = AutoTokenizer.from_pretrained(BASE)",
        *_model(job, quantised),
        *_adapter(job),
        *training(job, peft="adapter" if peft == "LoraConfig" else None),
    ]
    bf16 = "torch.cuda.is_available() and torch.cuda.is_bf16_supported()"
    return script(job, "TRL", notes, imports=imports, bf16=bf16, main=main)


def _model(job: ExportJob, quantised: bool) -> list[str]:
    if not quantised:
        return [f"    model = AutoModelForCausalLM.from_pretrained(BASE, dtype={_dtype(job)})"]
    four_bits = {
        "load_in_4bit": "True",
        "bnb_4bit_quant_type": '"nf4"',
        "bnb_4bit_use_double_quant": "True",
        "bnb_4bit_compute_dtype": "torch.bfloat16",
    }
    return [
        *call("    four_bits = BitsAndBytesConfig", four_bits),
        '    model = AutoModelForCausalLM.from_pretrained(BASE, dtype="bfloat16", quantization_config=four_bits)',
    ]


def _dtype(job: ExportJob) -> str:
    bf16 = takes_bf16(job)
    return '"bfloat16" if BF16 else "float32"' if bf16 is None else '"bfloat16"' if bf16 else '"float32"'


def _adapter(job: ExportJob) -> list[str]:
    """The fresh one, or the one that is trained further: TRL then takes a copy of it as the reference."""
    adapter = job.adapter
    if adapter is None:
        return []
    if job.starts_from_adapter:
        return ['    model = PeftModel.from_pretrained(model, str(HERE / "start"), is_trainable=True)']
    given = {
        "r": repr(adapter.r),
        "lora_alpha": number(adapter.alpha),
        "lora_dropout": repr(adapter.dropout),
        "target_modules": layers(adapter),
        **({"use_rslora": "True"} if adapter.kind == "rslora" else {}),
        **({"use_dora": "True"} if adapter.kind == "dora" else {}),
        "task_type": '"CAUSAL_LM"',
    }
    return call("    adapter = LoraConfig", given)
