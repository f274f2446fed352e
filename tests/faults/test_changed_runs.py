"""A run that was changed says so, wherever it is read; one that was cut short by a crash goes on."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from climb_gate_support import WORN, gated_climb, quality, script_rungs
from climb_support import calls, comparable
from lastresort.app.climb import Climbed
from lastresort.app.exported import of_climb
from lastresort.app.runs import Run, changed_inputs
from lastresort.cli.border import guarded
from lastresort.cli.main import app
from lastresort.errors import DataError, InputError
from lastresort.records.atomic import disk_error
from lastresort.records.events.run import ErrorShared
from lastresort.records.record import ItemScore, Measurement, Record
from lastresort.records.salvage import salvage
from lastresort.report.html import write_report
from lastresort.systems.running import open_system
from record_support import edit

ITEM = ItemScore("a", 1.0, "b", "b", "c", "stop", None, 4, 1, 0.5, 0.0)


@pytest.fixture(scope="module")
def gated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Climbed]:
    """A run whose tuned winner is held: the gate could not tell."""
    with pytest.MonkeyPatch.context() as patch:
        script_rungs(patch, "sft")
        yield gated_climb(tmp_path_factory.mktemp("held"), quality(WORN), gate="quick")


@pytest.fixture
def run(gated: Climbed, tmp_path: Path) -> Path:
    assert gated.decision.winner is not None
    assert gated.decision.winner.held
    shutil.copytree(gated.run.parent.parent, tmp_path / "place")
    return tmp_path / "place" / "runs" / "routing-1"


def short(folder: Path) -> Record:
    record = Record.create(folder)
    for number in range(4):
        record.append(ErrorShared(r=number))
        record.add_curve_point("lr", number, {"loss": 1.0})
    record.add_measurement(Measurement("prompting", "a", "dev", 1, (ITEM,)))
    return record


def last_entries(count: int) -> Callable[[sqlite3.Connection], None]:
    """As a crash leaves it: the newest entries are not there, nor what they were for."""

    def cut(raw: sqlite3.Connection) -> None:
        for _, source, row in raw.execute(
            "SELECT id, source, row FROM chain ORDER BY id DESC LIMIT ?", (count,)
        ).fetchall():
            raw.execute(f"DELETE FROM {source} WHERE id = ?", (row,))
            if source == "measurement":
                raw.execute("DELETE FROM item WHERE measurement = ?", (row,))
        raw.execute("DELETE FROM chain WHERE id IN (SELECT id FROM chain ORDER BY id DESC LIMIT ?)", (count,))

    return cut


@pytest.mark.parametrize("lost", range(10))
def test_a_record_that_ends_early_is_whole_and_goes_on(lost: int, tmp_path: Path) -> None:
    short(tmp_path).close()
    edit(tmp_path, last_entries(lost))
    with Record.open(tmp_path) as record:
        record.append(ErrorShared(r=9))
    with Record.open(tmp_path, read_only=True) as record:
        assert record.all(ErrorShared)[-1].r == 9


def test_a_record_that_is_a_link_is_read_and_not_written(tmp_path: Path) -> None:
    short(tmp_path / "elsewhere").close()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "record.sqlite").symlink_to(tmp_path / "elsewhere" / "record.sqlite")
    Record.open(tmp_path / "run", read_only=True).close()
    with pytest.raises(DataError, match="found a link, expected the record itself"):
        Record.open(tmp_path / "run")


CHANGES = {
    "UPDATE event SET body = '{\"r\": 7}' WHERE id = 3": r"event 3 \(error_shared\) was changed",
    "UPDATE event SET key = 'x' WHERE id = 2": r"event 2 \(error_shared\) was changed",
    "DELETE FROM event WHERE id = 3": "event 3 was deleted",
    "DELETE FROM event WHERE id = 6": "event 6 was deleted",
    "INSERT INTO event VALUES (99, 'now', 'error_shared', '', '{\"r\": 1}')": r"event 99 \(error_shared\) was added",
    "DELETE FROM item": r"measurement 1 \(prompting, a, dev\) was changed",
    "UPDATE item SET score = 0": r"measurement 1 \(prompting, a, dev\) was changed",
    "DELETE FROM measurement": "measurement 1 was deleted",
    "UPDATE curve SET step = 5 WHERE id = 2": "point 2 of the training curves was changed",
    "DELETE FROM curve": "curve 1 was deleted",
    "DELETE FROM chain WHERE id = 4": "entry 4 of the chain of hashes is missing or was changed",
    "DELETE FROM chain WHERE id = 1": "entry 1 of the chain of hashes is missing or was changed",
    "DELETE FROM chain": r"event 1 \(run_began\) was added",
    "UPDATE chain SET sha256 = 'x' WHERE id = 4": "was changed",
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("read_only", [False, True])
def test_what_was_changed_is_named(change: str, read_only: bool, tmp_path: Path) -> None:
    short(tmp_path).close()
    edit(tmp_path, change)
    with pytest.raises(
        DataError, match=rf"record\.sqlite: .*{CHANGES[change]}, expected the record as the run wrote it\."
    ):
        Record.open(tmp_path, read_only=read_only)


@pytest.mark.parametrize("change", CHANGES)
def test_a_check_of_events_alone_finds_what_was_changed_of_them_and_of_the_chain(change: str, tmp_path: Path) -> None:
    short(tmp_path).close()
    edit(tmp_path, change)
    if any(table in change for table in (" event ", "chain")):
        with pytest.raises(DataError, match=CHANGES[change]):
            Record.open(tmp_path, read_only=True, sources=("event",))
    else:
        Record.open(tmp_path, read_only=True, sources=("event",)).close()


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_whole_of_a_changed_record_is_found(change: str, tmp_path: Path) -> None:
    short(tmp_path).close()
    before = salvage(tmp_path)
    assert (before.whole, before.of, before.damage) == (before.of, {"event": 6, "measurement": 1, "curve": 4}, [])
    edit(tmp_path, change)
    held = (tmp_path / "record.sqlite").read_bytes()
    found = salvage(tmp_path)
    assert found.damage
    assert sum(found.whole.values()) >= (9 if "WHERE" in change else 4)
    assert len(found.events) == found.whole["event"]
    assert (tmp_path / "record.sqlite").read_bytes() == held


def test_what_a_process_at_work_has_written_is_found(tmp_path: Path) -> None:
    """It is in the log of SQLite until the process ends, and stays there where that was killed."""
    with short(tmp_path):
        assert salvage(tmp_path).whole == {"event": 6, "measurement": 1, "curve": 4}


def test_a_damaged_page_costs_its_own_rows_alone(tmp_path: Path) -> None:
    with Record.create(tmp_path) as record:
        for number in range(400):
            record.append(ErrorShared(r=number))
            record.add_curve_point("lr", number, {"loss": 1.0})
    content = bytearray((tmp_path / "record.sqlite").read_bytes())
    page = content.index(b'{"r": 200,') // 4096
    content[page * 4096 : page * 4096 + 200] = bytes(200)
    (tmp_path / "record.sqlite").write_bytes(bytes(content))
    with pytest.raises(DataError, match=r"record\.sqlite: found "):
        Record.open(tmp_path)
    found = salvage(tmp_path)
    assert found.whole["curve"] == 400
    assert 250 <= found.whole["event"] < 401
    assert any("cannot be read" in line for line in found.damage)


def command(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["lastresort", *words])
    return guarded(app)


def test_a_held_winner_stays_held_without_its_decision(run: Path) -> None:
    """It was opened once decision.json was gone and the fingerprint of the model was empty."""
    (run / "decision.json").unlink()
    with pytest.raises(InputError, match="the gate holds this winner"):
        open_system(run)
    path = run / "winner" / "system.yaml"
    text = path.read_text("utf-8")
    path.write_text(
        "".join("fingerprint: ''\n" if line.startswith("fingerprint:") else line for line in text.splitlines(True))
    )
    for allow_held in (False, True):
        with pytest.raises(DataError, match="not those that its run measured"):
            open_system(run, allow_held=allow_held)


def test_a_held_winner_is_not_set_free_by_an_edit(run: Path) -> None:
    document = json.loads((run / "decision.json").read_text("utf-8"))
    document["winner"]["held"] = False
    (run / "decision.json").write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(DataError, match=r"decision\.json: found another decision than those of the run"):
        open_system(run)


@pytest.mark.parametrize(
    "words", [("report",), ("report", "--json"), ("report", "--markdown"), ("chat", "--once", "a")]
)
def test_zeroed_scores_do_not_pass(
    words: tuple[str, ...], run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    document = json.loads((run / "decision.json").read_text("utf-8"))
    for rung in document["rungs"]:
        for candidate in rung["candidates"]:
            candidate["dev"]["score"] = 0.0
    (run / "decision.json").write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    before = (run / "decision.json").read_bytes()
    assert command(monkeypatch, words[0], str(run), *words[1:]) == 2
    out, error = capsys.readouterr()
    assert "found another decision than those of the run" in error
    assert f"Delete it: `lastresort report {run}` writes it again from the record." in error
    assert not out
    assert (run / "decision.json").read_bytes() == before
    (run / "decision.json").unlink()
    assert write_report(run).is_file()
    assert (run / "decision.json").is_file()


@pytest.mark.parametrize("fault", [errno.EROFS, errno.ENOSPC])
def test_a_report_is_printed_where_its_page_cannot_be_written(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], fault: int
) -> None:
    assert command(monkeypatch, "report", str(run)) == 0
    usual = capsys.readouterr().out

    def refused(path: Path, _: str) -> None:
        raise disk_error(OSError(fault, os.strerror(fault)), path)

    monkeypatch.setattr("lastresort.report.html.write_atomically", refused)
    assert command(monkeypatch, "report", str(run)) == 0
    out, error = capsys.readouterr()
    assert out == usual
    assert error.startswith(f"report.html was not redrawn. {run / 'report.html'}: ")
    (run / "report.html").unlink()
    assert command(monkeypatch, "report", str(run)) == 0
    out, error = capsys.readouterr()
    assert out.splitlines() == [line for line in usual.splitlines() if not line.startswith("report: ")]


def without_weighed(text: str) -> str:
    """A decision as it was written before a rung had this field."""
    return re.sub(r',\s*"weighed": null', "", text)


def test_a_decision_of_an_earlier_version_is_not_changed(run: Path) -> None:
    """A later version adds fields, and would write another decision.json from the same event."""
    path = run / "decision.json"
    path.write_text(earlier := without_weighed(path.read_text("utf-8")), encoding="utf-8")
    with pytest.raises(DataError, match="another decision than those of the run"):
        write_report(run)
    edit(run, shorten_decision, rechain=True)
    write_report(run)
    open_system(run, allow_held=True).close()
    assert path.read_text("utf-8") == earlier
    path.unlink()
    write_report(run)
    assert path.read_text("utf-8") == earlier


def shorten_decision(raw: sqlite3.Connection) -> None:
    [row] = raw.execute("SELECT id, body FROM event WHERE kind = 'climb_decided'")
    raw.execute("UPDATE event SET body = ? WHERE id = ?", (without_weighed(row["body"]), row["id"]))


@pytest.mark.parametrize("checked", [True, False])
def test_a_damaged_page_is_met_with_the_way_to_what_is_whole(checked: bool, tmp_path: Path) -> None:
    folder = tmp_path / "a run"
    short(folder).close()
    path, refused = folder / "record.sqlite", list[str]()
    whole = path.read_bytes()
    for page in range(1, len(whole) // 4096):
        path.write_bytes(whole[: 4096 * page] + bytes(range(256)) * 16 + whole[4096 * (page + 1) :])
        try:
            with Record.open(folder, read_only=True, checked=checked) as record:
                record.all(ErrorShared)
        except DataError as error:
            refused.append(str(error))
    assert refused
    assert all(error.endswith(f" `lastresort report '{folder}' --salvage` shows what is whole.") for error in refused)


def test_what_is_left_of_a_run_whose_record_was_cut_or_lost_is_named(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    record, left = run / "record.sqlite", "decision.json and report.html are still whole and hold what the run found."
    os.truncate(record, record.stat().st_size // 3)

    def said(*options: str) -> str:
        assert command(monkeypatch, "report", str(run), *options) == 2
        return capsys.readouterr().err.strip()

    salvaging = f"`lastresort report {run} --salvage` shows what is whole."
    assert said().endswith(f"Restore it from a copy, or start a new run. {salvaging} {left}")
    os.truncate(record, 4096)  # the list of its tables
    assert said("--salvage").endswith(f"Restore it from a copy, or start a new run. {left}")
    record.unlink()
    for options in ((), ("--salvage",)):
        assert said(*options).endswith(
            f"the folder of a run. {left} Restore record.sqlite from a copy to see the rest."
        )
    os.truncate(run / "decision.json", 1000)
    assert "report.html is still whole and holds what the run found." in said()
    os.truncate(run / "report.html", 1000)
    assert said().endswith("Name a folder that `lastresort climb` has written, such as runs/<task>-1.")


def test_an_export_and_the_python_interface_see_a_change_too(run: Path) -> None:
    (run / "winner" / "more").write_text("x")
    for read in (lambda: of_climb(run), lambda: Run(run).view, lambda: Run(run).decision):
        with pytest.raises(DataError, match="not those that its run measured"):
            read()
    edit(run, "DELETE FROM item")
    for read in (lambda: of_climb(run), lambda: Run(run).view, lambda: Run(run).items(), lambda: Run(run).task_file()):
        with pytest.raises(DataError, match="was changed"):
            read()


def test_a_winner_that_is_gone_is_no_change(run: Path) -> None:
    """It may be large, and whoever shares a run may leave it out."""
    shutil.rmtree(run / "winner")
    assert write_report(run).is_file()


def test_examples_that_changed_since_are_named(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert changed_inputs(run) == []
    rows = run.parent.parent / "task" / "rows.jsonl"
    rows.write_text(rows.read_text("utf-8") + "\n", encoding="utf-8")
    assert changed_inputs(run) == ["rows.jsonl"]
    assert command(monkeypatch, "report", str(run)) == 0
    assert "Changed since the run, which used them as they were: rows.jsonl." in capsys.readouterr().err
    rows.unlink()
    assert changed_inputs(run) == []


def test_a_climb_that_lost_its_newest_entries_comes_to_the_same_decision(gated: Climbed, tmp_path: Path) -> None:
    folder = tmp_path / "place"
    shutil.copytree(gated.run.parent.parent, folder)
    before = len(calls(folder / "task"))
    edit(folder / "runs" / "routing-1", last_entries(3))
    again = gated_climb(folder, [])
    assert comparable(again.decision.as_json()) == comparable(gated.decision.as_json())
    assert len(calls(folder / "task")) == before


def test_a_candidate_that_was_changed_does_not_go_on(gated: Climbed, tmp_path: Path) -> None:
    folder = tmp_path / "place"
    shutil.copytree(gated.run.parent.parent, folder)
    path = next((folder / "runs" / "routing-1" / "candidates" / "sft").glob("*/system.yaml"))
    path.write_text(path.read_text("utf-8").replace("instruction: ", "instruction: Say "), encoding="utf-8")
    with pytest.raises(DataError, match="are not those that the climb measured"):
        gated_climb(folder, [])
    with pytest.raises(DataError, match="are not those that the climb measured"):
        of_climb(folder / "runs" / "routing-1", "sft")
