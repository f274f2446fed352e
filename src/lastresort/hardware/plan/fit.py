"""Whether a training fits on cards, and measuring after it; and what of it our own trainer does.

Of a training about to run: its memory, the largest pass that fits, and the cheapest change of settings that makes it fit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from lastresort.hardware.plan.memory import (
    START,
    Kind,
    Memory,
    measured_at_once,
    measuring_memory,
    training_memory,
    weight_bytes,
    widest,
)
from lastresort.hardware.plan.setup import METHODS, Cards, Method, Setup
from lastresort.hardware.shape import ModelShape

GIB = 1 << 30
MOST_BATCH = 4096
# Temporary host memory for each weight of the matrix that bitsandbytes quantises on a CPU. Measured: 14.2 and 14.5.
QUANTISING_BYTES = 14.5
SQUEEZE = 0.95  # of a card's memory: beyond it a forecast's own error decides
NAMES = {"lora": "LoRA", "qlora": "QLoRA", "full": "training all weights"}


@dataclass(frozen=True, slots=True)
class Fit:
    """answers_at_once: as many as are asked for. answers_that_fit: how many of them can be measured at once; 0: not even one."""

    setup: Setup
    cards: Cards
    training: Memory
    measuring: Memory
    answers_at_once: int
    answers_that_fit: int

    @property
    def fits(self) -> bool:
        return self.training.per_card_bytes <= self.cards.card.memory_bytes and self.answers_that_fit > 0


def fit(shape: ModelShape, setup: Setup, cards: Cards) -> Fit:
    measuring = measuring_memory(shape, setup, cards)
    at_once = measured_at_once(shape, setup)
    answers = _most(at_once, lambda n: _measures(shape, setup, cards, n))
    return Fit(setup, cards, training_memory(shape, setup, cards), measuring, at_once, answers)


def largest_batch(shape: ModelShape, setup: Setup, cards: Cards) -> int:
    """The most rows (dpo: pairs) in a pass with which training fits; 0 where one does not."""

    def trains(batch: int) -> bool:
        memory = training_memory(shape, replace(setup, batch=batch), cards)
        return memory.per_card_bytes <= cards.card.memory_bytes

    return _most(MOST_BATCH, trains)


def method_for(shape: ModelShape, setup: Setup, cards: Cards) -> tuple[Method | None, str]:
    """LoRA where it fits, QLoRA where only that does, None where neither; and why, as half a sentence."""
    room = f"{gib(cards.card.memory_bytes)} of {'this machine' if cards.card.is_cpu else 'your GPU'}"
    lora, qlora = (fit(shape, replace(setup, method=method), cards) for method in ("lora", "qlora"))
    if lora.fits:
        return "lora", f"LoRA, which needs {gib(lora.training.per_card_bytes)} of the {room}"
    why = f"LoRA needs {gib(lora.training.per_card_bytes)}, more than the {room}"
    if qlora.fits:
        return "qlora", f"QLoRA, which needs {gib(qlora.training.per_card_bytes)}, since {why}"
    return None, f"neither LoRA nor QLoRA: {why}, and QLoRA needs {gib(qlora.training.per_card_bytes)}"


def methods_on(shape: ModelShape, setup: Setup, cards: Cards) -> list[Fit]:
    """Every method with otherwise the same setup."""
    return [fit(shape, replace(setup, method=method), cards) for method in METHODS]


def beyond_our_trainer(setup: Setup, cards: Cards) -> str | None:
    """Why `lastresort train` cannot do this, though it may fit; None where it can. The rules of train/loop/processes.py."""
    if cards.count == 1 or cards.sharing == "ddp":
        return None
    if cards.sharing != "fsdp":
        return f"`lastresort train` does not support {cards.sharing}, only torchrun and FSDP 2"
    if setup.method == "full" and setup.optimizer != "adamw":
        return f"`lastresort train` does not shard the state of {setup.optimizer}"
    if setup.learning == "grpo":
        return "`lastresort train` does not shard a model for objectives on groups"
    return None


def host_memory_bytes(shape: ModelShape, setup: Setup, cards: Cards) -> int:
    """Peak host memory of each process of `train` while it quantises a base that will be sharded; 0 for other trainings."""
    sharded = cards.sharing == "fsdp" and cards.count > 1 and not cards.card.is_cpu
    if setup.method != "qlora" or not sharded or beyond_our_trainer(setup, cards) is not None:
        return 0
    return weight_bytes(shape, setup.method, setup.number_bytes) + round(QUANTISING_BYTES * widest(shape).weights)


def gib(size: float) -> str:
    """ "17.3 GiB", "208 GiB"."""
    return f"{size / GIB:,.0f} GiB" if size >= 99.95 * GIB else f"{size / GIB:,.1f} GiB"


def _measures(shape: ModelShape, setup: Setup, cards: Cards, answers: int) -> bool:
    memory = measuring_memory(shape, replace(setup, measured_at_once=answers), cards)
    return memory.per_card_bytes <= cards.card.memory_bytes


def _most(limit: int, fits: Callable[[int], bool]) -> int:
    """The largest number up to `limit` that fits; what fits with more fits with fewer."""
    low, high = 0, limit
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


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
        named = {part.name: part.per_card_bytes for part in memory.parts}
        libraries = named.get("libraries", 0) + named.get("CUDA context", 0)
        return memory.of("weights", "adapters") - named.get(START, 0) + libraries

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
        most = min(self.pass_tokens, self.batch_tokens) // _STEP_TOKENS
        steps = _most(most, lambda n: self._in(n * _STEP_TOKENS).fits(room_bytes))
        found = self._in(max(steps * _STEP_TOKENS, self.longest_tokens))
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
