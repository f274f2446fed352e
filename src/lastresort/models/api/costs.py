"""What calls to an endpoint cost: by their tokens where they were answered, and at most where they failed or were left behind."""

from __future__ import annotations

import json
import logging
import threading

from lastresort.models.api.replies import Reply
from lastresort.models.api.requests import Request, RequestBuilder, response_format
from lastresort.models.protocol import Prompt, estimated_prompt_tokens, estimated_tokens
from lastresort.types import Answer, Decoding

Call = tuple[object, int]  # of a batch, its number there
_TURN_TOKENS = 32  # a chat template's own, at most, around each turn

_log = logging.getLogger("lastresort")


class CallCosts:
    """prices: USD per million tokens of prompt and output. name: of the model. Any thread may call it."""

    def __init__(self, prices: tuple[float, float], requests: RequestBuilder, name: str) -> None:
        self._prices, self._requests, self._name = prices, requests, name
        self._lock, self._lost_usd = threading.Lock(), 0.0
        self._under_way: dict[Call, float] = {}
        self._uncounted = False

    def begin(self, call: Call, prompt: Prompt, decoding: Decoding) -> float:
        """Note that a call is under way. Returns the most that it can cost."""
        most = self._usd(_most_tokens(prompt, decoding), self._room_tokens(decoding))
        with self._lock:
            self._under_way[call] = most
        return most

    def priced(self, reply: Reply, prompt: Prompt, decoding: Decoding, seconds: float) -> Answer:
        """usd is an estimate where the server does not count its tokens; paid is then the most that it can be."""
        tokens_in = reply.prompt_tokens if reply.prompt_tokens is not None else estimated_prompt_tokens(prompt)
        tokens_out = reply.completion_tokens if reply.completion_tokens is not None else estimated_tokens(reply.text)
        usd = paid = self._usd(tokens_in, tokens_out)
        if usd and None in (reply.prompt_tokens, reply.completion_tokens):
            self._warn_uncounted()
            thoughts = self._room_tokens(decoding) if self._requests.thinking_tokens(decoding) else 0
            most_in = tokens_in if reply.prompt_tokens is not None else _most_tokens(prompt, decoding)
            most_out = tokens_out if reply.completion_tokens is not None else max(reply.written_bytes, thoughts)
            paid = max(usd, self._usd(most_in, most_out))
        return Answer(reply.text, tokens_in, tokens_out, reply.finish, seconds=seconds, usd=usd, paid=paid)

    def _usd(self, tokens_in: int, tokens_out: int) -> float:
        return (tokens_in * self._prices[0] + tokens_out * self._prices[1]) / 1e6

    def most_usd(self, request: Request) -> float:
        """Of a request that was answered. No token is shorter than a byte."""
        prompt = len(json.dumps([request["messages"], request.get("response_format")]))
        room = request.get("max_tokens") or request.get("max_completion_tokens") or 0
        return self._usd(prompt + _TURN_TOKENS * len(request["messages"]), room)

    def _room_tokens(self, decoding: Decoding) -> int:
        return decoding.max_new_tokens + self._requests.thinking_tokens(decoding)

    def lose(self, usd: float) -> None:
        with self._lock:
            self._lost_usd += usd

    def take_lost(self) -> float:
        """What failed calls may have cost since it was last taken."""
        with self._lock:
            usd, self._lost_usd = self._lost_usd, 0.0
        return usd

    def take_under_way(self) -> float:
        """What calls may cost that are left behind, as at Ctrl-C: each is charged whether anybody waits for its answer or not."""
        with self._lock:
            usd = sum(self._under_way.values())
            self._under_way.clear()
        return usd

    def arrived(self, call: Call) -> bool:
        """Whether the call was still under way, rather than left behind, and charged as such."""
        with self._lock:
            return self._under_way.pop(call, None) is not None

    def _warn_uncounted(self) -> None:
        with self._lock:
            if self._uncounted:
                return
            self._uncounted = True
        _log.warning(
            "%s does not count its tokens, or gives impossible counts. limits.usd counts a token for each byte.",
            self._name,
        )


def _most_tokens(prompt: Prompt, decoding: Decoding) -> int:
    """Of a prompt: no token is shorter than a byte. A server may count the form of the answer too."""
    form = 0 if decoding.grammar is None else len(json.dumps(response_format(decoding.grammar)))
    return form + sum(len(json.dumps(message.as_dict())) + _TURN_TOKENS for message in prompt)
