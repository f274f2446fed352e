"""A YAML of Axolotl with only its base model replaced trains the embedded model to an adapter that PEFT loads."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from axolotl_sample import FILE
from lastresort.embedded import embedded_folder
from train_support import ANIMALS, lastresort, record, write_rows

pytestmark = pytest.mark.slow


@pytest.mark.release
def test_the_file_trains_the_embedded_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    pairs = [{"question": f"Is {name} an animal?", "chosen": "Yes, it is.", "rejected": "No."} for name in ANIMALS[:4]]
    write_rows(tmp_path / "my_preference_dataset.jsonl", pairs)
    (tmp_path / "config.yml").write_text(FILE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert lastresort(monkeypatch, "train", "config.yml", "--set", "base_model=embedded") == 0
    found = record(tmp_path / "model-out")
    assert found["trained"]["steps"] == 12
    assert found["model"]["quantised"] is not None
    assert found["file"]["origin"]["framework"] == "axolotl"
    base = AutoModelForCausalLM.from_pretrained(embedded_folder(), dtype=torch.float32)
    ids = torch.tensor([[5, 6, 7]])
    before = base(ids).logits
    adapted = PeftModel.from_pretrained(base, tmp_path / "model-out" / "adapter")
    assert adapted.peft_config["default"].r == 16
    assert not torch.equal(adapted(ids).logits, before)
