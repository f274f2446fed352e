"""`lastresort data convert`: what a shape cannot hold is refused, or dropped and counted; other programs read what is written."""

from __future__ import annotations

import errno
import gc
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from data_support import CHATML, word_tokenizer
from lastresort.app.data_convert import convert_file
from lastresort.cli.data import convert_command
from lastresort.data.conversion.writers import TRAITS, WRITERS, RowTrait
from lastresort.data.files import read_rows
from lastresort.data.read import read_examples
from lastresort.errors import DataError, InfrastructureError, InputError, StopRequestedError
from lastresort.interop.llamafactory.dataset_info import DataSetEntry, RowColumns
from lastresort.interop.llamafactory.keys import Stage
from lastresort.interop.llamafactory.turns import AlignedRow, align
from lastresort.report.words.data_files import ConvertedFile
from lastresort.stop import StopRequest
from lastresort.types import SilentProgress

TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "hi"},
    {"role": "assistant", "content": "yo"},
    {"role": "user", "content": "when"},
    {"role": "assistant", "content": "noon"},
]
PAIR = {"prompt": "when", "chosen": "noon", "rejected": "xyzzy"}


def file_of(folder: Path, *rows: dict[str, Any], name: str = "rows.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def convert(path: Path, to: str, **options: Any) -> ConvertedFile:
    return convert_file(path, to, SilentProgress(), **options)


def written(found: ConvertedFile) -> list[dict[str, Any]]:
    return [json.loads(line) for line in found.path.read_text().splitlines()]


@pytest.mark.parametrize(
    ("rows", "to", "said"),
    [
        ([{"messages": TALK[1:3]}, {"messages": TALK}], "kto", "row 1: found one answer a row"),
        ([{"messages": TALK[1:3]}, {"messages": TALK}], "prompt-completion", 'row 2, key "messages": found a system prompt'),
        ([{"messages": TALK[1:]}], "prompt-completion", 'row 1, key "messages": found several turns before the answer'),
        ([{"messages": TALK[1:3], "tools": [{"a": 1}]}], "alpaca", 'row 1, key "tools": found a list of tools'),
        ([{"messages": [{**TALK[1], "name": "Kim"}, TALK[2]]}], "sharegpt", "found a turn with keys besides role"),
        ([{"messages": [TALK[1], {**TALK[2], "weight": 0}]}], "sharegpt", "found an answer with keys besides role"),
        ([{"messages": [TALK[1], TALK[0], TALK[2]]}], "sharegpt", "do not alternate between question and answer"),
        ([{"messages": [TALK[1], TALK[1], TALK[2]]}], "alpaca", "do not alternate between question and answer"),
        ([{"messages": [{**TALK[1], "name": "Kim"}, {**TALK[2], "weight": 0}]}], "sharegpt", "Write messages or prompt"),
        ([{"input": "a", "output": "b", "label": 3}], "messages", 'key "label": found a column that would mean something else'),
        ([{"instruction": "a", "input": "b", "context": "c", "output": "d"}], "alpaca", 'key "context": found a column'),
        ([PAIR], "messages", "found chosen and rejected answers, expected one answer a row, as messages has them"),
        ([{"input": "a", "output": "b", "Context": "c"}], "alpaca", 'key "Context": found a column that would mean something else'),
        ([{**PAIR, "history": [["a", "b"]]}], "kto", 'key "history": found a column that would mean'),
        ([{"prompt": "a", "completion": "b", "label": True}], "prompt-completion", "found answers marked good or bad"),
        ([{"conversations": [{"from": "human", "value": "a"}, {"from": "function_call", "value": "{}"}]}], "messages", "the call"),
        ([{**PAIR, "prompt": None, "messages": [{"from": "function_call", "value": "{}"}]}], "preference-chat", "the call written"),
        ([{"input": "a", "output": "b"}, PAIR], "messages", "row 2: found preference pairs, expected the shape input/output"),
        ([{"a": "b"}], "messages", "found the keys a"),
        ([{"prompt": "p", "completion": "a", "label": "yes"}], "kto", 'key "label": found text ("yes"), expected true or false'),
        ([{"text": "p", "label": "yes"}], "kto", "row 1: found one answer a row, expected answers marked good or bad"),
        ([{"prompt": "p", "chosen": "a"}], "ranking", 'row 1: found "chosen" without "rejected", expected both answers of a pair'),
        ([{"subject": "a", "rejected": "b"}], "kto", "row 1: found the keys rejected, subject, expected one of"),
        ([{"prompt": "a", "rejected": True}], "kto", "row 1: found the keys prompt, rejected, expected one of"),
        ([{"prompt": "p", "rejected_messages": TALK}], "kto", "or name their column: --columns chosen=COLUMN."),
    ],
)  # fmt: skip
def test_what_a_shape_cannot_hold_is_refused_by_row_and_field_and_nothing_is_written(
    rows: list[dict[str, Any]], to: str, said: str, tmp_path: Path
) -> None:
    path = file_of(tmp_path, *rows)
    with pytest.raises(DataError) as error:
        convert(path, to)
    assert said in str(error.value)
    assert "rows.jsonl, row" in str(error.value)
    assert list(tmp_path.iterdir()) == [path]


class Stages(SilentProgress):
    def __init__(self) -> None:
        self.names = list[str]()

    def stage(self, name: str, items: int | None, done: int = 0) -> None:
        self.names.append(name)


def test_no_stage_says_that_a_file_is_written_before_a_row_was_read(tmp_path: Path) -> None:
    stages = Stages()
    with pytest.raises(DataError):
        convert_file(file_of(tmp_path, {"a": "b"}), "messages", stages)
    assert stages.names == ["converting rows.jsonl"]
    with pytest.raises(DataError, match="Correct the suffix if it is wrong, or convert the file"):
        convert_file(tmp_path / "rows.wiki", "messages", stages)


def test_what_drop_names_is_left_out_and_counted(tmp_path: Path) -> None:
    path = file_of(
        tmp_path,
        {"messages": TALK, "source": "web", "id": 1, "group": "g"},
        {"messages": [{**TALK[1], "name": "Kim"}, TALK[2]], "source": None, "id": 2, "group": "g"},
    )
    found = convert(path, "prompt-completion", drop=("system", "turns", "keys", "source", "color", "tools"))
    assert written(found) == [
        {"prompt": "when", "completion": "noon", "id": 1, "group": "g"},
        {"prompt": "hi", "completion": "yo", "id": 2, "group": "g"},
    ]
    assert found.dropped == {"source": 2, "system": 1, "turns": 1, "keys": 1}
    assert sorted(found.lines()[1:]) == [
        "Dropped: earlier turns in 1 row.",
        "Dropped: further keys of turns in 1 row.",
        "Dropped: system prompts in 1 row.",
        "Dropped: the column source in 2 rows.",
        "Nothing to drop: no row has a column color or a list of tools.",
    ]


@pytest.mark.parametrize("to", ["preference", "preference-chat", "ranking"])
def test_pairs_of_two_equal_answers_are_counted(tmp_path: Path, to: str) -> None:
    """They are written, and a training leaves them out."""
    same = PAIR | {"rejected": PAIR["chosen"]}
    found = convert(file_of(tmp_path, PAIR, same, same), to)
    assert (found.written, found.equal_answers) == (3, 2)
    assert found.lines()[1:] == ["Pairs whose two answers are the same: 2. Training leaves them out."]
    few = convert(file_of(tmp_path, PAIR, name="few.jsonl"), to)
    assert (few.equal_answers, len(few.lines())) == (0, 1)


@pytest.mark.parametrize(
    ("row", "to", "drop"),
    [
        (PAIR, "preference-chat", "rejected"),
        (PAIR, "kto", "rejected"),
        ({"instruction": "a", "input": "b", "output": "c"}, "messages", "input"),
        ({"prompt": "a", "completion": "b", "label": True}, "kto-chat", "label"),
    ],
)
def test_a_column_that_the_new_row_is_made_of_cannot_be_dropped(
    row: dict[str, Any], to: str, drop: str, tmp_path: Path
) -> None:
    path = file_of(tmp_path, row)
    with pytest.raises(DataError, match=f'row 1, key "{drop}": found a column of --drop that the prompt'):
        convert(path, to, drop=(drop,))
    assert list(tmp_path.iterdir()) == [path]


def test_a_call_of_a_tool_is_never_dropped_from_its_turn(tmp_path: Path) -> None:
    call = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": {"a": 1}}}]}
    path = file_of(tmp_path, {"messages": [TALK[1], call, {"role": "tool", "content": "3"}, TALK[2]]})
    with pytest.raises(DataError, match="without which its turn says nothing"):
        convert(path, "input-output", drop=("keys",))
    assert written(convert(path, "prompt-completion-chat"))[0]["prompt"][1] == call
    with pytest.raises(DataError, match=r"a Parquet file .it fills in the keys"):
        convert(path, "messages", out=tmp_path / "a.parquet")


def test_no_turn_after_the_last_question_is_dropped_as_an_earlier_one(tmp_path: Path) -> None:
    call = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": {}}}]}
    path = file_of(tmp_path, {"messages": [*TALK[1:4], call, {"role": "tool", "content": "noon"}, TALK[4]]})
    with pytest.raises(DataError, match="row 1: found a turn of the tool right before the answer, expected a question"):
        convert(path, "prompt-completion", drop=("turns",))
    assert list(tmp_path.iterdir()) == [path]


def test_cells_of_columns_without_a_name_are_never_lost(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("input,output,,\nlamp,repair,,\nbill,billing,,\n")
    assert written(convert(path, "input-output"))[0] == {"input": "lamp", "output": "repair"}
    path.write_text("input,output,,\nlamp,repair,,\nbill,billing,a,b\n")
    with pytest.raises(DataError, match=r"row 2 \(line 3\): found values in several columns without a name"):
        convert(path, "alpaca")


def test_an_input_that_is_not_there_leaves_no_new_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        convert(tmp_path / "rows.jsonl", "messages", out=tmp_path / "new" / "a.jsonl")
    assert list(tmp_path.iterdir()) == []


def test_a_pair_is_two_labelled_answers_as_trl_unpairs_it(tmp_path: Path) -> None:
    import datasets
    from trl.data_utils import unpair_preference_dataset

    path = file_of(tmp_path, PAIR, {**PAIR, "prompt": "now"})
    found = convert(path, "kto")
    theirs = unpair_preference_dataset(datasets.Dataset.from_list([PAIR, {**PAIR, "prompt": "now"}]))
    assert sorted(map(str, written(found))) == sorted(map(str, theirs))
    assert (found.read, found.written) == (2, 4)
    chosen = convert(path, "prompt-completion", drop=("rejected",))
    assert (written(chosen)[0], chosen.dropped) == ({"prompt": "when", "completion": "noon"}, {"rejected": 2})


def test_columns_are_named_by_the_user(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("body,team,input\nlamp,repair,7\n")
    with pytest.raises(DataError, match='a column "input" beside the one that --columns gives'):
        convert(path, "alpaca", columns={"input": "body", "output": "team"})
    found = convert(path, "prompt-completion", columns={"input": "body", "output": "team"}, drop=("input",))
    assert written(found) == [{"prompt": "lamp", "completion": "repair"}]
    assert found.lines()[1:] == ["Dropped: the column input in 1 row."]
    with pytest.raises(InputError, match='the column "team" in --columns and in --drop'):
        convert(path, "alpaca", columns={"prompt": "body", "completion": "team"}, drop=("team",))
    with pytest.raises(DataError, match='key "text": no such column'):
        convert(path, "alpaca", columns={"input": "text", "output": "team"})


def test_an_empty_cell_or_null_of_a_taken_name_is_nothing(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("prompt,completion,system\nhi,yo,\nnow,noon,Be brief.\n")
    with pytest.raises(
        DataError, match=r'row 2 \(line 3\), key "system": found a column that would mean something else'
    ):
        convert(path, "messages")
    path.write_text("prompt,completion,system\nhi,yo,\n")
    assert written(convert(path, "prompt-completion")) == [{"prompt": "hi", "completion": "yo"}]


def test_a_file_that_is_there_stays(tmp_path: Path) -> None:
    path = file_of(tmp_path, {"input": "a", "output": "b"})
    before = path.read_bytes()
    with pytest.raises(InputError, match="the file already exists"):
        convert(path, "messages", out=path)
    assert path.read_bytes() == before
    with pytest.raises(InputError, match=r'found "mesages", expected .* Did you mean "messages"'):
        convert(path, "mesages")


def test_a_stop_leaves_no_part_of_a_file(tmp_path: Path) -> None:
    @dataclass
    class Later:
        looks: int = 0

        def requested(self) -> StopRequest | None:
            self.looks += 1
            return StopRequest("signal", "asked to stop") if self.looks > 1 else None

    path = file_of(tmp_path, *({"input": f"a {n}", "output": "b"} for n in range(2500)))
    stop = Later()
    with pytest.raises(StopRequestedError, match=r"Nothing was written\. Run the command again"):
        convert_file(path, "messages", SilentProgress(), stop)
    assert (stop.looks, list(tmp_path.iterdir())) == (2, [path])


def test_a_full_disk_is_said_and_leaves_no_part_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = file_of(tmp_path, {"input": "a", "output": "b"})
    monkeypatch.setattr("lastresort.records.atomic.os.fsync", full)
    with pytest.raises(InfrastructureError, match=r"the disk is full\. Free some space"):
        convert(path, "messages")
    assert list(tmp_path.iterdir()) == [path]


def test_a_table_refuses_what_it_cannot_hold(tmp_path: Path) -> None:
    path = file_of(tmp_path, {"input": "a", "output": "b"}, {"input": "c", "output": "d", "weight": 2})
    with pytest.raises(DataError, match='row 2, key "weight": found a column that the table was not begun with'):
        convert(path, "prompt-completion", out=tmp_path / "a.csv")
    with pytest.raises(DataError, match='row 1, key "messages": found a list of 2, expected what a table can hold'):
        convert(path, "messages", out=tmp_path / "a.csv")
    assert list(tmp_path.iterdir()) == [path]
    same = file_of(tmp_path, {"input": "a", "output": "b", "id": 1, "ID": 2})
    with pytest.raises(DataError, match='row 1, header: found the column "id" twice'):
        convert(same, "input-output", out=tmp_path / "a.csv")


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_trl_takes_each_chat_shape_for_a_conversation_and_renders_it(suffix: str, tmp_path: Path) -> None:
    import datasets
    from trl.data_utils import apply_chat_template, is_conversational, maybe_convert_to_chatml

    tokenizer = word_tokenizer(CHATML)
    rows, pairs = file_of(tmp_path, {"messages": TALK}), file_of(tmp_path, PAIR, name="pairs.jsonl")
    names = {
        "prompt-completion-chat": rows,
        "preference-chat": pairs,
        "kto-chat": pairs,
        "messages": rows,
        "sharegpt": rows,
    }
    for name, path in names.items():
        out = convert(path, name, out=tmp_path / f"{name}{suffix}").path
        loaded = datasets.load_dataset(
            suffix[1:].replace("jsonl", "json"), data_files=str(out), split="train", cache_dir=tmp_path
        )
        example = dict(loaded[0])
        if name == "sharegpt":
            theirs = maybe_convert_to_chatml(example)["messages"]
            assert [turn["content"] for turn in theirs] == [turn["content"] for turn in TALK]
            assert [turn["role"] for turn in theirs] == ["system", "human", "gpt", "human", "gpt"]
            continue
        assert is_conversational(example)
        assert "<|im_start|>user\nwhen<|im_end|>" in "".join(
            text for text in apply_chat_template(example, tokenizer).values() if isinstance(text, str)
        )
        if name == "kto-chat":
            assert loaded.features["label"].dtype == "bool"


def test_the_plain_shapes_are_the_columns_that_trl_and_llama_factory_read(tmp_path: Path) -> None:
    rows = file_of(tmp_path, {"messages": TALK[1:3]})
    pairs = file_of(tmp_path, PAIR, name="pairs.jsonl")
    assert written(convert(rows, "prompt-completion")) == [{"prompt": "hi", "completion": "yo"}]
    assert written(convert(pairs, "preference")) == [PAIR]
    assert written(convert(pairs, "ranking")) == [
        {
            "conversations": [{"from": "human", "value": "when"}],
            "chosen": {"from": "gpt", "value": "noon"},
            "rejected": {"from": "gpt", "value": "xyzzy"},
        }
    ]
    whole = file_of(tmp_path, {"messages": TALK}, name="whole.jsonl")
    assert written(convert(whole, "alpaca")) == [
        {"instruction": "when", "input": "", "output": "noon", "system": "Be brief.", "history": [["hi", "yo"]]}
    ]


@pytest.mark.parametrize(
    ("to", "entry", "stage"),
    [
        ("alpaca", DataSetEntry("a", (), columns=RowColumns(system="system", history="history")), "sft"),
        ("sharegpt", DataSetEntry("a", (), formatting="sharegpt"), "sft"),
        (
            "ranking",
            DataSetEntry(
                "a", (), formatting="sharegpt", ranking=True, columns=RowColumns(chosen="chosen", rejected="rejected")
            ),
            "dpo",
        ),
    ],
)
def test_llama_factory_aligns_the_turns_that_were_written(
    to: str, entry: DataSetEntry, stage: Stage, tmp_path: Path
) -> None:
    """As its converter does in the released package, by our reader of its data sets."""
    pair = {"prompt": TALK[:4], "chosen": TALK[4:], "rejected": [{"role": "assistant", "content": "xyzzy"}]}
    path = file_of(tmp_path, pair if to == "ranking" else {"messages": TALK})
    (row,) = read_rows(convert(path, to).path)
    found = align(entry, stage, row)
    assert isinstance(found, AlignedRow), found
    assert [(turn.role, turn.text) for turn in found.prompt] == [("user", "hi"), ("assistant", "yo"), ("user", "when")]
    assert [turn.text for turn in found.answers] == (["noon", "xyzzy"] if to == "ranking" else ["noon"])
    assert found.system == "Be brief."


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".json"])
def test_what_a_synthetic_row_was_made_from_goes_with_it(suffix: str, tmp_path: Path) -> None:
    """Else rows made from what is held out would be trained on."""
    made = {"kind": "paraphrase", "seed_inputs": ["0123456789abcdef"]}
    path = file_of(tmp_path, {"input": "a", "output": "b", "synthetic": made, "passages": ["guide#1"]})
    (example,) = read_examples(convert(path, "prompt-completion", out=tmp_path / f"new{suffix}").path)
    assert (example.seeds, example.passages) == (("0123456789abcdef",), ("guide#1",))


@pytest.mark.parametrize("to", [name for name, writer in WRITERS.items() if writer.kind == "examples"])
def test_a_task_reads_the_same_examples_before_and_after(to: str, tmp_path: Path) -> None:
    path = file_of(tmp_path, *({"input": f"ticket {n}", "output": "ab"[n % 2], "group": f"g{n % 3}"} for n in range(9)))
    after = read_examples(convert(path, to, out=tmp_path / f"new-{to}.json").path)
    before = read_examples(path)
    assert [(e.id, e.input, e.output, e.group) for e in after] == [(e.id, e.input, e.output, e.group) for e in before]


def test_the_page_lists_the_shapes_with_their_readers_and_what_holds_what() -> None:
    page = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
    kinds = {"examples": "examples", "pairs": "pairs", "labels": "labelled answers"}
    lines = dict(re.findall(r"^\| `([\w-]+)` \|(.*)\|$", page.split("## What is kept")[0], re.MULTILINE))
    lines.pop("--to")
    assert set(lines) == set(WRITERS)
    for name, writer in WRITERS.items():
        assert [cell.strip() for cell in lines[name].split("|")][-2:] == [kinds[writer.kind], writer.peers]
    chat = {"prompt-completion-chat", "preference-chat", "kto-chat"}
    said: dict[RowTrait, set[str]] = {
        "system": set(WRITERS) - {"prompt-completion", "preference", "kto"},
        "turns": set(WRITERS) - {"prompt-completion", "preference", "kto"},
        "order": set(WRITERS) - {"prompt-completion", "preference", "kto", "alpaca", "sharegpt", "ranking"},
        "tools": {"messages", "sharegpt", "ranking", *chat},
        "keys": {"messages", "input-output", *chat},
        "answer keys": {"messages", *chat},
        "answers": chat,
        "blank": {"messages", "sharegpt", "ranking", *chat},
    }
    assert said.keys() == TRAITS.keys()
    for held, names in said.items():
        assert {name for name, writer in WRITERS.items() if held in writer.holds} == names, held


@pytest.mark.parametrize(
    ("late", "said"),
    [
        ({"messages": [TALK[1], {**TALK[2], "weight": 0}]}, 'key "messages": found a turn with the key "weight"'),
        ({"messages": TALK[1:3], "group": "g"}, 'key "group": found a column that none of the rows before it has'),
    ],
)
def test_a_parquet_file_refuses_a_key_that_comes_after_its_first_rows(
    late: dict[str, Any], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("lastresort.data.conversion.sinks._GROUP", 3)
    path = file_of(tmp_path, *[{"messages": TALK[1:3]}] * 3, late)
    with pytest.raises(DataError, match=f"row 4, {said}"):
        convert(path, "messages", out=tmp_path / "a.parquet")
    gc.collect()
    assert list(tmp_path.iterdir()) == [path]
    assert capsys.readouterr().err == "", "the writer was closed before its file"


def test_long_rows_of_a_parquet_file_do_not_wait_for_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyarrow.parquet

    monkeypatch.setattr("lastresort.data.conversion.sinks._GROUP_CHARACTERS", 1000)
    path = file_of(tmp_path, *({"input": f"{n} " + "x" * 300, "output": "b"} for n in range(10)))
    out = convert(path, "prompt-completion", out=tmp_path / "a.parquet").path
    assert pyarrow.parquet.ParquetFile(out).num_row_groups == 3
    assert [row.values["prompt"][:2] for row in read_rows(out)] == [f"{n} " for n in range(10)]


def test_a_value_that_the_file_cannot_hold_is_named_by_its_column(tmp_path: Path) -> None:
    import datetime

    import pyarrow
    import pyarrow.parquet

    rows = [{"input": "a", "output": "b", "day": datetime.date(2026, 1, 2)}]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    for suffix in (".jsonl", ".json", ".csv"):
        with pytest.raises(DataError, match=r'row 1, key "day": found a value that JSON cannot hold'):
            convert(tmp_path / "a.parquet", "messages" if suffix != ".csv" else "alpaca", out=tmp_path / f"b{suffix}")


def test_a_value_of_another_type_than_its_column_is_named_by_it(tmp_path: Path) -> None:
    row = {"input": "a", "output": "b", "group": "g", "size": 1}
    for late, key in (({"size": "big"}, "size"), ({"group": 7}, "group"), ({"size": 2**70}, "size")):
        path = file_of(tmp_path, row, row, {**row, **late})
        with pytest.raises(DataError, match=f'row 1 to .*row 3, key "{key}": a Parquet file cannot hold these values'):
            convert(path, "input-output", out=tmp_path / "a.parquet")


def test_a_name_that_columns_gives_twice_is_refused(tmp_path: Path) -> None:
    path = file_of(tmp_path, {"a": "x", "b": "y", "c": "z"})
    with pytest.raises(InputError, match="found a name twice"):
        convert_command(path, "alpaca", None, "input=a,input=b,output=c", "", False)
