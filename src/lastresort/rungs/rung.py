"""A rung, and the workbench it gets: the task, train and dev. The test set stays with the climb.

No rung calls the gate: `climb.loop` does, once a tuned system would win, with the `Review` that `app.climb` makes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Protocol, runtime_checkable

from lastresort.data.preferences import PreferenceRow
from lastresort.data.split import groups_of
from lastresort.errors import StopRequestedError
from lastresort.evals.evidence.corrected import Correction, errors_left
from lastresort.evals.evidence.selection import chance_of_met
from lastresort.evals.judged import correction_in
from lastresort.evals.measure import (
    Executor,
    JobFailure,
    JobPlace,
    LocalExecutor,
    MeasureJob,
    Result,
    mean_score,
    run_in_order,
)
from lastresort.evals.scorers import Scorer
from lastresort.hardware.plan.setup import Setup
from lastresort.ladder import RUNGS, trains
from lastresort.models.protocol import Pay
from lastresort.records.decision_parts import GivenPassages, PromptFacts
from lastresort.records.events.run import ErrorShared
from lastresort.records.events.search import CandidateProposed, RungGoneOn, RungTested, SystemKept
from lastresort.records.measurement import stretch_of_dev
from lastresort.records.record import ItemScore, Measurement, Record
from lastresort.records.rungs import SearchFinding, Skip
from lastresort.rungs.forecast import Forecast, Workload
from lastresort.rungs.notes import RungNote
from lastresort.rungs.open_models import OpenModels
from lastresort.spec.task import Task
from lastresort.stop import NEVER, GoOn, Stop, StopRequest
from lastresort.systems.answerer import Answerer
from lastresort.systems.compose import Passages
from lastresort.systems.files import FILE, artefact_sha256, candidate_folder, save_system
from lastresort.systems.system import System
from lastresort.train.loop.spawn import TrainingProcesses
from lastresort.types import At, Example, GoOnAbout, Progress, Selection, nowhere


@dataclass(frozen=True, slots=True)
class Candidate:
    """A system with its score on dev. n: items answered, fewer than dev if it was dropped early or its race ended."""

    system: System
    score: float
    n: int
    prompt_tokens: float


@dataclass(frozen=True, slots=True)
class Search:
    """What a rung's search on dev found. findings: how it searched."""

    candidates: tuple[Candidate, ...]
    chosen: System
    why: Selection
    findings: tuple[SearchFinding, ...]
    bias_corrected: float | None = None


@dataclass(frozen=True, slots=True)
class GivenUp:
    """A rung that cannot reach the bar, as dev has shown: it is skipped."""

    reason: Skip


_GO_ON_LATER = "Go on with --resume, or stop before this rung with --until."
NEXT_TO_1 = 1 - 1e-9  # a bar that no score passes


def rungs_met(record: Record, task: Task) -> frozenset[str]:
    """The rungs whose own system was tested and met the bar."""
    tests = {rung: record.last(RungTested, rung) for rung in task.ladder}
    return frozenset(rung for rung, test in tests.items() if test and test.judgement.outcome == "MET")


@dataclass(frozen=True)
class Workbench:
    """What the climb gives to a rung.

    folder: of the run; candidates and adapters are below it. stop: checked between batches and steps. pay: called with every USD
    that is paid. hours_left: of the time limit, None without one. preferences: of the task, without those that dev or test hold;
    None if it names none. check_room: raises CandidateError if a dev or test item leaves no room for its answer in a system's
    prompt; that is all a rung learns about the test set. shared: folder that the runs share, None if there is none. executor: runs
    the measuring jobs, None for this process. at: called with the rung, candidate and split at work, for `lastresort watch`.
    test_units: how many items, or groups of items, the test set has; 0 where it is not known. go_on: asks the user, None where
    nobody is there. in_words: (rung, note) -> its line. to_resume: what to do to go on, an imperative without its end.
    train_laps: trains at workers, None where this process does. share: the part of its machine that this process has, by which the
    seconds of its trainings count. at_worker: its trainings leave the number of threads to whoever goes on from their checkpoints.
    processes: that train together, where the task asks for several; whoever makes the workbench closes them.
    """

    task: Task
    train: tuple[Example, ...]
    dev: tuple[Example, ...]
    scorer: Scorer
    record: Record
    folder: Path
    models: OpenModels
    progress: Progress
    max_new_tokens: int
    in_words: Callable[[str, RungNote], str]
    stop: Stop = NEVER
    pay: Pay = lambda usd: None
    hours_left: Callable[[], float | None] = lambda: None
    preferences: tuple[PreferenceRow, ...] | None = None
    check_room: Callable[[System], None] = lambda system: None
    shared: Path | None = None
    executor: Executor | None = None
    at: At = nowhere
    to_resume: str = "Go on with --resume"
    test_units: int = 0
    go_on: GoOn | None = None
    train_laps: TrainLaps | None = None
    share: float = 1.0
    at_worker: bool = False
    processes: TrainingProcesses = field(default_factory=TrainingProcesses)

    def say(self, rung: str, note: RungNote) -> None:
        self.progress.say(self.in_words(rung, note))

    def alpha_of_rung(self, rung: str) -> float:
        """The error of a false MET at which the rung's system is tested."""
        return self._error_shares().alpha_of_rung(rung, rungs_met(self.record, self.task), 1 - self.task.confidence)

    def alpha_of_repair(self, rung: str) -> float:
        """The error of a false MET at which a repaired system of the rung is tested."""
        return self._error_shares().alpha_of_repair(rung, rungs_met(self.record, self.task), 1 - self.task.confidence)

    def _error_shares(self) -> ErrorShared:
        error_shares = self.record.last(ErrorShared)
        assert error_shares is not None, "shared before anything is measured"
        return error_shares

    def ask_to_go_on(self, rung: str, about: GoOnAbout, question: str) -> None:
        """Ask once a run, where somebody is there to ask. Without an answer in time it goes on. Raises StopRequestedError if the
        answer is no, and as `stop` requests while nobody has answered.
        """
        if self.go_on is None:
            return
        if any(asked.about == about for asked in self.record.all(RungGoneOn, rung)):
            return
        answer = self.go_on(question, self.stop)
        if answer is False:
            raise StopRequestedError("the answer was no", where=f"rung {rung}", resume=_GO_ON_LATER)
        self.record.append(RungGoneOn(rung=rung, about=about, answered=answer is not None))

    def alpha_of_items(self, rung: str) -> float:
        """The part of `alpha_of_rung` that the test items have, after that of people's labels."""
        alpha = self.alpha_of_rung(rung)
        return alpha if self.correction is None else errors_left(alpha, 0.0).alpha

    @property
    def correction(self) -> Correction | None:
        """How people's labels correct the scores; None where they are taken as they are."""
        return correction_in(self.record, self.task.bar, self.task.confidence)

    @property
    def met_above(self) -> float:
        """The score, as the scorer gives it, above which a system is shown to meet the bar."""
        correction = self.correction
        return self.task.bar if correction is None else min(correction.met_above, NEXT_TO_1)

    @property
    def missed_below(self) -> float:
        """The score, as the scorer gives it, below which a system is shown to miss the bar."""
        correction = self.correction
        return self.task.bar if correction is None else max(correction.not_met_below, 1 - NEXT_TO_1)

    @property
    def judged_miss(self) -> float | None:
        """`missed_below` where labels correct a judge, to be named with the bar; None where scores are taken as they are."""
        return None if self.correction is None else self.missed_below

    @property
    def judged_bar(self) -> float:
        """The score, as the scorer gives it, of a system whose true score is the bar, as estimated; without estimate, met_above."""
        correction = self.correction
        if correction is None or correction.estimate is None:
            return self.met_above
        return min(1.0, max(0.0, correction.estimate.judged(self.task.bar)))

    def clock(self) -> float:
        """Seconds of the machine, from any origin."""
        return self.share * time.monotonic()

    def train_ahead(self, laps: Sequence[RaceLap]) -> None:
        """Train these laps at workers, where there are any: the record then holds them. One alone would gain nothing."""
        if self.train_laps is not None and len(laps) > 1:
            self.train_laps(self, laps)

    def answerer(self, system: System, passages: Passages | None = None) -> Answerer:
        return self.models.answerer(system, passages)

    def keep(self, rung: str, system: System) -> None:
        """Save a candidate below the run, pinned to the model it is measured with, and note its hash. A resumed climb finds it
        there.
        """
        folder = self.candidate_folder(rung, system.name)
        if not (folder / FILE).is_file():
            save_system(self.models.pinned(system), folder)
        if self.record.last(SystemKept, f"{rung}/{system.name}") is None:
            self.record.append(SystemKept(rung=rung, name=system.name, sha256=artefact_sha256(folder)))

    def candidate_folder(self, rung: str, name: str) -> Path:
        return candidate_folder(self.folder, rung, name)

    def dev_scores(self, rung: str, system: System, *, given: GivenPassages | None = None) -> list[ItemScore]:
        """Scores of all dev items, measured once a run. given: as in `dev_results`. Raises CandidateError if the model refuses."""
        result = self.dev_results(rung, [system], 0, len(self.dev), given=given)[system.name]
        if isinstance(result, JobFailure):
            raise result.error()
        return result

    def dev_results(
        self,
        rung: str,
        systems: Sequence[System],
        start: int,
        stop: int,
        *,
        staged: bool = False,
        passages: Passages | None = None,
        given: GivenPassages | None = None,
    ) -> dict[str, list[ItemScore] | JobFailure]:
        """Scores of each system, by its name, on dev items [start, stop): from the record, else measured as jobs.

        staged: each begins a stage of progress. passages: shown in place of what the systems' retriever finds; given: which these
        are. Each measurement is recorded as soon as it and those before it are done.
        """
        split, label = stretch_of_dev(start, stop), f"dev items {start + 1}-{stop}"
        results: dict[str, list[ItemScore] | JobFailure] = {}
        jobs: list[MeasureJob] = []
        for number, system in enumerate(systems):
            self._propose(rung, system, given)
            stage = f"{rung}: {system.name}, {label}" if staged else ""
            measurement = self.record.measurement(rung, system.name, split)
            if measurement is None:
                place = JobPlace(rung, system.name, "dev")
                jobs.append(
                    MeasureJob(number, system, self.dev[start:stop], label=stage, place=place, passages=passages)
                )
                continue
            if stage:
                self.progress.stage(stage, stop - start)
            self.at(rung, system.name, "dev")
            self.progress.advance(stop - start)
            results[system.name] = list(measurement.items)

        def use(job: MeasureJob, result: Result) -> None:
            if isinstance(result, JobFailure):
                results[job.system.name] = result
                return
            self.record.add_measurement(Measurement(rung, job.system.name, split, stop - start, result.items))
            results[job.system.name] = list(result.items)

        request = self.run_jobs(jobs, use, self.stop)
        if request is not None:
            raise request.error()
        return results

    def _propose(self, rung: str, system: System, given: GivenPassages | None) -> None:
        """Note once a run what a candidate is."""
        if self.record.last(CandidateProposed, f"{rung}/{system.name}") is not None:
            return
        tuned = system.adapter is not None or bool(system.tuned_from)
        self.record.append(
            CandidateProposed(
                rung=rung,
                name=system.name,
                weights="trained" if tuned else "base" if trains(rung) else "model",
                prompt=prompt_facts(system, given),
            )
        )

    def test_scores(self, system: System, examples: Sequence[Example], label: str) -> list[ItemScore]:
        """Scores of test items, measured as one job; what the model refuses is wrong. label: of its stage of progress."""
        return self.scores_of(MeasureJob(0, system, tuple(examples), refused_is_wrong=True, label=label))

    def scores_of(self, job: MeasureJob) -> list[ItemScore]:
        """Of all its examples. Raises CandidateError where the model cannot be measured so, StoppedError where it stopped."""
        items: list[ItemScore] = []

        def use(job: MeasureJob, result: Result) -> None:
            if isinstance(result, JobFailure):
                raise result.error()
            items.extend(result.items)

        request = self.run_jobs([job], use, self.stop)
        if request is not None:
            raise request.error()
        return items

    def run_jobs(
        self, jobs: Sequence[MeasureJob], use: Callable[[MeasureJob, Result], None], stop: Stop
    ) -> StopRequest | None:
        """Run jobs and use their results in the order of the jobs. Returns the request that stopped some of them, else None."""
        return run_in_order(self.executor or self.local_executor(), jobs, use, stop)

    def local_executor(self) -> LocalExecutor:
        """Measures in this process."""
        return LocalExecutor(self.answerer, self.scorer, self.task.output, self.progress, self.pay, self.at)

    def chance_of_met(self, rung: str, items: Sequence[ItemScore]) -> float:
        """How likely the rung's test says MET of a system with these scores on the first items of dev, as far as they can tell."""
        groups = self.dev_groups()
        return chance_of_met(
            [item.score for item in items],
            self.test_units,
            bar=self.met_above,
            alpha=self.alpha_of_items(rung),
            binary=self.scorer.binary,
            seed=self.task.split.seed,
            groups=None if groups is None else groups[: len(items)],
        )

    def dev_groups(self) -> list[str] | None:
        """The group of each dev item, None if rows have no groups."""
        return groups_of(self.dev)


MakeExecutor = Callable[[Workbench], Executor]


class RaceLap(Protocol):
    """A learning rate to be trained up to a step. It depends on no other lap of its round, and can be sent to a worker."""

    @property
    def rung(self) -> str: ...

    @property
    def run(self) -> str:
        """The training: the name of its curve, its events and its checkpoint."""

    def train(self, bench: Workbench) -> Path | None:
        """Train, or go on where it was cut, as the rung itself would. Returns the folder of the model that is kept, None without
        one. Raises what training raises; a rate that diverges is recorded.
        """


TrainLaps = Callable[[Workbench, Sequence[RaceLap]], None]


def prompt_facts(system: System, given: GivenPassages | None = None) -> PromptFacts:
    """What a record says of a system's prompt. given: passages in place of those of its retriever."""
    prompt, retriever = system.prompt, system.retriever
    return PromptFacts(
        sections=prompt.layout == "sections",
        shots=prompt.k if prompt.shots else 0,
        nearest=bool(prompt.shots) and prompt.selection == "nearest",
        reasoning=prompt.reasoning,
        rewritten=prompt.written_by == "model",
        constrained=system.decoding.grammar is not None,
        passages=None if retriever is None or given is not None else retriever.k,
        given=given,
    )


def candidate_of(system: System, items: Sequence[ItemScore]) -> Candidate:
    """A candidate with its score on these dev items."""
    tokens = sum(item.prompt_tokens for item in items) / len(items) if items else 0.0
    return Candidate(system, mean_score(items), len(items), tokens)


@dataclass(frozen=True, slots=True)
class RungSetup:
    """A training as the memory plan sees it. longest_tokens: of what stays in one pass. items: per optimizer step."""

    setup: Setup
    longest_tokens: int
    items: int


class Rung(Protocol):
    """An approach on the ladder."""

    name: str

    def skip_reason(self, task: Task, train: Sequence[Example]) -> Skip | None:
        """Why this rung does not apply to the task; None where it applies. Looks at facts only."""

    def forecast(self, task: Task, work: Workload) -> Forecast:
        """What the rung would cost, without a GPU or the network."""

    def search(self, bench: Workbench) -> Search | GivenUp:
        """Build candidates, measure them on dev and choose one; or show on dev that none can reach the bar."""


@runtime_checkable
class ForecastsCalls(Rung, Protocol):
    """A rung that can also forecast one call of the system that it would make."""

    def forecast_call(self, task: Task, work: Workload) -> Forecast:
        """Cost of one answer of the examples' length, alone, so that nothing is shared with other prompts."""


@runtime_checkable
class PlansMemory(Rung, Protocol):
    """A rung that trains, and can forecast the memory of its training."""

    def planned_setup(self, task: Task, work: Workload, row_tokens: int) -> RungSetup:
        """row_tokens: of the longest row of train."""


def find_rung(name: str) -> Rung:
    """The rung of a name in `RUNGS`."""
    module, attribute = RUNGS[name].path.split(":")
    rung: Rung = getattr(import_module(module), attribute)()
    return rung
