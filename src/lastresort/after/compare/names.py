"""What follows `--compare`: which ways of training there are, and which of them a climb was asked to compare.

What cannot be compared here is refused before anything is spent.
"""

from __future__ import annotations

from dataclasses import dataclass

from lastresort.climb.prepare import PreparedTask
from lastresort.errors import InputError
from lastresort.hardware.memory import machine_memory_bytes
from lastresort.models.open import parameter_count
from lastresort.records.events import WaysChosen
from lastresort.records.record import Record
from lastresort.report.words.skips import clause
from lastresort.report.words.wording import listed
from lastresort.rungs.rung import find_rung
from lastresort.rungs.supervised.full import too_large

TRAINED = ("lora", "qlora", "full")
MADE = {"merged": "lora", "nf4": "lora"}  # made of what another way has trained
NAMES = (*TRAINED, *MADE)
IN_4_BITS = frozenset({"qlora", "nf4"})
SEEDS = 3
NOTHING = "none"  # takes back what a run was asked before


@dataclass(frozen=True, slots=True)
class ComparisonRequest:
    """names: of the ways, the first being the reference; empty for no comparison. seeds: how often each is trained."""

    names: tuple[str, ...] = ()
    seeds: int = SEEDS

    def numbers(self, seed: int) -> tuple[int, ...]:
        """The seeds, which follow that of the task: by its own the epoch of the winner was chosen, which flatters that way."""
        return tuple(seed + number for number in range(1, self.seeds + 1))


def parse_asked(text: str, seeds: int = SEEDS) -> ComparisonRequest:
    """`lora,qlora` -> the names in their order, the first being the reference; what others are made of comes last if not named.

    Raises InputError for a name that is none, comes twice, or is alone, and for fewer than two seeds.
    """
    names = [name.strip() for name in text.split(",")]
    if names == [NOTHING]:
        return ComparisonRequest((), seeds)
    unknown = next((name for name in names if name not in NAMES), None)
    if unknown is not None:
        raise _refused(f'found "{unknown}"', f"some of {listed(NAMES)}", "Name two or more, such as lora,qlora.")
    if len(set(names)) < len(names):
        raise _refused(f'found "{text}"', "each name once", "Leave the second one out.")
    if len(names) < 2:
        raise _refused(f'found "{text}" alone', "at least two names", f"Add another of {listed(NAMES, 'or')}.")
    if seeds < 2:
        raise InputError(
            f"found {seeds}",
            where="--compare-seeds",
            expected="at least 2",
            remedy="Without a second seed it is not known what the luck of one is worth.",
        )
    needed = dict.fromkeys(MADE[name] for name in names if name in MADE)
    return ComparisonRequest((*names, *(name for name in needed if name not in names)), seeds)


def asked_before(record: Record) -> ComparisonRequest | None:
    """What the run was asked when it was begun or last resumed, None where it was never asked."""
    chosen = record.last(WaysChosen)
    return None if chosen is None else ComparisonRequest(chosen.names, chosen.seeds)


def note_asked(record: Record, asked: ComparisonRequest) -> None:
    if asked_before(record) != asked:
        record.append(WaysChosen(names=asked.names, seeds=asked.seeds))


def _refused(found: str, expected: str, remedy: str) -> InputError:
    return InputError(found, where="--compare", expected=expected, remedy=remedy)


RUNG = "sft"  # whose winner is compared


def settle_asked(
    record: Record, asked: ComparisonRequest | None, prepared: PreparedTask, until: str | None
) -> ComparisonRequest:
    """What was asked for now, else when the run was begun or last resumed, else nothing; noted once it can be had.

    Raises InputError or PrerequisiteError where it cannot.
    """
    settled = asked or asked_before(record)
    if settled is None:
        return ComparisonRequest()
    refuse_what_cannot_be_had(settled, prepared, until)
    note_asked(record, settled)
    return settled


def refuse_what_cannot_be_had(asked: ComparisonRequest, prepared: PreparedTask, until: str | None) -> None:
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


def _why_never_sft(prepared: PreparedTask, until: str | None) -> str | None:
    ladder = prepared.task.ladder
    if RUNG not in ladder:
        return "sft is not on the ladder of this task"
    if until is not None and ladder.index(until) < ladder.index(RUNG):
        return f"the climb ends at {until}, below sft"
    skipped = find_rung(RUNG).skip_reason(prepared.task, prepared.split.train)
    return None if skipped is None else f"sft is skipped: {clause(skipped)}"


def _refuse_too_large(prepared: PreparedTask) -> None:
    task = prepared.task
    why = too_large(parameter_count(task.tuned_model, task.folder), machine_memory_bytes())
    if why is not None:
        raise InputError(clause(why), where="--compare full", remedy="Leave full out.")
