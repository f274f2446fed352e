"""Where Axolotl's `datasets` are, which rows of them are taken, and which templates they meet."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from axolotl_support import imported, rows_of, told
from lastresort.errors import DataError, InfrastructureError, PrerequisiteError, TaskError
from lastresort.interop.axolotl.entries import split_of
from lastresort.interop.reading import write_imported
from lastresort.spec.training import load_training

PLAIN = {"system_format": "", "no_input_format": "{instruction}"}


def texts(folder: Path, *entries: dict[str, Any], **keys: Any) -> list[str]:
    found = imported(folder, datasets=[{"type": PLAIN, **entry} for entry in entries], **keys)
    return [row["segments"][0]["text"] for row in rows_of(found)]


def rows(count: int, start: int = 0) -> list[dict[str, str]]:
    return [{"instruction": str(number), "output": "b"} for number in range(start, start + count)]


def write(path: Path, content: list[dict[str, str]]) -> Path:
    """In the format of the suffix."""
    import pyarrow
    import pyarrow.csv
    import pyarrow.parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    table = pyarrow.Table.from_pylist(content)
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(table, path)
    elif path.suffix == ".csv":
        pyarrow.csv.write_csv(table, path)
    elif path.suffix == ".arrow":
        with pyarrow.OSFile(str(path), "wb") as file, pyarrow.ipc.new_stream(file, table.schema) as writer:
            writer.write_table(table)
    elif path.suffix == ".json":
        path.write_text(json.dumps(content), encoding="utf-8")
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in content), encoding="utf-8")
    return path


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".parquet", ".arrow"])
def test_files_of_every_kind(suffix: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"rows{suffix}", rows(3))
    assert texts(tmp_path, {"path": str(path)}) == ["0", "1", "2"]


def test_the_kind_may_be_said(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.data", rows(2))
    assert texts(tmp_path, {"path": str(path), "ds_type": "json"}) == ["0", "1"]
    assert texts(tmp_path, {"path": "json", "data_files": str(path)}) == ["0", "1"]
    lines = tmp_path / "lines.txt"
    lines.write_text("a\nb\n", encoding="utf-8")
    found = imported(tmp_path, datasets=[{"path": str(lines), "type": "completion"}])
    assert rows_of(found) == [{"text": "a"}, {"text": "b"}]


def test_names_start_from_the_current_folder_and_else_from_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "rows.jsonl", rows(1))
    write(tmp_path / "elsewhere" / "other.jsonl", rows(1, 7))
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert texts(tmp_path, {"path": "rows.jsonl"}, {"path": "other.jsonl"}) == ["0", "7"]


def test_folders(tmp_path: Path) -> None:
    write(tmp_path / "data" / "train-0.jsonl", rows(1))
    write(tmp_path / "data" / "train-1.parquet", rows(1, 1))
    write(tmp_path / "data" / "test.jsonl", rows(1, 9))
    folder = str(tmp_path / "data")
    assert texts(tmp_path, {"path": folder}) == ["0", "1"]
    assert texts(tmp_path, {"path": folder, "split": "test"}) == ["9"]
    assert texts(tmp_path, {"path": folder, "data_files": ["train-1.parquet"]}) == ["1"]
    assert [split_of(Path(name)) for name in ("a/latest.json", "val/x.json", "my_eval.csv")] == [
        "train",
        "validation",
        "test",
    ]


def test_what_datasets_saved(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")
    made = datasets.DatasetDict(
        {"train": datasets.Dataset.from_list(rows(3)), "test": datasets.Dataset.from_list(rows(1, 9))}
    )
    made.save_to_disk(str(tmp_path / "saved"))
    assert texts(tmp_path, {"path": str(tmp_path / "saved")}) == ["0", "1", "2"]
    assert texts(tmp_path, {"path": str(tmp_path / "saved"), "split": "test"}) == ["9"]
    assert texts(tmp_path, {"path": str(tmp_path / "saved" / "train")}) == ["0", "1", "2"]
    with pytest.raises(DataError, match='found no split "dev"'):
        texts(tmp_path, {"path": str(tmp_path / "saved"), "split": "dev"})


@pytest.mark.parametrize(
    ("split", "expected"),
    [("train[:2]", "01"), ("train[3:]", "34"), ("train[20%:60%]", "12"), ("train[-2:]", "34"), ("train[:-1]", "0123")],
)
def test_slices_of_a_split(split: str, expected: str, tmp_path: Path) -> None:
    path = str(write(tmp_path / "rows.jsonl", rows(5)))
    assert texts(tmp_path, {"path": path, "split": split}) == list(expected)


def test_shards_are_those_of_datasets(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")
    path = str(write(tmp_path / "rows.jsonl", rows(11)))
    for seed, index in ((42, 0), (42, 3), (7, 1)):
        theirs = datasets.Dataset.from_list(rows(11)).shuffle(seed=seed).shard(num_shards=4, index=index)
        found = texts(tmp_path, {"path": path, "shards": 4, "shards_idx": index}, seed=seed)
        assert found == [row["instruction"] for row in theirs]
    with pytest.raises(TaskError, match="less than shards, 4"):
        texts(tmp_path, {"path": path, "shards": 4, "shards_idx": 4})


def test_shards_are_not_honoured_beside_rl(tmp_path: Path) -> None:
    (tmp_path / "pairs.jsonl").write_text('{"question": "q", "chosen": "a", "rejected": "b"}\n')
    entry = {"path": str(tmp_path / "pairs.jsonl"), "type": "chatml.intel", "shards": 4}
    assert told(imported(tmp_path, datasets=[entry], rl="dpo"), "shards", "ignored")


class Hub(ModuleType):
    """In the place of `datasets`: hands out rows, and remembers what was asked."""

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__("datasets")
        self.asked: list[tuple[Any, ...]] = []
        self._error = error

    def load_dataset(self, path: str, **keys: Any) -> list[dict[str, str]]:
        self.asked.append((path, keys))
        if self._error is not None:
            raise self._error
        return rows(4)


def test_data_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = Hub()
    monkeypatch.setitem(sys.modules, "datasets", hub)
    entry = {"path": "org/data", "name": "main", "revision": "abc", "split": "train[:2]", "data_files": "a.jsonl"}
    assert texts(tmp_path, entry) == ["0", "1"]
    wanted = {
        "name": "main",
        "split": "train",
        "revision": "abc",
        "data_files": ["a.jsonl"],
        "trust_remote_code": False,
    }
    assert hub.asked == [("org/data", wanted)]
    assert texts(tmp_path, {"path": "org/data", "name": ["one", "two"]}) == [*"0123", *"0123"]
    assert [keys["name"] for _, keys in hub.asked[1:]] == ["one", "two"]


def test_data_that_cannot_be_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", Hub(ConnectionError("no route to the hub")))
    with pytest.raises(InfrastructureError, match=r'axolotl.yml, datasets\[0\], key "path": the hub cannot be reached'):
        texts(tmp_path, {"path": "org/data"})
    monkeypatch.setitem(sys.modules, "datasets", Hub(FileNotFoundError("no such data")))
    with pytest.raises(DataError, match=r'key "path": "org/data" is not .* \(FileNotFoundError: no such data\)'):
        texts(tmp_path, {"path": "org/data"})
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(PrerequisiteError, match="pip install datasets"):
        texts(tmp_path, {"path": "org/data"})


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        ({"path": "s3://bucket/rows"}, "Download it"),
        ({}, 'datasets\\[0\\], key "path": found nothing'),
        ({"path": ".", "data_files": ["nothing.jsonl"]}, 'no file "nothing.jsonl"'),
        ({"path": "data/nope.jsonl"}, 'key "path": found no file "data/nope.jsonl"'),
        ({"path": "data/nope.json.gz"}, 'found no file "data/nope.json.gz"'),
        ({"path": "./org/data"}, 'found no file "./org/data"'),
        ({"path": "~/no/such/data"}, 'found no file "~/no/such/data"'),
        ({"path": "rows.jsonl", "ds_type": "xml"}, "expected json, csv, parquet, arrow or text"),
    ],
)
def test_places_that_are_not_read(
    entry: dict[str, Any], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TaskError, match=sentence):
        texts(tmp_path, entry)


def test_each_data_set_is_a_file_of_its_own(tmp_path: Path) -> None:
    one, two = (str(write(tmp_path / name, rows(2, start))) for start, name in enumerate(("one.jsonl", "two.csv")))
    entries = [{"path": path, "type": PLAIN} for path in (one, two)]
    found = imported(tmp_path, datasets=entries, test_datasets=[entries[0] | {"split": "train"}])
    path = write_imported(found, tmp_path / "out", tmp_path / "axolotl.yml")
    file = load_training(path, {"model": "embedded"})
    assert [part.name for part in file.data.train] == ["train-1.jsonl", "train-2.jsonl"]
    assert [part.name for part in file.data.eval] == ["eval.jsonl"]
    assert (file.output, file.settings.batch_size, file.max_tokens) == (tmp_path / "out", 1, 512)
    share = write_imported(
        imported(tmp_path, datasets=entries, val_set_size=0.25), tmp_path / "other", tmp_path / "axolotl.yml"
    )
    assert load_training(share, {"model": "embedded"}).data.eval_share == 0.25


def test_what_json_cannot_hold_is_named(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.table({"prompt": ["q"], "chosen": [[{"content": b"\x00"}]], "rejected": [[{"content": b"\x01"}]]})
    pyarrow.parquet.write_table(table, tmp_path / "rows.parquet")
    found = imported(tmp_path, datasets=[{"path": str(tmp_path / "rows.parquet")}], rl="dpo")
    with pytest.raises(DataError, match=r"rows.parquet, row 1: found a value that JSON cannot hold"):
        write_imported(found, tmp_path / "out", tmp_path / "axolotl.yml")


def test_a_column_that_is_not_there_is_named_with_its_row(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(
        '{"question": "q", "chosen": "a", "rejected": "b"}\n{"prompt": "q", "chosen": "a", "rejected": "b"}\n'
    )
    found = imported(tmp_path, datasets=[{"path": str(path), "type": "chatml.intel"}], rl="dpo")
    with pytest.raises(DataError, match=r'rows.jsonl, row 2, key "question": found the keys chosen, prompt, rejected'):
        rows_of(found)


def test_keys_of_an_entry_that_are_not_honoured_are_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}\n')
    entry = {
        "path": str(path),
        "type": "chat_template",
        "train_on_eos": "last",
        "split_thinking": True,
        "temperature": 2,
    }
    found = imported(tmp_path, datasets=[entry])
    for key in ("train_on_eos", "split_thinking", "temperature"):
        assert told(found, f"datasets[0].{key}", "ignored")
    assert not told(imported(tmp_path, datasets=[{**entry, "train_on_eos": "turn"}]), "datasets[0].train_on_eos")


def model(folder: Path, template: str | None) -> str:
    """A folder that holds of a model what is looked at."""
    folder.mkdir(exist_ok=True)
    settings = {} if template is None else {"chat_template": template}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return str(folder)


PAIR = [{"question": "q", "chosen": "a", "rejected": "b"}]


@pytest.mark.parametrize(
    ("name", "template", "kind", "trapped"),
    [
        ("model", "<|im_start|>", "chatml.intel", False),
        ("model", "<|start_header_id|>", "chatml.intel", True),
        ("model", "<|start_header_id|>", "llama3.intel", False),
        ("model", "<|im_start|>", "llama3.intel", True),
        ("model", None, "chatml.intel", False),
        ("meta-llama/Meta-Llama-3-8B-Instruct", "", "chatml.intel", True),
        ("meta-llama/Meta-Llama-3-8B-Instruct", "", "llama3.intel", False),
        ("Qwen/Qwen3-0.6B", "", "llama3.intel", True),
        ("org/unknown", "", "llama3.intel", False),
    ],
)
def test_a_template_that_is_not_the_models_is_a_trap(
    name: str, template: str | None, kind: str, trapped: bool, tmp_path: Path
) -> None:
    base = model(tmp_path / name, template) if name == "model" else name
    found = imported(tmp_path, PAIR, kind=kind, rl="dpo", base_model=base)
    assert bool(told(found, "datasets[0].type", "trap")) == trapped


def test_a_template_in_a_file_of_its_own_is_seen(tmp_path: Path) -> None:
    base = model(tmp_path / "model", None)
    (tmp_path / "model" / "chat_template.jinja").write_text("{{ '<|start_header_id|>' }}", encoding="utf-8")
    assert told(imported(tmp_path, PAIR, kind="chatml", rl="dpo", base_model=base), "datasets[0].type", "trap")


def test_a_fallback_is_taken_where_the_model_has_no_template(tmp_path: Path) -> None:
    row = [{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}]
    keys: dict[str, Any] = {"kind": "chat_template", "chat_template": "tokenizer_default_fallback_chatml"}
    own = imported(tmp_path, row, base_model=model(tmp_path / "own", "{{ messages }}"), **keys)
    bare = imported(tmp_path, row, base_model=model(tmp_path / "bare", None), **keys)
    assert "messages" in rows_of(own)[0]
    assert "segments" in rows_of(bare)[0]
