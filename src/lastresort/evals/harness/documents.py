"""The documents of lm-eval's tasks as items of a gate: some for a pilot, the others in an order of each seed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from lastresort.evals.harness.faults import faults_of
from lastresort.evals.harness.quiet import quiet
from lastresort.evals.harness.tasks import SEED, Part
from lastresort.evals.suites.suite import Item

PILOT_ITEMS, PILOT_SHARE = 48, 0.2  # at most so many, and no larger a share of a small set


@dataclass(frozen=True)
class Documents:
    """name: of the suite. An item is called TASK/NUMBER, its family is its task, its text the question without examples."""

    name: str
    part: Part

    @cached_property
    def _read(self) -> dict[str, Any]:
        with quiet(SEED), faults_of(self.name):
            return {name: task.eval_docs for name, task in self.part.tasks.items()}

    @cached_property
    def _orders(self) -> dict[int, list[tuple[str, int]]]:
        """What is scored, by seed, since a gate draws it in many parts."""
        return {}

    @cached_property
    def _fixed(self) -> list[tuple[str, int]]:
        """All documents, in the order of the pilot."""
        named = [(task, number) for task, docs in self._read.items() for number in range(len(docs))]
        return sorted(named, key=lambda one: _place("pilot", one))

    @property
    def _piloted(self) -> int:
        return min(PILOT_ITEMS, int(PILOT_SHARE * len(self._fixed)))

    def pilot(self) -> list[Item]:
        """Documents that are never scored, whatever the seed."""
        return [self._item(one) for one in self._fixed[: self._piloted]]

    def draw(self, seed: int, start: int, stop: int) -> list[Item]:
        """Documents [start, stop) of the seed's order, fewer where there are no more."""
        if seed not in self._orders:
            self._orders[seed] = sorted(self._fixed[self._piloted :], key=lambda one: _place(str(seed), one))
        return [self._item(one) for one in self._orders[seed][start:stop]]

    def _item(self, named: tuple[str, int]) -> Item:
        task, number = named
        with faults_of(self.name):
            text = self.part.tasks[task].doc_to_text(self._read[task][number])
        return Item(f"{task}/{number}", task, 0, str(text))


def _place(seed: str, named: tuple[str, int]) -> bytes:
    return hashlib.sha256(f"{seed} {named[0]} {named[1]}".encode()).digest()
