"""Jobs: they and their results pickle, results are used in the order of the jobs, and who was quicker changes nothing."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from climb_support import calls, comparable, scripted_task
from lastresort.app.climb import climb
from lastresort.climb.laps import ClimbWorkers
from lastresort.climb.prepare import prepare
from lastresort.climb.workbench import open_models
from lastresort.errors import CandidateError, ContractError, StopRequestedError
from lastresort.evals import measure
from lastresort.evals.measure import (
    CountedAnswers,
    Executor,
    JobFailure,
    JobScores,
    LocalExecutor,
    MeasureJob,
    Result,
    run_in_order,
)
from lastresort.evals.scorers import build_scorer
from lastresort.knowledge.chunks import Chunk
from lastresort.models.scripted import Script, ScriptedModel
from lastresort.records.responses import ResponseCache
from lastresort.rungs import rung
from lastresort.spec.output import Output
from lastresort.spec.task import load_task
from lastresort.stop import NEVER, Stop, StopSignal
from lastresort.systems.answerer import Answerer
from lastresort.systems.compose import conversation
from lastresort.systems.system import PromptDesign, System
from lastresort.types import Answer, Decoding, Example, Message, SilentProgress
from retrieval_support import handbook_task

SYSTEM = System("s", "scripted", PromptDesign("Say it."), Decoding(8), template_kwargs={"thinking": False})
EXAMPLES = tuple(Example(text, (Message("user", text),), text) for text in ("a", "b", "c", "d", "e"))
ECHO = Script(answers={example.id: example.output for example in EXAMPLES})


def job(number: int, *examples: Example, system: System = SYSTEM) -> MeasureJob:
    return MeasureJob(number, system, examples)


def local(model: ScriptedModel, pay: Callable[[float], None] = lambda usd: None) -> LocalExecutor:
    return LocalExecutor(
        lambda system, passages: Answerer(system, model), build_scorer("exact", {}), Output(), SilentProgress(), pay
    )


def done(executor: Executor, jobs: Sequence[MeasureJob], stop: Stop = NEVER) -> list[tuple[int, Result]]:
    found: list[tuple[int, Result]] = []
    executor.run(jobs, lambda job, result: found.append((job.number, result)), stop)
    return found


def test_jobs_and_results_are_values_that_pickle() -> None:
    one = MeasureJob(3, SYSTEM, EXAMPLES, refused_is_wrong=True, label="dev")
    assert pickle.loads(pickle.dumps(one)) == one
    [(_, measured)] = done(local(ScriptedModel(ECHO)), [one])
    refused = JobFailure.of(CandidateError("too long", where="here", expected="short", remedy="Cut it."))
    for result in (measured, refused):
        assert pickle.loads(pickle.dumps(result)) == result
    assert str(refused.error()) == "here: too long, expected short. Cut it."


def test_the_passages_of_a_job_pickle_with_it() -> None:
    chunk = Chunk("a.md#1", "a.md", "a.md", (), "", 0, 3, "abc")
    one = MeasureJob(0, SYSTEM, EXAMPLES, passages={conversation(EXAMPLES[0].input): (chunk,)})
    assert pickle.loads(pickle.dumps(one)) == one


def test_one_that_is_refused_is_a_result_and_the_others_are_done() -> None:
    long = Example("long", (Message("user", "x" * 400),), "x")
    model = ScriptedModel(Script(answers=ECHO.answers, context_tokens=40))
    found = done(local(model), [job(0, EXAMPLES[0], long), job(1, *EXAMPLES[:2])])
    assert [(number, type(result)) for number, result in found] == [(0, JobFailure), (1, JobScores)]


class Noted(SilentProgress):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def advance(self, amount: int = 1, note: str = "") -> None:
        self.notes.append(note)


def test_progress_says_the_mean_of_all_items_of_a_stage_whether_they_come_as_batches_or_as_jobs() -> None:
    class Small(ScriptedModel):
        batch_size = 2

    right = [*EXAMPLES[:3], *(Example(text, (Message("user", text),), "other") for text in ("a", "b"))]
    batches, model, other = [right[:2], right[2:4], right[4:]], Small(ECHO), replace(SYSTEM, name="other")

    def notes(*jobs: MeasureJob) -> list[str]:
        shown = Noted()
        done(replace(local(model), progress=shown), jobs)
        return shown.notes

    so_far = ["mean 100.0%", "mean 75.0%", "mean 60.0%"]
    assert notes(job(0, *right)) == so_far
    assert notes(*(job(number, *batch) for number, batch in enumerate(batches))) == so_far
    assert notes(job(0, *right), job(1, *right[3:], system=other)) == [*so_far, "mean 0.0%"]


class Amounts(SilentProgress):
    def __init__(self) -> None:
        self.amounts: list[int] = []

    def advance(self, amount: int = 1, note: str = "") -> None:
        self.amounts.append(amount)


def test_progress_goes_on_within_a_batch_a_few_times_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer a tenth of a second. What is refused makes the others arrive twice; each counts once."""
    clock, shown = iter(range(1000)), Amounts()
    monkeypatch.setattr(
        measure, "CountedAnswers", lambda progress: CountedAnswers(progress, clock=lambda: next(clock) / 10)
    )
    done(replace(local(ScriptedModel(ECHO)), progress=shown), [job(0, *EXAMPLES)])
    assert shown.amounts == [4, 1]
    shown.amounts.clear()
    long = Example("long", (Message("user", "x" * 400),), "x")
    model = ScriptedModel(Script(answers=ECHO.answers, context_tokens=40))
    done(replace(local(model), progress=shown), [replace(job(0, *EXAMPLES, long), refused_is_wrong=True)])
    assert sum(shown.amounts) == 6
    assert len(shown.amounts) > 1


def test_answers_that_come_all_at_once_are_not_shown_as_one_of_many() -> None:
    """As from a worker, after a minute: `1 of 60` and an hour left would be wrong."""
    now, shown = [0.0], Amounts()
    counted = CountedAnswers(shown, every_s=5, clock=lambda: now[0])
    answer = Answer("x", 1, 1, "stop")
    now[0] = 60.0
    for place in range(5):
        counted.arrived(place, answer)
    assert shown.amounts == []
    now[0] = 70.0
    counted.arrived(5, answer)
    counted.rest(8)
    assert shown.amounts == [6, 2]


def test_a_request_ends_a_job_after_its_batch_and_begins_no_other() -> None:
    class Small(ScriptedModel):
        batch_size = 2

    stop, paid = StopSignal(), list[float]()

    def pay(usd: float) -> None:
        paid.append(usd)
        if len(paid) == 3:
            stop.request()

    model = Small(ECHO, prompt_price=1.0)
    jobs = [job(0, *EXAMPLES[:2]), job(1, *EXAMPLES), job(2, EXAMPLES[0])]
    assert [number for number, _ in done(local(model, pay), jobs, stop)] == [0]
    assert model.calls == len(paid) == 4
    stop = StopSignal()
    paid.clear()
    assert [number for number, _ in done(local(model, pay), [job(1, *EXAMPLES[:4]), job(2)], stop)] == [1]


@dataclass
class Backwards:
    """Does the last job first, each from bytes to bytes as on another machine."""

    local: Executor
    order: list[int] = field(default_factory=list)

    def run(self, jobs: Sequence[MeasureJob], on_result: Callable[[MeasureJob, Result], None], stop: Stop) -> None:
        for one in reversed(jobs):
            if stop.requested() is not None:
                return
            sent = pickle.loads(pickle.dumps(one))
            for number, result in done(self.local, [sent]):
                self.order.append(number)
                on_result(one, pickle.loads(pickle.dumps(result)))


def test_results_are_used_in_the_order_of_the_jobs() -> None:
    class Backwards:
        def run(self, jobs: Sequence[MeasureJob], on_result: Callable[[MeasureJob, Result], None], stop: Stop) -> None:
            for one in reversed(jobs):
                on_result(one, JobScores(()))

    used: list[int] = []
    jobs = [job(number) for number in (0, 4, 2)]
    assert run_in_order(Backwards(), jobs, lambda one, _: used.append(one.number), NEVER) is None
    assert used == [0, 4, 2]


def test_an_executor_that_leaves_jobs_undone_without_a_request_is_at_fault() -> None:
    class Lazy:
        def run(self, jobs: Sequence[MeasureJob], on_result: Callable[[MeasureJob, Result], None], stop: Stop) -> None:
            on_result(jobs[0], JobScores(()))

    with pytest.raises(ContractError, match="without a result for job 1"):
        run_in_order(Lazy(), [job(0), job(1)], lambda *_: None, NEVER)


def test_a_request_that_is_taken_back_still_tells_why_jobs_were_left_undone() -> None:
    class Once(StopSignal):
        def requested(self) -> Any:
            found = super().requested()
            self._event.clear()
            return found

    stop = Once()
    stop.request()
    request = run_in_order(local(ScriptedModel(ECHO)), [job(0, *EXAMPLES)], lambda *_: None, stop)
    assert request is not None
    assert isinstance(request.error(), StopRequestedError)


@pytest.mark.slow
def test_the_ceiling_of_retrieval_is_measured_by_the_executor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs: list[MeasureJob] = []

    @dataclass
    class Sent:
        """Does each job from bytes to bytes."""

        local: Executor

        def run(self, given: Sequence[MeasureJob], on_result: Callable[[MeasureJob, Result], None], stop: Stop) -> None:
            jobs.extend(given)
            by_number = {one.number: one for one in given}
            sent = pickle.loads(pickle.dumps(list(given)))
            self.local.run(sent, lambda one, result: on_result(by_number[one.number], result), stop)

    monkeypatch.setattr(rung, "LocalExecutor", lambda *arguments: Sent(LocalExecutor(*arguments)))
    climb(load_task(handbook_task(tmp_path / "task")), tmp_path / "run")
    shown = {one.system.name for one in jobs if one.passages}
    assert {"zero-shot+right-passage", "few-shot-3+right-passage"} <= shown


def test_a_climb_decides_the_same_whoever_is_quicker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quality = [{"right": 0.5}, {"right": 0.95, "min_shots": 3}]
    plain = climb(load_task(scripted_task(tmp_path / "plain", quality=quality)), tmp_path / "plain" / "run")
    made: list[Backwards] = []

    def backwards(*arguments: Any) -> Backwards:
        made.append(Backwards(LocalExecutor(*arguments)))
        return made[-1]

    monkeypatch.setattr(rung, "LocalExecutor", backwards)
    other = climb(load_task(scripted_task(tmp_path / "other", quality=quality)), tmp_path / "other" / "run")
    assert any(one.order != sorted(one.order) for one in made)
    assert len(calls(tmp_path / "other")) > len(calls(tmp_path / "plain"))  # of the test, whose last batches came first
    kept, found = comparable(plain.decision.as_json()), comparable(other.decision.as_json())
    for decision in (kept, found):
        for part in decision["rungs"]:
            part.pop("cost")
    assert found == kept


@pytest.mark.slow
def test_a_climb_measures_by_the_executor_that_it_is_given(tmp_path: Path) -> None:
    quality = [{"right": 0.5}, {"right": 0.95, "min_shots": 3}]

    class Elsewhere:
        """Models of its own, with their own cache, as another machine would have."""

        def __init__(self, path: Path) -> None:
            task = prepare(load_task(path))
            cache = ResponseCache(tmp_path / "elsewhere" / "responses.sqlite")
            self.models, self.jobs = open_models(task.task, cache), list[MeasureJob]()
            answerer = self.models.answerer
            self.local = LocalExecutor(answerer, task.scorer, task.task.output, SilentProgress(), lambda usd: None)

        def run(self, jobs: Sequence[MeasureJob], on_result: Callable[[MeasureJob, Result], None], stop: Stop) -> None:
            self.jobs += jobs
            self.local.run(jobs, on_result, stop)

    (tmp_path / "elsewhere").mkdir()
    here = scripted_task(tmp_path / "here", quality=quality)
    path = scripted_task(tmp_path / "there", quality=quality)
    elsewhere = Elsewhere(path)
    whole = climb(load_task(here), tmp_path / "here" / "run", gate="none")
    found = climb(
        load_task(path), tmp_path / "there" / "run", gate="none", workers=ClimbWorkers(lambda bench: elsewhere)
    )
    assert len(elsewhere.jobs) > 5
    assert comparable(found.decision.as_json()) == comparable(whole.decision.as_json())
