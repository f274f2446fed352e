"""What a call costs by what it makes a model do: the tokens that are read and written. Pure.

Of a local model a token read and one written take seconds that are timed once for the whole study, so that the clock does not
count in a difference of two ways: tokens are the same each time, and the items are paired. An endpoint has its exact prices.

An error of these times is common to all calls: it is no noise of items or seeds, so no interval holds it. So a statement has to
hold for all that is not known (`bounds_of`): times that are off by RATE_ERROR on either side, tokens of an adapter that take from
ADAPTER_QUICKER to ADAPTER_SLOWER times as long as those of its base, and servers that keep a beginning that all prompts share, or
also one that only two calls share; keep long ones alone; or keep none. Dev is a small sample of the calls that a server gets: there
two calls may share all that comes before the input, such as the nearest shots. A cost is linear in each of these, so what holds at
the corners holds between them. As each corner has to show it, their number needs no correction.

Not counted: attention to a long text makes each token slower, and an answer held to a schema takes time to check. Both make prompts
more expensive. So where SFT is called cheaper, it is so by more. Where it is called more expensive, it is so even if calls read the
whole prompt, and also where nothing of it need be read.

Source: Berger 1982 (all of several tests). Simulation: tests/simulation/test_study_rates.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from lastresort.climb.costs import paid_by_tokens
from lastresort.engine.cache import FEWEST_TOKENS
from lastresort.evals.evidence.crossing import CurveCrossing, crossing
from lastresort.evals.evidence.units import Array
from lastresort.spec.sections import ExpectedUse
from lastresort.spec.task import Task
from lastresort.study.rows import CellRow

RATE_ERROR = 2.0  # cells of equal tokens differed by a factor of 1.6 by the clock: docs/log.md
ADAPTER_QUICKER = (0.8, 0.8)  # of reading and of writing, against the base
ADAPTER_SLOWER = (
    4.0,
    1.25,
)  # unmerged; measured for reading: 1.8 times in the base's 16 bits, 2.7 to 3.4 in float32; writing: 1.0
ANY, NONE = 0, math.inf
KEPT_BY_SERVE = (FEWEST_TOKENS, False)
KEPT = ((ANY, False), (ANY, True), KEPT_BY_SERVE, (FEWEST_TOKENS, True), (NONE, False))
"""From how many tokens a server may keep a beginning, and whether two calls that share it are enough."""


@dataclass(frozen=True, slots=True)
class TokenSeconds:
    """On this machine, of one of many: reading in a batch of prompts, writing in a batch of answers."""

    read_s: float
    write_s: float


@dataclass(frozen=True, slots=True)
class TimedCalls:
    """sft, prompting: of the models that answer; the latter None where it is paid by its tokens. same: whether they have the same
    weights, but for an adapter. longest_tokens: of an answer.
    """

    sft: TokenSeconds
    prompting: TokenSeconds | None
    same: bool
    longest_tokens: int


@dataclass(frozen=True, slots=True)
class TokenPrice:
    """In USD. kept_from: the fewest tokens of a shared beginning that need not be read for each call. by_two: whether it is enough
    that two calls share it, as they may the nearest shots.
    """

    read: float
    write: float
    kept_from: float
    by_two: bool = False

    def of(self, row: CellRow) -> Sequence[float]:
        """What the call of each item costs."""
        pairs = zip(read_tokens(row, self.kept_from, by_two=self.by_two), row.answer_tokens, strict=True)
        return [read * self.read + written * self.write for read, written in pairs]


@dataclass(frozen=True, slots=True)
class PricedWays:
    """Prices of the tokens of SFT and of prompts, as they may be."""

    sft: TokenPrice
    prompting: TokenPrice

    def longest(self, calls: TimedCalls) -> float:
        """What the longest answer costs with either: one more item could change a difference by so much, as a score by 1."""
        return calls.longest_tokens * max(self.sft.write, self.prompting.write) or 1.0  # a machine that costs nothing


def is_priced(task: Task) -> bool:
    """Whether the task names the price of every call: an hour of the machine that answers, and of an endpoint its tokens."""
    use = task.use
    by_tokens = paid_by_tokens(task, "prompting")
    return use.hourly_price is not None and not (by_tokens and None in (use.prompt_price, use.output_price))


def read_tokens(row: CellRow, kept_from: float = FEWEST_TOKENS, *, by_two: bool = False) -> list[int]:
    """Of each prompt, without the beginning that it shares where it is kept. An item that was refused has no tokens."""
    shared = row.begun_tokens if by_two else (row.shared_tokens,) * len(row.prompt_tokens)
    kept = (own if own >= kept_from else 0 for own in shared)
    return [max(0, tokens - own) for tokens, own in zip(row.prompt_tokens, kept, strict=True)]


def cost_crossing(
    sizes: Sequence[int], use: ExpectedUse, calls: TimedCalls, saved: Callable[[PricedWays], Array]
) -> CurveCrossing:
    """From how many examples on SFT is cheaper. saved: what its calls cost less at given prices, shape (sizes, seeds, units)."""
    first, *bounds = (saved(one) / one.longest(calls) for one in (priced_ways(use, calls), *bounds_of(use, calls)))
    return crossing(sizes, first, bounds)


def priced_ways(use: ExpectedUse, calls: TimedCalls) -> PricedWays:
    """As timed, with beginnings kept as `serve` does."""
    return _priced(use, calls, KEPT_BY_SERVE, (1.0, 1.0), (1.0, 1.0))


def bounds_of(use: ExpectedUse, calls: TimedCalls) -> Iterator[PricedWays]:
    """The corners of what is not known. Of the same weights, only how much longer writing takes than reading matters."""
    off = (1 / RATE_ERROR, RATE_ERROR)
    for kept, (reads, writes) in product(KEPT, (ADAPTER_QUICKER, ADAPTER_SLOWER)):
        for read, write, base_read, base_write in product(off, off, off, off):
            if calls.same and (read == write or (read, write) != (base_read, base_write)):
                continue
            yield _priced(use, calls, kept, (read * reads, write * writes), (base_read, base_write))


def paid_price(use: ExpectedUse) -> TokenPrice:
    """Of an endpoint, without a discount for what it keeps."""
    return TokenPrice((use.prompt_price or 0.0) / 1e6, (use.output_price or 0.0) / 1e6, NONE)


def _priced(
    use: ExpectedUse,
    calls: TimedCalls,
    kept: tuple[float, bool],
    sft: tuple[float, float],
    prompting: tuple[float, float],
) -> PricedWays:
    """kept: one of KEPT. sft, prompting: by what the times of reading and of writing are multiplied."""
    a_second = (use.hourly_price or 0.0) / 3600

    def by_time(model: TokenSeconds, factors: tuple[float, float]) -> TokenPrice:
        read, write = factors
        return TokenPrice(model.read_s * read * a_second, model.write_s * write * a_second, *kept)

    if calls.prompting is not None:
        return PricedWays(by_time(calls.sft, sft), by_time(calls.prompting, prompting))
    return PricedWays(by_time(calls.sft, sft), paid_price(use))
