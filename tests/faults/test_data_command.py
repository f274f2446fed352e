"""`lastresort data check`: what it prints, and the exit code that a script can rely on."""

from __future__ import annotations

import ast
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from climb_support import rows, scripted_task
from lastresort.cli.border import guarded
from lastresort.cli.main import app
from tiny_model import save_tiny_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def folder(tmp_path: Path, model: Path) -> Path:
    """A task on the tiny model with a file for each side."""
    found = rows()
    sides = {"train": found[:100], "dev": found[100:140], "test": found[140:]}
    task: dict[str, Any] = {
        "model": str(model),
        "examples": {name: f"{name}.jsonl" for name in sides},
        "split": {},
    }
    scripted_task(tmp_path, quality=[{"right": 1.0}], task=task)
    for name, side in sides.items():
        write(tmp_path / f"{name}.jsonl", side)
    return tmp_path


def write(path: Path, found: list[dict[str, str]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in found), encoding="utf-8")


def leak(folder: Path) -> None:
    found = rows()
    write(folder / "train.jsonl", [*found[:100], found[140]])


def check(folder: Path, monkeypatch: pytest.MonkeyPatch, *options: str) -> int:
    monkeypatch.setattr(sys, "argv", ["lastresort", "data", "check", str(folder / "task.yaml"), *options])
    return guarded(app)


def test_clean_data_exits_0(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(folder, monkeypatch) == 0
    out, error = capsys.readouterr()
    assert "examples: 100 train, 40 dev, 120 test" in out
    (sizes,) = [line for line in out.splitlines() if line.startswith("tokens in train: shortest")]
    assert sizes.endswith(" (instruction, input and answer)")
    assert "no problems found" in out
    assert "Error" not in error


def test_keys_can_be_set_for_a_check_as_for_a_climb(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(folder, monkeypatch, "--set", "bar=0.999") == 2
    assert "even a perfect score cannot show that the bar of 0.999 is met" in " ".join(capsys.readouterr().err.split())


def test_a_leak_is_named_as_what_a_climb_removes_and_exits_0(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    leak(folder)
    assert check(folder, monkeypatch) == 0
    out, error = capsys.readouterr()
    assert (
        "warning: 1 train input is also in dev or test; a climb leaves it out of train "
        "(row 101 of train.jsonl in train = row 1 of test.jsonl in test)" in out
    )
    assert "Traceback" not in error


def test_json_is_one_document_whatever_the_exit_code(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(folder, monkeypatch, "--json") == 0
    clean = json.loads(capsys.readouterr().out)
    assert (clean["ok"], clean["findings"], clean["counts"]) == (True, [], {"train": 100, "dev": 40, "test": 120})
    found = rows()
    write(folder / "train.jsonl", [*found[:99], found[140], {"input": "word " * 500, "output": "billing"}])
    assert check(folder, monkeypatch, "--json") == 1
    faulty = json.loads(capsys.readouterr().out)
    assert not faulty["ok"]
    assert [(finding["kind"], finding["severity"]) for finding in faulty["findings"]] == [
        ("exact_leaks", "warning"),
        ("too_long", "error"),
    ]


def test_show_prints_the_tokens_and_what_is_trained(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the model of bytes: the tokens marked for training are the answer's letters and the mark that ends it."""
    assert check(folder, monkeypatch, "--show", "1") == 0
    heading, *tokens = capsys.readouterr().out.split("no problems found\n\n")[1].splitlines()
    found = re.search(r"train\.jsonl, row (\d+)\)$", heading)
    assert found is not None
    row = rows()[int(found[1]) - 1]
    columns = [line.split(maxsplit=3) for line in tokens]
    assert [ast.literal_eval(text) for _, _, mark, text in columns if mark == "#"] == [*row["output"], "<|im_end|>"]
    assert row["input"] in "".join(ast.literal_eval(text) for *_, text in columns)


def test_show_says_why_a_model_without_tokenizer_shows_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scripted_task(folder, quality=[{"right": 1.0}])
    assert check(folder, monkeypatch, "--show", "1") == 0
    assert "cannot show tokens: scripted:script.json has no tokenizer here" in capsys.readouterr().out


def test_an_answer_longer_than_the_context_exits_1(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = rows()
    write(folder / "train.jsonl", [*found[:99], {"input": "word " * 500, "output": "billing"}])
    assert check(folder, monkeypatch) == 1
    assert (
        "error: 1 example is longer than the model's context of 2048 tokens (row 100 of train.jsonl in train"
        in capsys.readouterr().out
    )


def test_a_label_outside_the_choices_is_the_users_mistake(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = rows()
    found[140]["output"] = "repair"
    write(folder / "test.jsonl", found[140:])
    assert check(folder, monkeypatch) == 2
    out, error = capsys.readouterr()
    assert not out
    assert 'test.jsonl, row 1, key "output": found an output that is not among the choices: "repair"' in error
    assert "Traceback" not in error
