"""What a client sends after a hand-over is what the model was asked when it was measured, whatever the prompt holds."""

from __future__ import annotations

import json
import os
import runpy
import shlex
import shutil
import subprocess
import sys
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import httpx
import pytest

from handoff_support import NASTY, SHOTS, handed, listening, run_of, system
from knowledge_support import markdown
from lastresort.handoff import TARGETS
from lastresort.handoff.request import INPUT, SPACING
from lastresort.handoff.source import open_winner
from lastresort.handoff.write import write_handoff
from lastresort.keys import SERVE_KEY
from lastresort.knowledge.embedder import HashingEmbedder
from lastresort.knowledge.store import content_hash, create_store
from lastresort.knowledge.update import update
from lastresort.models.constrained import Constraint, TokenTable
from lastresort.models.scripted import Script, ScriptedModel
from lastresort.records.events.run import TaskPlaced
from lastresort.records.record import Record
from lastresort.serve.opening import ServeRequest
from lastresort.systems.answerer import Answerer
from lastresort.systems.files import load_system
from lastresort.systems.running import open_system
from lastresort.systems.system import PromptDesign, Retriever, System
from lastresort.types import Decoding, Grammar, Message
from lastresort.verify.server import connect
from models_support import save_tiny, tiny_tokenizer
from serve_support import serving
from train_support import lastresort

SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "integer"}}, "required": ["a", "b"]}
CHOICES = ("a.b", 'say "x"', "new\nline", "$(5)|[6]")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("model") / "base")


def said_by(folder: Path, url: str, text: str) -> str:
    """What client.py prints, run in this process, which has the client's library loaded already."""
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(StringIO()) as said:
        patch.setenv("BASE_URL", url)
        patch.setattr(sys, "argv", ["client.py", text])
        runpy.run_path(str(folder / "client.py"), run_name="__main__")
    return said.getvalue()


def said_by_a_process(folder: Path, url: str, text: str) -> str:
    environment = {**os.environ, "BASE_URL": url}
    done = subprocess.run(
        [sys.executable, str(folder / "client.py"), text], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def asked(run: Path) -> list[dict[str, Any]]:
    """The turns that the model is asked when it is measured."""
    running = open_system(run)
    assert isinstance(running, Answerer)
    try:
        return [turn.as_dict() for turn in running.prompt((Message("user", NASTY),))]
    finally:
        running.close()


@pytest.mark.sampled(2)
@pytest.mark.parametrize("layout", ["plain", "sections"])
def test_the_client_sends_what_was_measured(layout: Any, base: Path, tmp_path: Path) -> None:
    winner = system(base, prompt=PromptDesign(NASTY, layout, SHOTS, k=2), decoding=Decoding(8, stop=('"', "\n")))
    run = run_of(tmp_path / "tickets", winner)
    found = handed(run, "vllm")
    with listening(" \nfine ") as (url, got):
        assert said_by(found.folder, url, NASTY) == "fine\n"
    assert got[0].pop("messages") == asked(run)
    assert got[0] == {"model": "tickets", "temperature": 0.0, "seed": 0, "max_tokens": 8, "stop": ['"', "\n"]}


@pytest.mark.slow
def test_a_template_without_system_turns_gets_none(base: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(base, other)
    refusing = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    (other / "chat_template.jinja").write_text(refusing + (base / "chat_template.jinja").read_text())
    run = run_of(tmp_path / "tickets", system(other))
    with listening() as (url, got):
        said_by(handed(run, "vllm").folder, url, "Where is it?")
    assert [turn["role"] for turn in got[0]["messages"]] == ["user", "assistant", "user", "assistant", "user"]
    assert got[0]["messages"][0]["content"] == f"{NASTY}\n\nquestion 0 {NASTY}"


@pytest.mark.slow
def test_curl_sends_the_same_request(base: Path, tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    run = run_of(tmp_path / "a folder's $name", system(base, decoding=Decoding(8, top_k=5, temperature=0.5)))
    found = handed(run, "vllm")
    with listening() as (url, got):
        done = subprocess.run(
            ["sh", str(found.folder / "request.sh")],
            env={**os.environ, "BASE_URL": url},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert said_by_a_process(found.folder, url, INPUT) == "fine\n"
    assert json.loads(done.stdout)["choices"][0]["message"]["content"] == "fine"
    assert got[0] == got[1] == json.loads((found.folder / "request.json").read_text(encoding="utf-8"))
    assert (got[0].pop("messages"), got[0]) == (
        [*asked(run)[:-1], {"role": "user", "content": INPUT}],
        {"model": "a-folder-s-name", "temperature": 0.5, "seed": 0, "max_tokens": 8, "top_p": 1.0, "top_k": 5},
    )


FORMS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    # server: keys for a schema, keys for choices
    "vllm": (
        {"response_format": {**SCHEMA, "x-guidance": SPACING}},
        {"structured_outputs": {"choice": list(CHOICES)}},
    ),
    "sglang": (
        {"response_format": {**SCHEMA, "x-guidance": SPACING}},
        {"regex": '(a\\.b|say "x"|new\nline|\\$\\(5\\)\\|\\[6\\])'},
    ),
    "llamacpp": (
        {"response_format": SCHEMA},
        {"grammar": 'root ::= "a.b" | "say \\"x\\"" | "new\\nline" | "$(5)|[6]"'},
    ),
    "ollama": ({"response_format": SCHEMA}, {}),
    "litellm": ({"response_format": SCHEMA}, {}),
    "transformers": ({}, {}),
}


@pytest.mark.parametrize("to", TARGETS)
def test_the_form_of_an_answer(to: str, base: Path, tmp_path: Path) -> None:
    for number, grammar in enumerate((Grammar(json_schema=SCHEMA), Grammar(choices=CHOICES))):
        run = run_of(tmp_path / f"run{number}", system(base, decoding=Decoding(8, grammar=grammar)))
        body = json.loads((handed(run, to).folder / "request.json").read_text(encoding="utf-8"))
        found = {key: body[key] for key in ("response_format", "structured_outputs", "regex", "grammar") if key in body}
        if "response_format" in found:
            assert found["response_format"]["type"] == "json_schema"
            found["response_format"] = found["response_format"]["json_schema"]["schema"]
        assert found == FORMS[to][number]


def test_the_schema_carries_the_spacing_that_was_measured() -> None:
    """vLLM and SGLang give it to llguidance with defaults of their own, which are free white space."""
    from llguidance import LLMatcher

    sent = LLMatcher.grammar_from_json_schema(
        {**SCHEMA, "x-guidance": SPACING}, defaults={"whitespace_flexible": True, "whitespace_pattern": None}
    )
    tokenizer = tiny_tokenizer()
    table = TokenTable(tokenizer, len(tokenizer), frozenset({2}))
    texts = {
        '{"a": "x", "b": 1}': True,
        '{"a":"x","b":1}': True,
        '{ "a": "x", "b": 1}': False,
        '{"a": "x",\n"b": 1}': False,
    }
    measured = Constraint(table, Grammar(json_schema=SCHEMA))._start
    for text, taken in texts.items():
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert LLMatcher(table.table, sent, log_level=0).validate_tokens(ids) == measured.deep_copy().validate_tokens(
            ids
        )
        assert (measured.deep_copy().validate_tokens(ids) == len(ids)) == taken


def test_sglangs_pattern_takes_the_choices_alone() -> None:
    import re

    from llguidance import LLMatcher

    pattern = FORMS["sglang"][1]["regex"]
    assert all(re.fullmatch(pattern, choice) for choice in CHOICES)
    others = ("axb", "a.b ", "", "$(5)", "[6]")
    assert not any(re.fullmatch(pattern, other) for other in others)
    tokenizer = tiny_tokenizer()
    table = TokenTable(tokenizer, len(tokenizer), frozenset({2})).table
    for text in (*CHOICES, *others):  # as SGLang's own library reads it
        matcher = LLMatcher(table, LLMatcher.grammar_from_regex(pattern), log_level=0)
        taken = matcher.consume_tokens(tokenizer(text, add_special_tokens=False)["input_ids"])
        assert (taken and matcher.is_accepting()) == (text in CHOICES)


@pytest.mark.slow
def test_reasoning_and_choices_are_taken_out_of_the_reply(base: Path, tmp_path: Path) -> None:
    thinking = system(base, prompt=PromptDesign("Think.", reasoning=True))
    found = handed(run_of(tmp_path / "a", thinking), "vllm")
    with listening("First, so.\nAnswer: maybe\n**Final answer:** 42 ") as (url, _):
        assert said_by(found.folder, url, "x") == "42\n"
    over = system("http://127.0.0.1:9/v1#m", precision="auto", decoding=Decoding(8, grammar=Grammar(choices=CHOICES)))
    found = handed(run_of(tmp_path / "b", over), "litellm")
    with listening(json.dumps({"answer": CHOICES[1]})) as (url, got):
        assert said_by(found.folder, url, "x") == f"{CHOICES[1]}\n"
    assert got[0]["response_format"]["json_schema"]["schema"]["properties"]["answer"]["enum"] == list(CHOICES)


@pytest.mark.slow
def test_a_stop_string_that_stays_in_the_answer_is_cut(base: Path, tmp_path: Path) -> None:
    found = handed(run_of(tmp_path / "a", system(base, decoding=Decoding(8, stop=("END", '"')))), "transformers")
    with listening('one" two END') as (url, _):
        assert said_by(found.folder, url, "x") == "one\n"


def nearest(base: Path) -> System:
    plain = system(base)
    return replace(plain, prompt=replace(plain.prompt, selection="nearest", k=1))


def test_shots_chosen_by_the_input_need_the_proxy(base: Path, tmp_path: Path) -> None:
    run = run_of(tmp_path / "tickets", nearest(base))
    found = handed(run, "vllm")
    proxy = "lastresort serve system --upstream http://127.0.0.1:8000/v1 --model tickets --port 8100"
    assert found.commands().proxy == proxy
    body = json.loads((found.folder / "request.json").read_text(encoding="utf-8"))
    assert body == {"model": "winner", "messages": [{"role": "user", "content": INPUT}]}
    assert (found.client_url, found.client_model) == ("http://127.0.0.1:8100/v1", "winner")
    assert "http://127.0.0.1:8100/v1" in (found.folder / "client.py").read_text(encoding="utf-8")
    copied = load_system(found.folder / "system")
    assert copied.model == "http://127.0.0.1:8000/v1#tickets"
    assert (copied.prompt, copied.decoding) == (nearest(base).prompt, nearest(base).decoding)


@pytest.mark.slow
def test_the_proxy_of_the_readme_takes_what_the_client_sends(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command is run, the client asks it as it was written, and `verify` would send it the input alone."""
    monkeypatch.delenv(SERVE_KEY, raising=False)
    run = run_of(tmp_path / "tickets", nearest(base))
    found = handed(run, "vllm")
    words = shlex.split(found.commands().proxy or "")
    with listening() as (upstream, got):
        request = ServeRequest(found.folder / words[2], upstream=upstream, model=words[words.index("--model") + 1])
        with serving(request) as (proxy, _):
            assert said_by(found.folder, proxy.url, NASTY) == "fine\n"
            body = json.loads((found.folder / "request.json").read_text(encoding="utf-8"))
            assert httpx.post(f"{proxy.url}/chat/completions", json=body, timeout=60).status_code == 200
            server = connect(proxy.url, load_system(run / "winner"), model=None, sent=None)
            assert server.sent == "input"
            assert server.sender(nearest(base)).answer([(Message("user", NASTY),)])[0].text == "fine"
            server.model.close()
    assert {one["model"] for one in got} == {"tickets"}
    assert got[0]["messages"] == got[2]["messages"] == asked(run)


def test_the_commands_of_a_run_whose_task_file_was_moved_ask_for_it(base: Path, tmp_path: Path) -> None:
    run = run_of(tmp_path / "tickets", system(base))
    winner = open_winner(run)
    with Record.create(run) as record:  # decides nothing, so that the winner is opened before
        record.append(TaskPlaced(path="../task.yaml", run="tickets"))
    checking = "lastresort verify .. http://127.0.0.1:4000/v1 --request request.json"
    said = "The task file is not where the run says. Put its path in place of TASK to verify."
    found = write_handoff(winner, "litellm", run / "handoff-litellm")
    assert f"`{checking} --task TASK`" in (readme := (found.folder / "README.md").read_text("utf-8"))
    assert said in found.notes
    assert said in readme
    (tmp_path / "task.yaml").touch()
    found = write_handoff(winner, "litellm", run / "handoff-litellm")
    assert f"`{checking}`" in (found.folder / "README.md").read_text("utf-8")
    assert not found.task_moved


def test_what_is_printed_and_written_for_the_proxy_names_it(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_of(tmp_path / "tickets", nearest(base))
    assert lastresort(monkeypatch, "handoff", str(run), "--to", "vllm") == 0
    *_, asking, checking = capsys.readouterr().out.splitlines()
    client = run / "handoff-vllm" / "client.py"
    assert asking == f"ask: python {client} 'your input' (http://127.0.0.1:8100/v1, model winner)"
    assert checking == f"verify: lastresort verify {run} http://127.0.0.1:8100/v1"
    readme = (run / "handoff-vllm" / "README.md").read_text(encoding="utf-8")
    assert "- Ask the proxy: `python client.py 'your input'`" in readme
    assert (
        "the proxy and the server behind it answer as measured: `lastresort verify .. http://127.0.0.1:8100/v1`"
        in readme
    )


@pytest.mark.slow
def test_a_client_without_an_input_says_how_it_is_called(base: Path, tmp_path: Path) -> None:
    folder = handed(run_of(tmp_path / "tickets", system(base)), "vllm").folder
    done = subprocess.run([sys.executable, str(folder / "client.py")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, 'usage: python client.py "your input"\n')
    given = ["sh", str(folder / "request.sh"), "an input"]
    done = subprocess.run(given, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (
        2,
        "usage: write your input into request.json, then run: sh request.sh\n",
    )


def test_the_copied_system_asks_the_server_as_it_was_measured(base: Path, tmp_path: Path) -> None:
    run = run_of(tmp_path / "tickets", nearest(base))
    copied = handed(run, "vllm").folder / "system"
    with listening() as (url, got):
        written = (copied / "system.yaml").read_text(encoding="utf-8")
        (copied / "system.yaml").write_text(written.replace("http://127.0.0.1:8000/v1", url), encoding="utf-8")
        running = open_system(copied)
        assert running.answer([(Message("user", NASTY),)])[0].text == "fine"
        running.close()
    assert got[0]["messages"] == asked(run)


def test_a_store_goes_along_and_its_passages_are_asked(base: Path, tmp_path: Path) -> None:
    store = create_store(tmp_path / "made" / "store", HashingEmbedder())
    update(store, [markdown("lamp.md", "# Lamp\n\nThe lamp is green.\n"), markdown("cup.md", "# Cup\n\nIt is red.\n")])
    finds = Retriever(tmp_path / "made" / "store", 1, contents=content_hash(store))
    run = run_of(tmp_path / "tickets", system(base, retriever=finds), kind="retrieval")
    found = handed(run, "llamacpp")
    assert found.is_proxied
    assert set(found.files) >= {"system", "tickets-F32.gguf"}
    shutil.rmtree(tmp_path / "made")
    answerer = Answerer(load_system(found.folder / "system"), ScriptedModel(Script(default="x")))
    assert "The lamp is green." in answerer.prompt((Message("user", "Which colour has the lamp?"),))[-1].content
