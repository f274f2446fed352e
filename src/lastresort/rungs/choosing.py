"""Tuned systems on dev: each measured, the best held to the form where its answers failed by form, one chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lastresort.errors import CandidateError
from lastresort.evals.evidence import choose, selection_bias_corrected
from lastresort.evals.measure import failures
from lastresort.records.record import ItemScore
from lastresort.rungs.prompting import grammar_of
from lastresort.rungs.rung import Search, Workbench, candidate_of, mean_score
from lastresort.systems.system import System


def on_dev(bench: Workbench, rung: str, system: System) -> list[ItemScore]:
    """Keep the system and measure it on the whole dev set, once a run."""
    bench.keep(rung, system)
    bench.progress.stage(f"{rung}: {system.name} on dev", len(bench.dev))
    return bench.dev_scores(rung, system)


def choose_on_dev(bench: Workbench, rung: str, systems: Sequence[System], note: str) -> Search:
    """The one of these systems that goes to the test. note: what was searched, in words."""
    tried = list(systems)
    items = {system.name: on_dev(bench, rung, system) for system in tried}
    best = max(tried, key=lambda system: mean_score(items[system.name]))
    guided = _guided(bench, best, items[best.name])
    if guided is not None:
        try:
            bench.models.check(guided)
            items[guided.name] = on_dev(bench, rung, guided)
            tried.append(guided)
        except CandidateError as error:
            note += f" {guided.name} could not be tried: {error}"
    scores = {name: [item.score for item in found] for name, found in items.items()}
    cost = {system.name: float(system.decoding.grammar is not None) for system in tried}
    choice = choose(scores, cost, groups=bench.dev_groups())
    chosen = next(system for system in tried if system.name == choice.name)
    candidates = tuple(candidate_of(system, items[system.name]) for system in tried)
    corrected = None
    if len(scores) > 1:
        corrected = selection_bias_corrected(scores, bench.task.split.seed, groups=bench.dev_groups())
    return Search(candidates, chosen, choice.reason, note, corrected)


def _guided(bench: Workbench, system: System, items: Sequence[ItemScore]) -> System | None:
    """The system held to the output's form, where some of its answers failed by form."""
    grammar = grammar_of(bench.task)
    if grammar is None or system.decoding.grammar is not None or not failures(items)["format"]:
        return None
    return replace(system, name=f"{system.name}+constrained", decoding=replace(system.decoding, grammar=grammar))
