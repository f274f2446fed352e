"""What a pass keeps for its backward, from the shapes of a layer.

Counted by reading the layers of transformers 5 (Llama, Qwen, Mistral, Gemma, Phi) as they run outside a compiler: the tensors that
autograd saves, in the precision of the products unless it says float32.
"""

from __future__ import annotations

from collections.abc import Iterator

from lastresort.hardware.plan.parts import Part
from lastresort.hardware.plan.setup import Setup
from lastresort.hardware.plan.shape import Shape

_FLOAT32 = 4


def activations(shape: Shape, setup: Setup) -> Iterator[Part]:
    """Of one pass on each card."""
    tokens, kept = setup.computed_tokens, layer_input_bytes(shape, setup)
    inside, moving = layer_bytes(shape, setup), moving_bytes(shape, setup)
    of = f"{tokens:,} computed tokens{_sharing(setup)}"
    if setup.checkpointing:
        told = f"input of each of {shape.layers} layers: {of} x {shape.hidden:,} x {setup.number_bytes} bytes"
        yield Part("activations", "inputs of the layers", shape.layers * tokens * kept, told, "checkpointing on")
        told = f"one layer, computed again and gone back through: {of} x {(inside + moving) / 1024:,.0f} KiB"
        yield Part("activations", "one layer", tokens * (inside + moving), told, LISTED)
        return
    told = f"{shape.layers} layers: {of} x {inside / 1024:,.0f} KiB"
    yield Part("activations", "all layers", shape.layers * tokens * inside, told, f"checkpointing off; {LISTED}")
    told = f"gradients on their way through one layer: {of} x {moving / 1024:,.0f} KiB"
    yield Part("activations", "one layer", tokens * moving, told)


LISTED = (
    "norms in float32; query, key, value and attention's output; the feed-forward's inner products; inputs of adapters"
)


def layer_input_bytes(shape: Shape, setup: Setup) -> int:
    """Of one token: what enters a layer."""
    return setup.number_bytes * shape.hidden


def layer_bytes(shape: Shape, setup: Setup) -> int:
    """Of one token, what one layer saves for its backward; its input itself is not among it."""
    return _norms(shape, setup) + _attention(shape, setup) + _feed_forward(shape, setup)


def moving_bytes(shape: Shape, setup: Setup) -> int:
    """Of one token: gradients alive at once in backward, at the widest place, which is the feed-forward's product."""
    return setup.number_bytes * ((2 if shape.gated else 1) * shape.inner + 2 * shape.hidden)


def _norms(shape: Shape, setup: Setup) -> int:
    """Each norm saves its input in float32, and what it multiplies its weights with where these are trained."""
    of_heads = shape.query_width + shape.key_heads * shape.head_size if shape.head_norms else 0
    each = _FLOAT32 + (setup.number_bytes if setup.trains_all else 0)
    return each * (shape.norms * shape.hidden + of_heads)


def _attention(shape: Shape, setup: Setup) -> int:
    """Its input, for weights or adapters to learn from; query, key, value and what it gives; the logarithm of each softmax's sum.

    Where a model caps its scores, no kernel spares them: each is saved capped, as a probability, and that in 16 bits too.
    """
    kept = shape.hidden + shape.query_width + shape.keys_values_width + shape.attended_width
    if shape.caps_scores:
        score = _FLOAT32 + setup.number_bytes + (2 if setup.number_bytes == 2 else 0)
        return setup.number_bytes * kept + score * shape.heads * setup.row_tokens
    return setup.number_bytes * kept + _FLOAT32 * shape.heads


def _feed_forward(shape: Shape, setup: Setup) -> int:
    """Gate, activated gate and up; with weights or adapters in it that learn, their inputs too."""
    inner = (3 if shape.gated else 1) * shape.inner
    learns = setup.trains_all or setup.target == "all-linear"
    return setup.number_bytes * (inner + (shape.hidden + shape.inner if learns else 0))


def _sharing(setup: Setup) -> str:
    return f" ({setup.shared_tokens:,} shared by {setup.rows} rows count once)" if setup.shared_tokens else ""
