"""A teacher for tests of synthetic rows, which writes rows by a function and remembers what it was shown."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import count, islice
from pathlib import Path
from typing import Any

import pytest

from climb_support import STATES, TEAMS, THINGS, scripted_task
from fake_model import FakeModel
from lastresort.app.synth import SynthRequest, synth_data
from lastresort.models.protocol import OnAnswer, Prompt
from lastresort.report.words.synthetic import SyntheticRows
from lastresort.stop import NEVER, Stop
from lastresort.synthesis.kinds import KINDS
from lastresort.synthesis.prompts import SYSTEM
from lastresort.types import SILENT, Answer, Decoding, Progress

CITIES = "Quito Lima Hanoi Dakar Accra Perth Osaka Delhi Cairo Tunis Sofia Minsk Turku Vaasa Natal".split()
WITHOUT_DOCUMENTS = {name for name, kind in KINDS.items() if not kind.needs_passages}
Write = Callable[[str, int], str]  # (the request, how many came before) -> the reply
Row = dict[str, Any]


def team_of(text: str) -> str:
    """By its first word, which every row of the teacher has."""
    return TEAMS[THINGS.index(text.split()[0]) % 3]


def fresh_rows(first: int = 0) -> Write:
    """Replies of three rows each; every one is new, and of the label that was asked for. first: so many rows came before."""
    numbers = count(first)

    def write(request: str, _: int) -> str:
        wanted = label_in(request)
        found = []
        while len(found) < 3:
            number = next(numbers)
            text = (
                f"{THINGS[number % 13]} {STATES[number // 13 % 10]} near {CITIES[number % 15]}, {number * 7919 % 9973} people "
                f"{number * 31 % 97} days waiting {CITIES[number // 15 % 15]}"
            )
            if wanted is None or team_of(text) == wanted:
                found.append({"input": text, "output": team_of(text)})
        return json.dumps({"rows": found})

    return write


def label_in(request: str) -> str | None:
    """The label whose rows the request wants; None where the teacher chooses."""
    if '{"input": "…"}' not in request:
        return None
    named = re.search(r'whose only right output is "(\w+)"', request)
    return named[1] if named else json.loads(request.split("The row:\n")[1].splitlines()[0])["output"]


class Teacher(FakeModel):
    """fails_at: the number of the request at whose answer the process ends, as if killed."""

    name = fingerprint = "teacher"
    batch_size = 16

    def __init__(self, write: Write, *, answer: Callable[[str], str] = team_of, usd: float = 0.0) -> None:
        self.write, self.answer, self.usd = write, answer, usd
        self.prompts: list[str] = []
        self.requests = 0
        self.fails_at: int | None = None

    def count_tokens(self, prompt: Prompt) -> int:
        return 1

    def generate(
        self, prompts: Sequence[Prompt], decoding: Decoding, on_answer: OnAnswer | None = None
    ) -> list[Answer]:
        answers = []
        for index, prompt in enumerate(prompts):
            if len(self.prompts) == self.fails_at:
                raise Killed
            self.prompts.append("\n".join(turn.content for turn in prompt))
            if prompt[0].content == SYSTEM:
                text = self.write(prompt[-1].content, self.requests)
                self.requests += 1
            else:
                text = self.answer(prompt[-1].content)
            answers.append(Answer(text, 100, 20, "stop", usd=self.usd, paid=self.usd))
            if on_answer is not None:
                on_answer(index, answers[-1])
        return answers


class Killed(BaseException):
    """The process ends here."""


def routing(folder: Path, task: Row | None = None) -> Path:
    """A task of 80 train rows with three labels."""
    return scripted_task(folder, quality=[], task={"retrieval": {"embedder": "hashing"}, **(task or {})})


def synth(
    monkeypatch: pytest.MonkeyPatch,
    path: Path,
    teacher: Teacher,
    *,
    teacher_name: str | None = None,
    progress: Progress = SILENT,
    stop: Stop = NEVER,
    **options: Any,
) -> SyntheticRows:
    """Make rows with this teacher; its response cache is next to the task."""
    request = SynthRequest(path, teacher_name, **{"runs": path.parent / "runs", **options})
    with monkeypatch.context() as patch:
        patch.setattr("lastresort.models.open.open_model", lambda *_, **__: teacher)
        return synth_data(request, progress, stop)


def made(found: SyntheticRows) -> list[Row]:
    return [json.loads(line) for line in found.path.read_text(encoding="utf-8").splitlines()]


def unwritten(texts: Sequence[str]) -> Write:
    """Replies with these inputs, a new text each, in their order, three a reply."""
    waiting: Iterator[str] = iter(texts)
    more = fresh_rows()

    def write(request: str, number: int) -> str:
        chosen = [{"input": text, "output": TEAMS[0]} for text in islice(waiting, 3)]
        return json.dumps({"rows": chosen}) if chosen else more(request, number)

    return write
