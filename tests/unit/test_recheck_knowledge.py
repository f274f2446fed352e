"""`recheck RUN` with documents that changed: which recorded answers rest on them, and whether they still hold."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from climb_support import calls
from lastresort.after.recheck.documents import AffectedAnswer, _by_file, staleness, standing
from lastresort.app.climb import Climbed
from lastresort.errors import DataError, InputError
from lastresort.knowledge.update import DocumentChanges, file_changes, file_hashes
from lastresort.records.record import Record
from lastresort.report.recheck import RecheckDocument
from recheck_support import copied, knowing_run, rechecked, tuned_run, untouched
from retrieval_support import NAMES, code


@pytest.fixture
def reading(handbook: Climbed) -> Path:
    """A run that retrieval won."""
    return handbook.run


@pytest.fixture(scope="module")
def knowing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that sft won after retrieval failed."""
    return knowing_run(tmp_path_factory.mktemp("knowing"))


def documents(run: Path, folder: Path, change: Callable[[int, str], str | None] = lambda number, text: text) -> Path:
    """The run's documents with a change of each page; None takes it away."""
    pages = folder / "new docs"
    pages.mkdir()
    for number, name in enumerate(NAMES):
        text = (run.parent.parent / "task" / "docs" / f"{name}.md").read_text(encoding="utf-8")
        if (changed := change(number, text)) is not None:
            (pages / f"{name}.md").write_text(changed, encoding="utf-8")
    return pages


def recoded(number: int, text: str) -> str:
    """Every tenth machine has another code."""
    return text.replace(code(number), f"Z{number}") if number % 10 == 0 else text


def machine(question: str) -> int:
    return NAMES.index(question.split(" the ")[1].rstrip("?"))


def recoded_items(run: Path) -> int:
    """How many right answers were recorded to questions about such a machine."""
    with Record.open(run, read_only=True) as record:
        (test,) = [
            m for m in record.measurements() if m.split == "test" and m.rung in ("retrieval", "sft") and m.score > 0.6
        ]
    return sum(item.score == 1 and machine(item.input) % 10 == 0 for item in test.items)


def test_the_documents_as_they_were_are_no_change(reading: Path, tmp_path: Path) -> None:
    run = copied(reading, tmp_path)
    asked = len(calls(reading.parent.parent / "task"))
    found = rechecked(run)
    assert RecheckDocument.model_validate(found).as_json() == found
    assert (found["verdict"], found["yes"]) == ("CURRENT", True)
    assert found["knowledge"]["passages"] == {"gone": [], "new": 0}
    assert found["look"] is None
    assert len(calls(reading.parent.parent / "task")) == asked


@pytest.mark.slow
def test_a_reader_is_stale_where_it_would_answer_otherwise_now(reading: Path, tmp_path: Path) -> None:
    run = copied(reading, tmp_path)
    before = untouched(run)
    found = rechecked(run, documents=documents(run, tmp_path, recoded))
    assert RecheckDocument.model_validate(found).as_json() == found
    expected = recoded_items(run)
    assert expected > 0
    assert (found["verdict"], found["yes"]) == ("STALE", False)
    told = found["knowledge"]
    assert told["documents"]["changed"] == sorted(f"{name}.md" for name in NAMES[::10])
    assert told["passages"]["gone"] == sorted(f"{name}.md#code:1" for name in NAMES[::10])
    assert told["items"]["differing"] >= expected
    for one in told["affected"]:
        number = machine(one["input"])
        if number % 10 == 0 and one["score"] == 1:
            assert (one["answer"], one["answer_now"], one["standing"]) == (code(number), f"Z{number}", "GONE")
            assert (one["score"], one["score_now"]) == (
                1.0,
                0.0,
            )  # by the expected answer of the run, which is out of date
    assert f"changes {told['items']['differing']} of its" in found["answer"]
    assert untouched(run) == before
    assert not (run / "recheck-store").exists()


@pytest.mark.slow
def test_a_reader_that_repeats_itself_is_current_whatever_else_changed(reading: Path, tmp_path: Path) -> None:
    run = copied(reading, tmp_path)
    pages = documents(run, tmp_path, lambda _, text: text.replace("is easy to use", "is simple to use"))
    found = rechecked(run, documents=pages)
    assert (found["verdict"], found["yes"]) == ("CURRENT", True)
    assert len(found["knowledge"]["documents"]["changed"]) == len(NAMES)
    assert "repeats all of its" in found["answer"]


@pytest.mark.slow
def test_a_recheck_that_was_cut_off_goes_on(reading: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = copied(reading, tmp_path)
    pages = documents(run, tmp_path, recoded)

    def cut(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("lastresort.after.recheck.documents.content_hash", cut)
        with pytest.raises(KeyboardInterrupt):
            rechecked(run, documents=pages)
    assert (run / "recheck-store").exists()
    assert rechecked(run, documents=pages)["verdict"] == "STALE"


def test_what_was_trained_in_is_stale_where_its_passage_says_it_no_more(knowing: Path, tmp_path: Path) -> None:
    run = copied(knowing, tmp_path)
    before = untouched(run)
    found = rechecked(run, documents=documents(run, tmp_path, recoded))
    assert RecheckDocument.model_validate(found).as_json() == found
    told = found["knowledge"]
    assert (found["verdict"], found["yes"], found["winner"]["kind"]) == ("STALE", False, "adapter")
    assert told["items"]["resting_on_changed"] == recoded_items(run) == len(told["affected"]) > 0
    assert told["items"]["differing"] is None
    assert {one["standing"] for one in told["affected"]} == {"GONE"}
    assert {one["answer_now"] for one in told["affected"]} == {None}
    assert f"{recoded_items(run)} right answers came from passages" in found["answer"]
    assert untouched(run) == before


def test_what_was_trained_in_may_hold_where_only_the_wording_changed(knowing: Path, tmp_path: Path) -> None:
    run = copied(knowing, tmp_path)
    pages = documents(run, tmp_path, lambda _, text: text.replace("shows the code", "tells you"))
    found = rechecked(run, documents=pages)
    assert (found["verdict"], found["yes"]) == ("CANNOT_TELL", None)
    assert {one["standing"] for one in found["knowledge"]["affected"]} == {"STANDS"}
    assert "Read the listed items" in found["answer"]


def test_what_was_trained_in_holds_where_its_passages_are_as_they_were(knowing: Path, tmp_path: Path) -> None:
    run = copied(knowing, tmp_path)
    pages = documents(run, tmp_path, lambda _, text: text.replace("is easy to use", "is simple to use"))
    (pages / "another.md").write_text("# Another\n\nIs new.\n", encoding="utf-8")
    found = rechecked(run, documents=pages)
    assert (found["verdict"], found["yes"]) == ("CURRENT", True)
    assert found["knowledge"]["documents"]["added"] == ["another.md"]
    assert "none of the passages that the" in found["answer"]


def test_a_page_that_only_moved_is_no_change_of_what_it_says(knowing: Path, tmp_path: Path) -> None:
    run = copied(knowing, tmp_path)
    pages = documents(run, tmp_path)
    (pages / f"{NAMES[0]}.md").rename(pages / "moved.md")
    found = rechecked(run, documents=pages)
    assert found["knowledge"]["documents"] == {"added": ["moved.md"], "changed": [], "removed": [f"{NAMES[0]}.md"]}
    assert found["knowledge"]["passages"]["gone"] == []
    assert found["verdict"] == "CURRENT"


@pytest.mark.slow
def test_without_labels_what_was_trained_in_cannot_be_told(tmp_path: Path) -> None:
    run = knowing_run(tmp_path, labelled=False)
    found = rechecked(run, documents=documents(run, tmp_path, recoded))
    assert (found["verdict"], found["yes"]) == ("CANNOT_TELL", None)
    assert "do not name the passages" in found["answer"]


def test_without_a_store_files_are_compared(tmp_path: Path) -> None:
    """Where the knowledge may not go into the prompt, the run has cut no passages, but noted its files."""
    run = knowing_run(tmp_path, use={"context": "forbidden"})
    assert not (run / "store").exists()
    assert rechecked(run)["verdict"] == "CURRENT"
    found = rechecked(run, documents=documents(run, tmp_path, recoded))
    told = found["knowledge"]
    assert (found["verdict"], told["compared"], told["passages"]) == ("CANNOT_TELL", "files", None)
    assert told["documents"]["changed"] == sorted(f"{name}.md" for name in NAMES[::10])
    assert told["items"]["resting_on_changed"] == recoded_items(run)
    assert {one["standing"] for one in told["affected"]} == {"UNKNOWN"}


@pytest.mark.slow
def test_a_reader_whose_run_lost_its_store_is_compared_with_its_own(reading: Path, tmp_path: Path) -> None:
    run = copied(reading, tmp_path)
    shutil.rmtree(run / "store")
    pages = documents(run, tmp_path)
    (pages / "another.md").write_text("# Another\n\nIs new.\n", encoding="utf-8")
    found = rechecked(run, documents=pages)
    assert (found["verdict"], found["knowledge"]["compared"]) == ("CURRENT", "passages")


def test_an_item_one_of_whose_labels_names_nothing_cannot_be_told() -> None:
    """What it rests on may be just what that label meant."""
    order = (SimpleNamespace(passages=("a.md#x", "lost")), SimpleNamespace(passages=("a.md#x",)))
    finished = SimpleNamespace(order=order, decision=SimpleNamespace(winner=SimpleNamespace(sha256="")))
    winner = SimpleNamespace(items=(SimpleNamespace(id="1"), SimpleNamespace(id="2")))
    found = _by_file(finished, winner, {"a.md": "1", "b.md": "1"}, {"a.md": "1", "b.md": "2"})  # type: ignore[arg-type]
    assert found.named == {"2"}


def test_documents_of_a_task_that_names_none_cannot_be_compared(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="recorded neither passages nor documents"):
        rechecked(tuned_run(tmp_path / "run"), documents=tmp_path)


def test_a_run_without_knowledge_asks_what_is_new(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"names no knowledge .* --model NEW, --prompt FILE or --knowledge DIR"):
        rechecked(tuned_run(tmp_path / "a"))
    run = tuned_run(tmp_path / "b", quality=[{"right": 0.3}])
    with pytest.raises(
        DataError, match=r"no winner \(NOT MET\), expected .*`lastresort report \S+` says why, and what may help"
    ):
        rechecked(run, documents=tmp_path)


def test_documents_that_are_not_there_are_refused(reading: Path, tmp_path: Path) -> None:
    run = copied(reading, tmp_path)
    shutil.rmtree(run.parent.parent / "task" / "docs")
    with pytest.raises(DataError, match="no such file or folder"):
        rechecked(run)


@pytest.mark.parametrize(
    ("answer", "before", "now", "found"),
    [
        ("Q12", ["It shows Q12."], "It shows Q12.", "STANDS"),
        ("Q12", ["It shows Q12."], "It shows Q123.", "GONE"),
        ("30 days", ["Within 30\ndays."], "within 30 Days", "STANDS"),
        ("30 days", ["Within 30 days."], "within 60 days", "GONE"),
        ("Q12", ["It shows Q7."], "", "UNKNOWN"),
        ("", ["It shows Q7."], "", "UNKNOWN"),
        ("(a+b)", ["the sum (a+b)"], "the sum (a+b)", "STANDS"),
    ],
)
def test_whether_an_answer_stands_in_a_text(answer: str, before: list[str], now: str, found: str) -> None:
    assert standing(answer, before, now) == found


CHANGED = DocumentChanges((), ("a.md",), (), frozenset({"a.md#x:1"}), 1)


def resting(number: int, **keys: object) -> AffectedAnswer:
    return AffectedAnswer(**{"id": str(number), "named": True, "changed": (), "answer": "x", "score": 1.0, **keys})  # type: ignore[arg-type]


def test_a_wrong_answer_that_is_gone_makes_nothing_stale() -> None:
    """It was wrong before: its passage says another thing either way."""
    items = [resting(1, changed=("a.md#x:1",), standing="GONE", score=0.0)]
    assert staleness("sft (lora)", CHANGED, items).verdict == "CANNOT_TELL"
    assert staleness("sft (lora)", CHANGED, [resting(1, changed=("a.md#x:1",), standing="GONE")]).verdict == "STALE"


def test_unchanged_documents_ask_about_nothing() -> None:
    assert staleness("sft (lora)", DocumentChanges((), (), ()), [resting(1, named=False)]).verdict == "CURRENT"


def test_items_on_unchanged_passages_tell_what_new_ones_do_to_the_rest() -> None:
    items = [resting(1, answer_now="y", score_now=0.0), resting(2, answer_now="x ", score_now=1.0)]
    found = staleness("retrieval (x)", CHANGED, items)
    assert found.verdict == "STALE"
    assert "changes 1 of its 2 recorded answers" in found.answer
    assert any(
        "the 2 items whose passages did not change: 100% then, 50% now; 1 answer differs" in r for r in found.reasons
    )


def test_files_are_compared_by_what_they_hold(tmp_path: Path) -> None:
    for name, text in (("a.md", "1"), ("b#.txt", "2"), (".hidden.md", "3"), ("c.png", "4")):
        (tmp_path / name).write_text(text)
    before = file_hashes(tmp_path)
    assert set(before) == {"a.md", "b%23.txt"}
    (tmp_path / "a.md").write_text("one")
    (tmp_path / "b#.txt").unlink()
    (tmp_path / "d.md").write_text("4")
    assert file_changes(before, file_hashes(tmp_path)) == DocumentChanges(("d.md",), ("a.md",), ("b%23.txt",))
    assert set(file_hashes(tmp_path / "a.md")) == {"a.md"}
