"""Prices, sizes and configurations for `plan`, and logs of other tools for `gate --from-logs`."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

from corpus import Case

Make = Callable[[Path], list[str]]
PLAN = ["plan", "--model", "llama-3-8b", "--gpu", "a100-80", "--rows", "100"]


def option(name: str, value: str) -> Make:
    return lambda folder: [*PLAN, name, value]


def prices(content: str | bytes) -> Make:
    def make(folder: Path) -> list[str]:
        (folder / "p.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
        return [*PLAN, "--prices", "p.yaml"]

    return make


def prices_at(make_file: Callable[[Path], str]) -> Make:
    return lambda folder: [*PLAN, "--prices", make_file(folder)]


def pipe(folder: Path) -> str:
    os.mkfifo(folder / "pipe")
    return "pipe"


def logs(name: str, content: str | bytes) -> Make:
    """Two equal logs of this content."""

    def make(folder: Path) -> list[str]:
        for side in ("base", "tuned"):
            (folder / side).mkdir()
            (folder / side / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return ["gate", "--from-logs", f"base/{name}", f"tuned/{name}"]

    return make


def archive(**members: str) -> Make:
    def make(folder: Path) -> list[str]:
        for side in ("base", "tuned"):
            with zipfile.ZipFile(folder / f"{side}.eval", "w", zipfile.ZIP_DEFLATED) as file:
                for name, content in members.items():
                    file.writestr(name.replace("__", "."), content)
        return ["gate", "--from-logs", "base.eval", "tuned.eval"]

    return make


def sample(**values: object) -> str:
    row = {"doc_id": 0, "doc": {}, "target": "a", "resps": [["a"]], "filtered_resps": ["a"], "acc": 1.0, **values}
    return json.dumps(row) + "\n"


SAMPLES = "samples_task_2024-01-01T00-00-00.000000.jsonl"
COUNTS = ("--tokens", "--mean-tokens", "--shared-tokens", "--rows", "--epochs", "--batch", "--r", "--answer-tokens")
SIZES = {
    "a huge one": "1" + "0" * 400,
    "10^18": "1" + "0" * 18,
    "minus one": "-1",
    "nought": "0",
    "NaN": "nan",
    "infinity": "inf",
}
WORDS = (
    "--method",
    "--objective",
    "--gpu",
    "--sharing",
    "--target",
    "--optimizer",
    "--precision",
    "--sampler",
    "--replay-loss",
    "--price",
    "--model",
)

CASES: dict[str, Case] = {
    "the plan as it is": Case(lambda folder: PLAN, "accepted"),
    **{f"{name} of {what}": Case(option(name, size), "either") for name in COUNTS for what, size in SIZES.items()},
    **{f"{name} of 5,000 letters": Case(option(name, "a" * 5_000)) for name in WORDS},
    **{f"{name} of nothing": Case(option(name, ""), "either") for name in WORDS},
    "a GPU of 10^400 GB": Case(option("--gpu", f"1{'0' * 400}GB"), "either"),
    "a billion GPUs": Case(option("--gpu", "1000000000xl40s"), "either"),
    "10^5000 GPUs": Case(option("--gpu", f"1{'0' * 5000}xl40s"), "either"),
    # prices
    "prices": Case(prices("a100-80: 1.50"), "accepted"),
    "prices as JSON": Case(prices('{"a100-80": 1.5}'), "accepted"),
    "a price of a month 13": Case(prices("a100-80: 2024-13-41"), named="p.yaml"),
    "a price of 5,000 digits": Case(prices("a100-80: 1" + "0" * 5_000), named="p.yaml"),
    "a price of 400 digits": Case(prices("a100-80: 1" + "0" * 400), named="p.yaml"),
    "a price of many hexadecimal digits": Case(prices("a100-80: 0x" + "f" * 5_000), named="p.yaml"),
    "a price of 300 digits": Case(prices("a100-80: 1" + "0" * 300), "either"),
    "a price below nought": Case(prices("a100-80: -1"), named="p.yaml"),
    "a price of NaN": Case(prices("a100-80: .nan"), named="p.yaml"),
    "a price of infinity": Case(prices("a100-80: .inf"), named="p.yaml"),
    "a price that is a list": Case(prices("a100-80: [1]"), named="p.yaml"),
    "a price of 1 MB": Case(prices(f"a100-80: {'a' * 1_000_000}"), named="p.yaml"),
    "a card of 1 MB": Case(prices(f'? "{"a" * 1_000_000}"\n: 1')),
    "prices of 5,000 brackets": Case(prices("[" * 5_000), named="p.yaml"),
    "prices of 5,000 levels": Case(prices("[" * 5_000 + "]" * 5_000), named="p.yaml"),
    "a bomb of aliases": Case(
        prices("a0: &a0 [1, 1]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 40))),
        named="p.yaml",
    ),
    "an alias in its anchor": Case(prices("a: &a [*a]"), named="p.yaml"),
    "a tag that runs code": Case(prices("!!python/object/apply:os.system [ls]"), named="p.yaml"),
    "prices that are a list": Case(prices("- 1"), named="p.yaml"),
    "no prices": Case(prices(""), named="p.yaml"),
    "prices of bytes": Case(prices(b"\xff\xfe\x00"), named="p.yaml"),
    "prices of a NUL": Case(prices(b"a100-80: 1\0"), named="p.yaml"),
    "prices of 5 MB": Case(prices("#" * 5_000_000), named="MiB"),
    "a key that is a list": Case(prices("? [a]\n: 1"), named="p.yaml"),
    "a key that is a number": Case(prices("1: 2")),
    "prices of a device": Case(prices_at(lambda folder: "/dev/zero"), named="/dev/zero"),
    "prices of the environment": Case(prices_at(lambda folder: "/proc/self/environ"), named="/proc/self/environ"),
    "prices of a FIFO": Case(prices_at(pipe), named="pipe"),
    "prices of a folder": Case(prices_at(lambda folder: ".")),
    "prices that are missing": Case(prices_at(lambda folder: "nothing.yaml"), named="nothing.yaml"),
    "prices of a long name": Case(prices_at(lambda folder: "a" * 5_000)),
    # logs
    "a log": Case(logs(SAMPLES, "".join(sample(doc_id=n, doc={"q": n}) for n in range(30))), "either"),
    "a log of nothing": Case(logs(SAMPLES, "")),
    "a log of zeros": Case(logs(SAMPLES, bytes(10_000))),
    "a log of numbers": Case(logs(SAMPLES, "1\n2\n")),
    "a log that is cut": Case(logs(SAMPLES, sample() + '{"doc_id": 1'), named="row 2"),
    "a log of bytes": Case(logs(SAMPLES, b"\xff\xfe\n"), named="row 1"),
    "a log of 100,000 levels": Case(logs(SAMPLES, "[" * 100_000 + "]" * 100_000), named="row 1"),
    "a document of 900 levels": Case(
        logs(SAMPLES, sample()[:-3] + ', "x": ' + "[" * 900 + "]" * 900 + "}\n"), named="row 1"
    ),
    "a document of 90 levels": Case(logs(SAMPLES, sample()[:-2] + ', "x": ' + "[" * 90 + "]" * 90 + "}\n"), "either"),
    "a score of 5,000 digits": Case(logs(SAMPLES, sample()[:-2] + ', "f1": 1' + "0" * 5_000 + "}\n"), named="row 1"),
    "a score of 10^300": Case(logs(SAMPLES, sample(acc=10**300))),
    "a score of NaN": Case(logs(SAMPLES, sample(acc=float("nan")))),
    "a score that is a list": Case(logs(SAMPLES, sample(acc=[1]))),
    "an id that is an object": Case(logs(SAMPLES, sample(doc_id={"a": 1})), "either"),
    "an id of 1 MB twice": Case(logs(SAMPLES, sample(doc_id="a" * 1_000_000) * 2), "either"),
    "a filter that is a list": Case(logs(SAMPLES, sample(filter=["a"])), "either"),
    "replies that are a number": Case(logs(SAMPLES, sample(resps=5, filtered_resps=5)), "either"),
    "arguments of 1 MB": Case(logs(SAMPLES, sample(arguments="a" * 1_000_000)), "either"),
    "a zip that is none": Case(logs("a.eval", b"PK\x03\x04" + bytes(100))),
    "a zip of nothing": Case(archive()),
    "a zip without a header": Case(archive(a__json="{}")),
    "a header of nothing": Case(archive(header__json="")),
    "a header of 100,000 levels": Case(archive(header__json="[" * 100_000)),
    "a header that is a number": Case(archive(header__json="5")),
    "a JSON log of nothing": Case(logs("a.json", "")),
    "a JSON log of 100,000 levels": Case(logs("a.json", "[" * 100_000 + "]" * 100_000)),
    "a JSON log of a number": Case(logs("a.json", "5")),
    "a JSON log of a list": Case(logs("a.json", "[]")),
    "a JSON log without samples": Case(logs("a.json", '{"version": 2, "status": "success", "eval": {}}')),
    "a log of no kind": Case(logs("a.txt", "a")),
    "logs that are missing": Case(lambda folder: ["gate", "--from-logs", "a.jsonl", "b.jsonl"]),
    "logs of a device": Case(lambda folder: ["gate", "--from-logs", "/dev/zero", "/dev/zero"]),
    "an empty folder of logs": Case(lambda folder: ["gate", "--from-logs", ".", "."]),
}
