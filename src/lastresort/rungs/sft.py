"""Supervised fine-tuning with LoRA: learning rates raced on dev, then checkpoints, then one system."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from lastresort.errors import CandidateError
from lastresort.evals.evidence import choose, selection_bias_corrected
from lastresort.evals.measure import failures
from lastresort.models.protocol import is_endpoint
from lastresort.records.record import ItemScore
from lastresort.rungs.forecast import Forecast, Workload, answering, training
from lastresort.rungs.prompting import grammar_of
from lastresort.rungs.rung import Search, Workbench, candidate_of, mean_score
from lastresort.rungs.sft_training import RACE_ENDS, SftTraining, kept_epochs, tuned_model
from lastresort.spec.task import Task
from lastresort.synthesis.replay import REPLAY_TOKENS, replay_rows
from lastresort.systems.system import PromptDesign, System
from lastresort.types import Decoding, Example

LEAST_ROWS, ADVISED_ROWS = 50, 500
REPLAY_PROMPT_TOKENS = 48


class Sft:
    """LoRA on the task's own rows, with replay; answers with the instruction alone, so that it is also cheap to serve."""

    name = "sft"

    def skip_reason(self, task: Task, train: Sequence[Example]) -> str | None:
        model = tuned_model(task)
        if is_endpoint(model):
            return f"the weights of {model} are not here to train; name a model that can be trained under `tune.model`"
        if task.tune.method in ("qlora", "full"):
            return f"this version trains LoRA adapters only, not {task.tune.method}; set `tune.method` to auto or lora"
        if len(train) < LEAST_ROWS:
            return f"{len(train)} training rows are too few to learn from (at least {LEAST_ROWS}, better {ADVISED_ROWS} to 5,000)"
        return None

    def forecast(self, task: Task, work: Workload) -> Forecast:
        """Replay, the race of learning rates, every checkpoint on dev and once more held to the form, the test; every answer is
        as long as allowed.
        """
        about = len(task.about) / 4 + 12
        row = about + work.input_tokens + work.output_tokens
        prompt, machine, sft = about + work.input_tokens, work.machine, task.sft
        rates, kept = len(sft.learning_rates), len(kept_epochs(sft.epochs))
        replay = replay_rows(work.n_train, sft.replay)
        passes = kept + (grammar_of(task) is not None)
        losses = kept + (0 if rates == 1 else rates + math.ceil(rates / 2))
        epochs = sft.epochs * (1 + sum(_racing_share(rates)))
        label = f"training, {rates} learning rates raced"
        return (
            answering("replay rows", machine, replay, REPLAY_PROMPT_TOKENS, 0, REPLAY_TOKENS)
            + training(label, machine, work.n_train + replay, epochs, row, about, sft.batch_size)
            + answering("loss on dev", machine, work.n_dev * losses, row, about, 0)
            + answering("checkpoints on dev", machine, work.n_dev * passes, prompt, about, work.max_new_tokens)
            + answering("test of the chosen", machine, work.n_test, prompt, about, work.max_new_tokens)
        )

    def search(self, bench: Workbench) -> Search:
        trained = SftTraining(bench)
        rate = trained.race()
        systems = [self._system(bench, name, folder) for name, folder in trained.finish(rate)]
        trained.close()
        items = {system.name: self._on_dev(bench, system) for system in systems}
        best = max(systems, key=lambda system: mean_score(items[system.name]))
        guided = self._guided(bench, best, items[best.name])
        note = trained.note(rate)
        if guided is not None:
            try:
                bench.models.check(guided)
                items[guided.name] = self._on_dev(bench, guided)
                systems.append(guided)
            except CandidateError as error:
                note += f" {guided.name} could not be tried: {error}"
        scores = {name: [item.score for item in found] for name, found in items.items()}
        cost = {system.name: float(system.decoding.grammar is not None) for system in systems}
        choice = choose(scores, cost, groups=bench.dev_groups())
        chosen = next(system for system in systems if system.name == choice.name)
        candidates = tuple(candidate_of(system, items[system.name]) for system in systems)
        corrected = (
            selection_bias_corrected(scores, bench.task.split.seed, groups=bench.dev_groups())
            if len(scores) > 1
            else None
        )
        return Search(candidates, chosen, choice.reason, note, corrected)

    def _on_dev(self, bench: Workbench, system: System) -> list[ItemScore]:
        bench.keep(self.name, system)
        bench.progress.stage(f"sft: {system.name} on dev", len(bench.dev))
        return bench.dev_scores(self.name, system)

    def _guided(self, bench: Workbench, system: System, items: Sequence[ItemScore]) -> System | None:
        """The system held to the output's form, where some of its answers failed by form."""
        grammar = grammar_of(bench.task)
        if grammar is None or not failures(items)["format"]:
            return None
        return replace(system, name=f"{system.name}+constrained", decoding=replace(system.decoding, grammar=grammar))

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
