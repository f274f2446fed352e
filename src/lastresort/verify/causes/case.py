"""What an experiment on differing answers has to work with: the items, the server, and the measured model where it is here."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lastresort.errors import LastresortError
from lastresort.models.api.model import ApiModel
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
from lastresort.types import Decoding, JsonObject
from lastresort.verify.asking import ServedAnswer

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


@dataclass(frozen=True)
class Case:
    """Differing answers, at least `FEWEST` and at most `TRIED`, and whom to ask about them.

    controls: answers that are the same text; a fault that gives the differing ones must give these too, since labels are easily
    hit by chance. system: the winner as it was measured. sender: sends its items. composer: composes its whole prompts. local: the
    measured model, or why it is not here. stop: checked before each request. earlier: what was found so far.
    """

    system: System
    sent: Sent
    differing: tuple[ServedAnswer, ...]
    sender: Answerer
    composer: Answerer
    api: ApiModel
    local: Measured | str
    controls: tuple[ServedAnswer, ...] = ()
    stop: Stop = NEVER
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

    @cached_property
    def sendings(self) -> list[Prompt]:
        """As they were sent."""
        return [self.sender.prompt(served.example.input) for served in self.differing]

    @cached_property
    def prompts(self) -> list[Prompt]:
        """As they were measured: of the differing answers, then of the controls."""
        return [self.composer.prompt(served.example.input) for served in (*self.differing, *self.controls)]

    @cached_property
    def again(self) -> list[Reply]:
        """The same requests once more."""
        return self.replies(self.sendings)

    @cached_property
    def plain(self) -> list[str]:
        """What the measured model answers here, without any fault."""
        assert not isinstance(self.local, str), "asked where it is open"
        return self.local.answers(self.prompts, self.decoding)

    @cached_property
    def offsets(self) -> list[int]:
        """Prompt tokens that the server counts beyond those that were measured; none where either did not count them."""
        if is_endpoint(self.system.model):
            return []
        pairs = zip(self.again, self.differing, strict=True)
        return [
            reply.prompt_tokens - served.recorded.prompt_tokens
            for reply, served in pairs
            if reply.prompt_tokens is not None and served.recorded.prompt_tokens
        ]

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

    def alone(
        self,
        prompts: Sequence[Prompt],
        decoding: Decoding | None = None,
        *,
        other_seeds: bool = False,
        extra: JsonObject | None = None,
    ) -> list[list[Reply]]:
        """The replies to each request that is sent `TIMES` times, each once the one before it is answered: nothing that is sent
        here can be in its batch and change how it is rounded. other_seeds: another one each time.
        """
        decoding = decoding or self.sender.system.decoding
        repeats = [replace(decoding, seed=decoding.seed + time) if other_seeds else decoding for time in range(TIMES)]
        return [[self.replies([prompt], each, extra=extra)[0] for each in repeats] for prompt in prompts]

    def regained(
        self, prompts: Sequence[Prompt], decoding: Decoding | None = None, *, extra: JsonObject | None = None
    ) -> tuple[int, int]:
        """How many answers are as measured with a change of the request, and how many of these without it, too.

        Near a tie an answer can become the measured one in any other batch. If most do, each is therefore sent alone: it counts as
        regained if it is as measured each of `TIMES` times. Without the change it must then never be. On a server that others use
        and that puts either token first by chance, one answer is so in 1 of 128 cases.
        """
        items, replies = self.differing, self.replies(prompts, decoding, extra=extra)
        places = [
            place
            for place, reply in enumerate(replies)
            if self.text(reply, decoding) == items[place].recorded.answer.strip()
        ]
        if not self.most(len(places)):
            return len(places), 0
        with_it = self.alone([prompts[place] for place in places], decoding, extra=extra)
        right = [
            place
            for place, times in zip(places, with_it, strict=True)
            if self._as_measured(place, times, decoding) == TIMES
        ]
        without = self.alone([self.sendings[place] for place in right])
        anyway = sum(self._as_measured(place, times) > 0 for place, times in zip(right, without, strict=True))
        return len(right), anyway

    def _as_measured(self, place: int, replies: Sequence[Reply], decoding: Decoding | None = None) -> int:
        measured = self.differing[place].recorded.answer.strip()
        return sum(self.text(reply, decoding) == measured for reply in replies)

    def text(self, reply: Reply, decoding: Decoding | None = None) -> str:
        """What counts as its answer."""
        grammar = (decoding or self.sender.system.decoding).grammar
        return extract(self.sender.system.prompt, unwrapped(reply.text, grammar))

    def as_served(self, texts: Sequence[str]) -> int:
        """How many are what the server answered."""
        return sum(text == served.answer.text for text, served in zip(texts, self.differing, strict=False))

    def reproduced(self, texts: Sequence[str]) -> tuple[int, bool]:
        """texts: of the faulty measured model, to `prompts`. How many differing answers are the server's and come of the fault, and
        whether the fault explains them: at least half of these, and nearly all with the controls.
        """
        items = (*self.differing, *self.controls)
        same = [text == served.answer.text for text, served in zip(texts, items, strict=True)]
        fault = [text != plain for text, plain in zip(texts, self.plain, strict=True)]
        hit = sum(is_same and faulty for is_same, faulty in zip(same[: self.n], fault, strict=False))
        return hit, self.most(hit) and sum(same) >= NEARLY_ALL * len(items)

    def most(self, count: int, n: int | None = None) -> bool:
        """At least half, and no single one."""
        return count >= FEWEST and 2 * count >= (self.n if n is None else n)


def cause_tested(cause: CauseName, explains: bool | None, tried: str, seen: str, *, remedy: str = "") -> CauseTested:
    """With the usual remedy where it explains and none is given."""
    if explains:
        remedy = remedy or words.REMEDIES[cause]
    return CauseTested(cause=cause, explains=explains, tried=tried, seen=sentence(seen), remedy=remedy)


def untested(cause: CauseName, why: str) -> CauseTested:
    return CauseTested(cause=cause, explains=None, tried="", seen=sentence(why), remedy="")
