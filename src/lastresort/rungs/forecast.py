"""What a rung would cost, from token counts alone: pure arithmetic, no model, no network."""

from __future__ import annotations

from dataclasses import dataclass

from lastresort.hardware.plan.time import (
    ALL_WEIGHTS,
    DECODE_UTILISATION,
    FORWARD,
    FROZEN_BASE,
    PREFILL_UTILISATION,
    TRAIN_UTILISATION,
)

__all__ = ["ALL_WEIGHTS", "FROZEN_BASE", "Forecast", "Machine", "Rates", "Workload", "answering", "training"]


@dataclass(frozen=True, slots=True)
class Rates:
    """Operations a second that a kind of work reaches: training, reading prompts, decoding answers together."""

    training: float
    reading: float
    answering: float


@dataclass(frozen=True, slots=True)
class Machine:
    """The model that would work and the rate at which it can. parameters: of the model, None for an endpoint.

    flops_per_s: of a matrix product in the precision used. prompt_price, output_price: USD per million tokens,
    None where it is not known. measured: what work of this kind reached here, None for shares of flops_per_s.
    """

    parameters: int | None
    flops_per_s: float
    prompt_price: float | None = 0.0
    output_price: float | None = 0.0
    measured: Rates | None = None

    @property
    def rates(self) -> Rates:
        shares = (TRAIN_UTILISATION, PREFILL_UTILISATION, DECODE_UTILISATION)
        return self.measured or Rates(*(share * self.flops_per_s for share in shares))

    def tokens_per_s(self) -> Rates:
        """Tokens a second that are computed in training, read, and answered."""
        weights, rates = self.parameters or 0, self.rates
        kinds = ((rates.training, FROZEN_BASE), (rates.reading, FORWARD), (rates.answering, FORWARD))
        return Rates(*(rate / (operations * weights) for rate, operations in kinds))


@dataclass(frozen=True, slots=True)
class Workload:
    """The size of a task, in tokens and examples. instruction_tokens: of the zero-shot prompt without the input; about_tokens:
    of the prompt that training renders, without the input; both with what the chat template adds. per_estimate: tokens that the
    model's tokenizer makes of what `estimated_tokens` counts as one. longest_tokens: of a training row, None where it is not known.
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


@dataclass(frozen=True, slots=True)
class Forecast:
    """An estimate. lines: how it comes about, in words.

    seconds: None where nothing is known of an endpoint's speed. usd: None where nothing is known of its price.
    """

    tokens_in: int
    tokens_out: int
    training_tokens: int
    seconds: float | None
    usd: float | None
    lines: tuple[str, ...] = ()

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
        )


def answering(
    label: str, machine: Machine, n: int, prompt_tokens: float, shared_tokens: float, new_tokens: float
) -> Forecast:
    """Answering n prompts of which `shared_tokens` are common to all, and are computed once by a local model."""
    tokens_in, tokens_out = round(n * prompt_tokens), round(n * new_tokens)
    usd = None
    if machine.prompt_price is not None and machine.output_price is not None:
        usd = (tokens_in * machine.prompt_price + tokens_out * machine.output_price) / 1e6
    seconds, told = None, ""
    if machine.parameters is not None:
        computed = shared_tokens + n * (prompt_tokens - shared_tokens)
        reading, answered = computed / machine.rates.reading, tokens_out / machine.rates.answering
        seconds = FORWARD * machine.parameters * (reading + answered)
        told = f", {computed:.0f} of the prompts computed" if shared_tokens else ""
    line = f"{label}: {n} x ({prompt_tokens:.0f} prompt + {new_tokens:.0f} answer tokens){told}"
    return Forecast(tokens_in, tokens_out, 0, seconds, usd, (line,))


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
) -> Forecast:
    """Training on rows whose shared prefix is computed once a batch. operations: a parameter and computed token."""
    passes = rows * epochs
    computed = passes * (row_tokens - shared_tokens) + passes / batch * shared_tokens
    seconds = None
    if machine.parameters is not None:
        seconds = operations * machine.parameters * computed / machine.rates.training
    line = f"{label}: {rows} rows x {epochs:g} epochs x {row_tokens:.0f} tokens, {computed:.0f} computed"
    return Forecast(0, 0, round(passes * row_tokens), seconds, 0.0, (line,))
