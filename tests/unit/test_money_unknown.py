"""Where no price is known, money is unknown: never nothing, and never "no paid call"."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from lastresort.climb.decision import price_known, rung_cost
from lastresort.records.record import ItemScore, Measurement, Record
from lastresort.report import story as findings
from lastresort.report.decision import read_decision, write_decision
from lastresort.report.html import write_report
from lastresort.report.markdown import markdown
from lastresort.report.terminal import ladder_table
from lastresort.report.words import wording
from lastresort.spec.task import Task, load_task
from report_support import make

HTTP = "http://host/v1#some-model"


def task(folder: Path, **keys: Any) -> Task:
    (folder / "rows.jsonl").write_text('{"input": "a", "output": "b"}\n', encoding="utf-8")
    body = {"task": "t", "about": "x", "examples": "rows.jsonl", "score": "exact", "bar": 0.5, **keys}
    (folder / "task.yaml").write_text(json.dumps(body), encoding="utf-8")
    return load_task(folder / "task.yaml")


@pytest.mark.parametrize(
    ("keys", "known"),
    [
        ({"model": HTTP}, False),
        ({"model": "openai:some-model"}, False),
        ({"model": HTTP, "use": {"prompt_price": 0.15, "output_price": 0.6}}, True),
        ({"model": HTTP, "use": {"prompt_price": 0, "output_price": 0}}, True),
        ({"model": "embedded"}, True),
        ({"model": "scripted:x.json"}, True),
    ],
)
def test_a_price_is_known_of_a_local_model_or_where_the_task_gives_it(
    tmp_path: Path, keys: dict[str, Any], known: bool
) -> None:
    assert price_known(task(tmp_path, **keys), "prompting") is known


def test_the_rung_that_trains_here_costs_no_money(tmp_path: Path) -> None:
    found = task(tmp_path, model=HTTP, tune={"model": "embedded"})
    assert price_known(found, "sft")
    assert not price_known(found, "prompting")


def test_cost_of_a_rung(tmp_path: Path) -> None:
    item = ItemScore("a", 1.0, "x", "x", "i", "stop", None, 10, 2, 0.1, 0.0)
    with Record.create(tmp_path / "run") as record:
        record.add_measurement(Measurement("prompting", "zero-shot", "dev[0:1]", 1, (item,)))
        assert rung_cost(record, "prompting", task(tmp_path, model=HTTP))["usd"] is None
        assert rung_cost(record, "prompting", task(tmp_path))["usd"] == 0
        assert rung_cost(record, "sft", task(tmp_path, model=HTTP))["usd"] == 0


def test_reports_say_unknown(tmp_path: Path) -> None:
    folder = make(tmp_path / "run", "prompting-met")
    decision = read_decision(folder)
    decision["rungs"][0]["cost"]["usd"] = None
    write_decision(folder, decision)
    page = write_report(folder).read_text("utf-8").replace("\u00a0", " ")
    assert "and spent an unknown amount: the task gives no price" in page
    assert "no paid call" not in page
    assert "$0" not in page
    out = io.StringIO()
    Console(file=out, width=80).print(ladder_table(decision))
    assert "$ unknown" in out.getvalue().replace("\u00a0", " ")
    assert "| $ unknown |" in markdown(decision)


def test_wording_of_unknown_money() -> None:
    assert wording.money(None).replace("\u00a0", " ") == "$ unknown"
    total = {"seconds": 3.0, "usd": None}
    assert "unknown amount" in findings.of_cost(total, {"prompting": total})
