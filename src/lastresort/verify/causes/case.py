"""What an experiment on differing answers has to work with: the items, the server, and the measured model where it is here."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from lastresort.errors import LastresortError
from lastresort.evals.evidence.paired import mcnemar_p
from lastresort.models.api.replies import Reply
from lastresort.models.api.requests import unwrapped
from lastresort.models.open import local_weights
from lastresort.models.protocol import Prompt, is_endpoint
from lastresort.report.verify import CauseTested
from lastresort.report.words import verify as words
from lastresort.report.words.verify import CauseName, Sent
from lastresort.report.words.wording import sentence
from lastresort.stop import NEVER, Stop, check
from lastresort.systems.answerer import Answerer
from lastresort.systems.compose import extract
from lastresort.systems.running import open_answerer
from lastresort.systems.system import System
from lastresort.types import Answer, Decoding, JsonObject
from lastresort.verify.asking import Experiments, ServedAnswer
from lastresort.verify.outcome import CHANCE, T, TwoArms, exchanged_p

if TYPE_CHECKING:
    from lastresort.models.local import LocalModel

TRIED = 8  # differing answers in each experiment, and as many controls
TIMES = 3  # that a request is sent again
FEWEST = 2  # answers that a cause must explain: one can be a coincidence
NEARLY_ALL = 0.8


class Measured:
    """The model that was measured, opened from its weights, which answers as they do or with a fault."""

    def __init__(self, system: System, model: LocalModel) -> None:
        self.system, self.model = system, model

    def answers(
        self, prompts: Sequence[Prompt], decoding: Decoding, render: Callable[[Prompt], list[int]] | None = None
    ) -> list[str]:
        """render: a prompt's tokens, None for those of the model's own template."""
        from lastresort.models.local import LocalModel

        model = self.model
        faulty = LocalModel(model.loaded, name=model.name, template_kwargs=model.template_kwargs, render=render)
        answers = faulty.generate(prompts, decoding)
        return [extract(self.system.prompt, answer.text) for answer in answers]

    @contextmanager
    def untuned(self) -> Iterator[bool]:
        """Inside, the adapter is off. False where there is none."""
        loaded = self.model.loaded.model
        if self.system.adapter is None:
            yield False
            return
        with loaded.disable_adapter():
            yield True


def open_measured(system: System, folder: Path) -> Measured | str:
    """The measured model, or why it cannot be opened here. folder: of system.yaml. Downloads nothing."""
    if is_endpoint(system.model):
        return words.no_weights(system.model)
    try:
        weights = local_weights(system.model, folder)
        if isinstance(weights, str) and not _is_downloaded(weights):
            return words.weights_elsewhere(system.model)
        opened = open_answerer(system, folder).model
    except (LastresortError, MemoryError) as error:
        return words.cannot_open(error)
    from lastresort.models.local import LocalModel

    assert isinstance(opened, LocalModel), "whatever has weights"
    return Measured(system, opened)


def _is_downloaded(hub_id: str) -> bool:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        snapshot_download(hub_id, local_files_only=True, allow_patterns=["*.safetensors", "*.json"])
    except (LocalEntryNotFoundError, ValueError):
        return False
    return True


def in_turn(first: Callable[[int], T], second: Callable[[int], T], order: Random) -> TwoArms[T]:
    """What two kinds of one request give. Each kind is sent `TIMES` times (its argument says which time), once the request
    before is answered, so that nothing that is sent here can be in its batch; in random order, for `exchanged_p`.
    """
    places = list(range(2 * TIMES))
    order.shuffle(places)
    given = {place: first(place) if place < TIMES else second(place - TIMES) for place in places}
    return TwoArms(tuple(given[time] for time in range(TIMES)), tuple(given[TIMES + time] for time in range(TIMES)))


def more_tokens(served: ServedAnswer, system: System) -> int | None:
    """Prompt tokens that the server counts beyond those that were measured, None where either did not count its own."""
    measured = served.recorded.prompt_tokens
    if not measured or not served.counted or served.refused or is_endpoint(system.model):
        return None
    return served.answer.prompt_tokens - measured


@dataclass(frozen=True, slots=True)
class Regained:
    """Of `right` answers that are as measured with a change of the request, `anyway` are so without it, too. chance: of as many."""

    right: int
    anyway: int = 0
    chance: float = 1.0


@dataclass(frozen=True, slots=True)
class Reproduced:
    """By a fault in the measured model. hits: differing answers that are the server's and come of the fault. alike: whether these
    are most, and nearly all answers with those of the same text. chance: of as many that are the server's.
    """

    hits: int
    alike: bool
    chance: float


@dataclass(frozen=True)
class Case:
    """Differing answers, at least `FEWEST` and at most `TRIED`, and whom to ask about them.

    answers: all that arrived. system: the winner as it was measured. sender: sends its items. composer: composes its whole
    prompts. local: the measured model, or why it is not here. stop: checked before each request. order: in which requests of two
    kinds are sent. earlier: what was found so far.
    """

    system: System
    sent: Sent
    differing: tuple[ServedAnswer, ...]
    sender: Answerer
    composer: Answerer
    api: Experiments
    local: Measured | str
    answers: tuple[ServedAnswer, ...] = ()
    stop: Stop = NEVER
    order: Random = field(default_factory=lambda: Random(0))
    earlier: list[CauseTested] = field(default_factory=list)

    @property
    def n(self) -> int:
        return len(self.differing)

    @property
    def decoding(self) -> Decoding:
        """As it was measured."""
        return self.system.decoding

    @property
    def explained(self) -> bool:
        return any(cause.explains for cause in self.earlier)

    @property
    def undecided(self) -> bool:
        """Whether another cause may explain them, of which nobody can tell."""
        return any(cause.undecided for cause in self.earlier)

    @property
    def about(self) -> tuple[object, ...]:
        """What makes an experiment the same one. What was found before it decides what some conclude."""
        return (self._compared, self.explained, self.undecided)

    @cached_property
    def _compared(self) -> tuple[object, ...]:
        answers = [
            (
                one.example.id,
                one.recorded.answer,
                one.recorded.prompt_tokens,
                _lasting(one.answer),
                one.finish,
                one.counted,
            )
            for one in (*self.differing, *self.answers)
        ]
        sent = (self.sent, self.sendings, self.prompts, self.sender.system.decoding)
        measured = (self.system.fingerprint, self.decoding, self.local if isinstance(self.local, str) else "open")
        return (*sent, *measured, answers)

    @cached_property
    def controls(self) -> tuple[ServedAnswer, ...]:
        """Answers that are the same text. A fault that gives the others must give these, too, since chance easily hits labels."""
        return tuple(answer for answer in self.answers if answer.same_text and not answer.refused)[:TRIED]

    @cached_property
    def sendings(self) -> list[Prompt]:
        """As they were sent."""
        return [self.sender.prompt(served.example.input) for served in self.differing]

    @cached_property
    def prompts(self) -> list[Prompt]:
        """As they were measured: of the differing answers, then of the controls."""
        return [self.composer.prompt(served.example.input) for served in (*self.differing, *self.controls)]

    @cached_property
    def plain(self) -> list[str]:
        """What the measured model answers here, without any fault."""
        assert not isinstance(self.local, str), "asked where it is open"
        return self.local.answers(self.prompts, self.decoding)

    @cached_property
    def offsets(self) -> list[int]:
        """`more_tokens` of the differing answers; none where they are not counted."""
        counted = [more_tokens(served, self.system) for served in self.differing]
        return [offset for offset in counted if offset is not None]

    @property
    def same_counts(self) -> bool:
        """Whether the server counts as many tokens in each prompt as were measured: it gets no other prompt."""
        return len(self.offsets) == self.n and not any(self.offsets)

    def replies(
        self,
        prompts: Sequence[Prompt],
        decoding: Decoding | None = None,
        *,
        extra: Mapping[str, Any] | None = None,
        without: Collection[str] = (),
    ) -> list[Reply]:
        check(self.stop)
        return self.api.replies(prompts, decoding or self.sender.system.decoding, extra=extra, without=without)

    def ask(self, prompt: Prompt, decoding: Decoding | None = None, *, extra: JsonObject | None = None) -> str:
        """The answer to one request that is sent alone."""
        return self.text(self.replies([prompt], decoding, extra=extra)[0], decoding)

    def by_seed(self, prompt: Prompt) -> TwoArms[str]:
        """With one seed, and with another each time."""
        decoding = self.sender.system.decoding

        def with_others(time: int) -> str:
            return self.ask(prompt, replace(decoding, seed=decoding.seed + 1 + time))

        return in_turn(lambda _: self.ask(prompt), with_others, self.order)

    def regained(
        self, prompts: Sequence[Prompt], decoding: Decoding | None = None, *, extra: JsonObject | None = None
    ) -> Regained:
        """How many answers are as measured with a change of the request and not without it.

        Near a tie an answer can become the measured one in any other batch. If most do, each request is therefore sent alone, with
        the change and without it: an answer is regained if it is as measured each time with it, and never without.
        """
        replies = self.replies(prompts, decoding, extra=extra)
        measured = [served.recorded.answer.strip() for served in self.differing]
        places = [place for place, reply in enumerate(replies) if self.text(reply, decoding) == measured[place]]
        if not self.most(len(places)):
            return Regained(len(places))

        def turns_of(place: int) -> TwoArms[bool]:
            with_it, without = prompts[place], self.sendings[place]
            return in_turn(
                lambda _: self.ask(with_it, decoding, extra=extra) == measured[place],
                lambda _: self.ask(without) == measured[place],
                self.order,
            )

        turns = [turns_of(place) for place in places]
        right = [one for one in turns if all(one.first)]
        anyway = sum(any(one.second) for one in right)
        return Regained(len(right), anyway, exchanged_p(turns, lambda first, second: sum(first) - sum(second)))

    def text(self, reply: Reply, decoding: Decoding | None = None) -> str:
        """What counts as its answer."""
        grammar = (decoding or self.sender.system.decoding).grammar
        return extract(self.sender.system.prompt, unwrapped(reply.text, grammar))

    def as_served(self, texts: Sequence[str]) -> int:
        """How many are what the server answered."""
        return sum(text == served.answer.text for text, served in zip(texts, self.differing, strict=False))

    def reproduced(self, texts: Sequence[str]) -> Reproduced:
        """texts: of the faulty measured model, to `prompts`.

        Where rounding alone changed a text, the recorded one could as well have been the server's and the other way round, so a
        fault that has nothing to do with it gives either of the two equally often: the sign test on those that it gives.
        """
        items = (*self.differing, *self.controls)
        same = [text == served.answer.text for text, served in zip(texts, items, strict=True)]
        fault = [text != plain for text, plain in zip(texts, self.plain, strict=True)]
        hits = sum(is_same and faulty for is_same, faulty in zip(same[: self.n], fault, strict=False))
        recorded = sum(
            text == served.recorded.answer.strip() for text, served in zip(texts, self.differing, strict=False)
        )
        alike = self.most(hits) and sum(same) >= NEARLY_ALL * len(items)
        return Reproduced(hits, alike, mcnemar_p(sum(same[: self.n]), recorded))

    def most(self, count: int, n: int | None = None) -> bool:
        """At least half, and no single one."""
        return count >= FEWEST and 2 * count >= (self.n if n is None else n)


def _lasting(answer: Answer) -> Answer:
    """The same one in whichever process: once it is kept, it costs nothing."""
    return replace(answer, seconds=0.0, paid=0.0)


def cause_tested(
    cause: CauseName,
    explains: bool | None,
    tried: str,
    seen: str,
    *,
    chance: float = 0.0,
    level: float = CHANCE,
    remedy: str = "",
) -> CauseTested:
    """chance: of what was seen, if it does not explain; above the level nobody can tell. remedy: "" for the usual one."""
    if explains and chance > level:
        explains, seen = None, words.by_chance(seen, chance)
    remedy = (remedy or words.REMEDIES[cause]) if explains else ""
    return CauseTested(cause=cause, explains=explains, tried=tried, seen=sentence(seen), remedy=remedy)


def untested(cause: CauseName, why: str) -> CauseTested:
    return CauseTested(cause=cause, explains=None, tried="", seen=sentence(why), remedy="")
