"""`lastresort verify`: its exit code, its forms of output, and the same from Python."""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from jsonschema import Draft202012Validator
from rich.console import Console

import lastresort as lr
from document_schemas import schema_of
from endpoint_support import Endpoint, Handler, Step, completion, serving
from lastresort.cli.border import guarded
from lastresort.cli.main import app
from lastresort.errors import InputError, StopRequestedError
from lastresort.report.verify import AnswerMissing, VerifyDocument, cells, verify_text
from lastresort.report.verify_files import verify_junit, verify_markdown
from lastresort.report.words import verify as words
from lastresort.report.words.verify import longer
from lastresort.stop import StopRequest
from lastresort.systems.compose import compose
from lastresort.systems.running import load_winner
from lastresort.types import Message
from recheck_support import handbook_run, scripted, tuned_run
from serve_support import served

PAGE = (Path(__file__).parent.parent.parent / "docs" / "verify.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tuned_run(tmp_path_factory.mktemp("won"), quality=[{"right": 0.97}], rungs=("sft",))


@pytest.fixture
def server() -> Iterator[Endpoint]:
    with serving() as endpoint:
        endpoint.otherwise = always("billing")
        yield endpoint


def always(text: str) -> Step:
    def step(handler: Handler, request: dict[str, Any]) -> None:
        handler.send(200, completion(text))

    return step


def as_recorded(run: Path) -> Step:
    """Answers with what the run recorded."""
    answers = {row["input"]: row["answer"] for row in lr.open_run(run).items() if row["split"] != "dev"}

    def step(handler: Handler, request: dict[str, Any]) -> None:
        asked = request["messages"][-1]["content"]
        text = next(answer for said, answer in answers.items() if said in asked)
        handler.send(200, completion(text))

    return step


def verify(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["lastresort", "verify", *arguments])
    return guarded(app)


@pytest.mark.slow
def test_the_parameters_of_a_ready_request_are_sent(
    run: Path, server: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A server that repeats less unless its client says otherwise, as llama-cpp-python's does."""
    right, wrong = as_recorded(run), always("billing")
    server.otherwise = lambda handler, request: (right if request.get("repeat_penalty") == 1 else wrong)(
        handler, request
    )
    parameters = {"temperature": 0.0, "max_tokens": 77, "repeat_penalty": 1, "top_k": 0}
    path = request_file(tmp_path, turns_of(run), **parameters)
    assert verify(monkeypatch, str(run), url_of(server), "--n", "8") == 1
    before = len(server.requests)
    capsys.readouterr()
    assert verify(monkeypatch, str(run), url_of(server), "--n", "8", "--request", str(path), "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["identical"], document["causes"]) == (8, [])
    assert document["server"]["model"] == "handed"
    assert document["server"]["parameters"] == parameters
    measured = load_winner(run / "winner").decoding.max_new_tokens
    assert document["notes"][0] == f"The request sends max_tokens 77, the run measured with {measured}."
    sent = [{key: value for key, value in one.items() if key != "messages"} for one in server.requests[before:]]
    kept = {"model": "handed", **parameters}
    silent = {key: value for key, value in kept.items() if key != "temperature"}  # the last experiment leaves it out
    assert [one for one in sent if one != silent] == [kept] * (len(sent) - sent.count(silent))


def turns_of(run: Path) -> list[dict[str, Any]]:
    """Those that its winner puts around an input."""
    design = load_winner(run / "winner").prompt
    return [
        turn.as_dict()
        for turn in compose(design, (Message("user", "Write your input here."),), design.shots[: design.k])
    ]


def request_file(folder: Path, turns: list[dict[str, Any]], **parameters: Any) -> Path:
    path = folder / "request.json"
    path.write_text(json.dumps({"model": "handed", "messages": turns, **parameters}), encoding="utf-8")
    return path


def changed(turns: list[dict[str, Any]], place: int, **keys: str) -> list[dict[str, Any]]:
    return [{**turn, **keys} if number == place else turn for number, turn in enumerate(turns)]


def test_the_request_of_another_run_is_refused_before_anything_is_sent(
    run: Path, server: Endpoint, tmp_path: Path
) -> None:
    turns = turns_of(run)
    assert [turn["role"] for turn in turns] == ["system", "user"]
    others = {
        "another system turn": changed(turns, 0, content="Name the river."),
        "none": turns[1:],
        "another role": changed(turns, 0, role="user"),
        "more turns": [*turns, {"role": "assistant", "content": "fine"}],
        "the input is not last": turns[::-1],
    }
    for another in others.values():
        with pytest.raises(InputError, match=r"another prompt than the winner of this run.*a hand-over of this run"):
            lr.verify(run, url_of(server), request=request_file(tmp_path, another))
    assert server.requests == []


@pytest.mark.parametrize("own", [False, True])
def test_a_request_of_this_run_is_taken_whatever_input_is_written_into_it(
    own: bool, run: Path, server: Endpoint, tmp_path: Path
) -> None:
    """own: for a template without system turns, the hand-over writes the instruction into the user's turn."""
    system, _ = turns_of(run)
    text = "Where is my invoice?"
    folded = [{"role": "user", "content": f"{system['content']}\n\n{text}"}]
    path = request_file(tmp_path, folded if own else [system, {"role": "user", "content": text}], temperature=0.0)
    found = lr.verify(run, url_of(server), n=4, request=path).document
    assert "The request sends no max_tokens, the run measured with " in found.notes[0]


def test_a_server_that_composes_the_prompt_takes_a_request_of_the_input_alone(run: Path, tmp_path: Path) -> None:
    with serving() as endpoint:
        endpoint.otherwise = always("billing")
        with pytest.raises(InputError, match="expected the input alone"):
            lr.verify(run, url_of(endpoint), send="input", request=request_file(tmp_path, turns_of(run)))
        alone = request_file(tmp_path, [{"role": "user", "content": "Write your input here."}])
        found = lr.verify(run, url_of(endpoint), send="input", n=4, request=alone).document
    assert not any("The request sends" in note for note in found.notes)


@pytest.mark.parametrize(
    "body",
    [
        "[]",
        '{"model": "m"}',
        '{"messages": []}',
        '{"messages": ["hi"]}',
        '{"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}',
        '{"messages": [], "stream": true}',
        "{",
    ],
)
def test_a_file_that_is_no_request(run: Path, server: Endpoint, tmp_path: Path, body: str) -> None:
    path = tmp_path / "request.json"
    path.write_text(body, encoding="utf-8")
    with pytest.raises(InputError, match=r"request\.json"):
        lr.verify(run, url_of(server), request=path)
    assert server.requests == []


def rendered(shown: Any) -> str:
    console = Console(width=80, file=io.StringIO(), record=True)
    console.print(shown)
    return console.export_text()


def url_of(server: Endpoint) -> str:
    return server.name.removesuffix("#m")


def test_a_server_that_answers_as_recorded_is_0(
    run: Path, server: Endpoint, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server.otherwise = as_recorded(run)
    assert verify(monkeypatch, str(run), url_of(server).removesuffix("/v1")) == 0
    out, error = capsys.readouterr()
    assert "are the same text" in out
    assert "Sends all" in error  # before anything is sent


def test_the_block_of_the_page_runs(run: Path, server: Endpoint) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    for said, here in (("runs/tickets-1", run), ("http://127.0.0.1:8000/v1", url_of(server))):
        assert f'"{said}"' in block
        block = block.replace(said, str(here))
    *_, last = block.strip().splitlines()
    names: dict[str, Any] = {"lr": lr}
    exec(block, names)
    found = names["found"]
    assert found.worse
    assert repr(found) == f"<Verification: {found.document.answer}>"
    assert eval(last, names) == [one.cause for one in found.document.causes if one.explains]


def test_a_worse_server_is_1_with_files_that_say_why(
    run: Path, server: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    junit, markdown = tmp_path / "a" / "junit.xml", tmp_path / "verify.md"
    given = ("--junit", str(junit), "--markdown", str(markdown), "--json")
    assert verify(monkeypatch, str(run), url_of(server), *given) == 1
    body = json.loads(capsys.readouterr().out)
    Draft202012Validator(schema_of("verify")).validate(body)
    document = VerifyDocument.model_validate(body)
    assert document.as_json() == body
    assert (document.worse, document.compared.verdict) == (True, "REGRESSED")
    root = ElementTree.parse(junit).getroot()
    assert int(root.attrib["failures"]) >= 1
    failure = root.find(".//testcase[@name='answers']/failure")
    assert failure is not None
    assert failure.attrib["message"] == document.answer
    text = markdown.read_text(encoding="utf-8")
    assert text.startswith("## No, the server answers worse than measured")
    assert "| possible cause |" in text
    assert (junit.read_text(), text) == (verify_junit(document), verify_markdown(document))


@pytest.mark.slow
def test_the_terminal_shows_differing_answers_side_by_side(
    run: Path, server: Endpoint, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify(monkeypatch, str(run), url_of(server), "--n", "30") == 1
    out = capsys.readouterr().out
    lines = [" ".join(line.split()) for line in out.splitlines()]
    first = next(place for place, line in enumerate(lines) if line.startswith("measured ") and line.endswith("(100%)"))
    assert lines[first + 1] == "served billing (0%)"
    assert "What could cause it:" in out
    assert "No cause found" in out
    assert max(map(len, out.splitlines())) <= 80


def test_both_answers_of_a_pair_say_that_they_were_cut(run: Path, server: Endpoint) -> None:
    (first, *_) = lr.verify(run, url_of(server), n=4).document.differing
    cut = cells(first.replaced(recorded="a", served="a", recorded_finish="length", finish="length", recorded_score=0.0))
    assert cut["measured"] == cut["served"] == "a (0%, cut at the limit of tokens)"


def test_a_refused_key_names_the_address_and_whose_key_it_is(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("LASTRESORT_API_KEY", raising=False)
    with served(key="a-key-of-more-than-16") as guarding:
        assert verify(monkeypatch, str(run), guarding.url) == 3
    said = " ".join(capsys.readouterr().err.split())
    assert f"{guarding.url}/v1: the server refuses the key (401)" in said
    assert "takes the value of its LASTRESORT_SERVE_KEY" in said


class StopAfter:
    """Asks to stop once it was looked at so often."""

    def __init__(self, looks: int) -> None:
        self.looks = looks

    def requested(self) -> StopRequest | None:
        self.looks -= 1
        return None if self.looks >= 0 else StopRequest("signal", "enough")


@pytest.mark.slow
def test_answers_are_kept_until_the_verification_ends_and_no_longer(run: Path, server: Endpoint) -> None:
    def sent(**question: Any) -> int:
        before = len(server.requests)
        lr.verify(run, url_of(server), n=40, **question)
        return len(server.requests) - before

    server.otherwise = as_recorded(run)
    with pytest.raises(StopRequestedError):
        sent(stop=StopAfter(4))  # checked before each of the three by which a server is recognised
    resumed, whole = sent(), sent()
    assert whole - resumed == 32  # the first batch was kept
    with pytest.raises(StopRequestedError):
        sent(stop=StopAfter(4))  # checked before each of the three by which a server is recognised
    server.otherwise = always("other")  # another server at the same address: what was kept is not its own
    assert lr.verify(run, url_of(server), n=40).document.identical == 0


def test_from_python(run: Path, server: Endpoint) -> None:
    found = lr.verify(run, url_of(server), n=12)
    assert found.worse
    assert found.document.n == 12
    assert found.markdown.startswith("## No")


def test_text_of_a_server_is_no_markup(run: Path, server: Endpoint) -> None:
    server.otherwise = always("<script>|`*\x1b[31m")
    document = lr.verify(run, url_of(server), n=12).document
    assert "<script>" not in verify_markdown(document)
    assert "\x1b" not in verify_junit(document)
    ElementTree.fromstring(verify_junit(document))


def test_many_missing_answers_do_not_bury_the_result(run: Path, server: Endpoint) -> None:
    document = lr.verify(run, url_of(server), n=4).document
    lost = tuple(AnswerMissing(id=f"lost-{i}", because="the server answers 500.") for i in range(200))
    long = document.replaced(missing=lost)
    for text in (verify_markdown(long), rendered(verify_text(long))):
        assert (text.count("lost-"), "197 more" in text) == (3, True)


@pytest.mark.parametrize(
    ("options", "said"),
    [(("--send", "half"), "expected input or prompt"), (("--junit", "/"), "found a folder")],
)
def test_options_that_make_no_sense(
    run: Path, options: tuple[str, ...], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify(monkeypatch, str(run), "http://127.0.0.1:9/v1", *options) == 2
    assert said in capsys.readouterr().err


def test_a_run_without_a_winner(tmp_path: Path) -> None:
    lost = tuned_run(tmp_path, quality=[{"right": 0.1}])
    with pytest.raises(
        InputError, match=r"no winner \(NOT MET\), expected .*`lastresort report \S+` says why, and what may help"
    ):
        lr.verify(lost, "http://127.0.0.1:9/v1")


@pytest.mark.slow
def test_a_winner_that_reads_documents_sends_its_passages(tmp_path: Path, server: Endpoint) -> None:
    few = {"ladder": ["retrieval"], "split": {"dev": 24, "test": 20}, "retrieval": {"embedder": "hashing", "k": [3]}}
    run = handbook_run(tmp_path, task=few)
    with scripted("sft"):
        found = lr.verify(run, url_of(server), n=3).document
    assert found.winner.kind == "retrieval"
    asked = server.requests[0]["messages"][-1]["content"]
    assert "[1] " in asked or "<passages>" in asked


@pytest.mark.parametrize(
    ("offsets", "said"),
    [
        ([], "does not count prompt tokens"),
        ([0, 0], "counts as many prompt tokens as were measured"),
        ([1, 1], "counts 1 more prompt token than measured"),
        ([-14, -12], "counts 12 to 14 fewer prompt tokens than measured"),
        ([-1, -1], "counts 1 fewer prompt token than measured"),
        ([1200, 0], "counts 0 to 1,200 more prompt tokens than measured"),
        ([-1, 2], "counts −1 to +2 prompt tokens against those measured"),
    ],
)
def test_counts_of_prompt_tokens_in_words(offsets: list[int], said: str) -> None:
    assert longer(offsets) == f"the server {said}"


def test_one_answer_is_one_in_the_words_of_verify() -> None:
    open_answer = partial(words.answer, "UNDERPOWERED", 1, 1, 1.0, 1.0, margin=0.02, loss_seen=False)
    assert open_answer() == (
        "No difference seen: the one answer is the same text, the best result that so few items can give."
    )
    assert open_answer(missing=1) == (
        "No difference seen: the one answer that arrived is the same text, but 1 did not arrive."
    )
    assert open_answer(missing=1, spoilt=True) == (
        "Cannot tell, because 1 answer did not arrive: the one that did is the same text."
    )
    assert words.missing_reason(1, spoils=True).endswith(
        "If it were wrong, the loss could be larger, so no less is shown."
    )
    assert words.of_base(1, 1) == "1 of 1 differing answer is what the base model answers"
    assert words.of_longer_limit("seen", 64, [9]).endswith(", 1 still ends after at most 9")
    few: Any = {"unit": "item", "units": 3, "margin": 0.02, "confidence": 0.95, "needed": None, "least": 1, "sent": 3}
    few |= {"is_open": False}
    assert words.reasons(1, 3, 0.0, (-0.1, 0.1), available=3, **few)[0] == "1 of 3 answers is the same text."


def test_a_model_that_the_server_does_not_know_is_one_of_the_command(
    run: Path, server: Endpoint, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server.otherwise = lambda handler, request: handler.send(404, {"error": {"message": "no such model"}})
    assert verify(monkeypatch, str(run), url_of(server), "--model", "gpt-4o", "--n", "4") == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "does not know this model or address (404" in said
    assert said.endswith("Correct the model's name (--model, or that of the request), or the address.")
