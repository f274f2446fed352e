"""The interface of a model. There are three kinds: local, api, scripted."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from lastresort.stop import Stop
from lastresort.types import Answer, Decoding, Message

Prompt = tuple[Message, ...]
OnAnswer = Callable[[int, Answer], None]
OnRead = Callable[[float], None]
Pay = Callable[[float], None]
Score = Callable[[Sequence[Prompt], Sequence[Sequence[str]]], list[list[float]]]

_WITHOUT_WEIGHTS = ("openai:", "http://", "https://", "scripted:")


def is_endpoint(name: str) -> bool:
    """Whether a model of this name only answers, without weights here to train or to score with."""
    return name.startswith(_WITHOUT_WEIGHTS)


def pay_on_answer(pay: Pay) -> OnAnswer:
    """Pays for every answer as it arrives, so that a batch that ends early is paid for as far as it got."""

    def arrived(_: int, answer: Answer) -> None:
        if answer.paid:
            pay(answer.paid)

    return arrived


def at_places(places: Sequence[int], on_answer: OnAnswer | None) -> OnAnswer | None:
    """For some of the prompts: passes their answers on as those of all. places: of each among all prompts."""
    if on_answer is None:
        return None
    pass_on = on_answer
    return lambda index, answer: pass_on(places[index], answer)


@dataclass(frozen=True, slots=True)
class SharedTokens:
    """Of prompts. by_all: tokens that all of them begin with, which are computed once for them. by_two: of each, tokens that
    another one begins with, too, or that come before its last message: of many calls, others may have the same shots before it.
    """

    by_all: int
    by_two: tuple[int, ...]

    @classmethod
    def none(cls, prompts: int) -> SharedTokens:
        return cls(0, (0,) * prompts)


class Model(Protocol):
    """Answers prompts.

    fingerprint: hash of weights, adapter, precision, chat template and its arguments, wherever they are stored (for an
    endpoint: of its address and name). Part of the response cache's key. A saved system opens only with the same fingerprint.
    batch_matters: whether an answer can depend on its batch (reduced precision), so that a cache may only replay whole
    batches. batch_size: the best number of prompts per call of `generate`. rendering: hash of the chat template and its
    arguments, "" if the server renders. precision: name of the number format, "auto" if it is not ours to choose.
    """

    name: str
    fingerprint: str
    batch_matters: bool
    batch_size: int
    rendering: str
    precision: str

    @property
    def context_tokens(self) -> int | None:
        """Longest prompt plus answer in tokens, None if unknown."""

    @property
    def rendering_fingerprint(self) -> str:
        """Hash of how it renders conversations, with special tokens, to compare with the rows that it was trained on. "" if the
        server renders."""

    @property
    def computed_by(self) -> str:
        """Engine path, device and attention kernel, which change an answer by rounding only. "" if a server computes."""

    @property
    def score(self) -> Score | None:
        """(prompts, continuations of each) -> summed log-probability in nats of every continuation. None if the model only
        answers."""

    def count_tokens(self, prompt: Prompt) -> int:
        """Tokens of the rendered prompt, exact for local models, estimated (UTF-8 bytes / 4) for endpoints."""

    def shared_tokens(self, prompts: Sequence[Prompt]) -> SharedTokens:
        """What these prompts begin with alike. 0 if a server computes."""

    def check_decoding(self, decoding: Decoding) -> None:
        """Raises CandidateError if the model is known not to support this decoding."""

    def generate(
        self, prompts: Sequence[Prompt], decoding: Decoding, on_answer: OnAnswer | None = None
    ) -> list[Answer]:
        """Answers in the order of the prompts. on_answer(index, answer) is called as soon as each one is final.

        Raises InfrastructureError if the model cannot be reached after retries, after passing finished answers to on_answer.
        Raises CandidateError if the model cannot answer these prompts: no room for the answer, or a grammar it cannot enforce.
        """

    def stream(
        self, prompt: Prompt, decoding: Decoding, *, on_answer: OnAnswer | None = None, stop: Stop | None = None
    ) -> Iterator[str]:
        """The text of one answer piece by piece. Together they are what `generate` returns for this prompt alone.

        on_answer: called with the whole answer, as number 0, after the last piece. stop: checked between pieces. A request to
        stop ends the answer there, as if it had reached its length limit. Raises the same errors as `generate`.
        """

    def close(self) -> None:
        """Free its memory and connections. It cannot answer afterwards."""


def sample_indices(prompts: Sequence[Prompt]) -> list[int]:
    """For each prompt, how often the same prompt came before."""
    seen: Counter[str] = Counter()
    indices = []
    for prompt in prompts:
        text = json.dumps([message.as_dict() for message in prompt], sort_keys=True)
        indices.append(seen[text])
        seen[text] += 1
    return indices


BYTES_PER_TOKEN = 4


def estimated_tokens(text: str) -> int:
    """UTF-8 bytes / 4, rounded up, for use without a tokenizer. Good enough for English, low for most other languages."""
    return -(-len(text.encode(errors="surrogatepass")) // BYTES_PER_TOKEN)


def estimated_prompt_tokens(prompt: Prompt) -> int:
    return sum(estimated_tokens(message.content) for message in prompt)
