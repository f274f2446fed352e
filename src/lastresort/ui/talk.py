"""A conversation with several systems of a run: what was said, what each answered so far, and that it is kept in the workspace.

Several pages may serve one folder: each adds its own messages and answers to what the file holds by then.
"""

from __future__ import annotations

import secrets
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lastresort.app.kept import writing
from lastresort.app.terminal import print_note
from lastresort.errors import InputError, LastresortError
from lastresort.foreign import DOCUMENT, read_text
from lastresort.records.atomic import write_atomically
from lastresort.types import JsonObject
from lastresort.ui.workspace import NotThere

LONGEST = 100_000  # characters of a message
MOST_EXCHANGES = 200
_FAULT = "lastresort failed. The terminal it runs in shows the traceback."
_CUT = "this answer is not complete: another page is still answering, or it ended before"

Ask = Callable[[str, Sequence[JsonObject], Callable[[], bool]], Iterator[JsonObject]]


class TalkAnswer(BaseModel):
    """finish: "stop", "length", "stopped" by its reader, or "failed", whose fault says why; "" for one that was still coming when
    this was written. sources: documents in its prompt. longest_tokens: to which it was let go on, None for as measured.
    """

    model_config = ConfigDict(frozen=True)

    system: str
    text: str
    finish: str
    fault: str = ""
    tokens: int | None = None
    seconds: float = 0.0
    sources: tuple[str, ...] = ()
    longest_tokens: int | None = None


class TalkExchange(BaseModel):
    model_config = ConfigDict(frozen=True)

    said: str
    answers: tuple[TalkAnswer, ...]


def _new_id() -> str:
    return secrets.token_hex(6)


class KeptTalk(BaseModel):
    """id: of the conversation, as numbers of messages begin again with each."""

    model_config = ConfigDict(frozen=True)

    id: str = Field(default_factory=_new_id, pattern="^[0-9a-f]+$")
    exchanges: tuple[TalkExchange, ...] = ()


@dataclass(slots=True)
class GrowingAnswer:
    """An answer as it comes. finish: "" until it is whole, then `ending`. leaves: whether its reader has stopped it. elsewhere: in
    the file it was still coming, so that another page may yet complete it.
    """

    system: str
    text: str = ""
    finish: str = ""
    fault: str = ""
    tokens: int | None = None
    seconds: float = 0.0
    sources: tuple[str, ...] = ()
    longest_tokens: int | None = None
    ending: str = ""
    leaves: bool = False
    elsewhere: bool = False

    def take(self, chunk: JsonObject) -> None:
        """A chunk of the stream, as our own server sends it."""
        match chunk:
            case {"usage": {"completion_tokens": int(tokens)}}:
                self.tokens = tokens
            case {"choices": [{"delta": {"content": str(text)}}, *_]}:
                self.text += text
            case {"choices": [{"finish_reason": str(finish)}, *_]}:
                self.ending = finish
            case _:
                pass
        match chunk:
            case {"sources": [*sources]}:
                named = (source.get("document") for source in sources if isinstance(source, dict))
                self.sources = tuple(dict.fromkeys(str(name) for name in named))
            case _:
                pass

    def kept(self) -> TalkAnswer:
        seen = replace(self, seconds=round(self.seconds, 3))
        if self.elsewhere:
            seen = replace(seen, finish="", fault="")
        return TalkAnswer.model_validate(seen, from_attributes=True)


@dataclass(slots=True)
class Exchange:
    said: str
    answers: list[GrowingAnswer]


@dataclass(slots=True)
class Talk:
    """path: where the conversation is kept, from the moment that a message is sent."""

    path: Path
    exchanges: list[Exchange] = field(default_factory=list)
    id: str = field(default_factory=_new_id)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _seen: object = None  # the file as it was read or written last

    @classmethod
    def opened(cls, path: Path) -> Talk:
        """As it was kept; a new one where that is missing or cannot be read. Answers that were still coming then have failed."""
        found = cls(path)
        found.read_again()
        return found

    def read_again(self) -> None:
        """Take over what another page on this folder has said, or that it has begun a new conversation."""
        with self._lock:
            self._read_again()

    def _read_again(self) -> None:
        state = _state_of(self.path)
        kept = None if state == self._seen else _kept_in(self.path)
        if kept is not None:
            here = self.exchanges if kept.id == self.id else []
            self.id, self.exchanges = kept.id, _merged(here, kept.exchanges)
        self._seen = state

    def check_id(self, given: str) -> None:
        """Raises NotThere for another conversation than this one: a window that is still open shows its messages."""
        if given != self.id:
            raise NotThere("A new conversation was started in another window. Reload the page.")

    def exchange(self, number: int) -> Exchange:
        if not 0 <= number < len(self.exchanges):
            raise NotThere("This conversation has no such message.")
        return self.exchanges[number]

    def answer(self, number: int, place: int) -> GrowingAnswer:
        answers = self.exchange(number).answers
        if not 0 <= place < len(answers):
            raise NotThere("This message has no such answer.")
        return answers[place]

    def whole_answer(self, number: int, place: int) -> GrowingAnswer:
        """Raises InputError for an answer that is still coming or has failed: half an answer is no example."""
        found = self.answer(number, place)
        if found.finish in ("", "failed"):
            raise InputError("the answer is not complete", expected="a whole answer", remedy="Send the message again.")
        return found

    def turns_before(self, number: int, system: str) -> list[JsonObject]:
        """What this system has to answer: its own part of the conversation, up to the message of this number, without messages to
        which its answer failed or is empty.
        """
        turns: list[JsonObject] = []
        for exchange in self.exchanges[:number]:
            own = next((one for one in exchange.answers if one.system == system), None)
            if own is not None and own.text.strip() and own.finish != "failed":
                turns += [_turn("user", exchange.said), _turn("assistant", own.text)]
        return [*turns, _turn("user", self.exchanges[number].said)]

    def messages_before(self, number: int, system: str) -> int:
        """How many earlier messages this system's prompt held when it answered the message of this number."""
        return len(self.turns_before(number, system)) // 2

    def say(
        self,
        text: str,
        systems: Sequence[str],
        ask: Ask,
        longest_tokens: int | None = None,
        *,
        alone: bool = False,
    ) -> int:
        """Ask these systems, with answers of so many tokens; returns the number of the message. Their answers grow in threads of
        their own. alone: as the first message of a new conversation.

        Raises InputError for no or a too long text, and where an answer still grows.
        """
        said = text.strip()
        if not said:
            raise InputError("the message is empty", remedy="Write one.")
        if len(text) > LONGEST:
            raise InputError(
                f"found {len(text):,} characters",
                where="message",
                expected=f"at most {LONGEST:,}",
                remedy="Write less.",
            )
        talk = self.id
        with self._lock, writing(self.path):
            self._read_again()
            self.check_id(talk)
            if any(not one.finish for exchange in self.exchanges for one in exchange.answers):
                raise InputError(
                    "An answer is still coming", remedy="Wait for it, or stop it. The message was not sent."
                )
            if alone:
                self._begin_again()
                talk = self.id
            if len(self.exchanges) >= MOST_EXCHANGES:
                raise InputError(f"found {MOST_EXCHANGES} messages", remedy="Start a new conversation.")
            new = Exchange(
                said, [GrowingAnswer(name, longest_tokens=longest_tokens) for name in dict.fromkeys(systems)]
            )
            self._write(self.path, [*self.exchanges, new])
            self.exchanges.append(new)
            number = len(self.exchanges) - 1
            asked = [(one, self.turns_before(number, one.system)) for one in new.answers]
        for place, (one, turns) in enumerate(asked):
            threading.Thread(
                target=self._grow, args=(one, turns, ask, talk, number, place), name="talk", daemon=True
            ).start()
        return number

    @property
    def earlier_path(self) -> Path:
        """Where this conversation is kept once another has begun."""
        return self._earlier(self.id)

    def _earlier(self, talk: str) -> Path:
        return self.path.with_name(f"{self.path.stem}.{talk}.json")

    def clear(self) -> None:
        """Begin a new conversation; this one, if anything was said, stays in a file of its own."""
        with self._lock, writing(self.path):
            self._read_again()
            for exchange in self.exchanges:
                for one in exchange.answers:
                    one.leaves = True
                    one.finish = one.finish or "stopped"
            self._begin_again()
            self._write(self.path, [])

    def _begin_again(self) -> None:
        if self.exchanges:
            self._write(self.earlier_path, self.exchanges)
        self.exchanges, self.id = [], _new_id()

    def _grow(
        self, answer: GrowingAnswer, turns: Sequence[JsonObject], ask: Ask, talk: str, number: int, place: int
    ) -> None:
        """talk, number, place: where the answer belongs, though a new conversation may begin meanwhile."""
        began = time.monotonic()
        try:
            for chunk in ask(answer.system, turns, lambda: answer.leaves):
                answer.take(chunk)
        except LastresortError as error:
            answer.ending, answer.fault = "failed", str(error)
        except Exception as error:  # noqa: BLE001 - of a thread nobody sees the end: its reader would wait for ever
            print_note("".join(traceback.format_exception(error)))
            answer.ending, answer.fault = "failed", _FAULT
        finally:
            answer.seconds = time.monotonic() - began
            answer.finish = answer.ending or "stopped"
        try:
            with self._lock, writing(self.path):
                self._read_again()
                if self.id == talk:
                    self._write(self.path, self.exchanges)
                else:
                    self._complete(talk, number, place, answer)
        except LastresortError as error:
            print_note(str(error))

    def _complete(self, talk: str, number: int, place: int, answer: GrowingAnswer) -> None:
        """Put an answer into the file of an earlier conversation. Raises InputError where that has no place for it."""
        kept = _kept_in(self._earlier(talk))
        exchanges = _merged([], kept.exchanges if kept is not None else ())
        if number >= len(exchanges) or place >= len(exchanges[number].answers):
            raise InputError(
                f"an answer of {answer.system} could not be kept, as its message is not in this file",
                where=str(self._earlier(talk)),
                expected="the conversation as it was said",
            )
        exchanges[number].answers[place] = answer
        self._write(self._earlier(talk), exchanges, talk)

    def _write(self, path: Path, exchanges: Sequence[Exchange], talk: str = "") -> None:
        kept = (
            TalkExchange(said=one.said, answers=tuple(answer.kept() for answer in one.answers)) for one in exchanges
        )
        write_atomically(path, KeptTalk(id=talk or self.id, exchanges=tuple(kept)).model_dump_json())
        if path == self.path:
            self._seen = _state_of(path)


def _state_of(path: Path) -> object:
    """Changes with each write: a file is replaced."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_mtime_ns, stat.st_size


def _kept_in(path: Path) -> KeptTalk | None:
    """None for a file that is missing or cannot be read."""
    try:
        return KeptTalk.model_validate_json(read_text(path, DOCUMENT))
    except (OSError, InputError, ValidationError):
        return None


def _merged(here: Sequence[Exchange], kept: Sequence[TalkExchange]) -> list[Exchange]:
    """What the file holds, with what is still coming here: of that the file has only the beginning."""
    found = []
    for one, own in zip_longest(kept, here[: len(kept)]):
        coming = own.answers if own is not None and own.said == one.said else []
        answers = [
            mine if mine is not None and not answer.finish else _restored(answer)
            for answer, mine in zip_longest(one.answers, coming[: len(one.answers)])
        ]
        found.append(Exchange(one.said, answers))
    return [*found, *here[len(kept) :]]


def _restored(answer: TalkAnswer) -> GrowingAnswer:
    found = GrowingAnswer(**answer.model_dump())
    if not found.finish:
        found.finish, found.fault, found.elsewhere = "failed", _CUT, True
    return found


def _turn(role: str, content: str) -> JsonObject:
    return {"role": role, "content": content}
