"""One SFT training, ours or TRL's: `python -m benchmarks.sft PEER CASE PRECISION STEPS CHECKPOINTING` prints one JSON line."""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.material import CHAT, CHAT_DATA, LEARNING_RATE, SFT_CASES, Case, chat_rows, embedded, rows_of
from benchmarks.trl_side import trl_arguments, watch
from lastresort.engine.forest import Row
from lastresort.train.adapters.adapters import attach_adapter
from lastresort.train.loop.batches import batch_of
from lastresort.train.settings import TrainSettings


def ours(loaded: Any, rows: list[Row], settings: TrainSettings) -> tuple[list[float], list[float], int, int]:
    """Losses and seconds of each step, computed and nominal tokens."""
    from lastresort.train.loop.batches import completions
    from lastresort.train.loop.loop import StepSeen, train

    model = attach_adapter(loaded.model, settings.adapter, base_name="embedded", seed=settings.seed)
    losses: list[float] = []
    ends: list[float] = []

    def on_step(seen: StepSeen) -> None:
        losses.append(seen.loss)
        ends.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as folder:
        done = train(model, completions(rows), settings, folder=Path(folder) / "checkpoint", on_step=on_step)
    return losses, ends, done.computed_tokens, done.nominal_tokens


def trl(
    loaded: Any, rows: list[Row], settings: TrainSettings, reduced: bool
) -> tuple[list[float], list[float], int, int]:
    """The same rows in the same order, adapters from the same seed, schedule and clipping alike, through TRL's SFTTrainer."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    steps = len(rows) // settings.batch_size
    ordered = [rows[i] for step in range(steps) for i in batch_of(step, len(rows), settings.batch_size, settings.seed)]
    data = Dataset.from_dict(
        {
            "input_ids": [list(row.ids) for row in ordered],
            "completion_mask": [[int(trained) for trained in row.targets] for row in ordered],
        }
    )
    ends, logged = list[float](), list[dict[str, float]]()
    with tempfile.TemporaryDirectory() as folder:
        arguments = SFTConfig(
            **trl_arguments(settings, folder, reduced=reduced),
            per_device_train_batch_size=settings.batch_size,
            completion_only_loss=True,
            train_sampling_strategy="sequential",
            max_length=None,
        )
        model = attach_adapter(loaded.model, settings.adapter, base_name="embedded", seed=settings.seed)
        trainer = SFTTrainer(
            model=model,
            args=arguments,
            train_dataset=data,
            processing_class=loaded.tokenizer,
            callbacks=[watch(ends, logged, "loss")],
        )
        trainer.train()
    tokens = sum(len(row.ids) for row in ordered)
    return [logs["loss"] for logs in logged], ends, tokens, tokens


def main(peer: str, case_name: str, precision: str, steps: int, checkpointing: bool) -> dict[str, Any]:
    case: Case = next(case for case in (*SFT_CASES, CHAT) if case.name == case_name)
    loaded = embedded(precision)
    n = case.batch * steps
    rows = chat_rows(CHAT_DATA, loaded.tokenizer, n) if case is CHAT else rows_of(case, loaded.tokenizer, n)
    settings = TrainSettings(LEARNING_RATE, epochs=1, batch_size=case.batch, warmup=0.0, checkpointing=checkpointing)
    found = ours(loaded, rows, settings) if peer == "ours" else trl(loaded, rows, settings, precision == "bfloat16")
    losses, ends, computed, nominal = found
    return {
        "rows_per_s": case.batch * (len(ends) - 1) / (ends[-1] - ends[0]),  # the first step warms up
        "losses": losses,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "computed_tokens": computed,
        "seconds": ends[-1] - ends[0],
        "nominal_tokens": nominal,
        "targets": sum(sum(row.targets) for row in rows),
    }


if __name__ == "__main__":
    peer, case_name, precision, steps, checkpointing = sys.argv[1:]
    print(json.dumps(main(peer, case_name, precision, int(steps), checkpointing == "on")))
