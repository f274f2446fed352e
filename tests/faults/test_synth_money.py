"""Synthetic rows cost no more than the user allows: paid calls start at a yes, all of them are counted, and limits hold."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from climb_support import rows
from lastresort.app.synth import SynthRequest, synth_data
from lastresort.cli.border import guarded
from lastresort.cli.main import app
from lastresort.errors import RESUME, InfrastructureError, StopRequestedError
from lastresort.models.protocol import OnAnswer, Prompt, estimated_prompt_tokens, estimated_tokens
from lastresort.records.responses import ResponseCache
from lastresort.report.words.synthetic import SyntheticRows
from lastresort.types import Answer, Decoding, SilentProgress
from synth_support import Killed, Teacher, fresh_rows, routing, synth


def test_money_is_counted_in_every_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What failed calls may have cost, and paid answers of batches that were never finished, since each was planned otherwise."""

    class Lossy(Teacher):
        def generate(self, *_: Any, **__: Any) -> Any:
            lose(0.4)
            raise InfrastructureError("the endpoint is down", remedy="Start it.", resume=RESUME)

    def opened(teacher: Teacher) -> Callable[..., Teacher]:
        def open_model(*_: Any, on_lost: Callable[[float], None], **__: Any) -> Teacher:
            nonlocal lose
            lose = on_lost
            return teacher

        return open_model

    def session(teacher: Teacher, **options: Any) -> SyntheticRows:
        monkeypatch.setattr("lastresort.models.open.open_model", opened(teacher))
        return synth_data(SynthRequest(path, runs=tmp_path / "runs", **options), SilentProgress())

    lose: Callable[[float], None] = lambda usd: None  # noqa: E731
    path = routing(tmp_path, {"use": {"prompt_price": 1, "output_price": 5}})
    for _ in range(3):
        with pytest.raises(InfrastructureError):
            session(Lossy(fresh_rows()), n=12, usd=1.3)
    teacher = Teacher(fresh_rows(), usd=0.01)
    stopped = session(teacher, n=12, usd=1.2)
    assert (stopped.ended, stopped.tally.usd, teacher.prompts) == ("usd", pytest.approx(1.2), [])
    teachers = [Teacher(fresh_rows(), usd=0.01) for _ in range(7)]
    for teacher, n in zip(teachers[:6], (60, 61, 59, 58, 57, 30), strict=True):
        teacher.fails_at = 7
        with pytest.raises(Killed):
            session(teacher, n=n)
    found = session(teachers[6], n=20)
    assert found.tally.calls == sum(len(teacher.prompts) for teacher in teachers)
    assert found.tally.usd == pytest.approx(1.2 + 0.01 * found.tally.calls)


def test_an_answer_that_is_paid_twice_counts_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process ends after an answer came and before the cache holds it."""
    path, teacher, stored = routing(tmp_path), Teacher(fresh_rows(), usd=0.01), iter(range(100))
    put_many = ResponseCache.put_many

    def killed(cache: ResponseCache, bodies: Any) -> None:
        if next(stored) == 9:
            raise Killed
        put_many(cache, bodies)

    monkeypatch.setattr(ResponseCache, "put_many", killed)
    with pytest.raises(Killed):
        synth(monkeypatch, path, teacher, n=20)
    assert len(teacher.prompts) == 10
    found = synth(monkeypatch, path, teacher, n=20)
    assert found.tally.calls == len(teacher.prompts)
    assert found.tally.usd == pytest.approx(0.01 * len(teacher.prompts))


def test_answers_of_another_synthesis_cost_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They count as calls, so that both files are planned alike, and not against a limit of money."""
    path = routing(tmp_path, {"use": {"prompt_price": 1, "output_price": 5}})
    first, second = Teacher(fresh_rows(), usd=0.05), Teacher(fresh_rows(), usd=0.05)
    made = synth(monkeypatch, path, first, n=12)
    again = synth(monkeypatch, path, second, n=12, out=tmp_path / "again.jsonl")
    assert (again.made, again.usd, again.tally.calls, second.prompts) == (12, 0.0, made.tally.calls, [])
    more = synth(monkeypatch, path, second, n=14, usd=5.0, out=tmp_path / "again.jsonl")
    assert (more.usd, bool(second.prompts)) == (pytest.approx(0.05 * len(second.prompts)), True)


def test_calls_of_a_batch_that_was_planned_otherwise_are_named_as_what_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, teacher, later = routing(tmp_path), Teacher(fresh_rows()), Teacher(fresh_rows())
    teacher.fails_at = 6
    with pytest.raises(Killed):
        synth(monkeypatch, path, teacher, n=30, agreement=0)
    found = synth(monkeypatch, path, later, n=4, agreement=0)
    sent = len(teacher.prompts) + len(later.prompts)
    assert (found.requests, found.tally.checks) == (sent, 0)
    assert found.lines()[1].startswith(f"{sent} requests and 0 agreement checks by ")


class Priced(Teacher):
    """Its answers cost 10 USD per million tokens, as estimated."""

    def generate(
        self, prompts: Sequence[Prompt], decoding: Decoding, on_answer: OnAnswer | None = None
    ) -> list[Answer]:
        answers = []
        for prompt in prompts:
            self.usd = 0.0
            (answer,) = super().generate([prompt], decoding)
            usd = 1e-5 * (estimated_prompt_tokens(prompt) + estimated_tokens(answer.text))
            answers.append(Answer(answer.text, 100, 20, "stop", usd=usd, paid=usd))
            if on_answer is not None:
                on_answer(len(answers) - 1, answers[-1])
        return answers


@pytest.mark.slow
@pytest.mark.parametrize(("usd", "some"), [(0.2, False), (0.3, False), (2.0, True)])
def test_prompts_for_answers_that_are_longer_than_the_request_stay_within_the_limit(
    usd: float, some: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Few rows are short, so that answers are asked for with long examples."""
    path = routing(tmp_path, {"use": {"prompt_price": 10, "output_price": 10}})
    many = [
        row if place % 8 == 0 else {**row, "input": f"{row['input']} {'and so on ' * 700}"}
        for place, row in enumerate(rows())
    ]
    (tmp_path / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in many), encoding="utf-8")
    teacher = Priced(fresh_rows())
    found = synth(monkeypatch, path, teacher, n=40, usd=usd, kinds=("paraphrase",), balance="any")
    assert found.ended == "usd"
    assert found.tally.usd <= usd
    assert bool(teacher.prompts) is bool(found.made) is some


def test_an_answer_of_any_length_is_judged_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scorer that compares words takes a time that grows with their number times that of the right answer."""
    path = routing(tmp_path, {"score": "rouge_l", "output": {}})
    teacher = Teacher(fresh_rows(), answer=lambda text: "billing " * 2**15 + "x" * 2**20)
    monkeypatch.setattr("lastresort.app.synth_recipe._agrees", lambda prepared: judged)
    lengths = []

    def judged(answer: str, example: Any) -> bool:
        lengths.append(len(answer))
        return True

    found = synth(monkeypatch, path, teacher, n=6, calls=60)
    assert (found.made, found.dropped["agreement"] > 0, max(lengths) < 100) == (0, True, True)


def test_paid_calls_are_asked_about_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, teacher, asked, answers = routing(tmp_path), Teacher(fresh_rows()), [], iter([False, None, False])
    monkeypatch.setattr("lastresort.models.open.open_model", lambda *_, **__: teacher)
    request = SynthRequest(path, "openai:big", n=12, prompt_price=1.0, output_price=4.0, runs=tmp_path / "runs")

    def no(question: str, stop: Any) -> bool | None:
        asked.append(question)
        return next(answers)

    for _ in range(2):
        with pytest.raises(StopRequestedError, match="nobody agreed to the paid calls"):
            synth_data(request, SilentProgress(), go_on=no)
    assert not teacher.prompts
    assert asked == 2 * [
        "This makes 12 rows (paraphrase, answer, expansion and harder) with openai:big: about 10 requests and 16 agreement checks, "
        "for about $0.03 if each reply has the maximum length, without thinking. Start it?"
    ]
    assert synth_data(request, SilentProgress(), go_on=lambda *_: True).made == 12
    assert synth_data(request, SilentProgress(), go_on=no).made == 12, "nothing is left to pay for"


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["lastresort", "data", "synth", *arguments])
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    return guarded(app)


def test_the_command_pays_nothing_where_nobody_can_say_yes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path, teacher = routing(tmp_path), Teacher(fresh_rows())
    monkeypatch.setattr("lastresort.models.open.open_model", lambda *_, **__: teacher)
    monkeypatch.chdir(tmp_path)
    paid = (str(path), "--teacher", "openai:big", "--n", "6")
    assert run(monkeypatch, *paid) != 0
    error = capsys.readouterr().err
    assert "nobody agreed to the paid calls" in error
    assert "Answer y, or add --yes. Nothing was spent." in error
    assert not teacher.prompts
    assert run(monkeypatch, *paid, "--yes") == 0
    assert teacher.prompts
