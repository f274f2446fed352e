"""A task of two models and a rung sft without training, for climbs with `goal: cost`; and costs worked out by hand."""

from __future__ import annotations

import copy
import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from climb_support import rows, scripted_task
from lastresort.records.decision_parts import BreakEven
from lastresort.rungs.forecast import Forecast, Workload
from lastresort.rungs.rung import Search, Workbench, candidate_of
from lastresort.spec.task import Task
from lastresort.systems.system import PromptDesign, System
from lastresort.types import Decoding, Example, Selection

SHOTS = [{"right": 0.3}, {"right": 0.97, "min_shots": 5}]
PROMPT_PRICE, OUTPUT_PRICE, HOURLY_PRICE = 3.0, 15.0, 1.8

# A call of prompting costs (1000 x 3 + 50 x 15) / 1e6 = 0.00375 USD, one of sft 0.5 s x 1.80 / 3600 = 0.00025 USD;
# training took 7,000 s = 3.50 USD, so that it is paid back after 3.5 / 0.0035 = 1,000 calls: 2.5 months of 400.
COSTS: dict[str, Any] = {
    "currency": "usd",
    "missing": [],
    "calls_per_month": 400,
    "hourly_price": HOURLY_PRICE,
    "systems": [
        {
            "rung": "prompting",
            "name": "few-shot-5",
            "model": "openai:large",
            "tuned": False,
            "verdict": "MET",
            "score": 0.95,
            "interval": [0.86, 0.99],
            "items": 42,
            "prompt_tokens": 1000.0,
            "completion_tokens": 50.0,
            "seconds": 0.9,
            "per_call_usd": 0.00375,
            "per_call_machine_s": 0.0,
            "one_off_usd": 0.0,
            "one_off_machine_s": 0.0,
        },
        {
            "rung": "sft",
            "name": "lora-lr0.0003-epoch3",
            "model": "org/small",
            "tuned": True,
            "verdict": "MET",
            "score": 0.9333,
            "interval": [0.854, 0.971],
            "items": 42,
            "prompt_tokens": 70.0,
            "completion_tokens": 24.0,
            "seconds": 0.5,
            "per_call_usd": 0.00025,
            "per_call_machine_s": 0.5,
            "one_off_usd": 3.5,
            "one_off_machine_s": 7000.0,
        },
    ],
    "pairs": [
        {
            "tuned": "sft",
            "untuned": "prompting",
            "crossing": "after",
            "calls": 1000,
            "months": 2.5,
            "both": {"n": 42, "tuned": 0.93, "untuned": 0.95},
        }
    ],
    "saving": None,
}


def costs(**changes: Any) -> dict[str, Any]:
    """COSTS with other values. pair, prompting, sft: of the pair and of the systems; the rest of the whole."""
    found = copy.deepcopy(COSTS)
    found["pairs"][0] |= changes.pop("pair", {})
    for number, rung in enumerate(("prompting", "sft")):
        found["systems"][number] |= changes.pop(rung, {})
    return found | changes


def priced(**changes: Any) -> BreakEven:
    """As `costs`, typed."""
    return BreakEven.model_validate(costs(**changes))


class Tuned:
    """A rung that trains nothing: it asks the task's other model, with the instruction alone.

    plan_s: what it says beforehand that all of it would take. call_s: likewise of a call.
    """

    name = "sft"

    def __init__(self, plan_s: float | None, call_s: float | None) -> None:
        self._plan_s, self._call_s = plan_s, call_s

    def skip_reason(self, task: Task, train: Sequence[Example]) -> str | None:
        return None

    def forecast(self, task: Task, work: Workload) -> Forecast:
        return Forecast(0, 0, 0, self._plan_s, 0.0)

    def forecast_call(self, task: Task, work: Workload) -> Forecast:
        return Forecast(0, 0, 0, self._call_s, 0.0)

    def search(self, bench: Workbench) -> Search:
        system = System("tuned", bench.models.tuned_name, PromptDesign("Route."), Decoding(bench.max_new_tokens))
        bench.keep(self.name, system)
        return Search(
            (candidate_of(system, bench.dev_scores(self.name, system)),),
            system,
            Selection(system.name, "ONLY", 1.0, 1),
            (),
        )


cheap = functools.partial(Tuned, 2000.0, 0.01)  # by the plan 1 USD once, and 0.000005 USD a call
dear = functools.partial(Tuned, 2e6, 0.01)
dear_calls = functools.partial(Tuned, 2000.0, 100.0)
unknown = functools.partial(Tuned, None, None)


def two_models(
    folder: Path,
    *,
    quality: Sequence[dict[str, Any]] = SHOTS,
    small: dict[str, Any] | None = None,
    use: dict[str, Any] | None = None,
    **task: Any,
) -> Path:
    """A large scripted model with prices, which meets the bar with five examples, and a small one that may be tuned.

    quality: of the large one. small: keys of the script of the small one. use: further keys of `use`. Returns the path of the
    task file.
    """
    prices = {"prompt_price": PROMPT_PRICE, "output_price": OUTPUT_PRICE, "hourly_price": HOURLY_PRICE}
    settings = {
        "goal": "cost",
        "tune": {"model": "scripted:small.json"},
        "use": {"calls_per_month": 1000, **prices, **(use or {})},
        **task,
    }
    path = scripted_task(folder, quality=list(quality), task=settings, script={"seconds": 0.8})
    script = {
        "answers": {row["input"]: row["output"] for row in rows()},
        "wrong": ["unknown"],
        "quality": [{"right": 0.93}],
        "seconds": 0.01,
        "calls": "small-calls.jsonl",
        **(small or {}),
    }
    (folder / "small.json").write_text(json.dumps(script), encoding="utf-8")
    return path
