"""The optimizer steps of a run: each draws its batch, computes the gradients, and changes the weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from lastresort.train.batches import Batches
from lastresort.train.evaluation import Evaluated, HeldOut
from lastresort.train.gradients import Passed, batch_gradients
from lastresort.train.optimizers import learning_rate_at, take_step
from lastresort.train.order import steps_per_epoch
from lastresort.train.policy import Policy
from lastresort.train.reference import Reference
from lastresort.train.settings import TrainSettings
from lastresort.types import Progress


@dataclass(frozen=True, slots=True)
class Steps:
    """count: of the whole run. max_new_tokens: for dr_grpo. Steps are numbered from 0."""

    policy: Policy
    batches: Batches
    reference: Reference
    held_out: HeldOut
    optimizer: Any
    settings: TrainSettings
    count: int
    max_new_tokens: int | None

    def gradients(self, step: int) -> Passed:
        """Of the step's batch, in the parameters, the same in every process."""
        policy, objective = self.policy, self.settings.objective
        with _draws_of(step, self.settings.seed, policy.processes.place):
            batch = self.batches.at(step, policy.model, self.reference.of_answers, plain=policy.plain)
            return batch_gradients(policy, batch, objective, self.reference, max_new_tokens=self.max_new_tokens)

    def rate(self, step: int) -> float:
        return learning_rate_at(step, self.count, self.settings)

    def update(self, step: int, passed: Passed) -> float:
        """Change the weights, as `take_step` does; returns the norm of the gradients, 0 where the batch taught nothing."""
        return 0.0 if passed.skipped else take_step(self.optimizer, self.rate(step), self.settings.max_grad_norm)

    def evaluated(self, step: int, progress: Progress) -> Evaluated | None:
        """The items held out, where the step is the last of an epoch or of the run."""
        per_epoch = steps_per_epoch(self.batches.size, self.settings.batch_size)
        ends = step + 1 == self.count or (step + 1) % per_epoch == 0
        return self.held_out.evaluated(progress) if ends else None


@contextmanager
def _draws_of(step: int, seed: int, place: int) -> Iterator[None]:
    """A base with dropout draws from (seed, step, process), so that a resumed run draws the same."""
    with torch.random.fork_rng():
        torch.manual_seed(seed * 1_000_003 + step + place * 1_000_000_007)
        yield
