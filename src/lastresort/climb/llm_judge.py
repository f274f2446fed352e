"""A judge at work in a climb: its model behind the response cache, its verdicts in the record, its money counted."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, replace

from lastresort.errors import DataError, TaskError
from lastresort.evals.evidence.bar import smallest_deciding_test
from lastresort.evals.evidence.corrected import Correction, errors_left
from lastresort.evals.evidence.outlook import Errors
from lastresort.evals.judged import corrected_bar
from lastresort.evals.scorers import Scorer
from lastresort.evals.scorers.judge import (
    Judge,
    JudgeScore,
    LabelledCase,
    agreement_with,
    case_of,
    paired_scores,
    people_score,
    read_labelled,
)
from lastresort.models.open import absolute_name
from lastresort.models.protocol import Model, Pay
from lastresort.records.events.run import AnswersJudged, JudgeCalls, JudgeChecked, JudgedAnswer, JudgeOpened
from lastresort.records.record import Record
from lastresort.report.words.wording import counted
from lastresort.rungs.open_models import OpenModels
from lastresort.rungs.rung import Workbench
from lastresort.spec.judge import JudgeKeys, written_model
from lastresort.spec.task import Task
from lastresort.stop import Stop, check
from lastresort.types import Example, Progress, Unit

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

    def _opened(self, keys: JudgeKeys) -> Model:
        model = self._models.judge(keys.model, prompt_price=keys.prompt_price, output_price=keys.output_price)
        if not self._recognised:
            self._recognise(keys, model)
        return model

    def _recognise(self, keys: JudgeKeys, model: Model) -> None:
        opened_before = self._record.last(JudgeOpened)
        if opened_before is None:
            self._record.append(_judge_opened(self._task, keys, model.fingerprint))
        elif opened_before.fingerprint != model.fingerprint:
            raise TaskError(
                f"the judge {model.name} is not the one this run began with (its weights, template or precision differ)",
                where=str(self._record.folder),
                expected="the same judge",
                remedy="Start a new run without --resume.",
            )
        self._recognised = True

    def _record_verdicts(
        self, examples: Sequence[Example], answers: Sequence[str], judge_scores: Sequence[JudgeScore]
    ) -> None:
        items = tuple(
            JudgedAnswer(
                id=example.id, answer=answer_hash(answer), score=score.score, said=score.verdicts, **dict(score.spent)
            )
            for example, answer, score in zip(examples, answers, judge_scores, strict=True)
        )
        self._record.append(AnswersJudged(items=items))


def check_agreement(bench: Workbench) -> None:
    """Run the judge on the cases that people have labelled, once per run, before the first rung."""
    task, scorer, record = bench.task, bench.scorer, bench.record
    if not isinstance(scorer, Judge) or record.last(JudgeChecked) is not None:
        return
    labelled = labelled_cases(task, scorer)
    if not labelled:
        return
    judge_scores = _verdicts_on(labelled, scorer, bench.progress, bench.stop)
    agreement = agreement_with(labelled, judge_scores, scorer.question)
    verdicts = tuple(one.verdicts for one in judge_scores)
    people, scores = paired_scores(labelled, judge_scores, scorer.question) if _corrects(task) else ((), ())
    calls = JudgeCalls.sum_of(one.spent for one in judge_scores)
    record.append(JudgeChecked(**asdict(agreement), said=verdicts, people=people, judged=scores, spent=calls))


def correction_by_labels(task: Task, scorer: Scorer, progress: Progress, stop: Stop) -> Correction | None:
    """How people's labels correct the judge's scores, outside a climb; None without labels, or where they correct nothing."""
    labelled, keys = labelled_cases(task, scorer), task.score.judge
    if not labelled or not isinstance(scorer, Judge) or keys is None or not _corrects(task):
        return None
    people, scores = paired_scores(labelled, _verdicts_on(labelled, scorer, progress, stop), scorer.question)
    return corrected_bar(people, scores, task.bar, task.confidence, keys.scale)


def _corrects(task: Task) -> bool:
    return task.score.judge is not None and task.score.judge.correct is not False


def labels_correct(task: Task) -> bool:
    """Whether people's labels are to correct the scores of the task's judge."""
    return task.score.judge is not None and task.score.judge.labelled is not None and _corrects(task)


def errors_of_items(task: Task, alpha: float, beta: float) -> Errors:
    """Of those of a test, what its items have: less where labels have a part, too."""
    return errors_left(alpha, beta) if labels_correct(task) else Errors(alpha, beta)


def _verdicts_on(labelled: Sequence[LabelledCase], judge: Judge, progress: Progress, stop: Stop) -> list[JudgeScore]:
    progress.stage("judge: agreement with people", len(labelled))
    judge_scores: list[JudgeScore] = []
    for start in range(0, len(labelled), AGREEMENT_BATCH):
        check(stop)
        batch = judge.score_cases([one.case for one in labelled[start : start + AGREEMENT_BATCH]])
        judge_scores += batch
        progress.advance(len(batch))
    return judge_scores


def labelled_cases(task: Task, scorer: Scorer) -> list[LabelledCase]:
    """The cases that people have judged, () without any. Raises DataError where the file cannot be used."""
    path = None if task.score.judge is None else task.score.judge.labelled
    return read_labelled(path, scorer.question) if path is not None and isinstance(scorer, Judge) else []


def refuse_labels_that_decide_nothing(task: Task, scorer: Scorer, units: int, alpha: float, unit: Unit) -> None:
    """Raises TaskError where not even a judge that agreed with people on every labelled case could show that the bar is met, of a
    system that it finds right every time.

    units: of the test set. alpha: the smallest error of a test.
    """
    labelled = labelled_cases(task, scorer)
    keys = task.score.judge
    if not labelled or not isinstance(scorer, Judge) or keys is None or keys.correct is False:
        return
    label_by_input = {one.case.input: people_score(one, scorer.question) for one in reversed(labelled)}
    people = tuple(label_by_input.values())
    best = corrected_bar(people, people, task.bar, task.confidence, keys.scale)
    binary = scorer.binary and unit == "item"
    if best.can_be_met:
        smallest = smallest_deciding_test(best.met_above, errors_left(alpha, 0.0).alpha, binary=binary)
        if units >= smallest:
            return
    wrong = "" if best.rates is None else f", of which people call {best.rates.wrong} wrong"
    raise TaskError(
        f"{len(people)} labelled cases with different inputs{wrong}, by which no score on "
        f"{counted(units, f'test {unit}')} could show that the bar of {task.bar:g} is met, even if the judge agreed with "
        "all of them",
        where=f'{task.path.name}, key "score.judge.labelled"',
        expected="more of them" if best.rates is None else "more of them, right and wrong ones",
        remedy="Add labelled cases or test examples, lower `bar`, or set `correct: false` to rest on the judge alone.",
    )


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
                f"{tokens} tokens that the judge reads in addition to an answer, and {reserved} for the answer and the verdict",
                where=example.place,
                expected=f"at most the context of {limit} tokens of the judge {model.name} together",
                remedy="Shorten or remove the row, lower decode.max_new_tokens, or take a judge with a longer context.",
            )


def answer_hash(answer: str) -> str:
    """By which the record knows an answer that was judged."""
    return hashlib.sha256(answer.encode(errors="surrogatepass")).hexdigest()[:16]


def _judge_opened(task: Task, keys: JudgeKeys, fingerprint: str) -> JudgeOpened:
    grading = keys.rubric is not None
    return JudgeOpened(
        fingerprint=fingerprint,
        model=written_model(keys.model, task.folder),
        asks="grading" if grading else "comparison",
        criterion=keys.rubric if grading else keys.criteria,
        scale=(keys.scale or "1-5") if grading else None,
        self_preference=_judges_itself(task, keys.model),
        price_known=keys.price_known,
    )


def _judges_itself(task: Task, judge: str) -> bool:
    """Whether the judge is the model that answers, or the one that would be tuned."""
    names = {absolute_name(name, task.folder) for name in (task.model, task.tuned_model)}
    return judge in names
