import pytest
import torch

from lastresort.engine.choose import Sampling, choose, random_stream, restrict
from lastresort.errors import ContractError


def shares(settings, logits, draws=4000):
    stream = random_stream(1, 0)
    picked = choose(logits.expand(draws, -1), settings, [stream.random() for _ in range(draws)])
    return torch.bincount(torch.tensor(picked), minlength=logits.shape[-1]) / draws


LOGITS = torch.log(torch.tensor([[0.1, 0.4, 0.2, 0.3]]))


def test_greedy_takes_the_largest():
    assert choose(LOGITS, Sampling(1), [0.9]) == [1]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (Sampling(1, temperature=1.0), [0.1, 0.4, 0.2, 0.3]),
        (Sampling(1, temperature=0.5), [0.01 / 0.3, 0.16 / 0.3, 0.04 / 0.3, 0.09 / 0.3]),
        (Sampling(1, temperature=1.0, top_k=2), [0, 4 / 7, 0, 3 / 7]),
        (Sampling(1, temperature=1.0, top_p=0.65), [0, 4 / 7, 0, 3 / 7]),
        (Sampling(1, temperature=1.0, top_p=0.75), [0, 4 / 9, 2 / 9, 3 / 9]),
        (Sampling(1, temperature=1.0, top_k=3, top_p=0.5), [0, 4 / 7, 0, 3 / 7]),
        (Sampling(1, temperature=1.0, top_p=1e-9), [0, 1, 0, 0]),
    ],
)
def test_shares(settings, expected):
    assert shares(settings, LOGITS).tolist() == pytest.approx(expected, abs=0.03)


def test_the_draw_is_the_place_in_the_distribution():
    settings = Sampling(1, temperature=1.0)
    assert [choose(LOGITS, settings, [u])[0] for u in (0.0, 0.09, 0.11, 0.49, 0.51, 0.69, 0.71, 0.9999999999)] == [
        0,
        0,
        1,
        1,
        2,
        2,
        3,
        3,
    ]


def test_a_draw_of_almost_one_takes_no_forbidden_token():
    logits = torch.tensor([[0.0, 1.0, -torch.inf, -torch.inf]])
    assert choose(logits, Sampling(1, temperature=1.0), [1 - 2**-53]) == [1]


def test_filters_are_those_of_transformers():
    from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    torch.manual_seed(0)
    logits = torch.randn(3, 50, dtype=torch.float64) * 2
    warped = logits
    for warper in (TemperatureLogitsWarper(0.7), TopKLogitsWarper(20), TopPLogitsWarper(0.8)):
        warped = warper(None, warped)
    settings = Sampling(1, temperature=0.7, top_k=20, top_p=0.8)
    for line in range(3):
        seen = {choose(logits[line : line + 1], settings, [i / 2000])[0] for i in range(2000)}
        assert seen == set(warped[line].isfinite().nonzero()[:, 0].tolist())


def test_masks():
    logits = torch.zeros(3, 70)
    bits = torch.zeros(2, dtype=torch.int32)
    bits[0], bits[1] = 1 << 5, -(2**31)  # tokens 5 and 63
    flags = torch.zeros(60, dtype=torch.bool)
    flags[[2, 59]] = True
    restrict(logits, [bits, flags, None])
    assert logits[0].isfinite().nonzero()[:, 0].tolist() == [5, 63]
    assert logits[1].isfinite().nonzero()[:, 0].tolist() == [2, 59]
    assert bool(logits[2].isfinite().all())
    with pytest.raises(ContractError, match="no token is allowed"):
        restrict(logits, [torch.zeros(70, dtype=torch.bool)])


def test_logits_must_be_finite():
    for settings in (Sampling(1), Sampling(1, temperature=1.0)):
        with pytest.raises(ContractError, match="not finite"):
            choose(torch.tensor([[0.0, torch.nan]]), settings, [0.5])


@pytest.mark.parametrize(
    "wrong", [{"max_new_tokens": 0}, {"temperature": -1.0}, {"top_p": 0.0}, {"top_k": -1}, {"rows_at_once": 0}]
)
def test_settings_are_checked(wrong):
    with pytest.raises(ContractError, match=next(iter(wrong))):
        Sampling(**{"max_new_tokens": 1, **wrong})
