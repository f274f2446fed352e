"""`lastresort merge ADAPTER`: an adapter into its base, as one ordinary model."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from lastresort.cli.document import print_document
from lastresort.cli.terminal import print_note, print_text

if TYPE_CHECKING:
    from lastresort.train.adapters.gguf import Exported
    from lastresort.train.adapters.merge import Merged


def merge_command(
    adapter: Path = typer.Argument(help="The folder of an adapter, as PEFT saves it."),
    base: str | None = typer.Option(None, "--base", help="The base model. Default: the one that the adapter names."),
    out: Path | None = typer.Option(None, "--out", help="Folder of the merged model. Default: ADAPTER-merged."),
    into: str | None = typer.Option(
        None,
        "--into",
        metavar="16bit|nf4",
        help="Into the base's own weights, or the dequantised 4-bit ones. Default: those that the adapter was trained on.",
    ),
    scale: float = typer.Option(1.0, "--scale", help="How much of the adapter: 0 is the base, 1 the whole adapter."),
    dtype: str | None = typer.Option(
        None, "--dtype", metavar="bfloat16|float32", help="Of the weights written. Default: that of the base."
    ),
    gguf: bool = typer.Option(False, "--gguf", help="Also write a GGUF and an Ollama Modelfile, in the folder gguf/."),
    gguf_type: str | None = typer.Option(
        None,
        "--gguf-type",
        metavar="f16|bf16|f32",
        help="Of the weights in the GGUF. Default: as they are, without loss.",
    ),
    as_json: bool = typer.Option(False, "--json", help="Print the findings as one JSON document on stdout."),
) -> None:
    """Merge an adapter into its base and check that both give the same answers."""
    from lastresort.train.adapters.merge import merge_adapter

    named, target = base or _base_of(adapter), out or _beside(adapter)
    chosen = _into(into)
    if gguf or gguf_type:
        _check_export(named, gguf_type)
    merged = merge_adapter(named, adapter, target, into=chosen, scale=scale, dtype=dtype)
    exported = _export(merged, adapter, gguf_type) if gguf or gguf_type else None
    if as_json:
        print_document(_document(merged, exported))
        return
    _say(merged, exported)


def _beside(adapter: Path) -> Path:
    """ADAPTER-merged, also where the path ends without a name of its own, such as "." does."""
    named = adapter if adapter.name not in ("", "..") else adapter.resolve()
    return named.parent / f"{named.name}-merged"


def _base_of(adapter: Path) -> str:
    from lastresort.errors import DataError
    from lastresort.train.adapters.folder import read_adapter

    found = read_adapter(adapter).base_name
    if not found:
        raise DataError(
            "the adapter does not say which model it was trained on", where=str(adapter), remedy="Name it with --base."
        )
    return found


def _into(name: str | None) -> Any:
    from lastresort.errors import InputError

    if name not in (None, "16bit", "nf4"):
        raise InputError(f'found "{name}"', where="--into", expected="16bit or nf4", remedy="Name one of them.")
    return name


def _check_export(base: str, gguf_type: str | None) -> None:
    """Refuse what cannot become a GGUF before anything is merged."""
    from lastresort.models.loading import weights_folder
    from lastresort.models.open import local_folder
    from lastresort.train.adapters.gguf import check_exportable

    check_exportable(weights_folder(local_folder(base, Path.cwd())), gguf_type)


def _export(merged: Merged, adapter: Path, gguf_type: str | None) -> Exported:
    from lastresort.train.adapters.gguf import export_gguf

    return export_gguf(merged.folder, merged.folder / "gguf", name=adapter.resolve().name, dtype=gguf_type)


def _document(merged: Merged, exported: Exported | None) -> dict[str, Any]:
    found = {**asdict(merged), "folder": str(merged.folder)}
    found["check"]["drowned"] = merged.check.drowned
    found["gguf"] = None if exported is None else {**asdict(exported), "path": str(exported.path)}
    if exported is not None:
        found["gguf"]["modelfile"] = str(exported.modelfile)
    return found


def _say(merged: Merged, exported: Exported | None) -> None:
    check = merged.check
    weights = "the dequantised 4-bit weights" if merged.into == "nf4" else "the weights"
    print_text(f"{merged.layers} layers of {merged.base} merged into {weights}, scale {merged.scale:g}, {merged.dtype}")
    print_text(
        f"checked on {check.texts} texts: logits differ by {check.relative_difference:.2g} of their spread "
        f"(at most {check.tolerance:g}; {check.largest_difference:.2g} at the most), "
        f"the adapter moves them by {check.adapter_effect:.2g}; the likeliest token is the same in {check.same_tokens:.0%}"
    )
    if check.drowned:
        print_note(
            f"Warning: rounding to {merged.dtype} is as large as what the adapter changes; --dtype float32 keeps it."
        )
    print_text(f"model: {merged.folder}")
    if exported is not None:
        print_text(f"gguf: {exported.path}\nollama: ollama create NAME -f {exported.modelfile}")
