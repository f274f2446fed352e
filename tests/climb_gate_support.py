"""Whole climbs whose rung sft holds a scripted adapter, so that the gate has a base and a tuned model to ask."""

from __future__ import annotations

import functools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from climb_support import scripted_task
from gate_support import KEEP, SCRIPTED, SUITES
from lastresort.app.climb import Climbed, climb
from lastresort.evals.evidence.selection import choose
from lastresort.gate import built_in as suites
from lastresort.ladder import RUNGS
from lastresort.records.events.training import CandidateTrained
from lastresort.rungs.rung import Search, Workbench, candidate_of
from lastresort.rungs.tuning import record_candidate
from lastresort.spec.task import load_task
from lastresort.systems.system import PromptDesign, System
from lastresort.types import SILENT, Decoding, Progress, Selection
from scripted_rung import ScriptedRung

BASE = [{"right": 0.3}, {"right": 0.97, "contains": "^Say: "}]
SETTINGS = {"peft_type": "LORA", "r": 16, "lora_alpha": 32}
SAFE, BROKEN, WORN = 0.97, 0.5, 0.9  # of what both models are asked beside the task, what the tuned one answers


class TunedRung(ScriptedRung):
    """One candidate: a prompt on the script with an adapter, by whose name a script knows it."""

    def search(self, bench: Workbench) -> Search:
        adapter = bench.folder / "adapters" / self.name
        adapter.mkdir(parents=True, exist_ok=True)
        (adapter / "weights").write_text(self.name, encoding="utf-8")
        (adapter / "adapter_config.json").write_text(json.dumps(SETTINGS), encoding="utf-8")
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
        return Search((candidate_of(system, items),), system, choice, ())


class TrainingRung(TunedRung):
    """Of two checkpoints the second is chosen, and it can be trained anew. An adapter's settings say how it was made."""

    takes_more_replay = True

    def search(self, bench: Workbench) -> Search:
        systems = [self._made(bench, f"epoch{epoch}") for epoch in (1, 2)]
        for epoch, system in enumerate(systems, 1):
            trained = CandidateTrained(
                rung=self.name,
                candidate=system.name,
                run="lr",
                learning_rate=3e-4,
                stop=epoch,
                unit="epoch",
                replay=0.1,
            )
            record_candidate(bench.record, trained)
        items = [bench.dev_scores(self.name, system) for system in systems]
        found = tuple(candidate_of(*pair) for pair in zip(systems, items, strict=True))
        return Search(found, systems[1], Selection(systems[1].name, "HIGHEST", 1.0, 1), ())

    def retrain(
        self, bench: Workbench, system: System, *, replay: float | None = None, learning_rate: float | None = None
    ) -> System | None:
        made = f"replay{replay:g}" if replay is not None else f"rate{learning_rate:g}"
        return None if made == "rate0.0001" else self._made(bench, made, keep=False)

    def _made(self, bench: Workbench, made: str, *, keep: bool = True) -> System:
        adapter = bench.folder / "adapters" / f"{self.name}-{made}"
        adapter.mkdir(parents=True, exist_ok=True)
        (adapter / "adapter_config.json").write_text(json.dumps({**SETTINGS, "made": made}), encoding="utf-8")
        design, decoding = PromptDesign(f"{self.name} prompt"), Decoding(bench.max_new_tokens)
        system = System(f"{self.name}-{made}", bench.models.base_name, design, decoding, adapter=adapter)
        if keep:
            bench.keep(self.name, system)
        return system


def by_making(**levels: tuple[float, float]) -> list[dict[str, Any]]:
    """As `quality`, for how an adapter of `TrainingRung` was made: right of the task, kept of what the gate asks. first: of all."""
    found = list(BASE)
    for made, (right, kept) in levels.items():
        one = {"adapter": True if made == "first" else f'"made": "{made}'}
        found += [{"right": right, **one}, {"right": kept, "contains": "^Say: ", **one}]
    return found


sft = functools.partial(TunedRung, "sft")
training = functools.partial(TrainingRung, "sft")
preference = functools.partial(TunedRung, "preference")


def quality(kept: float, right: float = 0.95, second: float | None = None) -> list[dict[str, Any]]:
    """kept: share that a tuned model says rightly of what the gate asks. right: of the task. second: likewise, by preference."""
    found = [*BASE, {"right": right, "adapter": True}, {"right": kept, "adapter": True, "contains": "^Say: "}]
    return (
        [*found, {"right": second, "adapter": True, "contains": "preference prompt"}] if second is not None else found
    )


def by_scale(*levels: tuple[float, float, float]) -> list[dict[str, Any]]:
    """As `quality`, for (scale, right of the task, kept of what the gate asks)."""
    found = list(BASE)
    for scale, right, kept in levels:
        one = {"adapter": f'"lora_alpha": {32 * scale:g}[,}}]'}
        found += [{"right": right, **one}, {"right": kept, "contains": "^Say: ", **one}]
    return found


def script_rungs(monkeypatch: pytest.MonkeyPatch, *rungs: str) -> None:
    """While the test lasts: small suites, and these rungs tuned by a script."""
    monkeypatch.setattr(suites, "SUITES", SUITES)
    for rung in rungs or ("sft",):
        name = "sft" if rung == "training" else rung
        monkeypatch.setitem(RUNGS, name, replace(RUNGS[name], path=f"{__name__}:{rung}"))
    monkeypatch.setitem(RUNGS, "prompting", replace(RUNGS["prompting"], path="scripted_rung:prompting"))


def gated_climb(
    folder: Path,
    levels: list[dict[str, Any]],
    *,
    task: dict[str, Any] | None = None,
    script: dict[str, Any] | None = None,
    progress: Progress = SILENT,
    **arguments: Any,
) -> Climbed:
    """A climb of prompting and sft at `runs/routing-1`; the task lies in `task`. Given again, it goes on."""
    path = folder / "task" / "task.yaml"
    if not path.exists():
        settings = {"keep": KEEP, "bar": 0.8, **(task or {})}
        scripted_task(folder / "task", quality=levels, script={**SCRIPTED, **(script or {})}, task=settings)
    return climb(load_task(path), folder / "runs" / "routing-1", progress=progress, **arguments)
