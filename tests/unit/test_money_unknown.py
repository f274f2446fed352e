"""Where no price is known, money is unknown: never nothing, and never "no paid call"."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from decision_support import decide
from lastresort.records.decision import RunView
from lastresort.records.events.run import JudgeCalls, ModelOpened, TaskRead
from lastresort.records.events.training import RewardsJudged
from lastresort.records.measurement import Cost
from lastresort.records.record import ItemScore, Measurement, Record
from lastresort.records.view import fold_of
from lastresort.report.decision import read_decision
from lastresort.report.html import write_report
from lastresort.report.markdown import markdown
from lastresort.report.terminal import ladder_table
from lastresort.report.words import titles as findings
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
def test_what_a_rung_cost_is_known_of_a_local_model_or_where_the_task_gives_a_price(
    tmp_path: Path, keys: dict[str, Any], known: bool
) -> None:
    """A rung that trains asks weights that are here, which cost nothing; a judge without a price may cost anything."""
    item, found = ItemScore("a", 1.0, "x", "x", "i", "stop", None, 10, 2, 0.1, 0.0), task(tmp_path, **keys)
    calls = JudgeCalls(calls=1, tokens_in=5, tokens_out=1, seconds=0.1, usd=0.25, paid_usd=0.25)
    with Record.create(tmp_path / "run") as record:
        record.append(TaskRead(task=found.resolved()))
        record.append(ModelOpened(fingerprint="m", max_new_tokens=8, price_known=found.price_known))
        for rung in ("prompting", "sft", "preference"):
            record.add_measurement(Measurement(rung, "zero-shot", "dev[0:1]", 1, (item,)))
        record.append(RewardsJudged(rung="preference", asked="x", spent=calls, priced=True))
        costs = fold_of(record)
        assert costs.cost("prompting").usd == (0.0 if known else None)
        assert costs.cost("full").usd == costs.cost("sft").usd == 0.0
        assert costs.cost("preference").usd == 0.25
        record.append(RewardsJudged(rung="preference", asked="y", spent=calls, priced=False))
        assert fold_of(record).cost("preference").usd is None
        assert fold_of(record).cost("preference").tokens_in == 20


def test_reports_say_unknown(tmp_path: Path) -> None:
    folder = make(tmp_path / "run", "prompting-met")
    found = read_decision(folder).as_json()
    found["rungs"][0]["cost"]["usd"] = None
    decision = RunView.model_validate(found)
    decide(folder, decision)
    page = write_report(folder).read_text("utf-8").replace("\u00a0", " ")
    assert "and spent an unknown amount: the task sets no price" in page
    assert "no paid call" not in page
    assert "$0" not in page
    out = io.StringIO()
    Console(file=out, width=80).print(ladder_table(decision))
    assert "$ unknown" in out.getvalue().replace("\u00a0", " ")
    assert "| $ unknown |" in markdown(decision)


def test_wording_of_unknown_money() -> None:
    assert wording.money(None).replace("\u00a0", " ") == "$ unknown"
    total = Cost(tokens_in=0, tokens_out=0, seconds=3.0, usd=None)
    assert "unknown amount" in findings.of_cost(total, {"prompting": 3.0})
