"""Does an adapter fit its base? Told from file headers before weights are loaded; PEFT passes over layers that it does not find."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from lastresort.embedded import own_code_refused, quiet_transformers
from lastresort.errors import DataError
from lastresort.train.adapter_folder import CONFIG, weight_shapes

_FACTOR = re.compile(r"base_model\.model\.(?P<layer>.+)\.(?P<part>lora_A|lora_B)\.weight")


def is_adapter(folder: Path) -> bool:
    return (folder / CONFIG).is_file()


def trained_on(adapter: Path) -> str:
    """What the adapter's settings call its base, "" where they do not say. Raises DataError where they are no JSON object."""
    path = adapter / CONFIG
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise DataError(
            "not JSON", where=str(path), expected="PEFT's settings", remedy="Save the adapter again."
        ) from error
    if not isinstance(settings, dict):
        raise DataError("no settings", where=str(path), expected="PEFT's settings", remedy="Save the adapter again.")
    return str(settings.get("base_model_name_or_path") or "")


def check_fit(adapter: Path, base: Path, base_name: str) -> None:
    """Raises DataError where a low-rank layer of the adapter is not in the base, or has another shape there.

    Other kinds of adapters are left to PEFT, which refuses shapes that do not fit when it loads them.
    """
    factors = _factors(adapter)
    if not factors:
        return
    sizes = _layer_sizes(base)
    for layer, (part, width) in ((layer, one) for layer, parts in factors.items() for one in parts.items()):
        if layer not in sizes:
            raise _refused(adapter, f"the layer {layer}, which {base_name} does not have", base_name)
        if width not in sizes[layer]:
            found = f"{part} of {layer} with {width} {'inputs' if part == 'lora_A' else 'outputs'}"
            raise _refused(
                adapter, f"{found}, while {base_name} has a layer of {' x '.join(map(str, sizes[layer]))}", base_name
            )


def _factors(adapter: Path) -> dict[str, dict[str, int]]:
    """Layer -> factor -> inputs of A, outputs of B."""
    found: dict[str, dict[str, int]] = {}
    for key, shape in weight_shapes(adapter).items():
        named = _FACTOR.fullmatch(key)
        if named is not None and len(shape) == 2:
            found.setdefault(named["layer"], {})[named["part"]] = shape[1 if named["part"] == "lora_A" else 0]
    return found


def _layer_sizes(base: Path) -> dict[str, tuple[int, ...]]:
    """Path -> shape of the weights of every layer with a matrix, without loading them."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    with quiet_transformers(), own_code_refused(base), torch.device("meta"):
        config: Any = AutoConfig.from_pretrained(base, local_files_only=True, trust_remote_code=False)
        if hasattr(config, "quantization_config"):  # a base stored in 4 bits has the shapes of what was quantised
            del config.quantization_config
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    return {
        name: tuple(module.weight.shape)
        for name, module in model.named_modules()
        if getattr(getattr(module, "weight", None), "ndim", 0) == 2
    }


def _refused(adapter: Path, found: str, base_name: str) -> DataError:
    told = trained_on(adapter)
    named = f", while this one says that it was trained on {told}" if told and told != base_name else ""
    return DataError(
        f"found {found}",
        where=str(adapter),
        expected=f"an adapter of {base_name}{named}",
        remedy="Name its own base with --base, or another adapter.",
    )
