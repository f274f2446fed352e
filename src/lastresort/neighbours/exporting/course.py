"""Batches, steps and schedule in the words of transformers' Trainer, on which all of these frameworks stand."""

from __future__ import annotations

from lastresort.neighbours.exporting.job import Job
from lastresort.train.order import steps_per_epoch

SCHEDULES = {"linear": "linear", "cosine": "cosine", "constant": "constant_with_warmup"}
OPTIMIZERS = {"adamw": "adamw_torch_fused", "paged_adamw_8bit": "paged_adamw_8bit"}
MOST_AT_ONCE = 4


def passes(job: Job) -> tuple[int, int]:
    """Rows in one pass and passes an optimizer step; their product is `batch_size`, or in answers that of a group times it.

    kto: all at once, since its baseline is the mean of a pass there. Groups: the answers to one prompt.
    """
    size = job.file.batch_size
    if job.file.groups is not None:
        return job.file.groups.group_size, size
    if job.file.need == "labels":
        return size, 1
    at_once = next(n for n in range(min(size, MOST_AT_ONCE), 0, -1) if size % n == 0)
    return at_once, size // at_once


def steps(job: Job) -> int:
    """Optimizer steps of the whole training, of rows that are not packed."""
    return min(_all_epochs(job), job.file.max_steps or _all_epochs(job))


def lora_plus(job: Job) -> dict[str, float]:
    """The key that PEFT, Axolotl and LLaMA-Factory share, where B learns faster than A."""
    ratio = job.file.loraplus_lr_ratio
    return {"loraplus_lr_ratio": ratio} if ratio != 1 else {}


def max_steps(job: Job) -> dict[str, int]:
    """The key, where there are fewer steps than the epochs have: there `max_steps` goes before the epochs, also beyond them.

    Of packed text nobody has counted the rows.
    """
    most = job.file.max_steps
    counts = most is not None and (job.file.need == "text" or most < _all_epochs(job))
    return {"max_steps": most} if most is not None and counts else {}


def _all_epochs(job: Job) -> int:
    return steps_per_epoch(len(job.train), job.file.batch_size) * job.file.epochs


def warmup_steps(job: Job) -> int:
    """As a count, where a framework takes no share."""
    return int(job.file.warmup) if job.file.warmup >= 1 else round(job.file.warmup * steps(job))


def takes_bf16(job: Job) -> bool | None:
    """Whether products are in bfloat16; None where the machine decides. All weights are in float32 unless told otherwise."""
    if job.file.precision == "auto":
        return False if job.adapter is None else None
    return job.file.precision == "bfloat16"
