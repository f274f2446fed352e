"""How a race on dev should drop candidates: rules for it, simulated. docs/simulations.md shows what this prints.

    python -m scripts.races choice           items and lost score of each rule, of 600 races a cell
    python -m scripts.races choice 1000 2    the same of 1,000 races of two candidates
    python -m scripts.races error            how often a test drops the best of candidates that are almost equal
    python -m scripts.races refused          how often a race drops the best of those left, once a model refused a candidate

No model runs. An answer is right where the luck of its item, equal for all candidates on part of the items, lies below the
candidate's true score. Every item costs the same. The last choice is the best score, and within one item the candidate that comes
first; that a cheaper one may replace it if shown non-inferior at .02 is left out.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt

from lastresort.errors import CandidateError
from lastresort.evals.evidence.sequential import STAKES
from lastresort.evals.measure import JobFailure
from lastresort.rungs.race import LOOK_ITEMS, NOT_BEST, Race, looks

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

CANDIDATES, SIZES, TOPS, ALIKE = (4, 6, 8), (50, 100, 200, 300), (0.9, 0.7, 0.4), (0.5, 0.8)
RACES, SEED = 600, 31
TAKEN = f"halving and test at {NOT_BEST:.0%}, every {LOOK_ITEMS} items"


@dataclass(frozen=True, slots=True)
class Dropping:
    """A rule. halves: whether only the better half stays after each stretch. error: at which a candidate is shown not to be the
    best, None without a test. every: items between looks, None to look after each stretch. least: items of the first stretch.
    exact: McNemar's test, its error shared by looks and rivals, in place of bets.
    """

    halves: bool = False
    error: float | None = None
    every: int | None = None
    least: int = 24
    exact: bool = False


RULES = {
    "no dropping": Dropping(),
    "halving": Dropping(halves=True),
    "halving, first stretch of 48": Dropping(halves=True, least=48),
    "test at 5%, after each stretch": Dropping(error=0.05),
    **{f"test at {error:.0%}, every 24 items": Dropping(error=error, every=24) for error in (0.05, 0.2, 0.5, 1, 2)},
    "exact test at 5%, after each stretch": Dropping(error=0.05, exact=True),
    "exact test at 50%, after each stretch": Dropping(error=0.5, exact=True),
    "halving and test at 5%, after each stretch": Dropping(halves=True, error=0.05),
    **{
        f"halving and test at {error:.0%}, every 24 items": Dropping(halves=True, error=error, every=24)
        for error in (0.05, 0.2, 0.5, 1)
    },
    TAKEN: Dropping(halves=True, error=NOT_BEST, every=LOOK_ITEMS),
    "halving and test at 50%, every 48 items": Dropping(halves=True, error=0.5, every=48),
}


@dataclass(frozen=True, slots=True)
class Raced:
    """Of each race. items: asked, as a share of all candidates on all of dev. loss: true score of the best less that of the chosen.
    dropped: whether the best, or the last of equally good ones, was dropped by the test. left: whether it was dropped at all.
    """

    items: Floats
    loss: Floats
    dropped: Bools
    left: Bools


def not_best(wins: Floats, losses: Floats) -> Floats:
    """Evidence that each candidate is not the best, from the items that only a rival, or only the candidate, had right; shape
    (races, rivals, candidates) to (races, candidates): the mean over rivals of the bets of `sequential.log_evidence`.
    """
    return np.asarray(bets(wins, losses).sum(axis=1) / (wins.shape[1] - 1))


def bets(wins: Floats, losses: Floats) -> Floats:
    """What the bet on each rival of each candidate has become; 0 for a candidate on itself."""
    stakes = [wins * math.log1p(stake) + losses * math.log1p(-stake) for stake in STAKES]
    evidence = np.exp(np.logaddexp.reduce(stakes, axis=0)) / len(STAKES)
    k = wins.shape[1]
    evidence[:, np.arange(k), np.arange(k)] = 0.0
    return np.asarray(evidence)


def exactly_worse(wins: Floats, losses: Floats, error: float) -> Bools:
    from scipy.stats import binom

    differing = wins + losses
    p = np.where(wins > 0, binom.sf(wins - 1, differing, 0.5), 1.0)
    return np.asarray((p <= error / (wins.shape[1] - 1)).any(axis=1))


def raced(right: Bools, rates: Floats, rule: Dropping) -> Raced:
    """right: shape (races, candidates, items). rates: true scores, shape (races, candidates)."""
    races, k, n = right.shape
    schedule = looks(n, k, every=rule.every, least=rule.least)
    alive, going = np.ones((races, k), dtype=np.bool_), np.ones(races, dtype=np.bool_)
    asked, totals = np.zeros(races), np.zeros((races, k))
    wins, losses = np.zeros((races, k, k)), np.zeros((races, k, k))
    by_test = np.zeros((races, k), dtype=np.bool_)
    for look in schedule:
        part = right[:, :, look.start : look.stop].astype(np.float64)
        answering = alive & going[:, None]
        asked += answering.sum(axis=1) * (look.stop - look.start)
        totals += np.where(answering, part.sum(axis=2), 0.0)
        pairs = answering[:, :, None] & answering[:, None, :]
        wins += pairs * np.einsum("rji,rci->rjc", part, 1 - part)
        losses += pairs * np.einsum("rji,rci->rjc", 1 - part, part)
        if look.stop == n:
            break
        if rule.error is not None:
            against = not_best(wins, losses)
            shown = against >= 1 / rule.error
            if rule.exact:
                shown = exactly_worse(wins, losses, rule.error / (len(schedule) - 1))
            least = np.where(alive, against, np.inf).argmin(axis=1)
            dropped = shown & answering
            dropped[np.arange(races), least] = False
            by_test |= dropped
            alive &= ~dropped
        if rule.halves:
            ranked = np.where(alive, totals, -1.0) - np.arange(k) * 1e-6
            places = (-ranked).argsort(axis=1).argsort(axis=1)
            alive &= np.where(going[:, None], places < look.at_most, True)
        going &= alive.sum(axis=1) > 1
    leaders = np.where(alive, totals, -1.0)
    level = leaders >= leaders.max(axis=1, keepdims=True) - 1
    chosen = level.argmax(axis=1)
    best = rates.max(axis=1)
    good = rates >= best[:, None] - 1e-9
    return Raced(
        asked / (k * n),
        best - rates[np.arange(races), chosen],
        ~(good & ~by_test).any(axis=1),
        ~(good & alive).any(axis=1),
    )


def profiles(k: int) -> Iterator[tuple[str, Floats]]:
    """How far each candidate lies below the best."""
    yield "all equal", np.zeros(k)
    for ahead in (0.05, 0.1, 0.2):
        yield f"one {100 * ahead:.0f} ahead", np.array([0.0, *[ahead] * (k - 1)])
        yield f"two {100 * ahead:.0f} ahead", np.array([0.0, 0.0, *[ahead] * (k - 2)])
    for most in (0.1, 0.2):
        yield f"evenly over {100 * most:.0f}", np.linspace(0, most, k)


def races_of(
    k: int, n: int, top: float, alike: float, below: Floats, races: int, seed: Sequence[int]
) -> tuple[Bools, Floats]:
    """Answers and true scores; which candidate is the best is drawn."""
    generator = np.random.default_rng([SEED, *seed])
    rates = generator.permuted(np.tile(top - below, (races, 1)), axis=1)
    shared = generator.random((races, 1, n)) < alike
    luck = np.where(shared, generator.random((races, 1, n)), generator.random((races, k, n)))
    return luck < rates[:, :, None], rates


Cell = tuple[int, int, str]


def simulated(races: int, numbers: Sequence[int]) -> dict[Cell, dict[str, Floats]]:
    """By candidates, items of dev and profile, and by rule: items, loss, dropped and left, means over top scores and likeness."""
    found: dict[Cell, dict[str, list[Floats]]] = {}
    for k, n, top, alike in product(numbers, SIZES, TOPS, ALIKE):
        for number, (name, below) in enumerate(profiles(k)):
            right, rates = races_of(k, n, top, alike, below, races, (k, n, round(100 * top), round(10 * alike), number))
            place = found.setdefault((k, n, name), {})
            for rule_name, rule in RULES.items():
                one = raced(right, rates, rule)
                means = [one.items.mean(), one.loss.mean(), one.dropped.mean(), one.left.mean()]
                place.setdefault(rule_name, []).append(np.array(means))
    return {cell: {name: np.mean(values, axis=0) for name, values in place.items()} for cell, place in found.items()}


def choice(races: int = RACES, *numbers: int) -> None:
    cells = simulated(races, numbers or CANDIDATES)
    halving = {cell: found["halving"] for cell, found in cells.items()}
    print(
        "rule | items | points lost | more than by halving, worst cell | best dropped | by the test, worst cell | by size of dev"
    )
    for name in RULES:
        items, loss, _, left = np.mean([found[name] for found in cells.values()], axis=0)
        worst = max(found[name][1] - halving[cell][1] for cell, found in cells.items())
        tested = max(found[name][2] for found in cells.values())
        by_size = []
        for n in SIZES:
            of_size = np.mean([found[name] for (_, size, _), found in cells.items() if size == n], axis=0)
            by_size.append(f"{100 * of_size[0]:.0f}% {100 * of_size[1]:.2f}")
        print(
            f"| {name} | {100 * items:.1f}% | {100 * loss:.2f} | {100 * worst:.2f} | {100 * left:.1f}% | {100 * tested:.1f}% | "
            f"{' | '.join(by_size)} |"
        )
    print("\nby profile: items, points lost")
    for profile in dict.fromkeys(name for *_, name in cells):
        print(profile)
        for name in RULES:
            of_profile = np.mean([found[name] for (*_, one), found in cells.items() if one == profile], axis=0)
            print(
                f"    {name}: {100 * of_profile[0]:.0f}%, {100 * of_profile[1]:.2f}, best dropped {100 * of_profile[3]:.1f}%"
            )


def error(races: int = 4_000) -> None:
    print(
        "percent of races in which the test drops the best, ahead by a hair: the worst over sizes, top scores and likeness"
    )
    for k in (2, 3, *CANDIDATES):
        worst = dict.fromkeys((name for name, rule in RULES.items() if rule.error is not None), 0.0)
        for n, top, alike in product(SIZES, TOPS, (0.0, *ALIKE)):
            below = np.array([0.0, *[1e-6] * (k - 1)])
            right, rates = races_of(k, n, top, alike, below, races, (k, n, round(100 * top), round(10 * alike), 99))
            for name in worst:
                worst[name] = max(worst[name], float(raced(right, rates, RULES[name]).dropped.mean()))
        print(k, {name: f"{100 * value:.2f}" for name, value in worst.items()})


DEV = 128


@dataclass(frozen=True, slots=True)
class Refusal:
    """True scores of candidates whose model refuses items after a look, and of those that are left, the best one first."""

    refused: tuple[float, ...]
    left: tuple[float, ...]


REFUSED = {
    "one, as good as the others": Refusal((0.7,), (0.7, 0.7)),
    "one, 40 points behind": Refusal((0.3,), (0.7, 0.7)),
    "one 20 ahead, then one 5 behind": Refusal((0.7,), (0.5, 0.45)),
    "one 20 ahead, then two 5 and 10 behind": Refusal((0.7,), (0.5, 0.45, 0.4)),
    "one 20 ahead, then six 10 behind": Refusal((0.8,), (0.6, *[0.5] * 6)),
    "two 40 ahead, then five 5 behind": Refusal((0.9, 0.9), (0.5, *[0.45] * 5)),
    "two 60 ahead of eight alike": Refusal((0.95, 0.95), (0.35,) * 8),
}


class Refusing:
    """In place of a climb's bench: candidates "0", "1", … answer as a table says, until models refuse."""

    dev: Sequence[SimpleNamespace] = [SimpleNamespace(input="")] * DEV
    models = SimpleNamespace(check=lambda system: None)
    task = SimpleNamespace(use=SimpleNamespace(prompt_price=None, output_price=None))

    def __init__(self, right: Bools, refused: int, answers: int) -> None:
        """right: shape (candidates, items). refused: how many candidates are, the first ones, after so many answers."""
        self._right, self._refused, self._answers = right, refused, answers

    def check_room(self, system: Any) -> None: ...
    def keep(self, rung: str, system: Any) -> None: ...
    def dev_groups(self) -> None: ...

    def answerer(self, system: Any) -> SimpleNamespace:
        return SimpleNamespace(prompt_tokens=lambda inputs: 1 + int(system.name))

    def dev_results(
        self, rung: str, systems: Sequence[Any], start: int, stop: int, *, staged: bool
    ) -> dict[str, list[SimpleNamespace] | JobFailure]:
        found: dict[str, list[SimpleNamespace] | JobFailure] = {}
        for one in systems:
            if int(one.name) < self._refused and stop > self._answers:
                found[one.name] = JobFailure.of(CandidateError("the input is too long"))
            else:
                scores = self._right[int(one.name), start:stop]
                found[one.name] = [SimpleNamespace(score=float(score), format_ok=True) for score in scores]
        return found


class WithoutBar(Race):
    """The race as it is, except that no bar ends it."""

    def _hopeless(self, name: str) -> bool:
        return False


class StayingOut(WithoutBar):
    """The rule that was given up: whom the refused ones dropped comes back only where none is left."""

    def _cleared(self) -> list[str]:
        return []


def after_refusal(kind: type[Race], refusal: Refusal, look: int, races: int, seed: int = 0) -> tuple[float, float]:
    """Models refuse after this look. In which share of races one does and the test has dropped the best of those that are left, and
    how many points of true score the choice loses to that, a mean over the races in which one refuses.
    """
    generator, rates = np.random.default_rng([SEED, seed]), np.array((*refusal.refused, *refusal.left))
    k, first, dropped, lost = len(rates), len(refusal.refused), 0, list[float]()
    plain = {"prompt": SimpleNamespace(reasoning=False), "decoding": SimpleNamespace(grammar=None)}
    systems: Any = [SimpleNamespace(name=str(number), **plain) for number in range(k)]
    for _ in range(races):
        shared = generator.random(DEV) < 0.5
        luck = np.where(shared, generator.random(DEV), generator.random((k, DEV)))
        bench: Any = Refusing(luck < rates[:, None], first, looks(DEV, k)[look - 1].stop)
        race = kind(bench, "prompting", systems, "prompts")
        race.run()
        if all(str(number) in race.items for number in range(first)):
            continue
        dropped += str(first) in race.shown_worse
        lost.append(refusal.left[0] - rates[int(race.choose().name)])
    return dropped / races, 100 * float(np.mean(lost)) if lost else 0.0


def refused(races: int = 200) -> None:
    print(
        "refused | after look | the test drops the best of those left, points lost: stays out | comes back; "
        f"{NOT_BEST:.0%} promised"
    )
    for name, refusal in REFUSED.items():
        for look in (1, 3):
            cells = [after_refusal(kind, refusal, look, races) for kind in (StayingOut, WithoutBar)]
            print(
                f"| {name} | {look} | " + " | ".join(f"{share:.1%}, {lost:.2f}" for share, lost in cells) + " |",
                flush=True,
            )


if __name__ == "__main__":
    {"choice": choice, "error": error, "refused": refused}[sys.argv[1]](*map(int, sys.argv[2:]))
