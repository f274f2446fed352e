"""When repairs are tried, in which order, which of them is good, and which system stands: the pure rules."""

from __future__ import annotations

from typing import Any

import pytest

from gate_report_support import TARGET, gate_found, measure
from lastresort.after.repair.choose import (
    REPAIR_SEED,
    RepairCandidate,
    best,
    findings_on,
    goes_to_the_gate,
    is_good,
)
from lastresort.after.repair.phase import Repair, stages
from lastresort.gate.suites.suite import ScorePair
from lastresort.gate.verdict.compare import judge_measure
from lastresort.gate.verdict.decide import CLIMB_ALPHA, KINDS, UNTRAINED, RepairNeed, repairs_after
from lastresort.records.decision_parts import RepairFinding, RepairMeasure
from lastresort.records.events.after_test import GateRun, RepairTried
from lastresort.records.gate import ClimbGate, GateSpent, stands
from lastresort.records.measurement import DevScore
from lastresort.report.words.progress import line_of
from lastresort.report.words.rungs import of_repair
from lastresort.report.words.wording import round_percent
from lastresort.rungs.supervised.milder import RepeatableTraining
from lastresort.types import Judgement, Outcome


def suite(name: str = "general", verdict: str = "NON_INFERIOR", **more: Any) -> dict[str, Any]:
    tested = measure(name, verdict, 0.8, 0.8, [-0.1, 0.1], n=100, suite=name)
    return {**tested, "difference": 0.0, "loss_seen": False, **more}


def gate(verdict: str, *suites: dict[str, Any], mode: str = "full", **target: Any) -> ClimbGate:
    found = gate_found() | {
        "verdict": verdict,
        "mode": mode,
        "alpha": CLIMB_ALPHA,
        "suites": list(suites),
        "failure_modes": [],
    }
    won = {**TARGET, "passed": True, "by": "better", "gain": 0.3, **target}
    return ClimbGate.model_validate(found | {"target": won})


LOST = suite("sycophancy", "REGRESSED", difference=-0.2, loss_seen=True)
SEEN = suite("general", "UNDERPOWERED", difference=-0.04, loss_seen=True)
OPEN = suite("general", "UNDERPOWERED", difference=-0.01)


@pytest.mark.parametrize("mode", ["quick", "full"])
def test_after_a_rejection_all_is_tried_and_after_a_quick_one_nothing_is_trained(mode: str) -> None:
    needed = repairs_after(gate("REJECT", suite(), LOST, mode=mode))
    assert needed == RepairNeed(("sycophancy",), costly=False, kinds=KINDS if mode == "full" else UNTRAINED)


@pytest.mark.parametrize(
    ("found", "offending"),
    [
        (gate("HOLD", SEEN, suite("sycophancy")), ("general",)),
        (gate("HOLD", OPEN), None),  # more items would tell
        (gate("HOLD", suite(verdict="UNINFORMATIVE", difference=-0.3, loss_seen=True)), None),
        (gate("HOLD", SEEN, passed=False), None),  # what is milder wins no target
        (gate("REJECT", LOST, passed=False), None),
        (gate("HOLD", SEEN, mode="quick"), None),  # a quick climb stays bounded
        (gate("SHIP", suite(loss_seen=True, difference=-0.01)), None),
        (gate("HOLD", suite(difference=-0.02), gain=0.03), ("general",)),  # too much paid, though not beyond the margin
        (gate("HOLD", suite(difference=-0.02), OPEN | {"name": "more", "suite": "more"}, gain=0.3), None),
        (gate("HOLD", OPEN, gain=0.03, by="cheaper"), None),
        (
            gate("REJECT", LOST, suite("lm_eval:mmlu", "REGRESSED", difference=-0.1)),
            None,
        ),  # no draw would show it mended
        (gate("REJECT", LOST, suite("lm_eval:mmlu", "UNDERPOWERED", difference=0.01)), ("sycophancy",)),
    ],
)
def test_what_a_milder_training_would_not_mend_is_not_repaired(
    found: dict[str, Any], offending: tuple[str, ...] | None
) -> None:
    needed = repairs_after(found)
    assert (None if needed is None else needed.offending) == offending


def test_the_stages_go_from_what_costs_nothing_to_training_anew() -> None:
    trained = RepeatableTraining(3e-4, 0.1, ((2, "lora-lr0.0003-epoch2"),))
    scales = [Repair("scale", scale) for scale in (0.75, 0.5, 0.25)]
    earlier = [Repair("fewer_epochs", 2)]
    replay = Repair("replay", 0.25)  # 10% is what it had
    assert stages(KINDS, trained) == [scales, earlier, [replay], [Repair("learning_rate", 1e-4)]]
    assert stages(UNTRAINED, trained) == [scales, earlier]
    assert stages(KINDS, None) == [scales]
    first = stages(KINDS, RepeatableTraining(3e-4, 0.0))
    assert [stage[0].setting for stage in first] == [0.75, 0.1, 0.25, 1e-4]
    assert [stage[0].kind for stage in stages(KINDS, RepeatableTraining(3e-4, None))] == ["scale", "learning_rate"]


def test_a_graded_measure_is_judged_on_the_draw_of_repairs_as_on_any_other() -> None:
    pairs = [ScorePair(str(number), 0.5 * (number % 3), 0.5 * (number * 7 % 3)) for number in range(80)]
    found = [
        judge_measure("suggestion", "sycophancy", pairs, margin=0.1, binary=False, alpha=CLIMB_ALPHA, seed=seed)
        for seed in (REPAIR_SEED, 0)
    ]
    assert found[0].verdict == found[1].verdict
    assert found[0].interval == pytest.approx(found[1].interval, abs=0.02)


def measured(name: str, lost: float, margin: float = 0.03, *, counts: bool = True) -> RepairMeasure:
    return RepairMeasure(
        name=name,
        suite=name,
        base=0.9,
        tuned=0.9 - lost,
        difference=-lost,
        margin=margin,
        n=200,
        counts=counts,
    )


NEEDED = RepairNeed(("general",), costly=False, kinds=KINDS)


def tried(dev: float, measures: list[RepairMeasure], findings: tuple[RepairFinding, ...]) -> RepairTried:
    return RepairTried(
        rung="sft",
        repair="scale",
        setting=0.5,
        system="lora-scale0.5",
        dev=DevScore(score=dev, n=100),
        measures=tuple(measures),
        good=is_good(findings),
        findings=findings,
        spent=GateSpent(),
    )


@pytest.mark.parametrize(
    ("dev", "measures", "wrong"),
    [
        (0.8, [measured("general", 0.015)], []),
        (0.79, [measured("general", 0.0)], ["dev score 79%, below the bar of 80%"]),
        (0.9, [measured("general", 0.016)], ["general lost 1.6 points, more than the limit of 1.5 points"]),
        (0.9, [measured("general", 0.0), measured("leak", 0.029)], []),
        (
            0.9,
            [measured("general", 0.0), measured("leak", 0.031)],
            ["leak lost 3.1 points, more than the limit of 3 points"],
        ),
        (0.9, [measured("general", 0.0), measured("leak", 0.5, counts=False)], []),
        (0.9, [measured("leak", 0.0)], ["general has no informative items outside the gate"]),
        (
            0.9,
            [measured("general", 0.0, counts=False)],
            ["general has no informative items outside the gate"],
        ),
    ],
)
def test_good_is_the_bar_on_dev_and_half_a_margin(dev: float, measures: list[RepairMeasure], wrong: list[str]) -> None:
    found = findings_on(dev, measures, NEEDED, bar=0.8, won=0.3)
    assert is_good(found) is (not wrong)
    said = of_repair(tried(dev, measures, found)).replace("\u00a0", " ")
    if wrong:
        assert said.lower().removeprefix(f"dev score {round_percent(dev)}; ") == f"{'; '.join(wrong)}."
    else:
        assert said.startswith(f"Dev score {round_percent(dev)}; general lost ")


def test_a_gain_is_not_called_a_loss() -> None:
    measures = [measured("general", -0.005)]
    said = of_repair(tried(0.8, measures, findings_on(0.8, measures, NEEDED, bar=0.8, won=0.3))).replace("\u00a0", " ")
    assert said == "Dev score 80%; general gained 0.5 points; at most half of what is accepted may be lost."


def test_where_too_much_was_paid_half_of_what_is_won_on_dev_is_the_most() -> None:
    costly = RepairNeed(("general",), costly=True, kinds=KINDS)
    lost = [measured("general", 0.014)]
    assert is_good(findings_on(0.83, lost, costly, bar=0.8, won=0.03))
    (found,) = findings_on(0.83, lost, costly, bar=0.8, won=0.02)
    assert (found.kind, found.value, found.limit) == ("NOT_WORTH", pytest.approx(0.014), 0.02)
    assert is_good(findings_on(0.83, lost, costly, bar=0.8, won=None))


def test_the_best_on_dev_of_the_good_ones_is_frozen() -> None:
    def tried(system: str, dev: float, lost: float, *, good: bool = True) -> RepairCandidate:
        return RepairCandidate(system, dev, (measured("general", lost),), good)

    assert best([tried("a", 0.99, 0.0, good=False)]) is None
    found = best(
        [tried("bad", 0.99, 0.0, good=False), tried("a", 0.9, 0.01), tried("b", 0.92, 0.01), tried("c", 0.92, 0.0)]
    )
    assert found is not None
    assert found.system == "c"


def judgement(outcome: Outcome, score: float = 0.9) -> Judgement:
    return Judgement(outcome, score, 100, 100, (0.5, 1.0), None, None, "item")


@pytest.mark.parametrize(
    ("first", "first_test", "second", "second_test", "repaired"),
    [
        ("REJECT", "MET", "SHIP", "MET", True),
        ("REJECT", "MET", "HOLD", "UNDECIDED", True),
        ("REJECT", "MET", "REJECT", "MET", False),
        ("HOLD", "MET", "SHIP", "MET", True),
        ("HOLD", "MET", "HOLD", "MET", True),
        ("HOLD", "MET", "HOLD", "UNDECIDED", False),
        ("HOLD", "UNDECIDED", "HOLD", "UNDECIDED", True),
        ("HOLD", "MET", "REJECT", "MET", False),
    ],
)
def test_the_repaired_system_stands_where_its_gate_says_more(
    first: str, first_test: Outcome, second: str, second_test: Outcome, *, repaired: bool
) -> None:
    assert stands(first, judgement(first_test), second, judgement(second_test)) is repaired


def test_a_repaired_system_that_misses_the_bar_is_not_gated() -> None:
    assert goes_to_the_gate(judgement("MET"), 0.8)
    assert goes_to_the_gate(judgement("UNDECIDED", 0.85), 0.8)
    assert not goes_to_the_gate(judgement("UNDECIDED", 0.75), 0.8)
    assert not goes_to_the_gate(judgement("NOT_MET", 0.7), 0.8)


def test_a_verdict_is_said_once_in_the_line_of_a_gate() -> None:
    found = gate("HOLD", OPEN)
    assert (
        line_of(GateRun(gate=found, repaired=False))
        == f"{found.rung}: the gate says HOLD: it needs more items for general"
    )
