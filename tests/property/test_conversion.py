"""Rows come back as they were from every shape and kind of file that holds them, and streams read what `read_rows` reads."""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lastresort.data.conversion.content import RowContent, SourceShape, Turns, source_shape
from lastresort.data.conversion.convert import ConversionCounts, ShapeChange, in_new_shape, row_contents
from lastresort.data.conversion.sinks import SINKS, row_sink
from lastresort.data.conversion.streams import stream_rows
from lastresort.data.conversion.writers import WRITERS, RowTrait, traits_of
from lastresort.data.files import read_rows
from lastresort.data.formats.rows import RawRow
from lastresort.errors import DataError
from lastresort.interop.llamafactory.dataset_info import DataSetEntry, RowColumns
from lastresort.interop.llamafactory.turns import AlignedRow, align
from lastresort.types import JsonObject, Message

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12).filter(
    lambda text: text.strip() != ""
)
EXTRAS = st.one_of(st.just({}), st.fixed_dictionaries({"name": TEXTS}))
KINDS = ("examples", "pairs", "labels")


def turn(role: str, texts: st.SearchStrategy[str] = TEXTS) -> st.SearchStrategy[Message]:
    return st.builds(Message, st.just(role), texts, EXTRAS)


@st.composite
def contents(draw: st.DrawFn, kind: str, plain: bool = False) -> RowContent:
    """plain: one question, one answer, as a table holds them."""
    texts = st.builds(Message, st.just("user"), TEXTS)
    answer = st.tuples(st.builds(Message, st.just("assistant"), TEXTS))
    prompt: Turns = (draw(texts),)
    if not plain and draw(st.booleans()):
        answer = st.tuples(turn("assistant"))
        earlier = draw(st.lists(st.sampled_from(["user", "assistant", "tool"]), max_size=4))
        prompt = (*(draw(turn(role)) for role in earlier), *draw(st.tuples(turn("user"))))
        prompt = (*([draw(turn("system"))] if draw(st.booleans()) else []), *prompt)
        if draw(st.booleans()):
            answer = st.tuples(turn("assistant"), turn("tool"), turn("assistant"))
    elif not plain and draw(st.booleans()):
        history = draw(st.lists(st.tuples(TEXTS, TEXTS), max_size=2))
        turns = [
            Message(role, text) for pair in history for role, text in zip(("user", "assistant"), pair, strict=True)
        ]
        prompt = (*([Message("system", draw(TEXTS))] if draw(st.booleans()) else []), *turns, *prompt)
    answers = tuple(draw(answer) for _ in range(2 if kind == "pairs" else 1))
    if kind == "pairs" and answers[0] == answers[1]:
        answers = (answers[0], (*answers[1][:-1], Message("assistant", answers[1][-1].content + "!")))
    label = draw(st.booleans()) if kind == "labels" else None
    further: JsonObject = draw(st.fixed_dictionaries({}, optional={"group": TEXTS, "origin": TEXTS}))
    return RowContent(prompt, answers, label, further, RawRow({}, 1, "made, row 1"))


def said(content: RowContent, *, in_table: bool = False) -> tuple[object, ...]:
    """What must come back. in_table: spaces around an answer are nobody's, and an empty cell is no cell."""
    answers = content.answers
    if in_table:
        answers = tuple(tuple(Message(t.role, t.content.strip(), t.extra) for t in answer) for answer in answers)
    further = {key: value for key, value in content.further.items() if value not in (None, "")}
    return content.prompt, answers, content.label, further


def held_by(name: str, content: RowContent) -> bool:
    return set(traits_of(content)) <= WRITERS[name].holds


def write(path: Path, rows: Sequence[JsonObject]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def converted(path: Path, to: str) -> list[JsonObject]:
    change, counts = ShapeChange(to), ConversionCounts()
    return [in_new_shape(content, change, counts) for content in row_contents(stream_rows(path), change, counts)]


@pytest.mark.sampled(3)
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_every_pair_of_shapes_that_hold_a_row_gives_it_back(kind: str, data: st.DataObject) -> None:
    content = data.draw(contents(kind))
    names = [name for name, writer in WRITERS.items() if writer.kind == kind and held_by(name, content)]
    assert f"{'preference' if kind == 'pairs' else 'kto' if kind == 'labels' else 'prompt-completion'}-chat" in names
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        for first in names:
            rows = [{**WRITERS[first].write(content), **content.further}]
            write(path, rows)
            (read,) = (source_shape(row).content(row) for row in stream_rows(path))
            assert said(read) == said(content), first
            for second in names:
                write(path, rows)
                write(path, converted(path, second))
                assert converted(path, first) == rows, (first, second)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", ["alpaca", "sharegpt", "ranking"])
@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_llama_factory_drops_no_row_that_a_shape_of_its_own_holds(name: str, data: st.DataObject) -> None:
    """As its converter does in the released package, by our reader of its data sets."""
    kind = WRITERS[name].kind
    content = data.draw(contents(kind).filter(lambda content: held_by(name, content)))
    columns = RowColumns(system="system", history="history") if name == "alpaca" else RowColumns()
    entry = DataSetEntry("a", (), columns=columns)
    if name != "alpaca":
        chosen = {"chosen": "chosen", "rejected": "rejected"} if kind == "pairs" else {}
        entry = DataSetEntry("a", (), formatting="sharegpt", ranking=kind == "pairs", columns=RowColumns(**chosen))
    row = align(entry, "dpo" if kind == "pairs" else "sft", RawRow(WRITERS[name].write(content), 1, "row 1"))
    assert isinstance(row, AlignedRow), row
    turns = [(turn.role, turn.content) for turn in content.prompt if turn.role != "system"]
    assert [(turn.role, turn.text) for turn in row.prompt] == turns
    assert [turn.text for turn in row.answers] == [answer[0].content for answer in content.answers]


@pytest.mark.sampled(4)
@pytest.mark.parametrize("suffix", [*SINKS, ".jsonl.gz", ".csv.gz"])
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_every_kind_of_file_gives_its_rows_back(suffix: str, data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(KINDS))
    table = suffix.startswith((".csv", ".tsv"))
    drawn = data.draw(st.lists(contents(kind, plain=table), min_size=1, max_size=4))
    names = [n for n, w in WRITERS.items() if w.kind == kind and all(held_by(n, content) for content in drawn)]
    if table:
        names = [n for n in names if n in ("input-output", "prompt-completion", "alpaca", "preference", "kto")]
    name = data.draw(st.sampled_from(names))
    if table or suffix == ".parquet":  # all rows with the same columns
        drawn = [RowContent(c.prompt, c.answers, c.label, {"group": "g"}, c.row) for c in drawn]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"rows{suffix}"
        with row_sink(path) as sink:
            for content in drawn:
                sink.write({**WRITERS[name].write(content), **content.further}, "made")
        rows = list(stream_rows(path))
        assert [row.values for row in rows] == [row.values for row in read_rows(path)]
        source = source_shape(rows[0])
        read = [said(source.content(row), in_table=table) for row in rows]
        assert read == [said(content, in_table=table) for content in drawn]


SEEDS = {
    "a.jsonl": b'{"input": "a\\u2028", "output": "b"}\n\n{"input": "x", "output": {"y": [1, 2.5]}}\r\n',
    "b.jsonl": b'\xef\xbb\xbf{"input": "\xc3\xa9", "output": "b"}\n',
    "a.csv": b'input,output,id\n"a ""b""\r\nc",d,1\n\ne,f,2\n',
    "b.csv": b'\n\xef\xbb\xbfinput;output\r"a;\rb";c\rd;"e\n"\r',
}
PIECES = [
    b"\0",
    b"\xff",
    b'"',
    b'""',
    b"[",
    b"{",
    b"}",
    b"\n",
    b"\r",
    b"\r\n",
    b",",
    b";",
    b"\t",
    b" ",
    b"\\u",
    b"\xef\xbb\xbf",
]


@pytest.mark.parametrize("name", SEEDS)
def test_a_stream_reads_what_a_whole_file_gives_and_refuses_what_it_refuses(name: str, tmp_path: Path) -> None:
    dice, path, read = random.Random(name), tmp_path / name, 0
    for _ in range(400):
        content = bytearray(SEEDS[name])
        for _ in range(dice.randrange(4)):
            place = dice.randrange(len(content) + 1)
            content[place : place + dice.randrange(3)] = dice.choice(PIECES)
        path.write_bytes(content)
        try:
            whole = read_rows(path)
        except DataError:
            with pytest.raises(DataError):
                list(stream_rows(path))
            continue
        assert list(stream_rows(path)) == whole, bytes(content)
        read += 1
    assert read > 60


def test_every_part_that_a_row_can_have_is_refused_by_some_shape_and_held_by_another() -> None:
    for kind in KINDS:
        holds: list[frozenset[RowTrait]] = [writer.holds for writer in WRITERS.values() if writer.kind == kind]
        assert frozenset.union(*holds) >= {
            "system",
            "turns",
            "order",
            "blank",
            "keys",
            "answer keys",
            "tools",
            "answers",
        }
        assert frozenset() in holds


def test_a_source_shape_is_known_by_the_keys_of_a_row() -> None:
    def kind(**values: object) -> SourceShape:
        return source_shape(RawRow(values, 1, "row 1"))

    assert kind(text="a", label=1).kind == "examples"
    assert kind(prompt="a", completion="b", label=1).kind == "labels"
    assert kind(messages=[], label="spam").kind == "examples"
    assert kind(chosen="a", rejected="b", prompt="c", label=True).kind == "pairs"
