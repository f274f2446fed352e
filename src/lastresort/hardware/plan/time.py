"""Time from operations and the share of a device's peak that work reaches; money from time.

Operations per weight and computed token: 2 forward, 2 backward through a frozen base or 4 where its weights are trained, and 2 more
where checkpointing recomputes the forward. Attention on top, by the length of the text.

Also the cheapest cards to rent on which a training fits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from lastresort.errors import InputError
from lastresort.hardware.cards import Price, card_named, cards_of_size
from lastresort.hardware.plan.fit import beyond_our_trainer, fit
from lastresort.hardware.plan.memory import weight_bytes
from lastresort.hardware.plan.setup import MOST_COUNT, Cards, Method, Setup
from lastresort.hardware.shape import ModelShape

FORWARD = 2
FROZEN_BASE, ALL_WEIGHTS = 4, 6  # forward and backward
# Measured by benchmarks/ on 2 CPU cores with the embedded model, as a share of this machine's matrix product rate: long passes
# reach about half of it, decoding steps of a batch about a fifth.
TRAIN_UTILISATION, PREFILL_UTILISATION, DECODE_UTILISATION = 0.5, 0.5, 0.2
# Of a card's peak, not yet measured by this project: what training in 16 bits usually reaches on one card, and on NF4 1.4 times
# longer (Raschka 2023, LoRA and QLoRA of Llama 2 7B on an A100). Float32 has a peak of its own: torch leaves TF32 off.
CARD_UTILISATION: dict[Method, float] = {"lora": 0.40, "qlora": 0.28, "full": 0.40}
BANDWIDTH_UTILISATION = 0.6  # of decoding, which reads all weights for every token
SHARED_CARDS = 0.85  # of the rate of as many cards alone


@dataclass(frozen=True, slots=True)
class TrainingWork:
    """How much is trained on. rows: examples, pairs or prompts of groups. tokens: of a whole row on average. rate: of a measured
    matrix product in operations a second, where the device is here; None for the catalogue's peak."""

    rows: int
    tokens: float
    epochs: float
    rate: float | None = None

    def __post_init__(self) -> None:
        for name, count in (("rows", self.rows), ("tokens of a row", self.tokens), ("epochs", self.epochs)):
            if not 0 < count <= MOST_COUNT:
                expected = f"a number above 0 and at most {MOST_COUNT:,}"
                raise InputError(f"found a number of {name} that no training has", where="plan", expected=expected)


@dataclass(frozen=True, slots=True)
class Time:
    """seconds: None where nothing is known of the device's speed. lines: how it comes about, in words."""

    seconds: float | None
    computed_tokens: int
    lines: tuple[str, ...]


def training_time(shape: ModelShape, setup: Setup, cards: Cards, job: TrainingWork) -> Time:
    """Of the whole training, the sampling of groups among it; measuring not."""
    trained = computed_tokens(setup, job)
    each, words = operations(shape, setup, job)
    rate, why = rate_of(setup, cards, job)
    lines = [f"{trained:,} computed tokens: {_rows_in_words(setup, job)}", words, why]
    if rate is None:
        return Time(None, trained, tuple(lines))
    seconds = trained * each / rate
    if setup.learning == "grpo":
        drawn = sampling_seconds(shape, setup, cards, job, rate)
        seconds += drawn
        lines.append(f"{drawn / seconds:.0%} of it to sample the answers")
    return Time(seconds, trained, tuple(lines))


def computed_tokens(setup: Setup, job: TrainingWork) -> int:
    """What all rows of a pass share counts once a pass; a pair is two rows, a group as many as it has answers."""
    rows = job.rows * job.epochs * {"sft": 1, "dpo": 2, "grpo": setup.group_size}[setup.learning]
    shared = min(setup.shared_tokens, job.tokens)
    return round(rows * (job.tokens - shared) + rows / setup.rows * shared)


def operations(shape: ModelShape, setup: Setup, job: TrainingWork) -> tuple[float, str]:
    """Of one computed token, and in words."""
    passes = ALL_WEIGHTS if setup.trains_all else FROZEN_BASE
    passes += FORWARD * setup.checkpointing + FORWARD * (setup.learning != "sft")
    weights = shape.multiplied_parameters
    attention = passes / FORWARD * attention_operations(shape, job.tokens)
    parts = ["forward 2", f"backward {passes_backward(setup)}"]
    parts += ["recomputed forward 2 (checkpointing)"] * setup.checkpointing + ["reference 2"] * (
        setup.learning != "sft"
    )
    words = (
        f"{(passes * weights + attention) / 1e9:,.3g} billion operations a token: {weights / 1e9:,.3g} billion weights that a "
        f"token passes x ({' + '.join(parts)}), attention {attention / (passes * weights + attention):.0%} of it"
    )
    return passes * weights + attention, words


def passes_backward(setup: Setup) -> int:
    return (ALL_WEIGHTS if setup.trains_all else FROZEN_BASE) - FORWARD


def attention_operations(shape: ModelShape, tokens: float) -> float:
    """Forward, of one token on average: scores and their sum over the half of the text that lies before it."""
    return 2 * shape.layers * (shape.query_width + shape.attended_width) * tokens / 2


def rate_of(setup: Setup, cards: Cards, job: TrainingWork) -> tuple[float | None, str]:
    """Operations a second of all cards together, and in words."""
    card, count = cards.card, cards.count
    if job.rate is not None and card.is_cpu:
        return TRAIN_UTILISATION * job.rate, (
            f"{job.rate / 1e9:,.0f} billion operations a second in a matrix product here, of which training reaches "
            f"{TRAIN_UTILISATION:.0%} (measured on 2 cores)"
        )
    peak = card.float32_flops_per_s if setup.number_bytes == 4 else card.peak_flops_per_s
    if peak is None:
        alike = cards_of_size(card.memory_bytes)
        named = f"; name the GPU that is meant, such as {', '.join(alike)}, of about its memory" if alike else ""
        return None, f"no time, since the speed of {card.name} is not known{named}"
    share = CARD_UTILISATION[setup.method]
    together = SHARED_CARDS if count > 1 else 1.0
    where = " in float32" if setup.number_bytes == 4 else ""
    words = f"{peak / 1e12:,.0f} TFLOPS at best{where}, of which {share:.0%} is assumed (not measured)"
    if count > 1:
        words += f"; {count} GPUs reach {together:.0%} of {count} times that (assumed)"
    return count * together * share * peak, words


def sampling_seconds(shape: ModelShape, setup: Setup, cards: Cards, job: TrainingWork, rate: float) -> float:
    """Drawing the answers of all groups: every step reads the weights once for all rows that decode together."""
    answers = job.rows * job.epochs * setup.group_size
    steps = answers / setup.rows_at_once * setup.new_tokens
    product = setup.rows_at_once * FORWARD * shape.multiplied_parameters / rate
    if cards.card.bandwidth_bytes_per_s is None:
        return steps * product * (TRAIN_UTILISATION / DECODE_UTILISATION)
    read = weight_bytes(shape, setup.method, setup.number_bytes) if setup.sampler == "engine" else 2 * shape.parameters
    return steps * max(product, read / (cards.count * BANDWIDTH_UTILISATION * cards.card.bandwidth_bytes_per_s))


def usd(seconds: float | None, cards: Cards, usd_per_hour: float | None) -> float | None:
    """None where the time or the price is not known."""
    if seconds is None or usd_per_hour is None:
        return None
    return seconds / 3600 * cards.count * usd_per_hour


def in_epochs(epochs: float) -> str:
    """ "1 epoch", "2.5 epochs"."""
    return f"{epochs:g} epoch{'' if epochs == 1 else 's'}"


def _rows_in_words(setup: Setup, job: TrainingWork) -> str:
    each = {"sft": "", "dpo": " x 2 answers", "grpo": f" x {setup.group_size} answers"}[setup.learning]
    shared = f", of which {setup.shared_tokens:,} are computed once a pass" if setup.shared_tokens else ""
    return f"{job.rows:,} rows{each} x {in_epochs(job.epochs)} x {job.tokens:,.0f} tokens{shared}"


COUNTS = (1, 2, 4, 8)


@dataclass(frozen=True, slots=True)
class Offer:
    """usd_per_hour: of all cards together. seconds, usd: of the whole job, None without one. beyond: see `beyond_our_trainer`."""

    cards: Cards
    per_card_bytes: int
    usd_per_hour: float
    price: Price
    seconds: float | None
    usd: float | None
    beyond: str | None


def offers(shape: ModelShape, setup: Setup, prices: Mapping[str, Price], job: TrainingWork | None) -> list[Offer]:
    """Of every card with a price the fewest that fit, by what the job costs; without a job, by the hour."""
    found = [offer for name in prices if (offer := _fewest(shape, setup, name, prices[name], job)) is not None]
    return sorted(found, key=_cost)


def for_all(
    shape: ModelShape, setups: Sequence[Setup], prices: Mapping[str, Price], job: TrainingWork | None
) -> Offer | None:
    """The cheapest on which each of these fits, by what the job costs by one after the other; without a job, by the hour."""
    found = []
    for name, price in prices.items():
        own = [_fewest(shape, setup, name, price, None) for setup in setups]
        fitting = [offer for offer in own if offer is not None]
        if len(fitting) == len(setups):
            most = max(fitting, key=lambda one: one.usd_per_hour)
            found.append(_one_after_the_other(shape, setups, most, job))
    return min(found, key=_cost, default=None)


def _one_after_the_other(shape: ModelShape, setups: Sequence[Setup], offer: Offer, job: TrainingWork | None) -> Offer:
    """All of these on the cards of this offer."""
    cards = offer.cards
    needs = [fit(shape, setup, cards).training.per_card_bytes for setup in setups]
    beyond = [why for setup in setups if (why := beyond_our_trainer(setup, cards)) is not None]
    offer = replace(offer, per_card_bytes=max(needs), beyond=next(iter(beyond), None))
    if job is None:
        return offer
    times = [training_time(shape, setup, cards, job).seconds for setup in setups]
    known = [seconds for seconds in times if seconds is not None]
    seconds = sum(known) if len(known) == len(times) else None
    return replace(offer, seconds=seconds, usd=usd(seconds, cards, offer.price.usd_per_hour))


def _cost(offer: Offer) -> tuple[bool, float, float]:
    return offer.usd is None, 0.0 if offer.usd is None else offer.usd, offer.usd_per_hour


def _fewest(shape: ModelShape, setup: Setup, name: str, price: Price, job: TrainingWork | None) -> Offer | None:
    for count in COUNTS:
        cards = Cards(card_named(name), count, "ddp" if count == 1 else "fsdp")
        found = fit(shape, setup, cards)
        if found.fits:
            seconds = training_time(shape, setup, cards, job).seconds if job is not None else None
            return Offer(
                cards,
                found.training.per_card_bytes,
                count * price.usd_per_hour,
                price,
                seconds,
                usd(seconds, cards, price.usd_per_hour),
                beyond_our_trainer(setup, cards),
            )
    return None
