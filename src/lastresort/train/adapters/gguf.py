"""A model's folder as one GGUF file, for llama.cpp and what is built on it, with an Ollama Modelfile.

A GGUF has other keys and names than transformers, and another order of rotary rows.

Ollama renders with a Go template, not with the file's Jinja. One is written only where it gives the same text as the model's
own template on conversations of several turns; elsewhere Ollama chooses by itself, and the file says so.
"""

from __future__ import annotations

import importlib.util
import math
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lastresort.data.chat_template import ChatTemplate, rendered_text, template_of
from lastresort.errors import DataError, InputError, PrerequisiteError
from lastresort.libraries import loading, stored_weights
from lastresort.models.loading import checked_folder
from lastresort.records.atomic import disk_errors, replace_folder
from lastresort.train.adapters.folder import stored_dtype
from lastresort.train.adapters.gguf_tokenizer import GgufTokenizer, gguf_tokenizer
from lastresort.train.adapters.merge import check_out
from lastresort.types import Message

FAMILIES = {"llama": "llama", "qwen2": "qwen2", "qwen3": "qwen3"}  # transformers' model_type -> GGUF's architecture


def check_family(config: Any, where: str) -> str:
    """The architecture in GGUF's words. Raises DataError for a model that cannot be said there by this exporter."""
    family = config.model_type
    if family not in FAMILIES:
        raise _refused(f"a model of the family {family}", where, "Llama, Qwen2 or Qwen3")
    if config.hidden_act != "silu":
        raise _refused(f"the activation {config.hidden_act}", where, "silu")
    if set(getattr(config, "layer_types", None) or ["full_attention"]) != {"full_attention"}:
        raise _refused("layers with a sliding window", where, "full attention")
    kind = _rope(config)["rope_type"]
    if kind not in ("default", "linear", "llama3", "yarn"):
        raise _refused(f"rotary angles of the kind {kind}", where, "default, linear, llama3 or yarn")
    return FAMILIES[family]


def add_shape(writer: Any, config: Any) -> None:
    """The model's shape as metadata."""
    from gguf import RopeScalingType

    head, rope = head_size(config), _rope(config)
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_rope_dimension_count(head)
    writer.add_rope_freq_base(rope["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    if rope["rope_type"] in ("linear", "yarn"):
        writer.add_rope_scaling_type(RopeScalingType(rope["rope_type"]))
        writer.add_rope_scaling_factor(rope["factor"])
    if rope["rope_type"] == "yarn":
        original = rope.get("original_max_position_embeddings") or config.max_position_embeddings
        writer.add_rope_scaling_orig_ctx_len(original)


def rotary_factors(config: Any) -> Tensor | None:
    """What each rotary frequency is divided by in Llama 3.1 and later, shape [head size / 2]; None for other models.

    Frequencies that turn more than high_freq_factor times within the original context stay, those that turn less than
    low_freq_factor times are slowed by `factor`, and between them the slowing is interpolated.
    """
    rope = _rope(config)
    if rope["rope_type"] != "llama3":
        return None
    head = head_size(config)
    frequency: Tensor = rope["rope_theta"] ** -(torch.arange(0, head, 2, dtype=torch.float64) / head)
    turns: Tensor = rope["original_max_position_embeddings"] * frequency / (2 * math.pi)
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    share = ((turns - low) / (high - low)).clamp(0, 1)
    factors: Tensor = 1 / ((1 - share) / rope["factor"] + share)
    return factors.float()


def in_gguf_order(name: str, weight: Tensor, config: Any) -> Tensor:
    """The rows of a Llama's q and k projections in llama.cpp's rotary order; everything else as it is.

    transformers turns row i of a head with row i + size/2, llama.cpp row 2i with row 2i + 1.
    """
    if config.model_type != "llama":
        return weight
    for part, heads in (("q_proj", config.num_attention_heads), ("k_proj", config.num_key_value_heads)):
        if name.endswith((f"{part}.weight", f"{part}.bias")):
            halves = weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:])
            return halves.transpose(1, 2).reshape(weight.shape)
    return weight


def head_size(config: Any) -> int:
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def _rope(config: Any) -> dict[str, Any]:
    return {"rope_type": "default", "rope_theta": 10000.0, **(config.rope_parameters or {})}


def _refused(found: str, where: str, expected: str) -> DataError:
    return DataError(
        found,
        where=where,
        expected=f"{expected} for a GGUF",
        remedy="Serve the merged folder, or convert it with llama.cpp.",
    )


@dataclass(frozen=True, slots=True)
class TurnStyle:
    """A way of writing turns. head: before the text of a turn, with {role}. stop: ends an answer. between: then, before the next
    turn. start: of a conversation.
    """

    head: str
    stop: str
    between: str = ""
    start: str = ""

    def turn(self, role: str, text: str) -> str:
        return f"{self.head.format(role=role)}{text}{self.stop}{self.between}"

    @property
    def opening(self) -> str:
        """Of an answer."""
        return self.head.format(role="assistant")

    @property
    def go(self) -> str:
        """As a Go template."""
        return "{{- range .Messages }}" + self.turn("{{ .Role }}", "{{ .Content }}") + "{{ end }}" + self.opening


STYLES = (
    TurnStyle("<|im_start|>{role}\n", "<|im_end|>", between="\n"),
    TurnStyle("<|start_header_id|>{role}<|end_header_id|>\n\n", "<|eot_id|>", start="<|begin_of_text|>"),
)
_TALKS = (
    ("user",),
    ("system", "user"),
    ("user", "assistant", "user"),
    ("system", "user", "assistant", "user", "assistant", "user"),
)


def modelfile(
    gguf_name: str,
    tokenizer: Any,
    template: ChatTemplate | None = None,
    parameters: Sequence[str] = ("temperature 0",),
) -> str:
    """The text of the Modelfile: the GGUF, the template where one is known, the stop token, and the parameters.

    template: None for the tokenizer's own. parameters: by default greedy answers.
    """
    lines = [f"FROM ./{gguf_name}"]
    template = template or template_of(tokenizer, {})
    for style in STYLES:
        system = _default_system(style, tokenizer, template)
        if _writes_alike(style, tokenizer, template, system) and '"""' not in (
            system or ""
        ):  # which nothing escapes there
            lines.append(f'TEMPLATE """{style.go}"""')
            if system is not None:
                lines.append(f'SYSTEM """{system}"""')
            lines.append(f'PARAMETER stop "{style.stop}"')
            break
    else:
        lines.append("# Ollama takes the chat template that is in the GGUF, as far as it knows it: compare an answer.")
        if tokenizer.eos_token and not {'"', "\n"} & set(tokenizer.eos_token):
            lines.append(f'PARAMETER stop "{tokenizer.eos_token}"')
    lines += [f"PARAMETER {parameter}" for parameter in parameters]
    return "\n".join(lines) + "\n"


def _default_system(style: TurnStyle, tokenizer: Any, template: ChatTemplate) -> str | None:
    """The system turn that the template adds by itself."""
    user = style.turn("user", "Q")
    text = rendered_text(tokenizer, template, (Message("user", "Q"),), prompt=True).removeprefix(style.start)
    before, after = style.turn("system", "\0").split("\0")
    if text.startswith(before) and text.endswith(after + user + style.opening):
        return text.removeprefix(before).removesuffix(after + user + style.opening)
    return None


def _writes_alike(style: TurnStyle, tokenizer: Any, template: ChatTemplate, system: str | None) -> bool:
    return all(_expected(style, talk, system) == _rendered(style, tokenizer, template, talk) for talk in _TALKS)


def _expected(style: TurnStyle, talk: Sequence[str], system: str | None) -> str:
    turns = [style.turn(role, f"text {i} of {role}") for i, role in enumerate(talk)]
    if system is not None and talk[0] != "system":
        turns.insert(0, style.turn("system", system))
    return "".join(turns) + style.opening


def _rendered(style: TurnStyle, tokenizer: Any, template: ChatTemplate, talk: Sequence[Any]) -> str:
    turns = tuple(Message(role, f"text {i} of {role}") for i, role in enumerate(talk))
    return rendered_text(tokenizer, template, turns, prompt=True).removeprefix(style.start)


DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
_LOSSLESS = {"float64": "f32", "float32": "f32", "float16": "f16", "bfloat16": "bf16"}


@dataclass(frozen=True, slots=True)
class ExportedGguf:
    """A GGUF. dtype: of the matrices; vectors are float32. pre_tokenizer: llama.cpp's name for how text is cut."""

    path: Path
    modelfile: Path
    architecture: str
    dtype: str
    pre_tokenizer: str
    tensors: int


@dataclass(frozen=True, slots=True)
class _Placed:
    """A weight's name in the GGUF, where it lies, and its own name and shape there."""

    name: str
    file: Path
    key: str
    shape: tuple[int, ...]


def check_exportable(folder: Path, dtype: str | None = None) -> None:
    """Raise what `export_gguf` would raise for this model, without reading its weights."""
    _described(folder, dtype)


def export_gguf(folder: Path, out: Path, *, name: str, dtype: str | None = None) -> ExportedGguf:
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
    return ExportedGguf(out / file, out / "Modelfile", architecture, kind, words.pre, tensors)


def _described(folder: Path, dtype: str | None) -> tuple[Any, Any, str, GgufTokenizer, str]:
    from transformers import AutoConfig, AutoTokenizer

    if importlib.util.find_spec("gguf") is None:
        raise PrerequisiteError("the package gguf is not installed", remedy="Run: pip install gguf")
    checked_folder(folder)
    kind = dtype or _LOSSLESS[stored_dtype(folder)]
    if kind not in DTYPES:
        raise InputError(
            f'found "{dtype}"', where="--gguf-type", expected=", ".join(DTYPES), remedy="Name one of them."
        )
    with loading(folder, "a causal language model with its tokenizer"):
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    architecture = check_family(config, str(folder))
    with loading(folder, "a causal language model with its tokenizer"):
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
                writer, weight.name, torch.empty(weight.shape, dtype=_stored_as(weight.shape, kind), device="meta")
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

    arch = next(arch for arch, name in MODEL_ARCH_NAMES.items() if name == architecture)
    names, placed = get_tensor_name_map(arch, config.num_hidden_layers), []
    for file in sorted(folder.glob("*.safetensors")):
        for key, weight in sorted(stored_weights(file).items()):
            if key == "lm_head.weight" and config.tie_word_embeddings:
                continue
            name = names.get_name(key, try_suffixes=(".weight", ".bias"))
            if name is None:
                raise DataError(f"the weight {key} has no place in a GGUF", where=str(file), expected=architecture)
            placed.append(_Placed(name, file, key, weight.shape))
    return placed


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
            where="--gguf-type",
            expected="finite numbers",
            remedy="Choose bf16 or f32.",
        )
    return (value.view(torch.int16) if value.dtype == torch.bfloat16 else value).numpy()


def _numpy(dtype: torch.dtype) -> Any:
    import numpy

    return numpy.dtype({torch.float32: "float32", torch.float16: "float16", torch.bfloat16: "int16"}[dtype])
