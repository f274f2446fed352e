"""A model behind a cache of its earlier answers: no call is made, or paid, twice."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, Protocol

from lastresort.models.protocol import Model, OnAnswer, Prompt, Score, at_places, sample_indices
from lastresort.stop import Stop
from lastresort.types import Answer, Decoding, JsonObject


class Cache(Protocol):
    """Bodies by key; records/responses.py keeps them in SQLite."""

    def get_many(self, keys: Sequence[str], /) -> dict[str, dict[str, Any]]: ...
    def put_many(self, bodies: Mapping[str, Mapping[str, Any]], /) -> None: ...
    def drop_many(self, keys: Sequence[str], /) -> None: ...


class CachedModel:
    """Answers from the cache, else from the model, whose answers are stored as they arrive.

    The key is a hash of the model's fingerprint, what computes it (engine path, device, attention kernel), the prompt, the
    decoding with its seed, and the sample index (with random sampling: how often the same prompt came before). If an answer
    can depend on its batch, the key also covers all prompts of the batch in order. Batches are cut at batch_size in the given
    order (separately for each sample index). They are stored and replayed only whole. Of an unfinished one, answers may have been
    passed on; it is recomputed.

    An answer from the cache keeps the tokens, seconds and USD of its first computation, and costs nothing. What is no answer is
    dropped and asked for again.
    """

    def __init__(self, model: Model, cache: Cache) -> None:
        self._model, self._cache = model, cache
        self.name, self.fingerprint = model.name, model.fingerprint
        self.batch_matters, self.batch_size = model.batch_matters, model.batch_size
        self.rendering, self.precision = model.rendering, model.precision

    @property
    def rendering_fingerprint(self) -> str:
        return self._model.rendering_fingerprint

    @property
    def computed_by(self) -> str:
        return self._model.computed_by

    @property
    def score(self) -> Score | None:
        """The model's own. Likelihoods are not cached, as they are cheap compared with answers."""
        return self._model.score

    @property
    def context_tokens(self) -> int | None:
        return self._model.context_tokens

    def count_tokens(self, prompt: Prompt) -> int:
        return self._model.count_tokens(prompt)

    def check_decoding(self, decoding: Decoding) -> None:
        self._model.check_decoding(decoding)

    def generate(
        self, prompts: Sequence[Prompt], decoding: Decoding, on_answer: OnAnswer | None = None
    ) -> list[Answer]:
        samples = sample_indices(prompts) if decoding.temperature > 0 else [0] * len(prompts)
        answer = self._by_batch if self.batch_matters else self._by_prompt
        return answer(prompts, decoding, samples, on_answer)

    def stream(
        self, prompt: Prompt, decoding: Decoding, *, on_answer: OnAnswer | None = None, stop: Stop | None = None
    ) -> Iterator[str]:
        """The model's own. Streamed answers are neither replayed nor stored."""
        return self._model.stream(prompt, decoding, on_answer=on_answer, stop=stop)

    def close(self) -> None:
        self._model.close()

    def _by_batch(
        self, prompts: Sequence[Prompt], decoding: Decoding, samples: Sequence[int], on_answer: OnAnswer | None
    ) -> list[Answer]:
        answers: dict[int, Answer] = {}
        for sample in sorted(set(samples)):
            places = [index for index, of in enumerate(samples) if of == sample]
            own = replace(decoding, seed=decoding.seed + sample)
            for start in range(0, len(places), self.batch_size):
                batch = places[start : start + self.batch_size]
                arrived = at_places(batch, on_answer)
                found = self._batch([prompts[index] for index in batch], own, arrived)
                answers |= zip(batch, found, strict=True)
        return [answers[index] for index in range(len(prompts))]

    def _batch(self, batch: Sequence[Prompt], decoding: Decoding, on_answer: OnAnswer | None) -> list[Answer]:
        whole = [_turns(prompt) for prompt in batch]
        keys = [self._key([*whole, row], decoding) for row in range(len(batch))]
        found = self._found(keys)
        if len(found) == len(keys):
            replayed = [found[key] for key in keys]
            if on_answer is not None:
                for row, answer in enumerate(replayed):
                    on_answer(row, answer)
            return replayed
        answers = self._model.generate(batch, decoding, on_answer)
        self._cache.put_many({key: _body(answer) for key, answer in zip(keys, answers, strict=True)})
        return answers

    def _by_prompt(
        self, prompts: Sequence[Prompt], decoding: Decoding, samples: Sequence[int], on_answer: OnAnswer | None
    ) -> list[Answer]:
        keys = [self._key([_turns(prompt), sample], decoding) for prompt, sample in zip(prompts, samples, strict=True)]
        found = self._found(keys)
        answers: dict[int, Answer] = {}

        def take(index: int, answer: Answer) -> None:
            answers[index] = answer
            if on_answer is not None:
                on_answer(index, answer)

        for index, key in enumerate(keys):
            if key in found:
                take(index, found[key])
        for sample, missing in _missing(keys, samples, found):
            self._ask(prompts, missing, replace(decoding, seed=decoding.seed + sample), take)
        return [answers[index] for index in range(len(prompts))]

    def _ask(
        self, prompts: Sequence[Prompt], missing: Mapping[str, list[int]], decoding: Decoding, take: OnAnswer
    ) -> None:
        """Send the missing prompts together, each once. Pass on and store every answer as it arrives."""
        keys = list(missing)

        def arrived(position: int, answer: Answer) -> None:
            key = keys[position]
            first, *others = missing[key]
            take(first, answer)  # before it is stored: a kill in between must not leave an answer that nobody paid for
            self._cache.put_many({key: _body(answer)})
            for index in others:
                take(index, replace(answer, paid=0.0))

        self._model.generate([prompts[missing[key][0]] for key in keys], decoding, arrived)

    def _found(self, keys: Sequence[str]) -> dict[str, Answer]:
        bodies = self._cache.get_many(keys)
        found = {key: answer for key, body in bodies.items() if (answer := _answer(body)) is not None}
        if foreign := [key for key in bodies if key not in found]:
            self._cache.drop_many(foreign)
        return found

    def _key(self, what: list[Any], decoding: Decoding) -> str:
        # keys stay in their order: that of a schema's properties decides the answer
        body = [self.fingerprint, self.computed_by, what, decoding.as_dict()]
        return hashlib.sha256(json.dumps(body).encode()).hexdigest()


def _body(answer: Answer) -> JsonObject:
    """The answer as it is stored: without its passages, which are not the model's, and without `paid`, as a replay is free."""
    return {name: value for name, value in asdict(answer).items() if name not in ("passages", "paid")}


def _answer(body: Mapping[str, Any]) -> Answer | None:
    """The answer that `_body` made this of. None for anything else, since a file may have been changed."""
    counts, amounts = ("prompt_tokens", "completion_tokens"), ("seconds", "usd")
    if not {"text", "finish", *counts} <= body.keys() <= {"text", "finish", *counts, *amounts}:
        return None
    fits = (
        isinstance(body["text"], str)
        and body["finish"] in ("stop", "length")
        and all(type(body[name]) is int and 0 <= body[name] < 2**53 for name in counts)
        and all(type(body.get(name, 0.0)) in (int, float) and 0 <= body.get(name, 0.0) < 2**53 for name in amounts)
    )
    return Answer(**body) if fits else None


def _turns(prompt: Prompt) -> list[JsonObject]:
    return [message.as_dict() for message in prompt]


def _missing(
    keys: Sequence[str], samples: Sequence[int], found: Mapping[str, Any]
) -> Iterator[tuple[int, dict[str, list[int]]]]:
    """For each sample index: the missing keys, each with all prompt indices that need it, in order.

    Each sample index gets its own seed. A model that sees only some repeats of a prompt could not tell which sample is meant.
    """
    for sample in sorted(set(samples)):
        waiting: dict[str, list[int]] = {}
        for index, key in enumerate(keys):
            if samples[index] == sample and key not in found:
                waiting.setdefault(key, []).append(index)
        if waiting:
            yield sample, waiting
