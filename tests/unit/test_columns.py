"""`columns`: a file whose columns keep their owner's names."""

from pathlib import Path

import pytest

from lastresort.climb.prepare import read_split
from lastresort.data.formats.rows import RawRow
from lastresort.data.read import read_examples, renamed
from lastresort.errors import DataError, TaskError
from lastresort.spec.task import load_task

TASK = "task: t\nabout: Say which.\nexamples: rows.csv\nscore: exact\nbar: 0.6\n"
CSV = "body,urgency,kind,who\nMy tap drips.,low,plumbing,a\nNo light.,high,electrics,b\n"


def _task(folder: Path, columns: str, more: str = "") -> Path:
    (folder / "rows.csv").write_text(CSV)
    path = folder / "task.yaml"
    path.write_text(f"{TASK}columns: {columns}\n{more}")
    return path


def test_a_column_is_read_under_its_own_name(tmp_path: Path) -> None:
    task = load_task(_task(tmp_path, "{input: body, output: kind}"))
    assert task.columns is not None
    examples = read_examples(tmp_path / "rows.csv", names=task.columns.names)
    assert [(one.input_text, one.output) for one in examples] == [
        ("My tap drips.", "plumbing"),
        ("No light.", "electrics"),
    ]


def test_several_columns_are_shown_as_one_object(tmp_path: Path) -> None:
    task = load_task(_task(tmp_path, "{input: [body, urgency], output: kind}"))
    assert task.columns is not None
    first = read_examples(tmp_path / "rows.csv", names=task.columns.names)[0]
    assert first.input_text == '{"body":"My tap drips.","urgency":"low"}'


def test_group_by_names_a_column_of_the_file(tmp_path: Path) -> None:
    _task(tmp_path, "{input: body, output: kind}")
    names = {"input": ("body",), "output": ("kind",)}
    examples = read_examples(tmp_path / "rows.csv", group_by="who", names=names)
    assert [one.group for one in examples] == ["a", "b"]
    (tmp_path / "rows.csv").write_text(CSV.replace("who", "Group"))
    examples = read_examples(tmp_path / "rows.csv", group_by="Group", names=names)
    assert [one.group for one in examples] == ["a", "b"], "as the header spells a known name"


def test_an_id_and_passages_may_have_names_too(tmp_path: Path) -> None:
    rows = [RawRow({"q": "x", "a": "y", "key": "7", "source": "d#1"}, 1, "f, row 1")]
    names = {"input": ("q",), "output": ("a",), "id": ("key",), "passages": ("source",)}
    assert renamed(rows, names)[0].values == {"input": "x", "output": "y", "id": "7", "passages": "d#1"}


def test_a_missing_column_is_named_with_those_there_are(tmp_path: Path) -> None:
    _task(tmp_path, "{input: bodi, output: kind}")
    with pytest.raises(
        DataError,
        match=r'row 1 \(line 2\): no column "bodi", expected one of body, kind, urgency, who. Correct `columns.input`',
    ):
        read_examples(tmp_path / "rows.csv", names={"input": ("bodi",), "output": ("kind",)})


def test_a_wrong_name_is_told_at_its_line_of_the_task_file_with_the_near_one(tmp_path: Path) -> None:
    path = _task(tmp_path, "{input: bodi, output: kind}")
    (line,) = [n for n, text in enumerate(path.read_text().splitlines(), 1) if text.startswith("columns:")]
    with pytest.raises(TaskError) as refused:
        read_split(load_task(path))
    assert str(refused.value) == (
        f'{path}, line {line}, key "columns.input": rows.csv has no column "bodi", expected one of body, kind, urgency, who. '
        'Did you mean "body"?'
    )
    assert refused.value.key == ("columns", "input")


@pytest.mark.parametrize("key", ["columns.input", "split.group_by"])
def test_a_wrong_name_from_outside_the_file_is_refused_with_the_columns_of_the_file(tmp_path: Path, key: str) -> None:
    path = _task(tmp_path, "{input: body, output: kind}")
    with pytest.raises(TaskError) as refused:
        read_split(load_task(path, {key: "bdy"}))
    assert str(refused.value) == (
        f'{path}, key "{key}" (from --set): rows.csv has no column "bdy", expected one of body, kind, urgency, who. '
        'Did you mean "body"?'
    )
    assert refused.value.key == tuple(key.split("."))


@pytest.mark.parametrize(
    ("columns", "remedy"),
    [
        ("{input: text, output: intent}", "Name one of them."),  # the nearest name is that of the answers
        ("{input: uterance, output: intent}", 'Did you mean "utterance"?'),
        ("{input: utterance, output: client}", "Name one of them."),
    ],
)
def test_no_column_is_proposed_that_is_another_side_or_only_a_little_alike(
    columns: str, remedy: str, tmp_path: Path
) -> None:
    path = _task(tmp_path, columns)
    (tmp_path / "rows.csv").write_text("utterance,intent\nMy tap drips.,plumbing\nNo light.,electrics\n")
    with pytest.raises(TaskError, match="expected one of intent, utterance") as refused:
        read_split(load_task(path))
    assert refused.value.remedy == remedy


def test_a_wrong_name_that_was_set_from_outside_is_not_told_at_a_line_of_the_file(tmp_path: Path) -> None:
    path = _task(tmp_path, "{input: body, output: kind}")
    for settings in ({"columns.input": "bodi"}, {"columns.input": ["body", "bodi"]}):
        with pytest.raises(TaskError) as refused:
            read_split(load_task(path, settings))
        assert refused.value.where == f'{path}, key "columns.input" (from --set)'
    with pytest.raises(TaskError, match=r'line \d+, key "columns.output"'):
        read_split(load_task(_task(tmp_path, "{input: body, output: sort}"), {"columns.input": "who"}))


def test_an_empty_cell_is_told_by_the_owners_name(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("body,kind\nMy tap drips.,\n")
    with pytest.raises(DataError, match='key "kind"'):
        read_examples(tmp_path / "rows.csv", names={"input": ("body",), "output": ("kind",)})


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ("{input: body}", "columns.output"),
        ("{input: [body, kind], output: kind}", 'columns.output.*found "kind" for both'),
        ("{input: 3, output: kind}", r"columns.input.*found a number \(3\)"),
        ("{input: [], output: kind}", "columns.input.*a column, or a list of columns"),
        ("{inputs: body, output: kind}", 'columns.inputs.*Write "input"'),
    ],
)
def test_a_wrong_key_is_refused(tmp_path: Path, columns: str, said: str) -> None:
    with pytest.raises(TaskError, match=said):
        load_task(_task(tmp_path, columns))


def test_the_task_as_resolved_loads_as_an_equal_task(tmp_path: Path) -> None:
    import yaml

    path = _task(tmp_path, "{input: [body, urgency], output: kind}")
    task = load_task(path)
    again = tmp_path / "again.yaml"
    again.write_text(yaml.safe_dump(task.resolved()))
    assert load_task(again).columns == task.columns
