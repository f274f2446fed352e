"""Rows -> a forest: every piece of text that rows share is in it once. Pure; knows no model.

A causal model computes the same state for the same beginning, whatever follows it. So rows are merged into tries, each
laid out depth-first in one packed sequence: a node is a range of tokens, its descendants are the range that follows it.
Cost falls from rows x (shared + own) to shared + rows x own, and nothing is padded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from lastresort.errors import ContractError

MIN_SHARED = 16
PASS_COST_TOKENS = 32  # what a pass costs on top of its tokens; only has to be right in size


@dataclass(frozen=True, slots=True)
class Row:
    """A text as token ids. targets[i]: token i is trained or scored, predicted from the tokens before it."""

    ids: tuple[int, ...]
    targets: tuple[bool, ...]

    def __post_init__(self) -> None:
        if len(self.ids) != len(self.targets):
            raise ContractError(f"{len(self.ids)} ids and {len(self.targets)} targets", where="Row")
        if self.targets and self.targets[0]:
            raise ContractError("the first token is a target", where="Row", expected="something to predict it from")

    @property
    def prompt(self) -> tuple[int, ...]:
        """The tokens before the first target, all of them where there is none."""
        return self.ids[: self.targets.index(True)] if any(self.targets) else self.ids

    @property
    def needed(self) -> int:
        """How many tokens from the start must be computed: all before the last target."""
        for i in range(len(self.targets) - 1, 0, -1):
            if self.targets[i]:
                return i
        return 0


@dataclass(frozen=True, slots=True)
class Forest:
    """Rows packed into one sequence of n tokens.

    ids, positions: of each packed token; a position counts from the start of its row. nodes: (start, end, end of the last
    descendant), depth-first. paths: for each row the packed ranges (start, end) whose tokens make up its beginning.
    pick, target, row: for each target, in the order of the rows, the packed index that predicts it, its token and its row.
    computed_tokens: n. nominal_tokens: what the rows hold in all, padding not counted.
    """

    ids: tuple[int, ...]
    positions: tuple[int, ...]
    nodes: tuple[tuple[int, int, int], ...]
    paths: tuple[tuple[tuple[int, int], ...], ...]
    pick: tuple[int, ...]
    target: tuple[int, ...]
    row: tuple[int, ...]
    computed_tokens: int
    nominal_tokens: int


def common_length(a: Sequence[int], b: Sequence[int], start: int = 0) -> int:
    """Length of the longest common beginning of two sequences of one type, known to agree before `start`."""
    low, high = start, min(len(a), len(b))
    while low < high:
        middle = (low + high + 1) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def plan_forest(rows: Sequence[Row], *, min_shared: int = MIN_SHARED, offset: int = 0) -> Forest:
    """Pack rows so that every shared piece is computed once.

    min_shared: fewest computed tokens that a node must save to be made. offset: leading tokens of every row that are
    computed elsewhere and left out (an external prefix); positions still count from the start of the row.
    The tokens after a row's last target predict nothing and are left out too.
    """
    texts = [row.ids[: row.needed] for row in rows]
    order = sorted((i for i in range(len(rows)) if len(texts[i]) > offset), key=lambda i: (texts[i], i))
    ids: list[int] = []
    positions: list[int] = []
    nodes: list[tuple[int, int, int]] = []
    paths: list[tuple[tuple[int, int], ...]] = [() for _ in rows]
    # Entries: rows order[low:high] agree up to `depth`, which their ancestors hold; or the number of a node to close.
    stack: list[tuple[int, int, int] | int] = [
        (low, high, offset) for low, high in reversed(_groups(texts, order, 0, len(order), offset))
    ]
    while stack:
        entry = stack.pop()
        if isinstance(entry, int):
            start, end, _ = nodes[entry]
            nodes[entry] = (start, end, len(ids))
            continue
        low, high, depth = entry
        first = texts[order[low]]
        shared = common_length(first, texts[order[high - 1]], depth)
        children = _groups(texts, order, low, high, shared)
        ends_here = not children or children[0][0] > low  # a row ends at this point, so that something must hold it
        if not ends_here and (shared - depth) * (high - low - 1) < min_shared:
            stack.extend((a, b, depth) for a, b in reversed(children))
            continue
        start = len(ids)
        ids.extend(first[depth:shared])
        positions.extend(range(depth, shared))
        for i in order[low:high]:
            paths[i] = (*paths[i], (start, len(ids)))
        nodes.append((start, len(ids), len(ids)))
        if children:
            stack.append(len(nodes) - 1)
            stack.extend((a, b, shared) for a, b in reversed(children))
    pick, target, row = _targets(rows, paths, offset)
    return Forest(
        tuple(ids),
        tuple(positions),
        tuple(nodes),
        tuple(paths),
        tuple(pick),
        tuple(target),
        tuple(row),
        len(ids),
        sum(len(r.ids) for r in rows),
    )


def split_passes(rows: Sequence[Row], max_tokens: int) -> list[list[Row]]:
    """Cut a batch into passes of at most `max_tokens` computed tokens (a longer row gets its own pass), fewest tokens in all."""
    return [[rows[i] for i in part] for part in split_indices(rows, max_tokens)]


def split_indices(rows: Sequence[Row], max_tokens: int) -> list[list[int]]:
    """As split_passes, but the numbers of the rows."""
    return split_units([(row,) for row in rows], max_tokens)


def split_units(units: Sequence[Sequence[Row]], max_tokens: int) -> list[list[int]]:
    """As split_indices, but for units of rows that must share a pass, such as both answers of a pair; numbers of the units.

    Units are sorted, so that those with a common beginning stand together, and the cuts are chosen by dynamic programming:
    a cut costs the tokens that the first unit after it shared with the last one before it. A unit without rows costs nothing.
    Every shared token counts once: what plan_forest computes again, as too little to share, comes on top (below MIN_SHARED
    tokens a row).
    """
    if max_tokens < 1:
        raise ContractError(f"max_tokens is {max_tokens}", where="split_passes", expected="at least 1")
    order, size, saved = _laid_out(units)
    best = [0] + [0] * len(order)
    cut = [0] * (len(order) + 1)
    for end in range(1, len(order) + 1):
        tokens, best[end] = 0, -1
        for start in range(end - 1, -1, -1):
            whole = tokens + size[start]
            if whole > max_tokens and start < end - 1:
                if tokens > max_tokens:
                    break
            else:
                cost = best[start] + whole + PASS_COST_TOKENS
                if best[end] < 0 or cost < best[end]:
                    best[end], cut[end] = cost, start
            tokens += size[start] - saved[start]
    parts: list[list[int]] = []
    end = len(order)
    while end:
        parts.append(order[cut[end] : end])
        end = cut[end]
    return parts[::-1]


def split_evenly(units: Sequence[Sequence[Row]], count: int, *, shared: bool = True) -> list[list[int]]:
    """Cut a batch into `count` parts whose largest costs as few computed tokens as possible; numbers of the units, in order.

    Units are sorted as in split_units, so that those with a common beginning share a part. Where a cut separates them, both parts
    compute that beginning: such a cut is made only if the largest part becomes smaller by it. Among cuts that are equally good by
    that, each part in turn ends where the fewest tokens are repeated, then where it comes closest to an even share; this is
    greedy, so that another cut may repeat fewer in all. With fewer units than parts, some are empty.

    shared: False for the plain path, which computes all tokens of every row: units are then sorted by their longest row, since a
    pass is padded to its own.
    """
    if count < 1:
        raise ContractError(f"count is {count}", where="split_evenly", expected="at least 1")
    if count == 1 or not units:
        return [list(range(len(units))), *[[] for _ in range(count - 1)]]
    order, size, saved = _laid_out(units) if shared else _by_length(units)
    largest = largest_part(size, saved, count)
    starts, parts, start = _earliest(size, saved, count, largest), list[list[int]](), 0
    for left in range(count, 1, -1):
        end = _best_end(size, saved, start, starts[count - left + 1], largest, left)
        parts.append(sorted(order[start:end]))
        start = end
    return [*parts, sorted(order[start:])]


def largest_part(size: Sequence[int], saved: Sequence[int], count: int) -> int:
    """Tokens of the largest of `count` neighbouring parts, where it is as small as can be. size: of each unit alone. saved: of
    these what it shares with the unit before.
    """
    low, high = max(size), sum(size)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if _earliest(size, saved, count, middle)[0] == 0 else (middle + 1, high)
    return low


def _earliest(size: Sequence[int], saved: Sequence[int], count: int, limit: int) -> list[int]:
    """Of each of `count` neighbouring parts within `limit` tokens the earliest unit that it can begin with, filled from the end."""
    starts, end = [0] * count, len(size)
    for part in range(count - 1, -1, -1):
        start, tokens = end, 0
        while start > 0:
            more = size[start - 1] - (saved[start] if start < end else 0)
            if tokens + more > limit:
                break
            tokens, start = tokens + more, start - 1
        starts[part] = end = start
    return starts


def _best_end(size: Sequence[int], saved: Sequence[int], start: int, earliest: int, limit: int, left: int) -> int:
    """Where the first of `left` parts ends, which together take all units from `start` on: not before `earliest`."""
    fair = (sum(size[start:]) - sum(saved[start + 1 :])) / left
    tokens, choices = 0, []
    for end in range(start, len(size) + 1):
        if end > start:
            tokens += size[end - 1] - (saved[end - 1] if end - 1 > start else 0)
        if tokens > limit:
            break
        if end >= earliest:
            repeated = saved[end] if start < end < len(size) else 0
            choices.append((repeated, abs(tokens - fair), end))
    return min(choices)[2]


def split_padded(rows: Sequence[Row], max_tokens: int) -> list[list[int]]:
    """As split_indices, but for passes in which nothing is shared and every row is padded to the longest of its pass."""
    parts: list[list[int]] = []
    for i in sorted(range(len(rows)), key=lambda i: len(rows[i].ids)):  # so that the newest row is the longest
        if not parts or (len(parts[-1]) + 1) * len(rows[i].ids) > max_tokens:
            parts.append([])
        parts[-1].append(i)
    return parts


def _laid_out(units: Sequence[Sequence[Row]]) -> tuple[list[int], list[int], list[int]]:
    """Numbers of the units, sorted by their texts; in this order the computed tokens of each alone, and how many of them it shares
    with the one before it."""
    texts = [sorted(row.ids[: row.needed] for row in unit) or [()] for unit in units]
    order = sorted(range(len(units)), key=lambda i: (texts[i], i))
    saved = [0] + [common_length(texts[a][-1], texts[b][0]) for a, b in pairwise(order)]
    return order, [_computed(texts[i]) for i in order], saved


def _by_length(units: Sequence[Sequence[Row]]) -> tuple[list[int], list[int], list[int]]:
    """As _laid_out, for a path that shares nothing: numbers of the units by their longest row, and the tokens of all their rows."""
    longest = [max((len(row.ids) for row in unit), default=0) for unit in units]
    order = sorted(range(len(units)), key=lambda i: (longest[i], i))
    return order, [sum(len(row.ids) for row in units[i]) for i in order], [0] * len(units)


def _computed(texts: Sequence[tuple[int, ...]]) -> int:
    """Tokens of sorted texts when each shared beginning is computed once."""
    return sum(map(len, texts)) - sum(common_length(a, b) for a, b in pairwise(texts))


def _groups(
    texts: Sequence[tuple[int, ...]], order: Sequence[int], low: int, high: int, depth: int
) -> list[tuple[int, int]]:
    """Ranges of sorted rows low:high that go on beyond `depth` with the same token; rows that end at `depth` are in none."""
    while low < high and len(texts[order[low]]) <= depth:
        low += 1
    groups = []
    while low < high:
        token, end = texts[order[low]][depth], low + 1
        while end < high and texts[order[end]][depth] == token:
            end += 1
        groups.append((low, end))
        low = end
    return groups


def _targets(
    rows: Sequence[Row], paths: Sequence[tuple[tuple[int, int], ...]], offset: int
) -> tuple[list[int], list[int], list[int]]:
    pick: list[int] = []
    target: list[int] = []
    owner: list[int] = []
    for number, (row, path) in enumerate(zip(rows, paths, strict=True)):
        places = [i for start, end in path for i in range(start, end)]
        for i, wanted in enumerate(row.targets):
            if wanted:
                if i <= offset:
                    raise ContractError(
                        f"target {i} of row {number} is predicted by the left-out prefix of {offset}",
                        where="plan_forest",
                    )
                pick.append(places[i - 1 - offset])
                target.append(row.ids[i])
                owner.append(number)
    return pick, target, owner
