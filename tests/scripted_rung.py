"""A rung for whole climbs on the scripted model: a few prompts, of which the best on dev is frozen.

Tests put it into the table of rungs, as any rung is.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

from lastresort.evals.evidence.selection import choose
from lastresort.rungs.forecast import Forecast, Workload
from lastresort.rungs.rung import Search, Workbench, candidate_of
from lastresort.spec.task import Task
from lastresort.systems.system import PromptDesign, System
from lastresort.types import Decoding, Example

WAYS = 2


def way_name(rung: str, number: int) -> str:
    """Name of a way, and what its prompt says, by which a script tells it from others."""
    return f"{rung}-way-{number}"


class ScriptedRung:
    """Ways that cost the same."""

    def __init__(self, name: str) -> None:
        self.name = name

    def skip_reason(self, task: Task, train: Sequence[Example]) -> str | None:
        return None

    def forecast(self, task: Task, work: Workload) -> Forecast:
        return Forecast(0, 0, 0, 0.0, 0.0)

    def search(self, bench: Workbench) -> Search:
        names = [way_name(self.name, number) for number in range(WAYS)]
        systems = {
            name: System(name, bench.models.base_name, PromptDesign(name), Decoding(bench.max_new_tokens))
            for name in names
        }
        items = {}
        for name, system in systems.items():
            bench.keep(self.name, system)
            items[name] = bench.dev_scores(self.name, system)
        scores = {name: [item.score for item in found] for name, found in items.items()}
        choice = choose(scores, dict.fromkeys(names, 0.0), groups=bench.dev_groups())
        candidates = tuple(candidate_of(systems[name], items[name]) for name in names)
        return Search(candidates, systems[choice.name], choice, ())


prompting = functools.partial(ScriptedRung, "prompting")
retrieval = functools.partial(ScriptedRung, "retrieval")
sft = functools.partial(ScriptedRung, "sft")
