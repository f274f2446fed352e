"""The recipes that docs/forgetting.md and docs/defaults.md compare, and the task file of each."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

TODAY = "today"
# Changes of the section that trains. `rates` and `times` multiply its learning rates and its epochs; `target` and `r` are of the
# adapter, whichever rung trains it.
FORGETTING: dict[str, dict[str, Any]] = {
    TODAY: {},
    "replay 0.25": {"replay": 0.25},
    "wide replay 0.1": {"replay": 0.1, "replay_prompts": "wide"},
    "KL replay 0.1": {"replay": 0.1, "replay_loss": "kl"},
    "KL replay 0.25": {"replay": 0.25, "replay_loss": "kl"},
    "KL wide 0.1": {"replay": 0.1, "replay_loss": "kl", "replay_prompts": "wide"},
    "KL wide 0.2": {"replay": 0.2, "replay_loss": "kl", "replay_prompts": "wide"},
    "rate / 3": {"rates": 1 / 3},
    "mildest": {"select": "mildest"},
    "attention": {"target": "attention"},
    "all-linear": {"target": "all-linear"},
}
DEFAULTS: dict[str, dict[str, Any]] = {
    "rank 8": {"r": 8},
    "rank 64": {"r": 64},
    "rate x 3": {"rates": 3},
    "epochs x 2": {"times": 2},
}
RECIPES = {**FORGETTING, **DEFAULTS}

# The program's defaults, for task files that do not say.
ADAPTER = {"target": "attention", "r": 16}
SFT = {"learning_rates": (1e-4, 3e-4, 1e-3), "epochs": 3}


def section_of(task: str) -> Literal["sft", "preference"]:
    """Which section of the task file says how the rung trains."""
    return "preference" if task == "voice" else "sft"


def with_recipe(task: Mapping[str, Any], section: str, recipe: str) -> dict[str, Any] | None:
    """The task file with a recipe; None where the recipe is not for this rung, or the task file trains by it already.

    Raises KeyError where a recipe multiplies what a section of preferences leaves to the program.
    """
    found: dict[str, Any] = json.loads(json.dumps(task))
    changes = dict(RECIPES[recipe])
    if section != "sft" and "select" in changes:
        return None
    for key, default in ADAPTER.items():
        if key in changes:
            adapter = found.setdefault("sft", {})
            if adapter.get(key, default) == changes[key]:
                return None
            adapter[key] = changes.pop(key)
    own = found.setdefault(section, {})
    multiplied = {**SFT, **own} if section == "sft" else own
    if (factor := changes.pop("rates", None)) is not None:
        own["learning_rates"] = [float(f"{float(rate) * factor:.3g}") for rate in multiplied["learning_rates"]]
    if (factor := changes.pop("times", None)) is not None:
        own["epochs"] = multiplied["epochs"] * factor
    own.update(changes)
    return found
