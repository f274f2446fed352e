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
