"""A signal ends a command whatever it is doing, with its sentence where it can, and leaves no process and nothing half-written.

How soon is measured by hand; here it only has to happen.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from climb_support import calls, scripted_task
from gate_support import gated_task
from lastresort.app.runtime import INTERRUPTED_S, JOB_FOLDER, JOB_PID, _say
from lastresort.cli.border import stopping
from processes_support import Program

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
LONGEST_S = 120
TOO_LONG_S = INTERRUPTED_S + 0.5  # for what is interrupted
SOON_S = 2  # for what is asked to stop, where a test waits for the end of it
ENDED = (130, -signal.SIGKILL)  # by itself, and by the process that watches it
LAST_WORDS = "Interrupted. Finished work is kept; resume with --resume."
PROGRAM = """
import ctypes, os, re, signal, sys, threading, time
from lastresort.app.runtime import stop_on_sigterm
from lastresort.cli import main
sys.argv = ["lastresort", "climb"]
signal.signal(signal.SIGINT, signal.default_int_handler)  # tests that run in the background inherit one that is ignored

def app(**options):
    with stop_on_sigterm({within_s}):
        open("on", "w").close()
{body}

main.app = app
main.run()
"""
STUCK = {
    "a loop": "while True: pass",
    "a loop that catches what it can": "while True:\n    try: time.sleep(1)\n    except BaseException: pass",
    "a wait": "threading.Event().wait()",
    "C code that is called again and again": "[ctypes.CDLL(None).sleep(1) for _ in iter(int, 1)]",
    "C code that does not return": "ctypes.CDLL(None).sem_wait(ctypes.create_string_buffer(64)); time.sleep(1e6)",
    "C code that holds the interpreter": "while True: ctypes.PyDLL(None).sleep(1000)",
    "a lock": "lock = threading.Lock(); lock.acquire(); lock.acquire()",
    "a regular expression": "re.match('(a+)+$', 'a' * 60 + 'b')",
    "an end that hangs": "try: time.sleep(1e6)\nfinally: time.sleep(1e6)",
    "a child": "import subprocess; subprocess.run(['sleep', '300'])",
}


def started(
    folder: Path, arguments: list[str], stderr: int | None = None, env: dict[str, str] | None = None
) -> subprocess.Popen[bytes]:
    with (folder / "told").open("wb") as told:
        words = [sys.executable, *arguments]
        return subprocess.Popen(words, cwd=folder, stderr=told if stderr is None else stderr, env=env)


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + LONGEST_S
    while not condition():
        assert time.monotonic() < end, "it never began"
        time.sleep(0.02)


def program(folder: Path, body: str, within_s: int | None = SOON_S) -> list[str]:
    lines = "".join(f"        {line}\n" for line in body.splitlines())
    (folder / "program.py").write_text(
        PROGRAM.format(body=lines, within_s="" if within_s is None else f"within_s={within_s}")
    )
    return ["program.py"]


@pytest.mark.slow
def test_sigterm_ends_what_does_not_stop(tmp_path: Path) -> None:
    """All at once, since each has seconds to stop by itself."""
    folders = {name: tmp_path / str(number) for number, name in enumerate(STUCK)}
    processes = {}
    for name, folder in folders.items():
        folder.mkdir()
        processes[name] = started(folder, program(folder, STUCK[name]))
    for name, process in processes.items():
        until((folders[name] / "on").exists)
        process.terminate()
    for name, process in processes.items():
        assert process.wait(LONGEST_S) in ENDED, name
        told = (folders[name] / "told").read_text()
        assert "Traceback" not in told, name
        assert told.strip().splitlines()[-1:] == [LAST_WORDS], name


def test_a_thread_that_outlives_the_command_does_not_keep_it(tmp_path: Path) -> None:
    process = started(tmp_path, program(tmp_path, "threading.Thread(target=time.sleep, args=(1e6,)).start()"))
    until((tmp_path / "on").exists)
    process.terminate()
    assert process.wait(LONGEST_S) in (0, *ENDED)  # 0 where the command had ended before the signal came


@pytest.mark.sampled_slow(2)
@pytest.mark.slow
@pytest.mark.parametrize(
    "signals", [(signal.SIGINT,), (signal.SIGTERM, signal.SIGTERM), (signal.SIGTERM, signal.SIGINT)]
)
def test_sigint_and_a_second_signal_end_it_too(signals: tuple[signal.Signals, ...], tmp_path: Path) -> None:
    process = started(tmp_path, program(tmp_path, STUCK["C code that does not return"]))
    until((tmp_path / "on").exists)
    for number in signals:
        process.send_signal(number)
    assert process.wait(LONGEST_S) in ENDED
    assert (tmp_path / "told").read_text().strip().splitlines()[-1] == LAST_WORDS


@pytest.mark.slow
def test_last_words_are_said_once_where_the_end_takes_long(tmp_path: Path) -> None:
    """A system that takes seconds to give back what the process held."""
    slow_end = f"os._exit = lambda code, end=os._exit: (time.sleep({TOO_LONG_S}), end(code))"
    process = started(tmp_path, program(tmp_path, f"{slow_end}\nopen('calm', 'w').close()\ntime.sleep(1e6)"))
    until((tmp_path / "calm").exists)
    process.send_signal(signal.SIGINT)
    assert process.wait(LONGEST_S) == 130
    assert (tmp_path / "told").read_text().strip().splitlines() == [LAST_WORDS]


@pytest.mark.slow
def test_nobody_who_reads_stderr_keeps_nobody(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.set_blocking(write, False)
    with suppress(BlockingIOError):
        while os.write(write, bytes(1 << 12)):
            pass
    os.set_blocking(write, True)
    try:
        process = started(tmp_path, program(tmp_path, STUCK["a lock"]), stderr=write)
        until((tmp_path / "on").exists)
        process.terminate()
        assert process.wait(LONGEST_S) in ENDED
    finally:
        os.close(read)
        os.close(write)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk that is always full")
def test_a_full_disk_below_its_log_does_not_keep_a_job(tmp_path: Path) -> None:
    own = tmp_path / f"{JOB_FOLDER}full"
    own.mkdir()
    with Path("/dev/full").open("wb") as full:
        words = program(tmp_path, STUCK["a loop that catches what it can"])
        process = started(tmp_path, words, stderr=full.fileno(), env={**os.environ, "TMPDIR": str(own)})
    try:
        (own / JOB_PID).write_text(str(process.pid))
        until((tmp_path / "on").exists)
        process.terminate()
        until(lambda: process.poll() is not None or not own.exists())
        assert process.wait(INTERRUPTED_S) in ENDED  # and only then its folder goes
        until(lambda: not own.exists())
    finally:
        process.kill()


@pytest.mark.slow
def test_the_end_of_a_copy_of_the_process_is_not_its_own(tmp_path: Path) -> None:
    """A library that forks and ends its copies with SIGTERM."""
    body = (
        "pid = os.fork()\nwhile pid == 0: time.sleep(1)\ntime.sleep(0.5)\nos.kill(pid, signal.SIGTERM)\n"
        f"time.sleep(0.5)\nos.kill(pid, signal.SIGKILL)\nos.waitpid(pid, 0)\ntime.sleep({TOO_LONG_S})\nopen('whole', 'w').close()"
    )
    process = started(tmp_path, program(tmp_path, body))
    assert process.wait(LONGEST_S) == 0
    assert (tmp_path / "whole").exists()


def processes_of(folder: Path) -> list[str]:
    told = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True).stdout
    return [line for line in told.splitlines() if str(folder) in line]


FOREIGN = {
    "a loop": "while True: pass",
    "C code that holds the interpreter": "ctypes.PyDLL(None).sleep(1000)",
    "a child in a session of its own": "child = [sys.executable, '-c', 'import time; time.sleep(1000)', {marker!r}]\n"
    "        subprocess.run(child, start_new_session=True)",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FOREIGN)
def test_two_signals_end_a_climb_in_the_midst_of_a_scorer(name: str, tmp_path: Path) -> None:
    python = {"function": "metrics.py:score", "time_s": 10_000}
    scripted_task(tmp_path, quality=[{"right": 1.0}], task={"score": {"python": python}, "ladder": ["prompting"]})
    body = FOREIGN[name].format(marker=str(tmp_path))
    (tmp_path / "metrics.py").write_text(
        "import ctypes, os, subprocess, sys\n"
        "def score(answer, expected):\n"
        "    if os.path.exists('runs/routing-1/record.sqlite') and not os.path.exists('calm'):\n"
        f"        open('on', 'w').close()\n        {body}\n"
        "    return answer == expected\n"
    )
    words = ["climb", "task.yaml", "--gate", "none"]
    process = Program(*words, cwd=tmp_path)
    until(lambda: (tmp_path / "on").exists() or process.poll() is not None)
    for number in (signal.SIGTERM, signal.SIGINT):
        process.send_signal(number)
    assert process.wait(LONGEST_S) in ENDED
    until(lambda: processes_of(tmp_path) == [])
    (tmp_path / "calm").touch()
    assert Program(*words, "--resume", cwd=tmp_path).wait(LONGEST_S) == 0


def test_an_interruption_leaves_a_command_less_than_the_5_seconds_that_are_promised() -> None:
    """The time that it takes is measured by hand."""
    assert INTERRUPTED_S < 5


@pytest.mark.slow
def test_what_is_under_way_when_a_signal_asks_to_stop_ends_first(tmp_path: Path) -> None:
    body = f"open('batch', 'w').close()\ntime.sleep({TOO_LONG_S})\nopen('whole', 'w').close()"
    process = started(tmp_path, program(tmp_path, body, within_s=None))
    until((tmp_path / "batch").exists)
    process.terminate()
    assert process.wait(LONGEST_S) == 0
    assert (tmp_path / "whole").exists()
    [told] = (tmp_path / "told").read_text().splitlines()
    assert told == "Stopping: finishing what is under way, for at most 118 s. A second signal interrupts it."


@pytest.mark.parametrize(("words", "place"), [(["serve", "RUN"], None), (["train", "sft.yaml"], "1")])
def test_what_others_say_of_a_stop_is_not_said_again(
    words: list[str], place: str | None, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["lastresort", "train"])
    monkeypatch.setenv("RANK", "0")
    _say(stopping(118))
    assert capfd.readouterr().err.startswith("Stopping: ")
    monkeypatch.setattr("sys.argv", ["lastresort", *words])
    monkeypatch.setenv("RANK", place or "0")
    _say(stopping(118))
    assert capfd.readouterr().err == ""


SLOW_GATE = f"""
import time
from pathlib import Path
from gate_support import SUITES
from lastresort.cli.main import run
from lastresort.gate import built_in
from lastresort.models.scripted import ScriptedModel

def generate(self, *arguments, answered=ScriptedModel.generate, **options):
    if Path("calls.jsonl").exists() and not Path("calm").exists():
        Path("on").touch()
        time.sleep({TOO_LONG_S})
    return answered(self, *arguments, **options)

built_in.SUITES, ScriptedModel.generate = SUITES, generate
run()
"""


@pytest.mark.slow
def test_a_gate_whose_batch_takes_long_stops_after_it_and_asks_nothing_twice(tmp_path: Path) -> None:
    gated_task(tmp_path)
    words = ["gate", "task.yaml", "--tuned", "scripted:tuned.json", "--base", "scripted:script.json", "--quick"]
    process = Program(*words, cwd=tmp_path, code=SLOW_GATE)
    until(lambda: (tmp_path / "on").exists() or process.poll() is not None)
    process.send_signal(signal.SIGTERM)
    (tmp_path / "calm").touch()
    assert process.wait(LONGEST_S) == 4
    assert "Stopped: a signal asked to stop. Give the same command again" in process.communicate()[1]
    assert Program(*words, cwd=tmp_path, code=SLOW_GATE).wait(LONGEST_S) == 0
    for side in ("calls.jsonl", "calls of tuned.jsonl"):
        asked = [call["key"] for call in calls(tmp_path, side)]
        assert len(asked) == len(set(asked)), side
