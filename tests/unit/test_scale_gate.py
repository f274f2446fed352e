"""Gates with workers: the verdict and every figure are those of one process, which asks the same."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from climb_gate_support import SAFE, gated_climb, quality, script_rungs
from climb_support import calls, comparable
from gate_support import BAD, GOOD, KEEP, SUITES, Words, gated_task
from lastresort.app.climb import Climbed, climb
from lastresort.app.gate import GateRequest, start_gate
from lastresort.climb.laps import ClimbWorkers
from lastresort.errors import ContractError, InfrastructureError, InputError, StopRequestedError
from lastresort.gate import built_in as suites
from lastresort.gate import sides
from lastresort.gate.command import gate_alone, no_workers
from lastresort.gate.plans import PILOT_SEED
from lastresort.gate.sides import GateSide
from lastresort.gate.suites.asking import SuitePart, SuiteReplies, ask, ask_each
from lastresort.gate.suites.suite import Question, SuiteItem, TextRequest, Transcript
from lastresort.gate.workers import GateWorkers, SuiteJob
from lastresort.models.open import ModelOpening
from lastresort.models.protocol import Model
from lastresort.records.gate import GateDocument, TargetCompared
from lastresort.records.responses import SuiteAnswers
from lastresort.scale.crew import Crew
from lastresort.scale.work import BatchJob
from lastresort.spec.task import load_task
from lastresort.stop import NEVER, Stop, StopSignal
from lastresort.types import Decoding, Message, SilentProgress
from scale_support import AnyJob, FourToAMachine, WorkersHere, answered_by, content_of, figures
from tiny_model import save_tiny_model

BASE = "scripted:script.json"


@pytest.fixture(autouse=True)
def small_suites(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """And no answers of the base from another test."""
    monkeypatch.setattr(suites, "SUITES", SUITES)
    monkeypatch.setenv("LASTRESORT_CACHE", str(tmp_path_factory.mktemp("cache")))


def gated(folder: Path, workers: WorkersHere | None = None, *, stop: Stop = NEVER) -> GateDocument:
    """Of the task in this folder, with workers or without. Given again, it goes on."""
    crew = None if workers is None else Crew(workers, lambda text: None)
    document, _ = gate_alone(
        load_task(folder / "task.yaml"),
        "scripted:tuned.json",
        base=BASE,
        workspace=folder / "runs",
        gates=folder / "gates",
        here=folder,
        stop=stop,
        workers=no_workers if crew is None else lambda models: nullcontext(crew),
    )
    return document


def asked(folder: Path) -> Counter[tuple[str, str]]:
    """How often which model was asked what."""
    files = {"base": "calls.jsonl", "tuned": "calls of tuned.jsonl"}
    return Counter((side, call["key"]) for side, name in files.items() for call in calls(folder, name))


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[dict[str, Any], Counter[tuple[str, str]]]]:
    """The gate of one process, by how good the tuned model is."""
    found = dict[str, tuple[dict[str, Any], Counter[tuple[str, str]]]]()

    def of(name: str) -> tuple[dict[str, Any], Counter[tuple[str, str]]]:
        if name not in found:
            folder = tmp_path_factory.mktemp(name)
            gated_task(folder, tuned={"good": GOOD, "bad": BAD}[name])
            found[name] = figures(gated(folder).as_json()), asked(folder)
        return found[name]

    return of


@pytest.mark.sampled(3, each="verdict")
@pytest.mark.parametrize(("tuned", "verdict", "seed"), [("good", "SHIP", 0), ("good", "SHIP", 1), ("bad", "REJECT", 2)])
def test_verdict_and_figures_are_those_of_one_process_which_asks_the_same(
    tuned: str, verdict: str, seed: int, tmp_path: Path, alone: Any
) -> None:
    gated_task(tmp_path, tuned={"good": GOOD, "bad": BAD}[tuned])
    workers = WorkersHere(seed, room=lambda: 3)
    found = figures(gated(tmp_path, workers).as_json())
    assert found["verdict"] == verdict
    assert (found, asked(tmp_path)) == alone(tuned), (
        "the gate looks as it goes, and what comes after its last look is not sent"
    )
    assert {type(job) for job in workers.begun} == {SuiteJob, BatchJob}
    assert workers.most_at_once > 3
    assert max(Counter(map(content_of, workers.begun)).values()) == 1


def suites_at_once(room: int, seed: int) -> tuple[WorkersHere, dict[str, int]]:
    """Workers, and by the model's name the most suites of its looks that they have batches of at once."""
    most = dict[str, int]()

    def seen(worker: int, job: AnyJob) -> bool:
        under_way = [job, *(one for jobs in workers._queued.values() for _, one in jobs)]
        scored = {
            (one.model.opening.name, one.suite.name)
            for one in under_way
            if isinstance(one, SuiteJob) and f"/{PILOT_SEED}/" not in one.items[0].id
        }
        for model, count in Counter(model for model, _ in scored).items():
            name = Path(model.removeprefix("scripted:")).name
            most[name] = max(most.get(name, 0), count)
        return False

    workers = WorkersHere(seed, room=lambda: room, lost=seen)
    return workers, most


@pytest.mark.parametrize(("tuned", "seed"), [("good", 0), ("bad", 1)])
def test_the_batches_of_all_suites_of_a_look_are_under_way_together(
    tuned: str, seed: int, tmp_path: Path, alone: Any
) -> None:
    gated_task(tmp_path, tuned={"good": GOOD, "bad": BAD}[tuned])
    workers, most = suites_at_once(32, seed)
    assert (figures(gated(tmp_path, workers).as_json()), asked(tmp_path)) == alone(tuned)
    assert most == {"script.json": 3, "tuned.json": 3}


class Repeats(Words):
    """Never ends."""

    def ask(self, item: SuiteItem, transcript: Transcript) -> list[Question]:
        return [TextRequest("say", (Message("user", item.text),), Decoding(4))]


class Stages(SilentProgress):
    """Each stage with its items, and how many of these were answered."""

    def __init__(self) -> None:
        self.seen: list[list[Any]] = []

    def stage(self, label: str, total: int | None = None, done: int = 0) -> None:
        self.seen.append([label, total, 0])

    def advance(self, amount: int = 1, note: str = "") -> None:
        self.seen[-1][2] += amount


@pytest.mark.slow
def test_replies_of_several_suites_come_in_their_order_and_a_failure_when_it_is_its_turn(tmp_path: Path) -> None:
    gated_task(tmp_path)
    opening = ModelOpening(BASE, tmp_path)
    side = GateSide("base", opening.open, opening=opening)
    model = side.open()
    three = [Words(rounds=rounds, name=f"of {rounds}") for rounds in (1, 2, 3)]
    found = list[Any]()
    for seed in (None, 0, 1, 2):
        workers, most = suites_at_once(32, seed or 0)
        crew = None if seed is None else Crew(workers, lambda text: None)
        there, progress = GateWorkers.of(crew, side, side), Stages()
        answered = None if there is None else there.suites("base")
        with SuiteAnswers(tmp_path / f"kept {seed}") as kept:
            parts = [SuitePart(suite, suite.draw(0, 0, 40), kept, suite.name) for suite in three]
            replies = ask_each(model, parts, progress=progress, answered=answered)
            found.append(
                ([(replace(one, seconds_by_item={}), list(one.transcripts)) for one in replies], progress.seen)
            )
            again = [one.new for one in ask_each(model, parts)]
            bad = SuitePart(Repeats(), Words().draw(0, 0, 20), kept, "bad")
            later = SuitePart(three[1], three[1].draw(1, 0, 320), kept, "later")
            with pytest.raises(ContractError, match="twice"):
                ask_each(model, [parts[0], bad, later], progress=progress, answered=answered)
        assert again == [0, 0, 0]
        assert [one[::2] for one in progress.seen[3:]] == [["of 1", 40], ["bad", 0]]
        if crew is not None:
            assert most == {"script.json": 3}
            assert crew.room() == 2 * 32, "nothing that is under way is wanted any more"
    assert found[1:] == found[:1] * 3


def test_replies_take_their_part_of_the_seconds_of_a_machine_and_kept_ones_need_no_cluster(tmp_path: Path) -> None:
    gated_task(tmp_path)
    opening = ModelOpening(BASE, tmp_path)
    side = GateSide("base", opening.open, opening=opening)
    suite, model = Words(), side.open()
    items = suite.draw(0, 0, 40)

    def lost() -> int:
        raise InfrastructureError("the head of the cluster is lost")

    with SuiteAnswers(tmp_path / "kept") as kept:
        for workers, new in ((FourToAMachine(), 40), (WorkersHere(room=lost), 0)):
            there = GateWorkers.of(Crew(workers, lambda text: None), side, side)
            assert there is not None
            replies = ask(model, suite, items, kept, answered=there.suites("base"))
            assert (replies.new, set(replies.seconds_by_item.values())) == (new, {0.5})


@pytest.mark.slow
def test_where_workers_answer_one_of_the_two_models_is_open_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Room for workers is counted with one here. As if each script took some memory."""
    gated_task(tmp_path)
    named, opened, here, most = sides._side, sides.open_side, Counter[str](), list[int]()
    monkeypatch.setattr(sides, "_side", lambda *names, **keys: replace(named(*names, **keys), weight_bytes=1))

    @contextmanager
    def counted(side: GateSide) -> Iterator[Model]:
        with opened(side) as model:
            here[side.name] += 1
            most.append(here.total())
            yield model
            here[side.name] -= 1

    monkeypatch.setattr(sides, "open_side", counted)
    gated(tmp_path, WorkersHere())
    assert max(most) == 1
    gated(tmp_path)
    assert max(most) == 2


def test_lost_workers_repeat_at_most_their_own_batches(tmp_path: Path, alone: Any) -> None:
    gated_task(tmp_path)
    workers = WorkersHere(5, lost=lambda worker, job: len(workers.begun) % 7 == 3)
    assert figures(gated(tmp_path, workers).as_json()) == alone("good")[0]
    times = Counter(map(content_of, workers.begun))
    assert workers.losses > 2
    assert sum(times.values()) - len(times) == workers.losses


def test_a_batch_that_ends_every_worker_ends_the_gate_and_the_same_command_goes_on_without_them(
    tmp_path: Path, alone: Any
) -> None:
    gated_task(tmp_path)
    workers = WorkersHere(2, lost=lambda worker, job: len(workers.begun) > 8)
    with pytest.raises(
        InfrastructureError, match=r"3 workers were lost with the same batch.*Give the same command again"
    ):
        gated(tmp_path, workers)
    kept = asked(tmp_path)
    assert figures(gated(tmp_path).as_json()) == alone("good")[0]
    again = asked(tmp_path) - alone("good")[1]
    assert kept.total() > 8 * 8
    assert again.total() <= 5 * 32, "of the batches that were lost, or at a worker, and never came back"


def test_a_stop_sends_nothing_more_and_what_came_before_it_is_kept(tmp_path: Path, alone: Any) -> None:
    gated_task(tmp_path)
    stop, sent = StopSignal(), list[int]()

    def seen(worker: int, job: AnyJob) -> bool:
        if len(workers.begun) == 6:
            stop.request()
            sent.append(len(workers.sent))
        return False

    workers = WorkersHere(3, room=lambda: 4, lost=seen)
    with pytest.raises(StopRequestedError, match="Give the same command again"):
        gated(tmp_path, workers, stop=stop)
    assert sent == [len(workers.sent)]
    assert figures(gated(tmp_path).as_json()) == alone("good")[0]
    assert asked(tmp_path) == alone("good")[1], "also what was answered after the request"


def cheaper_in(found: Climbed) -> bool | None:
    assert found.decision.gate is not None
    assert isinstance(found.decision.gate.target, TargetCompared)
    return found.decision.gate.target.cheaper


def without_cheaper(found: Climbed) -> dict[str, Any]:
    kept = comparable(found.decision.as_json())
    kept["gate"]["target"].pop("cheaper")
    return kept


def test_the_gate_of_a_climb_is_asked_by_the_workers_of_the_climb(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script_rungs(monkeypatch)
    keep = {"general": 0.1, "sycophancy": "skip", "format_leak": "skip"}
    task = {"keep": keep, "split": {"dev": 20, "test": 60}}
    plain = gated_climb(tmp_path / "alone", quality(SAFE), task=task)
    workers = WorkersHere(4)
    found = gated_climb(tmp_path / "workers", quality(SAFE), task=task, workers=ClimbWorkers(answered_by(workers)))
    again = climb(load_task(tmp_path / "workers" / "task" / "task.yaml"), tmp_path / "workers" / "runs" / "routing-2")
    assert [cheaper_in(one) is None for one in (plain, found, again)] == [False, True, True], (
        "seconds of workers and of one process do not compare, also where a later climb finds them kept"
    )
    assert without_cheaper(found) == without_cheaper(plain)
    models = {(type(job).__name__, job.model.opening.adapter is not None) for job in workers.begun}
    assert models == {(kind, tuned) for kind in ("BatchJob", "SuiteJob") for tuned in (False, True)}
    assert workers._workers == {}


REAL = ("general", "sycophancy", "format_leak")


@pytest.mark.slow
@pytest.mark.parametrize("name", REAL)
def test_a_suite_is_answered_elsewhere_to_the_last_digit_also_its_likelihoods_and_its_later_rounds(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    model_folder = save_tiny_model(tmp_path / "model")
    opening = ModelOpening(str(model_folder), tmp_path)
    side = GateSide("base", opening.open, opening=opening)
    path = gated_task(tmp_path / "task", task={"keep": KEEP})
    [plan] = [one for one in real_plans(path) if one.name == name]
    items = plan.pilot.draw(PILOT_SEED, 0, 24)
    assert pickle.loads(pickle.dumps(plan.pilot)).draw(0, 0, 9) == plan.pilot.draw(0, 0, 9)
    model, workers = side.open(), WorkersHere(1)
    found = list[SuiteReplies]()
    for crew in (None, Crew(workers, lambda text: None)):
        there = GateWorkers.of(crew, side, side)
        with SuiteAnswers(tmp_path / f"kept {crew is None}") as kept:
            answered = None if there is None else there.suites("base")
            replies = ask(model, plan.pilot, items, kept, answered=answered)
            again = ask(model, plan.pilot, items, kept)
        assert again.transcripts == replies.transcripts
        assert (replies.new, again.new) == (24, 0)
        found.append(replace(replies, seconds_by_item={}))
    model.close()
    assert found[0] == found[1]
    jobs = [job for job in workers.begun if isinstance(job, SuiteJob)]
    assert sum(len(job.items) for job in jobs) == 24
    assert {getattr(job.suite, "inputs", ("",)) for job in jobs} == {("",)}, "what is not asked stays with the driver"


def real_plans(task: Path) -> list[Any]:
    from lastresort.climb.prepare import prepare
    from lastresort.gate.built_in import suite_inputs, suite_plans
    from lastresort.systems.system import PromptDesign

    return suite_plans(suite_inputs(prepare(load_task(task)), True, PromptDesign("Route it.")))


def test_logs_are_not_asked_and_an_address_is_checked_first(tmp_path: Path) -> None:
    logs = GateRequest(from_logs=(tmp_path, tmp_path), ray="local")
    with pytest.raises(InputError, match="found --ray with --from-logs"):
        start_gate(logs, SilentProgress())
    models = GateRequest(gated_task(tmp_path), "scripted:tuned.json", ray="somewhere")
    with pytest.raises(InputError, match='--ray: found "somewhere", expected local, auto or HOST:PORT'):
        start_gate(models, SilentProgress())
