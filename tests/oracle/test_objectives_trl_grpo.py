"""Advantages, loss of a token and weight of a token = TRL 1.16's GRPOTrainer, accumulated over micro-batches."""

from importlib import import_module
from types import SimpleNamespace

import pytest
import torch

from lastresort.objectives import OBJECTIVES
from lastresort.objectives.grpo import ADVANTAGE_SCALE, group_advantages, token_weights
from objectives_support import WIDTH, bare, draw, masked, same
from tiny_model import save_tiny_model

ROWS, MICRO_BATCHES, MAX_TOKENS = 8, 4, 11
CEILING = {"grpo": 0.2, "dr_grpo": 0.2, "dapo": 0.28}


def trl_loss(variant, tokens, old, ref, advantages, mask, *, kl_weight):
    """GRPOTrainer's losses of the micro-batches, summed, as its gradients are."""
    from trl import GRPOTrainer

    trainer = bare(
        GRPOTrainer,
        loss_type=variant,
        beta=kl_weight,
        epsilon_low=0.2,
        epsilon_high=CEILING[variant],
        args=SimpleNamespace(delta=None, use_bias_correction_kl=False, steps_per_generation=MICRO_BATCHES),
        current_gradient_accumulation_steps=MICRO_BATCHES,
        max_completion_length=MAX_TOKENS,
        importance_sampling_level="token",
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        use_vllm=False,
        _entropy_bonus_enabled=False,
    )
    total = tokens.new_zeros(())
    for part in torch.arange(ROWS).chunk(MICRO_BATCHES):
        answer = (tokens[part], torch.zeros_like(old[part]), None)
        trainer._get_per_token_logps_and_entropies = lambda *_, answer=answer, **__: answer
        inputs = {
            "prompt_ids": torch.ones(len(part), 2, dtype=torch.long),
            "prompt_mask": torch.ones(len(part), 2, dtype=torch.long),
            "completion_ids": torch.ones(len(part), WIDTH, dtype=torch.long),
            "completion_mask": mask[part],
            "advantages": advantages[part],
            "old_per_token_logps": old[part],
            "ref_per_token_logps": ref[part],
            "num_items_in_batch": mask.sum(),
        }
        total = total + trainer._compute_loss(None, inputs)
    return total


@pytest.mark.parametrize("kl_weight", [0.0, 0.3])
@pytest.mark.parametrize("variant", CEILING)
def test_loss_and_weights_are_trls(variant, kl_weight):
    counts = torch.tensor([1, 9, 4, 4, 7, 2, 3, 8])
    mask = masked(counts)
    tokens = draw(ROWS, WIDTH, seed=11).requires_grad_()
    old = tokens.detach() + 0.5 * draw(ROWS, WIDTH, seed=12) + 0.75
    ref = tokens.detach() + draw(ROWS, WIDTH, seed=13) + 1.5
    advantages = draw(ROWS, seed=14) + 1.5
    kept = mask.bool()
    row = torch.arange(ROWS)[:, None].expand(ROWS, WIDTH)[kept]

    settings = {"kl_weight": kl_weight, "per_token_ref_logps": ref[kept] if kl_weight else None}
    module, name = OBJECTIVES[variant].path.split(":")
    losses = getattr(import_module(module), name)(tokens[kept], old[kept], advantages[row], **settings)
    weights = [
        token_weights(row[row // 2 == part], counts, variant=variant, max_tokens=MAX_TOKENS, dtype=torch.float64)
        for part in range(MICRO_BATCHES)
    ]
    ours = (losses * torch.cat(weights)).sum()
    theirs = trl_loss(variant, tokens, old, ref, advantages, mask, kl_weight=kl_weight)
    same(ours, theirs)
    same(torch.autograd.grad(ours, tokens), torch.autograd.grad(theirs, tokens))
    ratio = (tokens - old)[kept].exp()
    assert (ratio < 0.8).any(), "nothing here reaches the floor"
    assert (ratio > 1.28).any(), "nothing here reaches dapo's ceiling"
    assert ((ratio > 1.2) & (ratio < 1.28)).any(), "nothing here lies between the ceilings"


@pytest.fixture(scope="module")
def trainer(tmp_path_factory):
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import GRPOConfig, GRPOTrainer

    folder = save_tiny_model(tmp_path_factory.mktemp("tiny"))
    config = GRPOConfig(
        output_dir=str(folder / "out"),
        num_generations=4,
        per_device_train_batch_size=8,
        max_completion_length=2,
        report_to=[],
        use_cpu=True,
        bf16=False,
    )
    return GRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(folder),
        reward_funcs=lambda completions, **_: [0.0] * len(completions),
        args=config,
        train_dataset=Dataset.from_dict({"prompt": ["a"]}),
        processing_class=AutoTokenizer.from_pretrained(folder),
    )


@pytest.mark.parametrize(("ours", "theirs"), [("std", "group"), ("none", "none")])
def test_advantages_are_trls(trainer, monkeypatch, ours, theirs):
    """The whole way through TRL: it samples, asks for rewards (float64 here, where its own are float32) and scales them.

    TRL computes n/(n-1) in float32, which leaves seven digits; the value worked by hand has the rest.
    """
    rewards = torch.tensor([0.0, 1.0, 1.0, 0.25, 0.5, 0.5, 0.5, 0.5], dtype=torch.float64)
    monkeypatch.setattr(trainer, "_calculate_rewards", lambda *_: rewards[:, None].clone())
    monkeypatch.setattr(trainer, "scale_rewards", theirs)
    expected = trainer._generate_and_score_completions([{"prompt": "a"}] * 4 + [{"prompt": "b"}] * 4)["advantages"]
    found = group_advantages(rewards, torch.arange(8) // 4, scale=ours)
    torch.testing.assert_close(found, expected, rtol=5e-8, atol=1e-12)
    assert expected.abs().max() > 0.5


def test_scale_of_each_variant():
    assert ADVANTAGE_SCALE == {"grpo": "std", "dr_grpo": "none", "dapo": "std"}
