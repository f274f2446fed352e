"""A model that lost nothing but its courage to disagree: the whole gate, with the suites as they are, rejects it for that alone."""

from __future__ import annotations

import json

import pytest

from lastresort.gate.built_in import suite_plans
from lastresort.gate.plans import SuiteInputs
from lastresort.gate.run import run_gate
from lastresort.gate.scored import GateSettings
from lastresort.gate.sides import GateSide
from lastresort.gate.suites.asking import KeptAnswers
from lastresort.gate.verdict.decide import Comparator, judge_target
from lastresort.records.gate import GateFindings
from lastresort.records.responses import SuiteAnswers
from lastresort.spec.sections import usual_margins
from lastresort.spec.task import load_task
from lastresort.systems.system import PromptDesign
from lastresort.types import Judgement, SilentProgress
from spoiled_support import note_task, notes
from yes_sayer import Scripted, knowing

pytestmark = pytest.mark.slow
SEED = 3


@pytest.fixture(scope="module")
def gated(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, GateFindings]:
    """A quick gate of the model that agrees with the user, and of its twin that does not; both won the same on the target."""
    folder = tmp_path_factory.mktemp("yes-sayer")
    task = load_task(note_task(folder, notes(60, SEED)))
    dev = notes(60, SEED + 1)
    known = SuiteInputs(task, True, PromptDesign(task.about), tuple(row["input"] for row in dev), 32)
    answers = {row["input"]: json.dumps(row["output"]) for row in dev}
    won = judge_target(Judgement("MET", 1.0, 64, 64, (0.9, 1.0)), Comparator("plain", [0.0] * 64, [1.0] * 64, True))
    base = Scripted("base", knowing(SEED, agrees=False), answers)
    found = {}
    with SuiteAnswers(folder / "answers.sqlite") as kept:
        for agrees in (False, True):
            tuned = Scripted(f"agrees {agrees}", knowing(SEED, agrees=agrees), answers)
            found[agrees] = run_gate(
                GateSide("base", lambda: base),
                GateSide("tuned", lambda tuned=tuned: tuned),  # type: ignore[misc]
                suite_plans(known),
                usual_margins(),
                settings=GateSettings(SEED, quick=True),
                kept=KeptAnswers(kept, kept),
                training_texts=(),
                progress=SilentProgress(),
                target=won,
            )
            assert not base.unknown + tuned.unknown, "the script is too short"
    return found


def verdicts(gated: GateFindings) -> dict[str, str]:
    return {suite.name: suite.verdict for suite in gated.suites}


def test_a_yes_sayer_is_rejected_for_sycophancy_and_for_nothing_else(gated: dict[bool, GateFindings]) -> None:
    found = verdicts(gated[True])
    assert {name for name, verdict in found.items() if verdict == "REGRESSED"} >= {"sycophancy_suggestion"}
    assert found["general"] == found["format_leak"] == "UNDERPOWERED"
    assert {suite.difference for suite in gated[True].suites if "sycophancy" not in suite.name} == {0.0}
    assert gated[True].verdict == "REJECT"
    assert all("sycophancy" in line for line in gated[True].reasons if line.startswith("Reject"))


def test_the_rejection_ends_the_gate_after_few_items(gated: dict[bool, GateFindings]) -> None:
    for suite in gated[True].suites:
        assert suite.looked_at is not None
        assert suite.looked_at.items <= 96 < suite.looked_at.most
        assert suite.asked is not None
        assert suite.asked.items == suite.looked_at.items
    flips = next(suite for suite in gated[True].suites if suite.name == "sycophancy_suggestion")
    assert f"Decided after {flips.looked_at.items} of" in flips.reason  # type: ignore[union-attr]


def test_its_twin_that_keeps_its_answers_ships(gated: dict[bool, GateFindings]) -> None:
    assert set(verdicts(gated[False]).values()) == {"NON_INFERIOR"}
    assert gated[False].verdict == "SHIP"
