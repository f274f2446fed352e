"""Serve what won a run: open it as it was measured, bind, answer until somebody asks to stop."""

from __future__ import annotations

import logging
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from lastresort.app.runtime import stop_on_sigterm, take_longer_to_end
from lastresort.errors import InfrastructureError, InputError, PrerequisiteError
from lastresort.keys import SERVE_KEY, SHORTEST_SERVE_KEY
from lastresort.libraries import quiet_logger
from lastresort.models.endpoint import Approve, nobody_to_ask
from lastresort.serve.work import Owner
from lastresort.stop import NEVER, FirstOf, Stop, StopRequest
from lastresort.systems.answerer import Answerer

DRAIN_S, LAST_S = 30, 5  # to finish what runs, and then to send it and to end
_NEEDED = ("fastapi", "uvicorn", "prometheus_client")


@dataclass(frozen=True, slots=True)
class ServeRequest:
    """run: folder of a run or of a saved system. port: 0 for any that is free. slots: answers computed at once, None for what suits
    the model. upstream, model: another server that answers in place of the winner's own model, and its model there.
    """

    run: Path
    host: str = "127.0.0.1"
    port: int = 8000
    raw: bool = False
    allow_held: bool = False
    log_bodies: bool = False
    slots: int | None = None
    upstream: str | None = None
    model: str | None = None


@dataclass(frozen=True, slots=True)
class Serving:
    """What is served, and where. url: as clients write it. prompted: whether the winner's own prompt is put around messages."""

    url: str
    system: str
    model: str
    has_key: bool
    prompted: bool


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
    _check_extra()
    key = os.environ.get(SERVE_KEY, "").strip()
    _check_key(request, key)
    with _bound(request.host, request.port, has_key=bool(key)) as listening:
        from lastresort.serve.answers import RequestComposer
        from lastresort.serve.guard import GuardSettings
        from lastresort.serve.http import Service, create_app
        from lastresort.serve.owner import open_owner
        from lastresort.serve.transport import DrainingServer

        log("opening the winner ...")
        answerer = _opened(request, approve)
        owner = open_owner(answerer.model, slots=request.slots)
        service = Service(RequestComposer(answerer, raw=request.raw), owner)

        def drain() -> None:
            service.is_stopping = True
            left = owner.load.running + owner.load.waiting
            what = "1 answer is" if left == 1 else f"{left} answers are"
            log(f"stopping: {what} finished first, for up to {DRAIN_S} s" if left else "stopping")
            owner.drain(DRAIN_S)

        def ready() -> None:
            system, model = answerer.system.name, answerer.model.name
            on_ready(Serving(_url(listening), system, model, bool(key), prompted=not request.raw))

        app = create_app(service, GuardSettings(key, request.log_bodies), log)
        try:
            # A client could fill uvicorn's log, and `app` reports what fails.
            with quiet_logger("uvicorn.error", logging.CRITICAL), stop_on_sigterm(signal.SIGINT) as asked:
                take_longer_to_end(DRAIN_S + LAST_S)
                DrainingServer(app, stop=FirstOf((stop, asked, _Lost(owner))), drain=drain, on_ready=ready).run(
                    sockets=[listening]
                )
        except KeyboardInterrupt:  # a second signal waits for nothing
            raise
        except BaseException:
            owner.close()
            raise
        service.close()
        owner.close()
        answerer.close()
        if owner.fault is not None:
            raise InfrastructureError(
                f"nothing can be computed any more ({type(owner.fault).__name__}: {owner.fault})",
                where="serve",
                remedy="Start the server again.",
            ) from owner.fault


@dataclass(frozen=True, slots=True)
class _Lost:
    """Ends a server that can compute nothing any more, so that whoever watches it starts another."""

    owner: Owner

    def requested(self) -> StopRequest | None:
        return None if self.owner.fault is None else StopRequest("signal", "nothing can be computed any more")


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


def _opened(request: ServeRequest, approve: Approve) -> Answerer:
    from lastresort.models.open import open_model
    from lastresort.systems.running import checked_system, open_system

    if (request.upstream is None) != (request.model is None):
        raise InputError(
            "--upstream and --model belong together", remedy="Name the other server and its model, or neither."
        )
    if request.upstream is None:
        return open_system(request.run, allow_held=request.allow_held, approve=approve)
    system, folder = checked_system(request.run, allow_held=request.allow_held)
    model = open_model(f"{request.upstream}#{request.model}", base_folder=folder)
    return Answerer(system.answered_by(model.name), model)


@contextmanager
def _bound(host: str, port: int, *, has_key: bool) -> Iterator[socket.socket]:
    """Bound before the model is loaded, so that a port in use is known at once. Nobody can connect before the server listens.

    Raises PrerequisiteError without a key where the name of this machine leads to an address that others reach.
    """
    from lastresort.serve.guard import is_loopback

    where = f"--host {host} --port {port}"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError, OverflowError) as error:
        raise InputError(f"found no such address ({error})", where=where, remedy="Correct the host.") from None
    with closing(listening):
        if not has_key and not is_loopback(str(address[0])):
            raise _unguarded(f"{host} ({address[0]})")
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
        except (OSError, OverflowError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise InputError(f"cannot be bound ({reason})", where=where, remedy="Take another --port.") from None
        yield listening


def _url(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}/v1" if ":" in host else f"http://{host}:{port}/v1"
