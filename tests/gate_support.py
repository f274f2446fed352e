"""Small suites for tests of the gate, and models that are asked them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lastresort.evals.suites.suite import Chosen, Item, Measure, Pair, Question, Transcript, Written
from lastresort.models.protocol import OnAnswer, Prompt
from lastresort.types import Answer, Decoding, Message

WORDS = "amber birch cedar delta ember fjord grove heron ivory jetty knoll larch maple north ocean pearl".split()


@dataclass(frozen=True, slots=True)
class Said:
    """Is the word said?"""

    name: str = "words"
    binary: bool = True
    margin_factor: float = 1.0
    chance: float | None = 0.0

    def pair(self, item: Item, base: Transcript, tuned: Transcript) -> Pair | None:
        scores = [float(said["say"].text == item.facts["word"]) for said in (base, tuned)]
        return Pair(item.id, *scores, item.family, f'the word "{item.facts["word"]}"')


@dataclass(frozen=True)
class Words:
    """Asks for a word in so many rounds; the first asks for it, the others whether that was all."""

    rounds: int = 1
    name: str = "words"
    version: int = 1
    mode: str = ""
    measures: tuple[Measure, ...] = (Said(),)

    def draw(self, seed: int, start: int, stop: int) -> list[Item]:
        def item(number: int) -> Item:
            word = f"{WORDS[number % len(WORDS)]} {seed} {number}"
            family = ("odd", "even")[number % 2]
            return Item(f"{family}/1/{seed}/{number}", family, 1, f"Say: {word}", {"word": word})

        return [item(number) for number in range(start, stop)]

    def ask(self, item: Item, said: Transcript) -> Sequence[Question]:
        asked = (Message("user", item.text),)
        if not said:
            return [Written("say", asked, Decoding(16))]
        if len(said) >= self.rounds:
            return []
        more = (*asked, Message("assistant", said["say"].text), Message("user", f"More? ({len(said)})"))
        return [Written(f"more {len(said)}", more, Decoding(8))]


@dataclass(frozen=True)
class Letters:
    """Asks which of two words is the likelier answer, and for one in words."""

    name: str = "letters"
    version: int = 1
    measures: tuple[Measure, ...] = ()

    def draw(self, seed: int, start: int, stop: int) -> list[Item]:
        return [Item(f"letters/1/{seed}/{number}", "letters", 1, f"Word {number}?") for number in range(start, stop)]

    def ask(self, item: Item, said: Transcript) -> Sequence[Question]:
        if said:
            return []
        asked = (Message("user", item.text),)
        return [
            Written("short", asked, Decoding(4)),
            Chosen("likelier", asked, ("yes", "no")),
            Written("long", asked, Decoding(9)),
        ]


class Recorder:
    """Answers with what follows "Say: ", and remembers the prompts of every call. fails_at: the call that fails."""

    name, fingerprint, rendering = "recorder", "f" * 64, ""

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
