"""A base in NF4: the quantisation that QLoRA trains on (Dettmers et al. 2023), and what an adapter remembers of it."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from lastresort.errors import DataError, PrerequisiteError
from lastresort.libraries import quiet_logger
from lastresort.types import JsonObject

TRAINED_ON = "trained_on.json"
Quantize = Literal["auto", "nf4", "no"]
INSTALL = 'pip install "lastresort[qlora]"'


@dataclass(frozen=True, slots=True)
class TrainedOn:
    """The base under an adapter while it was trained, where it was not the ordinary one.

    quantize: "nf4". dtype: what its weights were rounded to before they were quantised, and what it computed in.
    """

    quantize: str
    dtype: str


def trained_on(adapter: Path) -> TrainedOn | None:
    """What the adapter's folder says of its base; None for the ordinary one. Raises DataError if the note is damaged."""
    note = adapter / TRAINED_ON
    if not note.is_file():
        return None
    try:
        found = TrainedOn(**json.loads(note.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise DataError(
            "not the note of the base that training writes",
            where=str(note),
            expected='{"quantize": "nf4", "dtype": "bfloat16"}',
            remedy="Restore it, or train again.",
        ) from error
    if found.quantize != "nf4" or found.dtype not in ("bfloat16", "float32"):
        raise DataError(f"found {asdict(found)}", where=str(note), expected="nf4 with bfloat16 or float32")
    return found


def note_of(model: Any) -> TrainedOn | None:
    """The note for the base that is in memory."""
    if not getattr(model, "is_loaded_in_4bit", False):
        return None
    compute = model.config.quantization_config.bnb_4bit_compute_dtype
    return TrainedOn("nf4", str(compute).removeprefix("torch."))


def write_note(model: Any, adapter: Path) -> None:
    found = note_of(model)
    if found is not None:
        (adapter / TRAINED_ON).write_text(json.dumps(asdict(found)) + "\n", encoding="utf-8")


def settled(quantize: Quantize, precision: str, adapter: Path | None) -> tuple[bool, str]:
    """Whether the base is loaded in 4 bits, and in which precision: for "auto", as the adapter was trained."""
    known = trained_on(adapter) if adapter is not None and quantize != "no" else None
    in_4_bits = quantize == "nf4" or known is not None
    if in_4_bits and precision == "auto":
        precision = known.dtype if known is not None else "bfloat16"
    return in_4_bits, precision


def nf4_arguments(dtype: torch.dtype, device: torch.device) -> JsonObject:
    """Arguments of from_pretrained: NF4 with double quantisation; output layer and embeddings stay as they are.

    Raises PrerequisiteError where bitsandbytes is missing.
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
    """Import it quietly, where it is installed: PEFT imports it too. Returns whether it is."""
    if importlib.util.find_spec("bitsandbytes") is None:
        return False
    with quiet_logger("bitsandbytes"):  # its import warns of a kernel for the form that `keep_exact` refuses
        importlib.import_module("bitsandbytes")
    return True


def keep_exact(model: Any) -> None:
    """Keep the quantised weights as they were trained on.

    On processors with AVX512-BF16, bitsandbytes rewrites a layer at its first forward in evaluation mode: its scales are
    rounded to bfloat16 for good, and it computes in bfloat16 whatever was asked. Measuring would then change the model.
    """
    for _, module in quantized_layers(model):
        module.support_avx512bf16_for_cpu = False


def let_go_of_file(model: Any) -> None:
    """Copy what stays in 16 bits: on a processor it is a view of the weights' file, all of which then stays in memory that was read
    to quantise it, 2 bytes a weight beside the half byte."""
    for parameter in model.parameters():
        if parameter.is_floating_point() and parameter.device.type == "cpu":
            parameter.data = parameter.data.clone()


def quantized_layers(model: Any) -> list[tuple[str, Any]]:
    from bitsandbytes.nn import Linear4bit

    return [(name, module) for name, module in model.named_modules() if isinstance(module, Linear4bit)]


def through_nf4(weight: torch.Tensor) -> torch.Tensor:
    """The weight [outputs, inputs] as a 4-bit layer computes with it: quantised, and dequantised to its own dtype."""
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    packed, state = quantize_4bit(weight.contiguous(), blocksize=64, compress_statistics=True, quant_type="nf4")
    found: torch.Tensor = dequantize_4bit(packed, state)
    return found.reshape(weight.shape)
