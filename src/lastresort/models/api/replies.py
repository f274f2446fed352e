"""What an OpenAI-compatible server sends back: a reply, a piece of one, the list of its models, and which of them answers."""

from __future__ import annotations

import json
import logging
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from lastresort.foreign import MiB, NotJson, parse_json
from lastresort.keys import redacted, redacted_value
from lastresort.models.calls import TransientFailure
from lastresort.types import JsonObject

_LARGEST_LOGP = 1e6  # a server writes -9999 for what is impossible
ANSWER_CHARACTERS = MiB  # twice the longest answer of any model; scoring more could take for ever
MOST_TOKENS = 16 * MiB  # more than any context holds: a larger count is no count


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


_log = logging.getLogger("lastresort")
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
