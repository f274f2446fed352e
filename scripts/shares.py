"""How to share the error of a false MET among the rungs: rules for it, simulated. docs/simulations.md shows what this prints.

    python -m scripts.shares choice     which rule leaves the fewest climbs UNDECIDED
    python -m scripts.shares promise    wrongly MET where all rungs lie at the bar, or just below it

No model runs. An answer is right where the luck of its item, equal for all rungs on 70% of the items, lies below the rung's true
score. The rule of the test is that of `evidence.judge_bar`, in a form that gives the least share at which a test says MET.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from lastresort.evals.evidence.bar import FINAL_SHARE, SEQUENTIAL_SHARE, usable_share
from lastresort.evals.evidence.martingale import log_evidence_above

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

ALPHA, BETA = 0.05, 0.05
BARS, SIZES, LENGTHS = (0.6, 0.7, 0.8, 0.85, 0.9, 0.95), (100, 200, 300, 500, 1000), (1, 2, 3, 4, 5)
CLIMBS, SEED, ALIKE = 1_000, 25, 0.7
REPAIR = 0.04
STOPS = (8, 4, 2, 1, 1)  # how many climbs stop at the first, second, … rung: most at the first


@dataclass(frozen=True, slots=True)
class Sharing:
    """A rule. weights: of each rung's test, of 1; what is missing is the repair's, or pays for what is returned.

    returned: the error at which "the score reaches the bar" must be rejected for a rung's share to pass to the next rung, None
    where nothing is returned. goes_on: whether a test goes on after NOT_MET until it is. kept: whether a share passes on after
    every NOT_MET, which only holds where rungs are right on the same items more often than by chance.
    """

    weights: tuple[float, ...]
    returned: float | None = None
    goes_on: bool = False
    kept: bool = False


def spread(first: float, ratio: float, length: int) -> tuple[float, ...]:
    """The first rung's weight; each later one has `ratio` times the one before; they add up to 1 - REPAIR."""
    if length == 1:
        return (1 - REPAIR,)
    rest = ratio ** np.arange(length - 1)
    return first, *((1 - REPAIR - first) * rest / rest.sum()).tolist()


def geometric(ratio: float, length: int) -> tuple[float, ...]:
    weights = ratio ** np.arange(length)
    return tuple(((1 - REPAIR) * weights / weights.sum()).tolist())


def passed_on(weights: Sequence[float], bar: float, n: int) -> tuple[float, ...]:
    """What the exact test of n items cannot use goes to the next rung."""
    found, left = list[float](), 0.0
    for weight in weights:
        offered = weight + left
        found.append(min(offered, usable_share(offered * ALPHA, n, bar) / ALPHA))
        left = offered - found[-1]
    return tuple(found)


def rules(length: int, bar: float = 0.8, n: int = 200) -> dict[str, Sharing]:
    """Every rule that is compared, for a ladder of so many rungs."""
    found = {
        "equal, six tests": Sharing((1 / 6,) * length),
        "equal": Sharing((1 / (length + 1),) * length),
        "equal, repair 4%": Sharing(geometric(1.0, length)),
    }
    found |= {f"each {ratio:g} of the one before": Sharing(geometric(ratio, length)) for ratio in (0.7, 0.5, 0.35)}
    found |= {f"first {first:.0%}, others equal": Sharing(spread(first, 1.0, length)) for first in (0.4, 0.5, 0.6, 0.7)}
    found |= {
        f"first {first:.0%}, others halving": Sharing(spread(first, 0.5, length)) for first in (0.4, 0.5, 0.6, 0.7)
    }
    for first, ratio in ((0.5, 1.0), (0.6, 1.0), (0.5, 0.5)):
        name = f"first {first:.0%}, others {'equal' if ratio == 1 else 'halving'}, unused parts passed on"
        found[name] = Sharing(passed_on(spread(first, ratio, length), bar, n))
    for error, goes_on in ((0.01, False), (0.002, True)):
        left = 1 - 1.1 * (length - 1) * error / ALPHA
        if left > 0.2:
            weights = tuple(left * weight for weight in spread(0.5, 0.5, length))
            name = f"returned at {error:g}" + (", testing on" if goes_on else "")
            found[name] = Sharing(weights, returned=error, goes_on=goes_on)
    halving = tuple(0.95 * weight for weight in geometric(0.5, length))
    return found | {"kept after NOT_MET (not proven)": Sharing(halving, kept=True)}


@dataclass(frozen=True, slots=True)
class Evidence:
    """ln E for and against the bar after n items with s right, shape (n, n + 1); exact tails at the last item, shape (n + 1,)."""

    above: Floats
    below: Floats
    tail_above: Floats
    tail_below: Floats


@cache
def evidence_of(bar: float, n: int) -> Evidence:
    from scipy.stats import binom

    items, right = np.arange(1, n + 1)[:, None], np.arange(n + 1)
    seen = np.minimum(right, items)
    return Evidence(
        log_evidence_above(seen, items, bar),
        log_evidence_above(items - seen, items, 1 - bar),
        np.asarray(binom.sf(right - 1, n, bar)),
        np.asarray(binom.cdf(right, n, bar)),
    )


class Tests:
    """A rung's test in every climb. share: the least at which it says MET. not_met: what it says otherwise, if not UNDECIDED."""

    def __init__(self, right: Bools, bar: float) -> None:
        n, known = right.shape[1], evidence_of(bar, right.shape[1])
        counts = np.cumsum(right, axis=1)
        above, self.below = known.above[np.arange(n), counts], known.below[np.arange(n), counts]
        missed = self.below >= -np.log(SEQUENTIAL_SHARE * BETA)
        early = missed.any(axis=1)
        self.n, self.end = n, np.where(early, missed.argmax(axis=1) + 1, n)
        above[np.arange(1, n + 1) > self.end[:, None]] = -np.inf
        self.above = np.maximum.accumulate(above, axis=1)
        by_sequence = np.exp(-self.above[:, -1]) / SEQUENTIAL_SHARE
        last = counts[:, -1]
        self.share = np.where(early, by_sequence, np.minimum(by_sequence, known.tail_above[last] / FINAL_SHARE))
        self.not_met = early | (known.tail_below[last] < FINAL_SHARE * BETA)
        self.early, self.leads = early, last >= bar * n

    def items(self, share: Floats) -> Floats:
        """Until the verdict at this share."""
        met = (self.above < -np.log(SEQUENTIAL_SHARE * np.maximum(share, 1e-9))[:, None]).sum(axis=1) + 1
        used: Floats = np.minimum(met, self.end).astype(np.float64)
        return used

    def rejected(self, error: float) -> Bools:
        """Where the evidence that the score lies below the bar reaches 1/error at some item."""
        return np.asarray(self.below.max(axis=1) >= -np.log(error))

    def items_until_rejected(self, error: float) -> Floats:
        reached = self.below >= -np.log(error)
        used: Floats = np.where(reached.any(axis=1), reached.argmax(axis=1) + 1, self.n).astype(np.float64)
        return used


@dataclass(frozen=True, slots=True)
class Climbs:
    """met: the rung that each climb ends MET at, -1 for none. undecided: UNDECIDED is its verdict. items: tested in all."""

    met: npt.NDArray[np.intp]
    undecided: Bools
    items: Floats


def climbed(rungs: Sequence[Tests], rule: Sharing) -> Climbs:
    """As `climb.decide.next_rung` goes under `lead`: up after NOT_MET, and after UNDECIDED below the bar."""
    climbs = len(rungs[0].share)
    going, undecided = np.ones(climbs, dtype=np.bool_), np.zeros(climbs, dtype=np.bool_)
    met, items, passed = np.full(climbs, -1), np.zeros(climbs), np.zeros(climbs)
    spent = np.zeros(climbs, dtype=np.intp)
    weights = np.asarray(rule.weights)
    for number, tests in enumerate(rungs):
        share = ALPHA * (weights[spent] if rule.kept else weights[number]) + passed
        now = tests.share <= share
        open_ = ~now & ~tests.not_met
        used = tests.items(share)
        back = np.zeros(climbs, dtype=np.bool_)
        if rule.returned is not None:
            back = ~now & tests.not_met & (tests.rejected(rule.returned) if rule.goes_on else tests.early)
            if rule.goes_on:
                used = np.where(~now & tests.not_met, tests.items_until_rejected(rule.returned), used)
        items += going * used
        met[going & now] = number
        undecided |= going & open_
        passed, spent = np.where(back, share, 0.0), spent + open_
        going = going & ~now & ~(open_ & tests.leads)
    return Climbs(met, undecided & (met < 0), items)


def tests_of(rates: Sequence[float], bar: float, n: int, climbs: int, seed: Sequence[int], alike: float) -> list[Tests]:
    generator = np.random.default_rng([SEED, *seed])
    hardness, shared = generator.random((climbs, n)), generator.random((climbs, n)) < alike
    return [Tests(np.where(shared, hardness, generator.random((climbs, n))) < rate, bar) for rate in rates]


def above(bar: float) -> float:
    """Five points above the bar, or half way to a perfect score."""
    return min(bar + 0.05, (1 + bar) / 2)


def ladders(bar: float, length: int, good: int) -> Iterator[tuple[float, ...]]:
    """True scores where rung `good`, from 0, is the first that meets the bar: those below it miss it clearly, by falling steps, or
    all by five points.
    """
    later = (above(bar),) * (length - good)
    yield (*(bar - 0.05 - 0.1 * 0.5**step for step in range(good)), *later)
    if good:
        yield (*(bar - 0.05,) * good, *later)


def undecided_at(bar: float, n: int, climbs: int) -> dict[tuple[int, int], dict[str, tuple[float, float]]]:
    """Share of UNDECIDED climbs and items used, by rule; keys are (length of the ladder, first good rung)."""
    found: dict[tuple[int, int], dict[str, list[tuple[float, float]]]] = {}
    for good in range(max(LENGTHS)):
        for kind, rates in enumerate(ladders(bar, max(LENGTHS), good)):
            tests = tests_of(rates, bar, n, climbs, (round(100 * bar), n, good, kind), ALIKE)
            for length in (length for length in LENGTHS if good < length):
                place = found.setdefault((length, good), {})
                for name, rule in rules(length, bar, n).items():
                    ended = climbed(tests[:length], rule)
                    place.setdefault(name, []).append((ended.undecided.mean(), ended.items.mean()))
    return {
        place: {name: tuple(np.mean(values, axis=0).tolist()) for name, values in by_rule.items()}
        for place, by_rule in found.items()
    }


def averaged(places: Mapping[tuple[int, int], Mapping[str, tuple[float, float]]], name: str, length: int) -> Floats:
    """Over where climbs stop."""
    stops = np.asarray(STOPS[:length], dtype=np.float64)
    values = np.asarray([places[length, good][name] for good in range(length)])
    return np.asarray(stops @ values / stops.sum())


def choice(climbs: int = CLIMBS) -> None:
    simulated = {(bar, n): undecided_at(bar, n, climbs) for bar, n in product(BARS, SIZES)}
    for n in SIZES:
        print(f"\n{n} test items: UNDECIDED in % (items used), by rungs, mean over bars {BARS}")
        for name in rules(2) | rules(5):
            cells = []
            for length in LENGTHS:
                if name not in rules(length):
                    cells.append("")
                    continue
                share, items = np.mean([averaged(simulated[bar, n], name, length) for bar in BARS], axis=0)
                cells.append(f"{100 * share:.1f} ({items:.0f})")
            print(f"| {name} | {' | '.join(cells)} |")
    for bars in (BARS, (0.85,)):
        print(f"\n200 test items, first good rung 1 / 2 / …, UNDECIDED in %, bars {bars}")
        for length, name in product(LENGTHS, rules(2)):
            if name in rules(length):
                goods = [np.mean([simulated[b, 200][length, k][name][0] for b in bars]) for k in range(length)]
                print(f"| {length} | {name} | {' / '.join(f'{100 * good:.1f}' for good in goods)} |")


def promise(climbs: int = 20_000) -> None:
    print("wrongly MET in %, all rungs at the bar (or a point below), the worst over bars and sizes of 100 to 500")
    worst: dict[Any, float] = {}
    for bar, n, below, alike in product(BARS, (100, 200, 500), (0.0, 0.01), (0.0, ALIKE)):
        tests = tests_of(
            (bar - below,) * max(LENGTHS), bar, n, climbs, (round(100 * bar), n, round(100 * below)), alike
        )
        for length in LENGTHS:
            for name, rule in rules(length, bar, n).items():
                rate = float((climbed(tests[:length], rule).met >= 0).mean())
                worst[name, length] = max(worst.get((name, length), 0.0), rate)
    for name in rules(2):
        print(f"| {name} | {' | '.join(f'{100 * worst.get((name, length), 0):.2f}' for length in LENGTHS)} |")


if __name__ == "__main__":
    {"choice": choice, "promise": promise}[sys.argv[1]]()
