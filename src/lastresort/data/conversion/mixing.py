"""How many rows a mix takes of each file, which ones, and in what order; and which of them it took twice."""

from __future__ import annotations

import hashlib
import json
import math
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, TypeVar

from lastresort.data.conversion.content import RowContent
from lastresort.errors import InputError
from lastresort.types import JsonObject

T = TypeVar("T")
HASH_BYTES = 8  # of a row: among a million, two different ones have the same with a chance below one in ten million
_ROUNDING = 1e-9
_CLOSE = 1e-6  # to 1, for a sum of shares as they are typed


@dataclass(frozen=True, slots=True)
class ShareOf:
    """Of the rows of the mix, above 0."""

    share: float


@dataclass(frozen=True, slots=True)
class RowsOf:
    """So many rows."""

    rows: int


@dataclass(frozen=True, slots=True)
class AllOf:
    """Every row once, or, where the number of rows of the mix is given, in proportion to the size of the file."""


Portion = ShareOf | RowsOf | AllOf


@dataclass(frozen=True, slots=True)
class MixPlan:
    """taken: rows of each file. used_up: the place of the file whose end ended the mix before it had `wanted` rows."""

    taken: tuple[int, ...]
    wanted: int
    used_up: int | None


def plan_mix(
    sizes: Sequence[int], portions: Sequence[Portion], rows: int | None, *, repeat: bool, names: Sequence[str] = ()
) -> MixPlan:
    """How many rows of each file, without replacement unless `repeat`.

    sizes: rows of each file, at least 1. rows: of the mix; None: as many as the portions say. With shares of all files and no
    `rows` the mix ends with the first file that is used up, with `repeat` when every file was used up once. names: of the files,
    for errors.
    Raises InputError for portions that contradict each other, and for a share that is less than one row.
    """
    names = names or [""] * len(sizes)
    wanted = _wanted(sizes, portions, rows, names, repeat=repeat)
    enough = repeat or all(math.floor(part + _ROUNDING) <= size for size, part in zip(sizes, wanted, strict=True))
    fits = 1.0 if enough else min(size / part for size, part in zip(sizes, wanted, strict=True) if part > 0)
    taken = _rounded([part * fits for part in wanted], sizes if not repeat else None)
    whole = round(sum(wanted))
    _refuse_shares_of_nothing(portions, taken, names)
    shortest = min(range(len(sizes)), key=lambda n: sizes[n] / wanted[n] if wanted[n] else math.inf)
    return MixPlan(taken, whole, shortest if sum(taken) < whole else None)


def _refuse_shares_of_nothing(portions: Sequence[Portion], taken: Sequence[int], names: Sequence[str]) -> None:
    for portion, count, name in zip(portions, taken, names, strict=True):
        if isinstance(portion, ShareOf) and not count:
            raise InputError(
                f"found a share of {portion.share:g} in a mix of {sum(taken):,} rows, which is less than one row",
                where=name,
                expected="at least one row of each file",
                remedy="Make the share or the mix larger, or leave the file out.",
            )


def _wanted(
    sizes: Sequence[int], portions: Sequence[Portion], rows: int | None, names: Sequence[str], *, repeat: bool
) -> list[float]:
    shares = [portion.share for portion in portions if isinstance(portion, ShareOf)]
    fixed = [_fixed(*portion, repeat=repeat) for portion in zip(sizes, portions, names, strict=True)]
    if not shares:
        if rows is None:
            return [float(part) for part in fixed]
        if any(isinstance(portion, RowsOf) for portion in portions):
            raise InputError(
                f"found --rows {rows} and numbers of rows of files",
                expected="one of the two",
                remedy="Write shares, such as FILE=0.3, or leave --rows out.",
            )
        return [rows * size / sum(sizes) for size in sizes]
    if len(shares) == len(portions):
        if abs(sum(shares) - 1) > _CLOSE:
            raise InputError(
                f"found shares that add up to {sum(shares):.4g}",
                expected="1, where every file has a share",
                remedy="Correct one of them, or leave the share of one file out to take all of it.",
            )
        ends = [size / share for size, share in zip(sizes, shares, strict=True)]
        whole = float(rows) if rows is not None else max(ends) if repeat else min(ends)
        return [share * whole for share in shares]
    if rows is not None:
        raise InputError(
            f"found --rows {rows}, shares of some files and all rows of others",
            expected="a share of every file, or no --rows",
            remedy="Add the missing shares, or leave --rows out.",
        )
    if sum(shares) >= 1:
        raise InputError(
            f"found shares that add up to {sum(shares):.4g}, which leaves nothing for the other files",
            expected="less than 1",
            remedy="Make them smaller, or give every file a share.",
        )
    whole = sum(fixed) / (1 - sum(shares))
    return [
        portion.share * whole if isinstance(portion, ShareOf) else float(part)
        for portion, part in zip(portions, fixed, strict=True)
    ]


def _fixed(size: int, portion: Portion, name: str, *, repeat: bool) -> int:
    if not isinstance(portion, RowsOf):
        return size if isinstance(portion, AllOf) else 0
    if portion.rows > size and not repeat:
        raise InputError(
            f"found {size:,} rows in a file of which {portion.rows:,} are to be taken",
            where=name,
            expected=f"at most {size:,}",
            remedy="Ask for fewer, or add --repeat to take rows again.",
        )
    return portion.rows


def _rounded(parts: Sequence[float], most: Sequence[int] | None) -> tuple[int, ...]:
    """Whole numbers with the rounded sum, the largest fractions rounded up; less where a fraction finds no further row."""
    taken = [math.floor(part + _ROUNDING) for part in parts]
    by_fraction = sorted(range(len(parts)), key=lambda n: taken[n] - parts[n])
    left = round(sum(parts)) - sum(taken)
    for place in by_fraction:
        has_fraction = parts[place] - taken[place] > _ROUNDING
        if left > 0 and has_fraction and (most is None or taken[place] < most[place]):
            taken[place] += 1
            left -= 1
    return tuple(taken)


def drawn(rows: Callable[[], Iterator[T]], size: int, count: int, dice: Random) -> Iterator[tuple[T, bool]]:
    """`count` of `size` rows in their order, each set of them equally likely; and whether a row comes for the first time.

    More than there are: all of them so often, then so many of them. rows: gives them from the first on.
    Source of the drawing: Knuth, The Art of Computer Programming, vol. 2, 3.4.2, algorithm S.
    """
    rounds, rest = divmod(count, size)
    for number in range(rounds + (rest > 0)):
        left, wanted = size, size if number < rounds else rest
        for row in rows():
            if not wanted:
                break
            if dice.random() * left < wanted:
                wanted -= 1
                yield row, number == 0
            left -= 1


def in_mixed_order(streams: Sequence[Iterator[T]], counts: Sequence[int], dice: Random) -> Iterator[tuple[int, T]]:
    """The rows of all streams, each with the place of its stream. Every order that keeps those of the streams is equally likely."""
    left = list(counts)
    for total in range(sum(counts), 0, -1):
        mark = dice.randrange(total)
        place = 0
        while mark >= left[place]:
            mark -= left[place]
            place += 1
        left[place] -= 1
        yield place, next(streams[place])


@dataclass(frozen=True, slots=True)
class Repeats:
    """Of the rows taken from a file: repeats of other rows taken from it, and different ones that earlier files gave too."""

    within: int
    in_earlier: int


class RepeatCounter:
    """Counts equal rows and equal ids by a hash of eight bytes for each, kept in memory."""

    def __init__(self, files: int) -> None:
        self._hashes = [array("Q") for _ in range(files)]
        self._ids = array("Q")

    def add_id(self, row: JsonObject) -> None:
        """That of a row as it was written, also one that was taken again."""
        if row.get("id") not in (None, ""):
            self._ids.append(_short_hash(str(row["id"])))

    def equal_ids(self) -> int:
        """At the end: how many rows have the id of an earlier row."""
        import numpy

        return len(self._ids) - len(_distinct(numpy.array(self._ids, dtype=numpy.uint64)))

    def add(self, place: int, content: RowContent) -> None:
        """A row of the file of this number: its turns, answers and label count, other columns do not."""
        parts = [[turn.as_dict() for turn in turns] for turns in (content.prompt, *content.answers)]
        text = json.dumps([parts, content.label], sort_keys=True, default=str)
        self._hashes[place].append(_short_hash(text))

    def repeats(self) -> tuple[Repeats, ...]:
        """Of each file, at the end."""
        import numpy

        per_file, earlier = [], numpy.empty(0, dtype=numpy.uint64)
        for hashes in self._hashes:
            file_hashes = _distinct(numpy.array(hashes, dtype=numpy.uint64))
            within = len(hashes) - len(file_hashes)
            del hashes[:]
            both = _distinct(numpy.concatenate((earlier, file_hashes)))
            per_file.append(Repeats(within, len(earlier) + len(file_hashes) - len(both)))
            earlier = both
        return tuple(per_file)


def _short_hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=HASH_BYTES).digest(), "big")


def _distinct(hashes: Any) -> Any:
    """Sorted, in the memory of the given array: `numpy.unique` takes a multiple of it."""
    import numpy

    hashes.sort()
    return hashes[numpy.concatenate(([True], hashes[1:] != hashes[:-1]))] if len(hashes) else hashes
