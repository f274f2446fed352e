"""`lastresort serve RUN` as a whole: what it refuses before it serves, and that it answers as the winner was measured."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from knowledge_support import markdown
from lastresort.cli.border import guarded
from lastresort.cli.main import app
from lastresort.errors import InfrastructureError
from lastresort.keys import SERVE_KEY
from lastresort.knowledge.embedder import HashingEmbedder
from lastresort.knowledge.store import content_hash, create_store
from lastresort.knowledge.update import update
from lastresort.models.local import LocalModel
from lastresort.models.protocol import Model
from lastresort.records.decision import BAR_NOTES, NOT_GATED
from lastresort.serve import owner, start
from lastresort.serve.opening import ServeRequest
from lastresort.serve.start import ServedName, Serving, serve
from lastresort.systems.files import folder_sha256, save_system
from lastresort.systems.running import open_system, winner_status
from lastresort.systems.system import PromptDesign, Retriever, System
from lastresort.types import Decoding, Grammar, Message
from models_support import save_tiny
from serve_support import WordOwner, answerer, events, served, serving, user

KEY = "a-key-of-more-than-16"
SCHEMA = {"type": "object", "properties": {"team": {"enum": ["billing", "tech"]}}, "required": ["team"]}


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SERVE_KEY, raising=False)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("tiny"))


def saved(folder: Path, model: str = "", *, held: bool | None = None, **decoding: Any) -> Path:
    """A run with a winner. held: what its decision says, None for a system without a run."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "answers.json").write_text(json.dumps({"default": "x"}), encoding="utf-8")
    name = model or f"scripted:{folder}/answers.json"
    precision = "float32" if model else "auto"
    prompt = PromptDesign("Route the ticket.")
    save_system(System("zero-shot", name, prompt, Decoding(24, **decoding), precision=precision), folder / "winner")
    if held is not None:
        winner = {"kind": "prompt", "path": "winner", "held": held, "sha256": folder_sha256(folder / "winner")}
        (folder / "decision.json").write_text(json.dumps({"winner": winner}), encoding="utf-8")
    return folder


def said(url: str, content: str, **more: Any) -> str:
    body = {"model": "winner", "messages": user(content), **more}
    reply = httpx.post(f"{url}/chat/completions", json=body, timeout=120)
    if not more.get("stream"):
        return str(reply.json()["choices"][0]["message"]["content"])
    chunks = [json.loads(event) for event in events(reply.text)[:-1]]
    return "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("grammar", [None, Grammar(json_schema=SCHEMA), Grammar(choices=("billing", "tech support"))])
def test_answers_are_those_that_were_measured_alone_and_among_31_other_clients(
    grammar: Grammar | None, tiny: Path, tmp_path: Path
) -> None:
    """In float32, item by item, whole and streamed."""
    items = [f"the parcel {number} is {'very ' * (number % 5)}late" for number in range(32)]
    run = saved(tmp_path, str(tiny), grammar=grammar)
    system = open_system(run)
    measured = [answer.text for answer in system.answer([(Message("user", item),) for item in items])]
    system.close()
    assert len(set(measured)) > (1 if grammar is None else 0)
    with serving(ServeRequest(run)) as (found, _):
        alone = [said(found.url, item) for item in items[:4]]
        with ThreadPoolExecutor(32) as clients:
            together = list(clients.map(lambda n: said(found.url, items[n], stream=bool(n % 2)), range(32)))
    assert alone == measured[:4]
    assert together == measured


def test_a_request_can_ask_for_a_schema_and_for_log_probabilities(tiny: Path, tmp_path: Path) -> None:
    with serving(ServeRequest(saved(tmp_path, str(tiny)))) as (found, _):
        wanted = {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}}
        assert json.loads(said(found.url, "a", response_format=wanted, max_tokens=40))["team"] in ("billing", "tech")
        for schema in ({"type": "object", "if": {"required": ["a"]}}, {"type": "integer", "maximum": 10**300}):
            wanted["json_schema"]["schema"] = schema  # type: ignore[index]
            body = {"model": "winner", "messages": user("a"), "response_format": wanted}
            refused = httpx.post(f"{found.url}/chat/completions", json=body, timeout=60)
            assert (refused.status_code, refused.json()["error"]["code"]) == (422, "unsupported_schema")
        body = {"model": "winner", "messages": user("a"), "logprobs": True, "top_logprobs": 3, "max_tokens": 5}
        got = httpx.post(f"{found.url}/chat/completions", json=body, timeout=60).json()["choices"][0]
        tokens = got["logprobs"]["content"]
        assert len(tokens) == 5
        assert all(token["logprob"] == token["top_logprobs"][0]["logprob"] <= 0 for token in tokens)
        long = httpx.post(
            f"{found.url}/chat/completions", json={"model": "winner", "messages": user("a" * 9000)}, timeout=60
        )
        assert (long.status_code, long.json()["error"]["code"]) == (400, "context_length_exceeded")
        assert long.json()["error"]["message"].endswith("together. Shorten the messages, or lower max_tokens.")


def test_the_bare_model_continues_a_text(tiny: Path, tmp_path: Path) -> None:
    run = saved(tmp_path, str(tiny))
    with serving(ServeRequest(run, raw=True)) as (found, _):
        card = httpx.get(f"{found.url}/models", timeout=60).json()["data"][0]
        assert (card["owned_by"], card["max_model_len"], found.names[0].prompted) == ("lastresort-raw", 256, False)
        got = httpx.post(
            f"{found.url}/completions", json={"model": "winner", "prompt": "the parcel is"}, timeout=60
        ).json()
        assert got["usage"]["completion_tokens"] == 24
        bare = said(found.url, "the parcel is late")
    system = open_system(run)
    assert isinstance(system.model, LocalModel)
    assert bare == system.model.generate([(Message("user", "the parcel is late"),)], system.system.decoding)[0].text
    system.close()


@pytest.mark.slow
def test_the_longest_prompt_with_its_answer_is_said(tiny: Path, tmp_path: Path) -> None:
    run = saved(tmp_path, str(tiny))
    with serving(ServeRequest(run, longest_tokens=90)) as (found, lines):
        assert httpx.get(f"{found.url}/models", timeout=60).json()["data"][0]["max_model_len"] == 90
        body = {"model": "winner", "messages": user("late " * 40)}
        refused = httpx.post(f"{found.url}/chat/completions", json=body, timeout=60).json()["error"]
    assert (refused["code"], "expected at most 90 together" in refused["message"]) == ("context_length_exceeded", True)
    assert "A prompt and its answer get 90 tokens of the 256 that the model takes; see --longest." in lines
    with serving(ServeRequest(run)) as (found, lines):
        assert httpx.get(f"{found.url}/models", timeout=60).json()["data"][0]["max_model_len"] == 256
    assert not any("--longest" in line for line in lines)


def test_another_server_can_answer_what_the_winner_asks(tmp_path: Path) -> None:
    with (
        served(answerer()) as other,
        serving(ServeRequest(saved(tmp_path), upstream=f"{other.url}/v1", model="winner")) as (found, _),
    ):
        assert said(found.url, "late parcel") == "shipping"
        [work] = other.owner.log
        assert [turn.content for turn in work.prompt] == ["Route the ticket.\n\nRoute the ticket.", "late parcel"]
        assert work.decoding.max_new_tokens == 24
        assert found.names[0].model == f"{other.url}/v1#winner"


def test_a_winner_that_retrieves_answers_several_clients_from_its_store(tmp_path: Path) -> None:
    store = create_store(tmp_path / "made", HashingEmbedder())
    update(
        store, [markdown(f"{name}.md", f"# {name}\n\nThe {name} is {name[0]}.\n") for name in ("kettle", "lamp", "bed")]
    )
    retriever = Retriever(tmp_path / "made", 1, contents=content_hash(store))
    run = saved(tmp_path / "run")
    save_system(
        System("found", "scripted:s.json", PromptDesign("Answer."), Decoding(16), retriever=retriever), run / "winner"
    )
    (run / "winner" / "s.json").write_text('{"default": "green"}')
    with serving(ServeRequest(run)) as (found, _), ThreadPoolExecutor(8) as clients:

        def sources(name: str) -> list[str]:
            body = {"model": "winner", "messages": user(f"What is the {name}?")}
            reply = httpx.post(f"{found.url}/chat/completions", json=body, timeout=60).json()
            return [source["document"] for source in reply["sources"]]

        names = ["kettle", "lamp", "bed"] * 8
        assert list(clients.map(sources, names)) == [[f"{name}.md"] for name in names]


def test_a_key_in_the_environment_guards_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SERVE_KEY, f" {KEY}\n")
    with serving(ServeRequest(saved(tmp_path), host="0.0.0.0")) as (found, lines):
        url = found.url.replace("0.0.0.0", "127.0.0.1")
        assert found.has_key
        assert httpx.get(f"{url}/models", timeout=60).status_code == 401
        assert httpx.get(f"{url}/models", headers={"Authorization": f"Bearer {KEY}"}, timeout=60).status_code == 200
    assert KEY not in "".join(lines)


def says(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    port = () if "--port" in words else ("--port", "0")
    monkeypatch.setattr(sys, "argv", ["lastresort", "serve", *words, *port])
    code = guarded(app)
    out, error = capsys.readouterr()
    error = error.removeprefix("opening the winner ...\n")
    assert out == ""
    assert error.count("\n") == 1
    return code, error


def test_what_it_refuses_before_it_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = str(saved(tmp_path / "run"))
    refused: Callable[..., tuple[int, str]] = lambda *words: says(monkeypatch, capsys, *words)  # noqa: E731
    code, error = refused(run, "--host", "0.0.0.0")
    assert (code, SERVE_KEY in error) == (3, True)
    code, error = refused(run, "--upstream", "http://localhost:1/v1")
    assert (code, "--model belong together" in error) == (2, True)
    code, error = refused(str(tmp_path / "none"))
    assert (code, "none" in error) == (2, True)
    code, error = refused(str(saved(tmp_path / "held", held=True)))
    assert (code, "--allow-held" in error) == (2, True)
    code, error = refused(run, "--host", "no.such.host.invalid")
    assert code == 3  # no key
    with monkeypatch.context() as patch:  # such as by a line in /etc/hosts
        other = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.7", 8000))
        patch.setattr(socket, "getaddrinfo", lambda *_, **__: [other])
        code, error = refused(run, "--host", "app.localhost")
    assert (code, "app.localhost (192.0.2.7) can be reached" in error) == (3, True)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, error = refused(run, "--port", str(taken.getsockname()[1]))
    assert (code, "Take another --port" in error) == (2, True)
    monkeypatch.setenv(SERVE_KEY, "short")
    code, error = refused(run)
    assert (code, "found a key of 5 characters" in error, "short" in error) == (2, True, False)
    monkeypatch.setenv(SERVE_KEY, KEY)
    code, error = refused(run, "--host", "no.such.host.invalid")
    assert (code, "no such address" in error) == (2, True)
    monkeypatch.setattr(start, "find_spec", lambda name: None if name == "uvicorn" else name)
    code, error = refused(run)
    assert code == 3
    assert error == "Error: uvicorn is not installed, and serving needs it. Run: pip install 'lastresort[serve]'\n"


def test_a_server_that_can_compute_nothing_any_more_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owners = list[WordOwner]()

    def opened(models: Mapping[str, Model], **_: Any) -> dict[str, WordOwner]:
        owners.append(WordOwner(models["winner"]))
        return {"winner": owners[0]}

    def lost(serving: Serving) -> None:
        owners[0].fault = RuntimeError("the device is lost")

    monkeypatch.setattr(owner, "open_owners", opened)
    with pytest.raises(InfrastructureError, match=r"the device is lost.*Start the server again"):
        serve(ServeRequest(saved(tmp_path), port=0), on_ready=lost)


def test_a_held_winner_is_served_on_demand(tmp_path: Path) -> None:
    with serving(ServeRequest(saved(tmp_path, held=True), allow_held=True)) as (found, _):
        assert said(found.url, "a") == "x"


def test_a_winner_that_is_not_shown_to_meet_the_bar_is_called_so(tmp_path: Path) -> None:
    run = saved(tmp_path, held=False)
    decision = json.loads((run / "decision.json").read_text())
    for verdict, note in BAR_NOTES.items():
        tested = {"stopped_at": "prompting", "rungs": [{"name": "prompting", "test": {"verdict": verdict}}]}
        (run / "decision.json").write_text(json.dumps({**decision, **tested}))
        with serving(ServeRequest(run)) as (_, log):
            assert set(log) & set(BAR_NOTES.values()) == {note}


def test_a_tuned_winner_that_no_gate_looked_at_is_called_so(tmp_path: Path) -> None:
    run = saved(tmp_path, held=False)
    decision = json.loads((run / "decision.json").read_text())
    winner = {**decision["winner"], "kind": "adapter"}
    unnoted: dict[str, object] = {}  # in the first schemas, whatever ran
    for gate, notes in ({"gate": "SHIP"}, ()), ({"gate": None}, (NOT_GATED,)), (unnoted, ()):
        tested = {"stopped_at": "sft", "rungs": [{"name": "sft", **gate, "test": {"verdict": "MET"}}]}
        (run / "decision.json").write_text(json.dumps({**decision, **tested, "winner": winner}))
        assert winner_status(run).notes == notes
        with serving(ServeRequest(run)) as (_, log):
            assert [line for line in log if line == NOT_GATED] == [*notes]


def test_the_command_says_where_it_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    begun = Serving("http://127.0.0.1:1/v1", False, (ServedName("winner", "zero-shot", "a", True),))
    monkeypatch.setattr(start, "serve", lambda request, on_ready, **_: on_ready(begun))
    monkeypatch.setattr(sys, "argv", ["lastresort", "serve", str(tmp_path), "--port", "0"])
    assert guarded(app) == 0
    out, error = capsys.readouterr()
    assert out == "http://127.0.0.1:1/v1\n"
    assert error.splitlines() == [
        'zero-shot on a, with its own prompt, as model "winner".',
        "No key is set, so this machine alone may ask.",
    ]
