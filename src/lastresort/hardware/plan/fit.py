"""Whether a training fits on cards, and measuring after it; and what of it our own trainer does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from lastresort.hardware.plan.memory import Memory, measured_at_once, measuring_memory, training_memory
from lastresort.hardware.plan.setup import METHODS, Cards, Method, Setup
from lastresort.hardware.shape import ModelShape

GIB = 1 << 30
MOST_BATCH = 4096
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
    room = f"{gib(cards.card.memory_bytes)} of {'this machine' if cards.card.is_cpu else 'your card'}"
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
        return (
            f"`lastresort train` does not support {cards.sharing}, only torchrun, and FSDP 2 for the base of an adapter"
        )
    if setup.method == "qlora":
        return "`lastresort train` cannot shard a 4-bit base yet; Axolotl and LLaMA-Factory can, with FSDP and QLoRA"
    if setup.method == "full":
        return "`lastresort train` shards only the frozen base of an adapter, not trained weights"
    if setup.learning == "grpo":
        return "`lastresort train` does not shard a base for objectives on groups"
    return None


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
