"""What stays in memory for a whole training: weights, adapters, gradients, the optimizer's state."""

from __future__ import annotations

from collections.abc import Iterator

from lastresort.hardware.plan.parts import Kind, Part
from lastresort.hardware.plan.setup import Cards, Method, Setup
from lastresort.hardware.plan.shape import Shape

# NF4 with double quantisation (Dettmers et al. 2023): 4 bits, 8 bits for each 64 weights, 32 bits for each 256 of these.
NF4_BYTES = 4 / 8 + 1 / 64 + 4 / (64 * 256)
TRAINED_BYTES = (
    4  # adapters, and all weights when they are trained, are float32: in 16 bits small updates round to nothing
)
MOMENTS_BYTES = {"adamw": 8, "paged_adamw_8bit": 2}


def held(shape: Shape, setup: Setup, cards: Cards) -> Iterator[Part]:
    """The parts, in the order in which they are shown."""
    yield from weights(shape, setup, cards)
    if setup.needs_second_model:
        yield _reference(shape, setup, cards)
    yield from _trained(shape, setup, cards)


def weights(shape: Shape, setup: Setup, cards: Cards) -> Iterator[Part]:
    """Of the model itself; where it is cut, an adapter's embeddings stay whole on every card."""
    pieces, whole = cards.share("weights"), shape.embedding_parameters
    if setup.trains_all:
        size = TRAINED_BYTES * shape.parameters
        formula = f"{billions(shape.parameters)} x {TRAINED_BYTES} bytes"
        yield Part("weights", "weights", size // pieces, formula + cut(pieces), "float32, since all are trained")
        return
    inside = _inside_bytes(shape, setup.method, setup.number_bytes)
    yield Part("weights", "weights of the layers", inside // pieces, _inside_told(shape, setup) + cut(pieces))
    told = "the embedding, which is the output layer too" if shape.tied else "embedding and output layer"
    own = pieces if cards.sharing == "zero3" else 1
    formula = f"{told}: {billions(whole)} x {setup.number_bytes} bytes{cut(own)}"
    alone = ", whole on every card" if own < pieces else ""
    yield Part("weights", "embeddings", setup.number_bytes * whole // own, formula + alone)


def weight_bytes(shape: Shape, method: Method, number_bytes: int) -> int:
    """Of a frozen model, whole."""
    return _inside_bytes(shape, method, number_bytes) + number_bytes * shape.embedding_parameters


def trained_parameters(shape: Shape, setup: Setup) -> int:
    return shape.parameters if setup.trains_all else shape.adapter_parameters(setup.r, setup.target)


def bytes_of_training_all(parameters: int) -> int:
    """Weights, gradients and AdamW's state of a model all of whose weights are trained; activations come on top."""
    return (2 * TRAINED_BYTES + MOMENTS_BYTES["adamw"]) * parameters


def _inside_bytes(shape: Shape, method: Method, number_bytes: int) -> int:
    """All weights but the embeddings'."""
    inside = shape.linear_parameters + shape.small_parameters
    if method != "qlora":
        return number_bytes * inside
    return round(NF4_BYTES * shape.quantised_parameters) + number_bytes * (inside - shape.quantised_parameters)


def _inside_told(shape: Shape, setup: Setup) -> str:
    inside, size = shape.linear_parameters + shape.small_parameters, setup.number_bytes
    if setup.method != "qlora":
        return f"{billions(inside)} x {size} bytes"
    rest = inside - shape.quantised_parameters
    what = "stacked experts, routers and norms" if shape.has_experts else "norms and biases"
    return f"{billions(shape.quantised_parameters)} x {NF4_BYTES:.3f} bytes (NF4), {what} {billions(rest)} x {size}"


def _reference(shape: Shape, setup: Setup, cards: Cards) -> Part:
    frozen: Method = "lora" if setup.trains_all else setup.method
    size, pieces = weight_bytes(shape, frozen, 2), cards.share("weights")
    told = f"a second, frozen model: {billions(shape.parameters)} in {'NF4' if frozen == 'qlora' else '16 bits'}"
    return Part("weights", "reference", size // pieces, told + cut(pieces), "as asked")


def _trained(shape: Shape, setup: Setup, cards: Cards) -> Iterator[Part]:
    count = trained_parameters(shape, setup)
    of = "all weights" if setup.trains_all else f"adapters of r {setup.r} on {setup.target} layers"

    def part(kind: Kind, name: str, each: int, pieces: int, formula: str, why: str = "") -> Part:
        return Part(kind, name, each * count // pieces, formula + cut(pieces), why)

    if not setup.trains_all:
        told = f"r (inputs + outputs) of each adapted layer: {billions(count)} x {TRAINED_BYTES} bytes"
        yield part("adapters", "adapters", TRAINED_BYTES, 1, told, "float32")
    told = f"of {of}: {billions(count)} x {TRAINED_BYTES} bytes"
    yield part("gradients", "gradients", TRAINED_BYTES, _pieces(cards, setup, "gradients"), told)
    each = MOMENTS_BYTES[setup.optimizer]
    what = "AdamW's two moments in float32" if each == 8 else "AdamW's two moments in 8 bits"
    told = f"{what}, of {of}: {billions(count)} x {each} bytes"
    yield part("optimizer", "optimizer", each, _pieces(cards, setup, "optimizer"), told)


def _pieces(cards: Cards, setup: Setup, what: Kind) -> int:
    """An adapter is whole on every card under fsdp, as `train` does it."""
    if cards.sharing == "fsdp" and not setup.trains_all:
        return 1
    return cards.share("gradients" if what == "gradients" else "optimizer")


def cut(pieces: int) -> str:
    return f", a {pieces}th on each card" if pieces > 2 else ", half on each card" if pieces == 2 else ""


def billions(count: float) -> str:
    """ "6.98 billion", "13.6 million"."""
    if count >= 999.5e6:
        return f"{count / 1e9:,.3g} billion" if count < 999.5e9 else f"{count / 1e9:,.0f} billion"
    return f"{count / 1e6:,.3g} million" if count >= 999.5e3 else f"{count:,.0f}"
