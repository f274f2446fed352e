"""What a training and a merge have to say at their end, a line each."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lastresort.records.training import TrainedSteps
    from lastresort.train.adapters.gguf import ExportedGguf
    from lastresort.train.adapters.merge import Merged
    from lastresort.train.files.record import TrainingRecord


def training_lines(record: TrainingRecord, objective: str, output: Path) -> list[str]:
    trained, data = record.trained, record.data
    steps_s = sum(step["seconds"] for step in record.steps)
    together = (
        f" on {trained.processes} processes{', the base in shards' * trained.sharded}" if trained.processes > 1 else ""
    )
    lines = [
        f"{objective}: {data.items} {data.what}, {trained.step} steps{together} in {_time(trained.seconds)}, "
        f"{trained.nominal_tokens / max(steps_s, 1e-9):,.0f} tokens/s",
        *_losses(record),
        f"tokens: {trained.computed_tokens:,} computed of {trained.nominal_tokens:,} nominal "
        f"({trained.computed_tokens / max(1, trained.nominal_tokens):.0%})",
        _path(trained),
    ]
    for finding in data.findings:
        places = ", ".join(finding.places[:3]) + (", …" if finding.count > 3 else "")
        lines.append(f"{finding.count} {finding.what}: {places}")
    saved = record.saved
    return [*lines, f"{saved.kind}: {output / saved.folder}", f"record: {output / 'training.json'}"]


def merge_lines(merged: Merged, gguf: ExportedGguf | None) -> list[str]:
    check = merged.check
    weights = "the dequantised 4-bit weights" if merged.into == "nf4" else "the weights"
    return [
        f"{merged.layers} layers of {merged.base} merged into {weights}, scale {merged.scale:g}, {merged.dtype}",
        f"checked on {check.texts} texts: logits differ by {check.relative_difference:.2g} of their spread "
        f"(at most {check.tolerance:g}; {check.largest_difference:.2g} at the most), "
        f"the adapter moves them by {check.adapter_effect:.2g}; the likeliest token is the same in {check.same_tokens:.0%}",
        f"model: {merged.folder}",
        *([] if gguf is None else [f"gguf: {gguf.path}", f"ollama: ollama create NAME -f {gguf.modelfile}"]),
    ]


def merge_warning(merged: Merged) -> str | None:
    if not merged.check.drowned:
        return None
    return f"Warning: rounding to {merged.dtype} is as large as what the adapter changes; --dtype float32 keeps it."


def _losses(record: TrainingRecord) -> list[str]:
    epochs = record.epochs
    lines = ["loss by epoch: " + ", ".join(f"{epoch['loss']:.4f}" for epoch in epochs)]
    if any("eval_loss" in epoch for epoch in epochs):
        found = ", ".join(f"{epoch['eval_loss']:.4f}" for epoch in epochs if "eval_loss" in epoch)
        lines.append(f"eval loss by epoch: {found} ({record.data.eval_items} held out)")
    return lines


def _path(trained: TrainedSteps) -> str:
    """The path of the engine with its reason, and the check of the first batch."""
    taken = f"path: {trained.path}" + (f" ({trained.reason})" if trained.reason else "")
    check = trained.check
    if check is None or check.gradient_difference is None:
        return taken
    agree = "agree" if check.ok else "differ"
    return (
        f"{taken}; first batch: packed and plain {agree} (loss by {check.loss_difference:.1e} nats, "
        f"gradient by {check.gradient_difference:.1e} of its norm)"
    )


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"
