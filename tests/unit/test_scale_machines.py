"""One training on several machines of a cluster: which are taken, what is refused, and what is heard of those that are lost."""

from __future__ import annotations

import socket
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from test_scale import NoSuchRay

from lastresort.app import dry_run
from lastresort.app.spread import _laps_at, climb_on_ray, machines_of, study_on_ray
from lastresort.app.start import ClimbRequest, start_climb
from lastresort.climb.prepare import prepare
from lastresort.errors import InfrastructureError, PrerequisiteError, StopRequestedError
from lastresort.records.training import TrainedSteps
from lastresort.report.words.progress import laps_here_line
from lastresort.rungs import divided
from lastresort.rungs.divided import Division, division_of, refuse_more_than_cards
from lastresort.scale import machines as own
from lastresort.scale.cluster import ClusterHead, WorkerRoom
from lastresort.scale.machines import MachineActor, RayMachines, RayPlaces, interface_of
from lastresort.scale.work import PROOF
from lastresort.spec.task import Task, load_task
from lastresort.stop import NEVER, StopSignal
from lastresort.train.loop import spawn
from lastresort.train.loop.processes import ProcessLost
from lastresort.train.loop.spawn import HERE, Meeting, PlaceEnd, Places, TrainingProcesses, training_environment
from lastresort.train.loop.spawned import ProgressCall, SpawnedTraining, TrainingEnd
from lastresort.types import SilentProgress
from scale_support import WorkersHere
from tuning_support import Scissors, tiny_task

STEPS: dict[str, Any] = {"step": 1, "steps": 1, "computed_tokens": 1, "nominal_tokens": 1, "seconds": 1.0}
TRAINED = TrainedSteps(**STEPS, path="packed", reason=None, check=None, processes=2, sharded=False)


@pytest.fixture
def head() -> Iterator[str]:
    with socket.create_server((HERE, 0)) as server:
        yield f"{HERE}:{server.getsockname()[1]}"


class NodesRay(NoSuchRay):
    """The driver is on the first of its nodes."""

    def get_node_id(self) -> str:
        return "0"


def machines(head: str, sizes: list[tuple[int, int]], room: WorkerRoom | None = None) -> RayMachines:
    """sizes: CPUs and GPUs of each."""
    nodes = [
        {"NodeID": str(n), "Alive": True, "Resources": {"CPU": float(cpus), "GPU": float(cards)}}
        for n, (cpus, cards) in enumerate(sizes)
    ]
    gone = {"NodeID": "gone", "Alive": False, "Resources": {"CPU": 999.0, "GPU": 999.0}}
    return RayMachines(NodesRay(head, [*nodes, gone]), room or WorkerRoom(1), {})


@pytest.mark.parametrize(
    ("sizes", "count", "taken"),
    [
        ([(8, 0), (8, 0)], 8, 1),
        ([(8, 0), (8, 0)], 16, 2),
        ([(8, 0), (8, 0)], 10, 2),
        ([(8, 0), (8, 0)], 9, None),  # as many on each
        ([(8, 0), (8, 0), (3, 0)], 9, 3),
        ([(8, 0), (8, 0)], 17, None),
        ([(1, 0), (8, 0)], 8, 1),  # on another than the driver's
        ([(4, 0), (4, 0), (4, 0), (4, 0)], 8, 2),
        ([(1, 0), (1, 0)], 2, 2),
    ],
)
def test_the_fewest_machines_are_taken_with_as_many_processes_on_each(
    sizes: list[tuple[int, int]], count: int, taken: int | None, head: str
) -> None:
    assert machines(head, sizes).taken_by(count) == taken


def test_a_process_needs_its_threads_and_its_card(head: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert machines(head, [(8, 0), (8, 0)], WorkerRoom(4)).taken_by(4) == 2
    monkeypatch.setattr(own, "card_count", lambda: 8)
    cards = WorkerRoom(2, cards=1)
    assert machines(head, [(64, 8), (64, 8)], cards).taken_by(16) == 2
    assert machines(head, [(64, 8), (64, 4)], cards).taken_by(16) is None
    assert machines(head, [(64, 8), (8, 8)], cards).taken_by(16) is None, "with two threads for each"
    assert machines(head, [(1, 8)], cards).taken_by(8) == 1, "as without a cluster"


class Taking:
    """Machines by how many processes they have room for together, two machines."""

    def __init__(self, most: int) -> None:
        self._most = most

    def taken_by(self, count: int) -> int | None:
        return 2 if count <= self._most else None

    def start(self, *_: object) -> Places:
        raise AssertionError


def task(folder: Path, processes: int) -> Task:
    return load_task(tiny_task(folder, ladder=["sft"], tune={"processes": processes}))


def test_more_processes_than_cards_need_a_cluster_that_has_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(divided, "card_count", lambda: 8)
    found = task(tmp_path, 16)
    refuse_more_than_cards(found, Taking(16))
    with pytest.raises(PrerequisiteError, match=r"at most 8, one for each CUDA GPU here\. .*--ray\.$"):
        refuse_more_than_cards(found)
    lacking = (
        r"at most 8, one for each CUDA GPU here, or as many on each of several machines of the cluster\. .* auto\.$"
    )
    with pytest.raises(PrerequisiteError, match=lacking):
        refuse_more_than_cards(found, Taking(12))
    bench: Any = SimpleNamespace(task=found, processes=TrainingProcesses(Taking(16)))
    assert division_of(bench, cast(Any, None), [], None) == Division(16, machines=2)
    bench.processes = TrainingProcesses(Taking(12))
    with pytest.raises(PrerequisiteError, match="found 16"):
        division_of(bench, cast(Any, None), [], None)


def test_what_the_cluster_has_is_checked_once_it_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And before anything is spent: no folder is made."""
    monkeypatch.setattr(divided, "card_count", lambda: 8)
    found = task(tmp_path, 16)
    assert dry_run.missing(found, ["sft"], gated=False, ray="auto") == []
    for address in (None, "local"):
        assert machines_of(address) is None
        assert "found 16" in str(dry_run.missing(found, ["sft"], gated=False, ray=address))
    cluster = SimpleNamespace(address="auto", machines=Taking(12), room=WorkerRoom(1), workers=lambda _: WorkersHere())

    class Connected:
        def __enter__(self) -> Any:
            return cluster

        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr("lastresort.app.spread._connected", lambda *_: Connected())
    monkeypatch.setattr("lastresort.app.spread.training_room", lambda *_: WorkerRoom(1, processes=16))
    request = ClimbRequest(found, run=tmp_path / "run", ray="auto")
    with pytest.raises(PrerequisiteError, match=r"found 16, expected at most 8, .* machines of the cluster"):
        start_climb(request, SilentProgress())
    assert not (tmp_path / "run").exists()
    monkeypatch.setattr("lastresort.app.spread.refuse_study_on_ray", lambda *_: None)
    with (
        pytest.raises(PrerequisiteError, match=r"found 16, expected at most 8, .* machines of the cluster"),
        study_on_ray("auto", found, prepare(found), SilentProgress()),
    ):
        pytest.fail("it began")
    cluster.machines = Taking(16)
    cluster.workers = lambda _: WorkersHere(room=lambda: 0)
    said = Scissors()
    with (
        study_on_ray("auto", found, prepare(found), said) as study,
        climb_on_ray("auto", prepare(found), said) as climb,
    ):
        assert study is not None
        assert climb is not None
        assert (study.train, study.machines, climb.machines) == (None, cluster.machines, cluster.machines)
    assert _laps_at(cast(Any, cluster), prepare(found))("sft", said) is None
    assert said.said == [laps_here_line("1 CPU", "auto", 2)] * 2
    assert said.said[0].endswith("This process trains, with the processes of a training run on 2 machines.")


def test_processes_of_several_machines_meet_at_the_address_of_the_driver_on_the_interface_of_their_own() -> None:
    known = {"OMP_NUM_THREADS": "2", "NCCL_SOCKET_IFNAME": "ib0"}
    found = training_environment(known, 16, 1234, here=8, address="10.0.0.5", interface="eth0")
    wanted = {"WORLD_SIZE": "16", "LOCAL_WORLD_SIZE": "8", "MASTER_ADDR": "10.0.0.5", "MASTER_PORT": "1234"}
    assert wanted.items() <= found.items()
    assert (found["GLOO_SOCKET_IFNAME"], found["NCCL_SOCKET_IFNAME"]) == ("eth0", "ib0"), "what the user has set stays"
    assert "GLOO_SOCKET_IFNAME" not in training_environment({}, 2, 1, interface=None)


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux")
def test_the_interface_is_the_one_that_has_the_address() -> None:
    assert interface_of(HERE) == "lo"
    assert interface_of("203.0.113.77") is None


@pytest.mark.parametrize(
    ("proof", "model", "said"),
    [(False, True, r"shared on .*: the folder here is not"), (True, False, r"model on .*: the model is not here")],
)
def test_a_machine_that_sees_another_folder_or_no_model_is_refused(
    proof: bool, model: bool, said: str, tmp_path: Path
) -> None:
    for name, is_there in (("shared/.seen-1", proof), ("model/config.json", model)):
        (tmp_path / name).parent.mkdir()
        if is_there:
            (tmp_path / name).touch()
    actor = MachineActor.__new__(MachineActor)
    with pytest.raises(PrerequisiteError, match=said):
        actor.start(tmp_path / "shared" / ".seen-1", tmp_path / "model", range(2), 2, HERE, 1)


@pytest.mark.parametrize("open_port", [True, False])
def test_a_machine_that_does_not_reach_the_driver_is_refused_before_its_processes_try(
    open_port: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = list[range]()
    monkeypatch.setattr(own, "LocalPlaces", lambda places, _: started.append(places))
    for name in ("seen", "config.json"):
        (tmp_path / name).touch()
    meeting = Meeting()
    port = meeting.port
    if not open_port:
        meeting.close()
    actor = MachineActor.__new__(MachineActor)
    given = tmp_path / "seen", tmp_path, range(2), 4, HERE, port
    if open_port:
        actor.start(*given)
        meeting.close()
    else:
        with pytest.raises(PrerequisiteError, match=rf"nobody answers at {HERE}:{port}, where .* Open the ports"):
            actor.start(*given)
    assert started == [range(2)] * open_port


def test_a_ray_address_that_no_interface_has_is_refused_in_words() -> None:
    with pytest.raises(PrerequisiteError, match=r"at 203\.0\.113\.77: no process can meet .*--node-ip-address"):
        own._meeting_at("203.0.113.77")


def test_what_a_killed_driver_left_to_show_the_disk_goes_with_the_next_start(
    head: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RayMachines, "_results", lambda *_: [])
    (tmp_path / f"{PROOF}of-a-killed-one").touch()
    given: Any = SimpleNamespace(folder=tmp_path / "sft-lr0.001", model=SimpleNamespace(folder=tmp_path))
    found, met = machines(head, [(1, 0)]), cast(Meeting, SimpleNamespace(address=HERE, port=1))
    found._start_each([], 2, given, met, NEVER, {"CPU": 1.0})
    assert list(tmp_path.iterdir()) == []


class Actor:
    """says: what each exchange brings, or raises. got: the messages that came. ended: how its processes did."""

    def __init__(self, *says: Any, ended: PlaceEnd | None = None) -> None:
        self.says, self.got = deque(says), list[tuple[int, bytes]]()
        self.exchange = SimpleNamespace(remote=self._exchange)
        self.ended = SimpleNamespace(remote=lambda place: lambda: ended or PlaceEnd(-9))
        self.end = SimpleNamespace(remote=lambda: list)

    def _exchange(self, messages: list[tuple[int, bytes]]) -> Callable[[], Any]:
        self.got += messages

        def found() -> Any:
            news = self.says.popleft() if self.says else []
            if isinstance(news, Exception):
                raise news
            return news

        return found


class CallingRay(NoSuchRay):
    def get(self, ref: Any, timeout: float | None = None) -> Any:
        return ref()


LOST = NoSuchRay.exceptions.RayError("The actor died.\nIts node has died.")


def places(head: str, *actors: Actor, on_each: int = 1) -> RayPlaces:
    ray = CallingRay(head)
    found = [own._Machine(actor, f"node-{n}", range(n * on_each, (n + 1) * on_each)) for n, actor in enumerate(actors)]
    meeting = cast(Meeting, SimpleNamespace(close=lambda: None))
    return RayPlaces(ray, ClusterHead(ray, lambda: 0.0, lambda _: None), None, found, meeting)


def test_what_is_said_reaches_each_process_and_what_they_say_comes_back(head: str) -> None:
    step, end = ProgressCall("say", ("hello",)), TrainingEnd(TRAINED)
    first, second = Actor([(0, step)], [(0, end)]), Actor([(1, TrainingEnd(TRAINED))])
    said = Scissors()
    found = spawn._trained_at(places(head, first, second), 2, job(), lambda _: None, NEVER, said)
    assert found is TRAINED
    assert said.said == ["hello"]
    assert [[place for place, _ in one.got] for one in (first, second)] == [[0], [1]]


def job() -> SpawnedTraining:
    return cast(SpawnedTraining, "any, as it only travels")


@pytest.mark.parametrize("silent", [False, True], ids=["the others say so", "the others say nothing"])
def test_a_machine_that_is_lost_is_named_whatever_the_others_say_of_it(
    silent: bool, head: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where Ray sees it later than they do."""
    monkeypatch.setattr(spawn, "OTHERS_S", 0.0)
    says_so = TrainingEnd(error=ProcessLost("another process of this run has ended"))
    first = Actor() if silent else Actor([(0, says_so), (1, says_so)])
    second = Actor([], [], [], LOST)
    with pytest.raises(InfrastructureError) as found:
        spawn._trained_at(places(head, first, second, on_each=2), 4, job(), lambda _: None, NEVER, SilentProgress())
    assert str(found.value) == (
        "training: the machine node-1, which had process 3 of 4 that train together, is lost (Its node has died), expected all of "
        "them to run to the end. Check the cluster, or train in fewer processes (tune.processes)."
    )


def test_a_machine_that_is_lost_while_processes_look_for_each_other_is_named_not_who_ended_for_want_of_it(
    head: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spawn, "OTHERS_S", 0.0)
    first, second = Actor([(0, None)], ended=PlaceEnd(1, "Connection closed by peer")), Actor([], [], [], LOST)
    with pytest.raises(InfrastructureError, match="the machine node-1, which had process 2 of 2"):
        spawn._trained_at(places(head, first, second), 2, job(), lambda _: None, NEVER, SilentProgress())


def test_a_stop_is_heard_while_processes_look_for_each_other(head: str) -> None:
    """Which they do for an hour where a port is closed."""
    stop = StopSignal()
    stop.request()
    silent = Actor([], [], [], LOST)
    with pytest.raises(StopRequestedError, match="a signal asked to stop"):
        spawn._trained_at(places(head, silent), 1, job(), lambda _: None, stop, SilentProgress())


def test_a_process_that_was_killed_on_another_machine_is_named_with_it(head: str) -> None:
    first, second = Actor([(0, TrainingEnd(error=ProcessLost("gone")))]), Actor([(1, None)])
    with pytest.raises(InfrastructureError, match=r"process 2 of 2 that train together ended on node-1 \(SIGKILL\)"):
        spawn._trained_at(places(head, first, second), 2, job(), lambda _: None, NEVER, SilentProgress())


def test_machines_are_held_only_while_a_training_is_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else those that answer next would wait for their room."""
    ended = list[str]()

    class Started:
        kept, silence_s = False, 0.0

        def end(self) -> None:
            ended.append("ended")

    monkeypatch.setattr(spawn, "_trained_at", lambda *_: TRAINED)
    here = Taking(2)
    monkeypatch.setattr(here, "start", lambda *_: Started())
    processes = TrainingProcesses(here)
    given: Mapping[str, Any] = {"on_step": lambda _: None, "stop": NEVER, "progress": SilentProgress()}
    for _ in range(2):
        processes.train(job(), 2, **given)
    assert ended == ["ended"] * 2


def test_where_this_machine_is_enough_or_cores_are_shared_they_start_here(
    head: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = list[tuple[int, int]]()
    monkeypatch.setattr(own.LocalPlaces, "alone", lambda count: started.append((count, 1)))
    monkeypatch.setattr(RayMachines, "_started", lambda _, count, taken, *__: started.append((count, taken)))
    found, stages = machines(head, [(4, 0), (8, 0), (8, 0)]), Stages()
    for count in (4, 5, 16, 17):
        found.start(count, job(), NEVER, stages)
    assert started == [(4, 1), (5, 1), (16, 2), (17, 1)]
    assert stages.seen == ["starting 17 processes on this machine, since the cluster has too little room"]


class Stages(SilentProgress):
    def __init__(self) -> None:
        self.seen = list[str]()

    def stage(self, label: str, total: int | None = None) -> None:
        self.seen.append(label)


def test_a_training_that_waits_for_room_says_how_much_it_needs(head: str, monkeypatch: pytest.MonkeyPatch) -> None:
    groups = import_module("ray.util.placement_group")
    stop, stages = StopSignal(), Stages()
    stop.request()
    monkeypatch.setattr(groups, "placement_group", lambda *_, **__: SimpleNamespace(wait=lambda _: False))
    with pytest.raises(StopRequestedError):
        machines(head, [(1, 0), (8, 0), (8, 0)]).start(16, job(), stop, stages)
    assert stages.seen == ["waiting for 2 machines of the cluster with 8 CPUs free on each, at most 10 minutes"]
