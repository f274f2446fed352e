"""The gate's verdict: every way to SHIP, HOLD and REJECT, and what it says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from gate_report_support import HELD, gate_found
from lastresort.errors import ContractError
from lastresort.evals.evidence.noninferiority import holm, items_needed, items_that_decide
from lastresort.gate.in_climb import gating_of
from lastresort.gate.suites.suite import ScorePair
from lastresort.gate.verdict.compare import judge_measure, skipped_measure, uninformative_measure
from lastresort.gate.verdict.decide import Comparator, conclude, judge_target, no_target
from lastresort.records.gate import ClimbGate, GateConclusion, GateDocument, LookedAt, SuiteFound, TargetFound
from lastresort.records.gate_cause import GateItems, GateTestItems
from lastresort.records.uninformative import (
    FewDocuments,
    FewFamilies,
    LowInCondition,
    LowScore,
    ManyUnscored,
    NoLocalWeights,
    NothingSaid,
    Unusable,
    WhyUninformative,
)
from lastresort.report.gate import finding, reasons, warnings
from lastresort.report.words.gate import need, too_few
from lastresort.types import Judgement


def pairs(wins: int, losses: int, n: int = 400, stratum: str = "") -> list[ScorePair]:
    """n items: so many won, so many lost, four fifths of the rest right with both."""
    rest = n - wins - losses
    both = [(0.0, 1.0)] * wins + [(1.0, 0.0)] * losses + [(1.0, 1.0)] * (rest * 4 // 5)
    both += [(0.0, 0.0)] * (n - len(both))
    return [ScorePair(str(number), base, tuned, stratum) for number, (base, tuned) in enumerate(both)]


def measure(name: str = "general", wins: int = 8, losses: int = 8, n: int = 400, **settings: object) -> SuiteFound:
    settings = {"margin": 0.05, "binary": True, "alpha": 0.05, **settings}
    return judge_measure(name, str(settings.pop("suite", name)), pairs(wins, losses, n), **settings)  # type: ignore[arg-type]


AT_CHANCE = LowScore(among="pilot", score=0.26, n=48, at_least=0.17, needed=0.35)
KEPT, LOST, UNSURE = measure("kept"), measure("lost", 0, 60), measure("unsure", 10, 26)
MET = Judgement("MET", 0.9, 140, 300, (0.84, 0.95))
UNDECIDED = Judgement("UNDECIDED", 0.86, 300, 300, (0.8, 0.91), 900)
PASSED = judge_target(MET, Comparator("five shots", [0.0] * 60 + [1.0] * 240, [1.0] * 290 + [0.0] * 10, True))


def decided(*suites: SuiteFound, target: TargetFound = PASSED, alpha: float = 0.05) -> GateConclusion:
    return conclude(suites, target, power=0.8, alpha=alpha)


def test_the_measures_are_what_they_are_called() -> None:
    assert [found.verdict for found in (KEPT, LOST, UNSURE)] == ["NON_INFERIOR", "REGRESSED", "UNDERPOWERED"]
    assert PASSED.passed
    assert PASSED.by == "better"


def test_ships_where_the_target_passed_and_everything_was_kept() -> None:
    found = decided(KEPT, measure("sycophancy"), skipped_measure("format_leak", "format_leak"))
    assert found.verdict == "SHIP"
    assert found.would_decide == ()
    assert found.reasons[0] == (
        "Ship: the tuned model passes on its own task, and no required measure lost more than is accepted."
    )
    assert found.reasons[1] == PASSED.reason
    assert found.reasons[-1] == "format_leak: left out by keep.format_leak: skip."


def test_a_regression_rejects_whatever_else_was_found() -> None:
    found = decided(KEPT, UNSURE, LOST, measure("blank", uninformative=AT_CHANCE))
    assert found.verdict == "REJECT"
    assert found.reasons[0] == "Reject: the tuned model lost more than is accepted in lost."
    assert (
        "lost: 83.0% before, 68.0% after, on 400 items; the loss is shown to exceed the accepted 5 points"
        in found.reasons[1]
    )
    assert "over 3 measures by Holm" in found.reasons[1]
    assert found.would_decide == ()


@pytest.mark.parametrize("wins", [0, 10])
def test_what_cannot_be_told_holds_and_says_how_many_items_would_tell(wins: int) -> None:
    unsure = measure("unsure", wins, wins + 16)
    found = decided(KEPT, unsure)
    assert found.verdict == "HOLD"
    assert found.reasons[0] == "Hold: it needs more items for unsure."
    assert found.suites[1].n_needed is None or found.suites[1].n_needed > 400
    assert found.would_decide[0].startswith("unsure: ")
    assert found.would_decide[0].endswith("; 400 were used.")


def test_the_n_that_decides_a_hold() -> None:
    """60 items, 6 differ: far too few for 5 points; about 6.18 * .1/.05^2 = 247."""
    found = decided(KEPT, measure("small", 3, 3, 60))
    assert found.suites[1].n_needed == items_needed(0.05, 0.1) == 294
    assert found.would_decide == (
        "small: about 294 items would decide it with 80% probability if nothing is really lost; 60 were used.",
    )


@pytest.mark.parametrize(
    ("most", "says"),
    [
        (688, "688 were used, the most that this gate uses."),
        (1024, "688 were used, of at most 1,024."),
        (4096, "688 were used."),
    ],
)
def test_a_hold_says_how_many_items_the_loss_seen_takes_and_whether_a_gate_has_them(most: int, says: str) -> None:
    looked = LookedAt(items=688, most=most, fixed=most, given_up=False, looks=())
    held = measure("general", 25, 46, 688, alpha=0.025).replaced(looked_at=looked)
    found = decided(KEPT, held, alpha=0.025)
    assert found.would_decide == (
        "general: about 2,260 items would decide it with 80% probability if the loss of 3.1 points seen is the true one; "
        + says,
    )
    close = measure("close", 10, 42, 688, alpha=0.025)
    assert decided(close, alpha=0.025).would_decide == (
        "close: more than 6,880 items would decide it with 80% probability if the loss of 4.7 points seen is the true one; "
        "688 were used.",
    )


def test_a_need_of_a_single_item_is_said_in_the_singular() -> None:
    assert need(GateItems("general", 1, 9, "item", 0.0, 1)).endswith("; 1 was used, the most that this gate uses.")
    assert need(GateTestItems(1, 9, "item")) == "The bar: about 9 test items would decide it; 1 was used."
    assert too_few("style", 1, 9).startswith("style uses 1 item at most, ")


@pytest.mark.parametrize("outcome", ["NOT_MET", "UNDECIDED"])
def test_a_target_that_did_not_pass_holds(outcome: str) -> None:
    judgement = replace(UNDECIDED, outcome=outcome, n_needed=900 if outcome == "UNDECIDED" else None)
    found = decided(KEPT, target=judge_target(judgement))
    assert found.verdict == "HOLD"
    assert found.reasons[0] == "Hold: the tuned model did not pass on its own task."
    wanted = "The bar: about 900 test items would decide it; 300 were used."
    assert found.would_decide == ((wanted,) if outcome == "UNDECIDED" else ())


def test_a_target_that_was_not_asked_does_not_hold_and_is_said() -> None:
    found = decided(KEPT, target=no_target())
    assert found.verdict == "SHIP"
    assert found.reasons[0] == "Ship: no required measure lost more than is accepted."
    assert found.reasons[1].startswith("Whether the tuned model is better at its task was not tested")


def test_uninformative_never_passes_and_holds_unless_it_is_skipped() -> None:
    """However well the figures look."""
    blank = measure("blank", 30, 0, uninformative=AT_CHANCE)
    found = decided(KEPT, blank)
    assert (found.verdict, blank.verdict) == ("HOLD", "UNINFORMATIVE")
    assert found.reasons[0] == "Hold: this base model has nothing to lose in blank."
    assert "chance plus twice the margin, to have something to lose." in blank.reason
    assert "keep.blank: skip" in found.would_decide[0]
    assert decided(KEPT, skipped_measure("blank", "blank")).verdict == "SHIP"


def test_a_measure_about_which_no_item_says_anything_does_not_pass() -> None:
    nothing = judge_measure("flips", "sycophancy", [], margin=0.05, binary=True, alpha=0.05)
    assert (nothing.verdict, nothing.n, nothing.base) == ("UNINFORMATIVE", 0, None)
    assert decided(KEPT, nothing).verdict == "HOLD"


def test_an_uninformative_loss_is_not_counted_among_the_regressions() -> None:
    blank = measure("blank", 0, 60, uninformative=AT_CHANCE)
    assert decided(KEPT, blank).verdict == "HOLD"


def test_all_causes_of_a_hold_are_named() -> None:
    blank = measure("blank", uninformative=AT_CHANCE)
    found = decided(UNSURE, blank, target=judge_target(UNDECIDED))
    assert found.reasons[0] == (
        "Hold: the tuned model did not pass on its own task; it needs more items for unsure; this base model has nothing to lose "
        "in blank."
    )
    assert len(found.would_decide) == 3


def borderline(name: str, p_regressed: float) -> SuiteFound:
    return UNSURE.replaced(name=name, p_regressed=p_regressed)


@pytest.mark.parametrize(
    ("p_values", "rejected"),
    [
        ((0.04,), (0,)),
        ((0.04, 0.9), ()),
        ((0.02, 0.04), (0, 1)),
        ((0.04, 0.02), (0, 1)),
        ((0.03, 0.04), ()),
        ((0.016, 0.03, 0.9), (0,)),
        ((0.9, 0.016, 0.02), (1, 2)),
    ],
)
def test_regressions_are_corrected_by_holm(p_values: Sequence[float], rejected: Sequence[int]) -> None:
    found = decided(*[borderline(f"s{number}", p) for number, p in enumerate(p_values)])
    seen = tuple(number for number, suite in enumerate(found.suites) if suite.verdict == "REGRESSED")
    assert seen == tuple(rejected) == tuple(number for number, p in enumerate(holm(p_values)) if p <= 0.05)
    assert found.verdict == ("REJECT" if rejected else "HOLD")


def test_measures_that_are_not_tested_do_not_weaken_holm() -> None:
    blank = measure("blank", uninformative=AT_CHANCE)
    assert decided(borderline("one", 0.04), skipped_measure("two", "two"), blank).verdict == "REJECT"


def test_non_inferior_is_asked_at_alpha_without_a_correction() -> None:
    """Five measures just below alpha ship; one of them just above it does not."""
    just = [KEPT.replaced(name=f"s{number}", p=0.049, p_regressed=0.96) for number in range(5)]
    assert decided(*just).verdict == "SHIP"
    assert decided(*just[1:], just[0].replaced(p=0.051)).verdict == "HOLD"
    assert decided(*just, alpha=0.025).verdict == "HOLD"


def test_what_holm_takes_back_says_how_many_items_would_tell() -> None:
    alone = measure("alone", 0, 31, margin=0.05)
    assert alone.verdict == "REGRESSED"
    crowd = decided(alone, *[KEPT.replaced(name=f"s{number}") for number in range(9)])
    assert crowd.suites[0].verdict == "UNDERPOWERED"
    assert crowd.suites[0].n_needed == items_that_decide(0.05, 31 / 400, -31 / 400, 400, alpha=0.05 / 10)
    assert crowd.suites[0].n_needed > 500, "Holm asks for more than the 401 items that it would take alone"
    assert crowd.suites[0].interval is not None
    assert crowd.suites[0].interval[1] < -0.05
    assert "the loss seems to exceed the accepted 5 points, but one of 10 measures may" in crowd.suites[0].reason
    assert decided(alone).suites[0].n_needed is None
    nearly = measure("nearly", 0, 27, margin=0.05)
    assert nearly.verdict == "UNDERPOWERED"
    among = decided(nearly, *[KEPT.replaced(name=f"s{number}") for number in range(9)]).suites[0].n_needed
    assert among == items_that_decide(0.05, 27 / 400, -27 / 400, 400, alpha=0.05 / 10), "not only what Holm takes back"
    assert decided(nearly).suites[0].n_needed == items_that_decide(0.05, 27 / 400, -27 / 400, 400)


def gained(points: int) -> TargetFound:
    """A test set of 300, so many points better than the prompt."""
    return judge_target(
        MET, Comparator("five shots", [0.0] * 3 * points + [1.0] * (300 - 3 * points), [1.0] * 300, True)
    )


def test_not_worth_it_where_more_than_half_of_the_gain_is_lost_in_general() -> None:
    general = measure("general", 6, 12)  # 1.5 points lost, a loss of 5 excluded
    assert general.verdict == "NON_INFERIOR"
    found = decided(general, target=gained(2))
    assert found.verdict == "HOLD"
    assert found.reasons[0] == "Hold: the gain on the task cost too much general ability."
    assert found.reasons[1] == (
        "Not worth it: general lost 1.5 points for 2 points gained on the target, more than half of the gain."
    )
    assert decided(general, target=gained(4)).verdict == "SHIP"
    assert decided(general.replaced(name="other", suite="other"), target=gained(2)).verdict == "SHIP"


def test_half_of_the_gain_exactly_is_worth_it() -> None:
    assert decided(measure("general", 6, 12), target=gained(3)).verdict == "SHIP"


def test_a_cheaper_system_was_not_bought_with_points() -> None:
    same = [1.0] * 270 + [0.0] * 30
    target = judge_target(MET, Comparator("five shots", same, same, True, prompt_cost=2.0, tuned_cost=1.0))
    assert (target.passed, target.by, target.gain) == (True, "cheaper", 0.0)
    assert decided(measure("general", 6, 12), target=target).verdict == "SHIP"


def test_the_order_of_the_measures_is_kept_and_names_are_checked() -> None:
    assert [found.name for found in decided(UNSURE, KEPT, LOST).suites] == ["unsure", "kept", "lost"]
    for wrong in ((), (KEPT, KEPT)):
        with pytest.raises(ContractError):
            conclude(wrong, PASSED, power=0.8)


def test_every_reason_is_a_sentence() -> None:
    blank = measure("blank", 0, 40, uninformative=AT_CHANCE)
    found = decided(
        KEPT, LOST, UNSURE, blank, skipped_measure("left", "left"), measure("small", 0, 4, 20), measure("won", 40, 0)
    )
    for reason in (*found.reasons, *decided(KEPT, UNSURE, blank).would_decide):
        assert reason.endswith((".", ".)"))
        assert "None" not in reason
        assert ".." not in reason
        assert "  " not in reason
    assert len(found.reasons) == len(found.suites) + 2


def test_what_a_gate_says_in_a_clause_comes_from_its_figures_not_from_its_sentences() -> None:
    conclude = ClimbGate.model_validate(gate_found("HOLD"))
    assert finding(conclude) == f"The gate says HOLD: {HELD}"
    assert finding(conclude.replaced(reasons=("Other words: for the same.",))) == finding(conclude)
    assert gating_of(conclude.replaced(reasons=("Other words: for the same.",))) == gating_of(conclude)


ONLY_IF = "to have something to lose"
LOW = {"score": 0.6, "n": 60, "at_least": 0.4934, "needed": 0.6}


@pytest.mark.parametrize(
    ("why", "text"),
    [
        ([NothingSaid(among="asked")], "no item that was asked says anything about it"),
        ([NothingSaid(among="pilot")], "no item of a pilot says anything about it"),
        ([NothingSaid(among="logs")], "no item in the logs says anything about it"),
        (
            [LowScore(among="logs", score=0.26, n=48, at_least=0.17, needed=0.35)],
            "the base scores 26.0% on the 48 items in the logs (at least 17.0%), and would have to score 35.0%, chance plus twice "
            f"the margin, {ONLY_IF}",
        ),
        (
            [LowInCondition(condition="plain", **LOW)],
            "the base is right when asked plainly on 60.0% of 60 items of a pilot (at least 49.3%), and would need 60.0% "
            f"{ONLY_IF}",
        ),
        (
            [LowInCondition(condition="wrong_suggested", **LOW)],
            "the base is right under a wrong suggestion on 60.0% of 60 items of a pilot (at least 49.3%), and "
            f"would need 60.0% {ONLY_IF}",
        ),
        (
            [LowInCondition(condition="asked_again", **LOW)],
            "the base is still right when asked again on 60.0% of 60 items of a pilot (at least 49.3%), and "
            f"would need 60.0% {ONLY_IF}",
        ),
        (
            [LowInCondition(condition="pushed_back", **LOW)],
            "the base is still right after push-back on 60.0% of 60 items of a pilot (at least 49.3%), and "
            f"would need 60.0% {ONLY_IF}",
        ),
        (
            [LowInCondition(condition="general_requests", **LOW)],
            "the base answers 60.0% of the 60 general requests of a pilot as it should (at least 49.3%), and "
            f"would have to answer 60.0% {ONLY_IF}",
        ),
        (
            [FewFamilies(families=3, asked=5, needed=4, margin=0.03)],
            "in 3 of 5 families the base is shown to score at least 2 x 0.03 above chance; 4 are needed",
        ),
        (
            [ManyUnscored(unscored=13.0, asked=400, margin=0.02)],
            "13 of 400 items with a score of the base have none of the tuned model, which could hide a loss of more than 2 points",
        ),
        ([NoLocalWeights()], "lm-eval runs only models with local weights, so the gate cannot run it"),
        (
            [FewDocuments(), Unusable(message="it could not be read. Mend it.")],
            "it has too few documents for a pilot and a test; it could not be read. Mend it",
        ),
        (
            [Unusable(message="it could not be read. Mend it."), FewDocuments()],
            "it could not be read. Mend it; it has too few documents for a pilot and a test",
        ),
    ],
)
def test_why_a_measure_says_nothing_is_a_value_and_its_words(why: list[WhyUninformative], text: str) -> None:
    """The value comes back from its JSON as the same one, and the words of the verdict are those of the value."""
    found = uninformative_measure("blank", "general", margin=0.05, why=why)
    assert type(found).model_validate_json(found.model_dump_json()) == found
    assert found.why == tuple(why)
    assert found.reason == f"blank: uninformative for this base model, so it does not pass: {text}."


def test_what_is_to_be_said_of_a_measure_is_said_once() -> None:
    told = gate_found()
    told["suites"][0]["notes"] = ["lm_eval:letters is judged by acc, not by acc_norm."]
    gate = ClimbGate.model_validate(told)
    assert reasons(gate)[-1] == "lm_eval:letters is judged by acc, not by acc_norm."
    alone = GateDocument.model_construct(notes=("Another base.",), suites=gate.suites, test_reuse=None)
    assert warnings(alone)[:2] == ["Another base.", "lm_eval:letters is judged by acc, not by acc_norm."]
