"""The parts of a training script that TRL's and Unsloth's share.

Rows in the shapes that TRL reads: a prompt and what follows it, each a list of messages or a text.

What TRL's trainers, also under Unsloth, cannot be told or take otherwise.

The arguments of TRL's configurations, as Python that a script holds: name -> source.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from lastresort.data.segments import CHOSEN, REJECTED, SEGMENTS
from lastresort.errors import InputError
from lastresort.interop.exporting.course import (
    OPTIMIZERS,
    SCHEDULES,
    answers_per_row,
    answers_trained,
    has_segments,
    lora_plus,
    max_steps,
    no_counterpart,
    of_open_ends,
    of_template,
    of_trainer,
    of_trl,
    passes,
    some_answers,
    takes_bf16,
)
from lastresort.interop.exporting.job import ExportAdapter, ExportJob, Row, commented, header
from lastresort.interop.trl.rewards import EXPECTED
from lastresort.types import JsonObject


def trl_rows(job: ExportJob, rows: Sequence[Row], framework: str) -> list[Row]:
    """Raises InputError for segments that are no prompt with one answer, and for rows of which some answers are not trained."""
    if rows and job.file.need == "completions" and not has_segments(job) and answers_trained(job) == "some":
        raise some_answers(framework)
    kwargs = dict(job.file.chat_template_kwargs)
    beside = {"chat_template_kwargs": kwargs} if kwargs and job.file.need in ("completions", "pairs") else {}
    completion = partial(_completion, several=learns_several(job))  # asked once, since it looks at all rows
    shape: dict[str, Callable[[ExportJob, Row, str], Row]] = {
        "completions": completion,
        "pairs": _pair,
        "labels": _labelled,
        "groups": _prompt,
        "text": _row_text,
    }
    return [{**shape[job.file.need](job, row, framework), **beside} for row in rows]


def learns_several(job: ExportJob) -> bool:
    """Whether rows have several answers that are all trained: TRL then masks by the chat template."""
    if job.file.need != "completions" or has_segments(job):
        return False
    return answers_trained(job) == "all" and answers_per_row(job) > 1


def _completion(job: ExportJob, row: Row, framework: str, *, several: bool) -> Row:
    if SEGMENTS in row:
        prompt, answer = _split(row[SEGMENTS], framework)
        return {"prompt": prompt, "completion": answer}
    if several:
        return {"messages": row["messages"]}
    return {"prompt": row["messages"][:-1], "completion": row["messages"][-1:]}


def _pair(job: ExportJob, row: Row, framework: str) -> Row:
    if SEGMENTS not in row:
        return dict(row)
    sides = {"chosen": row[CHOSEN], "rejected": row[REJECTED]}
    return {"prompt": _joined(row[SEGMENTS]), **{name: _joined(own) for name, own in sides.items()}}


def _labelled(job: ExportJob, row: Row, framework: str) -> Row:
    if SEGMENTS in row:
        prompt, answer = _split(row[SEGMENTS], framework)
        return {"prompt": prompt, "completion": answer, "label": row["label"]}
    return {"prompt": row["messages"][:-1], "completion": row["messages"][-1:], "label": row["label"]}


def _prompt(job: ExportJob, row: Row, framework: str) -> Row:
    """The right answer under a name that TRL hands to the rewards: `completion` it keeps for itself."""
    kept = {key: value for key, value in row.items() if key != "completion"}
    return {EXPECTED: row["completion"], **kept} if "completion" in row else kept


def _row_text(job: ExportJob, row: Row, framework: str) -> Row:
    return dict(row)


def _split(segments: list[Row], framework: str) -> tuple[str, str]:
    first = next(number for number, segment in enumerate(segments) if segment.get("train"))
    if not all(segment.get("train") for segment in segments[first:]):
        raise _several(framework)
    return _joined(segments[:first]), _joined(segments[first:])


def _several(framework: str) -> InputError:
    return no_counterpart(
        framework,
        "segments of which several are trained with others in between",
        "Train it with `lastresort train`, or export it --to axolotl, whose input_output says it.",
    )


def _joined(segments: list[Row]) -> str:
    return "".join(segment["text"] for segment in segments)


def trl_notes(job: ExportJob) -> tuple[str, ...]:
    found = [*of_trainer(job), *of_trl(job)]
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
    found += of_open_ends(job)
    if job.file.need == "labels" or job.file.objective in ("orpo", "simpo"):
        found += of_template(job, "this trainer")
    if job.file.groups is not None and job.file.groups.sampling.stop:
        found.append(
            "stop: its own sampling ends at the end token alone; with use_vllm, generation_kwargs takes stop strings."
        )
    return tuple(found)


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


def trainer_of(job: ExportJob) -> str:
    """The first part of its class's name: SFT of SFTTrainer and SFTConfig."""
    return TRAINERS[job.file.objective]


def arguments(job: ExportJob) -> dict[str, str]:
    """Of the trainer's configuration."""
    file = job.file
    at_once, accumulated = passes(job)
    found: JsonObject = {
        "num_train_epochs": file.settings.epochs,
        "per_device_train_batch_size": at_once,
        "gradient_accumulation_steps": accumulated,
        "learning_rate": file.settings.learning_rate,
        "lr_scheduler_type": SCHEDULES[file.settings.schedule],
        "warmup_steps": file.settings.warmup,
        "weight_decay": file.settings.weight_decay,
        "max_grad_norm": file.settings.max_grad_norm,
        "optim": OPTIMIZERS[file.settings.optimizer],
        "gradient_checkpointing": file.settings.checkpointing,
        "seed": file.settings.seed,
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


def _groups(job: ExportJob) -> JsonObject:
    groups, name = job.file.groups, job.file.objective
    assert groups is not None
    kwargs = dict(job.file.chat_template_kwargs)
    kl = job.option("kl_weight")
    return {
        "num_generations": groups.sampling.group_size,
        "max_completion_length": groups.sampling.max_new_tokens,
        "temperature": groups.sampling.temperature,
        "top_p": groups.sampling.top_p,
        "top_k": groups.sampling.top_k,
        "loss_type": name,
        "scale_rewards": "none" if name == "dr_grpo" else "group",
        "epsilon": job.option("eps_low"),
        "epsilon_high": job.option("eps_high"),
        "beta": kl,
        **({"use_bias_correction_kl": False} if kl else {}),
        "reward_weights": [term.weight for term in groups.reward],
        **({"chat_template_kwargs": kwargs} if kwargs else {}),
    }


def _keeps_dropout(job: ExportJob) -> JsonObject:
    """These trainers turn the adapter's dropout off unless told not to."""
    return {"disable_dropout": False} if job.adapter is not None and job.adapter.dropout else {}


_OF_NEED = {"completions": _completions, "text": _text, "pairs": _pairs, "labels": _labels, "groups": _groups}


def script(
    job: ExportJob, title: str, notes: Sequence[str], *, imports: Sequence[str], bf16: str, main: Sequence[str]
) -> str:
    """The whole of it. imports: before those of the trainer and of rewards. bf16: source of whether the device has it, where
    that is decided there. main: lines of its one function.
    """
    lines = [
        *imports,
        _trainer_import(job),
        *_lora_plus_import(job),
        *_rewards_import(job),
        "",
        "HERE = Path(__file__).resolve().parent",
        f"BASE = {_base_name(job)}",
        *([f"BF16 = {bf16}"] if takes_bf16(job) is None else []),
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
    return _head(job, title, notes) + "\n" + "\n".join(lines) + "\n"


def _head(job: ExportJob, title: str, notes: Sequence[str]) -> str:
    return commented(header(job, title, notes, "The rows are in train.jsonl beside it."))


def _trainer_import(job: ExportJob) -> str:
    name = trainer_of(job)
    return f"from {EXPERIMENTAL.get(name, 'trl')} import {name}Config, {name}Trainer"


def _rewards_import(job: ExportJob) -> list[str]:
    return ["", f"from rewards import {', '.join(job.rewards)}"] if job.rewards else []


def _lora_plus_import(job: ExportJob) -> list[str]:
    return ["from peft.optimizers import create_loraplus_optimizer"] if lora_plus(job) else []


def _lora_plus(job: ExportJob) -> list[str]:
    """A trainer with PEFT's optimizer: no argument of its configuration asks for it."""
    if not lora_plus(job):
        return []
    return [
        "",
        "",
        f"class LoraPlus({trainer_of(job)}Trainer):",
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
    name = trainer_of(job)
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
