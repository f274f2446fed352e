"""Rows in segments train what the same rows train as conversations, packed, with every kind of objective."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lastresort.errors import DataError
from lastresort.spec.training import load_training
from lastresort.train.files.run import run_training
from lastresort.types import SilentProgress
from tiny_model import save_tiny_model
from train_support import data_for, training_file


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("base") / "model")


def asked(prompt: str) -> list[dict[str, Any]]:
    return [{"text": f"<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n"}]


def in_segments(row: dict[str, Any]) -> dict[str, Any]:
    """What the tiny model's template writes of a row, the line break behind the end token included, which is no target."""
    if "chosen" in row:
        return {
            "segments": asked(row["prompt"]),
            **{f"{side}_segments": ended(row[side]) for side in ("chosen", "rejected")},
        }
    prompt, answer = row.get("input", row.get("prompt")), row.get("output", row.get("completion"))
    label = {"label": row["label"]} if "label" in row else {}
    return {"segments": [*asked(str(prompt)), {**ended(str(answer))[0], "train": True}], **label}


def ended(answer: str) -> list[dict[str, Any]]:
    return [{"text": answer, "end": True}]


def losses(
    folder: Path, model: Path, objective: str, rows: list[Any], **keys: Any
) -> tuple[list[float], dict[str, Any]]:
    file = load_training(training_file(folder, objective, rows, model=str(model), **keys))
    found = run_training(file, resume=False, progress=SilentProgress()).as_json()
    return [step["loss"] for step in found["steps"]], found


@pytest.mark.sampled(4)
@pytest.mark.parametrize("objective", ["sft", "dpo", "orpo", "kto"])
def test_segments_train_what_conversations_train(objective: str, model: Path, tmp_path: Path) -> None:
    rows, keys = data_for(objective), {"data": {"train": "rows.jsonl", "eval": 3}}
    plain, _ = losses(tmp_path / "plain", model, objective, rows, **keys)
    found, record = losses(tmp_path / "segments", model, objective, [in_segments(row) for row in rows], **keys)
    assert found == pytest.approx(plain, rel=1e-5)
    assert record["trained"]["path"] == "packed"
    assert record["trained"]["check"]["ok"]
    assert record["data"]["eval_items"] == 3


def test_pairs_in_segments_as_labels(model: Path, tmp_path: Path) -> None:
    rows = data_for("dpo")
    plain, _ = losses(tmp_path / "plain", model, "kto", rows, pairs_as_labels=True)
    found, _ = losses(tmp_path / "segments", model, "kto", [in_segments(row) for row in rows], pairs_as_labels=True)
    assert found == pytest.approx(plain, rel=1e-5)


def test_a_segment_says_itself_whether_it_is_trained(model: Path, tmp_path: Path) -> None:
    rows = [in_segments(row) for row in data_for("sft")]
    with pytest.raises(DataError, match=r"found segments together with trained_turns: last"):
        losses(tmp_path, model, "sft", rows, trained_turns="last")
