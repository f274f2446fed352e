"""The program's own test of the bar, asked once for every count of right answers that a test can come to.

A verdict on 0/1 scores hangs on how many of so many answers are right, so that a table of these counts stands for the test
itself: millions of simulated tests then cost a look-up each. The table is filled by `climb.bar_test.judge_so_far`.
"""

from __future__ import annotations

import functools
import importlib
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from climb_support import scripted_task
from lastresort.climb.bar_test import BarRule, judge_so_far
from lastresort.evals.evidence import bar as bar_module
from lastresort.ladder import RUNGS
from lastresort.records.record import ItemScore
from lastresort.spec.task import Task, load_task
from lastresort.types import Example, Judgement

# By its path, since the folder exports a function of the same name.
outlook_module = importlib.import_module("lastresort.evals.evidence.outlook")


@functools.cache
def task_for(rungs: int, bar: float, confidence: float, on_undecided: str = "lead") -> Task:
    """A task whose ladder has so many rungs, as the program reads it from its file."""
    settings = {"ladder": list(RUNGS)[:rungs], "bar": bar, "confidence": confidence, "on_undecided": on_undecided}
    with tempfile.TemporaryDirectory() as folder:
        return load_task(scripted_task(Path(folder), quality=[], task=settings))


def scored_item(score: float) -> ItemScore:
    return ItemScore("item", score, "", "", "", "stop", None, 0, 0, 0.0, 0.0)


def items_of(groups: Sequence[str] | int) -> list[Example]:
    """A test set: its items' groups, or how many items without one."""
    labels = [None] * groups if isinstance(groups, int) else groups
    return [Example(f"item {number}", (), "", label) for number, label in enumerate(labels)]


@dataclass(frozen=True, slots=True)
class BarTable:
    """ends: whether the test ends after so many items with so many right, shape (n + 1, n + 1). judgements: what it then says."""

    ends: np.ndarray[Any, np.dtype[np.bool_]]
    judgements: dict[tuple[int, int], Judgement]

    def judge(self, right: np.ndarray[Any, np.dtype[np.bool_]]) -> list[Judgement]:
        """The judgement on each row of answers, shape (tests, n): that of the first item at which the test ends."""
        counts = np.cumsum(right, axis=1)
        last = self.ends[np.arange(1, right.shape[1] + 1), counts].argmax(axis=1)
        found = counts[np.arange(len(right)), last]
        return [self.judgements[n + 1, s] for n, s in zip(last.tolist(), found.tolist(), strict=True)]


@functools.cache
def bar_table(bar: float, alpha: float, n: int) -> BarTable:
    """Follow both continuations of every count at which the test goes on, until each count is known.

    A judgement says of one whole row of answers where the test ends, and so of every count before that it goes on: the rows
    are drawn out along the bar, each covering many counts.
    """
    rule, order = BarRule(bar, True, alpha), items_of(n)
    wrong_or_right = (scored_item(0.0), scored_item(1.0))
    going_on: list[dict[int, tuple[int, ...]]] = [{} for _ in range(n + 1)]
    going_on[0][0] = ()
    judgements: dict[tuple[int, int], Judgement] = {}
    for items in range(n):
        for right in list(going_on[items]):
            for answer in (0, 1):
                if right + answer in going_on[items + 1] or (items + 1, right + answer) in judgements:
                    continue
                row = _along_the_bar((*going_on[items][right], answer), bar, n)
                judgement = judge_so_far(rule, [wrong_or_right[answer] for answer in row], order)
                assert judgement is not None
                counts = np.cumsum((0, *row)).tolist()
                for before in range(items + 1, judgement.n_used):
                    going_on[before].setdefault(counts[before], row[:before])
                judgements[judgement.n_used, counts[judgement.n_used]] = judgement
    ends = np.zeros((n + 1, n + 1), dtype=np.bool_)
    ends[tuple(np.transpose(list(judgements)))] = True
    return BarTable(ends, judgements)


def _along_the_bar(row: tuple[int, ...], bar: float, n: int) -> tuple[int, ...]:
    """The row drawn out to n answers, as far above or below the bar as it stands."""
    answers, right = list(row), sum(row)
    ahead = right - bar * len(row)
    while len(answers) < n:
        answer = int(right - bar * len(answers) <= ahead)
        answers.append(answer)
        right += answer
    return tuple(answers)


@contextmanager
def without_intervals() -> Iterator[None]:
    """Judgements of graded scores without the limits that they report, which take nearly all of the time and decide nothing."""
    with (
        mock.patch.object(bar_module, "graded_interval", return_value=(0.0, 1.0)),
        mock.patch.object(bar_module, "lowest_uncrossed", return_value=0.0),
    ):
        yield


@contextmanager
def without_items_needed() -> Iterator[None]:
    """Judgements of tests that go on without the items that an UNDECIDED needs, whose search decides nothing. Also a decorator."""
    with mock.patch.object(outlook_module, "needed_to_go_on", return_value=None):
        yield
