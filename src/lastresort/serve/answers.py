"""From a request to what is computed for it.

Unless it is served bare, the winner's own prompt goes around what the client sends, as it was measured: its instruction, its shots,
its passages. What a request leaves out is decoded as it was measured, too.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal, Protocol

from lastresort.data.answer_schema import schema_fault
from lastresort.errors import CandidateError, LastresortError, TaskError
from lastresort.knowledge.chunks import Chunk
from lastresort.models.protocol import Prompt
from lastresort.serve.refusals import Refusal, refused
from lastresort.serve.schema import (
    MOST_ANSWERS,
    AnyObject,
    AnyText,
    ChatRequest,
    ChatTurn,
    CompletionRequest,
    ResponseFormat,
    SamplingRequest,
)
from lastresort.serve.work import MODEL, Work
from lastresort.systems.answerer import Answerer
from lastresort.systems.compose import AnswerText
from lastresort.types import Decoding, Grammar, JsonObject, Message

_LARGEST_SCHEMA = 2**16
_SCHEMA = "response_format.json_schema.schema"


class ShownText(Protocol):
    """What is shown of an answer as it grows: AnswerText, or BareText."""

    def grow(self, more: str) -> str: ...

    def finish(self, text: str) -> str: ...


class BareText:
    """The model's text as it is."""

    def grow(self, more: str) -> str:
        return more

    def finish(self, text: str) -> str:
        return ""


@dataclass(frozen=True, slots=True)
class AnswerJob:
    """The answers of one request, n to each prompt. sources: the passages in the prompts, None where nothing is looked up."""

    works: tuple[Work, ...]
    n: int
    sources: tuple[Chunk, ...] | None = None


class RequestComposer:
    """raw: serve the bare model. name: of what is served. Not for several threads at once: a store is searched one question at a
    time.
    """

    def __init__(self, answerer: Answerer, *, raw: bool, name: str = MODEL) -> None:
        self._answerer, self._raw, self.name = answerer, raw, name

    @property
    def owned_by(self) -> Literal["lastresort", "lastresort-raw"]:
        return "lastresort-raw" if self._raw else "lastresort"

    @property
    def root(self) -> str:
        return self._answerer.system.name

    @property
    def fingerprint(self) -> str:
        return f"fp_{self._answerer.model.fingerprint[:16]}"

    def text(self) -> ShownText:
        """Shows one answer as it grows."""
        return BareText() if self._raw else AnswerText(self._answerer.system.prompt)

    def chat(self, request: ChatRequest) -> AnswerJob:
        """Raises Refusal."""
        turns = tuple(map(_message, request.messages))
        if turns[-1].role == "assistant":
            where = f"messages[{len(turns) - 1}].role"
            raise Refusal(
                400,
                "The last message is the assistant's, and no answer is continued.",
                param=where,
                code="invalid_value",
            )
        if all(turn.role != "user" for turn in turns):
            raise Refusal(400, "No message is the user's.", param="messages", code="invalid_value")
        _refuse_two_lengths(request)
        if request.top_logprobs is not None and not request.logprobs:
            raise Refusal(400, "top_logprobs needs logprobs.", param="top_logprobs", code="invalid_value")
        top = (request.top_logprobs or 0) if request.logprobs else None
        decoding = self._decoding(request, request.max_completion_tokens or request.max_tokens)
        decoding = self._formatted(decoding, request.response_format)
        return self._job([turns], decoding, request.n or 1, top)

    def completions(self, request: CompletionRequest) -> AnswerJob:
        """Raises Refusal."""
        texts = [request.prompt] if isinstance(request.prompt, str) else request.prompt
        answers = len(texts) * (request.n or 1)
        if answers > MOST_ANSWERS:
            message = (
                f"{len(texts)} prompts with n {request.n} make {answers} answers, expected at most {MOST_ANSWERS}."
            )
            raise Refusal(400, message, param="n", code="invalid_value")
        decoding = self._decoding(request, request.max_tokens)
        if self._raw:
            if self._answerer.model.score is None:
                message = "This model answers conversations, and no text is continued."
                raise Refusal(422, message, param="prompt", code="unsupported_prompt")
            return self._job(texts, decoding, request.n or 1, request.logprobs)
        turns = [(Message("user", text),) for text in texts]
        return self._job(turns, decoding, request.n or 1, request.logprobs)

    def _job(self, inputs: Sequence[Prompt | str], decoding: Decoding, n: int, top_logprobs: int | None) -> AnswerJob:
        """n answers to each input, with seeds that count up from the request's: so a repeated prompt was measured."""
        if top_logprobs is not None and self._answerer.model.score is None:
            message = "This model gives no log-probabilities."
            raise Refusal(422, message, param="logprobs", code="unsupported_parameter")
        seeds = [replace(decoding, seed=decoding.seed + sample) for sample in range(n)]
        looks_up = self._answerer.system.retriever is not None and not self._raw
        try:
            prompts = [
                given if isinstance(given, str) or self._raw else self._answerer.prompt(given) for given in inputs
            ]
            found = [self._answerer.passages(given) for given in inputs if looks_up and not isinstance(given, str)]
        except LastresortError as error:
            raise refused(error) from error
        sources = tuple(dict.fromkeys(chunk for chunks in found for chunk in chunks)) if looks_up else None
        works = tuple(Work(prompt, own, top_logprobs, self.name) for prompt in prompts for own in seeds)
        return AnswerJob(works, n, sources)

    def _decoding(self, request: SamplingRequest, max_tokens: int | None) -> Decoding:
        own = self._answerer.system.decoding
        if self._raw:
            own = replace(own, grammar=None, stop=())
        stop = (request.stop,) if isinstance(request.stop, str) else request.stop
        return replace(
            own,
            max_new_tokens=own.max_new_tokens if max_tokens is None else max_tokens,
            temperature=own.temperature if request.temperature is None else request.temperature,
            top_p=own.top_p if request.top_p is None else request.top_p,
            top_k=own.top_k if request.top_k is None else request.top_k,
            seed=own.seed if request.seed is None else request.seed,
            stop=own.stop if stop is None else tuple(stop),
        )

    def _formatted(self, decoding: Decoding, wanted: ResponseFormat | None) -> Decoding:
        """With the grammar of a request. Of any object the winner's own schema is one."""
        if wanted is None:
            return decoding
        if isinstance(wanted, AnyText):
            return replace(decoding, grammar=None)
        if isinstance(wanted, AnyObject):
            own = decoding.grammar.json_schema if decoding.grammar is not None else None
            if own is not None and own.get("type") == "object":
                return decoding
            return self._enforced(replace(decoding, grammar=Grammar(json_schema={"type": "object"})), "response_format")
        schema: JsonObject = dict(wanted.json_schema.schema_)
        text = json.dumps(schema)
        if len(text) > _LARGEST_SCHEMA:
            message = f"The schema has {len(text):,} characters, expected at most {_LARGEST_SCHEMA:,}."
            raise Refusal(400, message, param=_SCHEMA, code="invalid_schema")
        if (fault := _fault(text)) is not None:
            raise Refusal(400, fault, param=_SCHEMA, code="invalid_schema")
        return self._enforced(replace(decoding, grammar=Grammar(json_schema=schema)), _SCHEMA)

    def _enforced(self, decoding: Decoding, param: str) -> Decoding:
        try:
            self._answerer.model.check_decoding(decoding)
        except (CandidateError, TaskError) as error:
            raise Refusal(422, str(error), param=param, code="unsupported_schema") from error
        return decoding


@lru_cache(maxsize=16)
def _fault(schema: str) -> str | None:
    """Applications send the same schema with each request."""
    fault = schema_fault(json.loads(schema))
    return None if fault is None else f"Found {fault.found}, expected {fault.expected}."


def _message(turn: ChatTurn) -> Message:
    text = turn.content if isinstance(turn.content, str) else "\n".join(part.text for part in turn.content)
    extra = {} if turn.name is None else {"name": turn.name}
    return Message("system" if turn.role == "developer" else turn.role, text, extra)


def _refuse_two_lengths(request: ChatRequest) -> None:
    lengths = {length for length in (request.max_tokens, request.max_completion_tokens) if length is not None}
    if len(lengths) > 1:
        message = f"max_tokens is {request.max_tokens} and max_completion_tokens is {request.max_completion_tokens}."
        raise Refusal(400, message, param="max_completion_tokens", code="invalid_value")
