"""What an optimizer batch counts as one: an answer, a pair, a labelled answer, a sampled answer of a group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lastresort.engine.forest import Row
from lastresort.errors import ContractError


@dataclass(frozen=True, slots=True)
class Item:
    """One item of a batch. Its rows stay in one pass.

    rows: the text with the answer as its targets; of a pair chosen, then rejected; of a labelled answer the row itself, then
    its prompt with another row's answer (for KTO's baseline). desirable: the label, None without one. advantage: how much
    better than its group. old, reference: nats a target token under the policy that sampled the answer and under the
    reference; () where they are not needed, in which case the policy of the update is the one that sampled.
    """

    rows: tuple[Row, ...]
    desirable: bool | None = None
    advantage: float = 0.0
    old: tuple[float, ...] = ()
    reference: tuple[float, ...] = ()

    @property
    def trained(self) -> tuple[Row, ...]:
        """The rows that a pass computes with gradients: all but a mismatched one."""
        return self.rows if self.desirable is None else self.rows[:1]

    @property
    def trained_tokens(self) -> int:
        return sum(len(row.ids) for row in self.trained)


def completions(rows: Sequence[Row]) -> list[Item]:
    """Items of sft and of text."""
    return [Item((row,)) for row in rows]


def pairs(chosen: Sequence[Row], rejected: Sequence[Row]) -> list[Item]:
    """Items of the objectives on pairs."""
    return [Item((good, bad)) for good, bad in zip(chosen, rejected, strict=True)]


def labelled(rows: Sequence[Row], labels: Sequence[bool]) -> list[Item]:
    """Items of kto, each with the answer of the next row whose prompt is another.

    Raises ContractError where all prompts are the same, since no pair can be mismatched.
    """
    items = []
    for number, (row, label) in enumerate(zip(rows, labels, strict=True)):
        later = (rows[(number + step) % len(rows)] for step in range(1, len(rows)))
        other = next((other for other in later if other.prompt != row.prompt), None)
        if other is None:
            raise ContractError("all prompts are the same", where="kto", expected="at least two prompts")
        start = len(other.prompt)
        mismatched = Row((*row.prompt, *other.ids[start:]), (*[False] * len(row.prompt), *other.targets[start:]))
        items.append(Item((row, mismatched), desirable=label))
    return items
