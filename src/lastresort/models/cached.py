"""A model behind a cache of its earlier answers: no call is made, or paid, twice."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol

from lastresort.models.protocol import Model, OnAnswer, Prompt, Score, SharedTokens, at_places, sample_indices
from lastresort.stop import Stop
from lastresort.types import Answer, Decoding, JsonObject


class Cache(Protocol):
    """Bodies by key; records/responses.py keeps them in SQLite."""

    def get_many(self, keys: Sequence[str], /) -> dict[str, dict[str, Any]]: ...
    def put_many(self, bodies: Mapping[str, Mapping[str, Any]], /) -> None: ...
    def drop_many(self, keys: Sequence[str], /) -> None: ...


@dataclass(frozen=True, slots=True)
class ModelCall:
    """A call that a model gets, since the cache lacks its answers. keys: those of the answers in the cache."""

    prompts: tuple[Prompt, ...]
    decoding: Decoding
    keys: tuple[str, ...]


class MemoryCache:
    """A cache for as long as a process runs. bodies: that are known already."""

    def __init__(self, bodies: Mapping[str, Mapping[str, Any]]) -> None:
        self.known = dict(bodies)
        self.new: dict[str, Mapping[str, Any]] = {}  # since they were last taken

    def get_many(self, keys: Sequence[str], /) -> dict[str, dict[str, Any]]:
        return {key: dict(self.known[key]) for key in keys if key in self.known}

    def put_many(self, bodies: Mapping[str, Mapping[str, Any]], /) -> None:
        fresh = {key: body for key, body in bodies.items() if key not in self.known}
        self.known |= fresh
        self.new |= fresh

    def drop_many(self, keys: Sequence[str], /) -> None:
        for key in keys:
            self.known.pop(key, None)

    def take_new(self) -> dict[str, Mapping[str, Any]]:
        """What was put since this was last called."""
        taken, self.new = self.new, {}
        return taken


_FROM_WORKERS = "answered by workers"  # the key of a mark; those of answers are hashes


def has_answers_of_workers(cache: Cache) -> bool:
    """Whether workers gave some of these answers: their seconds do not compare with those of this process."""
    return bool(cache.get_many([_FROM_WORKERS]))


def keep_from_workers(cache: Cache, bodies: Mapping[str, Mapping[str, Any]], share: float) -> None:
    """Store what was put into a cache of theirs. share: a worker's part of its machine, whose seconds are what an answer takes."""
    if bodies:
        own = {key: {**body, "seconds": share * body.get("seconds", 0.0)} for key, body in bodies.items()}
        cache.put_many({_FROM_WORKERS: {}, **own})


Compute = Callable[[ModelCall, OnAnswer | None], list[Answer]]
"""Answers a call in the place of the model, with `on_answer` as in `Model.generate`."""


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
        self._compute: Compute = lambda call, on_answer: model.generate(call.prompts, call.decoding, on_answer)
        self._await: Callable[[Sequence[str]], None] = lambda keys: None

    def computed_elsewhere(self, compute: Compute, wait_for: Callable[[Sequence[str]], None]) -> CachedModel:
        """The same model and cache, with the answers that it lacks from `compute`. wait_for: called with keys before they are
        looked up, since their answers may be on the way into the cache.
        """
        other = copy(self)
        other._compute, other._await = compute, wait_for
        return other

    def calls(self, prompts: Sequence[Prompt], decoding: Decoding, on_the_way: Container[str] = ()) -> list[ModelCall]:
        """The calls that `generate` would make of the model. on_the_way: keys whose answers need no call."""
        samples = self._samples(prompts, decoding)
        if self.batch_matters:
            return [
                call
                for _, call in self._batches(prompts, decoding, samples)
                if not all(key in on_the_way for key in call.keys) and len(self._known(call.keys)) < len(call.keys)
            ]
        keys = self._keys(prompts, decoding, samples)
        known = self._known(keys)
        needless = {key for key in keys if key in known or key in on_the_way}
        return [self._call(prompts, waiting, sample, decoding) for sample, waiting in _missing(keys, samples, needless)]

    def kept(self, prompts: Sequence[Prompt], decoding: Decoding) -> list[Answer]:
        """The answers that `generate` would find in the cache, in no order."""
        samples = self._samples(prompts, decoding)
        missing = {key for call in self.calls(prompts, decoding) for key in call.keys}
        if self.batch_matters:
            keys = [key for _, call in self._batches(prompts, decoding, samples) for key in call.keys]
        else:
            keys = self._keys(prompts, decoding, samples)
        return list(self._known([key for key in keys if key not in missing]).values())

    def keep(self, call: ModelCall, answers: Mapping[int, Answer], *, from_worker: bool = False) -> None:
        """Store the answers of a call, by the place of their prompts. Where they depend on their batch, all or none."""
        if answers and not (self.batch_matters and len(answers) < len(call.keys)):
            mark: dict[str, JsonObject] = {_FROM_WORKERS: {}} if from_worker else {}
            self._cache.put_many(mark | {call.keys[place]: _body(answer) for place, answer in answers.items()})

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

    def shared_tokens(self, prompts: Sequence[Prompt]) -> SharedTokens:
        return self._model.shared_tokens(prompts)

    def check_decoding(self, decoding: Decoding) -> None:
        self._model.check_decoding(decoding)

    def generate(
        self, prompts: Sequence[Prompt], decoding: Decoding, on_answer: OnAnswer | None = None
    ) -> list[Answer]:
        samples = self._samples(prompts, decoding)
        answer = self._by_batch if self.batch_matters else self._by_prompt
        return answer(prompts, decoding, samples, on_answer)

    def stream(
        self, prompt: Prompt, decoding: Decoding, *, on_answer: OnAnswer | None = None, stop: Stop | None = None
    ) -> Iterator[str]:
        """The model's own. Streamed answers are neither replayed nor stored."""
        return self._model.stream(prompt, decoding, on_answer=on_answer, stop=stop)

    def close(self) -> None:
        self._model.close()

    def _samples(self, prompts: Sequence[Prompt], decoding: Decoding) -> list[int]:
        return sample_indices(prompts) if decoding.temperature > 0 else [0] * len(prompts)

    def _by_batch(
        self, prompts: Sequence[Prompt], decoding: Decoding, samples: Sequence[int], on_answer: OnAnswer | None
    ) -> list[Answer]:
        answers: dict[int, Answer] = {}
        for places, call in self._batches(prompts, decoding, samples):
            answers |= zip(places, self._batch(call, at_places(places, on_answer)), strict=True)
        return [answers[index] for index in range(len(prompts))]

    def _batches(
        self, prompts: Sequence[Prompt], decoding: Decoding, samples: Sequence[int]
    ) -> Iterator[tuple[list[int], ModelCall]]:
        """Each batch with the places of its prompts."""
        for sample in sorted(set(samples)):
            places = [index for index, of in enumerate(samples) if of == sample]
            own = replace(decoding, seed=decoding.seed + sample)
            for start in range(0, len(places), self.batch_size):
                batch = places[start : start + self.batch_size]
                whole = [_turns(prompts[index]) for index in batch]
                keys = tuple(self._key([*whole, row], own) for row in range(len(batch)))
                yield batch, ModelCall(tuple(prompts[index] for index in batch), own, keys)

    def _batch(self, call: ModelCall, on_answer: OnAnswer | None) -> list[Answer]:
        found = self._found(call.keys)
        if len(found) == len(call.keys):
            replayed = [found[key] for key in call.keys]
            if on_answer is not None:
                for row, answer in enumerate(replayed):
                    on_answer(row, answer)
            return replayed
        answers = self._compute(call, on_answer)
        self.keep(call, dict(enumerate(answers)))
        return answers

    def _by_prompt(
        self, prompts: Sequence[Prompt], decoding: Decoding, samples: Sequence[int], on_answer: OnAnswer | None
    ) -> list[Answer]:
        keys = self._keys(prompts, decoding, samples)
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
            self._ask(self._call(prompts, missing, sample, decoding), list(missing.values()), take)
        return [answers[index] for index in range(len(prompts))]

    def _keys(self, prompts: Sequence[Prompt], decoding: Decoding, samples: Sequence[int]) -> list[str]:
        return [self._key([_turns(prompt), sample], decoding) for prompt, sample in zip(prompts, samples, strict=True)]

    def _call(
        self, prompts: Sequence[Prompt], missing: Mapping[str, list[int]], sample: int, decoding: Decoding
    ) -> ModelCall:
        """The missing prompts together, each once."""
        own = replace(decoding, seed=decoding.seed + sample)
        return ModelCall(tuple(prompts[places[0]] for places in missing.values()), own, tuple(missing))

    def _ask(self, call: ModelCall, places: Sequence[list[int]], take: OnAnswer) -> None:
        """Pass on and store every answer as it arrives. places: that need the answer of each prompt of the call."""

        def arrived(position: int, answer: Answer) -> None:
            first, *others = places[position]
            take(first, answer)  # before it is stored: a kill in between must not leave an answer that nobody paid for
            self.keep(call, {position: answer})
            for index in others:
                take(index, replace(answer, paid=0.0))

        self._compute(call, arrived)

    def _found(self, keys: Sequence[str]) -> dict[str, Answer]:
        self._await(keys)
        return self._known(keys)

    def _known(self, keys: Sequence[str]) -> dict[str, Answer]:
        bodies = self._cache.get_many(keys)
        found = {key: answer for key, body in bodies.items() if (answer := _answer(body)) is not None}
        if foreign := [key for key in bodies if key not in found]:
            self._cache.drop_many(foreign)
        return found

    def _key(self, what: list[Any], decoding: Decoding) -> str:
        # keys stay in their order: that of a schema's properties decides the answer
        body = [self.fingerprint, self.computed_by, what, decoding.as_dict()]
        return hashlib.sha256(json.dumps(body).encode()).hexdigest()


_STORED = [one.name for one in fields(Answer) if one.name not in ("passages", "paid")]


def _body(answer: Answer) -> JsonObject:
    """The answer as it is stored: without its passages, which are not the model's, and without `paid`, as a replay is free."""
    return {name: getattr(answer, name) for name in _STORED}


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
    keys: Sequence[str], samples: Sequence[int], found: Container[str]
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
