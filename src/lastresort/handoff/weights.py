"""The files of a model in a folder that is handed over: linked or merged, its template complete, its own sampling put aside.

The weights of a model are linked where the disk allows, so that one disk need not hold them twice. All else is a copy, which its
user may change.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lastresort.errors import InputError
from lastresort.handoff.source import LocalWeights
from lastresort.model_heads import ADAPTER_CONFIG
from lastresort.models.adapter_settings import ADAPTER_WEIGHTS, PLAIN_STARTS, adapter_settings
from lastresort.models.quantized import read_quantized_base
from lastresort.records.atomic import disk_errors, refuse_links_out, write_atomically
from lastresort.train.adapters.folder import read_adapter, stored_dtype
from lastresort.types import Decoding

TEMPLATE, GENERATION = "chat_template.jinja", "generation_config.json"
_SUFFIXES = {".safetensors", ".json", ".model", ".txt"}
_LEFT_OUT = {GENERATION, "chat_template.json", "converted.json", "trainer_state.json", "training_args.json"}
BYTES = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}
RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM's --max-lora-rank can be."""


def link_model(source: Path, folder: Path) -> None:
    """The model in `source` as a folder of its own: weights as safetensors, configuration and tokenizer.

    Raises InputError for a link that leads out of `source`, InfrastructureError when the disk refuses.
    """
    with disk_errors(folder):
        refuse_links_out(source)
        folder.mkdir(parents=True)
        for path in sorted(source.iterdir()):
            if path.suffix in _SUFFIXES and path.name not in _LEFT_OUT and path.is_file():
                put = _link if path.suffix == ".safetensors" else shutil.copyfile
                put(Path(os.path.realpath(path)), folder / path.name)


def copied_bytes(source: Path, disk: Path) -> int:
    """Of the weights that `link_model` copies to this disk, since they lie on another."""
    here = disk.stat().st_dev
    return sum(path.stat().st_size for path in source.glob("*.safetensors") if path.stat().st_dev != here)


def written_bytes(weights: LocalWeights) -> int:
    """Of the model's weights in the precision that was measured, in which they are merged and become a GGUF. Folders of some models
    hold them a second time for other libraries, as consolidated.safetensors.
    """
    stored = sum(path.stat().st_size for path in weights.folder.glob("model*.safetensors"))
    return stored * BYTES[weights.dtype] // BYTES[stored_dtype(weights.folder)]


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another disk, or one without hard links
        shutil.copyfile(source, target)


def settle_rendering(weights: LocalWeights, folder: Path, decoding: Decoding) -> None:
    """Write the template that needs no arguments, and generation settings that change no answer.

    Of the base's own only the tokens remain that end an answer. What a request leaves out is as it was measured.
    """
    write_atomically(folder / TEMPLATE, weights.template)
    path = folder / GENERATION
    path.unlink(missing_ok=True)  # a link to the base's own file, perhaps
    settings: dict[str, object] = {"do_sample": decoding.temperature > 0, "eos_token_id": list(weights.stop_ids)}
    roles = {"bos_token_id": weights.tokenizer.bos_token_id, "pad_token_id": weights.tokenizer.pad_token_id}
    settings |= {role: number for role, number in roles.items() if number is not None}
    if decoding.temperature > 0:
        settings |= {"temperature": decoding.temperature, "top_p": decoding.top_p, "top_k": decoding.top_k}
    write_atomically(path, json.dumps(settings, indent=1) + "\n")


def copy_adapter(adapter: Path, folder: Path) -> None:
    """The two files that are the adapter."""
    with disk_errors(folder):
        refuse_links_out(adapter)
        folder.mkdir(parents=True)
        for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
            shutil.copyfile(os.path.realpath(adapter / name), folder / name)


def adapter_rank(adapter: Path) -> int:
    """The largest of its layers. Raises DataError for what is no LoRA adapter."""
    return max(rank for _, rank, _ in read_adapter(adapter).layers.values())


def refuse_adapter(adapter: Path, server: str, *, plain: bool) -> None:
    """Raises InputError for an adapter that this server cannot serve next to its base. plain: it knows one rank and scaling."""
    settings = adapter_settings(adapter)
    if read_quantized_base(adapter) is not None:
        found = "an adapter that was trained and measured on a base in 4 bits"
    else:
        found = next(iter(_unserved(settings, plain=plain)), "")
    if found:
        raise InputError(
            f"{server} cannot serve {found}",
            where=str(adapter / ADAPTER_CONFIG),
            expected="an ordinary LoRA adapter",
            remedy="Add --merged, which writes base and adapter as one model.",
        )


def _unserved(settings: Mapping[str, Any], *, plain: bool) -> list[str]:
    """What these settings hold beyond ordinary LoRA."""
    found = []
    if settings.get("use_dora"):
        found.append("DoRA")
    if settings.get("modules_to_save"):
        found.append("modules saved whole (modules_to_save)")
    if settings.get("lora_bias") or settings.get("bias", "none") not in ("none", None):
        found.append("an adapter with biases")
    if settings.get("layer_replication"):
        found.append("replicated layers")
    start = settings.get("init_lora_weights")
    if isinstance(start, str) and start.lower() not in PLAIN_STARTS:
        found.append(f"an adapter that started from {start[:40]}, which also changes the base")
    if plain and (settings.get("rank_pattern") or settings.get("alpha_pattern")):
        found.append("layers of different rank or scaling")
    if plain and settings.get("use_rslora"):
        found.append("rsLoRA")
    if plain and isinstance(settings.get("target_modules"), str):
        found.append("layers named by a pattern")
    return found
