"""With unequal shares, handed on after a MET, a climb ends wrongly MET no more often than promised.

The program's own functions say which rung comes next (`climb.decide.next_rung`) and at which error it is tested
(`ErrorShared.alpha_of_rung`, `alpha_of_repair`). A climb errs where any test wrongly says MET, also one that another then replaces.
Allowed is not the whole error, only what the tests of the systems that do not exceed the bar use of their shares, and of what good
ones hand on to them.
"""

from __future__ import annotations

from functools import cache, partial

import numpy as np
import numpy.typing as npt
import pytest

from bar_table import items_of, scored_item, task_for, without_items_needed
from lastresort.climb.bar_test import Answered, BarRule, judge_parts
from lastresort.climb.shares import error_shares
from lastresort.evals.evidence.bar import usable_share
from lastresort.ladder import RUNGS
from lastresort.records.events.run import ErrorShared
from lastresort.spec.task import Task
from lastresort.types import Judgement
from page_tables import allowed
from simulated_climb import Cell, tried_rungs
from simulated_ladder import ALPHA, Ladder, ladder_of, met_at

CLIMBS = 4_000
Rights = dict[str, npt.NDArray[np.bool_]]


@cache
def judged(cell: Cell, alpha: float) -> list[list[Judgement]]:
    """Of each system of the cell in every climb. The same scores, whatever the error."""
    tried = tried_rungs(cell, CLIMBS, 0, [alpha] * len(cell.rates))
    return [found.judgements for found in tried if found is not None]


def wrongly_met(ladder: Ladder, cell: Cell) -> int:
    places = list(ladder.rates)
    wrong = 0
    for climb in range(CLIMBS):
        said = ladder.tested(lambda test, alpha, climb=climb: judged(cell, alpha)[places.index(test)][climb])
        wrong += ladder.wrong(said)
    return wrong


AT, GOOD, N = 0.8, 0.97, 150
RATES = [
    (AT, AT, AT),
    (AT, GOOD, AT),
    (0.5, AT, AT),
    (0.5, GOOD, AT),
    (GOOD, AT, AT),
    (GOOD, GOOD, AT),
    (0.79, 0.79, AT),
]


@pytest.mark.sampled_slow(6)
@pytest.mark.sampled(9)
@pytest.mark.parametrize("shared", [0.0, 1.0])
@pytest.mark.parametrize("goal_cost", [False, True])
@pytest.mark.parametrize("rates", RATES, ids=str)
def test_a_climb_with_a_repair_errs_no_more_than_the_tests_of_its_bad_systems(
    rates: tuple[float, ...], goal_cost: bool, shared: float
) -> None:
    ladder = ladder_of(dict(zip(("prompting", "sft", "sft repair"), rates, strict=True)), N, goal_cost=goal_cost)
    wrong = wrongly_met(ladder, Cell(rates, bar=AT, n=N, shared=shared))
    assert wrong <= CLIMBS * allowed(ladder.most_wrong(N), CLIMBS)


def test_what_is_allowed_is_less_than_what_the_bad_systems_hold() -> None:
    names = ("prompting", "sft", "sft repair")
    shares = ladder_of(dict.fromkeys(names, AT), N).shared.shares
    assert shares is not None
    prompting, sft, repair = (shares[name] for name in names)

    def ladder(*rates: float, goal_cost: bool = False) -> Ladder:
        return ladder_of(dict(zip(names, rates, strict=True)), N, goal_cost=goal_cost)

    assert [ladder(AT, AT, AT).error_of(name) for name in names] == [prompting, sft, repair]
    assert ladder(GOOD, AT, AT).error_of("sft") == sft
    assert ladder(GOOD, AT, AT, goal_cost=True).error_of("sft") == max(prompting, sft)
    assert ladder(GOOD, GOOD, AT).error_of("sft repair") == sft + repair
    assert ladder(GOOD, GOOD, AT, goal_cost=True).error_of("sft repair") == max(prompting, sft) + repair
    assert 0.5 * ALPHA < ladder(AT, AT, AT).most_wrong(N) < 0.9 * ALPHA
    assert ladder(GOOD, GOOD, AT).most_wrong(N) < 0.9 * (sft + repair)
    assert ladder(GOOD, AT, GOOD).most_wrong(N) < 0.9 * sft


@pytest.mark.sampled(2)
@pytest.mark.parametrize("broken", ["alpha_of_rung", "alpha_of_repair"])
def test_the_simulation_sees_what_was_never_there_to_be_handed_on(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Good prompts and tuned models hand on what they do not need. One and a half times the error of the climb is seen."""
    rates = (GOOD, GOOD, AT) if broken == "alpha_of_repair" else (GOOD, AT, AT)
    ladder = ladder_of(dict(zip(("prompting", "sft", "sft repair"), rates, strict=True)), N, goal_cost=True)
    cell = Cell(rates, bar=AT, n=N)
    kept = wrongly_met(ladder, cell)
    right = getattr(ErrorShared, broken)

    def too_much(shared: ErrorShared, rung: str, met: list[str], error: float) -> float:
        found: float = right(shared, rung, met, error)
        return 0.15 if met else found

    monkeypatch.setattr(ErrorShared, broken, too_much)
    assert 0 < kept <= CLIMBS * allowed(ladder.most_wrong(N), CLIMBS) < wrongly_met(ladder, cell)


@pytest.mark.parametrize(
    ("n", "bar"),
    [(100, 0.95), *(pytest.param(*one, marks=pytest.mark.slow) for one in ((100, 0.6), (300, 0.6), (300, 0.95)))],
)
def test_rungs_at_the_bar_are_wrongly_met_as_rarely_as_their_shares_say(n: int, bar: float) -> None:
    """Each by itself, and in a climb of five rungs with hard items of their own."""
    shares = error_shares(list(RUNGS), ALPHA, partial(usable_share, n=n, bar=bar))
    alphas = [shares[rung] for rung in RUNGS]
    cell = Cell((bar,) * len(RUNGS), bar=bar, n=n, shared=0.0)
    tested = [rung.judgements for rung in tried_rungs(cell, CLIMBS, 0, alphas) if rung is not None]
    met = np.array([[judgement.outcome == "MET" for judgement in rung] for rung in tested])
    used = [met_at(bar, n, alpha, bar) for alpha in alphas]
    for rung, alpha, often in zip(met, alphas, used, strict=True):
        assert 0.5 * alpha < often <= alpha
        assert rung.sum() <= CLIMBS * allowed(often, CLIMBS)
    assert met.any(axis=0).sum() <= CLIMBS * allowed(sum(used), CLIMBS)


PARTS, GOING_ON = (60, 40, 40), 400


@pytest.mark.parametrize(
    ("alike", "climbs"), [(0.0, 60), *(pytest.param(one, GOING_ON, marks=pytest.mark.slow) for one in (0.0, 1.0))]
)
@without_items_needed()
def test_a_rung_whose_error_grows_while_its_test_goes_on_has_the_larger_share_and_never_the_sum(
    alike: float, climbs: int
) -> None:
    """With `goal: cost`: fresh items come as long as a test is undecided. Where the prompt meets the bar with them, the tuned
    model, which is at the bar and was tested before, goes on at another error.

    This checks the bookkeeping. The rate could not show a wrong rule: exactly computed, the tuned model alone is wrongly MET with
    5.2% at .06, and with 6.8% even at the sum, of 8% that are promised. That the rule holds is proven in `climb.shares`, and the
    rates of a test that goes on are in test_outlook_rates.py.
    """
    shares = {"prompting": 0.06, "sft": 0.02}
    ladder = Ladder({"prompting": 0.84, "sft": AT}, ErrorShared(r=2, shares=shares), AT, goal_cost=True)
    task, generator, errors = task_for(2, AT, 1 - ALPHA), np.random.default_rng(53), dict[int, set[float]]()
    wrong = 0
    for climb in range(climbs):
        luck, other = generator.random((2, sum(PARTS)))
        own = np.where(generator.random(sum(PARTS)) < alike, luck, other)
        right, said = {"prompting": luck < 0.84, "sft": own < AT}, dict[str, Judgement]()

        def judge(
            rung: str, alpha: float, known: int, climb: int, right: Rights, said: dict[str, Judgement]
        ) -> Judgement:
            if rung in said and said[rung].outcome != "UNDECIDED":
                return said[rung]
            if rung == "sft":
                errors.setdefault(climb, set()).add(alpha)
            return judgement_on(task, right[rung], known, alpha)

        for known in range(1, len(PARTS) + 1):
            said = {**said, **ladder.tested(partial(judge, known=known, climb=climb, right=right, said=said))}
            if all(found.outcome != "UNDECIDED" for found in said.values()):
                break
        wrong += ladder.wrong(said)
    assert wrong <= climbs * allowed(sum(shares.values()), climbs)
    assert sum(used == {0.02, 0.06} for used in errors.values()) >= max(1, climbs // 130), wrong
    assert all(used <= {0.02, 0.06} for used in errors.values())


def judgement_on(task: Task, right: npt.NDArray[np.bool_], known: int, alpha: float) -> Judgement:
    """As `run_test` goes from part to part."""
    parts: list[Answered] = []
    starts = np.cumsum((0, *PARTS))
    for start, size in zip(starts[:known].tolist(), PARTS, strict=False):
        items = [scored_item(float(one)) for one in right[start : start + size]]
        parts.append(Answered(items, items_of(size)))
        found = judge_parts(BarRule(task.bar, True, alpha), parts)
        assert found is not None
        if found.outcome != "UNDECIDED":
            return found
    return found
