"""The base that a training started from, at the targets of the items that are held to it.

With an adapter the base is the model without it; where all weights are trained, it is the weights as they stood before the first
step. Its hidden states are computed for each batch, so that nothing has to be kept and a resumed run computes the same.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor

from lastresort.engine.divergence import Far
from lastresort.engine.forest import Row, split_units
from lastresort.engine.logp import target_states
from lastresort.engine.parts import Head, take_apart
from lastresort.train.adapters.adapters import adapters_in_base_precision, is_adapter
from lastresort.train.loop.batches import TrainingItem
from lastresort.train.loop.optimizers import StartWeights
from lastresort.train.loop.policy import IDLE, Policy, evaluating
from lastresort.train.loop.reference import ReferenceStore, reference_weights


class Base:
    """What the rows of held items are compared with."""

    def __init__(self, policy: Policy, store: ReferenceStore) -> None:
        self._policy = policy
        self._weights: StartWeights | None = None
        self._head: Head | None = None
        if not is_adapter(policy.model):
            self._weights = reference_weights(policy, store)
            head = take_apart(policy.model).head
            if any(parameter.requires_grad for parameter in head.module.parameters()):
                with self._weights.inside():
                    self._head = replace(head, module=copy.deepcopy(head.module).requires_grad_(False))

    def far_of(self, items: Sequence[TrainingItem]) -> list[Far | None]:
        """Of each item the base at its targets, None for an item that is not held. Every process calls this alike, each with the
        items that it trains.
        """
        held = [number for number, item in enumerate(items) if item.held]
        states = self._states([items[number].rows[0] for number in held])
        found: list[Far | None] = [None] * len(items)
        for number, one in zip(held, states, strict=True):
            found[number] = Far([one], self._head)
        return found

    def _states(self, rows: Sequence[Row]) -> list[Tensor]:
        policy = self._policy
        parts = split_units([(row,) for row in rows], policy.max_pass_tokens)
        most = policy.processes.most
        idle = most(len(parts)) - len(parts) if most is not None else 0
        states: list[Tensor] = [torch.empty(0)] * len(rows)
        with self._in_place(), evaluating(policy.model), adapters_in_base_precision(policy.model):
            for part in parts:
                found = target_states(policy.model, [rows[number] for number in part], plain=policy.plain)
                for number, one in zip(part, found, strict=True):
                    states[number] = one
            for _ in range(idle):
                target_states(policy.model, [IDLE], plain=policy.plain)
        return states

    @contextmanager
    def _in_place(self) -> Iterator[None]:
        """The model is its base inside."""
        if self._weights is not None:
            with self._weights.inside():
                yield
            return
        with self._policy.model.disable_adapter():
            yield
