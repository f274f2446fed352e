"""Training files of Axolotl and the data that they name."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from corpus import Case
from model_files import DEEP, TEXTS, VALUES

Make = Callable[[Path], list[str]]
ROW = {"instruction": "a", "input": "", "output": "b"}
EXPORT = ["export", "axolotl.yml", "--to", "trl", "--out", "out"]


def source(text: str | bytes) -> Make:
    """The file as it stands."""

    def make(folder: Path) -> list[str]:
        (folder / "rows.jsonl").write_text(json.dumps(ROW) + "\n", encoding="utf-8")
        data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
        (folder / "axolotl.yml").write_bytes(data)
        return EXPORT

    return make


def values(entry: dict[str, Any] | None = None, row: Any = ROW, **keys: Any) -> dict[str, Any]:
    found = {"path": "rows.jsonl", "type": "alpaca", **(entry or {})}
    return {
        "base_model": "nobody/nothing",
        "learning_rate": 1e-4,
        "datasets": [{key: value for key, value in found.items() if value is not None}],
        **keys,
    }


def file(
    entry: dict[str, Any] | None = None, row: Any = ROW, prepare: Callable[[Path], None] | None = None, **keys: Any
) -> Make:
    def make(folder: Path) -> list[str]:
        (folder / "rows.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
        (folder / "axolotl.yml").write_text(yaml.safe_dump(values(entry, **keys)), encoding="utf-8")
        if prepare is not None:
            prepare(folder)
        return EXPORT

    return make


LEAST = yaml.safe_dump(values())


def added(lines: str) -> Case:
    return Case(source(LEAST + lines))


def saved(state: str) -> Make:
    """A folder that `datasets` saved, with this state.json."""

    def prepare(folder: Path) -> None:
        (folder / "saved").mkdir()
        (folder / "saved" / "state.json").write_text(state, encoding="utf-8")

    return file({"path": "saved"}, prepare=prepare)


def arrow(content: bytes) -> Make:
    return file({"path": "x.arrow"}, prepare=lambda folder: _put(folder / "x.arrow", content))


def _put(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def placed(path: str, make: Callable[[Path], object]) -> Make:
    return file({"path": path}, prepare=lambda folder: (make(folder / path), None)[1])


KEYS = (
    "base_model",
    "adapter",
    "lora_r",
    "lora_target_modules",
    "learning_rate",
    "micro_batch_size",
    "num_epochs",
    "sequence_len",
    "val_set_size",
    "datasets",
    "chat_template",
    "output_dir",
    "rl",
    "seed",
)
ENTRY = ("path", "type", "split", "data_files", "ds_type", "shards", "name", "field_messages", "roles")
FORMATS = {
    "a width of 10 digits": "{instruction:>9999999999}",
    "a width of 5 digits": "{instruction:>10000}",
    "a precision of 10 digits": "{instruction:.9999999999}",
    "a width from a row": "{instruction:{input}}",
    "an attribute": "{instruction.__class__.__mro__}",
    "an index": "{instruction[99999999999]}",
    "an unknown name": "{nope}",
    "a number": "{0}",
    "an open brace": "{instruction",
    "an unknown conversion": "{instruction!z}",
    "9,999 nested braces": "{" * 9_999,
}
STATES = {
    **{what: text for what, text in TEXTS.items() if isinstance(text, str)},
    "no files": "{}",
    "files that are a number": '{"_data_files": 5}',
    "files that are text": '{"_data_files": "abc"}',
    "no file": '{"_data_files": []}',
    "a name that is a number": '{"_data_files": [{"filename": 5}]}',
    "a name out of the folder": '{"_data_files": [{"filename": "../../../etc/passwd"}]}',
    "a whole path": '{"_data_files": [{"filename": "/etc/passwd"}]}',
    "a name with NUL": '{"_data_files": [{"filename": "a\\u0000b"}]}',
    "a file that is missing": '{"_data_files": [{"filename": "data.arrow"}]}',
    "a list of lists": '{"_data_files": [[["a"]]]}',
}


def _written(batches: int = 1, **columns: Any) -> bytes:
    import io

    import pyarrow as pa

    sink = io.BytesIO()
    table = pa.table(columns)
    with pa.ipc.new_stream(sink, table.schema) as writer:
        for _ in range(batches):
            writer.write_table(table)
    return sink.getvalue()


def _arrow_files() -> dict[str, bytes]:
    import pyarrow as pa

    whole = _written(instruction=["a"] * 50, input=[""] * 50, output=["b"] * 50)
    late = pa.array([2**62], pa.timestamp("s"))
    broken = pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\2\0\0\0"), pa.py_buffer(b"\xff\xfe")])
    return {
        "nothing": b"",
        "zeros": bytes(4096),
        "no table": b"ARROW1\0\0" + bytes(64),
        "a length of 2^31": b"\xff\xff\xff\xff\xff\xff\xff\x7f" + bytes(64),
        **{f"a table cut at {share:.0%}": whole[: int(share * len(whole))] for share in (0.1, 0.3, 0.5, 0.9)},
        "a date in the year 10^11": _written(instruction=["a"], output=late),
        "text that is not UTF-8": _written(instruction=broken, output=["b"]),
        "no row": _written(instruction=pa.array([], pa.string()), output=pa.array([], pa.string())),
        "no column": _written(),
        "a billion nulls": _written(instruction=pa.nulls(10**9), output=pa.nulls(10**9)),
        "one text of 4 MB, 1,000 times": _written(
            instruction=pa.DictionaryArray.from_arrays(pa.array([0] * 1_000, pa.int32()), pa.array(["a" * 4_000_000])),
            output=["b"] * 1_000,
        ),
        "views of one text": _written(instruction=pa.array(["a" * 100] * 9).cast(pa.string_view()), output=["b"] * 9),
        "a million nulls": _written(instruction=pa.nulls(10), output=pa.nulls(10)),
    }


CASES: dict[str, Case] = {
    "as it is": Case(file(), "accepted"),
    **{f"{key} is {what}": Case(file(**{key: value}), "either") for key in KEYS for what, value in VALUES.items()},
    **{f"an entry's {key} is {what}": Case(file({key: v}), "either") for key in ENTRY for what, v in VALUES.items()},
    **{f"a file of {what}": Case(source(text)) for what, text in TEXTS.items()},
    "a date that is none": added("seed: 2024-13-45\n"),
    "5,000 digits": added(f"seed: 1{'0' * 5_000}\n"),
    "a set that holds itself": added("seed: &a !!set {? *a}\n"),
    "a list that holds itself": added("seed: &a [*a]\n"),
    "a mapping that holds itself": added("trl: &a {b: *a}\n"),
    "an alias bomb": added("x0: &x0 [1, 1]\n" + "".join(f"x{n}: &x{n} [*x{n - 1}, *x{n - 1}]\n" for n in range(1, 40))),
    "a million values": added("x:\n" + "- 1\n" * 1_000_000),
    "a million values in a row": added("x: [" + "1, " * 1_000_000 + "1]\n"),
    "an alias bomb of sets": added(
        "x0: &x0 !!set {a, b}\n" + "".join(f"x{n}: &x{n} [*x{n - 1}, *x{n - 1}, *x{n - 1}]\n" for n in range(1, 40))
    ),
    "a bomb of merge keys": added(
        "x0: &x0 {a: 1}\n" + "".join(f"x{n}: &x{n} {{<<: [*x{n - 1}, *x{n - 1}], b{n}: 1}}\n" for n in range(1, 30))
    ),
    "5,000 brackets": added(f"seed: {DEEP}\n"),
    "a tag that runs code": added("seed: !!python/object/apply:os.system [ls]\n"),
    "a list as a key": added("? [a]\n: 1\n"),
    "a mapping as a key": added("? {a: b}\n: 1\n"),
    "a time of 25 o'clock": added("seed: 2024-01-01 25:61:61\n"),
    "an unknown alias": added("seed: *nope\n"),
    "two documents": added("---\nseed: 1\n"),
    **{f"a type with {what}": Case(file({"type": {"format": text}})) for what, text in FORMATS.items()},
    **{
        f"a system with {what}": Case(file({"type": {"system_format": text}}), "either")
        for what, text in FORMATS.items()
    },
    "a type with a narrow width": Case(file({"type": {"format": "{instruction:>20} {input}"}}), "accepted"),
    "a type of columns that are lists": Case(file({"type": {"field_instruction": ["a"]}})),
    "rows from a device": Case(file({"path": "/dev/zero"})),
    "rows from the environment": Case(file({"path": "/proc/self/environ"})),
    "rows from a folder without files": Case(placed("empty", Path.mkdir)),
    "rows from a FIFO": Case(placed("x.jsonl", os.mkfifo)),
    "rows from a link to itself": Case(placed("x.jsonl", lambda path: path.symlink_to(path.name))),
    "rows from a home that nobody has": Case(file({"path": "~nobody-of-this-name/x.jsonl"})),
    "rows from a name of 300 letters": Case(file({"path": "./" + "a" * 300 + ".jsonl"})),
    "rows from the web": Case(file({"path": "http://127.0.0.1:1/rows.jsonl"})),
    "an output in a home that nobody has": Case(file(output_dir="~nobody-of-this-name/out"), "either"),
    "a split of 5,000 digits": Case(file({"split": f"train[:{'9' * 5_000}]"})),
    "a split of 10^14 percent": Case(file({"split": "train[:99999999999999%]"}), "accepted"),
    "a negative split": Case(file({"split": "train[-5:]"}), "accepted"),
    "10^9 shards": Case(file({"shards": 10**9}), "accepted"),
    **{f"a saved folder: {what}": Case(saved(text)) for what, text in STATES.items()},
    **{f"Arrow: {what}": Case(arrow(content)) for what, content in _arrow_files().items()},
    "Arrow: a device": Case(file({"path": "/dev/zero", "ds_type": "arrow"})),
    "a reward in a module that is missing": Case(file(rl="grpo", trl={"reward_funcs": ["os.system"]})),
    "a reward out of here": Case(file(rl="grpo", trl={"reward_funcs": ["../../x.y"]})),
    "a pattern of layers of 100,000 brackets": Case(
        file(adapter="lora", lora_r=8, lora_alpha=8, lora_target_modules=".*.(" * 9_999)
    ),
    "rows with deep values": Case(file(row={"instruction": "a", "output": json.loads("[" * 90 + "]" * 90)}), "either"),
}
