"""The answer is one short sentence or two; every value of a reason has words."""

from __future__ import annotations

from typing import get_args

import pytest

from climb_support import statement
from headlines import decided, longest_headlines
from lastresort.ladder import RUNGS, trains
from lastresort.records import gate_cause
from lastresort.records import reasons as value
from lastresort.records.data_report import RowsLeftOut
from lastresort.records.decision import RungView, RunView
from lastresort.records.decision_parts import ComparisonRefusal
from lastresort.records.measurement import BarTest
from lastresort.report.words import titles
from lastresort.report.words.answer import answer_text, line, of_change, of_reason
from lastresort.types import CannotTell, GateVerdict, JudgedBar, Judgement, LossAt, MoreExamples, VerdictBasis

TWO_LINES = 108  # characters of a headline on a page 900 pixels wide, as the browser breaks them (tests/browser)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (value.NothingApplies(), "Cannot tell: no rung of the ladder applies."),
        (
            value.BarMet("prompting", 0.97, 0.8, tuned=False),
            "No: prompting reaches 97% against a bar of 80%, so there is little left for tuning to gain.",
        ),
        (
            value.BarMet("prompting", 0.85, 0.8, tuned=False, provisional=True),
            "No: prompting reaches 85% against a bar of 80%, so tuning is not needed.",
        ),
        (value.BarMet("sft", 0.91, 0.8, tuned=True), "Yes: SFT reaches 91% against a bar of 80%."),
        (
            value.BarMet("sft", 0.833, 0.65, tuned=True, held=True),
            "Yes, but not yet cleared to ship: SFT reaches 83.3% against a bar of 65%.",
        ),
        (
            value.BarMet("sft", 0.95, 0.8, tuned=True, provisional=True),
            "Provisionally yes: SFT reaches 95% against a bar of 80%; a rung is undecided.",
        ),
        (
            value.Leads("sft", 0.82, 0.8, tuned=True),
            "Provisionally yes: SFT scored 82% against a bar of 80%, on too few test items to be sure.",
        ),
        (
            value.Leads("sft", 0.82, 0.8, tuned=True, held=True),
            "Provisionally yes, but not yet cleared to ship: SFT scored 82% against a bar of 80%.",
        ),
        (
            value.StillOpen("sft", 0.82, 0.8, 1200, "item"),
            "Cannot tell yet: SFT scored 82% against a bar of 80%; it needs about 1,200 test items.",
        ),
        (
            value.StillOpen("sft", 0.8, 0.8, None, "item"),
            "Cannot tell yet: SFT scored 80%, too close to the bar of 80%.",
        ),
        (
            value.StillOpen("sft", 0.737, 0.8, None, "item", ahead="prompting", ahead_score=0.789),
            "Cannot tell yet: SFT scored 73.7% and prompting 78.9%, too close to the bar of 80%.",
        ),
        (
            value.StillOpen("sft", 0.75, 0.8, 1200, "item", ahead="prompting", ahead_score=0.75),
            "Cannot tell yet: SFT scored 75% and prompting 75%, against a bar of 80%.",
        ),
        (
            value.StillOpen("sft", 0.82, 0.8, None, "item", JudgedBar(0.9, (0.8, 1.0), 0.95, 0.7, explained=False)),
            "Cannot tell: the labelled cases are not like the test's, so the judge's 90% is no evidence.",
        ),
        (
            value.StillOpen("sft", 0.82, 0.8, None, "item", JudgedBar(0.9, (0.8, 1.0), 0.95, 0.7, estimated=False)),
            "Cannot tell: labels do not show that the judge can tell right from wrong, so its 90% is no evidence.",
        ),
        (
            value.StillOpen("sft", 0.82, 0.8, None, "item", JudgedBar(0.9, (0.8, 1.0), 0.95, 0.7)),
            "Cannot tell yet: SFT scored 82%; the judge needs more labels for the bar of 80%.",
        ),
        (
            value.StillOpen("sft", 0.8, 0.8, None, "item", JudgedBar(0.96, (0.8, 1.0), 0.95, 0.7)),
            "Cannot tell yet: SFT scored 80%, too close to the bar of 80%.",
        ),
        (
            value.GateRejected(("sft",), 0.8, "retrieval", 0.5),
            "No: the gate rejected SFT. Without tuning, retrieval scored 50% against a bar of 80%.",
        ),
        (
            value.GateRejected(("sft", "full"), 0.8, None, 0.0),
            "No: the gate rejected 2 tuned systems, and no untuned system was tested.",
        ),
        (
            value.NotFinished("prompting", 0.3, 0.8, ("retrieval", "sft")),
            "Not decided: prompting scored 30% against a bar of 80%, and 2 higher rungs were not tried.",
        ),
        (
            value.NotFinished("sft", 0.3, 0.8, ("full",)),
            "Not decided: SFT scored 30% against a bar of 80%, and full fine-tuning was not tried.",
        ),
        (value.NoneMet("sft", 0.5, 0.8), "Not as it is: no rung reaches the bar of 80%. The best, SFT, scored 50%."),
        (
            value.CheapestOfSeveral("prompting", "sft", last_wins=True, comparable=True, bar=0.8),
            "Yes, to save money: SFT has cheaper calls. For the bar of 80%, prompting is enough.",
        ),
        (
            value.CheapestOfSeveral("prompting", "sft", last_wins=True, comparable=True, bar=0.8, ungated=True),
            "Yes, to save money, but no gate ran: SFT is cheaper; for the bar, prompting is enough.",
        ),
        (
            value.BarMet("sft", 0.91, 0.8, tuned=True, provisional=True, ungated=True),
            "Provisionally yes, but no gate ran: SFT reaches 91% against a bar of 80%.",
        ),
        (
            value.Leads("sft", 0.82, 0.8, tuned=True, ungated=True),
            "Provisionally yes, but no gate ran: SFT scored 82% against a bar of 80%.",
        ),
        (
            value.CheapestOfSeveral("prompting", "sft", last_wins=False, comparable=True, bar=0.8),
            "No: prompting meets the bar of 80%. SFT does, too, but its calls are no cheaper.",
        ),
        (
            value.CheapestOfSeveral("prompting", "sft", last_wins=False, comparable=False, bar=0.8),
            "No: prompting meets the bar of 80%. SFT does, too, but is not shown to be cheaper.",
        ),
    ],
)
def test_the_answer_in_words(answer: value.Answer, words: str) -> None:
    assert answer_text(answer) == words
    assert len(words) <= TWO_LINES


def test_no_headline_is_longer_than_two_lines() -> None:
    assert {answer: len(answer) for answer in longest_headlines() if len(answer) > TWO_LINES} == {}


@pytest.mark.parametrize(
    ("answer", "n", "words"),
    [
        (value.BarMet("prompting", 0.833, 0.15, tuned=False), 6, ", so tuning is not needed (6 groups)."),
        (value.BarMet("sft", 0.91, 0.8, tuned=True), 99, "Yes: SFT reaches 91% against a bar of 80% (99 groups)."),
        (value.BarMet("sft", 0.91, 0.8, tuned=True), 100, " against a bar of 80%."),
        (value.BarMet("sft", 0.91, 0.8, tuned=True, held=True), 6, " against a bar of 80%."),
        (value.NoneMet("sft", 0.5, 0.8), 6, " The best, SFT, scored 50%."),
    ],
)
def test_a_headline_says_on_how_few_items_a_bar_is_met(answer: value.Answer, n: int, words: str) -> None:
    """83.3% of 6 may be anything from 36% to all."""
    assert titles.headline(decided(answer, n)).endswith(words)


@pytest.mark.parametrize(
    ("gate", "said"),
    [
        (None, "and no gate has decided so far"),
        ("SHIP", "and the gate clears it to ship"),
        ("HOLD", "but the gate holds it"),
        ("REJECT", "but the gate rejects it"),
    ],
)
def test_before_the_decision_a_headline_says_that_the_bar_is_met_and_what_the_gate_says(
    gate: GateVerdict | None, said: str
) -> None:
    for name, facts in RUNGS.items():
        missed, met = BarTest.model_construct(verdict="NOT_MET"), BarTest.model_construct(verdict="MET", score=0.9333)
        rungs = (
            RungView.model_construct(name="below", test=missed),
            RungView.model_construct(name=name, test=met, gate=gate),
        )
        text = titles.headline(RunView.model_construct(answer=None, bar=0.855, rungs=rungs))
        rest = f", {said}" if trains(name) else ""
        assert text == f"Not decided yet: {facts.in_prose or name} reaches 93.3% against a bar of 85.5%{rest}."
        assert len(text) <= TWO_LINES


def test_a_score_just_short_of_all_or_above_nothing_is_not_rounded_to_it() -> None:
    assert "reaches 99.9%" in answer_text(value.BarMet("prompting", 0.9996, 0.8, tuned=False))
    assert "scored 0.1%" in answer_text(value.NoneMet("prompting", 0.0004, 0.8))


TEST = Judgement("MET", 0.9, 40, 300, (0.82, 0.97), decided=VerdictBasis("sequence", 0.01, 0.82))
UNDECIDED = Judgement("UNDECIDED", 0.78, 300, 300, (0.7, 0.86), n_needed=900)
REASONS: list[tuple[value.Reason, str]] = [
    (value.Stopped("MET", "sft"), "SFT meets the bar, and every higher rung costs more."),
    (
        value.RungSkip("retrieval", statement("the task names no knowledge")),
        "retrieval: skipped: the task names no knowledge.",
    ),
    (
        value.RungResult("sft", "lora", TEST, 0.8),
        (
            "sft: lora scored 90% on 40 of 300 test items (interval 82% to 97%) and meets the bar of 80%: the "
            "sequential test after each item puts the true score at 82.0% or more."
        ),
    ),
    (
        value.RungResult("sft", "lora", UNDECIDED, 0.8),
        (
            "sft: lora scored 78% on 300 of 300 test items (interval 70% to 86%), below the bar of 80%, but "
            "undecided: about 900 test items would decide it with 80% probability if the score seen is the true one."
        ),
    ),
    (
        value.GateDecided("sft", "HOLD", gate_cause.GateCause(underpowered=("general", "style"))),
        "sft: the gate holds it: it needs more items for general and style.",
    ),
    (
        value.GateDecided(
            "sft", "REJECT", gate_cause.GateCause(lost=(gate_cause.AbilityLost("general", 0.081, 0.03),))
        ),
        "sft: the gate rejects it: general lost 8.1 points (accepted: 3 points).",
    ),
    (
        value.GateDecided("sft", "SHIP", gate_cause.GateCause(passed=True)),
        "sft: the gate clears it to ship: the tuned model passes on its own task, and no required measure lost more than is "
        "accepted.",
    ),
    (
        value.RepairsTried("sft", "REJECT", 3, 0),
        ("sft: after the gate rejected it, 3 repairs were tried. None was good, so none was tested."),
    ),
    (
        value.RepairsTried("sft", "HOLD", 4, 2, "lora-scale0.5", 0.82, "SHIP", wins=True),
        (
            "sft: after the gate held it, 4 repairs were tried and 2 of them were good. The best on dev, "
            "lora-scale0.5, scored 82% in its test. Its gate on fresh items says SHIP: it takes the place of the first."
        ),
    ),
    (
        value.RepairsTried("sft", "HOLD", 1, 1, "lora-scale0.5", 0.62),
        (
            "sft: after the gate held it, 1 repair was tried and was good. The best on dev, lora-scale0.5, scored 62% in its test "
            "and missed the bar, so it was not gated."
        ),
    ),
    (
        value.NeighboursCompared("prompting", "sft", 12, 0.25, 0.75),
        (
            "On the 12 test items that both answered, sft scored 75% and prompting 25%. This is descriptive only: "
            "each test stopped on its own evidence."
        ),
    ),
    (value.SearchedOnDev("sft", (statement("3 rates were tried."),)), "sft: 3 rates were tried."),
    (value.InputsTooLong("sft", 1), "sft: the model refused 1 test item as too long; it counts as wrong."),
    (value.LongRowsLeftOut(2), "2 training rows exceeded the context and were left out."),
    (
        value.ExamplesForecast("sft", 0.7, (0.65, 0.74), 0.85, CannotTell("FEW_BATCHES", 17)),
        "sft: this training cannot tell how much more examples would help: its first epoch has 17 batches after the "
        "warm-up, and 24 are needed, the last at four times the rows of the first.",
    ),
    (
        value.ExamplesForecast(
            "sft",
            0.7,
            (0.65, 0.74),
            0.85,
            MoreExamples(800, 0.5, (LossAt(2, 0.9, (0.8, 0.95)), LossAt(4, 0.8, (0.6, 0.9)))),
            0.2,
        ),
        "sft: on rows that it had not seen yet the loss reached 0.50 nats per token, after 800 rows of the first epoch (20% of "
        "them replay). By that curve more examples would lower it by 10% with twice as many (5% to 20%) and by 20% with four times "
        "as many (10% to 40%). If wrong answers fell in proportion, four times as many would turn 70% (65% to 74%) into 68.5% to "
        "84.4%, against the bar of 85%, so more of the same kind are unlikely to be enough. This is an "
        "approximation from one training run, whose learning rate changed along "
        "the way.",
    ),
    (
        value.FewRows(("full",), 40, 100),
        "Full fine-tuning had 40 rows; the rule of thumb for a narrow task is 100 to 5,000.",
    ),
    (
        value.FewRows(("sft", "full"), 40, 100),
        "SFT and full fine-tuning had 40 rows; the rule of thumb for a narrow task is 100 to 5,000.",
    ),
    (
        value.InputsInDocuments(1, 30),
        (
            "1 of 30 test inputs also appears word for word in the documents. Finding the input again can then find "
            "its answer. That is fair only if production questions are in the documents, too."
        ),
    ),
    (
        value.PromptingLeftOut(),
        "Prompting alone is not tested against the bar: the task's ladder leaves it out, so a cheaper system may be enough.",
    ),
    (
        value.ExamplesForecast("sft", 0.83, (0.66, 0.95), 0.75, CannotTell("TOO_WIDE", 29)),
        "sft: this training cannot tell how much more examples would help: over 29 batches the loss varies too much to say how it "
        "would go on.",
    ),
    (value.NotGated(), "No gate was run: what else tuning changed was not measured."),
    (value.KeyIgnored("limits.gpu", "t4"), "limits.gpu: t4 has no effect in this version."),
    (
        value.ReplayKeyIgnored("sft", "replay_loss", "kl"),
        "sft.replay_loss: kl has no effect on SFT, since sft.replay is 0.",
    ),
    (
        value.KnowledgeOutpacesTraining("weekly", "monthly"),
        "The knowledge changes weekly and the model would be retrained only monthly, and it may not go into the prompt, so only "
        "weights can hold it: they will be out of date until they are retrained. Retrain as often as it changes, or allow it in "
        "the prompt (`use.context`).",
    ),
    (
        RowsLeftOut("train", "in dev or test", 1),
        "1 training row was also in dev or test and left out of training.",
    ),
    (
        RowsLeftOut("train", "not made from train", 2),
        "2 synthetic rows were left out of training: rows they were made from are not in train as they were, or their group "
        "is in dev or test.",
    ),
    (
        RowsLeftOut("train", "from a held passage", 2),
        "2 synthetic rows were left out of training: dev or test names the passage they were made from, or one with nearly the "
        "same text.",
    ),
    (
        value.RowsFromChangedPassages(3),
        "3 synthetic rows of train were made from passages that were edited or removed since. The answers may be out of date, and "
        "dev or test may name the new form of these passages. Make the rows again, or remove them from their file.",
    ),
    (
        value.RowsShareSource(None, 12, 60, 20, 100),
        "60 rows, and 20 of 100 test items among them, share 12 long passages of their inputs. They are counted as independent, "
        "since nothing says that they belong together. If they do, the verdict is more confident than it should be, and training "
        "may have seen what the test asks about. Add a column `group` that names the source of each row.",
    ),
    (RowsLeftOut("dev", "in test", 2), "2 dev items were also in test and left out of dev."),
    (
        RowsLeftOut("test", "repeated", 1),
        "1 test item repeated an input of test and was left out: each input counts once.",
    ),
    (
        RowsLeftOut("preferences", "in dev or test", 2),
        "2 preferences hold inputs of dev or test and were left out of training.",
    ),
    (
        value.NothingCompared(("lora", "full"), ComparisonRefusal(code="TRAINS_NOTHING", winner="prompting")),
        "Nothing was compared (lora, full): prompting won, which trains nothing.",
    ),
    (
        value.NothingCompared(("lora", "full"), ComparisonRefusal(code="OTHER_RUNG", winner="full")),
        "Nothing was compared (lora, full): the winner was trained by full fine-tuning, and only a winner of SFT can be trained in "
        "other ways.",
    ),
    (
        value.NothingCompared(("lora", "full"), ComparisonRefusal(code="NO_WINNER")),
        "Nothing was compared (lora, full): no system won, so there are no settings to train with.",
    ),
]


@pytest.mark.parametrize(("reason", "words"), REASONS)
def test_each_reason_in_words(reason: value.Reason, words: str) -> None:
    assert line(of_reason(reason)) == words


def test_every_kind_of_reason_and_change_has_words() -> None:
    said = {type(reason) for reason, _ in REASONS} | {value.AnswersMoved}  # whose words have tests of their own
    assert said == set(get_args(value.Reason))
    changes: list[value.Change] = [
        value.MoreTestItems("sft", 900, 300, "item"),
        value.MoreLabelledCases("sft", 240, 60),
        value.BetterJudge("sft", explained=False),
        gate_cause.GateItems("general", 160, 900, "item", -0.01, None),
        gate_cause.GateInformative("style", "keep.style: skip"),
        gate_cause.GateTestItems(300, None, "item"),
        gate_cause.GateSmallerLoss(),
        value.MilderTraining("sft", repaired=True),
        value.LowerBar("prompting", 0.6, 0.8),
        value.HigherBar("sft", 0.82),
        value.SkippedRung("retrieval", statement("no knowledge")),
        value.PromptingLeftOut(),
        value.RestOfLadder(("full",), on_ladder=True),
        value.NewerModel(),
        value.ChangedDocuments(),
    ]
    assert {type(one) for one in changes} == set(get_args(value.Change))
    said_of = [of_change(one).text for one in changes]
    assert all(text[0].isupper() or ":" in text for text in said_of)
    assert all(text.endswith(".") for text in said_of)


def test_a_statement_holds_the_figures_that_its_sentence_was_made_from() -> None:
    found = of_reason(value.RungResult("sft", "lora", TEST, 0.8))
    assert (found.code, found.rung) == ("rung_result", "sft")
    assert found.figures["bar"] == 0.8
    assert found.figures["test"] == {
        "outcome": "MET",
        "score": 0.9,
        "n_used": 40,
        "n_available": 300,
        "interval": [0.82, 0.97],
        "n_needed": None,
        "unit": "item",
        "decided": {"by": "sequence", "error": 0.01, "limit": 0.82},
        "outlook": None,
        "parts": [],
        "judged": None,
    }
    stopped = of_reason(value.Stopped("TOP", "full"))
    assert (stopped.code, stopped.rung, stopped.figures) == (
        "stopped",
        None,
        {"why": "TOP", "at": "full", "ahead": None},
    )
    change = of_change(value.MoreTestItems("sft", 900, 300, "item"))
    assert (change.rung, change.figures["n_needed"]) == (None, 900)
    assert "300" in change.text


@pytest.mark.parametrize(
    ("n_needed", "most", "short"),
    [(900, 899, True), (900, 900, False), (None, 1600, True), (None, 1601, False), (None, None, False)],
)
def test_a_gate_is_short_of_items_only_where_it_has_fewer_than_are_shown_to_be_needed(
    n_needed: int | None, most: int | None, short: bool
) -> None:
    """Beyond ten times the 160 that were used no number is estimated."""
    assert gate_cause.GateItems("general", 160, n_needed, "item", -0.01, most).is_short == short
