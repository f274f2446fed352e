"""Commands on real Ray clusters: workers are killed, heads are lost, commands are stopped, and each ends as it would have alone."""

from __future__ import annotations

import fcntl
import json
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from climb_support import calls, comparable, scripted_task
from lastresort.errors import PrerequisiteError
from lastresort.evals.measure import JobScores, LocalExecutor, MeasureJob, Result, run_in_order
from lastresort.evals.scorers import build_scorer
from lastresort.gate.lm_eval.asking import CHUNK
from lastresort.records.responses import ResponseCache
from lastresort.rungs.open_models import OpenModels
from lastresort.scale.cluster import RayWorkers, WorkerRoom, ray_cluster
from lastresort.scale.crew import Crew
from lastresort.scale.executor import CrewExecutor
from lastresort.spec.output import Output
from lastresort.stop import NEVER
from lastresort.systems.system import PromptDesign, System
from lastresort.types import Decoding, Example, Message, SilentProgress
from logs_support import scored_by
from models_support import save_adapter
from processes_support import Program, programs_left
from ray_support import (
    OWN,
    SLOW_IN_PROC,
    Machine,
    answering,
    below,
    cluster,
    cluster_of_two,
    end,
    eventually,
    no_two_machines,
    processes,
    two_machines,
)
from scale_support import figures
from tiny_model import save_tiny_model
from tuning_support import COLOURS, tiny_task, write_jsonl

pytestmark = SLOW_IN_PROC


@pytest.fixture(autouse=True)
def one_cluster_at_a_time(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Also where several processes share the tests: they would find each other's."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    with (shared / "ray.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
        left = [*below(os.getpid(), "-m lastresort"), *programs_left()]  # where a test failed
        end([*left, *(process for program in left for process in below(program))])


QUALITY = [{"right": 0.5}, {"right": 0.95, "min_shots": 3}]
SLOW = {"delay_s": 0.01}  # so that a batch takes long enough to be cut
ONE_THREAD = {"OMP_NUM_THREADS": "1"}
SKIPPED = {"general": "skip", "sycophancy": "skip", "format_leak": "skip"}  # suites of a gate


Running = Program | subprocess.Popen[str]


def climb_words(task: Path, *arguments: str) -> list[str]:
    return ["climb", str(task), "--run", str(task.parent / "run"), "--gate", "none", *arguments]


def started(
    task: Path, *arguments: str, environment: Mapping[str, str] = MappingProxyType({}), inside: Path | None = None
) -> Program:
    """A climb. inside: the folder in which it is started."""
    return command(*climb_words(task, *arguments), environment=environment, inside=inside)


def command(*words: str, environment: Mapping[str, str], inside: Path | None) -> Program:
    return Program(*words, "--json", cwd=inside, environment={**os.environ, **OWN, **environment})


def interpreted(
    *words: str, environment: Mapping[str, str], inside: Path | None = None, at: Machine | None = None
) -> subprocess.Popen[str]:
    """The command in a new interpreter. at: None for this machine."""
    python = [sys.executable, "-P", "-m", "lastresort"]  # as the installed command, which imports nothing from `inside`
    pipe = subprocess.PIPE
    known = {**os.environ, **OWN, **environment}
    whole = [*python, *words, "--json"]
    whole = whole if at is None else at.inside(whole)
    return subprocess.Popen(whole, stdout=pipe, stderr=pipe, text=True, env=known, cwd=inside)


def ended(
    program: Running, code: int = 0, of: Callable[[dict[str, Any]], dict[str, Any]] = comparable
) -> tuple[dict[str, Any], str]:
    """Its decision, empty without one, and what it said. of: what is compared."""
    out, said = program.communicate(timeout=600)
    assert program.returncode == code, said
    return (of(json.loads(out)) if code == 0 else {}), said


def asked(folder: Path) -> Counter[str]:
    return Counter(call["key"] for call in calls(folder))


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Counter[str]]:
    """What a climb of the scripted model decides without Ray, and what it asks."""
    folder = tmp_path_factory.mktemp("alone")
    return ended(started(scripted_task(folder, quality=QUALITY)))[0], asked(folder)


def worker_killed(climb: Program) -> None:
    """Once the climb has a worker that is at a batch. Looking for it again before it is killed would find some batches done."""
    at_work = list[int]()

    def seen() -> bool:
        at_work[:] = answering(climb.pid)[:1]
        return bool(at_work) or climb.poll() is not None

    assert eventually(seen, 180)
    end(at_work)


@pytest.mark.release
def test_a_worker_killed_at_its_batch_changes_nothing_but_that_batch(
    alone: tuple[dict[str, Any], Counter[str]], tmp_path: Path
) -> None:
    climb = started(scripted_task(tmp_path / "ray", quality=QUALITY, script=SLOW), "--ray", "local")
    worker_killed(climb)
    helpers = set(below(climb.pid))
    found, said = ended(climb)
    assert found == alone[0]
    assert "A worker was lost" in said
    assert "up to 2 workers with 1 CPU each" in said or (os.cpu_count() or 1) != 2
    again = asked(tmp_path / "ray") - alone[1]
    assert alone[1] - asked(tmp_path / "ray") == Counter()
    assert sum(again.values()) <= 64, "at most the killed batch"
    assert eventually(lambda: not processes().keys() & helpers)


def test_weights_decide_the_same_to_the_digit_also_when_a_worker_is_killed(tmp_path: Path) -> None:
    model = save_tiny_model(tmp_path / "model")
    task = {"model": str(model), "ladder": ["prompting"]}
    alone, _ = ended(started(scripted_task(tmp_path / "alone", quality=[], task=task)))
    climb = started(scripted_task(tmp_path / "ray", quality=[], task=task), "--ray", "local")
    worker_killed(climb)
    assert ended(climb)[0] == alone


def test_no_process_of_a_local_cluster_has_a_key_or_imports_from_the_folder_in_which_a_climb_is_started(
    tmp_path: Path,
) -> None:
    """The files of a task that somebody else made may lie there."""
    secret = {"OPENAI_API_KEY": "sk-4f1d6c0b", "HF_TOKEN": "hf-4f1d6c0b", "LASTRESORT_API_KEYS": "host=4f1d6c0b"}
    secret |= {"DB_PASSWORD": "pw-4f1d6c0b", "LASTRESORT_PASS_ENV": "DB_PASSWORD"}
    task = scripted_task(tmp_path, quality=QUALITY, script=SLOW)
    for name in ("numpy", "pydantic", "lastresort"):
        (tmp_path / f"{name}.py").write_text(
            f"open({str(tmp_path / 'was imported')!r}, 'w').close()\n", encoding="utf-8"
        )
    climb = interpreted(*climb_words(task, "--ray", "local"), environment=secret, inside=tmp_path)
    assert eventually(lambda: answering(climb.pid) or climb.poll() is not None)
    watcher = set(
        below(climb.pid, "-m lastresort")
    )  # a copy of the driver, which waits for signals and for nothing else
    helpers = [one for one in below(climb.pid) if one not in watcher]
    names = " ".join(processes()[one][1] for one in helpers if one in processes())
    assert all(name in names for name in ("gcs_server", "raylet", "ray::RayActor"))
    assert b"4f1d6c0b" in Path(f"/proc/{climb.pid}/environ").read_bytes()
    for one in helpers:
        with suppress(OSError):  # ended meanwhile
            assert b"4f1d6c0b" not in Path(f"/proc/{one}/environ").read_bytes(), processes()[one][1]
    ended(climb)
    assert not (tmp_path / "was imported").exists()


@pytest.mark.release
def test_one_process_connects_to_one_cluster_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    before = dict(os.environ)
    with ray_cluster("local") as ray:
        first = ray.cluster_resources()["CPU"]
    assert dict(os.environ) == before
    with cluster() as (address, _, _):
        for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN"):
            monkeypatch.setenv(name, OWN[name])
        monkeypatch.setenv("RAY_ADDRESS", address)
        for there in (address, "auto"):
            with ray_cluster(there) as ray:
                assert ray.cluster_resources()["CPU"] == 2
        monkeypatch.setenv("RAY_AUTH_TOKEN", "f" * 64)
        with (
            pytest.raises(PrerequisiteError, match="Check that RAY_AUTH_TOKEN is the cluster's token"),
            ray_cluster(address),
        ):
            pass
    with ray_cluster("local") as ray:
        assert ray.cluster_resources()["CPU"] == first


@pytest.mark.release
def test_weights_and_an_adapter_in_relative_folders_are_found_by_a_cluster_that_started_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_tiny_model(tmp_path / "model")
    save_adapter(tmp_path / "model", tmp_path / "adapter")
    monkeypatch.chdir(tmp_path)
    for name, value in OWN.items():
        monkeypatch.setenv(name, value)
    system = System("s", "./model", PromptDesign("Say it."), Decoding(4), adapter=Path("adapter"))
    rows = tuple(Example(f"{n}", (Message("user", f"case {n}"),), "x") for n in range(8))
    found = list[Result]()
    with cluster() as (address, _, _), ray_cluster(address) as ray, ResponseCache(tmp_path / "cache") as cache:
        models = OpenModels(cache, base_folder=Path(), base_name="./model", tuned_name="./model")
        local = LocalExecutor(models.answerer, build_scorer("exact", {}), Output(), SilentProgress(), lambda usd: None)
        crew = Crew(RayWorkers(ray, WorkerRoom(1), {"PYTHONPATH": os.environ.get("PYTHONPATH", "")}), print)
        executor = CrewExecutor(local, models, crew)
        jobs = [MeasureJob(0, system, rows)]
        run_in_order(executor, jobs, lambda job, result: found.append(result), NEVER)
        crew.release()
        models.close()
    assert isinstance(found[0], JobScores)
    assert len(found[0].items) == 8


@pytest.mark.release
def test_a_lost_head_leaves_a_run_that_resumes_without_ray(
    alone: tuple[dict[str, Any], Counter[str]], tmp_path: Path
) -> None:
    task = scripted_task(tmp_path / "ray", quality=QUALITY, script=SLOW)
    with cluster() as (address, head, node):
        climb = started(task, "--ray", address)
        assert eventually(lambda: answering(node) or climb.poll() is not None, 120)
        end([head, node])
        _, said = ended(climb, 4)
    assert "the head of the cluster is lost" in said
    assert "Check the cluster, or leave --ray out. Go on with --resume." in said
    assert ended(started(task, "--resume"))[0] == alone[0]


@pytest.mark.release
@pytest.mark.parametrize(
    ("number", "then"), [(signal.SIGTERM, ("--ray", "local")), (signal.SIGINT, ()), (signal.SIGKILL, ())]
)
def test_a_climb_that_is_stopped_leaves_no_worker_and_resumes_with_ray_or_without(
    number: signal.Signals, then: tuple[str, ...], alone: tuple[dict[str, Any], Counter[str]], tmp_path: Path
) -> None:
    task = scripted_task(tmp_path / "ray", quality=QUALITY, script=SLOW)
    climb = started(task, "--ray", "local")
    assert eventually(lambda: answering(climb.pid) or climb.poll() is not None)
    helpers, workers = set(below(climb.pid)), set(below(climb.pid, "ray::RayActor"))
    climb.send_signal(number)
    ended(climb, {signal.SIGTERM: 4, signal.SIGINT: 130, signal.SIGKILL: -9}[number])
    awaited = workers if number == signal.SIGKILL else helpers  # Ray's own agents take minutes to see that all is over
    assert eventually(lambda: not processes().keys() & awaited)
    end([*processes().keys() & helpers])
    assert ended(started(task, "--resume", *then))[0] == alone[0]


def gate(
    folder: Path,
    *arguments: str,
    task: Mapping[str, Any] = MappingProxyType({"keep": {**SKIPPED, "format_leak": 0.3}}),  # one suite, of few items
    environment: Mapping[str, str] = MappingProxyType({}),
) -> Program:
    """Of an adapter against its base in this folder, which are made if they are not there yet."""
    if not (folder / "task.yaml").exists():
        own = {"model": "./model", "split": {"dev": 20, "test": 60}, **task}
        scripted_task(folder, quality=[], task=own)
        save_tiny_model(folder / "model")
        save_adapter(folder / "model", folder / "adapter")
    cache = {"LASTRESORT_CACHE": str(folder / "cache")}  # else the base would not be asked a second time
    known = {**cache, **environment}
    return command("gate", "task.yaml", "--tuned", "adapter", *arguments, environment=known, inside=folder)


@pytest.fixture(scope="module")
def gate_alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return ended(gate(tmp_path_factory.mktemp("gate")), of=figures)[0]


@pytest.mark.release
def test_a_gate_of_weights_is_that_of_one_process_to_the_digit_also_when_a_worker_is_killed(
    gate_alone: dict[str, Any], tmp_path: Path
) -> None:
    program = gate(tmp_path, "--ray", "local")
    worker_killed(program)
    helpers = set(below(program.pid))
    found, said = ended(program, of=figures)
    assert found == gate_alone
    assert "A worker was lost" in said
    assert found["suites"][-1]["n"] >= 48
    assert eventually(lambda: not processes().keys() & helpers)


@pytest.mark.release
def test_documents_of_lm_eval_are_answered_by_workers_to_the_digit_also_when_one_is_killed(tmp_path: Path) -> None:
    pytest.importorskip("lm_eval")
    task = {"keep": SKIPPED, "general": ["lm_eval:tasks"]}
    found = list[dict[str, Any]]()
    for name in ("alone", "ray"):
        folder = tmp_path / name
        scored_by(folder / "tasks", "return {'exact_match': float(sum(map(ord, results[0])) % 5 > 0)}", 200)
        offline = {"HF_DATASETS_OFFLINE": "1", "HF_DATASETS_CACHE": str(tmp_path / "datasets"), **ONE_THREAD}
        arguments = ("--ray", "local") if name == "ray" else ()
        program = gate(folder, *arguments, task=task, environment=offline)
        if name == "ray":
            worker_killed(program)
        gated, said = ended(program, of=figures)
        found.append(gated)
    assert "A worker was lost" in said
    assert found[0] == found[1]
    letters, words = found[0]["suites"][-2:]
    assert letters["verdict"] == "UNINFORMATIVE", "what a random base only guesses"
    assert words["n"] > 2 * CHUNK
    assert 0 < words["base"] < 1


@pytest.mark.release
def test_a_gate_whose_head_is_lost_goes_on_with_the_same_command_without_ray(
    gate_alone: dict[str, Any], tmp_path: Path
) -> None:
    with cluster() as (address, head, node):
        program = gate(tmp_path, "--ray", address)
        assert eventually(lambda: answering(node) or program.poll() is not None, 180)
        end([head, node])
        _, said = ended(program, 4)
    assert "the head of the cluster is lost" in said
    assert "Check the cluster, or leave --ray out. Give the same command again" in said
    assert ended(gate(tmp_path), of=figures)[0] == gate_alone


@pytest.mark.release
def test_a_gate_that_is_stopped_leaves_no_worker_and_goes_on(gate_alone: dict[str, Any], tmp_path: Path) -> None:
    program = gate(tmp_path, "--ray", "local")
    assert eventually(lambda: answering(program.pid) or program.poll() is not None, 180)
    helpers = set(below(program.pid))
    (tmp_path / "gates" / "routing-1" / "stop").touch()
    _, said = ended(program, 4)
    assert "Give the same command again" in said
    assert eventually(lambda: not processes().keys() & helpers)
    assert ended(gate(tmp_path), of=figures)[0] == gate_alone


def study(folder: Path, *arguments: str) -> Program:
    """Whose trainings take some seconds each, in this folder."""
    sft = {"learning_rates": [0.003], "epochs": 20, "r": 4, "replay": 0.1}
    if not (folder / "task.yaml").exists():
        tiny_task(folder, output={"choices": list(COLOURS)}, score="choice", sft=sft)
    own = ["study", "min-data", "task.yaml", "--sizes", "16,40", "--seeds", "2", "--out", "own"]
    return command(*own, *arguments, environment=ONE_THREAD, inside=folder)


def rows(folder: Path) -> list[dict[str, Any]]:
    """In one order: workers train the largest number of examples first."""
    found = [json.loads(line) for line in (folder / "own" / "rows.jsonl").read_text("utf-8").splitlines()]
    kept = [{name: value for name, value in row.items() if name not in ("seconds", "answer_s")} for row in found]
    return sorted(kept, key=lambda row: (row["seed"], row["n"], row["way"]))


@pytest.fixture(scope="module")
def study_alone(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("study")
    ended(study(folder), of=dict)
    return rows(folder)


def training(program: Program, root: int | None = None) -> list[int]:
    """Its workers that train. root: the process below which they are, None for its own."""
    assert program.poll() is None, program.communicate()[1]
    return below(root or program.pid, "ray::RayActor.train")


@pytest.mark.release
def test_trainings_of_a_study_are_those_of_one_process_to_the_digit_also_when_a_worker_is_killed(
    study_alone: list[dict[str, Any]], tmp_path: Path
) -> None:
    half = tmp_path / "own" / "cells"
    with cluster() as (address, _, node):
        program = study(tmp_path, "--ray", address)
        assert eventually(lambda: len(training(program, node)) == 2 and list(half.glob("*/adapters/*-half")), 300)
        end(training(program, node)[:1])
        _, said = ended(program, of=dict)
    assert rows(tmp_path) == study_alone
    assert "up to 2 training runs at once with 1 CPU" in said
    assert "Its training goes to another one" in said


@pytest.mark.release
@pytest.mark.parametrize("stops", [(None, signal.SIGTERM), (signal.SIGINT, signal.SIGKILL)])
def test_a_study_that_is_stopped_twice_while_it_trains_saves_and_goes_on_with_ray_or_without(
    stops: tuple[signal.Signals | None, ...], study_alone: list[dict[str, Any]], tmp_path: Path
) -> None:
    """Each time when a training has reached its half. It goes on with Ray, and at last without."""
    cells, seen = tmp_path / "own" / "cells", set[Path]()
    for number in stops:
        program = study(tmp_path, "--ray", "local")
        assert eventually(lambda: training(program) and set(cells.glob("*/adapters/*-half")) - seen, 300)  # noqa: B023
        helpers, workers = set(below(program.pid)), set(below(program.pid, "ray::RayActor"))
        if number is None:
            (tmp_path / "own" / "stop").touch()
        else:
            program.send_signal(number)
        codes = {signal.SIGINT: 130, signal.SIGKILL: -9}
        _, said = ended(program, 4 if number is None else codes.get(number, 4), of=dict)
        assert "ame command again" in said or number == signal.SIGKILL
        awaited = workers if number == signal.SIGKILL else helpers
        assert eventually(lambda: not processes().keys() & awaited)  # noqa: B023
        end([*processes().keys() & helpers])
        if number in (None, signal.SIGTERM):
            assert list(cells.glob("*/checkpoints/*")), "each training saved"
        seen.update(cells.glob("*/adapters/*-half"))
    ended(study(tmp_path), of=dict)
    assert rows(tmp_path) == study_alone


def synthetic(folder: Path, *arguments: str) -> Program:
    """Rows by a teacher of random weights, of which some have the length of train rows, in this folder."""
    texts = random.Random(0)
    long = [{"input": "".join(texts.choices("abcdefgh ", k=20 + n)), "output": COLOURS[n % 3]} for n in range(100)]
    tiny_task(folder, examples="long.jsonl", output={"choices": list(COLOURS)}, score="choice")
    write_jsonl(folder / "long.jsonl", long)
    own = ["--n", "50", "--calls", "8", "--kinds", "answer", "--balance", "any", "--agreement", "0"]
    return command("data", "synth", "task.yaml", *own, *arguments, environment=ONE_THREAD, inside=folder)


@pytest.mark.release
def test_synthetic_rows_are_those_of_one_process_also_when_a_worker_is_killed(tmp_path: Path) -> None:
    ended(synthetic(tmp_path / "alone"), 4)
    with cluster() as (address, _, node):
        program = synthetic(tmp_path / "ray", "--ray", address)
        assert eventually(lambda: len(answering(node)) == 2 or program.poll() is not None, 180)
        end(answering(node)[:1])
        _, said = ended(program, 4)
    rows = [(tmp_path / name / "tiny-synthetic.jsonl").read_bytes() for name in ("alone", "ray")]
    assert rows[0] == rows[1]
    assert rows[0].count(b"\n") >= 3
    assert "up to 2 workers with 1 CPU" in said
    assert "A worker was lost" in said


def racing(folder: Path, *arguments: str) -> Program:
    """A climb in this folder whose race has one round. Given again, it goes on."""
    sft = {"learning_rates": [0.001, 0.003], "epochs": 4, "r": 4, "replay": 0.0}
    if not (folder / "task.yaml").exists():
        tiny_task(folder, output={"choices": list(COLOURS)}, score="choice", sft=sft, ladder=["sft"])
    return started(Path("task.yaml"), *arguments, environment=ONE_THREAD, inside=folder)


@pytest.fixture(scope="module")
def race_alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return ended(racing(tmp_path_factory.mktemp("race")))[0]


@pytest.mark.release
def test_learning_rates_that_race_at_workers_decide_the_same_also_when_a_worker_is_killed(
    race_alone: dict[str, Any], tmp_path: Path
) -> None:
    with cluster() as (address, _, node):
        climb = racing(tmp_path, "--ray", address)
        assert eventually(lambda: len(training(climb, node)) == 2, 300)
        end(training(climb, node)[:1])
        found, said = ended(climb)
    assert found == race_alone
    assert "up to 2 training runs at once with 1 CPU" in said
    assert "Its training goes to another one" in said
    assert not (tmp_path / "run" / "laps").exists()


@pytest.mark.release
def test_a_climb_that_is_stopped_while_learning_rates_race_saves_and_resumes(
    race_alone: dict[str, Any], tmp_path: Path
) -> None:
    """Once a lap is done, while others are under way."""
    saved = tmp_path / "run" / "checkpoints"
    with cluster() as (address, _, node):
        climb = racing(tmp_path, "--ray", address)
        assert eventually(lambda: training(climb, node) and list(saved.glob("*/state.json")), 300)
        climb.send_signal(signal.SIGTERM)
        _, said = ended(climb, 4)
        assert eventually(lambda: not below(node, "ray::RayActor"))
    assert "Go on with --resume" in said
    assert ended(racing(tmp_path, "--resume"))[0] == race_alone


def at_work(machine: Machine) -> list[int]:
    """Workers on this machine that are at a batch."""
    known = processes()
    return [one for one in machine.processes() if "ray::RayActor.answer" in known.get(one, (0, ""))[1]]


@pytest.mark.release
def test_two_machines_answer_and_one_of_them_is_lost_in_the_middle(tmp_path: Path) -> None:
    """Each has an address of its own. The driver is on the one with the head."""
    if why := no_two_machines():
        pytest.skip(why)
    model = save_tiny_model(tmp_path / "model")
    own = {"model": str(model), "ladder": ["prompting"]}
    alone, _ = ended(started(scripted_task(tmp_path / "alone", quality=[], task=own), environment=ONE_THREAD))
    task = scripted_task(tmp_path / "ray", quality=[], task=own)
    with two_machines() as (first, second), cluster_of_two(first, second) as there:
        climb = interpreted(*climb_words(task, "--ray", there), environment=ONE_THREAD, at=first)
        assert eventually(lambda: (at_work(first) and at_work(second)) or climb.poll() is not None, 180)
        end(second.processes())
        assert climb.poll() is None, "in the middle of it"
        found, said = ended(climb)
    assert found == alone
    assert "up to 2 workers with 1 CPU" in said


def test_where_no_cluster_is_one_sentence_says_so(tmp_path: Path) -> None:
    task = scripted_task(tmp_path, quality=QUALITY)
    for address, words in (
        ("127.0.0.1:1", "nobody answers at 127.0.0.1:1"),
        ("auto", "no Ray cluster runs on this machine"),
    ):
        _, said = ended(started(task, "--ray", address), 3)
        assert f"--ray {address}: " in said
        assert words in said
        assert "ray start --head" in said
        assert not (tmp_path / "run").exists()
