"""Whole climbs whose rung sft holds a scripted adapter, so that the gate has a base and a tuned model to ask."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest

from climb_support import scripted_task
from gate_support import KEEP, SCRIPTED, SUITES
from lastresort.evals.evidence import choose
from lastresort.ladder.climb import Climbed, climb
from lastresort.ladder.gate import suites
from lastresort.rungs import RUNGS
from lastresort.rungs.rung import Search, Workbench, candidate_of
from lastresort.spec.task import load_task
from lastresort.systems.system import PromptDesign, System
from lastresort.types import Decoding, Progress
from scripted_rung import ScriptedRung

BASE = [{"right": 0.3}, {"right": 0.97, "contains": "^Say: "}]
SAFE, BROKEN, WORN = 0.97, 0.5, 0.9  # of what both models are asked beside the task, what the tuned one answers


class TunedRung(ScriptedRung):
    """One candidate: a prompt on the script with an adapter, by whose name a script knows it."""

    def search(self, bench: Workbench) -> Search:
        adapter = bench.folder / "adapters" / self.name
        adapter.mkdir(parents=True, exist_ok=True)
        (adapter / "weights").write_text(self.name, encoding="utf-8")
        system = System(
            f"{self.name}-adapter",
            bench.models.base_name,
            PromptDesign(f"{self.name} prompt"),
            Decoding(bench.max_new_tokens),
            adapter=adapter,
        )
        bench.keep(self.name, system)
        items = bench.dev_scores(self.name, system)
        choice = choose({system.name: [item.score for item in items]}, {system.name: 0.0}, groups=bench.dev_groups())
        return Search((candidate_of(system, items),), system, choice.reason, "One adapter was tried.")


sft = functools.partial(TunedRung, "sft")
preference = functools.partial(TunedRung, "preference")


def quality(kept: float, right: float = 0.95, second: float | None = None) -> list[dict[str, Any]]:
    """kept: share that a tuned model says rightly of what the gate asks. right: of the task. second: likewise, by preference."""
    found = [*BASE, {"right": right, "adapter": True}, {"right": kept, "adapter": True, "contains": "^Say: "}]
    return (
        [*found, {"right": second, "adapter": True, "contains": "preference prompt"}] if second is not None else found
    )


def script_rungs(monkeypatch: pytest.MonkeyPatch, *rungs: str) -> None:
    """While the test lasts: small suites, and these rungs tuned by a script."""
    monkeypatch.setattr(suites, "SUITES", SUITES)
    for rung in rungs or ("sft",):
        monkeypatch.setitem(RUNGS, rung, f"{__name__}:{rung}")
    monkeypatch.setitem(RUNGS, "prompting", "scripted_rung:prompting")


def gated_climb(
    folder: Path,
    levels: list[dict[str, Any]],
    *,
    task: dict[str, Any] | None = None,
    script: dict[str, Any] | None = None,
    progress: Progress | None = None,
    **arguments: Any,
) -> Climbed:
    """A climb of prompting and sft at `runs/routing-1`; the task lies in `task`. Given again, it goes on."""
    path = folder / "task" / "task.yaml"
    if not path.exists():
        settings = {"keep": KEEP, "bar": 0.8, **(task or {})}
        scripted_task(folder / "task", quality=levels, script={**SCRIPTED, **(script or {})}, task=settings)
    return climb(load_task(path), folder / "runs" / "routing-1", progress=progress, **arguments)
