"""A training about to run: its memory, the largest pass that fits, and the cheapest change of settings that makes it fit."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from lastresort.hardware.plan.fit import SQUEEZE, gib
from lastresort.hardware.plan.memory import Kind, Memory, training_memory
from lastresort.hardware.plan.setup import Cards, Setup
from lastresort.hardware.shape import ModelShape

_STEP_TOKENS = 16  # to which the size of a pass is rounded down
_LESS = 0.25  # of temporary memory: how much less a training takes after it ran out of memory
_CALLED: dict[Kind, str] = {
    "optimizer": "the optimizer's state",
    "cache": "keys and values",
    "context": "libraries and fragmentation",
    "buffers": "dequantised weights",
}
_HELD: tuple[Kind, ...] = ("weights", "adapters", "gradients", "optimizer")


@dataclass(frozen=True, slots=True)
class PlannedTraining:
    """setup: its row and pass sizes do not count; these fields replace them. longest_tokens: computed tokens of the largest unit
    of a pass (a row, or the two rows of a pair). batch_tokens: of an optimizer step. pass_tokens: the most in a pass, unless
    one unit has more. keeps_method: an adapter is trained further, so its kind and base are fixed.
    """

    shape: ModelShape
    setup: Setup
    cards: Cards
    longest_tokens: int
    batch_tokens: int
    pass_tokens: int
    keeps_method: bool = False

    @property
    def memory(self) -> Memory:
        """The peak of a step."""
        return training_memory(self.shape, self._passed(), self.cards)

    @property
    def needed_bytes(self) -> int:
        return self.memory.per_card_bytes

    @property
    def least_bytes(self) -> int:
        """What no pass size changes and the shape gives exactly: weights, gradients and the optimizer's state."""
        return self.memory.of(*_HELD)

    @property
    def loaded_bytes(self) -> int:
        """What is in memory before the first step: the model, what is trained of it, and the libraries."""
        memory = self.memory
        libraries = sum(part.per_card_bytes for part in memory.parts if part.name in ("libraries", "CUDA context"))
        return memory.of("weights", "adapters") + libraries

    def room_below(self, free_bytes: int | None) -> int:
        """The room to plan for after running out of memory: the plan was too low, or others took the free memory."""
        passing = self.memory.of("activations", "logits", "buffers", "cache")
        below = int((self.needed_bytes - _LESS * passing) / SQUEEZE)
        return below if free_bytes is None else min(below, free_bytes)

    def fits(self, room_bytes: int) -> bool:
        return self.needed_bytes <= SQUEEZE * room_bytes

    def largest_part(self) -> str:
        """In words, with its size: "activations, 3.1 GiB"."""
        memory = self.memory
        kinds = dict.fromkeys(part.kind for part in memory.parts)
        largest = max(kinds, key=lambda kind: memory.of(kind))
        return f"{_CALLED.get(largest, largest)}, {gib(memory.of(largest))}"

    def lowered_to(self, pass_tokens: int, *, checkpointing: bool) -> PlannedTraining:
        """With what a run may change as it goes on."""
        return replace(self, pass_tokens=pass_tokens, setup=replace(self.setup, checkpointing=checkpointing))

    def with_largest_pass(self, room_bytes: int) -> PlannedTraining | None:
        """The same with the largest pass that fits, at most the present one; None where even one row is too much."""
        if self.fits(room_bytes):
            return self
        low, high = 0, min(self.pass_tokens, self.batch_tokens) // _STEP_TOKENS
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self._in(middle * _STEP_TOKENS).fits(room_bytes) else (low, middle - 1)
        found = self._in(max(low * _STEP_TOKENS, self.longest_tokens))
        return found if found.fits(room_bytes) else None

    def _in(self, pass_tokens: int) -> PlannedTraining:
        return replace(self, pass_tokens=pass_tokens)

    def _passed(self) -> Setup:
        """With rows that come to the tokens of the fullest pass: memory follows their sum, however they are divided."""
        tokens = max(self.longest_tokens, min(self.pass_tokens, self.batch_tokens))
        of_one = 2 if self.setup.learning == "dpo" else 1
        things = math.ceil(tokens / self.longest_tokens)
        if self.setup.learning == "grpo":  # answers are drawn behind whole prompts, so that rows keep their length
            return replace(self.setup, batch=things, shared_tokens=0)
        return replace(
            self.setup, batch=things, row_tokens=math.ceil(tokens / (of_one * things)), shared_tokens=0, new_tokens=0
        )


@dataclass(frozen=True, slots=True)
class LoweredPlan:
    """planned: with the changes. keys: what changed, as a training file writes it. same_run: whether a run that has begun may go on
    so, since nothing but its rounding changes."""

    planned: PlannedTraining
    keys: Mapping[str, int | str] = field(default_factory=dict)
    same_run: bool = True

    def written(self) -> str:
        """ "max_pass_tokens: 512 and checkpointing: true"; "" where nothing changed."""
        *most, last = [f"{key}: {'true' if value is True else value}" for key, value in self.keys.items()] or [""]
        return f"{', '.join(most)} and {last}" if most else last


def lowered(planned: PlannedTraining, room_bytes: int) -> LoweredPlan | None:
    """The first change with which it fits, with the largest pass; None where none is enough."""
    for one in _changes(planned):
        found = one.planned.with_largest_pass(room_bytes)
        if found is not None:
            smaller = {} if found.pass_tokens == planned.pass_tokens else {"max_pass_tokens": found.pass_tokens}
            return replace(one, planned=found, keys={**smaller, **one.keys})
    return None


def smallest(planned: PlannedTraining) -> PlannedTraining:
    """With every change, one row at a time: what no setting comes below."""
    last = list(_changes(planned))[-1].planned
    return replace(last, pass_tokens=last.longest_tokens)


def _changes(planned: PlannedTraining) -> Iterator[LoweredPlan]:
    """From the one that costs nothing to those that train something else. Checkpointing stays on once it was needed."""
    yield LoweredPlan(planned)
    keys: dict[str, int | str] = {}
    if planned.setup.learning == "grpo" and planned.setup.sampler == "engine":
        while planned.setup.rows_at_once > planned.setup.group_size:
            fewer = max(planned.setup.group_size, planned.setup.rows_at_once // 2)
            planned, keys = _with(planned, rows_at_once=fewer), {"rows_at_once": fewer}
            yield LoweredPlan(planned, dict(keys))
    if not planned.setup.checkpointing:
        planned, keys = _with(planned, checkpointing=True), {**keys, "checkpointing": True}
        yield LoweredPlan(planned, dict(keys))
    if planned.keeps_method:
        return
    if planned.setup.method == "full":
        planned = _with(planned, method="lora", compute="auto")
        yield LoweredPlan(planned, {**keys, "adapter": "lora"}, same_run=False)
    if planned.setup.method == "lora":
        yield LoweredPlan(_with(planned, method="qlora", compute="auto"), {**keys, "adapter": "qlora"}, same_run=False)


def _with(planned: PlannedTraining, **changes: Any) -> PlannedTraining:
    return replace(planned, setup=replace(planned.setup, **changes))
