"""What this machine can do, and the documents: offline, with links that hold, and nothing in them that acts."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
from starlette.testclient import TestClient

import lastresort
from lastresort.report.words.wording import NO_BREAK
from lastresort.ui import children as children_module
from lastresort.ui import documents
from lastresort.ui.children import TAIL, Children, CommandOutput
from lastresort.ui.guard import CSRF_HEADER
from lastresort.ui.site import templates
from ui_support import htmx_page_of, until

ENV = """{"lastresort": "1", "python": "3.11", "system": "Linux <b>", "processor": {"name": "cpu", "cores": 2, "features": []},
"memory_bytes": 8589934592, "gpus": [], "packages": {"torch": "2"}, "extras": {"qlora": {"installed": false, "adds": "4 bits",
"install": "pip install x"}}, "precision": "float32", "reach": {"lora": {"name": "qwen3-0.6b", "parameters": 600000000}}}"""


@pytest.fixture
def page(tmp_path: Path) -> TestClient:
    return htmx_page_of(tmp_path)[1]


def test_the_page_waits_and_then_shows_what_the_command_said(page: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[CommandOutput | None] = [None, CommandOutput(ENV), CommandOutput("", "it broke")]
    asked: list[list[str]] = []

    def printed(
        self: Children, question: object, state: object, arguments: list[str], *, begin: bool
    ) -> CommandOutput | None:
        asked.append(arguments)
        return said[len(asked) - 1]

    monkeypatch.setattr(Children, "printed", printed)
    assert "hx-trigger" in page.get("/machine").text
    shown = page.get("/machine").text
    assert "Linux &lt;b&gt;" in shown
    assert "LoRA: qwen3-0.6b (0.6 billion)" in shown
    assert "Not installed: qlora" in shown
    assert "it broke" in page.get("/machine").text
    assert asked[0] == ["env", "--json"]


@pytest.mark.sampled(3)
@pytest.mark.parametrize("address", ["/machine", "/plan?gpu=l40s", "/", "/none"])
def test_going_back_restores_the_whole_page(page: TestClient, monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setattr(Children, "printed", lambda *_, **__: CommandOutput(ENV))
    assert "<html" not in page.get(address).text
    text = page.get(address, headers={"hx-history-restore-request": "true"}).text
    assert "<html" in text
    assert ("<title>Not found" in text) == (address == "/none")


def test_every_document_is_shown_and_its_links_hold(page: TestClient) -> None:
    names = documents.titles()
    assert {"task", "train", "plan"} <= names.keys()
    shown = {name: page.get(f"/docs/{name}").text for name in names}
    assert "&lt;!-- pictures" not in shown["page"], "a mark for the site is none for readers"
    for name, text in shown.items():
        assert " style=" not in text, name
        for href in re.findall(r'href="(/docs/[^"]*|#[^"]*)"', text):
            target, _, anchor = href.partition("#")
            other = target.removeprefix("/docs/") if target else name
            assert other in shown, f"{name}: {href}"
            assert not anchor or anchor == "main" or f'id="{anchor}"' in shown[other], f"{name}: {href}"
        for source in re.findall(r'<img src="([^"]*)"', text):
            assert page.get(source).status_code == 200, f"{name}: {source}"


@pytest.mark.parametrize("name", ["nothing", "../README", "%2e%2e%2fREADME", "site.css", "TASK"])
def test_no_other_file_is_shown(page: TestClient, name: str) -> None:
    assert page.get(f"/docs/{name}").status_code == 404
    assert page.get(f"/docs/pictures/{name}").status_code == 404


def test_markup_in_a_document_is_text_and_links_do_nothing_else() -> None:
    text = '# A <script>x</script>\n\n<b onclick="x">y</b> [a](javascript:alert(1)) [b](../x.py) [c](task.md#bar) ![p](../../p.svg)'
    found = documents.rendered(text)
    assert "<script" not in found
    assert "<b " not in found
    assert re.findall(r'href="([^"]*)"', found) == ["/docs/task#bar"]
    assert re.findall(r'src="([^"]*)"', found) == ["/docs/pictures/p.svg"]
    assert "javascript" not in found or 'href="javascript' not in found
    assert ">b<" not in found
    assert " b " in found


def test_a_table_has_no_heading_without_a_name() -> None:
    found = documents.rendered("| | b |\n|---|---|\n| c | d |\n")
    assert (found.count("<th>"), found.count("<td>")) == (1, 3)


@pytest.mark.slow
def test_two_pages_with_different_questions_of_one_kind_both_get_their_answer(tmp_path: Path) -> None:
    children = Children(tmp_path)
    wanted = {state: ["data", "check", f"{state}.yaml"] for state in ("one", "two")}
    answers = until(
        lambda: all(answers := [children.printed("a", *each) for each in wanted.items()]) and answers, "both are there"
    )
    assert ["one.yaml" in answers[0].fault, "two.yaml" in answers[1].fault] == [True, True]
    children.close()


def test_an_older_question_that_nobody_asks_any_more_ends_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(children_module, "ALONE_S", 0.3)
    monkeypatch.setattr(children_module, "LOOK_S", 0.05)
    monkeypatch.setattr(sys, "executable", str(sleeper(tmp_path)))
    children = Children(tmp_path)
    assert children.printed("a", 1, []) is None
    first = children._known["a", 1].process
    assert first is not None
    assert children.printed("a", 2, []) is None
    until(lambda: first.returncode is not None, "the older one ends")
    assert not children.knows("a", 1)
    second = children._known["a", 2].process
    assert second is not None
    assert second.returncode is None
    monkeypatch.setattr(children_module, "LONGEST_S", 0.0)
    until(lambda: second.returncode is not None, "the one that takes too long ends, although nobody asks")
    children.close()


def test_a_command_that_cannot_be_started_says_so(tmp_path: Path) -> None:
    found = until(lambda: Children(tmp_path / "gone").printed("a", 1, ["env"]), "it says so")
    assert found.fault.startswith("It could not be started")


def sleeper(folder: Path) -> Path:
    """A program that does nothing for a minute, whatever it is given."""
    path = folder / "sleeper"
    path.write_text("#!/bin/sh\nexec sleep 60\n")
    path.chmod(0o700)
    return path


def test_of_a_bar_that_a_command_draws_again_the_last_one_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "loader"
    path.write_text("#!/bin/sh\nprintf 'loading:  10%%\\rloading:  50%%\\r' >&2\nexec sleep 60\n")
    path.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(path))
    children = Children(tmp_path)
    assert children.printed("a", 1, []) is None
    said = until(lambda: (seen := children.progress("a", 1)) and seen.line, "it says something")
    assert said == "loading:  50%"
    children.close()


@pytest.mark.parametrize(
    ("error", "shown"), [("task.yaml: found x. Mend it.", "task.yaml: found x. Mend it."), ("x" * 2 * TAIL, "")]
)
def test_an_error_that_is_printed_before_the_process_ends_is_no_json_on_the_page(
    error: str, shown: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its text, and nothing of a line whose beginning is not read."""
    path = tmp_path / "failing"
    path.write_text(f"#!/bin/sh\nprintf '%s\\n' '{json.dumps({'error': error})}' >&2\ntouch said\nexec sleep 60\n")
    path.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(path))
    children = Children(tmp_path)
    assert children.printed("a", 1, []) is None
    until((tmp_path / "said").exists, "it says it")
    seen = children.progress("a", 1)
    children.close()
    assert seen is not None
    assert (seen.line, seen.stage) == (shown, None)


def test_the_page_asks_in_a_process_of_its_own(tmp_path: Path) -> None:
    """The command itself: what it prints, a fault as a sentence, and an end when the page ends."""
    children = Children(tmp_path)
    (tmp_path / "x.yaml").write_text("task: x\n")
    found = until(lambda: children.printed("a", 1, ["data", "check", "x.yaml", "--json"]), "the command ends")
    assert found.text == ""
    assert found.fault.startswith('x.yaml, key "about": found nothing')
    assert children.knows("a", 1)
    assert not children.knows("a", 2)
    assert children.printed("a", 2, ["env", "--json"], begin=False) is None
    assert not children.knows("a", 2)
    assert children.printed("a", 2, ["env", "--json"]) is None
    children.close()
    assert until(lambda: children.printed("a", 2, []), "it ends").fault.startswith("Its process was killed")


@pytest.mark.slow
def test_a_command_that_was_killed_is_tried_again_and_others_once_they_are_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    children = Children(tmp_path)
    with monkeypatch.context() as slow:
        slow.setattr(sys, "executable", str(sleeper(tmp_path)))
        assert children.printed("a", 1, []) is None
        slow.setattr(children_module, "LONGEST_S", 0.0)
        found = until(lambda: children.printed("a", 1, []), "it is killed")
    assert found.killed
    assert children.printed("a", 1, []) is found, "a second page that waits hears of it too"
    monkeypatch.setattr(children_module, "KILLED_S", 0.0)
    assert children.printed("a", 1, [], begin=False) is found
    found = until(lambda: children.printed("a", 1, ["data", "check", "x.yaml"]), "it is tried again")
    assert not found.killed
    assert children.knows("a", 1)
    children.forget("a", 1)
    assert not children.knows("a", 1)
    children.close()


def test_this_machine_is_checked_again_by_a_button(page: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    forgotten: list[tuple[object, object]] = []
    monkeypatch.setattr(Children, "printed", lambda *_, **__: CommandOutput(ENV))
    monkeypatch.setattr(Children, "forget", lambda _, *asked: forgotten.append(asked))
    assert 'hx-get="/machine?again=true"' in page.get("/machine").text
    assert not forgotten
    page.get("/machine?again=true")
    assert forgotten == [("env", ())]
    del page.headers[CSRF_HEADER]
    page.get("/machine?again=true")
    assert len(forgotten) == 1, "a link elsewhere starts nothing"


@pytest.mark.slow
def test_of_a_command_that_counts_its_work_a_page_can_draw_how_far_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stage of a command comes as it is, and is no line to be read."""
    path = tmp_path / "timing"
    path.write_text(
        f"""#!{sys.executable}
import sys
sys.path.insert(0, {str(Path(lastresort.__file__).parents[1])!r})
from lastresort.app.console import progress
import time
with progress() as shown:
    shown.stage("timing", 24)
    time.sleep(0.6)
    shown.advance(6)
time.sleep(60)
"""
    )
    path.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(path))
    children = Children(tmp_path)
    assert children.printed("a", 1, []) is None
    found = until(
        lambda: (seen := children.progress("a", 1)) and seen.stage and seen.stage.done and seen, "it has done something"
    )
    assert (found.line, found.stage.label, found.stage.done, found.stage.total) == ("", "timing", 6, 24)
    assert found.stage.eta_s > 0
    waiting = (
        templates().get_template("new_waiting.html.j2").make_module().waiting("reviews", "forecast", "Wait.", found)
    )
    assert '<progress max="24" value="6" aria-label="timing"></progress>' in waiting
    assert "timing: 6 of 24, about" in waiting.replace(NO_BREAK, " ")
    children.close()
