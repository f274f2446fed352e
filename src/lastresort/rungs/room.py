"""A rung's training in the memory that is here: in smaller passes where the plan asks for them, and where it ran out nonetheless,
in smaller ones when the climb goes on. Neither changes more of a result than its rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from lastresort.rungs.rung import Workbench

if TYPE_CHECKING:
    from lastresort.hardware.plan.planned import Planned
    from lastresort.train.memory_error import Answer
    from lastresort.train.settings import TrainSettings

PASS = "pass"  # kind of the event that keeps what a run was lowered to


def settings_that_fit(
    bench: Workbench, name: str, settings: TrainSettings, planned: Planned | None, free_bytes: int | None
) -> TrainSettings:
    """With what the run `name` was lowered to before, or with the largest pass that fits; where none does, unchanged, and said.

    free_bytes: beside the model, which is in memory.
    """
    known = bench.record.last(PASS, name)
    if known is not None:
        return lowered_settings(settings, known)
    if planned is None or free_bytes is None:
        return settings
    from lastresort.hardware.plan.fit import gib
    from lastresort.hardware.plan.lowering import lowered

    room = free_bytes + planned.loaded_bytes
    if planned.needed_bytes <= room:
        return settings
    told = f"{name} would hold {gib(planned.needed_bytes)} by the plan, and {gib(room)} are there"
    found = lowered(planned, room)
    if found is None or not found.same_run:
        bench.progress.say(f"{told}: it may not fit. {_elsewhere(found is not None)}")
        return settings
    bench.progress.say(f"{told}: it trains with {found.written()}.")
    bench.record.note(PASS, dict(found.keys), key=name)
    return lowered_settings(settings, found.keys)


def answer_noted(bench: Workbench, name: str, planned: Planned | None) -> Callable[[], Answer]:
    """To a run that ran out of memory; what it is lowered to is noted, so that a resumed climb does so."""

    def answer() -> Answer:
        from lastresort.hardware.plan.lowering import lowered
        from lastresort.train.memory_error import Answer, Room

        if planned is None:
            return Answer("", _elsewhere(True))
        told = Room(planned, None).told()
        found = lowered(planned, planned.room_below(None))
        if found is None or not found.same_run:
            return Answer(told, _elsewhere(found is not None))
        bench.record.note(PASS, {**(bench.record.last(PASS, name) or {}), **found.keys}, key=name)
        return Answer(told, f"Go on with --resume: it then trains with {found.written()}.")

    return answer


def lowered_settings(settings: TrainSettings, keys: Any) -> TrainSettings:
    known = {key: keys[key] for key in ("max_pass_tokens", "checkpointing") if key in keys}
    return replace(settings, **known)


def _elsewhere(in_4_bits: bool) -> str:
    wanted = "Begin a new run with tune.method: qlora, or with" if in_4_bits else "Take"
    return f"{wanted} a smaller model, or a machine with more memory."
