"""Changes to the text of a task file: what is set is set, and everything else stays as it was written."""

from pathlib import Path

import pytest

from lastresort.errors import TaskError
from lastresort.spec.document import parse_document
from lastresort.spec.edit import moved, with_comments, with_key
from lastresort.types import Json

TEXT = """\
# A comment at the top.
task: reviews          # the name
about: |
  Read the text.
  Answer with a label.

# Before the bar.
bar: 0.85              # reach this
split: {dev: 24, test: 96}   # the parts
ladder:
  - prompting
  # between
  - sft
score: choice
"""


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("bar", 0.9),
        ("bar", None),
        ("task", "other"),
        ("about", 'Read: "this" # and that\nthen answer.'),
        ("about", None),
        ("split.dev", 30),
        ("split.seed", 3),
        ("split.dev", None),
        ("ladder", ["prompting"]),
        ("ladder", None),
        ("limits.hours", 2),
        ("sft.epochs", 1),
        ("score", "no"),
        ("score", None),
        ("model", "https://host/v1#name"),
    ],
)
def test_only_the_key_changes(key: str, value: Json) -> None:
    top, _, below = key.partition(".")
    before, after = parse_document(TEXT, "t").values, parse_document(with_key(TEXT, key, value), "t").values
    found = after.get(top)
    if below and isinstance(found, dict):
        assert found.get(below) == value
        assert {k: v for k, v in found.items() if k != below} == {
            k: v for k, v in dict(before.get(top) or {}).items() if k != below
        }
    else:
        assert found == value
    assert {k: v for k, v in after.items() if k != top} == {k: v for k, v in before.items() if k != top}


def test_comments_and_order_stay() -> None:
    changed = with_key(with_key(TEXT, "bar", 0.9), "split.dev", 30)
    assert changed == TEXT.replace("0.85", "0.9").replace("dev: 24", "dev: 30")
    assert with_key(TEXT, "task", None) == TEXT.replace("task: reviews          # the name\n", "")


def test_a_key_with_nothing_behind_it_gets_a_value() -> None:
    assert with_key("task:\nbar: 0.5\n", "task", "a") == "task: a\nbar: 0.5\n"
    assert with_key("bar: 0.5", "task", "a") == "bar: 0.5\ntask: a\n"


def test_a_section_in_short_keeps_what_it_says() -> None:
    assert with_key("adapter: rslora\n", "adapter.r", 8, short="kind") == "adapter: {kind: rslora, r: 8}\n"


def test_a_text_in_which_it_cannot_be_set_is_refused() -> None:
    with pytest.raises(TaskError, match="cannot be set from the form"):
        with_key("{task: a, bar: 0.5}\n", "score", "exact")
    with pytest.raises(TaskError, match="not YAML"):
        with_key("task: [a\n", "bar", 0.5)


def test_names_of_files_follow_the_file(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "tasks" / "new"
    (old / "docs").mkdir(parents=True)
    new.mkdir(parents=True)
    for name in ("rows.jsonl", "s.json", "score.py", "tickets"):
        (old / name).touch()
    text = (
        "task: tickets\nabout: rows.jsonl\nexamples: {train: rows.jsonl}  # the rows\nknowledge: docs/\n"
        'score: {python: "score.py:score"}\noutput: {schema: s.json, choices: [rows.jsonl]}\nmodel: org/name\n'
    )
    assert moved(text, old, new) == (
        "task: tickets\nabout: rows.jsonl\nexamples: {train: ../../old/rows.jsonl}  # the rows\nknowledge: ../../old/docs\n"
        "score: {python: ../../old/score.py:score}\noutput: {schema: ../../old/s.json, choices: [rows.jsonl]}\nmodel: org/name\n"
    )


def test_a_comment_is_changed_behind_its_key_and_above_it() -> None:
    assert with_comments(TEXT, "bar", str.upper) == TEXT.replace("# Before the bar.", "# BEFORE THE BAR.").replace(
        "# reach this", "# REACH THIS"
    )
    assert with_comments(TEXT, "bar", lambda _: "") == TEXT.replace("# Before the bar.\n", "").replace(
        "              # reach this", ""
    )
    assert with_comments(TEXT, "split", str.upper) == TEXT.replace("# the parts", "# THE PARTS")
    for key in ("ladder", "about", "score", "nothing"):
        assert with_comments(TEXT, key, str.upper) == TEXT


def test_what_looks_like_a_comment_inside_a_value_stays() -> None:
    text = 'about: "a # b"  # c\nscore: |\n  # d\nbar: 0.5\n'
    assert with_comments(text, "about", str.upper) == text.replace("# c", "# C")
    assert with_comments(text, "bar", str.upper) == text
