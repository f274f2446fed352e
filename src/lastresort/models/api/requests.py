"""What an OpenAI-compatible server is asked for. Requests go without the parameters that the model refuses."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from lastresort.errors import TaskError
from lastresort.foreign import NotJson, parse_json
from lastresort.models.api.refusals import UnsupportedParameter
from lastresort.models.endpoint import Endpoint
from lastresort.models.protocol import Prompt
from lastresort.types import Decoding, Grammar, JsonObject, ReasoningEffort

T = TypeVar("T")
Request = dict[str, Any]  # arguments of the OpenAI client
THINKING_TOKENS: dict[ReasoningEffort, int] = {"minimal": 2_000, "low": 8_000, "medium": 16_000, "high": 32_000}
"""Room for thinking beyond an answer's max_new_tokens: a server counts both against one limit."""
_DEFAULT_EFFORT: ReasoningEffort = "medium"  # room for a reasoning model if no effort was set
LONG_TOKENS = 2_000
LONG_TIMEOUT_S = 600.0  # of a request that may write so many tokens: a slow server writes four a second
_COUNTS = "stream_options"  # asks a server to count the tokens of a streamed answer
_WARNINGS = {
    "temperature": "it samples at its own temperature, so the same prompt may get another answer next time",
    "seed": "samples cannot be drawn again, but answers given once are kept",
}
_log = logging.getLogger("lastresort")


def room_to_think(effort: ReasoningEffort | None) -> int:
    """Tokens that a call may think at an effort that its task names; 0 where it names none."""
    return 0 if effort is None else THINKING_TOKENS[effort]


@dataclass(frozen=True, slots=True)
class ClientParameters:
    """What a client sends with every prompt in place of our own parameters. decoding: the one that they express."""

    values: JsonObject
    decoding: Decoding


class RequestBuilder:
    """Builds the requests to one endpoint and remembers which parameters its model refuses.

    name: the model's, for messages. timeout_s: of a request for less than LONG_TOKENS. client: None for parameters of
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
        most_tokens = decoding.max_new_tokens + thinking
        request["max_completion_tokens" if newer else "max_tokens"] = most_tokens
        if most_tokens >= LONG_TOKENS:
            request["timeout"] = max(self._timeout_s, LONG_TIMEOUT_S)
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
