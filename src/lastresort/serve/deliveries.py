"""The answers of one request, from the owner's thread to the event loop, until they have ended or the client has gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from threading import Lock

from lastresort.serve.answers import AnswerJob, ShownText
from lastresort.serve.metrics import AnswerClock
from lastresort.serve.refusals import refused
from lastresort.serve.replies import WholeAnswer, usage_of
from lastresort.serve.schema import Finish, Usage
from lastresort.serve.work import Delivered, Ended, Failed, Owner, Piece, TokenLogp, Work


class ClientGone(Exception):
    """Nobody waits for the answer any more."""


class Deliveries:
    """Make it in the event loop. What arrives is kept until it is read, so a slow reader keeps no slot: an answer is bounded."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._arrived: asyncio.Queue[tuple[int, Delivered] | None] = asyncio.Queue()
        self._lock = Lock()
        self._cancels: list[Callable[[], None]] = []
        self._cancelled = self._gone = False
        self._open = 0

    def submit(self, owner: Owner, works: Sequence[Work]) -> None:
        """From any thread. Raises as the owner does; then none of them is computed."""
        self._open = len(works)
        try:
            for index, work in enumerate(works):
                cancel = owner.submit(work, partial(self._deliver, index))
                with self._lock:
                    self._cancels.append(cancel)
                    late = self._cancelled
                if late:  # the client went while this thread was submitting
                    cancel()
        except BaseException:
            self.cancel()
            raise

    def cancel(self) -> None:
        """Free the slots of what is still computed. From any thread, any number of times."""
        with self._lock:
            self._cancelled = True
            cancels, self._cancels = self._cancels, []
        for cancel in cancels:
            cancel()

    def leave(self) -> None:
        """The client has gone."""
        self.cancel()
        self._gone = True
        self._arrived.put_nowait(None)

    async def all(self) -> AsyncIterator[tuple[int, Delivered]]:
        """What arrives, with the number of its answer, until each answer has ended or failed. Raises ClientGone."""
        while self._open:
            arrived = await self._arrived.get()
            if arrived is None or self._gone:
                raise ClientGone
            if isinstance(arrived[1], Ended | Failed):
                self._open -= 1
            yield arrived

    def _deliver(self, index: int, delivered: Delivered) -> None:
        with suppress(RuntimeError):  # the loop is closed: the server has ended
            self._loop.call_soon_threadsafe(self._arrived.put_nowait, (index, delivered))


@dataclass(frozen=True, slots=True)
class AnswerPart:
    """What is shown next of an answer. finish: why it ended, None before its end."""

    index: int
    text: str
    tokens: tuple[TokenLogp, ...] = ()
    finish: Finish | None = None


class GrowingAnswers:
    """The answers of one request as they come, and what is counted of them."""

    def __init__(
        self, job: AnswerJob, deliveries: Deliveries, texts: Sequence[ShownText], clocks: Sequence[AnswerClock]
    ) -> None:
        self._n, self._deliveries, self._texts, self._clocks = job.n, deliveries, texts, clocks
        self._prompt_tokens: dict[int, int] = {}
        self._completion_tokens = 0

    @property
    def usage(self) -> Usage:
        """Of what has ended. A prompt counts once, however many answers it gets."""
        return usage_of(sum(self._prompt_tokens.values()), self._completion_tokens)

    async def parts(self) -> AsyncIterator[AnswerPart]:
        """Raises Refusal where an answer failed, ClientGone."""
        async for index, delivered in self._deliveries.all():
            yield self._part(index, delivered)

    async def whole(self) -> list[WholeAnswer]:
        """Raises as `parts` does."""
        texts, tokens = [""] * len(self._texts), [list[TokenLogp]() for _ in self._texts]
        ends: list[Finish] = ["stop"] * len(self._texts)
        async for part in self.parts():
            texts[part.index] += part.text
            tokens[part.index] += part.tokens
            ends[part.index] = part.finish or ends[part.index]
        return [WholeAnswer(*answer) for answer in zip(texts, ends, map(tuple, tokens), strict=True)]

    def _part(self, index: int, delivered: Delivered) -> AnswerPart:
        match delivered:
            case Piece(text, tokens):
                self._clocks[index].piece()
                return AnswerPart(index, self._texts[index].grow(text), tokens)
            case Ended(answer):
                self._clocks[index].ended(answer)
                self._prompt_tokens[index // self._n] = answer.prompt_tokens
                self._completion_tokens += answer.completion_tokens
                return AnswerPart(index, self._texts[index].finish(answer.text), finish=answer.finish)
            case Failed(error):
                raise refused(error)
