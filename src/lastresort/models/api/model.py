"""A model behind an OpenAI-compatible endpoint: OpenAI itself, vLLM, Ollama, llama.cpp, a gateway.

The client's own retries are off. Ours are seeded, respect Retry-After and end in an InfrastructureError, so a failing
connection is never scored as a wrong answer. Replies are limited in bytes and in time, nothing follows a redirect, and what a
failed call may have cost is counted.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any, TypeVar

from lastresort.errors import ContractError, InfrastructureError, PrerequisiteError, TaskError
from lastresort.keys import HOSTS, is_secret, known_keys, redacted_stream
from lastresort.models.api.connection import REPLY_TIMES, connected, events, passing_faults, timeouts
from lastresort.models.api.costs import Call, CallCosts
from lastresort.models.api.refusals import CommandDenied, error_of_status, read_denial
from lastresort.models.api.replies import (
    AnswerPiece,
    OfferedModel,
    Reply,
    ServedModel,
    read_offered,
    read_piece,
    read_reply,
    refuse_too_long,
)
from lastresort.models.api.requests import ClientParameters, Request, RequestBuilder, unwrapped
from lastresort.models.calls import RetryPolicy, TransientFailure, retry, run_concurrently, within
from lastresort.models.endpoint import Endpoint, key_for
from lastresort.models.protocol import OnAnswer, Pay, Prompt, SharedTokens, estimated_prompt_tokens, sample_indices
from lastresort.stop import Stop
from lastresort.types import Answer, Decoding, JsonObject

if TYPE_CHECKING:
    import openai


T = TypeVar("T")


class ApiModel:
    """Asks the endpoint, `concurrency` prompts at a time.

    prompt_price, output_price: USD per million tokens. client: parameters to send in place of our own. neutral: further keys, which
    put the server's own defaults aside. timeout_s: for each read of a reply; a whole one may take twice as long. named: whether the
    user named this endpoint, which decides whether LASTRESORT_API_KEY goes there. on_lost: given what calls may have cost that gave
    no answer. sleep, clock (seconds, any origin) and now (seconds since 1970) are arguments so that tests need not wait.

    Raises PrerequisiteError if the endpoint needs a key and the environment holds none, TaskError if it takes no
    template_kwargs, or if the key would travel unencrypted.
    """

    batch_matters = False
    rendering = rendering_fingerprint = computed_by = ""
    precision = "auto"
    score = None
    context_tokens: int | None = None

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        prompt_price: float = 0.0,
        output_price: float = 0.0,
        template_kwargs: JsonObject | None = None,
        client: ClientParameters | None = None,
        neutral: JsonObject | None = None,
        concurrency: int = 8,
        timeout_s: float = 120.0,
        named: bool = True,
        on_lost: Pay = lambda usd: None,
        patience: RetryPolicy | None = None,
        sleep: Callable[[float], object] | None = None,
        clock: Callable[[], float] = time.perf_counter,
        now: Callable[[], float] = time.time,
        seed: int = 0,
    ) -> None:
        self._endpoint, self._timeout_s, self._concurrency = endpoint, timeout_s, concurrency
        self._patience, self._seed = patience or RetryPolicy(), seed
        self._sleep, self._clock, self._now = sleep, clock, now
        template_kwargs = dict(template_kwargs or {})
        if template_kwargs and endpoint.is_openai:
            raise TaskError(
                f"openai:{endpoint.model} takes no chat_template_kwargs", remedy="Leave it out for this model."
            )
        self._key = key_for(endpoint, os.environ, named=named)
        if endpoint.is_openai and not self._key:
            raise PrerequisiteError(f"no key for openai:{endpoint.model}", remedy=f"Set {endpoint.key_name}.")
        own = (self._key,) if is_secret(self._key) else ()
        self._secrets = tuple(dict.fromkeys((*own, *known_keys(os.environ))))
        self._on_lost = on_lost
        self._client = connected(endpoint, self._key, timeout_s)
        self.name = f"openai:{endpoint.model}" if endpoint.is_openai else f"{endpoint.url}#{endpoint.model}"
        self.batch_size = 4 * concurrency
        self._served = ServedModel(self.name)
        self._requests = RequestBuilder(
            endpoint,
            name=self.name,
            template_kwargs=template_kwargs,
            timeout_s=timeout_s,
            client=client,
            neutral=neutral,
        )
        self._costs = CallCosts((prompt_price, output_price), self._requests, self.name)
        identity: JsonObject = {"endpoint": endpoint.url, "model": endpoint.model, "template": template_kwargs}
        if client is not None:
            identity["client"] = client.values
        if neutral:
            identity["neutral"] = neutral
        self.fingerprint = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()

    def count_tokens(self, prompt: Prompt) -> int:
        return estimated_prompt_tokens(prompt)

    def shared_tokens(self, prompts: Sequence[Prompt]) -> SharedTokens:
        return SharedTokens.none(len(prompts))

    def check_decoding(self, decoding: Decoding) -> None:
        """Only the server knows."""

    def generate(
        self, prompts: Sequence[Prompt], decoding: Decoding, on_answer: OnAnswer | None = None
    ) -> list[Answer]:
        """Answers in the order of the prompts, each passed to on_answer in this thread as it arrives.

        A prompt that occurs n times is sent with seeds seed, seed + 1, …, so samples differ on servers that honour seeds.
        Raises CandidateError if the server refuses the answer's format, or if a prompt is too long for the model.
        """
        answers: dict[int, Answer] = {}
        seeds = [decoding.seed + sample for sample in sample_indices(prompts)]
        these = object()  # a call that was left behind may end while later ones are under way

        def take(index: int, answer: Answer) -> None:
            answers[index] = replace(answer, paid=answer.paid + self._costs.take_lost())
            if on_answer is not None:
                on_answer(index, answers[index])
            self._costs.arrived((these, index))

        def work(index: int, stop: threading.Event) -> Answer:
            return self._answer(prompts[index], decoding, seeds[index], (these, index), stop)

        try:
            run_concurrently(work, len(prompts), workers=self._concurrency, on_result=take)
        finally:
            if lost := self._costs.take_lost() + self._costs.take_under_way():
                self._on_lost(lost)
        if len(answers) != len(prompts):
            raise ContractError(f"{len(answers)} answers to {len(prompts)} prompts", where=self.name)
        return [answers[index] for index in range(len(prompts))]

    def replies(
        self,
        prompts: Sequence[Prompt],
        decoding: Decoding,
        *,
        served_as: str | None = None,
        extra: Mapping[str, Any] | None = None,
        without: Collection[str] = (),
    ) -> list[Reply]:
        """The server's replies in the order of the prompts, with all that they carry. Sent and retried as by `generate`.

        served_as: the model to ask for in place of the endpoint's. extra: further keys of each request. without: keys that are left
        out of it.
        """
        replies: dict[int, Reply] = {}
        seeds = [decoding.seed + sample for sample in sample_indices(prompts)]
        model = self._endpoint.model if served_as is None else served_as

        def post(request: Request) -> Reply:
            request = {**request, "model": model, "extra_body": {**request.get("extra_body", {}), **(extra or {})}}
            request = {key: value for key, value in request.items() if key not in without}
            return self._send(request, format_sent=decoding.grammar is not None)

        def work(index: int, stop: threading.Event) -> Reply:
            return self._persistently(
                lambda: self._requests.send(prompts[index], decoding, seeds[index], post), index, stop
            )

        run_concurrently(work, len(prompts), workers=self._concurrency, on_result=replies.__setitem__)
        return [replies[index] for index in range(len(prompts))]

    def stream(
        self, prompt: Prompt, decoding: Decoding, *, on_answer: OnAnswer | None = None, stop: Stop | None = None
    ) -> Iterator[str]:
        """One answer as the server sends it, retried until its first words arrive.

        Choices come in one piece, since they travel inside an object. Raises InfrastructureError if the connection breaks later.
        """
        start = self._clock()
        first, others = self._persistently(lambda: self._begun(prompt, decoding), 0, threading.Event())
        received: list[AnswerPiece] = []
        held = decoding.grammar is not None and decoding.grammar.choices is not None
        whole = ""
        with closing(others):
            texts = self._texts(first, others, received, stop)
            for text in redacted_stream(texts, self._secrets):
                whole += text
                if not held:
                    yield text
        stopped = stop is not None and stop.requested() is not None
        finish = next((piece.finish for piece in reversed(received) if piece.finish), "length" if stopped else None)
        if finish is None:
            raise self._broken_off("the reply is not finished")
        text = unwrapped(whole, decoding.grammar)
        if held:
            yield text
        if on_answer is not None:
            counted = next((piece for piece in reversed(received) if piece.completion_tokens is not None), received[0])
            reply = Reply(
                text,
                finish,
                counted.prompt_tokens,
                counted.completion_tokens,
                written_bytes=len(text.encode(errors="replace")),
            )
            on_answer(0, self._costs.priced(reply, prompt, decoding, self._clock() - start))

    def _texts(
        self, first: AnswerPiece, others: Iterator[AnswerPiece], received: list[AnswerPiece], stop: Stop | None
    ) -> Iterator[str]:
        """The pieces' texts. The pieces themselves go to `received`."""
        length = 0
        for piece in self._unbroken(first, others):
            received.append(replace(piece, text=""))
            length += len(piece.text)
            if piece.text:
                yield piece.text
            if stop is not None and stop.requested() is not None:
                return

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def command(
        self, path: str, body: Mapping[str, Any], *, patience: RetryPolicy | None = None
    ) -> CommandDenied | None:
        """POST to a path below the address, such as /load_lora_adapter. Retried if the connection or a gateway fails.

        None if the server did it. Raises InfrastructureError once patience is used up.
        """
        import openai

        def attempt() -> CommandDenied | None:
            try:
                with passing_faults(self._timeout_s):
                    within(
                        REPLY_TIMES * self._timeout_s,
                        lambda: self._client.post(path, cast_to=str, body=dict(body)),
                    )
            except openai.APIStatusError as error:
                return read_denial(error, redact=self._secrets, now_s=self._now())
            return None

        return self._persistently(attempt, 0, threading.Event(), patience)

    def offered(self, *, patience: RetryPolicy | None = None) -> tuple[OfferedModel, ...]:
        """The models that the server lists. Raises TaskError where it has no such list, InfrastructureError where it does not
        answer.
        """
        import openai

        def attempt() -> tuple[OfferedModel, ...]:
            start = time.monotonic()
            try:
                with passing_faults(self._timeout_s):
                    raw = within(REPLY_TIMES * self._timeout_s, self._client.models.with_raw_response.list)
            except openai.APIStatusError as error:
                raise self._refusal(error, start, format_sent=False) from None
            return read_offered(raw.http_response.content, redact=self._secrets)

        return self._persistently(attempt, 0, threading.Event(), patience)

    def _answer(self, prompt: Prompt, decoding: Decoding, seed: int, call: Call, stop: threading.Event) -> Answer:
        def attempt() -> tuple[Reply, float]:
            start = self._clock()
            most = self._costs.begin(call, prompt, decoding)
            try:
                reply = self._ask(prompt, decoding, seed)
            except BaseException as failure:
                left_behind = not self._costs.arrived(call)
                if isinstance(failure, TransientFailure) and failure.maybe_paid and not left_behind:
                    self._costs.lose(most)
                raise
            return reply, self._clock() - start

        reply, seconds = self._persistently(attempt, call[1], stop)
        return self._costs.priced(reply, prompt, decoding, seconds)

    def _persistently(
        self, attempt: Callable[[], T], index: int, stop: threading.Event, patience: RetryPolicy | None = None
    ) -> T:
        return retry(
            attempt,
            patience=patience or self._patience,
            random=Random(f"{self._seed}:{index}"),
            sleep=stop.wait if self._sleep is None else self._sleep,
            stopping=stop.is_set,
            where=self.name,
        )

    def _ask(self, prompt: Prompt, decoding: Decoding, seed: int) -> Reply:
        grammar = decoding.grammar
        reply = self._requests.send(
            prompt, decoding, seed, lambda request: self._send(request, format_sent=grammar is not None)
        )
        return replace(reply, text=unwrapped(reply.text, grammar))

    def _begun(self, prompt: Prompt, decoding: Decoding) -> tuple[AnswerPiece, Generator[AnswerPiece, None, None]]:
        """The first piece that has text or ends the answer, and an iterator over the others."""

        def post(request: Request) -> tuple[AnswerPiece, Generator[AnswerPiece, None, None]]:
            pieces = self._pieces(request, format_sent=decoding.grammar is not None)
            for piece in pieces:
                if piece.text or piece.finish is not None:
                    return piece, pieces
            raise TransientFailure("the reply is empty and not finished")

        return self._requests.send(prompt, decoding, decoding.seed, post, stream=True)

    def _pieces(self, request: Request, *, format_sent: bool) -> Generator[AnswerPiece, None, None]:
        import openai

        timeout_s = request.get("timeout", self._timeout_s)
        open_stream = self._client.chat.completions.with_streaming_response.create
        timed = {**request, "timeout": timeouts(timeout_s), "stream": True}
        start = time.monotonic()
        try:
            with passing_faults(timeout_s), ExitStack() as stack:
                reply = within(REPLY_TIMES * timeout_s, lambda: stack.enter_context(open_stream(**timed)))
                length = 0
                for data in events(reply.iter_bytes()):
                    piece = read_piece(data, redact=self._secrets)
                    self._served.note(request["model"], piece.model)
                    length += len(piece.text)
                    refuse_too_long(length)
                    yield piece
        except openai.APIStatusError as error:
            raise self._refusal(error, start, format_sent=format_sent) from None

    def _unbroken(self, first: AnswerPiece, others: Iterator[AnswerPiece]) -> Iterator[AnswerPiece]:
        """All pieces. A failure that would be retried before the first word ends the answer here, as part of it was shown."""
        yield first
        try:
            yield from others
        except TransientFailure as fault:
            raise self._broken_off(fault.reason) from fault

    def _broken_off(self, reason: str) -> InfrastructureError:
        return InfrastructureError(f"the answer broke off ({reason})", where=self.name, remedy="Ask again.")

    def _send(self, request: Request, *, format_sent: bool) -> Reply:
        reply = self._post(request, format_sent=format_sent)
        while self._served.is_doubtful(request["model"], reply.model):
            self._costs.lose(self._costs.most_usd(request))
            reply = self._post(request, format_sent=format_sent)
        return reply

    def _post(self, request: Request, *, format_sent: bool) -> Reply:
        import openai

        timeout_s = request.get("timeout", self._timeout_s)
        timed = {**request, "timeout": timeouts(timeout_s)}
        create = self._client.chat.completions.with_raw_response.create
        start = time.monotonic()
        try:
            with passing_faults(timeout_s):
                raw = within(REPLY_TIMES * timeout_s, lambda: create(**timed))
        except openai.APIStatusError as error:
            raise self._refusal(
                error, start, format_sent=format_sent
            ) from None  # the original holds the request with its key
        return read_reply(raw.http_response.content, redact=self._secrets)

    def _refusal(self, error: openai.APIStatusError, start: float, *, format_sent: bool) -> Exception:
        """start: of the request, on the clock that only moves on."""
        return error_of_status(
            error,
            where=self.name,
            key_remedy=self._key_remedy(),
            format_sent=format_sent,
            redact=self._secrets,
            now_s=self._now(),
            waited_s=time.monotonic() - start,
        )

    def _key_remedy(self) -> str:
        name, host = self._endpoint.key_name, self._endpoint.host
        if self._key or self._endpoint.is_openai or not os.environ.get(name, "").strip():
            return f"Set {name} to a key that may use this model."
        return (
            f"{name} was not sent, since it belongs to other hosts. If it belongs to this one, add {host} to {HOSTS}."
        )
