"""Which suites a gate asks, by the name of their margin in the task's `keep`. Adding one is one more line."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from lastresort.evals.gate import SuiteFound, skipped, suite_found
from lastresort.ladder.gate.plans import Known, Plan
from lastresort.ladder.prepare import Prepared
from lastresort.spec.suites import KEEP
from lastresort.spec.task import Task
from lastresort.systems.lookup import question_of
from lastresort.systems.system import PromptDesign

SUITES = {
    "general": "lastresort.ladder.gate.built_in:general",
    "sycophancy": "lastresort.ladder.gate.built_in:sycophancy",
    "format_leak": "lastresort.ladder.gate.built_in:format_leak",
}
FEW_BYTES, MOST_TOKENS = (
    3,
    512,
)  # of a token, so that an answer is not thought too short; of an answer that shows its form
CANNOT = "this version of lastresort cannot run it"

Build = Callable[[Known], Plan]


def plans_of(known: Known) -> list[Plan]:
    """One a suite, in the order of the table."""
    return [_builder(path)(known) for path in SUITES.values()]


def known_of(prepared: Prepared, scores: bool, design: PromptDesign, *, quick: bool = False) -> Known:
    """What the suites are made from, of a task."""
    split, asked = prepared.split, prepared.task.decode.max_new_tokens
    unseen = split.dev or split.train
    inputs = tuple(text for example in unseen if (text := question_of(example.input)))
    longest = max((len(example.output.encode(errors="replace")) for example in split.train), default=0)
    tokens = longest // FEW_BYTES if asked == "auto" else int(asked)
    return Known(prepared.task, scores, design, inputs, min(tokens, MOST_TOKENS), quick)


def further_suites(task: Task, alpha: float) -> list[SuiteFound]:
    """Those of the task's `general`: none can be run yet, which holds a model back unless the task leaves them out."""
    return [
        skipped(name, name)
        if task.keep.get(name) == "skip"
        else suite_found(name, name, (), margin=_margin(task, name), binary=True, alpha=alpha, uninformative=CANNOT)
        for name in task.general
    ]


def _margin(task: Task, name: str) -> float:
    margin = task.keep.get(name, KEEP["general"])
    assert margin != "skip"
    return margin


def _builder(path: str) -> Build:
    module, attribute = path.split(":")
    build: Build = getattr(import_module(module), attribute)
    return build
