"""`lastresort train` on bad input, a full folder, a damaged checkpoint, and killed: one sentence each, or the same adapter."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from lastresort.train.files.run_folder import StepLog
from processes_support import Program
from tiny_model import save_tiny_model
from train_support import data_for, lastresort, pairs, record, training_file, write_rows

ROW = {"prompt": "hi", "chosen": "yo", "rejected": "bye"}
LONG = "word " * 600


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("base") / "model")


Case = tuple[str, list[Any], dict[str, Any], str]
LABELLED = data_for("kto")
BAD: dict[str, Case] = {
    "all pairs equal": ("dpo", [{**ROW, "rejected": "yo"}] * 3, {}, "3 left out, chosen and rejected are the same"),
    "labels all alike": ("kto", [{**row, "label": True} for row in LABELLED], {}, "all 12 labels are true"),
    "one prompt": ("kto", [{**row, "prompt": "hi"} for row in LABELLED], {}, "all 12 prompts of train are the same"),
    "one prompt held out": (
        "kto",
        LABELLED,
        {"data": {"train": "rows.jsonl", "eval": 1}},
        "Raise data.eval from 1, or leave it out",
    ),
    "no label": ("kto", data_for("sft"), {}, 'key "label": found nothing'),
    "label of words": ("kto", [{**LABELLED[0], "label": "yes"}], {}, 'found text ("yes"), expected true or false'),
    "pairs for kto": ("kto", pairs(), {}, "pairs_as_labels: true"),
    "pairs for sft": ("sft", pairs(), {}, "Write objective: dpo"),
    "answers for dpo": ("dpo", data_for("sft"), {}, "found the keys input, output"),
    "empty answer": ("dpo", [ROW, {**ROW, "rejected": " "}], {}, 'row 2, key "rejected": found empty text'),
    "empty prompt": ("sft", [{"input": "", "output": "a"}], {}, 'row 1, key "input": found empty text'),
    "longer than the context": ("sft", [*data_for("sft"), {"input": LONG, "output": "a"}], {}, "row 13: found 30"),
    "longer than max_tokens": ("sft", data_for("sft"), {"max_tokens": 20}, "at most 20, as max_tokens says"),
    "max_tokens above the context": ("sft", data_for("sft"), {"max_tokens": 4096}, "the model's context of 2048"),
    "nothing fits": ("sft", data_for("sft"), {"max_tokens": 20, "longer_rows": "drop"}, "12 left out, longer than 20"),
    "everything held out": ("dpo", [ROW] * 3, {"data": {"train": "rows.jsonl", "eval": 0.5}}, "0.5 of 1 different"),
    "no layer of this name": (
        "sft",
        data_for("sft"),
        {"adapter": {"target": ["qq_proj"]}},
        '"qq_proj" names no linear',
    ),
    "start_from is no adapter": ("dpo", pairs(), {"start_from": "model", "adapter": None}, "this is a whole model"),
    "template refuses a variable": ("sft", data_for("sft"), {"chat_template_kwargs": {"messages": 1}}, "Leave it out"),
}


@pytest.mark.parametrize("case", BAD)
def test_one_clear_sentence_and_nothing_left_behind(
    case: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    objective, rows, keys, said = BAD[case]
    (tmp_path / "model").symlink_to(model)
    assert lastresort(monkeypatch, "train", str(training_file(tmp_path, objective, rows, **keys))) == 2
    out, told = capsys.readouterr()
    assert said in told
    assert "Traceback" not in told
    assert out == ""
    assert not (tmp_path / "out").exists()


def run(folder: Path, model: Path, monkeypatch: pytest.MonkeyPatch, *words: str, **keys: Any) -> int:
    return lastresort(monkeypatch, "train", str(training_file(folder, model=str(model), **keys)), *words)


def test_rows_left_out_or_cut_are_counted_and_named(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [*pairs(), {**ROW, "rejected": "yo"}, {**ROW, "chosen": LONG}, {**ROW, "prompt": LONG}]
    assert run(tmp_path, model, monkeypatch, rows=rows, longer_rows="truncate") == 0
    out = capsys.readouterr().out
    findings = {finding["what"]: finding for finding in record(tmp_path / "out")["data"]["findings"]}
    assert {what: finding["count"] for what, finding in findings.items()} == {
        "left out, chosen and rejected are the same": 1,
        "cut to 2048 tokens": 1,
        "left out, longer than 2048 tokens": 1,
    }
    assert findings["cut to 2048 tokens"]["places"] == [f"{tmp_path / 'rows.jsonl'}, row 14"]
    assert f"1 left out, chosen and rejected are the same: {tmp_path / 'rows.jsonl'}, row 13" in out
    assert record(tmp_path / "out")["data"]["items"] == 13


@pytest.mark.slow
def test_a_mismatched_answer_that_would_not_fit_is_cut(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = "x" * 1500  # bytes, and tokens of the tiny model, whose context is 2,048
    rows = [
        {"prompt": long, "completion": "yo", "label": True},
        {"prompt": "hi", "completion": long, "label": False},
    ]
    assert run(tmp_path, model, monkeypatch, objective="kto", rows=rows) == 0
    (finding,) = record(tmp_path / "out")["data"]["findings"]
    assert finding["what"] == "whose mismatched answer, for kto's baseline, was cut to 2048 tokens"
    assert finding["places"] == [f"{tmp_path / 'rows.jsonl'}, row 1"]


@pytest.mark.filterwarnings("error:.*checkpointing:FutureWarning")
def test_what_transformers_says_of_long_rows_and_checkpointing_stays_unsaid(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Our own sentences tell of long rows; the tokenizer of a folder knows its model's context."""
    import shutil

    shutil.copytree(model, tmp_path / "model")
    config = tmp_path / "model" / "tokenizer_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"model_max_length": 2048}), encoding="utf-8")
    rows = [*pairs(), {**ROW, "chosen": LONG}]
    keys: dict[str, Any] = {"rows": rows, "longer_rows": "drop", "checkpointing": True, "max_steps": 1}
    assert run(tmp_path, tmp_path / "model", monkeypatch, **keys) == 0
    told = capfd.readouterr()
    assert "1 left out, longer than 2048 tokens" in told.out + told.err
    assert "Token indices" not in told.out + told.err


def test_files_of_one_name_are_told_apart_when_a_run_goes_on(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for part in ("a", "b"):
        (tmp_path / part).mkdir()
        write_rows(tmp_path / part / "rows.jsonl", pairs())
    keys: dict[str, Any] = {"data": ["a/rows.jsonl", "b/rows.jsonl"], "max_steps": 1}
    assert run(tmp_path, model, monkeypatch, **keys) == 0
    write_rows(tmp_path / "a" / "rows.jsonl", pairs(11))
    assert run(tmp_path, model, monkeypatch, "--resume", **keys) == 2
    assert "a/rows.jsonl has changed since this run began" in capsys.readouterr().err


def test_an_adapter_of_another_base_is_refused_before_its_weights_are_read(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from adapters_support import family_folder

    assert run(tmp_path / "sft", model, monkeypatch, objective="sft", max_steps=1) == 0
    other = family_folder(tmp_path / "other", "llama", torch.float32)
    keys: dict[str, Any] = {"start_from": str(tmp_path / "sft" / "out" / "adapter"), "adapter": None}
    assert run(tmp_path / "dpo", other, monkeypatch, **keys) == 2
    told = capsys.readouterr().err
    assert f"expected an adapter of {other}, while this one was trained on {model}" in told


def test_files_of_a_folder_that_change_places_are_another_folder(model: Path, tmp_path: Path) -> None:
    from lastresort.spec.training import load_training
    from lastresort.train.files.run_folder import identity

    file, folder = load_training(training_file(tmp_path, model=str(model))), tmp_path / "adapter"
    for name, text in {"a/weights": "1", "b/weights": "2"}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    started = replace(file, start_from=folder)
    before = identity(started)
    assert identity(started) == before
    (folder / "a").rename(folder / "c")
    (folder / "b").rename(folder / "d")
    assert identity(started) != before


def test_a_folder_that_is_not_empty(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    assert run(tmp_path, model, monkeypatch) == 2
    assert "the output folder is not empty" in capsys.readouterr().err
    assert run(tmp_path, model, monkeypatch, "--resume") == 2
    assert "expected a run to resume" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["notes.txt"]


def test_a_finished_run_is_read_back_and_another_file_refused(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, model, monkeypatch, max_steps=2) == 0
    before = (tmp_path / "out" / "training.json").read_bytes()
    assert run(tmp_path, model, monkeypatch, max_steps=2) == 2
    assert "Add --resume" in capsys.readouterr().err
    assert lastresort(monkeypatch, "train", str(tmp_path / "out"), "--resume") == 2
    assert "out: found the output folder of a training, expected the training file" in capsys.readouterr().err
    assert run(tmp_path, model, monkeypatch, "--resume", max_steps=2) == 0
    assert "nothing is left to do" in capsys.readouterr().err
    assert (tmp_path / "out" / "training.json").read_bytes() == before
    assert run(tmp_path, model, monkeypatch, "--resume", max_steps=3) == 2
    assert "max_steps was 2 when this run began and is 3 now" in capsys.readouterr().err
    assert run(tmp_path, model, monkeypatch, "--resume", max_steps=2, rows=pairs(11)) == 2
    assert "rows.jsonl has changed since this run began" in capsys.readouterr().err


@pytest.mark.parametrize("steps", [0, 2])
def test_a_run_that_diverges_says_so_and_keeps_its_log(
    steps: int, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    finite = iter([True, True] * steps + [False])  # of each step the loss and the norm of its gradients
    monkeypatch.setattr("lastresort.train.loop.loop.math", SimpleNamespace(isfinite=lambda loss: next(finite)))
    assert run(tmp_path, model, monkeypatch) == 2
    assert f"in step {steps + 1} of 6" in capsys.readouterr().err
    log = tmp_path / "out" / "log.jsonl"
    assert (log.read_text(encoding="utf-8").count("\n") if steps else (tmp_path / "out").exists()) == steps


@pytest.mark.parametrize("known", [True, False])
def test_an_optimizer_that_cannot_run_here_leaves_the_folder_free(
    known: bool, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """known: before anything is loaded. Otherwise the run has begun when it is found, and is taken back."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    if not known:
        monkeypatch.setattr("lastresort.train.files.run.require_optimizer", lambda name: None)
    assert run(tmp_path, model, monkeypatch, optimizer="paged_adamw_8bit", max_steps=1) == 3
    told = capsys.readouterr().err
    assert "optimizer paged_adamw_8bit: no CUDA device here. Take adamw." in told
    assert ("loading the model" in told) != known
    assert not (tmp_path / "out").exists()
    assert run(tmp_path, model, monkeypatch, max_steps=1) == 0


@pytest.mark.parametrize("tracker", ["tensorboard", "mlflow", "wandb", "trackio"])
def test_a_tracker_that_is_not_installed(
    tracker: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import importlib.util

    there: Callable[..., Any] = importlib.util.find_spec
    monkeypatch.setattr(
        "lastresort.train.files.run_folder.importlib.util.find_spec",
        lambda name, *rest: None if name.startswith(tracker) else there(name, *rest),
    )
    assert run(tmp_path, model, monkeypatch, track=[tracker]) == 3
    assert f"{tracker} is not installed. Run: pip install {tracker}" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


LONG_RUN: dict[str, Any] = {"epochs": 5, "data": {"train": "rows.jsonl", "eval": 3}, "objective": "dpo"}
"""Fifteen steps."""


@pytest.fixture(scope="module")
def uncut(model: Path, tmp_path_factory: pytest.TempPathFactory, whole_answers_are_read: None) -> Path:
    folder = tmp_path_factory.mktemp("uncut")
    with pytest.MonkeyPatch.context() as patch:
        assert run(folder, model, patch, **LONG_RUN) == 0
    return folder / "out"


def killed_after(steps: int, folder: Path, model: Path) -> None:
    """Train in a process of its own, killed as soon as its log has so many lines."""
    path = training_file(folder, model=str(model), checkpoint_every_s=0, **LONG_RUN)
    training = Program("train", str(path), environment={**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())})
    log = folder / "out" / "log.jsonl"
    while training.poll() is None and not (log.exists() and log.read_bytes().count(b"\n") >= steps):
        time.sleep(0.001)
    training.kill()


def lines(folder: Path) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in found]


@pytest.mark.slow
@pytest.mark.parametrize("steps", [1, 6])
def test_killed_and_resumed_is_uncut_bit_for_bit(
    steps: int,
    model: Path,
    uncut: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    killed_after(steps, tmp_path, model)
    assert not (tmp_path / "out" / "training.json").exists(), "it was killed too late"
    assert run(tmp_path, model, monkeypatch, "--resume", **LONG_RUN) == 0
    told = capsys.readouterr().err
    assert steps == 1 or "training continues from step" in told
    weights = "adapter/adapter_model.safetensors"
    assert (tmp_path / "out" / weights).read_bytes() == (uncut / weights).read_bytes()
    assert lines(tmp_path / "out") == lines(uncut)
    assert record(tmp_path / "out")["epochs"] == record(uncut)["epochs"]


@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", ["weights.safetensors", "optimizer.safetensors", "state.json"])
def test_a_checkpoint_cut_short(
    name: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, model, monkeypatch, max_steps=2) == 0
    (tmp_path / "out" / "training.json").unlink()
    file = tmp_path / "out" / "checkpoint" / name
    file.write_bytes(file.read_bytes()[:-20])
    assert run(tmp_path, model, monkeypatch, "--resume", max_steps=2) == 2
    told = capsys.readouterr().err
    assert f"{file}: the checkpoint is cut short or damaged" in told
    assert f"remove the folder {file.parent} to train from the start" in told
    assert (tmp_path / "out" / "log.jsonl").exists()


DEEP = "[" * 100_000
DAMAGED: dict[str, str] = {
    "checkpoint/state.json": DEEP,
    "base_answers.json": DEEP,
    "base_answers.json, cut": '{"watched": {',
    "base_answers.json, another form": '{"watched": 3}',
}


@pytest.mark.sampled(4)
@pytest.mark.parametrize("what", DAMAGED)
def test_what_a_training_kept_and_cannot_read_is_named(
    what: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, model, monkeypatch, max_steps=2) == 0
    (tmp_path / "out" / "training.json").unlink()
    path = tmp_path / "out" / what.partition(",")[0]
    assert path.is_file()
    path.write_text(DAMAGED[what])
    assert run(tmp_path, model, monkeypatch, "--resume", max_steps=2) == 2
    told = capsys.readouterr().err
    assert f"{path}: the " in told
    assert "cut short or damaged" in told
    assert "remove " in told


def test_lines_of_a_log_that_are_none_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text(f'{{"step": 1, "loss": NaN}}\n{DEEP}\n{{"step": {"9" * 5000}}}\n{{"step": 2, "lo')
    assert [line["step"] for line in StepLog(path).lines()] == [1]


def test_two_processes_do_not_share_a_folder(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from lastresort.spec.training import load_training
    from lastresort.train.files.run_folder import begin, held, identity

    file = load_training(training_file(tmp_path, model=str(model)))
    with held(file.output):
        begin(file.output, identity(file))
        assert run(tmp_path, model, monkeypatch, "--resume") == 2
    assert "another process trains into this folder" in capsys.readouterr().err
