"""What the documents show works: task files load, links lead somewhere."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from lastresort.spec.task import load_task

ROOT = Path(__file__).parent.parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
TASKS = [
    (path.name, block)
    for path in DOCUMENTS
    for block in re.findall(r"```yaml\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL)
    if "score:" in block
]


def test_there_are_task_files_in_the_documents() -> None:
    assert {name for name, _ in TASKS} == {"README.md", "task.md"}


@pytest.mark.parametrize(("name", "block"), TASKS, ids=[name for name, _ in TASKS])
def test_task_files_in_the_documents_load(name: str, block: str, tmp_path: Path) -> None:
    body = yaml.safe_load(block)
    (tmp_path / str(body["examples"])).write_text('{"input": "a", "output": "b"}\n')
    if "output" in body:
        (tmp_path / body["output"]["schema"]).write_text(json.dumps({"type": "object"}))
    (tmp_path / "task.yaml").write_text(block, encoding="utf-8")
    assert load_task(tmp_path / "task.yaml").task == body["task"]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), f"{path.name} links to {target}"
