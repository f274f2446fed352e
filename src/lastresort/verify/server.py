"""The server that is asked: its address, the model there, and whether it puts the winner's own prompt around each input."""

from __future__ import annotations

from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from lastresort.errors import InputError, TaskError
from lastresort.models.api import ApiModel
from lastresort.models.calls import RetryPolicy
from lastresort.models.endpoint import Endpoint, parse_endpoint
from lastresort.models.exchange import OfferedModel
from lastresort.models.protocol import is_endpoint
from lastresort.report.words.verify import Sent
from lastresort.systems.answerer import Answerer
from lastresort.systems.system import PromptDesign, System

PATIENCE = RetryPolicy(attempts=5, longest_wait_s=15.0)
FIRST_PATIENCE = RetryPolicy(attempts=2)  # whether anything listens there shows soon
OWN = "lastresort"  # our own server in its list of models; "lastresort-raw" where it serves the bare model
WRAPPING_TOKENS = 16  # of the object inside which a choice travels
_NAMES_SHOWN = 8


@dataclass(frozen=True, slots=True)
class VerifiedServer:
    """endpoint: the address with the model's name. sent: what it gets of each item. model: a client of it."""

    endpoint: Endpoint
    sent: Sent
    model: ApiModel

    def sender(self, winner: System) -> Answerer:
        """Asks as the winner's clients will: with its whole prompt and the form of its answers, or with the input alone."""
        system = _here(winner, self.model.name)
        grammar = system.decoding.grammar
        if self.sent == "input":
            plain = replace(system.decoding, grammar=None)
            system = replace(system, prompt=PromptDesign(""), retriever=None, decoding=plain)
        elif grammar is not None and grammar.choices is not None:
            room = system.decoding.max_new_tokens + WRAPPING_TOKENS
            system = replace(system, decoding=replace(system.decoding, max_new_tokens=room))
        return Answerer(system, self.model)

    def composer(self, winner: System) -> Answerer:
        """Composes the winner's whole prompt, whatever is sent."""
        return Answerer(_here(winner, self.model.name), self.model)


def _here(winner: System, name: str) -> System:
    """The same prompt and decoding, answered by the server: it has the weights."""
    return replace(winner, model=name, adapter=None, rendering="", fingerprint="", trained_rendering="")


def connect(
    url: str,
    winner: System,
    *,
    model: str | None,
    sent: Sent | None,
    prices: tuple[float, float] = (0.0, 0.0),
    patience: RetryPolicy = PATIENCE,
    first: RetryPolicy = FIRST_PATIENCE,
) -> VerifiedServer:
    """url: with or without /v1. model: None for the one that the server lists. sent: None for what suits it. prices: USD per
    million tokens of prompt and answer. patience: of the calls; first: of the first.

    Raises InputError where the server lists several models and none is named, InfrastructureError where it does not answer.
    """
    address = _address(url)
    listing = ApiModel(parse_endpoint(f"{address}#{model or OWN}"), patience=first)
    try:
        offered = _offered(listing, named=model is not None)
    finally:
        listing.close()
    name = model or _only(offered, address)
    own, endpoint = _is_own(offered, name), parse_endpoint(f"{address}#{name}")
    asked = ApiModel(
        endpoint,
        prompt_price=prices[0],
        output_price=prices[1],
        template_kwargs={} if own or endpoint.is_openai else winner.template_kwargs,
        patience=patience,
    )
    return VerifiedServer(endpoint, sent or ("input" if own else "prompt"), asked)


def _address(url: str) -> str:
    if not is_endpoint(url) or url.startswith(("openai:", "scripted:")):
        raise InputError(
            f'found "{url}"',
            where="URL",
            expected="the address of a server, such as http://127.0.0.1:8000/v1",
            remedy="Write it with http:// or https://.",
        )
    url = url.rstrip("/")
    return url if urlsplit(url).path else f"{url}/v1"


def _offered(model: ApiModel, *, named: bool) -> tuple[OfferedModel, ...]:
    """named: whether its user named the model, so that a server need not list any."""
    try:
        return model.offered()
    except TaskError:
        if not named:
            raise
        return ()


def _only(offered: tuple[OfferedModel, ...], address: str) -> str:
    if len(offered) == 1 or (offered and offered[0].owned_by.startswith(OWN)):  # which lists the winner first
        return offered[0].name
    names = ", ".join(one.name for one in offered[:_NAMES_SHOWN])
    raise InputError(
        f"the server lists {len(offered)} models{f' ({names})' if names else ''}",
        where=address,
        expected="the name of one",
        remedy="Add --model NAME.",
    )


def _is_own(offered: tuple[OfferedModel, ...], name: str) -> bool:
    return any(one.name == name and one.owned_by == OWN for one in offered)
