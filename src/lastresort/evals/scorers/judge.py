"""The scorer that asks another model: for style and free text, where no rule can tell right from wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from lastresort.errors import TaskError
from lastresort.evals.scorers.judge_asking import VERDICT_TOKENS, Asking, Spent
from lastresort.evals.scorers.judge_questions import UNPARSED, Case, Comparison, Grading, Question
from lastresort.evals.scorers.scorer import Output
from lastresort.models.protocol import Model, Pay
from lastresort.types import Decoding, Example

PARAMETERS = (
    "model",
    "against",
    "criteria",
    "rubric",
    "scale",
    "labelled",
    "max_new_tokens",
    "reasoning_effort",
    "prompt_price",
    "output_price",
)


@dataclass(frozen=True, slots=True)
class Judged:
    """What the judge made of one case. said: its verdicts in the order of the prompts, UNPARSED for one that was none."""

    score: float
    said: tuple[str, ...]
    spent: Spent


@dataclass(frozen=True, slots=True)
class Judge:
    """Asks about every answer; see `judge_questions` for what, and what its verdicts are worth.

    about: what the task asks, "" where that stands in the inputs. heard: told of everything judged, with the example of each
    and its answer. An infrastructure failure is raised and never scored.
    """

    question: Question
    asking: Asking
    about: str = ""
    heard: Callable[[Sequence[Example], Sequence[str], Sequence[Judged]], None] | None = None
    name: str = "judge"

    @property
    def binary(self) -> bool:
        return self.question.binary

    @property
    def needs_output(self) -> bool:
        return self.question.needs_output

    def ready(self) -> None:
        self.asking.open()

    def __call__(self, answer: str, example: Example) -> float:
        return self.together([answer], [example])[0]

    def together(self, answers: Sequence[str], examples: Sequence[Example]) -> list[float]:
        """As one by one, in a single call of the model."""
        found = self.judged([case_of(example, answer) for answer, example in zip(answers, examples, strict=True)])
        if self.heard is not None:
            self.heard(examples, answers, found)
        return [judged.score for judged in found]

    def judged(self, cases: Sequence[Case]) -> list[Judged]:
        """What the judge makes of these cases, in order."""
        asked = [self.question.prompts(self.about, case) for case in cases]
        verdicts = iter(
            self.asking.verdicts([prompt for prompts in asked for prompt in prompts], self.question.choices)
        )
        found = []
        for prompts in asked:
            own = [next(verdicts) for _ in prompts]
            said = tuple(UNPARSED if verdict.said is None else verdict.said for verdict in own)
            spent = sum((verdict.spent for verdict in own), Spent())
            found.append(Judged(self.question.score(said), said, spent))
        return found

    def asked_of(self, opened: Callable[[], Model], pay: Pay = lambda usd: None) -> Judge:
        """The same judge, whose model is opened so. pay: given the price of each of its answers as it arrives."""
        return replace(self, asking=Asking(opened, self.asking.decoding, pay))


def judge(parameters: Mapping[str, Any], output: Output) -> Judge:
    """A judge that opens its own model when it is first asked. parameters: PARAMETERS; a model's path is absolute."""
    name, rubric = parameters.get("model"), parameters.get("rubric")
    if not isinstance(name, str) or not name:
        raise TaskError(f"found {name!r}", where='task file, key "score.judge"', expected="the judge's model")

    @cache
    def opened() -> Model:
        from lastresort.models.open import open_model

        prices = (float(parameters.get(key) or 0.0) for key in ("prompt_price", "output_price"))
        prompt_price, output_price = prices
        return open_model(name, base_folder=Path(), prompt_price=prompt_price, output_price=output_price)

    question: Question = Comparison(parameters.get("criteria") or "")
    if rubric:
        question = Grading(rubric, parameters.get("scale") or "1-5")
    tokens, effort = int(parameters.get("max_new_tokens") or VERDICT_TOKENS), parameters.get("reasoning_effort")
    return Judge(question, Asking(opened, Decoding(tokens, reasoning_effort=effort)), output.about)


def case_of(example: Example, answer: str) -> Case:
    """An answer to an example. The judge reads the input's text, or where there are several turns, each with who speaks."""
    turns = example.input
    shown = turns[0].content if len(turns) == 1 else "\n\n".join(f"{turn.role}: {turn.content}" for turn in turns)
    return Case(shown, answer, example.output)
