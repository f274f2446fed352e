"""What an OpenAI-compatible server is asked for, without the parameters that its model refuses."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from lastresort.data.formats.rows import NotJson, parse_json
from lastresort.errors import TaskError
from lastresort.models.endpoint import Endpoint
from lastresort.models.protocol import Prompt
from lastresort.models.replies import UnsupportedParameter
from lastresort.types import Decoding, Grammar, JsonObject, ReasoningEffort

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
