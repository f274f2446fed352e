"""More solved examples in the prompt, where five of them helped: 8, 16, 32 and 64, while every step helps.

The fixed ones are a prefix that all prompts share, which a local model computes once and many endpoints sell for less. The nearest
ones share nothing: each prompt is read whole, k times a row for every answer. So the nearest are taken only where they are ahead.

Source: Agarwal et al. 2024 (arXiv 2404.11018).
"""

from __future__ import annotations

from lastresort.evals.evidence.selection import PREDICTED
from lastresort.records.rungs import MoreShotsTried, ShotsEnd
from lastresort.rungs.prompting.prompts import shots_of, with_shots
from lastresort.rungs.race import Race
from lastresort.rungs.rung import Workbench
from lastresort.systems.system import System

FIVE = 5
MORE = (8, 16, 32, 64)
_TIE = 1e-9


def try_more_shots(bench: Workbench, race: Race) -> MoreShotsTried | None:
    """Enter prompts with more examples into a race that was run, one after the other; None where none was tried.

    The first enters if a prompt with five is ahead of every prompt without examples and none with fewer is ahead of it; each other
    one if the one before was ahead of its predecessor. Ahead is by more than one item, on the items that both answered, as in the
    choice of the race. None enters where the leader is likely to meet the bar, where train has too few rows, or where a prompt
    leaves no room for an answer.
    """
    five = None if race.nothing_left() is not None else _five_that_helped(race)
    if five is None:
        return None
    pool = shots_of(bench.train, bench.task.split.seed)
    previous, tried_names = five, list[str]()
    end: ShotsEnd | None = None
    for k in MORE:
        system = with_shots(previous, k, pool)
        end = _enter(race, system, previous, len(pool))
        if system.name in race.items:
            tried_names.append(system.name)
        if end is not None:
            break
        previous = system
    return MoreShotsTried(five.name, tuple(tried_names), end or "MOST") if tried_names else None


def _enter(race: Race, system: System, previous: System, n_train: int) -> ShotsEnd | None:
    """Enter a system where it may. Why no larger one follows, None where one does."""
    prompt = system.prompt
    if race.chance_of_met() >= PREDICTED:
        return "LIKELY_MET"
    if n_train < prompt.k + (prompt.selection == "nearest"):  # of all rows none is nearest
        return "FEW_ROWS"
    race.join([system])
    if system.name not in race.items:
        return "NO_ROOM"
    return None if _ahead(race, system, previous) else "NOT_AHEAD"


def _five_that_helped(race: Race) -> System | None:
    """Of two the fixed ones, unless the nearest are ahead: they cost more (see above)."""
    systems = [race.systems[name] for name in race.items]
    zero_shot = [system for system in systems if not system.prompt.k]
    fewer = [system for system in systems if 0 < system.prompt.k < FIVE]
    helpful = {
        five.prompt.selection: five
        for five in systems
        if five.prompt.k == FIVE
        and all(_ahead(race, five, other) for other in zero_shot)
        and not any(_ahead(race, other, five) for other in fewer)
    }
    fixed, nearest = helpful.get("fixed"), helpful.get("nearest")
    if fixed is None or nearest is None:
        return fixed or nearest
    return nearest if _ahead(race, nearest, fixed) else fixed


def _ahead(race: Race, one: System, other: System) -> bool:
    """By more than one item, on those that both answered: one of two may have been dropped early."""
    pairs = zip(race.items[one.name], race.items[other.name], strict=False)
    return sum(mine.score - theirs.score for mine, theirs in pairs) > 1 + _TIE
