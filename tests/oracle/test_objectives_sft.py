"""sft over packed rows = transformers' own causal loss with num_items_in_batch, which TRL 1.16 trains with."""

import torch

from engine_support import every_row, relative_difference, tiny, twin
from lastresort.engine.logp import target_logps
from lastresort.objectives import OBJECTIVES
from lastresort.objectives.answers import sft


def test_sft_is_transformers_loss():
    rows = every_row()
    model = tiny()
    other = twin(model)
    count = sum(sum(r.targets) for r in rows)
    loss = sft(target_logps(model, rows).per_token).sum() / count
    loss.backward()
    expected = 0.0
    for start in range(0, len(rows), 4):  # accumulated over padded batches, as a trainer does
        part = rows[start : start + 4]
        longest = max(len(r.ids) for r in part)
        ids, mask, labels = (torch.full((len(part), longest), fill) for fill in (0, 0, -100))
        for i, r in enumerate(part):
            ids[i, : len(r.ids)], mask[i, : len(r.ids)] = torch.tensor(r.ids), 1
            labels[i, : len(r.ids)] = torch.where(torch.tensor(r.targets), torch.tensor(r.ids), -100)
        piece = other(input_ids=ids, attention_mask=mask, labels=labels, num_items_in_batch=count).loss
        piece.backward()
        expected += float(piece.detach())
    # transformers computes this loss in float32 whatever the model is in.
    assert abs(float(loss.detach()) - expected) < 1e-6 * expected
    a, b = ({n: p.grad for n, p in m.named_parameters() if p.grad is not None} for m in (model, other))
    assert relative_difference(a, b) < 1e-6


def test_sft_is_unreduced():
    logps = torch.tensor([-0.5, -2.0], dtype=torch.float64)
    assert sft(logps).tolist() == [0.5, 2.0]


def test_table_names_functions():
    from importlib import import_module

    module, name = OBJECTIVES["sft"].path.split(":")
    assert getattr(import_module(module), name) is sft
