"""The server that is asked: its address, the model there, and whether it puts the winner's own prompt around each input."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from lastresort.data.chat_template import without_system_turns
from lastresort.errors import SAME_COMMAND, InfrastructureError, InputError, PrerequisiteError, TaskError
from lastresort.foreign import read_json
from lastresort.keys import SERVE_KEY
from lastresort.models.api.model import ApiModel
from lastresort.models.api.replies import OfferedModel
from lastresort.models.api.requests import ClientParameters
from lastresort.models.calls import RetryPolicy
from lastresort.models.endpoint import Endpoint, parse_endpoint
from lastresort.models.protocol import is_endpoint
from lastresort.report.words import verify as words
from lastresort.report.words.verify import Sent
from lastresort.systems.answerer import Answerer
from lastresort.systems.compose import Conversation, compose, conversation
from lastresort.systems.system import PromptDesign, System
from lastresort.types import Decoding, JsonObject, Message

PATIENCE = RetryPolicy(attempts=5, longest_wait_s=15.0)
FIRST_PATIENCE = RetryPolicy(attempts=2)  # whether anything listens there shows soon
OWN = "lastresort"  # our own server in its list of models; "lastresort-raw" where it serves the bare model
WRAPPING_TOKENS = 16  # of the object inside which a choice travels
_NAMES_SHOWN = 8


@dataclass(frozen=True, slots=True)
class VerifiedServer:
    """endpoint: the address with the model's name. sent: what it gets of each item. model: a client of it. parameters: those of a
    ready request, None for those of the run. notes: where those differ.
    """

    endpoint: Endpoint
    sent: Sent
    model: ApiModel
    parameters: JsonObject | None = None
    notes: tuple[str, ...] = ()

    def sender(self, winner: System) -> Answerer:
        """Asks as the winner's clients will: with its whole prompt and the form of its answers, or with the input alone."""
        return Answerer(_sent(winner.answered_by(self.model.name), self.sent), self.model)

    def composer(self, winner: System) -> Answerer:
        """Composes the winner's whole prompt, whatever is sent."""
        return Answerer(winner.answered_by(self.model.name), self.model)


@dataclass(frozen=True, slots=True)
class ReadyRequest:
    """A request as clients send it. model: "" where it names none. turns: around an input, whichever it is."""

    model: str
    turns: Conversation
    parameters: JsonObject


def read_ready_request(path: Path) -> ReadyRequest:
    """Raises InputError for a file that holds no request."""
    body = read_json(path)
    turns = _turns(body.get("messages")) if isinstance(body, dict) else ()
    if not isinstance(body, dict) or not turns or body.get("stream"):
        streams = isinstance(body, dict) and body.get("stream")
        raise InputError(
            "found a request that streams" if streams else "found no request",
            where=str(path),
            expected="the body of a chat completion, as `lastresort handoff` writes request.json",
            remedy="Name that file.",
        )
    model = body.get("model")
    others = ("model", "messages", "stream", "stream_options")
    parameters = {key: value for key, value in body.items() if key not in others}
    return ReadyRequest(model if isinstance(model, str) else "", turns, parameters)


def _turns(messages: object) -> Conversation:
    """Empty for what are no turns of text."""
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        return ()
    turns = tuple((message.get("role"), message.get("content")) for message in messages)
    return turns if all(isinstance(text, str) for turn in turns for text in turn) else ()


def refuse_other_prompt(request: ReadyRequest, path: Path, winner: System, sent: Sent) -> None:
    """Raises InputError where its turns are not those that the winner puts around an input, such as those of another run. The turns
    of a prompt that depends on the input are not compared.
    """
    if sent == "input":
        expected: tuple[Message, ...] = (Message("user", _ANY),)
    elif winner.has_constant_prompt:
        design = winner.prompt
        expected = compose(design, (Message("user", _ANY),), design.shots[: design.k])
    else:
        return
    known = (conversation(expected), conversation(without_system_turns(expected)))
    if not any(_around(request.turns, turns) for turns in known):
        raise InputError(
            "the request holds another prompt than the winner of this run",
            where=str(path),
            expected="the input alone" if sent == "input" else "the prompt that was measured",
            remedy="Name the request.json of a hand-over of this run.",
        )


_ANY = "\ue000"  # in place of an input


def _around(turns: Conversation, expected: Conversation) -> bool:
    """Whether they are the same but for the input in the last of them."""
    (role, last), (known, around) = turns[-1], expected[-1]
    before, _, after = around.rpartition(_ANY)
    same = turns[:-1] == expected[:-1] and role == known
    return same and len(last) >= len(before + after) and last.startswith(before) and last.endswith(after)


def _differences(parameters: JsonObject, measured: Decoding, sent: Sent) -> tuple[str, ...]:
    """Where clients decode otherwise than the run did. A server that composes the prompt itself also fills in what is left out."""
    stop, limit = parameters.get("stop") or [], parameters.get("max_tokens", parameters.get("max_completion_tokens"))
    settings = {
        "temperature": (parameters.get("temperature"), measured.temperature),
        "max_tokens": (limit, measured.max_new_tokens),
        "stop": ([stop] if isinstance(stop, str) else stop, list(measured.stop)),
    }
    return tuple(
        words.request_note(key, sent_value, measured_value)
        for key, (sent_value, measured_value) in settings.items()
        if sent_value != measured_value and (sent_value or sent_value == 0 or sent == "prompt")
    )


def _sent(system: System, sent: Sent) -> System:
    grammar = system.decoding.grammar
    if sent == "input":
        plain = replace(system.decoding, grammar=None)
        return replace(system, prompt=PromptDesign(""), retriever=None, decoding=plain)
    if grammar is None or grammar.choices is None:
        return system
    room = system.decoding.max_new_tokens + WRAPPING_TOKENS
    return replace(system, decoding=replace(system.decoding, max_new_tokens=room))


def connect(
    url: str,
    winner: System,
    *,
    model: str | None,
    sent: Sent | None,
    request: Path | None = None,
    prices: tuple[float, float] = (0.0, 0.0),
    patience: RetryPolicy = PATIENCE,
    first: RetryPolicy = FIRST_PATIENCE,
) -> VerifiedServer:
    """url: with or without /v1. model: None for the request's, or the one that the server lists. sent: None for what suits it.
    request: a file whose parameters are sent in place of our own. prices: USD per million tokens of prompt and answer. patience: of
    the calls; first: of the first.

    Raises InputError for a file that is no request or holds another prompt, and where the server lists several models and none is
    named, InfrastructureError where it does not answer.
    """
    address = address_of(url)
    ready = None if request is None else read_ready_request(request)
    model = model or (ready.model if ready is not None else "") or None
    listing = ApiModel(parse_endpoint(f"{address}#{model or OWN}"), patience=first)
    try:
        offered = offered_models(listing, address, named=model is not None)
    finally:
        listing.close()
    name = model or _only(offered, address)
    is_own = any(model.name == name and model.owned_by == OWN for model in offered)
    endpoint = parse_endpoint(f"{address}#{name}")
    sends: Sent = sent or ("input" if is_own else "prompt")
    if ready is not None and request is not None:
        refuse_other_prompt(ready, request, winner, sends)
    decoding = _sent(winner, sends).decoding
    asked = ApiModel(
        endpoint,
        prompt_price=prices[0],
        output_price=prices[1],
        template_kwargs={} if is_own or endpoint.is_openai else winner.template_kwargs,
        client=None if ready is None else ClientParameters(ready.parameters, decoding),
        patience=patience,
    )
    if ready is None:
        return VerifiedServer(endpoint, sends, asked)
    return VerifiedServer(
        endpoint, sends, asked, ready.parameters, _differences(ready.parameters, winner.decoding, sends)
    )


def address_of(url: str, where: str = "URL") -> str:
    """With the path that servers have where none is given. Raises InputError for what is no address of a server."""
    if not is_endpoint(url) or url.startswith(("openai:", "scripted:")):
        raise InputError(
            f'found "{url}"',
            where=where,
            expected="the address of a server, such as http://127.0.0.1:8000/v1",
            remedy="Write it with http:// or https://.",
        )
    url = url.rstrip("/")
    return url if urlsplit(url).path else f"{url}/v1"


def offered_models(model: ApiModel, address: str, *, named: bool) -> tuple[OfferedModel, ...]:
    """named: whether its user named the model, so that a server need not list any. Errors name the address alone."""
    try:
        return model.offered()
    except TaskError as error:
        if not named:
            remedy = "Correct the address, or add --model NAME."
            raise TaskError(error.found, where=address, expected=error.expected, remedy=remedy) from error
        return ()
    except PrerequisiteError as error:
        remedy = f"{error.remedy} A server that `lastresort serve` runs takes the value of its {SERVE_KEY}."
        raise PrerequisiteError(error.found, where=address, expected=error.expected, remedy=remedy) from error
    except InfrastructureError as error:
        raise InfrastructureError(
            error.found,
            where=address,
            expected=error.expected,
            remedy="Start the server, or correct the address.",
            resume=SAME_COMMAND,
        ) from error


def _only(offered: tuple[OfferedModel, ...], address: str) -> str:
    if len(offered) == 1 or (offered and offered[0].owned_by.startswith(OWN)):  # which lists the winner first
        return offered[0].name
    names = ", ".join(model.name for model in offered[:_NAMES_SHOWN])
    raise InputError(
        f"the server lists {len(offered)} models{f' ({names})' if names else ''}",
        where=address,
        expected="the name of one",
        remedy="Add --model NAME.",
    )
