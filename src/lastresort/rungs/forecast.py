"""The cost of a rung from token counts alone. Pure arithmetic: no model, no network."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from lastresort.engine.forest import largest_part
from lastresort.hardware.plan.time import (
    ALL_WEIGHTS,
    DECODE_UTILISATION,
    FORWARD,
    FROZEN_BASE,
    PREFILL_UTILISATION,
    SHARED_CARDS,
    TRAIN_UTILISATION,
    in_epochs,
)

__all__ = [
    "ALL_WEIGHTS",
    "FROZEN_BASE",
    "Forecast",
    "Machine",
    "Rates",
    "Uncounted",
    "Workload",
    "answering",
    "training",
]


DRAWN_STEPS = 100  # of which the mean is a few percent off


@dataclass(frozen=True, slots=True)
class Rates:
    """Operations per second by kind of work: training, reading prompts, decoding a batch of answers, decoding one alone, which is
    None where it was not measured.
    """

    training: float
    reading: float
    answering: float
    alone: float | None = None


@dataclass(frozen=True, slots=True)
class Machine:
    """The model and its speed here. parameters: of the model, None for an endpoint.

    flops_per_s: of a matrix product in the precision used. prompt_price, output_price: USD per million tokens, None if unknown.
    measured: rates reached here, None for shares of flops_per_s. thinking_tokens: room before each answer, on top of its own.
    training_cards: that a training is divided over, by a process each.
    """

    parameters: int | None
    flops_per_s: float
    prompt_price: float | None = 0.0
    output_price: float | None = 0.0
    measured: Rates | None = None
    thinking_tokens: int = 0
    training_cards: int = 1

    @property
    def training_speedup(self) -> float:
        """Of these cards against one, at most, which is assumed: no training on several was measured."""
        return SHARED_CARDS * self.training_cards if self.training_cards > 1 else 1.0

    @property
    def rates(self) -> Rates:
        shares = (TRAIN_UTILISATION, PREFILL_UTILISATION, DECODE_UTILISATION)
        return self.measured or Rates(*(share * self.flops_per_s for share in shares))

    def tokens_per_s(self) -> Rates:
        """Tokens per second in training on one card, reading and answering."""
        weights, rates = self.parameters or 0, self.rates
        kinds = ((rates.training, FROZEN_BASE), (rates.reading, FORWARD), (rates.answering, FORWARD))
        return Rates(*(rate / (operations * weights) for rate, operations in kinds))


@dataclass(frozen=True, slots=True)
class Workload:
    """The size of a task in examples and tokens. instruction_tokens: of the zero-shot prompt without the input. about_tokens: of
    the training prompt without the input. Both include the chat template. per_estimate: the tokenizer's tokens per token of
    `estimated_tokens`. longest_tokens: of a training row, None if unknown. lengths: of some training rows without `about`, where
    trainings are divided. reflecting: what would optimise a prompt, None if that is `machine`.
    """

    machine: Machine
    n_train: int
    n_dev: int
    n_test: int
    instruction_tokens: int
    about_tokens: int
    input_tokens: float
    output_tokens: float
    max_new_tokens: int
    per_estimate: float = 1.0
    longest_tokens: int | None = None
    lengths: tuple[int, ...] = ()
    reflecting: Machine | None = None


@dataclass(frozen=True, slots=True)
class Uncounted:
    """A candidate that is tried only if others do well, and is in no sum. seconds, usd: as in `Forecast`."""

    name: str
    tokens_in: int
    seconds: float | None
    usd: float | None


@dataclass(frozen=True, slots=True)
class Forecast:
    """An estimate. seconds: None if an endpoint's speed is unknown. usd: None if its price is. lines: the terms of the sum, in
    words. answers: that the task's scorer scores. uncounted: what may come on top.
    """

    tokens_in: int
    tokens_out: int
    training_tokens: int
    seconds: float | None
    usd: float | None
    lines: tuple[str, ...] = ()
    answers: int = 0
    uncounted: tuple[Uncounted, ...] = ()

    def __add__(self, other: Forecast) -> Forecast:
        seconds = None if self.seconds is None or other.seconds is None else self.seconds + other.seconds
        usd = None if self.usd is None or other.usd is None else self.usd + other.usd
        return Forecast(
            self.tokens_in + other.tokens_in,
            self.tokens_out + other.tokens_out,
            self.training_tokens + other.training_tokens,
            seconds,
            usd,
            self.lines + other.lines,
            self.answers + other.answers,
            self.uncounted + other.uncounted,
        )

    def unscored(self) -> Forecast:
        """Of answers that the task's scorer does not score."""
        return replace(self, answers=0)


def answering(
    label: str,
    machine: Machine,
    n: int,
    prompt_tokens: float,
    shared_tokens: float,
    new_tokens: float,
    *,
    alone: bool = False,
) -> Forecast:
    """Answering n prompts, which are scored if anything is answered, with all the thinking that the machine has room for.
    shared_tokens: of their common prefix, which a local model computes once. alone: one at a time, not in batches.
    """
    thinking = machine.thinking_tokens if new_tokens else 0
    tokens_in, tokens_out = round(n * prompt_tokens), round(n * (new_tokens + thinking))
    usd = None
    if machine.prompt_price is not None and machine.output_price is not None:
        usd = (tokens_in * machine.prompt_price + tokens_out * machine.output_price) / 1e6
    seconds, shared_note = None, ""
    decoding_rate = machine.rates.alone if alone else machine.rates.answering
    if machine.parameters is not None and decoding_rate is not None:
        computed_tokens = shared_tokens + n * (prompt_tokens - shared_tokens)
        reading, decoding = computed_tokens / machine.rates.reading, tokens_out / decoding_rate
        seconds = FORWARD * machine.parameters * (reading + decoding)
        shared_note = f", {computed_tokens:.0f} prompt tokens computed" if shared_tokens else ""
    thinking_note = f" + {thinking} thinking" if thinking else ""
    line = f"{label}: {n} x ({prompt_tokens:.0f} prompt{thinking_note} + {new_tokens:.0f} answer tokens){shared_note}"
    return Forecast(tokens_in, tokens_out, 0, seconds, usd, (line,), answers=n if new_tokens else 0)


def training(
    label: str,
    machine: Machine,
    rows: int,
    epochs: float,
    row_tokens: float,
    shared_tokens: float,
    batch: int,
    *,
    operations: int = FROZEN_BASE,
    lengths: Sequence[int] = (),
) -> Forecast:
    """Training on rows whose shared prefix is computed once per batch, by each of several cards. batch: the rows of an optimizer
    step, which are divided over the cards. operations: per parameter and computed token. lengths: of some rows without that prefix;
    without any, all are as long as the mean.
    """
    passes = rows * epochs
    computed_tokens = passes * (row_tokens - shared_tokens) + passes / batch * shared_tokens
    seconds = None
    if machine.parameters is not None:
        busiest = _on_busiest_card(machine.training_cards, row_tokens - shared_tokens, shared_tokens, batch, lengths)
        busiest_share = min(1.0, busiest / SHARED_CARDS)
        seconds = operations * machine.parameters * computed_tokens / machine.rates.training * busiest_share
    divided = f" on {machine.training_cards} GPUs" if machine.training_cards > 1 else ""
    line = (
        f"{label}: {rows} rows x {in_epochs(epochs)} x {row_tokens:.0f} tokens, {computed_tokens:.0f} computed{divided}"
    )
    return Forecast(0, 0, round(passes * row_tokens), seconds, 0.0, (line,))


def _on_busiest_card(cards: int, own_tokens: float, shared_tokens: float, batch: int, lengths: Sequence[int]) -> float:
    """The share of a step's tokens that the card with most of them computes, since no row is cut: of steps with rows of these
    lengths, drawn alike each time. own_tokens: of the mean row.
    """
    if cards == 1:
        return 1.0
    generator, prefix_tokens, lengths = random.Random(0), round(shared_tokens), lengths or (1,)
    scale = own_tokens / (fmean(lengths) or 1)
    busiest = total = 0
    for _ in range(DRAWN_STEPS):
        size = [prefix_tokens + round(scale * length) for length in generator.choices(lengths, k=batch)]
        busiest += largest_part(size, [prefix_tokens] * batch, cards)
        total += sum(size) - prefix_tokens * (batch - 1)
    return busiest / total if total else 1.0
