"""One report for all that can be wrong with the data."""

from __future__ import annotations

import json
import random
import unicodedata
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pytest

from climb_support import scripted_task
from lastresort.app.data_check import OF_SIZES, UNREAD, check_task, checked_part
from lastresort.climb import prepare
from lastresort.data.check import check_data
from lastresort.data.read import read_examples
from lastresort.data.split import Split, remove_leaks
from lastresort.errors import TaskError
from lastresort.records.data_report import DataReport, FindingKind
from lastresort.report.words.data import lines
from lastresort.spec.task import Task, load_task
from lastresort.types import Example, Message

Rows = list[tuple[str, str]]


def side(name: str, rows: Rows) -> list[Example]:
    return [
        Example(f"{name}-{row}", (Message("user", text),), output, None, (), row, f"{name}.jsonl")
        for row, (text, output) in enumerate(rows, start=1)
    ]


def report_on(
    train: Rows, dev: Rows = (), test: Rows = (), *, choices: tuple[str, ...] | None = None, schema: dict | None = None
) -> DataReport:
    return check_data(
        side("train", train),
        side("dev", list(dev)),
        side("test", list(test)),
        count_tokens=None,
        context_tokens=None,
        choices=choices,
        json_schema=schema,
    )


def found_places(report: DataReport, kind: FindingKind) -> list[list[str]]:
    finding = report.finding(kind)
    return [] if finding is None else [[str(place) for place in places] for places in finding.places]


def test_clean_data_has_no_findings() -> None:
    report = report_on([("refund please", "a"), ("lamp broken", "b")], [("late parcel", "a")], [("wrong size", "b")])
    assert (report.findings, report.ok) == ((), True)
    assert report.counts == {"train": 2, "dev": 1, "test": 1}
    assert lines(report, None)[-1] == "no problems found"
    assert lines(report, None, "few items")[2:] == ["warning: few items"]


def test_duplicates_on_one_side() -> None:
    report = report_on([("cancel the order", "a"), ("Cancel the order!", "a"), ("please cancel the order", "a")])
    assert found_places(report, "exact_duplicates") == [
        ["row 1 of train.jsonl in train", "row 2 of train.jsonl in train"]
    ]
    assert found_places(report, "near_duplicates") == [
        ["row 1 of train.jsonl in train", "row 3 of train.jsonl in train"]
    ]
    assert report.ok


def test_leaks_name_both_places_and_are_warnings_since_a_climb_removes_them() -> None:
    report = report_on(
        [("cancel the order", "a"), ("please track my parcel", "a"), ("other thing", "b")],
        [("Cancel the order", "a")],
        [("track my parcel", "a"), ("cancel the order.", "a")],
    )
    assert found_places(report, "exact_leaks") == [["row 1 of train.jsonl in train", "row 2 of test.jsonl in test"]]
    assert found_places(report, "near_leaks") == [["row 2 of train.jsonl in train", "row 1 of test.jsonl in test"]]
    assert found_places(report, "dev_in_test") == [["row 1 of dev.jsonl in dev", "row 2 of test.jsonl in test"]]
    assert {one.severity for one in report.findings} == {"warning"}
    assert report.ok


def test_a_near_leak_is_seen_beside_an_exact_one_of_the_same_item() -> None:
    """Both training rows give the same test item away; finding the first must not hide the second."""
    split = Split(
        tuple(side("train", [("cancel the order", "a"), ("please cancel the order", "a"), ("lamp", "b")])),
        tuple(side("dev", [("chair", "b")])),
        tuple(side("test", [("cancel the order", "a")])),
    )
    cleaned, leaks = remove_leaks(split)
    assert [(leak.kind, leak.train.row, leak.side, leak.held.row) for leak in leaks] == [
        ("exact", 1, "test", 1),
        ("near", 2, "test", 1),
    ]
    assert [item.row for item in cleaned.train] == [3]
    assert (cleaned.dev, cleaned.test) == (split.dev, split.test)
    assert remove_leaks(cleaned) == (cleaned, ())


def test_conflicts_compare_json_by_value() -> None:
    report = report_on(
        [("one", '{"a":1,"b":2}'), ("two", "x"), ("three", "x ")],
        [("One", '{"b": 2, "a": 1}')],
        [("two", "y"), ("three", "x")],
    )
    assert found_places(report, "conflicting_labels") == [
        ["row 2 of train.jsonl in train", "row 1 of test.jsonl in test"]
    ]
    finding = report.finding("conflicting_labels")
    assert finding is not None
    assert finding.details == ("x / y",)


def test_outputs_outside_the_choices_say_which_one_was_meant() -> None:
    report = report_on([("one", "Billing"), ("two", "billing."), ("three", "sales")], choices=("Billing", "Support"))
    finding = report.finding("invalid_outputs")
    assert finding is not None
    assert finding.details == ('"billing.", perhaps "Billing"', '"sales"')
    assert finding.severity == "error"
    unused = report.finding("labels_unused")
    assert unused is not None
    assert unused.says == "1 of the choices is the label of no row"
    assert unused.details == ('"Support"',), "named once"
    assert report.finding("labels_unseen") is None, "the same, said once"
    assert report.labels["Billing"] == {"train": 1, "dev": 0, "test": 0}


@pytest.mark.parametrize(
    ("label", "meant"),
    [
        ("Wether", "Weather"), ("weahter", "Weather"), ("Bok a table", "Book a table"), ("book_a_tabel", "Book a table"),
        ("Plan B", None), ("Type III", None), ("v2 table", None), ("Weathered", None), ("ca", None), ("cot", None),
        ("Weather", None), ("Book table", None),
    ],
)  # fmt: skip
def test_a_label_with_a_typo_says_which_one_was_meant(label: str, meant: str | None) -> None:
    known = ("Weather", "Book a table", "Plan A", "Type II", "v1 table", "cat")
    typo = f'"{label}", perhaps "{meant}"'
    if label not in known:
        finding = report_on([("one", label)], choices=known).finding("invalid_outputs")
        assert finding is not None
        assert finding.details == (typo if meant else f'"{label}"',)
    rows = [(f"text {n}", known[n % 6]) for n in range(120)]
    rare = report_on([*rows, ("odd", label)]).finding("labels_rare")
    assert (rare.details if rare else ()) == (
        (f'"{label}": 1' + (f', perhaps "{meant}"' if meant else ""),) if label not in known else ()
    )
    unseen = report_on(rows, [], [("odd", label)]).finding("labels_unseen")
    assert (unseen.details if unseen else ()) == ((typo if meant else f'"{label}"',) if label not in known else ())
    few = report_on([(f"text {n}", known[n % 6]) for n in range(54)] + [("odd", label)]).finding("labels_rare")
    assert few is None or "perhaps" not in few.details[0], "the other is not much more frequent"


def test_typos_are_looked_for_among_many_labels_without_comparing_all_with_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each label, and each output that is none, is taken apart a few times at most."""
    rng, n_composed = random.Random(0), [0]
    known = tuple(" ".join("".join(rng.choices("abcdefgh", k=7)) for _ in range(2)) for _ in range(200))
    rows = [(f"text {n}", label) for n, label in enumerate(known[:40] * 12 + known[40:])]
    rows += [(f"odd {n}", label[1:]) for n, label in enumerate(known)]

    def composed(form: Literal["NFC"], text: str) -> str:
        n_composed[0] += 1
        return unicodedata.normalize(form, text)

    monkeypatch.setattr("lastresort.data.duplicates.unicodedata", SimpleNamespace(normalize=composed))
    report = report_on(rows, choices=known)
    found = report.finding("invalid_outputs")
    assert found is not None
    assert f'"{known[0][1:]}", perhaps "{known[0]}"' in found.details
    assert n_composed[0] < 20 * len(rows)


def test_labels_that_differ_by_case_or_spaces_alone_are_named_with_their_rows() -> None:
    rows = [(f"text {i}", "Account Management" if i % 2 else "{Other}") for i in range(8)]
    rows += [("odd", "account management"), ("odder", "Account  Management")]
    report = report_on(rows)
    finding = report.finding("labels_respelt")
    assert finding is not None
    assert finding.says.startswith("2 rows have a label that differs from another only by case or spaces")
    assert finding.says.endswith(
        '"account management" beside "Account Management", "Account Management" with other spaces'
    )
    assert found_places(report, "labels_respelt") == [
        ["row 9 of train.jsonl in train"],
        ["row 10 of train.jsonl in train"],
    ]
    assert report_on(rows[:8]).finding("labels_respelt") is None


def test_spaces_around_labels_of_a_table_are_left_out_which_is_said_once(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    cells = ["language ", " language", *("language", "billing") * 4]
    file.write_text("input,output\n" + "".join(f"text {n},{cell}\n" for n, cell in enumerate(cells)), "utf-8")
    examples = read_examples(file)
    report = check_data(examples, (), (), count_tokens=None, context_tokens=None, choices=None, json_schema=None)
    assert set(report.labels) == {"language", "billing"}
    finding = report.finding("labels_stripped")
    assert finding is not None
    assert (finding.severity, finding.says) == (
        "note",
        "2 rows of tables have spaces around their label; they are left out",
    )
    assert found_places(report, "labels_stripped") == [
        ["row 1 (line 2) of rows.csv in train"],
        ["row 2 (line 3) of rows.csv in train"],
    ]


@pytest.mark.parametrize(("first", "stripped"), [("sales", None), (" sales ", 1)])
def test_spaces_around_each_cell_of_a_label_of_several_columns_are_left_out(
    first: str, stripped: int | None, tmp_path: Path
) -> None:
    file, teams = tmp_path / "rows.csv", [first, *["sales"] * 7]
    lines = [f"text {n},{team},{'yn'[n % 2]}\n" for n, team in enumerate(teams)]
    file.write_text("".join(["input,team,urgent\n", *lines]), "utf-8")
    examples = read_examples(file, names={"input": ("input",), "output": ("team", "urgent")})
    report = check_data(examples, (), (), count_tokens=None, context_tokens=None, choices=None, json_schema=None)
    assert set(report.labels) == {'{"team":"sales","urgent":"y"}', '{"team":"sales","urgent":"n"}'}
    finding = report.finding("labels_stripped")
    assert (None if finding is None else finding.count) == stripped


def test_labels_of_few_rows_are_named_with_their_number() -> None:
    rows = [(f"text {n}", "ab"[n % 2]) for n in range(20)]
    report = report_on([*rows, ("odd", "sales")])
    finding = report.finding("labels_rare")
    assert finding is not None
    assert finding.says == "1 label has fewer than 4 rows, too few to learn and to test it"
    assert (finding.severity, finding.details) == ("warning", ('"sales": 1',))
    assert report_on(rows).finding("labels_rare") is None
    assert report_on([*rows, ("odd", "A")]).finding("labels_rare") is None, "another spelling, which is said already"
    assert report_on(rows, [], [("odd", "sales")]).finding("labels_rare") is None, "labels_unseen says it"
    assert report_on(rows[:2]).finding("labels_rare") is None, "all are"


def test_outputs_against_a_schema() -> None:
    schema = {"type": "object", "required": ["team"], "properties": {"team": {"type": "string"}}}
    report = report_on([("one", '{"team":"x"}'), ("two", '{"team":3}'), ("three", "x")], schema=schema)
    finding = report.finding("invalid_outputs")
    assert finding is not None
    assert found_places(report, "invalid_outputs") == [
        ["row 2 of train.jsonl in train"],
        ["row 3 of train.jsonl in train"],
    ]
    assert finding.details == ("$.team: 3 is not of type 'string'", '"x" is not JSON')
    with pytest.raises(TaskError, match=r"output\.schema.*'nothing' is not valid"):
        report_on([("one", "x")], schema={"type": "nothing"})


def test_lengths_and_what_exceeds_the_context() -> None:
    rows: Rows = [("w " * n, "x") for n in range(1, 101)]
    report = check_data(
        side("train", rows),
        [],
        [],
        count_tokens=lambda item: len(item.input_text.split()),
        context_tokens=98,
        choices=None,
        json_schema=None,
    )
    assert report.tokens == {"train": {"shortest": 1, "half": 50, "90%": 90, "99%": 99, "longest": 100}}
    assert found_places(report, "too_long") == [["row 99 of train.jsonl in train"], ["row 100 of train.jsonl in train"]]
    assert not report.ok


def test_inputs_without_words_are_warned_about() -> None:
    report = report_on([(f"T-{n}", "ab"[n % 2]) for n in range(19)] + [("no number", "a")])
    finding = report.finding("inputs_codes")
    assert finding is not None
    assert (finding.severity, finding.count, finding.details[:2]) == ("warning", 19, ("T-0", "T-1"))
    assert finding.says.startswith(
        "19 inputs are codes or numbers, without words; if another column holds the text, name"
    )
    some = [(f"T-{n}" if n % 2 else f"the lamp {n}", "ab"[n % 2]) for n in range(20)]
    assert report_on(some).finding("inputs_codes") is None


def test_free_text_has_no_labels() -> None:
    assert report_on([(f"question {n}", f"answer {n}") for n in range(20)]).labels == {}
    assert set(report_on([(f"question {n}", "ab"[n % 2]) for n in range(20)]).labels) == {"a", "b"}


def test_the_report_is_json_and_its_lines_are_short() -> None:
    rows: Rows = [(f"cancel order {n}", "a") for n in range(10)]
    report = report_on(rows, [], rows)
    assert DataReport.model_validate(json.loads(json.dumps(report.as_json()))) == report
    (leaks,) = [line for line in lines(report, None) if "also in dev or test" in line]
    assert leaks == (
        "warning: 10 train inputs are also in dev or test; a climb leaves them out of train "
        "(row 1 of train.jsonl in train = row 1 of test.jsonl in test; "
        "row 2 of train.jsonl in train = row 2 of test.jsonl in test; "
        "row 3 of train.jsonl in train = row 3 of test.jsonl in test and 7 more)"
    )


@pytest.mark.parametrize(
    "more",
    [
        {"preferences": "pairs.jsonl", "ladder": ["prompting", "preference"]},
        {"knowledge": "facts.md", "ladder": ["prompting", "retrieval", "sft", "full"]},
        {"reward": [{"exact": {}, "weight": 1}], "ladder": ["prompting", "preference"]},
    ],
)
def test_what_a_check_depends_on_is_all_that_it_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: dict[str, Any]
) -> None:
    """Watched while it reads a task: first whole, then without the look at the size of the test set."""
    pair = {"prompt": "an invented prompt", "chosen": "a", "rejected": "b"}
    (tmp_path / "pairs.jsonl").write_text(json.dumps(pair) + "\n")
    (tmp_path / "facts.md").write_text("# Teams\nThere are three.\n")
    task = load_task(scripted_task(tmp_path, quality=[{"right": 0.9}], task=more))
    read, own = set[str](), Task.__getattribute__

    def watched(self: Task, name: str) -> object:
        read.add(name)
        return own(self, name)

    with monkeypatch.context() as patch:
        patch.setattr(Task, "__getattribute__", watched)
        check_task(task)
        assert "bar" in read
        assert read & UNREAD == set()
        patch.setattr(prepare, "refuse_few_items", lambda prepared: None)
        read.clear()
        check_task(task)
    assert "examples" in read
    assert read & OF_SIZES <= {"ladder"}, "read for more than the size of the test set"


def test_tasks_that_a_check_tells_apart(tmp_path: Path) -> None:
    """The ladder counts by its size alone, and by whether it reads preferences."""

    def part(sizes: bool = False, **more: Any) -> str:
        path = scripted_task(tmp_path, quality=[{"right": 0.9}], task=more)
        return checked_part(load_task(path), sizes=sizes)

    for same in ({"bar": 0.7}, {"limits": {"hours": 1}}, {"ladder": ["prompting"]}, {"use": {"calls_per_month": 9}}):
        assert part(**same) == part()
    for other in ({"about": "Route it."}, {"split": {"dev": 50, "test": 120}}, {"score": "exact"},
                  {"ladder": ["prompting", "preference"]}):  # fmt: skip
        assert part(**other) != part()
    assert part(sizes=True, bar=0.7) != part(sizes=True)
    assert part(sizes=True, limits={"hours": 1}) == part(sizes=True)
