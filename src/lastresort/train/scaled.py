"""What was trained, at a fraction of its strength: base + scale * (trained - base), without any training."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from lastresort.errors import CandidateError
from lastresort.records.atomic import disk_errors, replace_folder, write_atomically
from lastresort.train.adapter_folder import CONFIG

# What PEFT trains beside the low-rank update, or in place of it: alpha does not reach it. And the values that leave it out.
_PLAIN: dict[str, tuple[Any, ...]] = {
    "use_dora": (False,),
    "modules_to_save": ([],),
    "bias": ("none",),
    "trainable_token_indices": ([], {}),
}


def scale_adapter(adapter: Path, scale: float, folder: Path) -> None:
    """Write the adapter anew into `folder` with its low-rank update multiplied by `scale`; its weights are the same.

    PEFT multiplies the update of a layer by lora_alpha / r, or by lora_alpha / sqrt(r), so that the scale goes into every alpha.
    0 is the base, 1 the adapter as it is. Raises CandidateError where the strength of an adapter is not in its alpha alone.
    """
    config = json.loads((adapter / CONFIG).read_text(encoding="utf-8"))
    if config.get("peft_type") != "LORA" or any(config.get(key) not in (None, *plain) for key, plain in _PLAIN.items()):
        raise CandidateError("only the strength of a plain LoRA adapter is a number", where=str(adapter / CONFIG))
    config["lora_alpha"] = _times(config["lora_alpha"], scale)
    config["alpha_pattern"] = {
        name: _times(value, scale) for name, value in (config.get("alpha_pattern") or {}).items()
    }
    fresh = folder.with_name(f".{folder.name}.new")
    with disk_errors(folder):
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.copytree(adapter, fresh)
    write_atomically(fresh / CONFIG, json.dumps(config, indent=2))
    replace_folder(fresh, folder)


def scale_weights(base: Any, trained: Any, scale: float) -> None:
    """Move all weights of `trained` to base + scale * (trained - base), in place. Both: the same architecture, in float32."""
    import torch

    before = dict(base.named_parameters())
    with torch.no_grad():
        for name, weight in trained.named_parameters():
            weight.copy_(torch.lerp(before[name], weight, scale))


def _times(alpha: float, scale: float) -> float:
    """A whole number stays one, as other programs expect it."""
    scaled = alpha * scale
    return int(scaled) if float(scaled).is_integer() else scaled
