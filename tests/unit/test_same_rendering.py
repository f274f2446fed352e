"""What was trained in one rendering is measured, gated and served in no other."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_gate_adapters import adapter, save_tokenizer, with_template

from lastresort.errors import DataError, InputError, TaskError
from lastresort.gate.sides import resolve_sides
from lastresort.models.open import open_model
from lastresort.models.tokenizer import read_rendering_fingerprint, rendering_fingerprint
from lastresort.records.events.training import RenderingFixed
from lastresort.records.record import Record
from lastresort.rungs.tuning import record_rendering, recorded_rendering
from lastresort.systems.files import load_system, save_system
from lastresort.systems.running import load_winner, open_answerer
from lastresort.types import Message
from tiny_model import TEMPLATE, save_tiny_model
from tuning_support import climbed, tiny_task

OTHER = TEMPLATE.replace("assistant\n", "assistant:\n")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A climb of sft on the tiny model."""
    folder = tmp_path_factory.mktemp("trained")
    path = tiny_task(folder / "task", ladder=["sft"], bar=0.05)
    return climbed(path, folder / "runs" / "tiny-1").run


@pytest.mark.slow
def test_training_notes_how_its_rows_were_rendered(trained: Path) -> None:
    system = load_system(trained / "winner")
    model = trained.parent.parent / "task" / "model"
    with Record.open(trained, read_only=True) as record:
        noted = recorded_rendering(record, "sft")
    assert system.trained_rendering == noted == read_rendering_fingerprint(model, {})
    assert noted != read_rendering_fingerprint(model, {"enable_thinking": False})


@pytest.mark.slow
def test_a_winner_is_asked_in_no_other_template_than_that_of_its_training(trained: Path, tmp_path: Path) -> None:
    place = shutil.copytree(trained.parent.parent, tmp_path / "place")
    winner, model = place / "runs" / "tiny-1" / "winner", place / "task" / "model"
    system = replace(load_winner(winner), model=str(model), fingerprint="", rendering="")
    assert open_answerer(system, winner).answer([(Message("user", "ape 1?"),)])
    with_template(model, OTHER)
    told = f"the chat template or the special tokens of .*{model.name} differ from those of the rows that"
    with pytest.raises(DataError, match=told):
        open_answerer(system, winner)
    alone = tmp_path / "alone"
    save_system(system, alone)
    with pytest.raises(InputError, match="differ from those of the rows that"):
        resolve_sides(str(model), str(alone), {}, tmp_path)


def test_a_run_goes_on_in_no_other_template_than_it_began_with(tmp_path: Path) -> None:
    from types import SimpleNamespace

    from transformers import AutoTokenizer

    model = with_template(save_tiny_model(tmp_path / "other"), OTHER)
    loaded: Any = SimpleNamespace(folder=model, tokenizer=AutoTokenizer.from_pretrained(str(model)))
    with Record.create(tmp_path / "run") as record:
        record_rendering(record, "sft", loaded, {})
        record_rendering(record, "sft", loaded, {})
        assert len(record.all(RenderingFixed)) == 1
        assert recorded_rendering(record, "sft") == rendering_fingerprint(loaded.tokenizer, {})
        with pytest.raises(DataError, match="of the rows that this run began to train on"):
            record_rendering(record, "sft", loaded, {"enable_thinking": False})
        with pytest.raises(DataError, match="that its start was trained on"):
            record_rendering(record, "preference", loaded, {}, before="0" * 64)


def test_a_tokenizer_that_an_adapter_brings_must_render_as_its_base(tmp_path: Path) -> None:
    model = save_tiny_model(tmp_path / "base")
    own = adapter(tmp_path / "adapter")
    save_tokenizer(model, own, TEMPLATE)
    assert open_model(str(model), base_folder=tmp_path, adapter=own).name == str(model)
    save_tokenizer(model, own, OTHER)
    with pytest.raises(
        TaskError, match=r"the chat template or the special tokens of .*adapter differ from those of .*base"
    ):
        open_model(str(model), base_folder=tmp_path, adapter=own)


def test_the_record_beside_an_adapter_tells_how_it_was_trained(tmp_path: Path) -> None:
    model = save_tiny_model(tmp_path / "base")
    own = adapter(tmp_path / "out" / "adapter")
    for rendering in (read_rendering_fingerprint(model, {}), "0" * 64):
        record = {"model": {"rendering": rendering}, "saved": {"kind": "adapter", "folder": "adapter"}}
        (tmp_path / "out" / "training.json").write_text(json.dumps(record), encoding="utf-8")
        if rendering == "0" * 64:
            with pytest.raises(InputError, match="differ from those of the rows that"):
                resolve_sides(str(model), str(own), {}, tmp_path)
        else:
            assert resolve_sides(str(model), str(own), {}, tmp_path).kind == "adapter"
