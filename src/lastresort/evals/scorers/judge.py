"""The scorer that asks another model, for style and free text, and how far it agrees with cases that people have judged."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lastresort.data.files import read_rows
from lastresort.data.formats.rows import RawRow, kind_of
from lastresort.errors import DataError, TaskError
from lastresort.evals.scorers.judge_model import (
    UNPARSED,
    VERDICT_TOKENS,
    ComparisonQuestion,
    GradingQuestion,
    JudgeCase,
    JudgeModel,
    JudgeQuestion,
)
from lastresort.evals.scorers.scorer import AnswerForm
from lastresort.models.protocol import Model, Pay
from lastresort.records.events.run import JudgeCalls
from lastresort.types import Decoding, Example

if TYPE_CHECKING:
    from lastresort.evals.evidence.agreement import Agreement

PARAMETERS = (
    "model",
    "against",
    "criteria",
    "rubric",
    "scale",
    "labelled",
    "correct",
    "max_new_tokens",
    "reasoning_effort",
    "prompt_price",
    "output_price",
)


@dataclass(frozen=True, slots=True)
class JudgeScore:
    """Of one case. verdicts: in the order of the prompts, UNPARSED for one that could not be read."""

    score: float
    verdicts: tuple[str, ...]
    spent: JudgeCalls


@dataclass(frozen=True, slots=True)
class Judge:
    """Asks a model about every answer.

    question: what it asks, and what the verdicts are worth. about: what the task asks, "" where the inputs say it. on_scores: given
    the examples, answers and scores of every call. An infrastructure failure is raised and never scored.
    """

    question: JudgeQuestion
    model: JudgeModel
    about: str = ""
    on_scores: Callable[[Sequence[Example], Sequence[str], Sequence[JudgeScore]], None] | None = None
    name: str = "judge"

    @property
    def binary(self) -> bool:
        return self.question.binary

    @property
    def needs_output(self) -> bool:
        return self.question.needs_output

    def open(self) -> None:
        self.model.open()

    def __call__(self, answer: str, example: Example) -> float:
        return self.score_batch([answer], [example])[0]

    def score_batch(self, answers: Sequence[str], examples: Sequence[Example]) -> list[float]:
        """The scores that one call each would give, in a single call of the model."""
        found = self.score_cases([case_of(example, answer) for answer, example in zip(answers, examples, strict=True)])
        if self.on_scores is not None:
            self.on_scores(examples, answers, found)
        return [one.score for one in found]

    def score_cases(self, cases: Sequence[JudgeCase]) -> list[JudgeScore]:
        """In order."""
        prompts_of = [self.question.prompts(self.about, case) for case in cases]
        answers = iter(
            self.model.verdicts([prompt for prompts in prompts_of for prompt in prompts], self.question.choices)
        )
        found = []
        for prompts in prompts_of:
            own = [next(answers) for _ in prompts]
            verdicts = tuple(UNPARSED if answer.choice is None else answer.choice for answer in own)
            spent = JudgeCalls.sum_of(answer.spent for answer in own)
            found.append(JudgeScore(self.question.score(verdicts), verdicts, spent))
        return found

    def with_model(self, opened: Callable[[], Model], pay: Pay = lambda usd: None) -> Judge:
        """The same judge on another model. opened: opens it. pay: given the price of each of its answers as it arrives."""
        return replace(self, model=JudgeModel(opened, self.model.decoding, pay))


def judge(parameters: Mapping[str, Any], output: AnswerForm) -> Judge:
    """A judge that opens its own model at the first call. parameters: PARAMETERS; a model's path is absolute."""
    name, rubric = parameters.get("model"), parameters.get("rubric")
    if not isinstance(name, str) or not name:
        raise TaskError(f"found {name!r}", where='task file, key "score.judge"', expected="the judge's model")

    @cache
    def opened() -> Model:
        from lastresort.models.open import open_model

        prices = (float(parameters.get(key) or 0.0) for key in ("prompt_price", "output_price"))
        prompt_price, output_price = prices
        return open_model(name, base_folder=Path(), prompt_price=prompt_price, output_price=output_price)

    question: JudgeQuestion = ComparisonQuestion(parameters.get("criteria") or "")
    if rubric:
        question = GradingQuestion(rubric, parameters.get("scale") or "1-5")
    tokens, effort = int(parameters.get("max_new_tokens") or VERDICT_TOKENS), parameters.get("reasoning_effort")
    return Judge(question, JudgeModel(opened, Decoding(tokens, reasoning_effort=effort)), output.about)


def case_of(example: Example, answer: str) -> JudgeCase:
    """An answer to an example. The judge reads the text of the input; several turns each with their role."""
    turns = example.input
    shown = turns[0].content if len(turns) == 1 else "\n\n".join(f"{turn.role}: {turn.content}" for turn in turns)
    return JudgeCase(shown, answer, example.output)


_SIDES = ("a", "tie", "b")
_GRADES = {"true": "yes", "false": "no"}


@dataclass(frozen=True, slots=True)
class LabelledCase:
    """A case with the verdict of people: a, b or tie for a comparison (the case's answer is a), else one of its choices."""

    case: JudgeCase
    label: str


def read_labelled(path: Path, question: JudgeQuestion) -> list[LabelledCase]:
    """The cases of a file. Raises DataError for a row without a key, or with an unknown label.

    Rows: {"input", "a", "b", "label": a | b | tie} for a comparison, {"input", "answer", "grade"} for a grading.
    """
    return [_labelled(row, question) for row in read_rows(path)]


def agreement_with(
    labelled: Sequence[LabelledCase], judged: Sequence[JudgeScore], question: JudgeQuestion
) -> Agreement:
    """Of people with the judge on the same cases. A verdict that could not be read counts as it does in a score.

    Kappa weighs grades by their distance (quadratic weights), everything else as equal or not.
    """
    from lastresort.evals.evidence.agreement import agreement

    pairs = [(one.label, _label_of(found, question)) for one, found in zip(labelled, judged, strict=True)]
    if isinstance(question, ComparisonQuestion):
        return agreement(pairs, _SIDES)
    return agreement(pairs, question.choices, weights="none" if question.binary else "quadratic")


def paired_scores(
    labelled: Sequence[LabelledCase], judged: Sequence[JudgeScore], question: JudgeQuestion
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """What people's labels score, and what the judge scores, of the first case of every input: more of one input are not
    independent.
    """
    first = dict[str, int]()
    for place, one in enumerate(labelled):
        first.setdefault(one.case.input, place)
    places = tuple(first.values())
    return tuple(people_score(labelled[place], question) for place in places), tuple(
        judged[place].score for place in places
    )


def people_score(one: LabelledCase, question: JudgeQuestion) -> float:
    """As the judge would score the same verdict."""
    if isinstance(question, ComparisonQuestion):
        return {"a": 1.0, "b": 0.0}.get(one.label, 0.5)
    return question.score((one.label,))


def _label_of(found: JudgeScore, question: JudgeQuestion) -> str:
    if isinstance(question, ComparisonQuestion):
        return {1.0: "a", 0.0: "b"}.get(found.score, "tie")
    if question.binary:
        return "yes" if found.score else "no"
    return question.choices[round(found.score * (len(question.choices) - 1))]


def _labelled(row: RawRow, question: JudgeQuestion) -> LabelledCase:
    if isinstance(question, ComparisonQuestion):
        case = JudgeCase(_text(row, "input"), _text(row, "a"), _text(row, "b"))
        return LabelledCase(case, _label(row, "label", _SIDES))
    return LabelledCase(JudgeCase(_text(row, "input"), _text(row, "answer")), _label(row, "grade", question.choices))


def _text(row: RawRow, key: str) -> str:
    value = row.values.get(key)
    if isinstance(value, str):
        return value
    found = kind_of(value) if key in row.values else "nothing"
    raise DataError(f"found {found}", where=row.at(key), expected="text", remedy="Add it, or remove the row.")


def _label(row: RawRow, key: str, known: Sequence[str]) -> str:
    value = row.values.get(key)
    word = str(value).strip().lower()
    word = _GRADES.get(word, word) if "yes" in known else word
    if value is not None and word in known:
        return word
    found = "nothing" if key not in row.values else f'"{value}"' if isinstance(value, str) else kind_of(value)
    raise DataError(
        f"found {found}",
        where=row.at(key),
        expected=f"one of {', '.join(known)}",
        remedy="Write the verdict of people, or remove the row.",
    )
