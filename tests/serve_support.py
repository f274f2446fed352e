"""A server in this process on a free port, and an owner that answers word by word from any model, in a thread of its own."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import httpx

from lastresort.errors import InfrastructureError, LastresortError
from lastresort.models.protocol import Model
from lastresort.models.scripted import Script, ScriptedModel
from lastresort.serve.answers import RequestComposer
from lastresort.serve.guard import GuardSettings
from lastresort.serve.http import Offering, Service, create_app
from lastresort.serve.opening import ServeRequest
from lastresort.serve.start import Serving, serve
from lastresort.serve.transport import DrainingServer
from lastresort.serve.work import Deliver, Draining, Ended, Failed, Load, Owner, Piece, QueueFull, TokenLogp, Work
from lastresort.stop import StopSignal
from lastresort.systems.answerer import Answerer
from lastresort.systems.compose import Lookup
from lastresort.systems.system import PromptDesign, System
from lastresort.types import Answer, Decoding, Message

ABOUT = "Route the ticket."
LONG = " ".join(f"word{number}" for number in range(200))
SCRIPT = Script(
    answers={
        "late parcel": "shipping",
        "talk": LONG,
        "padded": "  spaced answer \n",
        "think": "So it is.\nAnswer: billing",
    },
    default="other",
)


class TalkingModel(ScriptedModel):
    """A scripted model that has log-probabilities."""

    score: Any = staticmethod(lambda prompts, texts: [])


@dataclass
class _Running:
    work: Work
    deliver: Deliver
    cancelled: bool = False
    words: deque[str] = field(default_factory=deque)
    said: int = 0
    answer: Answer | None = None


class WordOwner:
    """slots, queue: how many at once, and how many wait. steps: while it is clear, no step is made. step_s: how long one takes.
    fails: raised by the model after so many words of an answer. log: the works in their order.
    """

    def __init__(
        self,
        model: Model,
        *,
        slots: int = 4,
        queue: int = 64,
        step_s: float = 0.0,
        fails: dict[int, Exception] | None = None,
    ) -> None:
        self._model, self._slots, self._queue, self._fails = model, slots, queue, fails or {}
        self.step_s, self._lock = step_s, threading.Condition()
        self._waiting: list[_Running] = []
        self._running: list[_Running] = []
        self._draining = self._closed = False
        self.steps = threading.Event()
        self.steps.set()
        self.log: list[Work] = []
        self.cancelled = 0
        self.fault: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="words", daemon=True)
        self._thread.start()

    @property
    def load(self) -> Load:
        with self._lock:
            return Load(len(self._running), len(self._waiting), len(self._running) / self._slots)

    def load_of(self, model: str) -> Load:
        with self._lock:
            running, waiting = (sum(job.work.model == model for job in jobs) for jobs in (self._running, self._waiting))
            return Load(running, waiting, running / self._slots)

    def longest_tokens_of(self, model: str) -> int | None:
        return self._model.context_tokens

    def submit(self, work: Work, deliver: Deliver) -> Callable[[], None]:
        with self._lock:
            if self._draining:
                raise Draining
            if len(self._waiting) >= self._queue:
                raise QueueFull(2.5)
            job = _Running(work, deliver)
            self._waiting.append(job)
            self.log.append(work)
            self._admit()

        def cancel() -> None:
            with self._lock:
                if not job.cancelled and (job in self._waiting or job in self._running):
                    self.cancelled += 1
                job.cancelled = True
                for jobs in (self._waiting, self._running):
                    if job in jobs:
                        jobs.remove(job)
                self._admit()

        return cancel

    def drain(self, within_s: float) -> bool:
        with self._lock:
            self._draining = True
            finished = self._lock.wait_for(lambda: not self._waiting and not self._running, within_s)
            left, self._waiting, self._running = [*self._waiting, *self._running], [], []
        for job in left:
            job.deliver(Failed(InfrastructureError("the server is stopping")))
        return finished

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._lock.notify_all()
        self.steps.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._lock:
                self._lock.wait_for(lambda: self._closed or self._running)
                if self._closed:
                    return
                running = list(self._running)
            self.steps.wait()
            time.sleep(self.step_s)
            for job in running:
                if not job.cancelled and self._step(job):
                    with self._lock:
                        if job in self._running:
                            self._running.remove(job)
                        self._admit()

    def _admit(self) -> None:
        while self._waiting and len(self._running) < self._slots:
            self._running.append(self._waiting.pop(0))
        self._lock.notify_all()

    def _step(self, job: _Running) -> bool:
        """Whether the job has ended."""
        try:
            if job.answer is None:
                job.answer = self._answer(job.work)
                job.words = deque(re.findall(r"\s*\S+|\s+$", job.answer.text))
            if job.said in self._fails:
                raise self._fails[job.said]
        except LastresortError as error:
            job.deliver(Failed(error))
            return True
        except Exception as error:  # noqa: BLE001  as an owner reports a model that raises
            job.deliver(Failed(LastresortError(f"the model failed ({error})")))
            return True
        if not job.words:
            job.deliver(Ended(job.answer))
            return True
        word = job.words.popleft()
        job.said += 1
        wanted = job.work.top_logprobs
        tokens = () if wanted is None else (TokenLogp(word, -0.5, tuple((f"t{i}", -1.0 - i) for i in range(wanted))),)
        job.deliver(Piece(word, tokens))
        return False

    def _answer(self, work: Work) -> Answer:
        prompt = (Message("user", work.prompt),) if isinstance(work.prompt, str) else work.prompt
        return self._model.generate([prompt], work.decoding)[0]


def system(**design: Any) -> System:
    return System("few-shot", "scripted:script.json", PromptDesign(**{"instruction": ABOUT, **design}), Decoding(512))


def answerer(
    script: Script = SCRIPT, *, lookup: Lookup | None = None, has_logprobs: bool = False, **changes: Any
) -> Answerer:
    kind = TalkingModel if has_logprobs else ScriptedModel
    return Answerer(replace(system(), **changes), kind(script), lookup)


@dataclass
class Served:
    """url: without /v1. lines: of the access log."""

    url: str
    service: Service
    owner: Any
    lines: list[str]
    stop: StopSignal
    thread: threading.Thread

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def client(self, **options: Any) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=30, **options)

    def chat(
        self, content: str = "late parcel", *, headers: dict[str, str] | None = None, **more: Any
    ) -> httpx.Response:
        body = {"model": "winner", "messages": [{"role": "user", "content": content}], **more}
        return self.post("/v1/chat/completions", body, headers=headers)

    def post(self, path: str, body: Any, *, headers: dict[str, str] | None = None) -> httpx.Response:
        with self.client() as client:
            return client.post(path, json={"model": "winner", **body}, headers=headers)

    def send(self, data: bytes, *, read: bool = True) -> bytes:
        """Raw bytes, and all that comes back until the server closes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as connection:
            connection.sendall(data)
            answer = b""
            while read and (more := connection.recv(65536)):
                answer += more
            return answer


@contextmanager
def served(
    answering: Answerer | None = None,
    owner: Owner | None = None,
    *,
    key: str = "",
    raw: bool = False,
    log_bodies: bool = False,
    drain_s: float = 5.0,
    beside: Mapping[str, Answerer] | None = None,
) -> Iterator[Served]:
    """beside: other systems that are served by their names, by owners of their own."""
    answering = answering or answerer()
    owner = owner or WordOwner(answering.model)
    others = {name: (one, WordOwner(one.model)) for name, one in (beside or {}).items()}
    service = Service(
        [
            Offering(RequestComposer(answering, raw=raw), owner),
            *(Offering(RequestComposer(one, raw=False, name=name), words) for name, (one, words) in others.items()),
        ]
    )
    lines: list[str] = []
    app = create_app(service, GuardSettings(key, log_bodies), lines.append)
    listening = socket.create_server(("127.0.0.1", 0))
    ready, stop = threading.Event(), StopSignal()

    def drain() -> None:
        service.is_stopping = True
        owner.drain(drain_s)

    server = DrainingServer(app, stop=stop, drain=drain, on_ready=ready.set)
    thread = threading.Thread(target=lambda: server.run(sockets=[listening]), name="server")
    thread.start()
    assert ready.wait(30)
    try:
        yield Served(f"http://127.0.0.1:{listening.getsockname()[1]}", service, owner, lines, stop, thread)
    finally:
        stop.request()
        thread.join(30)
        service.close()
        owner.close()
        for _, words in others.values():
            words.close()
        assert not thread.is_alive()


@contextmanager
def serving(request: ServeRequest) -> Iterator[tuple[Serving, list[str]]]:
    """All that `lastresort serve` does, in a thread, on a free port."""
    stop, ready, found, lines = StopSignal(), threading.Event(), list[Serving](), list[str]()

    def told(serving: Serving) -> None:
        found.append(serving)
        ready.set()

    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(serve, replace(request, port=0), stop=stop, on_ready=told, log=lines.append)
        running.add_done_callback(lambda _: ready.set())
        assert ready.wait(120)
        if running.done():
            running.result()
        try:
            yield found[0], lines
        finally:
            stop.request()
            running.result(60)


def events(text: str) -> list[str]:
    """The data of a stream's events."""
    assert text.endswith("\n\n")
    parts = text.removesuffix("\n\n").split("\n\n")
    assert all(part.startswith("data: ") and "\n" not in part for part in parts)
    return [part.removeprefix("data: ") for part in parts]


def user(*texts: str) -> Sequence[dict[str, str]]:
    return [{"role": "user", "content": text} for text in texts]
