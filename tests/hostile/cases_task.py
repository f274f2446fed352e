"""Task files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from corpus import Case

from climb_support import scripted_task

DRY = "--dry-run"


def text(source: str | bytes) -> Callable[[Path], list[str]]:
    """The task file as it stands."""

    def make(folder: Path) -> list[str]:
        scripted_task(folder, quality=[{"right": 0.97}])
        (folder / "task.yaml").write_bytes(
            source if isinstance(source, bytes) else source.encode("utf-8", "surrogatepass")
        )
        return ["climb", "task.yaml", DRY]

    return make


def changed(**keys: Any) -> Callable[[Path], list[str]]:
    """A task that works, with these keys."""

    def make(folder: Path) -> list[str]:
        scripted_task(folder, quality=[{"right": 0.97}], task=keys)
        return ["climb", "task.yaml", DRY]

    return make


def added(lines: str) -> Callable[[Path], list[str]]:
    """A task that works, with these lines below."""

    def make(folder: Path) -> list[str]:
        path = scripted_task(folder, quality=[{"right": 0.97}])
        path.write_text(path.read_text("utf-8") + lines, encoding="utf-8")
        return ["climb", "task.yaml", DRY]

    return make


WRONG: dict[str, Any] = {
    "null": None,
    "a list": [],
    "a list of lists": [[[]]],
    "an object": {"a": 1},
    "text": "evil",
    "a negative number": -1,
    "a huge number": 10**17,
    "not a number": ".nan",
    "true": True,
    "text of spaces": "   ",
    "a path out of here": "../../../../etc/passwd",
    "a device": "/dev/zero",
}
KEYS = ("task", "about", "model", "ladder", "examples", "split", "output", "score", "bar", "decode", "budget", "sft")
LEAST = yaml.safe_dump({"task": "a", "about": "b", "examples": "rows.jsonl", "score": "exact", "bar": 0.5})

CASES: dict[str, Case] = {
    "the task as it is": Case(changed(), "accepted"),
    **{f"{key} is {what}": Case(changed(**{key: value}), "either") for key in KEYS for what, value in WRONG.items()},
    "a line of 3 MB": Case(added(f"about: {'a' * 3_000_000}\n")),
    "a key of 3 MB": Case(added(f"{'a' * 3_000_000}: 1\n")),
    "a million values": Case(added("x: [" + "1, " * 1_000_000 + "1]\n"), named="values"),
    "20,000 unknown keys": Case(added("".join(f"k{n}: 1\n" for n in range(20_000)))),
    "an alias bomb": Case(
        added("x0: &x0 [1, 1]\n" + "".join(f"x{n}: &x{n} [*x{n - 1}, *x{n - 1}]\n" for n in range(1, 40)))
    ),
    "5,000 brackets": Case(added("x: " + "[" * 5_000 + "]" * 5_000)),
    "5,000 open brackets": Case(added("x: " + "[" * 5_000)),
    "5,000 levels of indentation": Case(added("".join(f"{' ' * n}x:\n" for n in range(2_000)))),
    "5,000 digits": Case(added(f"budget: {{usd: 1{'0' * 5_000}}}\n")),
    "a tag that runs code": Case(added("x: !!python/object/apply:os.system [ls]\n")),
    "a tag of binary data": Case(added("x: !!binary aGk=\n")),
    "two documents": Case(added("---\ntask: b\n")),
    "a merge key": Case(added("<<: {bar: 0.1}\n")),
    "a key that is a list": Case(added("? [a]\n: 1\n")),
    "a NUL": Case(text(f"{LEAST}\0")),
    "a control character": Case(text(f"{LEAST}x: \x07\n")),
    "half of a surrogate pair": Case(text(f"{LEAST}x: \ud800\n")),
    "UTF-16": Case(text(LEAST.encode("utf-16"))),
    "Latin-1": Case(text(LEAST.encode() + b"# \xe9\n")),
    "a zip archive": Case(text(b"PK\x03\x04" + bytes(100))),
    "gzip": Case(text(b"\x1f\x8b" + bytes(100))),
    "nothing": Case(text("")),
    "spaces": Case(text("   \n\t\n")),
    "a tab before a key": Case(text("task: a\n\tabout: b\n")),
    "a number alone": Case(text("5")),
    "a list": Case(text("- task: a\n")),
    "JSON": Case(text('{"task": "a"')),
    "5 MB of comments": Case(text(LEAST + "# a\n" * 1_300_000)),
    "examples of the environment": Case(changed(examples="/proc/self/environ")),
    "examples of the memory of the process": Case(changed(examples="/proc/self/mem"), named="/proc/self/mem"),
    "a name of 5,000 characters": Case(changed(examples="a" * 5_000)),
    "a name of 5,000 folders": Case(changed(examples="a/" * 5_000)),
    "30,000 choices": Case(changed(output={"choices": [f"label {n}" for n in range(30_000)]})),
    "100,000 choices": Case(
        changed(output={"choices": [f"label {n}" for n in range(100_000)]}), named="more than 50,000 values"
    ),
    "30,000 choices, the last twice": Case(
        changed(output={"choices": [*(f"label {n}" for n in range(30_000)), "label 29999"]}), named="twice"
    ),
    "a choice of 1 MB": Case(changed(output={"choices": ["a" * 1_000_000, "b"]})),
    "two choices of 1 MB": Case(changed(output={"choices": ["a" * 1_000_000, "a" * 1_000_000]}), named="twice"),
    "examples from standard input": Case(changed(examples="/dev/stdin")),
    "examples that are a folder": Case(changed(examples=".")),
    "a home that nobody has": Case(changed(examples="~nobody-of-this-name/rows.jsonl")),
    "a bar above 1": Case(changed(bar=1.5)),
    "choices that repeat": Case(changed(output={"choices": ["a", "a"]})),
    "a schema that is a path out of here": Case(changed(output={"schema": "../../../etc/passwd"})),
    "a schema of a device": Case(changed(output={"schema": "/dev/zero"})),
}
