"""Keys and values between forwards: of prefixes that come back, of what the texts of a server begin with, such as a system prompt,
found by itself and kept once for all of them, and of the rows being generated.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from lastresort.engine.attention import BY_NODE_ON_CPU, ForestKernel, KeysValues, Packed
from lastresort.engine.forest import common_length
from lastresort.engine.kernels import Kernel, merge
from lastresort.engine.parts import Parts, packed_hidden

PREFIX_STEP = 16
FEWEST_TOKENS = 4 * PREFIX_STEP  # of a beginning that a server keeps
BEGINNINGS, REMEMBERED = 4, 64
SHARED_BY = 2  # so many others, so that two who ask the same do not push out what all share
NUMBERS_A_WEIGHT = 16  # enough to tell trained weights from those before a step


@dataclass(frozen=True, slots=True)
class Prefix:
    """Tokens with each layer's keys and values [1, key heads, tokens, size]."""

    tokens: tuple[int, ...]
    layers: tuple[KeysValues, ...]

    @property
    def size_bytes(self) -> int:
        return sum(x.numel() * x.element_size() for pair in self.layers for x in pair)


class PrefixCache:
    """Prefixes that were computed, the least recently used ones dropped beyond `limit_bytes`.

    A prefix is found again by its exact tokens, and was computed from its first token on, so that answers do not depend on
    what was asked before. reuse_parts gives that up for speed (chat, serving): any common beginning is used, and what is
    missing is computed on top; answers may then differ by rounding. Entries of other weights are never used.
    """

    def __init__(self, limit_bytes: int = 1 << 30, *, reuse_parts: bool = False) -> None:
        self._limit_bytes, self._reuse_parts = limit_bytes, reuse_parts
        self._weights: Any = None
        self._entries: OrderedDict[tuple[int, ...], Prefix] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, parts: Parts, tokens: tuple[int, ...], kernel: ForestKernel = BY_NODE_ON_CPU) -> tuple[Prefix, int]:
        """The prefix, and how many tokens had to be computed for it."""
        weights = _weights_version(parts.causal)
        if weights != self._weights:
            self._entries.clear()
            self._weights = weights
        if tokens in self._entries:
            self._entries.move_to_end(tokens)
            return self._entries[tokens], 0
        start = self._longest_beginning(tokens) if self._reuse_parts else None
        prefix = compute_prefix(parts, tokens, start, kernel)
        self._keep(prefix)
        return prefix, len(tokens) - (0 if start is None else len(start.tokens))

    def _longest_beginning(self, tokens: tuple[int, ...]) -> Prefix | None:
        length, best = max(((common_length(t, tokens), t) for t in self._entries), default=(0, ()))
        if length == 0:
            return None
        layers = tuple((k[:, :, :length], v[:, :, :length]) for k, v in self._entries[best].layers)
        return Prefix(tokens[:length], layers)

    def _keep(self, prefix: Prefix) -> None:
        self._entries[prefix.tokens] = prefix
        held = sum(entry.size_bytes for entry in self._entries.values())
        while held > self._limit_bytes:
            held -= self._entries.popitem(last=False)[1].size_bytes


def compute_prefix(
    parts: Parts, tokens: tuple[int, ...], start: Prefix | None, kernel: ForestKernel = BY_NODE_ON_CPU
) -> Prefix:
    """Keys and values of `tokens`, on top of `start` where given."""
    known = 0 if start is None else len(start.tokens)
    if start is not None and known == len(tokens):
        return start
    captured: dict[int, KeysValues] = {}
    count = len(tokens) - known
    attends = Packed(((0, count, count),), None if start is None else start.layers, captured, kernel)
    packed_hidden(parts.trunk, tokens[known:], range(known, len(tokens)), attends, parts.causal.device)
    return extended(start, tokens, captured)


def extended(start: Prefix | None, tokens: tuple[int, ...], captured: dict[int, KeysValues]) -> Prefix:
    """The prefix `tokens`, of which `captured`, emptied here layer by layer, holds what comes after `start`."""
    layers = []
    for layer in range(len(captured)):
        pair = captured.pop(layer)
        if start is None:
            keys, values = (x.contiguous() for x in pair)
        else:
            keys, values = (torch.cat(both, 2) for both in zip(start.layers[layer], pair, strict=True))
        layers.append((keys, values))
    return Prefix(tokens, tuple(layers))


def shared_prefix_length(prompts: Sequence[tuple[int, ...]]) -> int:
    """How much of the prompts' beginning is held once: every prompt keeps a token of its own to start from, and rounding
    down makes batches that agree by chance in a few tokens more ask for the same prefix."""
    first, last = min(prompts), max(prompts)
    length = min(common_length(first, last), min(len(p) for p in prompts) - 1)
    return length // PREFIX_STEP * PREFIX_STEP


def begun_lengths(prompts: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """Of each prompt, how much of it another one begins with, too, in whole steps; it keeps a token of its own."""
    order = sorted(range(len(prompts)), key=prompts.__getitem__)  # the most alike are neighbours
    longest = [0] * len(prompts)
    for one, other in pairwise(order):
        common = common_length(prompts[one], prompts[other])
        longest[one], longest[other] = max(longest[one], common), max(longest[other], common)
    alike = zip(longest, prompts, strict=True)
    return tuple(min(length, len(own) - 1) // PREFIX_STEP * PREFIX_STEP for length, own in alike)


class Beginnings:
    """Keys and values of what several texts began with, at most `limit_tokens` of them, and the latest texts themselves."""

    def __init__(self, limit_tokens: int) -> None:
        self.limit_tokens = limit_tokens
        self._kept: list[Prefix] = []  # the most recently used last
        self._seen: deque[tuple[int, ...]] = deque(maxlen=REMEMBERED)

    @property
    def kept(self) -> Sequence[Prefix]:
        return self._kept

    def of(self, tokens: tuple[int, ...]) -> Prefix | None:
        """The longest kept one that the text begins with; it leaves a token of its own."""
        fitting = [p for p in self._kept if len(p.tokens) < len(tokens) and tokens[: len(p.tokens)] == p.tokens]
        return max(fitting, key=lambda prefix: len(prefix.tokens), default=None)

    def shared_length(self, tokens: tuple[int, ...], waiting: Sequence[tuple[int, ...]] = ()) -> int:
        """How much of this text, which is not remembered yet, is worth keeping; 0 if too few texts share too little. waiting:
        texts that will be remembered, too."""
        lengths = sorted((common_length(tokens, other) for other in (*self._seen, *waiting)), reverse=True)
        if len(lengths) < SHARED_BY:
            return 0
        length = min(lengths[SHARED_BY - 1], len(tokens) - 1, self.limit_tokens) // PREFIX_STEP * PREFIX_STEP
        known = self.of(tokens)
        new = length - (0 if known is None else len(known.tokens))
        return length if new >= FEWEST_TOKENS else 0

    def remember(self, tokens: tuple[int, ...]) -> None:
        self._seen.append(tokens)
        used = self.of(tokens)
        if used is not None:
            self._kept.sort(key=lambda prefix: prefix is used)

    def keep(self, prefix: Prefix) -> None:
        self._kept.append(prefix)
        while len(self._kept) > BEGINNINGS or sum(len(kept.tokens) for kept in self._kept) > self.limit_tokens:
            self._kept.pop(0)


class Slots:
    """Keys and values of each row's own tokens, one slot a row, allocated once; slots 0 to rows-1 are in use.

    It is also what the attention layers call in a decoding step: one token a row, which is written into its slot and
    attends to the row's prefix and to its own slot. A prefix is one problem for all its rows, never expanded.
    """

    def __init__(self, slots: int, capacity_tokens: int, kernel: Kernel = BY_NODE_ON_CPU.pieces) -> None:
        self._slots, self._capacity_tokens, self._kernel = slots, capacity_tokens, kernel
        self._layers: list[KeysValues] = []
        self.lengths: list[int] = []
        self._prefixes: list[Prefix | None] = []
        self._beneath: list[tuple[Prefix, slice | Tensor]] = []
        self._rows: slice | Tensor = slice(0)
        self._places: int | Tensor = 0
        self._longest = 0
        self._bias: Tensor | None = None

    @property
    def prefixes(self) -> Sequence[Prefix | None]:
        """What comes before each row's own tokens."""
        return self._prefixes

    @property
    def positions(self) -> list[int]:
        """Where in its text each row's next token stands."""
        return [
            length + (0 if prefix is None else len(prefix.tokens))
            for length, prefix in zip(self.lengths, self._prefixes, strict=True)
        ]

    def append(
        self, captured: Mapping[int, KeysValues], paths: Sequence[Sequence[tuple[int, int]]], prefix: Prefix | None
    ) -> None:
        """Take in prefilled rows. captured: of the packed tokens; paths: the packed ranges that make up each row; prefix: what
        comes before them."""
        first = len(self.lengths)
        places = [torch.cat([torch.arange(start, end) for start, end in path]) for path in paths]
        index = torch.nn.utils.rnn.pad_sequence(places, batch_first=True).to(captured[0][0].device)
        if not self._layers:  # all of them or none: memory may run out at any of them
            self._layers = [self._allocated(captured[layer][0]) for layer in range(len(captured))]
        for layer, stores in enumerate(self._layers):
            for store, packed in zip(stores, captured[layer], strict=True):
                rows = packed[0][:, index].transpose(0, 1)
                store[first : first + len(index), :, : index.shape[1]] = rows
        self.lengths.extend(len(place) for place in places)
        self._prefixes.extend([prefix] * len(places))

    def _allocated(self, like: Tensor) -> KeysValues:
        _, key_heads, _, size = like.shape
        shape = (self._slots, key_heads, self._capacity_tokens, size)
        return like.new_zeros(shape), like.new_zeros(shape)  # zeros, not garbage: what is masked must still be finite

    def remove(self, slot: int) -> None:
        """Free a slot; the last row moves into it."""
        last = len(self.lengths) - 1
        if slot != last:
            length = self.lengths[last]
            for stores in self._layers:
                for store in stores:
                    store[slot, :, :length] = store[last, :, :length]
            self.lengths[slot], self._prefixes[slot] = self.lengths[last], self._prefixes[last]
        self.lengths.pop()
        self._prefixes.pop()

    def clear(self, slot: int) -> None:
        """Zero what a row wrote, which may not be finite, before its slot is freed."""
        for stores in self._layers:
            for store in stores:
                store[slot].zero_()

    def beginning(self, slot: int, tokens: tuple[int, ...]) -> Prefix:
        """The first tokens of a row, as a prefix of their own."""
        prefix = self._prefixes[slot]
        if prefix is not None and len(prefix.tokens) >= len(tokens):
            return Prefix(tokens, tuple(_first(layer, len(tokens)) for layer in prefix.layers))
        own = len(tokens) - (0 if prefix is None else len(prefix.tokens))
        layers = ((keys[slot : slot + 1], values[slot : slot + 1]) for keys, values in self._layers)
        return extended(prefix, tokens, {i: _first(layer, own) for i, layer in enumerate(layers)})

    def begin_step(self) -> None:
        """Make room for one token a row; to be called before each decoding forward."""
        store = self._layers[0][0]
        before, self.lengths = self.lengths, [length + 1 for length in self.lengths]
        self._longest = max(self.lengths)
        if len(set(before)) == 1:  # nothing is hidden from anybody, and all write at one place
            self._rows, self._places, self._bias = slice(len(before)), before[0], None
        else:
            self._rows = torch.arange(len(before), device=store.device)
            self._places = torch.tensor(before, device=store.device)
            visible = torch.arange(self._longest, device=store.device)[None] <= self._places[:, None]
            self._bias = store.new_zeros(visible.shape).masked_fill_(~visible, -torch.inf)[:, None, None]
        self._beneath = self._rows_by_prefix(store.device)

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        rows, heads, _, size = query.shape
        key_heads, longest = key.shape[1], self._longest
        group = heads // key_heads
        keys, values = self._layers[layer]
        keys[self._rows, :, self._places] = key[:, :, 0]
        values[self._rows, :, self._places] = value[:, :, 0]
        own_query = query.reshape(rows, key_heads, group, size)
        bias = None if self._bias is None else self._bias.expand(rows, key_heads, group, longest)
        out, lse = self._kernel.forward(
            own_query, keys[:rows, :, :longest], values[:rows, :, :longest], False, scale, bias
        )
        for prefix, over in self._beneath:
            near, into, into_lse = own_query[over], out[over], lse[over]
            far_query = near.transpose(0, 1).reshape(1, key_heads, len(near) * group, size)
            far, far_lse = self._kernel.forward(far_query, *prefix.layers[layer], False, scale)
            far = far.reshape(key_heads, len(near), group, size).transpose(0, 1)
            merge(into, into_lse, far, far_lse.reshape(key_heads, len(near), group).transpose(0, 1))
            if isinstance(over, Tensor):  # a slice is a view
                out[over] = into
        return out.reshape(rows, heads, 1, size)

    def _rows_by_prefix(self, device: torch.device) -> list[tuple[Prefix, slice | Tensor]]:
        found: dict[int, tuple[Prefix, list[int]]] = {}
        for row, prefix in enumerate(self._prefixes):
            if prefix is not None:
                found.setdefault(id(prefix), (prefix, []))[1].append(row)
        if [len(rows) for _, rows in found.values()] == [len(self.lengths)]:
            return [(prefix, slice(None)) for prefix, _ in found.values()]
        return [(prefix, torch.tensor(rows, device=device)) for prefix, rows in found.values()]


def _first(layer: KeysValues, count: int) -> KeysValues:
    keys, values = layer
    return keys[:, :, :count].clone(), values[:, :, :count].clone()


def _weights_version(causal: Any) -> tuple[Any, ...]:
    """Changes whenever weights are written in place or trained, or an adapter is switched."""
    versions = sum(p._version for p in causal.parameters())
    # Fused optimizers do not raise the version of what they write.
    trained = [p.detach().flatten() for p in causal.parameters() if p.requires_grad]
    looked_at = torch.cat([x[:: len(x) // NUMBERS_A_WEIGHT + 1] for x in trained]).tolist() if trained else []
    adapters = tuple(
        (m.disable_adapters, tuple(m.active_adapters), bool(m.merged), tuple(sorted(m.scaling.items())))
        for m in causal.modules()
        if hasattr(m, "active_adapters") and hasattr(m, "disable_adapters") and hasattr(m, "scaling")
    )
    return id(causal), versions, looked_at, adapters
