"""Whole climbs of a scripted model end as the simulation says from the same item scores.

The scripted model decides each answer by a hash of the item. From these hashes alone the simulation knows every score on dev
and test; it must choose the same way on every rung, come to the same judgement and stop at the same place as the climb does
with its model, record, batches and files.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import scripted_rung
from bar_table import bar_table
from climb_support import rows, scripted_task
from lastresort.app.climb import climb
from lastresort.climb.bar_test import BarRule, judge_so_far, order_of_test
from lastresort.climb.decide import RungOutcome
from lastresort.climb.loop import rules_of
from lastresort.climb.prepare import PreparedTask, prepare
from lastresort.evals.evidence.outlook import needed_to_go_on
from lastresort.evals.evidence.selection import choose
from lastresort.ladder import RUNGS
from lastresort.models.scripted import _draw
from lastresort.records.measurement import BarTest
from lastresort.report.words.answer import answer_text
from lastresort.spec.task import load_task
from lastresort.types import Example
from simulated_climb import climbed, scored_item

LADDER = ("prompting", "retrieval", "sft")
RATES = (
    (0.5, 0.6, 0.7),
    (0.79, 0.79, 0.79),
    (0.8, 0.8, 0.8),
    (0.83, 0.85, 0.9),
    (0.5, 0.95, 0.97),
    (0.6, 0.7, 0.97),
)


@pytest.fixture
def scripted_rungs(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in LADDER:
        monkeypatch.setitem(RUNGS, name, replace(RUNGS[name], path=f"{scripted_rung.__name__}:{name}"))


def ways_of(rung: str, rate: float) -> dict[str, float]:
    """True score of each way of a rung, the last the best."""
    return {
        scripted_rung.way_name(rung, number): rate - 0.04 * (scripted_rung.WAYS - 1 - number)
        for number in range(scripted_rung.WAYS)
    }


def prepared_task(
    folder: Path, rates: tuple[float, ...], number: int, *, grouped: bool = False, **task: Any
) -> PreparedTask:
    """A task with rows of its own, so that the script's luck with it is its own too."""
    quality = [
        {"right": right, "contains": name}
        for rung, rate in zip(LADDER, rates, strict=True)
        for name, right in ways_of(rung, rate).items()
    ]
    split = {"dev": 28, "test": 160, "group_by": "client"} if grouped else {"dev": 30, "test": 100}
    settings = {"ladder": list(LADDER), "score": "exact", "split": split, **task}
    path = scripted_task(folder, quality=quality, task=settings)
    own = [{**row, "input": f"{row['input']}, file {number}"} for row in rows(200)]
    if grouped:
        own = [{**row, "client": f"client {i // 4}"} for i, row in enumerate(own)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in own), encoding="utf-8")
    return prepare(load_task(path))


def foretold(prepared: PreparedTask, rates: tuple[float, ...]) -> dict[str, Any]:
    """What the simulation makes of the scores that the script's hashes give."""
    task, test = prepared.task, order_of_test(prepared.split.test)
    grouped = task.split.group_by is not None
    shares = prepared.shares

    def scores(examples: list[Example], right: float) -> list[float]:
        return [float(_draw("quality", example.input_text) < right) for example in examples]

    def try_rung(rung: str) -> RungOutcome:
        ways = ways_of(rung, rates[LADDER.index(rung)])
        on_dev = {name: scores(list(prepared.split.dev), right) for name, right in ways.items()}
        chosen = choose(on_dev, dict.fromkeys(ways, 0.0)).name
        on_test = scores(test, ways[chosen])
        if not grouped:
            table = bar_table(task.bar, shares[rung], len(test))
            found = table.judge(np.array([on_test], dtype=np.bool_))[0]
            if found.outcome == "UNDECIDED":  # the table's tests do not go on, those of a climb do
                found = replace(found, n_needed=needed_to_go_on([on_test], bar=task.bar, alpha=shares[rung]))
            return RungOutcome(rung, found, chosen)
        items = [scored_item(score) for score in on_test]
        return RungOutcome(rung, judge_so_far(BarRule(task.bar, True, shares[rung]), items, test), chosen)

    outcomes, conclusion = climbed(rules_of(task, None), try_rung)
    return {
        "chosen": [outcome.system for outcome in outcomes],
        "tests": [BarTest.of(outcome.judgement).as_json() for outcome in outcomes if outcome.judgement is not None],
        "end": (conclusion.verdict, conclusion.meets_bar, conclusion.provisional, conclusion.stopped_at),
        "answer": answer_text(conclusion.answer),
        "won": conclusion.winner is not None,
    }


def found(decision: dict[str, Any]) -> dict[str, Any]:
    """The same of a climb's decision."""
    return {
        "chosen": [rung["chosen"] for rung in decision["rungs"]],
        "tests": [
            {**rung["test"], "outlook": None} for rung in decision["rungs"]
        ],  # how far an UNDECIDED is, is not foretold
        "end": tuple(decision[key] for key in ("verdict", "meets_bar", "provisional", "stopped_at")),
        "answer": decision["answer"],
        "won": decision["winner"]["path"] is not None,
    }


@pytest.mark.slow
@pytest.mark.usefixtures("scripted_rungs")
def test_climbs_end_as_foretold(tmp_path: Path) -> None:
    ends = set()
    for number, rates in enumerate(RATES * 4):
        on_undecided = "collect" if number % 4 == 3 else "lead"
        prepared = prepared_task(tmp_path / str(number), rates, number, on_undecided=on_undecided)
        decision = climb(prepared, tmp_path / "runs" / str(number), gate="none").decision.as_json()
        assert found(decision) == foretold(prepared, rates), (rates, number)
        ends.add((decision["verdict"], decision["stopped_at"]))
    assert {verdict for verdict, _ in ends} == {"MET", "NOT_MET", "UNDECIDED"}
    assert {stopped for _, stopped in ends} == {"prompting", "retrieval", "sft", None}


@pytest.mark.usefixtures("scripted_rungs")
def test_climbs_over_groups_end_as_foretold(tmp_path: Path) -> None:
    for number, rates in enumerate(((0.5, 0.6, 0.97), (0.8, 0.8, 0.8), (0.3, 0.4, 0.5))):
        prepared = prepared_task(tmp_path / str(number), rates, number, grouped=True, confidence=0.94)
        decision = climb(prepared, tmp_path / "runs" / str(number), gate="none").decision.as_json()
        assert found(decision) == foretold(prepared, rates), rates
        assert {rung["test"]["unit"] for rung in decision["rungs"]} == {"group"}
