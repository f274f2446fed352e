"""The process of a scorer: what does no harm scores as it should, nothing of it stays, and a dry run starts none."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from climb_support import scripted_task
from lastresort.app.data_check import check_task
from lastresort.app.dry_run import dry_run
from lastresort.climb.identity import changed_keys
from lastresort.climb.prepare import prepare
from lastresort.errors import DataError
from lastresort.evals.scorers.python_file import LIMITS, PythonFunction
from lastresort.evals.user_code.process import CodeLimits, limits_in
from lastresort.spec.task import load_task
from lastresort.types import Example, Message

HEAD = "import atexit, os, subprocess, sys, threading, time\n"
TURNS = (Message("system", "s"), Message("user", "q\u2028\udcff", {"name": "n", "tool_calls": [{"id": 1.5}]}))
EXAMPLE = Example("e1", TURNS, "right", group="g", passages=("p1",), row=7, source="rows.jsonl")
HARMLESS = {
    "another folder": "os.chdir('/')",
    "a print": "print('{\"values\": [0.0]}')",
    "bytes on stdout": "os.write(1, b'\\xff\\n')",
    "a closed stdout": "sys.stdout.close()",
    "no stdout at all": "sys.stdout = None",
    "a thread that does not end": "threading.Thread(target=time.sleep, args=(1e6,)).start()",
    "a daemon that is left behind": "if os.fork() == 0:\n    os.setsid()\n    time.sleep(1e6)",
    "a copy that comes back": "os.fork()",
    "a copy that raises": "if os.fork() == 0: raise SystemExit",
    "a child that ends": "subprocess.run(['true'])",
    "an end that hangs": "atexit.register(time.sleep, 1e6)",
    "a random state": "import random; random.seed()",
    "an environment that is emptied": "os.environ.clear()",
    "deleted modules": "sys.modules.pop('json', None)",
    "no recursion": "sys.setrecursionlimit(60)",
    "a group of its own": "os.setpgid(0, 0)",
    "an import of itself": "import metrics",
}


def file_of(folder: Path, source: str) -> Path:
    path = folder / "metrics.py"
    path.write_text(HEAD + source, encoding="utf-8")
    return path


@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", HARMLESS)
def test_what_does_no_harm_scores_as_it_should(name: str, tmp_path: Path) -> None:
    body = "".join(f"    {line}\n" for line in HARMLESS[name].splitlines())
    path = file_of(tmp_path, f"def score(answer, expected):\n{body}    return answer == expected\n")
    scorer, before = PythonFunction(path, "score"), Path.cwd()
    assert [scorer(answer, EXAMPLE) for answer in ("right", "wrong", "right")] == [1.0, 0.0, 1.0]
    assert Path.cwd() == before


def test_what_it_prints_of_an_answer_moves_no_cursor_and_shows_no_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LASTRESORT_API_KEY", "sk-a-key-of-24-characters")
    body = "    print(answer, flush=True)\n    os.write(2, b'\\xff' + answer.encode())\n"
    path = file_of(tmp_path, f"def score(answer, expected):\n{body}    return answer == expected\n")
    scorer = PythonFunction(path, "score")
    assert scorer("\x1b[2Jé sk-a-key-of-24-characters", EXAMPLE) == 0.0
    del scorer  # which ends its process
    out, error = capfd.readouterr()
    assert out == ""
    assert error == "\\x1b[2Jé ***\n\\xff\\x1b[2Jé ***"


SEES = r"""
def score(answer, expected):
    return 1.0 if answer in os.environ else 0.0
"""


def test_it_sees_what_it_needs_of_the_environment_and_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = ("OPENAI_API_KEY", "HF_TOKEN", "AWS_PROFILE", "MYSQL_PWD", "DATABASE_URL", "SSH_AUTH_SOCK", "MY_URL")
    needed = ("PATH", "LC_ALL", "OMP_NUM_THREADS", "PYTHONPATH")
    for name in (*keys, *needed[1:3]):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("PYTHONPATH", "")
    scorer = PythonFunction(file_of(tmp_path, SEES), "score")
    assert {name: scorer(name, EXAMPLE) for name in (*keys, *needed)} == dict.fromkeys(keys, 0.0) | dict.fromkeys(
        needed, 1.0
    )
    monkeypatch.setenv("LASTRESORT_PASS_ENV", " MY_URL,OTHER")
    scorer = PythonFunction(file_of(tmp_path, SEES), "score")
    assert [scorer(name, EXAMPLE) for name in ("MY_URL", "DATABASE_URL")] == [1.0, 0.0]


WHOLE = r"""
from pathlib import Path
from lastresort.types import Example, Message
count = 0
def score(answer, expected, example):
    global count
    count += 1
    import neighbour
    turns = Message("system", "s"), Message("user", "q\u2028\udcff", {"name": "n", "tool_calls": [{"id": 1.5}]})
    assert example == Example("e1", turns, "right", "g", ("p1",), 7, "rows.jsonl"), example
    return float(Path(__file__).with_name("share.txt").read_text()) + neighbour.x * count
"""


def test_it_keeps_its_state_reads_files_beside_it_and_gets_the_example_whole(tmp_path: Path) -> None:
    (tmp_path / "share.txt").write_text("0.1")
    (tmp_path / "neighbour.py").write_text("x = 0.2\n")
    scorer = PythonFunction(file_of(tmp_path, WHOLE), "score")
    assert [scorer("a", EXAMPLE) for _ in range(3)] == [0.1 + 0.2, 0.1 + 0.2 * 2, 0.1 + 0.2 * 3]


FAMILY = r"""
def note(kind):
    with open(__file__ + ".pids", "a") as file:
        file.write(f"{kind} {os.getpid()}\n")
def score(answer, expected):
    note("worker")
    if os.fork() == 0:
        note("copy")
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                note("daemon")
                time.sleep(1e6)
            os._exit(0)
        time.sleep(1e6)
    while not all(kind in open(__file__ + ".pids").read() for kind in ("worker", "copy", "daemon")):
        time.sleep(0.01)
    while answer == "hang":
        pass
    return 1
"""
KILLED = """
import os, signal, sys
from pathlib import Path
from lastresort.evals.scorers.python_file import PythonFunction
from lastresort.types import Example
scorer = PythonFunction(Path(sys.argv[1]), "score")
scorer("a", Example("e", (), "x"))
os.kill(os.getpid(), signal.SIGKILL)
"""


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z"


def until(condition: Callable[[], bool]) -> bool:
    """Whether it comes true; a bound on waiting, not a claim about speed."""
    for _ in range(1200):
        if condition():
            return True
        time.sleep(0.05)
    return False


def family(path: Path) -> dict[str, int]:
    words = path.with_name("metrics.py.pids").read_text().split()
    return {kind: int(pid) for kind, pid in zip(words[::2], words[1::2], strict=True)}


@pytest.mark.sampled(3)
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux hands over what a process left behind")
@pytest.mark.parametrize("how", ["it is late", "it is dropped", "the program is killed"])
def test_all_that_it_started_ends_with_it(how: str, tmp_path: Path) -> None:
    path = file_of(tmp_path, FAMILY)
    if how == "the program is killed":
        killed = subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
        assert killed.returncode == -signal.SIGKILL
    elif how == "it is late":
        with pytest.raises(DataError, match="took longer than 3 seconds"):
            PythonFunction(path, "score", limits_in({"time_s": 3}, LIMITS))("hang", EXAMPLE)
    else:
        scorer = PythonFunction(path, "score")
        assert scorer("a", EXAMPLE) == 1.0
        del scorer
    assert set(found := family(path)) == {"worker", "copy", "daemon"}
    assert until(lambda: all(gone(pid) for pid in found.values())), found


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
def test_the_code_ends_where_its_watcher_is_killed(tmp_path: Path) -> None:
    path = file_of(tmp_path, FAMILY)
    scorer = PythonFunction(path, "score")
    scorer("a", EXAMPLE)
    worker, *rest = family(path).values()
    watcher = int(Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(watcher, signal.SIGKILL)
    try:
        assert until(lambda: gone(worker))
    finally:
        for pid in rest:
            os.kill(pid, signal.SIGKILL)


def test_a_dry_run_and_a_look_at_the_data_run_none_of_it(tmp_path: Path) -> None:
    source = "open(__file__ + '.ran', 'w')\nwhile True: pass\ndef score(answer, expected) -> bool: return True\n"
    path = scripted_task(tmp_path, quality=[{"right": 0.97}], task={"score": {"python": "metrics.py:score"}})
    file_of(tmp_path, source)
    task = load_task(path)
    assert dry_run(task).test is not None, "scores of 0 and 1, as the annotation says"
    assert check_task(task).ok
    assert not (tmp_path / "metrics.py.ran").exists()


@pytest.mark.parametrize(
    ("source", "binary"),
    [
        ("def score(a, b): return 1", False),
        ("def score(a, b) -> bool: return True", True),
        ("def score(a, b) -> 'bool': return True", True),
        ("def score(a, b) -> float: return 1.0", False),
        ("def score(a, b): return 1\nscore.binary = True", True),
        ("def score(a, b) -> bool: return True\nscore.binary = False", False),
        ("def other(a, b) -> bool: return True\ndef score(a, b): return 1\nother.binary = True", False),
        ("def score(a, b) -> bool: return 1\ndef score(a, b): return 1", False),
    ],
)
def test_the_text_of_a_file_says_what_running_it_would(source: str, binary: bool, tmp_path: Path) -> None:
    scorer = PythonFunction(file_of(tmp_path, source), "score")
    assert (scorer.binary_as_written, scorer.without_running().binary, scorer.binary) == (binary,) * 3


def test_limits_of_a_scorer_are_its_own_and_may_be_raised_while_a_run_waits(tmp_path: Path) -> None:
    file_of(tmp_path, "def score(answer, expected): return 1\n")
    keys = {"function": "metrics.py:score", "time_s": 3, "memory_gib": "none", "load_s": 7.5}
    path = scripted_task(tmp_path, quality=[{"right": 0.97}], task={"score": {"python": keys}})
    task = load_task(path)
    assert task.resolved()["score"] == {"python": keys}
    assert limits_in(task.score.parameters, LIMITS) == CodeLimits(3.0, None, 7.5)
    bare = load_task(path, overrides={"score": {"python": "metrics.py:score"}})
    assert limits_in(bare.score.parameters, LIMITS) == LIMITS
    assert changed_keys(task.resolved(), bare.resolved()) == []
    other = load_task(path, overrides={"score": {"python": {"function": "metrics.py:score", "binary": True}}})
    assert changed_keys(task.resolved(), other.resolved()) == ["score"]
    assert prepare(bare).files == prepare(task).files
