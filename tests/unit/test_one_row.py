"""A rung, a scorer, an objective, a suite, an export target, a data format: one file and one line in one table, and all know it.

Here the file is this one, and the line is put into the table while the test lasts.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from climb_support import scripted_task
from export_support import exported
from gate_support import SUITES as SCRIPTED_SUITES
from gate_support import Said, Words, gated_task
from lastresort.advice.advise import advise
from lastresort.advice.task_facts import facts_of
from lastresort.app.climb import climb
from lastresort.app.dry_run import dry_run
from lastresort.app.gate import GateRequest, start_gate
from lastresort.data.formats import SHAPES, RowShape
from lastresort.data.formats.rows import RawRow
from lastresort.data.formats.shape import Labelled
from lastresort.data.read import read_examples
from lastresort.engine.forest import Row
from lastresort.evals.scorers import SCORERS, Scorer
from lastresort.evals.scorers.scorer import AnswerForm, ScorerEntry
from lastresort.gate.plans import PlainPlan, SuiteInputs
from lastresort.hardware.cards import known_cards
from lastresort.hardware.find import shape_named
from lastresort.hardware.plan.plan import PlanInputs, plan
from lastresort.hardware.plan.setup import Cards, Setup
from lastresort.interop.exporting import TARGETS, ExportTarget
from lastresort.interop.exporting.job import ExportFiles, ExportJob
from lastresort.ladder import RUNGS, RungFacts
from lastresort.objectives import OBJECTIVES, ObjectiveFacts
from lastresort.objectives.answers import PairLogps
from lastresort.report.html import write_report
from lastresort.rungs.supervised.sft import SftRung
from lastresort.spec.sections import SUITES, SuiteFacts
from lastresort.spec.task import load_task
from lastresort.spec.training import load_training
from lastresort.train.loop.batches import TrainingItem
from lastresort.train.loop.objective import BatchFigures, bind
from lastresort.types import Example, Message, SilentProgress
from scripted_rung import ScriptedRung
from train_support import training_file
from tuning_support import climbed, tiny_task

rehearsal = functools.partial(ScriptedRung, "rehearsal")
ROW = RungFacts(
    f"{__name__}:rehearsal",
    winner="prompt",
    learns="nothing",
    purpose="It rehearses the answer before it is given.",
    worth_it_if="a second look mends most answers",
    shorten="rehearse less",
)
QUALITY = [{"right": 0.3}, {"right": 0.99, "contains": "rehearsal-way"}]


@pytest.fixture
def task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A task on whose ladder the new rung stands above prompting, and alone meets the bar."""
    monkeypatch.setitem(RUNGS, "rehearsal", ROW)
    return scripted_task(tmp_path / "task", quality=QUALITY, task={"ladder": ["prompting", "rehearsal"]})


def test_a_climb_tries_a_new_rung_lets_it_win_and_reports_it(task: Path, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "run"
    decision = climb(load_task(task), run).decision.as_json()
    assert [rung["name"] for rung in decision["rungs"]] == ["prompting", "rehearsal"]
    assert (decision["stopped_at"], decision["winner"]["kind"]) == ("rehearsal", "prompt")
    assert "rehearsal" in write_report(run).read_text(encoding="utf-8")


def test_a_dry_run_and_the_advice_know_a_new_rung(task: Path) -> None:
    found = load_task(task)
    assert [(rung["name"], rung["applies"]) for rung in dry_run(found).as_json()["rungs"]] == [
        ("prompting", True),
        ("rehearsal", True),
    ]
    [step] = [step for step in advise(facts_of(found).facts).path if step.rung == "rehearsal"]
    assert (step.stance, step.reasons) == ("ONLY_IF", (ROW.purpose,))
    assert str(step.condition).endswith(ROW.worth_it_if)


class Exercise(SftRung):
    """Trains an adapter with the settings of `sft`."""

    name = "exercise"


@pytest.fixture
def trained_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A task on the tiny model whose only rung is a new one that trains."""
    row = RungFacts(
        f"{__name__}:Exercise",
        winner="adapter",
        learns="examples",
        purpose="It exercises the answer.",
        worth_it_if="practice helps",
        shorten="exercise less",
    )
    monkeypatch.setitem(RUNGS, "exercise", row)
    return tiny_task(tmp_path / "task", ladder=["exercise"], bar=0.05)


@pytest.mark.slow
def test_a_climb_trains_by_a_new_rung_and_reports_what_it_trained(trained_task: Path, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "run"
    decision = climbed(trained_task, run).decision.as_json()
    assert (decision["stopped_at"], decision["winner"]["kind"]) == ("exercise", "adapter")
    [rung] = decision["rungs"]
    assert rung["name"] == "exercise"
    assert {candidate["facts"]["trained"]["objective"] for candidate in rung["candidates"]} == {"sft"}
    assert (run / "winner" / "adapter" / "adapter_model.safetensors").is_file()
    assert "exercise" in write_report(run).read_text(encoding="utf-8")


def test_a_dry_run_knows_a_new_rung_that_trains_and_a_new_suite(
    trained_task: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, facts in {**SCRIPTED_SUITES, "manners": SuiteFacts(f"{__name__}:manners", 0.1)}.items():
        monkeypatch.setitem(SUITES, name, facts)
    found = dry_run(load_task(trained_task))
    assert [(rung.name, rung.applies) for rung in found.rungs] == [("exercise", True)]
    assert found.rungs[0].memory is not None
    assert found.gate is not None
    assert [suite.name for suite in found.gate.suites] == ["general", "sycophancy", "format_leak", "manners"]
    assert found.gate.suites[-1].items > 0


def test_a_plan_of_the_ladder_has_each_rung_that_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RUNGS, "exercise", replace(ROW, winner="adapter", learns="examples"))
    inputs = PlanInputs(Setup("qlora"), True, Cards(known_cards()["h100"]), False, {}, None)
    rows = plan(shape_named("smollm2-135m"), inputs).ladder
    assert [(row.rung, row.method, row.learning) for row in rows] == [
        ("sft", "qlora", "sft"),
        ("preference", "qlora", "dpo"),
        ("full", "full", "sft"),
        ("exercise", "qlora", "sft"),
    ]


class Brief:
    """Right are answers of at most so many characters."""

    name, binary = "brief", True

    def __init__(self, characters: int) -> None:
        self._characters = characters

    def __call__(self, answer: str, example: Example) -> float:
        return float(len(answer) <= self._characters)


def brief(parameters: Mapping[str, Any], output: AnswerForm) -> Scorer:
    return Brief(parameters["characters"])


def test_a_task_scores_by_a_new_scorer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SCORERS, "brief", ScorerEntry(brief, ("characters",), main="characters"))
    for written in ({"brief": 40}, {"brief": {"characters": 40}}):
        path = scripted_task(
            tmp_path, quality=[{"right": 0.3}], task={"score": written, "output": {}, "ladder": ["prompting"]}
        )
        task = load_task(path)
        assert task.resolved()["score"] == {"brief": {"characters": 40}}
    [rung] = dry_run(task).rungs
    assert (rung.name, rung.applies) == ("prompting", True)
    decision = climb(task, tmp_path / "runs" / "run").decision.as_json()
    assert decision["rungs"][0]["test"]["score"] == 1


def widen(pairs: PairLogps, *, by: float = 1.0) -> torch.Tensor:
    return -by * (pairs.chosen - pairs.rejected)


def test_a_training_learns_by_a_new_objective(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(OBJECTIVES, "widen", ObjectiveFacts(f"{__name__}:widen", "pairs"))
    objective = load_training(training_file(tmp_path, {"widen": {"by": 2.0}})).settings.objective
    row = Row((1, 2), (False, True))
    loss = bind(objective, [TrainingItem((row, row))], None, lambda rows: torch.zeros(len(rows)))
    found = loss.loss([0], torch.tensor([-1.0, -4.0]), torch.tensor([0, 1]), BatchFigures())
    assert found == -2 * (-1 - -4)


def written(job: ExportJob) -> ExportFiles:
    return ExportFiles({"job.txt": job.file.objective}, job.train, (), (), ("pip install mine",), ("mine job.txt",))


def test_a_training_is_exported_to_a_new_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TARGETS, "mine", ExportTarget("My own", f"{__name__}:written"))
    found = exported(tmp_path, "mine", "sft")
    assert (found.folder / "job.txt").read_text() == "sft"
    assert "for My own" in (found.folder / "README.md").read_text()


def manners(inputs: SuiteInputs) -> PlainPlan:
    return PlainPlan(Words(name="manners", measures=(Said(name="manners"),)), pilot_items=48)


def test_a_gate_asks_a_new_suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, facts in {**SCRIPTED_SUITES, "manners": SuiteFacts(f"{__name__}:manners", 0.1)}.items():
        monkeypatch.setitem(SUITES, name, facts)
    task = load_task(gated_task(tmp_path))
    assert task.keep["manners"] == 0.1
    monkeypatch.chdir(tmp_path)
    request = GateRequest(task, tuned="scripted:tuned.json", base="scripted:script.json")
    found = start_gate(request, SilentProgress()).document
    assert found.verdict == "SHIP"
    assert [suite.name for suite in found.suites] == ["general", "sycophancy", "format_leak", "manners"]


def riddle(row: RawRow) -> Labelled:
    return (Message("user", str(row.values["riddle"])),), str(row.values["solution"])


def test_rows_in_a_new_shape_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = frozenset({"riddle", "solution"})
    looks = '{"riddle": …, "solution": …}'
    monkeypatch.setitem(SHAPES, "riddle", RowShape("riddle", looks, keys, lambda found: found >= keys, riddle))
    path = tmp_path / "rows.jsonl"
    path.write_text('{"riddle": "What has keys?", "solution": "A piano."}\n', encoding="utf-8")
    [example] = read_examples(path)
    assert isinstance(example, Example)
    assert (example.input_text, example.output) == ("What has keys?", "A piano.")
