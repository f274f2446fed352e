"""Climbs without models up to the test of a repaired system, at the shares of the error that the program hands on.

The program's own functions say which rung comes next (`climb.decide.next_step`) and at which error it is tested
(`ErrorShared.alpha_of_rung`, `alpha_of_repair`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import takewhile

from lastresort.climb.decide import Rules, RungOutcome, next_step
from lastresort.climb.shares import error_shares
from lastresort.evals.evidence.bar import usable_share
from lastresort.ladder import RUNGS, trains
from lastresort.records.events import ErrorShared, repair_test
from lastresort.records.reasons import CostSaving
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

    def tested(self, judge: Judge) -> dict[str, Judgement]:
        """What every test of one climb says, the repair of a rung that trains and would win included."""
        rules, outcomes, said = Rules(self.rungs, self.bar), list[RungOutcome](), dict[str, Judgement]()
        while (step := next_step(rules, outcomes, self._saving(outcomes))).rung is not None:
            met = [rung for rung, found in said.items() if found.outcome == "MET"]
            said[step.rung] = judge(step.rung, self.shared.alpha_of_rung(step.rung, met, ALPHA))
            outcomes.append(RungOutcome(step.rung, said[step.rung], "system"))
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

    @property
    def promised(self) -> float:
        """Each share counts for the first system not above the bar on its way: prompt, tuned model with cheaper calls, repair."""
        found = 0.0
        for test in self.rates:
            way = [test, *(["sft"] if self.goal_cost and not trains(test.split()[0]) else [])]
            way += [repair_test(way[-1])] if repair_test(way[-1]) in self.rates else []
            good = list(takewhile(lambda one: self.rates[one] > self.bar, way))
            found += 0.0 if len(good) == len(way) else self.shared.share_of(test, ALPHA)
        return found


def ladder_of(rates: dict[str, float], n: int, *, bar: float = 0.8, goal_cost: bool = False) -> Ladder:
    shares = error_shares([rung for rung in rates if rung in RUNGS], ALPHA, partial(usable_share, n=n, bar=bar))
    return Ladder(rates, ErrorShared(r=len(shares), shares=shares), bar, goal_cost)
