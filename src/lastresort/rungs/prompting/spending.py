"""What optimising a prompt takes in calls, tokens and money: the forecast, and how the search keeps within its limits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from lastresort.models.api.requests import room_to_think
from lastresort.models.protocol import estimated_tokens
from lastresort.records.events.run import AnswersJudged
from lastresort.records.events.search import CandidateMeasured
from lastresort.records.measurement import ItemScore
from lastresort.records.record import Record
from lastresort.rungs.forecast import Forecast, Workload, answering
from lastresort.spec.task import Task
from lastresort.types import Answer, Example

SHOWN = 4  # answered rows that one reflection sees
KEPT_OF_CALLS, LEAST_KEPT = 10, 8  # one in so many calls is a row kept for choosing
REFLECTION_TOKENS = 2048
THOUGHT_TOKENS = 14_336  # with the reflection 16,384, the most that many endpoints write
REQUEST_TOKENS, FEEDBACK_TOKENS = 150, 60  # of a reflection, and of what it says of an answer


def kept_rows(n_train: int, calls: int) -> int:
    return min(max(LEAST_KEPT, calls // KEPT_OF_CALLS), n_train // 2)


def thoughts_of(task: Task) -> int:
    """Tokens that a reflection may think, at the effort that the task names; 0 where it names none."""
    return room_to_think(task.prompting.reasoning_effort)


def calls_of_a_step(n_kept: int) -> int:
    """At most: an instruction answers the rows shown, is reflected on, the new one answers them too, then the kept ones."""
    return 2 * SHOWN + 1 + n_kept


def forecast_optimising(task: Task, work: Workload) -> Forecast:
    """All calls that it may take, if the hand-made prompts leave room. Of an endpoint the time of reflections is not known, and is
    left out.

    As many of them as possible reflect: a step whose proposal is refused ends after the rows shown and the reflection.
    """
    n_kept, calls = kept_rows(work.n_train, task.prompting.calls), task.prompting.calls
    reflections = max(0, calls - n_kept) // (SHOWN + 1)
    rows = answering(
        f"GEPA, unless the hand-made prompts leave no room: at most {calls} calls, of which rows of train",
        work.machine,
        calls - reflections,
        work.instruction_tokens + work.input_tokens,
        work.instruction_tokens,
        work.max_new_tokens,
    )
    shown_tokens = SHOWN * (work.input_tokens + 2 * work.output_tokens + FEEDBACK_TOKENS)
    reflecting = answering(
        f"GEPA, reflections by {task.reflect_model}",
        replace(work.reflecting or work.machine, thinking_tokens=thoughts_of(task)),
        reflections,
        work.instruction_tokens + REQUEST_TOKENS + shown_tokens,
        0,
        REFLECTION_TOKENS,
    ).unscored()
    return rows + (reflecting if reflecting.seconds is not None else replace(reflecting, seconds=0.0))


class Spending:
    """What the calls of a search have taken, as if nothing came from the cache, and what the next ones may cost.

    usd_limit: None without one. answer_usd, verdicts_usd: the most expensive answer so far, and its verdicts where a judge scores.
    An answer is taken to cost no more than that, a reflection no more than its prompt and the longest text. prompt_tokens: of a
    reflection, as long as the rows allow. A search that was killed starts again from the same prices: of the verdicts in the record
    only those before the search count.
    """

    def __init__(self, task: Task, record: Record, raced: Iterable[ItemScore], *, prompt_tokens: int) -> None:
        self.usd_limit = task.prompting.usd
        prices = task.use if task.reflect_model == task.model else task.prompting
        self._prices = (prices.prompt_price or 0.0) / 1e6, (prices.output_price or 0.0) / 1e6
        self._prompt_price = (task.use.prompt_price or 0.0) / 1e6
        self._record, self._prompt_tokens = record, prompt_tokens
        self.calls = self.reflections = self.tokens_in = self.tokens_out = 0
        self.seconds = self.usd = self._judged_usd = 0.0
        self._seen = len(record.all(AnswersJudged))
        self._answer_usd = max((item.usd for item in raced), default=0.0)
        self._verdicts_usd = max((item.usd for batch in _judged_in_race(record) for item in batch.items), default=0.0)
        self._reflection_usd = 0.0

    def start_usd(self, n_kept: int, thoughts: int = 0) -> float:
        """Of the kept rows and one step, before anything is answered. thoughts: as in `step_usd`."""
        return n_kept * self._row_usd() + self.step_usd(n_kept, thoughts)

    def step_usd(self, n_kept: int, thoughts: int = 0) -> float:
        """Of the next step. thoughts: tokens that a reflection may think."""
        rows = calls_of_a_step(n_kept) - 1
        return rows * self._row_usd() + max(self._reflection_usd, self.reflection_usd(self._prompt_tokens, thoughts))

    def reflection_usd(self, prompt_tokens: int, thoughts: int) -> float:
        """Of one that is as long as it may be."""
        return prompt_tokens * self._prices[0] + (REFLECTION_TOKENS + thoughts) * self._prices[1]

    def trial_usd(self, n_kept: int, longer_tokens: int) -> float:
        """Of a new instruction on the rows shown and the kept ones. longer_tokens: than the plain one."""
        return (SHOWN + n_kept) * (self._row_usd() + max(0, longer_tokens) * self._prompt_price)

    def fits(self, usd: float) -> bool:
        return self.usd_limit is None or self.usd + self._judged_usd + usd <= self.usd_limit

    def answered(self, items: Sequence[ItemScore]) -> None:
        self.calls += len(items)
        for item in items:
            self._count(item.prompt_tokens, item.completion_tokens, item.seconds, item.usd)
            self._answer_usd = max(self._answer_usd, item.usd)
        self._judged_usd += self._new_verdicts()

    def reflected(self, answer: Answer) -> None:
        self.calls, self.reflections = self.calls + 1, self.reflections + 1
        self._count(answer.prompt_tokens, answer.completion_tokens, answer.seconds, answer.usd)
        self._reflection_usd = max(self._reflection_usd, answer.usd)

    def timed_out(self, prompt_tokens: int, thoughts: int, seconds: float) -> None:
        """For a reflection that timed out: what it cost is not known, so it counts as long as it may be."""
        self.calls, self.reflections = self.calls + 1, self.reflections + 1
        self._count(prompt_tokens, 0, seconds, self.reflection_usd(prompt_tokens, thoughts))

    def _row_usd(self) -> float:
        return self._answer_usd + self._verdicts_usd

    def _new_verdicts(self) -> float:
        """USD of the verdicts since the last look, also of those that came from the cache."""
        batches = self._record.all(AnswersJudged)
        new_usd = [item.usd for batch in batches[self._seen :] for item in batch.items]
        self._seen = len(batches)
        self._verdicts_usd = max([self._verdicts_usd, *new_usd])
        return sum(new_usd)

    def _count(self, tokens_in: int, tokens_out: int, seconds: float, usd: float) -> None:
        self.tokens_in, self.tokens_out = self.tokens_in + tokens_in, self.tokens_out + tokens_out
        self.seconds, self.usd = self.seconds + seconds, self.usd + usd


def _judged_in_race(record: Record) -> list[AnswersJudged]:
    """Verdicts before the last measurement: the race records one for all that a candidate answers, the search records none."""
    events = [event for _, event in record.since()]
    race_end = max((at for at, event in enumerate(events) if isinstance(event, CandidateMeasured)), default=0)
    return [event for event in events[:race_end] if isinstance(event, AnswersJudged)]


def longest_prompt_tokens(plain: str, form: str, rows: Sequence[Example]) -> int:
    """Of a reflection on these rows, with wrong answers as long as the right ones."""
    longest = max((estimated_tokens(row.input_text) + 4 * estimated_tokens(row.output) for row in rows), default=0)
    return REQUEST_TOKENS + estimated_tokens(plain) + estimated_tokens(form) + SHOWN * (longest + FEEDBACK_TOKENS)
