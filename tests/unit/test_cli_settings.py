"""`--set KEY=VALUE` reads a value as it would stand in the task file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lastresort.cli.options import parse_settings
from lastresort.errors import InputError
from lastresort.spec.document import read_document

VALUES = ["[yes, no]", "12:30", "010", "2024-01-01", "on", "0x1F", "1_000", ".inf", "1e-4", "3", "0.5", "true", "null"]
VALUES += ["~", "", '"a: b"', "{dev: 0.1, test: 20}", "a=b", "é 条", "'yes'", "- a"]


@pytest.mark.parametrize("text", VALUES)
def test_a_value_is_what_it_would_be_in_the_file(text: str, tmp_path: Path) -> None:
    (tmp_path / "task.yaml").write_text(f"key:\n  {text}\n", encoding="utf-8")
    assert parse_settings([f"key={text}"]) == {"key": read_document(tmp_path / "task.yaml").values["key"]}


def test_yaml_1_1_is_not_read() -> None:
    found: dict[str, Any] = parse_settings(["output.choices=[yes, no]", "about=12:30", "task=010", "x = 2024-01-01"])
    assert found == {"output.choices": ["yes", "no"], "about": "12:30", "task": "010", "x": "2024-01-01"}


@pytest.mark.parametrize(
    "text", ["[a", "a: b: c", "*alias", "!!python/name:os.system x", "{a: 1, a: 2}", "\x07", "[" * 5000]
)
def test_what_is_no_value_is_refused(text: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_settings([f"split={text}"])
    assert caught.value.where.startswith("--set split")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["split.seed", "=3", ""])
def test_what_is_no_setting_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="KEY=VALUE"):
        parse_settings([text])
