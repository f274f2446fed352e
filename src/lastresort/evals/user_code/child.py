"""The other side of `process`: runs one function of the user's, one JSON line in, one out.

Started as a script of the standard library alone, so that it starts fast and holds nothing of the program's. Where the system can
fork, it becomes two processes: one runs the user's code, the other watches it, and ends it with all that it started when that is
requested, when the program is gone, and when the code has ended.

First line in: {"file", "function", "kind": "reward" or "score", "memory_bytes" (0: no limit), "path": sys.path of the program}.
First line out: how the function is called, or {"failed", "expected", "remedy"}. Then for each line in, {"rows": [arguments]},
one of {"values": [number or text of what is none]}, {"found": text}, {"raised": text} and {"memory": true}.
"""

from __future__ import annotations

import difflib
import importlib.util
import inspect
import json
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from numbers import Real
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn

if TYPE_CHECKING:
    from lastresort.types import Example, JsonObject

SHOWN_CHARACTERS, SAID_CHARACTERS = 80, 200  # of a value, and of an error
PROCESSES = (
    256  # that the code may have at a time: a worker for each core of a large machine, and not a machine's table
)
TOO_MANY = 117  # exit code
PAUSE_S = 0.05
GIVEN = ("prompt", "completion", "prompts", "completions", "expected")
SCORE = "(answer, expected) or (answer, expected, example)"
Call = Callable[["list[JsonObject]"], Any]
Number = Callable[[Any], "float | str"]


class NotCallableSoError(Exception):
    """The function is not there, or cannot be called as it must be. expected, remedy: of the sentence about it."""

    def __init__(self, found: str, expected: str = "a function", remedy: str = "") -> None:
        super().__init__(found)
        self.expected, self.remedy = expected, remedy


def main() -> None:
    requests, replies = _pipes_of_our_own()
    asked = json.loads(requests.readline())
    program = os.getppid()
    if hasattr(os, "fork"):
        _watched(requests, replies, program)
    else:
        threading.Thread(target=_end_with, args=(program,), daemon=True).start()
    own = os.getpid()
    _limit_memory(asked["memory_bytes"])
    sys.path[:] = asked["path"]
    try:
        module = _load(Path(asked["file"]))
        function = _function(module, asked["function"])
        call, number, manner = {"reward": _as_reward, "score": _as_score}[asked["kind"]](function)
    except NotCallableSoError as error:
        _reply(replies, {"failed": str(error), "expected": error.expected, "remedy": error.remedy})
        return
    except BaseException as error:  # noqa: BLE001 the border to the user's code: whatever it raises is reported
        found, remedy = f"it cannot be loaded ({_text_of(error)})", "Run it with python to see."
        _reply(replies, {"failed": found, "expected": "", "remedy": remedy})
        return
    _end_copies(own)
    _reply(replies, manner)
    for line in requests:
        outcome = _outcome(call, number, json.loads(line)["rows"])
        _end_copies(own)
        _reply(replies, outcome)


def _as_reward(function: Callable[..., Any]) -> tuple[Call, Number, JsonObject]:
    call, plural, needs = manner_of(function)
    return call, _number, {"plural": plural, "needs": needs}


def manner_of(function: Callable[..., Any]) -> tuple[Call, bool, list[str]]:
    """How the function wants to be called, whether for many answers at once, and the columns that it cannot do without.

    (prompt, completion, **columns); (prompts, completions, **columns), lists, as TRL calls rewards; or (answer, expected),
    as a scorer. A function is given only what it names, or everything where it takes **anything.
    """
    parameters = inspect.signature(function).parameters
    everything = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    named = [p for p in parameters.values() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    names = {p.name for p in named}
    needed = [p.name for p in named if p.default is p.empty]
    if list(parameters)[:2] == ["answer", "expected"] and set(needed) <= {"answer", "expected"}:
        return lambda rows: [function(rows[0]["completion"], rows[0]["expected"])], False, []
    needs = [name for name in needed if name not in GIVEN]
    if names & {"prompts", "completions"}:

        def lists(rows: list[JsonObject]) -> Any:
            keys = dict.fromkeys(key for row in rows for key in row)
            columns = {_plural(key): [row.get(key) for row in rows] for key in keys}
            return function(**{key: value for key, value in columns.items() if everything or key in names})

        return lists, True, needs
    if everything or names & {"prompt", "completion"}:

        def one(rows: list[JsonObject]) -> Any:
            return [function(**{key: value for key, value in rows[0].items() if everything or key in names})]

        return one, False, needs
    raise NotCallableSoError(
        f"a function that takes {inspect.signature(function)}",
        "(prompt, completion, …), (prompts, completions, …) or (answer, expected)",
    )


def _plural(key: str) -> str:
    return f"{key}s" if key in ("prompt", "completion") else key


def _as_score(function: Callable[..., Any]) -> tuple[Call, Number, JsonObject]:
    """binary: the attribute of this name, else whether it is annotated `-> bool`."""
    try:
        signature = inspect.signature(function)
    except (ValueError, TypeError) as error:  # some functions written in C do not say
        raise NotCallableSoError(
            "a function without a readable signature", SCORE, "Wrap it in a Python function."
        ) from error
    takes_example = _takes_example(signature)
    binary = getattr(function, "binary", None)
    if binary is None:
        binary = signature.return_annotation in (bool, "bool")
    if not isinstance(binary, bool):
        raise NotCallableSoError(f"binary = {_shown(binary)}", "true or false")

    def one(rows: list[JsonObject]) -> list[Any]:
        further = [[_example(row["example"])] if takes_example else [] for row in rows]
        return [function(row["answer"], row["expected"], *more) for row, more in zip(rows, further, strict=True)]

    return one, _score, {"binary": binary, "takes_example": takes_example}


def _takes_example(signature: inspect.Signature) -> bool:
    """Whether it takes the example too: a third argument that is required or is called `example`."""
    positional = [p for p in signature.parameters.values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    third = positional[2] if len(positional) > 2 else None
    wants = third is not None and (third.default is third.empty or third.name == "example")
    try:
        signature.bind(*["answer", "expected", "example"][: 3 if wants else 2])
    except TypeError as error:
        raise NotCallableSoError(f"a function that takes {signature}", SCORE) from error
    return wants


def _example(fields: Any) -> Example:
    from lastresort.types import Example, Message  # of the program, for functions that take examples alone

    turns = tuple(Message(**turn) for turn in fields.pop("input"))
    return Example(input=turns, passages=tuple(fields.pop("passages")), **fields)


def _outcome(call: Call, number: Number, rows: list[JsonObject]) -> JsonObject:
    try:
        values = call(rows)
        values = values.tolist() if hasattr(values, "tolist") else values  # an array or a tensor
        if not isinstance(values, (list, tuple)):
            return {"found": _shown(values)}
        return {"values": [number(value) for value in values]}
    except MemoryError:
        return {"memory": True}
    except BaseException as error:  # noqa: BLE001 the border to the user's code: whatever it raises is reported
        return {"raised": _text_of(error)}


def _number(value: Any) -> float | str:
    plain = _plain(value)
    try:
        return float(plain) if isinstance(plain, (bool, int, float)) else _shown(value)
    except OverflowError:
        return _shown(value)


def _score(value: Any) -> float | str:
    """A bool or a real number from 0 to 1 is a score; those of numpy and torch count."""
    plain = _plain(value)
    return float(plain) if isinstance(plain, Real) and 0 <= plain <= 1 else _shown(value)  # type: ignore[operator]


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") and getattr(value, "ndim", 0) == 0 else value


def _shown(value: Any) -> str:
    """The value for an error; its type where it cannot be written, such as a number of 5,000 digits."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 the user's own __repr__ may raise anything
        return f"a {type(value).__name__}"
    return _writable(text if len(text) <= SHOWN_CHARACTERS else f"{text[: SHOWN_CHARACTERS - 1]}…")


def _text_of(error: BaseException) -> str:
    try:
        said = str(error)
    except Exception:  # noqa: BLE001 as above
        said = ""
    return _writable(f"{type(error).__name__}: {said}"[:SAID_CHARACTERS].rstrip(": "))


def _writable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def _pipes_of_our_own() -> tuple[BinaryIO, BinaryIO]:
    """The pipes to the program, moved away from where the user's code reads and prints: it finds no input, and its prints
    go to the program by stderr."""
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.dup2(2, 1)
    return requests, replies


def _reply(replies: BinaryIO, value: JsonObject) -> None:
    with suppress(Exception):  # whatever the code has made of its output
        sys.stdout.flush()
    try:
        replies.write(json.dumps(value).encode() + b"\n")
        replies.flush()
    except OSError:  # the code closed it, or the program has gone
        os._exit(1)


def _limit_memory(limit_bytes: int) -> None:
    """What may be written to, so that large libraries that are only mapped do not count; where the system knows limits."""
    if limit_bytes and sys.platform != "win32":
        import resource

        kind = resource.RLIMIT_DATA if sys.platform == "linux" else resource.RLIMIT_AS
        hard = resource.getrlimit(kind)[1]
        limit = limit_bytes if hard == resource.RLIM_INFINITY else min(limit_bytes, hard)
        resource.setrlimit(kind, (limit, limit))


def _load(path: Path) -> ModuleType:
    specification = importlib.util.spec_from_file_location("lastresort_user_code", path)
    if specification is None or specification.loader is None:
        raise NotCallableSoError(f"{path} is not a Python file", "a file that ends in .py")
    module = importlib.util.module_from_spec(specification)
    # Registered, since dataclasses look their module up; its folder stays on the path for its neighbours.
    sys.modules["lastresort_user_code"] = module
    sys.path.insert(0, str(path.parent))
    specification.loader.exec_module(module)
    return module


def _function(module: ModuleType, name: str) -> Callable[..., Any]:
    function = getattr(module, name, None)
    if callable(function):
        return function  # type: ignore[no-any-return]
    known = [key for key, value in vars(module).items() if inspect.isfunction(value)]
    nearest = difflib.get_close_matches(name, known, n=1)
    raise NotCallableSoError(
        f"no function {name!r}",
        f"one of {', '.join(known)}" if known else "a function",
        f"Did you mean {nearest[0]}?" if nearest else "",
    )


def _end_copies(own: int) -> None:
    """The code forked, and its copy came back here: only the original replies."""
    if os.getpid() != own:
        os._exit(0)


def _end_with(program: int) -> None:
    """A function that hangs must not outlive a program that was killed."""
    while os.getppid() == program:
        time.sleep(1)
    os._exit(1)


def _watched(requests: BinaryIO, replies: BinaryIO, program: int) -> None:
    """Returns in a new process, which this one watches from here on."""
    awake, wake = os.pipe()
    os.set_blocking(wake, False)
    requested: list[int] = []
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGTERM, lambda number, frame: requested.append(number))
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    watcher = os.getpid()
    _ask_kernel(36, 1)  # PR_SET_CHILD_SUBREAPER: what the code leaves behind becomes a child of the watcher
    worker = os.fork()
    if worker:
        with suppress(OSError):  # it may have done so itself
            os.setpgid(worker, worker)
        requests.close()
        replies.close()
        _watch(worker, awake, requested, program)
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.close(awake)
    os.close(wake)
    os.setpgid(0, 0)
    _ask_kernel(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: should the watcher be killed
    if os.getppid() != watcher:
        os._exit(1)


def _ask_kernel(option: int, value: int) -> None:
    if sys.platform == "linux":
        with suppress(ImportError, OSError, AttributeError):
            import ctypes

            ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _watch(worker: int, awake: int, requested: list[int], program: int) -> NoReturn:
    """Until the worker has ended, has too many processes, or is no longer wanted. Ends as the worker did."""
    ended, status, many = 0, 0, False
    while not (ended or requested or many) and os.getppid() == program:
        if select.select([awake], [], [], PAUSE_S)[0]:
            os.read(awake, 512)
        ended, status = _reaped(worker)
        many = _are_many(_below(os.getpid(), 4 * PROCESSES))
    _end_all(worker)
    if many:
        os._exit(TOO_MANY)
    if ended and os.WIFSIGNALED(status):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with suppress(OSError):  # SIGKILL has no handler
            signal.signal(os.WTERMSIG(status), signal.SIG_DFL)
        os.kill(os.getpid(), os.WTERMSIG(status))
    os._exit(os.WEXITSTATUS(status) if ended else 0)


def _reaped(worker: int) -> tuple[int, int]:
    """The worker and its status once it has ended, else 0; also takes the ends of what it left behind."""
    while True:
        process, status = os.waitpid(-1, os.WNOHANG)
        if process in (worker, 0):
            return process, status


def _are_many(processes: list[int]) -> bool:
    """Those that have ended, and that nobody has waited for, count little."""
    if len(processes) <= PROCESSES or len(processes) >= 4 * PROCESSES:
        return len(processes) > PROCESSES
    return sum(_lives(process) for process in processes) > PROCESSES


def _lives(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text(errors="replace").rpartition(")")[2].split()[0] != "Z"
    except (OSError, IndexError):
        return False


def _end_all(worker: int) -> None:
    """The worker, its group, and whatever became our child because it left the group."""
    while True:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(worker, signal.SIGKILL)
        for process in _below(os.getpid()):
            with suppress(ProcessLookupError, PermissionError):
                os.kill(process, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(PAUSE_S / 10)


def _below(process: int, most: int | None = None) -> list[int]:
    """Processes that this one started, and so on, at most so many; none where the system does not list them."""
    found: list[int] = []
    waiting = [process]
    while waiting and (most is None or len(found) < most):
        with suppress(OSError):
            for task in Path(f"/proc/{waiting.pop()}/task").iterdir():
                children = [int(child) for child in (task / "children").read_text().split()]
                found += children
                waiting += children
    return found


if __name__ == "__main__":
    main()
