"""Which suites a gate asks, by the name of their margin in the task's `keep`. Adding one is one more line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module

from lastresort.evals.gate import skipped, suite_found
from lastresort.ladder.gate.further import Further, Settled, Shown
from lastresort.ladder.gate.plans import Known, Plan
from lastresort.ladder.gate.run import Settings
from lastresort.ladder.prepare import Prepared
from lastresort.models.protocol import is_endpoint
from lastresort.rungs.sft_training import tuned_model
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
NOT_HERE = "lm-eval asks only models whose weights are here, so that the gate cannot run it"

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


def further_suites(task: Task, settings: Settings, training_texts: Sequence[str], *, scores: bool) -> list[Further]:
    """Those of the task's `general`. scores: whether both models are here, with weights that lm-eval can ask; where it cannot, a
    suite holds a model back unless the task leaves it out.

    Raises what `load_parts` raises, before anything is asked.
    """
    return [_further(name, task, settings, training_texts, scores) for name in task.general]


def check_further(task: Task) -> None:
    """Raises what asking them would raise: that lm-eval, or what it asks, is not here."""
    from lastresort.evals.harness import load_parts

    for name in asked_further(task):
        load_parts(name, task.folder)


def asked_further(task: Task) -> list[str]:
    """The suites of `general` that lm-eval would ask, by name."""
    if is_endpoint(tuned_model(task)):
        return []
    return [name for name in task.general if task.keep.get(name) != "skip"]


def _further(name: str, task: Task, settings: Settings, training_texts: Sequence[str], scores: bool) -> Further:
    if task.keep.get(name) == "skip":
        return Settled(name, Shown(skipped(name, name)))
    margin = _margin(task, name)
    if scores:
        from lastresort.evals.harness import load_parts
        from lastresort.ladder.gate.lm_eval_suite import LmEvalSuite

        return LmEvalSuite(name, margin, load_parts(name, task.folder), settings, training_texts)
    found = suite_found(name, name, (), margin=margin, binary=True, alpha=settings.alpha, uninformative=NOT_HERE)
    return Settled(name, Shown(found))


def _margin(task: Task, name: str) -> float:
    """Its own, else that of general, unless that is left out."""
    margins = [margin for key in (name, "general") if (margin := task.keep.get(key, "skip")) != "skip"]
    return float([*margins, KEEP["general"]][0])


def _builder(path: str) -> Build:
    module, attribute = path.split(":")
    build: Build = getattr(import_module(module), attribute)
    return build
