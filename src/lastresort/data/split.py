"""Split examples into train, dev and test, by seed and by group, and clean the split of repeats and leaks."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

from lastresort.data.duplicates import NearIndex, input_hash, near_pairs, normalised
from lastresort.data.held_passages import HeldPassages
from lastresort.errors import DataError, SplitError
from lastresort.records.data_report import RowsLeftOut
from lastresort.types import Example, Message

T = TypeVar("T")

DEFAULT_DEV_SHARE = 0.2
DEV_AT_LEAST = 100


@dataclass(frozen=True, slots=True)
class Split:
    """Three disjoint sides, each in a fixed random order with its groups together."""

    train: tuple[Example, ...]
    dev: tuple[Example, ...]
    test: tuple[Example, ...]


def split_examples(
    examples: Sequence[Example],
    *,
    dev: float | int,
    test: float | int,
    group_by: str | None,
    seed: int,
    fixed_dev: list[Example] | None = None,
    fixed_test: list[Example] | None = None,
) -> Split:
    """Train, dev and test. The same examples and seed give the same split, in whatever order the rows came.

    dev, test: a share of the examples below 1, or a count; not used for a side that is fixed. At the default share dev
    is raised to 100 where train keeps as many. group_by: the column that made the groups, for errors; where it is named
    every example needs a group.
    Examples of one group, and examples whose normalised inputs are equal, stay on one side. A side is filled unit by
    unit in an order drawn by hash, and misses its size by at most half a unit.
    Raises DataError where there are too few examples, or a group is on two given sides.
    """
    everything = [*examples, *(fixed_dev or ()), *(fixed_test or ())]
    if group_by is not None:
        _need_groups(everything, group_by)
    test_size = 0 if fixed_test is not None else _size(test, len(examples), "test")
    dev_size = 0 if fixed_dev is not None else _size(dev, len(examples), "dev")
    if fixed_dev is None and dev == DEFAULT_DEV_SHARE and isinstance(dev, float):
        spare = len(examples) - test_size - DEV_AT_LEAST
        dev_size = max(dev_size, DEV_AT_LEAST) if spare >= DEV_AT_LEAST else dev_size
    units = _units(examples, seed)
    _need_units(len(units), 1 + (fixed_dev is None) + (fixed_test is None), examples)
    if len(examples) - test_size - dev_size < 1:
        _raise_too_few(examples, f"{test_size} for test and {dev_size} for dev leave none for train")
    test_units, rest = fill(units, test_size, len)
    dev_units, train_units = fill(rest, dev_size, len)
    split = Split(
        ordered(_flat(train_units), seed),
        ordered(_flat(dev_units) if fixed_dev is None else fixed_dev, seed),
        ordered(_flat(test_units) if fixed_test is None else fixed_test, seed),
    )
    _check_sides(split, examples)
    _check_groups(split, group_by)
    return split


def nested(examples: Sequence[Example], sizes: Sequence[int], seed: int) -> dict[int, tuple[Example, ...]]:
    """Subsets of these sizes, each within the next, in an order drawn by hash.

    Examples of one group, and examples with equal inputs, stay together, as in a split: a subset is the first of these units that
    hold at least so many examples, and may be larger by less than a unit.
    """
    found: dict[int, tuple[Example, ...]] = {}
    taken: list[Example] = []
    units = iter(_units(examples, seed))
    for size in sorted(sizes):
        while len(taken) < size and (unit := next(units, None)) is not None:
            taken += unit
        found[size] = tuple(taken)
    return found


def groups_of(examples: Sequence[Example]) -> list[str] | None:
    """The unit that each example belongs to, for the statistics; None where no example has a group, so that each is its own.

    It does not matter whether split.group_by named the column. An example without a group, among others that have one,
    is a unit of its own.
    """
    groups = [example.group for example in examples]
    if groups.count(None) == len(groups):
        return None
    return [f"item {example.id}" if example.group is None else f"group {example.group}" for example in examples]


def _size(asked: float | int, total: int, side: str) -> int:
    if isinstance(asked, bool) or asked <= 0 or (isinstance(asked, float) and asked >= 1):
        raise DataError(
            f"found {asked}",
            where=f"split.{side}",
            expected="a share between 0 and 1, or a count of examples",
            remedy="Change it in the task file.",
        )
    return int(asked) if asked >= 1 else max(1, round(asked * total))


def _rank(seed: int, kind: str, text: str) -> bytes:
    return hashlib.sha256(f"{seed}\0{kind}\0{text}".encode("utf-8", "surrogatepass")).digest()


def _units(examples: Sequence[Example], seed: int) -> list[list[Example]]:
    """Examples that stay together, in random order: connected by a group or by equal inputs."""
    parent = list(range(len(examples)))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    holder: dict[tuple[str, str], int] = {}
    for index, example in enumerate(examples):
        atoms = [("input", normalised(example.input_text))]
        if example.group is not None:
            atoms.append(("group", example.group))
        for atom in atoms:
            parent[root(index)] = root(holder.setdefault(atom, index))
    members: dict[int, list[Example]] = {}
    for index, example in enumerate(examples):
        members.setdefault(root(index), []).append(example)
    # One hash a group, not the smallest of its rows' hashes: that would draw large groups first.
    return sorted(members.values(), key=lambda unit: _unit_rank(unit, seed))


@dataclass(frozen=True, slots=True)
class UnitSize:
    """Of examples that stay together: their rows, their different inputs, of which dev and test hold one row each, and how many
    independent ones the statistics count in those rows: inputs, or groups where there are some.
    """

    rows: int
    inputs: int
    counted: int


def unit_sizes(examples: Sequence[Example], seed: int) -> list[UnitSize]:
    """In the order in which a split of this seed takes the units."""
    sizes = []
    for unit in _units(examples, seed):
        once = first_of_each(unit)
        groups = groups_of(once)
        sizes.append(UnitSize(len(unit), len(once), len(once if groups is None else set(groups))))
    return sizes


def _unit_rank(unit: list[Example], seed: int) -> bytes:
    groups = {example.group for example in unit if example.group is not None}
    if groups:
        return _rank(seed, "group", min(groups))
    return _rank(seed, "input", normalised(unit[0].input_text))


def fill(units: Iterable[T], size: int, length: Callable[[T], int]) -> tuple[list[T], list[T]]:
    """Units until `size` is reached, and the others; one that would miss by more than leaving it out is passed over."""
    taken, left, count = [], [], 0
    for unit in units:
        if size - count > 0 and abs(count + length(unit) - size) <= size - count:
            taken.append(unit)
            count += length(unit)
        else:
            left.append(unit)
    return taken, left


def _flat(units: Iterable[list[Example]]) -> list[Example]:
    return [example for unit in units for example in unit]


def ordered(side: Sequence[Example], seed: int) -> tuple[Example, ...]:
    """Groups together, in the order of their hash; examples without a group by their own."""

    def key(example: Example) -> tuple[bytes, bytes, str]:
        own = _rank(seed, "example", example.id)
        return (own if example.group is None else _rank(seed, "group", example.group), own, example.id)

    return tuple(sorted(side, key=key))


def _need_groups(examples: Sequence[Example], group_by: str) -> None:
    for example in examples:
        if example.group is None:
            raise DataError(
                "found no group",
                where=f'{example.place}, key "{group_by}"',
                expected="the row's group, as split.group_by asks for",
                remedy="Fill in the column, or leave group_by out.",
            )


def _raise_too_few(examples: Sequence[Example], why: str) -> None:
    raise SplitError(
        f"found {len(examples)} examples: {why}",
        where=examples[0].source if examples else "",
        expected="enough for train, dev and test",
        remedy="Add examples, or make split.dev and split.test smaller.",
    )


def _need_units(found: int, needed: int, examples: Sequence[Example]) -> None:
    if found < needed:
        _raise_too_few(examples, f"only {found} with different input and group, too few to split into {needed}")


def _check_sides(split: Split, examples: Sequence[Example]) -> None:
    for name, side in (("train", split.train), ("dev", split.dev), ("test", split.test)):
        if not side:
            _raise_too_few(examples, f"none is left for {name}, since groups and equal inputs stay together")


def _check_groups(split: Split, group_by: str | None) -> None:
    side_of: dict[str, str] = {}
    for name, side in (("train", split.train), ("dev", split.dev), ("test", split.test)):
        for example in side:
            if example.group is not None and side_of.setdefault(example.group, name) != name:
                raise DataError(
                    f'found the group "{example.group}", which is in {side_of[example.group]} too',
                    where=f'{example.place}, key "{group_by or "group"}"',
                    expected="each group on one side",
                    remedy="Move the group's rows into one file, or leave group_by and the column out.",
                )


@dataclass(frozen=True, slots=True)
class Leak:
    """A training item and the held-out item that it gives away."""

    kind: Literal["exact", "near"]
    train: Example
    side: Literal["dev", "test"]
    held: Example


def find_leaks(train: Sequence[Example], dev: Sequence[Example], test: Sequence[Example]) -> tuple[Leak, ...]:
    """One leak for each training item that is an exact or near duplicate of a held-out one, in the order of train.

    Where several held-out items match, test is named before dev and an exact match before a near one. Synthetic rows have no say
    in which words are common: many near copies of one item would make its words so.
    """
    held: list[tuple[Literal["dev", "test"], Example]] = [("test", item) for item in test]
    held += [("dev", item) for item in dev]
    exact: dict[str, int] = {}
    for position, (_, item) in enumerate(held):
        exact.setdefault(normalised(item.input_text), position)
    # Equal texts are compared once, in the name of the first: exact leaks must not stand for their held-out twins.
    own = [item for item in train if not item.synthetic]
    texts = [item.input_text for item in own if normalised(item.input_text) not in exact]
    border = len(texts)
    texts += [item.input_text for _, item in held]
    near: dict[str, int] = {}
    for first, second in near_pairs(texts, border=border):
        key = normalised(texts[first])
        near[key] = min(near.get(key, len(held)), second - border)
    near |= _near_synthetic(train, [*texts[border:], *texts[:border]], exact, near)
    leaks = []
    for item in train:
        key = normalised(item.input_text)
        if key in exact or key in near:
            kind: Literal["exact", "near"] = "exact" if key in exact else "near"
            side, other = held[exact[key] if kind == "exact" else near[key]]
            leaks.append(Leak(kind, item, side, other))
    return tuple(leaks)


def _near_synthetic(
    train: Sequence[Example], texts: Sequence[str], exact: Mapping[str, int], near: Mapping[str, int]
) -> dict[str, int]:
    """By normalised input of synthetic rows, the place of the held-out item that it nearly is.

    texts: of all other rows, held-out ones first. exact, near: places that are known.
    """
    inputs = {normalised(item.input_text): item.input_text for item in train if item.synthetic}
    inputs = {key: text for key, text in inputs.items() if key not in exact and key not in near}
    if not inputs:
        return {}
    first: dict[str, str] = {}
    for text in texts:
        first.setdefault(normalised(text), text)
    index, positions = NearIndex(list(first.values())), list(exact.values())
    found = {key: index.near(text) for key, text in inputs.items()}
    return {key: positions[place] for key, place in found.items() if place is not None and place < len(positions)}


def remove_leaks(split: Split) -> tuple[Split, tuple[Leak, ...]]:
    """The split without the training items that leak, and what was removed."""
    leaks = find_leaks(split.train, split.dev, split.test)
    leaking = {normalised(leak.train.input_text) for leak in leaks}
    kept = tuple(item for item in split.train if normalised(item.input_text) not in leaking)
    return replace(split, train=kept), leaks


LEAST_DEV = 20  # with fewer items the choice among candidates is a lottery


@dataclass(frozen=True, slots=True)
class CleanSplit:
    """A split without repeats and leaks. leaks: what left train. notes: all that left. changed: synthetic rows that stay in train
    though their passage is not in the documents as it was.
    """

    split: Split
    leaks: tuple[Leak, ...]
    notes: tuple[RowsLeftOut, ...]
    changed: int = 0


def clean(split: Split, passages: HeldPassages | None = None) -> CleanSplit:
    """Every input once in dev and once in test, no dev item in test, no training item in either.

    Equal inputs of dev or test would count as independent evidence, which they are not: the first row of each is kept.
    A dev item that is in test, exactly or nearly, leaves dev; a training item that is in either leaves train, and so does a
    synthetic one that was made from anything but rows that stay in train, or that is of a group of theirs.
    passages: of dev and test, whose synthetic rows leave train; None where no row was made from one.
    Test is never shortened for them. Raises SplitError where too few dev items are left to choose candidates by.
    """
    dev, test = first_of_each(split.dev), first_of_each(split.test)
    repeats: dict[Literal["dev", "test"], int] = {"dev": len(split.dev) - len(dev), "test": len(split.test) - len(test)}
    in_test = {id(leak.train) for leak in find_leaks(dev, (), test)}
    kept = tuple(item for item in dev if id(item) not in in_test)
    task = {normalised(one.input_text) for one in (*split.train, *dev, *test) if not one.synthetic}
    _need_dev(split.dev, dev, kept, len(task))
    cleaned, leaks = remove_leaks(Split(split.train, kept, test))
    train = _made_from_train(cleaned.train, (*split.dev, *split.test))
    not_from_train, changed = len(cleaned.train) - len(train), 0
    if passages is not None:
        train, changed = _without_held_passages(train, passages)
    held_passages = len(cleaned.train) - not_from_train - len(train)
    notes = _notes(len(leaks), not_from_train, held_passages, len(in_test), repeats)
    return CleanSplit(replace(cleaned, train=train), leaks, tuple(notes), changed)


def _without_held_passages(train: Sequence[Example], passages: HeldPassages) -> tuple[tuple[Example, ...], int]:
    """Without synthetic rows made from a passage of dev or test, and how many of the rest were made from one that has changed."""
    made = [(item, item.seed_passage) for item in train if item.seed_passage is not None]
    states = passages.states([passage for _, passage in made])
    away = {id(item) for (item, _), state in zip(made, states, strict=True) if state == "held"}
    return tuple(item for item in train if id(item) not in away), states.count("changed")


def _made_from_train(train: Sequence[Example], held: Sequence[Example]) -> tuple[Example, ...]:
    """Without synthetic rows whose seeds are not all inputs of train, or whose group is held out.

    A seed that is nowhere in the task may have been changed, and be held out as it is now.
    """
    inputs = {input_hash(item) for item in train if not item.synthetic} if any(item.seeds for item in train) else set()
    groups = {item.group for item in held if item.group is not None}
    return tuple(item for item in train if inputs.issuperset(item.seeds or ()) and item.group not in groups)


def first_of_each(side: Sequence[Example]) -> tuple[Example, ...]:
    """Only the first in the file of inputs that are equal when normalised, in the order of the side."""
    first: dict[str, int] = {}
    for position in sorted(range(len(side)), key=lambda position: side[position].row):
        first.setdefault(normalised(side[position].input_text), position)
    return tuple(side[position] for position in sorted(first.values()))


def prompt_key(turns: Sequence[Message]) -> tuple[tuple[str, str], ...]:
    """Equal for equal prompts."""
    return tuple((turn.role, turn.content) for turn in turns)


def one_row_a_prompt(train: Sequence[Example]) -> tuple[list[Example], int]:
    """The first row of each prompt, to be sampled; and how many rows are left out, as their prompt has several outputs.

    Scored against two outputs, of two answers to one prompt each would be better than the other.
    """
    by_prompt: dict[object, list[Example]] = {}
    for row in train:
        by_prompt.setdefault(prompt_key(row.input), []).append(row)
    clear = [rows for rows in by_prompt.values() if len({row.output for row in rows}) == 1]
    return [rows[0] for rows in clear], len(train) - sum(map(len, clear))


def least_dev(rows: int, different: int, inputs: int) -> int:
    """Fewer than LEAST_DEV are accepted where no more were given, or a fifth of the task's different inputs is fewer, unless most
    of those go. Repeats of few inputs are no larger dev set.
    """
    wanted = min(rows, max(different, inputs // 5))
    return LEAST_DEV if wanted >= LEAST_DEV else math.ceil(wanted / 2)


def _need_dev(given: Sequence[Example], different: Sequence[Example], kept: Sequence[Example], inputs: int) -> None:
    least = least_dev(len(given), len(different), inputs)
    if len(kept) < least:
        raise SplitError(
            f"found {len(given)} dev items, and {len(kept)} without repeated inputs and those that are also in test",
            where=given[0].source,
            expected=f"at least {least}",
            remedy="Add dev examples with other inputs that are not in test, or make split.dev larger.",
        )


def _notes(
    leaks: int, not_from_train: int, held_passages: int, dev_in_test: int, repeats: dict[Literal["dev", "test"], int]
) -> list[RowsLeftOut]:
    notes = [
        RowsLeftOut("train", "in dev or test", leaks),
        RowsLeftOut("train", "not made from train", not_from_train),
        RowsLeftOut("train", "from a held passage", held_passages),
        RowsLeftOut("dev", "in test", dev_in_test),
        *(RowsLeftOut(side, "repeated", n) for side, n in repeats.items()),
    ]
    return [note for note in notes if note.n]
