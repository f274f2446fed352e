"""Prompting: a race of all prompts on dev, which prompts with more examples and then an optimised one may enter late.

Constrained decoding races with the plain prompt, and is then tried on the winner if some of its answers failed by form.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from lastresort.records.events.search import PromptOptimised
from lastresort.records.rungs import Skip
from lastresort.rungs.forecast import Forecast, Machine, Uncounted, Workload, answering
from lastresort.rungs.prompting.many_shot import MORE, try_more_shots
from lastresort.rungs.prompting.optimise import may_optimise, new_prompts, refuse_missing
from lastresort.rungs.prompting.prompts import PLAIN, REASONING_TOKENS, grammar_of, variants
from lastresort.rungs.prompting.spending import forecast_optimising
from lastresort.rungs.race import Race, stretches
from lastresort.rungs.rung import Search, Workbench
from lastresort.spec.task import Task
from lastresort.types import Example

REASONING_REQUEST_TOKENS = 32
SHOT_TOKENS = 10  # markers of the two turns of an example in the prompt
_SHOTS = {
    "few-shot-3": (3, 3),
    "few-shot-5": (5, 5),
    "nearest-3": (3, 0),
    "nearest-5": (5, 0),
}  # shots, and shared ones
_MORE_SHOTS = {f"nearest-{k}": (k, 0) for k in MORE}  # the more expensive ones


class PromptingRung:
    """Zero-shot, structured, few-shot (3 and 5, fixed and nearest, and more where these help), chain of thought, constrained
    decoding, and a prompt that a model optimises.
    """

    name = "prompting"

    def skip_reason(self, task: Task, train: Sequence[Example]) -> Skip | None:
        return None

    def forecast(self, task: Task, work: Workload) -> Forecast:
        """All variants on the first stretch of dev, the more expensive half on the next, and so on; then the first prompt with more
        examples and, where a prompt may be optimised, all calls that it may take. Answers as long as allowed.

        The prompts with still more examples are named and not counted: each takes that the one before was better, and together
        they would be most of the sum.
        """
        # What is dearest must not change with what else runs here just now.
        usual = replace(work.machine, measured=None)

        def asking(name: str, label: str, n: int, machine: Machine = work.machine) -> Forecast:
            shots, shared_shots = (_SHOTS | _MORE_SHOTS).get(name, (0, 0))
            shot = work.input_tokens + work.output_tokens + SHOT_TOKENS
            shared_tokens = work.instruction_tokens + shared_shots * shot
            prompt = work.instruction_tokens + work.input_tokens + shots * shot
            thinking = name == "chain-of-thought"
            shared_tokens, prompt = (tokens + thinking * REASONING_REQUEST_TOKENS for tokens in (shared_tokens, prompt))
            new_tokens = work.max_new_tokens + thinking * REASONING_TOKENS
            return answering(label, machine, n, prompt, shared_tokens, new_tokens)

        def expense(name: str) -> tuple[float, float, int]:
            forecast = asking(name, name, work.n_dev, usual)
            return forecast.seconds or 0.0, forecast.usd or 0.0, forecast.tokens_in + 4 * forecast.tokens_out

        names = [system.name for system in variants(task, (), work.max_new_tokens, task.model)]
        alive = sorted([*names, *_SHOTS], key=expense, reverse=True)
        costliest, total = alive[0], Forecast(0, 0, 0, 0.0, 0.0)
        for start, stop in stretches(work.n_dev, len(alive)):
            for name in alive:
                total += asking(name, f"{name} on dev items {start + 1}-{stop}", stop - start)
            alive = alive[: max(2, math.ceil(len(alive) / 2))]
        more = [name for name, (k, _) in _MORE_SHOTS.items() if k < work.n_train]
        for name in more[:1]:
            total += asking(name, f"up to {name}, if five examples help, on dev", work.n_dev)
            costliest = max(costliest, name, key=expense)
        for name in more[1:]:
            label = f"up to {name}, if each step up to it helps, on dev"
            total += _not_counted(name, label, asking(name, label, work.n_dev))
        if may_optimise(task, work.n_train):
            total += forecast_optimising(task, work)
            for name, label in ((PLAIN, "the optimised prompt"), (costliest, "the best with it")):
                total += asking(name, f"{label}, on dev", work.n_dev)
        if grammar_of(task) is not None:
            total += asking(costliest, "the best again, held to the form, on dev", work.n_dev)
        return total + asking(costliest, "test of the chosen", work.n_test)

    def search(self, bench: Workbench) -> Search:
        if bench.record.last(PromptOptimised, self.name) is None:
            refuse_missing(bench.task)
        systems = variants(bench.task, bench.train, bench.max_new_tokens, bench.models.base_name)
        race = Race(bench, self.name, systems, "ways of prompting")
        race.run()
        more_shots = try_more_shots(bench, race)
        rewritten = new_prompts(bench, self.name, race)
        race.join(rewritten.systems)
        search = race.conclude(grammar_of(bench.task))
        shot_findings = () if more_shots is None else (more_shots,)
        return replace(search, findings=(*search.findings, *shot_findings, *rewritten.findings))


def _not_counted(name: str, label: str, forecast: Forecast) -> Forecast:
    usd = f", {forecast.usd:.2f} USD" if forecast.usd else ""
    line = f"{label}: {forecast.tokens_in} prompt tokens{usd}, not counted"
    uncounted = Uncounted(name, forecast.tokens_in, forecast.seconds, forecast.usd)
    return Forecast(0, 0, 0, 0.0, 0.0, (line,), uncounted=(uncounted,))
