"""The objectives on pairs = TRL 1.16's own loss code in float64, loss by loss and gradient by gradient."""

import pytest
import torch

from engine_support import draw as draw_ids
from engine_support import tiny, twin
from lastresort.objectives.answers import PairLogps, apo_zero, dpo, hinge, ipo, orpo, simpo
from objectives_support import bare, random_pairs, same, trl_dpo_losses

DPO_TRAINER = {
    "sigmoid": dpo,
    "ipo": lambda pairs, beta: ipo(pairs, beta=beta, per_token=True),
    "hinge": hinge,
    "apo_zero": apo_zero,
}


@pytest.mark.parametrize("beta", [0.1, 0.7])
@pytest.mark.parametrize("loss_type", DPO_TRAINER)
def test_pairs_with_a_reference(loss_type, beta):
    pairs = random_pairs()
    ours = DPO_TRAINER[loss_type](pairs.logps(), beta=beta)
    theirs = trl_dpo_losses(pairs, loss_type, beta=beta)
    same(ours, theirs)
    same(pairs.gradients(ours), pairs.gradients(theirs))


def test_label_smoothing_is_trls_aot_on_single_pairs():
    """TRL's `sigmoid` reads no label_smoothing; `aot` sorts the margins of a batch, and one margin is sorted already."""
    pairs = random_pairs(seed=7)
    ours = dpo(pairs.logps(), beta=0.3, label_smoothing=0.2)
    theirs = trl_dpo_losses(pairs, "aot", beta=0.3, label_smoothing=0.2)
    same(ours, theirs)
    same(pairs.gradients(ours), pairs.gradients(theirs))


class Wide(torch.Tensor):
    """ORPOTrainer rounds log-probabilities to float32; these stay as they are."""

    def float(self):
        return self if self.is_floating_point() else super().float()


class Unmasked(torch.nn.Module):
    """Hears no attention mask, so that TRL's may mark the completion only: its NLL then leaves the prompt out.

    Rows are padded on the right, where a causal model needs no mask.
    """

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_ids, attention_mask, use_cache):
        outputs = self.model(input_ids, use_cache=use_cache)
        outputs.logits = outputs.logits.as_subclass(Wide)
        return outputs


CASES = [(5, 3, 7), (1, 6, 2), (8, 1, 1)]  # tokens of the prompt, of chosen, of rejected


def answers(case):
    prompt, chosen, rejected = (draw_ids(count, seed) for seed, count in enumerate(case, start=sum(case)))
    return prompt, chosen, rejected


def trl_batch(case):
    prompt, *sides = answers(case)
    batch = {}
    for name, side in zip(("chosen", "rejected"), sides, strict=True):
        batch[f"{name}_input_ids"] = torch.tensor([prompt + side])
        batch[f"{name}_attention_mask"] = torch.tensor([[0] * len(prompt) + [1] * len(side)])
        batch[f"{name}_labels"] = torch.tensor([(-100,) * len(prompt) + side])
    return batch


def our_pair(model, case):
    prompt, *sides = answers(case)
    sums = []
    for side in sides:
        logps = model(torch.tensor([prompt + side])).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
        sums.append(logps.gather(1, torch.tensor(side)[:, None]).sum()[None])
    return PairLogps(*sums, chosen_tokens=torch.tensor([case[1]]), rejected_tokens=torch.tensor([case[2]]))


def equal_on_a_model(case, objective, trainer):
    model = tiny()
    other = twin(model)
    ours = objective(our_pair(model, case))
    theirs, _ = trainer.get_batch_loss_metrics(Unmasked(other), trl_batch(case))
    same(ours, theirs.as_subclass(torch.Tensor)[None])
    ours.sum().backward()
    theirs.backward()
    same([p.grad for p in model.parameters()], [p.grad.as_subclass(torch.Tensor) for p in other.parameters()])


@pytest.mark.parametrize("case", CASES)
def test_orpo_is_trls_with_the_prompt_masked(case):
    from trl.experimental.orpo import ORPOTrainer

    trainer = bare(ORPOTrainer, beta=0.4, is_encoder_decoder=False, padding_value=0)
    equal_on_a_model(case, lambda pairs: orpo(pairs, weight=0.4), trainer)


@pytest.mark.parametrize("case", CASES)
def test_simpo_is_trls_cpo_without_its_nll(case):
    from trl.experimental.cpo import CPOTrainer

    trainer = bare(
        CPOTrainer,
        loss_type="simpo",
        beta=2.5,
        simpo_gamma=0.8,
        alpha=0.0,
        cpo_alpha=0.0,
        label_smoothing=0.0,
        is_encoder_decoder=False,
        pad_token_id=0,
    )
    equal_on_a_model(case, lambda pairs: simpo(pairs, beta=2.5, gamma=0.8), trainer)
