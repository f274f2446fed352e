"""How often a forecast from a learning curve is given, and how often its interval holds: the table of docs/simulations.md.

    python -m scripts.more_examples            of 1,000 curves a cell
    python -m scripts.more_examples 100 0.98   of 100, with another level of the profile

No model trains. The loss of a batch is a curve that is known, with normal noise in proportion to it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

import numpy as np

from lastresort.evals.evidence import more_examples
from lastresort.evals.evidence.more_examples import TIMES, forecast_loss
from lastresort.evals.evidence.units import Array
from lastresort.types import CannotTell, MoreExamples

Curve = Callable[[Array], Array]
"""The loss, by the examples over those of the first epoch."""

CURVES: dict[str, Curve] = {
    ".3 + .7 n^−.5": lambda n: 0.3 + 0.7 * n**-0.5,
    "n^−.3": lambda n: n**-0.3,
    ".5 + .5 n^−1": lambda n: 0.5 + 0.5 / n,
    ".2 + .8 n^−.2": lambda n: 0.2 + 0.8 * n**-0.2,
    ".4 + 1.5 exp(−3n)": lambda n: 0.4 + 1.5 * np.exp(-3 * n),
    ".8 (does not fall)": lambda n: 0.8 + 0.0 * n,
}
NOISES, BATCHES = (0.1, 0.25), (30, 60, 150, 500)
WARMUP, BATCH_ROWS = 0.15, 16
RUNS, SEED = 1_000, 0
FEWEST = 50  # forecasts, below which the share whose interval holds is not printed


def forecasts(
    curve: Curve, batches: int, noise: float, runs: int = RUNS, seed: int = SEED
) -> Iterator[MoreExamples | CannotTell]:
    """noise: standard deviation of a batch's loss, as a share of it. The first batches are warm-up."""
    random = np.random.default_rng(seed)
    seen = float(BATCH_ROWS) * np.arange(max(1, round(WARMUP * batches)), batches + 1)
    expected = curve(seen / seen[-1])
    for _ in range(runs):
        yield forecast_loss(seen.tolist(), (expected * (1 + noise * random.standard_normal(len(seen)))).tolist())


def held(curve: Curve, given: MoreExamples) -> list[bool]:
    """Whether each interval, with twice and with four times the examples, holds the curve."""
    now, *later = curve(np.array([1.0, *TIMES])).tolist()
    pairs = zip(given.after, later, strict=True)
    return [one.interval[0] - 1e-9 <= then / now <= one.interval[1] + 1e-9 for one, then in pairs]


def cell(curve: Curve, batches: int, noise: float, runs: int) -> str:
    given = [found for found in forecasts(curve, batches, noise, runs) if isinstance(found, MoreExamples)]
    share = f"{100 * len(given) / runs:.0f}"
    if len(given) < FEWEST:
        return share
    return f"{share}, {' / '.join(f'{100 * one:.0f}' for one in np.mean([held(curve, one) for one in given], axis=0))}"


def main(runs: int = RUNS, profile: float = more_examples.PROFILE) -> None:
    more_examples.PROFILE = profile
    print(f"| loss, by the examples over those seen | noise | {' | '.join(f'{n} batches' for n in BATCHES)} |")
    print("| --- | --- |" + " --- |" * len(BATCHES))
    for name, curve in CURVES.items():
        for noise in NOISES:
            cells = [cell(curve, batches, noise, runs) for batches in BATCHES]
            print(f"| {name} | {100 * noise:.0f} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main(*(kind(value) for kind, value in zip((int, float), sys.argv[1:], strict=False)))
