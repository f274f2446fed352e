"""A system, examples and a scorer -> per-item scores; and measuring as jobs: values that pickle, done in this process or elsewhere.

Batches are cut from the order of the examples before the first call and never regrouped: in reduced precision an answer can
depend on its batch, and a resumed run must see the same answers. The driver alone writes the record, and uses results in the
order of the jobs, so that no verdict depends on who was quicker.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from lastresort.errors import CandidateError, ContractError, LastresortError, StoppedError
from lastresort.evals.scorers import Scorer, format_ok, scores_of
from lastresort.models.protocol import OnAnswer, Pay, at_places, pay_on_answer
from lastresort.records.measurement import ItemScore, failure_kind
from lastresort.stop import Stop, StopRequest
from lastresort.systems.answerer import Answerer
from lastresort.systems.compose import Passages
from lastresort.systems.system import System
from lastresort.types import Answer, At, Example, JsonObject, Progress, nowhere

SHOWN_EVERY_S = 0.25


class Format(Protocol):
    """What an answer must look like to be well-formed, from the task's `output`."""

    @property
    def json_schema(self) -> JsonObject | None: ...
    @property
    def choices(self) -> tuple[str, ...] | None: ...


def measured(
    answerer: Answerer,
    examples: Sequence[Example],
    scorer: Scorer,
    output: Format,
    *,
    batch_size: int,
    refused_is_wrong: bool = False,
    on_answer: OnAnswer | None = None,
) -> Iterator[list[ItemScore]]:
    """Yield the scores batch by batch, in order; the caller may stop early.

    An infrastructure failure is raised, never scored. refused_is_wrong: an item that the model refuses (CandidateError:
    its prompt is too long) scores 0 with finish "refused", as the system would fail on it in use; otherwise it raises.
    on_answer: given every answer as it arrives with its place in the batch, also those of a batch that is never scored; again those
    of one that the model refuses as a whole.
    """
    if refused_is_wrong:
        answerer.model.check_decoding(answerer.system.decoding)  # a system that can answer nothing is not merely wrong
    for start in range(0, len(examples), batch_size):
        batch = examples[start : start + batch_size]
        try:
            answers: list[Answer | None] = [*answerer.answer([example.input for example in batch], on_answer=on_answer)]
        except CandidateError:
            if not refused_is_wrong:
                raise
            answers = [_one_answer(answerer, example, place, on_answer) for place, example in enumerate(batch)]
        answered = [(example, answer) for example, answer in zip(batch, answers, strict=True) if answer is not None]
        scores = iter(scores_of(scorer, [answer.text for _, answer in answered], [example for example, _ in answered]))
        yield [
            _refused(example) if answer is None else _scored(answer, example, next(scores), scorer, output)
            for example, answer in zip(batch, answers, strict=True)
        ]


def _one_answer(answerer: Answerer, example: Example, place: int, on_answer: OnAnswer | None) -> Answer | None:
    try:
        return answerer.answer([example.input], on_answer=at_places([place], on_answer))[0]
    except CandidateError:
        return None


class CountedAnswers:
    """Progress within a batch: its answers as they arrive, at most every so many seconds. One that arrives again counts no more."""

    def __init__(
        self, progress: Progress, every_s: float = SHOWN_EVERY_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._progress, self._every_s, self._clock = progress, every_s, clock
        self._seen, self._shown, self._shown_at = set[int](), 0, clock()

    def arrived(self, place: int, answer: Answer) -> None:
        """place: in the batch."""
        self._seen.add(place)
        if len(self._seen) == 1 and self._every_s:
            # All others may come with it, from the cache or a worker, and none of them took so long.
            self._shown_at = self._clock()
        elif self._clock() - self._shown_at >= self._every_s:
            self._show(len(self._seen))

    def rest(self, size: int, note: str = "") -> None:
        """The batch of this size is done; the next one begins."""
        self._show(size, note)
        self._seen, self._shown = set(), 0

    def _show(self, done: int, note: str = "") -> None:
        if done > self._shown or note:
            self._progress.advance(done - self._shown, note)
        self._shown, self._shown_at = done, self._clock()


def _scored(answer: Answer, example: Example, score: float, scorer: Scorer, output: Format) -> ItemScore:
    return ItemScore(
        id=example.id,
        score=score,
        answer=answer.text,
        expected=example.output,
        input=example.input_text,
        finish=answer.finish,
        format_ok=format_ok(answer.text, json_schema=output.json_schema, choices=output.choices, scorer=scorer.name),
        prompt_tokens=answer.prompt_tokens,
        completion_tokens=answer.completion_tokens,
        seconds=answer.seconds,
        usd=answer.usd,
        passages=answer.passages,
    )


def _refused(example: Example) -> ItemScore:
    return ItemScore(example.id, 0.0, "", example.output, example.input_text, "refused", None, 0, 0, 0.0, 0.0)


def mean_score(items: Sequence[ItemScore]) -> float:
    return sum(item.score for item in items) / len(items) if items else 0.0


def mean_so_far(scores: Sequence[float]) -> str:
    """What progress says of all items scored so far, not of the last batch."""
    return f"mean {sum(scores) / len(scores):.1%}" if scores else ""


def failures(items: Sequence[ItemScore], knowledge: Collection[str] | None = None) -> dict[str, int | None]:
    """Failures by kind: `format` does not parse or validate; `other` is well-formed and wrong.

    knowledge: ids of the items that were wrong closed book and right with the right passage, None where that was not measured; the
    count of this kind is then None.
    """
    kinds = Counter(failure_kind(item, knowledge or ()) for item in items)
    lacking = None if knowledge is None else kinds["knowledge"]
    return {"format": kinds["format"], "knowledge": lacking, "other": kinds["other"]}


@dataclass(frozen=True, slots=True)
class JobPlace:
    """What a job is about, for those who watch the run."""

    rung: str
    candidate: str
    split: str


@dataclass(frozen=True, slots=True)
class MeasureJob:
    """Measure a system on these examples, in batches that are cut from their order.

    number: its place among those that are given together. refused_is_wrong: as in `measured`. label: of the stage of progress
    that it begins, "" where it goes on with the present one. place: where the run is with this job, None where that was said before
    it. passages: shown in place of what the system's retriever finds. may_be_dropped: whether the results of the jobs before it may
    show that it is not needed.
    """

    number: int
    system: System
    examples: tuple[Example, ...]
    refused_is_wrong: bool = False
    label: str = ""
    place: JobPlace | None = None
    passages: Passages | None = None
    may_be_dropped: bool = False


@dataclass(frozen=True, slots=True)
class JobScores:
    """The scores of all its examples, in their order."""

    items: tuple[ItemScore, ...]


@dataclass(frozen=True, slots=True)
class JobFailure:
    """An error as a value, for a job without scores or answers. As a result of measuring it is always a CandidateError."""

    kind: type[LastresortError]
    found: str
    where: str
    expected: str
    remedy: str
    resume: str = ""

    @classmethod
    def of(cls, error: LastresortError) -> JobFailure:
        resume = error.resume if isinstance(error, StoppedError) else ""
        return cls(type(error), error.found, error.where, error.expected, error.remedy, resume)

    def error(self) -> LastresortError:
        error = self.kind(self.found, where=self.where, expected=self.expected, remedy=self.remedy)
        return error.going_on(self.resume) if isinstance(error, StoppedError) else error


Result = JobScores | JobFailure


class Executor(Protocol):
    """Does jobs, in whatever order and wherever."""

    def run(self, jobs: Sequence[MeasureJob], on_result: Callable[[MeasureJob, Result], None], stop: Stop) -> None:
        """Hand over each result in the calling thread as it comes.

        Once stop is requested no job starts, and one under way ends after its current batch, without a result unless that was
        its last. An infrastructure failure is raised.
        """


@dataclass(frozen=True, slots=True)
class LocalExecutor:
    """One job after the other, in this process. answerer: opens a system. pay: called with every USD as it is paid. at: called
    with the place of every job as it begins.
    """

    answerer: Callable[[System, Passages | None], Answerer]
    scorer: Scorer
    output: Format
    progress: Progress
    pay: Pay
    at: At = nowhere

    def run(self, jobs: Sequence[MeasureJob], on_result: Callable[[MeasureJob, Result], None], stop: Stop) -> None:
        opened: Answerer | None = None
        passages: Passages | None = None
        so_far: list[float] = []  # of a system in one stage of progress: its jobs may be single batches
        for job in jobs:
            if stop.requested() is not None:
                return
            if job.label:
                self.progress.stage(job.label, len(job.examples))
            if job.label or (opened is not None and opened.system is not job.system):
                so_far = []
            if job.place is not None:
                self.at(job.place.rung, job.place.candidate, job.place.split)
            try:
                if opened is None or opened.system is not job.system or passages is not job.passages:
                    opened, passages = self.answerer(job.system, job.passages), job.passages
                result = self._measured(opened, job, stop, so_far)
            except CandidateError as error:
                on_result(job, JobFailure.of(error))
                continue
            if result is None:
                return
            on_result(job, result)

    def _measured(self, answerer: Answerer, job: MeasureJob, stop: Stop, so_far: list[float]) -> JobScores | None:
        """None where it was left undone. so_far: the scores of this system in the present stage, to which its own are added."""
        items: list[ItemScore] = []
        counted, paid = CountedAnswers(self.progress), pay_on_answer(self.pay)

        def arrived(place: int, answer: Answer) -> None:
            paid(place, answer)
            counted.arrived(place, answer)

        for batch in measured(
            answerer,
            job.examples,
            self.scorer,
            self.output,
            batch_size=answerer.model.batch_size,
            refused_is_wrong=job.refused_is_wrong,
            on_answer=arrived,
        ):
            items += batch
            so_far += [item.score for item in batch]
            counted.rest(len(batch), mean_so_far(so_far))
            if len(items) < len(job.examples) and stop.requested() is not None:
                return None
        return JobScores(tuple(items))


def run_in_order(
    executor: Executor, jobs: Sequence[MeasureJob], use: Callable[[MeasureJob, Result], None], stop: Stop
) -> StopRequest | None:
    """Give each result to `use` in the order of the jobs: one that comes early waits for those before it.

    Returns the request by which jobs were left undone, None where all are done. Raises ContractError where the executor leaves jobs
    undone although no stop was requested.
    """
    watched = _Remembering(stop)
    waiting: dict[int, Result] = {}
    turn = iter(jobs)
    following = next(turn, None)

    def arrived(job: MeasureJob, result: Result) -> None:
        nonlocal following
        waiting[job.number] = result
        while following is not None and following.number in waiting:
            use(following, waiting.pop(following.number))
            following = next(turn, None)

    executor.run(jobs, arrived, watched)
    if following is None:
        return None
    if watched.seen is None:
        raise ContractError(
            f"the executor returned without a result for job {following.number}, and no stop was requested"
        )
    return watched.seen


class _Remembering:
    """A stop whose first request counts, also where it is taken back."""

    def __init__(self, stop: Stop) -> None:
        self._stop = stop
        self.seen: StopRequest | None = None

    def requested(self) -> StopRequest | None:
        self.seen = self.seen or self._stop.requested()
        return self.seen
