"""The shape of a decoder: every kind of linear layer with its size and number, and what else has parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

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
class Shape:
    """A decoder-only transformer.

    heads, key_heads: of queries, and of keys and values. head_size, value_size: of a head's query and key, and of its value.
    inner: widths of the feed-forward product that one token passes, summed over the experts it takes; the widest layer's.
    gated: feed-forward with a gate. norms: of width `hidden` in a layer. head_norms: each head's query and key are normed.
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
    gated: bool
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
        """Those of them that bitsandbytes turns into 4 bits: layers of their own, not experts that are stacked in one tensor."""
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
        """Weights that one token is multiplied with: without the embedding's look-up, and of the experts those it takes."""
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
