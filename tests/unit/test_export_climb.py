"""The training of a climb, put together again from its record: rows, settings, what it started from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lastresort.app.climb import Climbed
from lastresort.app.exported import of_climb
from lastresort.errors import DataError, InputError
from lastresort.interop.exporting.export import export
from lastresort.records.events.training import ReplayMade, SamplesPaired, TrainingReached
from lastresort.records.record import Record
from tuning_support import climbed, labels, pairs, tiny_task

SUPERVISED = {"learning_rates": [0.003], "epochs": 2, "r": 4, "replay": 0.1, "loraplus_lr_ratio": 2}
HOPELESS = {"python": "score.py:begins"}
ONE_RATE = {"learning_rates": [0.003], "epochs": 1, "samples": 4}


@pytest.fixture(scope="module")
def on_pairs(tmp_path_factory: pytest.TempPathFactory) -> Climbed:
    """sft with replay, then dpo on top of it; neither meets the bar."""
    folder = tmp_path_factory.mktemp("pairs")
    path = tiny_task(folder, preferences=pairs(), score={"python": "score.py:vowels"}, sft=SUPERVISED)
    return climbed(path, folder / "runs" / "tiny-1")


def test_supervised_rows_are_the_tasks_and_the_replay_with_dev_held_out(on_pairs: Climbed) -> None:
    found = of_climb(on_pairs.run, "sft")
    with Record.open(on_pairs.run, read_only=True) as record:
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


def test_its_settings_are_those_that_were_noted(on_pairs: Climbed) -> None:
    found = of_climb(on_pairs.run, "sft").document
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
    assert found["model"] == str((on_pairs.run.parents[1] / "model").resolve())


def test_preferences_go_on_from_the_adapter_of_sft(on_pairs: Climbed, tmp_path: Path) -> None:
    found = of_climb(on_pairs.run, "preference")
    assert (len(found.train), len(found.held_out)) == (54, 6)  # a tenth of the prompts is held out
    assert found.document["objective"] == "dpo"
    assert found.train[0]["prompt"][0] == {"role": "system", "content": "Name it."}
    written = export(found, "trl", tmp_path / "out")
    start = json.loads((written.folder / "start" / "adapter_config.json").read_text(encoding="utf-8"))
    assert start["r"] == 4
    held = [json.loads(line) for line in (written.folder / "eval.jsonl").read_text(encoding="utf-8").splitlines()]
    assert not {row["prompt"][-1]["content"] for row in held} & {row["prompt"][-1]["content"] for row in found.train}


def test_a_climb_without_a_tuned_winner_says_so_and_names_what_was_trained(on_pairs: Climbed) -> None:
    with pytest.raises(InputError, match=r"no system won.*Add --rung sft to export what sft and preference trained"):
        of_climb(on_pairs.run)
    with pytest.raises(InputError, match=r"the rung full trained nothing in this climb; sft and preference did"):
        of_climb(on_pairs.run, "full")


def test_rows_that_are_others_than_those_trained_on_are_refused(on_pairs: Climbed, tmp_path: Path) -> None:
    rows = on_pairs.run.parents[1] / "rows.jsonl"
    before = rows.read_text(encoding="utf-8")
    rows.write_text(before.replace("ape 0?", "ape zero?"), encoding="utf-8")
    try:
        with pytest.raises(DataError, match=r"rows\.jsonl changed since the run"):
            of_climb(on_pairs.run, "sft")
    finally:
        rows.write_text(before, encoding="utf-8")


@pytest.mark.slow
def test_a_tuned_winner_needs_no_rung(tmp_path: Path) -> None:
    path = tiny_task(tmp_path, ladder=["sft"], bar=0.01, sft=SUPERVISED)
    found = climbed(path, tmp_path / "runs" / "tiny-1")
    assert found.decision.as_json()["winner"]["kind"] == "adapter"
    training = of_climb(found.run)
    assert training.name == "tiny, sft of a climb"
    assert training.layers == ("k_proj", "o_proj", "q_proj", "v_proj")
    kept = found.decision.as_json()["rungs"][0]["chosen"].rpartition("epoch")[2]
    assert any(f"after epoch {kept} of a schedule for 2" in note for note in training.notes) == (kept == "1")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("keys", "objective", "columns"),
    [
        ({"preferences": labels(), "ladder": ["preference"]}, "kto", {"messages", "label"}),
        ({"preferences": pairs(), "ladder": ["preference"]}, "orpo", {"prompt", "chosen", "rejected"}),
    ],
)
def test_every_source_of_preferences(keys: dict[str, Any], objective: str, columns: set[str], tmp_path: Path) -> None:
    path = tiny_task(tmp_path, **{"preference": ONE_RATE, "score": HOPELESS, **keys})
    found = of_climb(climbed(path, tmp_path / "runs" / "tiny-1").run, "preference")
    assert found.document["objective"] == objective
    assert found.document["adapter"]["r"] == 4
    assert set(found.train[0]) == columns


@pytest.mark.release
def test_pairs_of_the_models_own_samples_are_read_from_the_record(tmp_path: Path) -> None:
    path = tiny_task(
        tmp_path,
        head=20,
        score=HOPELESS,
        sft={"learning_rates": [0.003], "epochs": 6, "r": 16, "target": "all-linear", "replay": 0.0},
        preference={"learning_rates": [0.003], "epochs": 1},
        decode={"max_new_tokens": 8},
    )
    run = climbed(path, tmp_path / "runs" / "tiny-1").run
    found = of_climb(run, "preference")
    with Record.open(run, read_only=True) as record:
        samples = record.last(SamplesPaired)
    assert samples is not None
    assert 0.8 * len(samples.pairs) < len(found.train) < len(samples.pairs)
    written = {(row["chosen"][0]["content"], row["rejected"][0]["content"]) for row in found.train}
    assert written <= {(pair.chosen.text, pair.rejected.text) for pair in samples.pairs}


@pytest.mark.slow
def test_a_reward_goes_along_with_its_prompts(tmp_path: Path) -> None:
    reward = [{"python": "score.py:letters", "weight": 0.5}]
    path = tiny_task(tmp_path, ladder=["preference"], preference=ONE_RATE, score=HOPELESS, reward=reward)
    found = of_climb(climbed(path, tmp_path / "runs" / "tiny-1").run, "preference")
    assert (found.document["objective"], found.document["group_size"]) == ("grpo", 4)
    assert found.train[0]["completion"] in ("red", "blue", "green")
    assert found.train[0]["prompt"][-1]["role"] == "user"
    written = export(found, "axolotl", tmp_path / "out")
    assert (written.folder / "score.py").is_file()
    assert "'score.py:letters'" in (written.folder / "rewards.py").read_text(encoding="utf-8")


@pytest.mark.slow
def test_all_weights_of_the_rung_full(tmp_path: Path) -> None:
    full = {"learning_rates": [0.003], "epochs": 1, "replay": 0.1}
    path = tiny_task(tmp_path, ladder=["full"], full=full, score=HOPELESS)
    found = of_climb(climbed(path, tmp_path / "runs" / "tiny-1").run, "full")
    assert (found.document["adapter"], found.document["epochs"]) == ("full", 1)
    assert len(found.train) > 70
