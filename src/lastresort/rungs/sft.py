"""Supervised fine-tuning with LoRA: learning rates raced on dev, then checkpoints, then one system."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from lastresort.evals.evidence import choose, selection_bias_corrected
from lastresort.evals.measure import failures
from lastresort.models.protocol import is_endpoint
from lastresort.records.record import ItemScore
from lastresort.rungs.forecast import Forecast, Workload, answering, training
from lastresort.rungs.prompting import grammar_of
from lastresort.rungs.rung import Candidate, Search, Workbench
from lastresort.rungs.sft_training import RACE_ENDS, SftTraining, tuned_model
from lastresort.spec.task import Task
from lastresort.systems.system import PromptDesign, System
from lastresort.types import Decoding, Example

LEAST_ROWS, ADVISED_ROWS = 50, 500


class Sft:
    """LoRA on the task's own rows, with replay; answers with the instruction alone, so that it is also cheap to serve."""

    name = "sft"

    def skip_reason(self, task: Task, train: Sequence[Example]) -> str | None:
        model = tuned_model(task)
        if is_endpoint(model):
            return f"the weights of {model} are not here to train; name a model that can be trained under `tune.model`"
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
            training(
                f"training, {rates} learning rates raced", work.machine, rows, epochs, row, about, task.sft.batch_size
            )
            + answering(
                "checkpoints on dev", work.machine, work.n_dev * 2, about + work.input_tokens, about, work.output_tokens
            )
            + answering(
                "test of the chosen", work.machine, work.n_test, about + work.input_tokens, about, work.output_tokens
            )
        )

    def search(self, bench: Workbench) -> Search:
        training_run = SftTraining(bench)
        rate = training_run.race()
        checkpoints = training_run.finish(rate)
        training_run.close()
        systems = [self._system(bench, name, folder) for name, folder in checkpoints]
        items: dict[str, list[ItemScore]] = {}
        for system in systems:
            bench.keep(self.name, system)
            bench.progress.stage(f"sft: {system.name} on dev", len(bench.dev))
            items[system.name] = bench.dev_scores(self.name, system)
        best = _best(items)
        grammar = grammar_of(bench.task)
        if grammar is not None and failures(items[best])["format"]:
            plain = next(system for system in systems if system.name == best)
            guided = replace(plain, name=f"{best}+constrained", decoding=replace(plain.decoding, grammar=grammar))
            systems.append(guided)
            bench.keep(self.name, guided)
            bench.progress.stage(f"sft: {guided.name} on dev", len(bench.dev))
            items[guided.name] = bench.dev_scores(self.name, guided)
        scores = {name: [item.score for item in found] for name, found in items.items()}
        cost = {system.name: float(system.decoding.grammar is not None) for system in systems}
        choice = choose(scores, cost)
        chosen = next(system for system in systems if system.name == choice.name)
        candidates = tuple(
            Candidate(system, _mean(items[system.name]), len(bench.dev), _mean_prompt_tokens(items[system.name]))
            for system in systems
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
