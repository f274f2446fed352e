"""However long what is quoted, a message fits on a screen, and says where, what and what to do."""

from __future__ import annotations

import pytest

from lastresort.data.files import table_rows
from lastresort.errors import LONGEST, DataError, TaskError


def test_an_ordinary_message_is_kept_to_the_letter() -> None:
    found, remedy = "found " + "a" * 300, "Write " + "b" * 300 + "."
    error = TaskError(found, where="task.yaml", expected="text", remedy=remedy)
    assert str(error) == f"task.yaml: {found}, expected text. {remedy}"


@pytest.mark.parametrize("part", ["found", "where", "expected", "remedy"])
def test_a_message_that_quotes_a_megabyte_keeps_both_ends_of_each_part(part: str) -> None:
    parts = {"found": "found it", "where": "a.jsonl, row 3", "expected": "text", "remedy": "Correct it."}
    parts[part] = f"begins {'a' * 1_000_000} ends."
    error = DataError(parts.pop("found"), **parts)
    assert len(str(error)) < LONGEST
    assert "begins aaa" in str(error)
    assert "aaa ends." in str(error)
    assert all(own in str(error) for own in parts.values() if len(own) < 200)


def test_a_table_of_40_000_columns_names_the_one_that_is_there_twice() -> None:
    names = [f"c{number}" for number in range(40_000)]
    with pytest.raises(DataError, match=r'a\.csv, header: found the column "c39999" twice'):
        table_rows(",".join([*names, "c39999"]) + "\n1\n", "a.csv", ".csv")
