"""The grid of a study as values: which ways, on how many examples, with which seeds."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal

from lastresort.data.split import nested
from lastresort.errors import InputError
from lastresort.evals.evidence.curve_means import LEAST_SEEDS
from lastresort.spec.task import Task
from lastresort.types import Example, JsonObject

StudyKind = Literal["crossover", "min-data", "orpo-vs-dpo"]
Way = Literal["zero-shot", "constrained zero-shot", "few-shot", "constrained few-shot", "nearest", "sft", "dpo", "orpo"]
BASES: tuple[Way, ...] = ("zero-shot", "constrained zero-shot")  # learn from no example

ARMS: tuple[Way, ...] = ("dpo", "orpo")  # SFT then DPO against ORPO; n are pairs

SIZES: dict[StudyKind, int] = {"crossover": 5, "min-data": 6}
SEEDS, ARM_SEEDS = 3, 5
LEAST_EXAMPLES, WIDEST_RANGE = 8, 32  # the smallest size, and the largest as a multiple of it


@dataclass(frozen=True, slots=True)
class Cell:
    """One way on the first n examples of an order that `seed` draws, measured on dev. n: 0 for a way that learns from none."""

    way: Way
    n: int
    seed: int

    @property
    def label(self) -> str:
        if self.way in ARMS:
            return f"{self.way}, seed {self.seed}"
        return self.way if self.way in BASES else f"{self.way}, {self.n} examples, seed {self.seed}"

    def key(self, facts: JsonObject) -> str:
        """A hash of all that its row depends on. facts: those that all cells of the study share."""
        body = json.dumps([facts, asdict(self)], sort_keys=True, default=str)
        return hashlib.sha256(body.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True, slots=True)
class Grid:
    """ways: that are tried on every size with every seed. bases: that are measured once."""

    kind: StudyKind
    sizes: tuple[int, ...]
    seeds: tuple[int, ...]
    ways: tuple[Way, ...]
    bases: tuple[Way, ...]

    @property
    def probed(self) -> bool:
        """Whether the study also measures what else training changed."""
        return self.kind != "crossover"

    def cells(self) -> Iterator[Cell]:
        """Seed by seed, so that an interrupted study has whole curves of fewer seeds."""
        for base in self.bases:
            yield Cell(base, 0, 0)
        for seed in self.seeds:
            for n in self.sizes:
                for way in self.ways:
                    yield Cell(way, n, seed)


def grid_of(kind: StudyKind, task: Task, n_train: int, sizes: Sequence[int] | None, seeds: int | None) -> Grid:
    """sizes, seeds: None for the defaults. Raises InputError for sizes that train is too small for, and for too few seeds."""
    number = _checked_seeds(SEEDS if seeds is None else seeds)
    found = spread_sizes(n_train, SIZES[kind]) if sizes is None else _checked(sizes, n_train)
    formed = task.output.choices is not None or task.output.json_schema is not None
    bases: tuple[Way, ...] = ("zero-shot",)
    ways: tuple[Way, ...] = ("sft",)
    if kind == "crossover":
        bases = ("zero-shot", "constrained zero-shot") if formed else bases
        ways = ("few-shot", "nearest", *(("constrained few-shot",) if formed else ()), "sft")
    return Grid(kind, found, tuple(range(number)), ways, bases)


def grid_of_arms(n_pairs: int, seeds: int | None) -> Grid:
    """Both ways on all pairs with every seed, and the prompt of the base once. Raises InputError for too few seeds."""
    number = _checked_seeds(ARM_SEEDS if seeds is None else seeds)
    return Grid("orpo-vs-dpo", (n_pairs,), tuple(range(number)), ARMS, ("zero-shot",))


def refuse_sizes(sizes: Sequence[int] | None) -> None:
    """Raises InputError where sizes are named for a study that has none."""
    if sizes is not None:
        raise InputError(
            f"found {', '.join(map(str, sizes))}",
            where="--sizes",
            expected="none: orpo-vs-dpo trains on all pairs of the task",
            remedy="Leave it out.",
        )


def refuse_rates(rates: Mapping[str, float | None]) -> None:
    """rates: by option. Raises InputError where one is named for a study that trains by SFT alone."""
    for option, rate in rates.items():
        if rate is not None:
            raise InputError(
                f"found {rate:g}",
                where=option,
                expected="none: only orpo-vs-dpo trains by DPO and ORPO",
                remedy="Leave it out; sft.learning_rates sets the rate of SFT.",
            )


def _checked_seeds(number: int) -> int:
    if number < LEAST_SEEDS:
        raise InputError(
            f"found {number}",
            where="--seeds",
            expected=f"at least {LEAST_SEEDS}: one seed says nothing about how much seeds matter",
            remedy="Leave it out, or raise it.",
        )
    return number


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


def _checked(sizes: Sequence[int], n_train: int) -> tuple[int, ...]:
    found = tuple(sorted(set(sizes)))
    if len(found) < 2 or found[0] < 1 or found[-1] > n_train:
        raise InputError(
            f"found {', '.join(map(str, sizes))}",
            where="--sizes",
            expected=f"two or more different numbers of examples, from 1 to the {n_train} to train on",
            remedy="For example: --sizes 20,40,80",
        )
    return found
