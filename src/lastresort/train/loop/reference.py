"""What a training is compared with: the reference of its objective, and the base at the targets of held items.

The reference is the policy as it was before the first step. With a fresh adapter that is the base itself; with an adapter to
start from (DPO after SFT) it is that adapter's model. Its log-probabilities are computed once and kept; in 16 bits, where rounding
depends on what shares a pass, in every pass again.

The base, with an adapter, is the model without it; where all weights are trained, it is the weights as they were before the first
step. Its hidden states are computed for each batch, so that nothing has to be kept and a resumed run computes the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from lastresort.engine.divergence import Far
from lastresort.engine.forest import Row, split_units
from lastresort.engine.logp import target_states
from lastresort.engine.parts import Head, take_apart
from lastresort.errors import DataError, InputError
from lastresort.records.atomic import disk_errors, replace_file
from lastresort.train.adapters.adapters import adapters_in_base_precision, in_16_bits, is_adapter, trainable
from lastresort.train.loop.batches import Batch, Batches, TrainingItem, fingerprint
from lastresort.train.loop.checkpoints import kept_tensors, part_of, remove_parts, save_part
from lastresort.train.loop.optimizers import StartWeights, trainable_copies
from lastresort.train.loop.policy import IDLE, Policy, evaluating
from lastresort.train.loop.processes import Processes
from lastresort.train.settings import Objective
from lastresort.types import Progress

LOGPS, WEIGHTS = "reference.safetensors", "reference_weights.safetensors"
STAGES = {"reference": "the reference", "evaluation": "the reference of the items held out"}


class Reference:
    """What the batches of a run ask of the reference. logps: of every row of every item; weights: to compute them by. Neither
    where the objective needs no reference."""

    def __init__(
        self, policy: Policy, logps: list[list[float]] | None = None, weights: StartWeights | None = None
    ) -> None:
        self._policy, self._logps, self._weights = policy, logps, weights

    def of_items(self, batch: Batch) -> list[list[float]] | None:
        """Log-probabilities of a batch's rows; None where none are needed, or where the items hold them, being sampled."""
        if self._logps is not None:
            return [self._logps[number] for number in batch.numbers]
        if self._weights is None or not batch.numbers:
            return None
        with self._weights.inside():
            return self._policy.logps_of(batch.items)

    def of_answers(self, rows: Sequence[Row]) -> list[tuple[float, ...]]:
        """Log-probabilities of each row's targets, for answers that were just sampled; () if none are needed."""
        if self._weights is None:
            return [()] * len(rows)
        with self._weights.inside():
            return self._policy.token_logps(rows)


@dataclass(frozen=True, slots=True)
class ReferenceStore:
    """Where the reference's figures are kept, which only a run before its first step can compute.

    folder: of the checkpoint; they are kept next to it. run: what they belong to. begun: steps were done.
    """

    folder: Path
    run: str
    begun: bool

    def folder_for(self, what: str) -> Path:
        return self.folder.with_name(f"{self.folder.name}.{what}")


def reference_of_run(
    policy: Policy, batches: Batches, objective: Objective, store: ReferenceStore, progress: Progress
) -> Reference:
    """Before the first step computed, or noted; afterwards read back. Raises DataError if it is not there any more."""
    if not objective.needs_reference:
        return Reference(policy)
    if objective.need == "groups" or in_every_pass(policy.model):
        return Reference(policy, weights=reference_weights(policy, store))
    return Reference(policy, logps=reference_logps(policy, batches.items, store, "reference", progress))


def in_every_pass(model: torch.nn.Module) -> bool:
    """Whether the reference of pairs and labelled answers is computed for each batch again, not once for all."""
    return in_16_bits(model) and is_adapter(model)


def reference_logps(
    policy: Policy,
    items: Sequence[TrainingItem],
    store: ReferenceStore,
    what: Literal["reference", "evaluation"],
    progress: Progress,
) -> list[list[float]]:
    """Summed log-probability in nats of every row of every item under the reference.

    policy: is the reference as long as the run is not begun. what: the items trained on, or those held out. progress: gets a
    stage of the items of this process, where they are computed. Raises DataError if steps were done and they are not there.
    """
    path = store.folder_for(what) / LOGPS
    run = store.run if what == "reference" else f"{store.run} {fingerprint(items)}"
    logps = policy.processes.from_main(lambda: _read_logps(path, run, store.begun))
    if logps is None:
        with evaluating(policy.model):
            parts = policy.parts_of(items)
        progress.stage(STAGES[what], len(parts[policy.processes.place]))
        logps = [logp for row_logps in policy.logps_of(items, progress.advance, parts=parts) for logp in row_logps]
        policy.processes.from_main(lambda: _write_logps(path, run, logps))
    left = iter(logps)
    return [[next(left) for _ in item.rows] for item in items]


def _read_logps(path: Path, run: str, begun: bool) -> list[float] | None:
    tensors = _read(path, run, begun)
    return None if tensors is None else tensors["logps"].tolist()


def _write_logps(path: Path, run: str, logps: Sequence[float]) -> None:
    _write(path, {"logps": torch.tensor(logps, dtype=torch.float64)}, run, Processes())


def reference_weights(policy: Policy, store: ReferenceStore) -> StartWeights:
    """To put in for a moment while training goes on."""
    return StartWeights(policy.model, policy.processes.main_first(lambda: _kept_weights(policy, store)))


def _kept_weights(policy: Policy, store: ReferenceStore) -> dict[str, Tensor]:
    """In shards each process keeps its rows."""
    path, writers = store.folder_for("reference") / WEIGHTS, policy.processes
    weights = _read(path, store.run, store.begun, dict(trainable(policy.model)))
    if weights is None:
        weights = trainable_copies(policy.model)
        _write(path, weights, store.run, writers if writers.trains_shards else Processes())
    return weights


def _write(path: Path, tensors: Mapping[str, Tensor], run: str, writers: Processes) -> None:
    fresh = path.with_suffix(".new")
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if writers.main:
            remove_parts(path)  # of another run
        save_part(fresh, tensors, writers, run)
    replace_file(part_of(fresh, writers.place, writers.count), part_of(path, writers.place, writers.count))


def _read(path: Path, run: str, begun: bool, like: Mapping[str, Tensor] | None = None) -> dict[str, Tensor] | None:
    """like: by name what they are read for, of which this process may hold a share."""
    from safetensors import SafetensorError

    try:
        with kept_tensors(path) as tensors:
            if tensors.run == run:
                return {name: tensors.get(name, (like or {}).get(name)) for name in tensors.names}
    except (OSError, InputError, SafetensorError):
        pass  # not there, or cut short: computed again while the model still is the reference
    if begun:
        raise DataError(
            "the reference of this run is gone",
            where=str(path),
            expected="the file that its first step wrote",
            remedy="Remove the checkpoint to start again.",
        )
    return None


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
                self._head = replace(head, module=self._weights.frozen(head.module))

    def far_of(self, items: Sequence[TrainingItem]) -> list[Far | None]:
        """Of each item the base at its targets, None for an item that is not held. Every process calls this alike, each with the
        items that it trains.
        """
        held = [number for number, item in enumerate(items) if item.held]
        states = self._states([items[number].rows[0] for number in held])
        far: list[Far | None] = [None] * len(items)
        for number, item_states in zip(held, states, strict=True):
            far[number] = Far([item_states], self._head)
        return far

    def _states(self, rows: Sequence[Row]) -> list[Tensor]:
        policy = self._policy
        parts = split_units([(row,) for row in rows], policy.max_pass_tokens)
        most = policy.processes.most
        idle = most(len(parts)) - len(parts) if most is not None else 0
        states: list[Tensor] = [torch.empty(0)] * len(rows)
        with self._in_place(), evaluating(policy.model), adapters_in_base_precision(policy.model):
            for part in parts:
                row_states = target_states(policy.model, [rows[number] for number in part], plain=policy.plain)
                for number, row_state in zip(part, row_states, strict=True):
                    states[number] = row_state
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
