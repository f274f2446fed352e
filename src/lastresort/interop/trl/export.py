"""A training as a script of TRL's: the same rows, rates and losses, with PEFT's adapter.

Unsloth's script takes its rows, notes, arguments and frame from here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from lastresort.data.segments import SEGMENTS
from lastresort.interop.exporting.job import ExportAdapter, ExportFiles, ExportJob, Row, commented, header
from lastresort.interop.exporting.rewards import INSTALL
from lastresort.interop.exporting.rows import joined, pair_texts, with_expected
from lastresort.interop.exporting.trainer import (
    answers_per_row,
    answers_trained,
    cannot_skip_answers,
    grpo_arguments,
    has_segments,
    in_order,
    lora_plus,
    loss_notes,
    no_counterpart,
    open_end_notes,
    template_notes,
    trainer_arguments,
    trainer_notes,
    uses_bf16,
)
from lastresort.types import JsonObject

SCRIPT = "train.py"


def export_files(job: ExportJob) -> ExportFiles:
    """train.py and the rows. Raises InputError for segments that are no prompt with one answer."""
    notes = trl_notes(job)
    packages = ["trl>=1.16", "peft", *(["bitsandbytes"] if job.in_4_bits else [])]
    return ExportFiles(
        {SCRIPT: _script(job, notes)},
        trl_rows(job, job.train, "TRL"),
        trl_rows(job, job.held_out, "TRL"),
        notes,
        (f"pip install {' '.join(repr(package) for package in packages)}", *((INSTALL,) if job.rewards else ())),
        (f"python {SCRIPT}",),
    )


def _script(job: ExportJob, notes: tuple[str, ...]) -> str:
    peft = None if job.adapter is None else "PeftModel" if job.starts_from_adapter else "LoraConfig"
    imports = [
        "from pathlib import Path",
        "",
        *(["import torch"] if uses_bf16(job) is None or job.in_4_bits else []),
        "from datasets import load_dataset",
        *([f"from peft import {peft}"] if peft else []),
        f"from transformers import AutoModelForCausalLM, AutoTokenizer{', BitsAndBytesConfig' if job.in_4_bits else ''}",
    ]
    main = [
        "    tokenizer = AutoTokenizer.from_pretrained(BASE, trust_remote_code=False)",
        *_model(job),
        *_adapter(job),
        *training(job, peft="adapter" if peft == "LoraConfig" else None),
    ]
    bf16 = "torch.cuda.is_available() and torch.cuda.is_bf16_supported()"
    return script(job, "TRL", notes, imports=imports, bf16=bf16, main=main)


def _model(job: ExportJob) -> list[str]:
    if not job.in_4_bits:
        return [f"    model = AutoModelForCausalLM.from_pretrained(BASE, dtype={_dtype(job)}, trust_remote_code=False)"]
    four_bits = {
        "load_in_4bit": "True",
        "bnb_4bit_quant_type": '"nf4"',
        "bnb_4bit_use_double_quant": "True",
        "bnb_4bit_compute_dtype": "torch.bfloat16",
    }
    return [
        *call("    four_bits = BitsAndBytesConfig", four_bits),
        "    model = AutoModelForCausalLM.from_pretrained(",
        '        BASE, dtype="bfloat16", quantization_config=four_bits, trust_remote_code=False',
        "    )",
    ]


def _dtype(job: ExportJob) -> str:
    bf16 = uses_bf16(job)
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


def trl_rows(job: ExportJob, rows: Sequence[Row], framework: str) -> list[Row]:
    """Raises InputError for segments that are no prompt with one answer, and for rows of which some answers are not trained."""
    need = job.file.need
    if rows and need == "completions" and not has_segments(job) and answers_trained(job) == "some":
        raise cannot_skip_answers(framework)
    kwargs = dict(job.file.chat_template_kwargs)
    more = {"chat_template_kwargs": kwargs} if kwargs and need in ("completions", "pairs") else {}
    several = learns_several(job)  # once, since it looks at all rows
    return [{**_row(row, need, framework, several=several), **more} for row in rows]


def learns_several(job: ExportJob) -> bool:
    """Whether rows have several answers that are all trained: TRL then masks by the chat template."""
    if job.file.need != "completions" or has_segments(job):
        return False
    return answers_trained(job) == "all" and answers_per_row(job) > 1


def _row(row: Row, need: str, framework: str, *, several: bool) -> Row:
    if need == "groups":
        return with_expected(row)
    if need == "pairs" and SEGMENTS in row:
        return pair_texts(row)
    if need in ("text", "pairs"):
        return dict(row)
    if several:
        return {"messages": row["messages"]}
    prompt, answer = (
        _split(row[SEGMENTS], framework) if SEGMENTS in row else (row["messages"][:-1], row["messages"][-1:])
    )
    return {"prompt": prompt, "completion": answer, **({"label": row["label"]} if need == "labels" else {})}


def _split(segments: list[Row], framework: str) -> tuple[str, str]:
    first = next(number for number, segment in enumerate(segments) if segment.get("train"))
    if not all(segment.get("train") for segment in segments[first:]):
        raise no_counterpart(
            framework,
            "segments of which several are trained with others in between",
            "Train it with `lastresort train`, or export it --to axolotl, whose input_output says it.",
        )
    return joined(segments[:first]), joined(segments[first:])


def trl_notes(job: ExportJob) -> tuple[str, ...]:
    found = [*trainer_notes(job), *loss_notes(job)]
    if job.file.need == "text":
        found.append("text: the first token of each packed row is not learned there; here it is, in the row before.")
    elif job.file.need != "groups" and not has_segments(job):
        found.append(
            "What the chat template writes after the end token of an answer, such as a line break, is trained too."
        )
    if learns_several(job):
        found.append(
            "Rows hold several answers: which tokens are theirs is told by the chat template, which TRL knows for the usual models "
            "(assistant_only_loss); with another template it stops and says so."
        )
    found += open_end_notes(job)
    if job.file.need == "labels" or job.file.objective in ("orpo", "simpo"):
        found += template_notes(job, "this trainer")
    if job.file.groups is not None and job.file.groups.sampling.stop:
        found.append(
            "stop: its own sampling ends at the end token alone; with use_vllm, generation_kwargs takes stop strings."
        )
    return tuple(found)


# Objective -> the first part of the names of its trainer and its configuration.
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


TRAINER_KEYS = """num_train_epochs per_device_train_batch_size gradient_accumulation_steps learning_rate lr_scheduler_type
    warmup_steps weight_decay max_grad_norm optim gradient_checkpointing seed logging_steps save_strategy report_to max_steps
    eval_strategy per_device_eval_batch_size"""


def arguments(job: ExportJob) -> dict[str, str]:
    """Of the trainer's configuration: name -> source."""
    own = {"warmup_steps": job.file.settings.warmup}
    found = in_order(trainer_arguments(job) | own, TRAINER_KEYS) | _OF_NEED[job.file.need](job)
    bf16 = uses_bf16(job)
    return {
        "output_dir": 'str(HERE / "out")',
        **{name: source(value) for name, value in found.items()},
        "bf16": "BF16" if bf16 is None else source(bf16),
    }


def source(value: Any) -> str:
    """A value as Python with double quotes. What some editors and tools take for the end of a line is escaped."""
    if isinstance(value, str):
        text = json.dumps(value, ensure_ascii=False)
        return text.translate({code: f"\\u{code:04x}" for code in (0x85, 0x2028, 0x2029)})
    if isinstance(value, list):
        return f"[{', '.join(source(one) for one in value)}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{source(key)}: {source(one)}' for key, one in value.items())}}}"
    return repr(value)


def _completions(job: ExportJob) -> JsonObject:
    several = learns_several(job)
    masked = {"assistant_only_loss": True} if several else {"completion_only_loss": True}
    return {"max_length": job.row_tokens, **masked}


def _text(job: ExportJob) -> JsonObject:
    return {"max_length": job.row_tokens, "packing": True, "packing_strategy": "wrapped", "dataset_text_field": "text"}


def _pairs(job: ExportJob) -> JsonObject:
    name = job.file.objective
    found: JsonObject = {"max_length": job.row_tokens, **_keeps_dropout(job)}
    if name == "orpo":
        return {**found, "beta": job.option("weight")}
    if name == "simpo":
        gamma = job.option("gamma")
        return {**found, "loss_type": "simpo", "beta": job.option("beta"), "simpo_gamma": gamma, "cpo_alpha": 0.0}
    smoothing = {"label_smoothing": job.option("label_smoothing")} if name == "dpo" else {}
    return {**found, "loss_type": [DPO_LOSSES[name]], "beta": job.option("beta"), **smoothing}


def _labels(job: ExportJob) -> JsonObject:
    weights = {name: job.option(name) for name in ("desirable_weight", "undesirable_weight")}
    return {"max_length": job.row_tokens, **_keeps_dropout(job), "beta": job.option("beta"), **weights}


def _keeps_dropout(job: ExportJob) -> JsonObject:
    """These trainers turn the adapter's dropout off by default."""
    return {"disable_dropout": False} if job.adapter is not None and job.adapter.dropout else {}


_OF_NEED = {"completions": _completions, "text": _text, "pairs": _pairs, "labels": _labels, "groups": grpo_arguments}


def script(
    job: ExportJob, title: str, notes: Sequence[str], *, imports: Sequence[str], bf16: str, main: Sequence[str]
) -> str:
    """The whole of it. imports: before those of the trainer and of rewards. bf16: source of whether the device has it, where
    that is decided there. main: lines of its one function.
    """
    name = TRAINERS[job.file.objective]
    top = commented(header(job, title, notes, "The rows are in train.jsonl beside it."))
    lines = [
        *imports,
        f"from {EXPERIMENTAL.get(name, 'trl')} import {name}Config, {name}Trainer",
        *(["from peft.optimizers import create_loraplus_optimizer"] if lora_plus(job) else []),
        *(["", f"from rewards import {', '.join(job.rewards)}"] if job.rewards else []),
        "",
        "HERE = Path(__file__).resolve().parent",
        f"BASE = {_base_name(job)}",
        *([f"BF16 = {bf16}"] if uses_bf16(job) is None else []),
        *_lora_plus(job),
        "",
        "",
        "def main():",
        *main,
        "",
        "",
        'if __name__ == "__main__":',
        "    main()",
    ]
    return top + "\n" + "\n".join(lines) + "\n"


def _lora_plus(job: ExportJob) -> list[str]:
    """A trainer with PEFT's optimizer: no argument of its configuration asks for it."""
    if not lora_plus(job):
        return []
    return [
        "",
        "",
        f"class LoraPlus({TRAINERS[job.file.objective]}Trainer):",
        "    def create_optimizer(self, model=None):",
        "        model = self.model if model is None else model",
        "        if self.optimizer is None:",
        "            kind, options = self.get_optimizer_cls_and_kwargs(self.args, model)",
        "            self.optimizer = create_loraplus_optimizer(",
        "                model,",
        "                kind,",
        f"                loraplus_lr_ratio={number(job.file.settings.loraplus_lr_ratio)},",
        "                loraplus_weight_decay=self.args.weight_decay,",
        "                **options,",
        "            )",
        "        return self.optimizer",
    ]


def _base_name(job: ExportJob) -> str:
    """Source of the base's name; of a folder, wherever the script is started from."""
    return f"str((HERE / {source(job.base.name)}).resolve())" if job.base.is_path else source(job.base.name)


def training(job: ExportJob, *, peft: str | None) -> list[str]:
    """Lines of main() from the rows to the saved model. peft: name of the adapter's configuration, None where there is none."""
    name = TRAINERS[job.file.objective]
    rows = ['    train = load_dataset("json", data_files=str(HERE / "train.jsonl"), split="train")']
    if job.held_out:
        rows.append('    held_out = load_dataset("json", data_files=str(HERE / "eval.jsonl"), split="train")')
    given = {"model": "model", "args": "settings", "train_dataset": "train", "processing_class": "tokenizer"}
    if job.held_out:
        given["eval_dataset"] = "held_out"
    if job.rewards:
        given["reward_funcs"] = f"[{', '.join(job.rewards)}]"
    if peft is not None:
        given["peft_config"] = peft
    return [
        *rows,
        *call(f"    settings = {name}Config", arguments(job)),
        *call(f"    trainer = {'LoraPlus' if lora_plus(job) else f'{name}Trainer'}", given),
        "    trainer.train()",
        f'    trainer.save_model(str(HERE / "out" / {source("model" if job.adapter is None else "adapter")}))',
    ]


def call(before: str, given: Mapping[str, str]) -> list[str]:
    return [f"{before}(", *(f"        {name}={source}," for name, source in given.items()), "    )"]


def number(value: float) -> str:
    return repr(int(value) if float(value).is_integer() else value)


def layers(adapter: ExportAdapter) -> str:
    return source(adapter.layers if isinstance(adapter.layers, str) else list(adapter.layers))
