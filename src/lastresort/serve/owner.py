"""Who computes the answers: one thread with continuous batches for a local model, a few threads for one that only answers."""

from __future__ import annotations

import atexit
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lastresort.errors import (
    CandidateError,
    ContractError,
    InfrastructureError,
    InputError,
    LastresortError,
    StoppedError,
    TooLongError,
)
from lastresort.hardware.memory import give_back_freed_memory, is_lack_of_memory
from lastresort.hardware.threads import ThreadsByRows, kind_of
from lastresort.models.constrained import GrowingText, StreamedText
from lastresort.models.open import local_model
from lastresort.models.protocol import Model
from lastresort.serve.desk import Desk, Job
from lastresort.serve.work import Deliver, Draining, Ended, Failed, Load, Owner, Piece, TokenLogp, Work
from lastresort.stop import StopRequest
from lastresort.types import Answer

if TYPE_CHECKING:
    from lastresort.engine.continuous import ContinuousBatch, Shelf
    from lastresort.engine.live_rows import Continuation, LiveRow
    from lastresort.models.local import LocalModel

LONGEST_QUEUE = 256
MOST_SLOTS, THREADS = 32, 8
LONGEST_TOKENS = 8192  # of a text, for a model whose context is not known
STEPS_A_CHOICE = 64  # for which the number of threads that compute is kept

_log = logging.getLogger("lastresort")


def open_owners(
    models: Mapping[str, Model],
    *,
    slots: int | None = None,
    longest_tokens: int | None = None,
) -> dict[str, Owner]:
    """The owner of each of these models, which stay the caller's to close. They are named as they are served; a model may have
    several names. slots: answers computed at once. longest_tokens: of a prompt with its answer. None for what suits the model.

    All local models have one owner, which computes them in turns: side by side they would take each other's cores. Their weights
    must not change from here on.
    """
    local = {name: found for name, model in models.items() if (found := local_model(model)) is not None}
    owners: dict[str, Owner] = {}
    if local:
        from lastresort.engine.packed_weights import pack_weights

        distinct = {id(model): model for model in local.values()}
        pack_weights([model.loaded.model for model in distinct.values()])
        shelves: Callable[[LocalModel], Sequence[Shelf]]
        shelves = lambda model: plan_shelves(model, slots, len(distinct), longest_tokens)  # noqa: E731
        owner = LocalOwner(local, shelves=shelves)
        owners |= dict.fromkeys(local, owner)
    asked: dict[int, AskingOwner] = {}
    for name, model in models.items():
        if name not in local:
            if id(model) not in asked:
                asked[id(model)] = AskingOwner(model, threads=slots or THREADS)
            owners[name] = asked[id(model)]
    return owners


def plan_shelves(
    model: LocalModel, slots: int | None = None, models: int = 1, longest_tokens: int | None = None
) -> tuple[Shelf, ...]:
    """Slots for as many tokens as the model's batches have room for: half of them for many short answers, half for a few as
    long as its context, or as this half.

    models: with a batch each. They share the slots, and each has one for its longest texts, so that what fits does not depend on
    the others. longest_tokens: in place of that half, where the memory for one slot of it is there.
    """
    from lastresort.engine.continuous import Shelf
    from lastresort.hardware.plan.memory import ROW_TOKENS

    half = model.batch_size * ROW_TOKENS // 2
    slots = min(MOST_SLOTS, model.batch_size) if slots is None else slots
    longest = min(model.context_tokens or longest_tokens or LONGEST_TOKENS, longest_tokens or half)
    short, own_slots = half // slots, max(1, slots // models)
    if short >= longest:
        return (Shelf(own_slots, longest),)
    return Shelf(own_slots, short), Shelf(max(1, half // models // longest), longest)


@dataclass(slots=True, eq=False)
class _Lane:
    """A model at work. used: share of its slots' tokens in use."""

    model: LocalModel
    batch: ContinuousBatch
    longest_tokens: int
    growing: dict[LiveRow, _Growing] = field(default_factory=dict)
    used: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class _Prepared:
    """What is computed, and by which model."""

    lane: _Lane
    asked: Continuation

    @property
    def has_room(self) -> bool:
        return self.lane.batch.has_room(self.asked)


class LocalOwner:
    """One thread that computes continuous batches, a step of each model in turn. models: by the names under which they are served.
    shelves: the slots of a model's batch, which is all the memory it takes.

    An answer is the text that `model.generate` gives for this prompt alone, up to rounding: where precision is reduced, what else
    is in the batch can change it.
    """

    def __init__(
        self,
        models: Mapping[str, LocalModel],
        *,
        shelves: Callable[[LocalModel], Sequence[Shelf]],
        longest_queue: int = LONGEST_QUEUE,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._clock = clock
        distinct = {id(model): _lane(model, shelves(model)) for model in models.values()}
        self._lanes = {name: distinct[id(model)] for name, model in models.items()}
        self._threads = ThreadsByRows(next(iter(models.values())).loaded.model)
        self._desk: Desk[_Prepared] = Desk(longest_queue)
        self._preparing = threading.Lock()  # tokenizers are not made for several threads
        self._fault: Exception | None = None
        self._thread = threading.Thread(
            target=self._run, args=(tuple(distinct.values()),), name="lastresort-owner", daemon=True
        )
        self._thread.start()
        atexit.register(self.close)  # a thread that computes while the interpreter is taken down would abort it

    @property
    def load(self) -> Load:
        return self._desk.load(max((lane.used for lane in self._lanes.values()), default=0.0))

    def load_of(self, model: str) -> Load:
        lane = self._lanes.get(model)
        return self._desk.load(0.0 if lane is None else lane.used, model)

    def longest_tokens_of(self, model: str) -> int | None:
        lane = self._lanes.get(model)
        return None if lane is None else lane.longest_tokens

    @property
    def fault(self) -> Exception | None:
        return self._fault

    def submit(self, work: Work, deliver: Deliver) -> Callable[[], None]:
        self._desk.refuse_if_full()
        lane = self._lanes.get(work.model)
        if lane is None:  # closed
            raise Draining
        with self._preparing:
            asked = lane.model.continuation(work.prompt, work.decoding, top_logps=work.top_logprobs)
        if not lane.batch.fits(asked):
            raise TooLongError(
                f"{len(asked.tokens)} prompt tokens and {asked.settings.max_new_tokens} for the answer exceed the server's memory",
                where="serve",
                expected=f"at most {lane.longest_tokens} together",
                remedy="Shorten the prompt, or ask for a shorter answer.",
            )
        return self._desk.submit(Job(work, deliver, _Prepared(lane, asked)))

    def drain(self, within_s: float) -> bool:
        return self._desk.drain(within_s)

    def close(self) -> None:
        atexit.unregister(self.close)
        self._desk.close()
        self._thread.join()
        self._lanes = {}
        self._threads.release()
        give_back_freed_memory()

    def _run(self, lanes: Sequence[_Lane]) -> None:
        try:
            while self._desk.wait():
                self._compute(lanes)
            for lane in lanes:
                self._leave(lane, list(lane.growing))
        except Exception as error:  # noqa: BLE001 - such as a GPU that is lost: not even a slot can be freed
            _log.critical("no answer can be computed any more", exc_info=error)
            self._desk.close()
            self._fault = error
            for lane in lanes:
                for growing in lane.growing.values():
                    self._desk.done(growing.job)
                lane.growing.clear()

    def _compute(self, lanes: Sequence[_Lane]) -> None:
        """Steps until nothing is left to compute."""
        self._admit()
        while (tokens := _tokens_of_step(lanes)) and not self._desk.closed:
            with self._threads.chosen(tokens):
                self._compute_alike(lanes, kind_of(tokens))

    def _compute_alike(self, lanes: Sequence[_Lane], kind: int) -> None:
        """Steps of so many tokens, but no more than a number of threads is kept for."""
        for _ in range(STEPS_A_CHOICE):
            for lane in lanes:
                if lane.growing:
                    self._step(lane)
                    self._leave(lane, [row for row, growing in lane.growing.items() if growing.job.over])
            self._admit()
            if self._desk.closed or kind_of(_tokens_of_step(lanes)) != kind:
                return

    def _admit(self) -> None:
        """Let join what has room."""
        while (job := self._desk.next(lambda prepared: prepared.has_room)) is not None:
            lane = job.prepared.lane
            try:
                row = lane.batch.join(job.prepared.asked)
                shown = StreamedText(job.work.decoding.stop)
                lane.growing[row] = _Growing(job, GrowingText(lane.model.text_of), shown)
            except Exception as error:  # noqa: BLE001 - whoever waits for the answer gets to know it
                job.tell(Failed(_told(error)))
                self._desk.done(job)

    def _step(self, lane: _Lane) -> None:
        began = self._clock()
        try:
            rows = lane.batch.step()
        except Exception as error:  # noqa: BLE001 - the rows are lost, the thread goes on
            lane.batch.clear()
            for growing in lane.growing.values():
                growing.job.tell(Failed(_told(error)))
            return
        lane.used = lane.batch.used
        seconds = (self._clock() - began) / max(1, len(rows))
        for row in rows:
            growing = lane.growing[row]
            growing.seconds += seconds
            try:
                _tell(lane.model, row, growing)
            except Exception as error:  # noqa: BLE001 - whoever waits for the answer gets to know it
                growing.job.tell(Failed(_told(error)))

    def _leave(self, lane: _Lane, rows: Sequence[LiveRow]) -> None:
        for row in rows:
            lane.batch.leave(row)
            self._desk.done(lane.growing.pop(row).job)
        if rows:
            lane.used = lane.batch.used


def _tokens_of_step(lanes: Sequence[_Lane]) -> int:
    """The most that one of them multiplies at once."""
    return max(lane.batch.tokens_of_step for lane in lanes)


def _lane(model: LocalModel, shelves: Sequence[Shelf]) -> _Lane:
    from lastresort.engine.continuous import ContinuousBatch

    return _Lane(model, ContinuousBatch(model.loaded.model, shelves), max(shelf.tokens for shelf in shelves))


def _tell(model: LocalModel, row: LiveRow, growing: _Growing) -> None:
    """Deliver what is new of a row."""
    job, result = growing.job, row.result  # the result first: a plain row grows in another thread
    if row.error is not None:
        job.tell(Failed(_told(row.error)))
        return
    logps = row.logps[growing.told :]
    growing.told += len(logps)
    tokens = tuple(
        TokenLogp(_token(model, one.token), one.logp, tuple((_token(model, token), logp) for token, logp in one.top))
        for one in logps
    )
    if result is None:
        answer, text = None, growing.text.grow(growing.decoded.of(row.tokens))
    else:
        answer = model.answer_of(len(row.asked.tokens), result, job.work.decoding, growing.seconds)
        text = growing.text.finish(answer.text)
    if text or tokens:
        job.tell(Piece(text, tokens))
    if answer is not None:
        job.tell(Ended(answer))


def _token(model: LocalModel, token: int) -> str:
    return model.text_of([token], special=True)


@dataclass(slots=True)
class _Growing:
    """An answer that is being computed. told: tokens whose log-probabilities were delivered. seconds: its share of the steps."""

    job: Job[_Prepared]
    decoded: GrowingText
    text: StreamedText
    told: int = 0
    seconds: float = 0.0


class AskingOwner:
    """A few threads that ask a model which only answers: an endpoint, or a script."""

    def __init__(self, model: Model, *, threads: int = THREADS, longest_queue: int = LONGEST_QUEUE) -> None:
        self._model, self._size = model, threads
        self._desk: Desk[None] = Desk(longest_queue)
        self._threads = [
            threading.Thread(target=self._run, name=f"lastresort-asking-{i}", daemon=True) for i in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def load(self) -> Load:
        return self._desk.load(self._desk.running / self._size)

    def load_of(self, model: str) -> Load:
        return self._desk.load(self._desk.running / self._size, model)

    def longest_tokens_of(self, model: str) -> int | None:
        return self._model.context_tokens

    @property
    def fault(self) -> Exception | None:
        return None

    def submit(self, work: Work, deliver: Deliver) -> Callable[[], None]:
        if isinstance(work.prompt, str):
            raise self._unable("a text to continue", "a conversation", "Send messages.")
        if work.top_logprobs is not None:
            raise self._unable("log-probabilities asked for", "a model with local weights", "Ask without them.")
        self._desk.refuse_if_full()
        self._model.check_decoding(work.decoding)
        return self._desk.submit(Job(work, deliver, None))

    def drain(self, within_s: float) -> bool:
        return self._desk.drain(within_s)

    def close(self) -> None:
        """A thread that waits for an endpoint ends when its answer arrives or its connection is closed."""
        self._desk.close()

    def _run(self) -> None:
        while self._desk.wait():
            if (job := self._desk.next()) is None:  # another thread was first
                continue
            try:
                self._answer(job)
            except Exception as error:  # noqa: BLE001 - whoever waits for the answer gets to know it
                job.tell(Failed(_told(error)))
            finally:
                self._desk.done(job)

    def _answer(self, job: Job[None]) -> None:
        assert not isinstance(job.work.prompt, str)
        answers: list[Answer] = []
        pieces = self._model.stream(
            job.work.prompt,
            job.work.decoding,
            on_answer=lambda _, answer: answers.append(answer),
            stop=_UntilOver(job),
        )
        for text in pieces:
            job.tell(Piece(text))
        if not answers and not job.over:
            raise ContractError("the model ended without an answer", where=self._model.name)
        for answer in answers:
            job.tell(Ended(answer))

    def _unable(self, found: str, expected: str, remedy: str) -> CandidateError:
        return CandidateError(found, where=self._model.name, expected=expected, remedy=remedy)


@dataclass(frozen=True, slots=True)
class _UntilOver:
    """Asks a model to stop once nobody waits for its answer."""

    job: Job[None]

    def requested(self) -> StopRequest | None:
        return StopRequest("signal", "the request was cancelled") if self.job.over else None


def _told(error: Exception) -> LastresortError:
    """The error as whoever waits for the answer gets it."""
    if isinstance(error, LastresortError):
        if not isinstance(error, InputError | CandidateError | StoppedError):  # the client is not told why
            _log.error("an answer could not be computed: %s", error)
        return error
    if is_lack_of_memory(error):
        return InfrastructureError(
            "there is not enough memory", where="serve", remedy="Send a shorter prompt, or serve fewer answers at once."
        )
    _log.error("an answer could not be computed", exc_info=error)
    return ContractError(f"{type(error).__name__}: {error}", where="serve")
