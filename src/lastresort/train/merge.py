"""An adapter into its base: one ordinary model, checked against the two before it appears."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from lastresort.errors import DataError, InputError
from lastresort.hardware.memory import give_back_freed_memory
from lastresort.models.loading import load_local, weights_folder
from lastresort.models.open import local_folder
from lastresort.models.precision import DTYPES
from lastresort.models.quantized import quantized_layers, trained_on
from lastresort.records.atomic import disk_errors, replace_folder, settle_folder
from lastresort.train.adapter_folder import AdapterFolder, check_fits, read_adapter
from lastresort.train.base_folder import linear_shapes, stored_dtype
from lastresort.train.merge_check import (
    TOLERANCE,
    MergeCheck,
    compare,
    logits_of,
    probe_ids,
    refuse_if_different,
    unmerged_logits,
)
from lastresort.train.merged_weights import adapted_layers, write_merged

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
    found = read_adapter(adapter)
    source = weights_folder(local_folder(base, Path.cwd()) if isinstance(base, str) else base)
    shapes = linear_shapes(source)
    check_fits(found, str(base), shapes)
    known = trained_on(adapter)
    into = into or ("nf4" if known is not None else "16bit")
    stored = stored_dtype(source)
    stored = stored if stored in DTYPES else "bfloat16"  # nothing is computed in float16 here
    if into == "nf4":
        before = load_as = known.dtype if known is not None else _quantisable(dtype)
        written = dtype or before
    else:
        before = written = dtype or stored
        load_as = max(stored, written, key=lambda name: torch.finfo(DTYPES[name]).bits)
    probes, unmerged, alone, in_4_bits = _before(source, found, into, before, scale)
    fresh = out.with_name(f".{out.name}.new")
    try:
        write_merged(source, found, fresh, load_as=load_as, written=written, scale=scale, in_4_bits=in_4_bits)
        give_back_freed_memory()
        merged = logits_of(load_local(fresh, precision=written).model, probes)
        tolerance = max(TOLERANCE[DTYPES[written]], TOLERANCE[DTYPES[before]])
        check = compare(merged, unmerged, alone, texts=len(probes), tolerance=tolerance)
        refuse_if_different(check, str(adapter))
        replace_folder(fresh, out)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return Merged(out, str(base), into, written, scale, len(found.layers), check)


def check_out(out: Path) -> None:
    """Raise InputError if `out` is something that a merge would overwrite."""
    with disk_errors(out):
        settle_folder(out)
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise InputError(
                "the folder is not empty" if out.is_dir() else "this is a file",
                where=str(out),
                expected="a new or empty folder",
                remedy="Name another, or empty it.",
            )


def _check_request(out: Path, scale: float, dtype: str | None) -> None:
    check_out(out)
    if not 0 <= scale <= 1:
        raise InputError(
            f"found {scale:g}", where="scale", expected="a number from 0 (the base) to 1 (the whole adapter)"
        )
    if dtype is not None and dtype not in DTYPES:
        raise InputError(f'found "{dtype}"', where="dtype", expected=", ".join(DTYPES), remedy="Name one of them.")


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
