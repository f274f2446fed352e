"""What is in memory for moments: a layer put together or dequantised, logits, caches, and what the device itself takes."""

from __future__ import annotations

from collections.abc import Iterator

from lastresort.hardware.plan.held import weight_bytes
from lastresort.hardware.plan.parts import Part
from lastresort.hardware.plan.setup import Cards, Setup
from lastresort.hardware.plan.shape import Linear, Shape

GIB = 1 << 30
PIECE_LOGITS = 8_000_000  # logits alive at once, as in engine/head.py, which a test compares
# Of a card, assumed; of a processor fitted by benchmarks/plan_memory.py to half of its runs (docs/plan.md).
CONTEXT_BYTES, LIBRARIES_BYTES = int(0.7 * GIB), int(0.49 * GIB)
ALLOCATOR_SHARE, PROCESSOR_SHARE = 0.05, 0.065  # of what comes and goes
GATHERED_LAYERS = 2  # the one in use and the next


def buffers(shape: Shape, setup: Setup, cards: Cards) -> Iterator[Part]:
    """Weights in the form in which they are multiplied, for as long as that takes."""
    if setup.method == "qlora":
        size = _widest(shape).weights
        told = f"{_widest(shape).name} from 4 bits to 16: {size / 1e6:,.0f} million x {setup.number_bytes} bytes"
        yield Part("buffers", "dequantised layer", setup.number_bytes * size, told, "one layer at a time")
    pieces = cards.share("weights")
    if pieces > 1:
        whole = weight_bytes(shape, setup.method, setup.number_bytes if not setup.trains_all else 4)
        inside = whole - setup.number_bytes * shape.embedding_parameters if not setup.trains_all else whole
        layer = inside // shape.layers
        told = f"{GATHERED_LAYERS} of {shape.layers} layers, put together from {pieces} cards"
        yield Part("buffers", "gathered layers", GATHERED_LAYERS * layer, told, "the one in use and the next")


def logits(shape: Shape, setup: Setup) -> Iterator[Part]:
    """Of a piece of the targets at a time, in the products' precision and in float32, and the states that they come from."""
    targets = setup.rows * (setup.row_tokens - setup.shared_tokens)
    alive = min(PIECE_LOGITS, targets * shape.vocabulary)
    each = setup.number_bytes + (4 if setup.number_bytes == 2 else 0)
    told = f"{alive / 1e6:,.3g} million at a time x {each} bytes, of a vocabulary of {shape.vocabulary:,}"
    states = 2 * targets * shape.hidden * setup.number_bytes
    yield Part("logits", "logits", alive * each + states, told, "never all of them: piece by piece, as `train` does")


def summed(shape: Shape, setup: Setup) -> Iterator[Part]:
    """At the end of a backward that trains an embedding which is the output layer too: the gradients of its two uses become one."""
    if setup.trains_all and shape.tied:
        told = f"of its two uses, beside their sum: 2 x {shape.embedding_parameters / 1e6:,.0f} million x 4 bytes"
        yield Part(
            "buffers", "gradients of the embedding", 8 * shape.embedding_parameters, told, "activations are gone then"
        )


def sampling(shape: Shape, setup: Setup, cards: Cards) -> Iterator[Part]:
    """While the answers of groups are drawn; nothing is kept for a backward then."""
    if setup.learning != "grpo" or setup.sampler == "elsewhere":
        return
    if setup.sampler == "vllm beside":
        size = weight_bytes(shape, "lora", 2)
        told = "a vLLM server's own copy of the weights in 16 bits"
        yield Part("server", "vLLM's weights", size, told, "on the same card, beside the training")
    prompts = max(1, setup.rows_at_once // setup.group_size)
    yield cache(shape, setup, setup.rows_at_once, prompts, "as many answers at once as `rows_at_once` says")


def token_bytes(shape: Shape, setup: Setup) -> int:
    """Keys and values of one token in all layers."""
    return shape.cached_numbers * setup.number_bytes


def cache(shape: Shape, setup: Setup, rows: int, prompts: int, why: str) -> Part:
    """Keys and values of `rows` answers decoded together, behind `prompts` prompts."""
    prompt_tokens = max(0, setup.row_tokens - setup.new_tokens)
    own = prompt_tokens - min(setup.shared_tokens, prompt_tokens)
    tokens = (prompt_tokens - own) + prompts * own + rows * setup.new_tokens
    size = token_bytes(shape, setup)
    told = (
        f"{rows} answers of up to {setup.new_tokens:,} tokens behind {prompts} prompts of {prompt_tokens:,}: {tokens:,} tokens "
        f"x {shape.layers} layers x {shape.keys_values_width:,} x {setup.number_bytes} bytes"
    )
    return Part("cache", "keys and values", tokens * size, told, why)


def context(cards: Cards, passing_bytes: int) -> Iterator[Part]:
    """What the device and its libraries take, and what the allocator cannot fill."""
    if cards.card.is_cpu:
        own, name, told = LIBRARIES_BYTES, "libraries", "torch, transformers and Python themselves"
        share, why = PROCESSOR_SHARE, "fitted to measured runs"
    else:
        own, name, told = CONTEXT_BYTES, "CUDA context", "the driver's context, kernels and workspaces"
        share, why = ALLOCATOR_SHARE, "assumed"
    yield Part("context", name, own, told, f"{own / GIB:.2g} GiB, {why}")
    yield Part(
        "context",
        "fragments",
        round(share * passing_bytes),
        f"{share:.1%} of what comes and goes",
        "the allocator's gaps",
    )


def _widest(shape: Shape) -> Linear:
    """The largest of the layers that are kept in 4 bits."""
    own = [linear for linear in shape.linears if linear.place != "router" and not linear.expert]
    return max(own, key=lambda linear: linear.weights)
