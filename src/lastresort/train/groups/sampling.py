"""Answers to the prompts of a step, as a protocol; and the engine, which samples them from the weights that are trained."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from lastresort.data.chat_template import ChatTokenizer
from lastresort.engine.cache import PrefixCache
from lastresort.engine.choose import Sampling
from lastresort.engine.sampling import generate
from lastresort.models.constrained import cut_at_stop, holds_stop
from lastresort.train.adapters.adapters import adapters_in_base_precision
from lastresort.train.loop.policy import evaluating
from lastresort.train.loop.processes import Processes
from lastresort.train.settings import GroupSettings
from lastresort.types import Example, Message


@dataclass(frozen=True, slots=True)
class GroupPrompt:
    """A prompt of the data. messages: the conversation as it is shown to the model; ids: the same, rendered."""

    example: Example
    messages: tuple[Message, ...]
    ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Sampled:
    """One answer. ids: its tokens, with the end token where it ended by itself, or those of the stop string. text: without
    either. cut: it did not end. logps: of ids in nats, under the weights that sampled them; () where these are the present ones
    or where it is not known, so that nothing corrects for the difference."""

    ids: tuple[int, ...]
    text: str
    cut: bool
    logps: tuple[float, ...] = ()


class Sampler(Protocol):
    """Where the answers of a step come from."""

    def begin(self, step: int, model: Any, processes: Processes) -> None:
        """Called in every process before the first answers of a step."""

    def answers(
        self, model: Any, step: int, prompts: Sequence[GroupPrompt], *, plain: bool = False
    ) -> list[list[Sampled]]:
        """A group for each prompt, decided by the weights, the step and the prompt. plain: by the engine's plain path, where it
        is the engine that samples."""

    def close(self) -> None:
        """Called at the end, in the main process."""


class EngineSampler:
    """The engine on the model itself. Every prompt is computed once for its group, what all prompts share once for all."""

    def __init__(self, tokenizer: ChatTokenizer, stop_ids: Sequence[int], settings: GroupSettings, seed: int) -> None:
        self._tokenizer, self._stop_ids, self._settings, self._seed = tokenizer, frozenset(stop_ids), settings, seed

    def begin(self, step: int, model: Any, processes: Processes) -> None:
        """Nothing to be done: it samples from the model itself."""

    def close(self) -> None:
        """Nothing to be closed."""

    def answers(
        self, model: Any, step: int, prompts: Sequence[GroupPrompt], *, plain: bool = False
    ) -> list[list[Sampled]]:
        size, prefixes = self._settings.group_size, PrefixCache()
        at_once = max(1, self._settings.rows_at_once // size)
        groups: list[list[Sampled]] = []
        with evaluating(model):
            for start in range(0, len(prompts), at_once):
                groups += self._together(model, step, prompts[start : start + at_once], prefixes, plain)
        return groups

    def _together(
        self, model: Any, step: int, prompts: Sequence[GroupPrompt], prefixes: PrefixCache, plain: bool
    ) -> list[list[Sampled]]:
        settings, size = self._settings, self._settings.group_size
        sampling = Sampling(
            settings.max_new_tokens,
            temperature=settings.temperature,
            top_p=settings.top_p,
            top_k=settings.top_k,
            rows_at_once=size * len(prompts),
        )
        with adapters_in_base_precision(model):
            generated = generate(
                model,
                [prompt.ids for prompt in prompts for _ in range(size)],
                settings=sampling,
                seeds=[member_seed(self._seed, step, prompt.example.id, k) for prompt in prompts for k in range(size)],
                stopped=self._stopped,
                prefixes=prefixes,
                plain=plain,
            )
        answers = [self._sampled(answer.tokens) for answer in generated]
        return [answers[i : i + size] for i in range(0, len(answers), size)]

    def _stopped(self, row: int, tokens: Sequence[int]) -> bool:
        """By this and not by the engine's stop_ids, so that the end token is kept: it is trained like any other."""
        if tokens[-1] in self._stop_ids:
            return True
        stops = self._settings.stop
        return bool(stops) and holds_stop(tokens, stops, lambda part: decoded(self._tokenizer, part))

    def _sampled(self, tokens: tuple[int, ...]) -> Sampled:
        ended = tokens[-1] in self._stop_ids
        text = decoded(self._tokenizer, tokens[:-1] if ended else tokens)
        before = cut_at_stop(text, self._settings.stop)
        return Sampled(tokens, before, not ended and before == text)


def member_seed(seed: int, step: int, example_id: str, member: int) -> int:
    digest = hashlib.sha256(repr((seed, step, example_id, member)).encode()).digest()
    return int.from_bytes(digest[:8], "big")


def decoded(tokenizer: ChatTokenizer, tokens: Sequence[int]) -> str:
    return str(tokenizer.decode(list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False))
