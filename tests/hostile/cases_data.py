"""Files of examples: JSON Lines, JSON, tables, Parquet, gzip."""

from __future__ import annotations

import gzip
import io
import json
import os
import zlib
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from corpus import Case

from climb_support import rows, scripted_task

Make = Callable[[Path], list[str]]
CHECK = ["data", "check", "task.yaml"]
GOOD = rows(60)
LINES = [json.dumps(row) for row in GOOD]
ROW = LINES[0]
SMALL: dict[str, Any] = {"split": {"dev": 20, "test": 20}}


def task(folder: Path, **keys: Any) -> None:
    scripted_task(folder, quality=[{"right": 0.97}], task={**SMALL, **keys})


def file(name: str, content: bytes | str | Callable[[], bytes | str], **keys: Any) -> Make:
    """A task whose examples are this file. content: as it is written, or what makes it."""

    def make(folder: Path) -> list[str]:
        task(folder, examples=name, **keys)
        made = content() if callable(content) else content
        (folder / name).write_bytes(made.encode("utf-8", "surrogatepass") if isinstance(made, str) else made)
        return CHECK

    return make


def lines(*more: str, name: str = "a.jsonl", **keys: Any) -> Make:
    """Good rows with these lines below."""
    return file(name, "\n".join([*LINES, *more]), **keys)


def row(**values: Any) -> Make:
    """Good rows with one more, which has these values."""
    return lines(json.dumps({"input": "a", "output": "billing", **values}))


def raw_row(values: str) -> Make:
    return lines(f'{{"input": "a", "output": "billing", {values}}}')


def table(content: str | Callable[[], str], name: str = "a.csv", **keys: Any) -> Make:
    return file(name, content, **keys)


def csv_rows(count: int = 60) -> str:
    return "input,output\n" + "".join(f'"{row["input"]}",{row["output"]}\n' for row in rows(count))


def parquet(columns: Callable[[], dict[str, Any]], change: Callable[[bytes], bytes] = bytes) -> Make:
    """change: made of the file's bytes."""

    def content() -> bytes:
        import pyarrow
        import pyarrow.parquet

        buffer = io.BytesIO()
        pyarrow.parquet.write_table(pyarrow.table(columns()), buffer)
        return change(buffer.getvalue())

    return file("a.parquet", content)


def columns(**more: Any) -> dict[str, Any]:
    return {"input": [row["input"] for row in GOOD], "output": [row["output"] for row in GOOD], **more}


def huge_times() -> dict[str, Any]:
    import pyarrow

    return columns(when=pyarrow.array([2**62] * len(GOOD), pyarrow.timestamp("ms")))


def bad_text() -> dict[str, Any]:
    import pyarrow

    lengths = pyarrow.py_buffer(b"".join(n.to_bytes(4, "little") for n in range(len(GOOD) + 1)))
    broken = pyarrow.StringArray.from_buffers(len(GOOD), lengths, pyarrow.py_buffer(b"\xff" * len(GOOD)))
    return columns(input=broken)


def dictionary_bomb() -> dict[str, Any]:
    """A file of a megabyte, of which each row is a megabyte."""
    import pyarrow

    large = pyarrow.DictionaryArray.from_arrays(
        pyarrow.array([0] * 2_500, pyarrow.int32()), pyarrow.array(["a" * 2**20])
    )
    return {"input": large, "output": ["billing"] * 2_500}


def long_values(kind: str, size: int, rows: int = 60, groups: int = 10) -> bytes:
    """Groups of rows of one value, which is in the file once for each group, or packed to nothing."""
    import pyarrow
    import pyarrow.parquet

    buffer, kinds = io.BytesIO(), {"binary": pyarrow.binary(size), "text": pyarrow.string()}
    value = b"a" * size if kind == "binary" else "a" * size
    table = pyarrow.table({"input": ["a"] * rows, "output": pyarrow.array([value] * rows, kinds[kind])})
    with pyarrow.parquet.ParquetWriter(
        buffer, table.schema, compression="zstd", use_dictionary=kind == "binary", dictionary_pagesize_limit=2**30
    ) as writer:
        for _ in range(groups):
            writer.write_table(table)
    return buffer.getvalue()


def lying(packed: bytes) -> bytes:
    """The same file, whose footer says that its values take 100 bytes when unpacked."""
    import pyarrow.parquet

    footer = len(packed) - 8 - int.from_bytes(packed[-8:-4], "little")
    size = pyarrow.parquet.read_metadata(io.BytesIO(packed)).row_group(0).column(1).total_uncompressed_size
    told, short = varint(2 * size), varint(2 * 100)
    return packed[:footer] + packed[footer:].replace(told, longer(short, len(told)))


def varint(number: int) -> bytes:
    found = bytearray()
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    return bytes([*found, number])


def longer(number: bytes, size: int) -> bytes:
    """The same number in so many bytes."""
    return bytes([*(byte | 128 for byte in number), *[128] * (size - len(number) - 1), 0])


def deep_parquet() -> dict[str, Any]:
    value: Any = "a"
    for _ in range(60):
        value = [value]
    return columns(deep=[value] * len(GOOD))


def gzip_bomb(gib: float) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    part = b'{"input": "a", "output": "b"}\n' * 40_000
    parts = [packer.compress(part) for _ in range(int(gib * 2**30 / len(part)))]
    return b"".join([*parts, packer.flush()])


def bomb_of_members() -> bytes:
    """Each member is a megabyte; there are 200."""
    return gzip.compress(b"\n" * 2**20) * 200


def named(make_file: Callable[[Path], str], **keys: Any) -> Make:
    """make_file: makes what the examples are and returns its name."""

    def make(folder: Path) -> list[str]:
        task(folder, examples=make_file(folder), **keys)
        return CHECK

    return make


def fifo(folder: Path) -> str:
    os.mkfifo(folder / "pipe.jsonl")
    return "pipe.jsonl"


def link(folder: Path, target: str, name: str = "link.jsonl") -> str:
    (folder / name).symlink_to(target)
    return name


def sparse(folder: Path) -> str:
    with (folder / "a.jsonl").open("wb") as written:
        written.truncate(3 * 2**30)
    return "a.jsonl"


def loop_of_links(folder: Path) -> str:
    link(folder, "b.jsonl", "a.jsonl")
    return link(folder, "a.jsonl", "b.jsonl")


def unreadable_folder(folder: Path) -> str:
    (folder / "a.jsonl").mkdir()
    return "a.jsonl"


def preference(content: str) -> Make:
    def make(folder: Path) -> list[str]:
        task(folder, ladder=["prompting", "sft", "preference"], preferences="p.jsonl")
        (folder / "p.jsonl").write_text(content, encoding="utf-8")
        return CHECK

    return make


def schema(value: Any, output: str = "{}", score: str = "json_exact") -> Make:
    """A task with this schema of answers, whose answers are all `output`."""
    body = "\n".join(json.dumps({**row, "output": output}) for row in GOOD)
    return file("a.jsonl", body, output={"schema": value}, score=score)


PAIR = {"prompt": "a", "chosen": "b", "rejected": "c"}
WRONG_VALUES: dict[str, str] = {
    "null": "null",
    "true": "true",
    "a huge integer": "1" + "0" * 5_000,
    "a huge float": "1e999",
    "NaN": "NaN",
    "minus infinity": "-Infinity",
    "an empty list": "[]",
    "a list of null": "[null]",
    "an object": '{"a": {"b": [1]}}',
    "200 levels": "[" * 200 + "]" * 200,
    "100,000 levels": "[" * 100_000 + "]" * 100_000,
    "half of a pair": '"\\ud800"',
    "spaces": '"   "',
    "a NUL": '"a\\u0000b"',
    "a line separator": '"a\\u2028b"',
    "text of 3 MB": '"' + "a" * 3_000_000 + '"',
    "a turn without a role": '[{"content": "a"}]',
    "a turn with an unknown role": '[{"role": "root", "content": "a"}]',
    "a role of 1 MB": '[{"role": "' + "r" * 1_000_000 + '", "content": "a"}]',
    "a turn without content": '[{"role": "user"}]',
    "a turn of an image": '[{"role": "user", "content": [{"type": "image_url"}]}]',
    "10,000 turns": json.dumps([{"role": "user", "content": "a"}] * 10_000),
}
ROW_KEYS = ("input", "output", "id", "group", "passages", "messages", "tools")


def with_value(key: str, value: str) -> Make:
    values = {"input": '"a"', "output": '"billing"', key: value}
    return lines("{" + ", ".join(f'"{name}": {own}' for name, own in values.items()) + "}")


def repeated(unit: str, count: int) -> Callable[[], str]:
    return lambda: unit * count


def joined(parts: Iterable[str]) -> str:
    return "\n".join([*LINES, *parts])


CASES: dict[str, Case] = {
    "the rows as they are": Case(lines(), "accepted"),
    "JSON": Case(file("a.json", json.dumps(GOOD)), "accepted"),
    "CSV": Case(table(csv_rows), "accepted"),
    "Parquet": Case(parquet(columns), "accepted"),
    "gzip": Case(file("a.jsonl.gz", lambda: gzip.compress("\n".join(LINES).encode())), "accepted"),
    "line ends of Windows": Case(file("a.jsonl", "\r\n".join(LINES)), "accepted"),
    "a byte order mark": Case(file("a.jsonl", "\ufeff" + "\n".join(LINES)), "accepted"),
    **{
        f"{key} is {what}": Case(with_value(key, value), "either")
        for key in ROW_KEYS
        for what, value in WRONG_VALUES.items()
    },
    # what is opened
    "a device": Case(named(lambda folder: "/dev/zero"), named="/dev/zero"),
    "a link to a device": Case(named(lambda folder: link(folder, "/dev/zero"))),
    "a link to the environment": Case(named(lambda folder: link(folder, "/proc/self/environ"))),
    "a link to the memory of the process": Case(named(lambda folder: link(folder, "/proc/self/mem"))),
    "the memory of the process": Case(named(lambda folder: "/proc/self/mem")),
    "random numbers": Case(named(lambda folder: link(folder, "/dev/urandom"))),
    "standard input": Case(named(lambda folder: link(folder, "/dev/stdin"))),
    "a FIFO": Case(named(fifo), named="pipe.jsonl"),
    "a loop of links": Case(named(loop_of_links)),
    "a link to nothing": Case(named(lambda folder: link(folder, "nothing"))),
    "a folder with the name of a file": Case(named(unreadable_folder)),
    "3 GiB of nothing": Case(named(sparse), named="3,072 MiB"),
    "a name of 5,000 characters": Case(named(lambda folder: "a" * 5_000 + ".jsonl")),
    "a path of 500 folders": Case(named(lambda folder: "a/" * 500 + "a.jsonl")),
    "a name with a NUL": Case(named(lambda folder: "a\0b.jsonl")),
    "a name with a line end": Case(named(lambda folder: "a\nb.jsonl")),
    "a name of no kind": Case(file("rows", "\n".join(LINES)), named="suffix"),
    "a suffix of 200 characters": Case(file("a." + "b" * 200, "\n".join(LINES)), named="suffix"),
    "a Python file": Case(file("a.py", "print(1)"), named="suffix"),
    # bytes
    "nothing": Case(file("a.jsonl", "")),
    "spaces": Case(file("a.jsonl", " \n\n\t\n")),
    "UTF-16": Case(file("a.jsonl", "\n".join(LINES).encode("utf-16")), named="UTF-16"),
    "Latin-1": Case(file("a.jsonl", "\n".join(LINES).encode() + b'\n{"input": "\xe9", "output": "billing"}')),
    "zeros": Case(file("a.jsonl", bytes(1_000))),
    "a zip archive": Case(file("a.jsonl", b"PK\x03\x04" + bytes(200))),
    "a picture": Case(file("a.csv", b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 20)),
    "half of a surrogate pair": Case(file("a.jsonl", '{"input": "\ud800", "output": "a"}')),
    "a cut character": Case(file("a.jsonl", "\n".join(LINES).encode() + b"\xf0\x9f")),
    # JSON Lines and JSON
    "a line of 20 MB": Case(
        file("a.jsonl", lambda: joined(['{"input": "' + "a" * 20_000_000 + '", "output": "b"}'])), "either"
    ),
    "a line of 20 MB in the input": Case(
        file("a.jsonl", lambda: joined(['{"input": "' + "a b " * 5_000_000 + '", "output": "billing"}'])), "either"
    ),
    "a list of a million": Case(file("a.jsonl", lambda: joined(["[" + "1," * 1_000_000 + "1]"])), "refused"),
    "500,000 repeated keys": Case(
        file("a.jsonl", lambda: "{" + ", ".join(f'"k{n}": 1, "k{n}": 2' for n in range(250_000)) + "}"), named="twice"
    ),
    "40,000 keys": Case(row(**{f"k{n}": n for n in range(40_000)}), "accepted"),
    "40,000 other keys": Case(lines(json.dumps({f"k{n}": n for n in range(40_000)}))),
    "40,000 keys and no input": Case(file("a.jsonl", json.dumps({f"k{n}": n for n in range(40_000)}))),
    "a key of 1 MB": Case(file("a.jsonl", json.dumps({"k" * 1_000_000: 1}))),
    "a key of 1 MB twice": Case(file("a.jsonl", f'{{"{"k" * 1_000_000}": 1, "{"k" * 1_000_000}": 2}}')),
    "a key of 1 MB in the second row": Case(lines(json.dumps({"k" * 1_000_000: 1}))),
    "an id of 1 MB twice": Case(
        file("a.jsonl", "\n".join(json.dumps({**one, "id": "a" * 1_000_000}) for one in GOOD[:3]))
    ),
    "a group of 1 MB": Case(row(group="g" * 1_000_000), "either"),
    "a NUL in a line": Case(lines('{"input": "a\0", "output": "b"}')),
    "a list instead of rows": Case(file("a.jsonl", json.dumps(GOOD)), named="list"),
    "a row that is a number": Case(lines("5")),
    "a row that is text": Case(lines('"a"')),
    "a row that is cut": Case(lines('{"input": "a'), named="JSON"),
    "a trailing comma": Case(lines('{"input": "a",}'), named="JSON"),
    "single quotes": Case(lines("{'input': 'a'}"), named="JSON"),
    "a comment": Case(lines("// a"), named="JSON"),
    "a fence": Case(lines("```json"), named="JSON"),
    "two rows a line": Case(lines(f"{ROW} {ROW}"), named="JSON"),
    "100,000 open brackets": Case(file("a.json", "[" * 100_000)),
    "100,000 brackets in a list": Case(file("a.json", "[" * 100_000 + "]" * 100_000)),
    "an object instead of a list": Case(file("a.json", '{"a": 1}')),
    "a number instead of a list": Case(file("a.json", "5")),
    "a list of numbers": Case(file("a.json", "[1, 2]")),
    "an empty list": Case(file("a.json", "[]"), named="no row"),
    "a list without an end": Case(file("a.json", "[" + ROW)),
    "5,000 digits in JSON": Case(file("a.json", f'[{{"input": "a", "output": {"1" * 5_000}}}]')),
    "an exponent of 5,000 digits": Case(file("a.json", f'[{{"input": "a", "output": 1e{"1" * 5_000}}}]')),
    "-0": Case(raw_row('"n": -0'), "accepted"),
    "a float of 300 digits": Case(raw_row(f'"n": 0.{"1" * 300}'), "accepted"),
    "escapes of all kinds": Case(raw_row('"n": "\\u0041\\n\\t\\/\\\\\\""'), "accepted"),
    "a bad escape": Case(raw_row('"n": "\\x41"')),
    "a whole pair": Case(raw_row('"n": "\\ud83d\\ude00"'), "accepted"),
    "pairs and labelled rows": Case(lines(json.dumps(PAIR))),
    "pairs as examples": Case(file("a.jsonl", json.dumps(PAIR)), named="preference"),
    "a conversation that ends with the user": Case(
        file("a.jsonl", json.dumps({"messages": [{"role": "user", "content": "a"}]}))
    ),
    "a conversation without turns": Case(file("a.jsonl", '{"messages": []}')),
    "turns that are numbers": Case(file("a.jsonl", '{"messages": [1, 2]}')),
    "turns that are an object": Case(file("a.jsonl", '{"messages": {"role": "user"}}')),
    "a role that is a list": Case(file("a.jsonl", '{"messages": [{"role": [], "content": "a"}]}')),
    "a role that is an object": Case(file("a.jsonl", '{"input": [{"role": {}, "content": "a"}], "output": "a"}')),
    "history that is text": Case(file("a.jsonl", '{"instruction": "a", "output": "b", "history": "c"}')),
    "history of numbers": Case(file("a.jsonl", '{"instruction": "a", "output": "b", "history": [[1, 2]]}')),
    "segments that are text": Case(file("a.jsonl", '{"segments": "a"}')),
    "segments of numbers": Case(file("a.jsonl", '{"segments": [1]}')),
    "20,000 equal rows": Case(file("a.jsonl", lambda: (ROW + "\n") * 20_000), "either"),
    "20,000 rows of one group": Case(
        file("a.jsonl", lambda: "\n".join(json.dumps({**one, "group": "g"}) for one in GOOD * 300)), "either"
    ),
    # tables
    "40,000 columns": Case(table(lambda: ",".join(f"c{n}" for n in range(40_000)) + "\n" + "1," * 39_999 + "1\n")),
    "40,000 columns and one cell": Case(table(lambda: ",".join(f"c{n}" for n in range(40_000)) + "\n1\n")),
    "40,000 columns of one name": Case(table("a," * 39_999 + "a\n"), named="twice"),
    "40,000 columns with input and output": Case(
        table(
            lambda: (
                "input,output," + ",".join(f"c{n}" for n in range(40_000)) + "\n" + "a,billing," + "1," * 39_999 + "1\n"
            )
        ),
        "either",
    ),
    "a column of 1 MB twice": Case(table("a" * 1_000_000 + "," + "a" * 1_000_000 + "\n")),
    "a header of 1 MB and a row": Case(table("a" * 1_000_000 + ",b\n1\n")),
    "a cell of 20 MB": Case(table(lambda: f'{csv_rows()}"{"a" * 20_000_000}",billing\n'), "either"),
    "an open quote": Case(table(lambda: f'{csv_rows()}"a,billing\n'), named="quot"),
    "an open quote before 20 MB": Case(table(lambda: f'{csv_rows()}"{"a,b" * 6_000_000}'), named="quot"),
    "a quote in a cell": Case(table(lambda: f'{csv_rows()}a"b,"c"d\n')),
    "a row that is too long": Case(table(lambda: f"{csv_rows()}a,b,c\n"), named="3 cells"),
    "a row of 100,000 cells": Case(table(lambda: f"{csv_rows()}{'a,' * 100_000}\n"), named="cells"),
    "a row that is too short": Case(table(lambda: f"{csv_rows()}a\n"), named="1 cell"),
    "a header alone": Case(table("input,output\n"), named="no row"),
    "commas": Case(table("," * 1_000 + "\n")),
    "empty names": Case(table(",\na,b\n")),
    "a NUL in a table": Case(table("input,output\na\0,b\n"), named="NUL"),
    "only line ends": Case(table("\n" * 100_000)),
    "carriage returns": Case(table(lambda: csv_rows().replace("\n", "\r")), "either"),
    "formulas": Case(table('input,output\n"=cmd|calc",billing\n'), "either"),
    "semicolons": Case(table(lambda: csv_rows().replace(",", ";").replace(";", ";")), "either"),
    "tabs": Case(table(lambda: csv_rows().replace(",", "\t"), "a.tsv"), "either"),
    "TSV of quotes": Case(table("input\toutput\n" + '"' * 100_001 + "\t1\n", "a.tsv"), "either"),
    "TSV without a header": Case(table("a\tbilling\nb\tbilling\n", "a.tsv"), "either"),
    "TSV of 40,000 columns": Case(table("a\t" * 40_000 + "\n", "a.tsv")),
    "a passages cell that is no JSON": Case(table('input,output,passages\na,billing,"[a"\n')),
    # gzip
    "a gzip bomb": Case(file("a.jsonl.gz", partial(gzip_bomb, 0.15)), named="MiB"),
    "a gzip bomb of members": Case(file("a.jsonl.gz", bomb_of_members), named="MiB"),
    "gzip that is cut": Case(file("a.jsonl.gz", lambda: gzip.compress("\n".join(LINES).encode())[:-20]), named="gzip"),
    "gzip that is not": Case(file("a.jsonl.gz", "\n".join(LINES)), named="gzip"),
    "gzip of gzip": Case(file("a.jsonl.gz", lambda: gzip.compress(gzip.compress(ROW.encode())))),
    "gzip of nothing": Case(file("a.jsonl.gz", lambda: gzip.compress(b"")), named="empty"),
    "gzip of zeros": Case(file("a.jsonl.gz", lambda: gzip.compress(bytes(1_000)))),
    "gzip with a wrong sum": Case(
        file("a.jsonl.gz", lambda: gzip.compress("\n".join(LINES).encode())[:-8] + bytes(8)), named="gzip"
    ),
    "packed Parquet": Case(file("a.parquet.gz", lambda: gzip.compress(b"PAR1")), named="suffix"),
    # Parquet
    "times beyond the year 9999": Case(parquet(huge_times), named="a.parquet"),
    "text that is not UTF-8": Case(parquet(bad_text), named="a.parquet"),
    "a dictionary of bytes of one length": Case(
        file("a.parquet", lambda: long_values("binary", 4_000_000)), named="when unpacked"
    ),
    "a footer that lies": Case(file("a.parquet", lambda: lying(long_values("text", 4_000_000))), named="when unpacked"),
    "a dictionary bomb": Case(parquet(dictionary_bomb), named="a.parquet"),
    "lists in lists": Case(parquet(deep_parquet), "either"),
    "Parquet that is cut": Case(parquet(columns, lambda data: data[:-10]), named="a.parquet"),
    "Parquet without its middle": Case(parquet(columns, lambda data: data[:50] + data[-300:]), named="a.parquet"),
    "Parquet of zeros": Case(file("a.parquet", b"PAR1" + bytes(1_000) + b"PAR1"), named="a.parquet"),
    "Parquet with a huge footer": Case(
        parquet(columns, lambda data: data[:-8] + b"\xff\xff\xff\x7f" + data[-4:]), named="a.parquet"
    ),
    "Parquet that is text": Case(file("a.parquet", "\n".join(LINES)), named="a.parquet"),
    "Parquet of bytes": Case(parquet(lambda: columns(output=[b"\xff\x00"] * len(GOOD))), named="a.parquet"),
    "Parquet of 1,000 columns": Case(parquet(lambda: {f"c{n}": [1] for n in range(1_000)})),
    "Parquet of nulls": Case(parquet(lambda: columns(output=[None] * len(GOOD)))),
    # columns of the task file
    "columns that are not there": Case(lines(columns={"input": "question", "output": "answer"}), named="question"),
    "columns of 1 MB": Case(lines(columns={"input": "q" * 1_000_000, "output": "output"})),
    "20,000 columns of an input": Case(lines(columns={"input": [f"c{n}" for n in range(20_000)], "output": "output"})),
    "a group that is not there": Case(lines(split={"dev": 20, "test": 20, "group_by": "nobody"}), named="nobody"),
    # preferences
    "pairs that are cut": Case(preference('{"prompt": "a", "chosen": "b"')),
    "pairs of numbers": Case(preference('{"prompt": 1, "chosen": 2, "rejected": 3}'), "either"),
    "pairs that are equal": Case(preference('{"prompt": "a", "chosen": "b", "rejected": "b"}'), "either"),
    "pairs of nothing": Case(preference("{}")),
    "pairs of 100,000 levels": Case(preference('{"prompt": ' + "[" * 100_000 + "]" * 100_000 + "}")),
    "pairs of turns without a role": Case(preference('{"chosen": [{"content": "a"}], "rejected": [{"content": "b"}]}')),
    "labels that are words": Case(preference('{"prompt": "a", "completion": "b", "label": "good"}')),
    # schemas of answers
    "a schema of nothing": Case(schema({}), "accepted"),
    "a pattern without an end": Case(schema({"pattern": "(a+)+$"}, json.dumps("a" * 60 + "!")), "either"),
    "a pattern in an object": Case(
        schema({"properties": {"a": {"pattern": "(x|x)*y"}}}, json.dumps({"a": "x" * 60})), "either"
    ),
    "names of properties that have no end": Case(
        schema({"patternProperties": {"(a|aa)+$": {"type": "number"}}}, json.dumps({"a" * 60 + "!": 1})), "either"
    ),
    "a pattern of 10^9 letters": Case(schema({"pattern": "a{1000000000}"}), "either"),
    "a pattern that overflows": Case(schema({"pattern": "a{99999999999999999999}"}), named="does not compile"),
    "a pattern that does not compile": Case(schema({"pattern": "("}), named="regex"),
    "a pattern of 1 MB": Case(schema({"pattern": "(" * 1_000_000})),
    "a pattern of 5,000 brackets": Case(schema({"pattern": "(" * 5_000 + ")" * 5_000})),
    "a reference to another host": Case(schema({"$ref": "http://127.0.0.1:9/a.json"}), named="127.0.0.1"),
    "a reference to a file": Case(schema({"$ref": "file:///etc/passwd"}), named="file:///"),
    "a reference of 1 MB": Case(schema({"$ref": "#/" + "a" * 1_000_000})),
    "a schema that refers to itself": Case(schema({"$ref": "#"}), named="itself"),
    "a circle of references": Case(
        schema({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}), named="itself"
    ),
    "references that double 40 times": Case(
        schema(
            {
                "$defs": {
                    **{f"a{n}": {"allOf": [{"$ref": f"#/$defs/a{n + 1}"}] * 2} for n in range(40)},
                    "a40": {"type": "object"},
                },
                "$ref": "#/$defs/a0",
            }
        ),
        "either",
    ),
    "a schema of 90 levels": Case(schema(json.loads('{"not": ' * 90 + "{}" + "}" * 90)), "either"),
    "a type of 1 MB": Case(schema({"type": "a" * 1_000_000})),
    "a type that is a number": Case(schema({"type": 5}), named="5"),
    "an enumeration of 20,000": Case(schema({"enum": [f"a{n}" for n in range(20_000)]}, '"a19999"'), "either"),
    "a multiple of next to nothing": Case(schema({"multipleOf": 1e-300}, "1e300"), "either"),
    "a multiple of a huge number": Case(schema({"multipleOf": 10**300}, "1.5"), "either"),
    "300 unique items": Case(schema({"uniqueItems": True}, json.dumps([{"a": n} for n in range(300)])), "either"),
    "a draft of nobody": Case(schema({"$schema": "urn:nobody"}), "either"),
    "a draft that is a list": Case(schema({"$schema": []}), named="$schema"),
    "an id of another host": Case(schema({"$id": "http://[", "$ref": "a"}), "either"),
    "an answer of 90 levels": Case(schema({"type": "array"}, "[" * 90 + "]" * 90), "accepted"),
    "an answer of 100,000 levels": Case(schema({}, "[" * 100_000 + "]" * 100_000), "either"),
    "40,000 answers that break the schema": Case(
        schema({"required": ["a"]}, json.dumps({f"k{n}": 1 for n in range(2_000)})), "either"
    ),
}
