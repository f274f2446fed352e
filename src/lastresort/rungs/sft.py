"""Supervised fine-tuning with LoRA: learning rates raced on dev, then checkpoints, then one system."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from lastresort.errors import PrerequisiteError
from lastresort.evals.evidence import choose, selection_bias_corrected
from lastresort.evals.measure import failures
from lastresort.models.protocol import is_endpoint
from lastresort.records.record import ItemScore
from lastresort.rungs.forecast import Forecast, Workload, answering, training
from lastresort.rungs.prompting import grammar_of
from lastresort.rungs.rung import Candidate, Search, Workbench
from lastresort.spec.task import Task
from lastresort.systems.compose import compose
from lastresort.systems.system import PromptDesign, System
from lastresort.types import Decoding, Example, Message

LEAST_ROWS, ADVISED_ROWS = 50, 500
RACE_ENDS = (1 / 6, 1 / 3)  # shares of the whole training after which the worse half of the learning rates stops


class Sft:
    """LoRA on the task's own rows, with replay; answers with the instruction alone, so that it is also cheap to serve."""

    name = "sft"

    def skip_reason(self, task: Task, train: Sequence[Example]) -> str | None:
        model = tuned_model(task)
        if is_endpoint(model):
            return f"{model} is an endpoint, whose weights are not here; name a model to train under `tune.model`"
        if len(train) < LEAST_ROWS:
            return f"{len(train)} training rows are too few to learn from (at least {LEAST_ROWS}, better {ADVISED_ROWS} to 5,000)"
        return None

    def forecast(self, task: Task, work: Workload) -> Forecast:
        about = len(task.about) / 4 + 12
        row = about + work.input_tokens + work.output_tokens
        rates = len(task.sft.learning_rates)
        epochs = task.sft.epochs * (1 + sum(_racing_share(rates)))
        rows = round(work.n_train / (1 - task.sft.replay))
        return (
            training(f"training, {rates} learning rates raced", work.machine, rows, epochs, row, about, task.sft.batch_size)
            + answering("checkpoints on dev", work.machine, work.n_dev * 2, about + work.input_tokens, about, work.output_tokens)
            + answering("test of the chosen", work.machine, work.n_test, about + work.input_tokens, about, work.output_tokens)
        )

    def search(self, bench: Workbench) -> Search:
        training_run = _Training(bench)
        rate = training_run.race()
        checkpoints = training_run.finish(rate)
        training_run.close()
        systems = [self._system(bench, name, folder) for name, folder in checkpoints]
        items: dict[str, list[ItemScore]] = {}
        for system in systems:
            bench.progress.stage(f"sft: {system.name} on dev", len(bench.dev))
            items[system.name] = bench.dev_scores(self.name, system)
        best = _best(items)
        grammar = grammar_of(bench.task)
        if grammar is not None and failures(items[best])["format"]:
            plain = next(system for system in systems if system.name == best)
            guided = replace(plain, name=f"{best}+constrained", decoding=replace(plain.decoding, grammar=grammar))
            systems.append(guided)
            bench.progress.stage(f"sft: {guided.name} on dev", len(bench.dev))
            items[guided.name] = bench.dev_scores(self.name, guided)
        scores = {name: [item.score for item in found] for name, found in items.items()}
        cost = {system.name: float(system.decoding.grammar is not None) for system in systems}
        choice = choose(scores, cost)
        for system in systems:
            bench.keep(self.name, system)
        chosen = next(system for system in systems if system.name == choice.name)
        candidates = tuple(
            Candidate(system, _mean(items[system.name]), len(bench.dev), _mean_prompt_tokens(items[system.name])) for system in systems
        )
        corrected = selection_bias_corrected(scores, seed=bench.task.split.seed) if len(scores) > 1 else None
        return Search(candidates, chosen, choice.reason, training_run.note(rate), corrected)

    def _system(self, bench: Workbench, name: str, adapter: Path) -> System:
        task = bench.task
        return System(
            name,
            bench.models.tuned_name,
            PromptDesign(task.about.strip()),
            Decoding(bench.max_new_tokens, temperature=task.decode.temperature, seed=task.split.seed),
            adapter=adapter,
            template_kwargs=task.chat_template_kwargs,
        )


def tuned_model(task: Task) -> str:
    """Name of the model that may be trained."""
    return task.model if task.tune.model == "same" else task.tune.model


@dataclass(frozen=True, slots=True)
class _Lap:
    """How far one learning rate is trained, and its loss on dev there (nats a target token)."""

    rate: float
    step: int
    dev_loss: float


class _Training:
    """The training part of the rung: one base in memory, one adapter a learning rate, resumable at every point.

    What is finished is read from the record; what was cut goes on from its checkpoint.
    """

    def __init__(self, bench: Workbench) -> None:
        self._bench = bench
        self._loaded: Any = None
        self._rows: Any = None
        self._replay_rows = 0
        self._check: dict[str, Any] | None = None
        self._plain = False

    def race(self) -> float:
        """The learning rate that goes the whole way: successive halving by loss on dev."""
        rates = list(self._bench.task.sft.learning_rates)
        steps = self._steps()
        for share in RACE_ENDS:
            if len(rates) == 1:
                break
            laps = [self._lap(rate, max(1, round(share * steps))) for rate in rates]
            laps.sort(key=lambda lap: lap.dev_loss if math.isfinite(lap.dev_loss) else math.inf)
            keep = 1 if share == RACE_ENDS[-1] else max(1, math.ceil(len(rates) / 2))
            rates = [lap.rate for lap in laps[:keep]]
        return rates[0]

    def finish(self, rate: float) -> list[tuple[str, Path]]:
        """Train to the end, an adapter kept after each epoch. Returns those of the second half of training."""
        epochs = self._bench.task.sft.epochs
        per_epoch = self._steps() // epochs
        kept = []
        for epoch in range(1, epochs + 1):
            name = f"lora-lr{rate:g}-epoch{epoch}"
            self._lap(rate, epoch * per_epoch, adapter=self._bench.folder / "adapters" / name)
            if 2 * epoch > epochs or epochs == 1:
                kept.append((name, self._bench.folder / "adapters" / name))
        return kept

    def note(self, rate: float) -> str:
        sft = self._bench.task.sft
        laps = self._bench.record.notes("race")
        raced = ", ".join(f"{lap['rate']:g}: {lap['dev_loss']:.3f} at step {lap['step']}" for lap in laps)
        return (
            f"LoRA r {sft.r} on {sft.target} layers, {len(self._bench.train)} rows and {self._replay_size()} of replay, "
            f"{sft.epochs} epochs, batch {sft.batch_size}; learning rates {', '.join(f'{r:g}' for r in sft.learning_rates)} "
            f"raced by loss on dev ({raced}); {rate:g} went the whole way."
        )

    def close(self) -> None:
        self._loaded = self._rows = None

    def _lap(self, rate: float, until: int, adapter: Path | None = None) -> _Lap:
        record = self._bench.record
        key = f"{rate:g}@{until}"
        known = record.last("race", key)
        if known is not None and (adapter is None or (adapter / "adapter_config.json").is_file()):
            return _Lap(**known)
        lap = _Lap(rate, until, self._train(rate, until, adapter))
        if known is None:
            record.note("race", asdict(lap), key=key)
        return lap

    def _train(self, rate: float, until: int, adapter: Path | None) -> float:
        """Train one learning rate up to a step; save the adapter where asked; return the loss on dev."""
        from lastresort.train.adapters import attach_lora, detach, save_adapter
        from lastresort.train.loop import StepSeen, train
        from lastresort.train.settings import TrainSettings

        self._prepare()
        bench, sft = self._bench, self._bench.task.sft
        settings = TrainSettings(
            learning_rate=rate,
            epochs=sft.epochs,
            batch_size=sft.batch_size,
            r=sft.r,
            alpha=sft.alpha or 2 * sft.r,
            target=sft.target,
            seed=bench.task.split.seed,
        )
        model = attach_lora(self._loaded.model, settings, base_name=bench.models.tuned_name)
        self._check_first_batch(model, sft.batch_size)
        name = f"lr{rate:g}"
        done = int(bench.record.last("training", name)["step"]) if bench.record.last("training", name) else 0
        bench.progress.stage(f"sft: training, learning rate {rate:g}, to step {until} of {self._steps()}", max(0, until - done))

        def on_step(seen: StepSeen) -> None:
            values = {"loss": seen.loss, "grad_norm": seen.grad_norm, "learning_rate": seen.learning_rate}
            bench.record.add_curve_point(name, seen.step, values)
            bench.progress.advance(1, note=f"loss {seen.loss:.3f}")

        folder = bench.folder / "checkpoints" / name
        try:
            trained = train(
                model, self._rows, settings, folder=folder, until=until, plain=self._plain, on_step=on_step, deadline=bench.deadline
            )
            loss = self._dev_loss(model)
            if adapter is not None:
                save_adapter(model, adapter)
        finally:
            self._loaded = replace(self._loaded, model=detach(model))
        bench.record.add_curve_point(name, trained.step, {"dev_loss": loss})
        bench.record.note(
            "training",
            {
                "candidate": name,
                "rows": len(self._rows),
                "replay_rows": self._replay_rows,
                "first_batch_check": self._check,
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
        self._loaded = load_local(local_folder(bench.models.tuned_name, bench.task.folder), precision="auto", adapter=None)
        if self._loaded.model is None:
            raise PrerequisiteError(f"{bench.models.tuned_name} has no weights here", where="tune.model")
        rows = self._render(bench.train)
        general = self._render(replay.examples, compose_with=lambda turns: turns, ends=replay.ends)
        self._replay_rows = len(general)
        self._rows = rows + general
        self._dev_rows = self._render(bench.dev)

    def _render(self, examples: Sequence[Example], compose_with: Any = None, ends: Sequence[bool] | None = None) -> list[Any]:
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
            return Replay((), ())
        known = bench.record.last("replay")
        if known is not None:
            rows = known["rows"]
            examples = tuple(Example(row["id"], (Message("user", row["prompt"]),), row["answer"]) for row in rows)
            return Replay(examples, tuple(row["end"] for row in rows))
        bench.progress.stage("sft: replay rows from the base model", n)
        base = System("base", bench.models.tuned_name, PromptDesign(""), Decoding(1), template_kwargs=bench.task.chat_template_kwargs)
        replay = generate_replay(bench.models.open(base), n, bench.task.split.seed, bench.progress.advance)
        rows = [
            {"id": example.id, "prompt": example.input_text, "answer": example.output, "end": end}
            for example, end in zip(replay.examples, replay.ends, strict=True)
        ]
        bench.record.note("replay", {"rows": rows})
        return replay

    def _replay_size(self) -> int:
        from lastresort.synthesis.general_prompts import REQUESTS, SUBJECTS
        from lastresort.synthesis.replay import replay_rows

        return min(replay_rows(len(self._bench.train), self._bench.task.sft.replay), len(REQUESTS) * len(SUBJECTS))

    def _steps(self) -> int:
        from lastresort.train.rows import steps_per_epoch

        known = self._bench.record.last("replay")
        replay = len(known["rows"]) if known is not None else len(self._replay().examples)
        sft = self._bench.task.sft
        return steps_per_epoch(len(self._bench.train) + replay, sft.batch_size) * sft.epochs

    def _check_first_batch(self, model: Any, batch_size: int) -> None:
        """Compare the packed form with the plain forward on the first rows; where they differ, train by the plain path."""
        if self._check is not None:
            return
        from lastresort.engine.support import check_first_batch
        from lastresort.train.rows import batch_of

        rows = [self._rows[i] for i in batch_of(0, len(self._rows), min(batch_size, 4), self._bench.task.split.seed)]
        check = check_first_batch(model, rows)
        self._check = asdict(check)
        self._plain = not check.ok
        if not check.ok:
            self._bench.progress.say("The packed form differs from the plain forward on the first batch; training by the plain path.")

    def _dev_loss(self, model: Any) -> float:
        """Mean loss of the right answers on dev, nats a target token."""
        import torch

        from lastresort.engine.forest import split_passes
        from lastresort.engine.logp import target_logps

        total, count = 0.0, 0
        with torch.no_grad():
            for rows in split_passes(self._dev_rows, 4096):
                found = target_logps(model, rows, plain=self._plain).per_token
                total -= float(found.sum())
                count += len(found)
        return total / count


def _racing_share(rates: int) -> tuple[float, ...]:
    """Training beyond one full run that the race costs, as shares of a full run."""
    if rates == 1:
        return (0.0,)
    left = math.ceil(rates / 2)
    return (RACE_ENDS[0] * (rates - 1), (RACE_ENDS[1] - RACE_ENDS[0]) * (left - 1))


def _best(items: dict[str, list[ItemScore]]) -> str:
    return max(items, key=lambda name: _mean(items[name]))


def _mean(items: Sequence[ItemScore]) -> float:
    return sum(item.score for item in items) / len(items) if items else 0.0


def _mean_prompt_tokens(items: Sequence[ItemScore]) -> float:
    return sum(item.prompt_tokens for item in items) / len(items) if items else 0.0
