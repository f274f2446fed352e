"""Two climbs at once: in one folder the second is refused and harms nothing; in one workspace both end as if alone."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path

import pytest

from climb_support import calls, comparable, scripted_task
from lastresort.records.ledger import Ledger
from lastresort.records.record import Record
from processes_support import Program

QUALITY = [{"right": 0.3}, {"right": 0.97, "min_shots": 5}]
TASK = {"ladder": ["prompting"], "split": {"dev": 20, "test": 60}}


def climbing(task: Path, *arguments: str) -> Program:
    return Program("climb", str(task), "--json", *arguments, cwd=task.parent.parent)


def waited_for(path: Path, process: Program) -> None:
    deadline = time.monotonic() + 120
    while not path.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert path.exists()


def made(folder: Path, delay_s: float = 0.0) -> Path:
    return scripted_task(folder / "task", quality=QUALITY, task=TASK, script={"delay_s": delay_s})


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, object], int]:
    """The decision of a climb that is alone, and its calls."""
    task = made(tmp_path_factory.mktemp("alone"))
    out, error = (process := climbing(task, "--run", "runs/r")).communicate()
    assert process.returncode == 0, error
    return comparable(json.loads(out)), len(calls(task.parent))


@pytest.mark.sampled_slow(2)
@pytest.mark.slow
@pytest.mark.parametrize("words", [("--resume",), ()], ids=["resumed", "begun"])
def test_the_second_climb_of_a_folder_is_refused_and_the_first_ends_as_if_alone(
    words: tuple[str, ...], tmp_path: Path, alone: tuple[dict[str, object], int]
) -> None:
    task = made(tmp_path, delay_s=0.02)
    first = climbing(task, "--run", "runs/r")
    waited_for(tmp_path / "runs" / "r" / "record.sqlite", first)
    second = climbing(task, "--run", "runs/r", *words)
    out, error = second.communicate()
    assert (second.returncode, out) == (2, "")
    refused = "another process is climbing this run" if words else "the folder is not empty"
    assert next(line for line in error.splitlines() if line.startswith("Error: ")).count(refused) == 1
    assert "Traceback" not in error
    out, error = first.communicate()
    assert first.returncode == 0, error
    assert comparable(json.loads(out)) == alone[0]
    assert len(calls(task.parent)) == alone[1]
    with Record.open(tmp_path / "runs" / "r", read_only=True):  # its chain is whole
        pass


@pytest.mark.slow
def test_two_climbs_of_a_workspace_end_as_if_alone(tmp_path: Path, alone: tuple[dict[str, object], int]) -> None:
    """They share responses, ledger and the numbers of runs. What both ask at the same moment may be asked twice, and no more."""
    task = made(tmp_path)
    both = [climbing(task), climbing(task)]
    ended = [process.communicate() for process in both]
    assert [process.returncode for process in both] == [0, 0], ended
    runs = sorted(path for path in (tmp_path / "runs").iterdir() if path.name != ".lastresort")
    assert [path.name for path in runs] == ["routing-1", "routing-2"]
    found = [comparable(json.loads(out)) for out, _ in ended]
    assert found == [alone[0], alone[0]]
    asked = Counter(json.dumps(call["key"]) for call in calls(task.parent))
    assert len(asked) == alone[1]
    assert max(asked.values()) <= 2
    names = set()
    for run in runs:
        with Record.open(run, read_only=True) as record:
            names.add(record.run_id)
            items = [item.id for one in record.measurements() if one.split == "test" for item in one.items]
        assert len(items) == len(set(items)) > 0
    assert len(names) == 2
    with Ledger(tmp_path / "runs" / ".lastresort" / "ledger.sqlite") as ledger:
        uses = [row["n"] for row in ledger._database.rows("SELECT count(*) AS n FROM use GROUP BY hash")]
    assert set(uses) == {2}
