"""A batch that texts join and leave between decoding steps.

One step is one forward: the tokens of new texts, at most so many that decoding does not wait for them, and one token of every
text that is being continued. Memory is allocated once, as shelves of slots: many short ones and a few long ones, so that one
long text does not make the attention of all others as long.

What several texts begin with, a system prompt, is found by itself: as soon as three of them agree in it, its keys and values
are kept once and all later texts start from there. Nobody needs to say what it is, and texts without it are served beside.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from lastresort.engine.attention import Attends, ForestKernel, KeysValues, Packed
from lastresort.engine.cache import Beginnings, Prefix, Slots, extended
from lastresort.engine.forest import Row, common_length, plan_forest
from lastresort.engine.live_rows import Continuation, LiveRow, advance
from lastresort.engine.parts import trunk_hidden
from lastresort.engine.plain import generate_plain_in_thread
from lastresort.engine.support import Support, support, why_plain_batch
from lastresort.errors import ContractError

PREFILL_TOKENS = 128  # in a step in which others decode on a CPU, where they take about as long as 32 of these
PREFILL_TOKENS_ALONE = 2048  # and on a GPU


@dataclass(frozen=True, slots=True)
class Shelf:
    """Slots of one size. tokens: of a text and its continuation, without the beginning that it shares with others."""

    slots: int
    tokens: int


class ContinuousBatch:
    """Continues texts of a model in eval mode, whose weights do not change meanwhile. Used by one thread at a time.

    A model or a text that the packed form cannot serve takes the plain path, one text after another, next to the others.
    """

    def __init__(self, model: Any, shelves: Sequence[Shelf]) -> None:
        self._found = support(model)
        self._shelves = [
            _Filled(shelf, Slots(shelf.slots, shelf.tokens, self._found.kernel.pieces)) for shelf in shelves
        ]
        self._shelves.sort(key=lambda filled: filled.size.tokens)
        self._new: deque[_New] = deque()
        self._beginnings = Beginnings(limit_tokens=self._shelves[-1].size.tokens)
        self._plain: tuple[LiveRow, Generator[None, None, None]] | None = None
        # Who waits is looked at before each step, and a long text takes long to compare.
        self._begins: WeakKeyDictionary[Continuation, Prefix | None] = WeakKeyDictionary()
        self._plain_reason = lru_cache(maxsize=1024)(partial(why_plain_batch, self._found))  # by the longest text

    @property
    def rows(self) -> list[LiveRow]:
        """All texts that joined and neither ended nor left."""
        plain = [] if self._plain is None else [self._plain[0]]
        return [*(new.row for new in self._new), *(row for filled in self._shelves for row in filled.rows), *plain]

    @property
    def used(self) -> float:
        """Share of the slots' tokens that are in use."""
        held = sum(sum(filled.slots.lengths) for filled in self._shelves)
        return held / sum(filled.size.slots * filled.size.tokens for filled in self._shelves)

    @property
    def tokens_of_step(self) -> int:
        """How many tokens the next step computes, about: what new texts begin with may be known."""
        decoding = sum(len(filled.rows) for filled in self._shelves) + (self._plain is not None)
        new = sum(len(new.tokens) - new.known for new in self._new)
        return decoding + min(new, self._tokens_to_read())

    def fits(self, asked: Continuation) -> bool:
        """Whether the text will ever find room."""
        return self._why_plain(asked) is not None or asked.longest_tokens <= self._shelves[-1].size.tokens

    def has_room(self, asked: Continuation) -> bool:
        """Whether it may join now. Cheap, as all who wait are looked at before each step."""
        if self._why_plain(asked) is not None:
            return self._plain is None
        if not any(filled.free > 0 for filled in self._shelves):
            return False
        fits_all = asked.longest_tokens <= self._shelves[0].size.tokens  # whatever it begins with
        filled = self._shelf_for(asked, None if fits_all else self._beginning_of(asked))
        return filled is not None and filled.free > 0

    def join(self, asked: Continuation) -> LiveRow:
        """From the next step on. Raises ContractError for an empty text, or if there is no room."""
        if not asked.tokens:
            raise ContractError("the text is empty", where="ContinuousBatch", expected="at least one token")
        if not self.has_room(asked):
            raise ContractError("no room for this text", where="ContinuousBatch", expected="a look at has_room before")
        row = LiveRow(asked, self._why_plain(asked))
        if row.reason is not None:
            self._plain = row, _plain_steps(self._found, row)
            return row
        prefix = self._beginning_of(asked)
        filled = self._shelf_for(asked, prefix)
        assert filled is not None
        filled.reserved += 1
        self._new.append(_New(row, filled, prefix))
        return row

    def leave(self, row: LiveRow) -> None:
        """Its slot is free from here on. Nothing happens if it has ended."""
        if self._plain is not None and self._plain[0] is row:
            self._plain[1].close()
            self._plain = None
        for new in [new for new in self._new if new.row is row]:
            self._new.remove(new)
            new.filled.reserved -= 1
        for filled in self._shelves:
            if row in filled.rows:
                filled.free_slot_of(row)

    def clear(self) -> list[LiveRow]:
        """All texts leave. Returns them."""
        gone = self.rows
        for row in gone:
            row.error = row.error or ContractError("the batch was cleared", where="ContinuousBatch")
            self.leave(row)
        return gone

    @torch.no_grad()
    def step(self) -> list[LiveRow]:
        """One token more for each text, and for new ones as far as they were read. Returns those that grew, ended or failed.

        Where the forward fails, the new texts in it fail, and the others go on; without new ones all fail.
        """
        told = self._plain_step()
        pieces = self._next_pieces()
        before = [filled.slots.lengths for filled in self._shelves]
        if not pieces and not any(before):
            return told
        try:
            hidden, picks = self._forward(pieces)
            logits = self._found.parts.head.logits(hidden[picks])
        except Exception as error:  # noqa: BLE001 - of a library or for want of memory: whoever waits for the rows gets to know it
            for filled, lengths in zip(self._shelves, before, strict=True):
                filled.slots.lengths = lengths
            failed = [new.row for piece in pieces for new in piece.members]
            failed = failed or [row for filled in self._shelves for row in filled.rows]
            for row in failed:
                row.error = error
                self.leave(row)
            return told + failed
        rows = self._settle(pieces)
        advance(rows, logits)
        for row in rows:
            if row.over:
                self.leave(row)
        return told + rows

    def _beginning_of(self, asked: Continuation) -> Prefix | None:
        if asked not in self._begins:
            self._begins[asked] = self._beginnings.of(asked.tokens)
        return self._begins[asked]

    def _why_plain(self, asked: Continuation) -> str | None:
        return self._plain_reason(asked.longest_tokens)

    def _shelf_for(self, asked: Continuation, prefix: Prefix | None) -> _Filled | None:
        """The shelf with the shortest slots that are long enough; others do not stand in for it when it is full, so that many
        short texts never keep a long one from its slot."""
        needed = asked.longest_tokens - (0 if prefix is None else len(prefix.tokens))
        return next((filled for filled in self._shelves if filled.size.tokens >= needed), None)

    def _plain_step(self) -> list[LiveRow]:
        if self._plain is None:
            return []
        row, steps = self._plain
        try:
            next(steps, None)
        except Exception as error:  # noqa: BLE001 - of a library or for want of memory: whoever waits for the row gets to know it
            row.error = row.error or error
        if row.over:
            self.leave(row)
        return [row]

    def _next_pieces(self) -> list[_Piece]:
        """What is read of new texts in this step, in the order in which they came. Those on one prefix are read together. A text
        longer than a step is read over several, one such at a time, with half of each step if others wait."""
        budget = self._tokens_to_read()
        left, whole, parts = budget, list[_New](), list[_Piece]()
        for new in self._new:
            if new.grown is None:
                self._start_from_longer_prefix(new)
            shared = max((common_length(new.tokens, other.tokens) for other in whole), default=0)
            needed = len(new.tokens) - max(new.known, shared)
            if new.grown is not None or needed > budget:
                if not parts:
                    count = min(len(new.tokens) - new.known, left if len(self._new) == 1 else max(1, left // 2))
                    parts.append(_part_of(new, count, self._found.kernel))
                    left -= count
            elif needed <= left:
                left -= needed
                whole.append(new)
            else:
                break
        by_prefix: dict[int, list[_New]] = {}
        for new in whole:
            by_prefix.setdefault(id(new.prefix), []).append(new)
        return parts + [_together(members, self._found.kernel) for members in by_prefix.values()]

    def _tokens_to_read(self) -> int:
        """As many times more as those who wait to be read are more than those who wait for their next token meanwhile."""
        decoding = sum(len(filled.rows) for filled in self._shelves)
        if not decoding or self._found.parts.causal.device.type != "cpu":
            return PREFILL_TOKENS_ALONE
        return min(PREFILL_TOKENS_ALONE, PREFILL_TOKENS * max(1, len(self._new) // decoding))

    def _start_from_longer_prefix(self, new: _New) -> None:
        """That became known since the text joined; one that was dropped meanwhile stays, as its slot was chosen by it."""
        self._keep_shared_with_running(new.tokens)
        found = self._beginnings.of(new.tokens)
        if found is not None and len(found.tokens) > new.known:
            new.prefix = found

    def _keep_shared_with_running(self, tokens: tuple[int, ...]) -> None:
        """What this text shares with others, if one of them is in its slot already."""
        length = self._beginnings.shared_length(tokens, [new.tokens for new in self._new if new.tokens is not tokens])
        for filled in self._shelves if length else ():
            for slot, row in enumerate(filled.rows):
                if row.asked.tokens[:length] == tokens[:length]:
                    self._keep(filled, slot, tokens[:length])
                    return

    def _keep(self, filled: _Filled, slot: int, tokens: tuple[int, ...]) -> None:
        """Keep what a row begins with, unless memory is full of others: a text holds its prefix to its end, even once dropped."""
        held = [*self._beginnings.kept, *(new.prefix for new in self._new)]
        held += [prefix for other in self._shelves for prefix in other.slots.prefixes]
        distinct = {id(prefix): len(prefix.tokens) for prefix in held if prefix is not None}
        if sum(distinct.values()) + len(tokens) <= 2 * self._beginnings.limit_tokens:
            self._beginnings.keep(filled.slots.beginning(slot, tokens))
            self._begins.clear()

    def _forward(self, pieces: Sequence[_Piece]) -> tuple[Tensor, Tensor]:
        """Hidden states of all tokens, and which of them predict a next token: those of `_settle`'s rows, in its order."""
        found, device = self._found, self._found.parts.causal.device
        ids: list[int] = []
        positions: list[int] = []
        picks: list[int] = []
        attends: list[tuple[int, Attends]] = []
        for piece in pieces:
            picks += [len(ids) + pick for pick in piece.picks]
            ids += piece.ids
            positions += piece.positions
            attends.append((len(piece.ids), piece.packed))
        for filled in self._shelves:
            if filled.rows:
                picks += range(len(ids), len(ids) + len(filled.rows))
                ids += [row.tokens[-1] for row in filled.rows]
                positions += filled.slots.positions
                filled.slots.begin_step()
                attends.append((len(filled.rows), _AsTokens(filled.slots)))
        hidden = trunk_hidden(
            found.parts.trunk,
            torch.tensor([ids], device=device),
            torch.tensor([positions], device=device),
            attends[0][1] if len(attends) == 1 else _SideBySide(tuple(attends)),
        )
        return hidden[0], torch.tensor(picks, dtype=torch.long, device=device)

    def _settle(self, pieces: Sequence[_Piece]) -> list[LiveRow]:
        """Put what was read into slots. Returns the rows that get a token, in the order of `_forward`'s picks."""
        decoding = [row for filled in self._shelves for row in filled.rows]
        first: list[LiveRow] = []
        for piece in pieces:
            captured = piece.captured
            if piece.read_up_to is not None:
                new = piece.members[0]
                new.grown = extended(piece.base, new.tokens[: piece.read_up_to], captured)
                if piece.picks:
                    own = 0 if new.prefix is None else len(new.prefix.tokens)
                    captured = {i: (k[:, :, own:], v[:, :, own:]) for i, (k, v) in enumerate(new.grown.layers)}
                    self._place([new], captured, [((0, len(new.tokens) - own),)])
            else:
                self._place(piece.members, captured, piece.paths)
            if piece.picks:
                first += [new.row for new in piece.members]
        return first + decoding

    def _place(
        self, members: Sequence[_New], captured: dict[int, KeysValues], paths: Sequence[Sequence[tuple[int, int]]]
    ) -> None:
        for new, path in zip(members, paths, strict=True):
            filled = new.filled
            filled.slots.append(captured, [path], new.prefix)
            filled.reserved -= 1
            filled.rows.append(new.row)
            self._new.remove(new)
            length = self._beginnings.shared_length(new.tokens)
            if length:
                self._keep(filled, len(filled.rows) - 1, new.tokens[:length])
            self._beginnings.remember(new.tokens)


@dataclass(slots=True, eq=False)
class _Filled:
    """A shelf at work. reserved: slots of texts that are still to be read."""

    size: Shelf
    slots: Slots
    rows: list[LiveRow] = field(default_factory=list)
    reserved: int = 0

    @property
    def free(self) -> int:
        return self.size.slots - len(self.rows) - self.reserved

    def free_slot_of(self, row: LiveRow) -> None:
        slot = self.rows.index(row)
        if row.error is not None:
            self.slots.clear(slot)
        self.slots.remove(slot)
        self.rows[slot] = self.rows[-1]
        self.rows.pop()


@dataclass(slots=True, eq=False)
class _New:
    """A text that is to be read. prefix: what it begins with; grown: of a long text, as far as it was read."""

    row: LiveRow
    filled: _Filled
    prefix: Prefix | None
    grown: Prefix | None = None

    @property
    def tokens(self) -> tuple[int, ...]:
        return self.row.asked.tokens

    @property
    def known(self) -> int:
        start = self.grown or self.prefix
        return 0 if start is None else len(start.tokens)


@dataclass(frozen=True, slots=True, eq=False)
class _Piece:
    """Tokens of new texts that are read in one step, as a forest on `base`.

    captured: their keys and values, once the forward is done. picks: the last token of each text, if it is reached. read_up_to:
    the end of the part, of a text that is read over several steps.
    """

    members: list[_New]
    base: Prefix | None
    ids: Sequence[int]
    positions: Sequence[int]
    packed: Packed
    captured: dict[int, KeysValues]
    picks: Sequence[int]
    paths: Sequence[Sequence[tuple[int, int]]] = ()
    read_up_to: int | None = None


def _part_of(new: _New, count: int, kernel: ForestKernel) -> _Piece:
    """The next `count` tokens of a text that is read over several steps."""
    base, start, end = new.grown or new.prefix, new.known, new.known + count
    captured: dict[int, KeysValues] = {}
    packed = Packed(((0, count, count),), None if base is None else base.layers, captured, kernel)
    picks = [count - 1] if end == len(new.tokens) else []
    return _Piece([new], base, new.tokens[start:end], range(start, end), packed, captured, picks, read_up_to=end)


def _together(members: list[_New], kernel: ForestKernel) -> _Piece:
    """Whole texts on one prefix, what they share on top of it once."""
    base = members[0].prefix
    # A row whose last token is a target has all tokens before it computed.
    asked = [Row((*new.tokens, 0), (*[False] * len(new.tokens), True)) for new in members]
    forest = plan_forest(asked, offset=0 if base is None else len(base.tokens))
    captured: dict[int, KeysValues] = {}
    packed = Packed(forest.nodes, None if base is None else base.layers, captured, kernel)
    return _Piece(members, base, forest.ids, forest.positions, packed, captured, forest.pick, forest.paths)


@dataclass(frozen=True, slots=True)
class _AsTokens:
    """Rows of one token each, which stand next to one another in one packed row."""

    slots: Slots

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        query, key, value = (x[0].transpose(0, 1).unsqueeze(2) for x in (query, key, value))
        return self.slots.attend(layer, query, key, value, scale).squeeze(2).transpose(0, 1)[None]


@dataclass(frozen=True, slots=True)
class _SideBySide:
    """Several ways to attend in one packed row, each over so many tokens."""

    parts: tuple[tuple[int, Attends], ...]

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        return torch.cat(list(self._each(layer, query, key, value, scale)), 2)

    def _each(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Iterator[Tensor]:
        start = 0
        for count, part in self.parts:
            q, k, v = (x[:, :, start : start + count] for x in (query, key, value))
            yield part.attend(layer, q, k, v, scale)
            start += count


def _plain_steps(found: Support, row: LiveRow) -> Generator[None, None, None]:
    take: Callable[[Sequence[int], Tensor], list[int]] = lambda _, logits: advance([row], logits)  # noqa: E731
    return generate_plain_in_thread(found, [row.asked.tokens], row.asked.settings, take, lambda _: row.over)
