"""The scripted model: what tests and dry runs of a climb lean on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from lastresort.errors import InfrastructureError, TaskError
from lastresort.models.open import open_model
from lastresort.models.scripted import Faults, Script, ScriptedModel, ScriptedQuality, ScriptRule, read_script
from lastresort.types import Decoding, Grammar, Message

DECODING = Decoding(max_new_tokens=50)


def ask(text: str, *, shots: int = 0, context: str = "") -> tuple[Message, ...]:
    solved = [turn for n in range(shots) for turn in (Message("user", f"q{n}"), Message("assistant", f"a{n}"))]
    system = [Message("system", context)] if context else []
    return (*system, *solved, Message("user", text))


def test_exact_answers_go_before_rules_and_rules_before_the_default() -> None:
    script = Script(
        answers={"one": "1"}, rules=(ScriptRule(r"(\w+) is late", r"late:\1"), ScriptRule("one", "never")), default="?"
    )
    texts = [a.text for a in ScriptedModel(script).generate([ask("one"), ask("parcel is late"), ask("x")], DECODING)]
    assert texts == ["1", "late:parcel", "?"]


def test_a_rule_with_a_probability_gives_that_share_and_always_the_same_one() -> None:
    script = Script(rules=(ScriptRule("^item", "yes", probability=0.3, otherwise="no"),))
    prompts = [ask(f"item {n}") for n in range(1000)]
    first = [a.text for a in ScriptedModel(script).generate(prompts, DECODING)]
    again = [a.text for a in ScriptedModel(script).generate(prompts, DECODING)]
    assert first == again
    assert 250 < first.count("yes") < 350


def test_better_prompts_only_add_right_answers() -> None:
    script = Script(
        default="right",
        wrong=("wrong",),
        quality=(ScriptedQuality(0.2), ScriptedQuality(0.6, min_shots=3), ScriptedQuality(0.9, contains="passage")),
    )
    model = ScriptedModel(script)

    def right(**how: object) -> set[int]:
        answers = model.generate([ask(f"item {n}", **how) for n in range(400)], DECODING)  # type: ignore[arg-type]
        return {n for n, answer in enumerate(answers) if answer.text == "right"}

    bare, shots, told = right(), right(shots=3), right(context="the passage")
    assert bare < shots < told
    assert 50 < len(bare) < 110
    assert 210 < len(shots) < 270
    assert len(told) > 340


def test_grammar_and_adapter_switch_levels_on() -> None:
    script = Script(default="a", wrong=("zzz",), quality=(ScriptedQuality(0.0), ScriptedQuality(1.0, adapter=True)))
    constrained = Decoding(max_new_tokens=5, grammar=Grammar(choices=("a", "b")))
    assert ScriptedModel(script).generate([ask("x")], DECODING)[0].text == "zzz"
    assert ScriptedModel(script).generate([ask("x")], constrained)[0].text == "b"  # a choice, though a wrong one
    assert ScriptedModel(script, adapter=Path("tuned")).generate([ask("x")], DECODING)[0].text == "a"


def test_sampling_differs_by_seed_and_by_sample() -> None:
    model = ScriptedModel(Script(default="right", wrong=("wrong",), quality=(ScriptedQuality(0.5),)))
    hot = Decoding(max_new_tokens=5, temperature=1.0, seed=1)
    same_prompt = [a.text for a in model.generate([ask("x")] * 64, hot)]
    assert {"right", "wrong"} == set(same_prompt)
    assert same_prompt != [a.text for a in model.generate([ask("x")] * 64, Decoding(5, 1.0, seed=2))]
    assert len({a.text for a in model.generate([ask("x")] * 64, DECODING)}) == 1


def test_a_long_answer_is_cut_and_says_so() -> None:
    answer = ScriptedModel(Script(default="é" * 100)).generate([ask("x")], Decoding(max_new_tokens=3))[0]
    assert (answer.text, answer.finish, answer.completion_tokens) == ("é" * 6, "length", 3)


def test_faults_hit_the_calls_named_and_go_on_counting_in_the_next_process(tmp_path: Path) -> None:
    script = Script(default="ok", faults=Faults(fail_at=(3,), message="cut"), calls=tmp_path / "calls.jsonl")
    arrived: list[int] = []
    with pytest.raises(InfrastructureError, match=r"cut \(call 3\)"):
        ScriptedModel(script).generate([ask(f"{n}") for n in range(4)], DECODING, lambda i, _: arrived.append(i))
    assert arrived == [0, 1]
    assert len(ScriptedModel(script).generate([ask("2"), ask("3")], DECODING)) == 2
    rows = [json.loads(line) for line in (tmp_path / "calls.jsonl").read_text().splitlines()]
    assert [(row["call"], row["failed"]) for row in rows] == [(1, False), (2, False), (3, True), (4, False), (5, False)]
    assert rows[2]["key"] == rows[3]["key"]


def test_delay_is_slept_through_at_every_call() -> None:
    slept: list[float] = []
    ScriptedModel(Script(delay_s=0.25), sleep=slept.append).generate([ask("a"), ask("b")], DECODING)
    assert slept == [0.25, 0.25]


def test_a_script_is_read_with_its_answers_from_a_data_file(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"input": "q", "output": {"team": "billing", "n": 1}}\n')
    path = tmp_path / "script.json"
    path.write_text(
        json.dumps({"answers_from": ["rows.jsonl"], "quality": [{"right": 1.0}], "seconds": 2.0, "calls": "log"})
    )
    model = open_model("scripted:script.json", base_folder=tmp_path, prompt_price=1e6, output_price=2e6)
    answer = model.generate([ask("q")], DECODING)[0]
    assert answer.text == '{"team":"billing","n":1}'
    assert answer.seconds == 2.0
    assert answer.usd == answer.prompt_tokens + 2 * answer.completion_tokens
    assert (tmp_path / "log").exists()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('{"awnsers": {}}', "awnsers"),
        ('{"rules": [{"match": "("}]}', "answer"),
        ('{"rules": [{"match": "(", "answer": "x"}]}', "regular expression"),
        ("[1]", "should be an object"),
        ("{", "not a readable script"),
        ('{"answers_from": ["none.jsonl"]}', "answers_from"),
    ],
)
def test_a_broken_script_is_named_in_one_sentence(tmp_path: Path, content: str, says: str) -> None:
    path = tmp_path / "script.json"
    path.write_text(content)
    with pytest.raises(TaskError, match=says) as caught:
        read_script(path)
    assert str(tmp_path) in str(caught.value)


def test_fingerprint_follows_what_decides_answers_and_nothing_else() -> None:
    base = ScriptedModel(Script(default="a")).fingerprint
    assert base == ScriptedModel(Script(default="a", delay_s=1.0, faults=Faults(fail_first=1))).fingerprint
    assert base != ScriptedModel(Script(default="b")).fingerprint
    assert base != ScriptedModel(Script(default="a"), adapter=Path("x")).fingerprint


def test_scripted_and_endpoint_models_are_opened_without_torch() -> None:
    code = (
        "import sys, lastresort.models, lastresort.models.open, lastresort.models.scripted, lastresort.models.api.model, "
        "lastresort.models.cached, lastresort.embedded; print('torch' in sys.modules, 'transformers' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"wrong": 5}, "wrong"),
        ({"wrong": "no"}, "wrong"),
        ({"quality": 5}, "quality"),
        ({"quality": [5]}, "quality"),
        ({"quality": [{"right": "x"}]}, "quality[0].right"),
        ({"quality": [{"right": 2}]}, "quality[0].right"),
        ({"quality": [{"right": 1, "min_shots": "x"}]}, "quality[0].min_shots"),
        ({"quality": [{"right": 1, "grammar": 1}]}, "quality[0].grammar"),
        ({"quality": [{"right": 1, "contains": "("}]}, "quality[0].contains"),
        ({"quality": [{"right": 1, "contains": 5}]}, "quality[0].contains"),
        ({"quality": [{}]}, "right"),
        ({"answers": [1]}, "answers"),
        ({"answers_from": "rows.jsonl"}, "answers_from"),
        ({"answers_from": [3]}, "answers_from"),
        ({"calls": 5}, "calls"),
        ({"default": 5}, "default"),
        ({"context_tokens": "x"}, "context_tokens"),
        ({"context_tokens": True}, "context_tokens"),
        ({"delay_s": "x"}, "delay_s"),
        ({"delay_s": -1}, "delay_s"),
        ({"seconds": "x"}, "seconds"),
        ({"rules": 5}, "rules"),
        ({"rules": [{"match": 5, "answer": "x"}]}, "rules[0].match"),
        ({"rules": [{"match": "a", "answer": 5}]}, "rules[0].answer"),
        ({"rules": [{"match": "a", "answer": "\\7"}]}, "rules[0].answer"),
        ({"rules": [{"match": "a", "answer": "x", "probability": "x"}]}, "rules[0].probability"),
        ({"rules": [{"match": "a", "answer": "x", "otherwise": 5}]}, "rules[0].otherwise"),
        ({"faults": 5}, "faults"),
        ({"faults": {"fail_at": 5}}, "faults.fail_at"),
        ({"faults": {"fail_at": ["x"]}}, "faults.fail_at"),
        ({"faults": {"fail_first": "x"}}, "faults.fail_first"),
        ({"faults": {"message": 5}}, "faults.message"),
    ],
)
def test_a_value_of_the_wrong_kind_is_named(body: dict[str, object], named: str, tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text(json.dumps(body))
    with pytest.raises(TaskError) as caught:
        read_script(tmp_path / "s.json")
    assert named in str(caught.value)
    assert "s.json" in caught.value.where
