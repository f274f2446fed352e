"""What a status other than 2xx of a server means: one of our errors, or that it is worth another try."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lastresort.errors import CandidateError, InfrastructureError, PrerequisiteError, TaskError, TooLongError
from lastresort.keys import redacted
from lastresort.models.calls import TransientFailure, retry_after_s

if TYPE_CHECKING:
    import openai


_PASSING_STATUS = {408, 409, 425, 429}
_GATEWAY_STATUS = {502, 503, 504}
_GATEWAY_TIMED_OUT = {504, 524}  # 524 is Cloudflare's; the model behind it usually goes on writing
_LATE_S = 5.0  # a gateway gives a model longer than this: one that answers sooner does not reach it
_NOT_IMPLEMENTED = 501
_UNSUPPORTED = ("unsupported_parameter", "unsupported_value")
_NO_CREDIT = ("insufficient_quota", "billing_hard_limit_reached")
_FORMAT_WORDS = ("response_format", "json_schema", "structured output", "guided", "grammar", "schema")
_TOO_LONG = "context_length_exceeded"  # as OpenAI and `lastresort serve` say it, in whatever words
_LENGTH_WORDS = (
    "context_length",
    "context length",
    "context size",
    "maximum context",
    "context window",
    "too many tokens",
    "prompt is too long",
)


class UnsupportedParameter(TaskError):
    """The model does not accept this parameter, or not this value."""

    def __init__(self, parameter: str, message: str, *, where: str) -> None:
        self.parameter = parameter
        remedy = "Leave it out of the task file, give a value that this model takes, or take another model."
        super().__init__(f"the model refuses {parameter}{message}", where=where, remedy=remedy)


class NotServedError(TaskError):
    """The server knows no such model, or nothing is at this address."""

    def __init__(self, message: str, *, where: str) -> None:
        remedy = "Correct the model's name or the address under `model`."
        super().__init__(f"the server does not know this model or address (404{message})", where=where, remedy=remedy)


@dataclass(frozen=True, slots=True)
class CommandDenied:
    """A command that a server refused. message: its own words, "" if there were none."""

    status: int
    message: str


def read_denial(error: openai.APIStatusError, *, redact: Sequence[str], now_s: float) -> CommandDenied:
    """The denial that a status means for a command to the server. Raises TransientFailure if it is worth a retry."""
    status = error.status_code
    if status in _PASSING_STATUS or status in _GATEWAY_STATUS:
        after_s = retry_after_s(error.response.headers.get("retry-after"), now_s)
        raise TransientFailure(f"the server answers {status}", after_s, maybe_paid=False)
    return CommandDenied(status, _server_words(error, redact))


def error_of_status(
    error: openai.APIStatusError,
    *,
    where: str,
    key_remedy: str,
    format_sent: bool,
    redact: Sequence[str],
    now_s: float,
    waited_s: float,
) -> Exception:
    """The exception for a status other than 2xx: TransientFailure, CandidateError, or one that ends the run.

    key_remedy: what to do if the server refuses the key. redact: the keys, which must appear in no message. waited_s: how long the
    server took to answer so.
    """
    status, message = error.status_code, server_message(error, redact)
    if status < 400:
        return _redirect(error, where=where, redact=redact)
    if status == 402 or error.code in _NO_CREDIT:
        return InfrastructureError("the account has no credit left", where=where, remedy="Add credit.")
    if status in _PASSING_STATUS or (status >= 500 and status != _NOT_IMPLEMENTED):
        after_s = retry_after_s(error.response.headers.get("retry-after"), now_s)
        timed_out = status in _GATEWAY_TIMED_OUT and waited_s >= _LATE_S
        reason, late_s = f"the server answers {status}", waited_s if timed_out else None
        return TransientFailure(reason, after_s, maybe_paid=timed_out, waited_s=late_s)
    if status in (401, 403):
        return PrerequisiteError(
            f"the server refuses the key ({status})",
            where=where,
            remedy=key_remedy,
        )
    if status == 404:
        return NotServedError(message, where=where)
    parameter = error.param if error.code in _UNSUPPORTED and isinstance(error.param, str) else ""
    if parameter and not (format_sent and parameter.startswith("response_format")):
        return UnsupportedParameter(redacted(parameter, redact)[:60], message, where=where)
    too_long = status == 413 or error.code == _TOO_LONG
    return _bad_request(status, message, where=where, format_sent=format_sent, too_long=too_long)


def _redirect(error: openai.APIStatusError, *, where: str, redact: Sequence[str]) -> InfrastructureError:
    """Nothing follows it: the inputs and the key would go to a place that the user did not name."""
    place = redacted(error.response.headers.get("location", ""), redact)[:200]
    return InfrastructureError(
        f"the server redirects ({error.status_code}) to {place or 'nowhere'}",
        where=where,
        expected="an address that answers",
        remedy="Write the address that answers under `model`, or wait until this one does.",
    )


def _bad_request(status: int, message: str, *, where: str, format_sent: bool, too_long: bool) -> Exception:
    lower = message.lower()
    if too_long or any(words in lower for words in _LENGTH_WORDS):
        return TooLongError(
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


def server_message(error: openai.APIError, redact: Sequence[str]) -> str:
    """The server's own words after ": ". Empty if there are none."""
    words = _server_words(error, redact)
    return f": {words}" if words else ""


def _server_words(error: openai.APIError, redact: Sequence[str]) -> str:
    """In one short line, without the keys. Empty if there are none."""
    body = error.body
    words = body.get("message") if isinstance(body, dict) else None
    if not isinstance(words, str):
        words = body if isinstance(body, str) else _dumped(body) if body else ""
    return redacted(" ".join(words.split()), redact)[:200]


def _dumped(body: object) -> str:
    try:
        return json.dumps(body)
    except (ValueError, RecursionError):
        return ""
