"""When a race on dev looks, how many go on, and what is evidence against a candidate."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from lastresort.errors import CandidateError
from lastresort.evals.evidence.selection import evidence_not_best
from lastresort.evals.measure import JobFailure
from lastresort.records.rungs import RacedOnDev, RefusedLater
from lastresort.rungs.race import Race, looks, stretches, survivors


@pytest.mark.parametrize(("n", "candidates"), [(100, 10), (100, 1), (30, 10), (24, 5), (700, 8), (5, 4), (101, 3)])
def test_stretches_cover_every_item_once(n: int, candidates: int) -> None:
    found = stretches(n, candidates)
    assert [i for start, stop in found for i in range(start, stop)] == list(range(n))
    assert all(stop - start >= min(24, n) for start, stop in found)


def test_one_candidate_runs_straight_through() -> None:
    assert stretches(100, 1) == [(0, 100)]


def test_looks_halve_at_the_end_of_each_stretch_and_nowhere_else() -> None:
    found = [(look.start, look.stop, look.at_most) for look in looks(200, 8)]
    assert stretches(200, 8) == [(0, 29), (29, 87), (87, 200)]
    assert found == [
        (0, 29, 4), (29, 64, 4), (64, 87, 2), (87, 128, 2), (128, 160, 2), (160, 200, 2)
    ]  # fmt: skip
    assert [(look.start, look.stop) for look in looks(200, 8, every=None)] == stretches(200, 8)


@pytest.mark.parametrize("candidates", [1, 2, 3, 8])
@pytest.mark.parametrize("n", [5, 24, 48, 60, 300])
def test_looks_cover_every_item_once_and_leave_two(n: int, candidates: int) -> None:
    found = looks(n, candidates)
    assert [i for look in found for i in range(look.start, look.stop)] == list(range(n))
    assert found[-1].at_most >= min(2, candidates)
    assert all(look.stop - look.start >= min(16, n) for look in found)


def test_survivors_are_the_best_and_of_equals_the_cheaper() -> None:
    scores = {"a": 0.5, "b": 0.9, "c": 0.5, "d": 0.1}
    assert survivors(scores, ["a", "b", "c", "d"], 2) == ["a", "b"]
    assert survivors(scores, ["c", "b", "a", "d"], 2) == ["c", "b"]
    assert survivors({"a": 0.1}, ["a"], 2) == ["a"]


def test_evidence_against_a_candidate_is_the_mean_over_its_rivals() -> None:
    """A rival that alone is right on one item multiplies a bet of stake l by 1 + l, one that alone is wrong by 1 - l.

    The stakes .05, .1, .2, .4, .7 and .98 add up to 2.43: the bet on the rival of one item is 1 + 2.43/6 = 1.405, against it .595.
    """
    found = evidence_not_best({"a": [1, 1], "b": [0, 1], "c": [1, 1]})
    assert found == pytest.approx({"a": (0.595 + 1) / 2, "b": 1.405, "c": (0.595 + 1) / 2})
    assert evidence_not_best({"a": [1, 0]}) == {"a": 0}


def test_a_dropped_candidate_bears_witness_by_what_it_answered() -> None:
    whole = {"a": [0.0, 1.0, 0.0], "b": [1.0, 1.0, 1.0]}
    cut = {"a": whole["a"], "b": whole["b"][:1]}
    assert evidence_not_best(cut)["a"] == pytest.approx(1.405)
    assert evidence_not_best(whole)["a"] > 1.405


def test_of_a_group_the_first_item_counts() -> None:
    scores = {"a": [0.0, 0.0, 0.0], "b": [1.0, 1.0, 1.0]}
    alone = evidence_not_best({"a": [0.0, 0.0], "b": [1.0, 1.0]})
    assert evidence_not_best(scores, groups=["x", "x", "y"]) == pytest.approx(alone)


def test_bets_on_a_rival_that_is_gone_count_as_lost() -> None:
    scores = {"a": [0.0] * 20, "b": [1.0] * 20}
    alone, later = evidence_not_best(scores), evidence_not_best(scores, n_refused=3)
    assert later == {name: pytest.approx(found / 4) for name, found in alone.items()}


class Dev:
    """A bench whose systems answer 96 items, until their model refuses. scores: of each; refused: from which item on."""

    dev = range(96)
    models = SimpleNamespace(check=lambda system: None)

    def __init__(self, scores: dict[str, list[float]], refused: dict[str, int]) -> None:
        self._scores, self._refused = scores, refused
        self.answered: list[tuple[str, int, int]] = []

    def check_room(self, system: Any) -> None: ...
    def keep(self, rung: str, system: Any) -> None: ...
    def dev_groups(self) -> None: ...

    def dev_results(self, rung: str, systems: Any, start: int, stop: int, *, staged: bool) -> dict[str, Any]:
        self.answered += [(one.name, start, stop) for one in systems]
        return {
            one.name: JobFailure.of(CandidateError("too long"))
            if stop > self._refused.get(one.name, 96)
            else [SimpleNamespace(score=score, format_ok=True) for score in self._scores[one.name][start:stop]]
            for one in systems
        }


def race_of(monkeypatch: pytest.MonkeyPatch, scores: dict[str, list[float]], refused: dict[str, int]) -> Race:
    monkeypatch.setattr("lastresort.rungs.race._call_cost", lambda bench, system: 1.0)
    monkeypatch.setattr(Race, "_hopeless", lambda race, name: False)
    bench: Any = Dev(scores, refused)
    systems: Any = [SimpleNamespace(name=name) for name in scores]
    return Race(bench, "prompting", systems, "prompts")


def evenly(**shares: float) -> dict[str, list[float]]:
    return {name: [float(i % 10 < 10 * share) for i in range(96)] for name, share in shares.items()}


# By the first 32 items "last" is shown not to be the best, by its bet on "first" alone; then it is right on every item.
BEHIND_AT_FIRST = {
    "first": [1.0] * 96,
    "second": [0.0] * 3 + [1.0] * 61 + [0.0, 1.0] * 16,
    "last": [0.0] * 4 + [1.0] * 92,
}


@pytest.mark.parametrize("refused_after", [32, 64])
def test_a_refusal_brings_back_whom_only_the_refused_one_had_dropped(
    monkeypatch: pytest.MonkeyPatch, refused_after: int
) -> None:
    race = race_of(monkeypatch, BEHIND_AT_FIRST, {})
    race.run()
    assert len(race.items["last"]) == 32, "dropped at the first look"
    race = race_of(monkeypatch, BEHIND_AT_FIRST, {"first": refused_after})
    race.run()
    assert {name: len(items) for name, items in race.items.items()} == {"second": 96, "last": 96}
    assert race.choose().name == "last"


def test_a_candidate_that_comes_back_answers_what_it_lacks_in_the_stretches_of_the_looks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """So a resumed race, in which the model may refuse less, finds them in its record."""
    race = race_of(monkeypatch, BEHIND_AT_FIRST, {"first": 64})
    race.run()
    bench: Any = race._bench
    assert [(start, stop) for name, start, stop in bench.answered if name == "last"] == [(0, 32), (32, 64), (64, 96)]


def test_whom_others_have_dropped_too_stays_dropped_after_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = {**BEHIND_AT_FIRST, "last": [0.0] * 32 + [1.0] * 64}
    race = race_of(monkeypatch, scores, {"first": 64})
    race.run()
    assert {name: len(items) for name, items in race.items.items()} == {"second": 96, "last": 32}


def test_one_that_a_refusal_left_is_not_said_to_be_left_by_a_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its rival "last" was dropped by the test before, when two others were left."""
    scores = {**BEHIND_AT_FIRST, "last": [0.0] * 32 + [1.0] * 64}
    race = race_of(monkeypatch, scores, {"first": 64})
    race.run()
    raced, refused = race.findings()
    assert raced == RacedOnDev("prompts", 3, 1, 1, 96, 96, None, 0.01, 0.5)
    assert isinstance(refused, RefusedLater)
    assert (refused.candidate, refused.n) == ("first", 64)


def test_a_race_ends_where_the_test_leaves_one_of_several(monkeypatch: pytest.MonkeyPatch) -> None:
    race = race_of(monkeypatch, evenly(a=0.5, b=1.0, c=0.5), {})
    race.run()
    assert race.findings() == (RacedOnDev("prompts", 3, 2, 2, 32, 96, "ONE_LEFT", 0.01, 0.5),)


def test_where_all_that_are_left_are_refused_the_best_of_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = evenly(a=0.9, b=0.9, c=0.6, d=0.6, e=0.2)
    race = race_of(monkeypatch, scores, {"a": 60, "b": 60})
    race.run()
    assert {name: len(items) for name, items in race.items.items()} == {"c": 96, "d": 96, "e": 24}
    assert race.nothing_left() is None
    race = race_of(monkeypatch, scores, dict.fromkeys(scores, 60))
    race.run()
    assert race.nothing_left() is not None


def test_of_dropped_ones_those_that_answered_more_come_back_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mean over fewer items is high by luck more often. All that are left are refused in the end; "lucky" was dropped by halving
    after 24 items, with a higher mean than "c" and "d" had when they were dropped after 72.
    """
    scores = evenly(a=1.0, b=1.0, c=1.0, d=1.0, lucky=0.9, f=0.2, g=0.2, h=0.2)
    for name in "abcd":
        scores[name][24:] = [0.0, 1.0] * 36
    for name in "cd":
        scores[name][24:28] = [0.0] * 4
    race = race_of(monkeypatch, scores, {"a": 80, "b": 80})
    race.run()
    assert {name: len(race.items[name]) for name in ("c", "d", "lucky")} == {"c": 96, "d": 96, "lucky": 24}
