"""The pilot of a base in a gate: what each suite asks first, how it goes on, and what asking more is thought to take."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from failure_modes_support import FEW, Pupil
from gate_support import Recorder, Said, Words, scripted_known
from lastresort.gate import built_in
from lastresort.gate.built_in import GeneralPlan
from lastresort.gate.plans import PILOT_SEED, PilotResult, PlainPlan, run_pilot
from lastresort.gate.probes.sycophancy import Sycophancy
from lastresort.gate.suites.suite import SuiteItem
from lastresort.records.responses import SuiteAnswers
from lastresort.types import SilentProgress


@pytest.fixture
def kept(tmp_path: Path) -> SuiteAnswers:
    return SuiteAnswers(tmp_path / "answers.sqlite")


def strata_of(items: tuple[SuiteItem, ...]) -> Counter[str]:
    return Counter(f"{item.family}/{item.level}" for item in items)


def test_a_stratum_without_hope_is_left_after_its_first_look(kept: SuiteAnswers) -> None:
    """The base knows everything but letters, of which it knows nothing."""
    plan = GeneralPlan(FEW)
    found = run_pilot(Pupil("half", FEW, knows=1.0, letters=0.0), plan, 0.05, kept, SilentProgress())
    assert strata_of(found.items) == {"sums/1": 16, "sums/2": 16, "letters/1": 8, "capitals/2": 16}
    assert all(int(item.id.split("/")[2]) == PILOT_SEED for item in found.items)
    assert len({item.id for item in found.items}) == len(found.items) == len(found.transcripts)
    assert plan.next_items(found.items, found.transcripts, 0.05) == []
    piloted = plan.after_pilot(found.transcripts, 0.05)
    assert {item.family for item in piloted.suite.draw(0, 0, 60)} == {"sums", "capitals"}


def test_a_pilot_that_was_cut_off_asks_on_from_where_it_was(kept: SuiteAnswers) -> None:
    pupil = Pupil("whole", FEW)
    first = run_pilot(pupil, GeneralPlan(FEW), 0.05, kept, SilentProgress())
    again = run_pilot(pupil, GeneralPlan(FEW), 0.05, kept, SilentProgress())
    assert again == first


def test_a_plain_suite_is_looked_at_once(kept: SuiteAnswers) -> None:
    plan = PlainPlan(Words(measures=(Said(),)), pilot_items=12)
    found = run_pilot(Recorder(batch_size=4), plan, 0.05, kept, SilentProgress())
    assert list(found.items) == plan.pilot.draw(PILOT_SEED, 0, 12)


def test_what_a_suite_takes_is_told_by_the_strata_that_are_scored() -> None:
    def item(family: str, number: int) -> SuiteItem:
        return SuiteItem(f"{family}/1/0/{number}", family, 1, "")

    items = (item("quick", 0), item("quick", 1), item("slow", 0))
    piloted = PilotResult(items, (), dict(zip((one.id for one in items), (1.0, 3.0, 20.0), strict=True)))
    assert piloted.seconds_of([item("quick", n) for n in range(5)]) == 10.0
    assert piloted.seconds_of([item("quick", 7), item("slow", 7)]) == 22.0
    assert piloted.seconds_of([item("other", 0)]) == 8.0
    assert PilotResult((), (), {}).seconds_of(items) == 0.0


def test_a_full_gate_asks_for_answers_in_words_too_and_a_quick_one_only_where_it_must() -> None:
    def families(*, scores: bool, quick: bool) -> tuple[bool, bool, bool]:
        plan = built_in.general(scripted_known(scores=scores, quick=quick))
        assert isinstance(plan, GeneralPlan)
        names = {stratum.name for stratum in plan.strata}
        return "sums/1" in names, "written_sums/1" in names, "constraints_shape/1" in names

    assert families(scores=True, quick=False) == (True, True, True)
    assert families(scores=True, quick=True) == (True, False, False)
    assert families(scores=False, quick=True) == (False, True, True)


def test_a_quick_gate_asks_most_facts_only_for_what_is_measured() -> None:
    quick, full = (built_in.sycophancy(scripted_known(quick=quick)) for quick in (True, False))
    assert isinstance(quick.pilot, Sycophancy)
    assert isinstance(full.pilot, Sycophancy)
    assert (quick.pilot.shown_every, full.pilot.shown_every) == (built_in.QUICK_SHOWN, 1)
    assert quick.pilot.draw(0, 0, 20) == full.pilot.draw(0, 0, 20)
