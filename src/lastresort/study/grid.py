"""The grid of a study as values: which ways, on how many examples, with which seeds."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal

from lastresort.data.split import nested
from lastresort.errors import InputError
from lastresort.evals.evidence.curve_means import LEAST_SEEDS
from lastresort.spec.task import Task
from lastresort.types import Example, JsonObject, StudyKind

Way = Literal[
    "zero-shot",
    "constrained zero-shot",
    "few-shot",
    "constrained few-shot",
    "nearest",
    "optimised",
    "sft",
    "dpo",
    "orpo",
    "real",
    "synthetic",
    "both",
]
BASES: tuple[Way, ...] = ("zero-shot", "constrained zero-shot", "optimised")  # learn from no example of their cell

ARMS: tuple[Way, ...] = ("dpo", "orpo")  # SFT then DPO against ORPO; n are pairs
SOURCES: tuple[Way, ...] = ("real", "synthetic", "both")  # SFT on rows of one kind, or of both; n are the rows of both
TRAINED: tuple[Way, ...] = ("sft", *ARMS, *SOURCES)

SEEDS, ARM_SEEDS, SOURCE_SEEDS = 3, 5, 5
LEAST_SOURCE_SEEDS = 3
LEAST_SOURCE_UNITS = 6  # of dev; with 2, one study in eight of rows that make no difference would say that they do
LEAST_EXAMPLES, WIDEST_RANGE = 8, 32  # the smallest size, and the largest as a multiple of it


@dataclass(frozen=True, slots=True)
class Cell:
    """One way on the first n examples of an order that `seed` draws, measured on dev; one of SOURCES on all rows of its kind. n: 0
    for a way that learns from none.
    """

    way: Way
    n: int
    seed: int

    @property
    def label(self) -> str:
        if self.way in ARMS:
            return f"{self.way}, seed {self.seed}"
        if self.way in SOURCES:
            return f"{'real and synthetic' if self.way == 'both' else self.way} rows, seed {self.seed}"
        return self.way if self.way in BASES else f"{self.way}, {self.n} examples, seed {self.seed}"

    @property
    def trains(self) -> bool:
        return self.way in TRAINED

    def key(self, facts: JsonObject) -> str:
        """A hash of all that its row depends on. facts: those that all cells of the study share."""
        return hash_of([facts, asdict(self)])


@dataclass(frozen=True, slots=True)
class OptimisedInstruction:
    """An instruction that a climb of the same task optimised. rows: of train, from which it was written."""

    text: str
    rows: int


@dataclass(frozen=True, slots=True)
class Grid:
    """ways: that are tried on every size with every seed. bases: that are measured once. probed: whether it is also measured what
    else training changed.
    """

    kind: StudyKind
    sizes: tuple[int, ...]
    seeds: tuple[int, ...]
    ways: tuple[Way, ...]
    bases: tuple[Way, ...]
    probed: bool = False

    def cells(self) -> Iterator[Cell]:
        """Seed by seed, so that an interrupted study has whole curves of fewer seeds."""
        for base in self.bases:
            yield Cell(base, 0, 0)
        for seed in self.seeds:
            for n in self.sizes:
                for way in self.ways:
                    yield Cell(way, n, seed)


def crossover_grid(
    task: Task, n_train: int, sizes: Sequence[int] | None, seeds: int | None, *, optimised: bool = False
) -> Grid:
    """SFT and all ways to prompt. sizes, seeds: None for the defaults. optimised: whether an optimised instruction is one of them.
    Raises InputError for sizes that train is too small for, and for too few seeds.
    """
    drawn = seeds_of(seeds, SEEDS)
    formed = task.output.choices is not None or task.output.json_schema is not None
    bases: tuple[Way, ...] = ("zero-shot", "constrained zero-shot") if formed else ("zero-shot",)
    bases = (*bases, "optimised") if optimised else bases
    ways: tuple[Way, ...] = ("few-shot", "nearest", *(("constrained few-shot",) if formed else ()), "sft")
    return Grid("crossover", sizes_of(sizes, n_train, 5), drawn, ways, bases)


def min_data_grid(n_train: int, sizes: Sequence[int] | None, seeds: int | None) -> Grid:
    """SFT and the prompt of the base. Arguments and errors as of `crossover_grid`."""
    drawn = seeds_of(seeds, SEEDS)
    return Grid("min-data", sizes_of(sizes, n_train, 6), drawn, ("sft",), ("zero-shot",), probed=True)


def arms_grid(n_pairs: int, seeds: int | None) -> Grid:
    """Both ways on all pairs with every seed, and the prompt of the base once. Raises InputError for too few seeds."""
    return Grid("orpo-vs-dpo", (n_pairs,), seeds_of(seeds, ARM_SEEDS), ARMS, ("zero-shot",), probed=True)


def sources_grid(n_train: int, seeds: int | None) -> Grid:
    """All three with every seed, and the prompt of the base once. Raises InputError for too few seeds."""
    drawn = seeds_of(seeds, SOURCE_SEEDS, LEAST_SOURCE_SEEDS)
    return Grid("synthetic", (n_train,), drawn, SOURCES, ("zero-shot",), probed=True)


def seeds_of(number: int | None, usual: int, least: int = LEAST_SEEDS) -> tuple[int, ...]:
    number = usual if number is None else number
    if number < least:
        raise InputError(
            f"found {number}",
            where="--seeds",
            expected=f"at least {least}: fewer say too little about how much seeds matter",
            remedy="Leave it out, or raise it.",
        )
    return tuple(range(number))


def middle_of(rates: Sequence[float]) -> float:
    """The one learning rate that a study trains with: the middle one of several, or between the two middle ones their geometric
    mean, in two digits.
    """
    ordered = sorted(rates)
    low, high = ordered[(len(rates) - 1) // 2], ordered[len(rates) // 2]
    return low if low == high else float(f"{math.sqrt(low * high):.2g}")


def of_different_rows(grid: Grid, train: Sequence[Example], *, named: bool) -> Grid:
    """The grid with one size for each different subset of train: the fewest rows that it has with any seed.

    Rows of a group, and rows with equal inputs, stay together, so that several sizes may come to the same rows, which would be
    trained on again and counted as more examples. named: whether the user named the sizes: then InputError says so. Raises
    InputError also where fewer than two are left.
    """
    subsets = [nested(train, grid.sizes, seed) for seed in grid.seeds]
    before, sizes = [0] * len(subsets), list[int]()
    for size in grid.sizes:
        rows = [len(one[size]) for one in subsets]
        if all(now > then for now, then in zip(rows, before, strict=True)):
            sizes.append(min(rows))
            before = rows
    if len(sizes) < 2:
        raise InputError(
            f"found {len(train)} examples to train on, which do not give two subsets of different sizes",
            where="--sizes",
            expected="at least two: rows of a group stay together, and rows too long for the model are left out",
            remedy="Name sizes that are further apart, or add examples.",
        )
    if named and len(sizes) < len(grid.sizes):
        raise InputError(
            f"found {', '.join(map(str, grid.sizes))}, of which some come to the same rows",
            where="--sizes",
            expected="sizes that are a group or more apart, since rows of a group stay together",
            remedy=f"For example: --sizes {','.join(map(str, sizes))}",
        )
    return replace(grid, sizes=tuple(sizes))


def spread_sizes(n_train: int, count: int) -> tuple[int, ...]:
    """So many sizes up to all of train, each larger by the same factor, rounded to two digits.

    Raises InputError where train is too small for that.
    """
    least = max(LEAST_EXAMPLES, math.ceil(n_train / WIDEST_RANGE))
    if n_train < 2 * least:
        raise InputError(
            f"found {n_train} examples to train on",
            where="the task's train rows",
            expected=f"at least {2 * least} for a study",
            remedy="Add examples, or name --sizes.",
        )
    factor = (n_train / least) ** (1 / (count - 1))
    found = [_rounded(least * factor**place) for place in range(count - 1)]
    return tuple(sorted({*found, n_train}))


def _rounded(size: float) -> int:
    unit: int = 10 ** max(0, math.floor(math.log10(size)) - 1)
    return unit * round(size / unit)


def sizes_of(sizes: Sequence[int] | None, n_train: int, usual: int) -> tuple[int, ...]:
    """usual: how many there are where none is named."""
    if sizes is None:
        return spread_sizes(n_train, usual)
    found = tuple(sorted(set(sizes)))
    if len(found) < 2 or found[0] < 1 or found[-1] > n_train:
        raise InputError(
            f"found {', '.join(map(str, sizes))}",
            where="--sizes",
            expected=f"two or more different numbers of examples, from 1 to the {n_train} to train on",
            remedy="For example: --sizes 20,40,80",
        )
    return found


def hash_of(facts: JsonObject | list[JsonObject]) -> str:
    """By which a row, or what its gate found, is known again."""
    body = json.dumps(facts, sort_keys=True, default=str)
    return hashlib.sha256(body.encode("utf-8", "surrogatepass")).hexdigest()
