"""What more examples would do: the interval holds what comes, and where the curve does not say, nor does the forecast."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from lastresort.errors import ContractError
from lastresort.evals.evidence.more_examples import forecast_loss
from lastresort.types import CannotTell, MoreExamples

Curve = Callable[[np.ndarray], np.ndarray]
RUNS = 100

CURVES: dict[str, Curve] = {  # of the examples over those of the first epoch
    "power": lambda x: 0.3 + 0.7 * x**-0.5,
    "power to nothing": lambda x: x**-0.3,
    "steep power": lambda x: 0.5 + 0.5 / x,
    "plateau": lambda x: 0.4 + 1.5 * np.exp(-3 * x),
}


def forecasts(curve: Curve, batches: int, noise: float, seed: int = 0) -> list[MoreExamples | CannotTell]:
    """noise: standard deviation of a batch's loss, as a share of it. The first 15% of the batches are warm-up."""
    random = np.random.default_rng(seed)
    seen = 16.0 * np.arange(max(1, round(0.15 * batches)), batches + 1)
    expected = curve(seen / seen[-1])
    return [forecast_loss(seen, expected * (1 + noise * random.standard_normal(len(seen)))) for _ in range(RUNS)]


@pytest.mark.parametrize("name", CURVES)
@pytest.mark.parametrize(("batches", "noise"), [(60, 0.1), (150, 0.1), (500, 0.1), (500, 0.25)])
def test_intervals_that_are_given_hold_what_comes(name: str, batches: int, noise: float) -> None:
    curve = CURVES[name]
    given = [found for found in forecasts(curve, batches, noise) if isinstance(found, MoreExamples)]
    now, *later = curve(np.array([1.0, 2.0, 4.0]))
    for place, then in enumerate(later):
        held = [
            found.after[place].interval[0] - 1e-9 <= then / now <= found.after[place].interval[1] + 1e-9
            for found in given
        ]
        assert sum(held) >= 0.95 * len(held) - 3 * (0.05 * 0.95 * max(1, len(held))) ** 0.5


def test_a_long_curve_with_little_noise_is_told_and_a_short_or_noisy_one_is_not() -> None:
    told = {
        (batches, noise): sum(isinstance(found, MoreExamples) for found in forecasts(CURVES["power"], batches, noise))
        for batches, noise in [(500, 0.1), (150, 0.1), (60, 0.1), (60, 0.25)]
    }
    assert told[500, 0.1] >= 95
    assert told[150, 0.1] >= 85
    assert told[60, 0.25] <= 10


def test_a_loss_that_does_not_fall_is_called_so() -> None:
    found = Counter(
        one.because if isinstance(one, CannotTell) else "told" for one in forecasts(lambda x: 0.8 + 0 * x, 150, 0.2)
    )
    assert found["NOT_FALLING"] >= 95


def test_two_regimes_are_no_curve_and_few_batches_or_sizes_are_too_few() -> None:
    seen = np.arange(1, 201) * 16.0
    broken = np.where(seen < 1600, 1.0, 0.4) * (1 + 0.02 * np.random.default_rng(1).standard_normal(200))
    assert forecast_loss(seen, broken) == CannotTell("OTHER_FORM", 200)
    assert forecast_loss(seen[:20], np.ones(20)) == CannotTell("FEW_BATCHES", 20)
    assert forecast_loss(seen[100:], np.ones(100)) == CannotTell("FEW_BATCHES", 100)
    with pytest.raises(ContractError):
        forecast_loss([2.0, 1.0], [1.0, 1.0])


def test_without_noise_the_curve_is_found() -> None:
    seen = np.arange(10, 201) * 16.0
    found = forecast_loss(seen, 0.2 + 8 * seen**-0.5)
    assert isinstance(found, MoreExamples)
    now = 0.2 + 8 * 3200**-0.5
    assert found.loss == pytest.approx(now, rel=0.02)
    assert [one.share for one in found.after] == pytest.approx(
        [(0.2 + 8 * (k * 3200) ** -0.5) / now for k in (2, 4)], abs=0.02
    )
