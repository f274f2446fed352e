"""The way up, what to ask and the document: what must hold whatever is known, and what a climb itself would do."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import fields, replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given as each
from hypothesis import settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from rich.console import Console

from climb_support import scripted_task
from document_schemas import schema_of
from lastresort.advice.advise import Advice, advise, as_document
from lastresort.advice.facts import TRAINED, WRONG, Facts
from lastresort.advice.questions import QUESTIONS, question_of, read_answer
from lastresort.advice.task_facts import facts_of
from lastresort.app.dry_run import dry_run
from lastresort.errors import InputError
from lastresort.ladder import RUNGS as LADDER
from lastresort.records.advice import RungAdvice
from lastresort.records.rungs import NoReflector
from lastresort.report.advice import advice_text
from lastresort.report.words.untuned import why_kept as clause_of_kept
from lastresort.rungs.prompting.optimise import LEAST_PARAMETERS
from lastresort.rungs.supervised.sft import LEAST_ROWS, PACES, SftRung
from lastresort.spec.task import load_task

RUNGS = tuple(LADDER)

SHARE = st.floats(0, 1).map(lambda share: round(share, 2))
KNOWN: dict[str, Any] = {
    "ladder": st.sets(st.sampled_from(RUNGS), min_size=1).map(
        lambda some: tuple(rung for rung in RUNGS if rung in some)
    ),
    "goal": st.sampled_from(["quality", "cost"]),
    "bar": st.sampled_from([0.5, 0.8, 0.85, 0.99]),
    "output": st.sampled_from(["schema", "choices", "text"]),
    "scorer": st.sampled_from(["exact", "judge"]),
    "knowledge_changes": st.sampled_from(PACES),
    "retrain_every": st.sampled_from(PACES),
    "context": st.sampled_from(["allowed", "forbidden"]),
    "preferences": st.sampled_from(["pairs", "labels", "none"]),
    "method": st.sampled_from(["auto", "lora", "qlora", "full"]),
    "target": st.sampled_from(["attention", "all-linear"]),
    "skips": st.sampled_from(RUNGS).map(lambda rung: ((rung, "it does not apply"),)),
    "prompt_kept": st.just("the model is too small"),
    "wrong": st.sets(st.sampled_from(WRONG)).map(lambda some: tuple(kind for kind in WRONG if kind in some)),
    "breadth": st.sampled_from(["narrow", "broad"]),
    "parameters": st.integers(10**7, 10**12),
    "card_gb": st.floats(4, 200),
    "cards": st.integers(0, 64),
    "prompt_price": st.floats(0, 100),
    "replay": SHARE,
    "best_prompt_score": SHARE,
}
COUNTS = ("n_examples", "n_train", "n_test", "test_least", "knowledge_tokens", "n_preferences", "calls_per_month")
KNOWN |= {name: st.integers(0, 10**6) for name in COUNTS}
KNOWN |= {name: st.floats(0, 10**4) for name in ("instruction_tokens", "input_tokens", "answer_tokens")}
KNOWN |= {field.name: st.booleans() for field in fields(Facts) if field.name not in KNOWN}
ANY_FACTS = st.fixed_dictionaries({}, optional=KNOWN).map(lambda known: Facts(**known))
VALIDATOR = Draft202012Validator(schema_of("advice"))


def stances(facts: Facts) -> dict[str, str]:
    return {step.rung: step.stance for step in advise(facts).path}


def step(advice: Advice, rung: str) -> RungAdvice:
    return next(one for one in advice.path if one.rung == rung)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@each(ANY_FACTS)
def test_whatever_is_known_the_advice_holds_together(facts: Facts) -> None:
    advice = advise(facts)
    document = as_document(advice, task="a-task")
    assert [fault.message for fault in VALIDATOR.iter_errors(json.loads(json.dumps(document.as_json())))] == []
    assert [one.rung for one in document.path] == list(RUNGS)
    for one in advice.path:
        opposing = {said.rule.strength for said in advice.applied if one.rung in said.rule.opposes}
        if one.rung not in facts.ladder or facts.skip_of(one.rung) is not None or "STRONG" in opposing:
            assert one.stance == "NOT"
        lowest = all(lower.stance == "NOT" for lower in advice.path[: advice.path.index(one)])
        if one.stance == "DO" and one.rung != "prompting" and not lowest:
            assert not opposing
        assert one.reasons
        assert (one.condition is None) == (one.stance != "ONLY_IF")
    whole = advise(replace(facts, ladder=tuple(RUNGS)))
    trained_now = [rung for rung in TRAINED if step(whole, rung).stance == "DO"]
    assert re.sub(r" Your task's ladder leaves out [^.]*\.", "", advice.answer) == whole.answer
    assert len(trained_now) <= 1, "one dear step at a time"
    assert advice.answer.startswith("Probably yes") == bool(trained_now)
    elsewhere = advise(replace(facts, skips=()))
    assert bool(advice.frameworks) == any(step(elsewhere, rung).stance != "NOT" for rung in TRAINED)
    assert all(getattr(facts, one.question.fact) is None for one in advice.to_find_out)


@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@each(ANY_FACTS)
def test_a_question_is_open_exactly_where_an_answer_moves_what_a_reader_sees(facts: Facts) -> None:
    now = advise(facts)
    asked = {one.question.fact: set(one.changes) for one in now.to_find_out}
    for question in QUESTIONS:
        if getattr(facts, question.fact) is not None:
            continue
        moved = set()
        for sample in question.samples:
            then = advise(replace(facts, **{question.fact: sample}))
            moved |= {rung for rung in facts.ladder if step(then, rung).stance != step(now, rung).stance}
        assert asked.get(question.fact, set()) == moved


def test_rows_without_a_token_share_nothing() -> None:
    assert Facts(instruction_tokens=0.0, input_tokens=0.0, answer_tokens=0.0).shared_share is None
    assert Facts(instruction_tokens=0.0, input_tokens=1.0, answer_tokens=0.0).shared_share == 0


def test_what_a_ladder_leaves_out_and_what_a_climb_would_skip_are_both_said() -> None:
    known = Facts(wrong=("knowledge",), ladder=("prompting",), skips=(("retrieval", "no documents"),))
    assert advise(known).answer == (
        "Not yet: prompting first, sft only if it falls short. Your task's ladder leaves out sft and full. "
        "Retrieval is advised, too, but a climb of this task would skip it: no documents."
    )


def test_with_nothing_known_the_way_up_is_the_ladder() -> None:
    advice = advise(Facts())
    assert advice.answer == "Not yet: prompting first, sft only if it falls short."
    assert stances(Facts()) == {"prompting": "DO", **dict.fromkeys(RUNGS[1:], "ONLY_IF")}
    assert (
        step(advice, "full").condition
        == "sft misses your bar, and a capability is missing that an adapter did not learn"
    )


def test_whether_to_fine_tune_is_not_asked_of_the_ladder_of_a_task() -> None:
    """The same answer, with what the ladder leaves out; what a climb would skip is not missed."""
    known = Facts(n_train=900, skips=(("retrieval", "no documents"),))
    whole = "Not yet: prompting first, sft only if it falls short."
    assert advise(known).answer == whole
    one = advise(replace(known, ladder=("prompting",)))
    assert one.answer == f"{whole} Your task's ladder leaves out sft, preference and full."
    assert {stance.rung: stance.stance for stance in one.path} == {"prompting": "DO", **dict.fromkeys(RUNGS[1:], "NOT")}
    assert step(one, "sft").reasons[0] == (
        f"Your task's ladder leaves it out. The rules would add it only if {step(advise(known), 'sft').condition}."
    )
    assert step(one, "retrieval").reasons[0] == "Your task's ladder leaves it out. A climb would skip it: no documents."
    trained = advise(replace(known, ladder=("sft",)))
    assert trained.answer == f"{whole} Your task's ladder leaves out prompting, preference and full."
    assert step(trained, "prompting").reasons[0] == "Your task's ladder leaves it out. The rules would add it now."
    missed = advise(replace(known, ladder=("prompting",), bar=0.9, best_prompt_score=0.5, wrong=("style",)))
    assert missed.answer.startswith("Probably yes, with sft")
    assert missed.answer.endswith("Your task's ladder leaves out sft, preference and full.")


def test_a_prompt_at_the_bar_ends_it() -> None:
    facts = Facts(bar=0.85, best_prompt_score=0.9, n_train=5_000)
    assert (
        advise(facts).answer
        == "No: your prompt is at 90% and the bar at 85%; confirm it on held-out examples and stop."
    )
    assert stances(facts) == {"prompting": "DO", **dict.fromkeys(RUNGS[1:], "NOT")}
    assert advise(facts).frameworks == ()


def test_a_prompt_at_the_bar_does_not_end_it_where_cost_is_the_goal() -> None:
    facts = Facts(
        bar=0.85, best_prompt_score=0.86, goal="cost", n_train=5_000, calls_per_month=10**6, prompt_price=1.0,
        input_tokens=100.0, answer_tokens=20.0, wrong=("cost",),
    )  # fmt: skip
    assert step(advise(facts), "sft").condition == "its yearly savings are worth training, serving and retraining"
    assert stances(replace(facts, calls_per_month=1_000))["sft"] == "NOT"


def test_missing_knowledge_leads_to_retrieval_and_knowledge_that_moves_out_of_the_weights() -> None:
    facts = Facts(bar=0.8, best_prompt_score=0.5, wrong=("knowledge",), knowledge=True, n_train=900)
    assert stances(facts) == {
        "prompting": "DO", "retrieval": "DO", "sft": "ONLY_IF", "preference": "NOT", "full": "ONLY_IF",
    }  # fmt: skip
    moving = replace(facts, knowledge_changes="weekly", retrain_every="monthly")
    assert stances(moving) == {"prompting": "DO", "retrieval": "DO", "sft": "NOT", "preference": "NOT", "full": "NOT"}
    assert advise(moving).answer == "No: nothing here calls for training. Use prompting and retrieval."


def test_knowledge_that_may_not_travel_leads_into_the_weights() -> None:
    facts = Facts(
        bar=0.8, best_prompt_score=0.5, wrong=("knowledge",), knowledge=True, n_train=900, context="forbidden"
    )
    assert stances(facts)["retrieval"] == "NOT"
    assert stances(facts)["full"] == "DO"
    assert "weights" in " ".join(step(advise(facts), "full").reasons)


def test_form_is_enforced_before_it_is_trained() -> None:
    facts = Facts(bar=0.8, best_prompt_score=0.6, wrong=("format",), output="schema", n_train=900)
    assert stances(facts)["sft"] == "ONLY_IF"
    assert "constrained decoding" in step(advise(facts), "prompting").reasons[0]
    assert stances(replace(facts, wrong=("style",)))["sft"] == "DO"
    assert stances(replace(facts, best_prompt_score=0.86, bar=0.95))["sft"] == "NOT"


def test_a_rung_waits_for_the_one_below_that_may_still_do() -> None:
    facts = Facts(bar=0.8, best_prompt_score=0.5, wrong=("knowledge", "style"), knowledge=True, n_train=900)
    assert stances(facts)["retrieval"] == "DO"
    sft = step(advise(facts), "sft")
    assert sft.stance == "ONLY_IF"
    assert sft.condition is not None
    assert sft.condition.startswith("retrieval misses the bar of 80%")


def test_what_a_rule_warns_of_is_no_next_step() -> None:
    facts = Facts(ladder=("prompting", "preference"), bar=0.8, best_prompt_score=0.5, reward=True)
    assert stances(facts)["preference"] == "DO"
    hopeless = replace(facts, best_prompt_score=0.03)
    assert stances(hopeless)["preference"] == "ONLY_IF"
    assert step(advise(hopeless), "preference").reasons[0].startswith("Teach the task by examples before GRPO")


def test_how_to_train_is_not_told_where_nothing_is_to_be_trained() -> None:
    facts = Facts(parameters=7 * 10**9, method="qlora", n_train=900, preferences="pairs", n_preferences=20)
    training = {"qlora-gap", "rent-a-big-card", "who-retrains", "pairs-dpo", "few-preferences"}
    assert training <= {one.rule.name for one in advise(facts).applied}
    assert not training & {one.rule.name for one in advise(replace(facts, wrong=())).applied}
    skipped = replace(facts, skips=tuple((rung, "this version cannot do it") for rung in TRAINED))
    assert training <= {one.rule.name for one in advise(skipped).applied}, "another framework can"
    assert advise(skipped).frameworks
    assert (
        advise(skipped).answer
        == "Not yet: prompting and retrieval first. SFT is not possible yet: this version cannot do it."
    )


def test_the_answer_says_what_the_first_rung_that_trains_lacks() -> None:
    """Also where the rules leave only a higher one open, since rows serve both."""
    few = "40 training rows are too few"
    facts = Facts(n_train=40, skips=tuple((rung, "no pairs" if rung == "preference" else few) for rung in TRAINED))
    assert "preference" not in advise(facts).answer
    assert advise(facts).answer.endswith(f"first. SFT is not possible yet: {few}.")


TASKS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "all rungs": {"ladder": list(RUNGS)},
    "too few rows": {"split": {"dev": 80, "test": 150}},
    "method full": {"ladder": list(RUNGS), "tune": {"model": "same", "method": "full"}},
    "with knowledge": {"ladder": ["prompting", "retrieval", "sft"], "knowledge": "docs"},
    "knowledge moves": {
        "ladder": ["prompting", "retrieval", "sft", "full"],
        "knowledge": "docs",
        "knowledge_changes": "daily",
        "retrain_every": "yearly",
    },
    "forbidden": {"ladder": list(RUNGS), "knowledge": "docs", "use": {"context": "forbidden"}},
    "an open model to tune": {"tune": {"model": "org/model-1b"}},
    "one rung": {"ladder": ["sft"]},
}


def task_file(folder: Path, changes: dict[str, Any]) -> Path:
    path = scripted_task(folder, quality=[{"right": 1.0}], task=changes)
    (folder / "docs").mkdir()
    (folder / "docs" / "a.md").write_text("# A\nThe kettle is red.\n" * 20, encoding="utf-8")
    return path


@pytest.mark.parametrize("name", TASKS)
def test_what_a_climb_would_skip_is_never_advised(name: str, tmp_path: Path) -> None:
    task = load_task(task_file(tmp_path, TASKS[name]))
    path = {one.rung: one for one in advise(facts_of(task).facts).path}
    would = dry_run(task).as_json()["rungs"]
    assert {rung["name"] for rung in would} == set(task.ladder)
    for rung in would:
        if not rung["applies"]:
            assert path[rung["name"]].stance == "NOT"
            assert rung["skipped_because"]["text"] in path[rung["name"]].reasons[0]
    assert all(path[rung].stance == "NOT" for rung in RUNGS if rung not in task.ladder)


@pytest.mark.parametrize("n_train", [LEAST_ROWS - 1, LEAST_ROWS])
def test_the_least_number_of_rows_is_the_climbs(n_train: int, tmp_path: Path) -> None:
    changes = {"tune": {"model": "org/model-1b"}, "split": {"dev": 60, "test": 200 - n_train}}
    task = load_task(task_file(tmp_path, changes))
    facts = facts_of(task).facts
    assert facts.n_train == n_train
    skipped = SftRung().skip_reason(task, [None] * n_train)  # type: ignore[list-item]
    assert (skipped is not None) == (n_train < LEAST_ROWS)
    assert (stances(facts)["sft"] == "NOT") == (n_train < LEAST_ROWS)
    assert (stances(replace(facts, skips=()))["sft"] == "NOT") == (n_train < LEAST_ROWS)


def test_a_task_tells_what_it_holds_and_nothing_that_it_leaves_out(tmp_path: Path) -> None:
    changes = {
        "ladder": list(RUNGS),
        "knowledge": "docs",
        "preferences": "pairs.jsonl",
        "tune": {"model": "org/model-1b", "method": "qlora"},
        "use": {"calls_per_month": 5000, "prompt_price": 0.5},
    }
    path = task_file(tmp_path, changes)
    pair = {"prompt": "a", "chosen": "b", "rejected": "c"}
    (tmp_path / "pairs.jsonl").write_text(json.dumps(pair) + "\n", encoding="utf-8")
    facts = facts_of(load_task(path)).facts
    assert (facts.n_examples, facts.n_train, facts.n_test, facts.output) == (260, 80, 120, "choices")
    assert (facts.preferences, facts.n_preferences) == ("pairs", 1)
    assert facts.knowledge_tokens == (tmp_path / "docs" / "a.md").stat().st_size // 4
    assert (facts.calls_per_month, facts.prompt_price, facts.method) == (5000, 0.5, "qlora")
    assert (
        facts.test_least == 21
    )  # the smallest n with .8^n <= .8 x the smallest share, of three rungs: one preference, and qlora
    assert facts.trainable
    assert facts.outside is False
    assert facts.knowledge_changes is facts.context is facts.retrain_every is facts.reward is facts.wrong is None


def test_synthetic_rows_are_no_rows_that_people_wrote(tmp_path: Path) -> None:
    """Else two hundred of them would make a task of 40 rows one that is large enough to tune."""
    changes = {"tune": {"model": "org/model-1b"}, "split": {"dev": 60, "test": 160}}
    plain = facts_of(load_task(task_file(tmp_path / "plain", changes))).facts
    path = task_file(tmp_path / "more", {**changes, "examples": {"train": "rows.jsonl", "synthetic": "more.jsonl"}})
    more = [{"input": f"{'a long text ' * 20}{number}", "output": "billing"} for number in range(200)]
    (path.parent / "more.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in more), encoding="utf-8")
    found = facts_of(load_task(path))
    assert (found.facts.n_train, found.facts.n_examples) == (plain.n_train, plain.n_examples) == (40, 260)
    assert found.facts.input_tokens == plain.input_tokens
    assert found.notes == (
        "200 synthetic rows are not counted here: the rules are about rows that people wrote. A climb trains on them as well.",
    )
    assert "Do not tune on 40 rows" in str(advise(found.facts))


def test_what_a_climb_would_refuse_is_a_note_and_advice_goes_on(tmp_path: Path) -> None:
    task = load_task(task_file(tmp_path, {"split": {"dev": 60, "test": 5}}))
    found = facts_of(task)
    assert found.notes[0].startswith("A climb would refuse this task as it stands: task.yaml")
    assert "test-decides" in [one.rule.name for one in advise(found.facts).applied]


@pytest.mark.parametrize(
    ("model", "parameters", "outside"),
    [
        ("Qwen/Qwen2.5-7B-Instruct", 7_000_000_000, False),
        ("Qwen/Qwen3-30B-A3B", 30_000_000_000, False),
        ("embedded", 135_000_000, False),
        ("mistralai/Mixtral-8x7B-v0.1", None, False),
        ("microsoft/phi-3.5-mini-instruct", None, False),
        ("openai:gpt-x-8b", None, True),
        ("https://models.example.com/v1#m", None, True),
        ("http://localhost:8000/v1#m", None, False),
        ("http://10.0.0.7/v1#m", None, False),
    ],
)
def test_size_and_place_of_a_model_by_its_name(
    model: str, parameters: int | None, outside: bool, tmp_path: Path
) -> None:
    facts = facts_of(load_task(task_file(tmp_path, {"model": model}))).facts
    assert facts.parameters == parameters
    assert facts.outside is outside
    assert facts.trainable is not (model.startswith(("openai:", "http")))


@pytest.mark.parametrize(
    ("fact", "typed", "value"),
    [
        ("wrong", "format, style", ("format", "style")),
        ("wrong", "4 1", ("format", "knowledge")),
        ("wrong", "nothing", ()),
        ("bar", "85 %", 0.85),
        ("best_prompt_score", "82", 0.82),
        ("best_prompt_score", "0.82", 0.82),
        ("best_prompt_score", "1", 1.0),
        ("n_examples", "1,200", 1200),
        ("n_examples", "12k", 12_000),
        ("parameters", "7b", 7_000_000_000),
        ("parameters", "1.5B", 1_500_000_000),
        ("card_gb", "24", 24.0),
        ("context", "forb", "forbidden"),
        ("context", "no", "forbidden"),
        ("knowledge_changes", "4", "weekly"),
        ("verbatim", "y", True),
        ("verbatim", "2", False),
        ("verbatim", "true", True),
    ],
)
def test_an_answer_is_read_as_it_was_meant(fact: str, typed: str, value: object) -> None:
    assert read_answer(question_of(fact), typed) == value


@pytest.mark.parametrize(
    ("fact", "typed", "expected"),
    [
        ("wrong", "colour", "format"),
        ("wrong", "nothing style", "nothing"),
        ("wrong", ",", "format"),
        ("bar", "100 %", "strictly between 0 and 1"),
        ("best_prompt_score", "182", "a share"),
        ("n_examples", "many", "a number"),
        ("n_examples", "-3", "a number"),
        ("card_gb", "0", "above 0"),
        ("verbatim", "maybe", "yes, no"),
        ("verbatim", "", "yes, no"),
        ("knowledge_changes", "9", "never"),
    ],
)
def test_an_answer_that_cannot_be_read_is_refused_with_what_was_expected(fact: str, typed: str, expected: str) -> None:
    with pytest.raises(InputError) as refused:
        read_answer(question_of(fact), typed)
    assert expected in refused.value.expected


def test_samples_and_choices_of_every_question_are_answers_to_it() -> None:
    known = {field.name for field in fields(Facts)}
    for question in QUESTIONS:
        assert question.fact in known
        assert len(question.samples) >= 2
        for choice in question.choices:
            assert read_answer(question, choice) is not None
        for sample in question.samples:
            Facts(**{question.fact: sample})
    with pytest.raises(InputError, match='Did you mean "wrong"'):
        question_of("wron")


def test_the_rules_load_no_torch() -> None:
    code = (
        "import sys; from lastresort.advice import advise, task_facts; from lastresort.report import advice; "
        "print([m for m in ('torch', 'transformers', 'peft', 'accelerate') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


DEPENDS: dict[str, Any] = {"wrong": ("knowledge",), "names_documents": False}
NO_DOCUMENTS = (("retrieval", "the task names no knowledge to retrieve from"),)


@pytest.mark.parametrize("ladder", [("prompting", "retrieval", "sft"), ("prompting", "sft")], ids=["on", "left out"])
def test_documents_that_a_person_knows_of_are_advised_although_the_file_does_not_name_them_yet(
    ladder: tuple[str, ...],
) -> None:
    facts = Facts(ladder=ladder, bar=0.8, knowledge=True, skips=NO_DOCUMENTS, **DEPENDS)
    advice = advise(facts)
    assert any(one.rule.name == "retrieve" and one.rule.strength == "STRONG" for one in advice.applied)
    assert advice.ladder == ("prompting", "retrieval", "sft")
    assert any("Name the documents under `knowledge` first" in reason for reason in step(advice, "retrieval").reasons)
    named = advise(replace(facts, names_documents=True, skips=()))
    assert (named.answer, named.ladder) == (advice.answer, advice.ladder)
    assert not any("Name the documents" in reason for one in named.path for reason in one.reasons)


def test_retrieval_without_documents_is_advised_in_the_answer_with_what_it_lacks() -> None:
    advice = advise(Facts(ladder=("prompting", "sft"), bar=0.8, skips=NO_DOCUMENTS, **DEPENDS))
    assert advice.answer.endswith(
        "Retrieval is advised, too, but a climb of this task would skip it: the task names no knowledge to retrieve from."
    )
    assert advice.ladder == ("prompting", "sft"), "nothing that a climb would skip"
    assert step(advice, "retrieval").reasons == (
        "Your task's ladder leaves it out. A climb would skip it: the task names no knowledge to retrieve from.",
        "Give the model the documents by retrieval before you train anything.",
    )
    assert "knowledge" in [one.question.fact for one in advice.to_find_out]


def test_a_rung_that_the_user_leaves_out_stays_out_unless_a_strong_rule_wants_it() -> None:
    assert advise(Facts(ladder=("prompting", "sft"), bar=0.8, knowledge=True)).ladder == ("prompting", "sft")


def test_no_prompt_optimiser_is_advised_where_a_climb_would_not_run_one(tmp_path: Path) -> None:
    """In the climb's own words."""
    path = scripted_task(tmp_path / "task", quality=[{"right": 0.5}], task={"model": "embedded"})
    facts = replace(facts_of(load_task(path)).facts, best_prompt_score=0.75)
    (said,) = [one.advice for one in advise(facts).applied if one.rule.name == "optimise-the-prompt"]
    assert said.startswith(
        "A prompt optimiser may be enough, since 5 points are within its reach, but a climb would not run one: "
    )
    assert said.endswith(f"{facts.prompt_kept}.")
    assert facts.prompt_kept == clause_of_kept(NoReflector("embedded", facts.parameters, LEAST_PARAMETERS))
    (said,) = [
        one.advice for one in advise(replace(facts, prompt_kept=None)).applied if one.rule.name == "optimise-the-prompt"
    ]
    assert said == "Let an optimiser search instructions and examples: 5 points are within its reach."


def test_the_fewest_test_items_say_what_they_are_and_the_dry_run_says_the_others(tmp_path: Path) -> None:
    """One is a limit for any system, at the rung with the smallest share; the other is for a score ten points off, at the first."""
    task = load_task(task_file(tmp_path, {}))
    facts = facts_of(task).facts
    forecast = dry_run(task).test
    assert forecast is not None
    assert facts.test_least is not None
    assert forecast.least <= facts.test_least < forecast.to_meet
    console = Console(width=200, file=StringIO())
    console.print(advice_text(as_document(advise(facts))))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert f"{facts.test_least} (the fewest that can decide at every rung, all of them right)" in shown
