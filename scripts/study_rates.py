"""Do the studies keep their rates? Simulated curves of which the truth is known: prints the tables of docs/simulations.md.

    python -m scripts.study_rates 400

A score is 1 where  m(n) + t g + r h + sqrt(1 - r^2) e > 0  with normal g of a seed and size, h of an item (shared by all sizes,
seeds and ways), e of the answer; the true score at a size is Phi(m / sqrt(1 + t^2)). The subsets of a seed are nested: g follows
from size to size with a given correlation.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np

from lastresort.evals.evidence.crossing import CurveCrossing, crossing
from lastresort.evals.evidence.learning_curve import LearningCurve, learning_curve
from lastresort.evals.evidence.paired import p_above_zero
from lastresort.evals.evidence.units import Array
from lastresort.spec.sections import ExpectedUse
from lastresort.study.call_costs import PricedWays, TimedCalls, TokenSeconds, cost_crossing, priced_ways
from lastresort.study.compare import compare_arms
from lastresort.study.conclude import LEVEL, leaking, smallest_shown
from lastresort.study.effect import compare_in_order

SIZES = (10, 20, 40, 80, 160, 320)
ITEM_SHARE = 0.7  # r
NORMAL = NormalDist()


@dataclass(frozen=True, slots=True)
class Design:
    """spread: t, one for all sizes or by size. nested: the correlation of g from a size to the next. fixed: the first way learns
    from no example, so that it is measured once.
    """

    seeds: int
    spread: float | tuple[float, ...]
    items: int
    nested: float = 0.0
    fixed: bool = False

    @property
    def cells(self) -> str:
        spread = self.spread if isinstance(self.spread, float) else f"{self.spread[0]} to {self.spread[-1]}"
        return f"{self.seeds} | {spread} | {self.nested:g} | {self.items}"


SHRINKING = (0.6, 0.4, 0.3, 0.2, 0.1, 0.05)


def scores_of(truth: Sequence[float], items: Array, design: Design, dice: np.random.Generator) -> Array:
    """0/1, shape (sizes, seeds, items). truth: the true score at each size. items: h."""
    spread = np.broadcast_to(design.spread, len(truth))
    middle = np.array([NORMAL.inv_cdf(one) for one in truth]) * np.sqrt(1 + spread**2)
    own = math.sqrt(1 - ITEM_SHARE**2) * dice.standard_normal((len(truth), design.seeds, len(items)))
    by_seed = spread[:, None] * _nested(len(truth), design, dice)
    return np.asarray(middle[:, None, None] + by_seed[:, :, None] + ITEM_SHARE * items + own > 0).astype(np.float64)


def _nested(sizes: int, design: Design, dice: np.random.Generator) -> Array:
    """g, shape (sizes, seeds)."""
    noise = dice.standard_normal((sizes, design.seeds))
    for at in range(1, sizes):
        noise[at] = design.nested * noise[at - 1] + math.sqrt(1 - design.nested**2) * noise[at]
    return noise


@dataclass(frozen=True, slots=True)
class TwoWays:
    """The true scores of two ways at each of SIZES."""

    name: str
    first: tuple[float, ...]
    second: tuple[float, ...]

    @property
    def rises(self) -> tuple[float, ...]:
        return tuple(b - a for a, b in zip(self.first, self.second, strict=True))


WAYS = (
    TwoWays("crosses steeply", (0.50, 0.55, 0.58, 0.60, 0.60, 0.60), (0.10, 0.25, 0.45, 0.65, 0.78, 0.85)),
    TwoWays("crosses flatly", (0.55, 0.58, 0.60, 0.60, 0.60, 0.60), (0.50, 0.54, 0.57, 0.60, 0.62, 0.64)),
    TwoWays("never crosses", (0.70,) * 6, (0.30, 0.40, 0.48, 0.54, 0.58, 0.60)),
    TwoWays("ahead from the start", (0.40,) * 6, (0.45, 0.50, 0.55, 0.60, 0.62, 0.64)),
    TwoWays("equal", (0.50,) * 6, (0.50,) * 6),
    TwoWays("ends equal", (0.50, 0.55, 0.58, 0.60, 0.60, 0.60), (0.40, 0.50, 0.56, 0.60, 0.60, 0.60)),
    TwoWays("lead falls", (0.30, 0.45, 0.70, 0.85, 0.95, 0.95), (0.60,) * 6),
    TwoWays("lead comes and goes", (0.50,) * 6, (0.40, 0.50, 0.60, 0.60, 0.50, 0.40)),
)
CROSSING_DESIGNS = (
    Design(2, 0.1, 100),
    Design(3, 0.1, 100),
    Design(3, 0.2, 100, 0.8),
    Design(10, 0.5, 100, 0.0, fixed=True),
    Design(2, 0.4, 100, 0.8),
    Design(3, 0.4, 300, 1.0),
    Design(3, SHRINKING, 100),
)
CROSSING_STUDIES = tuple(  # a way that learns from no example has one score
    (ways, design) for ways in WAYS for design in CROSSING_DESIGNS if not design.fixed or len(set(ways.first)) == 1
)


def claims(found: CurveCrossing) -> tuple[list[int], list[int]]:
    """The places of SIZES at which the second way is said to be better, and worse."""
    places = range(len(SIZES))
    up_to = [at for at in places if found.low is not None and SIZES[at] <= found.low]
    on_from = [at for at in places if found.high is not None and SIZES[at] >= found.high]
    return (up_to, on_from) if found.kind == "FALLS" else (on_from, up_to)


def is_false(found: CurveCrossing, rises: Sequence[float]) -> bool:
    better, worse = claims(found)
    return any(rises[at] <= 1e-9 for at in better) or any(rises[at] >= -1e-9 for at in worse)


@dataclass(frozen=True, slots=True)
class CrossingRates:
    """Studies that say something, that say it of both ends, and that say something false."""

    told: int
    whole: int
    false: int
    runs: int


def crossings(ways: TwoWays, design: Design, runs: int, seed: int) -> CrossingRates:
    dice, told, whole, false = np.random.default_rng(seed), 0, 0, 0
    for _ in range(runs):
        shared = dice.standard_normal(design.items)
        second = scores_of(ways.second, shared, design, dice)
        first = _first(ways, shared, design, dice)
        found = crossing(SIZES, second - first)
        told += found.kind != "CANNOT_TELL"
        whole += found.kind in ("BEFORE", "BEYOND", "FALLS") or None not in (found.low, found.high)
        false += is_false(found, ways.rises)
    return CrossingRates(told, whole, false, runs)


def _first(ways: TwoWays, shared: Array, design: Design, dice: np.random.Generator) -> Array:
    if not design.fixed:
        return scores_of(ways.first, shared, design, dice)
    once = scores_of(ways.first[:1], shared, Design(1, 0.0, design.items), dice)
    return np.broadcast_to(once, (len(SIZES), design.seeds, design.items))


@dataclass(frozen=True, slots=True)
class TwoCosts:
    """Tokens of a call, on average: read and written, of a prompt at every size and after SFT at each of SIZES. kept: further
    tokens of the prompt that all calls share, which the server keeps. adapter: how much longer SFT takes to read and to write.
    """

    name: str
    prompt: tuple[float, float]
    sft_read: float
    sft_written: tuple[float, ...]
    kept: float = 0.0
    adapter: tuple[float, float] = (1.0, 1.0)

    @property
    def rises(self) -> tuple[float, ...]:
        read, written = self.prompt
        reads, writes = self.adapter
        before = read + WRITING * written - reads * self.sft_read
        return tuple(before - writes * WRITING * own for own in self.sft_written)


WRITING = 3.0  # how many times longer than reading a token
CLOCK_NOISE = 0.2  # of a time, in logarithms
TOKEN_NOISE = 0.3  # of the tokens of an answer
LONGEST_TOKENS = 64
COSTS = (
    TwoCosts("equal tokens", (40, 15), 40, (15.0,) * 6),
    TwoCosts("equal cost: more written, less read", (70, 10), 40, (20.0,) * 6),
    TwoCosts("equal cost: fewer tokens, slower adapter", (48, 18), 40, (15.0,) * 6, adapter=(1.2, 1.2)),
    TwoCosts("equal cost: less read, adapter reads slowly", (120, 15), 40, (15.0,) * 6, adapter=(3.0, 1.0)),
    TwoCosts("equal cost: a cached prefix", (40, 15), 40, (15.0,) * 6, kept=2000),
    TwoCosts("cheaper", (340, 15), 60, (14.5,) * 6),
    TwoCosts("more expensive", (40, 5), 90, (15.0,) * 6),
    TwoCosts("answers shorten", (20, 20), 5, (70.0, 55.0, 40.0, 15.0, 8.0, 5.0)),
)
COST_DESIGNS = (Design(2, 0.0, 60), Design(2, 0.05, 60), Design(3, 0.1, 100), Design(5, 0.3, 100))


def costs(
    ways: TwoCosts,
    design: Design,
    runs: int,
    seed: int,
    *,
    bounded: bool = True,
    off: tuple[float, float] | None = None,
) -> CrossingRates:
    """off: factors by which the times of reading and writing are off; None to draw them with CLOCK_NOISE. bounded: whether a
    statement has to hold for all that is not known.
    """
    dice, told, whole, false, use = np.random.default_rng(seed), 0, 0, 0, ExpectedUse(hourly_price=3600.0)
    for _ in range(runs):
        drawn = np.exp(CLOCK_NOISE * dice.standard_normal(2))
        read_s, write_s = np.array([1.0, WRITING]) * (drawn if off is None else off)
        times = TokenSeconds(float(read_s), float(write_s))
        calls = TimedCalls(times, times, same=True, longest_tokens=LONGEST_TOKENS)
        item = _around_one(dice, TOKEN_NOISE, (design.items,))
        by_seed = _around_one(dice, design.spread, (len(SIZES), design.seeds, 1))
        own = _around_one(dice, TOKEN_NOISE, (len(SIZES), design.seeds, design.items))
        after = np.array(ways.sft_written)[:, None, None] * by_seed * own * item
        before = ways.prompt[1] * item * _around_one(dice, TOKEN_NOISE, (design.items,))

        def saved(prices: PricedWays, before: Array = before, after: Array = after) -> Array:
            prompt, sft = prices.prompting, prices.sft
            read = ways.prompt[0] + (ways.kept if ways.kept < prompt.kept_from else 0.0)
            return np.asarray(read * prompt.read + before * prompt.write - ways.sft_read * sft.read - after * sft.write)

        if bounded:
            found = cost_crossing(SIZES, use, calls, saved)
        else:
            prices = priced_ways(use, calls)
            found = crossing(SIZES, saved(prices) / prices.longest(calls))
        told += found.kind != "CANNOT_TELL"
        whole += found.kind in ("BEFORE", "BEYOND", "FALLS") or None not in (found.low, found.high)
        false += is_false(found, ways.rises)
    return CrossingRates(told, whole, false, runs)


def _around_one(dice: np.random.Generator, spread: float | tuple[float, ...], shape: tuple[int, ...]) -> Array:
    """Factors with a mean of 1."""
    sigma = np.asarray(spread)
    return np.asarray(np.exp(sigma * dice.standard_normal(shape) - sigma**2 / 2))


def false_headlines(ways: int, design: Design, runs: int, seed: int) -> tuple[int, int]:
    """All of so many other ways are as good as SFT. How often does a study say that SFT beats all of them, and how often is
    anything false said of any of them?
    """
    dice, equal = np.random.default_rng(seed), WAYS[4]
    all_beaten = any_false = 0
    for _ in range(runs):
        shared = dice.standard_normal(design.items)
        sft = scores_of(equal.second, shared, design, dice)
        found = [crossing(SIZES, sft - _first(equal, shared, design, dice)) for _ in range(ways)]
        all_beaten += all(claims(one)[0] for one in found)
        any_false += any(is_false(one, equal.rises) for one in found)
    return all_beaten, any_false


@dataclass(frozen=True, slots=True)
class Coverage:
    """held: intervals that hold the truth, of those that say something. told: studies that do."""

    held: int
    told: int
    runs: int


ERRORS: dict[str, Callable[[float], float]] = {  # by n over the largest size
    ".1 + .15 n^-.5": lambda n: 0.1 + 0.15 * n**-0.5,
    ".3 n^-.3": lambda n: 0.3 * n**-0.3,
    ".2 + .02 n^-1": lambda n: 0.2 + 0.02 * n**-1,
    ".25 + .5 exp(-4n)": lambda n: 0.25 + 0.5 * math.exp(-4 * n),
    ".4 (does not fall)": lambda n: 0.4,
}
FORECAST_DESIGNS = (
    Design(2, 0.05, 1000),
    Design(3, 0.05, 100),
    Design(3, 0.05, 300, 0.8),
    Design(3, 0.15, 1000, 0.8),
    Design(3, 0.15, 1000, 1.0),
    Design(3, 0.3, 300, 1.0),
    Design(5, 0.15, 300, 0.8),
    Design(5, SHRINKING, 300),
)


def forecasts(name: str, design: Design, runs: int, seed: int) -> dict[int, Coverage]:
    """By how many times the examples: whether the interval of the gain holds the true one."""
    dice, curve = np.random.default_rng(seed), ERRORS[name]
    truth = [1 - curve(size / SIZES[-1]) for size in SIZES]
    held, told = {2: 0, 4: 0}, {2: 0, 4: 0}
    for _ in range(runs):
        shared = dice.standard_normal(design.items)
        found = learning_curve(SIZES, 1 - scores_of(truth, shared, design, dice))
        if not isinstance(found, LearningCurve):
            continue
        for one in found.after:
            gain = curve(1) - curve(one.times)
            told[one.times] += 1
            held[one.times] += one.interval[0] - 1e-9 <= gain <= one.interval[1] + 1e-9
    return {times: Coverage(held[times], told[times], runs) for times in held}


def false_shifts(gains: Sequence[float], design: Design, runs: int, seed: int) -> tuple[int, int]:
    """How often the rule names a size at which nothing is gained, and how often it names any. gains: true ones, by size."""
    dice, base = np.random.default_rng(seed), 0.5
    false = named = 0
    for _ in range(runs):
        shared = dice.standard_normal(design.items)
        before = scores_of([base], shared, Design(1, 0.0, design.items), dice)[0, 0]
        after = scores_of([base + gain for gain in gains], shared, design, dice)
        ps = [[p_above_zero(own - before, binary=True) for own in of_size] for of_size in after]
        found = smallest_shown(ps, LEVEL)
        named += found is not None
        false += found is not None and gains[found] <= 0
    return false, named


def leaks(changed: float, lost: float, seeds: int, runs: int, seed: int) -> int:
    """Studies of six sizes with a sign of a format leak at any. The base answers half of 40 requests as it should. Of a training's
    answers so many `changed` at random, and a share `lost` of those kept was lost besides.
    """
    dice, found = np.random.default_rng(seed), 0
    for _ in range(runs):
        base = dice.random(40) < 0.5
        drawn = dice.random((len(SIZES), seeds, 40)) < 2 * changed
        kept = np.where(drawn, dice.random(drawn.shape) < 0.5, base) & (dice.random(drawn.shape) >= lost)
        found += any(leaking(base.tolist(), [list(map(list, own)) for own in kept.tolist()]))
    return found


ARM_DESIGNS = tuple(
    Design(seeds, spread, items) for seeds in (2, 5, 10) for spread in (0.1, 0.4) for items in (60, 200)
)

COLLAPSING_DESIGNS = (Design(5, 0.0, 60), Design(5, 0.0, 200), Design(10, 0.0, 200))
LOOKED_DESIGNS = tuple(Design(5, spread, 200) for spread in (0.1, 0.4))


def arms(gain: float, design: Design, runs: int, seed: int) -> tuple[int, int]:
    """How often a study says that the second of two trainings is better, and how often that the first is. gain: of the true score,
    around one half.
    """
    dice, said = np.random.default_rng(seed), {"ORPO": 0, "DPO": 0, "CANNOT_TELL": 0}
    for _ in range(runs):
        shared = dice.standard_normal(design.items)
        first, second = (scores_of([0.5 + part], shared, design, dice)[0] for part in (-gain / 2, gain / 2))
        said[compare_arms(first, second).better] += 1
    return said["ORPO"], said["DPO"]


SOURCE_GAINS = ((0.0, 0.0), (0.1, 0.0), (0.2, -0.2))  # of both, and of synthetic rows alone
SOURCE_DESIGNS = tuple(Design(seeds, spread, items) for seeds in (3, 5) for spread in (0.1, 0.4) for items in (60, 200))


@dataclass(frozen=True, slots=True)
class SourceRates:
    """Studies that call both better than real rows alone, that call them worse, and that say something false of either."""

    better: int
    worse: int
    false: int


def sources(gains: tuple[float, float], design: Design, runs: int, seed: int) -> SourceRates:
    """gains: of the true score over that of real rows alone, one half: with both, and with synthetic rows alone."""
    dice, better, worse, false = np.random.default_rng(seed), 0, 0, 0
    for _ in range(runs):
        shared = dice.standard_normal(design.items)
        real, *others = (scores_of([0.5 + gain], shared, design, dice)[0] for gain in (0.0, *gains))
        effects = [one.effect for one in compare_in_order(real, others)]
        better += effects[0] == "BETTER"
        worse += effects[0] == "WORSE"
        right = [
            ("BETTER", "CANNOT_TELL") if gain > 0 else ("WORSE", "CANNOT_TELL") if gain < 0 else ("CANNOT_TELL",)
            for gain in gains
        ]
        false += any(effect not in allowed for effect, allowed in zip(effects, right, strict=True))
    return SourceRates(better, worse, false)


def collapses(share: float, design: Design, runs: int, seed: int) -> int:
    """Studies that call one of two trainings better whose mean scores are equal, where such a share of the second's seeds falls
    from 80% to 5%.
    """
    dice, found, top, low = np.random.default_rng(seed), 0, 0.8, 0.05
    for _ in range(runs):
        shared = dice.standard_normal(design.items)
        by_seed = np.where(dice.random(design.seeds) < share, low, top)
        levels = (np.full(design.seeds, share * low + (1 - share) * top), by_seed)
        one_seed = replace(design, seeds=1)
        ways = [np.array([scores_of([one], shared, one_seed, dice)[0][0] for one in level]) for level in levels]
        found += compare_arms(ways[0], ways[1]).better != "CANNOT_TELL"
    return found


def looks(most: int, design: Design, runs: int, seed: int) -> tuple[int, int]:
    """Studies of two equal trainings that call one better, at the design's seeds alone, and at these or any number up to `most`."""
    dice, once, ever = np.random.default_rng(seed), 0, 0
    for _ in range(runs):
        shared = dice.standard_normal(design.items)
        first, second = (scores_of([0.5], shared, replace(design, seeds=most), dice)[0] for _ in range(2))
        said = [compare_arms(first[:n], second[:n]).better != "CANNOT_TELL" for n in range(design.seeds, most + 1)]
        once, ever = once + said[0], ever + any(said)
    return once, ever


def _percent(count: int, of: int) -> str:
    return f"{100 * count / of:.0f}" if of else ""


DESIGN_COLUMNS = "seeds | spread of seeds | correlation | items"


def lines(runs: int) -> Iterator[str]:
    yield f"| curves | {DESIGN_COLUMNS} | make a claim | at both ends | make a false claim |"
    yield "| --- " * 8 + "|"
    for ways, design in CROSSING_STUDIES:
        found = crossings(ways, design, runs, 1)
        rates = " | ".join(_percent(one, runs) for one in (found.told, found.whole, found.false))
        yield f"| {ways.name} | {design.cells} | {rates} |"
    yield ""
    yield f"| equal ways | {DESIGN_COLUMNS} | SFT beats all | any false claim |"
    yield "| --- " * 7 + "|"
    for count in (1, 3, 5):
        design = Design(3, 0.1, 100)
        rates = " | ".join(_percent(one, runs) for one in false_headlines(count, design, runs, 5))
        yield f"| {count} | {design.cells} | {rates} |"
    yield ""
    said_columns = "make a claim | at both ends | make a false claim | false at face value"
    yield f"| tokens of a call | seeds | spread of seeds | items | {said_columns} |"
    yield "| --- " * 8 + "|"
    for ways_cost in COSTS:
        for design in COST_DESIGNS:
            bound = costs(ways_cost, design, runs, 10)
            alone = costs(ways_cost, design, runs, 10, bounded=False).false
            rates = " | ".join(_percent(one, runs) for one in (bound.told, bound.whole, bound.false, alone))
            yield f"| {ways_cost.name} | {design.seeds} | {design.spread} | {design.items} | {rates} |"
    yield ""
    yield f"| error, by the examples over those of the largest size | {DESIGN_COLUMNS} | twice | four times |"
    yield "| --- " * 7 + "|"
    for name in ERRORS:
        for design in FORECAST_DESIGNS:
            by = forecasts(name, design, runs, 2)
            cells = [f"{_percent(by[t].told, runs)}, {_percent(by[t].held, by[t].told)}".rstrip(", ") for t in (2, 4)]
            yield f"| {name} | {design.cells} | {cells[0]} | {cells[1]} |"
    yield ""
    yield f"| true gain in points, by size | {DESIGN_COLUMNS} | names a size | names one with no gain |"
    yield "| --- " * 7 + "|"
    for gains in ((0.0,) * 6, (0.0, 0.0, 0.0, 0.05, 0.10, 0.15), (0.0, 0.0, 0.0, 0.2, 0.3, 0.4)):
        for design in (
            Design(1, 0.0, 100),
            *(Design(seeds, 0.1, 100, 0.8) for seeds in (2, 3, 5)),
            Design(3, 0.1, 300, 0.8),
        ):
            false, named = false_shifts(gains, design, runs, 3)
            shown = " / ".join(f"{100 * gain:.0f}" for gain in gains)
            yield f"| {shown} | {design.cells} | {100 * named / runs:.1f} | {100 * false / runs:.1f} |"
    yield ""
    yield "| answers that change at random | answers also lost | seeds | a sign at any size |"
    yield "| --- " * 4 + "|"
    for lost in (0.0, 0.3):
        for changed in (0.1, 0.2, 0.3):
            for seeds in (2, 3):
                signs = leaks(changed, lost, seeds, runs, 4)
                yield f"| {100 * changed:.0f}% | {100 * lost:.0f}% | {seeds} | {100 * signs / runs:.1f} |"
    yield ""
    yield "| true difference in points | seeds | spread of seeds | items | says that ORPO is better | that SFT then DPO is |"
    yield "| --- " * 6 + "|"
    for gain in (0.0, 0.1, 0.2):
        for design in ARM_DESIGNS:
            orpo, dpo = arms(gain, design, runs, 6)
            design_cells = f"{design.seeds} | {design.spread} | {design.items}"
            yield f"| {100 * gain:.0f} | {design_cells} | {100 * orpo / runs:.1f} | {100 * dpo / runs:.1f} |"
    yield ""
    columns = "seeds | spread of seeds | items | both better | both worse | any false claim"
    yield f"| both minus real | synthetic minus real | {columns} |"
    yield "| --- " * 8 + "|"
    for both_and_alone in SOURCE_GAINS:
        for design in SOURCE_DESIGNS:
            said_of_rows = sources(both_and_alone, design, runs, 9)
            shown = " | ".join(f"{100 * gain:.0f}" for gain in both_and_alone)
            signs_of_rows = (said_of_rows.better, said_of_rows.worse, said_of_rows.false)
            rates = " | ".join(f"{100 * one / runs:.1f}" for one in signs_of_rows)
            yield f"| {shown} | {design.seeds} | {design.spread} | {design.items} | {rates} |"
    yield ""
    yield "| seeds | items | says that one is better |"
    yield "| --- " * 3 + "|"
    for design in COLLAPSING_DESIGNS:
        said = collapses(0.1, design, runs, 7)
        yield f"| {design.seeds} | {design.items} | {100 * said / runs:.1f} |"
    yield ""
    yield "| spread of seeds | items | with 5 seeds alone | with 5, 6 … or 15 |"
    yield "| --- " * 4 + "|"
    for design in LOOKED_DESIGNS:
        once, ever = looks(15, design, runs, 8)
        yield f"| {design.spread} | {design.items} | {100 * once / runs:.1f} | {100 * ever / runs:.1f} |"


if __name__ == "__main__":
    for line in lines(int(sys.argv[1]) if len(sys.argv) > 1 else 400):
        print(line, flush=True)
