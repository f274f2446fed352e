"""The reference: the policy as it stood before the first step.

With a fresh adapter that is the base itself; with an adapter to start from (DPO after SFT) it is that adapter's model. Its
log-probabilities are computed once and kept; in 16 bits, where rounding depends on what shares a pass, in every pass anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lastresort.engine.forest import Row
from lastresort.errors import DataError
from lastresort.records.atomic import disk_errors
from lastresort.train.adapters import in_16_bits, is_adapter, trainable
from lastresort.train.batches import Batch, Batches
from lastresort.train.items import Item
from lastresort.train.objective import Objective
from lastresort.train.policy import Policy

LOGPS, WEIGHTS = "reference.safetensors", "reference_weights.safetensors"


class Reference:
    """What the batches of a run ask of the reference. logps: of every row of every item; weights: to compute them by. Neither
    where the objective needs no reference."""

    def __init__(
        self, policy: Policy, logps: list[list[float]] | None = None, weights: ReferenceWeights | None = None
    ) -> None:
        self._policy, self._logps, self._weights = policy, logps, weights

    def of_items(self, batch: Batch, own: Sequence[int]) -> list[list[float]] | None:
        """Log-probabilities of a batch's rows; None where none are needed, or where the items hold them, being sampled.

        own: the items whose trained rows this process computes.
        """
        if self._logps is not None:
            return [self._logps[number] for number in batch.numbers]
        if self._weights is None or not batch.numbers:
            return None
        with self._weights():
            return self._policy.logps_of(batch.items, own)

    def of_answers(self, rows: Sequence[Row]) -> list[tuple[float, ...]]:
        """Log-probabilities of each row's targets, for answers that were just sampled; () if none are needed."""
        if self._weights is None:
            return [()] * len(rows)
        with self._weights():
            return self._policy.token_logps(rows)


def reference_of_run(
    policy: Policy, batches: Batches, objective: Objective, folder: Path, run: str, *, begun: bool
) -> Reference:
    """Before the first step computed, or noted; afterwards read back from `folder`. begun, errors: see `reference_logps`."""
    if not objective.needs_reference:
        return Reference(policy)
    if objective.need == "groups" or (in_16_bits(policy.model) and is_adapter(policy.model)):
        return Reference(policy, weights=ReferenceWeights(policy.model, folder, run, begun=begun))
    return Reference(policy, logps=reference_logps(batches.items, policy.logps_of, folder, run, begun=begun))


def reference_logps(
    items: Sequence[Item],
    logps_of: Callable[[Sequence[Item]], list[list[float]]],
    folder: Path,
    run: str,
    *,
    begun: bool,
) -> list[list[float]]:
    """Summed log-probability in nats of every row of every item under the reference.

    logps_of: the same under the model as it stands. folder: where they are kept, for a run that goes on. begun: steps were
    done, so that the model is no longer the reference. Raises DataError if it is begun and they are not there.
    """
    kept = _read(folder / LOGPS, run, begun)
    if kept is None:
        flat = [logp for own in logps_of(items) for logp in own]
        kept = {"logps": torch.tensor(flat, dtype=torch.float64)}
        _write(folder / LOGPS, kept, run)
    left = iter(kept["logps"].tolist())
    return [[next(left) for _ in item.rows] for item in items]


class ReferenceWeights:
    """The reference's trainable weights, to put in for a moment: for answers that are sampled while training goes on."""

    def __init__(self, model: Any, folder: Path, run: str, *, begun: bool) -> None:
        kept = _read(folder / WEIGHTS, run, begun)
        if kept is None:
            kept = {name: parameter.detach().clone().contiguous() for name, parameter in trainable(model)}
            _write(folder / WEIGHTS, kept, run)
        self._model, self._kept = model, kept

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """The model is the reference inside. Gradients and the optimizer's state stay as they are."""
        own = {name: parameter.detach().clone() for name, parameter in trainable(self._model)}
        self._put(self._kept)
        try:
            yield
        finally:
            self._put(own)

    @torch.no_grad()
    def _put(self, weights: dict[str, Tensor]) -> None:
        for name, parameter in trainable(self._model):
            parameter.copy_(weights[name])


def _write(path: Path, tensors: dict[str, Tensor], run: str) -> None:
    from safetensors.torch import save_file

    fresh = path.with_suffix(".new")
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, str(fresh), metadata={"run": run})
        fresh.replace(path)


def _read(path: Path, run: str, begun: bool) -> dict[str, Tensor] | None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            if (file.metadata() or {}).get("run") == run:
                return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  safe_open is no mapping
    except (OSError, SafetensorError):
        pass  # not there, or cut short: computed again while the model still is the reference
    if begun:
        raise DataError(
            "the reference of this run is gone",
            where=str(path),
            expected="the file that its first step wrote",
            remedy="Remove the checkpoint to start again.",
        )
    return None
