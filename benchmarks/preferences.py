"""One preference training, ours or TRL's: `python -m benchmarks.preferences PEER OBJECTIVE CASE PRECISION STEPS CHECKPOINTING`
prints one JSON line. Ours computes the reference once, before the first step: its time is counted with the steps.
"""

from __future__ import annotations

import itertools
import json
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.material import PAIR_CASES, PairCase, Pairs, embedded, pairs_of
from benchmarks.meter import now, peak_bytes
from benchmarks.trl_side import TrlSetting, prepared, trl_arguments, watch
from lastresort.train.adapters.adapters import attach_adapter
from lastresort.train.loop.batches import TrainingItem, batch_of, labelled, pairs
from lastresort.train.settings import Objective, TrainSettings
from lastresort.types import SilentProgress

LEARNING_RATE = 1e-4
OPTIONS = {"dpo": (("beta", 0.1),), "kto": (("beta", 0.1),), "orpo": (("weight", 0.1),)}


@dataclass(frozen=True)
class Times:
    """losses: of each step. seconds: of all steps but the first, with the reference's share. computed, nominal: tokens."""

    losses: list[float]
    seconds: float
    computed: int
    nominal: int


def items_of(objective: str, material: Pairs) -> list[TrainingItem]:
    if objective != "kto":
        return pairs(material.chosen, material.rejected)
    rows = [row for both in zip(material.chosen, material.rejected, strict=True) for row in both]
    return labelled(rows, [i % 2 == 0 for i in range(len(rows))])


def ours(loaded: Any, objective: str, material: Pairs, settings: TrainSettings) -> Times:
    from lastresort.train.loop.loop import StepSeen, train

    model = attach_adapter(loaded.model, settings.adapter, base_name="embedded", seed=settings.seed)
    items, losses, ends = items_of(objective, material), list[float](), list[float]()

    def on_step(seen: StepSeen) -> None:
        losses.append(seen.loss)
        ends.append(now(loaded.model.device))

    watch_stages = Stages()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "checkpoint"
        done = train(model, items, settings, folder=place, on_step=on_step, progress=watch_stages)
    share = (len(ends) - 1) / len(ends)
    reference_s = sum(s for stage, s in watch_stages.seconds().items() if "reference" in stage)
    return Times(losses, ends[-1] - ends[0] + share * reference_s, done.computed_tokens, done.nominal_tokens)


class Stages(SilentProgress):
    """Progress that keeps when each stage began, so that the reference's time can be told from the check of the first batch."""

    def __init__(self) -> None:
        self._began: list[tuple[str, float]] = []

    def stage(self, label: str, total: int | None = None, done: int = 0) -> None:
        self._began.append((label, time.perf_counter()))

    def seconds(self) -> dict[str, float]:
        """Of each stage but the last."""
        return {label: end - start for (label, start), (_, end) in itertools.pairwise(self._began)}


def trl(loaded: Any, objective: str, material: Pairs, settings: TrainSettings, setting: TrlSetting) -> Times:
    """The same pairs in the same order, adapters from the same seed, schedule and clipping alike, through TRL's trainers."""
    from datasets import Dataset

    steps = len(items_of(objective, material)) // settings.batch_size
    ends, logged = list[float](), list[dict[str, float]]()
    rows = _trl_rows(objective, material, settings, steps)
    config, trainer = _trl_classes(objective)
    longest, device = max(len(row.ids) for row in (*material.chosen, *material.rejected)), loaded.model.device
    with tempfile.TemporaryDirectory() as folder:
        arguments = config(
            **trl_arguments(settings, folder, setting, device=device),
            beta=0.1,
            max_length=max(1024, longest),
            **({"padding_free": True} if setting.packing == "padding-free" else {}),
        )
        run = trainer(
            model=attach_adapter(
                prepared(loaded.model, setting), settings.adapter, base_name="embedded", seed=settings.seed
            ),
            args=arguments,
            train_dataset=Dataset.from_list(rows),
            processing_class=loaded.tokenizer,
            callbacks=[watch(ends, logged, "loss", device)],
        )
        run._get_train_sampler = lambda *_: None  # in the order given, as ours
        run.train()
    tokens = sum(len(row.ids) for row in (*material.chosen, *material.rejected))
    return Times([logs["loss"] for logs in logged], ends[-1] - ends[0], tokens, tokens)


def _trl_rows(objective: str, material: Pairs, settings: TrainSettings, steps: int) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for prompt, chosen, rejected in material.texts:
        if objective == "kto":
            rows.append({"prompt": prompt, "completion": chosen, "label": True})
            rows.append({"prompt": prompt, "completion": rejected, "label": False})
        else:
            rows.append({"prompt": prompt, "chosen": chosen, "rejected": rejected})
    order = [i for step in range(steps) for i in batch_of(step, len(rows), settings.batch_size, settings.seed)]
    return [rows[i] for i in order]


def _trl_classes(objective: str) -> tuple[Any, Any]:
    if objective == "dpo":
        from trl import DPOConfig, DPOTrainer

        return DPOConfig, DPOTrainer
    if objective == "kto":
        from trl import KTOConfig, KTOTrainer

        return KTOConfig, KTOTrainer
    from trl.experimental.orpo import ORPOConfig, ORPOTrainer

    return ORPOConfig, ORPOTrainer


def main(peer: str, objective: str, case_name: str, precision: str, steps: int, checkpointing: bool) -> dict[str, Any]:
    case: PairCase = next(case for case in PAIR_CASES if case.name == case_name)
    loaded = embedded(precision)
    material = pairs_of(case, loaded.tokenizer, case.batch * steps)
    settings = TrainSettings(
        LEARNING_RATE,
        epochs=1,
        batch_size=case.batch * (2 if objective == "kto" else 1),
        objective=Objective(objective, OPTIONS[objective]),
        warmup=0.0,
        checkpointing=checkpointing,
    )
    if peer == "ours":
        found = ours(loaded, objective, material, settings)
    else:
        found = trl(loaded, objective, material, settings, TrlSetting(reduced=precision == "bfloat16"))
    return {
        "rows_per_s": case.batch * (len(found.losses) - 1) / found.seconds,
        "losses": found.losses,
        "peak_bytes": peak_bytes("cpu"),
        "computed_tokens": found.computed,
        "nominal_tokens": found.nominal,
        "seconds": found.seconds,
    }


if __name__ == "__main__":
    peer, objective, case_name, precision, steps, checkpointing = sys.argv[1:]
    print(json.dumps(main(peer, objective, case_name, precision, int(steps), checkpointing == "on")))
