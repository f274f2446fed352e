"""The plan as one document: memory part by part, whether it fits, time, money, and the alternatives; and its picture's bars."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from lastresort.hardware.cards import Card, Price, card_named, known_cards
from lastresort.hardware.find import known_models, shape_named
from lastresort.hardware.plan.document import (
    AS_ASKED,
    CardOffer,
    CardPrice,
    MeasuringMemory,
    MethodRow,
    PlanDocument,
    PlannedCards,
    PlannedMemory,
    PlannedModel,
    PlannedSetup,
    PlannedTime,
    RungRow,
    memory_parts,
)
from lastresort.hardware.plan.fit import (
    SQUEEZE,
    Fit,
    beyond_our_trainer,
    fit,
    gib,
    host_memory_bytes,
    largest_batch,
    method_for,
    methods_on,
)
from lastresort.hardware.plan.memory import MemoryTerm
from lastresort.hardware.plan.setup import METHODS, Cards, Setup
from lastresort.hardware.plan.time import Offer, TrainingWork, for_all, offers, training_time, usd
from lastresort.hardware.shape import ModelShape
from lastresort.ladder import RUNGS, trained_rungs, trains_all

SHOWN_OFFERS = 3
NODE_CARDS = 8  # the most in one machine, usually


@dataclass(frozen=True, slots=True)
class PlanInputs:
    """method_given: whether the user chose setup.method; else the plan takes the method that fits. cards: None where none was
    named and there is no GPU: then the cheapest that fit. here: the cards are this machine's.
    """

    setup: Setup
    method_given: bool
    cards: Cards | None
    here: bool
    prices: Mapping[str, Price]
    job: TrainingWork | None


def plan(shape: ModelShape, inputs: PlanInputs) -> PlanDocument:
    setup, why = _method(shape, inputs)
    cheapest = offers(shape, setup, inputs.prices, inputs.job)
    cards = inputs.cards or (cheapest[0].cards if cheapest else None)
    if cards is None:
        return _nothing_fits(shape, inputs, setup)
    found = fit(shape, setup, cards)
    return PlanDocument(
        model=PlannedModel.from_fields_of(shape, computed_parameters=shape.multiplied_parameters),
        setup=PlannedSetup.from_fields_of(setup, why=why),
        cards=_cards(cards, inputs),
        fits=found.fits,
        memory=PlannedMemory.from_fields_of(found.training, parts=memory_parts(found.training)),
        measuring=MeasuringMemory.from_fields_of(
            found.measuring,
            parts=memory_parts(found.measuring),
            answers_at_once=found.answers_at_once,
            fit_at_once=found.answers_that_fit,
        ),
        largest_batch=largest_batch(shape, setup, cards),
        time=_time(shape, setup, cards, inputs),
        methods=tuple(_method_row(shape, one, inputs) for one in methods_on(shape, setup, cards)),
        offers=tuple(_offer(one) for one in cheapest[:SHOWN_OFFERS]),
        ladder=_ladder(shape, setup, inputs),
        beyond_our_trainer=beyond_our_trainer(setup, cards),
        warnings=_warnings(shape, found),
    )


def _method(shape: ModelShape, inputs: PlanInputs) -> tuple[Setup, str]:
    if inputs.method_given:
        return inputs.setup, AS_ASKED
    if inputs.cards is None:
        return replace(inputs.setup, method="lora"), "LoRA, since no GPU was named"
    method, why = method_for(shape, inputs.setup, inputs.cards)
    return replace(inputs.setup, method=method or "qlora"), why


def _nothing_fits(shape: ModelShape, inputs: PlanInputs, setup: Setup) -> PlanDocument:
    """On none of the cards with a price: planned for a card without limits, so that the need is seen."""
    largest = max(known_cards().values(), key=lambda card: card.memory_bytes)
    found = plan(shape, replace(inputs, setup=setup, method_given=True, cards=Cards(largest, 8, "fsdp")))
    return found.replaced(warnings=("it fits on no GPU with a known price, not even on eight", *found.warnings))


def _cards(cards: Cards, inputs: PlanInputs) -> PlannedCards:
    price = inputs.prices.get(cards.card.name)
    return PlannedCards(
        name=cards.card.name,
        count=cards.count,
        sharing=cards.sharing if cards.count > 1 else None,
        memory_bytes=cards.card.memory_bytes,
        memory_estimated=cards.card.estimated,
        here=inputs.here,
        named=inputs.cards is not None and not inputs.here,
        price=None if price is None or inputs.here else CardPrice.from_fields_of(price),
    )


def _time(shape: ModelShape, setup: Setup, cards: Cards, inputs: PlanInputs) -> PlannedTime | None:
    if inputs.job is None:
        return None
    found, price = training_time(shape, setup, cards, inputs.job), inputs.prices.get(cards.card.name)
    paid = 0.0 if inputs.here else usd(found.seconds, cards, None if price is None else price.usd_per_hour)
    return PlannedTime(seconds=found.seconds, computed_tokens=found.computed_tokens, lines=found.lines, usd=paid)


def _method_row(shape: ModelShape, found: Fit, inputs: PlanInputs) -> MethodRow:
    cheapest = next(iter(offers(shape, found.setup, inputs.prices, inputs.job)), None)
    return MethodRow(
        method=found.setup.method,
        per_card_bytes=found.training.per_card_bytes,
        measuring_bytes=found.measuring.per_card_bytes,
        fits=found.fits,
        cheapest=None if cheapest is None else _offer(cheapest),
    )


def _offer(one: Offer) -> CardOffer:
    return CardOffer(
        card=one.cards.card.name,
        count=one.cards.count,
        sharing=one.cards.sharing if one.cards.count > 1 else None,
        per_card_bytes=one.per_card_bytes,
        card_bytes=one.cards.card.memory_bytes,
        usd_per_hour=one.usd_per_hour,
        price_date=one.price.date,
        price_kind=one.price.kind,
        seconds=one.seconds,
        usd=one.usd,
        beyond_our_trainer=one.beyond,
    )


def _ladder(shape: ModelShape, setup: Setup, inputs: PlanInputs) -> tuple[RungRow, ...]:
    """What each rung that trains would need, and the cheapest cards for it and for all up to it."""
    rows, setups = list[RungRow](), list[Setup]()
    for name in trained_rungs():
        rung_setup = _rung_setup(name, setup)
        setups.append(rung_setup)
        alone, together = (for_all(shape, some, inputs.prices, inputs.job) for some in ([rung_setup], setups))
        rows.append(
            RungRow(
                rung=name,
                method=rung_setup.method,
                learning=rung_setup.learning,
                cheapest=None if alone is None else _offer(alone),
                cheapest_up_to_here=None if together is None else _offer(together),
            )
        )
    return tuple(rows)


def _rung_setup(rung: str, setup: Setup) -> Setup:
    """How the rung trains where a plan is asked for `setup`; preferences as pairs."""
    method = "full" if trains_all(rung) else "lora" if setup.trains_all else setup.method
    return replace(setup, method=method, learning="dpo" if RUNGS[rung].learns == "preferences" else "sft")


def _warnings(shape: ModelShape, found: Fit) -> tuple[str, ...]:
    setup, room = found.setup, found.cards.card.memory_bytes
    warnings = []
    if found.training.per_card_bytes > room:
        warnings.append(f"it does not fit: it needs {gib(found.training.per_card_bytes)} and there is {gib(room)}")
    elif found.training.per_card_bytes > SQUEEZE * room:
        warnings.append(
            f"it is tight: {gib(found.training.per_card_bytes)} of {gib(room)}, within the error of this forecast"
        )
    elif found.training.of("weights") > 0.75 * room:
        warnings.append(
            f"the weights alone take {found.training.of('weights') / room:.0%} of the GPU, so longer rows soon will not fit"
        )
    if found.answers_that_fit < found.answers_at_once:
        warnings.append(
            f"measuring needs memory too: {found.answers_at_once} answers at once take "
            f"{gib(found.measuring.per_card_bytes)}; {found.answers_that_fit or 'none'} fit"
        )
    if shape.context_tokens is not None and setup.row_tokens > shape.context_tokens:
        warnings.append(
            f"rows of {setup.row_tokens:,} tokens are longer than the model's context of {shape.context_tokens:,}"
        )
    if shape.has_experts and setup.method == "qlora":
        warnings.append(
            "the experts of a layer are one stacked tensor, which bitsandbytes leaves in 16 bits: QLoRA saves little here"
        )
    host = host_memory_bytes(shape, setup, found.cards)
    if host:
        most = min(found.cards.count, NODE_CARDS)
        warnings.append(
            f"`lastresort train` quantises the whole base in every process before sharding it, which takes {gib(host)} of host "
            f"memory each: {gib(most * host)} on a machine with {most} of these GPUs"
        )
    if not found.cards.card.bf16 and setup.number_bytes == 2:
        warnings.append(
            f"{found.cards.card.name} has no bf16 products, and `lastresort train` uses no fp16: it would be far slower"
        )
    if found.cards.card.estimated:
        warnings.append(
            f"the memory of {found.cards.card.name} is estimated; name what `lastresort env` shows there, such as --gpu 23.6GiB"
        )
    return tuple(warnings)


SIZES = ("rtx-3060", "t4", "rtx-3090", "l40s", "a100-80", "h200")  # of the sizes that cards come in, one each


@dataclass(frozen=True, slots=True)
class Bar:
    """A method on the plan's cards. parts: of its training."""

    name: str
    parts: tuple[MemoryTerm, ...]

    @property
    def per_card_bytes(self) -> int:
        return sum(part.per_card_bytes for part in self.parts)


def bars(shape: ModelShape, found: PlanDocument, inputs: PlanInputs) -> list[Bar]:
    card = inputs.cards.card if inputs.cards else card_named(found.cards.name)
    cards = inputs.cards or Cards(card, found.cards.count, found.cards.sharing or "ddp")
    setup = replace(inputs.setup, method=found.setup.method)
    return [Bar(one.setup.method, one.training.parts) for one in methods_on(shape, setup, cards)]


def marks(found: PlanDocument) -> list[tuple[str, int]]:
    """The plan's own card first, then one of each usual size."""
    own = found.cards.name, found.cards.memory_bytes
    return [own, *((name, known_cards()[name].memory_bytes) for name in SIZES if name != own[0])]


def within_reach(card: Card) -> dict[str, dict[str, str | int] | None]:
    """For each method the largest model that fits, with one row of 1,024 tokens at a time; None where none does."""
    by_size = sorted(known_models().values(), key=lambda known: -known.parameters)
    found: dict[str, dict[str, str | int] | None] = {}
    for method in METHODS:
        setup = Setup(method)
        fitting = (known for known in by_size if fit(shape_named(known.name), setup, Cards(card)).fits)
        largest = next(fitting, None)
        found[method] = None if largest is None else {"name": largest.name, "parameters": largest.parameters}
    return found
