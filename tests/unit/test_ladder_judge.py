"""Climbs whose answers a scripted judge scores: what the decision says of it, what it costs, and that nothing is asked twice."""

from __future__ import annotations

import html
import json
import re
import sqlite3
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from climb_support import comparable, reason_lines, rows
from decision_support import validate_decision
from judge_support import ALWAYS_FIRST, APPROVER, FAIR, GARBAGE, judge_calls, write_judge
from lastresort.app.climb import Climbed, climb
from lastresort.app.dry_run import dry_run
from lastresort.app.start import ClimbRequest, check_models, start_climb
from lastresort.climb.budget import forecast_of_judge
from lastresort.climb.prepare import PreparedTask, prepare
from lastresort.climb.workload import TokenCounts, workload
from lastresort.errors import BudgetError, DataError, InfrastructureError, PrerequisiteError, TaskError
from lastresort.evals.scorers.judge import Judge, case_of
from lastresort.ladder import RUNGS
from lastresort.records.events.run import AnswersJudged, BudgetSpent, JudgeChecked, ModelOpened
from lastresort.records.record import Record
from lastresort.records.responses import ResponseCache
from lastresort.records.view import Fold
from lastresort.report.decision import view_of
from lastresort.report.forecast import DryRun, forecast_table
from lastresort.report.terminal import ladder_table
from lastresort.report.words.next_step import next_step
from lastresort.report.words.wording import money
from lastresort.rungs.forecast import Forecast
from lastresort.rungs.open_models import OpenModels
from lastresort.spec.task import Task, load_task
from lastresort.stop import Stop
from lastresort.systems.system import PromptDesign, System
from lastresort.types import Decoding, SilentProgress
from scripted_rung import ScriptedRung
from tuning_support import Scissors
from ui_support import htmx_page_of

N_DEV, N_TEST = 40, 60
PEOPLE = [
    (f"{first} one {i}", f"{second} two {i}", label)
    for i in range(20)
    for first, second, label in [
        ("good", "bad", "a"),
        ("bad", "good", "b"),
        ("good", "good", "tie"),
        ("bad", "bad", "a"),
    ]
]


def judged_task(folder: Path, judge: dict[str, Any], *, right: float = 0.97, **keys: Any) -> Task:
    """References begin with `bad`; a share of the model's answers begins with `good`, so that a fair judge prefers them."""
    folder.mkdir(parents=True, exist_ok=True)
    data = [{"input": row["input"], "output": f"bad reference {i}"} for i, row in enumerate(rows(200))]
    _lines(folder / "rows.jsonl", data)
    answers = {row["input"]: f"good reply {i}" for i, row in enumerate(data)}
    script = {"answers": answers, "wrong": [f"bad reply {i}" for i in range(9)], "quality": [{"right": right}]}
    (folder / "script.json").write_text(json.dumps(script), encoding="utf-8")
    _lines(
        folder / "people.jsonl",
        [{"input": f"q {i}", "a": a, "b": b, "label": label} for i, (a, b, label) in enumerate(PEOPLE)],
    )
    settings = {
        "task": "voice",
        "about": "Reply in the house style.",
        "model": "scripted:script.json",
        "ladder": ["prompting"],
        "examples": "rows.jsonl",
        "split": {"dev": N_DEV, "test": N_TEST},
        "score": {"judge": judge},
        "bar": 0.7,
        **keys,
    }
    (folder / "task.yaml").write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
    return load_task(folder / "task.yaml")


def _lines(path: Path, values: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(value) + "\n" for value in values), encoding="utf-8")


def climbed(tmp_path: Path, script: dict[str, Any], *, name: str = "run", right: float = 0.97, **judge: Any) -> Climbed:
    folder = tmp_path / "task"
    return climb(judged_task(folder, write_judge(folder, script, **judge), right=right), tmp_path / "runs" / name)


def reasons(found: Climbed) -> str:
    return "\n".join(reason_lines(found.decision.as_json()))


def test_what_a_rung_will_take_is_said_with_its_judge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The dry run and the climb count the same tokens."""
    forecasts: dict[str, list[tuple[int, Forecast | None]]] = {"dry_run": [], "budget": []}

    def noted(place: str) -> Callable[[PreparedTask, int], Forecast | None]:
        def forecast(prepared: PreparedTask, answers: int) -> Forecast | None:
            found = forecast_of_judge(prepared, answers)
            forecasts[place].append((answers, found))
            return found

        return forecast

    monkeypatch.setattr("lastresort.app.dry_run.forecast_of_judge", noted("dry_run"))
    monkeypatch.setattr("lastresort.climb.budget.forecast_of_judge", noted("budget"))
    judge = write_judge(tmp_path / "task", FAIR, prompt_price=300.0, output_price=300.0)
    task = judged_task(tmp_path / "task", judge, use={"prompt_price": 1.0, "output_price": 1.0})
    told, shown = dry_run(task), Scissors()
    climb(task, tmp_path / "run", progress=shown)
    rung = told.rungs[0].forecast
    assert rung is not None
    assert told.judge is not None
    assert set(forecasts["dry_run"]) == {(rung.answers, told.judge)} == set(forecasts["budget"])
    assert told.judge.usd > 100 * rung.usd > 0
    whole = money(rung.usd + told.judge.usd)
    assert f"prompting begins. Forecast: about {whole}, without the judge's time, which is not known." in shown.said


def test_a_paid_judge_of_answers_without_a_price_is_counted_and_asks_if_it_is_expensive(tmp_path: Path) -> None:
    judge = write_judge(tmp_path / "task", FAIR, prompt_price=5000.0, output_price=5000.0)
    task, questions = judged_task(tmp_path / "task", judge), list[str]()
    verdicts = dry_run(task).judge

    def go_on(question: str, _: Stop) -> bool:
        questions.append(question)
        return True

    climb(task, tmp_path / "run", go_on=go_on)
    assert verdicts is not None
    assert verdicts.usd is not None
    assert verdicts.usd > 5
    assert questions == [
        f"prompting is forecast to take about {money(verdicts.usd)}, without the price of the answers and the judge's time, "
        "which are not known. Start it?"
    ]


@pytest.mark.parametrize("asks", [{}, {"rubric": "Is it kind? " * 200}])
def test_the_prompts_of_a_judge_are_counted_without_counting_its_rubric_for_each_item(
    asks: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = prepare(judged_task(tmp_path, write_judge(tmp_path, FAIR, **asks), split={"dev": 60, "test": 130}))
    texts: list[str] = []
    counts = TokenCounts(lambda text: len(texts.append(text) or text), 0, "as letters")
    monkeypatch.setattr("lastresort.climb.budget.counts_of", lambda task, model: counts)
    found = forecast_of_judge(prepared, 190)
    assert found is not None
    assert isinstance(prepared.scorer, Judge)
    items = (*prepared.split.dev, *prepared.split.test)
    prompts = [prepared.scorer.question.prompts(prepared.scorer.about, case_of(item, "…")) for item in items]
    assert sum(map(len, texts)) < 10_000 + 400 * max(len(item.input_text) + len(item.output) for item in items)
    letters = sum(len(turn.content) for own in prompts for prompt in own for turn in prompt)
    answers = 190 * len(prompts[0]) * workload(prepared, "prompting").max_new_tokens
    assert found.tokens_in - answers == pytest.approx(letters, rel=0.05)


def test_what_comes_next_is_said_with_what_is_not_known_of_the_judge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = write_judge(tmp_path / "task", FAIR)
    task = judged_task(tmp_path / "task", judge, ladder=["prompting", "sft"], right=0.4)
    monkeypatch.setitem(RUNGS, "sft", replace(RUNGS["sft"], path="scripted_rung:sft"))
    monkeypatch.setattr(ScriptedRung, "forecast", lambda *_: Forecast(0, 0, 0, 720.0, 0.0, answers=60))
    found = climb(task, tmp_path / "run", until="prompting", gate="none")
    said = (next_step(found.decision) or "").replace("\u00a0", " ")
    assert (
        "SFT would come next, forecast to take about 12 min, without the judge's time and the judge's price, which are not known."
        in said
    )


def test_a_fair_judge_scores_wins_and_ties_and_the_decision_says_whose_opinion_that_is(tmp_path: Path) -> None:
    found = climbed(tmp_path, {**FAIR, "seconds": 0.5})
    validate_decision(found.decision.as_json())
    with Record.open(found.run, read_only=True) as record:
        events = [event for _, event in record.since()]
    before = view_of(Fold.of(events[: [event.kind for event in events].index("climb_decided")]))
    assert before is not None
    assert (before.verdict, before.judge) == (None, found.decision.judge)
    judge = found.decision.as_json()["judge"]
    assert found.decision.as_json()["verdict"] == "MET"
    assert (judge["model"], judge["asks"], judge["self_preference"]) == ("scripted:judge.json", "comparison", False)
    with Record.open(found.run) as record:
        items = [item for m in record.measurements() for item in m.items]
        noted = [item for batch in record.all(AnswersJudged) for item in batch.items]
    assert {(item.answer[:4].strip(), item.score) for item in items} == {("good", 1), ("bad", 0.5), ("", 0.5)}
    assert len(noted) == len(items) > judge["answers"]  # candidates that answer alike are judged once
    answers = {(item.id, item.answer): item.score for item in items}
    assert judge["answers"] == len(answers)
    kinds = Counter("won" if score == 1 else "tied" for score in answers.values())
    assert judge["verdicts"] == {"won": kinds["won"], "lost": 0, "tied": kinds["tied"], "changed": 0, "same_text": 0}
    assert judge["order"]["n"] == judge["answers"]
    assert judge["order"]["changed"] == 0
    assert judge["order"]["ties"] == pytest.approx(kinds["tied"] / judge["answers"])
    assert (judge["asked"], judge["unparsed"]) == (2 * judge["answers"], 0)
    assert judge["cost"]["seconds"] == pytest.approx(0.5 * judge["asked"])
    assert judge["cost"]["usd"] == 0
    assert len(judge_calls(tmp_path / "task")) == judge["asked"]
    assert found.decision.as_json()["rungs"][0]["cost"]["seconds"] == 0  # the judge's time stands apart
    assert "Scores come from the judge scripted:judge.json, which compared every answer with" in reasons(found)
    assert "it was not checked against people, so the verdicts rest on the judge alone." in reasons(found)
    assert "Self-preference" not in reasons(found)
    assert "judge" in found.decision.as_json()["provenance"]["hashes"]
    assert "the judge" in found.report.read_text("utf-8")


def test_a_judge_that_always_names_the_first_lets_nothing_pass(tmp_path: Path) -> None:
    found = climbed(tmp_path, ALWAYS_FIRST)
    order = found.decision.as_json()["judge"]["order"]
    assert found.decision.as_json()["verdict"] == "NOT_MET"
    assert found.decision.as_json()["rungs"][0]["test"]["score"] == 0.5
    assert (order["changed"], order["to_first"], order["to_second"]) == (1, order["n"], 0)
    assert "The order alone changed the judge's verdict in 100% of" in reasons(found)
    assert "Order matters more than the answers" in reasons(found)


def test_what_cannot_be_read_counts_as_a_tie_and_is_counted(tmp_path: Path) -> None:
    found = climbed(tmp_path, GARBAGE)
    judge = found.decision.as_json()["judge"]
    assert found.decision.as_json()["rungs"][0]["test"]["score"] == 0.5
    assert judge["unparsed"] == judge["asked"] > 0
    assert (
        f"{judge['asked']} of {judge['asked']} verdicts could not be read after a second request and count as ties."
        in reasons(found)
    )
    assert len(judge_calls(tmp_path / "task")) == 2 * judge["asked"]


def test_agreement_with_people_is_measured_before_the_first_rung_and_reported(tmp_path: Path) -> None:
    """Fair agrees on 60 of 80: it says tie where people said a. Chance (40*20 + 20*20 + 20*40)/6400 = 5/16, kappa 7/11."""
    found = climbed(tmp_path, {**FAIR, "seconds": 0.5}, labelled="people.jsonl")
    agreed, judge = found.decision.as_json()["judge"]["agreement"], found.decision.as_json()["judge"]
    assert (agreed["n"], agreed["share"], agreed["kappa"]) == (80, 0.75, pytest.approx(7 / 11))
    assert agreed["interval"] == pytest.approx([0.645, 0.832], abs=1e-3)
    assert agreed["kappa_interval"] == pytest.approx([(x - 5 / 16) / (11 / 16) for x in agreed["interval"]])
    assert "it agreed with people on 75% of 80 labelled cases (64.5% to 83.2%; kappa 0.64, 0.48 to 0.76)." in reasons(
        found
    )
    assert judge["cost"]["seconds"] == pytest.approx(0.5 * (judge["asked"] + 160))
    with Record.open(found.run) as record:
        kinds = [event.kind for _, event in record.since()]
        assert len(record.all(JudgeChecked)[0].said) == 80
    assert kinds.index("judge_checked") < kinds.index("answers_judged")


def test_the_bar_is_tested_on_the_score_that_labels_correct(tmp_path: Path) -> None:
    """The judge accepts 57 of 60 right answers and 2 of 40 wrong ones."""
    found, judge, test = corrected(tmp_path, accepted=57, wrongly=2)
    by, said = judge["correction"], test["judged"]
    assert (by["n"], by["sensitivity"]["n"], by["specificity"]["n"]) == (100, 60, 40)
    assert (by["sensitivity"]["share"], by["specificity"]["share"]) == (0.95, 0.95)
    assert test["score"] == pytest.approx(min(1, (said["score"] - 0.05) / 0.9))
    assert (test["verdict"], said["met_above"]) == ("MET", by["met_above"])
    assert 0.7 < test["interval"][0] < test["score"]
    assert 0.7 < by["met_above"] < said["score"]
    told = reasons(found)
    assert "Verdicts are on the score corrected by 100 labelled cases: it accepted 95% of 60 right answers" in told
    assert "That holds if the labelled cases are like those of the test" in told
    assert f"(corrected from the judge's {100 * said['score']:.0f}" in told
    validate_decision(found.decision.as_json())


@pytest.mark.slow
def test_a_lenient_judge_leaves_a_verdict_open_that_it_alone_would_give(tmp_path: Path) -> None:
    """It accepts 13 of 40 wrong answers, so what it accepts may be wrong answers as well."""
    found, judge, test = corrected(tmp_path, accepted=60, wrongly=13, right=0.86)
    alone = climbed(tmp_path / "alone", APPROVER, rubric="It is polite.", scale="yes-no", right=0.86)
    assert alone.decision.as_json()["verdict"] == "MET"
    assert test["verdict"] == "UNDECIDED"
    assert test["n_needed"] is None
    assert judge["correction"]["not_met_below"] < test["judged"]["score"] < judge["correction"]["met_above"]
    assert "labelled cases are needed before test items can decide it" in reasons(found)
    needed = test["judged"]["labels_needed"]
    assert needed > 100
    (change,) = [one for one in found.decision.as_json()["would_change"] if one["code"] == "more_labelled_cases"]
    assert change["figures"]["n_needed"] == needed


def test_fresh_items_go_on_with_a_corrected_test(tmp_path: Path) -> None:
    task = corrected_task(tmp_path / "task", accepted=60, wrongly=2, right=0.85)
    fresh = [
        {"input": f"a fresh question {i} on matter {i * 7 % 31}", "output": f"bad reference {i}"} for i in range(240)
    ]
    script = json.loads((tmp_path / "task" / "script.json").read_text())
    script["answers"] |= {row["input"]: f"good fresh reply {i}" for i, row in enumerate(fresh)}
    (tmp_path / "task" / "script.json").write_text(json.dumps(script))
    first = climb(task, tmp_path / "run").decision.as_json()["rungs"][0]["test"]
    assert (first["verdict"], first["parts"]) == ("UNDECIDED", [])
    assert first["n_needed"] > 60
    assert first["outlook"]["after"][0]["met"] > 0.3
    request = ClimbRequest(
        tmp_path / "task" / "task.yaml", run=tmp_path / "run", resume=True, more=tmp_path / "more.jsonl"
    )
    _lines(tmp_path / "more.jsonl", fresh[:1])
    with pytest.raises(TaskError, match=r"1 fresh item decides nothing, even if all are right .* at least \d+"):
        start_climb(request, SilentProgress())
    _lines(tmp_path / "more.jsonl", fresh)
    found = start_climb(request, SilentProgress())
    test = found.decision.as_json()["rungs"][0]["test"]
    assert test["verdict"] == "MET"
    known, more = test["parts"]
    assert (known["n_used"], known["score"]) == (60, first["judged"]["score"])
    assert 0 < known["alpha"] < 0.05
    assert 0 < more["beta"] < more["alpha"] < 0.5
    assert test["decided"]["by"] == "continued"
    assert test["decided"]["error"] > known["alpha"]  # with the labels' part
    validate_decision(found.decision.as_json())


def test_labels_by_which_nothing_could_be_met_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TaskError) as caught:
        corrected(tmp_path, accepted=60, wrongly=0, wrong=2)
    assert "62 labelled cases with different inputs, of which people call 2 wrong" in caught.value.found


def test_labels_may_check_the_judge_and_correct_nothing(tmp_path: Path) -> None:
    found = climbed(tmp_path, FAIR, labelled="people.jsonl", correct=False)
    decision = found.decision.as_json()
    assert decision["judge"]["agreement"]["n"] == 80
    assert (decision["judge"]["correction"], decision["rungs"][0]["test"]["judged"]) == (None, None)


def corrected_task(folder: Path, *, accepted: int, wrongly: int, wrong: int = 40, right: float = 0.97) -> Task:
    keys = {"rubric": "It is polite.", "scale": "yes-no", "labelled": "cases.jsonl"}
    folder.mkdir(parents=True)
    cases = [("yes", "good" if i < accepted else "bad") for i in range(60)]
    cases += [("no", "good" if i < wrongly else "bad") for i in range(wrong)]
    lines = [{"input": f"q {i}", "answer": f"{text} {i}", "grade": grade} for i, (grade, text) in enumerate(cases)]
    _lines(folder / "cases.jsonl", lines)
    return judged_task(folder, write_judge(folder, APPROVER, **keys), right=right)


def corrected(
    tmp_path: Path, *, accepted: int, wrongly: int, wrong: int = 40, right: float = 0.97
) -> tuple[Climbed, dict[str, Any], dict[str, Any]]:
    """A climb whose judge accepts what begins with `good`. Of 60 answers that people call right it accepts so many."""
    task = corrected_task(tmp_path / "task", accepted=accepted, wrongly=wrongly, wrong=wrong, right=right)
    found = climb(task, tmp_path / "runs" / "corrected")
    decision = found.decision.as_json()
    return found, decision["judge"], decision["rungs"][0]["test"]


def test_agreement_that_may_be_chance_is_called_so(tmp_path: Path) -> None:
    found = climbed(tmp_path, ALWAYS_FIRST, labelled="people.jsonl")
    assert found.decision.as_json()["judge"]["agreement"]["kappa"] == 0
    assert "which is not shown to be more than chance." in reasons(found)


def test_a_judge_that_judges_itself_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "task"
    task = judged_task(folder, {"model": "scripted:script.json"})
    found = climb(task, tmp_path / "runs" / "self")
    assert found.decision.as_json()["judge"]["self_preference"] is True
    assert "Self-preference: the judge scripted:script.json is the model it judges" in reasons(found)


def test_a_rubric_of_yes_and_no_is_tested_as_right_and_wrong(tmp_path: Path) -> None:
    found = climbed(tmp_path, APPROVER, rubric="It is polite.", scale="yes-no")
    judge = found.decision.as_json()["judge"]
    assert judge["order"] is None
    assert judge["verdicts"].keys() == {"yes", "no"}
    assert (judge["scale"], judge["criterion"]) == ("yes-no", "It is polite.")
    assert found.decision.as_json()["verdict"] == "MET"
    assert 'which graded every answer yes or no by the rubric "It is polite."' in reasons(found)
    task = load_task(tmp_path / "task" / "task.yaml")
    assert prepare(task).scorer.binary


@pytest.mark.sampled(3)
@pytest.mark.parametrize("fail_at", [3, 31, 90])
def test_a_climb_goes_on_after_its_judge_failed_and_asks_nothing_twice(tmp_path: Path, fail_at: int) -> None:
    """Before the first rung, in its first batch, and later: the same decision as without a failure, and one call more."""
    whole = climbed(tmp_path / "whole", FAIR, labelled="people.jsonl")
    calls = [call["key"] for call in judge_calls(tmp_path / "whole" / "task")]
    assert len(set(calls)) == len(calls) > 90
    folder, run = tmp_path / "cut" / "task", tmp_path / "cut" / "runs" / "run"
    task = judged_task(folder, write_judge(folder, {**FAIR, "faults": {"fail_at": [fail_at]}}, labelled="people.jsonl"))
    with pytest.raises(InfrastructureError):
        climb(task, run)
    found = climb(task, run)
    again = judge_calls(folder)
    assert Counter(call["key"] for call in again if not call["failed"]) == Counter(calls)
    assert len(again) == len(calls) + 1
    assert _without_hashes(found.decision.as_json()) == _without_hashes(whole.decision.as_json())


def _without_hashes(decision: dict[str, Any]) -> dict[str, Any]:
    kept = comparable(decision)
    kept["provenance"].pop("hashes")
    return kept


def test_a_second_run_beside_it_asks_the_judge_nothing(tmp_path: Path) -> None:
    first = climbed(tmp_path, FAIR, name="one")
    calls = len(judge_calls(tmp_path / "task"))
    second = climbed(tmp_path, FAIR, name="two")
    assert len(judge_calls(tmp_path / "task")) == calls
    assert second.decision.as_json()["judge"] == first.decision.as_json()["judge"]


def test_what_the_judge_spends_counts_towards_the_limit_and_once(tmp_path: Path) -> None:
    folder = tmp_path / "task"
    judge = write_judge(folder, FAIR, prompt_price=1e6, output_price=0)
    task = judged_task(folder, judge, limits={"usd": 1e9}, use={"prompt_price": 0, "output_price": 0})
    found = climb(task, tmp_path / "runs" / "rich")
    spent = found.decision.as_json()["judge"]["cost"]
    assert spent["usd"] == spent["tokens_in"] > 1000  # a dollar a token
    with Record.open(found.run) as record:
        paid = sum(spent.usd for spent in record.all(BudgetSpent))
    assert paid == pytest.approx(spent["usd"])
    free = climb(task, tmp_path / "runs" / "again")
    with Record.open(free.run) as record:
        assert sum(spent.usd for spent in record.all(BudgetSpent)) == 0
    poor = judged_task(tmp_path / "poor", judge, limits={"usd": 2000}, use={"prompt_price": 0, "output_price": 0})
    with pytest.raises(BudgetError):
        climb(poor, tmp_path / "elsewhere" / "runs" / "poor")


def test_verdicts_of_a_batch_that_failed_in_the_middle_are_paid(tmp_path: Path) -> None:
    judge = write_judge(tmp_path / "task", {**FAIR, "faults": {"fail_at": [22]}}, prompt_price=1e6, output_price=0)
    task = judged_task(tmp_path / "task", judge, limits={"usd": 1e9}, use={"prompt_price": 0, "output_price": 0})
    with pytest.raises(InfrastructureError):
        climb(task, tmp_path / "runs" / "run")
    with sqlite3.connect(tmp_path / "runs" / ".lastresort" / "responses.sqlite") as cache:
        prices = [json.loads(body)["usd"] for (body,) in cache.execute("SELECT body FROM response")]
    with Record.open(tmp_path / "runs" / "run") as record:
        paid = sum(spent.usd for spent in record.all(BudgetSpent))
    assert sum(price > 0 for price in prices) == 21
    assert paid == pytest.approx(sum(prices))


def test_a_run_goes_on_only_with_the_judge_and_the_cases_it_began_with(tmp_path: Path) -> None:
    folder, run = tmp_path / "task", tmp_path / "runs" / "run"
    judge = write_judge(folder, {**FAIR, "faults": {"fail_at": [60]}}, labelled="people.jsonl")
    task = judged_task(folder, judge)
    with pytest.raises(InfrastructureError):
        climb(task, run)
    write_judge(folder, ALWAYS_FIRST)
    with pytest.raises(TaskError, match=r"the judge scripted:.*is not the one this run began with"):
        climb(task, run)
    write_judge(folder, FAIR)
    _lines(folder / "people.jsonl", [{"input": "q", "a": "x", "b": "y", "label": "tie"}])
    with pytest.raises(
        TaskError, match=r"the files of this run differ from those this run began with, in people\.jsonl"
    ):
        climb(task, run)


def test_an_item_that_the_judge_has_no_room_for_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    folder = tmp_path / "task"
    task = judged_task(folder, write_judge(folder, {**FAIR, "context_tokens": 200}))
    with pytest.raises(DataError, match=r"rows\.jsonl, row \d+: \d+ tokens that the judge reads.*the judge scripted:"):
        climb(task, tmp_path / "runs" / "run")
    with Record.open(tmp_path / "runs" / "run") as record:
        assert record.last(ModelOpened) is None
    assert judge_calls(folder) == []


def test_a_bad_labelled_case_is_refused_before_a_model_is_opened(tmp_path: Path) -> None:
    folder = tmp_path / "task"
    task = judged_task(folder, write_judge(folder, FAIR, labelled="people.jsonl"))
    _lines(folder / "people.jsonl", [{"input": "q", "a": "x", "b": "y", "label": "both"}])
    with pytest.raises(DataError, match=r'people\.jsonl, row 1, key "label": found "both"'):
        prepare(task)


def test_a_dry_run_forecasts_the_judge_and_asks_it_nothing(tmp_path: Path) -> None:
    from rich.console import Console

    folder = tmp_path / "task"
    judge = write_judge(folder, FAIR, labelled="people.jsonl", prompt_price=1, output_price=2)
    found = dry_run(judged_task(folder, judge)).as_json()
    prompting, judging = found["rungs"][0]["forecast"], found["judge"]
    assert judge_calls(folder) == []
    assert judging["tokens_in"] > 0
    assert found["total"]["tokens_in"] == prompting["tokens_in"] + judging["tokens_in"]
    asked = climb(load_task(folder / "task.yaml"), tmp_path / "runs" / "run").decision.as_json()["judge"]
    assert judging["tokens_in"] > asked["cost"]["tokens_in"]  # on the high side, as the foot of the table says
    console = Console(width=100, record=True)
    console.print(forecast_table(DryRun.model_validate(found), verbose=True))
    assert "the judge: verdicts" in console.export_text()


def test_a_task_without_a_judge_says_nothing_of_one(tmp_path: Path) -> None:
    from climb_support import scripted_task

    found = climb(load_task(scripted_task(tmp_path / "task", quality=[])), tmp_path / "runs" / "run")
    assert found.decision.as_json()["judge"] is None
    assert "judge" not in reasons(found)
    assert "judge" not in found.decision.as_json()["provenance"]["hashes"]


def test_a_judge_stays_open_beside_the_models_that_answer_and_goes_when_room_is_wanted(tmp_path: Path) -> None:
    keys = write_judge(tmp_path, FAIR)
    (tmp_path / "other.json").write_text("{}", encoding="utf-8")
    names = {"base_name": keys["model"], "tuned_name": keys["model"]}
    with ResponseCache(tmp_path / "cache.sqlite") as cache:
        models = OpenModels(cache, base_folder=tmp_path, **names)
        judge = models.judge(keys["model"], prompt_price=0, output_price=0)
        for model in ("scripted:other.json", keys["model"]):
            models.open(System("s", model, PromptDesign(""), Decoding(1)))
            assert models.judge(keys["model"], prompt_price=0, output_price=0) is judge
        models.close()
        assert models.judge(keys["model"], prompt_price=0, output_price=0) is not judge


def test_a_judge_that_leads_nowhere_is_refused_before_a_folder_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    check_models(judged_task(tmp_path / "a", write_judge(tmp_path / "a", FAIR)))
    with pytest.raises(PrerequisiteError, match="no key for openai:some-judge"):
        check_models(judged_task(tmp_path / "b", {"model": "openai:some-judge"}))


@pytest.mark.parametrize(
    ("accepted", "wrongly", "right", "answer", "change"),
    [
        (
            40,
            40,
            0.97,
            "labels do not show that the judge can tell right from wrong",
            "A judge that is shown to tell",
        ),
        (0, 0, 0.97, "the labelled cases are not like the test's", "Labelled answers of this test"),
    ],
    ids=["accepts all alike", "accepts nothing"],
)
def test_a_judge_at_chance_level_is_the_reason_that_is_given_everywhere(
    tmp_path: Path, accepted: int, wrongly: int, right: float, answer: str, change: str
) -> None:
    """Not that the score, which is the judge's own and far off, were too close to the bar, and not more test items."""
    task = corrected_task(tmp_path / "tasks" / "routing", accepted=accepted, wrongly=wrongly, right=right)
    found = climb(task, tmp_path / "runs" / "routing-1")
    assert (found.decision.verdict, found.decision.answer_code) == ("UNDECIDED", "still_open")
    assert (found.decision.answer or "").startswith(f"Cannot tell: {answer}, so ")
    assert found.decision.would_change[0].text.startswith(change)
    _, page = htmx_page_of(tmp_path)
    console = Console(file=StringIO(), width=500)
    console.print(ladder_table(found.decision))
    terminal = console.file.getvalue()  # type: ignore[attr-defined]
    report = html.unescape(re.sub("<[^>]*>", "", found.report.read_text("utf-8")))
    shown = html.unescape(re.sub("<[^>]*>", "", page.get("/runs/routing-1").text))
    for text in (terminal, report, shown):
        assert f"Cannot tell: {answer}, so " in text
        assert "agreed with people on 40" in text
        assert "not shown to be more than chance" in text
        assert "too close to the bar" not in text
        assert "fresh items" not in text
    for text in (report, shown):
        assert "Next: label more cases for score.judge.labelled" in text
        assert "settle for the answer" not in text, "there is none"
        assert "so the climb does not follow it" in text
        assert "Until there are more test items" not in text
