"""What the scripts beside this one share: the command and the request in a folder that was handed over."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def command() -> list[str]:
    """The words that start.sh ends with, in the present folder."""
    script = Path("start.sh").read_text(encoding="utf-8").replace("\\\n", "")
    return shlex.split(script[script.index("\nexec ") + 6 :])


def request() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path("request.json").read_text(encoding="utf-8"))
    return found


def answer_for_each(accepts: Callable[[], str]) -> None:
    """One line of JSON a folder: what was seen, or what was raised. accepts: called in the folder."""
    for name in sys.argv[1:]:
        os.chdir(name)
        try:
            found = {"file": name, "ok": True, "seen": accepts()}
        except (Exception, SystemExit) as error:  # noqa: BLE001  whatever it says is the answer
            found = {"file": name, "ok": False, "seen": f"{type(error).__name__}: {error}"[:1500]}
        print("ANSWER " + json.dumps(found), flush=True)
