"""The shape of a decoder: every kind of linear layer with its size and number, and what else has parameters.

Read from a config.json, for the families whose parameter counts are tested against transformers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from lastresort.errors import InputError
from lastresort.model_heads import MOST_LAYERS, MOST_WIDTH

Place = Literal["attention", "mlp", "router"]


@dataclass(frozen=True, slots=True)
class Linear:
    """One kind of linear layer. count: how many the model has; used: how many of them one token passes (fewer than count where
    experts are chosen). bias: whether it has one. expert: one of many, of which a token takes some."""

    name: str
    inputs: int
    outputs: int
    count: int
    used: int
    place: Place
    bias: bool = False
    expert: bool = False

    @property
    def weights(self) -> int:
        """Of one layer, without its bias."""
        return self.inputs * self.outputs


@dataclass(frozen=True, slots=True)
class ModelShape:
    """A decoder-only transformer whose feed-forward has a gate.

    heads, key_heads: of queries, and of keys and values. head_size, value_size: of a head's query and key, and of its value.
    inner: widths of the feed-forward product that one token passes, summed over the experts it takes; the widest layer's.
    norms: of width `hidden` in a layer. head_norms: each head's query and key are normed.
    tied: the output layer is the embedding. norm_parameters: of all norms. caps_scores: attention's scores are capped,
    which most kernels cannot. context_tokens: longest text, None if it does not say.
    """

    name: str
    hidden: int
    layers: int
    heads: int
    key_heads: int
    head_size: int
    value_size: int
    inner: int
    vocabulary: int
    tied: bool
    norms: int
    head_norms: bool
    norm_parameters: int
    linears: tuple[Linear, ...]
    experts_per_token: int = 0
    caps_scores: bool = False
    context_tokens: int | None = None

    @property
    def linear_parameters(self) -> int:
        """Weights inside the layers, those of routers left out."""
        return sum(linear.weights * linear.count for linear in self.linears if linear.place != "router")

    @property
    def quantised_parameters(self) -> int:
        """Those of them that bitsandbytes quantises to 4 bits: separate layers, not experts stacked in one tensor."""
        own = (linear for linear in self.linears if linear.place != "router" and not linear.expert)
        return sum(linear.weights * linear.count for linear in own)

    @property
    def embedding_parameters(self) -> int:
        return self.vocabulary * self.hidden * (1 if self.tied else 2)

    @property
    def small_parameters(self) -> int:
        """Norms, biases and routers."""
        biases = sum(linear.outputs * linear.count for linear in self.linears if linear.bias)
        routers = sum(linear.weights * linear.count for linear in self.linears if linear.place == "router")
        return self.norm_parameters + biases + routers

    @property
    def parameters(self) -> int:
        return self.linear_parameters + self.embedding_parameters + self.small_parameters

    @property
    def multiplied_parameters(self) -> int:
        """Weights that one token is multiplied with: no embedding look-up, and only the experts it uses."""
        return sum(linear.weights * linear.used for linear in self.linears) + self.vocabulary * self.hidden

    @property
    def query_width(self) -> int:
        return self.heads * self.head_size

    @property
    def attended_width(self) -> int:
        """Of what the attention gives to its output layer."""
        return self.heads * self.value_size

    @property
    def keys_values_width(self) -> int:
        """Numbers that a cache keeps of one token in one layer."""
        return self.key_heads * (self.head_size + self.value_size)

    @property
    def cached_numbers(self) -> int:
        """Numbers that a cache keeps of one token in all layers."""
        return self.layers * self.keys_values_width

    @property
    def has_experts(self) -> bool:
        return self.experts_per_token > 0

    def adapted(self, target: Literal["attention", "all-linear"]) -> tuple[Linear, ...]:
        """The linear layers that get adapters; experts never do, nor does a router."""
        places = ("attention",) if target == "attention" else ("attention", "mlp")
        return tuple(linear for linear in self.linears if linear.place in places and not linear.expert)

    def adapter_parameters(self, r: int, target: Literal["attention", "all-linear"]) -> int:
        """r (d_in + d_out) of every adapted layer (Hu et al. 2021)."""
        return sum(r * (linear.inputs + linear.outputs) * linear.count for linear in self.adapted(target))


DENSE = frozenset(
    {"llama", "mistral", "ministral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "phi3", "smollm3"}
)
EXPERTS = frozenset({"mixtral", "qwen2_moe", "qwen3_moe", "deepseek_v2", "deepseek_v3"})
_TIED = frozenset({"gemma", "gemma2", "gemma3_text"})  # whose configuration class says so where the file does not
_FOUR_NORMS = frozenset({"gemma2", "gemma3_text"})
_HEAD_NORMS = frozenset({"qwen3", "qwen3_moe", "gemma3_text"})


def shape_of(config: Mapping[str, Any], name: str) -> ModelShape:
    """Raises InputError for an architecture that is not known here, or a configuration that lacks a size."""
    text = config.get("text_config")
    values = {**config, **text} if isinstance(text, Mapping) else dict(config)
    kind = {"gemma3": "gemma3_text"}.get(str(values.get("model_type")), str(values.get("model_type")))
    if kind not in DENSE | EXPERTS:
        raise InputError(
            f'model_type "{kind}"',
            where=name,
            expected=f"one of {', '.join(sorted(DENSE | EXPERTS))}",
            remedy="Name a model of one of these families that has about its size.",
        )
    try:
        found = _shape(values, kind, name)
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        raise InputError(
            f"a size is missing or no number ({str(error)[:80]})", where=name, expected="the config.json of a decoder"
        ) from error
    sizes = (found.hidden, found.layers, found.heads, found.key_heads, found.head_size, found.inner, found.vocabulary)
    if min(sizes) < 1 or max(sizes) > MOST_WIDTH:
        odd = next(size for size in sizes if not 1 <= size <= MOST_WIDTH)
        raise InputError(f"a size of {odd:g}", where=name, expected="the config.json of a decoder")
    return found


def _shape(config: Mapping[str, Any], kind: str, name: str) -> ModelShape:
    hidden, layers, heads = (int(config[key]) for key in ("hidden_size", "num_hidden_layers", "num_attention_heads"))
    if layers > MOST_LAYERS:
        raise ValueError(f"{layers:g} layers")
    key_heads = int(config.get("num_key_value_heads") or heads)
    latent = kind.startswith("deepseek")
    size = int(config["qk_nope_head_dim"]) + int(config["qk_rope_head_dim"]) if latent else _head_size(config)
    value_size = int(config["v_head_dim"]) if latent else size
    attention = _latent(config, hidden, layers, heads, size) if latent else _attention(config, kind, size)
    feed_forward, inner, experts_per_token = _feed_forward(config, kind, hidden, layers)
    norms = 4 if kind in _FOUR_NORMS else 2
    tied = bool(config.get("tie_word_embeddings", kind in _TIED))
    context = config.get("max_position_embeddings")
    return ModelShape(
        name=name,
        hidden=hidden,
        layers=layers,
        heads=heads,
        key_heads=heads if latent else key_heads,
        head_size=size,
        value_size=value_size,
        inner=inner,
        vocabulary=int(config["vocab_size"]),
        tied=tied,
        norms=norms,
        head_norms=kind in _HEAD_NORMS,
        norm_parameters=hidden * (norms * layers + 1) + layers * _inner_norms(config, kind, size),
        linears=(*attention, *feed_forward),
        experts_per_token=experts_per_token,
        caps_scores=kind == "gemma2",
        context_tokens=int(context) if context else None,
    )


def _head_size(config: Mapping[str, Any]) -> int:
    return int(config.get("head_dim") or int(config["hidden_size"]) // int(config["num_attention_heads"]))


def _inner_norms(config: Mapping[str, Any], kind: str, size: int) -> int:
    """Parameters of the norms of one layer that are not as wide as the model."""
    if kind in _HEAD_NORMS:
        return 2 * size
    if kind.startswith("deepseek"):
        return int(config["kv_lora_rank"]) + int(config.get("q_lora_rank") or 0)
    return 0


def _attention(config: Mapping[str, Any], kind: str, size: int) -> tuple[Linear, ...]:
    hidden, layers, heads = (int(config[key]) for key in ("hidden_size", "num_hidden_layers", "num_attention_heads"))
    keys = int(config.get("num_key_value_heads") or heads) * size
    bias = kind in ("qwen2", "qwen2_moe") or bool(config.get("attention_bias"))

    def layer(name: str, inputs: int, outputs: int, biased: bool) -> Linear:
        return Linear(name, inputs, outputs, layers, layers, "attention", biased)

    if kind == "phi3":
        return (
            layer("qkv_proj", hidden, heads * size + 2 * keys, False),
            layer("o_proj", heads * size, hidden, False),
        )
    return (
        layer("q_proj", hidden, heads * size, bias),
        layer("k_proj", hidden, keys, bias),
        layer("v_proj", hidden, keys, bias),
        layer("o_proj", heads * size, hidden, bool(config.get("attention_bias"))),
    )


def _latent(config: Mapping[str, Any], hidden: int, layers: int, heads: int, size: int) -> tuple[Linear, ...]:
    """Multi-head latent attention (DeepSeek-AI 2024, section 2.1)."""
    rank, rope = int(config["kv_lora_rank"]), int(config["qk_rope_head_dim"])
    nope, value = int(config["qk_nope_head_dim"]), int(config["v_head_dim"])

    def layer(name: str, inputs: int, outputs: int) -> Linear:
        return Linear(name, inputs, outputs, layers, layers, "attention")

    query_rank = config.get("q_lora_rank")
    queries = (
        (layer("q_a_proj", hidden, int(query_rank)), layer("q_b_proj", int(query_rank), heads * size))
        if query_rank
        else (layer("q_proj", hidden, heads * size),)
    )
    return (
        *queries,
        layer("kv_a_proj_with_mqa", hidden, rank + rope),
        layer("kv_b_proj", rank, heads * (nope + value)),
        layer("o_proj", heads * value, hidden),
    )


def _feed_forward(
    config: Mapping[str, Any], kind: str, hidden: int, layers: int
) -> tuple[tuple[Linear, ...], int, int]:
    """The layers, the widest sum of inner widths that a token passes, and how many experts it takes."""
    if kind in DENSE:
        inner = int(config["intermediate_size"])
        return _gated("", hidden, inner, layers, layers, fused=kind == "phi3"), inner, 0
    experts = int(
        next(config[key] for key in ("num_local_experts", "num_experts", "n_routed_experts") if key in config)
    )
    taken = int(config["num_experts_per_tok"])
    inner = int(config["intermediate_size"] if kind == "mixtral" else config["moe_intermediate_size"])
    dense, sparse = _split(config, kind, layers)
    shared = _shared_width(config, inner)
    parts = list(_gated("experts.", hidden, inner, sparse * experts, sparse * taken, expert=True))
    # DeepSeek-V3 adds to each expert's score a number that is no weight of a layer, but is stored with the router.
    scored = kind == "deepseek_v3"
    parts.append(Linear("gate", hidden, experts, sparse, sparse, "router", bias=scored))
    if shared:
        parts += _gated("shared_expert.", hidden, shared, sparse, sparse)
        if kind == "qwen2_moe":
            parts.append(Linear("shared_expert_gate", hidden, 1, sparse, sparse, "router"))
    if dense:
        parts += _gated("", hidden, int(config["intermediate_size"]), dense, dense)
    widest = max(taken * inner + shared, int(config["intermediate_size"]) if dense else 0)
    return tuple(parts), widest, taken


def _split(config: Mapping[str, Any], kind: str, layers: int) -> tuple[int, int]:
    """Layers with one feed-forward for all tokens, and layers with experts."""
    if kind.startswith("deepseek"):
        dense = min(layers, int(config.get("first_k_dense_replace") or 0))
    elif kind.startswith("qwen"):
        step, plain = int(config.get("decoder_sparse_step") or 1), set(config.get("mlp_only_layers") or ())
        dense = sum(i in plain or (i + 1) % step != 0 for i in range(layers))
    else:
        dense = 0
    return dense, layers - dense


def _shared_width(config: Mapping[str, Any], inner: int) -> int:
    if config.get("shared_expert_intermediate_size"):
        return int(config["shared_expert_intermediate_size"])
    return int(config.get("n_shared_experts") or 0) * inner


def _gated(
    prefix: str, hidden: int, inner: int, count: int, used: int, *, expert: bool = False, fused: bool = False
) -> tuple[Linear, ...]:
    def layer(name: str, inputs: int, outputs: int) -> Linear:
        return Linear(prefix + name, inputs, outputs, count, used, "mlp", expert=expert)

    up = (
        (layer("gate_up_proj", hidden, 2 * inner),)
        if fused
        else (layer("gate_proj", hidden, inner), layer("up_proj", hidden, inner))
    )
    return (*up, layer("down_proj", inner, hidden))
