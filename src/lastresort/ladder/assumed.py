"""What a dry run's figures rest on, and what is not here that the climb would ask for; in sentences."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

from lastresort.ladder.gate.suites import asked_further
from lastresort.ladder.prepare import Prepared
from lastresort.ladder.token_counts import counts_of
from lastresort.ladder.workload import model_of, workload
from lastresort.report.wording import listed
from lastresort.rungs.forecast import ALL_WEIGHTS, FROZEN_BASE, Machine
from lastresort.spec.task import Task


def assumptions(prepared: Prepared, rungs: Sequence[str]) -> list[str]:
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
