"""The training part of the sft rung: replay, a race of learning rates, then checkpoints."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from lastresort.errors import DataError, PrerequisiteError
from lastresort.rungs.rung import Workbench
from lastresort.spec.task import Task
from lastresort.systems.compose import compose
from lastresort.systems.system import PromptDesign, System
from lastresort.types import Decoding, Example, Message

RACE_ENDS = (1 / 6, 1 / 3)  # shares of the whole training after which the worse half of the learning rates stops


def tuned_model(task: Task) -> str:
    """Name of the model that may be trained."""
    return task.model if task.tune.model == "same" else task.tune.model


def kept_epochs(epochs: int) -> range:
    """The epochs after which an adapter is kept and measured: the second half of training."""
    return range(math.ceil(epochs / 2), epochs + 1)


@dataclass(frozen=True, slots=True)
class _Lap:
    """How far one learning rate is trained, and its loss on dev there (nats a target token)."""

    rate: float
    step: int
    dev_loss: float


class SftTraining:
    """The training part of the rung: one base in memory, one adapter a learning rate, resumable at every point.

    What is finished is read from the record; what was cut goes on from its checkpoint.
    """

    def __init__(self, bench: Workbench) -> None:
        self._bench = bench
        too_long = frozenset((bench.record.last("too_long") or {"train": ()})["train"])
        self._train_rows = tuple(example for example in bench.train if example.id not in too_long)
        self._loaded: Any = None
        self._rows: Any = None
        self._replay_rows = 0

    def race(self) -> float:
        """The learning rate that goes the whole way: successive halving by loss on dev."""
        rates = list(self._bench.task.sft.learning_rates)
        steps = self._steps()
        for share in RACE_ENDS:
            if len(rates) == 1:
                break
            laps = [self._lap(rate, max(1, round(share * steps))) for rate in rates]
            laps.sort(key=lambda lap: lap.dev_loss if math.isfinite(lap.dev_loss) else math.inf)
            if not math.isfinite(laps[0].dev_loss):
                raise DataError(
                    f"training diverged at every learning rate ({', '.join(f'{rate:g}' for rate in rates)})",
                    where="sft.learning_rates",
                    expected="a finite loss",
                    remedy="Add a lower one and start a new run.",
                )
            keep = 1 if share == RACE_ENDS[-1] else max(1, math.ceil(len(rates) / 2))
            rates = [lap.rate for lap in laps[:keep]]
        return rates[0]

    def finish(self, rate: float) -> list[tuple[str, Path]]:
        """Train to the end, an adapter kept after each epoch. Returns those of the second half of training."""
        epochs = self._bench.task.sft.epochs
        per_epoch = self._steps() // epochs
        kept = []
        for epoch in kept_epochs(epochs):
            name = f"lora-lr{rate:g}-epoch{epoch}"
            lap = self._lap(rate, epoch * per_epoch, adapter=self._bench.folder / "adapters" / name)
            if math.isfinite(lap.dev_loss):
                kept.append((name, self._bench.folder / "adapters" / name))
        if not kept:
            raise DataError(
                f"training diverged at learning rate {rate:g} after the race",
                where="sft.learning_rates",
                remedy="Leave it out and start a new run.",
            )
        return kept

    def note(self, rate: float) -> str:
        sft = self._bench.task.sft
        rows = f"{len(self._train_rows)} rows and {self._replay_size()} of replay"
        told = f"LoRA r {sft.r} on {sft.target} layers, {rows}, {sft.epochs} epochs, batch {sft.batch_size}"
        if len(sft.learning_rates) == 1:
            return f"{told}, learning rate {rate:g}, the only one tried."
        ends = {max(1, round(share * self._steps())) for share in RACE_ENDS}
        laps = [lap for lap in self._bench.record.notes("race") if lap["step"] in ends]
        raced = ", ".join(f"{lap['rate']:g}: {_loss(lap['dev_loss'])} at step {lap['step']}" for lap in laps)
        rates = ", ".join(f"{r:g}" for r in sft.learning_rates)
        return f"{told}; learning rates {rates} raced by loss on dev ({raced}); {rate:g} went the whole way."

    def close(self) -> None:
        self._loaded = self._rows = None

    def _lap(self, rate: float, until: int, adapter: Path | None = None) -> _Lap:
        from lastresort.train.loop import Diverged

        record = self._bench.record
        key = f"{rate:g}@{until}"
        known = record.last("race", key)
        if known is not None and (adapter is None or (adapter / "adapter_config.json").is_file()):
            return _Lap(known["rate"], known["step"], math.inf if known["dev_loss"] is None else known["dev_loss"])
        try:
            lap = _Lap(rate, until, self._train(rate, until, adapter))
        except Diverged as error:
            self._bench.progress.say(f"sft: learning rate {rate:g} drops out: {error}")
            lap = _Lap(rate, until, math.inf)
        if known is None:
            record.note(
                "race", {**asdict(lap), "dev_loss": lap.dev_loss if math.isfinite(lap.dev_loss) else None}, key=key
            )
        return lap

    def _train(self, rate: float, until: int, adapter: Path | None) -> float:
        """Train one learning rate up to a step; save the adapter where asked; return the loss on dev."""
        from lastresort.train.adapters import attach_adapter, detach, save_adapter
        from lastresort.train.items import completions
        from lastresort.train.loop import StepSeen, train
        from lastresort.train.settings import AdapterSettings, TrainSettings

        self._prepare()
        bench, sft = self._bench, self._bench.task.sft
        settings = TrainSettings(
            learning_rate=rate,
            epochs=sft.epochs,
            batch_size=sft.batch_size,
            adapter=AdapterSettings(r=sft.r, alpha=sft.alpha or 2 * sft.r, target=sft.target),
            seed=bench.task.split.seed,
        )
        model = attach_adapter(
            self._loaded.model, settings.adapter, base_name=bench.models.tuned_name, seed=settings.seed
        )
        name = f"lr{rate:g}"
        before = bench.record.last("training", name)
        done = int(before["step"]) if before is not None else 0
        bench.progress.stage(
            f"sft: training, learning rate {rate:g}, to step {until} of {self._steps()}", max(0, until - done)
        )

        def on_step(seen: StepSeen) -> None:
            values = {"loss": seen.loss, "grad_norm": seen.grad_norm, "learning_rate": seen.learning_rate}
            bench.record.add_curve_point(name, seen.step, values)
            bench.progress.advance(1, note=f"loss {seen.loss:.3f}")

        folder = bench.folder / "checkpoints" / name
        try:
            trained = train(
                model,
                completions(self._rows),
                settings,
                folder=folder,
                base=self._loaded.fingerprint,
                until=until,
                on_step=on_step,
                out_of_time=bench.out_of_time,
            )
            if trained.check is not None and not trained.check.ok and not bench.record.last("training", name):
                bench.progress.say(f"sft: training by the plain path: {trained.check.reason}")
            loss = self._dev_loss(model, plain=trained.path == "plain")
            if adapter is not None:
                save_adapter(model, adapter)
        finally:
            self._loaded = replace(self._loaded, model=detach(model))
        bench.record.add_curve_point(name, trained.step, {"dev_loss": loss})
        bench.record.note(
            "training",
            {
                "rung": "sft",
                "candidate": name,
                "rows": len(self._rows),
                "replay_rows": self._replay_rows,
                **asdict(trained),
                **asdict(settings),
            },
            key=name,
        )
        return loss

    def _prepare(self) -> None:
        """Load the base and render the rows, once."""
        if self._loaded is not None:
            return
        from lastresort.models.local import load_local
        from lastresort.models.open import local_folder

        bench = self._bench
        replay = self._replay()
        bench.models.close()
        bench.progress.stage("sft: loading the model", None)
        self._loaded = load_local(
            local_folder(bench.models.tuned_name, bench.task.folder), precision="auto", adapter=None
        )
        if self._loaded.model is None:
            raise PrerequisiteError(f"{bench.models.tuned_name} has no weights here", where="tune.model")
        rows = self._render(self._train_rows)
        general = self._render(replay.examples, compose_with=lambda turns: turns, ends=replay.ends)
        self._replay_rows = len(general)
        self._rows = rows + general
        self._dev_rows = self._render(bench.dev)

    def _render(
        self, examples: Sequence[Example], compose_with: Any = None, ends: Sequence[bool] | None = None
    ) -> list[Any]:
        from lastresort.train.rows import training_rows

        task = self._bench.task
        design = PromptDesign(task.about.strip())

        def composed(turns: Sequence[Message]) -> Sequence[Message]:
            return compose(design, turns, ())

        return training_rows(
            self._loaded.tokenizer,
            examples,
            compose_with or composed,
            context_tokens=self._loaded.context_tokens,
            template_kwargs=task.chat_template_kwargs,
            ends=ends,
        )

    def _replay(self) -> Any:
        from lastresort.synthesis.replay import Replay, generate_replay

        bench, n = self._bench, self._replay_size()
        if not n:
            return Replay()
        known = bench.record.last("replay")
        if known is not None:
            rows = known["rows"]
            examples = tuple(Example(row["id"], (Message("user", row["prompt"]),), row["answer"]) for row in rows)
            return Replay(examples, tuple(row["end"] for row in rows))
        bench.progress.stage("sft: replay rows from the base model", n)
        base = System(
            "base",
            bench.models.tuned_name,
            PromptDesign(""),
            Decoding(1),
            template_kwargs=bench.task.chat_template_kwargs,
        )
        replay = generate_replay(bench.models.open(base), n, bench.task.split.seed, bench.progress.advance)
        rows = [
            {"id": example.id, "prompt": example.input_text, "answer": example.output, "end": end}
            for example, end in zip(replay.examples, replay.ends, strict=True)
        ]
        spent = {"tokens_in": replay.tokens_in, "tokens_out": replay.tokens_out, "seconds": replay.seconds}
        bench.record.note("replay", {"rung": "sft", "rows": rows, **spent})
        return replay

    def _replay_size(self) -> int:
        from lastresort.synthesis.general_prompts import REQUESTS, SUBJECTS
        from lastresort.synthesis.replay import replay_rows

        return min(replay_rows(len(self._train_rows), self._bench.task.sft.replay), len(REQUESTS) * len(SUBJECTS))

    def _steps(self) -> int:
        from lastresort.train.order import steps_per_epoch

        known = self._bench.record.last("replay")
        replay = len(known["rows"]) if known is not None else len(self._replay().examples)
        sft = self._bench.task.sft
        return steps_per_epoch(len(self._train_rows) + replay, sft.batch_size) * sft.epochs

    def _dev_loss(self, model: Any, *, plain: bool) -> float:
        """Mean loss of the right answers on dev, nats a target token."""
        import torch

        from lastresort.engine.forest import split_passes
        from lastresort.engine.logp import target_logps

        total, count = 0.0, 0
        with torch.no_grad():
            for rows in split_passes(self._dev_rows, 4096):
                found = target_logps(model, rows, plain=plain).per_token
                total -= float(found.sum())
                count += len(found)
        return total / count


def _loss(value: float | None) -> str:
    return "diverged" if value is None else f"{value:.3f}"
