"""The commands of `lastresort data` that write files: one JSON document with --json, lines without, one sentence for a mistake."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from climb_support import rows, scripted_task
from lastresort.cli.border import guarded
from lastresort.cli.main import app


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    scripted_task(tmp_path, quality=[{"right": 1.0}])
    samples = [{"input": row["input"], "samples": [row["output"], "nobody"]} for row in rows()]
    (tmp_path / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in samples))
    monkeypatch.chdir(tmp_path)
    return tmp_path


COMMANDS: dict[str, dict[str, Any]] = {
    "convert rows.jsonl --to alpaca --out a.csv": {"to": "alpaca", "read": 260, "written": 260, "dropped": {}},
    "mix rows.jsonl=9 rows.jsonl=9 --out a.jsonl --seed 3": {"rows": 18, "used_up": None, "seed": 3},
    "pairs task.yaml --samples samples.jsonl --margin 0.5": {"pairs": 80, "prompts": 80, "shape": "preference"},
}


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_prints_one_document_or_lines_and_writes_never_twice(
    line: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*more: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["lastresort", "data", *line.split(), *more])
        code = guarded(app)
        return code, *capsys.readouterr()

    code, out, _ = run("--json")
    document = json.loads(out)
    assert (code, {key: document[key] for key in COMMANDS[line]}) == (0, COMMANDS[line])
    path = folder / document["path"]
    before = path.read_bytes()
    code, out, error = run()
    assert (code, out) == (2, "")
    assert error.splitlines()[-1] == (
        f"Error: {document['path']}: the file already exists, expected a new file. Name another with --out."
    )
    assert path.read_bytes() == before
    path.unlink()
    code, out, _ = run()
    assert code == 0
    assert str(document["path"]) in out
    assert path.read_bytes() == before, "the same command gives the same bytes"


def pairs(monkeypatch: pytest.MonkeyPatch, *options: str) -> int:
    monkeypatch.setattr(sys, "argv", ["lastresort", "data", "pairs", *options])
    return guarded(app)


def test_pairs_forecasts_what_a_model_would_be_asked(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = ["--model", "scripted:script.json", "--rows", "3"]
    assert pairs(monkeypatch, "task.yaml", *model, "--dry-run", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["asked"], found["kept"], found["n"], found["usd"]) == (24, 0, 8, 0.0)
    assert pairs(monkeypatch, "task.yaml", *model, "--dry-run") == 0
    assert capsys.readouterr().out.startswith(
        "Forecast: 24 answers of scripted:script.json, 8 to each of 3 training rows; kept: 0"
    )
    for source in ("--samples", "--from"):
        assert pairs(monkeypatch, "task.yaml", source, "a", "--dry-run") == 2
        said = capsys.readouterr().err
        assert f"found --dry-run with {source}, expected --dry-run with --model, which asks a model. Leave it" in said
    assert not (folder / "calls.jsonl").exists()


def test_the_help_of_a_forecast_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert pairs(monkeypatch, "--help") == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "--dry-run" in line]
    assert line.endswith(".")
