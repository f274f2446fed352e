"""What a rung that trains would hold here, by the plan, and what would fit where it does not: no model is loaded."""

from __future__ import annotations

from lastresort.errors import DataError, InputError, PrerequisiteError
from lastresort.hardware.environment import card_here
from lastresort.hardware.find import find_shape
from lastresort.hardware.memory import free_memory_bytes
from lastresort.hardware.plan.fit import NAMES, gib
from lastresort.hardware.plan.planned import PlannedTraining, lowered, smallest
from lastresort.hardware.plan.setup import Cards
from lastresort.models.protocol import is_endpoint
from lastresort.report.forecast import RungMemory
from lastresort.rungs.forecast import Workload
from lastresort.rungs.rung import PlansMemory, find_rung
from lastresort.rungs.supervised.methods import PASS_TOKENS
from lastresort.spec.task import Task


def rung_memory(task: Task, rung: str, work: Workload) -> RungMemory | None:
    """None for a rung that trains nothing, a model whose shape is not known, and a machine that does not say
    how much memory it has."""
    planned, room = planned_rung(task, rung, work), free_memory_bytes()
    if planned is None or room is None:
        return None
    memory = planned.memory
    fits = planned.needed_bytes <= room
    return RungMemory(
        method=planned.setup.method,
        bytes=planned.needed_bytes,
        parts={kind: memory.of(kind) for kind in dict.fromkeys(part.kind for part in memory.parts)},
        free_bytes=room,
        fits=fits,
        sentence=_sentence(planned, room, task, rung, fits=fits),
    )


def planned_rung(task: Task, rung: str, work: Workload) -> PlannedTraining | None:
    """The training that a rung makes, in the passes that it makes; rows as long as the longest."""
    model, card = task.tuned_model, card_here(processor=True)
    training = find_rung(rung)
    if not isinstance(training, PlansMemory) or is_endpoint(model) or card is None or work.longest_tokens is None:
        return None
    try:
        shape = find_shape(model, task.folder)
    except (InputError, DataError, PrerequisiteError):
        return None
    found = training.planned_setup(task, work, work.longest_tokens)
    longest = found.longest_tokens
    return PlannedTraining(shape, found.setup, Cards(card), longest, found.items * longest, PASS_TOKENS)


def _sentence(planned: PlannedTraining, room: int, task: Task, rung: str, *, fits: bool) -> str:
    told = (
        f"{NAMES[planned.setup.method]} holds {gib(planned.needed_bytes)} by the plan (most of it {planned.largest_part()}); "
        f"{gib(room)} are free here"
    )
    return f"{told}." if fits else f"{told}: it does not fit. {_instead(planned, room, task, rung)}"


def _instead(planned: PlannedTraining, room: int, task: Task, rung: str) -> str:
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
