"""A judge at work in a climb: its model behind the response cache, its verdicts in the record, its money counted."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, fields, replace

from lastresort.errors import DataError, TaskError
from lastresort.evals.evidence import wilson_interval
from lastresort.evals.scorers import Scorer
from lastresort.evals.scorers.judge import Judge, JudgeScore, LabelledCase, agreement_with, case_of, read_labelled
from lastresort.evals.scorers.judge_model import SCALES, UNPARSED, JudgeCost
from lastresort.models.open import absolute_name
from lastresort.models.protocol import Model, Pay
from lastresort.records.decision import JudgeAgreement, JudgeView, OrderEffect
from lastresort.records.events import AnswersJudged, JudgeCalls, JudgeChecked, JudgedAnswer, JudgeOpened
from lastresort.records.measurement import Cost
from lastresort.records.record import Record
from lastresort.rungs.open_models import OpenModels
from lastresort.spec.judge import JudgeKeys, written_model
from lastresort.spec.task import Task
from lastresort.stop import Stop, check
from lastresort.types import Example, Progress

AGREEMENT_BATCH = 16
REMINDER_TOKENS = 32  # of a second asking, beyond the two verdicts


class ClimbJudge:
    """Where the judge sits in a climb. pay: called with every USD that is really paid, answer by answer."""

    def __init__(self, task: Task, record: Record, models: OpenModels, pay: Pay) -> None:
        self._task, self._record, self._models, self._pay = task, record, models, pay
        self._recognised = False

    def equipped(self, scorer: Scorer) -> Scorer:
        """A judge with this climb's model, record and purse; any other scorer as it is."""
        keys = self._task.score.judge
        if not isinstance(scorer, Judge) or keys is None:
            return scorer
        return replace(scorer.with_model(lambda: self._opened(keys), self._pay), on_scores=self._record_verdicts)

    def check_agreement(self, scorer: Scorer, progress: Progress, stop: Stop) -> None:
        """Ask a judge what people were asked, once a run and before the first rung."""
        if not isinstance(scorer, Judge) or self._record.last(JudgeChecked) is not None:
            return
        labelled = labelled_cases(self._task, scorer)
        if not labelled:
            return
        progress.stage("judge: agreement with people", len(labelled))
        judged: list[JudgeScore] = []
        for start in range(0, len(labelled), AGREEMENT_BATCH):
            check(stop)
            found = scorer.score_cases([one.case for one in labelled[start : start + AGREEMENT_BATCH]])
            judged += found
            progress.advance(len(found))
        agreed = agreement_with(labelled, judged, scorer.question)
        spent = sum((one.spent for one in judged), JudgeCost())
        said = tuple(one.verdicts for one in judged)
        self._record.append(JudgeChecked(**asdict(agreed), said=said, spent=JudgeCalls(**asdict(spent))))

    def _opened(self, keys: JudgeKeys) -> Model:
        prices = {"prompt_price": keys.prompt_price or 0.0, "output_price": keys.output_price or 0.0}
        model = self._models.judge(keys.model, **prices)
        if not self._recognised:
            self._recognise(model)
        return model

    def _recognise(self, model: Model) -> None:
        known = self._record.last(JudgeOpened)
        if known is None:
            self._record.append(JudgeOpened(fingerprint=model.fingerprint))
        elif known.fingerprint != model.fingerprint:
            raise TaskError(
                f"the judge {model.name} is not the one this run began with (its weights, template or precision differ)",
                where=str(self._record.folder),
                expected="the same judge",
                remedy="Start a new run without --resume.",
            )
        self._recognised = True

    def _record_verdicts(
        self, examples: Sequence[Example], answers: Sequence[str], judged: Sequence[JudgeScore]
    ) -> None:
        items = tuple(
            JudgedAnswer(id=example.id, answer=_hash(answer), score=one.score, said=one.verdicts, **asdict(one.spent))
            for example, answer, one in zip(examples, answers, judged, strict=True)
        )
        self._record.append(AnswersJudged(items=items))


def labelled_cases(task: Task, scorer: Scorer) -> list[LabelledCase]:
    """The cases that people have judged, () without any. Raises DataError where the file cannot be used."""
    path = None if task.score.judge is None else task.score.judge.labelled
    return read_labelled(path, scorer.question) if path is not None and isinstance(scorer, Judge) else []


def refuse_what_the_judge_cannot_read(scorer: Scorer, examples: Sequence[Example], answer_tokens: int) -> None:
    """Raises DataError for an item that leaves a judge no room: it would stop the climb at the same place for ever.

    answer_tokens: the longest that an answer may be, by the tokenizer of the model that gives it.
    """
    if not isinstance(scorer, Judge):
        return
    model = scorer.model.open()
    limit = model.context_tokens
    if limit is None:
        return
    reserved = answer_tokens + 2 * scorer.model.decoding.max_new_tokens + REMINDER_TOKENS
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


Said = Sequence[str]


def judge_view(task: Task, record: Record) -> JudgeView | None:
    """None where the task's scorer asks no model."""
    keys = task.score.judge
    if keys is None:
        return None
    grading, scale = keys.rubric is not None, keys.scale or "1-5"
    noted = [item for batch in record.all(AnswersJudged) for item in batch.items]
    judged = list({(item.id, item.answer): item for item in noted}.values())
    checked = record.last(JudgeChecked)
    said = [item.said for item in judged]
    spent = _summed([*judged, *([checked.spent] if checked is not None else [])])
    return JudgeView(
        model=written_model(keys.model, task.folder),
        asks="grading" if grading else "comparison",
        criterion=keys.rubric if grading else keys.criteria,
        scale=scale if grading else None,
        self_preference=_judges_itself(task, keys.model),
        answers=len(judged),
        verdicts=grades(said, SCALES[scale]) if grading else outcomes(said),
        order=None if grading else order_effect(said, [item.id for item in judged]),
        asked=sum(len(verdicts) for verdicts in said),
        unparsed=sum(verdicts.count(UNPARSED) for verdicts in said),
        agreement=_agreement(checked),
        cost=Cost(
            tokens_in=spent.tokens_in,
            tokens_out=spent.tokens_out,
            seconds=round(spent.seconds, 3),
            usd=spent.usd if keys.price_known else None,
        ),
    )


def outcomes(said: Sequence[Said]) -> dict[str, int]:
    """How comparisons ended, of the verdicts in both orders. changed: the order alone changed the verdict. same_text: the
    answer was the reference, and was not shown."""
    kinds = Counter(_outcome(verdicts) for verdicts in said)
    return {kind: kinds[kind] for kind in ("won", "lost", "tied", "changed", "same_text")}


def order_effect(said: Sequence[Said], items: Sequence[str] | None = None) -> OrderEffect | None:
    """How often the order alone changed the verdict, as a share of n comparisons with its 95% interval, and how often that
    was for the answer shown first, and second. ties: the share of ties in both orders. None where nothing was compared.

    items: of each comparison the item that was answered. Answers to one item are alike and so are the verdicts on them: the
    interval counts an item once, however many answers to it were compared.

    Source: Zheng et al. 2023 (consistency and bias of a judge under swapped positions).
    """
    compared = [verdicts for verdicts in said if verdicts]
    if not compared:
        return None
    known = range(len(said)) if items is None else items
    units = len({item for item, verdicts in zip(known, said, strict=True) if verdicts})
    n, kinds = len(compared), Counter(_outcome(verdicts) for verdicts in compared)
    first, second = (sum(tuple(verdicts) == (place, place) for verdicts in compared) for place in ("A", "B"))
    return OrderEffect(
        n=n,
        changed=kinds["changed"] / n,
        interval=wilson_interval(units * kinds["changed"] / n, units),
        to_first=first,
        to_second=second,
        ties=kinds["tied"] / n,
    )


def grades(said: Sequence[Said], choices: Sequence[str]) -> dict[str, int]:
    """How often each grade was given."""
    kinds = Counter(verdict for verdicts in said for verdict in verdicts)
    return {choice: kinds[choice] for choice in choices}


def _outcome(verdicts: Said) -> str:
    if not verdicts:
        return "same_text"
    first, second = ("tie" if verdict == UNPARSED else verdict for verdict in verdicts)
    return {("A", "B"): "won", ("B", "A"): "lost", ("tie", "tie"): "tied"}.get((first, second), "changed")


def _judges_itself(task: Task, judge: str) -> bool:
    """Whether the judge is the model that answers, or the one that would be tuned."""
    names = {absolute_name(name, task.folder) for name in (task.model, task.tuned_model)}
    return judge in names


def _summed(calls: Sequence[JudgeCalls]) -> JudgeCost:
    names = {field.name for field in fields(JudgeCost)}
    return sum((JudgeCost(**one.model_dump(include=names)) for one in calls), JudgeCost())


def _agreement(checked: JudgeChecked | None) -> JudgeAgreement | None:
    if checked is None:
        return None
    return JudgeAgreement(**checked.model_dump(exclude={"kind", "said", "spent"}))
