"""What an OpenAI-compatible server sends back: a reply, a piece of one, or a status that becomes one of our errors."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from lastresort.errors import CandidateError, InfrastructureError, PrerequisiteError, TaskError
from lastresort.models.calls import TransientFailure, retry_after_s
from lastresort.models.endpoint import redacted
from lastresort.types import JsonObject

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
