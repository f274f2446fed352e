"""LLaMA-Factory's own demonstration data: every row of every file is read, through its entry or in the shape that it has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lastresort.data.files import read_rows
from lastresort.data.preferences import pairs_of
from llamafactory_support import imported, rows_of

DEMO = Path(__file__).resolve().parents[3] / "shared" / "data" / "llamafactory_demo"
pytestmark = pytest.mark.skipif(not DEMO.is_dir(), reason="the folder shared/data is not beside the repository")
V1_TAGS = {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"}
V1 = {
    "file_name": "v1_sft_demo.jsonl",
    "formatting": "sharegpt",
    "columns": {"messages": "messages"},
    "tags": V1_TAGS | {"system_tag": "system"},
}


def stood_in(name: str) -> int:
    text = (DEMO / name).read_text(encoding="utf-8")
    return len(json.loads(text)) if name.endswith(".json") else sum(bool(line.strip()) for line in text.split("\n"))


@pytest.mark.parametrize("template", [None, "llama3", "qwen3"])
@pytest.mark.parametrize(
    ("name", "stage", "file"),
    [
        ("identity", "sft", "identity.json"),
        ("alpaca_en_demo", "sft", "alpaca_en_demo.json"),
        ("dpo_en_demo", "dpo", "dpo_en_demo.json"),
        ("kto_en_demo", "kto", "kto_en_demo.json"),
        ("wiki_demo", "pt", "wiki_demo.txt"),
    ],
)
def test_every_row_of_a_file_with_an_entry(
    tmp_path: Path, name: str, stage: str, file: str, template: str | None
) -> None:
    found = imported(tmp_path, stage=stage, dataset=name, dataset_dir=str(DEMO), template=template)
    assert len(rows_of(found)) == stood_in(file)
    assert not [remark for remark in found.remarks if remark.key.startswith("dataset ")]


def test_every_entry_with_a_file_here_was_read_above() -> None:
    info: dict[str, Any] = json.loads((DEMO / "dataset_info.json").read_text(encoding="utf-8"))
    here = {name for name, entry in info.items() if (DEMO / entry.get("file_name", "none")).is_file()}
    assert here == {"identity", "alpaca_en_demo", "dpo_en_demo", "kto_en_demo", "wiki_demo"}


def test_the_next_version_through_an_entry_and_as_it_is(tmp_path: Path) -> None:
    found = imported(tmp_path, dataset="v1", dataset_dir={"v1": V1 | {"file_name": str(DEMO / "v1_sft_demo.jsonl")}})
    rows = rows_of(found)
    assert len(rows) == stood_in("v1_sft_demo.jsonl") == 500
    assert rows[0]["messages"][0] == {"role": "user", "content": "hi"}
    pairs = pairs_of(read_rows(DEMO / "v1_dpo_demo.jsonl"))
    assert len(pairs) == stood_in("v1_dpo_demo.jsonl") == 10
    assert {turn.role for pair in pairs for turn in pair.prompt} == {"system", "user"}
