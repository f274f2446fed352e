"""Synthetic rows whose teacher answers at workers: the file is that of one process, whoever is quicker and whoever is lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import lastresort as lr
from lastresort.app.spread import lines_to
from lastresort.cli.border import guarded
from lastresort.cli.main import app
from lastresort.errors import InfrastructureError, InputError, StopRequestedError, TooLongError
from lastresort.models.protocol import OnAnswer, Prompt
from lastresort.report.words.progress import no_workers_line
from lastresort.report.words.synthetic import SyntheticRows
from lastresort.scale.ahead import AnsweredAhead
from lastresort.scale.crew import AnyJob, Crew, JobKind
from lastresort.scale.work import BatchJob
from lastresort.stop import StopRequest
from lastresort.synthesis.prompts import SYSTEM
from lastresort.types import Answer, Decoding, SilentProgress
from scale_support import WorkersHere
from synth_support import Teacher, fresh_rows, routing, synth, team_of
from tuning_support import Scissors

N = 24


class Local(Teacher):
    """Whose replies follow from the request and the seed, as those of weights do. unsure_of: every which answer. asked: keys of all
    that it was asked.
    """

    batch_size = 2

    def __init__(self, *, batch_matters: bool = False, too_long: int | None = None, unsure_of: int = 5) -> None:
        super().__init__(self._reply, answer=self._answer)
        self.batch_matters, self._too_long, self._unsure_of = batch_matters, too_long, unsure_of
        self.asked = Counter[str]()
        self._seed = 0

    def generate(
        self, prompts: Sequence[Prompt], decoding: Decoding, on_answer: OnAnswer | None = None
    ) -> list[Answer]:
        self._seed = decoding.seed
        if decoding.seed == self._too_long and prompts[0][0].content == SYSTEM:
            raise TooLongError("found too many tokens", where="prompt", expected="fewer")
        self.asked.update(f"{decoding.seed}:{prompt[-1].content}" for prompt in prompts)
        return super().generate(prompts, decoding, on_answer)

    def _reply(self, request: str, _: int) -> str:
        return fresh_rows(3 * ((sum(map(ord, request)) + 7919 * self._seed) % 997))(request, 0)

    def _answer(self, text: str) -> str:
        return "nothing" if (sum(map(ord, text)) + self._seed) % self._unsure_of == 0 else team_of(text)


Spread = Callable[[WorkersHere], None]


@pytest.fixture
def spread(monkeypatch: pytest.MonkeyPatch) -> Spread:
    """Has these workers answer where --ray is given."""

    def by(workers: WorkersHere) -> None:
        def on_ray(
            _: object, progress: Any, models: Sequence[object], *, kind: JobKind, connect: object
        ) -> AbstractContextManager[Crew]:
            assert len(models) == 1
            return nullcontext(Crew(workers, lines_to(progress.say), kind=kind))

        monkeypatch.setattr("lastresort.app.spread.crew_on_ray", on_ray)

    return by


def rows(patch: pytest.MonkeyPatch, folder: Path, teacher: Teacher, **options: Any) -> SyntheticRows:
    """Of a teacher with weights."""
    folder.mkdir(exist_ok=True)
    path = folder / "task.yaml"
    return synth(
        patch,
        path if path.exists() else routing(folder),
        teacher,
        **{"teacher_name": "embedded", "n": N, "calls": 500, **options},
    )


def written(found: SyntheticRows) -> tuple[bytes, list[str]]:
    """The file of rows, and the batches of the journal."""
    lines = found.journal.read_text("utf-8").splitlines()
    return found.path.read_bytes(), [line for line in lines if line.startswith('{"number"')]


@pytest.mark.sampled(2, each="agreement")
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(("agreement", "batch_matters"), [(1, False), (3, True)])
def test_rows_are_those_of_one_process(
    seed: int, agreement: int, batch_matters: bool, tmp_path: Path, spread: Spread, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of the workers is lost on the way. What it had answered is asked again, and nothing else is asked twice."""
    here, there = Local(batch_matters=batch_matters), Local(batch_matters=batch_matters)
    alone = rows(monkeypatch, tmp_path / "alone", here, agreement=agreement)
    lost = iter([False, False, True])
    workers = WorkersHere(seed, room=lambda: 3, lost=lambda worker, job: next(lost, False))
    spread(workers)
    found = rows(monkeypatch, tmp_path / "ray", there, agreement=agreement, ray="local")
    assert written(found) == written(alone)
    assert (found.made, found.ended) == (N, "rows")
    assert (found.tally.calls, found.tally.checks) == (alone.tally.calls, alone.tally.checks)
    assert set(there.asked) == set(here.asked)
    again = workers.begun[2]
    assert isinstance(again, BatchJob)
    assert there.asked - here.asked == Counter(f"{again.decoding.seed}:{one[-1].content}" for one in again.prompts)
    assert workers.most_at_once == 3


def test_calls_that_were_not_announced_are_answered_all_the_same(
    tmp_path: Path, spread: Spread, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = rows(monkeypatch, tmp_path / "alone", Local())
    spread(workers := WorkersHere())
    monkeypatch.setattr(AnsweredAhead, "expect", lambda *_: None)
    assert written(rows(monkeypatch, tmp_path / "ray", Local(), ray="local")) == written(alone)
    assert workers.most_at_once == 1


def test_replies_and_checks_are_under_way_at_once(
    tmp_path: Path, spread: Spread, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows are checked before the last reply of the batch is there."""
    workers = WorkersHere(room=lambda: 2)
    spread(workers)
    rows(monkeypatch, tmp_path, Local(), ray="local")
    first = ["reply" if job.prompts[0][0].content == SYSTEM else "check" for job in batches(workers)][:12]
    assert first.index("check") < 8


def batches(workers: WorkersHere) -> list[BatchJob]:
    return [job for job in workers.begun if isinstance(job, BatchJob)]


@dataclass
class After:
    """Asks to stop once the teacher has had so many calls."""

    teacher: Teacher
    calls: int

    def requested(self) -> StopRequest | None:
        return StopRequest("signal", "a stop was requested") if len(self.teacher.prompts) >= self.calls else None


@pytest.mark.sampled(3, each="then")
@pytest.mark.parametrize("then", [None, "local"])
@pytest.mark.parametrize("calls", [3, 9, 20])
def test_what_was_stopped_goes_on_with_ray_or_without(
    calls: int, then: str | None, tmp_path: Path, spread: Spread, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = Local(), Local()
    alone = rows(monkeypatch, tmp_path / "alone", here)
    spread(WorkersHere(1))
    with pytest.raises(StopRequestedError, match="Give the same command again"):
        rows(monkeypatch, tmp_path / "ray", there, ray="local", stop=After(there, calls))
    assert len(there.prompts) < len(here.prompts)
    spread(WorkersHere(2))
    found = rows(monkeypatch, tmp_path / "ray", there, ray=then)
    assert written(found) == written(alone)
    assert there.asked == here.asked, "nothing is answered twice"
    assert found.tally.calls == alone.tally.calls


@pytest.mark.sampled(3, each="ray")
@pytest.mark.parametrize("ray", [None, "local"])
@pytest.mark.parametrize("calls", [5, 31, 40])
def test_what_was_stopped_close_to_the_limit_of_calls_goes_on_as_if_it_was_not(
    calls: int, ray: str | None, tmp_path: Path, spread: Spread, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The batch that was interrupted is counted once."""
    here, there = Local(unsure_of=2), Local(unsure_of=2)
    alone = rows(monkeypatch, tmp_path / "alone", here, calls=60)
    assert alone.ended == "calls"
    with pytest.raises(StopRequestedError):
        rows(monkeypatch, tmp_path / "stopped", there, calls=60, stop=After(there, calls))
    spread(WorkersHere(1))
    found = rows(monkeypatch, tmp_path / "stopped", there, calls=60, ray=ray)
    assert written(found) == written(alone)
    assert there.asked == here.asked
    assert found.tally.calls == alone.tally.calls <= 60


def test_calls_of_another_teacher_count_towards_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its batch is not the one that follows, also where that is interrupted, too."""
    first, second = Local(), Teacher(fresh_rows())
    second.fingerprint = "another"
    with pytest.raises(StopRequestedError):
        rows(monkeypatch, tmp_path, first, calls=40, stop=After(first, 20))
    with pytest.raises(StopRequestedError):
        rows(monkeypatch, tmp_path, second, calls=40, stop=After(second, 9))
    found = rows(monkeypatch, tmp_path, second, calls=40)
    assert found.ended == "calls"
    assert found.tally.calls <= 40


def test_a_run_begun_without_ray_goes_on_with_it(
    tmp_path: Path, spread: Spread, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = Local(), Local()
    alone = rows(monkeypatch, tmp_path / "alone", here)
    with pytest.raises(StopRequestedError):
        rows(monkeypatch, tmp_path / "ray", there, stop=After(there, 5))
    spread(WorkersHere())
    found = rows(monkeypatch, tmp_path / "ray", there, ray="local")
    assert written(found) == written(alone)
    assert there.asked == here.asked
    spread(unusable := WorkersHere())
    assert rows(monkeypatch, tmp_path / "ray", there, ray="local").made == N
    assert not unusable.sent, "all rows are made"


def test_a_prompt_that_is_too_long_ends_as_in_one_process(
    tmp_path: Path, spread: Spread, monkeypatch: pytest.MonkeyPatch
) -> None:
    said, kept = [], []
    spread(WorkersHere())
    for ray in (None, "local"):
        folder = tmp_path / str(ray)
        with pytest.raises(TooLongError, match="Leave out expansion and documents") as caught:
            rows(monkeypatch, folder, Local(too_long=10), ray=ray)
        said.append(str(caught.value))
        kept.append((folder / "routing-synthetic.jsonl").read_bytes())
    assert said[0] == said[1]
    assert kept[0] == kept[1] != b""


def test_a_job_with_which_workers_are_lost_ends_the_command_and_keeps_the_others(
    tmp_path: Path, spread: Spread, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(_: int, job: AnyJob) -> bool:
        return isinstance(job, BatchJob) and job.decoding.seed == 9

    here, there = Local(), Local()
    alone = rows(monkeypatch, tmp_path / "alone", here)
    spread(WorkersHere(lost=lost))
    with pytest.raises(InfrastructureError, match=r"3 workers were lost .*Give the same command again") as caught:
        rows(monkeypatch, tmp_path / "ray", there, ray="local")
    assert "--resume" not in str(caught.value)
    asked = set(there.asked)
    found = rows(monkeypatch, tmp_path / "ray", again := Local())
    assert written(found) == written(alone)
    assert all(key.startswith("9:") for key in asked & set(again.asked))


def test_rows_made_with_other_settings_are_refused_before_workers_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows(monkeypatch, tmp_path, Local())
    monkeypatch.setattr("lastresort.app.spread.ray_cluster", lambda _: pytest.fail("a cluster started"))
    with pytest.raises(InputError, match=r"made with other settings \(--seed\)"):
        rows(monkeypatch, tmp_path, Local(), n=2 * N, seed=1, ray="local")


def test_an_endpoint_needs_no_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr("lastresort.app.spread.ray_cluster", refuse)
    progress = Scissors()
    found = rows(
        monkeypatch, tmp_path, Teacher(fresh_rows()), teacher_name="openai:big", ray="local", progress=progress
    )
    assert found.made == N
    assert progress.said.count(no_workers_line("for the rows")) == 1


def test_an_address_that_is_none_is_refused_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    task = routing(tmp_path)
    with pytest.raises(InputError, match='--ray: found "nowhere"'):
        lr.synth_data(task, ray="nowhere", progress=SilentProgress())
    monkeypatch.setattr("sys.argv", ["lastresort", "data", "synth", str(task), "--ray", "nowhere", "--dry-run"])
    assert guarded(app) == InputError.exit_code
    assert '--ray: found "nowhere"' in capsys.readouterr().err
