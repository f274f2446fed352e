"""Which kernel calls a forest's attention takes, node by node: a node on itself, and its descendants on it.

A call of a few tokens takes longer to start than to run. Small neighbours, such as the answers to a multiple choice question with
the question itself, therefore stand in one call, with a mask that keeps them apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, takewhile

import torch
from torch import Tensor

Nodes = Sequence[tuple[int, int, int]]


@dataclass(frozen=True, slots=True)
class Calls:
    """own: ranges of tokens on themselves, each token in one; causal where bias is None, else by the bias [1, 1, tokens, tokens],
    0 for what a token sees and -inf for the rest. above: (start, end, last): the tokens end:last on start:end, all of them.
    """

    own: tuple[tuple[int, int, Tensor | None], ...]
    above: tuple[tuple[int, int, int], ...]


def calls_of(nodes: Nodes, device: torch.device, *, together: int = 0) -> Calls:
    """together: most tokens of a call with a mask; 0 makes none."""
    own: list[tuple[int, int, Tensor | None]] = []
    above: list[tuple[int, int, int]] = []
    siblings = [_roots(nodes, 0, len(nodes))]
    while siblings:
        for group in _groups(nodes, siblings.pop(), together):
            start, end, last = nodes[group[0]]
            if len(group) > 1 or (last > end and last - start <= together):
                whole = nodes[group[-1]][2]
                own.append((start, whole, _bias(nodes, group[0], whole, device)))
                continue
            own.append((start, end, None))
            if last > end:
                above.append((start, end, last))
                siblings.append(_roots(nodes, group[0] + 1, _after(nodes, group[0])))
    return Calls(tuple(sorted(own, key=lambda call: call[0])), tuple(sorted(above)))


def _after(nodes: Nodes, i: int) -> int:
    """The number of the first node that does not descend from node i."""
    last = nodes[i][2]
    i += 1
    while i < len(nodes) and nodes[i][0] < last:
        i += 1
    return i


def _roots(nodes: Nodes, first: int, stop: int) -> list[int]:
    """Of the nodes first:stop those that descend from none of them."""
    found = []
    while first < stop:
        found.append(first)
        first = _after(nodes, first)
    return found


def _groups(nodes: Nodes, siblings: Sequence[int], together: int) -> Iterator[list[int]]:
    """Neighbours that have room in one call, with all that descends from them."""
    group: list[int] = []
    for i in siblings:
        if group and nodes[i][2] - nodes[group[0]][0] > together:
            yield group
            group = []
        group.append(i)
    if group:
        yield group


def _bias(nodes: Nodes, first: int, whole: int, device: torch.device) -> Tensor:
    """Of the tokens from node `first` on, up to `whole`."""
    origin = nodes[first][0]
    size = whole - origin
    sees = torch.zeros(size, size, dtype=torch.bool)
    for start, end, last in takewhile(lambda node: node[0] < whole, islice(nodes, first, None)):
        sees[start - origin : last - origin, start - origin : end - origin] = True
    bias = torch.zeros(size, size, dtype=torch.float32).masked_fill_(~sees.tril_(), -torch.inf)
    return bias[None, None].to(device)
