"""A bar tested on a judge's scores: where the labels show too little, and how the errors are shared."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from lastresort.climb.bar_test import Answered, BarRule, judge_parts
from lastresort.climb.decide import Rules, RungOutcome, conclude, next_rung
from lastresort.climb.shares import note_shares
from lastresort.evals.evidence.bar import judge_bar, so_far
from lastresort.evals.evidence.corrected import Correction, correction, judge_corrected, outlook_corrected
from lastresort.evals.evidence.outlook import Errors, errors_after, judge_going_on, needed_to_go_on, outlook
from lastresort.records.decision import JudgeCorrection, JudgeRate, JudgeView
from lastresort.records.events.run import JudgeChecked, JudgeOpened
from lastresort.records.reasons import Stopped
from lastresort.records.record import ItemScore, Record
from lastresort.report.words.judge import corrected
from lastresort.report.words.verdicts import labels_would_decide
from lastresort.rungs.rung import Workbench
from lastresort.types import Example, Judgement, Message, Outlook, SilentProgress


def labels(right: int, accepted: int, wrong: int, wrongly: int, *, bar: float) -> Correction:
    people = [1.0] * right + [0.0] * wrong
    judged = [1.0] * accepted + [0.0] * (right - accepted) + [1.0] * wrongly + [0.0] * (wrong - wrongly)
    return correction(people, judged, bar=bar, alpha=0.05, beta=0.05, binary=True)


def graded(off: float, *, bar: float) -> Correction:
    """A judge that is off by so much on each of 200 labelled cases."""
    people = [0.9 if off < 0 else 0.1] * 200
    return correction(people, [score + off for score in people], bar=bar, alpha=0.05, beta=0.05, binary=False)


def verdict(*parts: list[float], by: Correction, binary: bool = True, alpha: float = 0.05) -> Judgement:
    def judge(bar: float, alpha: float, beta: float) -> Judgement | None:
        if len(parts) > 1:
            return judge_going_on(parts, bar=bar, alpha=alpha, beta=beta, n_available=len(parts[-1]))
        return judge_bar(parts[0], bar=bar, alpha=alpha, beta=beta, binary=binary)

    def interval(units: int, error: float) -> tuple[float, float]:
        pooled = [score for part in parts for score in part][:units]
        return so_far(pooled, bar=by.bar, alpha=error, binary=binary).interval

    found = judge_corrected(judge, interval, by, alpha=alpha, beta=0.05)
    assert found is not None
    return found


ACCEPTS_ALL = labels(30, 30, 30, 30, bar=0.5)
REJECTS_ALL = labels(30, 0, 30, 0, bar=0.85)


@pytest.mark.parametrize(
    ("by", "score"),
    [
        (ACCEPTS_ALL, 1.0),
        (REJECTS_ALL, 0.0),
        (labels(0, 0, 30, 3, bar=0.85), 0.0),
        (labels(30, 29, 0, 0, bar=0.5), 1.0),
    ],
    ids=["accepts all", "rejects all", "no right labels", "no wrong labels"],
)
def test_a_side_that_the_labels_leave_open_is_decided_by_no_number_of_items(by: Correction, score: float) -> None:
    assert not (by.can_be_met if score else by.can_be_missed)
    found = verdict([score] * 5000, by=by)
    assert (found.outcome, found.n_used, found.n_needed) == ("UNDECIDED", 5000, None)
    assert verdict([score] * 300, [score] * 300, [score] * 2000, by=by).outcome == "UNDECIDED"


def test_grades_of_a_judge_far_above_people_show_nothing() -> None:
    by = graded(0.9, bar=0.6)
    assert not by.can_be_met
    assert verdict([1.0] * 4000, by=by, binary=False).outcome == "UNDECIDED"


def test_a_score_far_below_the_limit_does_not_end_a_test_that_only_the_other_side_could_end() -> None:
    by = labels(40, 30, 40, 10, bar=0.5)
    between = [1.0, 0.0] * 2500
    assert by.not_met_below < 0.5 < by.met_above
    found = verdict(between, by=by)
    assert (found.outcome, found.n_used) == ("UNDECIDED", 5000)


@pytest.mark.parametrize(("off", "bar"), [(-0.6, 0.3), (0.6, 0.8), (-0.9, 0.85), (0.85, 0.2)])
def test_a_judge_that_is_off_by_more_than_the_bar_gives_a_verdict_all_the_same(off: float, bar: float) -> None:
    by = graded(off, bar=bar)
    assert by.met_above > 0
    assert by.not_met_below < 1
    high = [min(1.0, 0.95 + off)] * 400 if off < 0 else [1.0] * 400
    for scores in (high, [0.0] * 400):
        found = verdict(scores, by=by, binary=False)
        assert 0 <= found.interval[0] <= found.score <= found.interval[1] <= 1
    if by.can_be_met:
        assert verdict(high, by=by, binary=False).outcome == "MET"
    if by.can_be_missed and bar + off > 0.5:
        assert verdict([0.05 + off] * 400, by=by, binary=False).outcome == "NOT_MET"


def test_labels_and_items_have_half_of_each_error() -> None:
    """Each side of the test is tested at half, by its own limit; going on, each has what its own rule leaves."""
    by = labels(300, 285, 300, 15, bar=0.8)
    assert (by.alpha, by.beta) == (0.025, 0.025)
    asked: list[tuple[float, float, float]] = []

    def judge(bar: float, alpha: float, beta: float) -> Judgement | None:
        asked.append((bar, alpha, beta))
        return judge_bar([1.0] * 78 + [0.0] * 22, bar=bar, alpha=alpha, beta=beta, binary=True)

    judge_corrected(judge, lambda units, error: (0.0, 1.0), by, alpha=0.02, beta=0.05)
    assert asked == [(by.met_above, 0.01, 0.0), (by.not_met_below, 0.0, 0.025)]
    first, second = [1.0] * 78 + [0.0] * 22, [1.0] * 155 + [0.0] * 45
    (known, more) = verdict(first, second, by=by, alpha=0.02).parts
    assert (known.alpha, known.beta) == (0.01, 0.025)
    assert more.alpha == pytest.approx(errors_after(78, 100, by.met_above, Errors(0.01, 0.5)).alpha)
    assert more.beta == pytest.approx(errors_after(78, 100, by.not_met_below, Errors(0.5, 0.025)).beta)


def test_the_outlook_of_a_side_that_the_labels_leave_open_is_nothing() -> None:
    scores = [1.0] * 100

    def look(bar: float, alpha: float, beta: float) -> Outlook:
        return outlook([scores], bar=bar, alpha=alpha, beta=beta, binary=True, n_needed=None)

    far = outlook_corrected(look, ACCEPTS_ALL, alpha=0.05, beta=0.05)
    assert (far.claimable, far.after[0].met, far.error) == (0.0, 0.0, 0.05)


def test_a_score_beyond_the_limit_but_too_close_to_it_asks_for_no_labels() -> None:
    """What is open there is the sample of items, not the judge: more labels than there are need not be named."""
    by = labels(150, 142, 150, 15, bar=0.8)
    right = math.ceil(1000 * by.met_above) + 1
    found = verdict([float((i + 1) * right // 1000 > i * right // 1000) for i in range(1000)], by=by)
    assert found.judged is not None
    assert found.score > 0.8
    assert (found.outcome, found.n_needed, found.judged.labels_needed, found.judged.is_open) == (
        "UNDECIDED",
        None,
        None,
        False,
    )
    assert labels_would_decide(found.judged).startswith("the score is too close to the bar")


@pytest.mark.parametrize("looks", [1, 2])
def test_a_judged_score_that_no_true_score_explains_is_no_verdict(looks: int) -> None:
    """The judge accepts half of what is labelled, right or wrong, and nearly all of the test."""
    by = labels(50, 25, 50, 25, bar=0.8)
    part = ([1.0] * 9 + [0.0]) * 40
    found = verdict(*[part] * looks, by=by)
    assert found.judged is not None
    assert (found.outcome, found.n_used, found.n_needed) == ("UNDECIDED", 400 * looks, None)
    assert (found.judged.explained, found.judged.labels_needed) == (False, None)
    assert "not like those of the test, since by them no system is judged at 90.0%" in labels_would_decide(found.judged)
    assert verdict(part[:2], by=by).judged is not None
    assert verdict(([1.0] * 13 + [0.0] * 7) * 20, by=by).judged.explained  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "by", [labels(50, 25, 50, 25, bar=0.5), labels(50, 49, 0, 0, bar=0.5)], ids=["a coin", "no wrong"]
)
def test_a_score_that_labels_cannot_correct_leads_no_climb(by: Correction) -> None:
    assert by.estimate is None
    found = verdict([1.0, 0.0, 1.0] * 20, by=by)
    assert found.judged is not None
    assert (found.outcome, found.judged.estimated) == ("UNDECIDED", False)
    rules = Rules(("prompting", "sft"), bar=0.5)
    for judged, goes_to in ((found.judged, "sft"), (None, None)):
        outcome = RungOutcome("prompting", replace(found, judged=judged), "ten shots")
        step = next_rung(rules, [outcome])
        assert (None if isinstance(step, Stopped) else step) == goes_to
        assert (conclude(rules, [outcome]).stopped_at == "prompting") == (judged is None)


@pytest.mark.parametrize(("right", "goes_on"), [(158, True), (158, False), (120, True)])
def test_the_items_needed_are_those_of_the_side_on_which_the_judged_score_lies(right: int, goes_on: bool) -> None:
    by = labels(300, 291, 300, 9, bar=0.7)
    order = [Example(f"{i}", (Message("user", f"{i}"),), "x") for i in range(200)]
    scores = [float((i + 1) * right // 200 > i * right // 200) for i in range(200)]
    items = [
        ItemScore(one.id, score, "", "x", "", "stop", None, 1, 1, 0.0, 0.0)
        for one, score in zip(order, scores, strict=True)
    ]
    found = judge_parts(BarRule(0.7, True, 0.0054, by, once=not goes_on), [Answered(items, order)])
    side = {"bar": by.met_above, "alpha": 0.0027, "beta": 0.0}
    if right < 0.7 * 200:
        side = {"bar": by.not_met_below, "alpha": 0.0, "beta": 0.025}
    alone = judge_bar(scores, **side, binary=True)
    assert alone is not None
    assert found is not None
    assert found.outcome == "UNDECIDED"
    assert found.n_needed is not None
    assert found.n_needed == (needed_to_go_on([scores], **side) if goes_on else alone.n_needed)


@pytest.mark.parametrize("corrected", [True, False])
def test_the_parts_of_a_graded_test_that_went_on_name_the_error_they_were_tested_at(corrected: bool) -> None:
    parts = []
    for number, n in enumerate((60, 40)):
        order = [Example(f"{number} {i}", (Message("user", f"{number} {i}"),), "x") for i in range(n)]
        items = [ItemScore(one.id, i % 5 / 4, "", "x", "", "stop", None, 1, 1, 0.0, 0.0) for i, one in enumerate(order)]
        parts.append(Answered(items, order))
    by = graded(0.0, bar=0.6) if corrected else None
    found = judge_parts(BarRule(0.6, False, 0.02, by), parts)
    assert found is not None
    half = 0.5 if corrected else 1.0
    assert [(part.alpha, part.beta) for part in found.parts] == [(0.02 * half, 0.05 * half)] * 2


OPENED = JudgeOpened(
    fingerprint="x", model="m", asks="grading", criterion="c", scale="yes-no", self_preference=False, price_known=False
)
SPENT = {"calls": 1, "tokens_in": 1, "tokens_out": 1, "seconds": 0.0, "usd": 0.0, "paid_usd": 0.0}
AGREED = {
    "n": 4,
    "share": 1.0,
    "interval": (0.0, 1.0),
    "kappa": None,
    "kappa_interval": None,
    "weights": "none",
    "said": (),
}


def test_a_rung_forecasts_at_what_labels_leave_and_derives_their_limits_once(tmp_path: Path) -> None:
    task = SimpleNamespace(confidence=0.95, ladder=("prompting",), bar=0.5)
    with Record.create(tmp_path) as record:
        bench = Workbench(task, (), (), None, record, tmp_path, None, SilentProgress(), 8, str)  # type: ignore[arg-type]
        note_shares(record, {"prompting": 0.05})
        assert bench.alpha_of_items("prompting") == 0.05
        people = (1.0, 1.0, 0.0, 0.0)
        record.append(OPENED)
        record.append(JudgeChecked.model_validate({**AGREED, "people": people, "judged": people, "spent": SPENT}))
        assert bench.alpha_of_items("prompting") == 0.025
        assert bench.correction is bench.correction
        assert bench.correction is not None
        assert bench.judged_bar == 0.5


def test_the_check_of_a_judge_in_an_older_record_corrects_nothing() -> None:
    """Records of before labels corrected scores have no `people` and no `judged`, and their decisions no `correction`."""
    old = JudgeChecked.model_validate({"kind": "judge_checked", **AGREED, "spent": SPENT})
    assert (old.people, old.judged) == ((), ())
    cost = {"tokens_in": 1, "tokens_out": 1, "seconds": 0.0, "usd": None}
    view = {
        "model": "m", "asks": "grading", "criterion": "c", "scale": "yes-no", "self_preference": False, "answers": 1,
        "verdicts": {}, "order": None, "asked": 1, "unparsed": 0, "agreement": None, "cost": cost,
    }  # fmt: skip
    assert JudgeView.model_validate(view).correction is None


def test_the_sentence_on_labels_says_what_is_unknown_and_what_nothing_shows() -> None:
    rate = JudgeRate(n=50, share=0.98, interval=(0.9, 0.995))
    none = JudgeRate(n=0, share=None, interval=(0.0, 1.0))
    by = JudgeCorrection(
        n=50, sensitivity=rate, specificity=none, off=None, off_interval=None, met_above=None, not_met_below=0.4, error=0.025
    )  # fmt: skip
    said = corrected(by)
    assert "how many wrong answers it would have refused is unknown, as no labelled answer is wrong" in said
    assert (
        "no judged score shows that the bar is met; a system misses the bar if it is shown to be judged below 40.0%."
        in said
    )
    assert corrected(by.replaced(met_above=0.9, not_met_below=None)).endswith(
        "; no judged score shows that it is missed."
    )
    assert corrected(by.replaced(not_met_below=None)).endswith("no judged score shows that the bar is met or missed.")
