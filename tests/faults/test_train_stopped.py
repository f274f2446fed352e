"""A training that is asked to stop: it finishes its step, writes a checkpoint, exits with 4, and resumes to the same adapter."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from lastresort.app.runtime import stop_on_sigterm
from lastresort.app.train import train
from lastresort.errors import StopRequestedError
from lastresort.stop import StopSignal
from lastresort.train.files import run
from lastresort.types import SilentProgress
from tiny_model import save_tiny_model
from train_support import after_step, lastresort, record, training_file

WEIGHTS = Path("adapter", "adapter_model.safetensors")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("base") / "model")


@pytest.fixture(scope="module")
def uncut(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("uncut")
    train(file_for(folder, model), SilentProgress())
    return folder / "out"


def file_for(folder: Path, model: Path) -> Path:
    """Six steps; no checkpoint but the last, unless the run is asked to stop."""
    return training_file(folder, "sft", model=str(model), checkpoint_every_s=3600)


def resumes_as_uncut(file: Path, uncut: Path) -> None:
    output = file.parent / "out"
    state = json.loads((output / "checkpoint" / "state.json").read_text(encoding="utf-8"))
    assert state["step"] == 3
    assert not (output / "training.json").exists()
    train(file, SilentProgress(), resume=True)
    assert (output / WEIGHTS).read_bytes() == (uncut / WEIGHTS).read_bytes()
    assert record(output)["epochs"] == record(uncut)["epochs"]


def test_a_stop_file_ends_a_training_that_resumes_to_the_same_adapter(
    model: Path, uncut: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file, stop = file_for(tmp_path, model), tmp_path / "out" / "stop"
    with monkeypatch.context() as patch:
        after_step(patch, 3, stop.touch)
        assert lastresort(patch, "train", str(file)) == 4
    assert not stop.exists()
    told = capsys.readouterr().err
    assert f"Stopped: {stop}: the file asks to stop, in step 4 of 6. Go on with --resume." in told
    resumes_as_uncut(file, uncut)


def test_sigterm_ends_a_training_after_its_step(
    model: Path, uncut: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = file_for(tmp_path, model)
    with monkeypatch.context() as patch:
        after_step(patch, 3, lambda: os.kill(os.getpid(), signal.SIGTERM))
        assert lastresort(patch, "train", str(file)) == 4
    assert "a signal asked to stop, in step 4 of 6. Go on with --resume." in capsys.readouterr().err
    resumes_as_uncut(file, uncut)


@pytest.mark.parametrize("begun", [False, True], ids=["before it loads the model", "before its first step"])
def test_an_interruption_before_the_first_step_says_what_resuming_does(
    begun: bool, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is finished then, and --resume begins at the first step, also where no folder is there yet."""

    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    file, output = file_for(tmp_path, model), tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(run, "train" if begun else "open_for_training", interrupted)
        assert lastresort(patch, "train", str(file)) == 130
    said = "Interrupted. --resume continues from the last checkpoint, or starts over if there is none yet."
    assert capsys.readouterr().err.splitlines()[-1] == said
    assert (output / "begun.json").exists() == begun
    assert not (output / "checkpoint").exists()
    assert train(file, SilentProgress(), resume=True).record.trained.step == 6


def test_a_second_sigterm_ends_it_at_once() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with stop_on_sigterm() as stop:
        assert stop.requested() is None
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.requested() is not None
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_stop_of_ones_own_ends_a_training_from_python(
    model: Path, uncut: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import lastresort as lr

    file, stop = file_for(tmp_path, model), StopSignal()
    with monkeypatch.context() as patch:
        after_step(patch, 3, stop.request)
        with pytest.raises(StopRequestedError, match="in step 4 of 6"):
            lr.train(file, progress=SilentProgress(), stop=stop)
    resumes_as_uncut(file, uncut)
