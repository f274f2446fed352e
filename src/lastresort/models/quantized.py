"""A base model in NF4, the quantisation of QLoRA (Dettmers et al. 2023), and the note about it in an adapter's folder."""

from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from lastresort.errors import DataError, InputError, PrerequisiteError
from lastresort.foreign import read_json
from lastresort.libraries import quiet_logger
from lastresort.types import JsonObject

TRAINED_ON = "trained_on.json"
Quantize = Literal["auto", "nf4", "no"]
INSTALL = 'pip install "lastresort[qlora]"'


@dataclass(frozen=True, slots=True)
class QuantizedBase:
    """The quantised base that an adapter was trained on.

    quantize: "nf4". dtype: what the weights were rounded to before they were quantised, and what the base computed in.
    """

    quantize: str
    dtype: str


def read_quantized_base(adapter: Path) -> QuantizedBase | None:
    """The note in the adapter's folder, None if the base was not quantised. Raises DataError if the note is damaged."""
    note = adapter / TRAINED_ON
    if not note.is_file():
        return None
    try:
        found = QuantizedBase(**read_json(note))
    except (InputError, TypeError) as error:
        raise DataError(
            "found no valid note about the adapter's base",
            where=str(note),
            expected='{"quantize": "nf4", "dtype": "bfloat16"}',
            remedy="Restore it, or train again.",
        ) from error
    if found.quantize != "nf4" or found.dtype not in ("bfloat16", "float32"):
        raise DataError(f"found {asdict(found)}", where=str(note), expected="nf4 with bfloat16 or float32")
    return found


def quantized_base_of(model: Any) -> QuantizedBase | None:
    """The note about a model in memory, None if it is not quantised."""
    if not getattr(model, "is_loaded_in_4bit", False):
        return None
    compute = model.config.quantization_config.bnb_4bit_compute_dtype
    return QuantizedBase("nf4", str(compute).removeprefix("torch."))


def write_quantized_base(model: Any, adapter: Path) -> None:
    found = quantized_base_of(model)
    if found is not None:
        (adapter / TRAINED_ON).write_text(json.dumps(asdict(found)) + "\n", encoding="utf-8")


def resolve_precision(quantize: Quantize, precision: str, adapter: Path | None) -> tuple[bool, str]:
    """Whether to load the base in 4 bits, and in which precision. "auto" follows the adapter's training."""
    known = read_quantized_base(adapter) if adapter is not None and quantize != "no" else None
    in_4_bits = quantize == "nf4" or known is not None
    if in_4_bits and precision == "auto":
        precision = known.dtype if known is not None else "bfloat16"
    return in_4_bits, precision


def nf4_arguments(dtype: torch.dtype, device: torch.device) -> JsonObject:
    """Arguments of from_pretrained: NF4 with double quantisation. Output layer and embeddings are not quantised.

    Raises PrerequisiteError if bitsandbytes is missing.
    """
    require_bitsandbytes()
    from transformers import BitsAndBytesConfig

    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )
    return {"quantization_config": config, "device_map": {"": device}}


def require_bitsandbytes() -> None:
    if not import_bitsandbytes():
        raise PrerequisiteError("bitsandbytes is not installed, and a 4-bit base needs it", remedy=f"Run: {INSTALL}")


def import_bitsandbytes() -> bool:
    """Import it quietly if it is installed, as PEFT imports it, too. Returns whether it is installed."""
    if importlib.util.find_spec("bitsandbytes") is None:
        return False
    if "bitsandbytes" not in sys.modules:
        with quiet_logger("bitsandbytes"):  # its import warns of a kernel for the form that `keep_exact` refuses
            importlib.import_module("bitsandbytes")
    return True


def keep_exact(model: Any) -> None:
    """Keep the quantised weights as they were in training.

    On processors with AVX512-BF16, bitsandbytes rewrites a layer at its first forward in evaluation mode: it rounds the scales
    to bfloat16 for good and then always computes in bfloat16. So measuring would change the model.
    """
    for _, module in quantized_layers(model):
        module.support_avx512bf16_for_cpu = False


def unmap_weights(model: Any) -> None:
    """Copy the parameters that stay in 16 bits. On a CPU they are views of the mapped file, and would keep all of it in memory:
    2 bytes per weight in addition to the half byte."""
    for parameter in model.parameters():
        if parameter.is_floating_point() and parameter.device.type == "cpu":
            parameter.data = parameter.data.clone()


def separate_scales(model: Any, device: torch.device) -> None:
    """Leave the packed weights of each 4-bit layer in a plain parameter, which FSDP can shard; its scales go to the device, whole.

    The layer reads both whenever it computes.
    """
    # The weights stay bytes: FSDP 2 gathers parameters of different precisions as bytes anyway.
    for _, layer in quantized_layers(model):
        layer.quant_state = layer.weight.quant_state
        layer.quant_state.to(device)
        layer.weight = torch.nn.Parameter(layer.weight.data.as_subclass(torch.Tensor), requires_grad=False)


def quantized_layers(model: Any) -> list[tuple[str, Any]]:
    from bitsandbytes.nn import Linear4bit

    return [(name, module) for name, module in model.named_modules() if isinstance(module, Linear4bit)]


def nf4_round_trip(weight: torch.Tensor) -> torch.Tensor:
    """The weight [outputs, inputs] as a 4-bit layer uses it: quantised, then dequantised to its own dtype."""
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    packed, state = quantize_4bit(weight.contiguous(), blocksize=64, compress_statistics=True, quant_type="nf4")
    found: torch.Tensor = dequantize_4bit(packed, state)
    return found.reshape(weight.shape)
