"""The user's own reward functions in an export: each file is copied under a name that is free."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from export_support import REWARDS, grouped
from lastresort.interop.exporting.rewards import reward_files

LENGTH, ONE = REWARDS, REWARDS.replace("float(len(one))", "1.0")


def copied(folder: Path, *terms: tuple[str, str]) -> dict[str, str]:
    """Name in the export -> text, of terms (path, text)."""
    export, reward = folder / "export", []
    export.mkdir()
    for name, text in terms:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
        reward.append({"python": f"{folder / name}:score"})
    document: dict[str, Any] = {"reward": reward}
    reward_files(document, export, functions=True)
    names = [str(term["python"]).removesuffix(":score") for term in document["reward"]]
    return {name: (export / name).read_text(encoding="utf-8") for name in names}


def test_two_files_of_one_name_are_both_kept(tmp_path: Path) -> None:
    assert copied(tmp_path, ("a/mine.py", LENGTH), ("b/mine.py", ONE)) == {"mine.py": LENGTH, "mine_2.py": ONE}


def test_one_file_of_two_terms_is_copied_once(tmp_path: Path) -> None:
    assert copied(tmp_path, ("mine.py", LENGTH), ("mine.py", LENGTH)) == {"mine.py": LENGTH}


@pytest.mark.parametrize("name", ["rewards.py", "train.py", "prompts.py"])
def test_a_file_that_an_export_writes_is_not_replaced(name: str, tmp_path: Path) -> None:
    assert copied(tmp_path, (name, LENGTH)) == {f"own_{name}": LENGTH}


@pytest.mark.parametrize("to", ["trl", "axolotl", "skypilot"])
@pytest.mark.parametrize("line", ["import helper", "from helper import size", "    from helper.deep import size"])
def test_what_a_file_imports_from_beside_it_is_named(line: str, to: str, tmp_path: Path) -> None:
    (tmp_path / "helper.py").write_text("size = 1\n", encoding="utf-8")
    body = f"import json\nimport numpy\ndef score(prompts, completions, **columns):\n    pass\n{line}\n"
    (tmp_path / "counts.py").write_text(body, encoding="utf-8")
    found = grouped(tmp_path, to, reward=[{"python": "counts.py:score"}])
    (said,) = [note for note in found.notes if note.startswith("counts.py imports")]
    assert said.startswith("counts.py imports helper from beside it")
    assert not any("imports" in note for note in grouped(tmp_path / "alone", to).notes)


def test_the_script_stands_beside_them(tmp_path: Path) -> None:
    found = grouped(tmp_path, "trl", reward=[{"python": "mine.py:score"}])
    assert (found.folder / "mine.py").read_text(encoding="utf-8") == REWARDS
    assert "pip install SOURCE" in (found.folder / "README.md").read_text(encoding="utf-8")
    assert "GRPOTrainer" in (found.folder / "train.py").read_text(encoding="utf-8")
