"""A training as arguments of transformers' Trainer and of TRL's GRPO, on which all of these frameworks stand.

Also the notes that several frameworks share: what cannot be exported, or means something else there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from lastresort.data.rendering import turns_to_train
from lastresort.data.segments import CHOSEN, REJECTED, SEGMENTS
from lastresort.errors import InputError
from lastresort.interop.exporting.job import ExportAdapter, ExportJob, Row
from lastresort.interop.exporting.rows import message_from
from lastresort.train.loop.batches import steps_per_epoch
from lastresort.types import JsonObject

SCHEDULES = {"linear": "linear", "cosine": "cosine", "constant": "constant_with_warmup"}
OPTIMIZERS = {"adamw": "adamw_torch_fused", "paged_adamw_8bit": "paged_adamw_8bit"}
MOST_AT_ONCE = 4


def trainer_arguments(job: ExportJob) -> JsonObject:
    """By the names that transformers' Trainer gives them; without warm-up, precision and output."""
    settings = job.file.settings
    at_once, accumulated = _passes(job)
    return {
        "per_device_train_batch_size": at_once,
        "gradient_accumulation_steps": accumulated,
        "num_train_epochs": settings.epochs,
        **_max_steps(job),
        "learning_rate": settings.learning_rate,
        "lr_scheduler_type": SCHEDULES[settings.schedule],
        "weight_decay": settings.weight_decay,
        "max_grad_norm": settings.max_grad_norm,
        **lora_plus(job),
        "optim": OPTIMIZERS[settings.optimizer],
        "gradient_checkpointing": settings.checkpointing,
        "seed": settings.seed,
        "logging_steps": 1,
        "save_strategy": "epoch",
        "report_to": list(job.file.track) or "none",
        **({"eval_strategy": "epoch", "per_device_eval_batch_size": at_once} if job.held_out else {}),
    }


def grpo_arguments(job: ExportJob) -> JsonObject:
    """By the names of TRL's GRPOConfig."""
    groups, objective = job.file.groups, job.file.objective
    assert groups is not None
    kl_weight, kwargs = job.option("kl_weight"), dict(job.file.chat_template_kwargs)
    return {
        "num_generations": groups.sampling.group_size,
        "max_completion_length": groups.sampling.max_new_tokens,
        "temperature": groups.sampling.temperature,
        "top_p": groups.sampling.top_p,
        "top_k": groups.sampling.top_k,
        "loss_type": objective,
        "scale_rewards": "none" if objective == "dr_grpo" else "group",
        "epsilon": job.option("eps_low"),
        "epsilon_high": job.option("eps_high"),
        "beta": kl_weight,
        # True by default, which is another gradient of the KL.
        **({"use_bias_correction_kl": False} if kl_weight else {}),
        "reward_weights": [term.weight for term in groups.reward],
        **({"chat_template_kwargs": kwargs} if kwargs else {}),
    }


def in_order(values: Mapping[str, Any], keys: str) -> JsonObject:
    """The values that a framework's file has, in its order. keys: its names, separated by blanks."""
    return {key: values[key] for key in keys.split() if key in values}


def _passes(job: ExportJob) -> tuple[int, int]:
    """Rows in one pass and passes an optimizer step; their product is `batch_size`, or for groups `batch_size` times the group.

    kto: one pass, since its baseline is the mean of a pass there. Groups: the answers to one prompt.
    """
    size = job.file.settings.batch_size
    if job.file.groups is not None:
        return job.file.groups.sampling.group_size, size
    if job.file.need == "labels":
        return size, 1
    at_once = next(n for n in range(min(size, MOST_AT_ONCE), 0, -1) if size % n == 0)
    return at_once, size // at_once


def lora_plus(job: ExportJob) -> dict[str, float]:
    """The key of PEFT, Axolotl and LLaMA-Factory, where B learns faster than A."""
    ratio = job.file.settings.loraplus_lr_ratio
    return {"loraplus_lr_ratio": ratio} if ratio != 1 else {}


def _max_steps(job: ExportJob) -> dict[str, int]:
    """Only where it ends the training before its epochs do: there `max_steps` overrides the epochs, even to train longer.

    Rows of packed text are not counted, so it is always given for these.
    """
    most = job.file.settings.max_steps
    counts = most is not None and (job.file.need == "text" or most < _all_epochs(job))
    return {"max_steps": most} if most is not None and counts else {}


def _all_epochs(job: ExportJob) -> int:
    return steps_per_epoch(len(job.train), job.file.settings.batch_size) * job.file.settings.epochs


def warmup_steps(job: ExportJob) -> int:
    """As a count, for a framework that takes no share."""
    warmup, most = job.file.settings.warmup, job.file.settings.max_steps
    if warmup >= 1:
        return int(warmup)
    return round(warmup * min(_all_epochs(job), most or _all_epochs(job)))


def uses_bf16(job: ExportJob) -> bool | None:
    """Whether it computes in bfloat16; None where the machine decides. All weights are trained in float32 by default."""
    if job.file.precision == "auto":
        return False if job.adapter is None else None
    return job.file.precision == "bfloat16"


IPO_PER_TOKEN = (
    "ipo: it divides the log-probabilities by the tokens of each answer, and per_token is false here: the same beta means "
    "something else, so choose it anew."
)
KTO_BASELINE = (
    "kto: its baseline is the mean of one pass, so a pass holds the whole batch here; smaller passes change the loss."
)


DROPOUT_OFF = "lora_dropout: these trainers turn dropout off there."


def no_counterpart(framework: str, what: str, remedy: str) -> InputError:
    """The error for an objective, or a shape of rows, that a framework does not have."""
    return InputError(f"{framework} has no counterpart of {what}", where="export", remedy=remedy)


def trainer_notes(job: ExportJob) -> list[str]:
    """What transformers' Trainer does otherwise."""
    return [*warmup_notes(job), *longer_row_notes(job)]


def warmup_notes(job: ExportJob) -> list[str]:
    if job.file.settings.warmup == 0:
        return []
    return ["warmup: there the first step has the learning rate 0, here the first share of the peak."]


def longer_row_notes(job: ExportJob) -> list[str]:
    if job.file.longer_rows != "drop":
        return []
    return ["longer_rows: drop is not what it does: rows beyond the limit are cut at their end there."]


def loss_notes(job: ExportJob) -> list[str]:
    """What TRL's losses do otherwise (docs/train.md, "Options of an objective")."""
    name, found = job.file.objective, []
    if name == "ipo" and not job.option("per_token"):
        found.append(IPO_PER_TOKEN)
    if name == "orpo":
        found.append("orpo: its likelihood counts the tokens of the prompt too; here it is the answer's alone.")
    if name == "kto":
        found.append(KTO_BASELINE)
    if job.file.groups is not None:
        found += _of_groups(job)
    return found


def _of_groups(job: ExportJob) -> list[str]:
    groups, found = job.file.groups, []
    assert groups is not None
    if (groups.sampling.tries or 1) > 1:
        found.append("tries: prompts whose answers are all rewarded alike are not drawn again there.")
    if job.file.objective != "dr_grpo":
        found.append("Groups whose answers are all rewarded alike stay in the batch there, with an advantage of 0.")
    if groups.on_error == "zero":
        found.append("on_error: zero is kept by rewards.py, but a fault is not counted in the log there.")
    if groups.server is not None:
        found.append("server: answers are sampled by its own engine there; use_vllm in its settings names a server.")
    return found


def open_end_notes(job: ExportJob) -> list[str]:
    """TRL's trainers end every answer that is a text."""
    keys = (CHOSEN, REJECTED) if job.file.need == "pairs" else (SEGMENTS,)
    if has_segments(job) and any(not row[key][-1].get("end") for row in job.train for key in keys):
        return ["Some answers do not end the text; an end token is trained after all of them there."]
    return []


def integer_alpha(adapter: ExportAdapter, framework: str) -> int:
    """For frameworks that take nothing else. Raises InputError for a fraction."""
    if float(adapter.alpha).is_integer():
        return int(adapter.alpha)
    raise no_counterpart(
        framework,
        f"alpha: {adapter.alpha:g}, since it takes whole numbers alone",
        "Export it --to trl, or train with another alpha.",
    )


def template_notes(job: ExportJob, framework: str) -> list[str]:
    if not job.file.chat_template_kwargs:
        return []
    return [f"chat_template_kwargs: {framework} gives its template no such arguments; rows are rendered without them."]


def has_segments(job: ExportJob) -> bool:
    return bool(job.train) and SEGMENTS in job.train[0]


def turns_trained(job: ExportJob, row: Row) -> list[int]:
    """The numbers of the turns of a conversation that are trained here."""
    return turns_to_train([message_from(turn) for turn in row["messages"]], job.file.trained_turns)


def answers_trained(job: ExportJob) -> Literal["all", "last", "some"]:
    """Which turns of the assistant the conversations train: all of them, the last alone, or others (weight: 0)."""
    rows = [(row["messages"], turns_trained(job, row)) for row in (*job.train, *job.held_out)]
    last = all(trained == [len(turns) - 1] for turns, trained in rows)
    every = all(trained == _answers(turns) for turns, trained in rows)
    if last and (job.file.trained_turns == "last" or not every):
        return "last"
    return "all" if every else "some"


def answers_per_row(job: ExportJob) -> int:
    """The most turns of the assistant in one row of messages."""
    return max((len(_answers(row["messages"])) for row in job.train), default=0)


def cannot_skip_answers(framework: str) -> InputError:
    """The error for a framework that cannot mark single turns as not trained."""
    return no_counterpart(
        framework,
        "rows of which some answers are trained and others are not (weight: 0)",
        "Export it --to axolotl, or train it with `lastresort train`.",
    )


def _answers(turns: Sequence[Row]) -> list[int]:
    return [number for number, turn in enumerate(turns) if turn["role"] == "assistant"]
