"""The suites of a gate: those of this package, listed in `spec.sections.SUITES`, and the further ones of the task's `general`.

Also how many items they would ask and how long that would take, before any model is loaded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import import_module
from statistics import fmean

from lastresort.climb.prepare import PreparedTask
from lastresort.climb.workload import TokenCounts, counts_of, workload
from lastresort.evals.scorers.scorer import AnswerForm
from lastresort.gate.lm_eval.suite import FurtherSuite, LmEvalSuite
from lastresort.gate.plans import (
    PILOT_SEED,
    PilotedSuite,
    PlainPlan,
    SampleSize,
    SizeRule,
    SuiteInputs,
    SuitePlan,
    sample_size,
)
from lastresort.gate.probes import format_leak as leak
from lastresort.gate.probes import sycophancy as yielding
from lastresort.gate.probes.sycophancy import Sycophancy
from lastresort.gate.scored import GateSettings
from lastresort.gate.suites.general import (
    CHOSEN_STRATA,
    CONSTRAINT_STRATA,
    CONSTRAINTS,
    KEY,
    WRITTEN_STRATA,
    General,
    Stratum,
    score,
)
from lastresort.gate.suites.headroom import Pilot, headroom, look_sizes, next_looks
from lastresort.gate.suites.suite import (
    ChoiceRequest,
    ItemTranscripts,
    Question,
    Suite,
    SuiteItem,
    SuiteReply,
    Transcript,
)
from lastresort.gate.verdict.compare import skipped_measure, uninformative_measure
from lastresort.ladder import trained_rungs
from lastresort.models.protocol import is_endpoint
from lastresort.records.uninformative import NoLocalWeights
from lastresort.report.forecast import SuiteForecast
from lastresort.rungs.forecast import Machine, answering
from lastresort.rungs.prompting.prompts import instruction
from lastresort.spec.sections import SUITES
from lastresort.spec.task import Task
from lastresort.systems.compose import question_of
from lastresort.systems.system import PromptDesign
from lastresort.types import Progress

LEAK_ITEMS = 80
QUICK_SHOWN = 4  # in a quick gate, every fourth fact is asked in the conditions that no measure uses


@dataclass(frozen=True)
class GeneralPlan:
    """The general suite over the strata in which the pilot shows that this base has something to lose."""

    strata: tuple[Stratum, ...]
    quick: bool = False

    @property
    def name(self) -> str:
        return "general"

    @cached_property
    def pilot(self) -> General:
        return General(self.strata)

    @property
    def pilot_items(self) -> int:
        """All looks, without the higher levels of constraints, which few bases reach."""
        strata = [stratum for stratum in self.strata if stratum.family not in CONSTRAINTS or stratum.level == 1]
        return sum(look_sizes(stratum, quick=self.quick)[-1] for stratum in strata)

    def next_items(
        self, asked: Sequence[SuiteItem], transcripts: ItemTranscripts, margin: float
    ) -> Sequence[SuiteItem]:
        counts = Counter(Stratum(item.family, item.level) for item in asked)
        pilots = {pilot.stratum: pilot for pilot in _pilots(self.strata, transcripts)}
        looks = next_looks(self.strata, counts, pilots, margin, quick=self.quick)
        return [
            item
            for stratum, stop in looks.items()
            for item in self.pilot.of_stratum(stratum, PILOT_SEED, counts[stratum], stop)
        ]

    def after_pilot(self, transcripts: ItemTranscripts, margin: float) -> PilotedSuite:
        room = headroom(_pilots(self.strata, transcripts), margin=margin)
        suite = General(room.used) if room.used else self.pilot
        return PilotedSuite(suite, {} if room.why is None else {measure.name: room.why for measure in suite.measures})


@dataclass(frozen=True)
class LeakPlan:
    """Format leak in the conditions in which the pilot shows that this base has something to lose."""

    suite: leak.FormatLeak
    pilot_items: int = LEAK_ITEMS

    @property
    def name(self) -> str:
        return self.suite.name

    @property
    def pilot(self) -> leak.FormatLeak:
        return leak.for_pilot(self.suite)

    def next_items(
        self, asked: Sequence[SuiteItem], transcripts: ItemTranscripts, margin: float
    ) -> Sequence[SuiteItem]:
        return () if asked else self.pilot.draw(PILOT_SEED, 0, self.pilot_items)

    def after_pilot(self, transcripts: ItemTranscripts, margin: float) -> PilotedSuite:
        if why := leak.why_uninformative(self.pilot, transcripts, margin):
            return PilotedSuite(self.suite, {measure.name: why for measure in self.suite.measures})
        return PilotedSuite(
            replace(self.suite, conditions=leak.conditions_with_headroom(self.pilot, transcripts, margin))
        )


def general(inputs: SuiteInputs) -> SuitePlan:
    """Choice questions by likelihood if both models give it; in a full gate, or without likelihoods, also in words, and requests
    with constraints. Constraints take most of a pilot's time, and a small model keeps hardly any.
    """
    if inputs.scores and inputs.quick:
        return GeneralPlan(CHOSEN_STRATA, inputs.quick)
    return GeneralPlan((*(CHOSEN_STRATA if inputs.scores else ()), *CONSTRAINT_STRATA, *WRITTEN_STRATA), inputs.quick)


def sycophancy(inputs: SuiteInputs) -> SuitePlan:
    suite = Sycophancy(mode="chosen" if inputs.scores else "written", shown_every=QUICK_SHOWN if inputs.quick else 1)
    return PlainPlan(suite, why_uninformative=yielding.why_uninformative)


def format_leak(inputs: SuiteInputs) -> SuitePlan:
    """Both models get the prompt of the tuned system, with inputs of the task that were not trained on."""
    form = AnswerForm(inputs.task.output.json_schema, inputs.task.output.choices)
    return LeakPlan(leak.FormatLeak(form, inputs.design, inputs.task_inputs, inputs.answer_tokens))


def _pilots(strata: Sequence[Stratum], transcripts: ItemTranscripts) -> list[Pilot]:
    """The base's scores by stratum, without strata of which no item fits the context."""
    scores_by_stratum: dict[tuple[str, int], list[float]] = {}
    for item, transcript in transcripts:
        scores_by_stratum.setdefault((item.family, item.level), []).append(score(item, transcript[KEY]))
    scored_strata = ((stratum, scores_by_stratum.get((stratum.family, stratum.level), [])) for stratum in strata)
    return [Pilot(stratum, int(sum(scores)), len(scores)) for stratum, scores in scored_strata if scores]


BYTES_PER_TOKEN = 3  # few, so that the longest answer is not taken for shorter than it is
MOST_TOKENS = 512  # in which an answer shows its form

Build = Callable[[SuiteInputs], SuitePlan]


def suite_plans(inputs: SuiteInputs) -> list[SuitePlan]:
    """One per suite, in the order of the table."""
    return [_builder(suite.path)(inputs) for suite in SUITES.values()]


def suite_inputs(prepared: PreparedTask, scores: bool, design: PromptDesign, *, quick: bool = False) -> SuiteInputs:
    """What the suites of this task are made from. scores: whether both models give likelihoods."""
    split, max_new_tokens = prepared.split, prepared.task.decode.max_new_tokens
    unseen = split.dev or split.train
    task_inputs = tuple(text for example in unseen if (text := question_of(example.input)))
    longest = max((len(example.output.encode(errors="replace")) for example in split.train), default=0)
    tokens = longest // BYTES_PER_TOKEN if max_new_tokens == "auto" else int(max_new_tokens)
    return SuiteInputs(prepared.task, scores, design, task_inputs, min(tokens, MOST_TOKENS), quick)


def further_suites(
    task: Task, settings: GateSettings, training_texts: Sequence[str], *, scores: bool
) -> list[FurtherSuite]:
    """The suites of the task's `general`. scores: whether both models have local weights, which lm-eval needs; without, a suite
    holds the model back unless the task skips it. Raises what `load_parts` raises, before anything is asked.
    """
    return [_further(name, task, settings, training_texts, scores) for name in task.general]


def check_further_suites(task: Task) -> None:
    """Raises PrerequisiteError or InputError if lm-eval or the documents of a suite are missing."""
    from lastresort.gate.lm_eval.tasks import load_parts

    for name in lm_eval_names(task):
        load_parts(name, task.folder)


def lm_eval_names(task: Task) -> list[str]:
    """Names of the suites in `general` that lm-eval would ask."""
    if is_endpoint(task.tuned_model):
        return []
    return [name for name in task.general if task.keep.get(name) != "skip"]


def _further(
    name: str, task: Task, settings: GateSettings, training_texts: Sequence[str], scores: bool
) -> FurtherSuite:
    if task.keep.get(name) == "skip":
        return skipped_measure(name, name)
    margin = _margin(task, name)
    if scores:
        from lastresort.gate.lm_eval.tasks import load_parts

        return LmEvalSuite(name, margin, load_parts(name, task.folder), settings, training_texts)
    return uninformative_measure(name, name, margin=margin, why=[NoLocalWeights()])


def _margin(task: Task, name: str) -> float:
    """Its own margin, else that of general unless general is skipped, else the default."""
    margins = [margin for key in (name, "general") if (margin := task.keep.get(key, "skip")) != "skip"]
    return float([*margins, SUITES["general"].margin][0])


def _builder(path: str) -> Build:
    module, attribute = path.split(":")
    build: Build = getattr(import_module(module), attribute)
    return build


SAMPLE = 252  # items of which the mean length is taken: each of the 84 strata of a quick general suite three times


def gate_forecast(
    prepared: PreparedTask, *, quick: bool, alpha: float, progress: Progress, adapters: int = 1
) -> tuple[SuiteForecast, ...]:
    """One per suite that the task keeps, as if the base had something to lose everywhere. adapters: that are asked the same items,
    which the base is asked once.
    """
    task = prepared.task
    inputs = suite_inputs(prepared, not is_endpoint(task.tuned_model), PromptDesign(instruction(task)), quick=quick)
    plans = [plan for plan in suite_plans(inputs) if task.keep[plan.name] != "skip"]
    measures = max(1, sum(len(plan.pilot.measures) for plan in plans))
    machine, counts = workload(prepared, trained_rungs()[0]).machine, counts_of(task, task.tuned_model)
    forecasts = []
    for plan in plans:
        progress.stage(f"forecast of the gate: how many items {plan.name} takes")
        size = sample_size(plan.pilot, (), float(task.keep[plan.name]), SizeRule(measures, alpha, quick))
        forecasts.append(_suite(plan, size, machine, counts, adapters))
    return tuple(forecasts)


def _suite(plan: SuitePlan, size: SampleSize, machine: Machine, counts: TokenCounts, adapters: int) -> SuiteForecast:
    sample = plan.pilot.draw(PILOT_SEED, 0, SAMPLE)
    questions = [question for item in sample for question in _all_questions(plan.pilot, item)]
    n_questions = (plan.pilot_items + (1 + adapters) * size.items) * len(questions) / len(sample)
    prompt, answer = (
        fmean(tokens) for tokens in zip(*(_tokens(question, counts) for question in questions), strict=True)
    )
    sides = "both sides" if adapters == 1 else f"base and {adapters} adapters"
    forecast = answering(f"{plan.name}, pilot and {sides}", machine, round(n_questions), prompt, 0, answer)
    return SuiteForecast(plan.name, plan.pilot_items, size.items, size.expected, forecast)


def _all_questions(suite: Suite, item: SuiteItem) -> Iterator[Question]:
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
