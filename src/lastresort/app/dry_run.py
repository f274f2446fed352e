"""What a climb would do and cost, said before anything is spent.

What a dry run's figures rest on, and what is not here that the climb would ask for; in sentences.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from importlib.util import find_spec
from typing import Any, Literal

from lastresort.after.compare.compare import forecast_of
from lastresort.after.compare.names import ComparisonRequest, refuse_what_cannot_be_had
from lastresort.climb.judging import labelled_cases
from lastresort.climb.loop import rules_of
from lastresort.climb.prepare import PreparedTask, prepare
from lastresort.climb.rung_memory import rung_memory
from lastresort.climb.workload import counts_of, machine_of, model_of, workload
from lastresort.evals.scorers.judge import Judge, case_of
from lastresort.gate.forecast import gate_forecast
from lastresort.gate.suite_table import asked_further
from lastresort.gate.verdict.repairable import CLIMB_ALPHA
from lastresort.ladder import trains
from lastresort.report.words.skips import of_skip
from lastresort.report.words.wording import listed
from lastresort.rungs.forecast import ALL_WEIGHTS, FROZEN_BASE, Forecast, Machine, answering
from lastresort.rungs.rung import find_rung
from lastresort.spec.task import Task
from lastresort.types import Progress, SilentProgress


def assumptions(prepared: PreparedTask, rungs: Sequence[str]) -> list[str]:
    """What the figures rest on, a sentence for each model that works."""
    found = []
    for model, rung in {model_of(prepared.task, rung): rung for rung in rungs}.items():
        machine, counts = workload(prepared, rung).machine, counts_of(prepared.task, model)
        found.append(f"{model}: tokens counted {_by(counts.told)}; {_speed(machine)}.")
    return found


def missing(task: Task) -> list[str]:
    """What the gate would stop for before anything is spent."""
    asked = asked_further(task)
    if not asked or find_spec("lm_eval") is not None:
        return []
    needed = f"The gate asks {listed(asked)}, and lm-eval is not installed"
    return [f"{needed}: run pip install 'lastresort[evals]', or the climb stops before it begins."]


def _by(told: str) -> str:
    return told if told.startswith("by ") else f"as {told}"


def _speed(machine: Machine) -> str:
    if machine.parameters is None:
        return "nothing is known of its speed"
    rates = machine.tokens_per_s()
    told = (
        f"{rates.training:,.0f} tokens a second in training ({rates.training * FROZEN_BASE / ALL_WEIGHTS:,.0f} of all weights), "
        f"{rates.reading:,.0f} read, {rates.answering:,.0f} answered"
    )
    if machine.measured is not None:
        return f"{told}, by a few layers of its shape timed here just now"
    return f"{told}, assumed from a matrix product here"


def dry_run(
    task: Task,
    until: str | None = None,
    compare: ComparisonRequest | None = None,
    gate: Literal["quick", "full", "none"] | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Forecast of every rung, as if each below had failed and every answer were as long as allowed. No model is loaded.

    compare: ways of training that would be compared afterwards. gate: of what was tuned; None for the full one.
    """
    progress = progress or SilentProgress()
    progress.stage("reading the examples")
    prepared = prepare(task)
    rules = rules_of(task, until)
    asked = compare or ComparisonRequest()
    refuse_what_cannot_be_had(asked, prepared, rules.until)
    rungs: list[dict[str, Any]] = []
    total = Forecast(0, 0, 0, 0.0, 0.0)
    for name in task.ladder:
        rung = find_rung(name)
        skipped = rung.skip_reason(task, prepared.split.train)
        if skipped is not None:
            why = of_skip(skipped).as_json()
            rungs.append(
                {
                    "name": name,
                    "applies": False,
                    "skipped_because": why,
                    "forecast": None,
                    "memory": None,
                }
            )
        else:
            progress.stage(f"forecast of {name}")
            work = workload(prepared, name)
            forecast, memory = rung.forecast(task, work), rung_memory(task, name, work)
            total += forecast
            told = {"skipped_because": None, "forecast": asdict(forecast), "memory": memory}
            rungs.append({"name": name, "applies": True, **told})
        if name == rules.until:
            break
    comparison = forecast_of(asked, prepared) if asked.names else None
    if comparison is not None:
        total += comparison
    judge = None
    if isinstance(prepared.scorer, Judge):
        judge = judging(prepared, prepared.scorer, total.tokens_out)
        total += judge
    gated = None
    if gate != "none" and any(rung["applies"] and trains(rung["name"]) for rung in rungs):
        gated = gating(prepared, gate or "full", progress)
        total += Forecast(**gated["forecast"])
    split = prepared.split
    return {
        "task": task.task,
        "examples": {
            "train": len(split.train),
            "dev": len(split.dev),
            "test": len(split.test),
            "leaks_removed": prepared.leaks,
        },
        "r": task.r,
        "alpha_per_rung": task.alpha_per_rung,
        "rungs": rungs,
        "compare": None if comparison is None else asdict(comparison),
        "gate": gated,
        "judge": None if judge is None else asdict(judge),
        "total": asdict(total),
        "assumed": assumptions(prepared, [rung["name"] for rung in rungs if rung["applies"]]),
        "missing": missing(task) if gated is not None else [],
    }


def gating(prepared: PreparedTask, mode: Literal["quick", "full"], progress: Progress) -> dict[str, Any]:
    """What the first gate would take, by suite; what the test sets take stands with the rungs."""
    suites = gate_forecast(prepared, quick=mode == "quick", alpha=CLIMB_ALPHA, progress=progress)
    whole = sum((suite.forecast for suite in suites), start=Forecast(0, 0, 0, 0.0, 0.0))
    return {"mode": mode, "suites": [asdict(suite) for suite in suites], "forecast": asdict(whole)}


def judging(prepared: PreparedTask, judge: Judge, answer_tokens: int) -> Forecast:
    """What the judge would take of so many tokens of answers, every answer as long as allowed, and of the labelled cases."""
    task, split, keys = prepared.task, prepared.split, prepared.task.score.parameters
    machine = machine_of(task, keys["model"], (keys.get("prompt_price"), keys.get("output_price")))
    longest = workload(prepared, "prompting").max_new_tokens
    read = [judge.question.prompts(judge.about, case_of(example, "…")) for example in (*split.dev, *split.test)]
    prompts = [prompt for prompts in read for prompt in prompts]
    counts = counts_of(task, keys["model"])
    read_tokens = sum(counts.count(turn.content) for prompt in prompts for turn in prompt)
    prompt_tokens = read_tokens / len(prompts) + counts.template + longest
    n = math.ceil(answer_tokens / longest) + len(labelled_cases(task, judge))
    asked = n * len(prompts) // len(read)
    return answering("verdicts", machine, asked, prompt_tokens, 0, judge.asking.decoding.max_new_tokens)
