"""Generation: the common prefix once, the suffixes as one packed forest, then one token a row a step, without padding.

The order of all work is a function of the arguments alone, so that a repeated call gives the same tokens.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from random import Random
from typing import Any, Literal

import torch
from torch import Tensor

from lastresort.engine.attention import Attends, KeysValues, Packed
from lastresort.engine.cache import Prefix, PrefixCache, Slots, shared_prefix_length
from lastresort.engine.choose import Allowed, Sampling, choose, random_stream, restrict, to_choose_from
from lastresort.engine.forest import Row, plan_forest, split_indices
from lastresort.engine.logp import Path
from lastresort.engine.parts import trunk_hidden
from lastresort.engine.plain import generate_plain, generate_plain_in_thread
from lastresort.engine.support import Support, support, why_plain_batch
from lastresort.errors import ContractError

PREFILL_TOKENS = 8192


@dataclass(frozen=True, slots=True)
class Generated:
    """tokens: without the stop token. finish: "stop" (a stop token, or `stopped` said so) or "length". reason: why the path
    is plain, None if it is packed."""

    tokens: tuple[int, ...]
    finish: Literal["stop", "length"]
    path: Path = "packed"
    reason: str | None = None


class Rows:
    """What is known of each row while it grows: its tokens, its random numbers, whether it has ended."""

    def __init__(
        self,
        streams: Sequence[Random],
        settings: Sampling,
        allowed: Allowed | None,
        stopped: Callable[[int, Sequence[int]], bool] | None,
        on_finished: Callable[[int, Generated], None] | None,
        reason: str | None,
    ) -> None:
        self._settings, self._allowed, self._stopped, self._on_finished = settings, allowed, stopped, on_finished
        self._reason = reason
        self._streams = streams
        self.tokens: list[list[int]] = [[] for _ in streams]
        self.results: list[Generated | None] = [None] * len(streams)

    def advance(self, rows: Sequence[int], logits: Tensor) -> list[int]:
        """Give each of `rows` its next token by its line of logits [len(rows), vocabulary], which is written over.
        Returns the tokens chosen; rows that ended have a result from here on."""
        logits = to_choose_from(logits)
        if self._allowed is not None:
            restrict(logits, [self._allowed(row, self.tokens[row]) for row in rows])
        greedy = self._settings.temperature == 0
        # Random numbers are the host's, so that a seed means the same on every device.
        chosen = choose(logits, self._settings, [0.0 if greedy else self._streams[row].random() for row in rows])
        for row, token in zip(rows, chosen, strict=True):
            self._take(row, token)
        return chosen

    def ended(self, row: int) -> bool:
        return self.results[row] is not None

    def _take(self, row: int, token: int) -> None:
        tokens, settings = self.tokens[row], self._settings
        if token in settings.stop_ids:
            self._finish(row, "stop")
            return
        tokens.append(token)
        if self._stopped is not None and self._stopped(row, tokens):
            self._finish(row, "stop")
        elif len(tokens) >= settings.max_new_tokens:
            self._finish(row, "length")

    def _finish(self, row: int, finish: Literal["stop", "length"]) -> None:
        path: Path = "packed" if self._reason is None else "plain"
        result = Generated(tuple(self.tokens[row]), finish, path, self._reason)
        self.results[row] = result
        if self._on_finished is not None:
            self._on_finished(row, result)


@torch.no_grad()
def generate(
    model: Any,
    prompts: Sequence[Sequence[int]],
    *,
    settings: Sampling,
    seeds: Sequence[int] | None = None,
    allowed: Allowed | None = None,
    stopped: Callable[[int, Sequence[int]], bool] | None = None,
    prefixes: PrefixCache | None = None,
    on_finished: Callable[[int, Generated], None] | None = None,
    on_step: Callable[[], None] | None = None,
    on_read: Callable[[float], None] | None = None,
    plain: bool = False,
) -> list[Generated]:
    """Continue each prompt; results in the order of the prompts.

    seeds: one a row, in place of settings.seed and the row's place. allowed(row, tokens so far): a mask as `restrict` takes it, or
    None for no limit. stopped(row, tokens so far, the newest last): True ends the row, all its tokens kept. prefixes: keeps the
    common prefix for later calls. on_finished(row, result) is called as soon as a row has ended, on_step() after each step of the
    packed path, on_read(prompts) after each layer while prompts are read there: how many are and have not ended, in part too.
    plain: use the plain path. The model should be in eval mode; the context limit is the caller's matter. Raises ContractError for
    an empty prompt, for seeds of another number, or where no token is allowed.
    """
    texts = _texts(prompts)
    if not texts:
        return []
    found = support(model)
    reason = _why_plain(found, texts, settings, plain=plain)
    rows = Rows(_streams(len(texts), settings.seed, seeds), settings, allowed, stopped, on_finished, reason)
    if reason is not None:
        generate_plain(found, texts, settings, rows.advance, rows.ended)
    else:
        kept = PrefixCache() if prefixes is None else prefixes
        for _ in _packed_steps(found, texts, settings, rows, kept, on_read):
            if on_step is not None:
                on_step()
    results = [result for result in rows.results if result is not None]
    if len(results) < len(texts):
        raise ContractError(f"{len(texts) - len(results)} of {len(texts)} rows were never ended", where="generate")
    return results


@torch.no_grad()
def stream(
    model: Any,
    prompt: Sequence[int],
    *,
    settings: Sampling,
    seed: int | None = None,
    allowed: Allowed | None = None,
    stopped: Callable[[int, Sequence[int]], bool] | None = None,
    prefixes: PrefixCache | None = None,
    plain: bool = False,
) -> Generator[int, None, Generated]:
    """The tokens that `generate` gives for this prompt alone, each as soon as it is chosen; returns the whole.

    seed: in place of settings.seed. All else as there; the row is number 0. Nothing more is computed once it is closed.
    """
    texts = _texts([prompt])
    found = support(model)
    reason = _why_plain(found, texts, settings, plain=plain)
    streams = _streams(1, settings.seed, None if seed is None else [seed])
    rows = Rows(streams, settings, allowed, stopped, None, reason)
    if reason is None:
        steps = _packed_steps(found, texts, settings, rows, PrefixCache() if prefixes is None else prefixes)
    else:
        steps = generate_plain_in_thread(found, texts, settings, rows.advance, rows.ended)
    given = 0
    with closing(steps):
        for _ in steps:
            while given < len(rows.tokens[0]):
                yield rows.tokens[0][given]
                given += 1
    result = rows.results[0]
    if result is None:
        raise ContractError("the row was never ended", where="stream")
    return result


def _texts(prompts: Sequence[Sequence[int]]) -> list[tuple[int, ...]]:
    texts = [tuple(int(token) for token in prompt) for prompt in prompts]
    if any(not text for text in texts):
        raise ContractError(f"prompt {texts.index(())} is empty", where="generate", expected="at least one token")
    return texts


def _why_plain(found: Support, texts: Sequence[tuple[int, ...]], settings: Sampling, *, plain: bool) -> str | None:
    reason = why_plain_batch(found, max(map(len, texts)) + settings.max_new_tokens)
    return reason or ("the plain path was asked for" if plain else None)


def _streams(count: int, seed: int, seeds: Sequence[int] | None) -> list[Random]:
    if seeds is None:
        return [random_stream(seed, row) for row in range(count)]
    if len(seeds) != count:
        raise ContractError(f"{len(seeds)} seeds for {count} prompts", where="generate", expected="one a prompt")
    return [random_stream(own, 0) for own in seeds]


def _packed_steps(
    found: Support,
    texts: Sequence[tuple[int, ...]],
    settings: Sampling,
    rows: Rows,
    prefixes: PrefixCache,
    on_read: Callable[[float], None] | None = None,
) -> Generator[None, None, None]:
    """Yields after each step, by which at least one row has grown or ended."""
    parts = found.parts
    shared = shared_prefix_length(texts)
    prefix = prefixes.get(parts, texts[0][:shared], found.kernel)[0] if shared else None
    at_once = min(settings.rows_at_once, len(texts))
    capacity_tokens = max(map(len, texts)) - shared + settings.max_new_tokens
    slots = Slots(at_once, capacity_tokens, found.kernel.pieces)
    waiting, active = deque(range(len(texts))), list[int]()
    while waiting or active:
        # Refill by the quarter: a prefill of one row costs nearly as much as one of many.
        if waiting and at_once - len(active) >= min(len(waiting), max(1, at_once // 4)):
            new = [waiting.popleft() for _ in range(min(at_once - len(active), len(waiting)))]
            active += _prefill(found, texts, new, prefix, slots, rows, on_read)
        else:
            _step(found, active, slots, rows)
        for slot in range(len(active) - 1, -1, -1):
            if rows.results[active[slot]] is not None:
                slots.remove(slot)
                active[slot] = active[-1]
                active.pop()
        yield


def _prefill(
    found: Support,
    texts: Sequence[tuple[int, ...]],
    new: Sequence[int],
    prefix: Prefix | None,
    slots: Slots,
    rows: Rows,
    on_read: Callable[[float], None] | None,
) -> list[int]:
    """Compute the suffixes of new rows into slots and choose their first tokens. Returns the rows in the order of slots."""
    parts, shared = found.parts, 0 if prefix is None else len(prefix.tokens)
    device = parts.causal.device
    # A row whose last token is a target has all tokens before it computed.
    asked = [Row((*texts[i], 0), (*[False] * len(texts[i]), True)) for i in new]
    order: list[int] = []
    for part in split_indices(asked, PREFILL_TOKENS + shared):
        forest = plan_forest([asked[i] for i in part], offset=shared)
        captured: dict[int, KeysValues] = {}
        attends: Attends = Packed(forest.nodes, None if prefix is None else prefix.layers, captured, found.kernel)
        if on_read is not None:
            unanswered = sum(not rows.ended(row) for row in (*range(min(new)), *order))  # rows begin in their order
            attends = _Reading(attends, on_read, unanswered, len(part) / parts.config.num_hidden_layers)
        ids, positions = (torch.tensor([x], device=device) for x in (forest.ids, forest.positions))
        hidden = trunk_hidden(found.parts.trunk, ids, positions, attends)[0]
        slots.append(captured, forest.paths, prefix)
        members = [new[i] for i in part]
        ends = hidden[torch.tensor(forest.pick, device=device)]
        rows.advance(members, parts.head.logits(ends))
        order += members
    return order


@dataclass(frozen=True, slots=True)
class _Reading:
    """Attention that says after each layer how many prompts are read. before: read by then and not ended. a_layer: prompts that
    one counts."""

    inner: Attends
    on_read: Callable[[float], None]
    before: int
    a_layer: float

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        found = self.inner.attend(layer, query, key, value, scale)
        self.on_read(self.before + (layer + 1) * self.a_layer)
        return found


def _step(found: Support, active: Sequence[int], slots: Slots, rows: Rows) -> None:
    """One token more for each active row."""
    device = found.parts.causal.device
    positions = torch.tensor(slots.positions, device=device)[:, None]
    slots.begin_step()
    ids = torch.tensor([[rows.tokens[row][-1]] for row in active], device=device)
    hidden = trunk_hidden(found.parts.trunk, ids, positions, slots)
    rows.advance(active, found.parts.head.logits(hidden[:, 0]))
