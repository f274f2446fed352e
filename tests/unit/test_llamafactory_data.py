"""Data sets of a LLaMA-Factory file: entries, columns, tags, what is left out, samples and mixtures."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from lastresort.data.formats.rows import RawRow
from lastresort.errors import DataError, InfrastructureError, TaskError
from lastresort.interop.llamafactory import data_sets
from lastresort.interop.llamafactory.read import read
from llamafactory_support import ROWS, data_set, imported, remarks, rows_of
from tiny_model import save_tiny_model

OPENAI_TAGS = {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"}
TALK = [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "Because."}]


def messages(*turns: tuple[str, str]) -> list[dict[str, str]]:
    return [{"role": role, "content": text} for role, text in turns]


def only_row(folder: Path, row: dict[str, Any], *keys: dict[str, Any], **entry: Any) -> dict[str, Any]:
    [found] = rows_of(imported(folder, data_set(folder, [row], **entry), *keys))
    return found


def test_alpaca_joins_prompt_and_query_by_one_line_break(tmp_path: Path) -> None:
    row = {"instruction": "Translate", "input": "Hund", "output": "dog", "sys": "Be brief.", "past": [["a", "b"]]}
    columns = {"prompt": "instruction", "query": "input", "response": "output", "system": "sys", "history": "past"}
    assert only_row(tmp_path, row, columns=columns) == {
        "messages": messages(
            ("system", "Be brief."),
            ("user", "a"),
            ("assistant", "b"),
            ("user", "Translate\nHund"),
            ("assistant", "dog"),
        )
    }


def test_columns_that_an_entry_leaves_out_are_unset(tmp_path: Path) -> None:
    row = {"instruction": "Q", "input": "more", "output": "A"}
    columns = {"prompt": "instruction", "response": "output"}
    assert only_row(tmp_path, row, columns=columns) == {"messages": messages(("user", "Q"), ("assistant", "A"))}


def test_sharegpt_with_its_system_turn_or_column(tmp_path: Path) -> None:
    expected = {"messages": messages(("system", "S"), ("user", "Why?"), ("assistant", "Because."))}
    turn = {"conversations": [{"from": "system", "value": "S"}, *TALK]}
    assert only_row(tmp_path, turn, formatting="sharegpt") == expected
    columns = {"messages": "conversations", "system": "persona"}
    column = {"conversations": TALK, "persona": "S"}
    assert only_row(tmp_path, column, formatting="sharegpt", columns=columns) == expected


def test_openai_style_by_tags_and_by_its_own_formatting(tmp_path: Path) -> None:
    row = {"messages": messages(("user", "Why?"), ("assistant", "Because."))}
    entry = {"columns": {"messages": "messages"}, "tags": OPENAI_TAGS}
    assert only_row(tmp_path, row, formatting="sharegpt", **entry) == row
    # Its own formatting adds a system turn where there are no tools.
    assert only_row(tmp_path, row, formatting="openai", **entry) == {
        "messages": [{"role": "system", "content": "detailed thinking off"}, *row["messages"]]
    }


def test_pairs_of_both_formattings(tmp_path: Path) -> None:
    row = {"instruction": "Q", "chosen": "yes", "rejected": "no"}
    columns = {"prompt": "instruction", "chosen": "chosen", "rejected": "rejected"}
    expected = {
        "prompt": messages(("user", "Q")),
        "chosen": messages(("assistant", "yes")),
        "rejected": messages(("assistant", "no")),
    }
    assert only_row(tmp_path, row, {"stage": "dpo"}, ranking=True, columns=columns) == expected
    talk = {
        "conversations": [{"from": "human", "value": "Q"}],
        "chosen": {"from": "gpt", "value": "yes"},
        "rejected": {"from": "gpt", "value": "no"},
    }
    columns = {"messages": "conversations", "chosen": "chosen", "rejected": "rejected"}
    assert only_row(tmp_path, talk, {"stage": "dpo"}, ranking=True, formatting="sharegpt", columns=columns) == expected


def test_labels_of_both_formattings(tmp_path: Path) -> None:
    keys, expected = (
        {"stage": "kto"},
        {"messages": messages(("user", "Why?"), ("assistant", "Because.")), "label": False},
    )
    row = {"instruction": "Why?", "output": "Because.", "good": False}
    columns = {"prompt": "instruction", "response": "output", "kto_tag": "good"}
    assert only_row(tmp_path, row, keys, columns=columns) == expected
    talk = {"conversations": TALK, "good": False}
    columns = {"messages": "conversations", "kto_tag": "good"}
    assert only_row(tmp_path, talk, keys, formatting="sharegpt", columns=columns) == expected


def test_plain_text_is_the_first_prompt_and_a_line_of_a_text_file(tmp_path: Path) -> None:
    assert only_row(tmp_path, {"text": "Prose."}, {"stage": "pt"}, columns={"prompt": "text"}) == {"text": "Prose."}
    (tmp_path / "data" / "lines.txt").write_text("one\n\ntwo\n")
    info = {"lines": {"file_name": "lines.txt", "columns": {"prompt": "text"}}}
    (tmp_path / "data" / "dataset_info.json").write_text(json.dumps(info))
    found = imported(tmp_path, stage="pt", dataset="lines", dataset_dir=str(tmp_path / "data"))
    assert rows_of(found) == [{"text": "one"}, {"text": "two"}]
    assert "1 of 3 rows of lines are left out, without any text" in remarks(found, "differs")["dataset lines"]


@pytest.mark.parametrize(
    ("row", "entry", "why"),
    [
        ({"conversations": [{"from": "system", "value": "S"}, *TALK]}, {"tags": {"role_tag": "from", "content_tag": "value",
          "user_tag": "human", "assistant_tag": "gpt"}}, 'with a turn of "system", which tags does not name'),
        ({"conversations": TALK[:1]}, {}, "that do not end with an answer"),
        ({"conversations": [*TALK, TALK[1], TALK[1]]}, {}, "in which question and answer do not alternate"),
        ({"conversations": "text"}, {}, "without a list of turns"),
    ],
)  # fmt: skip
def test_rows_that_they_drop_are_left_out_and_named(
    tmp_path: Path, row: dict[str, Any], entry: dict[str, Any], why: str
) -> None:
    found = imported(tmp_path, data_set(tmp_path, [{"conversations": TALK}, row], formatting="sharegpt", **entry))
    assert len(rows_of(found)) == 1
    said = remarks(found, "trap")["dataset mine"]
    assert f"1 of 2 rows of mine are left out, {why}" in said
    assert "row 2" in said
    assert "drops them too" in said


def test_labels_and_answers_that_are_none_are_left_out(tmp_path: Path) -> None:
    columns = {"prompt": "instruction", "response": "output", "kto_tag": "good"}
    rows = [ROWS[0] | {"good": True}, ROWS[1] | {"good": "yes"}, ROWS[2] | {"good": True, "output": " "}]
    found = imported(tmp_path, data_set(tmp_path, rows, columns=columns), stage="kto")
    assert len(rows_of(found)) == 1
    assert "whose label is neither true nor false" in remarks(found, "trap")["dataset mine"]
    assert "with an empty answer" in remarks(found, "differs")["dataset mine"]


def test_a_data_set_of_which_nothing_is_left_is_an_error(tmp_path: Path) -> None:
    rows = [{"conversations": TALK, "chosen": "text", "rejected": "text"}]
    columns = {"messages": "conversations", "chosen": "chosen", "rejected": "rejected"}
    keys = data_set(tmp_path, rows, formatting="sharegpt", ranking=True, columns=columns)
    with pytest.raises(DataError, match="no row of 1 can be trained on: that end with an answer"):
        imported(tmp_path, keys, stage="dpo")


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        ({"hf_hub_url": 3}, 'key "hf_hub_url": found a number (3)'),
        ({"ms_hub_url": "org/data"}, "not fetched from ModelScope"),
        ({"script_url": "load.py"}, "no code of a data set is run"),
        ({"cloud_file_name": "s3://bucket/a.json"}, "not fetched from S3 or GCS"),
        ({"formatting": "chat"}, 'key "formatting": found "chat"'),
        ({"columns": {"images": "images"}}, "found images"),
        ({"columns": {"promt": "instruction"}}, 'Write "prompt"'),
        ({"columns": {"prompt": "question", "response": "output"}}, 'found no column "question"'),
        ({"tag": {}}, 'Write "tags"'),
        ({"file_name": "other.json"}, 'found no file "other.json"'),
        ({"subset": "en"}, 'key "subset": found "en"'),
        ({"num_samples": "all"}, 'key "num_samples": found text'),
        ({"ranking": True}, "expected no pairs, for stage: sft"),
    ],
)
def test_entries_that_cannot_be_used(tmp_path: Path, entry: dict[str, Any], sentence: str) -> None:
    keys = data_set(tmp_path, **entry)
    with pytest.raises((TaskError, DataError)) as refused:
        imported(tmp_path, keys)
    assert sentence in str(refused.value)


def test_names_and_folders_that_are_not_there(tmp_path: Path) -> None:
    keys = data_set(tmp_path)
    with pytest.raises(TaskError, match='Did you mean "mine"'):
        imported(tmp_path, keys, dataset="mne")
    with pytest.raises(TaskError, match=r"no dataset_info\.json in"):
        imported(tmp_path, keys, dataset_dir="nowhere")
    with pytest.raises(TaskError, match="not fetched from a hub"):
        imported(tmp_path, keys, dataset_dir="REMOTE:org/data")


def test_the_folder_of_the_file_is_tried_and_entries_may_stand_in_it(tmp_path: Path) -> None:
    data_set(tmp_path)
    keys = {"model_name_or_path": "nobody/nothing", "dataset": "mine"}
    assert len(rows_of(read(keys, tmp_path / "train.yaml"))) == 4  # dataset_dir is data by default
    inline = {"dataset_dir": {"mine": {"file_name": "data/mine.json"}}}
    assert len(rows_of(read(keys | inline, tmp_path / "train.yaml"))) == 4


def test_a_folder_of_files(tmp_path: Path) -> None:
    keys = data_set(tmp_path, file_name="parts")
    (tmp_path / "data" / "parts").mkdir()
    for name in ("a.json", "b.jsonl"):
        (tmp_path / "data" / "parts" / name).write_text("\n".join(json.dumps(row) for row in ROWS))
    assert len(rows_of(imported(tmp_path, keys))) == 8


def test_samples_and_limits(tmp_path: Path) -> None:
    keys = data_set(tmp_path, num_samples=10)
    found = imported(tmp_path, keys)
    texts = [row["messages"][0]["content"] for row in rows_of(found)]
    assert len(texts) == 10
    assert len(set(texts[:4])) == 4
    assert texts == [row["messages"][0]["content"] for row in rows_of(imported(tmp_path, keys))]
    assert "10 rows of mine are drawn" in remarks(found, "differs")["mine.num_samples"]
    assert len(rows_of(imported(tmp_path, data_set(tmp_path), max_samples=3))) == 3


@pytest.mark.parametrize(
    ("keys", "counts"),
    [
        ({}, [4, 2]),
        ({"mix_strategy": "interleave_under"}, [2, 2]),
        ({"mix_strategy": "interleave_over"}, [4, 4]),
        ({"mix_strategy": "interleave_once"}, [4, 2]),
    ],
)
def test_mixtures(tmp_path: Path, keys: dict[str, Any], counts: list[int]) -> None:
    data_set(tmp_path)
    both = data_set(tmp_path, ROWS[:2], name="other") | {"dataset": "mine,other"}
    assert [len(list(source.rows())) for source in imported(tmp_path, both, keys).train] == counts


def test_mixtures_by_chance_end_with_the_first_or_the_last_data_set(tmp_path: Path) -> None:
    data_set(tmp_path)
    both = data_set(tmp_path, ROWS[:2], name="other") | {"dataset": "mine,other", "interleave_probs": "0.5,0.5"}
    for strategy, enough in (("interleave_under", any), ("interleave_over", all)):
        found = imported(tmp_path, both, mix_strategy=strategy)
        counts = [len(list(source.rows())) for source in found.train]
        assert enough(count >= length for count, length in zip(counts, (4, 2), strict=True))
    with pytest.raises(TaskError, match="2 chances above 0"):
        imported(tmp_path, both)


def test_held_out_data_sets_are_read_alike(tmp_path: Path) -> None:
    data_set(tmp_path, ROWS[:2], name="other")
    found = imported(tmp_path, data_set(tmp_path), eval_dataset="other")
    assert [len(list(source.rows())) for source in found.held_out] == [2]
    assert "never evaluates held-out rows" in remarks(found, "trap")["eval_dataset"]


TOOL_TEMPLATE = (
    "{% if tools %}<|im_start|>tools {% for tool in tools %}{{ tool.name }}{% endfor %}<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}{% for call in m.tool_calls or [] %}{{ call.function.name }}"
    "({% for key, value in call.function.arguments.items() %}{{ key }}={{ value }}{% endfor %}){% endfor %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TOOLS = json.dumps([{"name": "weather", "parameters": {"type": "object"}}])
CALL = {"from": "function_call", "value": '{"name": "weather", "arguments": {"city": "Ulm"}}'}
ASKED = [
    {"from": "human", "value": "Rain?"},
    CALL,
    {"from": "observation", "value": "dry"},
    {"from": "gpt", "value": "No."},
]
TOOL_COLUMNS = {"messages": "conversations", "tools": "tools"}


def test_tools_that_all_rows_share_go_to_the_chat_template(tmp_path: Path) -> None:
    rows = [{"conversations": ASKED, "tools": TOOLS}] * 2
    found = imported(tmp_path, data_set(tmp_path, rows, formatting="sharegpt", columns=TOOL_COLUMNS), template="qwen")
    assert found.document["chat_template_kwargs"] == {"tools": json.loads(TOOLS)}
    call = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Ulm"}}}
    assert rows_of(found)[0]["messages"] == [
        {"role": "user", "content": "Rain?"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "dry"},
        {"role": "assistant", "content": "No."},
    ]
    assert "Rows with tools" in remarks(found, "differs")["template"]


def test_tools_that_differ_need_the_model(tmp_path: Path) -> None:
    rows = [{"conversations": ASKED, "tools": TOOLS}, {"conversations": TALK, "tools": "[]"}]
    keys = data_set(tmp_path, rows, formatting="sharegpt", columns=TOOL_COLUMNS)
    with pytest.raises(DataError, match="found other tools than in the rows before, expected a model on this machine"):
        imported(tmp_path, keys)


def test_tools_that_differ_are_written_with_the_models_own_template(tmp_path: Path) -> None:
    rows = [{"conversations": ASKED, "tools": TOOLS}, {"conversations": TALK, "tools": "[]"}]
    keys = data_set(tmp_path, rows, formatting="sharegpt", columns=TOOL_COLUMNS)
    model = save_tiny_model(tmp_path / "model")
    (model / "chat_template.jinja").write_text(TOOL_TEMPLATE)
    with_tools, without = rows_of(imported(tmp_path, keys, model_name_or_path=str(model)))
    assert with_tools["segments"] == [
        {"text": "<|im_start|>tools weather<|im_end|>\n<|im_start|>user\nRain?<|im_end|>\n<|im_start|>assistant\n"},
        {"text": "weather(city=Ulm)<|im_end|>", "train": True},
        {"text": "\n<|im_start|>tool\ndry<|im_end|>\n<|im_start|>assistant\n"},
        {"text": "No.<|im_end|>", "train": True},
        {"text": "\n"},
    ]
    assert without["segments"][0]["text"] == "<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n"
    last = rows_of(imported(tmp_path, keys, model_name_or_path=str(model), mask_history=True))[0]
    assert [bool(segment.get("train")) for segment in last["segments"]] == [False, True, False]
    call = data_set(
        tmp_path, [{"conversations": ASKED[:2], "tools": TOOLS}], formatting="sharegpt", columns=TOOL_COLUMNS
    )
    [row] = rows_of(imported(tmp_path, call, model_name_or_path=str(model)))
    assert row["segments"][1] == {"text": "weather(city=Ulm)<|im_end|>", "train": True}


def test_a_data_set_of_the_hub_is_loaded_before_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def rows(path: str, **wanted: Any) -> list[RawRow]:
        asked.update(wanted, path=path)
        return [RawRow(row, number, f"{path}, row {number}") for number, row in enumerate(ROWS, 1)]

    monkeypatch.setattr(data_sets, "hub_rows", rows)
    entry = {"hf_hub_url": "org/data", "ms_hub_url": "other/data", "subset": "en", "split": "test", "folder": "f"}
    keys = {"dataset": "mine", "dataset_dir": {"mine": entry}}
    assert len(rows_of(imported(tmp_path, keys))) == 4
    where = f'{tmp_path / "train.yaml"}, key "dataset"'
    assert asked == {
        "path": "org/data",
        "where": where,
        "name": "en",
        "split": "test",
        "revision": None,
        "data_dir": "f",
    }


def test_a_hub_that_cannot_be_reached_is_one_sentence_that_names_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def unreachable(*_: Any, **__: Any) -> None:
        logging.getLogger("huggingface_hub.utils._http").warning("Retrying in 1s [Retry 1/5].")
        raise ConnectionError("Couldn't reach 'org/data' on the Hub")

    monkeypatch.setattr("datasets.load_dataset", unreachable)
    keys = {"dataset": "mine", "dataset_dir": {"mine": {"hf_hub_url": "org/data"}}}
    with pytest.raises(InfrastructureError, match=r'train.yaml, key "dataset": the hub cannot be reached'):
        imported(tmp_path, keys)
    assert not caplog.records
