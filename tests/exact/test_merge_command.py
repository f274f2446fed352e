"""`lastresort merge` from the command line: the default names, one JSON document, the GGUF of what was merged."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from adapters_support import family_folder, logits, tuned
from lastresort.cli.border import guarded
from lastresort.cli.main import app
from lastresort.models.loading import load_local
from lastresort.train.adapters.adapters import save_adapter


def lastresort(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["lastresort", *arguments])
    return guarded(app)


def adapter(folder: Path, dtype: torch.dtype = torch.float32, **settings: object) -> Path:
    base = family_folder(folder / "base", "llama", dtype)
    quantize = settings.get("quantize")
    loaded = load_local(base, precision=str(dtype).removeprefix("torch."), quantize="nf4" if quantize else "no")
    save_adapter(tuned(loaded.model, base_name=str(base), **settings), folder / "tickets")  # type: ignore[arg-type]
    return folder / "tickets"


@pytest.mark.slow
def test_the_base_and_the_folder_have_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = adapter(tmp_path)
    capsys.readouterr()
    assert lastresort(monkeypatch, "merge", str(folder)) == 0
    out, error = capsys.readouterr()
    merged = load_local(tmp_path / "tickets-merged", precision="float32")
    unmerged = load_local(tmp_path / "base", precision="float32", adapter=folder)
    torch.testing.assert_close(logits(merged.model), logits(unmerged.model), rtol=0, atol=1e-4)
    assert out.startswith(f"14 layers of {tmp_path / 'base'} merged into the weights, scale 1, float32\n")
    assert f"model: {tmp_path / 'tickets-merged'}" in out
    assert "Warning" not in error


def test_one_json_document_and_a_gguf_of_the_merged_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from transformers import AutoModelForCausalLM

    folder = adapter(tmp_path)
    capsys.readouterr()
    monkeypatch.chdir(folder)
    assert lastresort(monkeypatch, "merge", ".", "--scale", "0.5", "--gguf", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["scale"], found["layers"], found["into"], found["dtype"]) == (0.5, 14, "16bit", "float32")
    assert found["check"]["relative_difference"] <= found["check"]["tolerance"]
    assert found["check"]["drowned"] is False
    gguf = Path(found["gguf"]["path"])
    assert gguf == tmp_path / "tickets-merged/gguf/tickets-F32.gguf"
    assert Path(found["gguf"]["modelfile"]).read_text().startswith("FROM ./tickets-F32.gguf\n")
    model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32).eval()
    merged = load_local(tmp_path / "tickets-merged", precision="float32").model
    torch.testing.assert_close(logits(model), logits(merged), rtol=0, atol=1e-5)


def test_a_qlora_adapter_goes_into_four_bits_unless_told_and_a_drowned_one_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = adapter(tmp_path, torch.bfloat16, quantize="nf4")
    capsys.readouterr()
    assert lastresort(monkeypatch, "merge", str(folder), "--scale", "0.01") == 0
    out, error = capsys.readouterr()
    assert "merged into the dequantised 4-bit weights, scale 0.01, bfloat16" in out
    assert "Warning: rounding to bfloat16 is as large as what the adapter changes" in error
    assert lastresort(monkeypatch, "merge", str(folder), "--into", "16bit", "--out", str(tmp_path / "o")) == 0
    assert "merged into the weights, scale 1, bfloat16" in capsys.readouterr().out
