"""Peak memory of training and of measuring, part by part, each with its formula in words: pure arithmetic on shapes.

Activations were counted by reading the layers of transformers 5 (Llama, Qwen, Mistral, Gemma, Phi) as they run without a
compiler: the tensors that autograd saves, in the compute precision unless it says float32.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

from lastresort.hardware.plan.setup import Cards, Method, Setup
from lastresort.hardware.shape import Linear, ModelShape
from lastresort.types import ReplayLoss

Kind = Literal[
    "weights", "adapters", "gradients", "optimizer", "activations", "buffers", "logits", "cache", "context", "server"
]


@dataclass(frozen=True, slots=True)
class MemoryTerm:
    """formula: how the bytes come about, in words. assumption: what they rest on besides the shape, "" for nothing."""

    kind: Kind
    name: str
    per_card_bytes: int
    formula: str
    assumption: str = ""


@dataclass(frozen=True, slots=True)
class Memory:
    """The peak of one kind of work on `cards` equal cards."""

    parts: tuple[MemoryTerm, ...]
    cards: int = 1

    @property
    def per_card_bytes(self) -> int:
        return sum(part.per_card_bytes for part in self.parts)

    @property
    def total_bytes(self) -> int:
        """Summed over the cards."""
        return self.cards * self.per_card_bytes

    def of(self, *kinds: Kind) -> int:
        """Bytes of these kinds on each card."""
        return sum(part.per_card_bytes for part in self.parts if part.kind in kinds)


def memory_of(parts: Iterable[MemoryTerm], cards: int) -> Memory:
    """Without the parts of no bytes."""
    return Memory(tuple(part for part in parts if part.per_card_bytes > 0), cards)


FEWEST, MOST = 16, 64
# A token of each row costs one reading of all weights, however many rows there are.
CACHE_BYTES, ROW_TOKENS = 3 << 29, 1024


def answers_at_once(bytes_a_token: int) -> int:
    """How many rows of 1,024 tokens have 1.5 GiB of keys and values: 64 for a small model, 16 for a large one.

    bytes_a_token: keys and values of one token in all layers.
    """
    rows = CACHE_BYTES // (ROW_TOKENS * max(1, bytes_a_token))
    return max(FEWEST, min(MOST, rows // FEWEST * FEWEST))


_FLOAT32 = 4


def activations(shape: ModelShape, setup: Setup) -> Iterator[MemoryTerm]:
    """Of one pass on each card."""
    tokens, kept = setup.computed_tokens, layer_input_bytes(shape, setup)
    inside, moving = layer_bytes(shape, setup), moving_bytes(shape, setup)
    of = f"{tokens:,} computed tokens{_sharing(setup)}"
    if setup.checkpointing:
        formula = f"input of each of {shape.layers} layers: {of} x {shape.hidden:,} x {setup.number_bytes} bytes"
        yield MemoryTerm(
            "activations", "inputs of the layers", shape.layers * tokens * kept, formula, "checkpointing on"
        )
        formula = f"one layer, recomputed, with its backward: {of} x {(inside + moving) / 1024:,.0f} KiB"
        yield MemoryTerm("activations", "one layer", tokens * (inside + moving), formula, LISTED)
        return
    formula = f"{shape.layers} layers: {of} x {inside / 1024:,.0f} KiB"
    yield MemoryTerm(
        "activations", "all layers", shape.layers * tokens * inside, formula, f"checkpointing off; {LISTED}"
    )
    formula = f"gradients within one layer: {of} x {moving / 1024:,.0f} KiB"
    yield MemoryTerm("activations", "one layer", tokens * moving, formula)


LISTED = (
    "norms in float32; query, key, value and attention's output; the feed-forward's inner values; inputs of adapters"
)


def layer_input_bytes(shape: ModelShape, setup: Setup) -> int:
    """Of one token: what enters a layer."""
    return setup.number_bytes * shape.hidden


def layer_bytes(shape: ModelShape, setup: Setup) -> int:
    """Of one token, what one layer saves for its backward, without its input."""
    return _norms(shape, setup) + _attention(shape, setup) + _feed_forward(shape, setup)


def moving_bytes(shape: ModelShape, setup: Setup) -> int:
    """Of one token: gradients alive at once in backward, at the widest place, which is the feed-forward's product."""
    return setup.number_bytes * (2 * shape.inner + 2 * shape.hidden)


def _norms(shape: ModelShape, setup: Setup) -> int:
    """Each norm saves its input in float32, and the normed values too where its weights are trained."""
    of_heads = shape.query_width + shape.key_heads * shape.head_size if shape.head_norms else 0
    each = _FLOAT32 + (setup.number_bytes if setup.trains_all else 0)
    return each * (shape.norms * shape.hidden + of_heads)


def _attention(shape: ModelShape, setup: Setup) -> int:
    """Its input, query, key, value, output, and the logsumexp of each softmax.

    A model that caps its scores has no kernel that avoids saving them: each is saved capped, as a probability, and that in 16
    bits too.
    """
    kept = shape.hidden + shape.query_width + shape.keys_values_width + shape.attended_width
    if shape.caps_scores:
        score = _FLOAT32 + setup.number_bytes + (2 if setup.number_bytes == 2 else 0)
        return setup.number_bytes * kept + score * shape.heads * setup.row_tokens
    return setup.number_bytes * kept + _FLOAT32 * shape.heads


def _feed_forward(shape: ModelShape, setup: Setup) -> int:
    """Gate, activated gate and up; where its weights or adapters are trained, their inputs too."""
    learns = setup.trains_all or setup.target == "all-linear"
    return setup.number_bytes * (3 * shape.inner + (shape.hidden + shape.inner if learns else 0))


def _sharing(setup: Setup) -> str:
    return f" ({setup.shared_tokens:,} shared by {setup.rows} rows count once)" if setup.shared_tokens else ""


# NF4 with double quantisation (Dettmers et al. 2023): 4 bits, 8 bits for each 64 weights, 32 bits for each 256 of these.
SCALE_BYTES = 1 / 64 + 4 / (64 * 256)
NF4_BYTES = 4 / 8 + SCALE_BYTES
TRAINED_BYTES = 4  # what is trained is float32: in 16 bits small updates round to nothing
MOMENTS_BYTES = {"adamw": 8, "paged_adamw_8bit": 2}


def held(shape: ModelShape, setup: Setup, cards: Cards) -> Iterator[MemoryTerm]:
    """What stays for the whole training, in the order in which it is shown."""
    yield from weights(shape, setup, cards)
    if setup.needs_second_model:
        yield _reference(shape, setup, cards)
    if setup.keeps_start:
        yield _start(shape, setup, cards)
    yield from _trained(shape, setup, cards)


def weights(shape: ModelShape, setup: Setup, cards: Cards) -> Iterator[MemoryTerm]:
    """The model's. Where an adapter's base is sharded, its embeddings and the quantisation scales stay whole on every card."""
    pieces, whole = cards.share("weights"), shape.embedding_parameters
    if setup.trains_all:
        size = TRAINED_BYTES * shape.parameters
        formula = f"{billions(shape.parameters)} x {TRAINED_BYTES} bytes"
        yield MemoryTerm("weights", "weights", size // pieces, formula + cut(pieces), "float32, since all are trained")
        return
    inside = _inside_bytes(shape, setup.method, setup.number_bytes)
    scales = 0
    if setup.method == "qlora" and cards.sharing == "fsdp" and pieces > 1:
        scales = round(SCALE_BYTES * shape.quantised_parameters)
    formula = _inside_formula(shape, setup) + (", less the scales" if scales else "") + cut(pieces)
    yield MemoryTerm("weights", "weights of the layers", (inside - scales) // pieces, formula)
    formula = f"{billions(shape.quantised_parameters)} x {SCALE_BYTES:.3f} bytes, whole on every GPU"
    yield MemoryTerm("weights", "quantisation scales", scales, formula)
    layers = "embedding (also the output layer)" if shape.tied else "embedding and output layer"
    own = pieces if cards.sharing == "zero3" else 1
    formula = f"{layers}: {billions(whole)} x {setup.number_bytes} bytes{cut(own)}"
    alone = ", whole on every GPU" if own < pieces else ""
    yield MemoryTerm("weights", "embeddings", setup.number_bytes * whole // own, formula + alone)


def weight_bytes(shape: ModelShape, method: Method, number_bytes: int) -> int:
    """Of a frozen model, whole."""
    return _inside_bytes(shape, method, number_bytes) + number_bytes * shape.embedding_parameters


def trained_parameters(shape: ModelShape, setup: Setup) -> int:
    return shape.parameters if setup.trains_all else shape.adapter_parameters(setup.r, setup.target)


def bytes_of_training_all(parameters: int, replay_loss: ReplayLoss = "likelihood") -> int:
    """Weights, gradients and AdamW's state in full fine-tuning, with kl also the initial weights; activations come on top."""
    weights = 2 if replay_loss == "kl" else 1
    return ((weights + 1) * TRAINED_BYTES + MOMENTS_BYTES["adamw"]) * parameters


def _inside_bytes(shape: ModelShape, method: Method, number_bytes: int) -> int:
    """All weights but the embeddings'."""
    inside = shape.linear_parameters + shape.small_parameters
    if method != "qlora":
        return number_bytes * inside
    return round(NF4_BYTES * shape.quantised_parameters) + number_bytes * (inside - shape.quantised_parameters)


def _inside_formula(shape: ModelShape, setup: Setup) -> str:
    inside, size = shape.linear_parameters + shape.small_parameters, setup.number_bytes
    if setup.method != "qlora":
        return f"{billions(inside)} x {size} bytes"
    rest = inside - shape.quantised_parameters
    what = "stacked experts, routers and norms" if shape.has_experts else "norms and biases"
    return f"{billions(shape.quantised_parameters)} x {NF4_BYTES:.3f} bytes (NF4), {what} {billions(rest)} x {size}"


def _reference(shape: ModelShape, setup: Setup, cards: Cards) -> MemoryTerm:
    frozen: Method = "lora" if setup.trains_all else setup.method
    size, pieces = weight_bytes(shape, frozen, 2), cards.share("weights")
    formula = f"a second, frozen model: {billions(shape.parameters)} in {'NF4' if frozen == 'qlora' else '16 bits'}"
    return MemoryTerm("weights", "reference", size // pieces, formula + cut(pieces), "as requested")


START = "initial weights"


def _start(shape: ModelShape, setup: Setup, cards: Cards) -> MemoryTerm:
    """While the start answers, the trained weights are copied too, but there are no gradients then, which are as large."""
    pieces, of_groups = cards.share("weights"), setup.learning == "grpo"
    has_head = pieces > 1 and not of_groups  # the divergence takes the output layer apart
    size = TRAINED_BYTES * shape.parameters // pieces
    size += TRAINED_BYTES * shape.vocabulary * shape.hidden if has_head else 0
    what, why = (
        ("start that answers are", "kl_weight above 0")
        if of_groups
        else ("base that replay is", "replay by divergence")
    )
    formula = f"the {what} held to: {billions(shape.parameters)} x {TRAINED_BYTES} bytes{cut(pieces)}"
    alone = ", its output layer whole on every GPU" if has_head else ""
    return MemoryTerm("weights", START, size, formula + alone, why)


def _trained(shape: ModelShape, setup: Setup, cards: Cards) -> Iterator[MemoryTerm]:
    count = trained_parameters(shape, setup)
    of = "all weights" if setup.trains_all else f"adapters of r {setup.r} on {setup.target} layers"

    def part(kind: Kind, name: str, each: int, pieces: int, formula: str, why: str = "") -> MemoryTerm:
        return MemoryTerm(kind, name, each * count // pieces, formula + cut(pieces), why)

    if not setup.trains_all:
        formula = f"r (inputs + outputs) of each adapted layer: {billions(count)} x {TRAINED_BYTES} bytes"
        yield part("adapters", "adapters", TRAINED_BYTES, 1, formula, "float32")
    # Under fsdp an adapter is whole on every card, as `train` does it.
    whole = cards.sharing == "fsdp" and not setup.trains_all
    formula = f"of {of}: {billions(count)} x {TRAINED_BYTES} bytes"
    yield part("gradients", "gradients", TRAINED_BYTES, 1 if whole else cards.share("gradients"), formula)
    each = MOMENTS_BYTES[setup.optimizer]
    formula = (
        f"AdamW's two moments in {'float32' if each == 8 else '8 bits'}, of {of}: {billions(count)} x {each} bytes"
    )
    yield part("optimizer", "optimizer", each, 1 if whole else cards.share("optimizer"), formula)


def cut(pieces: int) -> str:
    return f", 1/{pieces} on each GPU" if pieces > 2 else ", half on each GPU" if pieces == 2 else ""


def billions(count: float) -> str:
    """ "6.98 billion", "13.6 million"."""
    if count >= 999.5e6:
        return f"{count / 1e9:,.3g} billion" if count < 999.5e9 else f"{count / 1e9:,.0f} billion"
    return f"{count / 1e6:,.3g} million" if count >= 999.5e3 else f"{count:,.0f}"


GIB = 1 << 30
PIECE_LOGITS = 8_000_000  # logits alive at once, as in engine/parts.py, which a test compares
DIVERGENCE_BYTES = 12  # a logit: log-probabilities of both models and the base's probabilities, in float32
# Of a card, assumed; of a processor fitted by benchmarks/plan_memory.py to half of its runs (docs/plan.md).
CONTEXT_BYTES, LIBRARIES_BYTES = int(0.7 * GIB), int(0.55 * GIB)
ALLOCATOR_SHARE, PROCESSOR_SHARE = 0.05, 0.09  # of temporary memory
GATHERED_LAYERS = 2  # the one in use and the next


def buffers(shape: ModelShape, setup: Setup, cards: Cards) -> Iterator[MemoryTerm]:
    """Layers while they are computed: dequantised, or gathered from the cards."""
    if setup.method == "qlora":
        size = widest(shape).weights
        formula = f"{widest(shape).name} from 4 bits to 16: {size / 1e6:,.0f} million x {setup.number_bytes} bytes"
        yield MemoryTerm("buffers", "dequantised layer", setup.number_bytes * size, formula, "one layer at a time")
    pieces = cards.share("weights")
    if pieces == 1:
        return
    layer = (
        _inside_bytes(shape, setup.method, TRAINED_BYTES if setup.trains_all else setup.number_bytes) // shape.layers
    )
    formula = f"{GATHERED_LAYERS} of {shape.layers} layers, gathered from {pieces} GPUs"
    yield MemoryTerm("buffers", "gathered layers", GATHERED_LAYERS * layer, formula, "the one in use and the next")
    if setup.trains_all:
        size = TRAINED_BYTES * shape.embedding_parameters
        formula = (
            f"embedding and output layer, gathered: {billions(shape.embedding_parameters)} x {TRAINED_BYTES} bytes"
        )
        yield MemoryTerm("buffers", "gathered embeddings", size, formula, "from the forward to the end of the backward")
        formula = (
            f"of {GATHERED_LAYERS} layers, the embedding and the output layer, before they are summed over the GPUs"
        )
        yield MemoryTerm("buffers", "gradients of what is gathered", GATHERED_LAYERS * layer + size, formula)


def logits(shape: ModelShape, setup: Setup) -> Iterator[MemoryTerm]:
    """Of a chunk of the targets, in the compute precision and in float32, with the hidden states they come from."""
    targets = setup.rows * (setup.row_tokens - setup.shared_tokens)
    alive = min(PIECE_LOGITS, targets * shape.vocabulary)
    each = setup.number_bytes + (4 if setup.number_bytes == 2 else 0)
    formula = f"{alive / 1e6:,.3g} million at a time x {each} bytes, for a vocabulary of {shape.vocabulary:,}"
    states = 2 * targets * shape.hidden * setup.number_bytes
    yield MemoryTerm(
        "logits", "logits", alive * each + states, formula, "never all at once: in chunks, as `train` does"
    )
    if setup.replay_loss == "kl":
        formula = (
            f"{alive / 1e6:,.3g} million at a time x {DIVERGENCE_BYTES - each} bytes more, and the base's hidden states"
        )
        size = alive * (DIVERGENCE_BYTES - each) + states
        yield MemoryTerm("logits", "KL loss of replay", size, formula, "a pass of rows of replay")


def summed(shape: ModelShape, setup: Setup, cards: Cards) -> Iterator[MemoryTerm]:
    """At the end of the backward: the gradients of a tied embedding's two uses are summed, and in shards those of the cards."""
    if not setup.trains_all:
        return
    size, freed = shape.embedding_parameters, "activations are freed by then"
    if shape.tied:
        formula = f"of its two uses, on top of their sum: 2 x {size / 1e6:,.0f} million x 4 bytes"
        yield MemoryTerm("buffers", "gradients of the embedding", 8 * size, formula, freed)
    if cards.share("weights") > 1:
        formula = f"embedding and output layer, a copy to be summed: {size / 1e6:,.0f} million x 4 bytes"
        yield MemoryTerm("buffers", "gradients on their way", 4 * size, formula, freed)


def sampling(shape: ModelShape, setup: Setup) -> Iterator[MemoryTerm]:
    """While the answers of groups are sampled; nothing is kept for a backward."""
    if setup.learning != "grpo" or setup.sampler == "other-gpus":
        return
    if setup.sampler == "same-gpus":
        size = weight_bytes(shape, "lora", 2)
        formula = "a vLLM server's own copy of the weights in 16 bits"
        yield MemoryTerm("server", "vLLM's weights", size, formula, "on the GPU that trains")
    prompts = max(1, setup.rows_at_once // setup.group_size)
    yield cache(shape, setup, setup.rows_at_once, prompts, "`rows_at_once` answers at a time")


def token_bytes(shape: ModelShape, setup: Setup) -> int:
    """Keys and values of one token in all layers."""
    return shape.cached_numbers * setup.number_bytes


def cache(shape: ModelShape, setup: Setup, rows: int, prompts: int, why: str) -> MemoryTerm:
    """Keys and values of `rows` answers to `prompts` prompts, decoded together. why: that many."""
    prompt_tokens = max(0, setup.row_tokens - setup.new_tokens)
    own = prompt_tokens - min(setup.shared_tokens, prompt_tokens)
    tokens = (prompt_tokens - own) + prompts * own + rows * setup.new_tokens
    size = token_bytes(shape, setup)
    formula = (
        f"{rows} answers of up to {setup.new_tokens:,} tokens to {prompts} prompts of {prompt_tokens:,}: {tokens:,} tokens "
        f"x {shape.layers} layers x {shape.keys_values_width:,} x {setup.number_bytes} bytes"
    )
    return MemoryTerm("cache", "keys and values", tokens * size, formula, why)


def context(cards: Cards, passing_bytes: int) -> Iterator[MemoryTerm]:
    """The device and its libraries, and the allocator's fragmentation."""
    if cards.card.is_cpu:
        own, name, formula = LIBRARIES_BYTES, "libraries", "torch, transformers and Python themselves"
        share, why = PROCESSOR_SHARE, "fitted to measured runs"
    else:
        own, name, formula = CONTEXT_BYTES, "CUDA context", "the driver's context, kernels and workspaces"
        share, why = ALLOCATOR_SHARE, "assumed"
    yield MemoryTerm("context", name, own, formula, f"{own / GIB:.2g} GiB, {why}")
    fragments = round(share * passing_bytes)
    yield MemoryTerm("context", "fragments", fragments, f"{share:.1%} of temporary memory", "allocator fragmentation")


def widest(shape: ModelShape) -> Linear:
    """The largest of the layers that are kept in 4 bits."""
    own = [linear for linear in shape.linears if linear.place != "router" and not linear.expert]
    return max(own, key=lambda linear: linear.weights)


_PREFILLED_TOKENS = 1536  # prompts read in one pass before answers are decoded


def training_memory(shape: ModelShape, setup: Setup, cards: Cards) -> Memory:
    """The peak of a step, which is its largest phase: sampling answers (grpo), forward and backward, or summing the gradients of
    the embedding."""
    kept = list(held(shape, setup, cards))
    step = max([*activations(shape, setup), *logits(shape, setup)], list(summed(shape, setup, cards)), key=_bytes)
    drawn = list(sampling(shape, setup))
    server = [part for part in drawn if part.kind == "server"]
    drawn = [part for part in drawn if part.kind != "server"]
    passing = max(step, drawn, key=_bytes) if setup.sampler == "engine" else [*step, *drawn]
    passing = [*passing, *buffers(shape, setup, cards)]
    return memory_of([*kept, *server, *passing, *context(cards, _bytes(passing))], cards.count)


def measuring_memory(shape: ModelShape, setup: Setup, cards: Cards) -> Memory:
    """The peak while the tuned system answers: weights as in training, adapters, and the cache of the answers."""
    answers = _answering(setup)
    kept = list(weights(shape, answers, cards))
    if not setup.trains_all:
        size = 4 * trained_parameters(shape, setup)
        kept.append(MemoryTerm("adapters", "adapters", size, "as trained, in float32"))
    rows = measured_at_once(shape, setup)
    formula = f"one layer of a pass of {_PREFILLED_TOKENS:,} tokens; nothing is kept for a backward"
    next_token = f"of the next token of {rows} answers, in float32"
    passing = [
        cache(shape, answers, rows, rows, "as many answers at a time as a climb measures"),
        MemoryTerm("activations", "one layer", _PREFILLED_TOKENS * layer_bytes(shape, answers), formula),
        MemoryTerm("logits", "logits", 4 * rows * shape.vocabulary, next_token),
        *buffers(shape, answers, cards),
    ]
    return memory_of([*kept, *passing, *context(cards, _bytes(passing))], cards.count)


def measured_at_once(shape: ModelShape, setup: Setup) -> int:
    """How many answers a climb computes together, unless the setup sets it."""
    if setup.measured_at_once is not None:
        return setup.measured_at_once
    return answers_at_once(token_bytes(shape, _answering(setup)))


def _answering(setup: Setup) -> Setup:
    """A fully fine-tuned model answers in 16 bits where the machine computes them."""
    return replace(setup, method="lora", compute="bfloat16") if setup.trains_all else setup


def _bytes(parts: list[MemoryTerm]) -> int:
    return sum(part.per_card_bytes for part in parts)
