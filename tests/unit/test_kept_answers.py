"""Where a gate keeps what its models said: the base's answers in the user's cache for all projects, the rest in the workspace."""

from __future__ import annotations

import logging
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from climb_gate_support import BROKEN, SAFE, by_scale, gated_climb, script_rungs
from climb_support import calls, comparable
from gate_support import Recorder, Said, Words
from lastresort.after.repair.choose import REPAIR_SEED
from lastresort.climb.workspace import SHARED
from lastresort.embedded import cache_folder
from lastresort.gate import sides
from lastresort.gate.plans import PILOT_SEED, PlainPlan
from lastresort.gate.run import run_gate
from lastresort.gate.scored import GateSettings
from lastresort.gate.sides import GateSide
from lastresort.gate.suites.asking import ANSWERS, BASE_ANSWERS, answers_key, kept_answers
from lastresort.hardware.cards import Card
from lastresort.hardware.environment import ANSWERING, version_of
from lastresort.records.gate import GateFindings
from lastresort.records.responses import Asking, KeptAnswer, SuiteAnswers
from lastresort.spec.sections import SUITES
from lastresort.types import SilentProgress

BASE, TUNED = "b" * 64, "c" * 64
ONE_SUITE = {"keep": {"general": 0.1, "sycophancy": "skip", "format_leak": "skip"}, "split": {"dev": 20, "test": 60}}
MENDED = by_scale((1, 0.99, BROKEN), (0.75, 0.99, 0.7), (0.5, 0.96, SAFE), (0.25, 0.6, SAFE))


def model(fingerprint: str, **keys: Any) -> Recorder:
    found = Recorder(**keys)
    found.fingerprint = fingerprint
    return found


def gated(
    workspace: Path, base: Recorder, tuned: Recorder, *, endpoint: bool = False, suites: Sequence[str] = ("general",)
) -> GateFindings:
    pair = GateSide("base", lambda: base, scores=not endpoint), GateSide("tuned", lambda: tuned)
    with kept_answers(workspace, scores=pair[0].scores) as kept:
        return run_gate(
            *pair,
            [PlainPlan(Words(name=name, measures=(Said(name=name),))) for name in suites],
            dict.fromkeys(suites, 0.1),
            settings=GateSettings(),
            kept=kept,
            training_texts=(),
            progress=SilentProgress(),
        )


def kept_of(path: Path) -> set[str]:
    """The models whose answers a file holds."""
    return {model for model, _, _ in rows_of(path)}


def rows_of(path: Path) -> list[tuple[str, str, str]]:
    """Model, suite and item of all answers."""
    with closing(sqlite3.connect(path)) as database:
        return database.execute("SELECT model, suite, item FROM answer").fetchall()


def key_of(fingerprint: str) -> str:
    return answers_key(model(fingerprint), Words()).model


def test_a_second_project_asks_the_base_nothing_and_its_own_tuned_model_everything(tmp_path: Path) -> None:
    first, tuned = model(BASE), model(TUNED)
    whole = gated(tmp_path / "first", first, tuned)
    assert first.calls
    again, tuned_again = model(BASE), model(TUNED)
    found = gated(tmp_path / "second", again, tuned_again)
    assert (again.calls, again.scored) == ([], [])
    assert tuned_again.calls == tuned.calls
    assert (found.verdict, found.suites) == (whole.verdict, whole.suites)


def test_only_the_base_is_in_the_users_cache(tmp_path: Path) -> None:
    gated(tmp_path, model(BASE), model(TUNED))
    assert kept_of(cache_folder() / BASE_ANSWERS) == {key_of(BASE)}
    assert kept_of(tmp_path / ANSWERS) == {key_of(TUNED)}


def test_answers_that_can_hold_something_of_the_task_stay_in_the_workspace(tmp_path: Path) -> None:
    gated(tmp_path, model(BASE), model(TUNED), suites=tuple(SUITES))
    kept = {suite for _, suite, _ in rows_of(cache_folder() / BASE_ANSWERS)}
    here = {suite for name, suite, _ in rows_of(tmp_path / ANSWERS) if name == key_of(BASE)}
    assert (kept, here) == ({"general", "sycophancy"}, {"format_leak"})


def test_only_the_user_can_read_what_all_projects_share(tmp_path: Path) -> None:
    path = cache_folder() / BASE_ANSWERS
    path.write_bytes(b"no database at all" * 50)  # also the file that replaces a damaged one
    gated(tmp_path, model(BASE), model(TUNED))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_an_endpoint_answers_again_in_another_project(tmp_path: Path) -> None:
    first, again = model(BASE), model(BASE)
    gated(tmp_path / "first", first, model(TUNED), endpoint=True)
    gated(tmp_path / "second", again, model(TUNED), endpoint=True)
    assert again.calls == first.calls
    assert kept_of(tmp_path / "first" / ANSWERS) == {key_of(BASE), key_of(TUNED)}
    assert not (cache_folder() / BASE_ANSWERS).exists()
    same = model(BASE)
    gated(tmp_path / "first", same, model(TUNED), endpoint=True)
    assert same.calls == []


def test_a_cache_that_cannot_be_written_is_one_warning_a_gate_and_the_workspace_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "no folder").touch()
    monkeypatch.setenv("LASTRESORT_CACHE", str(tmp_path / "no folder"))
    first, again = model(BASE), model(BASE)
    with caplog.at_level(logging.WARNING):
        whole = gated(tmp_path / "here", first, model(TUNED))
        found = gated(tmp_path / "here", again, model(TUNED))
    assert (found.verdict, found.suites) == (whole.verdict, whole.suites)
    assert (len(first.calls) > 0, again.calls) == (True, [])
    assert kept_of(tmp_path / "here" / ANSWERS) == {key_of(BASE), key_of(TUNED)}
    warning, again_warned = caplog.messages  # one for each gate
    assert warning == again_warned
    assert warning.startswith(f"{tmp_path / 'no folder' / BASE_ANSWERS}: could not be written")
    assert f"kept in {tmp_path / 'here' / ANSWERS} instead" in warning
    assert "set LASTRESORT_CACHE" in warning


def test_a_cache_that_fills_the_disk_during_a_gate_is_left_for_the_workspace(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    asking, openings = answers_key(model(BASE), Words()), {str(number): "o" for number in range(40)}
    answers = {name: KeptAnswer({"say": "x" * 4000}) for name in openings}
    with (
        SuiteAnswers(tmp_path / "here.sqlite") as here,
        SuiteAnswers(tmp_path / "full.sqlite", instead=here) as kept,
        caplog.at_level(logging.WARNING),
    ):
        kept._file.database._connection.execute("PRAGMA max_page_count = 1")
        for name in openings:
            kept.put(asking, {name: "o"}, {name: answers[name]})
        assert kept.known(asking, openings) == here.known(asking, openings) == answers
    (warning,) = caplog.messages
    assert "the disk is full" in warning


@pytest.mark.parametrize(
    ("how", "found"),
    [("deleted", "the file was moved or deleted while it was open"), ("busy", "another process has been writing")],
)
def test_a_file_that_is_deleted_or_busy_during_a_gate_is_left_for_the_workspace(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, how: str, found: str
) -> None:
    asking, path = Asking("m", "s", 1), tmp_path / "shared.sqlite"
    with (
        SuiteAnswers(tmp_path / "here.sqlite") as here,
        SuiteAnswers(path, journal="DELETE", instead=here) as kept,
        closing(sqlite3.connect(path, isolation_level=None)) as other,
        caplog.at_level(logging.WARNING),
    ):
        kept.put(asking, {"a": "o"}, {"a": KeptAnswer({"n": 1})})
        if how == "deleted":
            path.unlink()
        else:
            kept._file.database._connection.execute("PRAGMA busy_timeout = 0")
            other.execute("BEGIN IMMEDIATE")
        kept.put(asking, {"b": "o"}, {"b": KeptAnswer({"n": 2})})
        assert here.known(asking, {"a": "o", "b": "o"}) == {"b": KeptAnswer({"n": 2})}
    (warning,) = caplog.messages
    assert found in warning
    assert warning.endswith("If this happens again, set LASTRESORT_CACHE to another folder.")


def test_a_damaged_file_that_no_process_closed_is_looked_at_page_by_page(tmp_path: Path) -> None:
    path, asking = tmp_path / "shared.sqlite", Asking("m", "s", 1)
    openings = {str(number): "o" for number in range(40)}
    with SuiteAnswers(path, journal="DELETE") as kept:
        kept.put(asking, openings, {name: KeptAnswer({"say": "x" * 4000}) for name in openings})
    whole = path.read_bytes()
    path.write_bytes(whole[:4096] + bytes(255 - byte for byte in whole[4096:]))
    path.with_name(f"{path.name}-journal").write_bytes(bytes(512))
    SuiteAnswers(path, journal="DELETE").close()
    assert path.with_name(f"{path.name}.damaged-1").exists()


def test_a_file_of_the_workspace_that_cannot_be_written_is_still_an_error(tmp_path: Path) -> None:
    (tmp_path / "no folder").touch()
    with pytest.raises(Exception, match="could not be written"):
        SuiteAnswers(tmp_path / "no folder" / ANSWERS)


def damaged_files(folder: Path) -> list[Path]:
    return list(folder.glob(f"{BASE_ANSWERS}.damaged-*"))


@pytest.mark.parametrize("foreign", [True, False])
def test_a_file_in_the_cache_that_is_not_ours_is_moved_aside(tmp_path: Path, foreign: bool) -> None:
    path = cache_folder() / BASE_ANSWERS
    if foreign:
        with closing(sqlite3.connect(path)) as database:
            database.execute("CREATE TABLE other (x)")
    else:
        path.write_bytes(b"no database at all" * 50)
    gated(tmp_path, model(BASE), model(TUNED))
    assert len(damaged_files(cache_folder())) == 1
    assert kept_of(path) == {key_of(BASE)}


def test_a_damaged_file_that_cannot_be_moved_is_left_for_the_workspace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = cache_folder() / BASE_ANSWERS
    path.write_bytes(b"no database at all" * 50)

    def refused(self: Path, target: Path) -> Path:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "replace", refused)
    gated(tmp_path, model(BASE), model(TUNED))
    assert kept_of(tmp_path / ANSWERS) == {key_of(BASE), key_of(TUNED)}


WRITER = """
import sys
from pathlib import Path
from lastresort.hardware.cards import Card
from lastresort.hardware.environment import version_of
from lastresort.records.responses import Asking, KeptAnswer, SuiteAnswers
path, writer = Path(sys.argv[1]), sys.argv[2]
with SuiteAnswers(path.with_name(writer)) as here, SuiteAnswers(path, journal="DELETE", instead=here) as kept:
    for number in range(20):
        for item in (f"{writer}-{number}", f"shared-{number}"):
            kept.put(Asking("m", "s", 1), {item: "o"}, {item: KeptAnswer({"n": number})})
            assert kept.known(Asking("m", "s", 1), {item: "o"})
"""


def test_gates_of_several_projects_write_one_file_without_shared_memory(tmp_path: Path) -> None:
    path = tmp_path / "kept.sqlite"
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(n)]) for n in range(3)]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    names = [f"{writer}-{number}" for writer in (0, 1, 2, "shared") for number in range(20)]
    with SuiteAnswers(tmp_path / "here.sqlite") as here, SuiteAnswers(path, journal="DELETE", instead=here) as kept:
        assert kept.known(Asking("m", "s", 1), dict.fromkeys(names, "o")).keys() == set(names)
        assert [tuple(row) for row in kept._file.database.rows("PRAGMA journal_mode")] == [("delete",)]
        assert kept._file.database.rows("SELECT count(*) FROM answer")[0][0] == len(names)


def other_library(name: str) -> tuple[str, Any]:
    return (
        "lastresort.hardware.environment.version_of",
        lambda package: "99" if package == name else version_of(package),
    )


@pytest.mark.parametrize(
    ("place", "other"),
    [
        *map(other_library, ANSWERING),
        ("lastresort.hardware.environment.processor_name", lambda: "another"),
        ("lastresort.hardware.environment.card_here", lambda *, processor: Card("H100", 1)),
    ],
    ids=[*ANSWERING, "processor", "card"],
)
def test_what_another_machine_or_library_computed_is_asked_again(
    monkeypatch: pytest.MonkeyPatch, place: str, other: Any
) -> None:
    """Of a local model. A server's answers do not depend on what is here."""
    local, endpoint = model(BASE), model(TUNED)
    local.computed_by = "cache-6 on cpu by flash"
    before = [answers_key(one, Words()) for one in (local, endpoint)]
    assert [answers_key(one, Words()) for one in (local, endpoint)] == before
    monkeypatch.setattr(place, other)
    after = [answers_key(one, Words()) for one in (local, endpoint)]
    assert [one == other for one, other in zip(before, after, strict=True)] == [False, True]


@pytest.mark.slow
def test_the_gates_and_repairs_of_a_climb_share_the_bases_answers_with_other_projects(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scripts taken for models with weights of their own."""
    named = sides._side
    monkeypatch.setattr(sides, "_side", lambda *names, **keys: replace(named(*names, **keys), scores=True))
    script_rungs(monkeypatch)
    found = [gated_climb(tmp_path / name, MENDED, task=ONE_SUITE, gate="quick") for name in ("first", "second")]
    assert found[0].decision.first_gate is not None  # so a repair had a gate of its own
    assert comparable(found[0].decision.as_json()) == comparable(found[1].decision.as_json())
    rows = rows_of(cache_folder() / BASE_ANSWERS)
    (base,) = {model for model, _, _ in rows}
    assert {int(item.split("/")[2]) for _, _, item in rows} == {REPAIR_SEED, PILOT_SEED, 0, 1}
    assert all(base not in kept_of(one.run.parent / SHARED / ANSWERS) for one in found)
    first, second = (len(calls(tmp_path / name / "task")) for name in ("first", "second"))
    assert first - second == len(rows)
