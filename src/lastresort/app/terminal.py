"""All text on its way to the terminal: control characters of files, labels and models are escaped, and no key is shown.

A model's answer or a file's name could otherwise move the cursor, rename the window, or show one text and mean another.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any

from lastresort.foreign import UNSAFE, escaped
from lastresort.keys import known_keys, redacted_value, without_keys


def safe_text(text: str) -> str:
    """What a terminal may show of a text."""
    return escaped(without_keys(text))


def print_text(text: str = "", *, end: str = "\n", flush: bool = False) -> None:
    """The result of a command, on stdout."""
    print(safe_text(text), end=end, flush=flush)


def print_note(text: str = "", *, end: str = "\n") -> None:
    """Everything else, on stderr."""
    print(safe_text(text), end=end, file=sys.stderr, flush=True)


def consent(*, yes: bool) -> Callable[[str], bool] | None:
    """How to ask whether to go on: not at all where the user has said yes beforehand, None where no terminal is there."""
    if yes:
        return lambda question: True
    return confirmed if _is_there() else None


def _is_there() -> bool:
    return sys.stdin is not None and sys.stderr is not None and sys.stdin.isatty() and sys.stderr.isatty()


def confirmed(question: str) -> bool:
    """Whether the user answers yes. False where no terminal is there to ask."""
    if not _is_there():
        return False
    print_note(f"{question} [y/N]")  # with its line end, as a live display holds back the rest of a line
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def print_document(document: Any) -> None:
    """Print JSON on stdout. Letters are escaped where stdout cannot write all of them, control characters everywhere."""
    encoding = (getattr(sys.stdout, "encoding", None) or "").lower().replace("_", "-")
    document = redacted_value(document, known_keys(os.environ))
    text = json.dumps(document, ensure_ascii=encoding not in ("utf-8", "utf8"), indent=2)
    # They occur only inside strings, and whoever parses the document reads the same text.
    print(UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text))
