"""What a climb would do and cost, said before anything is spent."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any, Literal

from lastresort.evals.scorers.judge import Judge, case_of
from lastresort.ladder.assumed import assumptions, missing
from lastresort.ladder.climb import rules_of, why_absent
from lastresort.ladder.compare.forecast import forecast_of
from lastresort.ladder.compare.names import Asked
from lastresort.ladder.compare.refusals import refuse_what_cannot_be_had
from lastresort.ladder.gate.forecast import gate_forecast
from lastresort.ladder.judging import labelled_cases
from lastresort.ladder.prepare import Prepared, prepare
from lastresort.ladder.repair.when import CLIMB_ALPHA
from lastresort.ladder.rung_memory import rung_memory
from lastresort.ladder.token_counts import counts_of
from lastresort.ladder.workload import machine_of, workload
from lastresort.rungs import TRAINED
from lastresort.rungs.forecast import Forecast, answering
from lastresort.rungs.rung import find_rung
from lastresort.spec.task import Task
from lastresort.types import Progress, Silent


def dry_run(
    task: Task,
    until: str | None = None,
    compare: Asked | None = None,
    gate: Literal["quick", "full", "none"] | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Forecast of every rung, as if each below had failed and every answer were as long as allowed. No model is loaded.

    compare: ways of training that would be compared afterwards. gate: of what was tuned; None for the full one.
    """
    progress = progress or Silent()
    progress.stage("reading the examples")
    prepared = prepare(task)
    rules = rules_of(task, until)
    asked = compare or Asked()
    refuse_what_cannot_be_had(asked, prepared, rules.until)
    rungs: list[dict[str, Any]] = []
    total = Forecast(0, 0, 0, 0.0, 0.0)
    for name in task.ladder:
        rung = find_rung(name)
        skipped = why_absent(name, task) if rung is None else rung.skip_reason(task, prepared.split.train)
        if rung is None or skipped is not None:
            rungs.append({"name": name, "applies": False, "skipped_because": skipped, "forecast": None, "memory": None})
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
    if gate != "none" and any(rung["applies"] and rung["name"] in TRAINED for rung in rungs):
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


def gating(prepared: Prepared, mode: Literal["quick", "full"], progress: Progress) -> dict[str, Any]:
    """What the first gate would take, by suite; what the test sets take stands with the rungs."""
    suites = gate_forecast(prepared, quick=mode == "quick", alpha=CLIMB_ALPHA, progress=progress)
    whole = sum((suite.forecast for suite in suites), start=Forecast(0, 0, 0, 0.0, 0.0))
    return {"mode": mode, "suites": [asdict(suite) for suite in suites], "forecast": asdict(whole)}


def judging(prepared: Prepared, judge: Judge, answer_tokens: int) -> Forecast:
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
