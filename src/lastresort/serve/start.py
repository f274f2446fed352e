"""Serve what won a run: open it as it was measured, bind, answer until somebody asks to stop."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

from lastresort.app.runtime import stop_on_sigterm
from lastresort.errors import InfrastructureError, InputError, PrerequisiteError
from lastresort.keys import SERVE_KEY, SHORTEST_SERVE_KEY
from lastresort.libraries import quiet_logger
from lastresort.models.endpoint import Approve, nobody_to_ask
from lastresort.serve.opening import ServeRequest, refuse_exclusive
from lastresort.serve.work import MODEL, Owner
from lastresort.stop import NEVER, FirstOf, Stop, StopRequest
from lastresort.systems.running import winner_status

DRAIN_S, LAST_S = 30, 5  # to finish what runs, and then to send it and to end
_NEEDED = ("fastapi", "uvicorn", "prometheus_client")


@dataclass(frozen=True, slots=True)
class ServedName:
    """name: by which clients ask for the system. prompted: whether its own prompt is put around messages."""

    name: str
    system: str
    model: str
    prompted: bool


@dataclass(frozen=True, slots=True)
class Serving:
    """What is served, and where. url: as clients write it. names: the winner is the first."""

    url: str
    has_key: bool
    names: tuple[ServedName, ...]


def serve(
    request: ServeRequest,
    *,
    stop: Stop = NEVER,
    on_ready: Callable[[Serving], None] = lambda serving: None,
    log: Callable[[str], None] = lambda line: None,
    approve: Approve = nobody_to_ask,
) -> None:
    """Answer requests until `stop` or a signal asks to end; then finish what runs within 30 s. A second signal ends at once.

    on_ready: called once requests are taken. log: gets the lines of the access log, and what happens before and after.

    Raises InputError for an address that cannot be bound or a held winner, PrerequisiteError where the extra or a key is missing,
    InfrastructureError once nothing can be computed any more, as when a GPU is lost, and the errors of `open_system`.
    """
    refuse_exclusive(request)
    _check_extra()
    key = os.environ.get(SERVE_KEY, "").strip()
    _check_key(request, key)
    from lastresort.serve.guard import is_loopback
    from lastresort.serve.transport import DrainingServer, address_of, bound

    def refuse_unguarded(address: str) -> None:
        if not key and not is_loopback(address):
            raise _unguarded(f"{request.host} ({address})")

    # Before the model is loaded, so that a port in use is known at once. Nobody can connect before the server listens.
    with bound(request.host, request.port, refuse_unguarded) as listening:
        from lastresort.report.words import progress as words
        from lastresort.serve.answers import RequestComposer
        from lastresort.serve.guard import GuardSettings
        from lastresort.serve.http import Offering, Service, create_app
        from lastresort.serve.opening import close_served, open_served
        from lastresort.serve.owner import open_owners

        log(words.OPENING)
        served = open_served(request, approve=approve, log=log)
        for note in winner_status(request.run).notes:
            log(note)
        models = {one.name: one.answerer.model for one in served}
        owners = open_owners(models, slots=request.slots, longest_tokens=request.longest_tokens)
        whole = AllOwners(tuple(dict.fromkeys(owners.values())))
        service = Service(
            [Offering(RequestComposer(one.answerer, raw=one.raw, name=one.name), owners[one.name]) for one in served]
        )

        def drain() -> None:
            service.is_stopping = True
            log(words.stopping_line(whole.left, DRAIN_S))
            whole.drain(DRAIN_S)

        def ready() -> None:
            names = [
                ServedName(one.name, one.answerer.system.name, one.answerer.model.name, not one.raw) for one in served
            ]
            longest, context = owners[MODEL].longest_tokens_of(MODEL), models[MODEL].context_tokens
            if longest is not None and context is not None and longest < context:
                log(words.context_line(longest, context))
            on_ready(Serving(f"http://{address_of(listening)}/v1", bool(key), tuple(names)))

        app = create_app(service, GuardSettings(key, request.log_bodies), log)
        try:
            # A client could fill uvicorn's log, and `app` reports what fails.
            with (
                quiet_logger("uvicorn.error", logging.CRITICAL),
                stop_on_sigterm(signal.SIGINT, within_s=DRAIN_S + LAST_S) as asked,
            ):
                DrainingServer(app, stop=FirstOf((stop, asked, whole)), drain=drain, on_ready=ready).run(
                    sockets=[listening]
                )
        except KeyboardInterrupt:  # a second signal waits for nothing
            raise
        except BaseException:
            whole.close()
            raise
        service.close()
        whole.close()
        close_served(served)
        if (fault := whole.fault) is not None:
            raise InfrastructureError(
                f"nothing can be computed any more ({type(fault).__name__}: {fault})",
                where="serve",
                remedy="Start the server again.",
            ) from fault


@dataclass(frozen=True, slots=True)
class AllOwners:
    """All who compute for a server. It asks to stop once one of them can compute nothing any more, so that whoever watches the
    server starts another.
    """

    owners: tuple[Owner, ...]

    @property
    def left(self) -> int:
        """Answers that are not finished."""
        return sum(owner.load.running + owner.load.waiting for owner in self.owners)

    @property
    def fault(self) -> Exception | None:
        return next((owner.fault for owner in self.owners if owner.fault is not None), None)

    def requested(self) -> StopRequest | None:
        return None if self.fault is None else StopRequest("signal", "nothing can be computed any more")

    def drain(self, within_s: float) -> None:
        """Nothing new is submitted any more, so that one may wait while another is drained."""
        end = time.monotonic() + within_s
        for owner in self.owners:
            owner.drain(max(0.0, end - time.monotonic()))

    def close(self) -> None:
        for owner in self.owners:
            owner.close()


def _check_extra() -> None:
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise PrerequisiteError(
            f"{missing[0].replace('_', '-')} is not installed, and serving needs it",
            remedy="Run: pip install 'lastresort[serve]'",
        )


def _check_key(request: ServeRequest, key: str) -> None:
    from lastresort.serve.guard import is_loopback

    if key and len(key) < SHORTEST_SERVE_KEY:
        raise InputError(
            f"found a key of {len(key)} characters",
            where=SERVE_KEY,
            expected=f"at least {SHORTEST_SERVE_KEY}",
            remedy='Make one with: python -c "import secrets; print(secrets.token_urlsafe())"',
        )
    if not key and not is_loopback(request.host):
        raise _unguarded(request.host)


def _unguarded(host: str) -> PrerequisiteError:
    return PrerequisiteError(
        f"{host} can be reached from other machines, and no key guards it",
        where="--host",
        expected=f"this machine alone, or a key in {SERVE_KEY}",
        remedy=f"Set {SERVE_KEY}, or leave --host out.",
    )
