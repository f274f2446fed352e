"""`tune.processes`: how a training of a climb or a study is divided, what each process holds, and what is refused."""

from __future__ import annotations

import io
import pickle
import queue
import random
import re
import sys
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from climb_support import calls, scripted_task
from lastresort.after.compare.compare import forecast_of
from lastresort.after.compare.ways import ComparisonRequest
from lastresort.app import dry_run
from lastresort.app.climb import climb
from lastresort.app.dry_run import missing
from lastresort.app.spread import training_room
from lastresort.app.start import ClimbRequest, forecast_climb, start_climb
from lastresort.app.study import StudyRequest, forecast_study, run_study
from lastresort.climb import budget, room
from lastresort.climb import workload as climb_workload
from lastresort.climb.budget import beyond_limits
from lastresort.climb.identity import changed_keys
from lastresort.climb.prepare import prepare
from lastresort.climb.room import refuse_beyond_cards, rungs_to_train
from lastresort.engine.forest import Row, split_evenly
from lastresort.errors import (
    DataError,
    InfrastructureError,
    LastresortError,
    OutOfMemoryError,
    PrerequisiteError,
    TaskError,
)
from lastresort.gate.command import _task_hash
from lastresort.hardware.cards import Card, known_cards
from lastresort.hardware.find import find_shape
from lastresort.hardware.plan.fit import PlannedTraining
from lastresort.hardware.plan.setup import Cards, Setup
from lastresort.records.events.search import RungPlanned, SystemFrozen
from lastresort.records.events.training import LapTrained
from lastresort.records.record import Record
from lastresort.records.rungs import LacksMemory, SmallestPassTooLarge
from lastresort.records.training import TrainedSteps
from lastresort.report.words.rungs import of_base_beyond_a_card, of_memory, of_model_elsewhere
from lastresort.report.words.training import note_line
from lastresort.rungs import divided
from lastresort.rungs.divided import Division, divide, divided_plan, division_of, train_together
from lastresort.rungs.forecast import Machine, Rates, Workload, answering, training
from lastresort.rungs.supervised import full
from lastresort.rungs.supervised.full import smallest_pass_too_large
from lastresort.scale.cluster import WorkerRoom
from lastresort.spec.sections import Limits
from lastresort.spec.task import Task, load_task
from lastresort.stop import NEVER
from lastresort.study import run as study_run
from lastresort.study.run import on_which_rows_depend
from lastresort.synthesis.replay import most_prompts
from lastresort.train.files.memory import MemoryAdvice, memory_errors
from lastresort.train.loop import spawn, spawned
from lastresort.train.loop.loop import Diverged
from lastresort.train.loop.processes import ProcessLost
from lastresort.train.loop.spawn import ProcessFaultError, TrainingProcesses, outcome, training_environment
from lastresort.train.loop.spawned import NOTED, TrainingEnd, end_training
from lastresort.types import Example, Message, SilentProgress
from tuning_support import Scissors, climbed, tiny_task

GIB = 1 << 30
H100, L40S = known_cards()["h100"], known_cards()["l40s"]


def planned(model: str, card: Card, method: str, **more: Any) -> PlannedTraining:
    setup = Setup(cast(Any, method), row_tokens=1024, measured_at_once=1, **more)
    return PlannedTraining(find_shape(model, Path()), setup, Cards(card), 1024, 16 * 1024, 1536)


def task(folder: Path, **tune: Any) -> Task:
    return load_task(scripted_task(folder, quality=[], task={"tune": tune, "ladder": ["sft"]}))


@pytest.mark.parametrize(
    ("wanted", "model", "card", "method", "cards", "found"),
    [
        (1, "llama-3-70b", H100, "lora", 8, Division()),
        (4, "llama-3-8b", H100, "lora", 8, Division(4)),
        ("auto", "llama-3-8b", H100, "lora", 8, Division()),
        (4, "llama-3-70b", H100, "lora", 8, Division(4, sharded=True)),
        ("auto", "llama-3-70b", H100, "lora", 8, Division(8, sharded=True)),
        ("auto", "llama-3-70b", H100, "lora", 1, Division()),
        ("auto", "llama-3-8b", H100, "full", 8, Division(8, sharded=True)),
        (4, "llama-3-8b", H100, "full", 8, Division(4, sharded=True)),
        ("auto", "qwen3-0.6b", H100, "full", 8, Division()),
        (2, "llama-3-70b", Card("cpu", 8 * GIB), "lora", 0, Division(2)),  # shards would save nothing there
        ("auto", "llama-3-70b", Card("cpu", 8 * GIB), "lora", 0, Division()),
    ],
)
def test_the_base_goes_into_shards_where_one_card_is_not_enough(
    wanted: Any, model: str, card: Card, method: str, cards: int, found: Division
) -> None:
    assert divide(wanted, planned(model, card, method), cards) == found


def test_without_a_plan_the_task_alone_decides() -> None:
    assert [divide(wanted, None, 8) for wanted in (3, cast(Any, "auto"))] == [Division(3), Division()]


def test_what_samples_as_it_trains_does_so_in_one_process(tmp_path: Path) -> None:
    assert divide(4, planned("llama-3-8b", H100, "lora", learning="grpo"), 8) == Division()
    shown = Scissors()
    bench: Any = SimpleNamespace(
        task=task(tmp_path, processes=2),
        say=lambda rung, note: shown.say(note_line(rung, note)),
        record=SimpleNamespace(curve=lambda name: []),
    )
    run: Any = SimpleNamespace(rung="preference", name="grpo-lr1e-5")
    assert division_of(bench, run, object(), None) == Division()
    assert shown.said == ["preference: GRPO samples while it trains, so it runs in one process."]


def test_each_process_holds_its_share_and_the_driver_keeps_its_copy_off_the_cards() -> None:
    whole = planned("llama-3-70b", H100, "lora")
    each, free = divided_plan(whole, Division(4, sharded=True), 10 * GIB)
    assert each.needed_bytes < whole.needed_bytes / 3
    assert free is not None
    assert free + each.loaded_bytes == 10 * GIB + whole.loaded_bytes
    here = planned("llama-3-8b", Card("cpu", 64 * GIB), "lora")
    each, free = divided_plan(here, Division(2), 40 * GIB)
    assert free is not None
    assert free + each.loaded_bytes == 20 * GIB
    assert divided_plan(here, Division(), 7) == (here, 7)


def test_a_rung_that_no_card_holds_is_skipped_and_the_climb_says_so_at_its_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of weights, gradients and optimizer alone nothing would be too large."""
    path = tiny_task(tmp_path, ladder=["full"], tune={"processes": 2})
    monkeypatch.setattr(full, "card_here", lambda *, processor: Card("small", GIB // 2))
    (rung,) = dry_run.dry_run(load_task(path), gate="none").rungs
    assert rung.skipped_because is not None
    said = rung.skipped_because.text
    assert said.startswith("training all weights needs 0.7 GiB by the plan, even with one row in a pass, and one GPU")
    assert said.endswith("and one GPU has 0.5 GiB")
    shown = Scissors()
    decision = climbed(path, tmp_path / "run", shown).decision.as_json()
    assert shown.said.count(f"full: skipped: {said}") == 2, "at the start, and in its place"
    assert [(one["name"], one["skipped_because"]["text"]) for one in decision["rungs"]] == [("full", said)]
    assert smallest_pass_too_large(load_task(path), questions_read(path)) is not None
    monkeypatch.setattr(full, "card_here", lambda *, processor: Card("large", GIB))
    assert smallest_pass_too_large(load_task(path), questions_read(path)) is None


def test_a_rung_that_trained_on_a_larger_card_is_said_to_be_skipped_until_it_has_its_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its work is lost then, which the user wants to hear first."""
    found, shown = load_task(tiny_task(tmp_path, ladder=["full"])), Scissors()
    monkeypatch.setattr(full.FullRung, "skip_reason", lambda *_: SmallestPassTooLarge(9, 8, 7, on_card=True))
    with Record.create(tmp_path / "run") as record:
        record.append(LapTrained(rung="full", name="full-1", rate=1e-5, step=4, dev_loss=1.0))
        bench: Any = SimpleNamespace(record=record, task=found, train=(), progress=shown)
        budget.say_lack_of_memory(bench, ["full"])
        assert [line.partition(" training")[0] for line in shown.said] == ["full: skipped:"]
        record.append(SystemFrozen(rung="full", name="full-1", sha256="0" * 64))
        budget.say_lack_of_memory(bench, ["full"])
    assert len(shown.said) == 1


def test_a_rung_is_not_skipped_for_what_the_plan_may_be_wrong_by(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, row = load_task(tiny_task(tmp_path, ladder=["full"])), Example("a", (Message("user", "?"),), "!")
    monkeypatch.setattr(full, "card_here", lambda *, processor: Card("tiny", 1))
    skip = smallest_pass_too_large(found, [row])
    assert skip is not None
    for share, skipped in ((1.09, False), (1.11, True)):
        monkeypatch.setattr(
            full, "card_here", lambda *, processor, share=share: Card("near", int(skip.needed_bytes / share))
        )
        assert (smallest_pass_too_large(found, [row]) is not None) == skipped


@pytest.mark.parametrize(
    ("model", "card", "cards", "in_shards"),
    [
        ("llama-3-8b", "h100", 1, 1),
        ("llama-3-8b", "h100", 4, None),
        ("llama-3-8b", "l40s", 2, 2),
        ("llama-3-70b", "b200", 8, 1),  # in shards it would fit, but no card holds the model to answer
    ],
)
def test_all_weights_fit_several_cards_in_shards(
    model: str, card: str, cards: int, in_shards: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = load_task(tiny_task(tmp_path, ladder=["full"], tune={"processes": "auto"}))
    monkeypatch.setattr(full, "card_here", lambda *, processor: known_cards()[card])
    monkeypatch.setattr(full, "known_shape", lambda *_: find_shape(model, Path()))
    monkeypatch.setattr(divided, "card_count", lambda: cards)
    skip = smallest_pass_too_large(found, [Example("a", (Message("user", "?"),), "!")])
    assert (None if skip is None else skip.cards) == in_shards


@pytest.mark.parametrize(
    ("model", "card", "cards", "processes", "enough"),
    [
        ("llama-3-8b", "h100", 4, 1, 4),
        ("llama-3-8b", "h100", 4, 4, None),
        ("llama-3-8b", "l40s", 2, 1, 0),  # not in shards of two either
        ("llama-3-8b", "l40s", 2, "auto", 0),
        ("llama-3-70b", "h100", 8, 1, 0),  # which no card holds to answer
    ],
)
def test_a_rung_full_that_fits_all_cards_in_shards_says_how_to_train_it_there(
    model: str,
    card: str,
    cards: int,
    processes: Any,
    enough: int | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By the count of bytes for one card, and by the plan where the machine's memory is not known."""
    found = load_task(tiny_task(tmp_path, ladder=["full"], tune={"processes": processes}))
    rows = [Example(str(n), (Message("user", "?"),), "!") for n in range(full.LEAST_ROWS)]
    shape, here = find_shape(model, Path()), known_cards()[card]
    monkeypatch.setattr(full, "card_here", lambda *, processor: here)
    monkeypatch.setattr(full, "known_shape", lambda *_: shape)
    monkeypatch.setattr(full, "parameter_count", lambda *_: shape.parameters)
    monkeypatch.setattr(divided, "card_count", lambda: cards)
    for memory in (here.memory_bytes, None):
        monkeypatch.setattr(full, "machine_memory_bytes", lambda memory=memory: memory)
        skip = full.FullRung().skip_reason(found, rows)
        assert (None if skip is None else cast(LacksMemory, skip).enough) == enough


def questions_read(path: Path) -> tuple[Example, ...]:
    return tuple(prepare(load_task(path)).split.train)


def test_one_long_row_counts_up_to_the_context_of_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is longer is left out of training."""
    found = load_task(tiny_task(tmp_path, ladder=["full"]))
    monkeypatch.setattr(full, "card_here", lambda *, processor: Card("cpu", 1))
    short, long = (Example("a", (Message("user", "x" * n),), "y") for n in (40, 10**7))
    one, other = (smallest_pass_too_large(found, [row]) for row in (short, long))
    assert one is not None
    assert other is not None
    assert (one.on_card, one.row_tokens < 30) == (False, True)
    assert other.row_tokens == find_shape("model", tmp_path).context_tokens


@pytest.mark.parametrize(
    ("model", "processes", "remedy"),
    [
        ("llama-3-70b", 8, "Name a smaller model or tune.method: qlora."),
        ("llama-3-70b", "auto", "Name a smaller model or tune.method: qlora."),
        ("llama-3-70b", 1, "Name a smaller model or tune.method: qlora."),
        ("llama-3.1-405b", 8, "Name a smaller model."),
    ],
)
def test_a_base_that_fits_no_card_to_answer_is_refused_before_anything_is_spent(
    model: str, processes: Any, remedy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(divided, "card_count", lambda: 8)
    monkeypatch.setattr(room, "card_here", lambda *, processor: H100)
    own = task(tmp_path, processes=processes, model=model, method="lora")
    with pytest.raises(PrerequisiteError) as refused:
        climb(own, tmp_path / "run")
    assert not (tmp_path / "run").exists(), "in which the remedy would be refused as another task"
    said = str(refused.value)
    assert said.startswith(f'task.yaml, key "tune.model": {model} takes ')
    assert "by the plan, expected a base that one GPU of 79.2 GiB can hold to answer, in however many processes" in said
    assert said.endswith(remedy)
    assert said in missing(own, own.ladder, gated=False)
    assert not calls(tmp_path)
    refuse_beyond_cards(own, ["prompting"])


@pytest.mark.parametrize(
    ("model", "ladder", "end"),
    [
        ("http://127.0.0.1:9/v1#big", ["prompting", "sft"], ", or end the climb with --until prompting."),
        ("http://127.0.0.1:9/v1#big", ["sft"], "."),
        ("llama-3-70b", ["prompting", "sft"], "."),
    ],
)
def test_the_remedy_for_a_base_that_fits_no_card_names_a_rung_that_another_model_answers(
    model: str, ladder: list[str], end: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(divided, "card_count", lambda: 1)
    monkeypatch.setattr(room, "card_here", lambda *, processor: H100)
    tune = {} if model == "llama-3-70b" else {"model": "llama-3-70b"}
    own = load_task(tiny_task(tmp_path, model=model, ladder=ladder, tune={"method": "lora", **tune}))
    with pytest.raises(PrerequisiteError) as refused:
        refuse_beyond_cards(own, ["sft"])
    assert str(refused.value).endswith(f"Name a smaller model or tune.method: qlora{end}")
    with pytest.raises(PrerequisiteError, match=r"or tune\.method: qlora\.$"):
        refuse_beyond_cards(own, ["preference"], may_end_before=False)  # a study's, which need not be in the ladder


def test_a_base_that_fits_no_card_is_refused_also_where_a_reward_alone_trains_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GRPO goes into no shards, so that by its own plan nothing would stop it before the base is loaded."""
    monkeypatch.setattr(divided, "card_count", lambda: 8)
    monkeypatch.setattr(room, "card_here", lambda *, processor: H100)
    keys = {
        "tune": {"processes": 8, "model": "llama-3-70b", "method": "lora"},
        "ladder": ["preference"],
        "reward": ["exact"],
    }
    own = load_task(scripted_task(tmp_path, quality=[], task=keys))
    with pytest.raises(PrerequisiteError, match="expected a base that one GPU of"):
        refuse_beyond_cards(own, own.ladder)


@pytest.mark.parametrize("method", ["qlora", "full"])
def test_a_base_that_one_card_can_hold_or_of_which_all_weights_are_trained_is_not_refused(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(divided, "card_count", lambda: 8)
    monkeypatch.setattr(room, "card_here", lambda *, processor: H100)
    own = {"processes": 8, "model": "llama-3-70b", "method": method}
    ladder = ["sft", "full"]
    refuse_beyond_cards(load_task(scripted_task(tmp_path, quality=[], task={"tune": own, "ladder": ladder})), ladder)


def test_what_samples_as_it_trains_is_not_refused_for_processes_that_it_does_not_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(divided, "card_count", lambda: 1)
    own: dict[str, Any] = {"reward": [{"python": "score.py:vowels"}], "score": {"python": "score.py:vowels"}}
    path = tiny_task(tmp_path, ladder=["prompting", "sft", "preference"], tune={"processes": 8}, **own)
    found = load_task(path)
    refuse_beyond_cards(found, ["prompting", "preference"])
    bench: Any = SimpleNamespace(task=found, say=lambda *_: None, record=SimpleNamespace(curve=lambda name: []))
    assert division_of(bench, cast(Any, SimpleNamespace(rung="preference", name="grpo")), object(), None) == Division()
    with pytest.raises(PrerequisiteError, match="found 8, expected at most 1"):
        refuse_beyond_cards(found, ["sft", "preference"])
    with pytest.raises(PrerequisiteError, match="found 8, expected at most 1"):
        refuse_beyond_cards(found.model_copy(update={"reward": ()}), ["preference"])


def test_only_what_would_train_an_adapter_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not `full`, which is skipped, a rung that does not apply, and one that has its result."""
    monkeypatch.setattr(divided, "card_count", lambda: 8)
    monkeypatch.setattr(room, "card_here", lambda *, processor: H100)
    found = task(tmp_path, processes=8, model="llama-3.1-405b")
    refuse_beyond_cards(found, ["prompting", "full"])
    row = Example("a", (Message("user", "?"),), "!")
    assert rungs_to_train(found, [row] * 50, ["prompting", "sft"]) == ["sft"]
    assert rungs_to_train(found, [row] * 49, ["prompting", "sft"]) == []
    with Record.create(tmp_path / "run") as record:
        with pytest.raises(PrerequisiteError, match=r"larger GPU, or start a new run with a smaller model\."):
            refuse_beyond_cards(found, ["sft"], record)
        record.append(SystemFrozen(rung="sft", name="lora", sha256="0" * 64))
        refuse_beyond_cards(found, ["sft"], record)
    run = tmp_path / "run"
    elsewhere = of_model_elsewhere("llama-3.1-405b")
    assert len(missing(found, ["sft"], gated=False)) == 2
    assert missing(found, ["sft"], gated=False, run=run) == [elsewhere]
    handed = dict[str, Any]()
    monkeypatch.setattr(dry_run, "dry_run", lambda *_, **more: handed.update(more))
    for request in (ClimbRequest(found.path, run=run), ClimbRequest(found.path, run=run, resume=True)):
        forecast_climb(request, SilentProgress())
        assert handed["run"] == (run if request.resume else None)


def test_what_the_cards_refuse_is_refused_before_a_folder_of_runs_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(divided, "card_count", lambda: 1)
    path, shown = tiny_task(tmp_path, ladder=["prompting", "sft"], tune={"processes": 8}), Scissors()
    with pytest.raises(PrerequisiteError, match="found 8, expected at most 1"):
        start_climb(ClimbRequest(path, runs=tmp_path / "runs"), shown)
    assert ((tmp_path / "runs").exists(), shown.said) == (False, [])


def test_a_rung_that_has_its_result_needs_its_processes_for_repairs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which would end the climb after its gate was paid for."""
    monkeypatch.setattr(divided, "card_count", lambda: 1)
    path = tiny_task(tmp_path, ladder=["prompting", "sft"], tune={"processes": 8})
    found = prepare(load_task(path))
    with Record.create(tmp_path / "run") as record:
        record.append(SystemFrozen(rung="sft", name="lora", sha256="0" * 64))
    with pytest.raises(PrerequisiteError, match="found 8, expected at most 1"):
        climb(found, tmp_path / "run")


def test_more_processes_than_cards_are_refused_before_anything_is_spent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ladder = ["prompting", "sft"]
    refuse_beyond_cards(task(tmp_path / "a", processes=64), ladder)  # on a processor as many as anybody likes
    monkeypatch.setattr(divided, "card_count", lambda: 2)
    wanted = task(tmp_path / "b", processes=4)
    said = r'task.yaml, key "tune.processes": found 4, expected at most 2, one for each CUDA GPU here. Lower it'
    with pytest.raises(PrerequisiteError, match=said):
        refuse_beyond_cards(wanted, ladder)
    assert [line for line in missing(wanted, ladder, gated=False) if "tune.processes" in line]
    for good in (2, "auto"):
        refuse_beyond_cards(task(tmp_path / str(good), processes=good), ladder)


def test_a_training_is_refused_more_processes_than_cards_where_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As at a worker of a cluster with fewer cards than the machine of the command, which refused nothing."""
    monkeypatch.setattr(divided, "card_count", lambda: 1)
    own = load_task(scripted_task(tmp_path, quality=[], task={"tune": {"processes": 8}, "ladder": ["prompting"]}))
    refuse_beyond_cards(own, own.ladder)
    with pytest.raises(PrerequisiteError, match="found 8"):
        division_of(cast(Any, SimpleNamespace(task=own, processes=TrainingProcesses())), cast(Any, None), [], None)


def test_the_key_is_a_count_or_auto(tmp_path: Path) -> None:
    assert task(tmp_path / "a", processes="auto").tune.processes == "auto"
    assert task(tmp_path / "b").tune.processes == 1
    with pytest.raises(TaskError, match=r"tune\.processes\": found a number \(0\), expected auto or a whole number"):
        task(tmp_path / "c", processes=0)


def test_a_run_goes_on_with_another_number(tmp_path: Path) -> None:
    one, two = (task(tmp_path / str(n), processes=n).resolved() for n in (1, 2))
    assert one["tune"] != two["tune"]
    assert changed_keys(one, two) == []
    assert changed_keys(one, task(tmp_path / "q", processes=2, method="qlora").resolved()) == ["tune"]


def test_a_worker_that_trains_has_room_for_all_of_its_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def room(answering: WorkerRoom, **tune: Any) -> WorkerRoom:
        found = load_task(tiny_task(tmp_path, ladder=["sft"], tune=tune))
        return training_room(found, "sft", prepare(found), answering)

    one, two = (room(WorkerRoom(2), processes=n) for n in (1, 2))
    assert (one.cpus, two.cpus, two.threads, two.words.split(",")[0]) == (2, 4, 2, "4 CPUs")
    assert two.memory_bytes > 2 * one.memory_bytes, "and for its own copy"
    card = WorkerRoom(1, cards=1)
    assert room(card, processes=2) == WorkerRoom(1, cards=2, processes=2)
    monkeypatch.setattr("lastresort.app.spread.card_count", lambda: 4)
    assert room(card, processes="auto") == card
    assert WorkerRoom(1, cards=2, processes=2).words == "2 CPUs, 2 GPUs"


def test_the_forecast_says_what_each_process_holds() -> None:
    each, _ = divided_plan(planned("llama-3-70b", H100, "lora"), Division(4, sharded=True), None)
    beyond = of_base_beyond_a_card(each, planned("llama-3-70b", H100, "lora").loaded_bytes)
    assert beyond.startswith(
        "LoRA would fit in each of 4 processes, with a share of the base, but a climb also answers with"
    )
    told = of_memory(each, 80 * GIB, None, "sft", fits=True)
    assert told.endswith(" in each of 4 processes, with a share of the base; 80.0 GiB are free for each.")
    assert "processes" not in of_memory(planned("llama-3-8b", H100, "lora"), 80 * GIB, None, "sft", fits=True)


def test_the_cause_of_a_failure_goes_before_what_others_see_of_it() -> None:
    lost, own = ProcessLost("another process has ended"), DataError("the rows are bad")
    gone = InfrastructureError("process 2 ended")

    def raised(*ends: TrainingEnd | None) -> BaseException:
        with pytest.raises((LastresortError, ProcessFaultError, MemoryError)) as found:
            outcome(dict(enumerate(ends)), lambda place: gone)
        return found.value

    assert raised(TrainingEnd(error=lost), None) is gone
    first = list[int]()
    with pytest.raises(InfrastructureError):
        outcome({1: None, 0: None}, lambda places: first.extend(places) or gone)  # type: ignore[func-returns-value]
    assert first == [1, 0], "in the order in which they ended"
    assert raised(TrainingEnd(error=lost), TrainingEnd(error=own)) is own
    assert raised(TrainingEnd(error=lost)) is lost
    assert isinstance(raised(TrainingEnd(error=lost), TrainingEnd(fault="no room", lacks_memory=True)), MemoryError)
    fault = raised(TrainingEnd(fault="Traceback: out of memory, says a frame"), None)
    assert isinstance(fault, ProcessFaultError), "no lack of memory, whatever its words"
    assert not isinstance(fault, RuntimeError)
    steps: dict[str, Any] = {"step": 1, "steps": 1, "computed_tokens": 1, "nominal_tokens": 1, "seconds": 1.0}
    steps |= {"path": "packed", "reason": None, "check": None, "processes": 2, "sharded": False}
    trained = TrainedSteps(**steps)
    assert outcome({1: TrainingEnd(TrainedSteps(**steps)), 0: TrainingEnd(trained)}, lambda place: gone) is trained


def test_an_error_says_the_same_after_its_way_through_a_pipe() -> None:
    error = DataError("the loss became nan in step 3 of 6", where="training", expected="a number", remedy="Lower it.")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_processes_get_what_torchrun_sets_and_no_key() -> None:
    own = {
        "OPENAI_API_KEY": "sk-1",
        "LASTRESORT_API_KEYS": "h=k",
        "RANK": "3",
        "ACCELERATE_USE_FSDP": "true",
        "HOME": "/h",
    }
    found = training_environment(own, 2, 1234)
    assert (found["WORLD_SIZE"], found["MASTER_PORT"], found["HOME"]) == ("2", "1234", "/h")
    assert int(found["OMP_NUM_THREADS"]) >= 1
    assert not found.keys() & {"OPENAI_API_KEY", "LASTRESORT_API_KEYS", "RANK", "ACCELERATE_USE_FSDP"}
    assert training_environment({"OMP_NUM_THREADS": "3"}, 2, 1)["OMP_NUM_THREADS"] == "3"


@pytest.mark.parametrize("name", ["GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"])
def test_processes_listen_on_loopback_unless_the_user_names_an_interface(name: str) -> None:
    assert training_environment({}, 2, 1)[name] == ("lo0" if sys.platform == "darwin" else "lo")
    assert training_environment({name: "eth1"}, 2, 1)[name] == "eth1"


def test_a_process_frees_its_memory_before_it_says_that_it_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    order = list[str]()
    monkeypatch.setattr(spawned, "_ended", lambda job, wire, processes: order.append("train"))
    monkeypatch.setattr(spawned, "_let_go", lambda: order.append("let go"))
    wire: Any = SimpleNamespace(send=lambda end: order.append("say"))
    end_training(cast(Any, None), wire, cast(Any, None))
    assert order == ["train", "let go", "say"]


def test_a_card_that_cannot_be_freed_hides_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise RuntimeError("device-side assert triggered")

    said, fault = list[object](), TrainingEnd(fault="Traceback: an index out of range")
    monkeypatch.setattr(spawned, "_ended", lambda job, wire, processes: fault)
    monkeypatch.setattr(spawned, "_let_go", fail)
    with pytest.raises(RuntimeError, match="device-side assert"):  # for its last lines
        end_training(cast(Any, None), cast(Any, SimpleNamespace(send=said.append)), cast(Any, None))
    assert said == [fault]


def _raised(error: Exception) -> None:
    raise error


class OffItsCard:
    """A model that does not get back to the card on which it was."""

    device = torch.device("cuda")

    def to(self, device: Any) -> None:
        if device == self.device:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (None, "training is done to step 8, but"),
        (InfrastructureError("process 2 of 2 ended"), "process 2 of 2"),
        (Diverged("the loss became nan"), "a training diverged, and not all of the model could be moved back to cuda"),
    ],
)
def test_a_card_that_has_no_room_for_the_model_after_training_is_no_lack_in_the_training(
    fault: Exception | None, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Smaller passes would not help, so none are taken for a resume. What ended the training goes before it, unless a rung would go
    on after that.
    """
    monkeypatch.setattr(divided, "_to_open", lambda *_: None)
    said, bench = list[str](), cast(Any, SimpleNamespace())
    bench.folder, bench.share, bench.at_worker, bench.stop = tmp_path, 1.0, False, None
    bench.say = lambda rung, note: said.append(note_line(rung, note))
    bench.processes = SimpleNamespace(train=lambda *_, **__: None if fault is None else _raised(fault))
    run = cast(Any, SimpleNamespace(rung="sft", name="lora", settings=None))
    asked = list[str]()
    with (
        pytest.raises(InfrastructureError, match=told) as found,
        memory_errors(lambda: MemoryAdvice("", str(asked.append("smaller passes")))),
    ):
        train_together(bench, run, OffItsCard(), (), 8, Division(2), on_step=lambda _: None, shown=SilentProgress())
    assert not isinstance(found.value, OutOfMemoryError)
    assert asked == []
    assert said == (
        []
        if fault is None or isinstance(fault, Diverged)
        else ["sft: not all of the model could be moved back to cuda."]
    )


def test_a_message_that_cannot_be_read_is_told_like_an_end() -> None:
    """Else the training would be waited for for ever."""
    news: queue.SimpleQueue[tuple[int, Any]] = queue.SimpleQueue()
    spawn._read(1, io.BytesIO(b"cno_such_module\nname\n."), news)
    place, end = news.get()
    assert (place, "No module named 'no_such_module'" in end.fault) == (1, True)
    assert news.get() == (1, None)


def test_what_a_library_writes_to_the_pipe_of_messages_is_named_and_is_no_end() -> None:
    """The process lives, so that how it ended says nothing."""
    news: queue.SimpleQueue[tuple[int, Any]] = queue.SimpleQueue()
    spawn._read(1, io.BytesIO(b"WARNING: no NVLink\n" + pickle.dumps(NOTED)), news)
    place, end = news.get()
    assert (place, "invalid load key, 'W'" in end.fault) == (1, True)


@pytest.mark.parametrize("length", [0, 1, 4096])
def test_a_process_that_ends_within_a_message_ended_without_a_word(length: int) -> None:
    """How it ended says more than that its message is cut: by SIGKILL, mostly for its memory."""
    news: queue.SimpleQueue[tuple[int, Any]] = queue.SimpleQueue()
    spawn._read(1, io.BytesIO(pickle.dumps(b"." * 5000)[:length]), news)
    assert (news.get(), news.empty()) == ((1, None), True)


@pytest.mark.parametrize(
    ("lines", "remedy"),
    [
        ("", r"\(exit code 0\), expected all of them to run to the end\. Train in one process \(tune\.processes: 1\)"),
        ("no port is free", r"\(exit code 0\): no port is free, .*\. Mend what it names, or train in one process"),
    ],
)
def test_a_process_that_left_no_line_names_nothing_to_mend(lines: str, remedy: str) -> None:
    places = spawn.LocalPlaces.__new__(spawn.LocalPlaces)
    places._places = range(1)
    places.processes = [cast(Any, SimpleNamespace(wait=lambda timeout: 0, returncode=0))]
    places._said = [cast(Any, io.BytesIO(lines.encode()))]
    assert re.search(remedy, str(spawn._lost(places, 1, [0])))


def test_hashes_of_a_gate_and_of_a_study_are_those_of_another_number(tmp_path: Path) -> None:
    one, two, qlora = (prepare(task(tmp_path / name, **tune)) for name, tune in TUNED.items())
    assert _task_hash(one) == _task_hash(two) != _task_hash(qlora)
    assert on_which_rows_depend(one.task) == on_which_rows_depend(two.task) != on_which_rows_depend(qlora.task)


@pytest.mark.parametrize(("card", "fits"), [(H100, False), (Card("large", 160 * GIB), True)])
def test_a_base_that_no_card_can_answer_with_does_not_fit_though_its_shards_do(
    card: Card, fits: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dry_run, "card_count", lambda: 8)
    monkeypatch.setattr(dry_run, "free_memory_bytes", lambda: card.memory_bytes)
    monkeypatch.setattr(dry_run, "planned_rung", lambda *_: planned("llama-3-70b", card, "lora"))
    monkeypatch.setattr(dry_run, "divide", lambda *_: Division(8, sharded=True))
    found = dry_run.rung_memory(task(tmp_path, processes="auto"), "sft", cast(Any, None))
    assert found is not None
    assert (found.fits, "it is refused" in found.sentence) == (fits, not fits)
    assert "smaller model" not in found.sentence, "the refusal says what to do"


@pytest.mark.parametrize(("processes", "cards", "found"), [(1, 8, 1), (4, 8, 4), ("auto", 8, 1), (4, 0, 1)], ids=str)
def test_a_forecast_divides_trainings_by_cards_and_nothing_by_processes_of_a_processor(
    processes: Any, cards: int, found: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whose cores a single one uses, too."""
    prepared = prepare(load_task(tiny_task(tmp_path, ladder=["sft"], tune={"processes": processes})))
    monkeypatch.setattr(climb_workload, "card_count", lambda: cards)
    monkeypatch.setattr(climb_workload, "card_here", lambda *, processor: H100)
    monkeypatch.setattr(climb_workload, "measured_rates", lambda *_, **__: Rates(1e9, 1e9, 1e9))
    machine = climb_workload.workload(prepared, "sft").machine
    assert machine.training_cards == found
    lengths = climb_workload.workload(prepared, "sft").lengths
    assert len(set(lengths)) > 1 if found > 1 else lengths == ()
    alone = replace(machine, training_cards=1)
    whole, one = (training("training", each, 100, 1, 50, 0, 8) for each in (machine, alone))
    assert whole.seconds == pytest.approx(cast(float, one.seconds) / (0.85 * 4 if found == 4 else 1))
    assert whole.lines[0] == one.lines[0] + (" on 4 GPUs" if found == 4 else "")
    assert answering("dev", machine, 9, 9, 0, 9) == answering("dev", alone, 9, 9, 0, 9)
    assumed = "Training on 4 GPUs is assumed, not measured, to be at most 3.4 times as fast as on one."
    assert (assumed in dry_run.assumptions(prepared, ["sft"])) == (found == 4)
    with monkeypatch.context() as unknown:
        unknown.setattr(climb_workload, "machine_of", lambda *_, **__: Machine(None, 1.0))
        (alone_said,) = dry_run.assumptions(prepared, ["sft"])
    assert "nothing is known of its speed" in alone_said
    compared = forecast_of(ComparisonRequest(("lora",)), prepared)
    monkeypatch.setattr(climb_workload, "card_count", lambda: 0)
    assert forecast_of(ComparisonRequest(("lora",)), prepared) == compared, "which trains in one process"


@pytest.mark.parametrize(
    ("row", "shared", "batch", "cards", "share"),
    [
        (2100, 2000, 16, 8, 2200 / 3600),  # the beginning that rows share is computed by each card
        (600, 300, 16, 8, 900 / 5100),
        (512, 0, 1, 8, 1),  # nothing to divide
        (512, 0, 4, 8, 1 / 4),
        (512, 0, 16, 12, 2 / 16),  # two rows on each of eight cards
        (100, 100, 8, 2, 1),
    ],
)
def test_a_forecast_counts_what_the_card_with_most_tokens_computes(
    row: int, shared: int, batch: int, cards: int, share: float
) -> None:
    alone, several = (
        training("t", Machine(10**9, 1e12, training_cards=count), 64, 1, row, shared, batch).seconds
        for count in (1, cards)
    )
    assert several == pytest.approx(cast(float, alone) * min(1, share / 0.85))


@pytest.mark.parametrize(("batch", "cards"), [(16, 8), (8, 8), (16, 4), (4, 8)])
def test_a_forecast_counts_that_no_row_is_cut(batch: int, cards: int) -> None:
    """Against the steps that a training divides, of rows whose lengths differ as texts do."""
    drawn, shared, row = random.Random(1), 50, 120
    lengths = [max(5, round(100 * drawn.lognormvariate(-0.5, 1))) for _ in range(400)]

    def step() -> float:
        own = drawn.choices(lengths, k=batch)
        ids = [(*range(shared), *(1000 * (i + 1) + k for k in range(n))) for i, n in enumerate(own)]
        parts = split_evenly([(Row(one, (False, *[True] * (len(one) - 1))),) for one in ids], cards)
        return max(sum(own[i] for i in part) + shared for part in parts if part) / (sum(own) + shared)

    alone, even, uneven = (
        training("t", Machine(10**9, 1e12, training_cards=n), 64, 1, row + shared, shared, batch, lengths=more).seconds
        for n, more in ((1, []), (cards, []), (cards, lengths))
    )
    assert even is not None
    assert uneven is not None
    assert alone is not None
    expected = fmean(step() for _ in range(60))
    assert uneven == pytest.approx(alone * min(1, expected / 0.85), rel=0.15)
    assert uneven > 1.2 * even


def test_a_forecast_of_rows_without_a_token_takes_no_time() -> None:
    assert [training("t", Machine(1, 1.0, training_cards=n), 1, 1, 0, 0, 4).seconds for n in (1, 4)] == [0, 0]


def test_a_forecast_of_pretraining_divides_the_steps_that_it_makes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one row each where the documents are short."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "one.txt").write_text("A short text. " * 300)
    own: dict[str, Any] = {"knowledge": "docs", "use": {"context": "forbidden"}}
    found, steps = load_task(tiny_task(tmp_path, ladder=["full"], **own)), dict[str, tuple[int, float, int]]()

    def noted(
        label: str, machine: Machine, rows: int, epochs: float, row: float, shared: float, batch: int, **_: Any
    ) -> Any:
        steps[label] = rows, row, batch
        return answering(label, machine, 0, 0, 0, 0)

    def pretraining(n_train: int, replay: float) -> tuple[int, float, int]:
        keys = found.model_copy(update={"full": found.full.model_copy(update={"replay": replay})})
        full.FullRung().forecast(keys, Workload(Machine(1, 1.0), n_train, 9, 9, 1, 1, 1, 1, 1))
        return steps["pretraining"]

    monkeypatch.setattr(full, "training", noted)
    one = pretraining(60, 0.0)
    assert one[2] == 1
    rows, tokens, _ = pretraining(60, 0.1)
    assert (rows, tokens) == (one[0] + 7, pytest.approx((one[0] * 512 + 7 * 144) / (one[0] + 7))), "and replay rows"
    assert pretraining(1_000_000, 0.1)[0] == one[0] + most_prompts("everyday"), "of which there are no more"
    (tmp_path / "docs" / "one.txt").write_text("A long text. " * 100_000)
    assert pretraining(60, 0.0)[2] == 4


def test_the_forecast_of_a_study_says_once_what_it_assumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tiny_task(tmp_path, ladder=["sft"], tune={"processes": 4})
    monkeypatch.setattr(climb_workload, "card_count", lambda: 8)
    monkeypatch.setattr(climb_workload, "card_here", lambda *, processor: H100)
    monkeypatch.setattr(climb_workload, "measured_rates", lambda *_, **__: Rates(1e9, 1e9, 1e9))
    counted, workload = list[str](), climb_workload.workload
    monkeypatch.setattr(
        study_run, "workload", lambda prepared, rung, *more: counted.append(rung) or workload(prepared, rung, *more)
    )
    shown = Scissors()
    (said,) = forecast_study(StudyRequest("crossover", path, seeds=2), shown).lines()
    assumed = "Training on 4 GPUs is assumed, not measured, to be at most 3.4 times as fast as on one."
    assert re.search(rf"cells\. Forecast: [^.]*\d[^.]*(\.\d[^.]*)?\. {assumed} It measures", said)
    assert shown.said == []
    assert sorted(counted) == ["prompting", "sft"], "once a rung"
    monkeypatch.setattr(climb_workload, "machine_of", lambda *_, **__: Machine(None, 1.0))
    unknown = forecast_study(StudyRequest("crossover", path, seeds=2), shown)
    assert "Forecast: not known here. It measures" in unknown.lines()[0]


def test_a_study_that_no_cards_are_here_for_is_refused_by_its_dry_run_too_and_makes_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(divided, "card_count", lambda: 8)
    path = tiny_task(tmp_path, ladder=["prompting"], tune={"processes": 16})
    for study in (run_study, forecast_study):
        with pytest.raises(PrerequisiteError, match="found 16, expected at most 8"):
            study(StudyRequest("crossover", path, out=tmp_path / "out"), SilentProgress())
    assert not (tmp_path / "out").exists()


def test_what_samples_is_forecast_on_one_card_also_where_no_plan_knows_its_shape(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = {"ladder": ["sft", "preference"], "tune": {"processes": 4}, "reward": [{"python": "score.py:vowels"}]}
    prepared = prepare(load_task(tiny_task(tmp_path, score={"python": "score.py:vowels"}, **own)))
    monkeypatch.setattr(climb_workload, "card_count", lambda: 8)
    monkeypatch.setattr(climb_workload, "known_shape", lambda *_: None)
    monkeypatch.setattr(climb_workload, "measured_rates", lambda *_, **__: Rates(1e9, 1e9, 1e9))
    found = [climb_workload.workload(prepared, rung).machine.training_cards for rung in ("sft", "preference")]
    assert found == [4, 1]


def test_a_rung_that_took_too_long_on_one_card_is_planned_again_for_several(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limited = task(tmp_path).model_copy(update={"limits": Limits(hours=1)})
    rung: Any = SimpleNamespace(name="sft", forecast=lambda task, work: training("t", work.machine, 1, 1, 1, 0, 4))
    one = Machine(1, 1.0, measured=Rates(4 / 7200, 1, 1))  # two hours
    monkeypatch.setattr(budget, "workload", lambda *_: SimpleNamespace(machine=one))
    monkeypatch.setattr(budget, "forecast_of_judge", lambda *_: None)
    with Record.create(tmp_path / "run") as record:
        bench: Any = SimpleNamespace(
            task=limited, record=record, hours_left=lambda: 1.0, progress=SilentProgress(), stop=NEVER
        )
        prepared: Any = SimpleNamespace(task=limited)
        said = [beyond_limits(bench, prepared, rung) for _ in range(2)]
        assert said[0] is not None
        assert said[0] == said[1]
        monkeypatch.setattr(budget, "workload", lambda *_: SimpleNamespace(machine=replace(one, training_cards=4)))
        assert [beyond_limits(bench, prepared, rung) for _ in range(2)] == [None, None]
        monkeypatch.setattr(budget, "workload", lambda *_: SimpleNamespace(machine=one))
        assert beyond_limits(bench, prepared, rung) is None, "what began goes on"
        assert [one.training_cards for one in record.all(RungPlanned)] == [1, 4]


TUNED: dict[str, Any] = {"one": {}, "two": {"processes": 2}, "qlora": {"processes": 2, "method": "qlora"}}
