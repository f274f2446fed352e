"""The training of a climb, put together again from its record: rows, settings, what it started from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lastresort.app.exported import of_climb
from lastresort.interop.exporting.export import export
from lastresort.records.events.training import SamplesPaired
from lastresort.records.record import Record
from tuning_support import SUPERVISED, climbed, labels, pairs, tiny_task

HOPELESS = {"python": "score.py:begins"}
ONE_RATE = {"learning_rates": [0.003], "epochs": 1, "samples": 4}


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
