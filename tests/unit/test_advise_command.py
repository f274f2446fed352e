"""`lastresort advise`: with a task file, with facts, at a terminal, as JSON; and what a user's mistake looks like."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from climb_support import calls, scripted_task
from document_schemas import schema_of
from lastresort.advice.advise import advise
from lastresort.advice.facts import Facts
from lastresort.app.advise import ask_in_turn
from lastresort.cli.border import guarded
from lastresort.cli.main import app
from lastresort.ladder import RUNGS


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def task(tmp_path: Path) -> Path:
    return scripted_task(tmp_path / "task", quality=[{"right": 0.97}])


def lastresort(monkeypatch: pytest.MonkeyPatch, *arguments: str, typed: str | None = None) -> int:
    monkeypatch.setattr(sys, "argv", ["lastresort", "advise", *arguments])
    monkeypatch.setattr(sys, "stdin", io.StringIO() if typed is None else Terminal(typed))
    monkeypatch.setenv("COLUMNS", "80")
    return guarded(app)


def test_a_task_gets_its_answer_its_path_and_reasons(
    task: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert lastresort(monkeypatch, str(task), "--fact", "wrong=format", "--fact", "best_prompt_score=60%") == 0
    out, error = capsys.readouterr()
    assert out.startswith("No: nothing here calls for training. Use prompting.\n")  # a scripted model has no weights
    assert re.search(r"^skip +sft +A climb would skip it: the weights of scripted:", out, re.MULTILINE)
    assert re.search(r"^strong +Enforce your choices with constrained decoding", out, re.MULTILINE)
    assert "Willard & Louf 2023" in out
    assert re.search(r"^n_examples +[0-9]+ \(each input of dev and test counts once\)", out, re.MULTILINE)
    assert not error
    assert max(map(len, out.splitlines())) <= 80
    assert calls(task.parent) == [], "no model is asked"
    assert sorted(path.name for path in task.parent.iterdir()) == ["rows.jsonl", "script.json", "task.yaml"]


def test_a_question_names_the_answers_that_it_takes(
    task: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert lastresort(monkeypatch, "--fact", "bar=0.9") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "Name all that apply (format, style, preferences, knowledge, capability, cost, latency, nothing)." in said


def test_json_is_one_document_of_its_schema(
    task: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert lastresort(monkeypatch, str(task), "--json", "--set", "bar=0.9", "--fact", "context=forbidden") == 0
    out, error = capsys.readouterr()
    document = json.loads(out)
    assert list(Draft202012Validator(schema_of("advice")).iter_errors(document)) == []
    assert document["task"] == "routing"
    assert document["facts"]["bar"] == 0.9
    assert document["ladder"] == ["prompting"]
    assert document["notes"] == ["Add these keys to the task file, so that a climb knows them too: use.context."]
    assert not error


def test_facts_alone_are_enough(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    told = ["wrong=knowledge", "knowledge=yes", "knowledge_changes=weekly", "retrain_every=monthly", "bar=.8"]
    assert lastresort(monkeypatch, "--json", *[word for fact in told for word in ("--fact", fact)]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["task"] is None
    assert {step["rung"]: step["stance"] for step in document["path"]}["sft"] == "NOT"
    assert "stale-weights" in [rule["name"] for rule in document["rules"]]
    assert document["frameworks"] == []


def test_the_facts_that_the_advice_rests_on_are_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert lastresort(monkeypatch, "--fact", "wrong=format,style", "--fact", "bar=0.8") == 0
    out = capsys.readouterr().out
    known = out[out.index("What is known") : out.index("Advice")]
    assert [line.split() for line in known.splitlines() if line][2:] == [["bar", "0.8"], ["wrong", "format,", "style"]]
    assert "skips" not in known


def test_the_name_of_a_fact_is_whole_and_its_figure_short(
    task: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert lastresort(monkeypatch, str(task)) == 0
    out = capsys.readouterr().out
    known = out[out.index("What is known") : out.index("Advice")]
    assert re.search(r"^instruction_tokens +\d+ *$", known, re.MULTILINE)
    assert re.search(r"^input_tokens +\d+\.\d{1,2} *$", known, re.MULTILINE)
    assert "…" not in out


def test_without_a_task_it_asks_at_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert lastresort(monkeypatch, "--json", typed="knowledge\n80\nhalf\n0.5\n\nq\n") == 0
    out, error = capsys.readouterr()
    document = json.loads(out)
    assert document["facts"] == {
        "ladder": list(RUNGS), "skips": {}, "wrong": ["knowledge"], "bar": 0.8, "best_prompt_score": 0.5,
    }  # fmt: skip
    assert "What is wrong with today's answers?" in error
    assert "1 format  2 style" in error
    assert "Please answer with a number" in error, "an answer that cannot be read is asked for again"


def test_a_task_is_asked_about_only_on_request_and_only_what_it_does_not_tell(
    task: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert lastresort(monkeypatch, str(task), typed="format\n") == 0
    assert capsys.readouterr().err == ""
    assert lastresort(monkeypatch, str(task), "--ask", typed="format\n") == 0
    out, error = capsys.readouterr()
    assert "Enforce your choices" in out
    assert "What share of right answers is good enough?" not in error


def answers(given: dict[str, str]) -> tuple[Facts, list[str]]:
    """The facts after answering by question, and the questions asked."""
    asked: list[str] = []

    def read(prompt: str) -> str:
        return next((answer for part, answer in given.items() if part in asked[-1]), "")

    def say(text: str) -> None:
        if text.startswith("\n"):
            asked.append(text.strip())

    return ask_in_turn(Facts(), read, say), asked


def test_an_answer_makes_other_questions_needless() -> None:
    """Nobody is asked how often documents change that do not exist, nor about the cards of a training that will not be."""
    facts, asked = answers({"documents that the answers": "no", "What is wrong": "capability"})
    assert facts.knowledge is False
    assert not any("documents" in question and "depend" not in question for question in asked)
    assert any("GPUs" in question for question in asked)
    facts, asked = answers({"What is wrong": "nothing"})
    assert facts.wrong == ()
    assert not any("GPUs" in question for question in asked)


def test_nothing_is_asked_twice_and_enter_leaves_it_open() -> None:
    facts, asked = answers({})
    assert facts == Facts()
    assert len(asked) == len(set(asked)) == len(advise(Facts()).to_find_out)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], "neither a task file nor facts"),
        (["TASK", "--ask"], "no terminal to ask on"),
        (["--set", "bar=0.9"], "--set without a task file"),
        (["nothing.yaml"], "nothing.yaml"),
        (["TASK", "--set", "bar=2"], "bar"),
        (["--fact", "wrong"], "NAME=VALUE"),
        (["--fact", "wrong="], "NAME=VALUE"),
        (["--fact", "wrongs=format"], 'no fact is called "wrongs". Did you mean "wrong"?'),
        (["--fact", "wrong=colour"], "expected one of format, style"),
        (["--fact", "bar=120"], "bar"),
        (["TASK", "--fact", "bar=0.7"], "which the task file already states (0.8)"),
    ],
)
def test_wrong_arguments(
    arguments: list[str],
    named: str,
    task: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert lastresort(monkeypatch, *[str(task) if word == "TASK" else word for word in arguments]) == 2
    out, error = capsys.readouterr()
    assert named in error
    assert "Traceback" not in error
    assert not out


def test_rows_that_cannot_be_read_end_it(
    task: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (task.parent / "rows.jsonl").write_text('{"input": "a"}\n', encoding="utf-8")
    assert lastresort(monkeypatch, str(task)) == 2
    assert "rows.jsonl" in capsys.readouterr().err


def test_what_a_climb_would_refuse_is_said_and_advice_given(
    task: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert lastresort(monkeypatch, str(task), "--set", "split.test=5") == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "A climb would refuse this task as it stands" in out
    assert "Collect test examples: with 5, even a perfect score" in out


@pytest.mark.slow
def test_the_command_loads_no_torch(task: Path) -> None:
    code = (
        "import sys; sys.argv = ['lastresort', 'advise', sys.argv[1]]\n"
        "from lastresort.cli.border import guarded; from lastresort.cli.main import app\n"
        "code = guarded(app)\n"
        "print(code, [m for m in ('torch', 'transformers', 'peft', 'accelerate') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(task)], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 []"
