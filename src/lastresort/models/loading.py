"""Load weights from a folder, a GGUF or a hub id, with or without an adapter, on this device and in its precision."""

from __future__ import annotations

import hashlib
import json
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from lastresort.data.rendering import template_hash
from lastresort.embedded import converted, file_hash
from lastresort.errors import PrerequisiteError, TaskError
from lastresort.hardware.environment import made_by_amd
from lastresort.libraries import hub_failure, loading, quiet_checkpointing, without_length_warning
from lastresort.model_heads import ADAPTER_CONFIG
from lastresort.models.adapter_settings import (
    ADAPTER_WEIGHTS,
    adapter_settings,
    check_patterns,
    keeps_base,
)
from lastresort.models.quantized import (
    Quantize,
    import_bitsandbytes,
    keep_exact,
    nf4_arguments,
    quantized_base_of,
    resolve_precision,
    unmap_weights,
)
from lastresort.types import JsonObject

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float64": torch.float64}


def chosen_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def chosen_dtype(precision: str, device: torch.device) -> torch.dtype:
    """auto is bfloat16 if the GPU supports it or the processor is fast at it, else float32.

    Raises TaskError for an unknown precision.
    """
    if precision == "auto":
        fast = torch.cuda.is_bf16_supported() if device.type == "cuda" else processor_computes_bfloat16()
        return torch.bfloat16 if fast else torch.float32
    if precision not in DTYPES:
        raise TaskError(
            f'found "{precision}"', where="precision", expected=f"auto, {', '.join(DTYPES)}", remedy="Name one of them."
        )
    return DTYPES[precision]


def is_reduced(dtype: torch.dtype) -> bool:
    """Whether rounding is so coarse that an answer can depend on the rest of its batch."""
    return torch.finfo(dtype).eps > torch.finfo(torch.float32).eps


def processor_computes_bfloat16() -> bool:
    """Whether bfloat16 matrix products are faster here than float32. With AMX tiles they are, without any bfloat16 instruction
    never. AVX512-BF16 alone doubles the speed on AMD's Zen 4 and 5, and halves it on Intel Xeons whose tiles a virtual machine
    hides. Decided by the vendor, not by timing, so that all processes of a run agree.
    """
    return torch.cpu._is_amx_tile_supported() or (torch.cpu._is_avx512_bf16_supported() and made_by_amd())


_DECIDING = (".safetensors", ".json", ".jinja", ".model", ".txt")
_NOT_DECIDING = {"converted.json", "README.md", "trainer_state.json", "training_args.json"}


def folder_hash(folder: Path) -> str:
    """sha256 over names and contents of the files that determine what a model or adapter in this folder answers."""
    whole = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.suffix in _DECIDING and path.name not in _NOT_DECIDING:
            whole.update(f"{path.name}\0{file_hash(path)}\n".encode())
    return whole.hexdigest()


_HUB_FILES = ["*.safetensors", "*.json", "*.jinja", "*.model", "*.txt"]


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model in memory. model: a transformers (or PEFT) causal language model in evaluation mode, gradients off.

    context_tokens: longest text it accepts, None if unknown. fingerprint: hash of weights, adapter, precision and rendering.
    rendering: hash of the chat template and its arguments. folder: where the weights are.
    """

    model: Any
    tokenizer: Any
    context_tokens: int | None
    fingerprint: str
    rendering: str
    dtype: torch.dtype
    folder: Path


def load_local(
    folder_or_id: str | Path,
    *,
    precision: str = "auto",
    adapter: Path | None = None,
    template_kwargs: JsonObject | None = None,
    quantize: Quantize = "auto",
    keep_on_cpu: bool = False,
    without_weights: bool = False,
) -> Loaded:
    """Load weights (safetensors only, no code of the model's own) and tokenizer. An adapter stays unmerged.

    quantize: "nf4" loads the base in 4 bits, with bfloat16 unless another precision is given. "auto" does so for an adapter
    trained that way. keep_on_cpu: the caller moves it to the device, piece by piece. without_weights: they are on the meta device,
    and another process has them. A pathlib.Path, or text that names something on disk, is local and never touches the network.
    Other text is a hub id.
    Raises TaskError if it is not a model, PrerequisiteError or InfrastructureError if a hub id cannot be downloaded.
    """
    folder = weights_folder(folder_or_id)
    device = chosen_device()
    in_4_bits, precision = resolve_precision(quantize, precision, adapter)
    dtype = chosen_dtype(precision, device)
    place = torch.device("meta") if without_weights else torch.device("cpu") if keep_on_cpu else device
    arguments = nf4_arguments(dtype, place) if in_4_bits else {}
    model, tokenizer = _read(folder, dtype, arguments, without_weights=without_weights)
    if in_4_bits:
        keep_exact(model)
        unmap_weights(model)
    if adapter is not None:
        model = _with_adapter(model, adapter)
    model = model.to(place).eval().requires_grad_(False)
    rendering = template_hash(tokenizer, dict(template_kwargs or {}))
    fingerprint = _fingerprint(folder, adapter, dtype, rendering, in_4_bits=in_4_bits)
    return Loaded(model, tokenizer, context_tokens(model.config, tokenizer), fingerprint, rendering, dtype, folder)


def round_adapter(loaded: Loaded) -> Loaded:
    """The same model, to answer with: its adapter multiplies in the precision of a 16-bit base, as in training and at a server.
    Not to train further, and not to merge.

    PEFT turns inputs and outputs of every adapted layer into float32, which makes reading on a processor take some three times
    as long. DoRA and its like keep float32: they compute norms of weights.
    """
    if not is_reduced(loaded.dtype):
        return loaded
    from peft.tuners.lora import LoraLayer

    for layer in loaded.model.modules():
        if isinstance(layer, LoraLayer) and not layer.lora_variant:
            layer.lora_A.to(loaded.dtype)
            layer.lora_B.to(loaded.dtype)
    return loaded


def without_adapter(loaded: Loaded, adapter: Path) -> Loaded | None:
    """The base of a loaded model as `load_local` would load it, with the same tensors as weights: they are held once.

    None where they are not those of the base: some adapters change it, and a base in 4 bits is rounded.
    """
    if not keeps_base(adapter_settings(adapter, raised=TaskError)) or quantized_base_of(loaded.model) is not None:
        return None
    tensors: dict[int, Any] = {id(x): x for x in (*loaded.model.parameters(), *loaded.model.buffers())}
    base = deepcopy(loaded.model, tensors).unload()  # all but the tensors is copied
    base.__dict__.pop("_lastresort_support", None)
    return replace(
        loaded,
        model=base.eval().requires_grad_(False),
        context_tokens=context_tokens(base.config, loaded.tokenizer),
        fingerprint=_fingerprint(loaded.folder, None, loaded.dtype, loaded.rendering, in_4_bits=False),
    )


def _fingerprint(folder: Path, adapter: Path | None, dtype: torch.dtype, rendering: str, *, in_4_bits: bool) -> str:
    identity = {
        "weights": folder_hash(folder),
        "adapter": folder_hash(adapter) if adapter is not None else None,
        "precision": str(dtype),
        "rendering": rendering,
    } | ({"quantize": "nf4"} if in_4_bits else {})
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def weights_folder(folder_or_id: str | Path) -> Path:
    """The folder on disk that holds the weights: itself, a converted GGUF, or the hub's snapshot (downloaded if needed)."""
    path = Path(folder_or_id)
    if path.suffix == ".gguf" and path.is_file():
        return converted(path)
    if isinstance(folder_or_id, Path) or path.exists():
        return checked_folder(path)
    return _snapshot(folder_or_id)


def checked_folder(folder: Path) -> Path:
    """The folder, if it holds a model. Otherwise raises a TaskError that says what it holds."""
    where = str(folder)
    if not folder.is_dir():
        found = "this is a file" if folder.exists() else "there is no such folder"
        raise TaskError(found, where=where, expected="a model's folder or a .gguf", remedy="Correct the model's name.")
    if (folder / "config.json").is_file():
        if not any(folder.glob("*.safetensors")):
            raise TaskError(
                "the folder holds no weights as safetensors",
                where=where,
                expected="*.safetensors next to config.json",
                remedy="Save the model again with save_pretrained; pickled weights are not read.",
            )
        if (folder / ADAPTER_CONFIG).is_file():  # transformers would load it too, with settings that nobody checked
            raise TaskError(
                f"the folder holds both a model and an adapter ({ADAPTER_CONFIG})",
                where=where,
                expected="only a model",
                remedy=f"Move {ADAPTER_CONFIG} to another folder.",
            )
        return folder
    if (folder / ADAPTER_CONFIG).is_file():
        raise TaskError(
            "this is an adapter, not a model",
            where=where,
            expected="a folder with config.json",
            remedy="Name its base model.",
        )
    held = "the folder is empty" if not any(folder.iterdir()) else "the folder holds no config.json"
    raise TaskError(
        held,
        where=where,
        expected="a model as save_pretrained writes it",
        remedy="Name the folder that config.json is in.",
    )


def context_tokens(config: Any, tokenizer: Any) -> int | None:
    """The smaller of what the positions and the tokenizer allow; transformers writes "unlimited" as 1e30."""
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    limits = (getattr(text, "max_position_embeddings", None), getattr(tokenizer, "model_max_length", None))
    known = [int(limit) for limit in limits if isinstance(limit, int | float) and 0 < limit < 1e9]
    return min(known) if known else None


def _read(folder: Path, dtype: torch.dtype, arguments: JsonObject, *, without_weights: bool) -> tuple[Any, Any]:
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    with loading(folder, "a causal language model with its tokenizer"):
        if without_weights:
            config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
            with torch.device("meta"):
                model = AutoModelForCausalLM.from_config(config, dtype=dtype, trust_remote_code=False)
        else:
            model = AutoModelForCausalLM.from_pretrained(
                folder, dtype=dtype, use_safetensors=True, local_files_only=True, trust_remote_code=False, **arguments
            )
            _keep_cap(model)
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    return model, without_length_warning(tokenizer)


def _keep_cap(model: Any) -> None:
    """torch's attention leaves out a cap on the scores (Gemma 2), and older transformers choose it all the same."""
    if getattr(model.config, "attn_logit_softcapping", None) and model.config._attn_implementation == "sdpa":
        model.set_attn_implementation("eager")


def _with_adapter(model: Any, adapter: Path) -> Any:
    import_bitsandbytes()
    from peft import PeftModel

    if not (adapter / ADAPTER_CONFIG).is_file():
        raise TaskError(
            f"no {ADAPTER_CONFIG} in this folder",
            where=str(adapter),
            expected="a PEFT adapter",
            remedy="Name its folder.",
        )
    if not (adapter / ADAPTER_WEIGHTS).is_file():
        raise TaskError(
            f"no {ADAPTER_WEIGHTS} in this folder",
            where=str(adapter),
            expected="weights as safetensors",
            remedy="Save the adapter again with save_pretrained; pickled weights are not read.",
        )
    layers = [name for name, _ in model.named_modules()]
    check_patterns(adapter_settings(adapter, raised=TaskError), layers, adapter)
    expected = "an adapter that was trained on this model"
    with loading(adapter, expected, of="the adapter", remedy="Name another."), quiet_checkpointing():
        # By default PEFT reads the adapter onto the first GPU. The base is not there yet, or moves to another.
        return PeftModel.from_pretrained(model, str(adapter), is_trainable=False, torch_device="cpu")


def _snapshot(hub_id: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError

    try:
        return checked_folder(Path(snapshot_download(hub_id, allow_patterns=_HUB_FILES)))
    except HFValidationError as error:
        raise TaskError("neither a folder nor a hub id", where=hub_id, remedy="Correct the model's name.") from error
    except GatedRepoError as error:
        raise PrerequisiteError(
            "this model is gated", where=hub_id, remedy="Accept its terms on its hub page and set HF_TOKEN."
        ) from error
    except RepositoryNotFoundError as error:
        raise TaskError(
            "the hub has no such model", where=hub_id, remedy="Correct its name, or set HF_TOKEN if it is private."
        ) from error
    except OSError as error:
        raise hub_failure(error, hub_id) from error
