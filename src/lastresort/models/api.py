"""A model behind an OpenAI-compatible endpoint: OpenAI itself, vLLM, Ollama, llama.cpp, a gateway.

The client's own retries are off. Ours are seeded, respect Retry-After and end in an InfrastructureError, so a failing
connection is never scored as a wrong answer.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any, TypeVar

from lastresort.errors import ContractError, InfrastructureError, PrerequisiteError, TaskError
from lastresort.models.calls import RetryPolicy, TransientFailure, retry, run_concurrently
from lastresort.models.endpoint import Endpoint, refuse_unencrypted_key
from lastresort.models.exchange import (
    AnswerPiece,
    CommandDenied,
    Reply,
    Request,
    RequestBuilder,
    error_of_status,
    read_denial,
    read_piece,
    read_reply,
    server_message,
    unwrapped,
)
from lastresort.models.protocol import OnAnswer, Prompt, estimated_prompt_tokens, estimated_tokens, sample_indices
from lastresort.stop import Stop
from lastresort.types import Answer, Decoding, JsonObject

if TYPE_CHECKING:
    import openai


T = TypeVar("T")


class ApiModel:
    """Asks the endpoint, `concurrency` prompts at a time.

    prompt_price, output_price: USD per million tokens. sleep, clock (seconds, any origin) and now (seconds since 1970) are
    arguments so that tests need not wait.

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
        concurrency: int = 8,
        timeout_s: float = 120.0,
        patience: RetryPolicy | None = None,
        sleep: Callable[[float], object] | None = None,
        clock: Callable[[], float] = time.perf_counter,
        now: Callable[[], float] = time.time,
        seed: int = 0,
    ) -> None:
        self._endpoint, self._timeout_s, self._concurrency = endpoint, timeout_s, concurrency
        self._prices = (prompt_price, output_price)
        self._patience, self._seed = patience or RetryPolicy(), seed
        self._sleep, self._clock, self._now = sleep, clock, now
        template_kwargs = dict(template_kwargs or {})
        if template_kwargs and endpoint.is_openai:
            raise TaskError(
                f"openai:{endpoint.model} takes no chat_template_kwargs", remedy="Leave it out for this model."
            )
        self._key = os.environ.get(endpoint.key_name, "").strip()  # a file's line break would be no header
        if endpoint.is_openai and not self._key:
            raise PrerequisiteError(f"no key for openai:{endpoint.model}", remedy=f"Set {endpoint.key_name}.")
        refuse_unencrypted_key(endpoint, self._key)
        self._client = self._connected()
        self.name = f"openai:{endpoint.model}" if endpoint.is_openai else f"{endpoint.url}#{endpoint.model}"
        self.batch_size = 4 * concurrency
        self._requests = RequestBuilder(endpoint, name=self.name, template_kwargs=template_kwargs, timeout_s=timeout_s)
        identity = {"endpoint": endpoint.url, "model": endpoint.model, "template": template_kwargs}
        self.fingerprint = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()

    def count_tokens(self, prompt: Prompt) -> int:
        return estimated_prompt_tokens(prompt)

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

        def take(index: int, answer: Answer) -> None:
            answers[index] = answer
            if on_answer is not None:
                on_answer(index, answer)

        def work(index: int, stop: threading.Event) -> Answer:
            return self._answer(prompts[index], decoding, seeds[index], index, stop)

        run_concurrently(work, len(prompts), workers=self._concurrency, on_result=take)
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
    ) -> list[Reply]:
        """The server's replies in the order of the prompts, with all that they carry. Sent and retried as by `generate`.

        served_as: the model to ask for in place of the endpoint's. extra: further keys of each request.
        """
        replies: dict[int, Reply] = {}
        seeds = [decoding.seed + sample for sample in sample_indices(prompts)]
        model = self._endpoint.model if served_as is None else served_as

        def work(index: int, stop: threading.Event) -> Reply:
            request = {**self._requests.build(prompts[index], decoding, seeds[index]), "model": model}
            request["extra_body"] = {**request.get("extra_body", {}), **(extra or {})}
            return self._persistently(lambda: self._send(request, format_sent=False), index, stop)

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
        whole, finish, counts = "", first.finish, (first.prompt_tokens, first.completion_tokens)
        held = decoding.grammar is not None and decoding.grammar.choices is not None
        with closing(others):
            for piece in self._unbroken(first, others):
                whole += piece.text
                finish = piece.finish or finish
                if piece.completion_tokens is not None:
                    counts = piece.prompt_tokens, piece.completion_tokens
                if piece.text and not held:
                    yield piece.text
                if stop is not None and stop.requested() is not None:
                    finish = finish or "length"
                    break
        if finish is None:
            raise self._broken_off("the reply is not finished")
        text = unwrapped(whole, decoding.grammar)
        if held:
            yield text
        if on_answer is not None:
            reply = Reply(text, finish, *counts)
            on_answer(0, self._priced(reply, prompt, self._clock() - start))

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
                with self._passing_faults(self._timeout_s):
                    self._client.post(path, cast_to=str, body=dict(body))
            except openai.APIStatusError as error:
                return read_denial(error, redact=self._key, now_s=self._now())
            return None

        return self._persistently(attempt, 0, threading.Event(), patience)

    def _answer(self, prompt: Prompt, decoding: Decoding, seed: int, index: int, stop: threading.Event) -> Answer:
        def attempt() -> tuple[Reply, float]:
            start = self._clock()
            reply = self._ask(prompt, decoding, seed)
            return reply, self._clock() - start

        reply, seconds = self._persistently(attempt, index, stop)
        return self._priced(reply, prompt, seconds)

    def _priced(self, reply: Reply, prompt: Prompt, seconds: float) -> Answer:
        tokens_in = reply.prompt_tokens if reply.prompt_tokens is not None else estimated_prompt_tokens(prompt)
        tokens_out = reply.completion_tokens if reply.completion_tokens is not None else estimated_tokens(reply.text)
        usd = (tokens_in * self._prices[0] + tokens_out * self._prices[1]) / 1e6
        return Answer(reply.text, tokens_in, tokens_out, reply.finish, seconds=seconds, usd=usd, paid=usd)

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

        try:
            faults = self._passing_faults(request.get("timeout", self._timeout_s))
            with faults, self._client.chat.completions.create(**request, stream=True) as events:
                for event in events:
                    yield read_piece(event.model_dump())
        except openai.APIStatusError as error:
            raise self._refusal(error, format_sent=format_sent) from None
        except openai.APIError as error:  # an error in place of a piece
            raise TransientFailure(
                f"the server ends its answer with an error{server_message(error, self._key)}"
            ) from None
        except ValueError as error:
            raise TransientFailure("a piece of the reply is not JSON") from error

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
        import openai

        try:
            with self._passing_faults(request.get("timeout", self._timeout_s)):
                raw = self._client.chat.completions.with_raw_response.create(**request)
                return read_reply(raw.http_response.text, redact=self._key)
        except openai.APIStatusError as error:
            raise self._refusal(error, format_sent=format_sent) from None  # the original holds the request with its key

    def _refusal(self, error: openai.APIStatusError, *, format_sent: bool) -> Exception:
        return error_of_status(
            error,
            where=self.name,
            key_name=self._endpoint.key_name,
            format_sent=format_sent,
            redact=self._key,
            now_s=self._now(),
        )

    @contextmanager
    def _passing_faults(self, timeout_s: float) -> Iterator[None]:
        """Turns timeouts and connection errors into a TransientFailure."""
        import httpx
        import openai

        try:
            yield
        except (openai.APITimeoutError, httpx.TimeoutException) as error:
            raise TransientFailure(f"no answer within {timeout_s:.0f} seconds") from error
        except (openai.APIConnectionError, httpx.TransportError) as error:  # the latter from within a streamed answer
            raise TransientFailure(f"the connection failed ({type(error.__cause__ or error).__name__})") from error

    def _connected(self) -> openai.OpenAI:
        import openai

        return openai.OpenAI(
            api_key=self._key or "none",
            base_url=self._endpoint.url,
            organization=None if self._endpoint.is_openai else "",
            project=None if self._endpoint.is_openai else "",
            timeout=self._timeout_s,
            max_retries=0,
        )
