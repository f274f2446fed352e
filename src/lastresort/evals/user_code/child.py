"""The other side of `process`: runs one reward function of the user's, one JSON line in, one out.

Started as a script of the standard library alone, so that it starts fast and holds nothing of the program's. Arguments:
file, function, bytes of memory (0: no limit). First line out: {"plural", "needs"} or {"failed"}; then for each line in,
{"rows": [keyword arguments]}, one of {"values": [number or text of what is none]}, {"found": text}, {"raised": text} and
{"memory": true}.
"""

from __future__ import annotations

import importlib.util
import inspect
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO

from lastresort.types import JsonObject

SHOWN_CHARACTERS = 200
GIVEN = ("prompt", "completion", "prompts", "completions", "expected")
Call = Callable[[list[JsonObject]], Any]


def main(file: str, name: str, memory_bytes: int) -> None:
    requests, replies = _pipes_of_our_own()
    _limit_memory(memory_bytes)
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    try:
        function = getattr(_load(Path(file)), name, None)
        if not callable(function):
            raise TypeError(f"it has no function {name!r}")
        call, plural, needs = manner_of(function)
    except (Exception, SystemExit) as error:  # noqa: BLE001 the border to the user's code: whatever it raises is reported
        _reply(replies, {"failed": _told(error)})
        return
    _reply(replies, {"plural": plural, "needs": needs})
    for line in requests:
        _reply(replies, _outcome(call, json.loads(line)["rows"]))


def manner_of(function: Callable[..., Any]) -> tuple[Call, bool, list[str]]:
    """How the function wants to be called, whether for many answers at once, and the columns that it cannot do without.

    (prompt, completion, **columns); (prompts, completions, **columns), lists, as TRL calls rewards; or (answer, expected),
    as a scorer. A function is given only what it names, or everything where it takes **anything.
    Raises TypeError for another signature.
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
    raise TypeError(
        f"it takes {inspect.signature(function)}, expected (prompt, completion, …), (prompts, completions, …) or "
        "(answer, expected)"
    )


def _plural(key: str) -> str:
    return f"{key}s" if key in ("prompt", "completion") else key


def _outcome(call: Call, rows: list[JsonObject]) -> JsonObject:
    try:
        values = call(rows)
        values = values.tolist() if hasattr(values, "tolist") else values  # an array or a tensor
        if not isinstance(values, (list, tuple)):
            return {"found": _shown(values)}
        return {"values": [_number(value) for value in values]}
    except MemoryError:
        return {"memory": True}
    except (Exception, SystemExit) as error:  # noqa: BLE001 the border to the user's code: whatever it raises is reported
        return {"raised": _told(error)}


def _number(value: Any) -> float | str:
    plain = value.item() if hasattr(value, "item") and getattr(value, "ndim", 0) == 0 else value
    try:
        return float(plain) if isinstance(plain, (bool, int, float)) else _shown(value)
    except OverflowError:
        return _shown(value)


def _shown(value: Any) -> str:
    return repr(value)[:SHOWN_CHARACTERS]


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:SHOWN_CHARACTERS].rstrip(": ")


def _pipes_of_our_own() -> tuple[BinaryIO, BinaryIO]:
    """The pipes to the program, moved away from where the user's code reads and prints: it finds no input, and its prints
    go to stderr."""
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.dup2(2, 1)
    return requests, replies


def _reply(replies: BinaryIO, value: JsonObject) -> None:
    sys.stdout.flush()
    replies.write(json.dumps(value).encode() + b"\n")
    replies.flush()


def _limit_memory(limit_bytes: int) -> None:
    """What may be written to, so that large libraries that are only mapped do not count; where the system knows limits."""
    if limit_bytes and sys.platform != "win32":
        import resource

        kind = resource.RLIMIT_DATA if sys.platform == "linux" else resource.RLIMIT_AS
        hard = resource.getrlimit(kind)[1]
        limit = limit_bytes if hard == resource.RLIM_INFINITY else min(limit_bytes, hard)
        resource.setrlimit(kind, (limit, limit))


def _end_with_parent(parent: int) -> None:
    """A function that hangs must not outlive a program that was killed."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _load(path: Path) -> ModuleType:
    specification = importlib.util.spec_from_file_location("lastresort_reward", path)
    if specification is None or specification.loader is None:
        raise ImportError("not a Python file")
    module = importlib.util.module_from_spec(specification)
    # Registered, since dataclasses look their module up; its folder stays on the path for its neighbours.
    sys.modules["lastresort_reward"] = module
    sys.path.insert(0, str(path.parent))
    specification.loader.exec_module(module)
    return module


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
