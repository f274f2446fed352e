"""What the routes hand to whoever computes, and what comes back: plain values, and the one protocol between them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from lastresort.errors import LastresortError
from lastresort.models.protocol import Prompt
from lastresort.types import Answer, Decoding

MODEL = "winner"
"""The name of the winner among what is served, and of all where nothing else is."""


@dataclass(frozen=True, slots=True)
class Work:
    """One answer to compute.

    prompt: the conversation as the model gets it, or a text that is continued as it is. top_logprobs: how many alternatives of
    each token are reported; 0 for the chosen ones alone, None for no log-probabilities. model: the name that it is served under.
    """

    prompt: Prompt | str
    decoding: Decoding
    top_logprobs: int | None = None
    model: str = MODEL


@dataclass(frozen=True, slots=True)
class TokenLogp:
    """A token of the answer. logp: in nats, of the distribution before temperature and grammar. top: (token, its logp), the
    likeliest first."""

    token: str
    logp: float
    top: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Piece:
    """The answer as far as it grew since the last piece. text: may be empty, tokens may be more than it shows."""

    text: str
    tokens: tuple[TokenLogp, ...] = ()


@dataclass(frozen=True, slots=True)
class Ended:
    """The whole answer: the texts of all pieces together."""

    answer: Answer


@dataclass(frozen=True, slots=True)
class Failed:
    """No answer will come."""

    error: LastresortError


Delivered = Piece | Ended | Failed
Deliver = Callable[[Delivered], None]


class QueueFull(Exception):
    """No room to wait. after_s: when to try again."""

    def __init__(self, after_s: float) -> None:
        super().__init__("the queue is full")
        self.after_s = after_s


class Draining(Exception):
    """The server finishes what it has and takes nothing new."""


@dataclass(frozen=True, slots=True)
class Load:
    """running: answers being computed. waiting: in the queue. used: share of the cache's tokens in use, 0 to 1."""

    running: int
    waiting: int
    used: float


class Owner(Protocol):
    """Whoever holds one model or several. One thread computes; all methods may be called from any other."""

    @property
    def load(self) -> Load:
        """Of all its models."""

    def load_of(self, model: str) -> Load:
        """Of what is served under this name. used: of the cache that it may share with others."""

    def longest_tokens_of(self, model: str) -> int | None:
        """Of a prompt with its answer, None if it is not known."""

    @property
    def fault(self) -> Exception | None:
        """Why nothing can be computed any more; from then on `submit` raises Draining. None while all is well."""

    def submit(self, work: Work, deliver: Deliver) -> Callable[[], None]:
        """Queue the work. deliver: called from the owner's thread with each of them, the last an Ended or a Failed; it must not
        block. Returns what cancels it: its slot is free at the next step, and nothing more is delivered.

        Raises CandidateError where the prompt and its answer do not fit or the grammar cannot be enforced, QueueFull, Draining.
        """

    def drain(self, within_s: float) -> bool:
        """Take nothing new, and finish what is there within the time; what is left fails. Whether all was finished."""

    def close(self) -> None:
        """End the thread and free the memory."""
