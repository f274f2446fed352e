"""What can be wrong with an adapter, a base or a folder: one clear error each, and nothing left behind."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from adapters_support import family_folder, tuned
from lastresort.cli.border import guarded
from lastresort.cli.main import app
from lastresort.errors import DataError, InfrastructureError, InputError, LastresortError, PrerequisiteError
from lastresort.models.loading import load_local
from lastresort.train.adapters.adapters import save_adapter
from lastresort.train.adapters.merge import compare, merge_adapter, refuse_if_different


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base with an adapter of it, and other bases that the adapter is not of."""
    folder = tmp_path_factory.mktemp("sources")
    for name, family, changes in (
        ("base", "llama", {}),
        ("wider", "llama", {"hidden_size": 64}),
        ("flatter", "llama", {"num_hidden_layers": 1}),
        ("gpt2", "gpt2", {}),
        ("untied", "llama", {"tie_word_embeddings": False}),
        ("tied", "llama", {"tie_word_embeddings": True}),
    ):
        family_folder(folder / name, family, **changes)
    model = load_local(folder / "base", precision="float32").model
    save_adapter(tuned(model, base_name="org/base"), folder / "adapter")
    return folder


@pytest.fixture
def adapter(sources: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(sources / "adapter", tmp_path / "adapter"))


def settings(adapter: Path, **changes: object) -> None:
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def weights(adapter: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> None:
    from safetensors.torch import load_file, save_file

    path = adapter / "adapter_model.safetensors"
    save_file(change(load_file(str(path))), str(path))


def cut(adapter: Path) -> None:
    path = adapter / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def empty(adapter: Path) -> None:
    (adapter / "adapter_model.safetensors").write_bytes(b"")


SPOILT: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut short": (cut, "cut short or damaged"),
    "empty weights": (empty, "cut short or damaged"),
    "no weights": (lambda a: (a / "adapter_model.safetensors").unlink(), "no adapter_model.safetensors"),
    "no configuration": (lambda a: (a / "adapter_config.json").unlink(), "no adapter_config.json"),
    "configuration cut": (lambda a: (a / "adapter_config.json").write_text('{"r": 4,'), "invalid JSON"),
    "no adapter folder": (shutil.rmtree, "no such folder"),
    "another method": (lambda a: settings(a, peft_type="IA3"), "found IA3"),
    "whole layers too": (lambda a: settings(a, modules_to_save=["lm_head"]), 'key "modules_to_save"'),
    "biases too": (lambda a: settings(a, bias="all"), 'key "bias"'),
    "an embedding too": (
        lambda a: weights(a, lambda w: {**w, "base_model.model.model.embed_tokens.lora_embedding_A": torch.ones(4, 9)}),
        "lora_embedding_A",
    ),
    "one factor": (lambda a: weights(a, lambda w: dict(sorted(w.items())[1:])), "lacks one of its two factors"),
    "fewer layers than it says": (
        lambda a: weights(a, lambda w: {k: v for k, v in w.items() if "layers.1." not in k}),
        "weights are of 7 layers, but its configuration names 14",
    ),
    "damaged note": (lambda a: (a / "trained_on.json").write_text('{"quantize": 4}'), "trained_on.json"),
    "not a number": (
        lambda a: weights(a, lambda w: {k: torch.full_like(v, torch.nan) for k, v in w.items()}),
        "differs from the base with its adapter by nan",
    ),
}


@pytest.mark.parametrize("case", SPOILT)
def test_spoilt_adapters(case: str, sources: Path, adapter: Path, tmp_path: Path) -> None:
    spoil, told = SPOILT[case]
    spoil(adapter)
    with pytest.raises(DataError, match=told):
        merge_adapter(sources / "base", adapter, tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} <= {"adapter"}


@pytest.mark.parametrize(
    ("base", "told"),
    [
        ("wider", r"has 48 inputs and 32 outputs, but 48 and 64 in the base.*trained on org/base"),
        ("flatter", r"layers\.1\.\S+ is no linear layer of the base.*trained on org/base"),
        ("gpt2", r"is no linear layer of the base.*trained on org/base"),
    ],
)
def test_an_adapter_of_another_base(base: str, told: str, sources: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=told):
        merge_adapter(sources / base, sources / "adapter", tmp_path / "out")
    assert not any(tmp_path.iterdir())


def test_another_name_for_a_base_of_the_same_shape_is_no_fault(sources: Path, tmp_path: Path) -> None:
    assert merge_adapter(sources / "untied", sources / "adapter", tmp_path / "out").layers == 14


def test_the_output_layer_is_merged_only_where_it_is_not_the_embedding(
    sources: Path, adapter: Path, tmp_path: Path
) -> None:
    def with_head(kept: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        width = kept["base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"].shape[1]
        from adapters_support import VOCABULARY

        return {
            **kept,
            "base_model.model.lm_head.lora_A.weight": torch.full((4, width), 0.1),
            "base_model.model.lm_head.lora_B.weight": torch.full((VOCABULARY, 4), 0.1),
        }

    weights(adapter, with_head)
    targets = json.loads((adapter / "adapter_config.json").read_text())["target_modules"]
    settings(adapter, target_modules=[*targets, "lm_head"])
    assert merge_adapter(sources / "untied", adapter, tmp_path / "out").layers == 15
    with pytest.raises(DataError, match="lm_head is no linear layer of the base that can be merged"):
        merge_adapter(sources / "tied", adapter, tmp_path / "other")


def test_an_output_folder_in_use(sources: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").write_text("keep me")
    with pytest.raises(InputError, match=r"the folder holds something else \(mine.txt\)"):
        merge_adapter(sources / "base", sources / "adapter", tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]
    with pytest.raises(InputError, match="found a file"):
        merge_adapter(sources / "base", sources / "adapter", tmp_path / "out/mine.txt")
    (tmp_path / "empty").mkdir()
    merge_adapter(sources / "base", sources / "adapter", tmp_path / "empty")


@pytest.mark.parametrize(
    ("changes", "told"), [({"scale": 1.5}, "--scale: found 1.5"), ({"dtype": "int8"}, '--dtype: found "int8"')]
)
def test_settings_out_of_range(changes: dict[str, object], told: str, sources: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=told):
        merge_adapter(sources / "base", sources / "adapter", tmp_path / "out", **changes)  # type: ignore[arg-type]


def test_a_base_that_is_none(sources: Path, tmp_path: Path) -> None:
    for base in (tmp_path / "nothing", sources / "adapter"):
        with pytest.raises(LastresortError, match=r"no such folder|an adapter, not a model"):
            merge_adapter(base, sources / "adapter", tmp_path / "out")


def test_a_base_that_is_stored_quantised(sources: Path, tmp_path: Path) -> None:
    base = Path(shutil.copytree(sources / "base", tmp_path / "base"))
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, "quantization_config": {"quant_method": "gptq"}}))
    with pytest.raises(DataError, match="stored quantised"):
        merge_adapter(base, sources / "adapter", tmp_path / "out")


def test_a_wrong_merge_is_refused_and_leaves_nothing(
    sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lastresort.train.adapters import merge as merged_weights

    right = merged_weights.merged_weight

    def twice(*arguments: torch.Tensor, scale: float, **more: object) -> torch.Tensor:
        return right(*arguments, scale=1.05 * scale, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(merged_weights, "merged_weight", twice)
    with pytest.raises(DataError, match="differs from the base with its adapter"):
        merge_adapter(sources / "base", sources / "adapter", tmp_path / "out")
    assert not any(tmp_path.iterdir())


def test_a_full_disk_leaves_nothing(sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno

    from transformers import PreTrainedModel

    def full(self: object, folder: str, **_: object) -> None:
        (Path(folder) / "model.safetensors").write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device", folder)

    monkeypatch.setattr(PreTrainedModel, "save_pretrained", full)
    with pytest.raises(InfrastructureError, match="the disk is full"):
        merge_adapter(sources / "base", sources / "adapter", tmp_path / "out")
    assert not any(tmp_path.iterdir())


def test_four_bits_without_bitsandbytes(sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lastresort.models import quantized

    monkeypatch.setattr(quantized.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(PrerequisiteError, match=r'pip install "lastresort\[qlora\]"'):
        load_local(sources / "base", quantize="nf4")


def test_the_check_sees_each_fault() -> None:
    generator = torch.Generator().manual_seed(0)
    unmerged, base = torch.randn(9, 40, generator=generator), torch.randn(9, 40, generator=generator)
    same = compare(unmerged + 3.0, unmerged, base, texts=1, tolerance=1e-4)
    assert same.relative_difference < 1e-5, "a constant added to a token's logits changes no probability"
    refuse_if_different(same, "a")
    for wrong in (base, unmerged.flip(0), unmerged * 1.01, torch.full_like(unmerged, torch.nan)):
        with pytest.raises(DataError, match="differs"):
            refuse_if_different(compare(wrong, unmerged, base, texts=1, tolerance=1e-4), "a")


def lastresort(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["lastresort", *arguments])
    return guarded(app)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nowhere"], "no such folder"),
        (["ADAPTER"], "org/base"),  # the adapter's own base is on a hub that cannot be reached from here
        (["ADAPTER", "--base", "BASE", "--into", "8bit"], '"8bit"'),
        (["ADAPTER", "--base", "BASE", "--scale", "-1"], "found -1"),
        (["ADAPTER", "--base", "GPT2", "--gguf"], "the family gpt2"),
        (["ADAPTER", "--base", "BASE", "--gguf-type", "q4_k"], '--gguf-type: found "q4_k"'),
        (["ADAPTER", "--base", "openai:gpt"], "no local weights"),
    ],
)
def test_one_sentence_at_the_command_line(
    arguments: list[str],
    told: str,
    sources: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    places = {"ADAPTER": sources / "adapter", "BASE": sources / "base", "GPT2": sources / "gpt2"}
    code = lastresort(monkeypatch, "merge", *(str(places.get(a, a)) for a in arguments), "--out", str(tmp_path / "o"))
    out, error = capsys.readouterr()
    assert code in (2, 3), error
    told_lines = [line for line in error.splitlines() if line.startswith("Error:")]
    assert len(told_lines) == 1
    assert told in told_lines[0]
    assert "Traceback" not in error
    assert not out
    assert not any(tmp_path.iterdir())


def test_an_adapter_further_inside_is_named(sources: Path, tmp_path: Path) -> None:
    inner = tmp_path / "run" / "winner" / "adapter"
    shutil.copytree(sources / "adapter", inner)
    for folder in (tmp_path / "run", inner.parent):
        with pytest.raises(DataError) as refused:
            merge_adapter(sources / "base", folder, tmp_path / "out")
        assert str(refused.value).endswith(f"Name {inner}.")


def test_an_interrupted_merge_says_how_far_it_was_and_leaves_nothing_in_the_way(
    sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    arguments = (
        "merge",
        str(sources / "adapter"),
        "--base",
        str(sources / "base"),
        "--out",
        str(tmp_path / "o"),
        "--gguf",
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lastresort.train.adapters.gguf.export_gguf", interrupted)
        assert lastresort(monkeypatch, *arguments) == 130
    told = capsys.readouterr().err
    stages = ("reading base and adapter", "merging", "writing the merged model", "comparing", "writing the GGUF")
    assert sorted(stages, key=told.index) == list(stages)
    assert not any(tmp_path.iterdir())
    assert lastresort(monkeypatch, *arguments) == 0, capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["o"]
    assert (tmp_path / "o" / "gguf" / "Modelfile").is_file()
