"""What follows `--compare`: which ways of training there are, and which of them a climb was asked to compare."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from lastresort.errors import InputError
from lastresort.records.record import Record
from lastresort.report.wording import listed

TRAINED = ("lora", "qlora", "full")
MADE = {"merged": "lora", "nf4": "lora"}  # made of what another way has trained
NAMES = (*TRAINED, *MADE)
IN_4_BITS = frozenset({"qlora", "nf4"})
SEEDS = 3
NOTHING = "none"  # takes back what a run was asked before
ASKED = "compare_asked"


@dataclass(frozen=True, slots=True)
class Asked:
    """names: of the ways, the first being the reference; empty for no comparison. seeds: how often each is trained."""

    names: tuple[str, ...] = ()
    seeds: int = SEEDS

    def numbers(self, seed: int) -> tuple[int, ...]:
        """The seeds, which follow that of the task: by its own the epoch of the winner was chosen, which flatters that way."""
        return tuple(seed + number for number in range(1, self.seeds + 1))


def parse_asked(text: str, seeds: int = SEEDS) -> Asked:
    """`lora,qlora` -> the names in their order, the first being the reference; what others are made of comes last if not named.

    Raises InputError for a name that is none, comes twice, or is alone, and for fewer than two seeds.
    """
    names = [name.strip() for name in text.split(",")]
    if names == [NOTHING]:
        return Asked((), seeds)
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
    return Asked((*names, *(name for name in needed if name not in names)), seeds)


def asked_before(record: Record) -> Asked | None:
    """What the run was asked when it was begun or last resumed, None where it was never asked."""
    noted = record.last(ASKED)
    return None if noted is None else Asked(tuple(noted["names"]), noted["seeds"])


def note_asked(record: Record, asked: Asked) -> None:
    if asked_before(record) != asked:
        record.note(ASKED, asdict(asked))


def _refused(found: str, expected: str, remedy: str) -> InputError:
    return InputError(found, where="--compare", expected=expected, remedy=remedy)
