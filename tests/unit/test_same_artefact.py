"""What is gated is what is written to winner/ and what is loaded from there, byte for byte."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from climb_gate_support import SAFE, gated_climb, quality, script_rungs
from lastresort.after.recheck.finished import open_finished
from lastresort.app.climb import Climbed
from lastresort.cli.border import guarded
from lastresort.cli.main import app
from lastresort.climb import loop
from lastresort.errors import DataError
from lastresort.gate.sides import open_side, resolve_sides
from lastresort.models.scripted import ScriptedModel
from lastresort.records.record import Record
from lastresort.report.html import write_report
from lastresort.systems.files import artefact_sha256, folder_sha256, load_system, save_system
from lastresort.systems.running import load_winner
from lastresort.systems.system import PromptDesign, System
from lastresort.types import Decoding, Message

CHANGED = "the files of this winner are not those that its run measured"


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Climbed]:
    with pytest.MonkeyPatch.context() as patch:
        script_rungs(patch, "sft")
        yield gated_climb(tmp_path_factory.mktemp("ship"), quality(SAFE), gate="quick")


@pytest.fixture
def run(shipped: Climbed, tmp_path: Path) -> Path:
    """The finished run, moved to a place and a name of its own."""
    shutil.copytree(shipped.run.parent.parent, tmp_path / "place")
    return (tmp_path / "place" / "runs" / "routing-1").rename(tmp_path / "place" / "runs" / "renamed")


def command(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["lastresort", *words])
    return guarded(app)


def test_what_was_gated_is_what_was_written(shipped: Climbed) -> None:
    gate, winner = shipped.decision.as_json()["gate"], shipped.run / "winner"
    assert gate["artefact_sha256"] == artefact_sha256(winner)
    assert gate["artefact_sha256"] == artefact_sha256(shipped.run / "candidates" / "sft" / gate["system"])
    assert shipped.decision.as_json()["winner"]["sha256"] == folder_sha256(winner)
    assert load_system(winner).fingerprint == gate["fingerprints"]["tuned"]


def test_a_run_that_was_renamed_keeps_its_winner(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_winner(run / "winner").name == "sft-adapter"
    copy = shutil.copytree(run / "winner", run.parent / "copy of the winner")
    assert load_winner(copy).name == "sft-adapter"
    assert artefact_sha256(copy) == json.loads((run / "decision.json").read_text())["gate"]["artefact_sha256"]
    monkeypatch.chdir(run / "winner")
    assert load_winner(Path()).name == "sft-adapter"


@pytest.mark.parametrize("tampered", ["adapter/weights", "system.yaml", "extra.json"])
def test_a_winner_of_which_a_byte_changed_is_loaded_by_nobody(
    run: Path, tampered: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with (run / "winner" / tampered).open("ab") as file:
        file.write(b"\n")
    task = run.parent.parent / "task" / "task.yaml"
    for words in (["chat", str(run), "--once", "lamp"], ["gate", str(task), "--tuned", str(run), "--quick"]):
        assert command(monkeypatch, *words) == 2
        error = capsys.readouterr().err
        assert CHANGED in error
        assert f"`lastresort gate TASK --tuned {run / 'winner' / 'adapter'}`" in error
        assert "Traceback" not in error
    with Record.open(run, read_only=True) as record, pytest.raises(DataError, match=CHANGED):
        open_finished(run, record, task)
    monkeypatch.chdir(run / "winner")
    with pytest.raises(DataError, match=CHANGED):
        load_winner(Path())


def test_a_decision_that_cannot_be_read_vouches_for_nothing(run: Path) -> None:
    (run / "decision.json").write_text('{"schema": 6, "win', encoding="utf-8")
    for read in (lambda: load_winner(run / "winner"), lambda: write_report(run)):
        with pytest.raises(
            DataError, match=r"found another decision than those of the run.*Delete it: `lastresort rep"
        ):
            read()
    (run / "decision.json").unlink()
    assert load_winner(run / "winner")
    write_report(run)
    assert load_winner(run / "winner")


def test_a_resumed_climb_writes_a_tampered_winner_anew(shipped: Climbed) -> None:
    before = folder_sha256(shipped.run / "winner")
    (shipped.run / "winner" / "adapter" / "weights").write_text("other", encoding="utf-8")
    gated_climb(shipped.run.parent.parent, [])
    assert folder_sha256(load_winner(shipped.run / "winner").adapter.parent) == before  # type: ignore[union-attr]


def test_what_changed_since_it_was_measured_is_no_winner(shipped: Climbed, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = shipped.run / "candidates" / "sft" / "sft-adapter" / "adapter" / "weights"
    kept, before = weights.read_bytes(), folder_sha256(shipped.run / "winner")
    weights.write_bytes(kept + b"!")
    try:
        with pytest.raises(DataError, match="are not those that the climb measured"):
            gated_climb(shipped.run.parent.parent, [])
        monkeypatch.setattr(
            loop, "load_measured", lambda folder, sha256: load_system(folder)
        )  # as if it changed a moment later
        with pytest.raises(DataError, match="have changed since the gate examined them"):
            gated_climb(shipped.run.parent.parent, [])
    finally:
        weights.write_bytes(kept)
    assert not (shipped.run / "winner.new").exists()
    assert folder_sha256(shipped.run / "winner") == before


def test_a_system_that_is_not_what_was_tested_is_not_gated(shipped: Climbed, tmp_path: Path) -> None:
    """Its weights differ from those that its fingerprint names."""
    folder = shutil.copytree(shipped.run / "candidates" / "sft" / "sft-adapter", tmp_path / "candidate")
    model = load_system(folder).model
    with open_side(resolve_sides(model, str(folder), {}, folder).tuned) as tuned:
        assert tuned.fingerprint == load_system(folder).fingerprint
    (folder / "adapter" / "weights.json").write_text("other", encoding="utf-8")
    with (
        pytest.raises(DataError, match="are not those that were measured"),
        open_side(resolve_sides(model, str(folder), {}, folder).tuned),
    ):
        pass


def test_each_side_is_closed_so_that_the_other_has_room(
    shipped: Climbed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(shipped.run / "candidates" / "sft" / "sft-adapter", tmp_path / "candidate")
    side, closed = resolve_sides(load_system(folder).model, str(folder), {}, folder).tuned, list[str]()
    monkeypatch.setattr(ScriptedModel, "close", lambda model: closed.append(model.name))
    with open_side(side) as model:
        assert not closed
    assert closed == [model.name]
    with pytest.raises(DataError, match="are not those that were measured"), open_side(replace(side, fingerprint="x")):
        pass
    assert len(closed) == 2


@pytest.mark.parametrize("change", ["instruction", "shot", "adapter", "name of a file", "decoding"])
def test_the_hash_of_an_artefact_covers_what_answers(tmp_path: Path, change: str) -> None:
    from lastresort.systems.system import Shot

    weights = tmp_path / "trained"
    weights.mkdir()
    (weights / "w").write_text("1", encoding="utf-8")
    shot = Shot((Message("user", "a"),), "b")
    system = System(
        "s", "/here/base", PromptDesign("Do.", shots=(shot,), k=1), Decoding(4), adapter=weights, fingerprint="f"
    )
    save_system(system, tmp_path / "one")
    save_system(replace(system, model="/there/base"), tmp_path / "moved")
    assert artefact_sha256(tmp_path / "one") == artefact_sha256(tmp_path / "moved")
    if change == "instruction":
        system = replace(system, prompt=replace(system.prompt, instruction="Do it."))
    elif change == "shot":
        system = replace(system, prompt=replace(system.prompt, shots=(replace(shot, output="c"),)))
    elif change == "adapter":
        (weights / "w").write_text("2", encoding="utf-8")
    elif change == "name of a file":
        (weights / "w").rename(weights / "v")
    else:
        system = replace(system, decoding=Decoding(5))
    save_system(system, tmp_path / "two")
    assert artefact_sha256(tmp_path / "one") != artefact_sha256(tmp_path / "two")


def test_a_model_behind_an_endpoint_is_said_to_be_known_by_its_address_alone(tmp_path: Path) -> None:
    found = resolve_sides("http://127.0.0.1:9/v1#base", "http://127.0.0.1:9/v1#tuned", {}, tmp_path)
    assert [note.split(" is identified by its address alone")[0] for note in found.notes] == [
        "http://127.0.0.1:9/v1#base",
        "http://127.0.0.1:9/v1#tuned",
    ]
