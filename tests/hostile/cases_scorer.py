"""Python that the user wrote: what it does in its own process never ends the command, keeps it waiting, or speaks for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from corpus import Case

from climb_support import scripted_task

LIMITS = {"time_s": 20, "memory_gib": 0.5}
SOON = {"time_s": 0.2}
HEAD = "import ctypes, gc, os, signal, subprocess, sys, threading, time\n"
RIGHT = "def score(answer, expected): return 1\n"


def climb(source: str, *further: str, **limits: Any) -> Callable[[Path], list[str]]:
    """A climb that scores with this file's function `score`. further: words of the command."""

    def make(folder: Path) -> list[str]:
        python = {"function": "metrics.py:score", **LIMITS, **limits}
        scripted_task(folder, quality=[{"right": 0.97}], task={"score": {"python": python}})
        (folder / "metrics.py").write_text(HEAD + source, encoding="utf-8")
        return ["climb", "task.yaml", *further]

    return make


def called(body: str, named: str, **limits: Any) -> Case:
    """A function with this body, which need not return."""
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    return Case(climb(f"def score(answer, expected):\n{lines}    return answer == expected\n", **limits), named=named)


def loaded(source: str, named: str, **limits: Any) -> Case:
    """A file that does this when it is imported, and then has a function that is right."""
    return Case(climb(f"{source}\n{RIGHT}", **limits), named=named)


LATE, ENDED = "took longer than 0.2 seconds", "ended its process"
FOREVER = {
    "a loop": "while True: pass",
    "a sleep": "time.sleep(1e6)",
    "a sleep that catches everything": "while True:\n    try: time.sleep(1e6)\n    except BaseException: pass",
    "C code that holds the interpreter": "ctypes.PyDLL(None).sleep(1000)",
    "C code that does not": "ctypes.CDLL(None).sleep(1000)",
    "a stop of itself": "os.kill(os.getpid(), signal.SIGSTOP)",
    "a lock that nobody frees": "lock = threading.Lock(); lock.acquire(); lock.acquire()",
    "a read of a pipe that nobody writes": "os.read(os.pipe()[0], 1)",
    "a child that is waited for": "subprocess.run(['sleep', '1000'])",
    "a child in a session of its own": "subprocess.run(['sleep', '1000'], start_new_session=True)",
    "a copy in a session of its own": "if os.fork() == 0: os.setsid()\nwhile True: pass",
    "signals that are ignored": "[signal.signal(n, signal.SIG_IGN) for n in (1, 2, 3, 15)]\nwhile True: pass",
    "a regular expression": "import re; re.match('(a+)+$', 'a' * 60 + 'b')",
    "a huge power": "str(len(str(7 ** (10 ** 9))))",
    "a thread that holds the interpreter": "threading.Thread(target=ctypes.PyDLL(None).sleep, args=(1000,)).start()\n"
    "time.sleep(1)",
    "all of the garbage": "while True: gc.collect()",
    "a deadlock of forks": "pid = os.fork()\nwhile pid == 0: time.sleep(1)\nos.waitpid(pid, 0)",
}
GONE = {
    "os._exit(0)": ("os._exit(0)", "exit code 0"),
    "os._exit(3)": ("os._exit(3)", "exit code 3"),
    "an abort": ("os.abort()", "SIGABRT"),
    "a segmentation fault": ("ctypes.string_at(0)", "SIGSEGV"),
    "SIGKILL to itself": ("os.kill(os.getpid(), signal.SIGKILL)", "SIGKILL"),
    "SIGTERM to itself": ("os.kill(os.getpid(), signal.SIGTERM)", "SIGTERM"),
    "SIGKILL to its group": ("os.killpg(0, signal.SIGKILL)", "SIGKILL"),
    "another program in its place": ("os.execvp('true', ['true'])", "exit code 0"),
    "a parent that leaves": ("if os.fork(): os._exit(0)", "exit code 0"),
    "closed files": ("os.closerange(3, 64)", "exit code 1"),
}
RAISED = {
    "an exception": ("raise ValueError('no unit')", "raised ValueError: no unit"),
    "GeneratorExit": ("raise GeneratorExit", "raised GeneratorExit"),
    "KeyboardInterrupt": ("raise KeyboardInterrupt", "raised KeyboardInterrupt"),
    "SystemExit": ("sys.exit('enough')", "raised SystemExit: enough"),
    "SIGINT to itself": ("signal.raise_signal(signal.SIGINT)", "raised KeyboardInterrupt"),
    "an exception of BaseException's": ("class X(BaseException): pass\nraise X('boo')", "raised X: boo"),
    "an exception without words": ("class X(Exception):\n    def __str__(self): raise self\nraise X", "raised X"),
    "a long exception": ("raise ValueError('x' * 10**6)", "raised ValueError: xxx"),
    "a surrogate": ("raise ValueError('\\udcff')", "raised ValueError"),
    "an escape sequence": ("raise ValueError('\\x1b]0;title\\x07')", "raised ValueError"),
    "endless recursion": ("def f(): return f()\nf()", "raised RecursionError"),
    "an exception group": ("raise ExceptionGroup('both', [ValueError(1), TypeError(2)])", "raised ExceptionGroup"),
    "reading input": ("input()", "raised EOFError"),
    "an import that fails": ("import no_such_module_at_all", "raised ModuleNotFoundError"),
}
RETURNED = {
    "nothing": "None",
    "text": "'1'",
    "two": "2",
    "less than nothing": "-0.1",
    "not a number": "float('nan')",
    "infinity": "float('inf')",
    "a number of 5,000 digits": "10 ** 5000",
    "a complex number": "1j",
    "a list": "[1.0]",
    "an object without text": "type('X', (), {'__repr__': lambda self: 1 / 0})()",
    "an object that is equal to all": "type('X', (), {'__eq__': lambda self, other: True})()",
    "a class": "int",
    "a coroutine": "(x for x in (1,))",
    "megabytes": "'x' * 10**7",
}
CASES: dict[str, Case] = {
    **{f"it never returns: {name}": called(body, LATE, **SOON) for name, body in FOREVER.items()},
    **{f"it is gone: {name}": called(body, f"{ENDED} ({how})") for name, (body, how) in GONE.items()},
    **{f"it raises: {name}": called(body, named) for name, (body, named) in RAISED.items()},
    **{f"it returns {name}": called(f"return {value}", "returned ") for name, value in RETURNED.items()},
    "memory": called("bytearray(4 << 30)", "ran out of memory (limit 0.5 GiB)"),
    "memory in small pieces": called(
        "kept = []\nwhile True: kept.append(bytearray(1 << 20))", "ran out of memory (limit 0.5 GiB)"
    ),
    "processes": called(
        "for _ in range(400):\n    if os.fork() == 0:\n        time.sleep(1e6)\ntime.sleep(1e6)",
        "started more than 256 processes",
    ),
    "import: a loop": loaded("while True: pass", "cannot be loaded (took longer than 0.2 seconds)", load_s=0.2),
    "import: a sleep": loaded("time.sleep(1e6)", "or raise load_s next to the function", load_s=0.2),
    "import: an exit": loaded("sys.exit(3)", "cannot be loaded (SystemExit: 3)"),
    "import: an exit at once": loaded("os._exit(0)", "cannot be loaded (ended its process (exit code 0))"),
    "import: a BaseException": loaded("class X(BaseException): pass\nraise X('boo')", "X: boo"),
    "import: GeneratorExit": loaded("raise GeneratorExit", "GeneratorExit"),
    "import: a fault in C": loaded("ctypes.string_at(0)", "SIGSEGV"),
    "import: memory": loaded("bytearray(4 << 30)", "MemoryError"),
    "import: no function any more": Case(climb("def score(a, b): pass\ndel score"), named="no function 'score'"),
    "import: a function of one argument": Case(climb("def score(a): pass"), named="takes (a)"),
    "import: a signature that is none": Case(
        climb("def score(a, b): return 1\nscore.__signature__ = 1"), named="without a readable signature"
    ),
    "import: binary is text": Case(climb(f"{RIGHT}score.binary = 'yes'"), named="binary = 'yes'"),
    "a dry run imports nothing": Case(climb(f"while True: pass\n{RIGHT}", "--dry-run"), "accepted"),
}
