"""The target of `lastresort gate`: the task's test set, answered by the base with the plain prompt and by the tuned system."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from lastresort.climb.bar_test import BarRule, judge_so_far, order_of_test
from lastresort.climb.prepare import PreparedTask
from lastresort.climb.room import max_new_tokens
from lastresort.climb.shares import share_of_tuned
from lastresort.data.split import groups_of
from lastresort.evals.evidence.corrected import Correction
from lastresort.evals.measure import Executor, JobFailure, LocalExecutor, MeasureJob, Result, run_in_order
from lastresort.evals.scorers import Scorer
from lastresort.gate.suites.suite import SideName
from lastresort.gate.verdict.decide import Comparator, judge_target
from lastresort.models.cached import CachedModel
from lastresort.models.protocol import Model, is_endpoint
from lastresort.records.gate import TargetFound
from lastresort.records.measurement import ItemScore
from lastresort.records.responses import ResponseCache
from lastresort.rungs.prompting.prompts import instruction, prompting_decoding
from lastresort.stop import NEVER, Stop
from lastresort.systems.answerer import Answerer
from lastresort.systems.compose import Passages
from lastresort.systems.system import PromptDesign, System
from lastresort.types import Example, Progress

QUICK_ITEMS = 64
AUTO_TOKENS = -1  # until the base has counted the longest answer
PLAIN = "the base with the plain prompt"

MeasuredBy = Callable[[LocalExecutor, CachedModel], Executor]
"""What measures with the open model, given how this process would."""


def alone(local: LocalExecutor, model: CachedModel) -> Executor:
    """This process."""
    return local


@dataclass
class HeldOutTarget:
    """The task itself as a part of a gate.

    tuned: how the tuned model is prompted; the model itself is the one given to `answer`. correction: how people's labels
    correct the scores; None where they are taken as they are.
    """

    prepared: PreparedTask
    order: Sequence[Example]
    scorer: Scorer
    tuned: System
    cache: ResponseCache
    correction: Correction | None = None

    def __post_init__(self) -> None:
        self._answers: dict[SideName, list[ItemScore]] = {"base": [], "tuned": []}
        self._longest: int | None = None

    @property
    def n(self) -> int:
        """Items."""
        return len(self.order)

    def answer(
        self,
        side: SideName,
        model: Model,
        progress: Progress,
        most: int | None = None,
        stop: Stop = NEVER,
        measured_by: MeasuredBy = alone,
    ) -> None:
        """Let a model answer all items, or the first `most`, without those it answered before. stop: checked after every batch."""
        cached = CachedModel(model, self.cache)
        answered_items = self._answers[side]
        remaining = tuple(self.order[len(answered_items) : most])

        def answerer(system: System, passages: Passages | None) -> Answerer:
            return Answerer(system, cached)

        def use(job: MeasureJob, result: Result) -> None:
            if isinstance(result, JobFailure):
                raise result.error()
            answered_items.extend(result.items)

        local = LocalExecutor(answerer, self.scorer, self.prepared.task.output, progress, pay=lambda usd: None)
        job = MeasureJob(0, self._system(side, cached), remaining, refused_is_wrong=True)
        request = run_in_order(measured_by(local, cached), [job], use, stop)
        if request is not None:
            raise request.error()

    def seconds_an_item(self) -> float:
        """Of the answers so far."""
        items = [*self._answers["base"], *self._answers["tuned"]]
        return sum(item.seconds for item in items) / len(items) if items else 0.0

    def judge(self, alpha: float) -> TargetFound:
        """After both models answered all items."""
        task, binary = self.prepared.task, self.scorer.binary
        error = share_of_tuned(self.prepared.shares, task)
        judgement = judge_so_far(BarRule(task.bar, binary, error, self.correction), self._answers["tuned"], self.order)
        assert judgement is not None, "all items were answered"
        prompt, tuned = ([item.score for item in self._answers[side]] for side in ("base", "tuned"))
        comparator = Comparator(PLAIN, prompt, tuned, binary, groups_of(self.order))
        return judge_target(judgement, comparator, alpha=alpha, seed=task.split.seed)

    def _system(self, side: SideName, model: Model) -> System:
        if self._longest is None:
            self._longest = max_new_tokens(self.prepared, model)
        system = self.tuned if side == "tuned" else plain_system(self.prepared, instruction(self.prepared.task))
        if system.decoding.max_new_tokens == AUTO_TOKENS:
            system = replace(system, decoding=replace(system.decoding, max_new_tokens=self._longest))
        if not is_endpoint(model.name):  # local weights take no effort
            system = replace(system, decoding=replace(system.decoding, reasoning_effort=None))
        return system


def plain_system(prepared: PreparedTask, text: str) -> System:
    """This instruction and the input, nothing else, as the rung sft prompts its adapters."""
    task = prepared.task
    design, decoding = PromptDesign(text), prompting_decoding(task, AUTO_TOKENS)
    return System(PLAIN, task.model, design, decoding, template_kwargs=task.chat_template_kwargs)


def test_order(prepared: PreparedTask, quick: bool) -> list[Example]:
    """The test set in its fixed order; quick: its first items."""
    order = order_of_test(prepared.split.test)
    return first_items(order, QUICK_ITEMS) if quick else order


def first_items(order: Sequence[Example], items: int) -> list[Example]:
    """The first items of a fixed order, to the end of the last one's group."""
    labels = groups_of(order)
    stop = min(items, len(order))
    while labels is not None and 0 < stop < len(order) and labels[stop] == labels[stop - 1]:
        stop += 1
    return list(order[:stop])
