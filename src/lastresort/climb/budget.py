"""The task's limits of time and money, over all sessions of a run, also those that were killed.

What is spent goes into the record as it is spent: money with every answer, time every few seconds. A rung that trains does
not start if its plan exceeds the time left: half a training is worth nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from lastresort.climb.prepare import PreparedTask
from lastresort.climb.workload import counts_of, machine_of, some_of, workload
from lastresort.climb.workspace import has_begun, has_result
from lastresort.evals.scorers.judge import Judge, case_of
from lastresort.evals.scorers.judge_model import JudgeCase
from lastresort.ladder import trains
from lastresort.models.protocol import is_endpoint
from lastresort.records.clock import worked_s
from lastresort.records.document import Statement
from lastresort.records.events.run import BudgetSpent
from lastresort.records.events.search import RungGivenUp, RungPlanned, RungTested, SystemFrozen
from lastresort.records.reasons import RungAhead, UncountedCost
from lastresort.records.record import Record
from lastresort.records.rungs import LacksMemory, OverTime
from lastresort.report.words.answer import progress_line
from lastresort.report.words.judge import NAME as THE_JUDGE
from lastresort.report.words.progress import (
    expensive_rung_question,
    expensive_rung_unasked,
    forecast_line,
    limit_line,
    long_rung_line,
    rung_begins_line,
    rung_continues_line,
)
from lastresort.report.words.rungs import of_skip, of_training_cards
from lastresort.rungs.forecast import Forecast, Workload, answering
from lastresort.rungs.rung import Rung, Workbench, find_rung
from lastresort.spec.task import Task
from lastresort.stop import Stop, StopRequest
from lastresort.types import Progress

NOTED_EVERY_S = 10.0  # what a kill can make the run forget


@dataclass
class Budget:
    """What may be spent, and what has been, which is added to the record. Work stops once a limit is reached.

    hours, usd: limits, None for none. seconds: spent and noted, by earlier sessions and this one. paid_usd: likewise.
    noted_at: the clock when time was last noted.
    """

    hours: float | None
    usd: float | None
    seconds: float
    paid_usd: float
    clock: Callable[[], float]
    noted_at: float
    record: Record

    @classmethod
    def of(cls, task: Task, record: Record, clock: Callable[[], float]) -> Budget:
        """Start a session of a run: what earlier ones spent is read from its record, where the start of a later one is noted, so
        that the time in which the run lay stopped does not count. One that was killed had shown more than it noted, and that does.
        """
        spendings, last_stage = record.all(BudgetSpent), record.stage()
        unnoted_s = 0.0 if last_stage is None else max(0.0, last_stage.spent_s - worked_s(record))
        if spendings or unnoted_s:
            record.append(BudgetSpent(seconds=unnoted_s, usd=0.0))
        return cls(
            task.limits.hours,
            task.limits.usd,
            worked_s(record),
            sum(part.usd for part in spendings),
            clock,
            clock(),
            record,
        )

    def spent(self) -> tuple[float, float]:
        """Seconds and USD of the whole run."""
        return self._seconds_so_far(), self.paid_usd

    def _seconds_so_far(self) -> float:
        """Of the whole run, this session included up to now."""
        return self.seconds + self.clock() - self.noted_at

    def pay(self, usd: float) -> None:
        """Count money that was really paid: answers from the cache cost nothing again."""
        if usd:
            self.note(usd)

    def out_of_time(self) -> bool:
        if self.clock() - self.noted_at > NOTED_EVERY_S:
            self.note()
        return self.hours is not None and self._seconds_so_far() > 3600 * self.hours

    def hours_left(self) -> float | None:
        """Of the limit, never below 0; None without one."""
        return None if self.hours is None else max(0.0, self.hours - self._seconds_so_far() / 3600)

    def requested(self) -> StopRequest | None:
        """A request once a limit is reached; what is finished is in the record by then."""
        remedy = "Raise it."
        if self.out_of_time():
            return StopRequest(
                "time", f"the time limit of {self.hours:g} hours is reached", where="limits.hours", remedy=remedy
            )
        if self.usd is not None and self.paid_usd >= self.usd:
            spent, less = f"{self.paid_usd:.2f} USD are spent", f"less than {self.usd:g}"
            return StopRequest("money", spent, where="limits.usd", expected=less, remedy=remedy)
        return None

    def note(self, usd: float = 0.0, *, left: bool = False) -> None:
        """Put this much money, and the time since the last note, into the record. left: as in `BudgetSpent`."""
        now = self.clock()
        seconds, self.noted_at = now - self.noted_at, now
        self.record.append(BudgetSpent(seconds=seconds, usd=usd, left=left))
        self.seconds += seconds
        self.paid_usd += usd


def beyond_limits(bench: Workbench, prepared: PreparedTask, rung: Rung) -> Statement | None:
    """Why a rung that has not started is skipped for lack of time; None if it fits or nothing is known.

    The answer is recorded, so that a resumed climb gives the same, until `limits.hours` or the number of cards changes.
    """
    hours = bench.task.limits.hours
    if not trains(rung.name) or hours is None or bench.record.last(SystemFrozen, rung.name) is not None:
        return None
    last_plan = bench.record.last(RungPlanned, rung.name)
    if last_plan is not None and last_plan.beyond is None:
        return None
    cards = _work(bench, prepared, rung.name).machine.training_cards
    if last_plan is not None and (last_plan.limit_hours, last_plan.training_cards) == (hours, cards):
        return last_plan.beyond
    seconds = _rung_forecast(bench, prepared, rung).forecast.seconds
    overrun = over_time(seconds, bench.hours_left())
    beyond = None if overrun is None else of_skip(overrun)
    bench.record.append(
        RungPlanned(rung=rung.name, seconds=seconds, limit_hours=hours, beyond=beyond, training_cards=cards)
    )
    return beyond


def over_time(seconds: float | None, hours_left: float | None) -> OverTime | None:
    """Why a plan of so many seconds does not fit, None where it does or nothing is known."""
    if seconds is None or hours_left is None or seconds <= 3600 * hours_left:
        return None
    return OverTime(seconds, hours_left)


@dataclass(frozen=True, slots=True)
class JudgedForecast:
    """What a rung takes, with the seconds and USD of the judge of its answers as far as they are known. uncounted: what is not."""

    forecast: Forecast
    uncounted: tuple[UncountedCost, ...] = ()


def _rung_forecast(bench: Workbench, prepared: PreparedTask, rung: Rung) -> JudgedForecast:
    return _with_judge(prepared, rung.forecast(prepared.task, _work(bench, prepared, rung.name)))


def _work(bench: Workbench, prepared: PreparedTask, rung: str) -> Workload:
    """Layers that have to be timed for it are shown, and can be stopped."""
    return workload(prepared, rung, _Stoppable(bench.progress, bench.stop))


def _with_judge(prepared: PreparedTask, forecast: Forecast) -> JudgedForecast:
    judge = forecast_of_judge(prepared, forecast.answers)
    if judge is None:
        return JudgedForecast(forecast)
    total = replace(
        forecast,
        seconds=None if forecast.seconds is None else forecast.seconds + (judge.seconds or 0.0),
        usd=(forecast.usd or 0.0) + judge.usd if judge.usd else forecast.usd,
    )
    uncounted: list[UncountedCost] = ["answer_price"] if forecast.usd is None and judge.usd else []
    if judge.seconds is None:
        uncounted.append("judge_time")
    if judge.usd is None:
        uncounted.append("judge_price")
    return JudgedForecast(total, tuple(uncounted))


def forecast_of_judge(prepared: PreparedTask, answers: int) -> Forecast | None:
    """What the judge would take of so many answers, each as long as allowed; None without a judge.

    Counts the tokens of the shared part, such as a rubric, once, then adds the items' mean.
    """
    task, judge, keys = prepared.task, prepared.scorer, prepared.task.score.judge
    if not isinstance(judge, Judge) or keys is None:
        return None
    machine = machine_of(task, keys.model, (keys.prompt_price, keys.output_price), effort=keys.reasoning_effort)
    longest = workload(prepared, "prompting").max_new_tokens
    question, counts = judge.question, counts_of(task, keys.model)
    frame = question.prompts(judge.about, JudgeCase("", "…"))
    frame_tokens = sum(counts.count(turn.content) for prompt in frame for turn in prompt) / len(frame)
    cases = [case_of(item, "…") for item in some_of((*prepared.split.dev, *prepared.split.test))]
    texts = [
        text for case in cases for text in ((case.input, case.reference) if question.needs_output else (case.input,))
    ]
    prompt_tokens = frame_tokens + sum(map(counts.count, texts)) / len(cases) + counts.template + longest
    verdict_tokens = judge.model.decoding.max_new_tokens
    return answering("verdicts", machine, answers * len(frame), prompt_tokens, 0, verdict_tokens).unscored()


LONG_S = 1200.0
ASKED_S, ASKED_USD = 3600.0, 5.0  # above, a mistake in the task file is worth a question


def say_cost(bench: Workbench, prepared: PreparedTask, rung: Rung) -> None:
    """Say what a rung that is about to begin, or has begun, takes as a whole. Ask once if that is much. One that has begun
    continues, as its forecast does not say what is left of it.

    Raises StopRequestedError where the answer is no.
    """
    with_judge = _rung_forecast(bench, prepared, rung)
    figures = with_judge.forecast.seconds, with_judge.forecast.usd, with_judge.uncounted
    if has_begun(bench.record, rung.name):
        bench.progress.say(rung_continues_line(rung.name, *figures))
        return
    if line := rung_begins_line(rung.name, *figures):
        bench.progress.say(line)
    if not _is_much(with_judge.forecast, bench.task):
        return
    if bench.go_on is None:
        bench.progress.say(expensive_rung_unasked(*figures))
    bench.ask_to_go_on(rung.name, "cost", expensive_rung_question(rung.name, *figures))


def _is_much(cost: Forecast, task: Task) -> bool:
    """Whether it takes over an hour or over 5 USD, as far as that is known, and no limit of the task bounds that."""
    long = task.limits.hours is None and (cost.seconds or 0.0) > ASKED_S
    return long or (task.limits.usd is None and (cost.usd or 0.0) > ASKED_USD)


def rung_ahead(bench: Workbench, prepared: PreparedTask, ladder: Sequence[str], last: str) -> RungAhead | None:
    """The first rung above `last` that applies, with its forecast; None where there is none. Of one that has begun no forecast says
    what is left.
    """
    task = bench.task
    for name in ladder[ladder.index(last) + 1 :]:
        rung = find_rung(name)
        if rung.skip_reason(task, bench.train) is not None:
            continue
        if has_begun(bench.record, name):
            return RungAhead(name)
        with_judge = _rung_forecast(bench, prepared, rung)
        return RungAhead(name, with_judge.forecast.seconds, with_judge.forecast.usd, with_judge.uncounted)
    return None


def skipped_in(bench: Workbench, ladder: Sequence[str]) -> dict[str, Statement]:
    """Why rungs do not apply to this task and its rows, by rung."""
    skips = ((name, find_rung(name).skip_reason(bench.task, bench.train)) for name in ladder)
    return {name: of_skip(skip) for name, skip in skips if skip is not None}


@dataclass(frozen=True, slots=True)
class _Stoppable:
    """Progress of work that looks for a request to stop at each step. A limit that is reached is none: it ends what it bounds."""

    shown: Progress
    stop: Stop

    def look(self) -> None:
        request = self.stop.requested()
        if request is not None and request.reason in ("signal", "file"):
            raise request.error()

    def stage(self, label: str, total: int | None = None, done: int = 0) -> None:
        self.shown.stage(label, total, done)

    def advance(self, amount: int = 1, note: str = "") -> None:
        self.shown.advance(amount, note)
        self.look()

    def say(self, text: str) -> None:
        self.shown.say(text)


def say_lack_of_memory(bench: Workbench, rungs: Sequence[str]) -> None:
    """Say at the start which of these rungs will be skipped for lack of memory, in the words in which they then are."""
    for name in rungs:
        has_ended = has_result(bench.record, name)
        skip = None if has_ended else find_rung(name).skip_reason(bench.task, bench.train)
        if isinstance(skip, LacksMemory):
            bench.progress.say(progress_line(name, None, None, of_skip(skip)))


def say_forecast(bench: Workbench, prepared: PreparedTask, rungs: Sequence[str], *, gated: bool) -> None:
    """Say what each rung that has not begun would take here, with its judge as far as that is known, and whether the time limit
    cuts that. gated: whether a tuned model that would win passes a gate.

    Rungs that do not apply are left out; so are those whose seconds are not known, and the limit while a rung that has begun is not
    tested, as what is left of it is not known. Nothing is known of a climb that starts with an
    endpoint, and its speed says nothing of the rungs above.
    """
    task = bench.task
    if is_endpoint(task.model):
        return
    seconds: dict[str, float] = {}
    unknown = dict[str, None]()  # in their order
    under_way, divided = False, set[str]()
    for name in rungs:
        _Stoppable(bench.progress, bench.stop).look()
        rung = find_rung(name)
        if rung.skip_reason(task, bench.train) is not None:
            continue
        if has_begun(bench.record, name):
            has_ended = any(bench.record.last(kind, name) is not None for kind in (RungTested, RungGivenUp))
            under_way = under_way or not has_ended
            continue
        work = _work(bench, prepared, name)
        with_judge = _with_judge(prepared, rung.forecast(task, work))
        rung_s = with_judge.forecast.seconds
        if rung_s is None:
            unknown[name] = None
            continue
        seconds[name] = rung_s
        divided |= {of_training_cards(work.machine)} - {""}
        if "judge_time" in with_judge.uncounted:
            unknown[THE_JUDGE] = None
    if seconds:
        may_gate = gated and any(map(trains, seconds))
        bench.progress.say(forecast_line(seconds, gated=may_gate))
        if not under_way and (hours_left := bench.hours_left()) is not None:
            names = [*unknown, *(["a gate"] if may_gate else [])]
            bench.progress.say(limit_line(seconds, 3600 * hours_left, unknown=names))
    for line in divided:
        bench.progress.say(line)
    for name, rung_s in seconds.items():
        if rung_s > LONG_S:
            bench.progress.say(long_rung_line(name, rung_s))
