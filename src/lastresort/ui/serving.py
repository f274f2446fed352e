"""Answer the Talk page from a child process, which ends with the page or after ten idle minutes.

The process is `lastresort serve RUN`: it answers as measured, and the page only passes its pieces on.
"""

from __future__ import annotations

import json
import secrets
import subprocess
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any, Literal
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

from lastresort.app.servable import WINNER, Servable
from lastresort.app.terminal import print_note
from lastresort.errors import InfrastructureError, InputError
from lastresort.foreign import NotJson, parse_json
from lastresort.keys import SERVE_KEY
from lastresort.records.decision import HELD
from lastresort.report.words.wording import rung_in_prose
from lastresort.types import JsonObject
from lastresort.ui.processes import open_log, start_process

IDLE_S = 600.0  # after the last answer
LOOK_S = 5.0
END_S = 5.0  # to end by itself
NAMES_S = 30.0  # to say what it answers as, once it has an address
MOST_OPEN = 2  # runs whose models are in memory
_SILENCE_S = 600.0  # between two pieces of an answer

State = Literal["opening", "open", "ended"]


@dataclass(slots=True)
class ServingProcess:
    """A process at work. names: what it answers as, once it is open. log: all that it prints besides. opened: as in `Servable`."""

    process: subprocess.Popen[bytes]
    key: str
    log: Path
    url: str = ""
    names: tuple[str, ...] = ()
    opened: tuple[str, ...] = ()
    used_at: float = field(default_factory=time.monotonic)
    began_at: float = field(default_factory=time.monotonic)

    @property
    def took_s(self) -> float:
        """Since it was started."""
        return time.monotonic() - self.began_at

    @property
    def state(self) -> State:
        if self.process.poll() is not None:
            return "ended"
        return "open" if self.names else "opening"

    def read_address(self) -> None:
        """Wait for the address that it prints, and what it answers as. Without either, nothing can be asked of it, and it ends."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline().decode(errors="replace").strip()
        try:
            if line.startswith("http://127.0.0.1:"):
                with closing(self._open(f"{line}/models", longest_s=NAMES_S)) as found:
                    offered = parse_json(found.read().decode())["data"]
                self.url, self.names = line, tuple(str(model["id"]) for model in offered)
        except (OSError, HTTPException, ValueError, LookupError, TypeError) as error:
            print_note(f"What the process answers as could not be read: {error!r}")
        self.used_at = time.monotonic()
        if not self.names:
            self.close()

    def answer(
        self, name: str, turns: Sequence[JsonObject], stopped: Callable[[], bool], longest_tokens: int | None = None
    ) -> Iterator[JsonObject]:
        """The chunks of a streamed answer, decoded as measured. stopped: looked at between them; the process stops computing then.
        longest_tokens: of the answer, None for as many as were measured with.

        Raises InputError with the words of a refusal, InfrastructureError where the process is gone, also in mid-answer: a stream
        that is cut ends without any error of its own.
        """
        self.used_at = time.monotonic()
        body: dict[str, object] = {
            "model": name,
            "messages": list(turns),
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        body |= {} if longest_tokens is None else {"max_tokens": longest_tokens}
        try:
            with closing(self._open(f"{self.url}/chat/completions", json.dumps(body).encode())) as lines:
                for line in lines:
                    self.used_at = time.monotonic()
                    text = line.decode(errors="replace").strip()
                    if stopped() or text == "data: [DONE]":
                        return
                    if text.startswith("data: "):
                        yield _chunk(text.removeprefix("data: "))
            raise self._cut()
        except HTTPError as error:
            raise InputError(_refusal(error.read().decode(errors="replace"))) from error
        except (OSError, HTTPException) as error:
            raise self._gone() from error

    def _cut(self) -> InfrastructureError:
        """A process that ends closes its streams a moment before it is gone."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(1)
        if self.process.poll() is not None:
            return self._gone()
        return InfrastructureError("the answer was cut off", where=str(self.log), remedy="Send the message again.")

    def _gone(self) -> InfrastructureError:
        return InfrastructureError(
            "the model's process has exited", where=str(self.log), remedy="Open the model again."
        )

    def _open(self, url: str, body: bytes | None = None, longest_s: float = _SILENCE_S) -> Any:
        headers = {"authorization": f"Bearer {self.key}", "content-type": "application/json"}
        direct = build_opener(ProxyHandler({}))  # loopback is never reached by way of a proxy
        return direct.open(Request(url, body, headers), timeout=longest_s)

    def ask_to_end(self) -> None:
        if self.process.stdin is not None:
            with suppress(OSError):
                self.process.stdin.close()

    def close(self) -> None:
        self.ask_to_end()
        try:
            self.process.wait(END_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def _chunk(text: str) -> JsonObject:
    try:
        chunk = parse_json(text)
    except NotJson as error:
        raise InputError(f"the process answered with no JSON ({error.reason})") from error
    if not isinstance(chunk, dict) or "error" in chunk:
        raise InputError(_refusal(text))
    return chunk


def _refusal(body: str) -> str:
    """The sentence of a refusal of our own server."""
    with suppress(NotJson, KeyError, TypeError):
        return str(parse_json(body)["error"]["message"]).rstrip(".")
    return "the process refused the request"


class ServingProcesses:
    """Those of a page, by run. start: how one is started."""

    def __init__(
        self, start: Callable[[Servable, Path, bool], ServingProcess] | None = None, *, idle_s: float = IDLE_S
    ):
        self._start, self._idle_s = start or start_serving, idle_s
        self._open: dict[str, ServingProcess] = {}
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._watching: threading.Thread | None = None

    def of(self, run: str) -> ServingProcess | None:
        """The newest of this run, which may have ended."""
        with self._lock:
            return self._open.get(run)

    def open(self, run: str, found: Servable, log: Path, *, allowed: Collection[str] = ()) -> ServingProcess:
        """Start one unless it is there. Of too many, the one used longest ago ends. allowed: those of `held_ones` to which somebody
        has said yes.

        Raises InputError for another one of them, and where the one that is there was opened with other rungs.
        """
        if unsaid := [name for name in found.held_ones if name not in allowed]:
            raise InputError(
                HELD if unsaid[0] == WINNER else f"the gate did not clear the system of {rung_in_prose(unsaid[0])}",
                where=run,
                expected="your yes",
                remedy="Reload the page, and say yes there to talk to it all the same.",
            )
        with self._lock:
            there = self._open.get(run)
            if there is not None and there.state != "ended":
                if there.opened != found.opened:
                    raise InputError(
                        "the model is open already, with other systems of this run",
                        where=run,
                        remedy="Reload the page, and close the model first.",
                    )
                return there
            others = sorted((one.used_at, name) for name, one in self._open.items() if one.state != "ended")
            least_used = [self._open[name] for _, name in others[: max(0, len(others) + 1 - MOST_OPEN)]]
            for one in least_used:
                one.ask_to_end()
            made = self._open[run] = self._start(found, log, bool(found.held_ones))
            made.opened = found.opened
        for one in least_used:  # which takes seconds, while others look what is open
            one.close()
        threading.Thread(target=made.read_address, name="serving-address", daemon=True).start()
        self._watch()
        return made

    def close(self, run: str) -> None:
        with self._lock:
            found = self._open.pop(run, None)
        if found is not None:
            found.close()

    def close_all(self) -> None:
        self._over.set()
        for run in list(self._open):
            self.close(run)

    def close_idle(self, now: float) -> None:
        for run, one in list(self._open.items()):
            if one.state != "ended" and now - one.used_at > self._idle_s:
                self.close(run)

    def _watch(self) -> None:
        if self._watching is None:
            self._watching = threading.Thread(target=self._close_idle_ones, name="serving-idle", daemon=True)
            self._watching.start()

    def _close_idle_ones(self) -> None:
        while not self._over.wait(LOOK_S):
            self.close_idle(time.monotonic())


def start_serving(found: Servable, log: Path, allow_held: bool) -> ServingProcess:
    key = secrets.token_urlsafe(32)
    arguments = ["serve", str(found.folder), "--port", "0", "--all", *(["--allow-held"] if allow_held else [])]
    arguments += [word for rung in found.opened for word in ("--rung", rung)]
    with open_log(log, "wb") as said:
        process = start_process(
            arguments,
            folder=found.folder,
            out=subprocess.PIPE,
            faults=said,
            bound=True,
            reaches=found.reaches,
            more={SERVE_KEY: key},
        )
    return ServingProcess(process, key, log)
