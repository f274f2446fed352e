"""A chat template is a program of the model's maker, in a sandbox that keeps it from files but not from taking any time or memory.

Two limits hold it. Before it runs, what could ask for any amount in a single step is refused: multiplication, powers, padding, and
replacing or joining by texts that are not written in the template; no template of a model in use holds one of them. While it runs,
a watch ends it after so many seconds of the processor or so much memory.
"""

from __future__ import annotations

import ctypes
import math
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

MOST_CHARACTERS = 2**20  # of a template; the longest in use has 20,000
MOST_WRITTEN = 16 * 2**20  # characters of a conversation
COMPUTING_S = 5.0  # for one conversation; an ordinary one takes a ten-thousandth of it
MEMORY_BYTES = 2**30
_LARGEST = 1_000  # of a number that is multiplied
_WIDEST = 16  # times; by what one step may widen a text. The watch looks between steps alone
_PADDING = frozenset(
    {"center", "ljust", "rjust", "zfill", "expandtabs", "format", "format_map", "translate", "to_bytes"}
)
_REFUSED = _PADDING | {"wordwrap", "attr"}
_BY_KEYS = "replace by keys"
_WIDENING = frozenset({"replace", _BY_KEYS, "join", "indent", "tojson", "batch"})
_COUNTERS = frozenset({"index", "index0", "revindex", "revindex0", "length", "depth", "depth0"})
_BY_NAME = frozenset({"map", "select", "reject", "selectattr", "rejectattr"})
_FUNCTIONS = frozenset(
    {"range", "namespace", "dict", "raise_exception", "strftime_now", "caller", "cycler", "joiner", "lipsum", "super"}
)


class TemplateUnbounded(Exception):
    """A template could take any time or memory, or took too much."""


class _Stopped(BaseException):
    """Thrown into the template. No Exception, so that nothing between here and there catches it."""


@lru_cache(maxsize=64)
def unbounded_step(template: str) -> str | None:
    """What in the template could take any time or memory in one step, None where nothing could."""
    import jinja2
    from jinja2 import nodes

    if len(template) > MOST_CHARACTERS:
        return f"more than {MOST_CHARACTERS:,} characters"
    try:
        tree = _parser().parse(template)
    except jinja2.TemplateSyntaxError:
        return None  # transformers says so too
    for node in tree.find_all((nodes.Pow, nodes.Mul)):
        if isinstance(node, nodes.Pow) or not (_is_number(node.left) and _is_number(node.right)):
            return f"the operator {node.operator} on line {node.lineno}"
    dates = {id(one) for call in tree.find_all(nodes.Call) if _is_date(call) for one in call.args}
    formats = any(
        isinstance(one.value, str) and "%" in one.value for one in tree.find_all(nodes.Const) if id(one) not in dates
    )
    for mod in tree.find_all(nodes.Mod):  # of numbers, and not of a format with a width
        if (
            (formats and not _is_number(mod.left))
            or not isinstance(mod.right, nodes.Const)
            or not isinstance(mod.right.value, int)
        ):
            return f"the operator % on line {mod.lineno}"
    for name, arguments, line in _called(tree):
        if name in _REFUSED or (name in _WIDENING and _times(name, arguments) > _WIDEST):
            return f"{name} on line {line}"
    return None


def _called(tree: Any) -> Iterator[tuple[str, list[Any], int]]:
    """The filters, tests and methods that are called, with the arguments that decide how much they write."""
    from jinja2 import nodes

    macros = {macro.name for macro in tree.find_all(nodes.Macro)} | _FUNCTIONS
    for node in tree.find_all((nodes.Filter, nodes.Call)):
        named = [pair.value for pair in node.kwargs]
        given = [*node.args, *named, *filter(None, (node.dyn_args, node.dyn_kwargs))]
        if isinstance(node, nodes.Filter):
            yield from _filtered(node.name, given, bool(named), node.lineno)
        elif isinstance(node.node, nodes.Getattr):
            # The text that join is called on stands between the parts.
            name, place = node.node.attr, node.node.node
            yield from (
                [(name, [place], node.lineno)] if name == "join" else _filtered(name, given, bool(named), node.lineno)
            )
        elif not isinstance(node.node, nodes.Name) or node.node.name not in macros:
            yield "attr", given, node.lineno  # a method that was looked up before


def _filtered(name: str, given: list[Any], named: bool, line: int) -> Iterator[tuple[str, list[Any], int]]:
    from jinja2 import nodes

    if name in _BY_NAME and given and not named:
        first = given[0]
        yield (str(first.value) if isinstance(first, nodes.Const) else "attr"), given[1:], line
    elif name == "replace":
        yield (_BY_KEYS if named else name), given if named else given[:2], line
    else:
        yield name, given, line


def _times(name: str, arguments: list[Any]) -> float:
    """By how much a step widens a text at most: to how many characters of the new text each of the old one leads."""
    from jinja2 import nodes

    if name == "replace" and len(arguments) == 2 and isinstance(arguments[0], nodes.Const):
        return _size(arguments[1]) / max(1.0, _size(arguments[0]))
    return max(map(_size, arguments[1:2] if name == "replace" else arguments), default=0.0)


def _size(node: Any) -> float:
    """Of a number or a text that is written in the template; infinite where it is not."""
    from jinja2 import nodes

    if not isinstance(node, nodes.Const):
        parts = node.items if isinstance(node, nodes.List | nodes.Tuple) else [None]
        return max((math.inf if part is None else _size(part) for part in parts), default=0.0)
    return len(node.value) if isinstance(node.value, str) else abs(node.value or 0)


def _is_number(node: Any) -> bool:
    """Whether it cannot be a text or a list: a small number, a counter of a loop, a length."""
    from jinja2 import nodes

    match node:
        case nodes.Const():
            return isinstance(node.value, int | float) and _size(node) <= _LARGEST
        case nodes.Getattr():
            return isinstance(node.node, nodes.Name) and node.node.name == "loop" and node.attr in _COUNTERS
        case nodes.Filter():
            return node.name in ("length", "count")
    return False


def _is_date(call: Any) -> bool:
    from jinja2 import nodes

    return isinstance(call.node, nodes.Name) and call.node.name == "strftime_now"


@cache
def _parser() -> Any:
    """Reads what transformers reads; nothing is run by it."""
    import jinja2
    from jinja2 import ext, nodes

    class Generation(ext.Extension):
        def __init__(self, environment: Any) -> None:
            super().__init__(environment)
            self.tags = {"generation"}

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return nodes.Scope(body).set_lineno(line)

    return jinja2.Environment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, ext.loopcontrols])


def within_limits(template: str, render: Callable[[], str]) -> str:
    """What `render` writes by this template. Raises TemplateUnbounded where it could take, or takes, more than the limits."""
    if (step := unbounded_step(template)) is not None:
        raise TemplateUnbounded(step)
    try:
        written = _watched(render)
    except _Stopped:
        limits = f"more than {COMPUTING_S:g} seconds or {MEMORY_BYTES / 2**30:g} GiB"
        raise TemplateUnbounded(f"it took {limits} for one conversation") from None
    if len(written) > MOST_WRITTEN:
        raise TemplateUnbounded(f"it wrote {len(written):,} characters for one conversation")
    return written


def _watched(render: Callable[[], str]) -> str:
    watch = _watch()
    running = watch.begin()
    try:
        return render()
    finally:
        watch.end(running)


@dataclass(slots=True)
class _Running:
    thread: int
    began_s: float
    clock: int | None
    memory: int | None = None
    stopped: bool = False


@dataclass(slots=True)
class _Watch:
    """One thread for the whole process looks four times a second at what runs; a template that is done by then costs nothing."""

    running: dict[int, _Running] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self) -> _Running:
        me = threading.get_ident()
        clock = time.pthread_getcpuclockid(me) if hasattr(time, "pthread_getcpuclockid") else None
        found = _Running(me, _seconds(clock), clock)
        self.running[me] = found
        return found

    def end(self, running: _Running) -> None:
        with self.lock:
            self.running.pop(running.thread, None)
            if running.stopped:  # what was thrown and not yet raised must not reach what follows
                _throw(running.thread, None)

    def look(self) -> None:
        while True:
            time.sleep(0.25)
            with self.lock:
                for one in list(self.running.values()):
                    self._check(one)

    def _check(self, one: _Running) -> None:
        used = _resident_bytes()
        one.memory = used if one.memory is None else one.memory
        late = _seconds(one.clock) - one.began_s > COMPUTING_S
        if not one.stopped and (late or used - one.memory > MEMORY_BYTES):
            one.stopped = True
            _throw(one.thread, _Stopped)


@cache
def _watch() -> _Watch:
    watch = _Watch()
    threading.Thread(target=watch.look, name="template-watch", daemon=True).start()
    return watch


def _seconds(clock: int | None) -> float:
    return time.monotonic() if clock is None else time.clock_gettime(clock)


def _throw(thread: int, error: type[BaseException] | None) -> None:
    """Raises `error` in another thread, at its next step; None takes back what was not raised yet."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(thread), None if error is None else ctypes.py_object(error)
    )


def _resident_bytes() -> int:
    """Of this process, 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * 4096
    except OSError:
        return 0
