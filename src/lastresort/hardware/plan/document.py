"""A plan as a value: what `lastresort plan --json` prints."""

from __future__ import annotations

from dataclasses import asdict
from typing import Literal

from pydantic import Field

from lastresort.hardware.cards import PriceKind
from lastresort.hardware.plan.memory import Kind, Memory
from lastresort.hardware.plan.setup import Learning, Method, Sharing
from lastresort.records.document import Count, JsonDocument
from lastresort.types import ReplayLoss

AS_ASKED = "as asked"  # why this method, where the user named it


class PlannedModel(JsonDocument):
    """parameters: each weight once. computed_parameters: weights that one token passes."""

    name: str
    parameters: Count
    computed_parameters: Count
    layers: Count
    hidden: Count
    vocabulary: Count
    context_tokens: int | None


class PlannedSetup(JsonDocument):
    """The fields of `Setup`. number_bytes: of a number in the products. why: this method."""

    method: Method
    learning: Learning
    row_tokens: Count
    batch: Count
    shared_tokens: Count
    accumulation: Count
    checkpointing: bool
    r: Count
    target: Literal["attention", "all-linear"]
    optimizer: Literal["adamw", "paged_adamw_8bit"]
    compute: Literal["auto", "bfloat16", "float32"]
    reference: Literal["adapter off", "second model"]
    sampler: Literal["engine", "same-gpus", "other-gpus"]
    group_size: Count
    rows_at_once: Count
    measured_at_once: int | None
    new_tokens: Count
    replay_loss: ReplayLoss
    number_bytes: Count
    why: str


class CardPrice(JsonDocument):
    """Of one card, an hour."""

    usd_per_hour: float
    date: str | None
    kind: PriceKind


class PlannedCards(JsonDocument):
    """memory_bytes: of one card, as its driver tells. here: the cards are this machine's. named: the user named them."""

    name: str
    count: Count
    sharing: Sharing | None
    memory_bytes: Count
    memory_estimated: bool
    here: bool
    named: bool
    price: CardPrice | None


class MemoryPart(JsonDocument):
    kind: Kind
    name: str
    per_card_bytes: Count
    formula: str
    assumption: str
    total_bytes: Count


class PlannedMemory(JsonDocument):
    total_bytes: Count
    per_card_bytes: Count
    parts: tuple[MemoryPart, ...]


class MeasuringMemory(PlannedMemory):
    """answers_at_once: as many as are asked for. fit_at_once: how many of them can be measured at once."""

    answers_at_once: Count
    fit_at_once: Count


class PlannedTime(JsonDocument):
    """seconds: null where nothing is known of the device's speed. lines: how it comes about."""

    seconds: float | None
    computed_tokens: Count
    lines: tuple[str, ...]
    usd: float | None


class CardOffer(JsonDocument):
    """The cheapest of some cards. seconds, usd: of the whole job; null without one."""

    card: str
    count: Count
    sharing: Sharing | None
    per_card_bytes: Count
    card_bytes: Count
    usd_per_hour: float
    price_date: str | None
    price_kind: PriceKind
    seconds: float | None
    usd: float | None
    beyond_our_trainer: str | None


class MethodRow(JsonDocument):
    method: Method
    per_card_bytes: Count
    measuring_bytes: Count
    fits: bool
    cheapest: CardOffer | None


class RungRow(JsonDocument):
    """What a rung that trains would need. cheapest_up_to_here: cards on which this rung and those below fit, for the job by all of
    them, one after the other.
    """

    rung: str
    method: Method
    learning: Learning
    cheapest: CardOffer | None
    cheapest_up_to_here: CardOffer | None


class PlanDocument(JsonDocument):
    """What `lastresort plan --json` prints.

    fits: training, and measuring at least one answer at a time. largest_batch: rows (dpo: pairs) in a pass with which training
    fits. beyond_our_trainer: what fits so that `lastresort train` cannot do it yet.
    """

    version: Literal[1] = Field(default=1, alias="schema")
    model: PlannedModel
    setup: PlannedSetup
    cards: PlannedCards
    fits: bool
    memory: PlannedMemory
    measuring: MeasuringMemory
    largest_batch: Count
    time: PlannedTime | None
    methods: tuple[MethodRow, ...]
    offers: tuple[CardOffer, ...]
    ladder: tuple[RungRow, ...]
    beyond_our_trainer: str | None
    warnings: tuple[str, ...]


def memory_parts(memory: Memory) -> tuple[MemoryPart, ...]:
    return tuple(MemoryPart(**asdict(part), total_bytes=memory.cards * part.per_card_bytes) for part in memory.parts)
