"""A GGUF, read back by transformers, is the same model with the same tokens; what cannot be said there is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from adapters_support import VOCABULARY, family_folder, family_model, logits
from lastresort.embedded import embedded_folder
from lastresort.errors import DataError, InputError
from lastresort.libraries import quiet_transformers
from lastresort.models.loading import load_local
from lastresort.train.adapters.gguf import check_exportable, export_gguf, rotary_factors
from lastresort.train.adapters.gguf_tokenizer import pre_tokenizer_name

# transformers reads no head size of a Qwen3 from a GGUF and takes 128, that of every published one
SHAPES: dict[str, dict[str, Any]] = {"llama": {}, "qwen2": {}, "qwen3": {"head_dim": 128, "num_attention_heads": 2}}
TEXTS = (
    "Route this ticket: 12 parcels, 3.50 EUR each; it's late!",
    "  two spaces\n\n\tand a tab\r\n",
    "Über den Wolken, 東京, 🙂",
    "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n",
    "2024-07-26 00:00 1234567",
)


def read_back(file: Path) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with quiet_transformers():
        model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32).eval()
        return model, AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", SHAPES)
def test_float32_is_the_same_model(family: str, tied: bool, tmp_path: Path) -> None:
    folder = family_folder(tmp_path / "m", family, tie_word_embeddings=tied, **SHAPES[family])
    found = export_gguf(folder, tmp_path / "g", name="tiny")
    assert (found.path.name, found.architecture, found.dtype) == ("tiny-F32.gguf", family, "f32")
    assert found.pre_tokenizer == ("gpt-2" if family == "llama" else "qwen2")
    model, tokenizer = read_back(found.path)
    own = load_local(folder, precision="float32")
    torch.testing.assert_close(logits(model), logits(own.model), rtol=0, atol=1e-5)
    for text in TEXTS:
        assert tokenizer(text)["input_ids"] == own.tokenizer(text)["input_ids"]
    assert tokenizer.chat_template == own.tokenizer.chat_template
    assert (tokenizer.eos_token, tokenizer.pad_token) == (own.tokenizer.eos_token, own.tokenizer.pad_token)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize(("kind", "dtype"), [("f16", torch.float16), ("bf16", torch.bfloat16)])
@pytest.mark.parametrize("family", SHAPES)
def test_half_precision_rounds_each_matrix_once(family: str, kind: str, dtype: torch.dtype, tmp_path: Path) -> None:
    folder = family_folder(tmp_path / "m", family, tie_word_embeddings=False, **SHAPES[family])
    model, _ = read_back(export_gguf(folder, tmp_path / "g", name="tiny", dtype=kind).path)
    own = load_local(folder, precision="float32").model.state_dict()
    for name, value in model.state_dict().items():
        expected = own[name].to(dtype).float() if own[name].ndim > 1 else own[name]
        torch.testing.assert_close(value, expected, rtol=0, atol=0)


def test_by_default_nothing_is_lost(tmp_path: Path) -> None:
    folder = family_folder(tmp_path / "m", "qwen2", torch.bfloat16)
    assert export_gguf(folder, tmp_path / "g", name="t").dtype == "bf16"


def test_the_permutation_matters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison above would see rows in the wrong order."""
    folder = family_folder(tmp_path / "m")
    monkeypatch.setattr("lastresort.train.adapters.gguf.in_gguf_order", lambda name, weight, config: weight)
    model, _ = read_back(export_gguf(folder, tmp_path / "g", name="t").path)
    assert (logits(model) - logits(load_local(folder, precision="float32").model)).abs().max() > 1e-2


def test_a_bias_on_q_and_k_is_permuted_too(tmp_path: Path) -> None:
    """transformers does not read attention_bias from a GGUF, so the tensors are compared."""
    from gguf import GGUFReader

    folder = family_folder(tmp_path / "m", "llama", attention_bias=True)
    reader = GGUFReader(str(export_gguf(folder, tmp_path / "g", name="t").path))
    found = {tensor.name: torch.from_numpy(tensor.data.copy()) for tensor in reader.tensors}
    own = load_local(folder, precision="float32").model.state_dict()
    bias = own["model.layers.0.self_attn.q_proj.bias"]  # 4 heads of 8: rows i and i + 4 become neighbours
    assert torch.equal(found["blk.0.attn_q.bias"][:4], bias[[0, 4, 1, 5]])
    assert torch.equal(found["blk.0.attn_v.bias"], own["model.layers.0.self_attn.v_proj.bias"])


def test_llama_3_frequencies_are_those_of_transformers(tmp_path: Path) -> None:
    from gguf import GGUFReader

    scaling = {
        "rope_type": "llama3",
        "rope_theta": 500000.0,
        "factor": 32.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    shape = {"head_dim": 64, "num_attention_heads": 2, "num_key_value_heads": 1}
    plain = family_model("llama", rope_parameters={"rope_type": "default", "rope_theta": 500000.0}, **shape)
    model = family_model("llama", rope_parameters=scaling, **shape)
    factors = rotary_factors(model.config)
    assert factors is not None
    wanted = plain.model.rotary_emb.inv_freq / model.model.rotary_emb.inv_freq
    torch.testing.assert_close(factors, wanted, rtol=1e-5, atol=0)
    assert wanted.min() == 1
    assert wanted.max() == pytest.approx(32.0)
    assert ((wanted > 1.01) & (wanted < 31.9)).any()
    folder = family_folder(tmp_path / "m", "llama", rope_parameters=scaling, **shape)
    tensors = GGUFReader(str(export_gguf(folder, tmp_path / "g", name="t").path)).tensors
    assert torch.equal(torch.from_numpy(tensors[0].data.copy()), factors)
    assert tensors[0].name == "rope_freqs.weight"


@pytest.mark.slow
def test_the_embedded_tokenizer_comes_back(tmp_path: Path) -> None:
    """Its own tokenizer and template around a random model of its vocabulary."""
    from transformers import AutoTokenizer

    own = AutoTokenizer.from_pretrained(embedded_folder())
    folder = tmp_path / "m"
    model = family_model("llama", seed=1)
    model.resize_token_embeddings(len(own) + 3)
    model.save_pretrained(str(folder))
    own.save_pretrained(str(folder))
    found = export_gguf(folder, tmp_path / "g", name="smol")
    tokenizer = AutoTokenizer.from_pretrained(found.path.parent, gguf_file=found.path.name)
    for text in (*TEXTS, "x = 10 * (y + 3)  # comment", 'JSON: {"a": [1, 2]}'):
        assert tokenizer(text)["input_ids"] == own(text)["input_ids"]
    assert (tokenizer.bos_token, tokenizer.eos_token) == (own.bos_token, own.eos_token)
    written = found.modelfile.read_text()
    assert written.startswith('FROM ./smol-F32.gguf\nTEMPLATE """{{- range .Messages }}<|im_start|>')
    assert 'SYSTEM """You are a helpful AI assistant named SmolLM, trained by Hugging Face"""' in written
    assert 'PARAMETER stop "<|im_end|>"' in written


@pytest.mark.parametrize(
    ("steps", "ignore_merges", "name"),
    [
        ([{"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}], False, "gpt-2"),
        (
            [
                {"type": "Digits", "individual_digits": True},
                {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True},
            ],
            False,
            "smollm",
        ),
    ],
)
def test_names_of_pre_tokenizers(steps: list[dict[str, Any]], ignore_merges: bool, name: str) -> None:
    described = {
        "model": {"type": "BPE", "ignore_merges": ignore_merges},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": steps},
    }
    assert pre_tokenizer_name(described, "t") == name


@pytest.mark.parametrize(("name", "ignore_merges"), [("llama-bpe", True), ("qwen2", False), ("dbrx", False)])
def test_patterns_are_those_by_which_transformers_reads_a_gguf(name: str, ignore_merges: bool) -> None:
    from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

    split = {
        "type": "Split",
        "pattern": {"Regex": GGUF_PRE_TOKENIZER_SPLITS[name]},
        "behavior": "Isolated",
        "invert": False,
    }
    bytes_only = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}
    described = {
        "model": {"type": "BPE", "ignore_merges": ignore_merges},
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, bytes_only]},
    }
    assert pre_tokenizer_name(described, "t") == name


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"model": {"type": "BPE", "byte_fallback": True}}, "SentencePiece"),
        ({"model": {"type": "Unigram"}}, "SentencePiece"),
        ({"normalizer": {"type": "Lowercase"}}, "Lowercase"),
        ({"pre_tokenizer": {"type": "Whitespace"}}, "no name for"),
        ({"pre_tokenizer": None}, "no name for"),
    ],
)
def test_tokenizers_that_a_gguf_cannot_say(change: dict[str, Any], told: str) -> None:
    plain = {
        "model": {"type": "BPE"},
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True},
    }
    assert pre_tokenizer_name(plain, "t") == "gpt-2"
    with pytest.raises(DataError, match=told):
        pre_tokenizer_name({**plain, **change}, "t")


def test_a_template_that_ollama_cannot_be_given_is_left_to_it(tmp_path: Path) -> None:
    folder = family_folder(tmp_path / "m")
    (folder / "chat_template.jinja").write_text(
        "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}{% endfor %}"
    )
    written = export_gguf(folder, tmp_path / "g", name="t").modelfile.read_text()
    assert "TEMPLATE" not in written
    assert "compare an answer" in written
    chatml = export_gguf(family_folder(tmp_path / "c"), tmp_path / "h", name="t").modelfile.read_text()
    assert "TEMPLATE" in chatml
    assert "SYSTEM" not in chatml


def test_without_a_chat_template_the_plain_one_that_was_trained_on_is_written(tmp_path: Path) -> None:
    folder = family_folder(tmp_path / "m")
    (folder / "chat_template.jinja").unlink()
    _, tokenizer = read_back(export_gguf(folder, tmp_path / "g", name="t").path)
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hi"}], tokenize=False, add_generation_prompt=True
    )
    assert text == "### Question:\nHi\n\n### Answer:\n"


@pytest.mark.parametrize(
    ("family", "changes", "told"),
    [
        ("gpt2", {}, "the family gpt2"),
        ("mistral", {}, "the family mistral"),
        ("gemma", {}, "the family gemma"),
        ("llama", {"hidden_act": "gelu"}, "gelu"),
        ("llama", {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}}, "dynamic"),
        ("qwen2", {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 0}, "sliding window"),
    ],
)
def test_models_that_are_refused(family: str, changes: dict[str, Any], told: str, tmp_path: Path) -> None:
    folder = family_folder(tmp_path / "m", family, **changes)
    with pytest.raises(DataError, match=told):
        export_gguf(folder, tmp_path / "g", name="t")
    assert not (tmp_path / "g").exists()


def test_what_does_not_fit_and_what_is_there_already(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = family_folder(tmp_path / "m")
    with pytest.raises(InputError, match='"q4"'):
        check_exportable(folder, "q4")
    weights = load_file(str(folder / "model.safetensors"))
    weights["model.embed_tokens.weight"][0, 0] = 1e6
    save_file(weights, str(folder / "model.safetensors"), metadata={"format": "pt"})
    with pytest.raises(DataError, match="do not fit into float16"):
        export_gguf(folder, tmp_path / "g", name="t", dtype="f16")
    assert [path.name for path in tmp_path.iterdir()] == ["m"]
    (tmp_path / "g").mkdir()
    (tmp_path / "g/mine").touch()
    with pytest.raises(InputError, match="holds something else"):
        export_gguf(folder, tmp_path / "g", name="t")


def test_a_tokenizer_larger_than_the_model(tmp_path: Path) -> None:
    folder = family_folder(tmp_path / "m")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "vocab_size": VOCABULARY - 9}))
    with pytest.raises(DataError, match="no row in the embedding, which has 254"):
        check_exportable(folder)
