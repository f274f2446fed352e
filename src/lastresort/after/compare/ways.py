"""The ways of training that `--compare` knows, and a request to compare some of them.

What cannot be compared here is refused before anything is spent.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lastresort.climb.prepare import PreparedTask
from lastresort.errors import InputError
from lastresort.hardware.memory import machine_memory_bytes
from lastresort.ladder import COMPARED_RUNG
from lastresort.models.open import parameter_count
from lastresort.records.events.after_test import WaysChosen, way_key
from lastresort.records.record import Record
from lastresort.report.words.rungs import clause
from lastresort.report.words.wording import listed
from lastresort.rungs.rung import find_rung
from lastresort.rungs.supervised.full import too_large
from lastresort.types import WayName

SEEDS = 3
NONE = "none"  # cancels an earlier request


@dataclass(frozen=True, slots=True)
class Way:
    """One way of training, or of using what another way has trained.

    made_of: the way whose adapters it uses, None where it trains its own. whole_model: it gives a model of its own instead of an
    adapter on the base. four_bits: the base is in 4 bits.
    """

    name: WayName
    made_of: Literal["lora"] | None = None
    whole_model: bool = False
    four_bits: bool = False

    @property
    def trains(self) -> bool:
        return self.made_of is None

    @property
    def trains_all_weights(self) -> bool:
        return self.trains and self.whole_model


WAYS: dict[WayName, Way] = {
    way.name: way
    for way in (
        Way("lora"),
        Way("qlora", four_bits=True),
        Way("full", whole_model=True),
        Way("merged", made_of="lora", whole_model=True),
        Way("nf4", made_of="lora", four_bits=True),
    )
}


@dataclass(frozen=True, slots=True)
class Trial:
    """A way with one seed: trained once, measured once."""

    way: Way
    seed: int

    @property
    def key(self) -> str:
        """Its name in the record."""
        return way_key(self.way.name, self.seed)

    @property
    def source(self) -> Trial:
        """The trial whose adapter it uses: itself, or that of the way it is made of."""
        return self if self.way.made_of is None else Trial(WAYS[self.way.made_of], self.seed)

    def folder(self, run: Path) -> Path:
        """Where what it trained is kept, in the folder of its run."""
        return run / "compare" / self.key


@dataclass(frozen=True, slots=True)
class ComparisonRequest:
    """names: of the ways, the reference first; empty for no comparison. seeds: how many to train each way with."""

    names: tuple[WayName, ...] = ()
    seeds: int = SEEDS

    @property
    def ways(self) -> tuple[Way, ...]:
        return tuple(WAYS[name] for name in self.names)

    def seed_numbers(self, seed: int) -> tuple[int, ...]:
        """The seeds after that of the task, with which the epoch of the winner was chosen: its scores would flatter that way."""
        return tuple(seed + number for number in range(1, self.seeds + 1))


def parse_request(text: str, seeds: int = SEEDS) -> ComparisonRequest:
    """`lora,qlora` -> the ways in their order, the reference first. A way that another one needs is added at the end.

    Raises InputError for an unknown name, a name that comes twice or alone, and fewer than two seeds.
    """
    names = [name.strip() for name in text.split(",")]
    if names == [NONE]:
        return ComparisonRequest((), seeds)
    ways: dict[WayName, Way] = {}
    for name in names:
        way = next((way for way in WAYS.values() if way.name == name), None)
        if way is None:
            raise _refused(f'found "{name}"', f"some of {listed(WAYS)}", "Name two or more, such as lora,qlora.")
        ways[way.name] = way
    if len(ways) < len(names):
        raise _refused(f'found "{text}"', "each name once", "Leave the second one out.")
    if len(names) < 2:
        raise _refused(f'found "{text}" alone', "at least two names", f"Add another of {listed(WAYS, 'or')}.")
    if seeds < 2:
        raise InputError(
            f"found {seeds}",
            where="--compare-seeds",
            expected="at least 2",
            remedy="One seed does not show how much scores vary between seeds.",
        )
    needed = [way.made_of for way in ways.values() if way.made_of is not None]
    return ComparisonRequest(tuple(dict.fromkeys([*ways, *needed])), seeds)


def recorded_request(record: Record) -> ComparisonRequest | None:
    """The comparison requested when the run was started or last resumed; None if none ever was."""
    chosen = record.last(WaysChosen)
    return None if chosen is None else ComparisonRequest(chosen.names, chosen.seeds)


def settle_request(
    record: Record, request: ComparisonRequest | None, prepared: PreparedTask, until: str | None
) -> ComparisonRequest:
    """The comparison requested now, else the one requested before, else none. Recorded once it is known to be possible.

    Raises InputError or PrerequisiteError where it is not.
    """
    before = recorded_request(record)
    settled = request or before
    if settled is None:
        return ComparisonRequest()
    refuse_impossible(settled, prepared, until)
    if settled != before:
        record.append(WaysChosen(names=settled.names, seeds=settled.seeds))
    return settled


def refuse_impossible(request: ComparisonRequest, prepared: PreparedTask, until: str | None) -> None:
    """Raises InputError or PrerequisiteError. until: the last rung of the climb, None for that of the ladder."""
    if not request.names:
        return
    if (why := _why_never_sft(prepared, until)) is not None:
        raise InputError(
            why,
            where="--compare",
            expected="a climb that can end at sft, whose winner is then trained in other ways",
            remedy="Leave it out, or let the climb reach sft.",
        )
    if any(way.four_bits for way in request.ways):
        from lastresort.models.quantized import require_bitsandbytes

        require_bitsandbytes()
    for way in request.ways:
        if way.trains_all_weights:
            _refuse_too_large(way, prepared)


def _refused(found: str, expected: str, remedy: str) -> InputError:
    return InputError(found, where="--compare", expected=expected, remedy=remedy)


def _why_never_sft(prepared: PreparedTask, until: str | None) -> str | None:
    ladder = prepared.task.ladder
    if COMPARED_RUNG not in ladder:
        return "sft is not on the ladder of this task"
    if until is not None and ladder.index(until) < ladder.index(COMPARED_RUNG):
        return f"the climb ends at {until}, below sft"
    skipped = find_rung(COMPARED_RUNG).skip_reason(prepared.task, prepared.split.train)
    return None if skipped is None else f"sft is skipped: {clause(skipped)}"


def _refuse_too_large(way: Way, prepared: PreparedTask) -> None:
    task = prepared.task
    why = too_large(parameter_count(task.tuned_model, task.folder), machine_memory_bytes())
    if why is not None:
        raise InputError(clause(why), where=f"--compare {way.name}", remedy=f"Leave {way.name} out.")
