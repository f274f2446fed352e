"""A climb of sft, then dpo on top of it, on pairs: what it records, and how each training is put together again from that."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from climb_support import reason_lines
from lastresort.app.climb import Climbed
from lastresort.app.exported import of_climb
from lastresort.errors import DataError, InputError
from lastresort.interop.exporting.export import export
from lastresort.records.events.search import RungSearched
from lastresort.records.events.training import DriftMeasured, ReplayMade, TrainingReached
from lastresort.records.record import Record
from train_support import lastresort
from tuning_support import SUPERVISED, Scissors, climbed, pairs, steps_of, tiny_task


@pytest.fixture(scope="module")
def on_pairs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Climbed, Scissors]:
    """sft with replay, then dpo on top of it; neither meets the bar."""
    folder = tmp_path_factory.mktemp("pairs")
    path = tiny_task(folder, preferences=pairs(), score={"python": "score.py:vowels"}, sft=SUPERVISED)
    scissors = Scissors()
    return climbed(path, folder / "runs" / "tiny-1", scissors), scissors


def test_pairs_train_dpo_from_the_adapter_of_sft(on_pairs: tuple[Climbed, Scissors]) -> None:
    found, _ = on_pairs
    sft, preference = found.decision.as_json()["rungs"]
    assert preference["chosen"].startswith("dpo-lr")
    assert preference["test"] is not None
    with Record.open(found.run, read_only=True) as record:
        training = [one for one in record.all(TrainingReached) if one.rung == "preference"]
        search = record.last(RungSearched, "preference")
        curve = steps_of(record, "dpo-lr0.003")
    assert {one.start for one in training} == {sft["chosen"]}
    assert all(one.path == "packed" for one in training)
    assert search is not None
    assert "DPO on the task's pairs, from the adapter of sft" in search.in_words
    assert curve[0]["margin"] == pytest.approx(0, abs=1e-4)  # the reference is the start
    assert curve[-1]["margin"] > 0


def test_how_many_layers_the_adapters_reach_is_said_once_a_rung_and_recorded(
    on_pairs: tuple[Climbed, Scissors],
) -> None:
    found, scissors = on_pairs
    with Record.open(found.run, read_only=True) as record:
        reach = [one.adapted for one in record.all(TrainingReached) if one.adapted is not None]
    assert {(one.layers, one.all_layers) for one in reach} == {(2, 2)}
    (parameters,) = {one.parameters for one in reach}
    told = f"adapters in 2 of 2 layers, {parameters:,} parameters"
    assert [line for line in scissors.said if "layers" in line] == [f"sft: {told}", f"preference: {told}"]


def test_every_candidate_is_recorded_with_margin_kl_and_length(on_pairs: tuple[Climbed, Scissors]) -> None:
    found, _ = on_pairs
    preference = found.decision.as_json()["rungs"][1]
    names = [candidate["name"] for candidate in preference["candidates"]]
    assert len(names) == 3  # two rates after the first epoch, one of them after the second
    with Record.open(found.run, read_only=True) as record:
        drifts = {drift.candidate: drift for drift in record.all(DriftMeasured)}
    assert list(drifts) == names
    for drift in drifts.values():
        moved, length = drift.moved, drift.length
        assert moved.kl > 0
        assert moved.kl_answers == 32
        assert moved.margin_of == "pairs held out"
        assert 0 <= (moved.margin_above_0 or 0) <= 1
        assert length.tokens_before > 0
    far, near = (max((n for n in names if rate in n), key=len) for rate in ("0.003", "0.001"))
    assert drifts[far].moved.margin > drifts[near].moved.margin > 0  # type: ignore[operator]
    chosen = drifts[preference["chosen"]]
    assert any(
        "KL to the starting model: " in reason and reason.startswith("preference: ")
        for reason in reason_lines(found.decision.as_json())
    )
    page = (found.run / "report.html").read_text(encoding="utf-8")
    assert "Margin, nats" in page
    assert f"{chosen.length.tokens_after:.1f}" in page


def test_supervised_rows_are_the_tasks_and_the_replay_with_dev_held_out(on_pairs: tuple[Climbed, Scissors]) -> None:
    found = of_climb(on_pairs[0].run, "sft")
    with Record.open(on_pairs[0].run, read_only=True) as record:
        noted = record.all(TrainingReached)[-1]
        [replay] = record.all(ReplayMade)
    assert len(found.train) == 70 + len(replay.rows)
    assert len(found.held_out) == 20
    assert found.train[0]["messages"][0] == {"role": "system", "content": "Name it."}
    assert [turn["role"] for turn in found.train[0]["messages"]] == ["system", "user", "assistant"]
    first, last = replay.rows[0], found.train[70]["messages"]
    assert last[-1] == {"role": "assistant", "content": first.answer}
    assert [turn["role"] for turn in last[:-1]] == [role for role, _ in first.turns]
    assert f"The last {len(replay.rows)} rows are replay" in found.notes[0]
    assert noted.rung == "preference"


def test_its_settings_are_those_that_were_noted(on_pairs: tuple[Climbed, Scissors]) -> None:
    found = of_climb(on_pairs[0].run, "sft").document
    said = {
        "learning_rate": 0.003,
        "epochs": 2,
        "batch_size": 16,
        "warmup": 0.05,
        "schedule": "linear",
        "objective": "sft",
        "loraplus_lr_ratio": 2,
    }
    assert {key: found[key] for key in said} == said
    assert found["adapter"] == {"kind": "lora", "r": 4, "alpha": 8, "target": "attention", "dropout": 0.0}
    assert found["model"] == str((on_pairs[0].run.parents[1] / "model").resolve())


def test_preferences_go_on_from_the_adapter_of_sft(on_pairs: tuple[Climbed, Scissors], tmp_path: Path) -> None:
    found = of_climb(on_pairs[0].run, "preference")
    assert (len(found.train), len(found.held_out)) == (54, 6)  # a tenth of the prompts is held out
    assert found.document["objective"] == "dpo"
    assert found.train[0]["prompt"][0] == {"role": "system", "content": "Name it."}
    written = export(found, "trl", tmp_path / "out")
    start = json.loads((written.folder / "start" / "adapter_config.json").read_text(encoding="utf-8"))
    assert start["r"] == 4
    held = [json.loads(line) for line in (written.folder / "eval.jsonl").read_text(encoding="utf-8").splitlines()]
    assert not {row["prompt"][-1]["content"] for row in held} & {row["prompt"][-1]["content"] for row in found.train}


def test_a_run_whose_task_file_was_moved_is_exported_with_it(
    on_pairs: tuple[Climbed, Scissors],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = on_pairs[0].run
    task = run.parents[1] / "task.yaml"
    arguments = ("export", str(run), "--to", "trl", "--rung", "sft", "--out", str(tmp_path / "out"))
    moved = task.rename(task.with_name("moved.yaml"))
    try:
        assert lastresort(monkeypatch, *arguments) == 2
        assert "Name it with --task FILE" in capsys.readouterr().err
        assert lastresort(monkeypatch, *arguments, "--task", str(moved)) == 0, capsys.readouterr().err
    finally:
        moved.rename(task)
    assert f"written: {tmp_path / 'out'} " in capsys.readouterr().out


def test_a_climb_without_a_tuned_winner_says_so_and_names_what_was_trained(on_pairs: tuple[Climbed, Scissors]) -> None:
    with pytest.raises(InputError, match=r"no system won.*Add --rung sft to export what sft and preference trained"):
        of_climb(on_pairs[0].run)
    with pytest.raises(InputError, match=r"the rung full trained nothing in this climb; sft and preference did"):
        of_climb(on_pairs[0].run, "full")


def test_rows_that_are_others_than_those_trained_on_are_refused(
    on_pairs: tuple[Climbed, Scissors], tmp_path: Path
) -> None:
    rows = on_pairs[0].run.parents[1] / "rows.jsonl"
    before = rows.read_text(encoding="utf-8")
    rows.write_text(before.replace("ape 0?", "ape zero?"), encoding="utf-8")
    try:
        with pytest.raises(DataError, match=r"rows\.jsonl changed since the run"):
            of_climb(on_pairs[0].run, "sft")
    finally:
        rows.write_text(before, encoding="utf-8")
