"""What the rest of the program asks of a model. Three kinds answer: local, api, scripted.

How many tokens a text has, where no tokenizer is at hand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from lastresort.stop import Stop
from lastresort.types import Answer, Decoding, Message

Prompt = tuple[Message, ...]
OnAnswer = Callable[[int, Answer], None]
Pay = Callable[[float], None]
Score = Callable[[Sequence[Prompt], Sequence[Sequence[str]]], list[list[float]]]

_WITHOUT_WEIGHTS = ("openai:", "http://", "https://", "scripted:")


def is_endpoint(name: str) -> bool:
    """Whether a model of this name only answers, so that there are no weights here to train or to score with."""
    return name.startswith(_WITHOUT_WEIGHTS)


def paying(pay: Pay) -> OnAnswer:
    """Pays for every answer as it arrives, so that a batch which ends early is paid for as far as it came."""

    def arrived(_: int, answer: Answer) -> None:
        if answer.paid:
            pay(answer.paid)

    return arrived


class Model(Protocol):
    """Answers prompts.

    fingerprint: hash of what the model is: weights, adapter, precision, chat template and its arguments (for an endpoint:
    address and name), wherever these lie. A response cache keys on it, a saved system is opened only with the same.
    batch_matters: True where an answer can depend on its batch (reduced precision), so that a cache may only replay whole
    batches. batch_size: how many prompts `generate` is best given at once. rendering: hash of the chat template and its
    arguments, "" where the server renders. precision: the number format by name, "auto" where it is not ours to choose.
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
        """How it renders conversations, special tokens included, to be compared with how the rows of its training were
        rendered. "" where the server renders."""

    @property
    def computed_by(self) -> str:
        """Engine path, device and attention kernel, which change an answer by rounding only. "" where the server computes."""

    @property
    def score(self) -> Score | None:
        """(prompts, continuations of each) -> summed log-probability in nats of every continuation. None where the model only
        answers."""

    def count_tokens(self, prompt: Prompt) -> int:
        """Tokens of the rendered prompt, exact for local models, estimated (UTF-8 bytes / 4) for endpoints."""

    def check_decoding(self, decoding: Decoding) -> None:
        """Raises CandidateError where it is known without asking that the model cannot decode so."""

    def generate(
        self, prompts: Sequence[Prompt], decoding: Decoding, on_answer: OnAnswer | None = None
    ) -> list[Answer]:
        """Answers in the order of the prompts; on_answer(index, answer) is called as soon as each one is final.

        Raises InfrastructureError where the model cannot be reached after retries; finished answers were passed to
        on_answer before that. Raises CandidateError where the model cannot answer these prompts so: no room for the answer,
        or a form that cannot be enforced.
        """

    def stream(
        self, prompt: Prompt, decoding: Decoding, *, on_answer: OnAnswer | None = None, stop: Stop | None = None
    ) -> Iterator[str]:
        """The text of one answer piece by piece: together they are what `generate` gives for this prompt alone.

        on_answer: given the whole answer, as number 0, after its last piece. stop: looked at between the pieces; a request ends
        the answer there, as if its length were reached. Raises as `generate` does.
        """

    def close(self) -> None:
        """Give back what it holds: memory, connections. It answers no more."""


BYTES_PER_TOKEN = 4


def estimated_tokens(text: str) -> int:
    """UTF-8 bytes / 4, rounded up: near enough for prices and limits of English text, low for most other languages."""
    return -(-len(text.encode(errors="surrogatepass")) // BYTES_PER_TOKEN)


def estimated_prompt_tokens(prompt: Prompt) -> int:
    return sum(estimated_tokens(message.content) for message in prompt)
