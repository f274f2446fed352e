"""A model behind an OpenAI-compatible endpoint: OpenAI itself, vLLM, Ollama, llama.cpp, a gateway.

A parameter that the model refuses by its name is left out where nothing is lost by that: reasoning models take no temperature.

The client's own retries are off: ours are seeded, hear Retry-After, and end in an InfrastructureError, so that a failing
line is never scored as a wrong answer.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any, TypeVar

from lastresort.data.formats.rows import NotJson, parse_json
from lastresort.errors import ContractError, InfrastructureError, PrerequisiteError, TaskError
from lastresort.models.calls import RetryPolicy, TransientFailure, each_at_once, persist
from lastresort.models.protocol import OnAnswer, Prompt, estimated_prompt_tokens, estimated_tokens
from lastresort.models.replies import (
    AnswerPiece,
    CommandDenied,
    Endpoint,
    Reply,
    UnsupportedParameter,
    denied,
    read_piece,
    read_reply,
    refusal,
    refuse_overheard_key,
    words_of,
)
from lastresort.stop import Stop
from lastresort.types import Answer, Decoding, Grammar, ReasoningEffort

if TYPE_CHECKING:
    import openai


T = TypeVar("T")
THINKING_TOKENS: dict[ReasoningEffort, int] = {"minimal": 2_000, "low": 8_000, "medium": 16_000, "high": 32_000}
"""Room for thinking beyond an answer's max_new_tokens: a server counts both against one limit."""
OWN_EFFORT: ReasoningEffort = "medium"  # of a reasoning model that is told none
THINKING_TIMEOUT_S = 600.0
COUNTS = "stream_options"  # by which a server is asked to count the tokens of a streamed answer
_log = logging.getLogger("lastresort")


class ApiModel:
    """Asks the endpoint, `concurrency` prompts at a time.

    prompt_price, output_price: USD per million tokens. sleep, clock (seconds, any origin) and now (seconds since 1970) are
    arguments so that tests need not wait.

    Raises PrerequisiteError where the endpoint needs a key and the environment holds none, TaskError where it takes no
    template_kwargs, or where the key would travel unencrypted.
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
        template_kwargs: dict[str, Any] | None = None,
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
        self._template_kwargs = dict(template_kwargs or {})
        self._patience, self._seed = patience or RetryPolicy(), seed
        self._sleep, self._clock, self._now = sleep, clock, now
        if self._template_kwargs and endpoint.is_openai:
            raise TaskError(
                f"openai:{endpoint.model} takes no chat_template_kwargs", remedy="Leave it out for this model."
            )
        self._key = os.environ.get(endpoint.key_name, "").strip()  # a file's line break would be no header
        if endpoint.is_openai and not self._key:
            raise PrerequisiteError(f"no key for openai:{endpoint.model}", remedy=f"Set {endpoint.key_name}.")
        refuse_overheard_key(endpoint, self._key)
        self._client = self._connected()
        self._refused: set[str] = set()  # names of parameters that the model does not take
        self._lock = threading.Lock()
        self.name = f"openai:{endpoint.model}" if endpoint.is_openai else f"{endpoint.url}#{endpoint.model}"
        self.batch_size = 4 * concurrency
        identity = {"endpoint": endpoint.url, "model": endpoint.model, "template": self._template_kwargs}
        self.fingerprint = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()

    def count_tokens(self, prompt: Prompt) -> int:
        return estimated_prompt_tokens(prompt)

    def check_decoding(self, decoding: Decoding) -> None:
        """Nothing can be told before the server is asked."""

    def generate(
        self, prompts: Sequence[Prompt], decoding: Decoding, on_answer: OnAnswer | None = None
    ) -> list[Answer]:
        """Answers in the order of the prompts, each passed to on_answer in this thread as it arrives.

        A prompt that occurs n times is asked with seeds seed, seed + 1, …, so that samples differ on servers that honour seeds.
        Raises CandidateError where the server refuses the answer's form, or a prompt is too long for the model.
        """
        answers: dict[int, Answer] = {}
        seeds = _seeds(prompts, decoding.seed)

        def take(index: int, answer: Answer) -> None:
            answers[index] = answer
            if on_answer is not None:
                on_answer(index, answer)

        def work(index: int, stop: threading.Event) -> Answer:
            return self._answer(prompts[index], decoding, seeds[index], index, stop)

        each_at_once(work, len(prompts), workers=self._concurrency, on_result=take)
        if len(answers) != len(prompts):
            raise ContractError(f"{len(answers)} answers to {len(prompts)} prompts", where=self.name)
        return [answers[index] for index in range(len(prompts))]

    def replies(
        self,
        prompts: Sequence[Prompt],
        decoding: Decoding,
        *,
        served_as: str | None = None,
        beside: Mapping[str, Any] | None = None,
    ) -> list[Reply]:
        """What the server sends, in the order of the prompts, with all that it tells; asked and tried again as by `generate`.

        served_as: the model to ask for in place of the endpoint's. beside: further keys of each request.
        """
        found: dict[int, Reply] = {}
        seeds = _seeds(prompts, decoding.seed)
        named = {"model": self._endpoint.model if served_as is None else served_as}

        def work(index: int, stop: threading.Event) -> Reply:
            request = {**self._request(prompts[index], decoding, seeds[index]), **named}
            request["extra_body"] = {**request.get("extra_body", {}), **(beside or {})}
            return self._persistently(lambda: self._send(request, format_sent=False), index, stop)

        each_at_once(work, len(prompts), workers=self._concurrency, on_result=found.__setitem__)
        return [found[index] for index in range(len(prompts))]

    def stream(
        self, prompt: Prompt, decoding: Decoding, *, on_answer: OnAnswer | None = None, stop: Stop | None = None
    ) -> Iterator[str]:
        """One answer as the server sends it, tried again until its first words are here.

        Choices come in one piece, since they travel inside an object. Raises InfrastructureError where the line breaks later.
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
        text = whole if decoding.grammar is None else _unwrapped(whole, decoding.grammar)
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
        """POST to a path below the address, such as /load_lora_adapter, tried again where the line or a gateway fails.

        None where the server did it. Raises InfrastructureError once patience is used up.
        """
        import openai

        def attempt() -> CommandDenied | None:
            try:
                with self._passing_faults(self._timeout_s):
                    self._client.post(path, cast_to=str, body=dict(body))
            except openai.APIStatusError as error:
                return denied(error, redact=self._key, now_s=self._now())
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
        return persist(
            attempt,
            patience=patience or self._patience,
            random=Random(f"{self._seed}:{index}"),
            sleep=stop.wait if self._sleep is None else self._sleep,
            stopping=stop.is_set,
            where=self.name,
        )

    def _ask(self, prompt: Prompt, decoding: Decoding, seed: int) -> Reply:
        grammar = decoding.grammar
        reply = self._accepted(
            decoding,
            lambda: self._request(prompt, decoding, seed),
            lambda request: self._send(request, format_sent=grammar is not None),
        )
        return reply if grammar is None else replace(reply, text=_unwrapped(reply.text, grammar))

    def _accepted(
        self, decoding: Decoding, request_of: Callable[[], dict[str, Any]], send: Callable[[dict[str, Any]], T]
    ) -> T:
        """What `send` gets, sent again where the model refuses a parameter by which no answer is other than what is asked for."""
        while True:
            request = request_of()
            try:
                return send(request)
            except UnsupportedParameter as error:
                if error.parameter not in request or not _may_be_left_out(error.parameter, decoding):
                    raise
                self._leave_out(error.parameter)

    def _begun(self, prompt: Prompt, decoding: Decoding) -> tuple[AnswerPiece, Generator[AnswerPiece, None, None]]:
        """The first piece that says something, or ends the answer, and the others."""

        def request_of() -> dict[str, Any]:
            request = {**self._request(prompt, decoding, decoding.seed), "stream": True}
            return request if COUNTS in self._refused else {**request, COUNTS: {"include_usage": True}}

        def send(request: dict[str, Any]) -> tuple[AnswerPiece, Generator[AnswerPiece, None, None]]:
            pieces = self._pieces(request, format_sent=decoding.grammar is not None)
            for piece in pieces:
                if piece.text or piece.finish is not None:
                    return piece, pieces
            raise TransientFailure("the reply is empty and not finished")

        return self._accepted(decoding, request_of, send)

    def _pieces(self, request: dict[str, Any], *, format_sent: bool) -> Generator[AnswerPiece, None, None]:
        import openai

        try:
            faults = self._passing_faults(request.get("timeout", self._timeout_s))
            with faults, self._client.chat.completions.create(**request) as events:
                for event in events:
                    yield read_piece(event.model_dump())
        except openai.APIStatusError as error:
            raise self._refusal(error, format_sent=format_sent) from None
        except openai.APIError as error:  # an error in place of a piece
            raise TransientFailure(f"the server ends its answer with an error{words_of(error, self._key)}") from None
        except ValueError as error:
            raise TransientFailure("a piece of the reply is not JSON") from error

    def _unbroken(self, first: AnswerPiece, others: Iterator[AnswerPiece]) -> Iterator[AnswerPiece]:
        """All pieces. What may pass before the first word ends the answer after it: half of it has been shown."""
        yield first
        try:
            yield from others
        except TransientFailure as fault:
            raise self._broken_off(fault.reason) from fault

    def _broken_off(self, reason: str) -> InfrastructureError:
        return InfrastructureError(f"the answer broke off ({reason})", where=self.name, remedy="Ask again.")

    def _leave_out(self, parameter: str) -> None:
        with self._lock:
            if parameter in self._refused:
                return
            self._refused.add(parameter)
        if parameter in _NOTES:
            _log.warning("%s takes no %s: %s.", self.name, parameter, _NOTES[parameter])

    def _send(self, request: dict[str, Any], *, format_sent: bool) -> Reply:
        import openai

        try:
            with self._passing_faults(request.get("timeout", self._timeout_s)):
                raw = self._client.chat.completions.with_raw_response.create(**request)
                return read_reply(raw.http_response.text, redact=self._key)
        except openai.APIStatusError as error:
            raise self._refusal(error, format_sent=format_sent) from None  # the original holds the request with its key

    def _refusal(self, error: openai.APIStatusError, *, format_sent: bool) -> Exception:
        return refusal(
            error,
            where=self.name,
            key_name=self._endpoint.key_name,
            format_sent=format_sent,
            redact=self._key,
            now_s=self._now(),
        )

    @contextmanager
    def _passing_faults(self, timeout_s: float) -> Iterator[None]:
        """What the line does wrong inside may pass."""
        import httpx
        import openai

        try:
            yield
        except (openai.APITimeoutError, httpx.TimeoutException) as error:
            raise TransientFailure(f"no answer within {timeout_s:.0f} seconds") from error
        except (openai.APIConnectionError, httpx.TransportError) as error:  # the latter from within a streamed answer
            raise TransientFailure(f"the connection failed ({type(error.__cause__ or error).__name__})") from error

    def _request(self, prompt: Prompt, decoding: Decoding, seed: int) -> dict[str, Any]:
        openai_itself = self._endpoint.is_openai
        request: dict[str, Any] = {
            "model": self._endpoint.model,
            "messages": [message.as_dict() for message in prompt],
        }
        sampling = {"temperature": decoding.temperature, "seed": seed}
        request |= {name: value for name, value in sampling.items() if name not in self._refused}
        # OpenAI's newer models refuse the old name, other servers do not know the new one
        newer = openai_itself or "max_tokens" in self._refused
        thinking = self._thinking_tokens(decoding)
        request["max_completion_tokens" if newer else "max_tokens"] = decoding.max_new_tokens + thinking
        if thinking:
            request["timeout"] = max(self._timeout_s, THINKING_TIMEOUT_S)
        if decoding.reasoning_effort is not None:
            request["reasoning_effort"] = decoding.reasoning_effort
        # Said even where nothing is left out: vLLM would take what is not from the model's generation_config.json.
        if decoding.top_p < 1 or (decoding.temperature > 0 and not openai_itself):
            request["top_p"] = decoding.top_p
        if decoding.stop:
            request["stop"] = list(decoding.stop)
        if decoding.grammar is not None:
            request["response_format"] = response_format(decoding.grammar)
        extra: dict[str, Any] = {}
        if decoding.top_k > 0:
            extra["top_k"] = decoding.top_k
        if self._template_kwargs:
            extra["chat_template_kwargs"] = self._template_kwargs
        if extra and openai_itself:
            raise TaskError(f"{self.name} takes no top_k", remedy="Leave it out for this model.")
        return {**request, "extra_body": extra} if extra else request

    def _thinking_tokens(self, decoding: Decoding) -> int:
        """Room for what is thought before the answer; a model that takes no temperature is one that thinks."""
        if decoding.reasoning_effort is not None:
            return THINKING_TOKENS[decoding.reasoning_effort]
        return THINKING_TOKENS[OWN_EFFORT] if "temperature" in self._refused else 0

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


_NOTES = {
    "temperature": "it answers at its own, so that the same prompt can be answered otherwise the next time",
    "seed": "samples cannot be drawn again, but those that were drawn are kept",
}


def _may_be_left_out(parameter: str, decoding: Decoding) -> bool:
    """A temperature of 0 asks for the likeliest answer, of which the model's own sampling is as near as it comes, and one of 1 is
    its own; any other was chosen. max_tokens has a newer name. Tokens that are not counted are estimated.
    """
    return parameter in ("seed", "max_tokens", COUNTS) or (
        parameter == "temperature" and decoding.temperature in (0.0, 1.0)
    )


def response_format(grammar: Grammar) -> dict[str, Any]:
    """The request's response_format. Choices travel as an object with one enum: OpenAI takes no bare enum."""
    schema = grammar.json_schema
    if grammar.choices is not None:
        answer = {"type": "string", "enum": list(grammar.choices)}
        schema = {
            "type": "object",
            "properties": {"answer": answer},
            "required": ["answer"],
            "additionalProperties": False,
        }
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}}


def _unwrapped(text: str, grammar: Grammar) -> str:
    """The choice inside the object that `response_format` asked for; the text itself where it is no such object."""
    if grammar.choices is None:
        return text
    try:
        answer = parse_json(text)["answer"]
    except (NotJson, TypeError, KeyError):
        return text
    return answer if isinstance(answer, str) else text


def _seeds(prompts: Sequence[Prompt], seed: int) -> list[int]:
    seen: Counter[str] = Counter()
    seeds = []
    for prompt in prompts:
        text = json.dumps([message.as_dict() for message in prompt], sort_keys=True)
        seeds.append(seed + seen[text])
        seen[text] += 1
    return seeds
