"""Values worked by hand: where TRL has no such loss, differs from the paper, or rounds; each derivation beside its value."""

import math

import pytest
import torch

from lastresort.errors import ContractError
from lastresort.objectives.answers import PairLogps, apo_zero, dpo, hinge, ipo, kto, kto_baseline, orpo, sft, simpo
from lastresort.objectives.grpo import dapo, group_advantages, grpo, token_weights

LN2, LN3 = math.log(2), math.log(3)


def row(*values):
    return torch.tensor(values, dtype=torch.float64)


def close(found, *expected):
    torch.testing.assert_close(found, row(*expected), rtol=1e-12, atol=1e-14)


# chosen - ref = 2, rejected - ref = -4 nats: a margin of 6.
PAIR = PairLogps(row(-3), row(-8), row(-5), row(-4), torch.tensor([2]), torch.tensor([8]))


def test_sft():
    """p = 1/2 and 1/3: the losses are ln 2 and ln 3."""
    close(sft(row(-LN2, -LN3)), LN2, LN3)


def test_dpo():
    """beta = ln(3)/6, margin 6: the logit is ln 3, sigmoid(ln 3) = 3/4, sigmoid(-ln 3) = 1/4.

    e = 0: -ln(3/4). e = 1/4: -(3/4) ln(3/4) - (1/4) ln(1/4).
    """
    beta = LN3 / 6
    close(dpo(PAIR, beta=beta), math.log(4 / 3))
    close(dpo(PAIR, beta=beta, label_smoothing=0.25), 0.75 * math.log(4 / 3) + 0.25 * math.log(4))


def test_ipo_is_the_papers():
    """The paper's pi(y|x) is the whole answer's: beta 1/4 aims at 2 nats, the margin is 6, so (6 - 2)^2 = 16.

    A token: 2/2 - (-4)/8 = 3/2, so (3/2 - 2)^2 = 1/4.
    """
    close(ipo(PAIR, beta=0.25), 16.0)
    close(ipo(PAIR, beta=0.25, per_token=True), 0.25)


def test_hinge():
    """Margin 6. beta 1/8: 1 - 6/8 = 1/4. beta 1/4: 1 - 6/4 < 0, so 0."""
    close(hinge(PAIR, beta=0.125), 0.25)
    close(hinge(PAIR, beta=0.25), 0.0)


def test_simpo():
    """Means: -3/2 and -8/8 = -1. beta 2: 2 (-1/2) = -1; gamma = ln 3 - 1 brings the logit to -ln 3: -ln(1/4)."""
    close(simpo(PAIR, beta=2.0, gamma=LN3 - 1), math.log(4))


def test_apo_zero():
    """beta = ln(3)/2: chosen has the logit ln 3, so 1 - 3/4; rejected -2 ln 3 = ln(1/9), so (1/9)/(1 + 1/9) = 1/10."""
    close(apo_zero(PAIR, beta=LN3 / 2), 0.25 + 0.1)


def test_orpo():
    """Mean probabilities 3/4 (odds 3) and 1/2 (odds 1): the ratio is 3, sigmoid(ln 3) = 3/4, NLL = ln(4/3) a token.

    weight 1/2: ln(4/3) + ln(4/3)/2.
    """
    chosen, rejected = 5 * math.log(3 / 4), 2 * math.log(1 / 2)
    pair = PairLogps(row(chosen), row(rejected), chosen_tokens=torch.tensor([5]), rejected_tokens=torch.tensor([2]))
    close(orpo(pair, weight=0.5), 1.5 * math.log(4 / 3))


def test_orpo_means_rows_not_tokens():
    """Two pairs, chosen of 1 and of 3 tokens, p = 1/2 and 1/4 a token: (ln 2 + ln 4)/2, not (ln 2 + 3 ln 4)/4."""
    same = torch.tensor([1, 3])
    pair = PairLogps(row(-LN2, -6 * LN2), row(-1, -1), chosen_tokens=same, rejected_tokens=same)
    close(orpo(pair, weight=0.0).mean()[None], 1.5 * LN2)


def test_kto():
    """z = 1 (gains of 3 and -1 on mismatched pairs), beta = ln 3, weights 2 and 3.

    good, gain 2: value ln 3 (2 - 1), 1 - 3/4 = 1/4, times 2. bad, gain 2: 1 - sigmoid(-ln 3) = 3/4, times 3.
    bad, gain 0: 1 - sigmoid(ln 3) = 1/4, times 3.
    """
    baseline = kto_baseline(row(-1, -3), row(-4, -2))
    close(baseline[None], 1.0)
    losses = kto(
        row(-3, -3, -5),
        row(-5, -5, -5),
        torch.tensor([True, False, False]),
        baseline,
        beta=LN3,
        desirable_weight=2.0,
        undesirable_weight=3.0,
    )
    close(losses, 0.5, 2.25, 0.75)


def test_kto_baseline_is_clamped_and_detached():
    """A mean gain of -2 on mismatched pairs is no divergence: 0."""
    logps = row(-5, -5).requires_grad_()
    baseline = kto_baseline(logps, row(-3, -3))
    assert baseline.item() == 0
    assert not baseline.requires_grad


def test_group_advantages():
    """Rewards 0, 2, 4: mean 2, sample variance (4 + 0 + 4)/2 = 4, so (-2, 0, 2)/2.0001. The population's would be sqrt(8/3).

    The second group is scattered among the first; its two members have variance (1 + 1)/1 = 2. A group of one has nobody
    to be better than.
    """
    rewards, groups = row(0, 5, 2, 7, 4, 9), torch.tensor([4, 1, 4, 1, 4, 0])
    first, second = 2 / 2.0001, 1 / (math.sqrt(2) + 1e-4)
    close(group_advantages(rewards, groups, scale="std"), -first, -second, 0, second, first, 0)
    close(group_advantages(rewards, groups, scale="none"), -2, -1, 0, 1, 2, 0)


def test_grpo_clips_what_went_far_enough():
    """A = 1 unless said. ratio 1/2: not clipped upwards, -1/2. ratio 2: clipped at 1.2, -1.2. A = -1, ratio 2: not clipped, 2.

    A = -1, ratio 1/2: clipped at 0.8, 0.8. dapo's ceiling is 1.28.
    """
    logps, old, advantages = row(-LN2, LN2, LN2, -LN2), row(0, 0, 0, 0), row(1, 1, -1, -1)
    close(grpo(logps, old, advantages), -0.5, -1.2, 2.0, 0.8)
    close(dapo(logps, old, advantages), -0.5, -1.28, 2.0, 0.8)
    close(grpo(logps, old, advantages, eps_low=0.6, eps_high=2.0), -0.5, -2.0, 2.0, 0.5)


def test_grpo_kl():
    """On policy with A = 1 the first term is -1. ref - logp = ln 2: 2 - ln 2 - 1. ref - logp = -ln 2: 1/2 + ln 2 - 1."""
    logps = row(-1, -1)
    ref = row(-1 + LN2, -1 - LN2)
    losses = grpo(logps, logps, row(1, 1), kl_weight=0.5, per_token_ref_logps=ref)
    close(losses, -1 + (1 - LN2) / 2, -1 + (LN2 - 0.5) / 2)
    close(dapo(logps, logps, row(1, 1), kl_weight=0.5, per_token_ref_logps=ref), *losses.tolist())


def test_grpo_goes_on_as_a_tangent():
    """A = -1, log ratio 25: e^20 (1 + 5), slope e^20; in float32 exp(25) would fit, exp(100) would not."""
    logps = row(25).requires_grad_()
    loss = grpo(logps, row(0), row(-1))
    close(loss.detach(), 6 * math.exp(20))
    close(torch.autograd.grad(loss.sum(), logps)[0], math.exp(20))


def test_token_weights():
    """Rows of 1, 3 and 0 tokens, the tokens in any order.

    grpo: 1/(3 x 1) and 1/(3 x 3). dr_grpo, at most 5: 1/(3 x 5). dapo: 1/4.
    """
    tokens, counts = torch.tensor([1, 0, 1, 1]), torch.tensor([1, 3, 0])
    weigh = {"dtype": torch.float64}
    close(token_weights(tokens, counts, variant="grpo", **weigh), 1 / 9, 1 / 3, 1 / 9, 1 / 9)
    close(token_weights(tokens, counts, variant="dr_grpo", max_tokens=5, **weigh), *[1 / 15] * 4)
    close(token_weights(tokens, counts, variant="dapo", **weigh), *[1 / 4] * 4)


ONE, COUNTS = row(-1), torch.tensor([1])
BARE = PairLogps(ONE, ONE)
FAULTS = {
    "two dimensions": lambda: PairLogps(ONE[None], ONE[None]),
    "lengths differ": lambda: PairLogps(ONE, row(-1, -2)),
    "precisions differ": lambda: PairLogps(ONE, ONE.float()),
    "whole numbers": lambda: PairLogps(COUNTS, COUNTS),
    "half a reference": lambda: PairLogps(ONE, ONE, ONE),
    "reference too long": lambda: PairLogps(ONE, ONE, row(-1, -2), row(-1, -2)),
    "half the counts": lambda: PairLogps(ONE, ONE, rejected_tokens=COUNTS),
    "counts too long": lambda: PairLogps(ONE, ONE, chosen_tokens=torch.tensor([1, 1]), rejected_tokens=COUNTS),
    "an empty answer": lambda: PairLogps(ONE, ONE, chosen_tokens=COUNTS, rejected_tokens=COUNTS - 1),
    "fractional counts": lambda: PairLogps(ONE, ONE, chosen_tokens=COUNTS, rejected_tokens=row(1.5)),
    "dpo without reference": lambda: dpo(BARE),
    "dpo beta": lambda: dpo(PAIR, beta=0.0),
    "dpo not a number": lambda: dpo(PAIR, beta=math.nan),
    "dpo smoothing": lambda: dpo(PAIR, label_smoothing=0.5),
    "ipo without reference": lambda: ipo(BARE),
    "ipo without counts": lambda: ipo(PairLogps(ONE, ONE, ONE, ONE), per_token=True),
    "ipo beta": lambda: ipo(PAIR, beta=-1.0),
    "hinge without reference": lambda: hinge(BARE),
    "hinge beta": lambda: hinge(PAIR, beta=0.0),
    "simpo without counts": lambda: simpo(BARE),
    "simpo beta": lambda: simpo(PAIR, beta=0.0),
    "simpo gamma": lambda: simpo(PAIR, gamma=-0.1),
    "apo_zero without reference": lambda: apo_zero(BARE),
    "apo_zero beta": lambda: apo_zero(PAIR, beta=0.0),
    "orpo without counts": lambda: orpo(BARE),
    "orpo weight": lambda: orpo(PAIR, weight=-1.0),
    "kto labels as numbers": lambda: kto(ONE, ONE, COUNTS, row(0)),
    "kto labels too many": lambda: kto(ONE, ONE, torch.tensor([True, False]), row(0)),
    "kto baselines": lambda: kto(ONE, ONE, torch.tensor([True]), row(0, 0)),
    "kto beta": lambda: kto(ONE, ONE, torch.tensor([True]), row(0), beta=0.0),
    "kto weight": lambda: kto(ONE, ONE, torch.tensor([True]), row(0), desirable_weight=-1.0),
    "kto reference": lambda: kto(ONE, row(-1, -1), torch.tensor([True]), row(0)),
    "kto_baseline of nothing": lambda: kto_baseline(row(), row()),
    "kto_baseline layout": lambda: kto_baseline(ONE, row(-1, -1)),
    "grpo layout": lambda: grpo(ONE, ONE, row(1, 1)),
    "grpo eps_low": lambda: grpo(ONE, ONE, ONE, eps_low=1.0),
    "grpo eps_high": lambda: grpo(ONE, ONE, ONE, eps_high=-0.1),
    "grpo kl_weight": lambda: grpo(ONE, ONE, ONE, kl_weight=-0.1),
    "grpo kl without reference": lambda: grpo(ONE, ONE, ONE, kl_weight=0.1),
    "dapo kl without reference": lambda: dapo(ONE, ONE, ONE, kl_weight=0.1),
    "grpo reference layout": lambda: grpo(ONE, ONE, ONE, kl_weight=0.1, per_token_ref_logps=row(-1, -1)),
    "advantages of not a number": lambda: group_advantages(row(math.nan), COUNTS, scale="std"),
    "advantages of whole numbers": lambda: group_advantages(COUNTS, COUNTS, scale="std"),
    "advantages layout": lambda: group_advantages(row(1, 2), COUNTS, scale="std"),
    "advantages scale": lambda: group_advantages(ONE, COUNTS, scale="batch"),
    "weights of an unknown row": lambda: token_weights(COUNTS, COUNTS, variant="grpo"),
    "weights of a negative row": lambda: token_weights(-COUNTS, COUNTS, variant="grpo"),
    "weights in two dimensions": lambda: token_weights(COUNTS[None], COUNTS, variant="grpo"),
    "weights variant": lambda: token_weights(COUNTS - 1, COUNTS, variant="bnpo"),
    "dr_grpo without max_tokens": lambda: token_weights(COUNTS - 1, COUNTS, variant="dr_grpo"),
    "dr_grpo row too long": lambda: token_weights(COUNTS - 1, COUNTS + 1, variant="dr_grpo", max_tokens=1),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_refused(fault):
    with pytest.raises(ContractError, match="expected"):
        FAULTS[fault]()
