"""What cannot be compared here is refused before anything is spent."""

from __future__ import annotations

from lastresort.errors import InputError
from lastresort.hardware.memory import machine_memory_bytes
from lastresort.ladder.compare.names import IN_4_BITS, Asked, asked_before, note_asked
from lastresort.ladder.prepare import Prepared
from lastresort.models.size import parameters_told
from lastresort.records.record import Record
from lastresort.rungs.full import too_large
from lastresort.rungs.rung import find_rung
from lastresort.rungs.sft_training import tuned_model

RUNG = "sft"  # whose winner is compared


def settle_asked(record: Record, asked: Asked | None, prepared: Prepared, until: str | None) -> Asked:
    """What was asked for now, else when the run was begun or last resumed, else nothing; noted once it can be had.

    Raises InputError or PrerequisiteError where it cannot.
    """
    settled = asked or asked_before(record)
    if settled is None:
        return Asked()
    refuse_what_cannot_be_had(settled, prepared, until)
    note_asked(record, settled)
    return settled


def refuse_what_cannot_be_had(asked: Asked, prepared: Prepared, until: str | None) -> None:
    """until: the last rung of the climb, None for that of the ladder."""
    if not asked.names:
        return
    if (why := _why_never_sft(prepared, until)) is not None:
        raise InputError(
            why,
            where="--compare",
            expected="a climb that can end at sft, whose winner is trained in other ways",
            remedy="Leave it out, or let the climb come there.",
        )
    if IN_4_BITS & set(asked.names):
        from lastresort.models.quantized import require_bitsandbytes

        require_bitsandbytes()
    if "full" in asked.names:
        _refuse_too_large(prepared)


def _why_never_sft(prepared: Prepared, until: str | None) -> str | None:
    ladder = prepared.task.ladder
    if RUNG not in ladder:
        return "sft is not on the ladder of this task"
    if until is not None and ladder.index(until) < ladder.index(RUNG):
        return f"the climb ends at {until}, below sft"
    rung = find_rung(RUNG)
    skipped = rung.skip_reason(prepared.task, prepared.split.train) if rung is not None else None
    return None if skipped is None else f"sft is skipped: {skipped}"


def _refuse_too_large(prepared: Prepared) -> None:
    task = prepared.task
    why = too_large(parameters_told(tuned_model(task), task.folder), machine_memory_bytes())
    if why is not None:
        raise InputError(why, where="--compare full", remedy="Leave full out.")
