"""A corpus of hostile inputs: each is a command on files of a case's own, and ends well or with one clear sentence."""

from __future__ import annotations

import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Literal

import pytest

from lastresort.cli.border import guarded
from lastresort.cli.main import app

COMPUTING_S, WAITING_S = 10, 60
TOLD = {2: "the input", 3: "something missing", 4: "a stop that can be resumed"}


@dataclass(frozen=True, slots=True)
class Case:
    """make: writes the files into an empty folder, which is the working folder, and returns the command's arguments, or what is
    called instead, where no quick command comes so far.

    ends: "either" where both are right. named: words that the sentence must hold.
    """

    make: Callable[[Path], list[str] | Callable[[], object]]
    ends: Literal["refused", "accepted", "either"] = "refused"
    named: str = ""


class Hanging(BaseException):
    """Nothing of the program may catch it."""


def check(case: Case, folder: Path, patch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    patch.chdir(folder)
    made = case.make(folder)
    patch.setattr(sys, "argv", ["lastresort", *(made if isinstance(made, list) else ())])
    capsys.readouterr()
    with limited():
        code = guarded(app if isinstance(made, list) else lambda standalone_mode: (made(), 0)[1])
    out, error = capsys.readouterr()
    assert "Traceback" not in out + error, error[-2000:]
    told = [line for line in error.splitlines() if line.startswith("Error: ")]
    if code in (0, 1):  # 1: a command that judges says no
        assert case.ends != "refused", f"accepted: {out[-500:]}{error[-500:]}"
        return
    assert code in TOLD, f"exit code {code}: {error[-2000:]}"
    assert case.ends != "accepted", error
    assert len(told) == 1, f"no single sentence: {error[-2000:]}"
    assert len(told[0]) < 1000, told[0]
    assert case.named in told[0], told[0]


@contextmanager
def limited(computing_s: float = COMPUTING_S) -> Iterator[None]:
    """Raises Hanging after so many seconds of the processor, or so many more of waiting."""

    def ring(number: int, frame: FrameType | None) -> None:
        raise Hanging

    before = signal.signal(signal.SIGPROF, ring), signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_PROF, computing_s)
    signal.setitimer(signal.ITIMER_REAL, WAITING_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGPROF, before[0])
        signal.signal(signal.SIGALRM, before[1])


@contextmanager
def own_folder() -> Iterator[Path]:
    before = sys.getrecursionlimit()
    try:
        with tempfile.TemporaryDirectory() as name:
            yield Path(name)
            sys.setrecursionlimit(20_000)  # some cases make folders deeper than rmtree goes
    finally:
        sys.setrecursionlimit(before)
