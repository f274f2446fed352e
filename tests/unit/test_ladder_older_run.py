"""A run that an older version began goes on: keys that it did not know have their defaults."""

from __future__ import annotations

from pathlib import Path

import pytest

from climb_support import comparable, scripted_task
from lastresort.app.climb import climb
from lastresort.climb.prepare import prepare, with_shares
from lastresort.errors import TaskError
from lastresort.records.record import Record
from lastresort.spec.task import load_task


def test_a_run_from_before_a_key_goes_on_unless_the_file_names_it(tmp_path: Path) -> None:
    path, run = scripted_task(tmp_path / "task", quality=[{"right": 0.95}]), tmp_path / "run"
    found = climb(load_task(path), run)
    with Record.open(run) as record:
        noted = record.last("task")
        assert noted is not None
        record.note("task", {key: value for key, value in noted.items() if key not in ("preference", "full")})
    resumed = climb(load_task(path), run)
    assert comparable(resumed.decision) == comparable(found.decision)
    path.write_text(path.read_text(encoding="utf-8") + "preference: {samples: 4}\n", encoding="utf-8")
    with pytest.raises(TaskError, match="differs from the one this run began with, in preference"):
        climb(load_task(path), run)


def test_a_run_from_before_a_key_of_a_section_goes_on(tmp_path: Path) -> None:
    """`use.hourly_price`, which version 4 of the decision did not know."""
    path = scripted_task(
        tmp_path / "task", quality=[{"right": 0.95}], task={"use": {"prompt_price": 1, "output_price": 2}}
    )
    run = tmp_path / "run"
    found = climb(load_task(path), run)
    with Record.open(run) as record:
        noted = record.last("task")
        assert noted is not None
        older = {key: value for key, value in noted["use"].items() if key not in ("hourly_price", "context")}
        record.note("task", {**noted, "use": older})
    (run / "decision.json").write_text('{"schema": 4}', encoding="utf-8")
    resumed = climb(load_task(path), run)
    assert comparable(resumed.decision) == comparable(found.decision)
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("prompt_price: 1", "context: forbidden\n  prompt_price: 1"), encoding="utf-8")
    with pytest.raises(TaskError, match="differs from the one this run began with, in use"):
        climb(load_task(path), run)


def test_a_run_from_before_repairs_counted_keeps_its_share_of_the_error(tmp_path: Path) -> None:
    """What it tested was tested with R, the rungs of its ladder; its record says nothing of R."""
    path, run = scripted_task(tmp_path / "task", quality=[{"right": 0.95}]), tmp_path / "run"
    begun = prepare(load_task(path))
    with Record.create(run) as record:
        assert with_shares(record, begun).task.r == 3
        assert record.last("r") == {"r": 3}
    with Record.create(tmp_path / "older") as record:
        record.note("task", {})
        assert with_shares(record, begun).task.r == 2
        assert with_shares(record, begun).task.r == 2  # noted, as by a resumed climb
    decision = climb(load_task(path), run).decision
    assert (decision["r"], decision["alpha_per_rung"]) == (3, pytest.approx(0.05 / 3))
