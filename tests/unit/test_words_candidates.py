"""Every candidate of a climb has a line that says what it is, made of what the record says of it and not of its name."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any, get_args

import pytest

from climb_support import scripted_task
from lastresort.climb.prepare import prepare
from lastresort.objectives import OBJECTIVES
from lastresort.records.decision_parts import CandidateFacts, PromptFacts, TrainedFacts
from lastresort.records.events.run import TaskRead
from lastresort.records.events.search import CandidateMeasured, CandidateProposed
from lastresort.records.events.training import CandidateTrained
from lastresort.records.record import Record
from lastresort.records.rung_view import facts_in
from lastresort.records.training import RecordedObjective
from lastresort.records.view import fold_of
from lastresort.report.decision import view_in
from lastresort.report.words.candidates import about_candidate
from lastresort.rungs.prompting.prompts import variants
from lastresort.rungs.rung import prompt_facts
from lastresort.spec.task import load_task
from lastresort.types import AdapterChoice
from lastresort.ui.trainings import FIELDS
from report_support import training_reached
from ui_support import MET, finished_run, page_of

TRAINED = TrainedFacts(
    method="lora", rank=8, objective="sft", learning_rate=1e-5, stop=3, unit="epoch", replay=None, scale=1.0
)


def prompted(**facts: Any) -> CandidateFacts:
    return CandidateFacts(weights="model", prompt=PromptFacts(**facts))


def trained(*, constrained: bool = False, **facts: Any) -> CandidateFacts:
    made = TRAINED.replaced(**facts)
    return CandidateFacts(weights="trained", prompt=PromptFacts(constrained=constrained), trained=made)


def test_every_way_of_prompting_is_explained(tmp_path: Path) -> None:
    task = load_task(scripted_task(tmp_path, quality=MET))
    systems = variants(task, prepare(task).split.train, 16, "m")
    lines = {one.name: about_candidate(CandidateFacts(weights="model", prompt=prompt_facts(one))) for one in systems}
    assert lines["zero-shot+constrained"].startswith("The instruction alone, without examples; decoding is limited")
    assert lines["nearest-5"] == "The instruction with the 5 solved examples that are most similar to the input"
    assert lines["chain-of-thought"] == "The instruction with a request to reason before the answer, without examples"
    assert lines["structured"] == "The instruction in marked sections, without examples"
    assert len(set(lines.values())) == len(systems)


@pytest.mark.parametrize(
    ("facts", "says"),
    [
        (
            prompted(shots=5, rewritten=True),
            "A model-written instruction with 5 solved examples, the same for every input",
        ),
        (prompted(sections=True, rewritten=True), "A model-written instruction in marked sections, without examples"),
        (prompted(rewritten=True, reasoning=True), "A model-written instruction with a request to reason before"),
        (
            prompted(shots=5, passages=3),
            "5 solved examples, the same for every input; the 3 best passages of the search",
        ),
        (prompted(passages=1), "without examples; the best passage of the search in the prompt"),
        (prompted(given="right"), "without examples; the right passages in the prompt, as dev names them"),
        (prompted(given="none", shots=3), "the same for every input; no passages"),
        (CandidateFacts(weights="base", prompt=PromptFacts()), "The model before training; the instruction alone"),
        (trained(), "LoRA adapter of rank 8, learning rate 1e-05, stopped after epoch 3"),
        (
            trained(method="full", rank=None, unit="step", stop=40, constrained=True),
            "All weights trained, learning rate 1e-05, stopped after step 40; decoding is limited",
        ),
        (trained(replay=0.25, scale=0.75), "25% replay rows among the training rows, learning rate 1e-05"),
        (trained(scale=0.75), "the adapter at 0.75 of its strength"),
        (trained(objective="grpo"), "trained on rewards (GRPO), learning"),
        (trained(objective="mine"), "trained by mine, learning"),
        (trained(objective="kto"), "trained on labelled answers (KTO), learning"),
        (trained(method="qlora", objective="dpo"), "QLoRA adapter of rank 8, trained on preferences (DPO), learning"),
    ],
)
def test_facts_say_what_a_candidate_is(facts: CandidateFacts, says: str) -> None:
    assert says in about_candidate(facts)


def test_what_the_record_does_not_say_gets_no_line() -> None:
    assert about_candidate(None) == ""
    assert about_candidate(CandidateFacts(weights="trained", prompt=PromptFacts())) == ""


def test_two_rungs_that_train_under_one_name_keep_their_facts_apart(tmp_path: Path) -> None:
    """Whether the events are folded or looked up."""
    rates = {"sft": 1e-3, "full": 1e-5}
    with Record.create(tmp_path / "run") as record:
        record.append(TaskRead(task={"ladder": list(rates)}))
        for rung, rate in rates.items():
            record.append(CandidateProposed(rung=rung, name="one", weights="trained", prompt=PromptFacts()))
            record.append(
                CandidateTrained(rung=rung, candidate="one", run="run", learning_rate=rate, stop=1, unit="epoch")
            )
            record.append(training_reached(rung, "run", rate=rate))
        fold = fold_of(record)
        for rung, rate in rates.items():
            facts = facts_in(record, rung, "one")
            assert facts is not None
            assert facts.trained is not None
            assert facts.trained.learning_rate == rate
            assert facts == fold.rung(rung).facts("one")


def test_a_rung_that_trains_by_any_objective_with_any_adapter_is_shown(tmp_path: Path) -> None:
    """The page's form offers the same table."""
    lines = {}
    with Record.create(tmp_path / "run") as record:
        record.append(TaskRead(task={"ladder": list(OBJECTIVES)}))
        for rung, choice in product(OBJECTIVES, get_args(AdapterChoice)):
            record.append(CandidateProposed(rung=rung, name=choice, weights="trained", prompt=PromptFacts()))
            record.append(
                CandidateTrained(rung=rung, candidate=choice, run=choice, learning_rate=1e-3, stop=1, unit="epoch")
            )
            adapter = {"qlora": {"quantize": "nf4"}, "full": {"kind": "none"}}.get(choice, {"kind": choice})
            reached = training_reached(rung, choice)
            of_run = reached.settings.replaced(
                adapter=reached.settings.adapter.replaced(**adapter),
                objective=RecordedObjective(name=rung, options=()),
            )
            record.append(reached.replaced(settings=of_run))
        fold = fold_of(record)
        for rung, choice in product(OBJECTIVES, get_args(AdapterChoice)):
            facts = fold.rung(rung).facts(choice)
            assert facts is not None
            assert facts.trained is not None
            assert (facts.trained.objective, facts.trained.method) == (rung, choice)
            lines[rung, choice] = about_candidate(facts)
    assert len(set(lines.values())) == len(lines)
    assert "Rank-stabilised LoRA adapter of rank 16, trained on preferences (SimPO)" in lines["simpo", "rslora"]
    assert "trained on rewards (Dr. GRPO)" in lines["dr_grpo", "lora"]
    [offered] = [field.choices for field in FIELDS if field.key == "objective"]
    assert offered == tuple(OBJECTIVES)


def test_a_climb_proposes_what_it_measures_and_every_page_shows_it(tmp_path: Path) -> None:
    folder = finished_run(tmp_path)
    with Record.open(folder, read_only=True) as record:
        measured = {(one.rung, one.candidate) for one in record.all(CandidateMeasured)}
        proposed = [(one.rung, one.name) for one in record.all(CandidateProposed)]
        assert set(proposed) == measured
        assert len(proposed) == len(measured), "once each"
        shown = {(rung.name, one.name): one.facts for rung in view_in(record).rungs for one in rung.candidates}
        assert shown
        for (rung, name), facts in shown.items():
            assert facts is not None
            assert facts == facts_in(record, rung, name)
    _, client = page_of(tmp_path)
    for path in (
        "routing-1",
        "routing-1/items?system=prompting%2Fnearest-5",
        "routing-1/items?with=prompting%2Fzero-shot",
    ):
        assert "The instruction" in client.get(f"/runs/{path}").text, path
