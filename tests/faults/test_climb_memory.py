"""A rung whose memory runs out stops with the plan's numbers, and goes on in smaller passes; one that will not fit begins so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from lastresort.errors import InfrastructureError
from lastresort.hardware.plan import memory as passing
from lastresort.records.events.base import E
from lastresort.records.events.training import PassLowered, TrainingReached
from lastresort.records.record import Record
from tuning_support import Scissors, climbed, tiny_task


class Listening(Scissors):
    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


def sft_task(folder: Path) -> Path:
    return tiny_task(folder, ladder=["sft"])


def noted(run: Path, kind: type[E]) -> list[E]:
    with Record.open(run, read_only=True) as record:
        return record.all(kind)


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    "error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.50 GiB.")]
)
def test_a_rung_that_runs_out_of_memory_goes_on_in_smaller_passes(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lastresort.train.loop import gradients

    def eating(*_: Any) -> Any:
        raise error

    path, run = sft_task(tmp_path), tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(gradients, "_share", eating)
        with pytest.raises(InfrastructureError) as caught:
            climbed(path, run)
    told = str(caught.value)
    assert "there is not enough memory" in told
    assert "the plan says that it holds 0." in told
    assert "most of it libraries" in told
    assert "Go on with --resume: it then trains with max_pass_tokens: " in told
    (lower,) = noted(run, PassLowered)
    assert f"max_pass_tokens: {lower.keys['max_pass_tokens']}." in told
    done = climbed(path, run)
    assert done.decision.as_json()["rungs"][-1]["test"] is not None
    assert {one.settings.max_pass_tokens for one in noted(run, TrainingReached)} == {lower.keys["max_pass_tokens"]}


@pytest.mark.slow
def test_a_rung_that_will_not_fit_begins_in_smaller_passes_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, run, heard = sft_task(tmp_path), tmp_path / "run", Listening()
    monkeypatch.setattr(passing, "LIBRARIES_BYTES", 0)  # beside which nothing of the tiny model counts
    monkeypatch.setattr("lastresort.train.files.memory.free_now", lambda: 1_500_000)
    climbed(path, run, heard)
    (said,) = [line for line in heard.said if "by the plan" in line]
    (lower,) = noted(run, PassLowered)
    assert said.startswith("sft: lr0.003 needs ")
    assert f"It trains with max_pass_tokens: {lower.keys['max_pass_tokens']}" in said
    assert int(lower.keys["max_pass_tokens"]) < 480


@pytest.mark.slow
def test_a_rung_that_no_pass_makes_fit_is_tried_and_says_what_would(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, run, heard = sft_task(tmp_path), tmp_path / "run", Listening()
    monkeypatch.setattr("lastresort.train.files.memory.free_now", lambda: 0)
    done = climbed(path, run, heard)
    (said,) = [line for line in heard.said if "by the plan" in line]
    assert "It may not fit. Take a smaller model, or a machine with more memory." in said
    assert noted(run, PassLowered) == []
    assert done.decision.as_json()["rungs"][-1]["test"] is not None
