"""What a rung that trains would hold here, by the plan, and what would fit where it does not: no model is loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from lastresort.errors import DataError, InputError, PrerequisiteError
from lastresort.hardware.environment import card_here
from lastresort.hardware.find import find_shape
from lastresort.hardware.memory import free_memory_bytes
from lastresort.hardware.plan.fit import NAMES, gib
from lastresort.hardware.plan.planned import Planned, lowered, smallest
from lastresort.hardware.plan.setup import Cards, Setup
from lastresort.models.protocol import is_endpoint
from lastresort.rungs.forecast import Workload
from lastresort.rungs.preference.rung import planned_course
from lastresort.rungs.supervised.four_bits import PASS_TOKENS, in_4_bits
from lastresort.rungs.supervised.training import tuned_model
from lastresort.spec.task import Task


def rung_memory(task: Task, rung: str, work: Workload) -> dict[str, Any] | None:
    """As a dry run shows it. None for a rung that trains nothing, a model whose shape is not known, and a machine that does not say
    how much memory it has."""
    planned, room = planned_rung(task, rung, work), free_memory_bytes()
    if planned is None or room is None:
        return None
    memory = planned.memory
    fits = planned.needed_bytes <= room
    return {
        "method": planned.setup.method,
        "bytes": planned.needed_bytes,
        "parts": {kind: memory.of(kind) for kind in dict.fromkeys(part.kind for part in memory.parts)},
        "free_bytes": room,
        "fits": fits,
        "sentence": _sentence(planned, room, task, rung, fits=fits),
    }


def planned_rung(task: Task, rung: str, work: Workload) -> Planned | None:
    """The training that a rung makes, in the passes that it makes; rows as long as the longest."""
    model, card = tuned_model(task), card_here(processor=True)
    if rung not in _SETUPS or is_endpoint(model) or card is None or work.longest_tokens is None:
        return None
    try:
        shape = find_shape(model, task.folder)
    except (InputError, DataError, PrerequisiteError):
        return None
    setup, longest, batch = _SETUPS[rung](task, work, work.longest_tokens)
    return Planned(shape, setup, Cards(card), longest, batch * longest, PASS_TOKENS)


def _adapters(task: Task, row_tokens: int, **more: Any) -> Setup:
    method: Any = "qlora" if in_4_bits(task) else "lora"
    computes: Any = "bfloat16" if method == "qlora" or _reduced() else "float32"
    return Setup(
        method,
        row_tokens=row_tokens,
        checkpointing=False,
        r=task.sft.r,
        target=task.sft.target,
        compute=computes,
        **more,
    )


def _sft(task: Task, work: Workload, row: int) -> tuple[Setup, int, int]:
    return _adapters(task, row), row, task.sft.batch_size


def _full(task: Task, work: Workload, row: int) -> tuple[Setup, int, int]:
    return Setup("full", row_tokens=row, checkpointing=False, compute="float32"), row, task.full.batch_size


def _preference(task: Task, work: Workload, row: int) -> tuple[Setup, int, int]:
    """Of a pair both rows, as long as the longest of train; of a group answers as long as allowed."""
    plan, course = planned_course(task, work.n_train)
    if plan.objective == "grpo":
        long, size = row + work.max_new_tokens, task.preference.samples
        setup = _adapters(task, long, learning="grpo", group_size=size, new_tokens=work.max_new_tokens)
        return setup, long, course.batch_size * size
    pairs = plan.objective in ("dpo", "orpo")
    setup = _adapters(task, row, learning="dpo" if pairs else "sft")
    return setup, (2 if pairs else 1) * row, course.batch_size


_SETUPS: Mapping[str, Callable[[Task, Workload, int], tuple[Setup, int, int]]] = {
    "sft": _sft,
    "preference": _preference,
    "full": _full,
}


def _reduced() -> bool:
    from lastresort.models.precision import chosen_device, chosen_dtype, is_reduced

    return is_reduced(chosen_dtype("auto", chosen_device()))


def _sentence(planned: Planned, room: int, task: Task, rung: str, *, fits: bool) -> str:
    told = (
        f"{NAMES[planned.setup.method]} holds {gib(planned.needed_bytes)} by the plan (most of it {planned.largest_part()}); "
        f"{gib(room)} are free here"
    )
    return f"{told}." if fits else f"{told}: it does not fit. {_instead(planned, room, task, rung)}"


def _instead(planned: Planned, room: int, task: Task, rung: str) -> str:
    """What a rung does by itself, or what the task has to say."""
    found = lowered(planned, room)
    if found is None:
        return (
            f"Nothing makes it fit: at the least it holds {gib(smallest(planned).needed_bytes)}. Name a smaller model."
        )
    comes = f"which comes to {gib(found.planned.needed_bytes)}"
    if found.same_run:
        return f"It trains with {found.written()} instead, {comes}."
    if rung == "full":
        return f"Leave full out of `ladder`, or name a smaller model: {found.planned.setup.method} would fit, {comes}."
    return f"Set tune.method: {found.planned.setup.method}, {comes}, or name a smaller model."
