"""A race of systems on dev: all answer a little of it, the better half more, few the whole, and one is chosen.

Between halvings a candidate is dropped once the evidence that another is better is strong enough, and the race ends once one is
left. It also ends if dev shows that all that are left are below the bar: which of them is closest is not worth its price.

A model may refuse a candidate's later items. Those that only the evidence of that candidate had dropped then come back.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from lastresort.errors import CandidateError, DataError
from lastresort.evals.evidence.bar import judge_bar
from lastresort.evals.evidence.selection import choose, evidence_not_best, selection_bias_corrected
from lastresort.evals.measure import JobFailure, failures, mean_score
from lastresort.records.record import ItemScore
from lastresort.records.rungs import NothingMeasured, NotTried, RacedOnDev, RaceEnd, RefusedLater, SearchFinding
from lastresort.rungs.prompting.prompts import REASONING_TOKENS
from lastresort.rungs.rung import Candidate, Search, Workbench, candidate_of
from lastresort.systems.system import System
from lastresort.types import Grammar, Judgement, Selection

FINALISTS = 2
LOOK_ITEMS = 32  # between looks; fills batches of 16 and 32, and looking more often saves 2% of the items
# The error of giving up a system that would reach the bar: small, since its test may fail it wrongly, too.
GIVE_UP_ERROR = 0.01
NOT_BEST = 0.5  # error at which a candidate is dropped as not the best; why so much: docs/simulations.md


def stretches(n: int, candidates: int, *, least: int = 24) -> list[tuple[int, int]]:
    """Consecutive stretches [start, stop) of n items, one per halving; each costs about as much as the first.

    The better half stays after every stretch, so stretches double. least: items of the first, since fewer say little.
    """
    rounds = max(1, math.ceil(math.log2(candidates))) if candidates > 1 else 1
    first = max(least, math.ceil(n / (2**rounds - 1)))
    cuts = [0]
    size = first
    while cuts[-1] < n:
        cuts.append(min(n, cuts[-1] + size))
        size *= 2
    if len(cuts) > 2 and cuts[-1] - cuts[-2] < least:
        del cuts[-2]
    return list(itertools.pairwise(cuts))


@dataclass(frozen=True, slots=True)
class RaceLook:
    """At all that was answered, after the dev items [start, stop). at_most: how many candidates go on."""

    start: int
    stop: int
    at_most: int


def looks(n: int, candidates: int, *, every: int | None = LOOK_ITEMS, least: int = 24) -> list[RaceLook]:
    """After each stretch, and after every so many items that are not near the end of one; the last after n items.

    every: None to look after each stretch only. least: as in `stretches`.
    """
    ends = [stop for _, stop in stretches(n, candidates, least=least)]
    stops = list(ends)
    if every is not None and candidates > 1:
        stops += [stop for stop in range(every, n, every) if all(abs(stop - end) >= every / 2 for end in ends)]
    schedule, n_left = list[RaceLook](), candidates
    for start, stop in itertools.pairwise([0, *sorted(stops)]):
        if stop in ends[:-1]:
            n_left = max(min(FINALISTS, n_left), math.ceil(n_left / 2))
        schedule.append(RaceLook(start, stop, n_left))
    return schedule


def survivors(scores: dict[str, float], order: Sequence[str], at_most: int) -> list[str]:
    """The best of them by score; in a tie the first in `order`, which is cheaper first."""
    ranked = sorted(scores, key=lambda name: (-scores[name], order.index(name)))
    return sorted(ranked[:at_most], key=order.index)


class Race:
    """Variants on dev, by successive halving and a paired test. A variant that its model cannot answer is dropped, with the reason.

    The race ends at a look at which the paired test leaves one, or the rule of the test finds all that are left below the bar. The
    leader with constrained decoding is still tried, on as many items. what: the variants in words, such as "ways of prompting".
    not_best: error of the paired test.
    """

    def __init__(
        self, bench: Workbench, rung: str, systems: Sequence[System], what: str, *, not_best: float = NOT_BEST
    ) -> None:
        self._bench, self._rung, self._what, self._not_best = bench, rung, what, not_best
        self.systems: dict[str, System] = {}
        self._items: dict[str, list[ItemScore]] = {}
        self._refused: dict[str, int] = {}  # how many items each had answered when its model refused others
        self._cost: dict[str, float] = {}
        self._dropped: dict[str, str] = {}
        self._alive: list[str] = []
        self._shown: set[str] = set()  # dropped by the paired test
        self._ended: RaceEnd | None = None
        self._until = len(bench.dev)  # items of dev that the finalists have answered
        for system in systems:
            self._enter(system)
        self._alive.sort(key=lambda name: self._cost[name])

    def conclude(self, grammar: Grammar | None) -> Search:
        """Of a race that was run: try the leader with constrained decoding if that may help, and choose. Raises DataError if no
        system could be measured.
        """
        self.constrain(self.choose().name, grammar)
        choice = self.choose()
        return Search(self.candidates(), self.systems[choice.name], choice, self.findings(), self.bias_corrected())

    @property
    def items(self) -> Mapping[str, Sequence[ItemScore]]:
        """What each candidate has answered so far, in the order of dev."""
        return self._items

    @property
    def shown_worse(self) -> frozenset[str]:
        """Dropped by the paired test."""
        return frozenset(self._shown)

    def run(self) -> None:
        schedule = looks(len(self._bench.dev), len(self._alive))
        for number, look in enumerate(schedule):
            self._answer(schedule[: number + 1])
            if look.stop == len(self._bench.dev) or not self._alive:
                continue
            several = len(self._alive) > 1
            self._drop_shown_worse()
            self._keep(look.at_most)
            if all(map(self._hopeless, self._alive)):
                self._keep(FINALISTS)
                self._ended = "BELOW_BAR"
            elif several and len(self._alive) == 1:
                self._ended = "ONE_LEFT"
            if self._ended is not None:
                self._until = look.stop
                return

    def _answer(self, past_looks: Sequence[RaceLook]) -> None:
        """Those that are left answer what they lack. Each refusal may bring others back, which then answer what they lack."""
        while True:
            n_refused = len(self._refused)
            for look in past_looks:
                names = [name for name in self._alive if len(self._items[name]) == look.start]
                self._measure(names, look.start, look.stop)
            if len(self._refused) == n_refused:
                return
            self._bring_back()

    def _bring_back(self) -> None:
        """After a refusal: those that the paired test no longer drops. If none is left even so, the dropped ones that answered
        most, and of these the best.
        """
        returning = self._cleared()
        if not self._alive and not returning:
            with_answers = [name for name in self._by_cost() if self._items.get(name)]
            ranked = sorted(with_answers, key=lambda name: (-len(self._items[name]), -_promise(self._items[name])))
            returning = ranked[:FINALISTS]
        self._alive += returning
        self._shown.difference_update(returning)

    def _cleared(self) -> list[str]:
        """Those that the paired test would not have dropped without the refused ones."""
        evidence = self._evidence_not_best()
        return [name for name in self._by_cost() if name in self._shown and evidence[name] < 1 / self._not_best]

    def _evidence_not_best(self) -> dict[str, float]:
        scores = {name: [item.score for item in items] for name, items in self._items.items() if items}
        return evidence_not_best(scores, groups=self._bench.dev_groups(), n_refused=len(self._refused))

    def _by_cost(self) -> list[str]:
        return sorted(self.systems, key=lambda name: self._cost[name])

    def _drop_shown_worse(self) -> None:
        """Never the one against which there is least evidence."""
        evidence = self._evidence_not_best()
        spared = min(self._alive, key=lambda name: (evidence[name], self._cost[name]))
        worse = [name for name in self._alive if name != spared and evidence[name] >= 1 / self._not_best]
        self._shown.update(worse)
        self._alive = [name for name in self._alive if name not in worse]

    def _keep(self, at_most: int) -> None:
        promise = {name: _promise(self._items[name]) for name in self._alive}
        self._alive = survivors(promise, self._by_cost(), at_most)

    def constrain(self, name: str, grammar: Grammar | None) -> None:
        """Try this system with constrained decoding, if some of its answers failed by form."""
        system = self.systems[name]
        if grammar is None or system.decoding.grammar is not None or not failures(self._items[name])["format"]:
            return
        constrained = replace(system, name=f"{name}+constrained", decoding=replace(system.decoding, grammar=grammar))
        if constrained.name in self.systems or constrained.name in self._dropped:
            return
        self.join([constrained])

    def join(self, systems: Sequence[System]) -> None:
        """Enter systems late: they answer what the finalists have answered."""
        for system in systems:
            self._enter(system)
        self._measure([system.name for system in systems if system.name in self.systems], 0, self._until)

    def choose(self) -> Selection:
        scores, nothing = self._scores(self._alive), self.nothing_left()
        if nothing is not None:
            raise DataError(
                f"none of the {nothing.candidates} can be measured: {'; '.join(nothing.errors)}",
                where=self._bench.task.path.name,
                remedy="Shorten the inputs, or take a model with a longer context.",
            )
        return choose(scores, {name: self._cost[name] for name in scores}, groups=self._bench.dev_groups())

    def chance_of_met(self) -> float:
        """How likely the test of the leader says MET, as far as dev can tell."""
        return self._bench.chance_of_met(self._rung, self._items[self.choose().name])

    def nothing_left(self) -> NothingMeasured | None:
        """Why no system could be measured, None where one could."""
        if self._scores(self._alive):
            return None
        return NothingMeasured(self._what, tuple(self._dropped.values()))

    def bias_corrected(self) -> float | None:
        """Over all that answered as much as the finalists, dropped or not."""
        scores = self._scores(self._items)
        if len(scores) < 2:
            return None
        return selection_bias_corrected(scores, self._bench.task.split.seed, groups=self._bench.dev_groups())

    def candidates(self) -> tuple[Candidate, ...]:
        order = sorted(self._items, key=lambda name: self._cost[name])
        return tuple(candidate_of(self.systems[name], self._items[name]) for name in order if self._items[name])

    def findings(self) -> tuple[SearchFinding, ...]:
        early = [name for name, items in self._items.items() if len(items) < self._until or name in self._shown]
        dropped, n_dev = len(early), len(self._bench.dev)
        n = len(self._items) + len(self._refused)
        errors = GIVE_UP_ERROR, self._not_best
        race_finding = RacedOnDev(self._what, n, dropped, len(self._shown), self._until, n_dev, self._ended, *errors)
        return race_finding, *(
            RefusedLater(name, self._refused[name], why) if name in self._refused else NotTried(name, why)
            for name, why in self._dropped.items()
        )

    def _scores(self, names: Iterable[str]) -> dict[str, list[float]]:
        """Of those that answered as much as the finalists."""
        complete = [name for name in names if len(self._items[name]) == self._until]
        return {name: [item.score for item in self._items[name]] for name in complete}

    def _hopeless(self, name: str) -> bool:
        """Whether its answers show that it is below the bar."""
        judgement = judge_on_dev(self._bench, self._rung, self._items[name])
        return judgement is not None and judgement.outcome == "NOT_MET"

    def _enter(self, system: System) -> None:
        try:
            self._bench.models.check(system)
            self._bench.check_room(system)
            self._cost[system.name] = _call_cost(self._bench, system)
        except CandidateError as error:
            self._dropped[system.name] = str(error)
            return
        self.systems[system.name], self._items[system.name] = system, []
        self._alive.append(system.name)
        self._bench.keep(self._rung, system)

    def _measure(self, names: Sequence[str], start: int, stop: int) -> None:
        systems = [self.systems[name] for name in names]
        results = self._bench.dev_results(self._rung, systems, start, stop, staged=True)
        for name in list(names):
            result = results[name]
            if isinstance(result, JobFailure):
                self._dropped[name] = str(result.error())
                self._alive.remove(name)
                if n_answered := len(self._items.pop(name)):
                    self._refused[name] = n_answered
            else:
                self._items[name] += result


def _call_cost(bench: Workbench, system: System) -> float:
    """Relative cost of a call: prompt tokens plus answer tokens at four times their price, or at the task's prices."""
    use = bench.task.use
    prices = (use.prompt_price or 0.0, use.output_price or 0.0)
    prompt_price, output_price = prices if any(prices) else (1.0, 4.0)
    answerer = bench.answerer(system)
    sample = [example.input for example in bench.dev[:8]]
    thinking = REASONING_TOKENS if system.prompt.reasoning else 0
    constrained = 0.001 if system.decoding.grammar is not None else 0.0  # of two equal prompts the plain one is simpler
    return prompt_price * answerer.prompt_tokens(sample) + output_price * thinking + constrained


def _promise(items: Sequence[ItemScore]) -> float:
    """Score for staying in the race. In a tie, as at zero on a hard task, more well-formed answers win."""
    well_formed = [item.format_ok is not False for item in items]
    return mean_score(items) + 1e-6 * sum(well_formed) / max(1, len(well_formed))


def judge_on_dev(bench: Workbench, rung: str, items: Sequence[ItemScore]) -> Judgement | None:
    """The rule of the test on the first items of dev; None while they do not decide, never None on all of dev.

    If rows belong to groups, only the whole of dev decides, since half a group proves nothing.
    """
    return judge_scores_on_dev(bench, rung, [item.score for item in items])


def judge_scores_on_dev(
    bench: Workbench, rung: str, scores: Sequence[float], n_available: int | None = None
) -> Judgement | None:
    """As `judge_on_dev`, by the scores alone. n_available: items that are asked at most, all of dev by default; of groups all."""
    groups = bench.dev_groups()
    if groups is not None and len(scores) < len(groups):
        return None
    order = range(len(scores)) if groups is None else sorted(range(len(scores)), key=lambda i: groups.index(groups[i]))
    return judge_bar(
        [scores[i] for i in order],
        bar=bench.missed_below,
        alpha=bench.alpha_of_rung(rung),
        beta=GIVE_UP_ERROR,
        binary=bench.scorer.binary,
        n_available=(n_available or len(bench.dev)) if groups is None else len(set(groups)),
        groups=None if groups is None else [groups[i] for i in order],
    )
