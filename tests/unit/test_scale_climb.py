"""Learning rates that race at workers: the record and the decision are those of one process, whoever is quicker or is lost."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from climb_support import comparable
from lastresort.app.climb import Climbed, climb
from lastresort.app.spread import _laps_at
from lastresort.climb.laps import LAPS, ClimbWorkers, LapBack, LapJob, take_laps, with_workers
from lastresort.climb.prepare import prepare
from lastresort.climb.trainings import ALIVE, WorkerBench, WorkerNotes
from lastresort.errors import DataError, InfrastructureError, PrerequisiteError, StopRequestedError
from lastresort.hardware.cards import Card
from lastresort.hardware.threads import pinned
from lastresort.models.cached import MemoryCache
from lastresort.records.events.training import LapTrained, PassLowered, RenderingFixed, ReplayMade, TrainingReached
from lastresort.records.record import FILE_NAME, Record
from lastresort.report.words.progress import laps_here_line, training_workers_line
from lastresort.rungs.rung import RaceLap, Workbench
from lastresort.rungs.supervised.methods import method_of
from lastresort.rungs.supervised.training import SupervisedTraining
from lastresort.scale.cluster import WorkerRoom
from lastresort.scale.crew import AnyJob, JobBack, News
from lastresort.scale.work import JobTrained
from lastresort.spec.task import load_task
from lastresort.stop import NEVER, FirstOf, Stop, StopSignal
from lastresort.train.loop import gradients, loop
from scale_support import Killed, SignsSeen, WorkersHere, climb_workers
from tuning_support import COLOURS, Scissors, pairs, tiny_task, tuned_files

RATES = [0.001, 0.003, 0.01]
SFT = {"learning_rates": RATES, "epochs": 4, "r": 4, "replay": 0.0}  # 20 steps, of which the race takes 3, then 7


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each model that is closed has all garbage collected, which takes most of the time of tiny ones."""
    monkeypatch.setattr(gc, "collect", lambda generation=2: 0)


class AtOnce(WorkersHere):
    """All start before one of them trains. seed: of who is quicker."""

    per_machine = 4.0

    def __init__(self, seed: int = 0, room: int = 3) -> None:
        super().__init__(seed, room=lambda: room)
        self._random.random = lambda: 0.0  # type: ignore[method-assign]

    @property
    def jobs(self) -> list[LapJob]:
        return [job for job in self.begun if isinstance(job, LapJob)]


def task_of(folder: Path, kind: str = "sft", **sft: Any) -> Path:
    ladder = {"orpo": ["preference"], "dpo": ["sft", "preference"]}.get(kind, [kind])
    chosen = pairs() if "preference" in ladder else None
    own: dict[str, Any] = {"output": {"choices": list(COLOURS)}, "score": "choice", "ladder": ladder}
    sft |= {"learning_rates": [0.003]} if kind == "dpo" else {}
    return tiny_task(folder, preferences=chosen, sft={**SFT, **sft}, **own)


@dataclass
class Raced:
    """What a race left in the record of its run, and what was said."""

    rate: float = 0.0
    laps: list[LapTrained] = field(default_factory=list)
    curves: dict[str, Any] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)


@contextmanager
def opened(folder: Path, workers: WorkersHere | None, progress: Scissors, stop: Stop = NEVER) -> Iterator[Workbench]:
    """The workbench of a run whose laps these workers train; it goes on where it was cut."""
    prepared, run = prepare(load_task(task_of(folder))), folder / "run"
    nothing = WorkerBench(
        prepared.task, tuple(prepared.split.dev), None, 6, "Go on with --resume", run, run / "stop", ""
    )
    start = Record.open if (run / FILE_NAME).exists() else Record.create
    with (
        start(run) as record,
        nothing.opened(record, run, prepared.split.train, MemoryCache({}), WorkerNotes(run)) as bench,
    ):
        spread = None if workers is None else climb_workers(WorkersHere(), workers)
        own = replace(
            with_workers(replace(bench, progress=progress), spread), stop=FirstOf((bench.stop, stop)), at_worker=False
        )
        take_laps(own)
        yield own


def raced(folder: Path, workers: WorkersHere | None = None, stop: Stop = NEVER) -> Raced:
    found, progress = Raced(), Scissors()
    found.said, found.labels = progress.said, progress.labels
    with opened(folder, workers, progress, stop) as bench:
        training = SupervisedTraining(bench, "sft", bench.task.sft, method_of(bench.task), look_early=True)
        found.rate = training.race()
        training.close()
        found.laps, found.curves = bench.record.all(LapTrained), bench.record.curves()
        assert len(bench.record.all(RenderingFixed)) == 1
    assert not (folder / "run" / LAPS).exists()
    return found


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[Raced, dict[str, bytes]]:
    folder = tmp_path_factory.mktemp("alone")
    return raced(folder), tuned_files(folder / "run")


def same(found: Raced, alone: Raced) -> bool:
    return (found.rate, found.laps, found.curves) == (alone.rate, alone.laps, alone.curves)


def test_a_race_at_workers_leaves_what_it_leaves_in_one_process(
    tmp_path: Path, alone: tuple[Raced, dict[str, bytes]]
) -> None:
    """All of a round train at once. The driver writes what they left in their order, and trains nothing itself."""
    workers = AtOnce(5)
    found = raced(tmp_path, workers)
    assert same(found, alone[0])
    assert tuned_files(tmp_path / "run") == alone[1]
    assert [job.lap.run for job in workers.jobs[:3]] != ["lr0.001", "lr0.003", "lr0.01"], "another one is first"
    assert [job.share for job in workers.jobs] == [1 / 3] * 3 + [1 / 2] * 2, "of a machine that has room for four"
    assert workers.most_at_once == 3
    assert workers._workers == {}
    assert [one.labels.count("sft: loading the model") for one in (found, alone[0])] == [0, 1]
    assert found.said.count("sft: adapters in 2 of 2 layers, 2,688 parameters") == 1
    assert found.said.count("sft, lr0.003: training given to the workers") == 2


@pytest.mark.slow
def test_the_driver_sees_that_a_lap_at_a_worker_gets_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its own record and by what its worker shows, also while it passes over dev."""
    workers = SignsSeen(monkeypatch)
    raced(tmp_path, workers)
    assert len(workers.signs) == 5
    for before, after in workers.signs:
        assert FILE_NAME in before
        assert ALIVE in after - before
    assert 0 in workers.shown


@pytest.mark.sampled_slow(4)
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sft", "orpo", "dpo", "full"])
def test_a_climb_whose_laps_train_at_workers_decides_as_one_process(kind: str, tmp_path: Path) -> None:
    """Also with replay, which the base answers once."""

    def climbed(name: str, workers: ClimbWorkers | None) -> tuple[Climbed, dict[str, Any], list[ReplayMade], list[Any]]:
        path, run = task_of(tmp_path / name, kind, replay=0.1), tmp_path / name / "run"
        found = climb(load_task(path), run, gate="none", workers=workers)
        with Record.open(run, read_only=True) as record:
            reached = [one.model_copy(update={"seconds": 0.0}) for one in record.all(TrainingReached)]
            return found, record.curves(), record.all(ReplayMade), reached

    plain, curves, _, reached = climbed("alone", None)
    training = AtOnce(5)
    found, *own, replayed, trained = climbed("ray", climb_workers(WorkersHere(1), training))
    assert comparable(found.decision.as_json()) == comparable(plain.decision.as_json())
    assert own == [curves]
    assert trained == reached
    assert len(replayed) <= 1
    assert tuned_files(tmp_path / "ray" / "run") == tuned_files(tmp_path / "alone" / "run")
    assert training.most_at_once > 1
    assert len(training.jobs) == len(training.begun) == {"sft": 5, "orpo": 2, "dpo": 2, "full": 2}[kind]
    assert training._workers == {}


@pytest.mark.slow
def test_the_driver_goes_on_with_threads_of_its_own_and_whole_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each step takes 6 s. In the race of three, then two, a machine's seconds are shared."""
    taken = step_counted(monkeypatch, lambda step: None)
    monkeypatch.setattr("lastresort.rungs.rung.time", SimpleNamespace(monotonic=lambda: 6.0 * len(taken)))
    monkeypatch.setattr(loop, "quickest", lambda model, rows: 2)
    with opened(tmp_path, AtOnce(), Scissors()) as bench:
        training = SupervisedTraining(bench, "sft", bench.task.sft, method_of(bench.task))
        with pinned(1), monkeypatch.context() as worker:
            worker.setattr(loop, "allowed", lambda model: (1,))
            rate = training.race()
        monkeypatch.setattr(loop, "allowed", lambda model: (2, 1))
        training.train_lap(rate, 8)
        training.close()
        reached = bench.record.all(TrainingReached)
    assert [one.threads for one in reached] == [1] * 5 + [2]
    seconds = [3 * 6 / 3] * 3 + [3 * 6 / 3 + 4 * 6 / 2] * 2 + [3 * 6 / 3 + 4 * 6 / 2 + 6]
    assert [one.seconds for one in reached] == pytest.approx(seconds)


def step_counted(monkeypatch: pytest.MonkeyPatch, at: Callable[[int], None]) -> list[int]:
    """Call this with the number of each step of training, before it is taken. Returns where steps are counted."""
    taken, take_step = list[int](), loop.take_step

    def counted(*arguments: Any) -> Any:
        taken.append(len(taken))
        at(taken[-1])
        return take_step(*arguments)

    monkeypatch.setattr(loop, "take_step", counted)
    return taken


@pytest.mark.slow
def test_a_lap_whose_worker_is_killed_goes_on_elsewhere_from_its_checkpoint(
    tmp_path: Path, alone: tuple[Raced, dict[str, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the second step of the first lap, and in the second of the second round, after a checkpoint at every step."""
    monkeypatch.setattr(loop, "CHECKPOINT_EVERY_S", -1.0)

    def killed(step: int) -> None:
        if step in (1, 3 * 3 + 1 + 1):
            raise Killed

    taken, workers = step_counted(monkeypatch, killed), AtOnce(room=1)
    found = raced(tmp_path, workers)
    assert same(found, alone[0])
    assert tuned_files(tmp_path / "run") == alone[1]
    assert workers.losses == 2
    assert len(taken) == 3 * 3 + 2 * 4 + 2, "only the killed steps are done again"
    assert "A worker was lost (killed). Its training goes to another one." in found.said


@pytest.mark.sampled_slow(2)
@pytest.mark.slow
@pytest.mark.parametrize("again", [None, AtOnce])
def test_laps_that_are_stopped_save_and_go_on_with_workers_or_without(
    again: type[AtOnce] | None,
    tmp_path: Path,
    alone: tuple[Raced, dict[str, bytes]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In the second of three laps. A worker beside the driver hears of it in the middle of its lap."""
    stop, first = StopSignal(), AtOnce(room=1)
    taken = step_counted(monkeypatch, lambda step: stop.request() if step == 3 + 1 else None)
    tell = tmp_path / "run" / LAPS / "stop"
    own = loop.take_step

    def heard(*arguments: Any) -> Any:
        found = own(*arguments)
        if stop.requested() is not None:
            tell.touch()
        return found

    with monkeypatch.context() as patch:
        patch.setattr(loop, "take_step", heard)
        with pytest.raises(StopRequestedError, match="asked to stop"):
            raced(tmp_path, first, stop)
    assert len(taken) == 3 + 2
    assert not (tmp_path / "run" / "stop").exists(), "which would say that somebody else stopped it"
    found = raced(tmp_path, None if again is None else again())
    assert same(found, alone[0])
    assert len(taken) == 3 * 3 + 2 * 4, "no step is done twice"


@pytest.mark.slow
def test_a_lap_without_memory_says_so_and_goes_on_in_smaller_passes(
    tmp_path: Path, alone: tuple[Raced, dict[str, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def eating(*_: Any) -> Any:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(gradients, "_share", eating)
        with pytest.raises(InfrastructureError, match=r"worker on .*not enough memory.*then trains with max_pass_tok"):
            raced(tmp_path, AtOnce(room=1))
    with opened(tmp_path, None, Scissors()) as bench:
        [lowered] = bench.record.all(PassLowered)
        assert lowered.candidate == "lr0.001"
    assert raced(tmp_path, AtOnce()).rate == alone[0].rate


@pytest.mark.slow
def test_a_rate_that_diverges_drops_out_as_in_one_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    take_step = loop.take_step

    def diverging(optimizer: Any, rate: float, norm: float) -> float:
        return float("nan") if rate > 0.003 else take_step(optimizer, rate, norm)

    monkeypatch.setattr(loop, "take_step", diverging)
    plain, found = raced(tmp_path / "alone"), raced(tmp_path / "ray", AtOnce(1))
    assert same(found, plain)
    assert [lap.dev_loss is None for lap in found.laps] == [False, False, True, False, False]
    [said] = [line for line in found.said if "drops out" in line]
    assert said in plain.said


class OnAnotherDisk(AtOnce):
    def send(self, worker: int, number: int, job: AnyJob) -> None:
        assert isinstance(job, LapJob)
        other = replace(job.bench, proof=job.run.with_name("other") / job.bench.proof.name)
        super().send(worker, number, replace(job, bench=other))


@pytest.mark.slow
def test_a_worker_that_sees_another_folder_trains_nothing(tmp_path: Path) -> None:
    workers = OnAnotherDisk()
    with pytest.raises(
        PrerequisiteError, match=r"worker on .*folder here is not the one.*Go on with --resume, without --ray\."
    ):
        raced(tmp_path, workers)
    assert not (tmp_path / "run" / "checkpoints").exists()
    assert workers._workers == {}


class SecondOnAnotherDisk(AtOnce):
    """It comes back first."""

    def __init__(self) -> None:
        super().__init__()
        self._random.choice = lambda busy: max(busy, key=self._fails)  # type: ignore[method-assign, assignment]

    def send(self, worker: int, number: int, job: AnyJob) -> None:
        assert isinstance(job, LapJob)
        if job.lap.run == "lr0.003":
            job = replace(job, bench=replace(job.bench, proof=job.run / "none"))
        super().send(worker, number, job)

    def _fails(self, worker: int) -> bool:
        return cast(LapJob, self._queued[worker][0][1]).bench.proof.name == "none"


def test_a_lap_that_fails_is_heard_of_before_those_ahead_of_it_are_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = step_counted(monkeypatch, lambda step: None)
    with pytest.raises(PrerequisiteError, match=r"folder here is not the one"):
        raced(tmp_path, SecondOnAnotherDisk())
    assert taken == [], "the others save"


class OnABadDisk(AtOnce):
    """Damages the record of the first lap that is back."""

    journal = b""

    def next(self, timeout_s: float) -> News | None:
        news = super().next(timeout_s)
        if isinstance(news, JobBack) and not self.journal:
            job = self.jobs[0]
            path = job.own / FILE_NAME
            self.journal = path.read_bytes()[18:20]
            path.write_bytes(path.read_bytes()[:4096] + b"damaged" * 2000)
        return news


@pytest.mark.slow
def test_a_lap_whose_record_is_damaged_is_trained_again(tmp_path: Path, alone: tuple[Raced, dict[str, bytes]]) -> None:
    """Where it is taken over, and where a climb that was cut off goes on. A rollback journal works on a shared disk."""
    left = tmp_path / "run" / LAPS / "000-lr0.001" / FILE_NAME
    left.parent.mkdir(parents=True)
    left.write_bytes(b"damaged" * 2000)
    workers = OnABadDisk()
    found = raced(tmp_path, workers)
    assert workers.journal == b"\1\1", "the file format of a rollback journal, not of a WAL"
    assert (found.rate, sorted(found.laps, key=str)) == (alone[0].rate, sorted(alone[0].laps, key=str))
    dropped = [line for line in found.said if "is dropped: found a damaged or foreign file" in line]
    assert len(dropped) == 2
    assert tuned_files(tmp_path / "run") == alone[1]


class OfAnotherModel(AtOnce):
    def next(self, timeout_s: float) -> News | None:
        news = super().next(timeout_s)
        if (
            not isinstance(news, JobBack)
            or not isinstance(news.found.result, LapBack)
            or news.found.result.kept is None
        ):
            return news
        name, _ = news.found.result.kept
        return replace(news, found=JobTrained(replace(news.found.result, kept=(name, "other"))))


@pytest.mark.slow
def test_a_model_that_is_not_the_one_of_the_worker_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"the model here is not the one that the worker trained.*--resume"):
        raced(tmp_path, OfAnotherModel())


def test_what_one_process_does_as_quickly_it_does_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One lap alone, and laps on a machine with room for one."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    sent = list[int]()
    with opened(tmp_path, None, Scissors()) as bench:
        own = replace(bench, train_laps=lambda _, laps: sent.append(len(laps)))
        lap = cast(RaceLap, None)
        own.train_ahead([lap])
        own.train_ahead([lap, lap])
        bench.train_ahead([lap, lap])
    assert sent == [2]
    prepared = prepare(load_task(task_of(tmp_path)))
    for address in ("local", "auto"):
        room, progress = [2, 2, 1, 0], Scissors()
        workers = partial(WorkersHere, room=room.pop)
        cluster = SimpleNamespace(
            address=address, machines=None, room=WorkerRoom(1), workers=lambda _, workers=workers: workers()
        )
        started = _laps_at(cast(Any, cluster), prepared)
        assert [started("sft", progress) is None for _ in range(4)] == [True, True, False, False]
        assert progress.said == [laps_here_line("1 CPU", address), training_workers_line(2, "1 CPU", address)]


@pytest.mark.parametrize(("set_by_user", "cards", "says"), [("", 0, True), ("1", 0, False), ("", 1, False)])
def test_workers_of_fewer_threads_than_the_forecast_counts_are_said_to_be(
    set_by_user: str, cards: int, says: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", set_by_user)
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    monkeypatch.setattr("lastresort.app.spread.cores", lambda: 8)
    room, progress = WorkerRoom(1, cards=cards), Scissors()
    cluster = SimpleNamespace(address="local", machines=None, room=room, workers=lambda _: WorkersHere())
    _laps_at(cast(Any, cluster), prepare(load_task(task_of(tmp_path))))("sft", progress)
    [said] = progress.said
    assert said == training_workers_line(2, "1 CPU", "local", 8 if says else None)
    assert ("one process on 8 CPUs; OMP_NUM_THREADS" in said) == says


def test_what_one_card_cannot_hold_the_driver_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As without --ray: after all prompts were paid nothing is refused."""
    prepared, progress = prepare(load_task(task_of(tmp_path))), Scissors()
    cluster = SimpleNamespace(
        address="auto", machines=None, room=WorkerRoom(1, cards=1), workers=lambda _: pytest.fail("a worker")
    )
    monkeypatch.setattr("lastresort.climb.workload.card_here", lambda **_: Card("small", 1000))
    started = _laps_at(cast(Any, cluster), prepared)
    assert [started("sft", progress) for _ in range(2)] == [None, None]
    [said] = progress.said
    assert said.startswith("Ray (auto): weights, gradients and the optimizer's state take ")
    assert "the GPU here has 0.0 GiB, and a worker trains on one. This process trains" in said


def test_the_seconds_of_a_worker_are_those_of_its_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lastresort.rungs.rung.time.monotonic", lambda: 40.0)
    with opened(tmp_path, None, Scissors()) as bench:
        assert bench.clock() == 40.0
        assert replace(bench, share=0.25).clock() == 10.0
