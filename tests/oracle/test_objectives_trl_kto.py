"""kto and its baseline = TRL 1.16's KTOTrainer in float64, on one micro-batch, which is then the whole batch."""

import pytest
import torch

from lastresort.objectives.answers import kto, kto_baseline
from objectives_support import WIDTH, bare, draw, masked, reciter, same

ROWS = 10


def trl_loss(tokens, ref_logps, desirable, kl_logps, ref_kl_logps, *, beta, weights):
    from trl import KTOTrainer

    trainer = bare(
        KTOTrainer,
        beta=beta,
        desirable_weight=weights[0],
        undesirable_weight=weights[1],
        loss_type="kto",
        calculate_KL=True,
        precompute_ref_logps=True,
        _compute_kl_logps=lambda model, batch: kl_logps,
    )
    ids = torch.ones(ROWS, WIDTH + 1, dtype=torch.long)
    batch = {"input_ids": ids, "attention_mask": ids, "completion_mask": ids, "label": desirable}
    batch |= {"ref_logps": ref_logps, "ref_KL_logps": ref_kl_logps}
    return trainer._compute_loss(reciter(tokens), batch, False)


@pytest.mark.parametrize("drift", [1.5, -1.5], ids=["moved", "baseline clamped at 0"])
@pytest.mark.parametrize("labels", ["mixed", "all good", "all bad"])
def test_kto_is_trls(drift, labels):
    counts = torch.arange(ROWS) % WIDTH + 1
    tokens = draw(ROWS, WIDTH, seed=3).requires_grad_()
    ref_logps = (draw(ROWS, WIDTH, seed=4) * masked(counts)).sum(1)
    ref_kl_logps = draw(ROWS, seed=5) * 4
    kl_logps = (ref_kl_logps + drift + draw(ROWS, seed=6) / 3).requires_grad_()
    desirable = {"mixed": torch.arange(ROWS) % 3 == 0}.get(labels, torch.full((ROWS,), labels == "all good"))
    settings = {"beta": 0.4, "weights": (1.3, 0.8)}

    baseline = kto_baseline(kl_logps, ref_kl_logps)
    assert (baseline > 0) == (drift > 0)
    logps = (tokens * masked(counts)).sum(1)
    ours = kto(logps, ref_logps, desirable, baseline, beta=0.4, desirable_weight=1.3, undesirable_weight=0.8)
    theirs = trl_loss(tokens * masked(counts), ref_logps, desirable, kl_logps, ref_kl_logps, **settings)
    same(ours.mean(), theirs)
    same(torch.autograd.grad(ours.mean(), tokens), torch.autograd.grad(theirs, tokens))
