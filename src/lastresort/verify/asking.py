"""Send recorded items to a server and score what comes back. What does not arrive is named, and is no answer.

Answers, and what was found of the causes, are kept until the verification has ended, so that one that broke off is not paid for
twice. They belong to a server that gives the same answers to the first items: a server that was changed in between is asked
everything again.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from pydantic import TypeAdapter, ValidationError

from lastresort.errors import CandidateError, InfrastructureError, TaskError
from lastresort.evals.measure import CountedAnswers
from lastresort.evals.scorers import Scorer, scores_of
from lastresort.models.api.model import ApiModel
from lastresort.models.api.refusals import NotServedError
from lastresort.models.api.replies import Reply
from lastresort.models.cached import Cache, CachedModel
from lastresort.models.protocol import Prompt
from lastresort.records.measurement import ItemScore
from lastresort.records.responses import ResponseCache
from lastresort.stop import Stop, check
from lastresort.systems.answerer import Answerer
from lastresort.types import Answer, Decoding, Example, Progress

FIRST = 3  # items by whose answers a server is recognised
IN_A_ROW = 3  # items without an answer, one after the other, after which the server counts as unreachable


@dataclass(frozen=True, slots=True)
class ServedAnswer:
    """What came back for one item. score: of its answer; the recorded one where the text is the same. counted: whether the server
    counts tokens; else those of the answer are estimates.
    """

    example: Example
    recorded: ItemScore
    answer: Answer
    score: float
    refused: str = ""
    counted: bool = True

    @property
    def same_text(self) -> bool:
        if self.refused or self.recorded.finish == "refused":
            return self.finish == self.recorded.finish
        return self.answer.text == self.recorded.answer.strip()

    @property
    def finish(self) -> str:
        return "refused" if self.refused else self.answer.finish


@dataclass(frozen=True, slots=True)
class MissingAnswer:
    """No answer arrived."""

    example: Example
    recorded: ItemScore
    because: str


Served = ServedAnswer | MissingAnswer


class AnswersUntilDone:
    """The answers of one verification, kept among others under keys of its own. salt: what the server is recognised by."""

    def __init__(self, cache: ResponseCache, salt: str) -> None:
        self._cache, self._salt = cache, salt
        self._keys: set[str] = set()

    def get_many(self, keys: Sequence[str], /) -> dict[str, dict[str, Any]]:
        by_own_key = {self._own(key): key for key in keys}
        return {by_own_key[key]: body for key, body in self._cache.get_many(list(by_own_key)).items()}

    def put_many(self, bodies: Mapping[str, Mapping[str, Any]], /) -> None:
        self._cache.put_many({self._own(key): body for key, body in bodies.items()})

    def drop_many(self, keys: Sequence[str], /) -> None:
        self._cache.drop_many([self._own(key) for key in keys])

    def forget(self) -> None:
        """All that was kept: the next verification asks the server again."""
        self._cache.forget_many(sorted(self._keys))

    def forget_some(self, keys: Iterable[str]) -> None:
        self._cache.forget_many([self._own(key) for key in keys])

    def _own(self, key: str) -> str:
        own_key = hashlib.sha256(f"verify {self._salt} {key}".encode()).hexdigest()
        self._keys.add(own_key)
        return own_key


class Experiments:
    """The server in experiments on differing answers, whose outcome is kept as its answers are. An experiment may send one request
    many times, to see whether the replies vary, so each sending has a reply of its own.
    """

    def __init__(self, model: ApiModel, kept: AnswersUntilDone) -> None:
        self._model, self._kept = model, kept
        self._name, self._sent, self._keys = "", Counter[str](), list[str]()

    def begin(self, name: str) -> None:
        """Whatever was sent in others does not count."""
        self._name, self._sent, self._keys = name, Counter(), []

    def outcome(self, about: object) -> dict[str, Any] | None:
        """Of this experiment on the same answers, where it is known."""
        key = f"outcome {self._name} {about!r}"
        return self._kept.get_many([key]).get(key)

    def keep(self, about: object, outcome: Mapping[str, Any]) -> None:
        """In the place of its replies, which nobody needs any more."""
        self._kept.forget_some(self._keys)
        self._kept.put_many({f"outcome {self._name} {about!r}": outcome})

    def replies(
        self,
        prompts: Sequence[Prompt],
        decoding: Decoding,
        *,
        extra: Mapping[str, Any] | None = None,
        without: Collection[str] = (),
    ) -> list[Reply]:
        request = repr((prompts, decoding, sorted((extra or {}).items()), sorted(without)))
        self._sent[request] += 1
        key = f"replies {self._name} {self._sent[request]} {request}"
        self._keys.append(key)
        if (body := self._kept.get_many([key]).get(key)) is not None:
            try:
                return _replies().validate_python(body["replies"])
            except (KeyError, ValidationError):
                self._kept.drop_many([key])
        found = self._model.replies(prompts, decoding, extra=extra, without=without)
        self._kept.put_many({key: {"replies": _replies().dump_python(found, mode="json")}})
        return found


@cache
def _replies() -> TypeAdapter[list[Reply]]:
    return TypeAdapter(list[Reply])


@dataclass(frozen=True, slots=True)
class Recognised:
    """salt: a hash of the server's answers to the first items and its counts of their tokens. counts: whether it counts tokens."""

    salt: str
    counts: bool


def recognised(sender: Answerer, model: ApiModel, examples: Sequence[Example], stop: Stop) -> Recognised:
    """By the server's answers to the first items.

    Raises InfrastructureError if none of them is answered, TaskError where the server takes no such request or has no such model,
    StoppedError if a stop was requested.
    """
    seen: list[Reply | str] = []
    lost: InfrastructureError | None = None
    for example in examples[:FIRST]:
        check(stop)
        try:
            seen += model.replies([sender.prompt(example.input)], sender.system.decoding)
        except CandidateError:
            seen.append("refused")
        except NotServedError as error:
            remedy = "Correct the model's name (--model, or that of the request), or the address."
            raise TaskError(error.found, where=error.where, expected=error.expected, remedy=remedy) from error
        except InfrastructureError as error:
            lost = error
    if lost is not None and not seen:
        raise lost
    parts = [reply if isinstance(reply, str) else [reply.text, reply.finish, reply.prompt_tokens] for reply in seen]
    replies = [reply for reply in seen if isinstance(reply, Reply)]
    counts = bool(replies) and all(None not in (reply.prompt_tokens, reply.completion_tokens) for reply in replies)
    return Recognised(hashlib.sha256(json.dumps(parts).encode()).hexdigest(), counts)


def ask(
    sender: Answerer,
    cache: Cache,
    items: Sequence[tuple[Example, ItemScore]],
    scorer: Scorer,
    progress: Progress,
    stop: Stop,
    *,
    counts: bool,
) -> Iterator[Served]:
    """In the order of the items. counts: whether the server counts tokens.

    Raises InfrastructureError where the server cannot be reached, StoppedError if a stop was requested.
    """
    cached = Answerer(sender.system, CachedModel(sender.model, cache))
    size, lost = sender.model.batch_size, 0
    for start in range(0, len(items), size):
        check(stop)
        batch = items[start : start + size]
        answered: list[Outcome] = []
        counted = CountedAnswers(progress, every_s=0)
        for outcome in _batch(cached, [example for example, _ in batch], counted):
            answered.append(outcome)
            lost = lost + 1 if isinstance(outcome, InfrastructureError) else 0
            if isinstance(outcome, InfrastructureError) and lost == min(IN_A_ROW, len(items)):
                raise outcome
        counted.rest(len(batch))
        yield from _scored(batch, answered, scorer, counts)


_REFUSALS = (CandidateError, TaskError)
Outcome = Answer | CandidateError | TaskError | InfrastructureError


def _batch(cached: Answerer, examples: Sequence[Example], counted: CountedAnswers) -> Iterable[Outcome]:
    """All at once; one after the other where one of them fails, so that each has its own fate."""
    try:
        return cached.answer([example.input for example in examples], on_answer=counted.arrived)
    except (*_REFUSALS, InfrastructureError):
        return _one_by_one(cached, examples)


def _one_by_one(cached: Answerer, examples: Sequence[Example]) -> Iterator[Outcome]:
    for example in examples:
        try:
            yield cached.answer([example.input])[0]
        except (*_REFUSALS, InfrastructureError) as error:
            yield error


def _scored(
    batch: Sequence[tuple[Example, ItemScore]], answered: Sequence[Outcome], scorer: Scorer, counts: bool
) -> Iterator[Served]:
    """The recorded score where the text is the same: nothing differs, whoever judges."""
    other = [
        (example, outcome.text)
        for (example, recorded), outcome in zip(batch, answered, strict=True)
        if isinstance(outcome, Answer) and outcome.text != recorded.answer.strip()
    ]
    scores = iter(scores_of(scorer, [text for _, text in other], [example for example, _ in other]) if other else ())
    for (example, recorded), outcome in zip(batch, answered, strict=True):
        if isinstance(outcome, InfrastructureError):
            yield MissingAnswer(example, recorded, outcome.found)
        elif isinstance(outcome, _REFUSALS):
            yield ServedAnswer(example, recorded, Answer("", 0, 0, "stop"), 0.0, refused=outcome.found)
        else:
            same = outcome.text == recorded.answer.strip()
            score = recorded.score if same else next(scores)
            yield ServedAnswer(example, recorded, outcome, score, counted=counts)
