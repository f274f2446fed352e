"""Peak memory of training and of measuring: pure arithmetic on shapes."""

from __future__ import annotations

from dataclasses import replace

from lastresort.hardware.answers_at_once import answers_at_once
from lastresort.hardware.plan.activations import activations, layer_bytes
from lastresort.hardware.plan.held import held, trained_parameters, weights
from lastresort.hardware.plan.parts import Memory, Part, memory_of
from lastresort.hardware.plan.passing import buffers, cache, context, logits, sampling, summed, token_bytes
from lastresort.hardware.plan.setup import Cards, Setup
from lastresort.hardware.plan.shape import Shape

_PREFILLED_TOKENS = 1536  # prompts read in one pass before answers are decoded


def training_memory(shape: Shape, setup: Setup, cards: Cards) -> Memory:
    """The peak of a step. Its moments follow each other, and the largest counts: answers are drawn (grpo), passes go forward and
    back, and at the end of a backward the gradients of a tied embedding are summed."""
    kept = list(held(shape, setup, cards))
    step = max([*activations(shape, setup), *logits(shape, setup)], list(summed(shape, setup)), key=_bytes)
    drawn = list(sampling(shape, setup, cards))
    server = [part for part in drawn if part.kind == "server"]
    drawn = [part for part in drawn if part.kind != "server"]
    passing = max(step, drawn, key=_bytes) if setup.sampler == "engine" else [*step, *drawn]
    passing = [*passing, *buffers(shape, setup, cards)]
    return memory_of([*kept, *server, *passing, *context(cards, _bytes(passing))], cards.count)


def measuring_memory(shape: Shape, setup: Setup, cards: Cards) -> Memory:
    """The peak while the tuned system answers: weights as they were trained on, the adapters, and the cache of the answers."""
    answers = _answering(setup)
    kept = list(weights(shape, answers, cards))
    if not setup.trains_all:
        size = 4 * trained_parameters(shape, setup)
        kept.append(Part("adapters", "adapters", size, "as trained, in float32"))
    rows = measured_at_once(shape, setup)
    told = f"one layer of a pass of {_PREFILLED_TOKENS:,} tokens; nothing is kept for a backward"
    passing = [
        cache(shape, answers, rows, rows, "as many answers at once as a climb measures"),
        Part("activations", "one layer", _PREFILLED_TOKENS * layer_bytes(shape, answers), told),
        Part(
            "logits",
            "logits",
            4 * rows * shape.vocabulary,
            f"of the next token of {rows} answers, in float32",
        ),
        *buffers(shape, answers, cards),
    ]
    return memory_of([*kept, *passing, *context(cards, _bytes(passing))], cards.count)


def measured_at_once(shape: Shape, setup: Setup) -> int:
    """How many answers a climb computes together, unless the setup says."""
    if setup.measured_at_once is not None:
        return setup.measured_at_once
    return answers_at_once(token_bytes(shape, _answering(setup)))


def _answering(setup: Setup) -> Setup:
    """What was trained whole answers in 16 bits where the machine computes them."""
    return replace(setup, method="lora", compute="bfloat16") if setup.trains_all else setup


def _bytes(parts: list[Part]) -> int:
    return sum(part.per_card_bytes for part in parts)
