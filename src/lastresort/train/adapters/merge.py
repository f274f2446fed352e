"""Merging an adapter into its base: one ordinary model, written layer by layer.

Before it appears, its logits on a few texts are compared with those of the base with its adapter.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from lastresort.errors import DataError, InputError
from lastresort.hardware.memory import give_back_freed_memory
from lastresort.libraries import quiet_transformers
from lastresort.models.loading import DTYPES, load_local, weights_folder
from lastresort.models.open import local_weights
from lastresort.models.quantized import nf4_round_trip, quantized_layers, read_quantized_base
from lastresort.records.atomic import check_new_folder, disk_errors, new_folder, replace_folder, settle_folder
from lastresort.train.adapters.folder import AdapterFolder, check_fits, linear_shapes, read_adapter, stored_dtype
from lastresort.types import SILENT, Progress

SHARD = "5GB"


def merged_weight(
    weight: Tensor, a: Tensor, b: Tensor, *, scaling: float, magnitude: Tensor | None = None, scale: float = 1.0
) -> Tensor:
    """W' of `train.merge.merge_adapter`, computed in float32 or wider, in the weight's own dtype.

    weight [outputs, inputs], a [r, inputs], b [outputs, r], magnitude [outputs] for DoRA. scaling: alpha/r or alpha/sqrt(r).
    Source: Hu et al. 2021, section 4.1; Liu et al. 2024, eq. 5. Oracle: PEFT's merge_and_unload at scale 1.
    """
    wide = torch.promote_types(weight.dtype, torch.float32)
    plain, change = weight.to(wide), scaling * (b.to(wide) @ a.to(wide))
    if magnitude is not None:
        direction = plain + change
        change = (magnitude.to(wide) / direction.norm(dim=1))[:, None] * direction - plain
    return (plain + scale * change).to(weight.dtype)


def write_merged(
    source: Path,
    adapter: AdapterFolder,
    fresh: Path,
    *,
    load_as: str,
    written: str,
    scale: float,
    in_4_bits: frozenset[str],
    progress: Progress,
) -> None:
    """The merged model into `fresh`, one layer after the other, so that only one is held twice.

    load_as: the base's precision before anything is added. written: the dtype of the file. in_4_bits: layers whose weights are
    taken through NF4 first. Raises InfrastructureError when the disk refuses.
    """
    from transformers import GenerationConfig

    progress.stage("merging", len(adapter.layers))
    loaded = load_local(source, precision=load_as, adapter=adapter.folder, quantize="no")
    with torch.no_grad():
        for name, layer in adapted_layers(loaded.model):
            _merge_layer(layer, scale, name in in_4_bits)
            progress.advance()
        model = loaded.model.unload()
        for name in in_4_bits - adapter.layers.keys():
            module = model.get_submodule(name)
            through = nf4_round_trip(_outputs_first(module, module.weight.data))
            module.weight.data = _outputs_first(module, through).contiguous()
    model = model.to(DTYPES[written])
    generation = source / "generation_config.json"
    if generation.is_file():
        model.generation_config = GenerationConfig()  # the base's own is copied as it is, whatever it says
    progress.stage("writing the merged model")
    with disk_errors(fresh), quiet_transformers():
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        model.save_pretrained(str(fresh), max_shard_size=SHARD)
        loaded.tokenizer.save_pretrained(str(fresh))
        if generation.is_file():
            shutil.copyfile(generation, fresh / generation.name)


def adapted_layers(model: Any) -> list[tuple[str, Any]]:
    """Path in the base and PEFT's layer, for each layer that has an adapter."""
    from peft.tuners.lora import LoraLayer

    return [
        (name.removeprefix("base_model.model."), module)
        for name, module in model.named_modules()
        if isinstance(module, LoraLayer)
    ]


def _merge_layer(layer: Any, scale: float, through_4_bits: bool) -> None:
    module, name = layer.get_base_layer(), layer.active_adapters[0]
    weight = _outputs_first(module, module.weight.data)
    merged = merged_weight(
        nf4_round_trip(weight) if through_4_bits else weight,
        layer.lora_A[name].weight.data,
        layer.lora_B[name].weight.data,
        scaling=float(layer.scaling[name]),
        magnitude=layer.lora_magnitude_vector[name].weight.data if name in layer.lora_magnitude_vector else None,
        scale=scale,
    )
    module.weight.data = _outputs_first(module, merged).contiguous()


def _outputs_first(module: Any, weight: Tensor) -> Tensor:
    """[outputs, inputs] of a layer's weight, or back again: GPT-2's Conv1D keeps it the other way round."""
    from transformers.pytorch_utils import Conv1D

    return weight.T if isinstance(module, Conv1D) else weight


PROBES = (
    "The ticket says that the parcel arrived on Tuesday, two days late, and that the box was open.",
    "Question: What is 17 + 25?\nAnswer: 42\n\nQuestion: What is the capital of Portugal?\nAnswer:",
    '{"team": "billing", "urgent": false, "reason": "The invoice of March was paid twice."}',
    "def area(width, height):\n    return width * height\n\nÜber den Wolken, 東京, €20.",
)
PROBE_TOKENS = 48

# Relative difference of the logits that is still rounding. float32 and float64 round in other places of the same sum
# (rotary angles are float32 in both); bfloat16 rounds each merged weight by a relative 2^-9 and each layer's result again.
TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-4, torch.bfloat16: 0.06}


@dataclass(frozen=True, slots=True)
class MergeCheck:
    """How far the merged model is from the base with its adapter.

    texts, tokens: how many were compared. largest_difference: of any logit. relative_difference: root mean square of the
    differences, in units of the logits' own spread at a token. tolerance: what it may be. adapter_effect: the same distance
    between the base and the base with its adapter. same_tokens: share of tokens after which both would go on alike.
    """

    texts: int
    tokens: int
    largest_difference: float
    relative_difference: float
    tolerance: float
    adapter_effect: float
    same_tokens: float

    @property
    def drowned(self) -> bool:
        """Whether rounding is as large as what the adapter changes, so that merging loses it."""
        return self.relative_difference > 0.5 * self.adapter_effect > 0


def probe_ids(tokenizer: Any) -> list[list[int]]:
    return [tokenizer(text)["input_ids"][:PROBE_TOKENS] for text in PROBES]


def unmerged_logits(model: Any, probes: Sequence[Sequence[int]], scale: float) -> tuple[Tensor, Tensor]:
    """Logits [tokens, vocabulary] of the base with its adapter at `scale`, and of the base alone.

    A scale between is taken from outputs, not from weights, so that it checks the formula of the merge: a layer is linear,
    and its output at scale s is s times the adapted plus (1-s) times the base's.
    """
    with model.disable_adapter():
        base = logits_of(model, probes)
    with _scaled(model, scale) if scale != 1.0 else nullcontext():
        return logits_of(model, probes), base


def logits_of(model: Any, probes: Sequence[Sequence[int]]) -> Tensor:
    """Logits of all probes, one after the other, on the processor; float32 or wider."""
    parts = []
    with torch.inference_mode():
        for ids in probes:
            logits = model(input_ids=torch.tensor([list(ids)], device=model.device), use_cache=False).logits[0]
            parts.append(logits.to(torch.promote_types(logits.dtype, torch.float32)).cpu())
    return torch.cat(parts)


def compare(merged: Tensor, unmerged: Tensor, base: Tensor, *, texts: int, tolerance: float) -> MergeCheck:
    """The figures of the check; all logits [tokens, vocabulary]."""
    same = merged.argmax(-1) == unmerged.argmax(-1)
    return MergeCheck(
        texts=texts,
        tokens=len(merged),
        largest_difference=float((merged - unmerged).abs().max()),
        relative_difference=_distance(merged, unmerged),
        tolerance=tolerance,
        adapter_effect=_distance(base, unmerged),
        same_tokens=float(same.double().mean()),
    )


def refuse_if_different(check: MergeCheck, where: str) -> None:
    """Raise DataError where the difference is more than rounding, or is not a number."""
    if check.relative_difference <= check.tolerance:
        return
    raise DataError(
        f"the merged model differs from the base with its adapter by {check.relative_difference:.2g} of the logits' spread",
        where=where,
        expected=f"at most {check.tolerance:g}",
        remedy="Serve the adapter unmerged, or merge in float32.",
    )


def _distance(a: Tensor, b: Tensor) -> float:
    """Root mean square of a - b over that of b, each token's logits taken from their mean, which changes no probability."""
    apart, spread = (x - x.mean(-1, keepdim=True) for x in (a - b, b))
    return float(apart.norm() / spread.norm().clamp_min(torch.finfo(b.dtype).tiny))


@contextmanager
def _scaled(model: Any, scale: float) -> Iterator[None]:
    from peft.tuners.lora import LoraLayer

    def between(module: Any, arguments: Any, output: Tensor) -> Tensor:
        without: Tensor = module.base_layer(*arguments)
        return without + scale * (output - without)

    hooks = [m.register_forward_hook(between) for m in model.modules() if isinstance(m, LoraLayer)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


Into = Literal["16bit", "nf4"]


@dataclass(frozen=True, slots=True)
class Merged:
    """A merged model. into: which of the base's weights. dtype: of the weights written. layers: how many were changed."""

    folder: Path
    base: str
    into: Into
    dtype: str
    scale: float
    layers: int
    check: MergeCheck


def merge_adapter(
    base: str | Path,
    adapter: Path,
    out: Path,
    *,
    into: Into | None = None,
    scale: float = 1.0,
    dtype: str | None = None,
    progress: Progress = SILENT,
) -> Merged:
    """Write the model that answers as `base` with `adapter` does, as an ordinary folder with tokenizer and chat template.

    W' = W + scale (alpha/r) B A for LoRA (alpha/sqrt(r) for rsLoRA). For DoRA W' = W + scale (m V/|V| - W), V = W + (alpha/r) B A.
    into: "nf4" merges into the dequantised 4-bit weights, "16bit" into the base's own; None into those that the adapter was
    trained on. scale: 0, the base, to 1. dtype: of the weights written, float32 or bfloat16; None for that of the base.
    The folder appears only when logits on a few texts agree with those of the unmerged pair. Memory: about the model.

    Raises DataError for an adapter that is damaged, of another base, or no longer the same once merged; InputError for `out`
    that is not empty and settings out of range; TaskError for what is no model; InfrastructureError when the disk refuses.
    """
    _check_request(out, scale, dtype)
    adapter_folder = read_adapter(adapter)
    source = weights_folder(local_weights(base, Path.cwd()) if isinstance(base, str) else base)
    shapes = linear_shapes(source)
    check_fits(adapter_folder, str(base), shapes)
    known = read_quantized_base(adapter)
    into = into or ("nf4" if known is not None else "16bit")
    stored = stored_dtype(source)
    stored = stored if stored in DTYPES else "bfloat16"  # nothing is computed in float16 here
    if into == "nf4":
        before = load_as = known.dtype if known is not None else _quantisable(dtype)
        written = dtype or before
    else:
        before = written = dtype or stored
        load_as = max(stored, written, key=lambda name: torch.finfo(DTYPES[name]).bits)
    progress.stage("reading base and adapter")
    probes, unmerged, alone, in_4_bits = _before(source, adapter_folder, into, before, scale)
    with new_folder(out) as fresh:
        write_merged(
            source, adapter_folder, fresh, load_as=load_as, written=written, scale=scale, in_4_bits=in_4_bits, progress=progress
        )  # fmt: skip
        give_back_freed_memory()
        progress.stage("comparing its answers with the adapter's")
        merged = logits_of(load_local(fresh, precision=written).model, probes)
        tolerance = max(TOLERANCE[DTYPES[written]], TOLERANCE[DTYPES[before]])
        check = compare(merged, unmerged, alone, texts=len(probes), tolerance=tolerance)
        refuse_if_different(check, str(adapter))
        replace_folder(fresh, out)
    return Merged(out, str(base), into, written, scale, len(adapter_folder.layers), check)


def check_out(out: Path) -> None:
    """Raise InputError if `out` is something that a merge would overwrite."""
    with disk_errors(out):
        if out.name:
            settle_folder(out)
        check_new_folder(out)


def _check_request(out: Path, scale: float, dtype: str | None) -> None:
    check_out(out)
    if not 0 <= scale <= 1:
        raise InputError(
            f"found {scale:g}", where="--scale", expected="a number from 0 (the base) to 1 (the whole adapter)"
        )
    if dtype is not None and dtype not in DTYPES:
        raise InputError(f'found "{dtype}"', where="--dtype", expected=", ".join(DTYPES), remedy="Name one of them.")


def _quantisable(dtype: str | None) -> str:
    """What weights are rounded to before NF4, where the adapter does not say."""
    return "bfloat16" if dtype in (None, "bfloat16") else "float32"


def _before(
    source: Path, adapter: AdapterFolder, into: Into, precision: str, scale: float
) -> tuple[list[list[int]], Tensor, Tensor, frozenset[str]]:
    """What the unmerged pair answers, the base alone, and which layers are in 4 bits; the pair is dropped afterwards."""
    loaded = load_local(source, precision=precision, adapter=adapter.folder, quantize="nf4" if into == "nf4" else "no")
    layers = len(adapted_layers(loaded.model))
    if layers != len(adapter.layers):
        raise DataError(
            f"its weights are of {len(adapter.layers)} layers, but its configuration names {layers}",
            where=str(adapter.folder),
            expected="weights for each",
            remedy="Save it again.",
        )
    probes = probe_ids(loaded.tokenizer)
    unmerged, alone = unmerged_logits(loaded.model, probes, scale)
    in_4_bits = quantized_layers(loaded.model.unload()) if into == "nf4" else []
    return probes, unmerged, alone, frozenset(name for name, _ in in_4_bits)
