"""From what is delivered to what is sent: whole answers, and chunks of a stream, in the forms of both routes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypedDict

from pydantic import BaseModel

from lastresort.knowledge.chunks import Chunk
from lastresort.serve.schema import (
    Alternative,
    AnswerTurn,
    ChatChoice,
    ChatChunk,
    ChatChunkChoice,
    ChatCompletion,
    ChatLogprobs,
    Delta,
    Finish,
    Source,
    TextChoice,
    TextCompletion,
    TextLogprobs,
    TokenLogprob,
    Usage,
)
from lastresort.serve.work import TokenLogp


class HeadFields(TypedDict):
    id: str
    created: int
    model: str
    system_fingerprint: str


@dataclass(frozen=True, slots=True)
class ReplyHead:
    """What all parts of a reply have. with_usage: whether a stream ends with its usage. with_logprobs: whether they were wanted."""

    id: str
    created: int
    model: str
    fingerprint: str
    with_usage: bool = False
    with_logprobs: bool = False

    @property
    def fields(self) -> HeadFields:
        return HeadFields(id=self.id, created=self.created, model=self.model, system_fingerprint=self.fingerprint)


@dataclass(frozen=True, slots=True)
class WholeAnswer:
    text: str
    finish: Finish
    tokens: tuple[TokenLogp, ...]


class Replies(Protocol):
    """The forms of one route."""

    def first(self, index: int) -> BaseModel | None:
        """What opens an answer in a stream."""

    def more(self, index: int, text: str, tokens: Sequence[TokenLogp]) -> BaseModel: ...

    def last(self, index: int, finish: Finish) -> BaseModel: ...

    def counted(self, usage: Usage) -> BaseModel: ...

    def whole(self, answers: Sequence[WholeAnswer], usage: Usage) -> BaseModel: ...


class ChatReplies:
    def __init__(self, head: ReplyHead) -> None:
        self._head = head

    def first(self, index: int) -> ChatChunk:
        return self._chunk([self._choice(index, Delta(role="assistant", content=""))])

    def more(self, index: int, text: str, tokens: Sequence[TokenLogp]) -> ChatChunk:
        return self._chunk([self._choice(index, Delta(content=text), tokens)])

    def last(self, index: int, finish: Finish) -> ChatChunk:
        return self._chunk([ChatChunkChoice(index=index, delta=Delta(), logprobs=None, finish_reason=finish)])

    def counted(self, usage: Usage) -> ChatChunk:
        return self._chunk([]).model_copy(update={"usage": usage})

    def whole(self, answers: Sequence[WholeAnswer], usage: Usage) -> ChatCompletion:
        choices = [
            ChatChoice(
                index=index,
                message=AnswerTurn(role="assistant", content=answer.text, refusal=None, annotations=[]),
                logprobs=self._logprobs(answer.tokens),
                finish_reason=answer.finish,
            )
            for index, answer in enumerate(answers)
        ]
        return ChatCompletion(object="chat.completion", choices=choices, usage=usage, **self._head.fields)

    def _choice(self, index: int, delta: Delta, tokens: Sequence[TokenLogp] = ()) -> ChatChunkChoice:
        logprobs = self._logprobs(tokens) if tokens else None
        return ChatChunkChoice(index=index, delta=delta, logprobs=logprobs, finish_reason=None)

    def _logprobs(self, tokens: Sequence[TokenLogp]) -> ChatLogprobs | None:
        if not self._head.with_logprobs:
            return None
        return ChatLogprobs(content=[_token(token) for token in tokens], refusal=None)

    def _chunk(self, choices: list[ChatChunkChoice]) -> ChatChunk:
        chunk = ChatChunk(object="chat.completion.chunk", choices=choices, **self._head.fields)
        return chunk.model_copy(update={"usage": None}) if self._head.with_usage else chunk


class TextReplies:
    def __init__(self, head: ReplyHead) -> None:
        self._head = head
        self._offsets: dict[int, int] = {}

    def first(self, index: int) -> None:
        return None

    def more(self, index: int, text: str, tokens: Sequence[TokenLogp]) -> TextCompletion:
        logprobs = self._logprobs(index, tokens) if tokens else None
        return self._chunk([TextChoice(index=index, text=text, logprobs=logprobs, finish_reason=None)])

    def last(self, index: int, finish: Finish) -> TextCompletion:
        return self._chunk([TextChoice(index=index, text="", logprobs=None, finish_reason=finish)])

    def counted(self, usage: Usage) -> TextCompletion:
        return self._completion([]).model_copy(update={"usage": usage})

    def whole(self, answers: Sequence[WholeAnswer], usage: Usage) -> TextCompletion:
        choices = [
            TextChoice(
                index=index,
                text=answer.text,
                logprobs=self._logprobs(index, answer.tokens),
                finish_reason=answer.finish,
            )
            for index, answer in enumerate(answers)
        ]
        return self._completion(choices).model_copy(update={"usage": usage})

    def _logprobs(self, index: int, tokens: Sequence[TokenLogp]) -> TextLogprobs | None:
        if not self._head.with_logprobs:
            return None
        offsets = []
        for token in tokens:
            offsets.append(self._offsets.get(index, 0))
            self._offsets[index] = offsets[-1] + len(token.token)
        return TextLogprobs(
            tokens=[token.token for token in tokens],
            token_logprobs=[token.logp for token in tokens],
            top_logprobs=[dict(token.top) for token in tokens],
            text_offset=offsets,
        )

    def _chunk(self, choices: list[TextChoice]) -> TextCompletion:
        chunk = self._completion(choices)
        return chunk.model_copy(update={"usage": None}) if self._head.with_usage else chunk

    def _completion(self, choices: list[TextChoice]) -> TextCompletion:
        return TextCompletion(object="text_completion", choices=choices, **self._head.fields)


def with_sources(reply: BaseModel, sources: Sequence[Chunk] | None) -> BaseModel:
    """The reply, or the first chunk of one, of a winner that retrieves."""
    if sources is None:
        return reply
    found = [
        Source(id=chunk.id, document=chunk.document, headings=list(chunk.headings), text=chunk.text)
        for chunk in sources
    ]
    return reply.model_copy(update={"sources": found})


def usage_of(prompt_tokens: int, completion_tokens: int) -> Usage:
    return Usage(
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        total_tokens=prompt_tokens + completion_tokens,
    )


def as_json(reply: BaseModel) -> bytes:
    """Without what was never set, such as the sources of a winner that has none."""
    return reply.model_dump_json(exclude_unset=True).encode()


def as_event(reply: BaseModel) -> bytes:
    """One event of a stream."""
    return b"data: " + as_json(reply) + b"\n\n"


DONE = b"data: [DONE]\n\n"


def _token(token: TokenLogp) -> TokenLogprob:
    alternatives = [Alternative(token=text, logprob=logp, bytes=_bytes(text)) for text, logp in token.top]
    return TokenLogprob(token=token.token, logprob=token.logp, bytes=_bytes(token.token), top_logprobs=alternatives)


def _bytes(token: str) -> list[int] | None:
    return None if "\N{REPLACEMENT CHARACTER}" in token else list(token.encode())
