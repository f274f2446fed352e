"""What more workers would gain in a finished climb: a simulation from the seconds that its batches took in one process.

    python -m benchmarks.worker_speedup runs/harbour-1 [--workers 2 8 64] [--batch 64]

A step is what can be under way at once: the batches of a race's round, of a test, of all suites that one model answers at a look of
the gate. Its batches go to workers in order, each to the first that is free, and the driver hands one out in HAND_OUT seconds
(benchmarks/ray.py). What workers do not do (opening models, replay, training, statistics) takes as long as it took.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, zip_longest
from pathlib import Path

from lastresort.app.runs import Run
from lastresort.records.events.search import CandidateMeasured, CandidateProposed
from lastresort.records.gate import ClimbGate
from lastresort.records.record import Record

HAND_OUT = 0.0035  # seconds, measured with two workers on one machine

Step = tuple[float, ...]  # seconds of the batches that can be under way at once


@dataclass(frozen=True, slots=True)
class Part:
    name: str
    steps: tuple[Step, ...]

    def seconds(self, workers: int) -> float:
        return sum(makespan(step, workers) for step in self.steps)

    @property
    def least(self) -> float:
        """With any number of workers: each step as long as its longest batch."""
        return sum(max(step) for step in self.steps)


def makespan(step: Step, workers: int) -> float:
    """Seconds from the first batch of a step to the end of its last."""
    free = [0.0] * workers
    for number, seconds in enumerate(step):
        first = min(range(workers), key=free.__getitem__)
        free[first] = max(free[first], number * HAND_OUT) + HAND_OUT + seconds
    return max(free)


def batches(items: int, seconds: float, batch: int) -> Step:
    """Seconds of each batch, by its share of the items."""
    sizes = [min(batch, items - start) for start in range(0, items, batch)]
    return tuple(seconds * size / items for size in sizes)


def measured(record: Record, batch: int) -> Part:
    """What the candidates answered. Those that were proposed before the first of them answered are one step."""
    steps: list[list[float]] = []
    proposed: set[str] = set()
    together: set[str] = set()
    of: tuple[str, str] | None = None
    for _, event in record.since():
        if isinstance(event, CandidateProposed):
            proposed.add(event.key)
        elif isinstance(event, CandidateMeasured):
            if (event.rung, event.split) != of or f"{event.rung}/{event.candidate}" not in together:
                of, together = (event.rung, event.split), set(proposed)
                steps.append([])
            steps[-1] += batches(event.n, event.seconds, batch)
    return Part("candidates and tests", tuple(map(tuple, steps)))


def gated(gate: ClimbGate, batch: int) -> Part:
    """Base and tuned model at each look, all suites together, with as many seconds an item as the gate took on average."""
    asked: dict[str, list[int]] = {}  # a suite's longest look has all that its measures saw
    for found in gate.suites:
        if found.looked_at is not None:
            looks = [look.items for look in found.looked_at.looks]
            asked[found.suite] = max(asked.get(found.suite, []), looks, key=len)
    new = [[now - before for before, now in pairwise([0, *items])] for items in asked.values()]
    each = gate.spent.seconds / (2 * sum(map(sum, new)))
    looks = [
        tuple(seconds for items in look for seconds in batches(items, each * items, batch))
        for look in zip_longest(*new, fillvalue=0)
    ]
    return Part("gate", tuple(look for look in looks for _model in range(2)))


def table(parts: Sequence[Part], whole: float, workers: Sequence[int]) -> str:
    """In Markdown. whole: seconds of the climb."""
    alone = [part.seconds(1) for part in parts]
    rest = max(0.0, whole - sum(alone))
    heads = [f"{number} workers" for number in workers]
    lines = [f"| | one worker | {' | '.join(heads)} | at most |", f"|---|{'--:|' * (len(heads) + 2)}"]
    for part, one in zip(parts, alone, strict=True):
        gains = [f"{one / part.seconds(number):.2f} x" for number in workers]
        lines.append(f"| {part.name} | {one:.0f} s | {' | '.join(gains)} | {one / part.least:.2f} x |")
    all_of = [rest + sum(part.seconds(number) for part in parts) for number in workers]
    least = rest + sum(part.least for part in parts)
    gains = [f"{whole / seconds:.2f} x" for seconds in all_of]
    lines.append(f"| the whole climb | {whole:.0f} s | {' | '.join(gains)} | {whole / least:.2f} x |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--workers", type=int, nargs="+", default=[2, 8, 64])
    parser.add_argument("--batch", type=int, default=64, help="prompts that the model answered at once")
    asked = parser.parse_args()
    with Record.open(asked.run, read_only=True) as record:
        parts = [measured(record, asked.batch)]
        first, last = record.times()
    gate = Run(asked.run).view.gate
    if gate is not None:
        parts.append(gated(gate, asked.batch))
    print(table(parts, (last - first).total_seconds(), asked.workers))


if __name__ == "__main__":
    main()
