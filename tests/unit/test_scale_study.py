"""Studies whose cells train at workers: the rows are those of one process, whoever is quicker and whoever is lost."""

from __future__ import annotations

import io
import json
import os
import re
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from rich.console import Console

from lastresort.app.spread import lines_to, study_on_ray, training_room
from lastresort.app.study import StudyRequest, ready_study, run_study
from lastresort.climb.prepare import prepare
from lastresort.climb.trainings import (
    ALIVE,
    ALIVE_EVERY_S,
    INTERRUPTED_S,
    LAST_S,
    TrainedAhead,
    WorkerNotes,
    _UnderWay,
    signs_in,
    stage_in,
)
from lastresort.climb.workbench import StageWriter
from lastresort.errors import DataError, InfrastructureError, PrerequisiteError, StopRequestedError
from lastresort.hardware.cards import Card
from lastresort.hardware.memory import has_gpu
from lastresort.models.local import LocalModel
from lastresort.models.open import ModelOpening
from lastresort.models.protocol import Model
from lastresort.records.atomic import held
from lastresort.records.events.base import Stage
from lastresort.records.events.run import ClimbResumed
from lastresort.records.record import FILE_NAME as RECORD
from lastresort.records.record import Record
from lastresort.report.terminal import run_at_work
from lastresort.report.words.progress import training_so_far, trains_here_line
from lastresort.rungs.open_models import OpenModels
from lastresort.rungs.rung import Workbench
from lastresort.scale.cluster import RayActor, WorkerRoom
from lastresort.scale.crew import (
    TRAININGS,
    AnyJob,
    ClusterLostError,
    Crew,
    JobBack,
    News,
    WorkerLost,
    WorkerReady,
)
from lastresort.scale.work import NO_SIGN, BatchJob, JobModel, JobTrained, Sign, TrainingJob, TrainingWorker
from lastresort.spec.task import load_task
from lastresort.stop import NEVER, FirstOf, Stop, StopFile, StopSignal
from lastresort.study.at_workers import CellBack, CellJob, StudyWorkers, _AtWorkers, trained_by
from lastresort.study.cells import CellBench, SftLearner, cell_record, kept_requests
from lastresort.study.grid import Cell, Grid
from lastresort.study.run import in_turn, study_task
from lastresort.systems.system import System
from lastresort.train.loop import loop
from lastresort.types import Decoding, SilentProgress
from scale_support import Killed, SignsSeen, WorkersHere, study_workers
from tuning_support import COLOURS, Cut, CutAt, Scissors, pairs, tiny_task, write_jsonl

FREE = ("seconds", "answer_s")  # what two runs do not share
SFT = {"learning_rates": [0.003], "epochs": 2, "r": 4, "replay": 0.2}


def request(folder: Path, kind: Any = "min-data", *, ray: str | None = None) -> StudyRequest:
    chosen, examples = pairs() if kind == "orpo-vs-dpo" else None, {}
    if kind == "synthetic":
        examples = {"examples": {"train": "rows.jsonl", "synthetic": "made.jsonl"}}
    own = {"output": {"choices": list(COLOURS)}, "score": "choice", "sft": SFT, **examples}
    path = tiny_task(folder / "task", preferences=chosen, **own)
    made = [{"input": f"which paint suits {n} wooden houses", "output": COLOURS[n % 3]} for n in range(12)]
    write_jsonl(path.parent / "made.jsonl", made)
    sizes, seeds = (16, 40) if kind in ("crossover", "min-data") else None, 3 if kind == "synthetic" else 2
    return StudyRequest(kind, path, sizes=sizes, seeds=seeds, out=folder / "own", ray=ray)


def rows(folder: Path) -> list[dict[str, Any]]:
    """In one order: workers train the largest number of examples first."""
    lines = (folder / "own" / "rows.jsonl").read_text("utf-8").splitlines()
    found = [{key: value for key, value in json.loads(line).items() if key not in FREE} for line in lines]
    return sorted(found, key=lambda row: (row["seed"], row["n"], row["way"]))


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The rows of min-data in one process."""
    folder = tmp_path_factory.mktemp("alone")
    run_study(request(folder), SilentProgress())
    return rows(folder)


Spread = Callable[[WorkersHere, WorkersHere], None]


@pytest.fixture
def spread(monkeypatch: pytest.MonkeyPatch) -> Spread:
    """Has studies answered and trained by these workers where --ray is given."""

    def by(answering: WorkersHere, training: WorkersHere) -> None:
        def on_ray(address: str | None, *_: object) -> AbstractContextManager[StudyWorkers | None]:
            return nullcontext(None if address is None else study_workers(answering, training))

        monkeypatch.setattr("lastresort.app.spread.study_on_ray", on_ray)

    return by


class Watched(WorkersHere):
    """at_work: how many are at a job."""

    at_work = 0

    def next(self, timeout_s: float) -> News | None:
        Watched.at_work += 1
        try:
            return super().next(timeout_s)
        finally:
            Watched.at_work -= 1


@pytest.mark.sampled_slow(4)
@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "trainings"), [("crossover", 4), ("min-data", 4), ("orpo-vs-dpo", 4), ("synthetic", 9)]
)
def test_trainings_at_workers_give_the_rows_of_one_process(
    kind: str, trainings: int, tmp_path: Path, spread: Spread, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several train at once, after the prompts, and the driver itself answers nothing from then on."""
    plain = run_study(request(tmp_path / "alone", kind), SilentProgress()).document
    answering, training = Watched(1), Watched(2, room=lambda: 3)
    spread(answering, training)
    generate = LocalModel.generate

    def at_a_worker(self: LocalModel, *arguments: Any, **keywords: Any) -> Any:
        assert Watched.at_work or not training.begun, "the driver answers nothing for an adapter"
        return generate(self, *arguments, **keywords)

    monkeypatch.setattr(LocalModel, "generate", at_a_worker)
    progress = Scissors()
    found = run_study(request(tmp_path / "ray", kind, ray="local"), progress).document
    assert rows(tmp_path / "ray") == rows(tmp_path / "alone")
    assert found.replaced(seconds=0) == plain.replaced(seconds=0)
    assert training.most_at_once > 1
    assert (answering.most_at_once > 1) == (kind == "crossover"), (
        "workers answer for several cells at once, if a study has them"
    )
    assert answering._workers == {} == training._workers
    assert not any(isinstance(job, CellJob) for job in answering.begun)
    trained = [job.wanted.cell.label for job in training.begun if isinstance(job, CellJob)]
    assert len(trained) == len(set(trained)) == len(training.begun) == trainings
    for label in trained:
        assert progress.said.count(f"{label}: training given to the workers") == 1
        assert sum(said.startswith(f"{label}: trained in ") for said in progress.said) == 1
    assert "3 training runs on workers" in progress.labels
    assert not list((tmp_path / "ray" / "own" / "cells").iterdir())


@pytest.mark.release
def test_what_the_base_answered_for_one_training_is_given_to_the_next(tmp_path: Path, spread: Spread) -> None:
    """As in one process, where the answers are in the cache."""
    training = WorkersHere(room=lambda: 1)
    spread(WorkersHere(), training)
    run_study(request(tmp_path, ray="local"), SilentProgress())
    known = [len(job.known) for job in training.begun if isinstance(job, CellJob)]
    assert known[0] == 0
    assert known[1] == 10
    assert known[-1] >= 10


def killed_at(steps: set[int], monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Have the worker end at these steps of training, counted over all cells. Returns where steps are counted."""
    taken, take_step = list[int](), loop.take_step

    def counted(*arguments: Any) -> Any:
        taken.append(len(taken))
        if taken[-1] in steps:
            raise Killed
        return take_step(*arguments)

    monkeypatch.setattr(loop, "take_step", counted)
    return taken


@pytest.mark.slow
def test_a_training_whose_worker_is_killed_goes_on_elsewhere_from_its_checkpoint(
    tmp_path: Path, alone: list[dict[str, Any]], spread: Spread, monkeypatch: pytest.MonkeyPatch
) -> None:
    """40 and 16 examples with replay take 8 and 4 steps. The first is killed in its sixth, after the checkpoint of its half."""
    training = WorkersHere(room=lambda: 1)
    spread(WorkersHere(), training)
    taken = killed_at({5}, monkeypatch)
    progress = Scissors()
    run_study(request(tmp_path, ray="local"), progress)
    assert rows(tmp_path) == alone
    assert training.losses == 1
    assert len(taken) == 2 * (4 + 8) + 2, "the killed step is done again, and the one before it"
    assert "A worker was lost (killed). Its training goes to another one." in progress.said


@pytest.mark.slow
def test_a_training_that_ends_three_workers_ends_the_study_which_goes_on_without_workers(
    tmp_path: Path, alone: list[dict[str, Any]], spread: Spread, monkeypatch: pytest.MonkeyPatch
) -> None:
    spread(WorkersHere(), WorkersHere(room=lambda: 1))
    with monkeypatch.context() as patch:
        killed_at({9, 10, 11}, patch)
        with pytest.raises(
            InfrastructureError, match=r"3 workers were lost with the same training \(killed\).*Give the same command"
        ):
            run_study(request(tmp_path, ray="local"), SilentProgress())
    assert len(rows(tmp_path)) == 2, "the prompt and the first training"
    run_study(request(tmp_path), SilentProgress())
    assert rows(tmp_path) == alone


class OnAnotherDisk(WorkersHere):
    """Workers that see another folder below the same path. The other folder is at `path`."""

    path = Path()

    def send(self, worker: int, number: int, job: AnyJob) -> None:
        assert isinstance(job, CellJob)
        own = replace(job.bench, proof=self.path / job.bench.proof.name)
        super().send(worker, number, replace(job, study=self.path, bench=own))


@pytest.mark.slow
@pytest.mark.parametrize("is_there", [False, True])
def test_a_worker_that_sees_another_folder_trains_nothing_and_makes_none(
    is_there: bool, tmp_path: Path, spread: Spread
) -> None:
    training = OnAnotherDisk()
    training.path = tmp_path / "other"
    if is_there:
        training.path.mkdir()
    spread(WorkersHere(), training)
    with pytest.raises(
        PrerequisiteError, match=r"worker on .*folder here is not the one.*a disk with --out, or leave --ray out\."
    ):
        run_study(request(tmp_path, ray="local"), SilentProgress())
    assert training.path.exists() == is_there
    assert not is_there or not list(training.path.iterdir())
    assert not list((tmp_path / "own").glob("shared-*"))


class OfAnotherAdapter(WorkersHere):
    def next(self, timeout_s: float) -> News | None:
        news = super().next(timeout_s)
        if not isinstance(news, JobBack) or not isinstance(news.found.result, CellBack):
            return news
        return replace(news, found=JobTrained(replace(news.found.result, fingerprint="other")))


@pytest.mark.slow
def test_an_adapter_that_is_not_the_one_of_the_worker_gets_no_row(tmp_path: Path, spread: Spread) -> None:
    spread(WorkersHere(), OfAnotherAdapter(room=lambda: 1))
    with pytest.raises(DataError, match="the adapter here is not the one that the worker trained"):
        run_study(request(tmp_path, ray="local"), SilentProgress())
    assert len(rows(tmp_path)) == 1, "the prompt"


@pytest.mark.release
def test_the_driver_has_no_model_open_while_it_waits_for_trainings(
    tmp_path: Path, spread: Spread, monkeypatch: pytest.MonkeyPatch
) -> None:
    spread(WorkersHere(), WorkersHere())
    opened, waited, open_, next_ = list[OpenModels](), list[bool](), OpenModels.open, TrainedAhead.next

    def opening(self: OpenModels, system: System) -> Model:
        opened.append(self)
        return open_(self, system)

    def waiting(self: TrainedAhead[CellBack]) -> CellBack:
        waited.append(opened[0]._model is None)
        return next_(self)

    monkeypatch.setattr(OpenModels, "open", opening)
    monkeypatch.setattr(TrainedAhead, "next", waiting)
    run_study(request(tmp_path, ray="local"), SilentProgress())
    assert waited == [True] * 4


@pytest.mark.slow
def test_a_training_that_is_stopped_saves_and_goes_on_from_there(
    tmp_path: Path, alone: list[dict[str, Any]], spread: Spread, monkeypatch: pytest.MonkeyPatch
) -> None:
    spread(WorkersHere(), WorkersHere(room=lambda: 1))
    taken, take_step = list[int](), loop.take_step

    def counted(*arguments: Any) -> Any:
        taken.append(len(taken))
        if len(taken) == 7:
            (tmp_path / "own" / "stop").touch()
        return take_step(*arguments)

    monkeypatch.setattr(loop, "take_step", counted)
    with pytest.raises(StopRequestedError, match="Give the same command again"):
        run_study(request(tmp_path, ray="local"), SilentProgress())
    assert len(taken) == 7
    run_study(request(tmp_path, ray="local"), SilentProgress())
    assert rows(tmp_path) == alone
    assert len(taken) == 2 * (4 + 8), "no step is done twice"


@pytest.mark.release
def test_what_a_worker_has_answered_is_kept_when_it_is_lost(
    tmp_path: Path, alone: list[dict[str, Any]], spread: Spread, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one is killed after dev, before the unrelated requests; another one finds dev answered."""
    training = WorkersHere(room=lambda: 1)
    spread(WorkersHere(), training)
    calls, before, measured, requests = list[int](), list[int](), list[str](), kept_requests
    generate = LocalModel.generate

    def counted(self: LocalModel, prompts: Any, *arguments: Any, **keywords: Any) -> Any:
        calls.append(len(prompts))
        return generate(self, prompts, *arguments, **keywords)

    def killed_first(bench: Workbench, system: System, label: str) -> Any:
        measured.append(label)
        before.append(len(calls))
        if len(measured) == 1:
            raise Killed
        return requests(bench, system, label)

    monkeypatch.setattr("lastresort.study.at_workers.kept_requests", killed_first)
    monkeypatch.setattr(LocalModel, "generate", counted)
    run_study(request(tmp_path, ray="local"), SilentProgress())
    assert training.losses == 1
    assert measured[0] == measured[1]
    assert before[0] == before[1], "nothing is generated a second time"
    assert rows(tmp_path) == alone


class StopsAfter(Scissors):
    """Asks to stop once something is said that begins so."""

    def __init__(self, words: str, stop: StopSignal) -> None:
        super().__init__()
        self._words, self._stop = words, stop

    def say(self, text: str) -> None:
        super().say(text)
        if text.startswith(self._words):
            self._stop.request()


@pytest.mark.release
def test_a_stop_lets_trainings_save_and_the_same_command_goes_on_without_workers(
    tmp_path: Path, alone: list[dict[str, Any]], spread: Spread
) -> None:
    stop = StopSignal()
    training = WorkersHere(1, room=lambda: 2)
    spread(WorkersHere(), training)
    progress = StopsAfter("sft, 40 examples, seed 0: training", stop)
    with pytest.raises(StopRequestedError, match="Give the same command again"):
        run_study(request(tmp_path, ray="local"), progress, stop)
    assert len(training.sent) == len(training.begun) <= 2
    assert not (tmp_path / "own" / "stop").exists()
    run_study(request(tmp_path), SilentProgress())
    assert rows(tmp_path) == alone


@pytest.mark.release
def test_what_interrupts_the_driver_ends_the_workers_and_the_same_command_goes_on(
    tmp_path: Path, alone: list[dict[str, Any]], spread: Spread
) -> None:
    training = WorkersHere(room=lambda: 2)
    spread(WorkersHere(), training)
    with pytest.raises(Cut):
        run_study(request(tmp_path, ray="local"), CutAt("sft, 16 examples, seed 0: dev", 1))
    assert training._workers == {}
    run_study(request(tmp_path, ray="local"), SilentProgress())
    assert rows(tmp_path) == alone


@pytest.mark.slow
def test_a_training_that_diverges_says_what_it_says_in_one_process(
    tmp_path: Path, spread: Spread, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of another cell: one process begins with the fewest examples, workers with the most."""
    spread(WorkersHere(), WorkersHere(room=lambda: 3))
    monkeypatch.setattr("lastresort.study.cells.SupervisedTraining.to_stop", lambda *_: float("inf"))
    said = []
    for ray, n in ((None, 16), ("local", 40)):
        with pytest.raises(DataError, match=f"Leave {n} examples out with --sizes") as error:
            run_study(request(tmp_path / str(ray), ray=ray), SilentProgress())
        said.append(str(error.value).replace(f"{n} examples", "so many examples"))
    assert said[0] == said[1]


@pytest.mark.slow
@pytest.mark.parametrize("ray", [None, "local"])
def test_no_two_processes_train_in_one_folder(
    ray: str | None, tmp_path: Path, spread: Spread, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that was cut off from its driver is waited for."""
    spread(WorkersHere(), WorkersHere(room=lambda: 1))
    with pytest.raises(Cut):
        run_study(request(tmp_path), CutAt("sft, learning rate", 3))
    [cell] = (tmp_path / "own" / "cells").iterdir()
    monkeypatch.setattr("lastresort.climb.trainings.LET_GO_S", 0.1)
    with (
        held(cell, "held", expected="", remedy=""),
        pytest.raises(InfrastructureError, match=r"still training here\. Wait until it has ended\. Give the same"),
    ):
        run_study(request(tmp_path, ray=ray), SilentProgress())


@dataclass(frozen=True, slots=True)
class Numbered:
    """A training that takes no time."""

    model: JobModel
    number: int

    def last_sign(self) -> Sign:
        return NO_SIGN

    def so_far(self) -> str:
        return f"training {self.number}"

    def trained(self) -> int:
        return self.number


def scripted(folder: Path) -> JobModel:
    (folder / "s.json").write_text(json.dumps({"rules": [{"match": "(.+)", "answer": "x"}]}))
    opening = ModelOpening("scripted:s.json", folder)
    return JobModel.of(opening, opening.open())


@pytest.mark.parametrize("seed", range(3))
def test_trainings_come_back_in_their_order_and_no_more_are_under_way_than_there_is_room(
    seed: int, tmp_path: Path
) -> None:
    model, arrived, running = scripted(tmp_path), list[int](), list[int]()

    def seen(jobs: Sequence[AnyJob]) -> None:
        running.append(len(jobs))

    workers = WorkersHere(seed, room=lambda: 3)
    jobs = (Numbered(model, number) for number in range(8))
    ahead = TrainedAhead(
        Crew(workers, print, kind=TRAININGS),
        jobs,
        NEVER,
        arrived=arrived.append,
        tell=lambda: None,
        under_way=seen,
    )
    assert [ahead.next() for _ in range(8)] == [*range(8)]
    assert sorted(arrived) == [*range(8)]
    assert workers.most_at_once == max(running) == 3
    ahead.end(0.0)
    assert workers._workers == {}


class SlowAtFirst(WorkersHere):
    """Until there have been six looks, no training comes back."""

    looks = 0

    def next(self, timeout_s: float) -> News | None:
        self.looks += 1
        return super().next(timeout_s) if self._starting or self.looks > 6 else None


def test_a_machine_that_joins_gets_a_training_while_others_are_under_way(tmp_path: Path) -> None:
    model, workers, running = scripted(tmp_path), SlowAtFirst(), list[int]()

    def seen(jobs: Sequence[AnyJob]) -> None:
        running.append(len(jobs))

    workers.capacity = lambda: 1 if workers.looks < 3 else 2
    workers._random.random = lambda: 0.0  # type: ignore[method-assign]  # who starts is ready at once
    crew = Crew(workers, print, kind=TRAININGS, clock=count(step=10).__next__)
    jobs = (Numbered(model, number) for number in range(2))
    ahead = TrainedAhead(crew, jobs, NEVER, arrived=lambda _: None, tell=lambda: None, under_way=seen)
    assert [ahead.next(), ahead.next()] == [0, 1]
    assert max(running) == 2
    ahead.end(0.0)


@dataclass(frozen=True, slots=True)
class Signing(Numbered):
    """folder: a file of it changes as this gets on."""

    folder: Path

    def last_sign(self) -> Sign:
        return signs_in(self.folder)


class Hanging(WorkersHere):
    """The first worker gives no training back before so many looks. at_look: called with the number of each."""

    def __init__(self, looks: int, at_look: Callable[[int], None] = lambda look: None) -> None:
        super().__init__(room=lambda: 1)
        self._looks, self._at_look, self._look = looks, at_look, 0

    def next(self, timeout_s: float) -> News | None:
        self._look += 1
        self._at_look(self._look)
        hangs = 1 in self._queued and self._look < self._looks
        return None if hangs and not self._starting else super().next(timeout_s)


def hanging(workers: Hanging, folder: Path) -> tuple[int, list[str]]:
    """What a training of such workers gives back, and what is said of them; each look takes ten minutes."""
    said, clock = list[str](), count(step=300)  # a look asks twice for the time
    crew = Crew(workers, lines_to(said.append), kind=TRAININGS, clock=clock.__next__, patience_s=1e9)
    crew.count_room()
    found = list[JobTrained[int]]()
    crew.wait([crew.submit(Signing(scripted(folder), 7, folder), found.append)], NEVER, lambda: None)
    return found[0].result or 0, [line for line in said if not line.startswith("Waiting for room")]


def test_a_training_without_a_sign_for_six_hours_goes_to_another_worker(tmp_path: Path) -> None:
    workers = Hanging(1000)
    assert hanging(workers, tmp_path) == (
        7,
        ["A worker was lost (no progress within 360 minutes). Its training goes to another one."],
    )
    assert workers.ended == [1]
    assert len(workers.sent) == 2


def test_a_training_that_gets_on_is_waited_for(tmp_path: Path) -> None:
    def get_on(look: int) -> None:
        if look % 2 == 0:
            os.utime(tmp_path / "s.json", (look, look))

    assert hanging(workers := Hanging(100, get_on), tmp_path) == (7, [])
    assert workers.ended == []


@pytest.mark.parametrize(("looks", "lost"), [(60, False), (1000, True)])
def test_a_training_has_twenty_times_its_longest_pause(looks: int, lost: bool, tmp_path: Path) -> None:
    """Half an hour, so ten hours."""

    def get_on(look: int) -> None:
        if look in (6, 11):
            os.utime(tmp_path / "s.json", (look, look))

    found, said = hanging(workers := Hanging(looks, get_on), tmp_path)
    assert found == 7
    assert len(said) == len(workers.ended) == lost
    assert not lost or 500 <= int(re.findall(r"within (\d+) minutes", said[0])[0]) < 1500


def test_a_training_that_is_done_while_the_driver_looks_away_is_not_lost(tmp_path: Path) -> None:
    """It scores with a judge for hours."""
    model, workers, now = scripted(tmp_path), WorkersHere(room=lambda: 4), [0.0]
    crew = Crew(workers, pytest.fail, kind=TRAININGS, clock=lambda: now[0])
    crew.count_room()
    jobs = (Numbered(model, number) for number in range(4))
    ahead = TrainedAhead(crew, jobs, NEVER, arrived=lambda _: None, tell=lambda: None, under_way=lambda _: None)
    for number in range(4):
        assert ahead.next() == number
        now[0] += 4 * 3600.0
    assert workers.ended == []


def test_a_file_of_a_machine_whose_clock_runs_ahead_hides_no_sign(tmp_path: Path) -> None:
    def get_on(look: int) -> None:
        (tmp_path / "alive").touch()
        os.utime(tmp_path / "alive", (look, look))

    (tmp_path / "old.json").touch()
    os.utime(tmp_path / "old.json", (time.time() + 3 * 3600,) * 2)
    assert hanging(workers := Hanging(100, get_on), tmp_path) == (7, [])
    assert workers.ended == []


def test_three_workers_that_hang_lack_no_memory(tmp_path: Path) -> None:
    class AllHang(Hanging):
        def next(self, timeout_s: float) -> News | None:
            return super().next(timeout_s) if self._starting else None

    with pytest.raises(InfrastructureError, match=r"\(no progress within 360 minutes\), expected machines and a disk"):
        hanging(AllHang(0), tmp_path)


def test_a_sign_that_the_driver_sees_late_is_no_long_pause(tmp_path: Path) -> None:
    """It scores for two days while a training gets on. The one that hangs then has no 40 days."""
    now, said = [0.0], list[str]()

    class HangsLater(WorkersHere):
        """The first training comes back at once, the second never from the first worker."""

        def next(self, timeout_s: float) -> News | None:
            now[0] += 600.0
            hangs = not self._starting and 1 in self._queued and len(self.sent) > 1
            return None if hangs else super().next(timeout_s)

    workers = HangsLater(room=lambda: 1)
    crew = Crew(workers, lines_to(said.append), kind=TRAININGS, clock=lambda: now[0], patience_s=1e9)
    crew.count_room()
    model = scripted(tmp_path)
    crew.wait([crew.submit(Signing(model, 1, tmp_path), lambda _: None)], NEVER, lambda: None)
    second = crew.submit(Signing(model, 2, tmp_path), lambda _: None)
    now[0] += 48 * 3600.0
    (tmp_path / "alive").touch()
    began = now[0]
    crew.wait([second], NEVER, lambda: None)
    assert [line for line in said if "lost" in line] == [
        "A worker was lost (no progress within 360 minutes). Its training goes to another one."
    ]
    assert now[0] - began < 8 * 3600.0


def test_a_worker_shows_in_its_folder_that_it_gets_on(tmp_path: Path) -> None:
    folder = tmp_path / "own"
    assert signs_in(folder) == NO_SIGN
    notes = WorkerNotes(folder)
    notes.stage("loading")  # no folder yet
    folder.mkdir()
    assert signs_in(folder) == NO_SIGN
    notes = WorkerNotes(folder)
    notes.advance()
    assert signs_in(folder) != NO_SIGN
    os.utime(folder / "alive", (1.0, 1.0))
    before = signs_in(folder)
    notes.advance()
    assert signs_in(folder) == before, "not at every step"
    WorkerNotes(folder).stage("the next")
    assert signs_in(folder) != before
    (folder / "link").symlink_to("nothing")
    assert len(signs_in(folder)) == 1, "what has just gone hides no other"


def test_the_driver_shows_how_far_each_training_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the workers showed it last, every few seconds, in the record of the run too."""
    now = [0.0]
    monkeypatch.setattr("lastresort.climb.trainings.time.monotonic", lambda: now[0])
    notes = WorkerNotes(tmp_path)
    assert stage_in(tmp_path) is None
    steps = [
        (notes.stage, ("sft: training", 60, 11)),
        (notes.at, ("sft", "lr0.001", "train", 0.5)),
        (notes.advance, (1,)),
    ]
    for show, given in steps:
        now[0] += ALIVE_EVERY_S
        show(*given)
    stage = stage_in(tmp_path)
    assert training_so_far("sft, seed 0", stage) == "sft, seed 0: step 12 of 60"
    assert training_so_far("sft, seed 1", None) == "sft, seed 1"
    dev = Stage(label="sft, seed 1: dev", split="dev", done=3, total=20)
    leak = Stage(label="sft, seed 1: unrelated requests", done=4, total=30)
    held_out = Stage(label="evaluating 12 items held out", done=5, total=12)
    assert [training_so_far("sft, seed 1", stage) for stage in (dev, leak, held_out)] == [
        "sft, seed 1: dev answer 3 of 20",
        "sft, seed 1: unrelated requests, 4 of 30",
        "sft, seed 1: evaluating 12 items held out, 5 of 12",
    ]
    (tmp_path / ALIVE).write_text('{"label": "sft')
    assert stage_in(tmp_path) is None, "the worker is writing it"
    model = scripted(tmp_path)
    with Record.create(tmp_path / "run") as record:
        writer = StageWriter(SilentProgress(), record, lambda: (now[0], 0.0))
        shown = _UnderWay(writer)
        two = [Numbered(model, 7), Numbered(model, 8)]
        shown.show(two)
        begun = record.stage()
        now[0] += ALIVE_EVERY_S
        shown.show(two)
        record.append(ClimbResumed())  # with an event the stage is written at once
        later = record.stage()
    assert begun is not None
    assert later is not None
    assert (begun.label, begun.note) == (later.label, "") == ("2 training runs on workers", "")
    assert later.note == "training 7; training 8"
    assert later.spent_s == begun.spent_s + ALIVE_EVERY_S, "the clock of who watches goes on"
    text = Console(width=60, record=True, file=io.StringIO())
    text.print(run_at_work(None, later))
    assert "training 7; training 8" in text.export_text()


def test_what_is_at_workers_is_shown_again_once_the_driver_has_shown_other_work(tmp_path: Path) -> None:
    """Also where another training began meanwhile, so that there are as many as before."""
    model, progress = scripted(tmp_path), Scissors()
    crew, jobs = Crew(WorkersHere(), print, kind=TRAININGS), (Numbered(model, number) for number in range(20))
    show = _UnderWay(progress).show
    ahead = TrainedAhead(crew, jobs, NEVER, arrived=lambda _: None, tell=lambda: None, under_way=show)
    for _ in range(3):
        ahead.next()
    progress.stage("sft, seed 0: dev", 20)
    ahead.next()
    assert progress.labels[-1] == "2 training runs on workers"
    ahead.end(0.0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "first", "passes"), [("min-data", "sft, 40 examples, seed 0", 1), ("orpo-vs-dpo", "dpo, seed 0", 2)]
)
def test_the_driver_sees_that_a_cell_at_a_worker_gets_on(
    kind: str, first: str, passes: int, tmp_path: Path, spread: Spread, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its own record and by what its worker shows, also while it passes over dev, or over the pairs that are held out."""
    workers = SignsSeen(monkeypatch)
    spread(WorkersHere(), workers)
    with pytest.raises(Cut):
        run_study(request(tmp_path, kind, ray="local"), CutAt(f"{first}: dev", 1))
    before, after = workers.signs[0]
    assert before == set()
    assert {RECORD, ALIVE} <= after
    assert workers.shown.count(0) >= passes


class Lost(WorkersHere):
    """Gives this news. Like a cluster it knows no worker that has ended."""

    def __init__(self, *news: News) -> None:
        super().__init__()
        self.news, self.there = deque(news), set[int]()

    def start(self, worker: int) -> None:
        self.there.add(worker)

    def send(self, worker: int, number: int, job: AnyJob) -> None:
        assert worker in self.there

    def end(self, worker: int) -> None:
        self.there.remove(worker)

    def next(self, timeout_s: float) -> News | None:
        news = self.news.popleft() if self.news else None
        if isinstance(news, WorkerLost):
            self.end(news.worker)
        return news


def test_a_worker_that_is_lost_as_it_starts_while_others_save_is_not_ended_again(tmp_path: Path) -> None:
    workers = Lost(WorkerReady(1), WorkerLost(2, "no memory"), JobBack(1, 1, JobTrained(0)))
    crew, back = Crew(workers, print, kind=TRAININGS, clock=count().__next__), list[JobTrained[int]]()
    crew.count_room()
    for number in range(2):
        crew.submit(Numbered(scripted(tmp_path), number), back.append)
    crew._take(workers.next(0.0))
    crew.drain(60.0)
    crew.end()
    assert back == [JobTrained(0)]
    assert workers.there == set()


@dataclass(frozen=True, slots=True)
class FullDisk(Numbered):
    def trained(self) -> int:
        raise InfrastructureError("the disk is full")


def ahead_of(
    workers: WorkersHere, jobs: Iterable[TrainingJob[int]], stop: Stop = NEVER, tell: Callable[[], None] = lambda: None
) -> TrainedAhead[int]:
    crew = Crew(workers, print, kind=TRAININGS)
    return TrainedAhead(crew, iter(jobs), stop, arrived=lambda _: None, tell=tell, under_way=lambda _: None)


@pytest.mark.parametrize("seed", range(6))
def test_after_a_failure_nothing_more_is_sent(seed: int, tmp_path: Path) -> None:
    model, workers = scripted(tmp_path), WorkersHere(seed)
    ahead = ahead_of(workers, [Numbered(model, 0), *(FullDisk(model, number) for number in range(1, 8))])
    assert ahead.next() == 0
    with pytest.raises(InfrastructureError, match="the disk is full"):
        ahead.next()
    assert len(workers.sent) <= 3
    ahead.end(0.0)


def fails(error: BaseException) -> Callable[..., None]:
    def failing(*_: object) -> None:
        raise error

    return failing


@pytest.mark.parametrize("by_signal", [True, False])
def test_a_stop_is_what_is_said_and_workers_end_whatever_fails_meanwhile(
    by_signal: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk for the file that tells them, and a worker that is refused while the trainings save."""
    model, workers, stop, given = scripted(tmp_path), WorkersHere(room=lambda: 3), StopSignal(), list[float]()
    file = StopFile(tmp_path / "stop")

    def drain(self: Crew, within_s: float) -> None:
        given.append(within_s)
        raise PrerequisiteError("the worker has other software")

    monkeypatch.setattr(Crew, "drain", drain)
    jobs = [Numbered(model, number) for number in range(8)]
    ahead = ahead_of(workers, jobs, FirstOf((stop, file)), fails(OSError(28, "full")))
    ahead.next()
    if by_signal:
        stop.request()
    else:
        file.path.touch()
    with pytest.raises(StopRequestedError):
        ahead.next()
    ahead.end(LAST_S)
    assert given == [LAST_S]
    assert workers._workers == {}
    between = ahead_of(WorkersHere(room=lambda: 3), jobs, FirstOf((NEVER,)), fails(OSError(28, "full")))
    between.next()
    between._stop = FirstOf((stop, file))
    between.end(LAST_S)
    assert given == [LAST_S] * 2, "also between two trainings"


@pytest.mark.parametrize(
    ("error", "within_s"),
    [
        (InfrastructureError("the disk is full"), LAST_S),
        (DataError("diverged"), LAST_S),
        (StopRequestedError("a signal asked to stop"), LAST_S),
        (ClusterLostError("the head is lost"), 0.0),
        (KeyboardInterrupt(), INTERRUPTED_S),
    ],
)
def test_trainings_under_way_have_time_to_save_unless_nobody_answers(
    error: BaseException, within_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = list[float]()
    monkeypatch.setattr(_AtWorkers, "end", lambda _, at_most_s: given.append(at_most_s))
    shared = CellBench(cast(Workbench, None), SftLearner(0.1), probed=False)
    workers = study_workers(WorkersHere(), WorkersHere())
    with pytest.raises(type(error)), trained_by(workers, shared, (), lambda: 0.0):
        raise error
    assert given == [within_s]


def test_a_disk_that_refuses_the_folder_of_a_cell_says_so(tmp_path: Path) -> None:
    (tmp_path / "cells").touch()
    with pytest.raises(InfrastructureError, match="could not be written"), cell_record(tmp_path, "a" * 64):
        pass


def test_a_local_cluster_without_room_for_a_training_leaves_it_to_the_driver(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = SimpleNamespace(
        address="local", machines=None, room=WorkerRoom(1), workers=lambda _: WorkersHere(room=lambda: 0)
    )
    monkeypatch.setattr("lastresort.app.spread._connected", lambda *_: nullcontext(cluster))
    own = request(tmp_path)
    assert isinstance(own.task, Path)
    task, progress = load_task(own.task), Scissors()
    with study_on_ray("local", study_task(task, "sft"), prepare(task), progress) as workers:
        assert workers is not None
        assert workers.train is None
    assert progress.said == [trains_here_line("1 CPU")]


def on_cluster(answering: WorkersHere, training: WorkersHere, monkeypatch: pytest.MonkeyPatch) -> None:
    """Has studies find these workers on a cluster."""
    own = WorkerRoom(1)
    cluster = SimpleNamespace(
        address="local",
        machines=None,
        room=own,
        workers=lambda needed: answering if needed is own else training,
        answering=lambda progress: answering,
    )
    monkeypatch.setattr("lastresort.app.spread._connected", lambda *_: nullcontext(cluster))


@pytest.mark.slow
@pytest.mark.parametrize(("room", "shared"), [(2, True), (1, False)])
def test_the_workers_that_answered_train_where_that_takes_none_away(
    room: int, shared: bool, tmp_path: Path, alone: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """room: for trainings, where there is room for two workers that answer."""
    answering, training = WorkersHere(), WorkersHere(room=lambda: room)
    on_cluster(answering, training, monkeypatch)
    run_study(request(tmp_path, ray="local"), SilentProgress())
    assert rows(tmp_path) == alone
    answered = [job for job in training.begun if not isinstance(job, CellJob)]
    assert bool(answered) == shared
    assert bool(answering.begun) != shared
    assert sum(isinstance(job, CellJob) for job in training.begun) == 4
    assert training._workers == {} == answering._workers, "all end"
    assert len(training.ended) == room, "no others were started"


@pytest.mark.slow
def test_workers_that_answered_end_where_no_training_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    training = WorkersHere()
    on_cluster(WorkersHere(), training, monkeypatch)
    monkeypatch.setattr("lastresort.study.at_workers.base_to_train", fails(InfrastructureError("the disk is full")))
    with pytest.raises(InfrastructureError, match="the disk is full"):
        run_study(request(tmp_path, ray="local"), SilentProgress())
    assert training.ended
    assert training._workers == {}


def test_at_workers_the_longest_training_of_a_seed_begins_first() -> None:
    grid = Grid("crossover", (16, 40), (0, 1), ("few-shot", "sft"), ("zero-shot",))
    prompts = [cell for cell in grid.cells() if not cell.trains]
    trained = [Cell("sft", n, seed) for seed, n in ((0, 40), (0, 16), (1, 40), (1, 16))]
    workers = study_workers(WorkersHere(), WorkersHere())
    assert in_turn(grid.cells(), workers) == [*prompts, *trained]
    in_grid = [*prompts, *(cell for cell in grid.cells() if cell.trains)]
    assert in_turn(grid.cells(), None) == in_turn(grid.cells(), replace(workers, train=None)) == in_grid


def test_a_worker_that_trains_has_let_go_of_the_model_that_it_answered_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lastresort.scale.cluster.see_own_cards", lambda cards: None)
    model, actor = scripted(tmp_path), RayActor(cards=False)
    actor.answer(BatchJob(model, (), Decoding(1)))
    assert actor._answering._model is not None
    assert actor.train(Numbered(model, 7)).result == 7
    assert actor._answering._model is None


def test_a_worker_with_other_weights_trains_nothing(tmp_path: Path) -> None:
    model = scripted(tmp_path)
    other = replace(model, fingerprint="other")
    worker = TrainingWorker()
    assert worker.train(Numbered(model, 7)).result == 7
    refused = worker.train(Numbered(other, 7))
    assert refused.result is None
    assert refused.failure is not None
    assert "the weights, precision or template of scripted:s.json differ" in str(refused.failure.error())


def test_a_training_has_the_memory_that_the_plan_says(tmp_path: Path) -> None:
    own = request(tmp_path, "orpo-vs-dpo")
    assert isinstance(own.task, Path)
    task = load_task(own.task)
    answering = WorkerRoom(1, memory_bytes=1000)
    needs = [training_room(study_task(task, rung), rung, prepare(task), answering) for rung in ("sft", "preference")]
    assert [room.threads for room in needs] == [1, 1]
    assert has_gpu() or needs[1].memory_bytes > needs[0].memory_bytes > 10**8, "two rows of a pair are in one pass"
    card = WorkerRoom(1, cards=1, memory_bytes=1000)
    assert training_room(study_task(task, "sft"), "sft", prepare(task), card) == card


@pytest.mark.parametrize("method", ["lora", "qlora"])
def test_a_training_that_needs_several_cards_is_refused_before_ray_starts_and_before_rows_are_made(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = request(tmp_path)
    assert isinstance(own.task, Path)
    task = load_task(own.task, {"tune": {"method": method}})
    own = replace(own, kind="synthetic", task=task, sizes=None, seeds=None, ray="auto")
    monkeypatch.setattr("lastresort.app.spread.ray_cluster", lambda _: pytest.fail("Ray"))
    monkeypatch.setattr("lastresort.app.spread.room_of", lambda *_, **__: WorkerRoom(1, cards=1))
    monkeypatch.setattr("lastresort.climb.workload.card_here", lambda **_: Card("small", 1000))
    said = r"--ray: .* the GPU here has 0.0 GiB, expected a training that fits one GPU or is divided .*\. "
    remedy = {"lora": "Set tune.method to qlora, name a smaller model", "qlora": "Name a smaller model"}[method]
    with pytest.raises(PrerequisiteError, match=said + remedy):
        ready_study(own, Scissors())
    assert not (tmp_path / "studies").exists()
    with (
        pytest.raises(PrerequisiteError, match=said + remedy),
        study_on_ray("auto", study_task(task, "sft"), prepare(task), Scissors()),
    ):
        pytest.fail("it began")
