"""Answer the Talk page from a child process, which ends with the page or after ten idle minutes.

The process is `lastresort serve RUN`: it answers as measured, and the page only passes its pieces on.
"""

from __future__ import annotations

import json
import secrets
import subprocess
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from http.client import HTTPException
from pathlib import Path
from typing import Any, Literal
from urllib.error import HTTPError
from urllib.request import OpenerDirector, ProxyHandler, Request, build_opener

from lastresort.app.terminal import print_note
from lastresort.climb.shared_run import SCRIPTED
from lastresort.errors import DataError, InfrastructureError, InputError
from lastresort.foreign import NotJson, parse_json
from lastresort.keys import SERVE_KEY
from lastresort.ladder import RUNGS, trains
from lastresort.models.protocol import is_endpoint
from lastresort.records.candidates import facts_in
from lastresort.records.decision import BAR_NOTES, HELD, RunView
from lastresort.records.decision_parts import CandidateFacts
from lastresort.records.events import CandidateProposed, GateRun, SystemFrozen
from lastresort.records.gate import ClimbGate
from lastresort.records.record import Record
from lastresort.report.decision import view_in
from lastresort.report.words.wording import rung_in_prose
from lastresort.serve.opening import is_uncleared
from lastresort.systems.files import FILE, artefact_sha256, candidate_folder, load_measured, load_system
from lastresort.systems.system import System
from lastresort.types import JsonObject
from lastresort.ui.processes import open_log, start_process

WINNER = "winner"  # as `serve` calls it
IDLE_S = 600.0  # after the last answer
LOOK_S = 5.0
END_S = 5.0  # to end by itself
NAMES_S = 30.0  # to say what it answers as, once it has an address
PROMPTS = next(
    rung for rung, facts in RUNGS.items() if facts.winner == "prompt"
)  # whose system `serve --all` has already
MOST_OPEN = 2  # runs whose models are in memory
_SILENCE_S = 600.0  # between two pieces of an answer

State = Literal["opening", "open", "ended"]


@dataclass(frozen=True, slots=True)
class TestedSystem:
    """What a rung tested, or measured on dev alone: `dev` is then its score there. held: whether a gate did not clear it.
    measured_tokens: as in `Servable`.
    """

    __test__ = False

    rung: str
    name: str
    held: bool
    reaches: tuple[str, ...]
    measured_tokens: int = 0
    dev: float | None = None
    facts: CandidateFacts | None = None

    @property
    def key(self) -> str:
        """By which `serve` knows it, and answers as it."""
        return self.rung if self.dev is None else f"{self.rung}/{self.name}"


@dataclass(frozen=True, slots=True)
class Servable:
    """folder: what `serve` is given: the run for its winner, else that of the best prompt, which nothing can hold.

    held: whether the gate holds it, by the checked record. reaches: the models that answer and are endpoints. others: what other
    rungs tested, and what was measured on dev alone. opened: those of them that are served, too, by their key. measured_tokens: the
    limit of an answer when it was measured, the larger one of the winner and the best prompt. bar_note: of a winner that is not
    shown to meet the bar, what to say of it.
    """

    folder: Path
    name: str
    held: bool = False
    is_winner: bool = True
    reaches: tuple[str, ...] = ()
    others: tuple[TestedSystem, ...] = ()
    opened: tuple[str, ...] = ()
    measured_tokens: int = 0
    bar_note: str | None = None

    @property
    def held_ones(self) -> tuple[str, ...]:
        """What of it the gate did not clear: WINNER, and rungs that are opened with it."""
        rungs = (one.key for one in self.others if one.held and one.key in self.opened)
        return (*((WINNER,) if self.held else ()), *rungs)

    def most_tokens(self, names: Sequence[str]) -> int:
        """The largest limit of an answer with which one of the systems of these names was measured."""
        return max([self.measured_tokens, *(one.measured_tokens for one in self.others if one.key in names)])

    def with_others(self, rungs: Sequence[str]) -> Servable:
        """To be served with the systems of these rungs. Raises InputError for a rung that has none."""
        known = {one.key: one for one in self.others}
        if unknown := [rung for rung in rungs if rung not in known]:
            raise InputError(
                f'found "{unknown[0][:40]}"', expected=f"some of {', '.join(known)}", remedy="Reload the page."
            )
        reaches = {name for rung in rungs for name in known[rung].reaches}
        return replace(self, opened=tuple(rungs), reaches=tuple(sorted({*self.reaches, *reaches})))


def servable(run: Path) -> Servable | None:
    """None where the run has neither a winner nor a prompt that was tested. Raises DataError where its record was changed, and
    where the files of that prompt are not those that were measured.
    """
    with Record.open(run, read_only=True) as record:
        view = view_in(record)
        frozen = {event.rung: event for event in record.all(SystemFrozen)}
        gates = [event.gate for event in record.all(GateRun)]
        proposed = record.all(CandidateProposed)
        facts = {(one.rung, one.name): facts_in(record, one.rung, one.name) for one in proposed}
    candidates = _candidates(run, view, frozen, gates)
    winner = view.winner
    if winner is not None and winner.path is not None and (run / winner.path / FILE).is_file():
        others = _others(run, facts, frozen, gates, but=artefact_sha256(run / winner.path))
        found = _servable(
            run, load_system(run / winner.path), held=winner.held, is_winner=True
        )  # `serve` checks its files
        return replace(
            found,
            bar_note=BAR_NOTES.get(view.winner_verdict),
            others=(*(one for one in others if one.key != PROMPTS), *candidates),
            measured_tokens=max(
                found.measured_tokens, *(one.measured_tokens for one in others if one.key == PROMPTS), 0
            ),
        )
    tested = [rung.name for rung in view.rungs if rung.test is not None and not trains(rung.name)]
    for event in (frozen[rung] for rung in reversed(tested) if rung in frozen):
        folder = candidate_folder(run, event.rung, event.name)
        if (folder / FILE).is_file():
            found = _servable(folder, load_measured(folder, event.sha256), held=False, is_winner=False)
            return replace(found, others=(*_others(run, facts, frozen, gates, but=event.sha256), *candidates))
    return None


def _others(
    run: Path,
    facts: Mapping[tuple[str, str], CandidateFacts | None],
    frozen: Mapping[str, SystemFrozen],
    gates: Sequence[ClimbGate],
    but: str,
) -> tuple[TestedSystem, ...]:
    """What the rungs tested, without the system of this hash. `serve` checks their files."""
    return tuple(
        one
        for event in (frozen[rung] for rung in RUNGS if rung in frozen)
        if event.sha256 != but
        and (one := _tested(run, gates, event.rung, event.name, facts.get((event.rung, event.name)))) is not None
    )


def _candidates(
    run: Path, view: RunView, frozen: Mapping[str, SystemFrozen], gates: Sequence[ClimbGate]
) -> list[TestedSystem]:
    """What was measured on dev alone, the best of a rung first. `serve` checks their files."""
    return [
        one
        for rung in view.rungs
        for made in sorted(rung.candidates, key=lambda one: -one.dev.score)
        if (rung.name not in frozen or frozen[rung.name].name != made.name)
        and (one := _tested(run, gates, rung.name, made.name, made.facts, made.dev.score)) is not None
    ]


def _tested(
    run: Path, gates: Sequence[ClimbGate], rung: str, name: str, facts: CandidateFacts | None, dev: float | None = None
) -> TestedSystem | None:
    """None where its files cannot be read."""
    system = _readable(candidate_folder(run, rung, name))
    if system is None:
        return None
    held, tokens = is_uncleared(gates, rung, name), system.decoding.max_new_tokens
    return TestedSystem(rung, name, held, _reached(system), tokens, dev, facts)


def _readable(folder: Path) -> System | None:
    """None where nothing readable is in the folder: the other systems of the run can be talked to all the same."""
    try:
        return load_system(folder)
    except (DataError, InputError):  # a damaged one, or one with a link out of its folder
        return None


def _servable(folder: Path, system: System, *, held: bool, is_winner: bool) -> Servable:
    return Servable(
        folder, system.name, held, is_winner, _reached(system), measured_tokens=system.decoding.max_new_tokens
    )


def _reached(system: System) -> tuple[str, ...]:
    asks = is_endpoint(system.model) and not system.model.startswith(SCRIPTED)
    return (system.model,) if asks else ()


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
        return _direct().open(Request(url, body, headers), timeout=longest_s)

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


def _direct() -> OpenerDirector:
    """Loopback is never reached by way of a proxy."""
    return build_opener(ProxyHandler({}))


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
