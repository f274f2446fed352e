"""Files become examples, whatever their type and shape; what is wrong is named by file, row and key."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from lastresort import apart
from lastresort.data import arrow, files
from lastresort.data.check import check_data
from lastresort.data.conversion.streams import stream_rows
from lastresort.data.files import read_rows
from lastresort.data.formats import SHAPES
from lastresort.data.read import read_examples
from lastresort.errors import DataError
from lastresort.types import Example, Message


def written(folder: Path, name: str, text: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def lines(folder: Path, *rows: dict[str, Any]) -> Path:
    return written(folder, "rows.jsonl", "\n".join(json.dumps(row) for row in rows) + "\n")


def one(folder: Path, row: dict[str, Any]) -> Example:
    (example,) = read_examples(lines(folder, row))
    return example


USER = Message("user", "Where is it?")
SHAPE_ROWS: list[tuple[dict[str, Any], tuple[Message, ...], str]] = [
    ({"input": "Where is it?", "output": "here"}, (USER,), "here"),
    ({"text": "Where is it?", "label": "here"}, (USER,), "here"),
    ({"question": "Where is it?", "answer": "here"}, (USER,), "here"),
    ({"prompt": "Where is it?", "completion": "here"}, (USER,), "here"),
    ({"prompt": "Where is it?", "response": "here"}, (USER,), "here"),
    (
        {
            "prompt": [{"role": "user", "content": "Where is it?"}],
            "completion": [{"role": "assistant", "content": "here"}],
        },
        (USER,),
        "here",
    ),
    ({"instruction": "Find.", "input": "it", "output": "here"}, (Message("user", "Find.\n\nit"),), "here"),
    ({"instruction": "Where is it?", "input": "", "output": "here"}, (USER,), "here"),
    (
        {"instruction": "And now?", "output": "gone", "system": "Be brief.", "history": [["Where is it?", "here"]]},
        (Message("system", "Be brief."), USER, Message("assistant", "here"), Message("user", "And now?")),
        "gone",
    ),
    (
        {
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "Where is it?"},
                {"role": "assistant", "content": "here"},
                {"role": "user", "content": [{"type": "text", "text": "And now?"}]},
                {"role": "assistant", "content": "gone"},
            ]
        },
        (Message("system", "Be brief."), USER, Message("assistant", "here"), Message("user", "And now?")),
        "gone",
    ),
    (
        {
            "system": "Be brief.",
            "conversations": [{"from": "human", "value": "Where is it?"}, {"from": "gpt", "value": "here"}],
        },
        (Message("system", "Be brief."), USER),
        "here",
    ),
]


@pytest.mark.parametrize(("row", "turns", "output"), SHAPE_ROWS)
def test_every_shape_is_recognised(
    tmp_path: Path, row: dict[str, Any], turns: tuple[Message, ...], output: str
) -> None:
    example = one(tmp_path, row)
    assert (example.input, example.output) == (turns, output)


def test_the_rows_above_cover_the_table() -> None:
    fitting = {next(name for name, shape in SHAPES.items() if shape.fits(frozenset(row))) for row, _, _ in SHAPE_ROWS}
    assert fitting == set(SHAPES)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"b": 1, "a": "ü"}, '{"b":1,"a":"ü"}'),
        ([1, 2], "[1,2]"),
        (3, "3"),
        (False, "false"),
        (0, "0"),
        (" yes", " yes"),
    ],
)
def test_an_output_that_is_not_text_becomes_compact_json(tmp_path: Path, value: Any, text: str) -> None:
    assert one(tmp_path, {"input": "a", "output": value}).output == text


def test_an_object_as_input_is_json_and_a_list_of_turns_is_turns(tmp_path: Path) -> None:
    assert one(tmp_path, {"input": {"b": 1, "a": 2}, "output": "x"}).input_text == '{"b":1,"a":2}'
    turns = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    assert one(tmp_path, {"input": turns, "output": "x"}).input == (Message("system", "s"), Message("user", "u"))


def test_tool_turns_keep_what_the_template_needs(tmp_path: Path) -> None:
    call = [{"type": "function", "function": {"name": "now", "arguments": {}}}]
    turns = [
        {"role": "user", "content": "time?"},
        {"role": "assistant", "content": None, "tool_calls": call},
        {"role": "tool", "name": "now", "content": "12:00"},
        {"role": "assistant", "content": "noon"},
    ]
    example = one(tmp_path, {"messages": turns})
    assert example.input[1] == Message("assistant", "", {"tool_calls": call})
    assert example.input[2].extra == {"name": "now"}
    assert example.output == "noon"


def test_ids_groups_passages_row_and_source(tmp_path: Path) -> None:
    path = lines(
        tmp_path,
        {"id": 7, "input": "a", "output": "x", "group": "g", "passages": ["d#1"], "who": 1},
        {"input": "b", "output": "x", "who": 2},
    )
    first, second = read_examples(path)
    assert (first.id, first.group, first.passages, first.row, first.source) == ("7", "g", ("d#1",), 1, str(path))
    assert (second.group, second.passages, second.row) == (None, (), 2)
    assert [example.group for example in read_examples(path, group_by="who")] == ["1", "2"]


def test_default_ids_follow_the_content_not_the_place(tmp_path: Path) -> None:
    rows = [{"input": "a", "output": "x"}, {"input": "b", "output": "x"}, {"input": "a", "output": "x"}]
    forward = [example.id for example in read_examples(lines(tmp_path, *rows))]
    backward = [example.id for example in read_examples(lines(tmp_path, *rows[::-1]))]
    assert set(forward) == set(backward)
    assert len(set(forward)) == 3
    assert forward[0].endswith("-1")
    assert forward[2] == forward[0][:-1] + "2"
    assert one(tmp_path, {"input": "a", "output": "y"}).id != forward[0]


def test_blank_lines_count_as_rows_of_the_file_but_hold_none(tmp_path: Path) -> None:
    path = written(tmp_path, "a.jsonl", '{"input":"a","output":"x"}\r\n\r\n{"input":"b\u2028c","output":"x"}\n')
    assert [(example.row, example.input_text) for example in read_examples(path)] == [(1, "a"), (3, "b\u2028c")]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.json", '[{"input": "ä,\\n1", "output": "x"}]'),
        ("a.json", '{"input": "ä,\\n1", "output": "x"}\n{"input": "b", "output": "y"}\n'),
        ("a.ndjson", '\ufeff{"input": "ä,\\n1", "output": "x"}'),
        ("a.csv", 'input,output\n"ä,\n1",x\n'),
        ("a.csv", '\ufeffInput;OUTPUT\r\n"ä,\n1";x\r\n\r\n'),
        ("a.tsv", 'text\tlabel\n"ä,\n1"\tx\n'),
    ],
)
def test_file_types(tmp_path: Path, name: str, text: str) -> None:
    plain = read_examples(written(tmp_path, name, text))
    assert (plain[0].input_text, plain[0].output, plain[0].row) == ("ä,\n1", "x", 1)
    packed = read_examples(written(tmp_path, name + ".gz", gzip.compress(text.encode())))
    assert [(e.id, e.output) for e in packed] == [(e.id, e.output) for e in plain]


def test_a_row_of_a_table_has_one_name(tmp_path: Path) -> None:
    """In an error that reading raises, in one that is raised later, and in what the check of the data finds."""
    rows, named = 'id,input,output\n1,"a\nb",x\n', "row 2 (line 4)"
    with pytest.raises(DataError) as empty:
        read_examples(written(tmp_path, "a.csv", f"{rows}2,c,\n"))
    assert f'a.csv, {named}, key "output": ' in str(empty.value)
    with pytest.raises(DataError) as twice:
        read_examples(written(tmp_path, "b.csv", f"{rows}1,c,y\n"))
    assert f'b.csv, {named}, key "id": found "1", which is also the id of row 1 (line 2) of b.csv' in str(twice.value)
    others = ('{"prompt": "a", "completion": "b"}', "in"), ('{"input": "a"}', "the keys of")
    for other, said in others:
        with pytest.raises(DataError, match=rf"{said} row 1 of d\.jsonl"):
            read_examples(written(tmp_path, "d.jsonl", f'{{"input": "a", "output": "b"}}\n{other}\n'))
    examples = read_examples(written(tmp_path, "c.csv", f"{rows}2,A B,y\n"))
    assert examples[1].place == f"{tmp_path / 'c.csv'}, {named}"
    report = check_data(examples, (), (), count_tokens=None, context_tokens=None, choices=None, json_schema=None)
    (finding,) = (one for one in report.findings if one.kind == "exact_duplicates")
    assert [str(place) for place in finding.places[0]] == [
        "row 1 (line 2) of c.csv in train",
        f"{named} of c.csv in train",
    ]


def test_parquet_with_nested_turns(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    turns = [{"role": "user", "content": "a", "name": None}, {"role": "assistant", "content": "x", "name": "bot"}]
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([{"messages": turns}]), path)
    (example,) = read_examples(path)
    assert (example.input, example.output) == ((Message("user", "a"),), "x")


def test_tsv_without_header_is_read_where_a_label_recurs(tmp_path: Path) -> None:
    path = written(tmp_path, "a.tsv", "play jazz\tPlayMusic\nbook a table\tBook\nplay rock\tPlayMusic\n")
    assert [(e.row, e.input_text, e.output) for e in read_examples(path)] == [
        (1, "play jazz", "PlayMusic"),
        (2, "book a table", "Book"),
        (3, "play rock", "PlayMusic"),
    ]
    with pytest.raises(DataError, match="first line of a table must name its columns"):
        read_examples(written(tmp_path, "b.tsv", "play jazz\tPlayMusic\nbook a table\tBook\n"))
    with pytest.raises(DataError, match="first line of a table must name its columns"):
        read_examples(written(tmp_path, "b.csv", "play jazz,PlayMusic\nplay rock,PlayMusic\n"))


def test_tsv_with_loose_quotes_is_read_as_it_stands(tmp_path: Path) -> None:
    path = written(tmp_path, "a.tsv", 'text\tlabel\n"Hello" he said\tx\n5" pipe\ty\n')
    assert [example.input_text for example in read_examples(path)] == ['"Hello" he said', '5" pipe']


@pytest.mark.parametrize("kind", ["csv", "tsv"])
def test_a_cell_may_be_as_long_as_a_document(kind: str, tmp_path: Path) -> None:
    import csv

    before, mark = csv.field_size_limit(), {"csv": ",", "tsv": "\t"}[kind]
    path = tmp_path / f"a.{kind}"
    path.write_text(f'input{mark}output\n"{"word " * 50_000}"{mark}x\nshort{mark}y\n')
    assert [len(item.input_text) for item in read_examples(path)] == [250_000, 5]
    path.write_bytes(path.read_bytes() + b"\xff")
    with pytest.raises(DataError, match="row 2"):
        read_examples(path)
    assert csv.field_size_limit() == before


BAD: list[tuple[str, str | bytes, list[str]]] = [
    ("a.jsonl", "", ["a.jsonl", "empty file"]),
    ("a.jsonl", " \n\n", ["empty file"]),
    ("a.json", "[]", ["no row"]),
    ("a.csv", "input,output\n", ["no row"]),
    ("a.csv", ",,\n,,\n", ["no row"]),
    ("a.txt", "hello", ['".txt"', ".jsonl", ".parquet"]),
    ("a.parquet", "hello", ["not Parquet"]),
    ("a.jsonl.gz", b"hello", ["broken gzip"]),
    ("a.jsonl", '{"input":"a","output":"x"}\n{"input":"b" "output":"x"}\n', ["row 2: found invalid JSON at column 14"]),
    (
        "a.json",
        '[{"input":"a","output":"x"},\n {"input":"b" "output":"x"}]',
        ["found invalid JSON at line 2, column 15"],
    ),
    ("a.json", '{"input":"a","output":"x"}', ["an object instead of a list"]),
    ("a.json", "3", ["a number (3) instead of a list"]),
    ("a.json", '[{"input":"a","output":"x"}, "b"]', ["row 2", "found text", "object"]),
    ("a.jsonl", '[{"input":"a","output":"x"}]', ["JSON list", ".json"]),
    ("a.jsonl", '{"input":"a","input":"b","output":"x"}', ["row 1", '"input" twice']),
    ("a.jsonl", '{"input":"a","output":NaN}', ["row 1", "NaN"]),
    ("a.jsonl", '{"instruction":"a","output":"x","history":5}', ["row 1", '"history"', "a number (5)", "a list"]),
    ("a.jsonl", '{"instruction":"a","output":"x","history":"hi"}', ['"history"', "found text", "a list"]),
    ("a.jsonl", '{"instruction":"a","output":"x","history":{"a":1}}', ['"history"', "an object", "a list"]),
    (
        "a.jsonl",
        b'{"input":"a","output":"x"}\n{"input":"caf\xe9","output":"x"}\n',
        ["row 2", "0xe9", "offset 40", "UTF-8"],
    ),
    ("a.csv", b'input,output\n"a\nb",x\ncaf\xe9,y\n', ["row 2 (line 4)", "0xe9", "offset 24"]),
    ("a.csv", b"\xef\xbb\xbfinput,output\ncaf\xe9,y\n", ["row 1 (line 2)", "0xe9", "offset 19"]),
    ("a.tsv", 'input\toutput\n"a\tx\nb\n', ["row 1 (line 2)", "quoting error"]),
    ("a.csv", "input,output\na,x\n".encode("utf-16"), ["UTF-16", "0xff"]),
    ("a.csv", 'input,output\na,x\n"b,y\nc,z\n', ["row 2 (line 3)", "quoting error"]),
    ("a.csv", 'input,output\n"a"b,x\n', ["row 1 (line 2)", "quoting error"]),
    ("a.csv", "input,output\na,x\nb\n", ["row 2 (line 3)", "found 1 cell,", "expected 2"]),
    ("a.csv", "input,output\na,x,y\n", ["row 1 (line 2)", "found 3 cells", "expected 2"]),
    ("a.csv", "input,input\na,x\n", ['"input" twice', "header"]),
    ("a.csv", "input,output\na,\n", ["row 1 (line 2)", '"output"', "empty text"]),
    (
        "a.csv",
        "ticket,team\na,b\n",
        ["keys team, ticket", "name its columns", "columns: {input: COLUMN, output: COLUMN}"],
    ),
    ("a.csv", "input,output\na\0,b\n", ["NUL", "line 2"]),
    ("a.jsonl", '{"input":"a","output":"x"}\n{"input":"b"}', ["row 2", 'key "output"', "keys of row 1"]),
    ("a.jsonl", '{"input":"a","output":"x"}\n{"prompt":"b","completion":"x"}', ["row 2", "prompt/completion", "row 1"]),
    ("a.jsonl", '{"input":"a","output":null}', ["row 1", '"output"', "null"]),
    ("a.jsonl", '{"input":"a","output":"  "}', ["row 1", '"output"', "empty text"]),
    ("a.jsonl", '{"input":"","output":"x"}', ["row 1", '"input"', "empty text"]),
    ("a.jsonl", '{"input":{},"output":"x"}', ["row 1", '"input"', "an object"]),
    ("a.jsonl", '{"text":"a","question":"b","label":"x"}', ["row 1", "keys label, question, text"]),
    (
        "a.jsonl",
        '{"id":"1","input":"a","output":"x"}\n{"id":1,"input":"b","output":"x"}',
        ["row 2", '"id"', "id of row 1"],
    ),
    ("a.jsonl", '{"id":[1],"input":"a","output":"x"}', ["row 1", '"id"', "a list of 1"]),
    ("a.jsonl", '{"input":"a","output":"x","passages":[1]}', ["row 1", '"passages"']),
    ("a.jsonl", '{"prompt":"a","chosen":"x","rejected":"y"}', ["row 1", "preference pairs", "`preferences:`"]),
    ("a.jsonl", '{"prompt":"a","completion":"x","label":true}', ["row 1", '"label"', "`preferences:`"]),
    ("a.jsonl", '{"messages":"hi"}', ["row 1", '"messages"', "list of turns"]),
    ("a.jsonl", '{"messages":[{"role":"user","content":"a"}]}', ["row 1", "last turn of the user"]),
    ("a.jsonl", '{"messages":[{"role":"assistant","content":"a"}]}', ["row 1", "no user turn"]),
    ("a.jsonl", '{"messages":[{"role":"bot","content":"a"}]}', ["messages[0].role", '"bot"']),
    (
        "a.jsonl",
        '{"messages":[{"role":"user","content":[{"type":"image"}]},{"role":"assistant","content":"a"}]}',
        ["messages[0].content", "list of text parts"],
    ),
    (
        "a.jsonl",
        '{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"x","tool_calls":[1]}]}',
        ["row 1", "calls a tool"],
    ),
    ("a.jsonl", '{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":" "}]}', ["empty answer"]),
    ("a.jsonl", '{"conversations":[{"from":"alien","value":"a"}]}', ["conversations[0].from", '"alien"']),
    ("a.jsonl", '{"tools":[{}],"input":"a","output":"x"}', ['"tools"', "chat_template_kwargs"]),
]


@pytest.mark.parametrize(("name", "text", "said"), BAD)
def test_errors_say_where_what_and_what_to_do(tmp_path: Path, name: str, text: str | bytes, said: list[str]) -> None:
    path = written(tmp_path, name, text)
    with pytest.raises(DataError) as caught:
        read_examples(path)
    message = str(caught.value)
    for words in [str(path), *said]:
        assert words in message
    assert caught.value.remedy or caught.value.expected


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_examples(tmp_path / "none.jsonl")
    (tmp_path / "folder.jsonl").mkdir()
    with pytest.raises(DataError, match="found a folder"):
        read_examples(tmp_path / "folder.jsonl")


@pytest.mark.parametrize("second", [{}, {"customer": None}, {"customer": ""}])
def test_a_missing_group_is_an_error_for_that_row(tmp_path: Path, second: dict[str, Any]) -> None:
    path = lines(tmp_path, {"input": "a", "output": "x", "customer": "c"}, {"input": "b", "output": "x", **second})
    with pytest.raises(DataError, match=r'row 2, key "customer"'):
        read_examples(path, group_by="customer")


def test_two_columns_of_one_name_are_refused_in_parquet_and_arrow_too(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.table([["a"], ["b"], ["1"]], names=["input", "output", "input"])
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    with pyarrow.OSFile(str(tmp_path / "a.arrow"), "wb") as file, pyarrow.ipc.new_file(file, table.schema) as writer:
        writer.write(table)
    content = (tmp_path / "a.arrow").read_bytes()
    for read in (
        lambda: read_rows(tmp_path / "a.parquet"),
        lambda: list(stream_rows(tmp_path / "a.parquet")),
        lambda: arrow.arrow_rows(content, tmp_path / "a.arrow"),
    ):
        with pytest.raises(DataError, match='found the column "input" twice'):
            read()


def parquet_of(folder: Path, columns: dict[str, object]) -> Path:
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table(columns), folder / "a.parquet")
    return folder / "a.parquet"


def test_a_text_that_many_rows_of_parquet_share_counts_for_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is in the file once, and in memory as often as there are rows."""
    import pyarrow

    shared = pyarrow.DictionaryArray.from_arrays(
        pyarrow.array([0] * 100, pyarrow.int32()), pyarrow.array(["a" * 100_000])
    )
    nested = pyarrow.array([[["b" * 100_000]]] * 100)
    for columns in ({"input": shared}, {"input": nested}, {"input": pyarrow.array([{"c": "d" * 100_000}] * 100)}):
        path = parquet_of(tmp_path, columns)
        assert path.stat().st_size < 200_000
        monkeypatch.setattr(arrow, "ROWS", 20_000_000)
        assert len(read_rows(path)) == 100
        monkeypatch.setattr(arrow, "ROWS", 5_000_000)
        with pytest.raises(DataError, match=r"a\.parquet: found \d+ MiB or more when unpacked, expected at most 4 MiB"):
            read_rows(path)


@pytest.mark.slow
def test_parquet_is_counted_elsewhere_within_a_limit_of_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A footer can lie, and what it says must not be what this process allocates: not even for the rows looked at together."""
    path = parquet_of(tmp_path, {"input": [f"{number:03}" + "a" * 1_000_000 for number in range(100)]})
    monkeypatch.setattr(arrow, "_said_bytes", lambda content: 0)
    monkeypatch.setattr(arrow, "MOST_BYTES", 2**28)
    apart._process.cache_clear()  # one that has read before keeps memory, in which the rows may fit
    with pytest.raises(
        DataError, match=r"a\.parquet: reading it takes more than 0 GiB of memory, expected rows that fit"
    ):
        read_rows(path)
    monkeypatch.setattr(arrow, "MOST_BYTES", 2**33)
    assert len(read_rows(path)) == 100


def test_a_value_of_parquet_that_python_cannot_hold_is_a_sentence(tmp_path: Path) -> None:
    import pyarrow

    path = parquet_of(tmp_path, {"input": ["a"], "when": pyarrow.array([2**62], pyarrow.timestamp("ms"))})
    with pytest.raises(DataError, match=r"a\.parquet: found a file that is not Parquet or is damaged"):
        read_rows(path)


def test_a_value_of_eleven_million_characters_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("input,output\n" + "a" * 11_000_000 + ",b\n")
    with pytest.raises(DataError, match=r'a\.csv, row 1 \(line 2\), key "input": found 11,000,000 characters'):
        read_rows(tmp_path / "a.csv")


@pytest.mark.parametrize(
    ("source", "target"),
    [("input", "output"), ("prompt", "response"), ("instruction", "output"), ("question", "answer")],
)
def test_all_empty_cells_are_told_at_once(tmp_path: Path, source: str, target: str) -> None:
    rows = [
        {source: "a", target: "x"},
        {source: "", target: None},
        {source: "b", target: "y"},
        {source: None, target: []},
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    with pytest.raises(DataError) as refused:
        read_examples(path)
    assert f'row 2, key "{source}": found empty text (1 more like it, in row 4; 1 in key "{target}", in row 2)' in str(
        refused.value
    )


@pytest.mark.parametrize(("name", "named"), [("rows.csv", True), ("rows.jsonl", False)])
def test_a_table_that_is_not_utf8_is_told_how_a_spreadsheet_saves_it(tmp_path: Path, name: str, named: bool) -> None:
    (tmp_path / name).write_bytes('text,label\n"café",a\n'.encode("latin-1"))
    with pytest.raises(DataError, match="found byte 0xe9") as refused:
        read_examples(tmp_path / name)
    assert ('Save the file as UTF-8 (in Excel: "CSV UTF-8", from Latin-1: `iconv' in str(refused.value)) is named


def test_of_json_lines_no_more_is_read_than_the_first_rows_need(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [f'{{"input": "é {n}"}}' for n in range(9)]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n\n".join(lines) + "\nno JSON")
    monkeypatch.setattr(files, "_HEAD", 100)
    found = files.first_rows(path, 3)
    assert [(row.number, row.values["input"]) for row in found] == [(1, "é 0"), (3, "é 1"), (5, "é 2")]
    with pytest.raises(DataError, match="row 18"):
        files.first_rows(path, 9)  # more than the head holds: all of it is read
    path.write_text("\n".join(lines))
    assert [row.number for row in files.first_rows(path, 20)] == list(range(1, 10))


def test_the_first_rows_of_a_table_are_those_of_all(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("a,b\n" + "1,2\n" * 9)
    assert files.first_rows(path, 4) == files.read_rows(path)[:4]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        (
            "a.jsonl",
            '{"input": "a", "output": "b"}\n{"input": "a"\n',
            "a.jsonl, row 2: found invalid JSON at column 14 (",
        ),
        ("a.jsonl", '{"input": "a" "b"}\r\n', "a.jsonl, row 1: found invalid JSON at column 15 ("),
        ("a.json", '[{"input": "a",\n  "output": }]\n', "a.json: found invalid JSON at line 2, column 13 ("),
        ("a.json", '[{"input": "a"', "a.json: found invalid JSON at column 15 ("),
    ],
)
def test_where_json_ends_or_breaks_is_said_once(name: str, text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8", newline="")
    with pytest.raises(DataError) as error:
        read_rows(tmp_path / name)
    assert said in str(error.value)
