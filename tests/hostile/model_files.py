"""A tiny model, an adapter on it and a GGUF, made once and linked into the folder of each case, where one file is changed."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from adapters_support import tuned
from lastresort.train.adapters.adapters import save_adapter
from models_support import save_tiny, tiny_model, tiny_tokenizer, write_tiny_gguf

_KEPT = tempfile.TemporaryDirectory()
Change = Callable[[Path], None]
Make = Callable[[Path], list[str]]


@cache
def kept() -> Path:
    """A folder with `model`, `adapter` and `tiny.gguf`."""
    folder = Path(_KEPT.name)
    save_tiny(folder / "model")
    save_adapter(tuned(tiny_model(len(tiny_tokenizer())), base_name="model"), folder / "adapter")
    write_tiny_gguf(folder / "tiny.gguf")
    return folder


def lay(folder: Path, *names: str) -> None:
    for name in names:
        source = kept() / name
        if source.is_dir():
            shutil.copytree(source, folder / name, copy_function=os.link)
        else:
            os.link(source, folder / name)


def put(name: str, content: str | bytes) -> Change:
    """The file of this name with another content."""

    def change(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))

    return change


def keys(name: str, **values: Any) -> Change:
    """A JSON file with these keys."""

    def change(folder: Path) -> None:
        present = json.loads((folder / name).read_text("utf-8"))
        put(name, json.dumps({**present, **values}))(folder)

    return change


def linked(name: str, target: str) -> Change:
    def change(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(target)

    return change


def fifo(name: str) -> Change:
    def change(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)

    return change


def gone(name: str) -> Change:
    return lambda folder: (folder / name).unlink()


def cut(name: str, share: float) -> Change:
    def change(folder: Path) -> None:
        whole = (folder / name).read_bytes()
        put(name, whole[: int(share * len(whole))])(folder)

    return change


def merging(*changes: Change) -> Make:
    """Merge an adapter and a base of which some files are changed."""

    def make(folder: Path) -> list[str]:
        lay(folder, "model", "adapter")
        for change in changes:
            change(folder)
        return ["merge", "adapter", "--base", "model", "--out", "merged"]

    return make


def planning(*changes: Change, model: str = "model") -> Make:
    def make(folder: Path) -> list[str]:
        lay(folder, *([] if (folder / model).exists() else ["model"]))
        for change in changes:
            change(folder)
        return ["plan", "--model", model, "--gpu", "24GB"]

    return make


def training(*changes: Change, rows: str = '{"input": "a", "output": "b"}\n', **more: Any) -> Make:
    """Train on a model of which some files are changed; the cases end before a step is taken."""

    def make(folder: Path) -> list[str]:
        lay(folder, "model")
        (folder / "rows.jsonl").write_text(rows, encoding="utf-8")
        file = {"model": "./model", "objective": "sft", "data": "rows.jsonl", "output": "out", "max_steps": 1, **more}
        (folder / "sft.yaml").write_text(yaml.safe_dump(file), encoding="utf-8")
        for change in changes:
            change(folder)
        return ["train", "sft.yaml"]

    return make


DEEP = "[" * 5_000 + "]" * 5_000
TEXTS: dict[str, str | bytes] = {
    "empty": "",
    "spaces": "  \n ",
    "not JSON": "{nope",
    "cut short": '{"a": ',
    "a list": "[]",
    "a number": "5",
    "text": '"evil"',
    "null": "null",
    "5,000 brackets": DEEP,
    "5,000 nested keys": '{"a":' * 5_000 + "1" + "}" * 5_000,
    "5,000 digits": '{"hidden_size": 1' + "0" * 5_000 + "}",
    "a control character": '{"a": "\x01"}',
    "Latin-1": b'{"a": "\xe9"}',
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "zeros": bytes(4096),
    "a zip archive": b"PK\x03\x04" + bytes(64),
    "gzip": b"\x1f\x8b" + bytes(64),
    "two documents": '{"a": 1} {"b": 2}',
    "HTML of a login page": "<!doctype html><html><body>401</body></html>",
    "a pointer of Git LFS": "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n",
}
VALUES: dict[str, Any] = {
    "null": None,
    "text": "x",
    "empty text": "",
    "a list": [1, 2],
    "an object": {"a": 1},
    "true": True,
    "0": 0,
    "-1": -1,
    "a half": 0.5,
    "10^9": 10**9,
    "10^18": 10**18,
    "10^300": 10**300,
    "infinite": float("inf"),
    "not a number": float("nan"),
}
