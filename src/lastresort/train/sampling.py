"""Answers to the prompts of a step: by the engine, from the weights that are trained, or by a server."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from lastresort.data.chat_template import ChatTokenizer
from lastresort.engine.cache import PrefixCache
from lastresort.engine.choose import Sampling
from lastresort.engine.sampling import generate
from lastresort.errors import InputError
from lastresort.models.protocol import Model
from lastresort.train.adapters import adapters_in_base_precision
from lastresort.train.passes import evaluating
from lastresort.types import Decoding, Example, Message


@dataclass(frozen=True, slots=True)
class GroupSettings:
    """How groups are drawn.

    group_size: answers to a prompt. max_new_tokens: of an answer, its end token included. temperature, top_p, top_k: other
    than 1, 1 and 0 they draw from another distribution than the one that is trained. tries: rounds of drawing in a step, of
    which those after the first draw further prompts in place of groups that were dropped; None is 4 for dapo and 1 for the
    others. rows_at_once: answers that are decoded together, in whole groups; a knob for memory. Raises InputError.
    """

    group_size: int = 8
    max_new_tokens: int = 256
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    tries: int | None = None
    rows_at_once: int = 64

    def __post_init__(self) -> None:
        for name, found, ok, expected in (
            ("group_size", self.group_size, self.group_size >= 2, "at least 2, since answers are compared"),
            ("max_new_tokens", self.max_new_tokens, self.max_new_tokens >= 1, "at least 1"),
            ("temperature", self.temperature, self.temperature > 0, "above 0, since answers must differ"),
            ("top_p", self.top_p, 0 < self.top_p <= 1, "above 0, at most 1"),
            ("top_k", self.top_k, self.top_k >= 0, "0 for all, or more"),
            ("tries", self.tries, self.tries is None or self.tries >= 1, "at least 1"),
            ("rows_at_once", self.rows_at_once, self.rows_at_once >= 1, "at least 1"),
        ):
            if not ok:
                raise InputError(f"found {found}", where=f"grpo.{name}", expected=expected)


@dataclass(frozen=True, slots=True)
class Asked:
    """A prompt of the data. messages: the conversation as it is shown to the model; ids: the same, rendered."""

    example: Example
    messages: tuple[Message, ...]
    ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Sampled:
    """One answer. ids: its tokens, with the end token where it ended by itself. cut: it did not end."""

    ids: tuple[int, ...]
    text: str
    cut: bool


class Sampler(Protocol):
    """knows_old: whether the answers come from the very weights of the update, so that nobody need score them again."""

    @property
    def knows_old(self) -> bool: ...

    def fingerprint(self) -> str: ...

    def answers(self, model: Any, step: int, asked: Sequence[Asked]) -> list[list[Sampled]]:
        """A group for each prompt, decided by the weights, the step and the prompt."""


class EngineSampler:
    """The engine on the model itself. Every prompt is computed once for its group, what all prompts share once for all."""

    knows_old = True

    def __init__(self, tokenizer: ChatTokenizer, stop_ids: Sequence[int], settings: GroupSettings, seed: int) -> None:
        self._tokenizer, self._stop_ids, self._settings, self._seed = tokenizer, frozenset(stop_ids), settings, seed

    def fingerprint(self) -> str:
        return "engine"

    def answers(self, model: Any, step: int, asked: Sequence[Asked]) -> list[list[Sampled]]:
        size, prefixes = self._settings.group_size, PrefixCache()
        at_once = max(1, self._settings.rows_at_once // size)
        groups: list[list[Sampled]] = []
        with evaluating(model):
            for start in range(0, len(asked), at_once):
                groups += self._together(model, step, asked[start : start + at_once], prefixes)
        return groups

    def _together(self, model: Any, step: int, asked: Sequence[Asked], prefixes: PrefixCache) -> list[list[Sampled]]:
        settings, size = self._settings, self._settings.group_size
        sampling = Sampling(
            settings.max_new_tokens,
            temperature=settings.temperature,
            top_p=settings.top_p,
            top_k=settings.top_k,
            rows_at_once=size * len(asked),
        )
        with adapters_in_base_precision(model):
            found = generate(
                model,
                [prompt.ids for prompt in asked for _ in range(size)],
                settings=sampling,
                seeds=[member_seed(self._seed, step, prompt.example.id, k) for prompt in asked for k in range(size)],
                # By `stopped` and not by stop_ids, so that the end token is kept: it is trained like any other.
                stopped=lambda _, tokens: tokens[-1] in self._stop_ids,
                prefixes=prefixes,
            )
        answers = [self._sampled(answer.tokens) for answer in found]
        return [answers[i : i + size] for i in range(0, len(answers), size)]

    def _sampled(self, tokens: tuple[int, ...]) -> Sampled:
        ended = tokens[-1] in self._stop_ids
        return Sampled(tokens, decoded(self._tokenizer, tokens[:-1] if ended else tokens), not ended)


class ServerSampler:
    """Any model that answers, such as a vLLM server. Its text is tokenised here.

    before(step, model): called before each step, to give the server the weights as they are; without it, the server's
    answers come from another policy than the one that is trained.
    """

    knows_old = False

    def __init__(
        self,
        server: Model,
        tokenizer: ChatTokenizer,
        end_ids: Sequence[int],
        settings: GroupSettings,
        seed: int,
        before: Callable[[int, Any], None] | None = None,
    ) -> None:
        self._server, self._tokenizer, self._end_ids = server, tokenizer, tuple(end_ids[:1])
        self._settings, self._seed, self._before = settings, seed, before

    def fingerprint(self) -> str:
        return self._server.fingerprint

    def answers(self, model: Any, step: int, asked: Sequence[Asked]) -> list[list[Sampled]]:
        settings, size = self._settings, self._settings.group_size
        if self._before is not None:
            self._before(step, model)
        decoding = Decoding(
            settings.max_new_tokens,
            temperature=settings.temperature,
            top_p=settings.top_p,
            top_k=settings.top_k,
            seed=member_seed(self._seed, step, "", 0) % 2**31,  # a server counts up from here for each member
        )
        found = self._server.generate([prompt.messages for prompt in asked for _ in range(size)], decoding)
        answers = [self._sampled(answer.text, answer.finish == "stop") for answer in found]
        return [answers[i : i + size] for i in range(0, len(answers), size)]

    def _sampled(self, text: str, ended: bool) -> Sampled:
        ids = tuple(int(token) for token in self._tokenizer(text, add_special_tokens=False)["input_ids"])
        ids = (*ids, *self._end_ids) if ended else ids
        return Sampled(
            ids[: self._settings.max_new_tokens], text, not ended or len(ids) > self._settings.max_new_tokens
        )


def member_seed(seed: int, step: int, example_id: str, member: int) -> int:
    digest = hashlib.sha256(repr((seed, step, example_id, member)).encode()).digest()
    return int.from_bytes(digest[:8], "big")


def decoded(tokenizer: ChatTokenizer, tokens: Sequence[int]) -> str:
    return str(tokenizer.decode(list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False))
