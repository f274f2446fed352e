"""What an OpenAI-compatible server is asked for and what it sends back.

Requests go without the parameters that the model refuses. Back comes a reply, a piece of one, or a status that becomes one of
our errors.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from lastresort.errors import CandidateError, InfrastructureError, PrerequisiteError, TaskError
from lastresort.foreign import NotJson, parse_json
from lastresort.models.calls import TransientFailure, retry_after_s
from lastresort.models.endpoint import Endpoint, redacted
from lastresort.models.protocol import Prompt
from lastresort.types import Decoding, Grammar, JsonObject, ReasoningEffort

if TYPE_CHECKING:
    import openai


_PASSING_STATUS = {408, 409, 425, 429}
_GATEWAY_STATUS = {502, 503, 504}
_UNSUPPORTED = ("unsupported_parameter", "unsupported_value")
_NO_CREDIT = ("insufficient_quota", "billing_hard_limit_reached")
_FORMAT_WORDS = ("response_format", "json_schema", "structured output", "guided", "grammar", "schema")
_LENGTH_WORDS = ("context_length", "context length", "maximum context", "context window", "too many tokens")


class UnsupportedParameter(TaskError):
    """The model does not accept this parameter, or not this value."""

    def __init__(self, parameter: str, message: str, *, where: str) -> None:
        self.parameter = parameter
        remedy = "Leave it out of the task file, give a value that this model takes, or take another model."
        super().__init__(f"the model refuses {parameter}{message}", where=where, remedy=remedy)


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokens that a server such as vLLM returns with an answer. None for what it does not return.

    prompt, answer: ids. logps: log-probabilities in nats of the answer's tokens under the weights that sampled them.
    stop_reason: the stop string or stop token that ended it, "" for the model's own end. Some servers send part of this unasked.
    """

    prompt: tuple[int, ...] | None = None
    answer: tuple[int, ...] | None = None
    logps: tuple[float, ...] | None = None
    stop_reason: str | int | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer as sent. Counts are None where the server did not count its tokens."""

    text: str
    finish: Literal["stop", "length"]
    prompt_tokens: int | None
    completion_tokens: int | None
    tokens: Tokens = Tokens()


@dataclass(frozen=True, slots=True)
class AnswerPiece:
    """A part of a streamed answer. finish: None before the last part. Counts: None if this part has none."""

    text: str
    finish: Literal["stop", "length"] | None
    prompt_tokens: int | None
    completion_tokens: int | None


@dataclass(frozen=True, slots=True)
class CommandDenied:
    """A command that a server refused. message: its own words, "" if there were none."""

    status: int
    message: str


def read_reply(body: str, *, redact: str = "") -> Reply:
    """Raises TransientFailure if the body is not a finished chat completion: garbage is a connection fault, not an answer.

    redact: the key, which must appear in no message.
    """
    try:
        reply = json.loads(body)
    except (ValueError, RecursionError) as error:  # also a number longer than Python reads
        raise TransientFailure(f"the reply is not JSON (it begins {redacted(body, [redact])[:60]!r})") from error
    choices = reply.get("choices") if isinstance(reply, dict) else None
    if not (isinstance(choices, list) and choices and isinstance(choices[0], dict)):
        raise TransientFailure(f"the reply holds no choices{_error_message(reply, redact)}")
    message, finish = choices[0].get("message"), choices[0].get("finish_reason")
    if not isinstance(message, dict):
        raise TransientFailure("the reply's first choice holds no message")
    text = message.get("content") or message.get("refusal") or ""
    if not isinstance(text, str):
        raise TransientFailure(f"the reply's content is not text but {type(text).__name__}")
    if not text and finish in (None, "error"):
        raise TransientFailure(
            f"the reply is empty and not finished (finish_reason {finish!r}){_error_message(reply, redact)}"
        )
    usage = reply.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    return Reply(
        text,
        "length" if finish == "length" else "stop",
        _count(usage, "prompt_tokens"),
        _count(usage, "completion_tokens"),
        _tokens(reply, choices[0]),
    )


def read_piece(event: JsonObject) -> AnswerPiece:
    """Read an event of a streamed answer. Some have no choices, such as the last one with the counts."""
    choices = event.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    delta, finish = choice.get("delta"), choice.get("finish_reason")
    text = (delta.get("content") or delta.get("refusal") or "") if isinstance(delta, dict) else ""
    usage = event.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    return AnswerPiece(
        text if isinstance(text, str) else "",
        None if finish is None else "length" if finish == "length" else "stop",
        _count(usage, "prompt_tokens"),
        _count(usage, "completion_tokens"),
    )


def read_denial(error: openai.APIStatusError, *, redact: str, now_s: float) -> CommandDenied:
    """The denial that a status means for a command to the server. Raises TransientFailure if it is worth a retry."""
    status = error.status_code
    if status in _PASSING_STATUS or status in _GATEWAY_STATUS:
        after_s = retry_after_s(error.response.headers.get("retry-after"), now_s)
        raise TransientFailure(f"the server answers {status}", after_s)
    return CommandDenied(status, _server_words(error, redact))


def error_of_status(
    error: openai.APIStatusError, *, where: str, key_name: str, format_sent: bool, redact: str, now_s: float
) -> Exception:
    """The exception for a status of 4xx or 5xx: TransientFailure, CandidateError, or one that ends the run.

    key_name: the environment variable of the key. redact: the key itself, which must appear in no message.
    """
    status, message = error.status_code, server_message(error, redact)
    if status == 402 or error.code in _NO_CREDIT:
        return InfrastructureError(
            "the account has no credit left", where=where, remedy="Add credit, then run again with --resume."
        )
    if status in _PASSING_STATUS or status >= 500:
        after_s = retry_after_s(error.response.headers.get("retry-after"), now_s)
        return TransientFailure(f"the server answers {status}", after_s)
    if status in (401, 403):
        return PrerequisiteError(
            f"the server refuses the key ({status})",
            where=where,
            remedy=f"Set {key_name} to a key that may use this model.",
        )
    if status == 404:
        return TaskError(
            f"the server does not know this model or address (404{message})",
            where=where,
            remedy="Correct the model's name or the address under `model`.",
        )
    if error.code in _UNSUPPORTED and error.param and not (format_sent and error.param.startswith("response_format")):
        return UnsupportedParameter(error.param, message, where=where)
    return _bad_request(status, message, where=where, format_sent=format_sent)


def _bad_request(status: int, message: str, *, where: str, format_sent: bool) -> Exception:
    lower = message.lower()
    if status == 413 or any(words in lower for words in _LENGTH_WORDS):
        return CandidateError(
            f"the prompt and its answer are too long for this model ({status}{message})",
            where=where,
            remedy="Shorten the inputs, show fewer examples, or lower decode.max_new_tokens.",
        )
    if format_sent and any(word in lower for word in _FORMAT_WORDS):
        return CandidateError(
            f"the server does not support this response format ({status}{message})",
            where=where,
            remedy="Measure without constrained decoding, or simplify the schema.",
        )
    return TaskError(
        f"the server refuses the request ({status}{message})", where=where, remedy="Correct `model` or `decode`."
    )


def server_message(error: openai.APIError, redact: str) -> str:
    """The server's own words after ": ". Empty if there are none."""
    words = _server_words(error, redact)
    return f": {words}" if words else ""


def _server_words(error: openai.APIError, redact: str) -> str:
    """In one short line, without the key. Empty if there are none."""
    body = error.body
    words = body.get("message") if isinstance(body, dict) else None
    if not isinstance(words, str):
        words = body if isinstance(body, str) else json.dumps(body) if body else ""
    return redacted(" ".join(words.split()), [redact])[:200]


def _error_message(reply: Any, redact: str) -> str:
    error = reply.get("error") if isinstance(reply, dict) else None
    words = error.get("message") if isinstance(error, dict) else error
    return f" ({redacted(' '.join(words.split()), [redact])[:120]})" if isinstance(words, str) else ""


def _tokens(reply: JsonObject, choice: JsonObject) -> Tokens:
    answer = _ids(choice.get("token_ids"))
    return Tokens(_ids(reply.get("prompt_token_ids")), answer, _logps(choice, answer), _stop_reason(choice))


def _logps(choice: JsonObject, answer: tuple[int, ...] | None) -> tuple[float, ...] | None:
    """One per token of the answer, or None."""
    logprobs = choice.get("logprobs")
    lines = logprobs.get("content") if isinstance(logprobs, dict) else None
    if answer is None or not isinstance(lines, list) or len(lines) != len(answer):
        return None
    logps = [line.get("logprob") if isinstance(line, dict) else None for line in lines]
    known = tuple(float(logp) for logp in logps if isinstance(logp, int | float))
    return known if len(known) == len(logps) else None


def _stop_reason(choice: JsonObject) -> str | int | None:
    """vLLM sends null if the model's own end token ended the answer. Other servers do not send the key."""
    if "stop_reason" not in choice:
        return None
    reason = choice["stop_reason"]
    return reason if isinstance(reason, str | int) else ""


def _ids(value: Any) -> tuple[int, ...] | None:
    return tuple(value) if isinstance(value, list) and all(type(token) is int for token in value) else None


def _count(usage: JsonObject, name: str) -> int | None:
    value = usage.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


T = TypeVar("T")
Request = dict[str, Any]  # arguments of the OpenAI client
THINKING_TOKENS: dict[ReasoningEffort, int] = {"minimal": 2_000, "low": 8_000, "medium": 16_000, "high": 32_000}
"""Room for thinking beyond an answer's max_new_tokens: a server counts both against one limit."""
_DEFAULT_EFFORT: ReasoningEffort = "medium"  # room for a reasoning model if no effort was set
THINKING_TIMEOUT_S = 600.0
_COUNTS = "stream_options"  # asks a server to count the tokens of a streamed answer
_WARNINGS = {
    "temperature": "it samples at its own temperature, so the same prompt may get another answer next time",
    "seed": "samples cannot be drawn again, but answers given once are kept",
}
_log = logging.getLogger("lastresort")


class RequestBuilder:
    """Builds the requests to one endpoint and remembers which parameters its model refuses.

    name: the model's, for messages. timeout_s: of a request that leaves no room for thinking.
    """

    def __init__(self, endpoint: Endpoint, *, name: str, template_kwargs: JsonObject, timeout_s: float) -> None:
        self._endpoint, self._name, self._template_kwargs = endpoint, name, template_kwargs
        self._timeout_s = timeout_s
        self._refused: set[str] = set()
        self._lock = threading.Lock()

    def send(
        self,
        prompt: Prompt,
        decoding: Decoding,
        seed: int,
        post: Callable[[Request], T],
        *,
        stream: bool = False,
    ) -> T:
        """Build the request and return what `post` gets for it. A parameter that the model refuses by name is dropped for
        good, if no answer depends on it, and the request is sent again.
        """
        while True:
            request = self.build(prompt, decoding, seed, stream=stream)
            try:
                return post(request)
            except UnsupportedParameter as error:
                if error.parameter not in request or not _may_be_dropped(error.parameter, decoding):
                    raise
                self._drop(error.parameter)

    def build(self, prompt: Prompt, decoding: Decoding, seed: int, *, stream: bool = False) -> Request:
        openai_itself = self._endpoint.is_openai
        request: Request = {
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
        # Sent even where it changes nothing: vLLM would take what is missing from the model's generation_config.json.
        if decoding.top_p < 1 or (decoding.temperature > 0 and not openai_itself):
            request["top_p"] = decoding.top_p
        if decoding.stop:
            request["stop"] = list(decoding.stop)
        if decoding.grammar is not None:
            request["response_format"] = response_format(decoding.grammar)
        if stream and _COUNTS not in self._refused:
            request[_COUNTS] = {"include_usage": True}
        extra: JsonObject = {}
        if decoding.top_k > 0:
            extra["top_k"] = decoding.top_k
        if self._template_kwargs:
            extra["chat_template_kwargs"] = self._template_kwargs
        if extra and openai_itself:
            raise TaskError(f"{self._name} takes no top_k", remedy="Leave it out for this model.")
        return {**request, "extra_body": extra} if extra else request

    def _thinking_tokens(self, decoding: Decoding) -> int:
        """A model that refuses a temperature is a reasoning model."""
        if decoding.reasoning_effort is not None:
            return THINKING_TOKENS[decoding.reasoning_effort]
        return THINKING_TOKENS[_DEFAULT_EFFORT] if "temperature" in self._refused else 0

    def _drop(self, parameter: str) -> None:
        with self._lock:
            if parameter in self._refused:
                return
            self._refused.add(parameter)
        if parameter in _WARNINGS:
            _log.warning("%s takes no %s: %s.", self._name, parameter, _WARNINGS[parameter])


def _may_be_dropped(parameter: str, decoding: Decoding) -> bool:
    """A temperature of 0 asks for the likeliest answer, and the model's own sampling is the nearest to it. A temperature of 1
    is the model's own. Any other was chosen. max_tokens has a newer name. Tokens that are not counted are estimated.
    """
    return parameter in ("seed", "max_tokens", _COUNTS) or (
        parameter == "temperature" and decoding.temperature in (0.0, 1.0)
    )


def response_format(grammar: Grammar) -> JsonObject:
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


def unwrapped(text: str, grammar: Grammar | None) -> str:
    """The choice inside the object that `response_format` asked for. Any other text as it is."""
    if grammar is None or grammar.choices is None:
        return text
    try:
        answer = parse_json(text)["answer"]
    except (NotJson, TypeError, KeyError):
        return text
    return answer if isinstance(answer, str) else text
