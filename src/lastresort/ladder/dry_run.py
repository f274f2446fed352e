"""What a climb would do and cost, said before anything is spent."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lastresort.embedded import embedded_gguf
from lastresort.evals.scorers.judge import Judge, case_of
from lastresort.ladder.climb import LEAST_NEW_TOKENS, rules_of, why_absent
from lastresort.ladder.judging import labelled_cases
from lastresort.ladder.prepare import Prepared, prepare
from lastresort.models.estimate import estimated_prompt_tokens, estimated_tokens
from lastresort.models.open import EMBEDDED, local_folder
from lastresort.models.protocol import is_endpoint
from lastresort.rungs.forecast import Forecast, Machine, Workload, answering
from lastresort.rungs.prompting import instruction
from lastresort.rungs.rung import find_rung
from lastresort.rungs.sft_training import tuned_model
from lastresort.spec.task import Task
from lastresort.types import Example

TEMPLATE_TOKENS = 16  # turn markers of a usual chat template


def dry_run(task: Task, until: str | None = None) -> dict[str, Any]:
    """Forecast of every rung, as if each below had failed and every answer were as long as allowed. No model is loaded."""
    prepared = prepare(task)
    rules = rules_of(task, until)
    rungs: list[dict[str, Any]] = []
    total = Forecast(0, 0, 0, 0.0, 0.0)
    for name in task.ladder:
        rung = find_rung(name)
        skipped = why_absent(name, task) if rung is None else rung.skip_reason(task, prepared.split.train)
        if rung is None or skipped is not None:
            rungs.append({"name": name, "applies": False, "skipped_because": skipped, "forecast": None})
        else:
            forecast = rung.forecast(task, workload(prepared, name))
            total += forecast
            rungs.append({"name": name, "applies": True, "skipped_because": None, "forecast": asdict(forecast)})
        if name == rules.until:
            break
    judge = None
    if isinstance(prepared.scorer, Judge):
        judge = judging(prepared, prepared.scorer, total.tokens_out)
        total += judge
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
        "judge": None if judge is None else asdict(judge),
        "total": asdict(total),
    }


def workload(prepared: Prepared, rung: str) -> Workload:
    """The task's size in estimated tokens (UTF-8 bytes / 4), and the machine or endpoint that would do the rung."""
    task, split = prepared.task, prepared.split
    longest = max((estimated_tokens(example.output) for example in split.train), default=0)
    auto = max(LEAST_NEW_TOKENS, 2 * longest)
    prices = (task.use.prompt_price, task.use.output_price)
    return Workload(
        machine=_machine(task, task.model if rung in ("prompting", "retrieval") else tuned_model(task), prices),
        n_train=len(split.train),
        n_dev=len(split.dev),
        n_test=len(split.test),
        instruction_tokens=estimated_tokens(instruction(task)) + TEMPLATE_TOKENS,
        input_tokens=_mean_tokens((*split.train, *split.dev, *split.test), lambda example: example.input_text),
        output_tokens=_mean_tokens(split.train, lambda example: example.output),
        max_new_tokens=auto if task.decode.max_new_tokens == "auto" else int(task.decode.max_new_tokens),
    )


def judging(prepared: Prepared, judge: Judge, answer_tokens: int) -> Forecast:
    """What the judge would take of so many tokens of answers, every answer as long as allowed, and of the labelled cases."""
    task, split, keys = prepared.task, prepared.split, prepared.task.score.parameters
    machine = _machine(task, keys["model"], (keys.get("prompt_price"), keys.get("output_price")))
    longest = workload(prepared, "prompting").max_new_tokens
    read = [judge.question.prompts(judge.about, case_of(example, "…")) for example in (*split.dev, *split.test)]
    prompts = [prompt for prompts in read for prompt in prompts]
    prompt_tokens = sum(map(estimated_prompt_tokens, prompts)) / len(prompts) + TEMPLATE_TOKENS + longest
    n = math.ceil(answer_tokens / longest) + len(labelled_cases(task, judge))
    asked = n * len(prompts) // len(read)
    return answering("verdicts", machine, asked, prompt_tokens, 0, judge.asking.max_new_tokens)


def _machine(task: Task, model: str, prices: tuple[float | None, float | None]) -> Machine:
    if is_endpoint(model):
        return Machine(None, 1.0, *prices)
    if model.startswith("scripted:"):
        return Machine(None, 1.0)
    from lastresort.hardware.probe import matrix_flops_per_s
    from lastresort.models.precision import chosen_device, chosen_dtype, is_reduced

    parameters = _parameters(embedded_gguf() if model == EMBEDDED else local_folder(model, task.folder))
    if parameters is None:
        return Machine(None, 1.0)
    return Machine(parameters, matrix_flops_per_s(is_reduced(chosen_dtype("auto", chosen_device()))))


def _parameters(weights: Path | str) -> int | None:
    """Size of a local model, from config.json or a GGUF's list of tensors; None for a hub id that is not here."""
    from lastresort.hardware.shapes import parameters_of, parameters_of_gguf

    path = Path(weights)
    if path.is_file() and path.suffix == ".gguf":
        return parameters_of_gguf(path)
    if not (path / "config.json").is_file():
        return None
    return parameters_of(json.loads((path / "config.json").read_text(encoding="utf-8")))


def _mean_tokens(examples: Sequence[Example], text: Any) -> float:
    return sum(estimated_tokens(text(example)) for example in examples) / len(examples) if examples else 0.0
