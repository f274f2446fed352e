"""The items of each optimizer step: of a data set, in an order that follows from seed and step alone, or sampled for the step.

An item is what a batch counts as one: an answer, a pair, a labelled answer, a sampled answer of a group. Its rows are token
ids with their targets, rendered as in measuring and serving.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Protocol

from lastresort.data.rendering import render_training
from lastresort.engine.forest import Row
from lastresort.errors import ContractError, DataError
from lastresort.types import Example, Json, Message


def batch_of(step: int, n: int, batch_size: int, seed: int) -> list[int]:
    """Row numbers of optimizer step `step` (0-based): each epoch is cut into ceil(n / batch_size) batches."""
    per_epoch = steps_per_epoch(n, batch_size)
    epoch, place = divmod(step, per_epoch)
    return list(_shuffled(n, epoch, seed)[place * batch_size : (place + 1) * batch_size])


def steps_per_epoch(n: int, batch_size: int) -> int:
    return -(-n // batch_size)


@lru_cache(maxsize=1)
def _shuffled(n: int, epoch: int, seed: int) -> tuple[int, ...]:
    # By seed and epoch alone, so that a resumed run goes on as if uncut. Kept for the steps of its epoch: of 100,000 rows a
    # shuffle takes as long as a small step.
    order = list(range(n))
    random.Random(f"{seed}:{epoch}").shuffle(order)
    return tuple(order)


@dataclass(frozen=True, slots=True)
class TrainingItem:
    """One item of a batch. Its rows stay in one pass.

    rows: the text with the answer as its targets; of a pair chosen, then rejected; of a labelled answer the row itself, then
    its prompt with another row's answer (for KTO's baseline). desirable: the label, None without one. advantage: how much
    better than its group. old, reference: nats a target token under the policy that sampled the answer and under the
    reference; () where they are not needed, in which case the policy of the update is the one that sampled. held: an answer whose
    loss is not -log p but how far the policy's distribution is from the base's, at each of its targets. weight: of each of its
    targets in the loss.
    """

    rows: tuple[Row, ...]
    desirable: bool | None = None
    advantage: float = 0.0
    old: tuple[float, ...] = ()
    reference: tuple[float, ...] = ()
    held: bool = False
    weight: float = 1.0

    @property
    def is_replay(self) -> bool:
        """Whether it is an answer alone: among pairs or labelled answers a row of replay."""
        return self.desirable is None and len(self.rows) == 1

    @property
    def trained(self) -> tuple[Row, ...]:
        """The rows that a pass computes with gradients: all but a mismatched one."""
        return self.rows if self.desirable is None else self.rows[:1]


def completions(rows: Sequence[Row]) -> list[TrainingItem]:
    """Items of sft and of text."""
    return [TrainingItem((row,)) for row in rows]


def replayed(rows: Sequence[Row], *, held: bool, weight: float = 1.0) -> list[TrainingItem]:
    """Items of replay: held to the base's distribution, or trained on what the base said."""
    return [TrainingItem((row,), held=held, weight=weight) for row in rows]


def pairs(chosen: Sequence[Row], rejected: Sequence[Row]) -> list[TrainingItem]:
    """Items of the objectives on pairs."""
    return [TrainingItem((good, bad)) for good, bad in zip(chosen, rejected, strict=True)]


def labelled(rows: Sequence[Row], labels: Sequence[bool]) -> list[TrainingItem]:
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
        items.append(TrainingItem((row, mismatched), desirable=label))
    return items


def training_rows(
    tokenizer: Any,
    examples: Sequence[Example],
    compose: Callable[[Sequence[Message]], Sequence[Message]],
    *,
    context_tokens: int | None,
    template_kwargs: Mapping[str, Json] | None = None,
    ends: Sequence[bool] | None = None,
) -> list[Row]:
    """Render each example as the composed conversation plus its answer.

    compose: turns of the input -> the conversation the system will show at inference. ends: False for an answer that was
    cut, whose end token must then not be trained. Raises DataError for a row longer than the context.
    """
    rows = []
    for index, example in enumerate(examples):
        conversation = [*compose(example.input), Message("assistant", example.output)]
        rendered = render_training(tokenizer, conversation, template_kwargs=template_kwargs, where=example.place)
        if context_tokens is not None and len(rendered.ids) > context_tokens:
            raise DataError(
                f"{len(rendered.ids)} tokens",
                where=example.place,
                expected=f"at most the model's context of {context_tokens}",
                remedy="Shorten or remove the row, or take a model with a longer context.",
            )
        targets = list(rendered.targets)
        if ends is not None and not ends[index]:
            targets[max(i for i, trained in enumerate(targets) if trained)] = False
        rows.append(Row(tuple(rendered.ids), tuple(targets)))
    return rows


@dataclass(frozen=True, slots=True)
class Batch:
    """items: all of one optimizer step, on all devices; none where sampling gave nothing to learn from. numbers: the place
    of each in the data set, () for sampled ones. figures: what is recorded with the loss. dropped: sampled answers that are no
    items, having no advantage; the mean of grpo and dr_grpo is over them too.
    """

    items: tuple[TrainingItem, ...]
    numbers: tuple[int, ...] = ()
    figures: dict[str, float] = field(default_factory=dict)
    dropped: int = 0


class Batches(Protocol):
    """The batches of a run. size: things in an epoch. items: all items, where they are known beforehand."""

    @property
    def size(self) -> int: ...

    @property
    def items(self) -> Sequence[TrainingItem]: ...

    def fingerprint(self) -> str:
        """Changes whenever a batch might."""

    def first_items(self) -> Sequence[TrainingItem]:
        """What the run's first step is like, by which the engine's paths are compared before anything else is computed. () where
        nothing is known of it."""

    def at(
        self, step: int, model: Any, reference: Callable[[Sequence[Row]], Any] | None, *, plain: bool = False
    ) -> Batch:
        """Batch of step `step` (0-based): a function of step, the data and the model's weights alone.

        plain: whether what is sampled for it takes the engine's plain path.
        """


class DataSet:
    """Items that are known beforehand, shuffled for each epoch."""

    def __init__(self, items: Sequence[TrainingItem], batch_size: int, seed: int) -> None:
        if not items:
            raise ContractError("no items to train on", where="train")
        self.items, self._batch_size, self._seed = tuple(items), batch_size, seed

    @property
    def size(self) -> int:
        return len(self.items)

    def fingerprint(self) -> str:
        return fingerprint(self.items)

    def first_items(self) -> Sequence[TrainingItem]:
        return self.at(0, None, None).items

    def at(
        self, step: int, model: Any, reference: Callable[[Sequence[Row]], Any] | None, *, plain: bool = False
    ) -> Batch:
        numbers = batch_of(step, len(self.items), self._batch_size, self._seed)
        return Batch(tuple(self.items[i] for i in numbers), tuple(numbers))


def fingerprint(items: Sequence[TrainingItem]) -> str:
    """Hash of the rows and labels of items, in their order."""
    digest = hashlib.sha256()
    for item in items:
        digest.update(repr((item.desirable, *((row.ids, row.targets) for row in item.rows))).encode())
        if item.held or item.weight != 1.0:
            digest.update(repr((item.held, item.weight)).encode())
    return digest.hexdigest()
