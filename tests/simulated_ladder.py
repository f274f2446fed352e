"""Climbs without models up to the test of a repaired system, at the shares of the error that the program hands on.

The program's own functions say which rung comes next (`climb.decide.next_rung`) and at which error it is tested
(`ErrorShared.alpha_of_rung`, `alpha_of_repair`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

from lastresort.climb.decide import Rules, RungOutcome, next_rung
from lastresort.climb.shares import error_shares
from lastresort.evals.evidence.bar import FALSE_NOT_MET, usable_share
from lastresort.evals.evidence.outlook import Errors, endings
from lastresort.ladder import COST_RUNG, RUNGS, trains
from lastresort.records.events.run import ErrorShared, repair_test
from lastresort.records.reasons import CostSaving, Stopped
from lastresort.types import Judgement

ALPHA = 0.05
Judge = Callable[[str, float], Judgement]
"""(a rung, or the repair of one; the error of its test) -> what its test says."""


@dataclass(frozen=True)
class Ladder:
    """rates: the true score of each system, by rung and `repair_test`."""

    rates: dict[str, float]
    shared: ErrorShared
    bar: float
    goal_cost: bool

    @property
    def rungs(self) -> tuple[str, ...]:
        return tuple(rung for rung in self.rates if rung in RUNGS)

    @property
    def rules(self) -> Rules:
        return Rules(self.rungs, self.bar)

    def tested(self, judge: Judge) -> dict[str, Judgement]:
        """What every test of one climb says, the repair of a rung that trains and would win included."""
        outcomes, said = list[RungOutcome](), dict[str, Judgement]()
        while not isinstance(rung := next_rung(self.rules, outcomes, self._saving(outcomes)), Stopped):
            met = [rung for rung, found in said.items() if found.outcome == "MET"]
            said[rung] = judge(rung, self.shared.alpha_of_rung(rung, met, ALPHA))
            outcomes.append(RungOutcome(rung, said[rung], "system"))
        met = [rung for rung, found in said.items() if found.outcome == "MET"]
        last = outcomes[-1].rung
        if last in met and repair_test(last) in self.rates:
            said[repair_test(last)] = judge(repair_test(last), self.shared.alpha_of_repair(last, met, ALPHA))
        return said

    def _saving(self, outcomes: list[RungOutcome]) -> CostSaving | None:
        last = outcomes[-1] if outcomes else None
        if not self.goal_cost or last is None or last.verdict != "MET" or trains(last.rung):
            return None
        return CostSaving(last.rung, True)

    def wrong(self, said: dict[str, Judgement]) -> bool:
        return any(found.outcome == "MET" and self.rates[test] <= self.bar for test, found in said.items())

    def error_of(self, test: str) -> float:
        """The most error that the test of a system can have before any test was wrong: what good ones hand on is added."""
        own = self.shared.share_of(test, ALPHA)
        good = [rung for rung in self.rungs if self.rates[rung] > self.bar]
        if test not in self.rungs:
            return own + sum(self.error_of(rung) for rung in good if repair_test(rung) == test)
        if not self.goal_cost or test != COST_RUNG:
            return own
        return max([own, *(self.shared.share_of(rung, ALPHA) for rung in good if not trains(rung))])

    def most_wrong(self, n: int) -> float:
        """A bound of how often a climb on n 0/1 items errs: over the systems that do not exceed the bar, how often their tests say
        MET at that error, exactly.
        """
        bad = [test for test, rate in self.rates.items() if rate <= self.bar]
        return sum(met_at(self.bar, n, self.error_of(test), self.rates[test]) for test in bad)


@cache
def met_at(bar: float, n: int, alpha: float, rate: float) -> float:
    """How often a test of n 0/1 items says MET of a system with this true score, exactly."""
    return endings(n, bar, Errors(alpha, FALSE_NOT_MET), lambda items, right: rate).met


def ladder_of(rates: dict[str, float], n: int | None, *, bar: float = 0.8, goal_cost: bool = False) -> Ladder:
    """n: test items; None for so many that every share can be used."""
    usable = float if n is None else partial(usable_share, n=n, bar=bar)
    shares = error_shares([rung for rung in rates if rung in RUNGS], ALPHA, usable)
    return Ladder(rates, ErrorShared(r=len(shares), shares=shares), bar, goal_cost)
