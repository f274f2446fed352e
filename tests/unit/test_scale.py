"""Measuring with workers: it decides as one process does, whoever is quicker and whoever is lost, and nothing is paid twice."""

from __future__ import annotations

import itertools
import json
import os
import random
import re
import socket
import subprocess
import sys
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from test_models_cached import InBatches, Memory, ask

from climb_support import calls, comparable, scripted_task
from endpoint_support import serving
from lastresort.app.climb import climb
from lastresort.app.spread import climb_on_ray, crew_on_ray, lines_to, loaded_models, room_of
from lastresort.app.start import ClimbRequest, forecast_climb, start_climb
from lastresort.climb.laps import ClimbWorkers
from lastresort.climb.prepare import prepare
from lastresort.errors import (
    DataError,
    InfrastructureError,
    InputError,
    PrerequisiteError,
    StopRequestedError,
    TaskError,
)
from lastresort.evals.measure import JobFailure, JobScores, LocalExecutor, MeasureJob, Result, run_in_order
from lastresort.evals.scorers import build_scorer
from lastresort.hardware.environment import ANSWERING
from lastresort.hardware.memory import has_gpu
from lastresort.hardware.plan.memory import CACHE_BYTES
from lastresort.keys import SECRETS
from lastresort.models.cached import CachedModel
from lastresort.models.open import ModelOpening
from lastresort.models.scripted import Script, ScriptedModel, ScriptRule
from lastresort.records.record import Record
from lastresort.records.responses import ResponseCache
from lastresort.rungs.open_models import OpenModels
from lastresort.scale import work
from lastresort.scale.cluster import (
    RayWorkers,
    WorkerRoom,
    _connect,
    checked_address,
    environment_for_ray,
    ray_cluster,
)
from lastresort.scale.crew import Crew, JobBack, WorkerLost, WorkerReady
from lastresort.scale.executor import CrewExecutor
from lastresort.scale.work import (
    AnsweringWorker,
    BatchJob,
    JobAnswers,
    JobModel,
    WorkerFacts,
    answers_depend_on,
    refuse_unlike,
)
from lastresort.spec.output import Output
from lastresort.spec.task import load_task
from lastresort.stop import NEVER, StopSignal
from lastresort.systems.system import PromptDesign, System
from lastresort.types import Answer, Decoding, Example, Message, SilentProgress
from scale_support import FourToAMachine, WorkersHere, answered_by, content_of
from tiny_model import save_tiny_model

QUALITY = [{"right": 0.5}, {"right": 0.95, "min_shots": 3}]
GREEDY = Decoding(max_new_tokens=20)
ECHO = Script(rules=(ScriptRule("(.+)", r"<\1>"),))


def decided(folder: Path, executor: Any = None, name: str = "run", **task: Any) -> dict[str, Any]:
    path = scripted_task(folder, quality=QUALITY, task=task)
    workers = None if executor is None else ClimbWorkers(executor)
    found = climb(load_task(path), folder / name, gate="none", workers=workers)
    return comparable(found.decision.as_json())


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Counter[str]]:
    """The decision of one process, and how often it asked what."""
    folder = tmp_path_factory.mktemp("alone")
    return decided(folder), asked(folder)


def asked(folder: Path) -> Counter[str]:
    return Counter(call["key"] for call in calls(folder))


@pytest.mark.sampled(3)
@pytest.mark.parametrize("seed", range(3))
def test_the_decision_is_that_of_one_process_and_no_prompt_is_answered_twice(
    seed: int, tmp_path: Path, alone: tuple[dict[str, Any], Counter[str]]
) -> None:
    workers = WorkersHere(seed, room=lambda: 3)
    assert decided(tmp_path, answered_by(workers)) == alone[0]
    assert asked(tmp_path).keys() >= alone[1].keys()
    assert set(asked(tmp_path).values()) == {1}
    assert workers.most_at_once > 1


@pytest.mark.slow
def test_an_answer_takes_its_part_of_the_seconds_of_its_machine(tmp_path: Path) -> None:
    """Which decide where the goal is to save money, and which a later climb finds in the cache."""
    decided(tmp_path, answered_by(FourToAMachine()))
    with Record.open(tmp_path / "run", read_only=True) as record:
        [part, *_] = record.parts()
        assert record.item(part.number, 1).item.seconds == 0.5


def test_a_lost_worker_repeats_at_most_its_own_batch(
    tmp_path: Path, alone: tuple[dict[str, Any], Counter[str]]
) -> None:
    draw = random.Random(1)
    workers = WorkersHere(5, lost=lambda worker, job: draw.random() < 0.2)
    assert decided(tmp_path, answered_by(workers)) == alone[0]
    times = Counter(map(content_of, workers.begun))
    assert workers.losses > 2
    assert sum(times.values()) - len(times) == workers.losses


@pytest.mark.slow
def test_a_cluster_that_shrinks_to_one_worker_goes_on(
    tmp_path: Path, alone: tuple[dict[str, Any], Counter[str]]
) -> None:
    looks = itertools.count()
    workers = WorkersHere(2, room=lambda: 4 if next(looks) == 0 else 1, lost=lambda worker, job: worker in (1, 2, 3))
    assert decided(tmp_path, answered_by(workers)) == alone[0]
    assert workers.losses == 3


def test_a_batch_that_ends_every_worker_ends_the_run_which_resumes_without_workers(
    tmp_path: Path, alone: tuple[dict[str, Any], Counter[str]]
) -> None:
    begun = itertools.count()
    workers = WorkersHere(2, lost=lambda worker, job: next(begun) >= 3)
    with pytest.raises(InfrastructureError, match=r"3 workers were lost with the same batch \(killed\)"):
        decided(tmp_path, answered_by(workers))
    kept = len(asked(tmp_path))
    assert decided(tmp_path) == alone[0]
    assert kept > 0


@pytest.mark.parametrize("refused_is_wrong", [False, True])
def test_what_a_model_refuses_is_refused_as_alone(refused_is_wrong: bool, tmp_path: Path) -> None:
    long = Example("long", (Message("user", "x" * 400),), "x")
    short = [Example(str(n), (Message("user", str(n)),), str(n)) for n in range(40)]
    script = {"answers": {one.id: one.output for one in short}, "context_tokens": 40, "calls": "calls.jsonl"}
    (tmp_path / "s.json").write_text(json.dumps(script))
    system = System("s", "scripted:s.json", PromptDesign("Say it."), Decoding(8))
    jobs = [
        MeasureJob(number, system, tuple(examples), refused_is_wrong=refused_is_wrong)
        for number, examples in enumerate([short[:5], [*short[5:10], long, *short[10:20]], short[20:]])
    ]

    def results(workers: WorkersHere | None, name: str) -> list[Result]:
        with ResponseCache(tmp_path / name) as cache:
            models = OpenModels(cache, base_folder=tmp_path, base_name="scripted:s.json", tuned_name="scripted:s.json")
            local = LocalExecutor(
                models.answerer, build_scorer("exact", {}), Output(), SilentProgress(), lambda usd: None
            )
            crew = None if workers is None else Crew(workers, lambda text: None)
            executor = local if crew is None else CrewExecutor(local, models, crew)
            found: list[Result] = []
            assert run_in_order(executor, jobs, lambda job, result: found.append(result), NEVER) is None
            return found

    plain = results(None, "plain")
    assert results(WorkersHere(4), "workers") == plain
    assert [type(result) for result in plain] == [JobScores, JobScores if refused_is_wrong else JobFailure, JobScores]


@pytest.mark.slow
def test_weights_answer_ahead_what_a_test_may_not_need_and_what_comes_too_late_is_dropped(tmp_path: Path) -> None:
    """Two workers: while a batch of the test is scored, one more is under way, and none but that is in vain."""
    model = save_tiny_model(tmp_path / "model")
    task = {"model": str(model), "ladder": ["prompting"]}
    plain = decided(tmp_path / "alone", **task)
    workers = WorkersHere(1)
    assert decided(tmp_path / "workers", answered_by(workers), **task) == plain
    jobs = [one for one in workers.begun if one.decoding == workers.begun[-1].decoding]
    assert workers.most_at_once > 1
    assert len({content_of(one) for one in jobs}) == len(jobs)


def test_the_calls_of_a_batch_are_those_that_the_cache_lacks() -> None:
    memory = Memory()
    model = CachedModel(ScriptedModel(ECHO), memory)
    model.generate(ask("a"), GREEDY)
    [call] = model.calls(ask("a", "b", "c", "b"), GREEDY)
    assert call.prompts == tuple(ask("b", "c"))
    assert model.calls(ask("a", "b"), GREEDY, call.keys) == []
    model.keep(call, {1: Answer("kept", 1, 1, "stop")})
    assert [one.prompts for one in model.calls(ask("a", "b", "c"), GREEDY)] == [tuple(ask("b"))]
    assert [answer.text for answer in model.generate(ask("b", "c"), GREEDY)] == ["<b>", "kept"]


def test_batches_whose_answers_depend_on_them_are_called_and_kept_whole() -> None:
    memory = Memory()
    inner = InBatches(ECHO)
    model = CachedModel(inner, memory)
    model.generate(ask("a", "b", "c"), GREEDY)
    [call] = model.calls(ask("a", "b", "c", "d", "e"), GREEDY)
    assert call.prompts == tuple(ask("d", "e"))
    kept = Answer("kept", 1, 1, "stop")
    model.keep(call, {0: kept})
    assert [one.prompts for one in model.calls(ask("a", "b", "c", "d", "e"), GREEDY)] == [call.prompts]
    model.keep(call, {0: kept, 1: kept})
    assert model.calls(ask("a", "b", "c", "d", "e"), GREEDY) == []
    assert [answer.text for answer in model.generate(ask("a", "b", "c", "d", "e"), GREEDY)] == [
        "<a>",
        "<b>",
        "<c>",
        "kept",
        "kept",
    ]


def test_where_no_worker_can_start_the_climb_says_so_and_may_be_stopped() -> None:
    clock, said = itertools.count(step=10.0), list[str]()

    class NoRoom(WorkersHere):
        def next(self, timeout_s: float) -> None:
            return None

    crew = Crew(NoRoom(room=lambda: 0), lines_to(said.append), clock=lambda: float(next(clock)), patience_s=60.0)
    ticket = crew.submit(job(), lambda found: None)
    with pytest.raises(InfrastructureError, match=r"no worker could start within 1 minutes.*1 CPU free"):
        crew.wait([ticket], NEVER, lambda: None)
    assert said == ["Waiting for room in the cluster: a worker needs 1 CPU."]
    stop = StopSignal()
    stop.request()
    with pytest.raises(StopRequestedError):
        crew.wait([ticket], stop, lambda: None)


def test_workers_that_end_while_they_start_are_not_started_for_ever() -> None:
    class Broken(WorkersHere):
        def next(self, timeout_s: float) -> WorkerLost:
            return WorkerLost(self._starting.pop(), "no memory")

    crew = Crew(Broken(), lambda text: None)
    ticket = crew.submit(job(), lambda found: None)
    with pytest.raises(InfrastructureError, match=r"workers end while they start \(no memory\)"):
        crew.wait([ticket], NEVER, lambda: None)


def job(**changes: Any) -> BatchJob:
    model = ScriptedModel(Script())
    of = JobModel(ModelOpening("scripted:s.json", Path()), model.fingerprint, model.computed_by)
    own = {name: changes.pop(name) for name in ("opening", "fingerprint", "computed_by") if name in changes}
    return replace(BatchJob(replace(of, **own), (), GREEDY), **changes)


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with (
        pytest.raises(
            PrerequisiteError, match=r"Ray is not installed. Install the extra: pip install 'lastresort\[scale\]'"
        ),
        ray_cluster("local"),
    ):
        pass


def test_a_cluster_that_is_slow_to_start_is_no_fault_of_ours() -> None:
    class Slow(NoSuchRay):
        class job_config:
            class JobConfig:
                def __init__(self, **settings: Any) -> None: ...

        def init(self, **settings: Any) -> None:
            raise Exception("The current node timed out during startup.")

    with pytest.raises(PrerequisiteError, match=r"--ray local: The current node timed out.*wait until the machine is"):
        _connect(Slow("127.0.0.1:1"), "local", "", None)


def test_a_fault_while_a_cluster_starts_is_not_taken_for_a_missing_cluster() -> None:
    class Other(NoSuchRay):
        class job_config:
            class JobConfig:
                def __init__(self, **settings: Any) -> None: ...

        def init(self, **settings: Any) -> None:
            raise TypeError("init() got an unexpected keyword argument")

    with pytest.raises(TypeError, match="unexpected keyword"):
        _connect(Other("127.0.0.1:1"), "local", "", None)


def test_the_commands_do_not_load_ray() -> None:
    code = "import lastresort.cli.main, lastresort.app.spread, lastresort.scale.executor, sys; assert 'ray' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


class NoSuchRay:
    """As much of Ray as the driver's side needs. raised: what the one reference that is there comes to."""

    class exceptions:
        class RayError(Exception):
            pass

        class RayTaskError(RayError):
            cause = ValueError("in the worker's code")

    def __init__(self, address: str, nodes: Sequence[Mapping[str, Any]] = (), raised: Exception | None = None) -> None:
        self.gcs_address, self._nodes, self._raised = address, nodes, raised
        self.found: WorkerFacts | None = None

    def get_runtime_context(self) -> NoSuchRay:
        return self

    def nodes(self) -> Sequence[Mapping[str, Any]]:
        return self._nodes

    def wait(self, refs: list[Any], *, num_returns: int, timeout: float) -> tuple[list[Any], list[Any]]:
        return refs[:num_returns], refs[num_returns:]

    def get(self, ref: Any) -> Any:
        if self._raised is not None:
            raise self._raised
        return self.found

    def kill(self, actor: Any) -> None:
        pass


@pytest.fixture
def head() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize(
    ("room", "workers"),
    [
        (WorkerRoom(1), 8 + 2),
        (WorkerRoom(4), 2),
        (WorkerRoom(1, cards=1), 2),
        (WorkerRoom(1, memory_bytes=3 * 10**9), 5 + 1),
        (WorkerRoom(1, cards=1, memory_bytes=9 * 10**9), 1),
    ],
)
def test_there_are_as_many_workers_as_each_machine_has_room_for(room: WorkerRoom, workers: int, head: str) -> None:
    nodes = [
        {"Alive": True, "Resources": {"CPU": 8.0, "GPU": 2.0, "memory": 16e9}},
        {"Alive": True, "Resources": {"CPU": 2.0, "memory": 4e9}},
        {"Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0, "memory": 1e12}},
    ]
    assert RayWorkers(NoSuchRay(head, nodes), room, {}).capacity() == workers


@pytest.mark.parametrize(("gigabytes", "workers"), [(8, 7), (3, 2), (2, 1), (1, 1), (0.5, 0)])
def test_where_the_driver_computes_too_one_copy_of_the_weights_is_its_own(
    gigabytes: float, workers: int, head: str
) -> None:
    nodes = [{"Alive": True, "Resources": {"CPU": 16.0, "memory": gigabytes * 1e9}}]
    ray = NoSuchRay(head, nodes)
    assert RayWorkers(ray, WorkerRoom(1, memory_bytes=10**9), {}, driver_bytes=10**9).capacity() == workers
    assert RayWorkers(ray, WorkerRoom(1), {}, driver_bytes=10**9).capacity() == 16


def test_beside_trainings_the_driver_needs_what_it_answers_with_alone(head: str) -> None:
    ray = NoSuchRay(head, [{"Alive": True, "Resources": {"CPU": 8.0, "memory": 24e9}}])
    assert RayWorkers(ray, WorkerRoom(1, memory_bytes=10**10), {}, driver_bytes=25 * 10**8).capacity() == 2


class GivingRay(NoSuchRay):
    """Makes each actor here, and gives it all cards of the machine where it asks for none, as some versions of Ray do."""

    def __init__(self, address: str, ids: Sequence[str]) -> None:
        super().__init__(address)
        self.ids, self.asked = ids, dict[str, Any]()

    def get_accelerator_ids(self) -> dict[str, list[str]]:
        return {"GPU": list(self.ids[: self.asked["num_gpus"] or None])}

    def remote(self, kind: type) -> GivingRay:
        self.kind = kind
        return self

    def options(self, **asked: Any) -> Any:
        self.asked = asked
        return SimpleNamespace(remote=self._started)

    def _started(self, *given: object) -> Any:
        self.kind(*given)
        return SimpleNamespace(about=SimpleNamespace(remote=object))


@pytest.mark.parametrize(
    ("cards", "visible"), [(0, ""), (1, "GPU-6f")], ids=["without a card it sees none", "with one it sees that"]
)
def test_a_worker_sees_the_cards_that_it_was_given_and_no_other(
    cards: int, visible: str, head: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the process that it is started from sees."""
    ray = GivingRay(head, ("GPU-6f", "GPU-a1"))
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    RayWorkers(ray, WorkerRoom(2, cards=cards), {"A": "1"}).start(1)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == visible
    assert (ray.asked["num_gpus"], ray.asked["num_cpus"]) == (cards, 2)
    environment = ray.asked["runtime_env"]["env_vars"]
    assert environment["A"] == "1"
    assert "CUDA_VISIBLE_DEVICES" not in environment, "it is Ray that knows which card is free"
    assert not any(environment[name] for name in SECRETS)


def test_workers_that_were_ended_here_are_awaited_but_not_for_ever(head: str, monkeypatch: pytest.MonkeyPatch) -> None:
    now, ray = [0.0], NoSuchRay(head)
    gone = {50: 0.3, 51: 1e9}  # process -> when it ends

    def sleep(seconds: float) -> None:
        now[0] += seconds

    def kill(process: int, number: int) -> None:
        assert number == 0
        if now[0] > gone[process]:
            raise ProcessLookupError

    monkeypatch.setattr("lastresort.scale.cluster.os.kill", kill)
    for process, least, most in ((50, 0.3, 0.5), (51, 10.0, 10.1)):
        now[0], workers = 0.0, RayWorkers(ray, WorkerRoom(1), {}, lambda: now[0], sleep)
        ray.found = WorkerFacts(socket.gethostname(), answers_depend_on(), process)
        workers._actors[7], workers._refs["about"] = object(), (7, 0)
        assert workers.next(0) == WorkerReady(7)
        workers.end(7)
        workers.await_ended()
        assert least < now[0] + 0.01 <= most + 0.02
        workers.await_ended()
        assert now[0] <= most + 0.02, "once"


def starting(ray: NoSuchRay) -> RayWorkers:
    """With one worker that starts."""
    workers = RayWorkers(ray, WorkerRoom(1), {})
    workers._actors[7], workers._refs["about"] = object(), (7, 0)
    return workers


def test_a_stop_sends_nothing_more_and_leaves_a_run_that_goes_on_with_workers_or_without(
    tmp_path: Path, alone: tuple[dict[str, Any], Counter[str]]
) -> None:
    stop, sent = StopSignal(), list[int]()

    def seen(worker: int, job: BatchJob) -> bool:
        if len(workers.begun) == 2:
            stop.request()
            sent.append(len(workers.sent))
        return False

    workers = WorkersHere(3, room=lambda: 4, lost=seen)
    path = scripted_task(tmp_path, quality=QUALITY)
    with pytest.raises(StopRequestedError):
        climb(load_task(path), tmp_path / "run", gate="none", workers=ClimbWorkers(answered_by(workers)), stop=stop)
    assert sent == [len(workers.sent)]
    assert len(workers.begun) <= len(workers.sent)
    assert workers.ended
    assert workers.awaited == [], "nobody needs their memory any more"
    assert decided(tmp_path) == alone[0]


@pytest.mark.slow
def test_an_endpoint_and_a_script_with_a_price_are_called_by_the_driver_alone(tmp_path: Path) -> None:
    workers = WorkersHere(1)
    with serving() as server:
        decided(tmp_path / "endpoint", answered_by(workers), model=server.name, ladder=["prompting"])
        assert len(server.requests) > 100
    price = {"use": {"prompt_price": 1000.0, "output_price": 1000.0}}
    priced = decided(tmp_path / "priced", answered_by(workers), **price)
    assert priced == decided(tmp_path / "alone", **price)
    assert workers.sent == []


def test_a_task_without_a_model_to_load_says_so_and_starts_no_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    said = list[str]()

    class Said(SilentProgress):
        def say(self, text: str) -> None:
            said.append(text)

    with serving() as server:
        path = scripted_task(tmp_path, quality=[], task={"model": server.name, "ladder": ["prompting"]})
        with climb_on_ray("local", prepare(load_task(path)), Said()) as workers:
            assert workers is None
    assert len(said) == 1
    assert said[0].startswith("--ray: no workers are started")


def test_workers_end_when_the_models_are_closed_as_before_a_training_and_others_start_afterwards(
    tmp_path: Path,
) -> None:
    (tmp_path / "s.json").write_text(json.dumps({"default": "x"}))
    system = System("s", "scripted:s.json", PromptDesign("Say it."), Decoding(8))
    workers = WorkersHere(1)
    with ResponseCache(tmp_path / "cache") as cache:
        models = OpenModels(cache, base_folder=tmp_path, base_name="scripted:s.json", tuned_name="scripted:s.json")
        crew = Crew(workers, lambda text: None)
        models.on_close(crew.release)
        local = LocalExecutor(models.answerer, build_scorer("exact", {}), Output(), SilentProgress(), lambda usd: None)
        for number in range(2):
            rows = [Example(f"{n}", (Message("user", f"{number} {n}"),), "x") for n in range(90)]
            jobs = [MeasureJob(0, system, tuple(rows))]
            run_in_order(CrewExecutor(local, models, crew), jobs, lambda job, result: None, NEVER)
            begun, running = len(workers.begun), set(workers._workers)
            assert running
            models.close()
            assert workers._workers == {}
            assert running <= set(workers.ended)
            assert workers.awaited[-1] == len(workers.ended)
        assert begun > 3


class Hanging(WorkersHere):
    """The first worker never answers."""

    def next(self, timeout_s: float) -> Any:
        found = super().next(timeout_s) if self._starting or any(one != 1 for one in self._queued) else None
        return None if isinstance(found, JobBack) and found.worker == 1 else found


def test_a_worker_that_hangs_is_ended_and_its_batch_goes_to_another_one(tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text(json.dumps({"default": "x"}))
    opening, here = ModelOpening("scripted:s.json", tmp_path), ModelOpening("scripted:s.json", tmp_path).open()
    prompt = (Message("user", "a"),)
    found = list[JobAnswers]()
    one = job(opening=opening, fingerprint=here.fingerprint, prompts=(prompt,))
    clock, said, workers = itertools.count(step=100.0), list[str](), Hanging(room=lambda: 1)
    crew = Crew(workers, lines_to(said.append), clock=lambda: float(next(clock)), patience_s=1e9)
    crew.wait([crew.submit(one, found.append)], NEVER, lambda: None)
    assert workers.ended == [1]
    assert "A worker was lost (no progress within 60 minutes). Its batch goes to another one." in said
    assert found[0].answers[0].text == "x"


def test_once_a_stop_is_requested_a_worker_that_hangs_has_a_minute_left() -> None:
    stop, clock = StopSignal(), itertools.count(step=10.0)
    crew = Crew(Hanging(room=lambda: 1), lambda text: None, clock=lambda: float(next(clock)))
    ticket = crew.submit(job(), lambda found: None)
    looks = itertools.count()

    def meanwhile() -> None:
        look = next(looks)
        if look == 5:
            stop.request()
        assert look < 100

    with pytest.raises(StopRequestedError):
        crew.wait([ticket], stop, meanwhile)


def test_what_travels_names_no_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    models = OpenModels(None, base_folder=Path("task"), base_name="m", tuned_name="m")
    system = System("s", "m", PromptDesign("Say it."), Decoding(8), adapter=Path("runs/t-1/adapter"))
    opening = models.opening(system)
    assert (opening.base_folder, opening.adapter) == (tmp_path / "task", tmp_path / "runs/t-1/adapter")


def test_a_worker_with_another_model_or_another_processor_is_refused(tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text(json.dumps({"rules": [{"match": "(.+)", "answer": "x"}]}))
    opening = ModelOpening("scripted:s.json", tmp_path)
    here = opening.open()
    good: dict[str, Any] = {
        "opening": opening,
        "fingerprint": here.fingerprint,
        "prompts": ((Message("user", "a"),),),
    }
    worker = AnsweringWorker()
    assert worker.answer(job(**good)).failure is None
    for changes, kind, words in (
        ({"fingerprint": "other"}, DataError, "the weights, precision or template of scripted:s.json differ"),
        ({"computed_by": "cuda"}, PrerequisiteError, "computes by"),
        ({"opening": ModelOpening("./gone", tmp_path)}, TaskError, "nothing on disk"),
    ):
        failure = worker.answer(job(**{**good, **changes})).failure
        assert failure is not None
        assert issubclass(failure.kind, kind)
        assert words in str(failure.error())
        assert f"worker on {socket.gethostname()}" in str(failure.error())


def test_other_software_or_hardware_of_a_worker_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_unlike(WorkerFacts("node-7", answers_depend_on()))
    for name in ("lastresort", "Python", *ANSWERING, "processor", "card", "lastresort's code"):
        with pytest.raises(PrerequisiteError, match=rf"worker on node-7: the worker has {name} 0.0.1, expected .*"):
            refuse_unlike(WorkerFacts("node-7", {**answers_depend_on(), name: "0.0.1"}))
    without = {name: found for name, found in answers_depend_on().items() if name != "tokenizers"}
    with pytest.raises(PrerequisiteError, match="the worker has tokenizers none, expected "):
        refuse_unlike(WorkerFacts("node-7", without))
    monkeypatch.setattr(work, "answers_depend_on", lambda: {"torch": "2", "card": "one"})
    refuse_unlike(WorkerFacts("node-7", {"torch": "2"}))  # of a model that needs no card


def test_an_address_is_local_auto_or_a_host_with_its_port(tmp_path: Path) -> None:
    assert [checked_address(text) for text in ("local", "auto", "head.example:6379", "[::1]:6379", "head:65535")]
    request = ClimbRequest(scripted_task(tmp_path, quality=QUALITY), ray="somewhere")
    for refused in (start_climb, forecast_climb):
        with pytest.raises(InputError, match='--ray: found "somewhere", expected local, auto or HOST:PORT'):
            refused(request, SilentProgress())


@pytest.mark.parametrize(
    ("text", "example"),
    [
        ("127.0.0.1", "127.0.0.1:6379"),
        ("localhost", "localhost:6379"),
        ("[::1]", "[::1]:6379"),
        ("head", "HOST:6379"),
        ("::1:6379", "HOST:6379"),
        ("127.0.0.1:", "HOST:6379"),
        ("127.0.0.1:0", "HOST:6379"),
        ("127.0.0.1:65536", "HOST:6379"),
        ("127.0.0.1:٦٣٧٩", "HOST:6379"),
        ("ray://127.0.0.1:10001", "HOST:6379"),
        ("", "HOST:6379"),
    ],
)
def test_a_malformed_address_is_one_sentence_before_anything_connects(
    text: str, example: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError) as error:
        checked_address(text)
    assert str(error.value) == (
        f'--ray: found "{text}", expected local, auto or HOST:PORT with a port from 1 to 65535. Name the head of the cluster '
        f"({example} if it uses Ray's default port), or write local for the cores of this machine."
    )
    if text:
        monkeypatch.setenv("RAY_ADDRESS", text)
        with pytest.raises(InputError) as error, ray_cluster("auto"):
            pass
        assert str(error.value) == (
            f'RAY_ADDRESS: found "{text}", expected HOST:PORT with a port from 1 to 65535. Name the head of the cluster '
            f"({example} if it uses Ray's default port)."
        )


@pytest.mark.parametrize(("text", "most"), [("0", None), ("9", 8)])
def test_a_number_of_threads_for_which_no_worker_has_room_is_refused(
    text: str, most: int | None, tmp_path: Path
) -> None:
    task = load_task(scripted_task(tmp_path, quality=QUALITY))
    with pytest.raises(InputError, match=f"OMP_NUM_THREADS: found {text}, expected 1 "):
        room_of(loaded_models(task), {"OMP_NUM_THREADS": text}, most_threads=most)
    assert room_of(loaded_models(task), {"OMP_NUM_THREADS": "8"}, most_threads=8) == WorkerRoom(8)


@pytest.mark.parametrize(("precision", "size"), [("float32", 4), ("bfloat16", 2)])
def test_a_worker_has_room_for_its_model_in_the_precision_in_which_it_is_opened(
    precision: str, size: int, tmp_path: Path
) -> None:
    models = [ModelOpening("some-org/tiny-2B", tmp_path, precision=one) for one in ("bfloat16", precision)]
    assert room_of(models, {}).memory_bytes - (0 if has_gpu() else CACHE_BYTES) == size * 2 * 10**9


def test_what_goes_wrong_on_the_cluster_is_said_here(head: str) -> None:
    errors = NoSuchRay.exceptions
    died = errors.RayError("The actor died.\n\tpid: 7\nIts node ran out of memory.")
    assert starting(NoSuchRay(head, raised=died)).next(0) == WorkerLost(7, "Its node ran out of memory")
    missing = errors.RayError("ModuleNotFoundError: No module named 'lastresort.scale'")
    with pytest.raises(
        PrerequisiteError, match=r"a machine of the cluster has no lastresort .*pip install lastresort=="
    ):
        starting(NoSuchRay(head, raised=missing)).next(0)
    with pytest.raises(ValueError, match="in the worker's code"):
        starting(NoSuchRay(head, raised=errors.RayTaskError())).next(0)


def test_a_head_that_is_silent_for_a_while_is_waited_for(head: str) -> None:
    now, silent = [0.0], [25.0]
    ray = NoSuchRay(head, [{"Alive": True, "Resources": {"CPU": 3.0}}])

    def sleep(seconds: float) -> None:
        now[0] += seconds
        if now[0] > silent[0]:
            workers._head.address = head

    workers = RayWorkers(ray, WorkerRoom(1), {}, lambda: now[0], sleep)
    workers._head.address = "127.0.0.1:1"
    assert workers.capacity() == 3
    assert 25 < now[0] < 30
    workers._head.address, silent[0], now[0] = "127.0.0.1:1", 1e9, 60.0
    for asked in (workers.capacity, lambda: workers.next(0), lambda: workers.start(1)):
        with pytest.raises(InfrastructureError, match=r"the head of the cluster is lost.*leave --ray out\.$"):
            asked()
    assert 150 < now[0] < 160


@pytest.mark.parametrize(
    ("address", "named", "words"),
    [
        ("127.0.0.1:1", "127.0.0.1:2", "nobody answers at 127.0.0.1:1"),
        ("auto", "127.0.0.1:1", "nobody answers at 127.0.0.1:1"),
    ],
)
def test_where_nobody_answers_no_cluster_is_waited_for_and_the_environment_is_left_as_it_was(
    address: str, named: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", named)
    monkeypatch.setenv("RAY_DEDUP_LOGS", "0")
    before = dict(os.environ)
    with (
        pytest.raises(PrerequisiteError, match=f"--ray {address}: {re.escape(words)}.*ray start --head"),
        ray_cluster(address),
    ):
        pass
    assert dict(os.environ) == before


def test_a_local_cluster_starts_without_any_key_and_with_a_token_of_its_own() -> None:
    secret = {"OPENAI_API_KEY": "sk-one", "HF_TOKEN": "hf-two", "DB_PASSWORD": "three", "RAY_AUTH_TOKEN": "four"}
    own = {**secret, "PATH": "/bin", "RAY_ADDRESS": "there:1", "LASTRESORT_PASS_ENV": "DB_PASSWORD"}
    first, second = environment_for_ray("local", own), environment_for_ray("local", own)
    assert not set(secret.values()) & set(first.values())
    assert first["PATH"] == "/bin"
    assert first["RAY_AUTH_TOKEN"] != second["RAY_AUTH_TOKEN"]


def test_what_follows_answers_at_workers_finds_their_memory_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows and then their study, on one cluster: its end does not free it. After a failure nothing follows."""
    opening, workers = ModelOpening("embedded", tmp_path), WorkersHere()
    cluster = SimpleNamespace(answering=lambda _: workers)
    monkeypatch.setattr("lastresort.app.spread._connected", lambda *_: nullcontext(cluster))
    for fails in (False, True):
        with suppress(InfrastructureError), crew_on_ray("local", SilentProgress(), [opening]) as crew:
            assert crew is not None
            workers._starting.append(len(workers.ended) + 1)
            crew._at[len(workers.ended) + 1] = deque()
            if fails:
                raise InfrastructureError("lost")
        assert len(workers.ended) == 1 + fails
        assert workers.awaited == [1]
