"""All text on its way to the terminal: control characters of files, labels and models are escaped, and no key is shown.

A model's answer or a file's name could otherwise move the cursor, rename the window, or show one text and mean another.
"""

from __future__ import annotations

import json
import logging
import math
import os
import select
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lastresort.app.runtime import ERROR_FILE, STAGES_AS_JSON
from lastresort.errors import LastresortError
from lastresort.foreign import UNSAFE, escaped
from lastresort.keys import known_keys, redacted_value, without_keys
from lastresort.records.atomic import write_atomically
from lastresort.stop import NEVER, GoOn, Stop, check
from lastresort.types import Answer, Message

if TYPE_CHECKING:
    from lastresort.evals.scorers.scorer import AnswerForm
    from lastresort.systems.running import Running

ANSWER_S = 600.0  # for an answer: a climb in a terminal that nobody looks at must not wait for ever
LOOK_S = 0.5


def safe_text(text: str) -> str:
    """What a terminal may show of a text."""
    return escaped(without_keys(text))


def print_text(text: str = "", *, end: str = "\n", flush: bool = False) -> None:
    """The result of a command, on stdout."""
    print(safe_text(text), end=end, flush=flush)


def print_note(text: str = "", *, end: str = "\n") -> None:
    """Everything else, on stderr."""
    print(safe_text(text), end=end, file=sys.stderr, flush=True)


def print_error(text: str, *, kind: str = "Error") -> None:
    """A sentence on stderr, after its kind; for a page JSON, `{"error": TEXT}`, there or in a file of its own, which the
    user alone may read, like the log of a job.
    """
    as_json = json.dumps({"error": without_keys(text)})
    if path := os.environ.get(ERROR_FILE):
        with suppress(LastresortError):  # what is printed says it, too
            write_atomically(Path(path), as_json, private=True)
    if os.environ.get(STAGES_AS_JSON):
        print_note(as_json)
    else:
        print_note(f"{kind}: {text}")


class _SafeText(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return safe_text(super().format(record))


@contextmanager
def warnings_on_stderr() -> Iterator[None]:
    """What is logged as a warning goes to stderr like all other notes, also what other libraries log. Some of them have handlers of
    their own, so that keys are taken out where a record is made.
    """
    log, handler, factory = logging.getLogger(), logging.StreamHandler(), logging.getLogRecordFactory()

    def record(*arguments: Any, **more: Any) -> logging.LogRecord:
        made = factory(*arguments, **more)
        with suppress(Exception):  # a wrong call of logging is reported by its handler
            said = made.getMessage()
            if (shown := without_keys(said)) != said:
                made.msg, made.args = shown, None
        return made

    handler.setLevel(logging.WARNING)
    handler.setFormatter(_SafeText())
    log.addHandler(handler)
    logging.setLogRecordFactory(record)
    try:
        yield
    finally:
        logging.setLogRecordFactory(factory)
        log.removeHandler(handler)


def consent(*, yes: bool) -> GoOn | None:
    """How to ask whether to go on: not at all where the user has said yes beforehand, None where no terminal is there."""
    if yes:
        return lambda question, stop: True
    return _answer if _is_there() else None


def confirmed(question: str, stop: Stop = NEVER) -> bool:
    """Whether the user answers yes. False where no terminal is there to ask. Raises the error of a request to stop."""
    if not _is_there():
        return False
    print_note(f"{question} [y/N]")  # with its line end, as a live display holds back the rest of a line
    return bool(_answered(stop))


def _answer(question: str, stop: Stop) -> bool | None:
    """The user's answer, None where none comes in time. Raises the error of a request to stop."""
    from lastresort.report.words.progress import asked_line, unanswered_line

    print_note(asked_line(question, ANSWER_S))
    answer = _answered(stop, ANSWER_S)
    if answer is None:
        print_note(unanswered_line())
    return answer


def _answered(stop: Stop, within_s: float = math.inf) -> bool | None:
    end = time.monotonic() + within_s
    while _is_there() and time.monotonic() < end:
        check(stop)
        if _has_line():
            return _is_yes(sys.stdin.readline())
    return None


def _is_there() -> bool:
    """Whether a terminal is there to ask. A process in its background may not read from it, and would be stopped."""
    if sys.stdin is None or sys.stderr is None or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    try:
        return os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    except (AttributeError, OSError):  # no process groups here, or another session's terminal, which stops nobody
        return True


def _has_line() -> bool:
    """Whether a line is there within `LOOK_S`. Where stdin cannot be waited for, as elsewhere than on POSIX, reading waits."""
    try:
        return bool(select.select([sys.stdin], [], [], LOOK_S)[0])
    except (OSError, ValueError):
        return True


def _is_yes(line: str) -> bool:
    return line.strip().lower() in ("y", "yes")


def lines_typed(*, interactive: bool) -> Iterator[str]:
    """The lines of stdin that hold something; at a terminal an empty one ends them."""
    while True:
        if interactive:
            print_note("> ", end="")
        line = sys.stdin.readline()
        text = line.strip()
        if not line or (interactive and not text):
            return
        if text:
            yield text


def print_answer(running: Running, text: str, form: AnswerForm) -> None:
    """The answer on stdout as it grows, and on stderr where it is not of the task's form, and what passages were read for it."""
    from lastresort.evals.scorers import format_ok
    from lastresort.report.words.data import of_wrong_form

    answers: list[Answer] = []
    pieces = running.stream((Message("user", text),), on_answer=lambda _, answer: answers.append(answer))
    for words in _in_words(pieces):
        print_text(words, end="", flush=True)
    print_text(flush=True)
    if format_ok(answers[0].text, json_schema=form.json_schema, choices=form.choices) is False:
        print_note(of_wrong_form(labels=form.choices is not None))
    for number, passage in enumerate(answers[0].passages, 1):
        print_note(f"[{number}] {passage}")


def _in_words(pieces: Iterator[str]) -> Iterator[str]:
    """The same text cut after white space: a key or a control sequence is recognised only as a whole."""
    held = ""
    for piece in pieces:
        held += piece
        whole = max(held.rfind(space) for space in " \n\t") + 1
        if whole:
            yield held[:whole]
            held = held[whole:]
    if held:
        yield held


def print_document(document: Any) -> None:
    """Print JSON on stdout. Letters are escaped where stdout cannot write all of them, control characters everywhere."""
    encoding = (getattr(sys.stdout, "encoding", None) or "").lower().replace("_", "-")
    document = redacted_value(document, known_keys(os.environ))
    text = json.dumps(document, ensure_ascii=encoding not in ("utf-8", "utf8"), indent=2)
    # They occur only inside strings, and whoever parses the document reads the same text.
    print(UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text))
