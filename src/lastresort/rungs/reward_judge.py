"""A judge as a term of the reward: its model behind the response cache, its money within the task's limits, its forecast."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from lastresort.evals.scorers import Scorer, build_scorer
from lastresort.evals.scorers.judge import Judge, Judged
from lastresort.evals.scorers.judge_asking import Spent
from lastresort.evals.scorers.judge_questions import Case
from lastresort.models.estimate import estimated_prompt_tokens
from lastresort.models.protocol import Model
from lastresort.rungs.forecast import Forecast, Machine, Workload, answering
from lastresort.rungs.rung import Workbench
from lastresort.spec.model_name import is_paid
from lastresort.spec.task import Task
from lastresort.types import Example


def seated(bench: Workbench, rung: str, scorer: Scorer, parameters: Mapping[str, Any]) -> Scorer:
    """A judge that knows the task, asks through the climb's cache and pays from its purse; any other scorer as it is.

    Event rewarded: what the answers of a step took; those of a step that is repeated are noted again, and count once. The judge
    raises BudgetError where a limit is reached: what it said is kept, so that a run that goes on pays for nothing twice.
    """
    if not isinstance(scorer, Judge):
        return scorer

    def opened() -> Model:
        prompt_price, output_price = (parameters.get(key, 0.0) for key in ("prompt_price", "output_price"))
        return bench.models.judge(parameters["model"], prompt_price=prompt_price, output_price=output_price)

    def heard(examples: Sequence[Example], answers: Sequence[str], judged: Sequence[Judged]) -> None:
        spent = sum((one.spent for one in judged), Spent())
        asked = [[example.id, answer] for example, answer in zip(examples, answers, strict=True)]
        body = {"rung": rung, "asked": _hash([dict(parameters), asked]), **asdict(spent)}
        bench.record.note("rewarded", body)
        if spent.paid_usd:
            bench.check_budget()

    return replace(scorer.asked_of(opened, bench.pay), about=bench.task.about, heard=heard)


def verdicts(task: Task, work: Workload, answers: int) -> Iterator[Forecast]:
    """What each judge of the reward would take of so many answers, every one as long as allowed; of its speed nothing is known."""
    for term in task.reward:
        if term.name != "judge":
            continue
        judge = build_scorer(term.name, term.parameters, about=task.about)
        assert isinstance(judge, Judge)
        prompts = judge.question.prompts(judge.about, Case("", "answer", "reference"))
        shown = work.input_tokens + work.max_new_tokens + (work.output_tokens if judge.needs_output else 0)
        tokens = sum(map(estimated_prompt_tokens, prompts)) / len(prompts) + shown
        machine = Machine(None, 1.0)
        if is_paid(term.parameters["model"]):
            machine = Machine(None, 1.0, term.parameters.get("prompt_price"), term.parameters.get("output_price"))
        n = answers * len(prompts)
        yield answering("verdicts of the reward", machine, n, tokens, 0, judge.asking.decoding.max_new_tokens)


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]
