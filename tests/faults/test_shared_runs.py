"""A run that somebody shared runs none of their Python and writes nothing of theirs: only the user's own task file allows that."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
import yaml
from pydantic import BaseModel

import lastresort as lr
from climb_support import scripted_task, unfinish
from lastresort.after.recheck.recheck import recheck
from lastresort.app.child_environment import environment
from lastresort.app.consent import consent_of
from lastresort.app.start import ClimbRequest, start_climb
from lastresort.climb.shared_run import all_endpoints_of, code_of, endpoints_of
from lastresort.climb.workbench import model_names
from lastresort.errors import InputError
from lastresort.models.scripted import writes_elsewhere
from lastresort.records.events.run import OptionsChosen
from lastresort.records.record import Record
from lastresort.rungs.open_models import OpenModels
from lastresort.spec.paths import _model_name
from lastresort.spec.task import Task, load_task, named_models
from lastresort.systems.running import open_system
from lastresort.systems.system import PromptDesign, System
from lastresort.types import Decoding, Message, SilentProgress
from recheck_support import newer

SCORER = """
from pathlib import Path
Path(__file__).with_name("ran").touch()
def score(answer, expected) -> bool:
    return answer == expected
"""
PYTHON = {"score": {"python": "metrics.py:score"}, "ladder": ["prompting"]}
ALL_RIGHT = [{"right": 1.0}]


def run_of(folder: Path, **task: Any) -> tuple[Path, Path]:
    """A finished run, and its task file; the task's Python has left no trace."""
    path = scripted_task(folder, quality=ALL_RIGHT, task={"ladder": ["prompting"], **task})
    (folder / "metrics.py").write_text(SCORER)
    run = folder / "runs" / "routing-1"
    start_climb(ClimbRequest(path, run=run, gate="none"), SilentProgress())
    (folder / "ran").unlink(missing_ok=True)
    return path, run


def resumed(path: Path, run: Path, **settings: Any) -> None:
    start_climb(ClimbRequest(path, run=run, resume=True, settings=settings, gate="none"), SilentProgress())


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return run_of(tmp_path_factory.mktemp("scored"), **PYTHON)


def test_a_recheck_runs_a_scorer_only_where_the_user_names_the_task_file(scored: tuple[Path, Path]) -> None:
    path, run = scored
    other = newer(path.parent)
    with pytest.raises(InputError, match=r"score is metrics\.py:score there, which runs Python") as refused:
        recheck(run, new=other)
    assert "name your task file with --task FILE" in str(refused.value)
    assert not (path.parent / "ran").exists()
    recheck(run, new=other, task_file=path)
    assert (path.parent / "ran").exists()


def test_a_recheck_refuses_a_scorer_that_the_users_task_file_does_not_name(
    scored: tuple[Path, Path], tmp_path: Path
) -> None:
    path, run = scored
    (path.parent / "ran").unlink(missing_ok=True)
    own = path.with_name("own.yaml")
    own.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), "score": "choice"}))
    with pytest.raises(InputError, match="score is metrics"):
        recheck(run, new=newer(path.parent), task_file=own)
    assert not (path.parent / "ran").exists()


def test_a_run_is_resumed_from_python_with_a_scorer_only_where_the_task_file_is_named(
    scored: tuple[Path, Path],
) -> None:
    path, run = scored
    (path.parent / "ran").unlink(missing_ok=True)
    unfinish(run)
    with pytest.raises(InputError, match=r"name it: resume\(task=FILE\)"):
        lr.open_run(run).resume(progress=SilentProgress())
    assert not (path.parent / "ran").exists()
    assert lr.open_run(run).resume(task=path, progress=SilentProgress()).finished


def test_a_run_whose_task_file_was_moved_asks_for_it(tmp_path: Path) -> None:
    path, run = run_of(tmp_path)
    unfinish(run)
    sent = tmp_path / "mail" / "colleague" / "routing-1"
    shutil.copytree(run, sent)
    with pytest.raises(InputError) as refused:
        lr.open_run(sent).resume(progress=SilentProgress())
    assert str(refused.value) == (
        f"{tmp_path / 'mail' / path.name}: no such file, expected the task file that the run was climbed with. "
        "Name it: resume(task=FILE); its paths to the examples are used."
    )
    assert lr.open_run(sent).resume(task=path, progress=SilentProgress()).finished


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    "keys",
    [
        {"model": "https://models.example/v1#m"},
        {"score": {"judge": "https://models.example/v1#m"}, "output": {}},
        {"prompting": {"reflect": "https://models.example/v1#m"}},
        {"prompting": {"reflect": "https://models.example/v1#m", "optimise": "off"}},
    ],
    ids=str,
)
def test_a_run_is_resumed_from_python_with_an_endpoint_only_where_the_task_file_is_named(
    keys: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LASTRESORT_API_HOSTS", raising=False)
    path, run = run_of(tmp_path)
    unfinish(run)
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **keys}))
    with pytest.raises(InputError, match=r"https://models\.example/v1#m: this run sends its inputs to an endpoint"):
        lr.open_run(run).resume(progress=SilentProgress())
    monkeypatch.setenv("LASTRESORT_API_HOSTS", "models.example")
    with pytest.raises(InputError) as passed:  # the task is another than that of the run
        lr.open_run(run).resume(progress=SilentProgress())
    assert "did not name" not in str(passed.value)


def test_settings_of_a_run_name_no_scorer(tmp_path: Path) -> None:
    path = scripted_task(tmp_path, quality=ALL_RIGHT, task={"ladder": ["prompting"]})
    (tmp_path / "metrics.py").write_text(SCORER)
    run, settings = tmp_path / "run", {"score": {"python": "metrics.py:score"}, "bar": 0.7}
    start_climb(ClimbRequest(path, run=run, settings=settings, gate="none"), SilentProgress())
    unfinish(run)
    (tmp_path / "ran").unlink()
    with pytest.raises(InputError, match=r"score is metrics\.py:score there.*name the setting again with --set"):
        resumed(path, run)
    assert not (tmp_path / "ran").exists()
    resumed(path, run, score={"python": "metrics.py:score"})
    assert (tmp_path / "ran").exists()


def test_settings_of_a_run_name_no_other_file_of_the_same_name(tmp_path: Path) -> None:
    path = scripted_task(
        tmp_path, quality=ALL_RIGHT, task={"ladder": ["prompting"], "score": {"python": "metrics.py:score"}}
    )
    (tmp_path / "metrics.py").write_text(SCORER)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.py").write_text(SCORER)
    run, settings = tmp_path / "runs" / "r", {"score": {"python": "run/metrics.py:score"}}
    start_climb(ClimbRequest(path, run=run, settings=settings, gate="none"), SilentProgress())
    unfinish(run)
    with pytest.raises(InputError, match=r"score is run/metrics\.py:score there"):
        resumed(path, run)


@pytest.mark.parametrize("key", ["model", "prompting.reflect"])
def test_settings_of_a_run_name_no_endpoint(tmp_path: Path, key: str) -> None:
    path = scripted_task(tmp_path, quality=ALL_RIGHT, task={"ladder": ["prompting"]})
    run = tmp_path / "run"
    start_climb(ClimbRequest(path, run=run, settings={}, gate="none"), SilentProgress())
    unfinish(run)
    with Record.open(run) as record:
        record.append(OptionsChosen(settings={key: "https://models.example/v1#m"}, until=None))
    with pytest.raises(InputError, match=r"endpoint https://models\.example/v1#m, which your task file does not name"):
        resumed(path, run)


def writer(folder: Path, calls: str) -> str:
    (folder / "writer.json").write_text(json.dumps({"answers_from": [str(folder / "rows.jsonl")], "calls": calls}))
    return f"scripted:{folder / 'writer.json'}"


def named_in(system: Path, model: str) -> None:
    body = yaml.safe_load(system.read_text())
    system.write_text(yaml.safe_dump({**body, "model": model, "fingerprint": ""}))


def test_a_system_names_no_script_that_writes_elsewhere(tmp_path: Path) -> None:
    _, run = run_of(tmp_path / "task")
    saved, victim = shutil.copytree(run / "winner", tmp_path / "saved"), tmp_path / "victim"
    victim.write_text("mine\n")
    for calls in ("../victim", str(victim)):
        named_in(saved / "system.yaml", writer(tmp_path / "task", calls))
        with pytest.raises(InputError, match=r"a script that writes its calls to .*victim.* in your own task file"):
            open_system(saved)
    (tmp_path / "task" / "calls.jsonl").unlink()
    (tmp_path / "task" / "calls.jsonl").symlink_to(victim)
    named_in(saved / "system.yaml", writer(tmp_path / "task", "calls.jsonl"))
    with pytest.raises(InputError, match="writes its calls"):
        open_system(saved)
    named_in(saved / "system.yaml", writer(tmp_path / "task", "beside.jsonl"))
    open_system(saved).answer([[Message("user", "x")]])
    assert victim.read_text() == "mine\n"


def test_a_candidate_of_a_run_writes_only_where_the_task_names_its_model(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("")
    model = writer(tmp_path, "../victim")
    system = System("s", model, PromptDesign("Answer."), Decoding(max_new_tokens=8))
    with pytest.raises(InputError, match="writes its calls"):
        OpenModels(None, base_folder=tmp_path, base_name="embedded", tuned_name="embedded").open(system)
    OpenModels(None, base_folder=tmp_path, base_name=model, tuned_name="embedded", named=[model]).open(system)


NAMED: dict[str, tuple[dict[str, Any], set[str]]] = {
    "nothing": ({}, set()),
    "a scorer": ({"score": {"python": "metrics.py:score"}}, {"score"}),
    "a reward": ({"reward": [{"exact": {}}, {"python": "metrics.py:score"}]}, {"reward[1]"}),
    "a model": ({"model": "scripted:writer.json"}, {"model", "tune.model"}),
    "a model to tune": ({"tune": {"model": "scripted:writer.json"}}, {"tune.model"}),
    "a model that reflects": ({"prompting": {"reflect": "scripted:writer.json"}}, {"prompting.reflect"}),
    "a judge": ({"score": {"judge": "scripted:writer.json"}, "output": {}}, {"score.judge.model"}),
    "a judge as a reward": ({"reward": [{"judge": "scripted:writer.json"}]}, {"reward[0].judge.model"}),
    "a task of lm-eval": ({"general": ["lm_eval:mmlu"]}, set()),
    "a file of lm-eval": ({"general": ["lm_eval:suites/own.yaml"]}, {"general lm_eval:suites/own.yaml"}),
    "a folder of lm-eval": ({"general": ["lm_eval:suites"]}, {"general lm_eval:suites"}),
}


@pytest.mark.parametrize("name", NAMED)
def test_what_a_task_names_that_runs_or_writes(name: str, tmp_path: Path) -> None:
    keys, found = NAMED[name]
    path = scripted_task(tmp_path, quality=ALL_RIGHT, task=keys)
    (tmp_path / "metrics.py").write_text(SCORER)
    (tmp_path / "suites").mkdir()
    (tmp_path / "suites" / "own.yaml").write_text("task: own\n")
    writer(tmp_path, "../victim")
    assert set(code_of(load_task(path))) == found


HOST = "https://models.example/v1"
MODELS: dict[str, dict[str, Any]] = {
    "model": {"model": f"{HOST}#model"},
    "tune.model": {"tune": {"model": "org/tune"}},  # never an endpoint, since it is trained
    "prompting.reflect": {"prompting": {"reflect": f"{HOST}#reflect"}},
    "score.judge.model": {"score": {"judge": f"{HOST}#score"}, "output": {}},
    "reward[].judge.model": {"reward": [{"exact": {}}, {"judge": f"{HOST}#reward"}]},
}


def model_keys(section: type[BaseModel]) -> set[str]:
    """The keys of a task file that hold the name of a model."""
    found = set()
    for name, field in section.model_fields.items():
        for part in _parts(field.annotation):
            if isinstance(part, type) and issubclass(part, BaseModel):
                many = "[]" if get_origin(field.annotation) is tuple else ""
                found |= {f"{name}{many}.{key}" for key in model_keys(part)}
        if any(getattr(note, "func", None) is _model_name for note in (*_parts(field.annotation), *field.metadata)):
            found.add(name)
    return found


def _parts(annotation: Any) -> list[Any]:
    return [annotation, *(inner for part in get_args(annotation) for inner in _parts(part))]


def test_every_key_that_names_a_model_is_tried_here() -> None:
    assert model_keys(Task) == set(MODELS)


@pytest.mark.parametrize("key", MODELS)
def test_no_model_that_a_task_names_is_overlooked(key: str, tmp_path: Path) -> None:
    """Neither by the question whether it may be reached, nor by what a process of the page may reach."""
    task = load_task(scripted_task(tmp_path, quality=ALL_RIGHT, task=MODELS[key]))
    names = {name for name in named_models(task).values() if not name.startswith("scripted:")}
    assert len(names) == 1
    endpoints = {name for name in names if name.startswith(HOST)}
    assert endpoints_of(task) == set(consent_of(task).endpoints) == endpoints
    assert names <= set(model_names(task))
    given = environment({"LASTRESORT_API_KEYS": "models.example=k"}, all_endpoints_of(task))
    assert (given == {"LASTRESORT_API_KEYS": "models.example=k"}) == bool(endpoints)


PLACES: dict[str, tuple[str | None, bool]] = {
    "none": (None, False),
    "beside": ("calls.jsonl", False),
    "beside, the long way": ("./calls.jsonl", False),
    "above": ("../calls.jsonl", True),
    "below": ("runs/calls.jsonl", True),
    "elsewhere": ("/tmp/calls.jsonl", True),
    "a device": ("/dev/null", True),
    "a folder": ("folder", True),
    "a link": ("link", True),
    "a fifo": ("fifo", True),
}


@pytest.mark.parametrize("name", PLACES)
def test_where_a_script_writes(name: str, tmp_path: Path) -> None:
    calls, elsewhere = PLACES[name]
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path.parent / "victim")
    os.mkfifo(tmp_path / "fifo")
    path = tmp_path / "script.json"
    path.write_text(json.dumps({} if calls is None else {"calls": calls}))
    assert writes_elsewhere(path) is elsewhere
