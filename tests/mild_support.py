"""A mild tuning of the embedded model: one epoch with the defaults, and the replay rows that a climb would make.

It is trained by the parts of a climb and not by `lastresort train`, whose rows have no way to say that an answer was cut, as
most replayed answers are.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from lastresort.embedded import embedded_folder
from lastresort.models.local import load_local
from lastresort.models.open import open_model
from lastresort.records.record import Record
from lastresort.rungs.supervised.replay_rows import replay_of, replay_size
from lastresort.spec.task import load_task
from lastresort.synthesis.replay import Replay
from lastresort.systems.compose import compose
from lastresort.systems.system import PromptDesign
from lastresort.train.adapters.adapters import attach_adapter, save_trained
from lastresort.train.loop.batches import completions, training_rows
from lastresort.train.loop.loop import train
from lastresort.train.settings import AdapterSettings, TrainSettings
from lastresort.types import Example, Message, SilentProgress

RATE, BATCH = 2e-4, 8  # the rate of `lastresort train` for an adapter; half its batch, as there are few rows


def mildly_tuned(folder: Path, task: Path, rows: Sequence[dict[str, Any]], seed: int) -> Path:
    """Train on the task's rows; returns the adapter's folder. seed: of replay, fresh adapter and order. Not done twice."""
    adapter = folder / "adapter"
    if (adapter / "adapter_config.json").is_file():
        return adapter
    examples = [example(number, row) for number, row in enumerate(rows)]
    replay = climbs_replay(folder, task, examples, seed)
    loaded = load_local(embedded_folder())
    design = PromptDesign(load_task(task).about.strip())
    context = loaded.context_tokens
    own = training_rows(loaded.tokenizer, examples, lambda turns: compose(design, turns, ()), context_tokens=context)
    general = training_rows(loaded.tokenizer, replay.examples, tuple, context_tokens=context, ends=replay.ends)
    model = attach_adapter(loaded.model, AdapterSettings(), base_name="embedded", seed=seed)
    settings = TrainSettings(learning_rate=RATE, epochs=1, batch_size=BATCH, seed=seed)
    train(model, completions([*own, *general]), settings, folder=folder / "checkpoint", base=loaded.fingerprint)
    save_trained(model, loaded.tokenizer, adapter)
    return adapter


def climbs_replay(folder: Path, task: Path, examples: Sequence[Example], seed: int) -> Replay:
    """What a climb of the task with this seed would make for its rung sft."""
    resolved = load_task(task)
    folder.mkdir(parents=True, exist_ok=True)
    bench: Any = SimpleNamespace(
        task=SimpleNamespace(
            about=resolved.about, output=resolved.output, chat_template_kwargs={}, split=SimpleNamespace(seed=seed)
        ),
        train=tuple(examples),
        record=Record.open(folder) if (folder / "record.sqlite").exists() else Record.create(folder),
        models=SimpleNamespace(tuned_name="embedded", open=lambda system: open_model("embedded", base_folder=Path())),
        progress=SilentProgress(),
    )
    share, prompts = resolved.sft.replay, resolved.sft.replay_prompts
    return replay_of(bench, "sft", replay_size(len(examples), share, prompts), prompts)


def example(number: int, row: dict[str, Any]) -> Example:
    return Example(f"note-{number}", (Message("user", row["input"]),), json.dumps(row["output"]))
