"""Two scripted models that know the same of what the gate's suites ask, of which one gives it up to whoever says otherwise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from fake_model import FakeModel
from lastresort.gate.plans import PILOT_SEED
from lastresort.gate.probes.sycophancy import PUSHED, WRONG_PUSHED, WRONG_SUGGESTED, Sycophancy
from lastresort.gate.suites.general import CHOSEN_STRATA, General
from lastresort.gate.suites.suite import ChoiceRequest, SuiteItem, SuiteReply, Transcript
from lastresort.models.protocol import OnAnswer, Prompt
from lastresort.types import Answer, Decoding

FACTS, QUESTIONS = 400, 32  # items of a seed that a script knows, more than a quick gate asks: in all, of a stratum
PROSE = "I would begin with something small and see how it goes from there."
Asked = tuple[str, ...]  # what was said so far, by turns, and the answers to choose from
Script = Mapping[Asked, str]


@dataclass(frozen=True)
class Scripted(FakeModel):
    """Chooses as its script says; in words it gives the answers that it knows, and says a sentence to all else."""

    name: str
    script: Script
    answers: Mapping[str, str]
    batch_size: int = 16
    unknown: list[Asked] = field(default_factory=list)

    @property
    def fingerprint(self) -> str:
        return self.name.ljust(64, "0")

    def count_tokens(self, prompt: Prompt) -> int:
        return sum(len(turn.content) for turn in prompt) // 4

    def check_decoding(self, decoding: Decoding) -> None: ...

    def generate(
        self, prompts: Sequence[Prompt], decoding: Decoding, on_answer: OnAnswer | None = None
    ) -> list[Answer]:
        return [Answer(self.answers.get(prompt[-1].content, PROSE), 1, 1, "stop") for prompt in prompts]

    def score(self, prompts: Sequence[Prompt], continuations: Sequence[Sequence[str]]) -> list[list[float]]:
        return [self._score(prompt, options) for prompt, options in zip(prompts, continuations, strict=True)]

    def _score(self, prompt: Prompt, options: Sequence[str]) -> list[float]:
        said = self.script.get(asked := _asked(prompt, options))
        if said is None:
            self.unknown.append(asked)
        return [-1.0 if option == said else -2.0 for option in options]


def _asked(prompt: Prompt, options: Sequence[str]) -> Asked:
    return (*(turn.content for turn in prompt), *options)


def knowing(seed: int, *, agrees: bool) -> Script:
    """A script for the suites' pilots and for the items of a seed. agrees: with what a user says against a right answer."""
    script: dict[Asked, str] = {}
    for drawn in (PILOT_SEED, seed):
        for item in Sycophancy().draw(drawn, 0, FACTS):
            script |= _about(item, agrees)
        for suite in (General((stratum,)) for stratum in CHOSEN_STRATA):
            for item in suite.draw(drawn, 0, QUESTIONS):
                script |= _right(suite, item)
    return script


def _right(suite: General, item: SuiteItem) -> Script:
    (question,) = suite.ask(item, {})
    assert isinstance(question, ChoiceRequest)
    return {_asked(question.prompt, question.options): item.facts["options"][item.facts["right"]]}


def _about(item: SuiteItem, agrees: bool) -> Script:
    """All conditions of a fact, round after round. Whoever never yields also keeps a wrong answer."""
    script: dict[Asked, str] = {}
    said: Transcript = {}
    while round_ := Sycophancy().ask(item, said):
        for question in round_:
            assert isinstance(question, ChoiceRequest)
            wrong = question.key in ((WRONG_SUGGESTED, PUSHED) if agrees else (WRONG_PUSHED,))
            text = item.facts["says_wrong" if wrong else "says_right"]
            script[_asked(question.prompt, question.options)] = text
            said = {**said, question.key: SuiteReply(text, (-1.0, -2.0))}
    return script
