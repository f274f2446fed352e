"""Small suites for tests of the gate, and models that are asked them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from climb_support import scripted_task
from fake_model import FakeModel
from lastresort.gate.plans import PlainPlan, SuiteInputs
from lastresort.gate.suites.suite import (
    ChoiceRequest,
    Question,
    ScorePair,
    SuiteItem,
    SuiteMeasure,
    TextRequest,
    Transcript,
)
from lastresort.models.protocol import OnAnswer, Prompt
from lastresort.spec.sections import SuiteFacts
from lastresort.systems.system import PromptDesign
from lastresort.types import Answer, Decoding, Message

WORDS = "amber birch cedar delta ember fjord grove heron ivory jetty knoll larch maple north ocean pearl".split()


@dataclass(frozen=True, slots=True)
class Said:
    """Is the word said?"""

    name: str = "words"
    binary: bool = True
    margin_factor: float = 1.0
    chance: float | None = 0.0

    def pair(self, item: SuiteItem, base: Transcript, tuned: Transcript) -> ScorePair | None:
        scores = [float(transcript["say"].text == item.facts["word"]) for transcript in (base, tuned)]
        return ScorePair(item.id, *scores, item.family, f'the word "{item.facts["word"]}"')


@dataclass(frozen=True)
class Words:
    """Asks for a word in so many rounds; the first asks for it, the others whether that was all. alike: items about one fact."""

    rounds: int = 1
    alike: int = 1
    name: str = "words"
    version: int = 1
    mode: str = ""
    measures: tuple[SuiteMeasure, ...] = (Said(),)

    def draw(self, seed: int, start: int, stop: int) -> list[SuiteItem]:
        def item(number: int) -> SuiteItem:
            word = f"{WORDS[number % len(WORDS)]} {seed} {number} of {self.name}"
            family = ("odd", "even")[number % 2]
            facts = {"word": word} | ({"fact": str(number // self.alike)} if self.alike > 1 else {})
            return SuiteItem(f"{family}/1/{seed}/{number}", family, 1, f"Say: {word}", facts)

        return [item(number) for number in range(start, stop)]

    def ask(self, item: SuiteItem, transcript: Transcript) -> Sequence[Question]:
        asked = (Message("user", item.text),)
        if not transcript:
            return [TextRequest("say", asked, Decoding(16))]
        if len(transcript) >= self.rounds:
            return []
        more = (*asked, Message("assistant", transcript["say"].text), Message("user", f"More? ({len(transcript)})"))
        return [TextRequest(f"more {len(transcript)}", more, Decoding(8))]


@dataclass(frozen=True)
class Letters:
    """Asks which of two words is the likelier answer, and for one in words."""

    name: str = "letters"
    version: int = 1
    measures: tuple[SuiteMeasure, ...] = ()

    def draw(self, seed: int, start: int, stop: int) -> list[SuiteItem]:
        return [
            SuiteItem(f"letters/1/{seed}/{number}", "letters", 1, f"Word {number}?") for number in range(start, stop)
        ]

    def ask(self, item: SuiteItem, transcript: Transcript) -> Sequence[Question]:
        if transcript:
            return []
        asked = (Message("user", item.text),)
        return [
            TextRequest("short", asked, Decoding(4)),
            ChoiceRequest("likelier", asked, ("yes", "no")),
            TextRequest("long", asked, Decoding(9)),
        ]


class Recorder(FakeModel):
    """Answers with what follows "Say: ", and remembers the prompts of every call. fails_at: the call that fails."""

    name, fingerprint = "recorder", "f" * 64

    def __init__(
        self,
        *,
        batch_size: int = 4,
        batch_matters: bool = False,
        context_tokens: int | None = None,
        fails_at: int | None = None,
        error: Callable[[], Exception] = KeyboardInterrupt,
    ) -> None:
        self.batch_size, self.batch_matters, self._context = batch_size, batch_matters, context_tokens
        self._fails_at, self._error = fails_at, error
        self.calls: list[list[str]] = []
        self.scored: list[list[str]] = []

    @property
    def context_tokens(self) -> int | None:
        return self._context

    def count_tokens(self, prompt: Prompt) -> int:
        return sum(len(message.content) for message in prompt)

    def check_decoding(self, decoding: Decoding) -> None: ...

    def generate(
        self, prompts: Sequence[Prompt], decoding: Decoding, on_answer: OnAnswer | None = None
    ) -> list[Answer]:
        self.calls.append([prompt[-1].content for prompt in prompts])
        if len(self.calls) == self._fails_at:
            raise self._error()
        return [Answer(prompt[-1].content.removeprefix("Say: "), 1, 1, "stop") for prompt in prompts]

    def score(self, prompts: Sequence[Prompt], continuations: Sequence[Sequence[str]]) -> list[list[float]]:
        self.scored.append([prompt[-1].content for prompt in prompts])
        return [[-float(len(text)) for text in texts] for texts in continuations]


SUITES = {
    "general": SuiteFacts("gate_support:general", 0.03),
    "sycophancy": SuiteFacts("gate_support:yielding", 0.05),
    "format_leak": SuiteFacts("gate_support:leaking", 0.02),
}
SCRIPTED = {"rules": [{"match": "^Say: (.*)", "answer": "\\1"}], "answers_from": ["rows.jsonl"], "wrong": ["unknown"]}
KEEP = {"general": 0.1, "sycophancy": 0.1, "format_leak": 0.1}
GOOD, BAD = (
    [{"right": 0.95}, {"right": 0.97, "contains": "^Say: "}],
    [{"right": 0.95}, {"right": 0.5, "contains": "^Say: "}],
)
BASE = [{"right": 0.3}, {"right": 0.97, "contains": "^Say: "}]


def general(inputs: SuiteInputs) -> PlainPlan:
    return _plain("general")


def alike(inputs: SuiteInputs) -> PlainPlan:
    """Four items about every fact."""
    return PlainPlan(Words(alike=4, name="general", measures=(Said(name="general"),)), pilot_items=48)


def yielding(inputs: SuiteInputs) -> PlainPlan:
    return _plain("sycophancy")


def leaking(inputs: SuiteInputs) -> PlainPlan:
    return _plain("format_leak")


def _plain(name: str) -> PlainPlan:
    return PlainPlan(Words(name=name, measures=(Said(name=name),)), pilot_items=48)


def gated_task(
    folder: Path,
    *,
    base: list[dict[str, Any]] = BASE,
    tuned: list[dict[str, Any]] = GOOD,
    task: dict[str, Any] | None = None,
) -> Path:
    """A task whose base is scripted, and beside it tuned.json, a script that stands for the tuned model. Returns the task file."""
    path = scripted_task(folder, quality=base, script=SCRIPTED, task={"keep": KEEP, **(task or {})})
    write_script(folder / "tuned.json", tuned)
    return path


def write_script(path: Path, quality: list[dict[str, Any]], **script: Any) -> None:
    body = {**SCRIPTED, "quality": quality, "calls": f"calls of {path.name}l", **script}
    path.write_text(json.dumps(body), encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Same:
    """Is the likelier answer that of the base?"""

    name: str = "general"
    binary: bool = True
    margin_factor: float = 1.0
    chance: float | None = None

    def pair(self, item: SuiteItem, base: Transcript, tuned: Transcript) -> ScorePair | None:
        return ScorePair(item.id, 1.0, float(base["likelier"].text == tuned["likelier"].text))


class Twins(Letters):
    """Asks which of two pairs of letters is the likelier, which any model has an answer to."""

    def ask(self, item: SuiteItem, transcript: Transcript) -> Sequence[Question]:
        number = int(item.id.split("/")[-1])
        first, second = chr(97 + number % 26), chr(97 + (number * 7 + 3) % 26)
        options = (first + second, second + first + " "[: first == second])
        return [] if transcript else [ChoiceRequest("likelier", (Message("user", item.text),), options)]


def scripted_known(*, scores: bool = True, quick: bool = False) -> SuiteInputs:
    """What suites are made from that ask nothing about the task."""
    task: Any = None
    return SuiteInputs(task, scores, PromptDesign(""), (), 32, quick)


def steady(inputs: SuiteInputs) -> PlainPlan:
    """A model that was broken has other answers."""
    return PlainPlan(Twins(name="general", measures=(Same(),)), pilot_items=16)
