"""A judge at work in a climb: its model behind the response cache, what it says in the record, its money counted.

Events: judge (which model, so that a run goes on with the same), agreement (with people, where cases are labelled), judged
(every answer with its verdicts, batch by batch; an answer met again is noted again, and counts once).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from lastresort.errors import DataError, TaskError
from lastresort.evals.scorers import Scorer
from lastresort.evals.scorers.judge import Judge, Judged, case_of
from lastresort.evals.scorers.judge_asking import Spent
from lastresort.evals.scorers.judge_labels import Labelled, agreement_with, read_labelled
from lastresort.models.protocol import Model, Pay
from lastresort.records.record import Record
from lastresort.rungs.open_models import OpenModels
from lastresort.spec.task import Task
from lastresort.types import Example, Progress

AGREEMENT_BATCH = 16
REMINDER_TOKENS = 32  # of a second asking, beyond the two verdicts


class Seat:
    """Where the judge sits in a climb. pay: told of every USD that is really paid, answer by answer."""

    def __init__(self, task: Task, record: Record, models: OpenModels, pay: Pay) -> None:
        self._task, self._record, self._models, self._pay = task, record, models, pay
        self._recognised = False

    def seated(self, scorer: Scorer) -> Scorer:
        """A judge with this climb's model, record and purse; any other scorer as it is."""
        if not isinstance(scorer, Judge):
            return scorer
        return replace(scorer.asked_of(self._opened, self._pay), heard=self._heard)

    def check_agreement(self, scorer: Scorer, progress: Progress, check_budget: Callable[[], None]) -> None:
        """Ask a judge what people were asked, once a run and before the first rung."""
        if not isinstance(scorer, Judge) or self._record.last("agreement") is not None:
            return
        labelled = labelled_cases(self._task, scorer)
        if not labelled:
            return
        progress.stage("judge: agreement with people", len(labelled))
        judged: list[Judged] = []
        for start in range(0, len(labelled), AGREEMENT_BATCH):
            check_budget()
            found = scorer.judged([one.case for one in labelled[start : start + AGREEMENT_BATCH]])
            judged += found
            progress.advance(len(found))
        body = asdict(agreement_with(labelled, judged, scorer.question))
        spent = asdict(sum((one.spent for one in judged), Spent()))
        self._record.note("agreement", {**body, "said": [list(one.said) for one in judged], "spent": spent})

    def _opened(self) -> Model:
        keys = self._task.score.parameters
        model = self._models.judge(
            keys["model"],
            prompt_price=keys.get("prompt_price", 0.0),
            output_price=keys.get("output_price", 0.0),
        )
        if not self._recognised:
            self._recognise(model)
        return model

    def _recognise(self, model: Model) -> None:
        known = self._record.last("judge")
        if known is None:
            self._record.note("judge", {"fingerprint": model.fingerprint})
        elif known["fingerprint"] != model.fingerprint:
            raise TaskError(
                f"the judge {model.name} is not the one this run began with (its weights, template or precision differ)",
                where=str(self._record.folder),
                expected="the same judge",
                remedy="Start a new run without --resume.",
            )
        self._recognised = True

    def _heard(self, examples: Sequence[Example], answers: Sequence[str], judged: Sequence[Judged]) -> None:
        items = [
            {"id": example.id, "answer": _hash(answer), "score": one.score, "said": list(one.said), **asdict(one.spent)}
            for example, answer, one in zip(examples, answers, judged, strict=True)
        ]
        self._record.note("judged", {"items": items})


def labelled_cases(task: Task, scorer: Scorer) -> list[Labelled]:
    """The cases that people have judged, () without any. Raises DataError where the file cannot be used."""
    path = task.score.parameters.get("labelled")
    return read_labelled(Path(path), scorer.question) if path and isinstance(scorer, Judge) else []


def refuse_what_the_judge_cannot_read(scorer: Scorer, examples: Sequence[Example], answer_tokens: int) -> None:
    """Raises DataError for an item that leaves a judge no room: it would stop the climb at the same place for ever.

    answer_tokens: the longest that an answer may be, by the tokenizer of the model that gives it.
    """
    if not isinstance(scorer, Judge):
        return
    model = scorer.asking.open()
    limit = model.context_tokens
    if limit is None:
        return
    reserved = answer_tokens + 2 * scorer.asking.decoding.max_new_tokens + REMINDER_TOKENS
    for example in examples:
        prompts = scorer.question.prompts(scorer.about, case_of(example, ""))
        tokens = max((model.count_tokens(prompt) for prompt in prompts), default=0)
        if tokens + reserved > limit:
            raise DataError(
                f"{tokens} tokens of what the judge reads beside an answer, and {reserved} for the answer and the verdict",
                where=f"{example.source}, row {example.row}",
                expected=f"at most the context of {limit} tokens of the judge {model.name} together",
                remedy="Shorten or remove the row, lower decode.max_new_tokens, or take a judge with a longer context.",
            )


def _hash(answer: str) -> str:
    return hashlib.sha256(answer.encode(errors="surrogatepass")).hexdigest()[:16]
