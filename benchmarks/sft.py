"""One SFT training, ours or TRL's: `python -m benchmarks.sft PEER CASE PRECISION STEPS CHECKPOINTING` prints one JSON line."""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.material import CHAT, CHAT_DATA, LEARNING_RATE, SFT_CASES, Case, chat_rows, embedded, rows_of
from benchmarks.meter import now, peak_bytes
from benchmarks.trl_side import TrlSetting, prepared, trl_arguments, watch
from lastresort.engine.forest import Row
from lastresort.train.adapters.adapters import attach_adapter
from lastresort.train.loop.batches import TrainingItem, batch_of
from lastresort.train.settings import TrainSettings


@dataclass(frozen=True)
class Trained:
    """losses, ends: of each step, ends in seconds. computed, nominal: tokens. share: of them, of the steps after the first, which
    warms up. path: of the engine, in words."""

    losses: list[float]
    ends: list[float]
    computed: int
    nominal: int
    share: float
    path: str = ""

    @property
    def seconds(self) -> float:
        return self.ends[-1] - self.ends[0]


def ours(loaded: Any, items: list[TrainingItem], settings: TrainSettings) -> Trained:
    from lastresort.train.loop.loop import StepSeen, train

    model = attach_adapter(loaded.model, settings.adapter, base_name="embedded", seed=settings.seed)
    losses: list[float] = []
    ends: list[float] = []

    def on_step(seen: StepSeen) -> None:
        losses.append(seen.loss)
        ends.append(now(loaded.model.device))

    with tempfile.TemporaryDirectory() as folder:
        done = train(model, items, settings, folder=Path(folder) / "checkpoint", on_step=on_step)
    kernel = done.check.kernel if done.check is not None else None
    passed_over = f", passed over {done.check.passed_over}" if done.check is not None and done.check.passed_over else ""
    path = f"{done.path}{f' by {kernel}' if kernel else ''}{f' ({done.reason})' if done.reason else ''}{passed_over}"
    share = (len(ends) - 1) / len(ends)
    return Trained(losses, ends, done.computed_tokens, done.nominal_tokens, share, path)


def trl(loaded: Any, rows: list[Row], settings: TrainSettings, setting: TrlSetting) -> Trained:
    """The same rows in the same order, adapters from the same seed, schedule and clipping alike, through TRL's SFTTrainer. Packed,
    the order is that of the packing."""
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
    device = loaded.model.device
    with tempfile.TemporaryDirectory() as folder:
        given = trl_arguments(settings, folder, setting, device=device)
        if setting.packing == "packed":  # a pack holds the tokens of a pass, and is one
            longest = max(len(row.ids) for row in rows)
            room = longest * int(given["per_device_train_batch_size"])
            given |= {"packing": True, "max_length": room, "per_device_train_batch_size": 1}
        else:
            given |= {"padding_free": setting.packing == "padding-free", "max_length": None}
        arguments = SFTConfig(**given, completion_only_loss=True, train_sampling_strategy="sequential")
        model = attach_adapter(
            prepared(loaded.model, setting), settings.adapter, base_name="embedded", seed=settings.seed
        )
        trainer = SFTTrainer(
            model=model,
            args=arguments,
            train_dataset=data,
            processing_class=loaded.tokenizer,
            callbacks=[watch(ends, logged, "loss", device)],
        )
        trainer.train()
    tokens = sum(len(row.ids) for row in ordered)
    share = (len(ends) - 1) / len(ends)
    if setting.packing == "packed":
        share = 1 - logged[0]["num_tokens"] / logged[-1]["num_tokens"]
    return Trained([logs["loss"] for logs in logged], ends, tokens, tokens, share)


def main(peer: str, case_name: str, precision: str, steps: int, checkpointing: bool) -> dict[str, Any]:
    from lastresort.train.loop.batches import completions

    case: Case = next(case for case in (*SFT_CASES, CHAT) if case.name == case_name)
    loaded = embedded(precision)
    n = case.batch * steps
    rows = chat_rows(CHAT_DATA, loaded.tokenizer, n) if case is CHAT else rows_of(case, loaded.tokenizer, n)
    settings = TrainSettings(LEARNING_RATE, epochs=1, batch_size=case.batch, warmup=0.0, checkpointing=checkpointing)
    reduced = TrlSetting(reduced=precision == "bfloat16")
    found = ours(loaded, completions(rows), settings) if peer == "ours" else trl(loaded, rows, settings, reduced)
    return {
        "rows_per_s": case.batch * (len(found.ends) - 1) / found.seconds,  # the first step warms up
        "losses": found.losses,
        "peak_bytes": peak_bytes("cpu"),
        "computed_tokens": found.computed,
        "seconds": found.seconds,
        "nominal_tokens": found.nominal,
        "targets": sum(sum(row.targets) for row in rows),
    }


if __name__ == "__main__":
    peer, case_name, precision, steps, checkpointing = sys.argv[1:]
    print(json.dumps(main(peer, case_name, precision, int(steps), checkpointing == "on")))
