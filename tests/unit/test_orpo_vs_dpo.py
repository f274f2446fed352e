"""SFT then DPO against ORPO: what equal compute is, what a study of it learns and measures, and what it says."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import pytest
import torch
from jsonschema import Draft202012Validator

from document_schemas import schema_of
from engine_support import draw, row, tiny
from gate_report_support import gate_found
from gate_support import SUITES
from lastresort.app.study import StudyRequest, _planned, forecast_study, run_study
from lastresort.app.study_folder import study_in
from lastresort.cli.border import guarded
from lastresort.cli.main import app
from lastresort.climb.budget import Budget
from lastresort.climb.prepare import prepare
from lastresort.data.preferences import read_preferences
from lastresort.errors import DataError, InputError, TaskError
from lastresort.evals.measure import LocalExecutor, MeasureJob, Result
from lastresort.gate import built_in
from lastresort.models.local import load_local
from lastresort.records.gate import GateFindings, TargetCompared
from lastresort.records.training import FirstBatch
from lastresort.report.commands import set_options
from lastresort.report.study import ArmSettings, OrpoVsDpoDocument
from lastresort.report.study_page import shown, standing_alone, study_page
from lastresort.report.words import study as words
from lastresort.rungs import tuning
from lastresort.spec.sections import SuiteFacts
from lastresort.spec.task import load_task
from lastresort.stop import Stop
from lastresort.study.arms import ArmPairs, _pairs, _Settings, rates_of
from lastresort.study.compare import orpo_vs_dpo_of
from lastresort.study.compute import TrainingCompute, found_plain, planned_compute, steps_within
from lastresort.study.conclude import MeasuredStudy
from lastresort.study.gating import without_examples
from lastresort.study.grid import arms_grid
from lastresort.study.rows import ArmTraining, CellGate, CellRow, rows_in
from lastresort.study.run import forecast
from lastresort.systems.system import PromptDesign
from lastresort.train.adapters.adapters import attach_adapter, trainable
from lastresort.train.loop import policy
from lastresort.train.loop.batches import TrainingItem, completions
from lastresort.train.loop.batches import pairs as paired
from lastresort.train.loop.loop import Diverged, train
from lastresort.train.settings import AdapterSettings, Objective, TrainSettings
from lastresort.types import SilentProgress
from study_support import arm_of, arms_study_of, task_of
from tuning_support import Cut, CutAt, Scissors, labels, pairs, tiny_task

GATE_OF_CLIMB = ("rung", "system", "mode", "seed", "artefact_sha256")  # what a gate of a study has not
FREE = ("seconds", "answer_s", "gate")  # what two runs do not share


def request(folder: Path, seeds: int | None = 2, **keys: Any) -> StudyRequest:
    keys = {
        "ladder": ["prompting"],  # a climb would not read the pairs
        "preferences": pairs(),
        "split": {"dev": 6, "test": 30},
        "preference": {"learning_rates": [0.003], "epochs": 1, "batch_size": 20},
        **keys,
    }
    path = tiny_task(folder / "task", **keys)
    return StudyRequest("orpo-vs-dpo", path, seeds=seeds, out=folder / "own")


def rows(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "own" / "rows.jsonl").read_text("utf-8").splitlines()
    return [{key: value for key, value in json.loads(line).items() if key not in FREE} for line in lines]


def findings(verdict: str) -> GateFindings:
    found = gate_found(verdict)
    return GateFindings.model_validate({key: value for key, value in found.items() if key not in GATE_OF_CLIMB})


def gated(verdict: str, general: float = -0.04) -> CellGate:
    """general: the difference, within 3 points at 90%."""
    found = without_examples(findings(verdict))
    first = found.suites[0].replaced(difference=general, interval=(general - 0.03, general + 0.03))
    suites = (first, *found.suites[1:])
    return CellGate(key="5a" * 32, mode="quick", seed=0, **dict(found.replaced(suites=suites)))


ROOT = draw(20, 1)  # what all prompts begin with


def items_of(n: int = 7) -> list[TrainingItem]:
    prompts = [ROOT + draw(3 + i % 4, 10 + i) for i in range(n)]
    good = [row(prompt, draw(2 + i % 3, 30 + i)) for i, prompt in enumerate(prompts)]
    bad = [row(prompt, draw(1 + i % 4, 60 + i)) for i, prompt in enumerate(prompts)]
    return paired(good, bad)


def failing(*_: object) -> FirstBatch:
    return FirstBatch.not_compared("packed and plain forward differ on the first batch", gradient_difference=1.0)


@pytest.mark.sampled(7)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("path", ["packed", "plain", "dropout", "check fails"])
@pytest.mark.parametrize("name", ["sft", "dpo", "orpo"])
def test_what_a_training_computes_is_known_to_the_token(
    name: str, path: str, dtype: torch.dtype, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut into passes of 60 tokens. In 16 bits the reference is computed for every batch, in 32 bits once. With dropout only what
    is trained takes the plain path. Where the check of the first batch fails, everything does.
    """
    base = tiny("llama", dtype, attention_dropout=0.1 if path == "dropout" else 0.0)
    model = attach_adapter(base, AdapterSettings(r=4, alpha=8), base_name="tiny")
    items = items_of() if name != "sft" else completions([item.rows[0] for item in items_of()])
    settings = TrainSettings(0.01, epochs=2, batch_size=3, objective=Objective(name), max_pass_tokens=60)
    if path == "plain":
        monkeypatch.setattr("lastresort.engine.logp.why_plain_batch", lambda *_: "it was asked for")
    seen, known = {True: 0, False: 0}, policy.target_logps

    def counted(*arguments: Any, **keywords: Any) -> Any:
        found = known(*arguments, **keywords)
        seen[torch.is_grad_enabled()] += found.computed_tokens
        return found

    monkeypatch.setattr(policy, "target_logps", counted)
    if path == "check fails":
        monkeypatch.setattr(policy, "check_first_batch", failing)
    plain = found_plain(model, items, settings)
    assert plain == (path == "check fails")
    seen.update({True: 0, False: 0})
    planned = planned_compute(model, items, settings, plain=plain)
    trained = train(model, items, settings, folder=tmp_path)
    assert planned == TrainingCompute(seen[True], seen[False])
    assert planned.trained_tokens == trained.computed_tokens
    assert (planned.reference_tokens > 0) == (name == "dpo")


def test_orpo_gets_as_many_steps_as_compute_what_sft_and_dpo_do() -> None:
    """By hand: pairs of 10 tokens each, 2 a step, alone in their pass; DPO's reference counts half."""
    model = attach_adapter(tiny("llama"), AdapterSettings(r=4, alpha=8), base_name="tiny")
    alone = [row(draw(6, i), draw(3, 50 + i)) for i in range(4)]  # 8 tokens are computed, the last predicts nothing
    items = [TrainingItem((one, one)) for one in alone]
    orpo = TrainSettings(0.01, epochs=1, batch_size=2, objective=Objective("orpo"))
    sft, dpo = replace(orpo, objective=Objective(), epochs=3), replace(orpo, objective=Objective("dpo"), epochs=2)
    first = planned_compute(model, completions(alone), sft)
    second = planned_compute(model, items, dpo)
    assert (first.tokens, second.tokens) == (3 * 32, 2 * 32 + 32 / 2)
    assert steps_within(model, items, orpo, first.tokens + second.tokens) == 11  # of 16 tokens each
    assert steps_within(model, items, orpo, first.tokens + second.tokens - 0.5) == 10
    assert steps_within(model, items, orpo, 1.0) == 1


@dataclass(slots=True)
class Whole:
    """A gated study of two seeds. learned: the items of each of its trainings. starts: how large the adapter's B was at its
    beginning. measured: ids of all that was answered and scored. gated: the arguments of each of its gates.
    """

    folder: Path
    learned: list[list[TrainingItem]] = field(default_factory=list)
    starts: list[float] = field(default_factory=list)
    measured: set[str] = field(default_factory=set)
    gated: list[tuple[Any, ...]] = field(default_factory=list)

    def request(self, **options: Any) -> StudyRequest:
        path = self.folder / "task" / "task.yaml"
        return replace(StudyRequest("orpo-vs-dpo", path, seeds=2, out=self.folder / "own", gate="quick"), **options)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    found = Whole(tmp_path_factory.mktemp("whole"))
    run, to_end = LocalExecutor.run, tuning.train_to

    def measure(
        self: LocalExecutor, jobs: Sequence[MeasureJob], on_result: Callable[[MeasureJob, Result], None], stop: Stop
    ) -> None:
        found.measured.update(example.id for job in jobs for example in job.examples)
        run(self, jobs, on_result, stop)

    def learn(bench: Any, own: Any, model: Any, source: Any, until: int, **keywords: Any) -> Any:
        found.learned.append(list(source))
        found.starts.append(sum(float(one.detach().abs().sum()) for name, one in trainable(model) if "lora_B" in name))
        return to_end(bench, own, model, source, until, **keywords)

    def gate(*given: Any, **_: Any) -> GateFindings:
        found.gated.append(given)
        return findings("SHIP")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LocalExecutor, "run", measure)
        patch.setattr("lastresort.study.arms.train_to", learn)
        patch.setattr("lastresort.study.cells.LEAK_ITEMS", 4)
        patch.setattr("lastresort.study.gating.gate_sides", gate)
        run_study(replace(request(found.folder), gate="quick"), SilentProgress())
    return found


def given(folder: Path, preferences: list[dict[str, str]], context_tokens: int | None = None) -> ArmPairs:
    """As a cell finds them."""
    task = load_task(tiny_task(folder / "task", preferences=preferences))
    assert task.preferences is not None
    loaded = load_local(folder / "task" / "model")
    bench = SimpleNamespace(task=task, preferences=read_preferences(task.preferences), progress=SilentProgress())
    return _pairs(bench, PromptDesign(""), replace(loaded, context_tokens=context_tokens))  # type: ignore[arg-type]


def test_the_pairs_held_out_know_their_prompts(tmp_path: Path) -> None:
    assert given(tmp_path / "alone", pairs()).held_prompts == ()
    twice = [{**one, "rejected": said} for one in pairs() for said in ("no idea", "hm")]
    found = given(tmp_path / "twice", twice)
    prompts = [item.rows[0].prompt for item in found.held]
    assert len(prompts) == 12
    assert sorted(found.held_prompts) == [place for place in range(6) for _ in range(2)]
    same = {(one, other) for one in range(12) for other in range(12) if prompts[one] == prompts[other]}
    known = found.held_prompts
    assert same == {(one, other) for one in range(12) for other in range(12) if known[one] == known[other]}


def test_too_few_pairs_after_rendering_are_refused(tmp_path: Path) -> None:
    one = {"prompt": "tree #99 " + "very long " * 400, "chosen": "red", "rejected": "no"}
    with pytest.raises(DataError, match=r"found 1 pair to train on; 59 left out, .*expected at least 50 that fit"):
        given(
            tmp_path, [*pairs(1), *({**one, "prompt": f"{one['prompt']} {i}"} for i in range(59))], context_tokens=200
        )


def test_only_dev_is_measured_and_pairs_that_are_held_out_are_not_learned(whole: Whole) -> None:
    learned = whole.learned
    prepared = prepare(load_task(whole.folder / "task" / "task.yaml"))
    assert whole.measured == {example.id for example in prepared.split.dev}
    sft, dpo, orpo, *_ = learned
    assert len(learned) == 6
    assert dpo == orpo
    assert len(dpo) == 54
    assert sft == completions([item.rows[0] for item in dpo])
    assert all(one == other for one, other in zip(learned[:3], learned[3:], strict=True))


def test_dpo_goes_on_from_sft_and_orpo_begins_at_the_base(whole: Whole) -> None:
    for sft, dpo, orpo in (whole.starts[:3], whole.starts[3:]):
        assert sft == orpo == 0 < dpo


def test_both_ways_compute_the_same_and_the_rows_say_how_much(whole: Whole) -> None:
    base, *arms = [CellRow.model_validate({**row, "seconds": 1, "answer_s": ()}) for row in rows(whole.folder)]
    assert base.arm is None
    assert [(row.way, row.seed) for row in arms] == [("dpo", 0), ("orpo", 0), ("dpo", 1), ("orpo", 1)]
    for dpo, orpo in ((arms[0].arm, arms[1].arm), (arms[2].arm, arms[3].arm)):
        assert dpo is not None
        assert orpo is not None
        budget = TrainingCompute(dpo.trained_tokens, dpo.reference_tokens).tokens
        a_step = orpo.trained_tokens / orpo.steps
        assert budget - 1.3 * a_step < orpo.trained_tokens <= budget  # steps differ in length
        assert orpo.steps > dpo.steps == 3
        assert dpo.reference_tokens > 0 == orpo.reference_tokens
        assert len(dpo.margins) == len(orpo.margins) == 6
        assert dpo.base_margins == orpo.base_margins
        assert sum(dpo.margins) > sum(dpo.base_margins)
        assert sum(orpo.margins) > sum(orpo.base_margins)
    assert arms[0].arm != arms[2].arm  # another seed is another training


@pytest.mark.release
def test_compute_is_equal_where_the_check_of_the_first_batch_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answers to prompts that begin alike share less than the plan of packed passes would count on."""
    monkeypatch.setattr("lastresort.study.cells.LEAK_ITEMS", 4)
    monkeypatch.setattr(policy, "check_first_batch", failing)
    alike = [{**one, "prompt": "The same long beginning of all the prompts. " * 3 + one["prompt"]} for one in pairs()]
    with pytest.raises(Cut):
        run_study(request(tmp_path, preferences=alike), CutAt("dpo, seed 1: loading", 1))
    _, dpo, orpo = (ArmTraining.model_validate(row["arm"]) if row["arm"] else None for row in rows(tmp_path))
    assert dpo is not None
    assert orpo is not None
    budget = TrainingCompute(dpo.trained_tokens, dpo.reference_tokens).tokens
    assert budget - 1.3 * orpo.trained_tokens / orpo.steps < orpo.trained_tokens <= budget


@pytest.mark.release
def test_a_study_that_is_cut_goes_on_to_the_same_rows(
    whole: Whole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lastresort.study.cells.LEAK_ITEMS", 4)
    own = request(tmp_path)
    for label, after in (("preference, dpo, seed 0, dpo: training", 2), ("orpo, seed 0: dev", 1)):
        with pytest.raises(Cut):
            run_study(own, CutAt(label, after))
    with pytest.raises(Cut):
        run_study(own, progress := CutAt("dpo, seed 1: loading", 1))
    assert "preference, dpo, seed 0, dpo: training" not in progress.labels
    assert rows(tmp_path) == rows(whole.folder)[:3]


def test_the_answer_names_the_better_way_or_says_that_it_cannot(tmp_path: Path) -> None:
    task = task_of(tmp_path)

    def found(dpo: float, orpo: float, **facts: Any) -> OrpoVsDpoDocument:
        return orpo_vs_dpo_of(arms_study_of(task, dpo, orpo, **facts))

    better = found(0.3, 0.7)
    Draft202012Validator(schema_of("orpo_vs_dpo")).validate(better.as_json())
    assert better.better == "ORPO"
    assert better.answer.startswith("At equal compute ORPO scores ")
    worse = found(0.7, 0.3)
    assert worse.better == "DPO"
    low, high = worse.difference.interval
    assert f"(95%: {-100 * high:.1f} to {-100 * low:.1f})" in worse.answer
    equal = found(0.5, 0.5)
    assert equal.better == "CANNOT_TELL"
    assert equal.answer.startswith(
        "At equal compute this study cannot tell whether ORPO or SFT then DPO scores higher: ORPO minus SFT then DPO is "
    )
    assert [one.seed for one in equal.by_seed] == [0, 1, 2, 3, 4]
    groups = [f"g{i // 50}" for i in range(120)]  # of 50, 50 and 20 items, which count alike
    grouped = orpo_vs_dpo_of(replace(arms_study_of(task, 0.3, 0.7), groups=groups))
    for study in (equal, grouped):
        assert sum(one.difference for one in study.by_seed) / 5 == pytest.approx(study.difference.mean)
        assert [one.orpo - one.dpo for one in study.by_seed] == pytest.approx([one.difference for one in study.by_seed])


@pytest.mark.parametrize(("tokens", "said"), [(13_000, "130.0%"), (7_000, "70.0%")])
def test_an_answer_at_other_compute_says_so(tokens: int, said: str, tmp_path: Path) -> None:
    arm = arm_of("orpo", trained_tokens=tokens)
    for dpo, orpo in ((0.3, 0.7), (0.7, 0.3), (0.5, 0.5)):
        found = orpo_vs_dpo_of(arms_study_of(task_of(tmp_path), dpo, orpo, arm=arm))
        assert not found.compute.equal
        assert found.answer.startswith(f"With ORPO at {said} of the compute of SFT then DPO, ")
        text = " ".join((found.answer, *shown(found).sentences))
        assert "Compute is not equal: SFT then DPO computes 9,000 tokens" in text
        assert "as fit" not in text
        assert "equal compute" not in text.lower()


def test_the_document_holds_what_the_answer_is_about(tmp_path: Path) -> None:
    task = task_of(tmp_path, preference={"beta": 0.5}, sft={"loraplus_lr_ratio": 16})
    found = orpo_vs_dpo_of(arms_study_of(task, 0.5, 0.5))
    assert found.settings == ArmSettings(
        sft_rate=0.001, dpo_rate=0.0001, orpo_rate=0.0001, loraplus_lr_ratio=16, dpo_beta=0.5, orpo_weight=0.5
    )
    assert (found.pairs, found.held_pairs, found.method) == (54, 10, "lora")
    assert "16 times these in all three (LoRA+)" in " ".join(shown(found).sentences)


def test_no_difference_has_no_sign() -> None:
    assert words.signed(-0.0004) == "+0.0"


def test_the_table_and_the_sentences_say_what_else_was_measured(tmp_path: Path) -> None:
    far = arm_of("orpo", kl=1.5)
    found = orpo_vs_dpo_of(arms_study_of(task_of(tmp_path), 0.5, 0.5, arm=far, kept=(False,) * 12 + (True,) * 28))
    base, dpo, orpo = (dict(zip(shown(found).header, row, strict=True)) for row in shown(found).rows)
    assert (base["way"], base["prefers chosen"], base["margin"], base["steps"]) == ("base prompt", "50.0%", "+0.00", "")
    assert (dpo["way"], dpo["prefers chosen"], dpo["steps"], dpo["tokens"], dpo[""]) == (
        "SFT then DPO",
        "90.0%",
        "12 + 12",
        "10,000",
        "",
    )
    assert (orpo["steps"], orpo["tokens"], orpo["kept"], orpo["KL"]) == ("20", "9,900", "70.0%", "1.50")
    assert orpo[""] == "format leak, far from the base"
    said = " ".join(shown(found).sentences)
    assert "ORPO computes 99.0% of that, 9,900, in as many whole steps as fit." in said
    assert "SFT 0.001, DPO 0.0001, ORPO 0.0001. DPO's beta is 0.1, the weight of ORPO's odds ratio 0.1." in said
    assert "LoRA learns from 54 pairs; 10 are held out" in said
    assert "the likelier one in 90.0% after SFT then DPO and 80.0% after ORPO (−10.0 points, " in said
    assert "the chosen answers have 4.0." in said  # without the token that ends each, as 3 on dev
    assert "Answers on dev have 3.0 tokens" in said
    assert "The whole gate was not run" in said
    assert "--gate quick" in said
    none = arms_study_of(task_of(tmp_path), 0.5, 0.5, arm=arm_of("orpo", margins=(), base_margins=()))
    rows = {
        cell: row.replaced(arm=arm_of("dpo", margins=(), base_margins=())) if cell.way == "dpo" else row
        for cell, row in none.measured.rows.items()
    }
    without = orpo_vs_dpo_of(replace(none, measured=replace(none.measured, rows=rows)))
    assert without.preferred is None
    assert "prefers chosen" not in shown(without).header
    assert "prefers chosen" not in " ".join(shown(without).sentences)
    assert "No pairs are held out" in " ".join(shown(without).sentences)


def arms_gated(folder: Path, dpo: Sequence[CellGate], orpo: Sequence[CellGate]) -> MeasuredStudy:
    """By seed."""
    study = arms_study_of(task_of(folder), 0.5, 0.5, seeds=len(dpo))
    gates = {"dpo": dpo, "orpo": orpo}
    rows = {
        cell: row.replaced(gate=gates[cell.way][cell.seed]) if cell.trains else row
        for cell, row in study.measured.rows.items()
    }
    return replace(study, measured=replace(study.measured, rows=rows, gate="quick"))


def test_what_the_gate_says_of_each_way_is_counted_over_the_seeds(tmp_path: Path) -> None:
    study = arms_gated(
        tmp_path,
        [gated("SHIP", -0.01), gated("HOLD", -0.02), gated("HOLD", -0.03)],
        [gated("REJECT", -0.08), gated("SHIP", 0.0), gated("REJECT", -0.04)],
    )
    found = orpo_vs_dpo_of(study)
    Draft202012Validator(schema_of("orpo_vs_dpo")).validate(found.as_json())
    assert found.gate == "quick"
    base, dpo, orpo = (dict(zip(shown(found).header, row, strict=True)) for row in shown(found).rows)
    assert (base["gate"], dpo["gate"], orpo["gate"]) == ("", "SHIP 1, HOLD 2", "SHIP 1, REJECT 2")
    assert [one.dpo_gate.verdict for one in found.by_seed if one.dpo_gate] == ["SHIP", "HOLD", "HOLD"]
    said = " ".join(shown(found).sentences)
    assert "Gate of SFT then DPO: SHIP 1, HOLD 2 of 3 seeds; in points on average (95%): general −2.0 (" in said
    assert "; not tested with every seed: yielding." in said
    assert "(SFT then DPO, seeds 1 and 2)." in said
    assert "Reject: the tuned model lost more than is accepted in general (ORPO, seeds 0 and 2)." in said
    assert "The gate is quick" in said
    assert "its target is dev" in said
    assert "was not run" not in said
    page = study_page(found)
    assert "SHIP 1, HOLD 2" in page
    none = orpo_vs_dpo_of(replace(study, measured=replace(study.measured, gate=None)))
    assert (none.gate, none.points[1].gate, none.by_seed[0].orpo_gate) == (None, None, None)
    assert "gate" not in shown(none).header


def test_the_interval_of_a_loss_counts_items_and_seeds(tmp_path: Path) -> None:
    """By hand: three points at 90% are 3.57 at 95%. Seeds at 0, 2 and 4 points have 4.30 standard errors of 1.15 beside these."""
    alike, apart = [gated("SHIP", -0.02)] * 3, [gated("SHIP", one) for one in (0.0, -0.02, -0.04)]
    found = orpo_vs_dpo_of(arms_gated(tmp_path, alike, apart))
    (first, *_), (second, *_) = (one.gate.measures for one in found.points if one.gate is not None)
    assert first.interval == pytest.approx((-0.02 - 0.0357, -0.02 + 0.0357), abs=1e-4)
    assert second.difference == pytest.approx(-0.02)
    assert second.interval[1] + 0.02 == pytest.approx((0.0357**2 + (4.303 * 0.02 / 3**0.5) ** 2) ** 0.5, abs=1e-4)


def test_each_adapter_is_gated_once_on_the_same_items_and_the_test_set_stays_unused(whole: Whole) -> None:
    prepared = prepare(load_task(whole.folder / "task" / "task.yaml"))
    dev = {example.id for example in prepared.split.dev}
    assert len(whole.gated) == 4
    for _, sides, _, target, settings, *_, stop in whole.gated:
        assert (sides.kind, settings.seed, settings.quick) == ("adapter", 0, True)
        assert isinstance(target, TargetCompared)
        assert (target.comparator, target.n_compared) == ("the base with the plain prompt", len(dev))
        assert any(isinstance(one, Budget) for one in stop.stops)  # limits count
    tuned = [given[1].tuned.name for given in whole.gated]
    assert len(set(tuned)) == 4
    base, *arms = {found.key: found for found in rows_in(whole.folder / "own").values()}.values()
    assert base.gate is None
    for arm in arms:
        assert arm.gate is not None
        assert (arm.gate.verdict, arm.gate.mode) == ("SHIP", "quick")
        assert not any(one.changed or one.strata for one in arm.gate.suites)
        assert not arm.gate.failure_modes
        assert arm.summary["gate"] == "SHIP"


def test_a_finished_study_gates_nothing_again_and_shows_its_gates_only_where_they_are_wanted(whole: Whole) -> None:
    for gate in ("quick", None):
        progress = Scissors()
        found = run_study(whole.request(gate=gate), progress)
        assert "All 5 cells of the study are done." in progress.said
        assert isinstance(found.document, OrpoVsDpoDocument)
        assert found.document.gate == gate
        verdicts = [one["gate"] for one in found.rows()]
        assert verdicts == [None, *[None if gate is None else "SHIP"] * 4]
    assert len(whole.gated) == 4
    seen = study_in(whole.folder / "own")
    assert seen is not None
    assert seen.document == found.document


@pytest.mark.parametrize(
    ("options", "missing"),
    [({"gate": "full"}, 4), ({"settings": {"keep.general": 0.2}}, 4), ({"settings": {"limits.hours": 9}}, 0)],
)
def test_a_row_without_the_gate_that_is_wanted_is_trained_again_and_that_is_said(
    options: dict[str, Any], missing: int, whole: Whole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another gate, or other margins; the row that there is stays until the new one is complete."""
    shutil.copytree(whole.folder / "own", tmp_path / "own")
    monkeypatch.setattr("lastresort.study.run.run_training", cut)
    own, progress = whole.request(out=tmp_path / "own", **options), Scissors()
    if not missing:
        run_study(own, progress)
        assert "All 5 cells of the study are done." in progress.said
        return
    with pytest.raises(Cut):
        run_study(own, progress)
    assert any(said.startswith("The study has 5 cells, 1 of them done.") for said in progress.said)
    again = "4 cells have a row without this gate. A study keeps no adapter, so they are trained again to be gated, and"
    assert any(said.startswith(again) for said in progress.said)
    seen = study_in(tmp_path / "own")
    assert seen is not None
    assert seen.done == 1
    assert seen.command(tmp_path).endswith(shlex.join(set_options(own.settings)) if own.settings else "--gate full")
    assert run_study(whole.request(out=tmp_path / "own", gate=None), Scissors()).document.seeds == 2


def cut(*_: object) -> CellRow:
    raise Cut


@pytest.mark.slow
def test_a_study_that_is_cut_in_a_gate_trains_and_asks_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole gate, of small suites; the first gate asks the base, the second the adapter alone."""
    monkeypatch.setattr("lastresort.study.cells.LEAK_ITEMS", 4)
    monkeypatch.setattr(built_in, "SUITES", {**SUITES, "general": SuiteFacts("gate_support:steady", 0.03)})
    keep = {"general": 0.1, "sycophancy": "skip", "format_leak": "skip"}
    own = replace(request(tmp_path, keep=keep), gate="quick")
    with pytest.raises(Cut):
        run_study(own, CutAt("dpo, seed 0, gate: tuned: general", 2))
    assert len(rows(tmp_path)) == 1
    with pytest.raises(Cut):
        run_study(own, progress := CutAt("dpo, seed 1: loading", 1))
    assert not any(label.endswith("seed 0, dpo: training") for label in progress.labels)
    _, dpo, orpo = {found.key: found for found in rows_in(tmp_path / "own").values()}.values()
    assert dpo.gate is not None
    assert orpo.gate is not None
    assert dpo.gate.target.passed is orpo.gate.target.passed is False
    assert dpo.gate.fingerprints.base == orpo.gate.fingerprints.base
    assert dpo.gate.fingerprints.tuned != orpo.gate.fingerprints.tuned
    first, second = (one.looked_at for gate in (dpo.gate, orpo.gate) for one in gate.suites[:1])
    assert first is not None
    assert second is not None
    assert first.most == second.most
    assert orpo.gate.spent.asked_now == second.items + max(
        0, second.items - first.items
    )  # the adapter, and the base beyond


def test_the_page_draws_each_seed_the_base_and_the_difference(tmp_path: Path) -> None:
    """Heights are read back from the picture: two dots a seed joined by a line, a level line, and an interval around a dot."""
    document = orpo_vs_dpo_of(arms_study_of(task_of(tmp_path), 0.3, 0.7)).replaced(task="<b>&")
    (picture,) = shown(document).pictures
    drawn = ElementTree.fromstring(standing_alone(picture))

    def of(tag: str) -> list[ElementTree.Element]:
        return list(drawn.iter(f"{{http://www.w3.org/2000/svg}}{tag}"))

    ticks = [(float(text.get("y", "")) - 4, text.text or "") for text in of("text") if text.get("text-anchor") == "end"]
    level = [(y, float(said[:-1])) for y, said in ticks if said.endswith("%")]
    points = [(y, float(said.replace("−", "-"))) for y, said in ticks if not said.endswith("%")]

    def read(y: float, axis: list[tuple[float, float]]) -> float:
        (y0, low), (y1, high) = axis[0], axis[-1]
        return (low + (y - y0) * (high - low) / (y1 - y0)) / 100

    base, *seeds, interval = [
        [tuple(map(float, point.split(","))) for point in line.get("points", "").split()] for line in of("polyline")
    ]
    near = partial(pytest.approx, abs=0.003)  # a pixel
    assert [read(y, level) for _, y in base] == near([document.points[0].score] * 2)
    for line, one in zip(seeds, document.by_seed, strict=True):
        assert [read(y, level) for _, y in line] == near([one.dpo, one.orpo])
    assert len({x for line in seeds for x, _ in line}) == 2 * 5  # equal scores do not hide each other
    assert [read(y, points) for _, y in interval] == near(list(document.difference.interval))
    *dots, mean = [(float(one.get("cx", "")), float(one.get("cy", ""))) for one in of("circle")]
    assert sorted(dots) == sorted(end for line in seeds for end in line)
    assert read(mean[1], points) == near(document.difference.mean)
    label = drawn.get("aria-label", "")
    for one in document.by_seed:
        assert f"eed {one.seed}: SFT then DPO {100 * one.dpo:.1f}%, ORPO {100 * one.orpo:.1f}%" in label
    low, high = (f"{100 * one:+.1f}" for one in document.difference.interval)
    assert f"on average {100 * document.difference.mean:+.1f} points (95%: {low} to {high})" in label
    assert f"base prompt {100 * document.points[0].score:.1f}%" in label
    page = study_page(document)
    assert "<b>&<" not in page
    assert document.answer in page


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (
            {},
            'task.yaml, key "preferences": found nothing, expected at least 50 pairs of a chosen and a rejected answer',
        ),
        ({"preferences": labels()}, "found labelled answers, expected at least 50 pairs"),
        ({"preferences": pairs(49)}, "found 49 pairs, expected at least 50"),
        (
            {"preferences": pairs(), "tune": {"method": "full"}, "ladder": ["prompting", "full"]},
            'key "tune.method": found full, expected lora, qlora or auto',
        ),
        ({"preferences": pairs(), "model": "http://127.0.0.1:9/v1#m"}, "a study trains"),
    ],
)
def test_a_task_without_pairs_or_weights_is_refused_before_anything_is_written(
    keys: dict[str, Any], said: str, tmp_path: Path
) -> None:
    own = StudyRequest("orpo-vs-dpo", tiny_task(tmp_path / "task", **keys), out=tmp_path / "own")
    for study in (run_study, forecast_study):
        with pytest.raises(TaskError, match=said):
            study(own, SilentProgress())
    assert not (tmp_path / "own").exists()


def test_one_seed_is_refused() -> None:
    assert len(arms_grid(60, None).seeds) == 5
    with pytest.raises(InputError, match="--seeds: found 1, expected at least 2"):
        arms_grid(60, 1)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"sizes": (20, 40)}, "--sizes: found 20, 40, expected none: orpo-vs-dpo trains on all pairs"),
        ({"kind": "min-data", "dpo_rate": 0.1}, "--dpo-rate: found 0.1, expected none: only orpo-vs-dpo"),
        ({"kind": "crossover", "orpo_rate": 0.1}, "--orpo-rate: found 0.1, expected none: only orpo-vs-dpo"),
        ({"dpo_rate": 0.0}, "--dpo-rate: found 0, expected a number above 0"),
        ({"orpo_rate": 2.0}, "--orpo-rate: found 2, expected a number above 0 and at most 1"),
        ({"kind": "min-data", "gate": "quick"}, '--gate: found "quick", expected none: only orpo-vs-dpo gates'),
        ({"gate": "fast"}, '--gate: found "fast", expected quick, full'),
    ],
)
def test_options_that_fit_no_study_are_refused(options: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said):
        forecast_study(replace(request(tmp_path), **options), SilentProgress())


def test_each_training_has_a_rate_of_its_own(tmp_path: Path) -> None:
    auto = load_task(tiny_task(tmp_path, preference={}))
    assert (rates_of(auto).dpo, rates_of(auto).orpo) == (4.5e-5, 1.7e-4)
    named = load_task(tiny_task(tmp_path, preference={"learning_rates": [0.1, 0.2, 0.3]}))
    assert (rates_of(named).dpo, rates_of(named).orpo) == (0.2, 0.2)
    plus = _Settings(load_task(tiny_task(tmp_path, sft={"loraplus_lr_ratio": 16})), rates_of(named), 0)
    assert {plus.of(part).loraplus_lr_ratio for part in ("sft", "dpo", "orpo")} == {16}
    assert (rates_of(named, dpo=0.5).dpo, rates_of(named, orpo=0.5).orpo) == (0.5, 0.5)


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("name", "cell", "key"),
    [("sft", "dpo", r"sft.learning_rates=\[RATE\]"), ("dpo", "dpo", "--dpo-rate"), ("orpo", "orpo", "--orpo-rate")],
)
def test_a_training_that_diverges_says_which_rate_to_lower(
    name: str, cell: str, key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lastresort.study.cells.LEAK_ITEMS", 4)

    def diverged(bench: Any, own: Any, *arguments: Any, **keywords: Any) -> Any:
        if own.settings.objective.name == name:
            raise Diverged("the loss became nan", where="training")
        return tuning.train_to(bench, own, *arguments, **keywords)

    monkeypatch.setattr("lastresort.study.arms.train_to", diverged)
    with pytest.raises(DataError, match=rf"{cell}, seed 0: training diverged at .*{key}"):
        run_study(request(tmp_path, model="model"), SilentProgress())


def test_the_command_hands_on_each_option_under_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    requests = list[StudyRequest]()
    monkeypatch.setattr("lastresort.cli.study._run", lambda request, *_: requests.append(request))
    options = "--dpo-rate 0.1 --orpo-rate 0.2 --seeds 2 --gate quick --out there --ray local".split()
    monkeypatch.setattr("sys.argv", ["lastresort", "study", "orpo-vs-dpo", "task.yaml", *options])
    assert guarded(app) == 0
    named = {"dpo_rate": 0.1, "orpo_rate": 0.2, "seeds": 2, "gate": "quick", "out": Path("there"), "ray": "local"}
    assert requests == [StudyRequest("orpo-vs-dpo", Path("task.yaml"), **named)]  # type: ignore[arg-type]


def test_the_command_forecasts_without_the_users_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(str(request(tmp_path).task))
    scorer = path.parent / "score.py"
    scorer.write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n{scorer.read_text('utf-8')}", encoding="utf-8")
    words = ["study", "orpo-vs-dpo", str(path), "--out", str(tmp_path / "own"), "--dry-run", "--dpo-rate", "1e-4"]
    monkeypatch.setattr("sys.argv", ["lastresort", *words])
    assert guarded(app) == 0
    assert "The study has 11 cells. Forecast: " in capsys.readouterr().out
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "own").exists()


def test_a_forecast_counts_the_gates_of_all_adapters_and_the_base_once(tmp_path: Path) -> None:
    own = request(tmp_path)
    plain, two, three = (
        forecast(study, list(study.grid.cells()), SilentProgress())[0]
        for study in (
            _planned(replace(own, gate=gate, seeds=seeds), SilentProgress(), run_code=False)
            for gate, seeds in ((None, 2), ("quick", 2), ("quick", 3))
        )
    )
    assert plain is not None
    assert two is not None
    assert three is not None
    assert two.answers == plain.answers  # the task's scorer has nothing to do with the rest
    assert any("base and 4 adapters" in line for line in two.lines)
    assert any("base and 6 adapters" in line for line in three.lines)
    assert two.tokens_in > plain.tokens_in
