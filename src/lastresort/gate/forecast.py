"""How many items a gate would ask and how long it would take, before any model is loaded."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import fmean

from lastresort.climb.prepare import PreparedTask
from lastresort.climb.workload import TokenCounts, counts_of, workload
from lastresort.gate.plans import PILOT_SEED, SuitePlan, sample_size
from lastresort.gate.suite_table import suite_inputs, suite_plans
from lastresort.gate.suites.suite import ChoiceRequest, Question, Suite, SuiteItem, SuiteReply, Transcript
from lastresort.ladder import trained_rungs
from lastresort.models.protocol import is_endpoint
from lastresort.report.forecast import SuiteForecast
from lastresort.rungs.forecast import Machine, answering
from lastresort.rungs.prompting import instruction
from lastresort.systems.system import PromptDesign
from lastresort.types import Progress

SAMPLE = 252  # items of which the mean length is taken: each of the 84 strata of a quick general suite three times


def gate_forecast(
    prepared: PreparedTask, *, quick: bool, alpha: float, progress: Progress
) -> tuple[SuiteForecast, ...]:
    """One per suite that the task keeps, as if the base had something to lose everywhere."""
    task = prepared.task
    inputs = suite_inputs(prepared, not is_endpoint(task.tuned_model), PromptDesign(instruction(task)), quick=quick)
    plans = [plan for plan in suite_plans(inputs) if task.keep[plan.name] != "skip"]
    measures = max(1, sum(len(plan.pilot.measures) for plan in plans))
    machine, counts = workload(prepared, trained_rungs()[0]).machine, counts_of(task, task.tuned_model)
    found = []
    for plan in plans:
        progress.stage(f"forecast of the gate: how many items {plan.name} takes")
        size = sample_size(plan.pilot, (), float(task.keep[plan.name]), measures=measures, alpha=alpha, quick=quick)
        found.append(_suite(plan, size.items, machine, counts))
    return tuple(found)


def _suite(plan: SuitePlan, items: int, machine: Machine, counts: TokenCounts) -> SuiteForecast:
    sample = plan.pilot.draw(PILOT_SEED, 0, SAMPLE)
    questions = [question for item in sample for question in _asked(plan.pilot, item)]
    asked = (plan.pilot_items + 2 * items) * len(questions) / len(sample)
    prompt, answer = (fmean(tokens) for tokens in zip(*(_tokens(one, counts) for one in questions), strict=True))
    forecast = answering(f"{plan.name}, pilot and both sides", machine, round(asked), prompt, 0, answer)
    return SuiteForecast(plan.name, plan.pilot_items, items, forecast)


def _asked(suite: Suite, item: SuiteItem) -> Iterator[Question]:
    """All rounds of a model that answers right wherever the item holds the right answer."""
    transcript: Transcript = {}
    while questions := suite.ask(item, transcript):
        yield from questions
        transcript |= {question.key: _reply(item, question) for question in questions}


def _reply(item: SuiteItem, question: Question) -> SuiteReply:
    text = str(item.facts.get("says_right", ""))
    if not isinstance(question, ChoiceRequest):
        return SuiteReply(text)
    return SuiteReply(text if text in question.options else question.options[0], (0.0,))


def _tokens(question: Question, counts: TokenCounts) -> tuple[float, float]:
    """Prompt tokens, with those of the options, and at most how many answer tokens."""
    prompt = sum(counts.count(turn.content) for turn in question.prompt) + counts.template
    if isinstance(question, ChoiceRequest):
        return prompt + sum(map(counts.count, question.options)), 0.0
    return prompt, float(question.decoding.max_new_tokens)
