"""Talking to systems of a run: who may be opened, what is said and kept, and that the process that answers ends with the page."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from html import unescape
from pathlib import Path

import pytest
from httpx import Response
from starlette.testclient import TestClient

from gate_report_support import gated
from lastresort.app.servable import Servable, servable
from lastresort.data.preferences import read_preferences
from lastresort.data.read import read_examples
from lastresort.errors import DataError, InfrastructureError, InputError
from lastresort.records.atomic import held
from lastresort.records.decision import BAR_NOTES, NOT_GATED, RunView
from lastresort.records.decision_parts import PromptFacts, Weights
from lastresort.records.events.run import ClimbDecided, ClimbFinished
from lastresort.records.events.search import CandidateProposed, SystemFrozen
from lastresort.records.record import Record
from lastresort.report.decision import read_decision, read_view
from lastresort.systems.files import artefact_sha256, candidate_folder, folder_sha256, save_system
from lastresort.systems.running import checked_system
from lastresort.systems.system import PromptDesign, System
from lastresort.types import Decoding
from lastresort.ui import serving
from lastresort.ui.pages.talk import _talk
from lastresort.ui.processes import BOUND
from lastresort.ui.serving import ServingProcess, ServingProcesses
from lastresort.ui.site import Site
from lastresort.ui.talk import KeptTalk, Talk
from lastresort.ui.workspace import NotThere
from report_support import HOSTILE, make
from ui_support import finished_run, page_of, until

SAVED = System("one", "scripted:script.json", PromptDesign("Say what it is."), Decoding(8))
# As `lastresort serve` does: an address, the names, and answers in pieces. It says the last message back, and waits for "wait".
SERVER = """
import json, os, sys, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Answers(BaseHTTPRequestHandler):
    def log_message(self, *_): pass
    def start(self, status, kind):
        self.send_response(status); self.send_header("content-type", kind); self.end_headers()
    def do_GET(self):
        assert self.headers["authorization"] == "Bearer a key"
        self.start(200, "application/json")
        self.wfile.write(json.dumps({"data": [{"id": name} for name in ("winner", "base")]}).encode())
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        turns = asked["messages"]
        said = turns[-1]["content"]
        if said == "too long":
            self.start(400, "application/json")
            self.wfile.write(json.dumps({"error": {"message": "The prompt is too long."}}).encode())
            return
        self.start(200, "text/event-stream")
        def send(chunk): self.wfile.write(f"data: {json.dumps(chunk)}\\n\\n".encode()); self.wfile.flush()
        if said == "longest": said = str(asked.get("max_tokens"))
        for piece in (f"{asked['model']} {len(turns)}: ", *said):
            send({"choices": [{"delta": {"content": piece}}], "sources": [{"document": "mail.md"}]})
        if said == "die":
            os._exit(1)
        while said == "wait":
            time.sleep(0.01); send({"choices": [{"delta": {"content": "."}}]})
        send({"choices": [{"delta": {}, "finish_reason": "stop"}]})
        send({"choices": [], "usage": {"completion_tokens": 7}})
        self.wfile.write(b"data: [DONE]\\n\\n")
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
print(f"http://127.0.0.1:{server.server_port}/v1", flush=True)
server.serve_forever()
"""


def started(found: Servable, log: Path, allow_held: bool, program: str = SERVER) -> ServingProcess:
    process = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    return ServingProcess(process, "a key", log)


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[tuple[Site, TestClient]]:
    finished_run(tmp_path)
    site, page = page_of(tmp_path)
    yield site, page
    site.close()


@pytest.fixture
def page(opened: tuple[Site, TestClient]) -> TestClient:
    site, page = opened
    site.own(ServingProcesses, ServingProcesses)._start = started
    assert "Open the model" in page.get("/runs/routing-1/talk").text
    assert page.post("/runs/routing-1/talk/open").headers["hx-retarget"] == "#talk"
    until(lambda: "Send" in page.get("/runs/routing-1/talk/state").text, "the model opens")
    return page


def at(page: TestClient) -> str:
    """Where the exchanges of the conversation are that a reader sees now."""
    found = re.search(r'name="talk" value="(\w+)"', page.get("/runs/routing-1/talk").text)
    assert found is not None
    return f"/runs/routing-1/talk/{found[1]}"


def sent(page: TestClient, text: str, *systems: str) -> Response:
    talk = at(page).rpartition("/")[2]
    return page.post("/runs/routing-1/talk/say", data={"talk": talk, "text": text, "system": list(systems)})


def say(page: TestClient, text: str, *systems: str) -> str:
    answer = sent(page, text, *systems)
    assert answer.status_code == 200, answer.text
    assert (answer.headers["hx-retarget"], answer.headers["hx-reswap"]) == ("#exchanges", "beforeend")
    return answer.text


def answers(page: TestClient, number: int = 0, here: str = "") -> list[str]:
    text, here = "", here or at(page)

    def whole() -> bool:
        nonlocal text
        text = page.get(f"{here}/{number}").text
        return "data-grows" not in text

    until(whole, "the answers are whole")
    return re.findall(r'<h3>[^<]*</h3>\s*<pre dir="auto">(.*?)</pre>', text, re.DOTALL)


def test_two_systems_answer_side_by_side_and_each_goes_on_from_its_own(page: TestClient) -> None:
    assert re.findall("<h3>(.*?)</h3>", say(page, "hello", "winner", "base")) == ["the winner", "the base model"]
    assert answers(page) == ["winner 1: hello", "base 1: hello"]
    say(page, "more", "winner")
    say_of_both = answers(page, 1)
    assert say_of_both == ["winner 3: more"]
    say(page, "both", "winner", "base")
    assert answers(page, 2) == ["winner 5: both", "base 3: both"]
    assert "7 tokens" in page.get(f"{at(page)}/2").text
    assert "from mail.md" in page.get(f"{at(page)}/2").text


def test_a_reader_gets_the_whole_answer_in_pieces_whenever_it_comes(page: TestClient) -> None:
    say(page, "hello", "winner")
    for _ in range(2):
        with page.stream("GET", f"{at(page)}/0/0/live") as stream:
            events = "".join(stream.iter_text())
        pieces = re.findall(r"event: more\r?\ndata: (.*?)\r?\n", events)
        assert "".join(map(json.loads, pieces)) == "winner 1: hello"
        assert "event: over" in events


def test_what_was_said_is_there_again_in_another_page(page: TestClient, tmp_path: Path) -> None:
    say(page, HOSTILE, "winner")
    answers(page)
    kept = tmp_path / "runs" / ".lastresort" / "talks" / "routing-1.json"
    until(lambda: '"finish":"stop"' in kept.read_text(), "the answer is kept")
    again = page_of(tmp_path)[1].get("/runs/routing-1/talk").text
    assert "<script>alert" not in again
    assert "&lt;script&gt;alert" in again
    assert "winner 1:" in again


def test_an_answer_is_stopped_and_one_at_a_time_grows(page: TestClient) -> None:
    say(page, "wait", "winner")
    refused = sent(page, "x", "winner")
    assert refused.status_code == 422
    assert "An answer is still coming. Wait for it, or stop it. The message was not sent." in refused.text
    page.post(f"{at(page)}/0/0/stop")
    assert answers(page)[0].startswith("winner 1: wait")
    assert ", stopped" in page.get(f"{at(page)}/0").text


def test_a_refusal_of_the_process_is_its_sentence(page: TestClient) -> None:
    say(page, "too long", "winner")
    answers(page)
    assert "The prompt is too long" in page.get(f"{at(page)}/0").text


def test_an_answer_is_kept_as_an_example_or_as_a_pair(page: TestClient, tmp_path: Path) -> None:
    say(page, "hello", "winner", "base")
    answers(page)
    kept = page.post(f"{at(page)}/0/0/keep", data={"output": "billing"}).text
    assert "<code>tasks/routing/kept.jsonl</code> now holds 1 example." in kept
    page.post(f"{at(page)}/0/prefer", data={"better": "1"})
    say(page, "more", "winner", "base")
    answers(page, 1)
    page.post(f"{at(page)}/1/1/keep", data={"output": "sales"})
    shown = [page.get(f"{at(page)}/{number}").text for number in (0, 1)]
    assert ["Better: " in text for text in shown] == [True, False], "nothing is offered that would be refused"
    assert ["cannot be kept as a preference" in text for text in shown] == [False, True]
    other = page.post(f"{at(page)}/1/prefer", data={"better": "0"})
    assert other.status_code == 422
    assert "answered differently earlier" in other.text
    first, second = read_examples(tmp_path / "tasks" / "routing" / "kept.jsonl")
    assert (first.input_text, first.output) == ("hello", "billing")
    assert [turn.content for turn in second.input] == ["hello", "base 1: hello", "more"]
    [pair] = read_preferences(tmp_path / "tasks" / "routing" / "kept_pairs.jsonl")
    assert [turns[0].content for turns in pair.answers] == ["base 1: hello", "winner 1: hello"]


@pytest.mark.slow
def test_a_window_with_an_earlier_conversation_keeps_nothing_of_the_new_one(page: TestClient, tmp_path: Path) -> None:
    """Their messages have the same numbers: an answer would be kept for another question."""
    say(page, "old", "winner", "base")
    answers(page)
    earlier = at(page)
    page.post("/runs/routing-1/talk/clear")
    say(page, "new", "winner", "base")
    answers(page)
    talk = earlier.rpartition("/")[2]
    for address, form in (
        (f"{earlier}/0/0/keep", {"output": "old, corrected"}),
        (f"{earlier}/0/prefer", {"better": "0"}),
        (f"{earlier}/0/0/stop", {}),
        ("/runs/routing-1/talk/say", {"talk": talk, "text": "more", "system": ["winner"]}),
    ):
        refused = page.post(address, data=form)
        assert refused.status_code == 404
        assert "A new conversation was started in another window. Reload the page." in refused.text
    assert page.get(f"{earlier}/0").status_code == page.get(f"{earlier}/0/0/live").status_code == 404
    assert not list((tmp_path / "tasks").rglob("kept*"))
    assert page.get(f"{at(page)}/1").status_code == 404
    assert "new" in page_of(tmp_path)[1].get(f"{at(page)}/0").text  # the same conversation for another page


def test_a_process_that_dies_in_mid_answer_has_not_stopped_and_nothing_of_it_is_kept(
    page: TestClient, tmp_path: Path
) -> None:
    here = at(page)
    say(page, "die", "winner", "base")
    answers(page, 0, here)
    shown = page.get(f"{here}/0").text
    assert "the model&#39;s process has exited" in shown
    assert ", failed" in shown
    assert ", stopped" not in shown
    for address, form in (("0/0/keep", {"output": "dead"}), ("0/prefer", {"better": "0"})):
        refused = page.post(f"{here}/{address}", data=form)
        assert refused.status_code == 422
        assert "the answer is not complete" in refused.text.lower()
    assert not list((tmp_path / "tasks").rglob("kept*"))
    page.post("/runs/routing-1/talk/open")
    until(lambda: "Send" in page.get("/runs/routing-1/talk/state").text, "the model opens again")
    say(page, "hello", "winner")
    assert answers(page, 1) == ["winner 1: hello"]  # half an answer is no part of the conversation


@pytest.mark.parametrize("is_chunked", [True, False])
def test_a_stream_that_is_cut_is_a_fault_and_one_that_is_stopped_none(tmp_path: Path, is_chunked: bool) -> None:
    piece = b'data: {"choices":[{"delta":{"content":"half"}}]}\n\n'
    head = b"HTTP/1.1 200 OK\r\n"
    cut = b"transfer-encoding: chunked\r\n\r\n%x\r\n%s\r\n" % (len(piece), piece) if is_chunked else b"\r\n" + piece
    for is_stopped in (False, True):
        with socket.create_server(("127.0.0.1", 0)) as listening:

            def answer_once(listening: socket.socket = listening) -> None:
                there, _ = listening.accept()
                with there:
                    there.recv(65536)
                    there.sendall(head + cut)

            threading.Thread(target=answer_once, daemon=True).start()
            process = subprocess.Popen([sys.executable, "-c", ""])
            url = f"http://127.0.0.1:{listening.getsockname()[1]}"
            chunks = ServingProcess(process, "a key", tmp_path / "log", url).answer("x", [], lambda: is_stopped)  # noqa: B023
            if is_stopped:
                assert list(chunks) == []
            else:
                assert next(chunks)["choices"]
                with pytest.raises(InfrastructureError, match="process has exited"):
                    list(chunks)
            process.wait()


def test_a_new_conversation_is_confirmed_and_the_earlier_one_stays_in_a_file(page: TestClient, tmp_path: Path) -> None:
    said = re.search(r'hx-confirm="[^"]* This one stays in ([^"]*)\."', page.get("/runs/routing-1/talk").text)
    assert said is not None
    earlier = tmp_path / said[1]
    page.post("/runs/routing-1/talk/clear")
    assert not earlier.exists()  # nothing was said
    said = re.search(r'hx-confirm="[^"]* This one stays in ([^"]*)\."', page.get("/runs/routing-1/talk").text)
    assert said is not None
    earlier = tmp_path / said[1]
    say(page, "hello", "winner")
    answers(page)
    page.post("/runs/routing-1/talk/clear")
    [exchange] = KeptTalk.model_validate_json(earlier.read_text()).exchanges
    assert (exchange.said, exchange.answers[0].text) == ("hello", "winner 1: hello")
    assert "winner 1: hello" not in page_of(tmp_path)[1].get("/runs/routing-1/talk").text


def test_a_message_and_finished_answers_outlive_a_server_that_ends_in_mid_answer(tmp_path: Path) -> None:
    go, path = threading.Event(), tmp_path / "talk.json"

    def ask(system: str, turns: object, stopped: object) -> Iterator[dict[str, object]]:
        if system == "winner":
            go.wait(60)
        yield {"choices": [{"delta": {"content": system}}]}
        yield {"choices": [{"delta": {}, "finish_reason": "stop"}]}

    talk = Talk(path)
    talk.say("hello", ["winner", "base"], ask)
    until(lambda: Talk.opened(path).answer(0, 1).finish == "stop", "the finished neighbour is on disk")
    again = Talk.opened(path)
    cut, whole = again.exchange(0).answers
    assert (again.id, again.exchange(0).said) == (talk.id, "hello")
    assert (cut.finish, cut.fault) == (
        "failed",
        "this answer is not complete: another page is still answering, or it ended before",
    )
    assert (whole.finish, whole.text) == ("stop", "base")
    again.say("more", ["winner"], lambda *_: iter(()))
    go.set()


def said_in(path: Path) -> dict[str, list[tuple[str, str]]]:
    """By message: text and end of its answers, as the file holds them."""
    kept = KeptTalk.model_validate_json(path.read_text()).exchanges
    return {one.said: [(answer.text, answer.finish) for answer in one.answers] for one in kept}


def answer_after(go: threading.Event) -> Callable[..., Iterator[dict[str, object]]]:
    def ask(system: str, turns: object, stopped: object) -> Iterator[dict[str, object]]:
        yield {"choices": [{"delta": {"content": "yes"}}]}
        go.wait(60)
        yield {"choices": [{"delta": {"content": ", sir"}}]}
        yield {"choices": [{"delta": {}, "finish_reason": "stop"}]}

    return ask


def test_two_pages_on_one_folder_lose_nothing_of_each_other(tmp_path: Path) -> None:
    go, path = threading.Event(), tmp_path / "talk.json"
    one = Talk(path)
    one.say("first", ["winner"], answer_after(go))
    other = Talk.opened(path)
    assert other.say("second", ["base"], answer_after(go)) == 1
    one.read_again()
    assert [exchange.said for exchange in one.exchanges] == ["first", "second"]
    assert (one.answer(0, 0).finish, one.answer(1, 0).finish) == ("", "failed"), "what comes elsewhere is no answer yet"
    go.set()
    whole = {"first": [("yes, sir", "stop")], "second": [("yes, sir", "stop")]}
    until(lambda: said_in(path) == whole, "both answers are whole in the file")
    for talk in (one, other):
        talk.read_again()
        assert [(answer.text, answer.finish) for each in talk.exchanges for answer in each.answers] == [
            ("yes, sir", "stop")
        ] * 2


def test_an_answer_that_comes_while_another_page_begins_anew_stays_with_its_conversation(tmp_path: Path) -> None:
    go, path = threading.Event(), tmp_path / "talk.json"
    one = Talk(path)
    one.say("first", ["winner"], answer_after(go))
    other = Talk.opened(path)
    earlier = other.earlier_path
    other.clear()
    with pytest.raises(NotThere, match="A new conversation was started in another window"):
        one.say("second", ["winner"], answer_after(go))
    go.set()
    until(lambda: said_in(earlier) == {"first": [("yes, sir", "stop")]}, "the answer is whole in its own file")
    assert said_in(path) == {}
    one.read_again()
    assert one.say("second", ["winner"], answer_after(go)) == 0


def test_an_answer_for_which_its_file_has_no_place_any_more_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    go, path = threading.Event(), tmp_path / "talk.json"
    one = Talk(path)
    one.say("first", ["winner"], answer_after(go))
    other = Talk.opened(path)
    earlier = other.earlier_path
    other.clear()
    earlier.write_text(KeptTalk(id=one.id, exchanges=()).model_dump_json())
    go.set()
    until(lambda: not any(thread.name == "talk" for thread in threading.enumerate()), "the answer is over")
    assert f"{earlier}: an answer of winner could not be kept" in capsys.readouterr().err


def test_a_message_that_the_disk_refuses_is_not_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else its answers would be waited for, and nothing more could be said."""

    def refuse(path: Path, content: str) -> None:
        raise InfrastructureError("the disk is full")

    talk = Talk(tmp_path / "talk.json")
    with monkeypatch.context() as patched:
        patched.setattr("lastresort.ui.talk.write_atomically", refuse)
        with pytest.raises(InfrastructureError):
            talk.say("hello", ["winner"], lambda *_: iter(()))
    assert talk.exchanges == []
    assert talk.say("hello", ["winner"], lambda *_: iter(())) == 0


def test_what_is_kept_as_an_example_is_the_answer_and_not_what_is_shown_for_it(
    page: TestClient, tmp_path: Path
) -> None:
    message = "שלום \u2067abc\u2069\r\nmore"
    say(page, message, "winner")
    answers(page)
    shown = page.get("/runs/routing-1/talk").text
    field = re.search(r'<textarea id="output-0-0"[^>]*>\n(.*?)</textarea>', shown, re.DOTALL)
    assert field is not None
    assert unescape(field[1]) == f"winner 1: {message}"
    page.post(f"{at(page)}/0/0/keep", data={"output": unescape(field[1])})
    [example] = read_examples(tmp_path / "tasks" / "routing" / "kept.jsonl")
    assert example.output == f"winner 1: {message}".replace("\r\n", "\n")


def test_a_message_without_text_to_nobody_or_to_a_closed_model_is_refused(page: TestClient) -> None:
    for text, system in ((" ", "winner"), ("x" * 200_000, "winner"), ("hello", "somebody")):
        assert sent(page, text, system).status_code == 422
    assert "the message is empty. Write one." in sent(page, "  \n ", "winner").text
    here = at(page)
    assert page.get(f"{here}/9").status_code == 404
    page.post("/runs/routing-1/talk/close")
    message = {"talk": here.rpartition("/")[2], "text": "hello", "system": ["winner"]}
    refused = page.post("/runs/routing-1/talk/say", data=message)
    assert "the model is not open" in refused.text.lower()


def test_the_last_words_of_a_process_that_ended_are_shown(opened: tuple[Site, TestClient]) -> None:
    def ends(found: Servable, log: Path, allow_held: bool) -> ServingProcess:
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text("there is no memory left\n")
        return started(found, log, allow_held, "raise SystemExit(1)")

    site, page = opened
    site.own(ServingProcesses, ServingProcesses)._start = ends
    page.post("/runs/routing-1/talk/open")
    until(lambda: "has exited" in page.get("/runs/routing-1/talk/state").text, "the process ends")
    assert "there is no memory left" in page.get("/runs/routing-1/talk").text


def of_sample(folder: Path, winner: dict[str, object] | None) -> Path:
    """A decided run whose decision, in its record, names this winner."""
    run = make(folder / "runs" / "sample", "sft-met")
    decided = read_decision(run)
    with Record.open(run) as record:
        record.append(ClimbDecided(decision=RunView.model_validate(decided.as_json() | {"winner": winner})))
    return run


def test_the_panel_of_a_held_run_says_how_to_settle_the_hold_and_how_to_use_the_winner(tmp_path: Path) -> None:
    run = make(tmp_path / "runs" / "sample", "sft-met")
    decided = RunView.model_validate(gated(read_decision(run).as_json()))
    with Record.open(run) as record:
        record.append(ClimbDecided(decision=decided))
        record.append(ClimbFinished())
    _, page = page_of(tmp_path)
    text = unescape(re.sub(r"<[^>]+>", "", page.get("/runs/sample/now").text))
    assert "The gate holds the winner. To settle the HOLD: gate it on fresh items" in text
    assert "lastresort gate TASK --tuned runs/sample --seed 2" in text
    assert "--allow-held" in text


def test_whether_a_winner_is_held_is_what_the_record_says(tmp_path: Path) -> None:
    saved = save_system(SAVED, tmp_path / "saved").parent
    run = of_sample(tmp_path, {"kind": "adapter", "path": "winner", "sha256": folder_sha256(saved), "held": True})
    saved.rename(run / "winner")
    written = (run / "decision.json").read_text()
    assert '"held": true' not in written
    (run / "decision.json").write_text(written.replace("sft", "full"))
    with pytest.raises(DataError, match="found another decision"):
        servable(run)
    (run / "decision.json").unlink()
    with pytest.raises(InputError, match=rf"`lastresort report {run}` says what would settle it"):
        checked_system(run)
    found = servable(run)
    assert found is not None
    assert found.held
    processes = ServingProcesses(started)
    with pytest.raises(InputError, match="the gate holds this winner"):
        processes.open("sample", found, tmp_path / "log")
    assert processes.of("sample") is None
    site, page = page_of(tmp_path)
    site.own(ServingProcesses, ServingProcesses)._start = started
    assert "Open it anyway" in page.get("/runs/sample/talk").text
    assert page.post("/runs/sample/talk/open").status_code == 422
    assert "opening" in page.post("/runs/sample/talk/open", data={"allow_held": "winner"}).text
    site.close()


def test_a_winner_that_is_not_shown_to_meet_the_bar_or_was_not_gated_is_called_so(
    opened: tuple[Site, TestClient],
) -> None:
    """Before its model is opened, and while it answers."""
    site, page = opened
    run = site.workspace.runs / "routing-1"
    decided = read_decision(run)
    ungated: dict[str, object] = {"name": "sft", "stopped_at": "sft"}  # tuned, and no gate ran
    cases: list[tuple[str, dict[str, object], str | None]] = [
        ("MET", {}, None),
        *((verdict, {}, note) for verdict, note in BAR_NOTES.items()),
        ("MET", ungated, NOT_GATED),
    ]
    for verdict, won, note in cases:
        rungs = tuple(
            rung.model_copy(update={"test": rung.test and rung.test.model_copy(update={"verdict": verdict}), **won})
            for rung in decided.rungs
        )
        with Record.open(run) as record:
            record.append(ClimbDecided(decision=decided.model_copy(update={"rungs": rungs, **won})))
        (run / "decision.json").unlink(missing_ok=True)
        process = site.own(ServingProcesses, ServingProcesses)
        process._start = started
        shut = page.get("/runs/routing-1/talk").text
        page.post("/runs/routing-1/talk/open")
        until(lambda: "Send" in page.get("/runs/routing-1/talk/state").text, "the model opens")
        for shown in shut, page.get("/runs/routing-1/talk/state").text:
            assert {one for one in (*BAR_NOTES.values(), NOT_GATED) if one in shown} == ({note} if note else set())
        page.post("/runs/routing-1/talk/close")


def test_without_a_winner_it_is_the_best_prompt_that_was_tested_never_a_tuned_one(tmp_path: Path) -> None:
    run = of_sample(tmp_path, None)
    view = read_decision(run)
    for rung in view.rungs:
        if rung.chosen is not None:
            saved = save_system(SAVED, candidate_folder(run, rung.name, rung.chosen)).parent
            with Record.open(run) as record:
                record.append(SystemFrozen(rung=rung.name, name=rung.chosen, sha256=artefact_sha256(saved)))
    with Record.open(run) as record:
        record.append(ClimbDecided(decision=view))
    found = servable(run)
    assert found is not None
    assert found.folder.parent.name == "prompting"
    assert not found.is_winner
    assert found.decided
    assert found.reaches == ()
    with Record.open(run) as record:
        record.append(ClimbDecided(decision=view.model_copy(update={"verdict": None})))
    going = servable(run)
    assert going is not None
    assert not going.decided
    save_system(replace(SAVED, model="http://elsewhere.example/v1#theirs"), found.folder)
    with pytest.raises(DataError, match="not those that the climb measured"):
        servable(run)


def test_what_each_rung_tested_can_be_opened_and_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved = save_system(SAVED, tmp_path / "saved").parent
    run = of_sample(tmp_path, {"kind": "adapter", "path": "winner", "sha256": folder_sha256(saved), "held": False})
    saved.rename(run / "winner")
    decided = read_decision(run)
    for rung, name in (
        ("prompting", "zero-shot"),
        ("retrieval", "zero-shot+3-passages"),
        ("sft", "lora-lr0.0003-epoch2"),
    ):
        folder = candidate_folder(run, rung, name)
        save_system(replace(SAVED, name=name, decoding=Decoding(300 if rung == "sft" else 8)), folder)
        with Record.open(run) as record:
            weights: Weights = "trained" if rung == "sft" else "model"
            record.append(CandidateProposed(rung=rung, name=name, weights=weights, prompt=PromptFacts()))
            record.append(SystemFrozen(rung=rung, name=name, sha256=artefact_sha256(folder)))
    with Record.open(run) as record:
        record.append(ClimbDecided(decision=decided))
    monkeypatch.setattr("lastresort.app.servable.is_uncleared", lambda gates, rung, system: rung == "sft")
    found = servable(run)
    assert found is not None
    assert [(one.rung, one.held) for one in found.others] == [("retrieval", False), ("sft", True)]
    given: list[tuple[Servable, bool]] = []

    def start(found: Servable, log: Path, allow_held: bool) -> ServingProcess:
        given.append((found, allow_held))
        return started(found, log, allow_held)

    site, page = page_of(tmp_path)
    site.own(ServingProcesses, ServingProcesses)._start = start
    shown = page.get("/runs/sample/talk").text
    assert (
        'value="retrieval" aria-describedby="about-retrieval">retrieval: zero-shot+3-passages</label>'
        '<small id="about-retrieval">The instruction alone' in shown
    )
    assert "not cleared by the gate: to look at, not to ship" in shown
    assert page.post("/runs/sample/talk/open", data={"rung": ["nothing"]}).status_code == 422
    refused = page.post("/runs/sample/talk/open", data={"rung": ["retrieval", "sft"]})
    assert refused.status_code == 422, "of a page that did not say that sft is held"
    assert "did not clear the system of SFT" in refused.text
    page.post("/runs/sample/talk/open", data={"rung": "retrieval"})
    assert given.pop()[1] is False, "the check of serve stays on where nothing is held"
    other = page.post("/runs/sample/talk/open", data={"rung": "retrieval", "allow_held": "sft"})
    assert other.status_code == 422
    assert "close the model first" in other.text
    page.post("/runs/sample/talk/close")
    page.post("/runs/sample/talk/open", data={"rung": "retrieval", "allow_held": "sft"})
    ((asked, leave),) = given
    assert (asked.most_tokens(["winner", "base"]), asked.most_tokens(["winner", "sft"])) == (8, 300)
    assert (asked.opened, leave) == (("retrieval", "sft"), True)
    words: list[str] = []
    monkeypatch.setattr(serving, "start_process", lambda arguments, **_: words.extend(arguments))
    serving.start_serving(asked, tmp_path / "log", True)
    assert words[2:] == ["--port", "0", "--all", "--allow-held", "--rung", "retrieval", "--rung", "sft"]
    site.close()


def test_any_system_that_was_measured_can_be_opened_and_chosen(opened: tuple[Site, TestClient]) -> None:
    site, page = opened
    run = site.workspace.runs / "routing-1"
    found = servable(run)
    assert found is not None
    view = read_view(run)
    names = {one.name: one.dev.score for one in view.rungs[0].candidates if one.name != view.rungs[0].chosen}
    assert {one.name: one.dev for one in found.others} == names
    assert [one.dev for one in found.others] == sorted(names.values(), reverse=True)
    shown = page.get("/runs/routing-1/talk").text
    assert "Other systems that were measured, on dev alone" in shown
    assert 'value="prompting/zero-shot"' in shown
    given: list[Servable] = []

    def start(found: Servable, log: Path, allow_held: bool) -> ServingProcess:
        given.append(found)
        return started(found, log, allow_held, SERVER.replace('"base")', '"base", "prompting/zero-shot")'))

    site.own(ServingProcesses, ServingProcesses)._start = start
    page.post("/runs/routing-1/talk/open", data={"rung": "prompting/zero-shot"})
    assert given[0].opened == ("prompting/zero-shot",)
    until(lambda: "Send" in page.get("/runs/routing-1/talk/state").text, "the model opens")
    right = page.get("/runs/routing-1/talk/state").text.partition('<select id="right"')[2].partition("</select>")[0]
    assert re.findall('value="([^"]*)" selected', right) == ["prompting/zero-shot"], "what was ticked is compared"
    assert page.post("/runs/routing-1/talk/open", data={"rung": "prompting/none"}).status_code == 422


def test_a_system_that_cannot_be_read_leaves_the_others_open(opened: tuple[Site, TestClient]) -> None:
    site, page = opened
    run = site.workspace.runs / "routing-1"
    found = servable(run)
    assert found is not None
    damaged, *others = found.others
    candidate_folder(run, damaged.rung, damaged.name).joinpath("system.yaml").write_text("{")
    tested = candidate_folder(run, "retrieval", "torn")
    tested.mkdir(parents=True)
    (tested / "system.yaml").write_text("{")
    with Record.open(run) as record:
        record.append(SystemFrozen(rung="retrieval", name="torn", sha256="0"))
    now = servable(run)
    assert now is not None
    assert (now.is_winner, now.others) == (True, tuple(others))
    assert "Open the model" in page.get("/runs/routing-1/talk").text


def test_the_base_model_is_not_said_to_have_been_measured(page: TestClient) -> None:
    shown = page.get("/runs/routing-1/talk").text
    assert "The base model answers without any of it, and was not measured that way." in shown
    assert "as it was measured" in shown
    for number, name in enumerate(("base", "winner")):
        say(page, name, name)
        answers(page, number)
    base, winner = (page.get(f"{at(page)}/{number}").text for number in (0, 1))
    assert "; without a prompt it was not measured" in base
    assert "not measured" not in winner


def test_from_the_second_message_on_an_answer_says_that_it_was_not_measured_so(page: TestClient) -> None:
    for number, text in enumerate(("hello", "more")):
        say(page, text, "winner", "base")
        answers(page, number)
    first, second = (page.get(f"{at(page)}/{number}").text for number in (0, 1))
    assert "earlier message" not in first
    assert (
        re.sub(r"\s", " ", second).count("; its prompt held 1 earlier message: not as measured, on single messages")
        == 1
    )


def test_a_message_can_be_sent_in_a_new_conversation(page: TestClient, tmp_path: Path) -> None:
    say(page, "hello", "winner")
    answers(page)
    old = at(page).rpartition("/")[2]
    sent_alone = {"talk": old, "system": ["winner"], "alone": "1"}
    assert page.post("/runs/routing-1/talk/say", data=sent_alone | {"text": " "}).status_code == 422
    assert at(page).endswith(old), "a message that is refused begins nothing"
    answer = page.post("/runs/routing-1/talk/say", data=sent_alone | {"text": "more"})
    new = at(page).rpartition("/")[2]
    assert new != old
    assert f'id="talk-id" name="talk" value="{new}" hx-swap-oob="true"' in answer.text
    assert (answer.headers["hx-retarget"], answer.headers["hx-reswap"]) == ("#exchanges", "innerHTML")
    assert answers(page) == ["winner 1: more"]
    [kept] = (tmp_path / "runs" / ".lastresort" / "talks").glob(f"routing-1.{old}.json")
    assert '"said":"hello"' in kept.read_text()


def test_what_was_measured_is_not_kept_without_a_warning(page: TestClient, tmp_path: Path) -> None:
    with Record.open(tmp_path / "runs" / "routing-1", read_only=True) as record:
        held = dict(record.inputs())
    assert {"dev", "test"} <= set(held)
    for number, text in enumerate((held["dev"], f" {held['test'].upper()}. ", "never measured")):
        say(page, text, "winner", "base")
        answers(page, number)
    kept = [page.post(f"{at(page)}/{n}/0/keep", data={"output": "x"}).text for n in range(3)]
    assert ["measured the same input in dev" in text for text in kept] == [True, False, False]
    assert "measured the same input in test" in kept[1]
    assert "measured the same input" in kept[2], "the earlier messages of a conversation are part of its input"
    assert all("add them to the file of your task" in text for text in kept)
    page.post("/runs/routing-1/talk/clear")
    say(page, "never measured", "winner", "base")
    answers(page)
    alone = page.post(f"{at(page)}/0/prefer", data={"better": "1"}).text
    assert "measured the same input" not in alone
    assert "<code>preferences: kept_pairs.jsonl</code> <button" in alone, "it is copied"


def test_an_answer_of_more_tokens_says_that_it_is_not_as_measured(page: TestClient, tmp_path: Path) -> None:
    shown = page.get("/runs/routing-1/talk").text
    assert re.search(
        r'id="tokens" name="tokens"><option value="">as measured \(up to \d+.tokens\)</option>',
        shown,
    )
    data = {"talk": at(page).rpartition("/")[2], "text": "longest", "system": ["winner", "base"]}
    for tokens, limit in (("", None), ("256", 256)):
        page.post("/runs/routing-1/talk/say", data=data | {"tokens": tokens})
        said = answers(page, int(limit is not None))
        assert all(text.endswith(f"{limit}") for text in said), said
        text = page.get(f"{at(page)}/{int(limit is not None)}").text
        assert ("not as measured: up to 256" in text) is (limit is not None)
    kept = json.loads((tmp_path / "runs" / ".lastresort" / "talks" / "routing-1.json").read_text())
    assert [one["longest_tokens"] for exchange in kept["exchanges"] for one in exchange["answers"]] == [
        None,
        None,
        256,
        256,
    ]
    assert page.post("/runs/routing-1/talk/say", data=data | {"tokens": "7"}).status_code == 422


def test_of_many_runs_two_stay_open_and_none_that_nobody_uses(tmp_path: Path) -> None:
    processes = ServingProcesses(started, idle_s=60)
    found = Servable(tmp_path, "one")
    opened = []
    for name in ("a", "b", "c"):
        opened.append(processes.open(name, found, tmp_path / "log"))
        until(lambda: opened[-1].state == "open", "it opens")
    assert [one.state for one in opened] == ["ended", "open", "open"]
    assert processes.open("c", found, tmp_path / "log") is opened[2]
    processes.close_idle(opened[2].used_at + 61)
    assert processes.of("c") is None
    assert opened[2].state == "ended"
    processes.close_all()
    assert opened[1].state == "ended"


@pytest.mark.parametrize(
    "program", [SERVER.replace("def do_GET(self):", "def do_GET(self):\n        time.sleep(60)"), "print('no address')"]
)
def test_a_process_that_does_not_say_what_it_answers_as_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    monkeypatch.setattr(serving, "NAMES_S", 0.5)
    processes = ServingProcesses(lambda *given: started(*given, program=program))
    opened = processes.open("a", Servable(tmp_path, "one"), tmp_path / "log")
    until(lambda: opened.process.returncode is not None, "it ends")
    assert opened.state == "ended"
    processes.close_all()


def test_a_model_that_is_loading_says_how_long_and_what_shares_the_machine(
    tmp_path: Path, opened: tuple[Site, TestClient]
) -> None:
    site, page = opened
    silent = "import sys; sys.stdin.read()"
    site.own(ServingProcesses, ServingProcesses)._start = lambda *given: started(*given, program=silent)
    loading = page.post("/runs/routing-1/talk/open").text
    assert re.search(r'Loading the model\.</b> <span class="took" data-took-s="[\d.]+">', loading)
    assert "at work on this machine" not in loading
    shutil.copytree(tmp_path / "runs" / "routing-1", tmp_path / "runs" / "other")
    with held(tmp_path / "runs" / "other", "held", expected="", remedy=""):
        assert "other is at work on this machine: loading and answering" in page.get("/runs/routing-1/talk/state").text


def test_one_that_never_opens_is_not_kept_either(tmp_path: Path) -> None:
    processes = ServingProcesses(lambda *given: started(*given, program="import sys; sys.stdin.read()"), idle_s=60)
    opened = processes.open("a", Servable(tmp_path, "one"), tmp_path / "log")
    assert opened.state == "opening"
    processes.close_idle(opened.used_at + 61)
    assert opened.state == "ended"
    processes.close_all()


def test_a_fault_of_ours_ends_an_answer_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Else its reader waits for ever, and nothing more can be said."""

    def ask(system: str, turns: object, stopped: object) -> Iterator[dict[str, object]]:
        yield {"choices": [{"delta": {"content": "half"}}]}
        raise RuntimeError("a secret detail")

    talk = Talk(tmp_path / "talk.json")
    talk.say("hello", ["winner"], ask)
    answer = talk.answer(0, 0)
    until(lambda: answer.finish, "it ends")
    assert (answer.finish, answer.text) == ("failed", "half")
    assert "secret" not in answer.fault
    assert "RuntimeError: a secret detail" in capsys.readouterr().err
    talk.say("again", ["winner"], lambda *_: iter(()))


@pytest.mark.skipif(os.name != "posix", reason="a signal ends it")
def test_the_process_ends_with_its_standard_input_and_gives_it_to_nothing() -> None:
    watching = (
        BOUND[: BOUND.index("from lastresort")]
        + "import time\nprint(repr(sys.stdin.read()), flush=True)\ntime.sleep(60)"
    )
    child = subprocess.Popen([sys.executable, "-c", watching], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdin is not None
    assert child.stdout is not None
    assert child.stdout.readline().strip() == b"''"
    assert child.poll() is None
    child.stdin.close()
    assert child.wait(20) != 0


def test_two_requests_at_once_see_one_conversation(
    opened: tuple[Site, TestClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both read the file, as neither is there yet; what one says is not lost to the other."""
    both, read = threading.Barrier(2), Talk.opened

    def slowly(path: Path) -> Talk:
        with suppress(threading.BrokenBarrierError):
            both.wait(20)
        return read(path)

    monkeypatch.setattr(Talk, "opened", slowly)
    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(lambda _: _talk(opened[0], "routing-1"), range(2))
    assert one is other


def test_no_file_is_read_in_the_loop_that_serves_everybody(
    opened: tuple[Site, TestClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    in_loop, read = [], Talk.opened

    def noted(path: Path) -> Talk:
        with suppress(RuntimeError):
            in_loop.append(asyncio.get_running_loop())
        return read(path)

    monkeypatch.setattr(Talk, "opened", noted)
    assert opened[1].get("/runs/routing-1/talk/0/0/0/live").status_code == 404
    assert in_loop == []
