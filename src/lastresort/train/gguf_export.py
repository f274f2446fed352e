"""A model's folder as one GGUF file, for llama.cpp and what is built on it, with an Ollama Modelfile beside it."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lastresort.embedded import own_code_refused, quiet_transformers
from lastresort.errors import DataError, InputError, PrerequisiteError
from lastresort.models.loading import checked_folder
from lastresort.records.atomic import disk_errors, replace_folder
from lastresort.train.base_folder import stored_dtype
from lastresort.train.gguf_layout import add_shape, check_family, in_gguf_order, rotary_factors
from lastresort.train.gguf_tokenizer import GgufTokenizer, gguf_tokenizer
from lastresort.train.merge import check_out
from lastresort.train.modelfile import modelfile

DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
_LOSSLESS = {"float64": "f32", "float32": "f32", "float16": "f16", "bfloat16": "bf16"}


@dataclass(frozen=True, slots=True)
class Exported:
    """A GGUF. dtype: of the matrices; vectors are float32. pre_tokenizer: llama.cpp's name for how text is cut."""

    path: Path
    modelfile: Path
    architecture: str
    dtype: str
    pre_tokenizer: str
    tensors: int


@dataclass(frozen=True, slots=True)
class _Placed:
    """A weight's name in the GGUF, where it lies, and its own name there."""

    name: str
    file: Path
    key: str


def check_exportable(folder: Path, dtype: str | None = None) -> None:
    """Raise what `export_gguf` would raise for this model, without reading its weights."""
    _described(folder, dtype)


def export_gguf(folder: Path, out: Path, *, name: str, dtype: str | None = None) -> Exported:
    """Write `out`/NAME-DTYPE.gguf and `out`/Modelfile; the folder `out` appears when both are complete.

    folder: a model of the Llama, Qwen2 or Qwen3 family with its tokenizer. dtype: f32, f16 or bf16; None for the one that
    loses nothing. One tensor is in memory at a time. Raises DataError for a model that cannot be exported, InputError for
    a dtype that is not known or an `out` that is not empty, InfrastructureError when the disk refuses.
    """
    config, tokenizer, architecture, words, kind = _described(folder, dtype)
    check_out(out)
    fresh = out.with_name(f".{out.name}.new")
    file = f"{name}-{kind.upper()}.gguf"
    try:
        with disk_errors(out):
            shutil.rmtree(fresh, ignore_errors=True)
            fresh.mkdir(parents=True)
            tensors = _write(fresh / file, folder, config, architecture, words, kind, name)
            (fresh / "Modelfile").write_text(modelfile(file, tokenizer), encoding="utf-8")
        replace_folder(fresh, out)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return Exported(out / file, out / "Modelfile", architecture, kind, words.pre, tensors)


def _described(folder: Path, dtype: str | None) -> tuple[Any, Any, str, GgufTokenizer, str]:
    from transformers import AutoConfig, AutoTokenizer

    if importlib.util.find_spec("gguf") is None:
        raise PrerequisiteError("the package gguf is not installed", remedy="Run: pip install gguf")
    checked_folder(folder)
    kind = dtype or _LOSSLESS[stored_dtype(folder)]
    if kind not in DTYPES:
        raise InputError(f'found "{dtype}"', where="GGUF type", expected=", ".join(DTYPES), remedy="Name one of them.")
    with quiet_transformers(), own_code_refused(folder):
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        architecture = check_family(config, str(folder))
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    return config, tokenizer, architecture, gguf_tokenizer(folder, tokenizer, config.vocab_size), kind


def _write(path: Path, folder: Path, config: Any, architecture: str, words: GgufTokenizer, kind: str, name: str) -> int:
    from gguf import GGUFWriter, LlamaFileType

    file_types = {"f32": LlamaFileType.ALL_F32, "f16": LlamaFileType.MOSTLY_F16, "bf16": LlamaFileType.MOSTLY_BF16}
    writer = GGUFWriter(path, architecture)
    try:
        writer.add_name(name)
        writer.add_file_type(file_types[kind])
        add_shape(writer, config)
        words.add_to(writer)
        placed, factors = _placed(folder, config, architecture), rotary_factors(config)
        if factors is not None:
            _announce(writer, "rope_freqs.weight", factors)
        for weight in placed:
            _announce(
                writer, weight.name, torch.empty(_shape(weight), dtype=_stored_as(_shape(weight), kind), device="meta")
            )
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        if factors is not None:
            writer.write_tensor_data(factors.numpy())
        for weight, value in _values(placed, config, kind):
            writer.write_tensor_data(_bytes_of(value, weight.name))
    finally:
        writer.close()
    return len(placed) + (factors is not None)


def _placed(folder: Path, config: Any, architecture: str) -> list[_Placed]:
    """Each weight of the folder with its name in the GGUF. Raises DataError for a weight that has none."""
    from gguf import MODEL_ARCH_NAMES, get_tensor_name_map
    from safetensors import safe_open

    arch = next(arch for arch, name in MODEL_ARCH_NAMES.items() if name == architecture)
    names, found = get_tensor_name_map(arch, config.num_hidden_layers), []
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(str(file), framework="pt") as weights:
            for key in sorted(weights.keys()):
                if key == "lm_head.weight" and config.tie_word_embeddings:
                    continue
                name = names.get_name(key, try_suffixes=(".weight", ".bias"))
                if name is None:
                    raise DataError(f"the weight {key} has no place in a GGUF", where=str(file), expected=architecture)
                found.append(_Placed(name, file, key))
    return found


def _shape(weight: _Placed) -> tuple[int, ...]:
    from safetensors import safe_open

    with safe_open(str(weight.file), framework="pt") as weights:
        return tuple(weights.get_slice(weight.key).get_shape())


def _values(placed: list[_Placed], config: Any, kind: str) -> Iterator[tuple[_Placed, Tensor]]:
    from safetensors import safe_open

    for weight in placed:
        with safe_open(str(weight.file), framework="pt") as weights:
            value = in_gguf_order(weight.key, weights.get_tensor(weight.key), config)
        yield weight, value.to(_stored_as(tuple(value.shape), kind)).contiguous()


def _stored_as(shape: tuple[int, ...], kind: str) -> torch.dtype:
    """Vectors (norms, biases) are float32: llama.cpp adds them in float32."""
    return DTYPES[kind] if len(shape) > 1 else torch.float32


def _announce(writer: Any, name: str, value: Tensor) -> None:
    from gguf import GGMLQuantizationType

    raw = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}[value.dtype]
    size = value.numel() * value.element_size()
    writer.add_tensor_info(name, list(value.shape), _numpy(value.dtype), size, raw_dtype=GGMLQuantizationType[raw])


def _bytes_of(value: Tensor, name: str) -> Any:
    if not torch.isfinite(value).all():
        raise DataError(
            f"weights of {name} do not fit into {str(value.dtype).removeprefix('torch.')}",
            where="GGUF type",
            expected="finite numbers",
            remedy="Choose bf16 or f32.",
        )
    return (value.view(torch.int16) if value.dtype == torch.bfloat16 else value).numpy()


def _numpy(dtype: torch.dtype) -> Any:
    import numpy

    return numpy.dtype({torch.float32: "float32", torch.float16: "float16", torch.bfloat16: "int16"}[dtype])
