"""Measuring with workers: it decides as one process does, whoever is quicker and whoever is lost, and nothing is paid twice."""

from __future__ import annotations

import itertools
import json
import os
import random
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_models_cached import InBatches, Memory, ask

from climb_support import calls, comparable, scripted_task
from endpoint_support import serving
from lastresort.app.climb import climb
from lastresort.errors import (
    DataError,
    InfrastructureError,
    InputError,
    PrerequisiteError,
    StopRequestedError,
)
from lastresort.evals.measure import JobRefused, JobScores, LocalExecutor, MeasureJob, Result, run_in_order
from lastresort.evals.scorers import build_scorer
from lastresort.models.cached import CachedModel
from lastresort.models.open import ModelOpening
from lastresort.models.scripted import Script, ScriptedModel, ScriptRule
from lastresort.records.events import BudgetSpent
from lastresort.records.record import Record
from lastresort.records.responses import ResponseCache
from lastresort.rungs.open_models import OpenModels
from lastresort.scale.cluster import RayWorkers, WorkerRoom, checked_address, ray_cluster
from lastresort.scale.crew import Crew, WorkerLost
from lastresort.scale.executor import CrewExecutor, refuse_key_that_stays
from lastresort.scale.work import (
    AnsweringWorker,
    BatchJob,
    WorkerFacts,
    environment_that_travels,
    refuse_other_version,
)
from lastresort.spec.output import Output
from lastresort.spec.task import load_task
from lastresort.stop import NEVER, StopSignal
from lastresort.systems.system import PromptDesign, System
from lastresort.types import Answer, Decoding, Example, Message, SilentProgress
from scale_support import WorkersHere, answered_by
from tiny_model import save_tiny_model

QUALITY = [{"right": 0.5}, {"right": 0.95, "min_shots": 3}]
GREEDY = Decoding(max_new_tokens=20)
ECHO = Script(rules=(ScriptRule("(.+)", r"<\1>"),))


def decided(folder: Path, executor: Any = None, name: str = "run", **task: Any) -> dict[str, Any]:
    path = scripted_task(folder, quality=QUALITY, task=task)
    found = climb(load_task(path), folder / name, gate="none", executor=executor)
    return comparable(found.decision.as_json())


def spent_usd(run: Path) -> float:
    with Record.open(run, read_only=True) as record:
        return sum(event.usd for event in record.all(BudgetSpent))


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Counter[str]]:
    """The decision of one process, and how often it asked what."""
    folder = tmp_path_factory.mktemp("alone")
    return decided(folder), asked(folder)


def asked(folder: Path) -> Counter[str]:
    return Counter(call["key"] for call in calls(folder))


@pytest.mark.parametrize("seed", range(3))
def test_the_decision_is_that_of_one_process_and_no_call_is_made_twice_or_in_vain(
    seed: int, tmp_path: Path, alone: tuple[dict[str, Any], Counter[str]]
) -> None:
    workers = WorkersHere(seed, room=lambda: 3)
    assert (decided(tmp_path, answered_by(workers)), asked(tmp_path)) == alone
    assert workers.most_at_once > 1


def test_a_lost_worker_repeats_at_most_its_own_batch(
    tmp_path: Path, alone: tuple[dict[str, Any], Counter[str]]
) -> None:
    draw = random.Random(1)
    workers = WorkersHere(5, lost=lambda worker, job: draw.random() < 0.2)
    assert decided(tmp_path, answered_by(workers)) == alone[0]
    times = Counter(job.sha256 for job in workers.begun)
    assert workers.losses > 2
    assert sum(times.values()) - len(times) == workers.losses


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
    with pytest.raises(InfrastructureError, match=r"a batch ended its worker 3 times \(killed\).*--resume"):
        decided(tmp_path, answered_by(workers))
    kept = len(asked(tmp_path))
    assert decided(tmp_path) == alone[0]
    assert kept > 0


def test_what_is_paid_is_paid_once_and_counted_as_alone(tmp_path: Path) -> None:
    price = {"use": {"prompt_price": 1000.0, "output_price": 1000.0}}
    (tmp_path / "a").mkdir()
    plain = decided(tmp_path / "a", **price)
    found = decided(tmp_path / "b", answered_by(WorkersHere(1)), **price)
    assert found == plain
    assert spent_usd(tmp_path / "b" / "run") == pytest.approx(spent_usd(tmp_path / "a" / "run"))
    assert spent_usd(tmp_path / "b" / "run") > 0


def test_a_stop_leaves_a_run_that_goes_on_with_workers_or_without(
    tmp_path: Path, alone: tuple[dict[str, Any], Counter[str]]
) -> None:
    stop = StopSignal()

    def seen(worker: int, job: BatchJob) -> bool:
        if len(workers.begun) == 4:
            stop.request()
        return False

    workers = WorkersHere(3, lost=seen)
    path = scripted_task(tmp_path, quality=QUALITY)
    with pytest.raises(StopRequestedError):
        climb(load_task(path), tmp_path / "run", gate="none", executor=answered_by(workers), stop=stop)
    assert decided(tmp_path) == alone[0]
    assert asked(tmp_path) == alone[1]  # what was under way was kept


def test_an_endpoint_is_asked_by_the_workers_as_often_as_alone(tmp_path: Path) -> None:
    found = []
    for name, executor in (("alone", None), ("workers", answered_by(WorkersHere(1)))):
        with serving() as server:
            decision = json.dumps(decided(tmp_path / name, executor, model=server.name, ladder=["prompting"]))
            found.append((decision.replace(f":{server.server_port}", ":PORT"), len(server.requests)))
    assert found[0][1] == found[1][1] > 100
    assert json.loads(found[0][0])["rungs"] == json.loads(found[1][0])["rungs"]


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
            executor = local if crew is None else CrewExecutor(local, models, crew, lambda usd: None, {})
            found: list[Result] = []
            assert (
                run_in_order(executor, jobs, lambda job, result: found.append(result), NEVER, lambda usd: None) is None
            )
            return found

    plain = results(None, "plain")
    assert results(WorkersHere(4), "workers") == plain
    assert [type(result) for result in plain] == [JobScores, JobScores if refused_is_wrong else JobRefused, JobScores]


def test_weights_answer_ahead_what_a_test_may_not_need_and_what_comes_too_late_is_dropped(tmp_path: Path) -> None:
    """Two workers: while a batch of the test is scored, one more is under way, and none but that is in vain."""
    model = save_tiny_model(tmp_path / "model")
    task = {"model": str(model), "ladder": ["prompting"]}
    plain = decided(tmp_path / "alone", **task)
    workers = WorkersHere(1)
    assert decided(tmp_path / "workers", answered_by(workers), **task) == plain
    jobs = [one for one in workers.begun if one.decoding == workers.begun[-1].decoding]
    assert workers.most_at_once > 1
    assert len({one.sha256 for one in jobs}) == len(jobs)


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

    crew = Crew(NoRoom(room=lambda: 0), said.append, clock=lambda: float(next(clock)), patience_s=60.0)
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
    found = BatchJob(ModelOpening("scripted:s.json", Path()), model.fingerprint, model.computed_by, (), GREEDY, "")
    return replace(found, **changes)


def test_keys_travel_only_where_they_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    own = {"OPENAI_API_KEY": "sk-one", "HF_TOKEN": "hf-two", "OTHER": "three"}
    assert environment_that_travels(own) == {}
    named = {**own, "LASTRESORT_PASS_ENV": "OPENAI_API_KEY"}
    assert environment_that_travels(named) == {"OPENAI_API_KEY": "sk-one"}
    opening = ModelOpening("openai:m", Path())
    with pytest.raises(PrerequisiteError, match="Set LASTRESORT_PASS_ENV=OPENAI_API_KEY, or leave --ray out"):
        refuse_key_that_stays(opening, own)
    refuse_key_that_stays(opening, named)
    refuse_key_that_stays(ModelOpening("http://127.0.0.1:1/v1#m", Path()), {})
    for name, value in own.items():
        monkeypatch.setenv(name, value)
    AnsweringWorker(environment_that_travels(named))  # started by a cluster that has the driver's environment
    assert {name: os.environ.get(name) for name in own} == {
        "OPENAI_API_KEY": "sk-one",
        "HF_TOKEN": None,
        "OTHER": "three",
    }


def test_a_worker_with_another_model_or_another_processor_is_refused(tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text(json.dumps({"rules": [{"match": "(.+)", "answer": "x"}]}))
    opening = ModelOpening("scripted:s.json", tmp_path)
    here = opening.open()
    good = job(opening=opening, fingerprint=here.fingerprint, prompts=((Message("user", "a"),),))
    worker = AnsweringWorker({})
    assert worker.answer(good).failure is None
    for changes, kind, words in (
        ({"fingerprint": "other"}, DataError, "the weights, precision or template of scripted:s.json differ"),
        ({"computed_by": "cuda"}, PrerequisiteError, "computes by"),
    ):
        failure = worker.answer(replace(good, **changes)).failure
        assert failure is not None
        assert failure.kind is kind
        assert words in str(failure.error())


def test_errors_of_workers_are_errors_here() -> None:
    with pytest.raises(
        PrerequisiteError, match=r"node-7: the worker runs lastresort 0.0.1, expected .* Install the same"
    ):
        refuse_other_version(WorkerFacts("node-7", 1, "0.0.1", "3.11"))
    with pytest.raises(InputError, match='--ray: found "somewhere", expected local, auto or HOST:PORT'):
        checked_address("somewhere")
    assert [checked_address(text) for text in ("local", "auto", "head.example:6379", "[::1]:6379")]


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with (
        pytest.raises(
            PrerequisiteError, match=r"Ray is not installed. Install the extra: pip install 'lastresort\[scale\]'"
        ),
        ray_cluster("local"),
    ):
        pass


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

    def get_runtime_context(self) -> NoSuchRay:
        return self

    def nodes(self) -> Sequence[Mapping[str, Any]]:
        return self._nodes

    def wait(self, refs: list[Any], *, num_returns: int, timeout: float) -> tuple[list[Any], list[Any]]:
        return refs[:num_returns], refs[num_returns:]

    def get(self, ref: Any) -> Any:
        assert self._raised is not None
        raise self._raised

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
    assert RayWorkers(NoSuchRay(head, nodes), room, {}, {}).capacity() == workers


def starting(ray: NoSuchRay) -> RayWorkers:
    """With one worker that starts."""
    workers = RayWorkers(ray, WorkerRoom(1), {}, {})
    workers._actors[7], workers._refs["about"] = object(), (7, 0)
    return workers


def test_what_goes_wrong_on_the_cluster_is_said_here(head: str) -> None:
    errors = NoSuchRay.exceptions
    assert starting(NoSuchRay(head, raised=errors.RayError("node died"))).next(0) == WorkerLost(7, "RayError")
    missing = errors.RayError("ModuleNotFoundError: No module named 'lastresort.scale'")
    with pytest.raises(
        PrerequisiteError, match=r"a machine of the cluster has no lastresort .*pip install lastresort=="
    ):
        starting(NoSuchRay(head, raised=missing)).next(0)
    with pytest.raises(ValueError, match="in the worker's code"):
        starting(NoSuchRay(head, raised=errors.RayTaskError())).next(0)
    lost = RayWorkers(NoSuchRay("127.0.0.1:1"), WorkerRoom(1), {}, {})
    with pytest.raises(InfrastructureError, match=r"the head of the cluster is lost.*--resume, with --ray or without"):
        lost.capacity()


def test_where_nobody_answers_no_cluster_is_waited_for() -> None:
    with (
        pytest.raises(PrerequisiteError, match=r"--ray 127.0.0.1:1: .*nobody answers there.*ray start --head"),
        ray_cluster("127.0.0.1:1"),
    ):
        pass
