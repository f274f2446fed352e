"""Another server that answers in place of the winner's own model: asked at the start, and told to put its own defaults aside."""

from __future__ import annotations

from collections.abc import Sequence

from lastresort.errors import InfrastructureError, InputError, TaskError
from lastresort.handoff import TARGETS
from lastresort.models.api.model import ApiModel
from lastresort.models.api.replies import OfferedModel
from lastresort.models.endpoint import Endpoint, parse_endpoint
from lastresort.spec.values import listed
from lastresort.systems.answerer import Answerer
from lastresort.systems.system import System
from lastresort.types import Decoding, JsonObject, Message
from lastresort.verify.server import FIRST_PATIENCE, address_of, offered_models

_QUESTION, _ONE_TOKEN = ((Message("user", "Hello"),),), Decoding(1)


def open_upstream(system: System, url: str, model: str) -> Answerer:
    """The system, answered by this model of the server.

    The server's list of models is asked for. Not every server has one, and not every list is complete, so that a model that is not
    in it is asked for one token.
    Raises InputError for an address or a model that is not there, InfrastructureError for a server that does not answer,
    PrerequisiteError for a key that it refuses.
    """
    address = address_of(url, "--upstream")
    endpoint = parse_endpoint(f"{address}#{model}")
    asking = ApiModel(endpoint, patience=FIRST_PATIENCE)
    try:
        offered = offered_models(asking, address, named=True)
        if offered and all(one.name != model for one in offered):
            _refuse_unknown(asking, address, model, offered)
    finally:
        asking.close()
    answering = ApiModel(endpoint, neutral=_accepted(endpoint, _neutral(offered)))
    return Answerer(system.answered_by(answering.name), answering)


def _refuse_unknown(asking: ApiModel, address: str, model: str, offered: Sequence[OfferedModel]) -> None:
    try:
        asking.replies(_QUESTION, _ONE_TOKEN)
    except (TaskError, InfrastructureError) as error:
        raise InputError(
            f'the server does not answer as "{model}" ({error.found})',
            where=address,
            expected=f"one of its models: {listed([one.name for one in offered], 'or', most=8)}",
            remedy="Name one with --model.",
        ) from error


def _neutral(offered: Sequence[OfferedModel]) -> JsonObject:
    """The keys that make a server neutral whose list says what it is. Others may refuse what they do not know."""
    owners = {one.owned_by for one in offered}
    found = [target for target in TARGETS.values() if owners and owners <= set(target.owned_by)]
    return dict(found[0].neutral) if found else {}


def _accepted(endpoint: Endpoint, neutral: JsonObject) -> JsonObject:
    """None of the keys where the server refuses a request that has them: then it is another one than its list says."""
    if not neutral:
        return {}
    asking = ApiModel(endpoint, neutral=neutral, patience=FIRST_PATIENCE)
    try:
        asking.replies(_QUESTION, _ONE_TOKEN)
    except TaskError:
        return {}
    finally:
        asking.close()
    return neutral
