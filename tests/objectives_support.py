"""TRL's own loss code, run on given log-probabilities: its trainers without their construction, and a model that recites."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from types import SimpleNamespace

import torch

from lastresort.objectives.answers import PairLogps

WIDTH = 9


def bare(trainer, **attributes):
    """A trainer with all its methods and only these attributes: enough for its loss, which reads no others."""
    made = object.__new__(trainer)
    accelerator = SimpleNamespace(
        device=torch.device("cpu"),
        num_processes=1,
        gather=lambda value: value,
        gather_for_metrics=lambda value: value,
        reduce=lambda value, reduction: value,
    )
    shared = {"accelerator": accelerator, "aux_loss_enabled": False, "_tp_size": 1, "_total_train_tokens": 0}
    metrics = {"train": defaultdict(list), "eval": defaultdict(list)}
    made.__dict__.update({**shared, "_metrics": metrics, "model": SimpleNamespace(training=True), **attributes})
    return made


def reciter(per_token_logps):
    """A model whose fused head returns these log-probabilities, whatever it is asked."""
    blank = torch.zeros_like(per_token_logps)
    answer = SimpleNamespace(
        log_probs=per_token_logps, entropy=blank, mean_logits=blank, is_top1=torch.zeros_like(blank, dtype=torch.bool)
    )
    return lambda **_: answer


def masked(counts, width=WIDTH):
    """1.0 for the first `counts` tokens of each row."""
    return (torch.arange(width) < torch.as_tensor(counts)[:, None]).double()


def draw(*shape, seed):
    return -3 * torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@dataclass
class Pairs:
    """Random pairs as tokens: leaves that take gradients, masks, and the reference's sums."""

    chosen: torch.Tensor
    rejected: torch.Tensor
    chosen_tokens: torch.Tensor
    rejected_tokens: torch.Tensor
    ref_chosen: torch.Tensor
    ref_rejected: torch.Tensor

    def __len__(self):
        return len(self.chosen)

    def logps(self):
        return PairLogps(
            (self.chosen * masked(self.chosen_tokens)).sum(1),
            (self.rejected * masked(self.rejected_tokens)).sum(1),
            self.ref_chosen,
            self.ref_rejected,
            self.chosen_tokens,
            self.rejected_tokens,
        )

    def gradients(self, losses):
        return torch.autograd.grad(losses.sum(), (self.chosen, self.rejected), materialize_grads=True)


def random_pairs(count=12, seed=0):
    """Policy and reference some nats apart, both signs of the margin, lengths from 1 to WIDTH."""
    chosen, rejected = draw(count, WIDTH, seed=seed), draw(count, WIDTH, seed=seed + 1)
    near = [draw(count, WIDTH, seed=seed + 2) * 0.5 - 0.75, draw(count, WIDTH, seed=seed + 3) * 0.5 - 0.75]
    lengths = torch.randint(1, WIDTH + 1, (2, count), generator=torch.Generator().manual_seed(seed))
    references = [(value * masked(n)).sum(1) for value, n in zip(near, lengths, strict=True)]
    return Pairs(chosen.requires_grad_(), rejected.requires_grad_(), *lengths, *references)


def trl_dpo_losses(pairs, loss_type, *, beta, label_smoothing=0.0):
    """DPOTrainer's loss of each pair, one pair a batch: its mean then reduces nothing."""
    from trl import DPOTrainer

    trainer = bare(
        DPOTrainer,
        beta=beta,
        label_smoothing=label_smoothing,
        loss_types=[loss_type],
        loss_weights=[1.0],
        f_divergence_type="reverse_kl",
        ld_alpha=None,
        use_weighting=False,
        precompute_ref_logps=True,
    )
    losses = []
    for i in range(len(pairs)):
        mask = torch.stack([masked(pairs.chosen_tokens[i : i + 1])[0], masked(pairs.rejected_tokens[i : i + 1])[0]])
        tokens = torch.stack([pairs.chosen[i], pairs.rejected[i]]) * mask
        completion_mask = torch.cat([torch.zeros(2, 1), mask], dim=1).long()
        inputs = {
            "input_ids": torch.ones_like(completion_mask),
            "attention_mask": torch.ones_like(completion_mask),
            "completion_mask": completion_mask,
            "ref_chosen_logps": pairs.ref_chosen[i : i + 1],
            "ref_rejected_logps": pairs.ref_rejected[i : i + 1],
        }
        losses.append(trainer._compute_loss(reciter(tokens), inputs, False))
    return torch.stack(losses)


def same(ours, theirs):
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
