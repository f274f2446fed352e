"""What an OpenAI-compatible server is asked for and what it sends back.

Requests go without the parameters that the model refuses. Back comes a reply, a piece of one, or a status that becomes one of
our errors.
"""

from __future__ import annotations

import json
import logging
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from lastresort.errors import CandidateError, InfrastructureError, PrerequisiteError, TaskError, TooLongError
from lastresort.foreign import MiB, NotJson, parse_json
from lastresort.keys import redacted, redacted_value
from lastresort.models.calls import TransientFailure, retry_after_s
from lastresort.models.endpoint import Endpoint
from lastresort.models.protocol import Prompt
from lastresort.types import Decoding, Grammar, JsonObject, ReasoningEffort

if TYPE_CHECKING:
    import openai


_PASSING_STATUS = {408, 409, 425, 429}
_GATEWAY_STATUS = {502, 503, 504}
_NOT_IMPLEMENTED = 501
_LARGEST_LOGP = 1e6  # a server writes -9999 for what is impossible
_UNSUPPORTED = ("unsupported_parameter", "unsupported_value")
_NO_CREDIT = ("insufficient_quota", "billing_hard_limit_reached")
_FORMAT_WORDS = ("response_format", "json_schema", "structured output", "guided", "grammar", "schema")
REPLY_BYTES = 32 * MiB  # of 40,000 tokens with log-probabilities, 6 MiB
STREAM_BYTES, STREAM_LINES = 128 * MiB, 2**20  # the longest answer of any model, an event of three lines for each token
ANSWER_CHARACTERS = MiB  # twice the longest answer of any model; scoring more could take for ever
MOST_TOKENS = 16 * MiB  # more than any context holds: a larger count is no count
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
    """One answer as sent. Counts are None where the server did not count its tokens, or gives no number that can be true.

    written_bytes: of all that the model wrote, thoughts included, at least. model: who answered, "" if the server does not say.
    """

    text: str
    finish: Literal["stop", "length"]
    prompt_tokens: int | None
    completion_tokens: int | None
    tokens: Tokens = Tokens()
    written_bytes: int = 0
    model: str = ""


@dataclass(frozen=True, slots=True)
class AnswerPiece:
    """A part of a streamed answer. finish: None before the last part. Counts: None if this part has none."""

    text: str
    finish: Literal["stop", "length"] | None
    prompt_tokens: int | None
    completion_tokens: int | None
    model: str = ""


@dataclass(frozen=True, slots=True)
class CommandDenied:
    """A command that a server refused. message: its own words, "" if there were none."""

    status: int
    message: str


@dataclass(frozen=True, slots=True)
class OfferedModel:
    """A model that a server lists. owned_by: as it says, "" where it does not."""

    name: str
    owned_by: str = ""


def read_offered(body: bytes | str, *, redact: Sequence[str] = ()) -> tuple[OfferedModel, ...]:
    """The list of models that a server offers, none from a reply of another form. Raises TransientFailure if it is not JSON."""
    reply = _json(body, redact)
    lines = reply.get("data") if isinstance(reply, dict) else None
    entries = [line for line in lines if isinstance(line, dict)] if isinstance(lines, list) else []
    named = [(entry.get("id"), entry.get("owned_by")) for entry in entries]
    return tuple(
        OfferedModel(name, owner if isinstance(owner, str) else "") for name, owner in named if isinstance(name, str)
    )


def read_reply(body: bytes | str, *, redact: Sequence[str] = ()) -> Reply:
    """Raises TransientFailure if the body is not a finished chat completion: garbage is a connection fault, not an answer.

    redact: the keys, which must appear neither in a message nor in an answer.
    """
    reply = _json(body, redact)
    choices = reply.get("choices") if isinstance(reply, dict) else None
    if not (isinstance(choices, list) and choices and isinstance(choices[0], dict)):
        raise TransientFailure(f"the reply holds no choices{_error_message(reply)}")
    message, finish = choices[0].get("message"), choices[0].get("finish_reason")
    if not isinstance(message, dict):
        raise TransientFailure("the reply's first choice holds no message")
    text = message.get("content") or message.get("refusal") or ""
    if not isinstance(text, str):
        raise TransientFailure(f"the reply's content is not text but {type(text).__name__}")
    if not text and finish in (None, "error"):
        raise TransientFailure(
            f"the reply is empty and not finished (finish_reason {_shown(finish)}){_error_message(reply)}"
        )
    refuse_too_long(len(text))
    counts = _counts(reply)
    if counts[1] == 0 and text:
        counts = counts[0], None
    return Reply(
        text,
        "length" if finish == "length" else "stop",
        *counts,
        _tokens(reply, choices[0]),
        len(json.dumps(message)),
        _model(reply),
    )


def refuse_too_long(characters: int) -> None:
    if characters > ANSWER_CHARACTERS:
        raise TransientFailure(f"the answer is longer than {ANSWER_CHARACTERS:,} characters")


def _json(body: bytes | str, redact: Sequence[str]) -> Any:
    """A charset that the server names is ignored, since JSON is UTF-8."""
    text = body if isinstance(body, str) else body.decode("utf-8", "replace")
    try:
        return redacted_value(parse_json(text, lenient=True), redact)
    except NotJson as error:
        raise TransientFailure(f"the reply is not JSON (it begins {redacted(text, redact)[:60]!r})") from error


def read_piece(data: str, *, redact: Sequence[str] = ()) -> AnswerPiece:
    """Read an event of a streamed answer. Some have no choices, such as the last one with the counts.

    Raises TransientFailure if it is not JSON, or an error in place of a piece.
    """
    event = _json(data, redact)
    event = event if isinstance(event, dict) else {}
    if event.get("error"):
        raise TransientFailure(f"the server ends its answer with an error{_error_message(event)}")
    choices = event.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    delta, finish = choice.get("delta"), choice.get("finish_reason")
    text = (delta.get("content") or delta.get("refusal") or "") if isinstance(delta, dict) else ""
    return AnswerPiece(
        text if isinstance(text, str) else "",
        None if finish is None else "length" if finish == "length" else "stop",
        *_counts(event),
        _model(event),
    )


def read_denial(error: openai.APIStatusError, *, redact: Sequence[str], now_s: float) -> CommandDenied:
    """The denial that a status means for a command to the server. Raises TransientFailure if it is worth a retry."""
    status = error.status_code
    if status in _PASSING_STATUS or status in _GATEWAY_STATUS:
        after_s = retry_after_s(error.response.headers.get("retry-after"), now_s)
        raise TransientFailure(f"the server answers {status}", after_s, maybe_paid=False)
    return CommandDenied(status, _server_words(error, redact))


def error_of_status(
    error: openai.APIStatusError, *, where: str, key_remedy: str, format_sent: bool, redact: Sequence[str], now_s: float
) -> Exception:
    """The exception for a status other than 2xx: TransientFailure, CandidateError, or one that ends the run.

    key_remedy: what to do if the server refuses the key. redact: the keys, which must appear in no message.
    """
    status, message = error.status_code, server_message(error, redact)
    if status < 400:
        return _redirect(error, where=where, redact=redact)
    if status == 402 or error.code in _NO_CREDIT:
        return InfrastructureError(
            "the account has no credit left", where=where, remedy="Add credit, then run again with --resume."
        )
    if status in _PASSING_STATUS or (status >= 500 and status != _NOT_IMPLEMENTED):
        after_s = retry_after_s(error.response.headers.get("retry-after"), now_s)
        return TransientFailure(f"the server answers {status}", after_s, maybe_paid=False)
    if status in (401, 403):
        return PrerequisiteError(
            f"the server refuses the key ({status})",
            where=where,
            remedy=key_remedy,
        )
    if status == 404:
        return TaskError(
            f"the server does not know this model or address (404{message})",
            where=where,
            remedy="Correct the model's name or the address under `model`.",
        )
    parameter = error.param if error.code in _UNSUPPORTED and isinstance(error.param, str) else ""
    if parameter and not (format_sent and parameter.startswith("response_format")):
        return UnsupportedParameter(redacted(parameter, redact)[:60], message, where=where)
    return _bad_request(status, message, where=where, format_sent=format_sent)


def _redirect(error: openai.APIStatusError, *, where: str, redact: Sequence[str]) -> InfrastructureError:
    """Nothing follows it: the inputs and the key would go to a place that the user did not name."""
    place = redacted(error.response.headers.get("location", ""), redact)[:200]
    return InfrastructureError(
        f"the server redirects ({error.status_code}) to {place or 'nowhere'}",
        where=where,
        expected="an address that answers",
        remedy="Write the address that answers under `model`, or run again with --resume once this one does.",
    )


def _bad_request(status: int, message: str, *, where: str, format_sent: bool) -> Exception:
    lower = message.lower()
    if status == 413 or any(words in lower for words in _LENGTH_WORDS):
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


def _error_message(reply: Any) -> str:
    """reply: without keys."""
    error = reply.get("error") if isinstance(reply, dict) else None
    words = error.get("message") if isinstance(error, dict) else error
    return f" ({' '.join(words.split())[:120]})" if isinstance(words, str) else ""


def _shown(value: object) -> str:
    return repr(value) if value is None or isinstance(value, str | int | float) else type(value).__name__


def _model(reply: JsonObject) -> str:
    name = reply.get("model")
    return name if isinstance(name, str) else ""


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
    known = tuple(float(logp) for logp in logps if isinstance(logp, int | float) and abs(logp) < _LARGEST_LOGP)
    return known if len(known) == len(logps) else None


def _stop_reason(choice: JsonObject) -> str | int | None:
    """vLLM sends null if the model's own end token ended the answer. Other servers do not send the key."""
    if "stop_reason" not in choice:
        return None
    reason = choice["stop_reason"]
    return reason if isinstance(reason, str | int) else ""


def _ids(value: Any) -> tuple[int, ...] | None:
    fits = isinstance(value, list) and all(type(token) is int and 0 <= token < 2**31 for token in value)
    return tuple(value) if fits else None


def _counts(reply: JsonObject) -> tuple[int | None, int | None]:
    """Of the prompt and of the answer."""
    usage = reply.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    return _count(usage, "prompt_tokens") or None, _count(usage, "completion_tokens")  # no prompt is empty


def _count(usage: JsonObject, name: str) -> int | None:
    """None for what cannot be a number of tokens, such as 1e30, -1 or true."""
    value = usage.get(name)
    if type(value) is float and value.is_integer():
        value = int(value)
    return value if type(value) is int and 0 <= value <= MOST_TOKENS else None


CONFIRMED = 6  # a few calls once in a run; a gateway that passes on now and then hardly passes on six in a row
_MOST_DOUBTS = 24
_VERSION = re.compile(r"[:@].+|-\d[\d-]*(-preview)?|-latest")


class ServedModel:
    """Which model answers, as the server's replies name it. A gateway may pass a request on to another one.

    A server may use its own name for a model, such as a path. That counts as its name once CONFIRMED replies in a row give it.
    """

    def __init__(self, where: str) -> None:
        self._where, self._lock = where, threading.Lock()
        self._settled: dict[str, str] = {}
        self._said: dict[str, tuple[str, int]] = {}
        self._doubts = 0

    def is_doubtful(self, asked: str, said: str) -> bool:
        """Whether to ask again at once, to see which model answers.

        Raises TransientFailure if a reply comes from another model than was asked for, or than answered before.
        """
        if not said:
            return False
        own = asked if is_version_of(said, asked) else said
        with self._lock:
            known = self._settled.get(asked)
            if known is None:
                name, count = self._said.get(asked, ("", 0))
                count = count + 1 if name == own else 1
                self._said[asked] = own, count
                if own == asked or own in self._settled.values() or count >= CONFIRMED:
                    known = self._settled[asked] = own
                    self._warn(asked, own)
                elif (doubts := self._doubts) < _MOST_DOUBTS:
                    self._doubts = doubts + 1
                    return True
            if own == known:
                return False
        raise TransientFailure(f'the answer comes from the model "{said[:200]}", not from "{known or asked}"')

    def note(self, asked: str, said: str) -> None:
        """Of an answer that is shown and not scored."""
        with self._lock:
            if said and asked not in self._settled:
                own = self._settled[asked] = asked if is_version_of(said, asked) else said
                self._warn(asked, own)

    def _warn(self, asked: str, own: str) -> None:
        if own != asked:
            _log.warning("%s calls its model %s. Check that this is the one you want.", self._where, own[:200])


def is_version_of(said: str, asked: str) -> bool:
    """Whether a server may answer with this name if another is asked for: the same, of a provider, dated, or with a tag."""
    names = [name.lower().rsplit("/", 1)[-1].removesuffix(".gguf") for name in (said, asked)]
    shorter, longer = sorted(names, key=len)
    if not shorter.strip():
        return False
    shorter = re.sub("[-:]latest$", "", shorter)
    return longer.startswith(shorter) and (longer == shorter or _VERSION.fullmatch(longer, len(shorter)) is not None)


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


@dataclass(frozen=True, slots=True)
class ClientParameters:
    """What a client sends with every prompt in place of our own parameters. decoding: the one that they express."""

    values: JsonObject
    decoding: Decoding


class RequestBuilder:
    """Builds the requests to one endpoint and remembers which parameters its model refuses.

    name: the model's, for messages. timeout_s: of a request that leaves no room for thinking. client: None for parameters of
    our own. neutral: keys of each request that put the server's own defaults aside, unless the decoding says otherwise.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        name: str,
        template_kwargs: JsonObject,
        timeout_s: float,
        client: ClientParameters | None = None,
        neutral: JsonObject | None = None,
    ) -> None:
        self._endpoint, self._name, self._template_kwargs = endpoint, name, template_kwargs
        self._neutral = dict(neutral or {})
        self._timeout_s, self._client = timeout_s, client
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
        good, if no answer depends on it, and the request is sent again. Those of a client are never dropped.
        """
        while True:
            request = self.build(prompt, decoding, seed, stream=stream)
            try:
                return post(request)
            except UnsupportedParameter as error:
                dropped = self._client is None and _may_be_dropped(error.parameter, decoding)
                if error.parameter not in request or not dropped:
                    raise
                self._drop(error.parameter)

    def build(self, prompt: Prompt, decoding: Decoding, seed: int, *, stream: bool = False) -> Request:
        request = self._own(prompt, decoding, seed, stream=stream)
        if self._client is None:
            return request
        own, usual = _parameters(request), _parameters(self._own((), self._client.decoding, self._client.decoding.seed))
        changed = {key for key in {**own, **usual} if own.get(key) != usual.get(key)}
        if "response_format" in changed:
            changed |= _FORM_KEYS
        values = {key: value for key, value in self._client.values.items() if key not in changed}
        values |= {key: own[key] for key in changed if key in own}
        named, extra = split_parameters(values)
        fixed = {key: request[key] for key in _NO_PARAMETERS if key in request}
        return {**fixed, **named, **({"extra_body": extra} if extra else {})}

    def _own(self, prompt: Prompt, decoding: Decoding, seed: int, *, stream: bool = False) -> Request:
        openai_itself = self._endpoint.is_openai
        request: Request = {
            "model": self._endpoint.model,
            "messages": [message.as_dict() for message in prompt],
        }
        sampling = {"temperature": decoding.temperature, "seed": seed}
        request |= {name: value for name, value in sampling.items() if name not in self._refused}
        # OpenAI's newer models refuse the old name, other servers do not know the new one
        newer = openai_itself or "max_tokens" in self._refused
        thinking = self.thinking_tokens(decoding)
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
        extra: JsonObject = dict(self._neutral)
        if decoding.top_k > 0:
            extra["top_k"] = decoding.top_k
        if self._template_kwargs:
            extra["chat_template_kwargs"] = self._template_kwargs
        if extra and openai_itself:
            raise TaskError(f"{self._name} takes no top_k", remedy="Leave it out for this model.")
        return {**request, "extra_body": extra} if extra else request

    def thinking_tokens(self, decoding: Decoding) -> int:
        """Room for thinking. A model that refuses a temperature is a reasoning model."""
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


_NO_PARAMETERS = ("model", "messages", "timeout")
_FORM_KEYS = {"response_format", "structured_outputs", "regex", "grammar"}  # each server has its own
_OPENAI_KEYS = {
    "temperature",
    "seed",
    "max_tokens",
    "max_completion_tokens",
    "reasoning_effort",
    "top_p",
    "stop",
    "response_format",
    _COUNTS,
}


def _parameters(request: Request) -> JsonObject:
    own = {key: value for key, value in request.items() if key not in (*_NO_PARAMETERS, "extra_body")}
    return {**own, **request.get("extra_body", {})}


def split_parameters(values: JsonObject) -> tuple[JsonObject, JsonObject]:
    """Those that the OpenAI client takes by name, and those that it takes in extra_body."""
    named = {key: value for key, value in values.items() if key in _OPENAI_KEYS}
    return named, {key: value for key, value in values.items() if key not in named}


def _may_be_dropped(parameter: str, decoding: Decoding) -> bool:
    """A temperature of 0 asks for the likeliest answer, and the model's own sampling is the nearest to it. A temperature of 1
    is the model's own. Any other was chosen. max_tokens has a newer name. Tokens that are not counted are estimated.
    """
    return parameter in ("seed", "max_tokens", _COUNTS) or (
        parameter == "temperature" and decoding.temperature in (0.0, 1.0)
    )


def response_format(grammar: Grammar) -> JsonObject:
    """The request's response_format."""
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema_sent(grammar), "strict": True}}


def schema_sent(grammar: Grammar) -> JsonObject | None:
    """The schema as it travels. Choices are an object with one enum: OpenAI takes no bare enum."""
    if grammar.choices is None:
        return grammar.json_schema
    answer: JsonObject = {"type": "string", "enum": list(grammar.choices)}
    return {"type": "object", "properties": {"answer": answer}, "required": ["answer"], "additionalProperties": False}


def unwrapped(text: str, grammar: Grammar | None) -> str:
    """The choice inside the object that `response_format` asked for. Any other text as it is."""
    if grammar is None or grammar.choices is None:
        return text
    try:
        answer = parse_json(text)["answer"]
    except (NotJson, TypeError, KeyError):
        return text
    return answer if isinstance(answer, str) else text
