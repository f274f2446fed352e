"""An endpoint that fails in many ways at random: no answer is scored as wrong for it, and every stop can be resumed."""

from __future__ import annotations

import io
import json
import logging
import sqlite3
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from random import Random
from typing import Any

import pytest

from climb_support import TEAMS, comparable, rows, scripted_task
from endpoint_support import DECODING, KEY, Endpoint, Handler, ask, completion, hang_up, serving
from lastresort.cli.border import guarded
from lastresort.cli.main import app
from lastresort.errors import StoppedError
from lastresort.models.api.model import ApiModel
from lastresort.models.cached import CachedModel
from lastresort.models.calls import RetryPolicy
from lastresort.models.endpoint import parse_endpoint
from lastresort.records.responses import ResponseCache
from lastresort.types import Answer

PRICES = {"prompt_price": 10.0, "output_price": 100.0}
PROMPT_TOKENS, ANSWER_TOKENS = 9, 4
BILLED = (PROMPT_TOKENS * 10.0 + ANSWER_TOKENS * 100.0) / 1e6
Fault = Callable[[Handler, "Faulty", str], None]


def usage(**counts: Any) -> dict[str, Any]:
    return {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": ANSWER_TOKENS, **counts}


def written(handler: Handler, parts: Iterator[bytes], kind: str = "application/json") -> None:
    handler.close_connection = True
    handler.send_response(200)
    handler.send_header("Content-Type", kind)
    handler.send_header("Content-Length", str(2**40))
    handler.end_headers()
    try:
        for part in parts:
            handler.wfile.write(part)
    except OSError:
        pass


def drip() -> Iterator[bytes]:
    for _ in range(300):
        yield b" "
        time.sleep(0.02)


def status(code: int, error_code: str | None = None, **headers: str) -> Fault:
    body = {"error": {"message": f"{code} for {KEY}", "code": error_code}}
    return lambda handler, faulty, text: handler.send(code, body, **headers)


def worked(send: Fault) -> Fault:
    """The server did the work and charges for it."""

    def fault(handler: Handler, faulty: Faulty, text: str) -> None:
        faulty.bill()
        send(handler, faulty, text)

    return fault


WRONG = completion("WRONG", usage=usage())
UNPAID: dict[str, Fault] = {
    "429": status(429),
    "429 with a wait": status(429, Retry_After="3"),
    "500": status(500),
    "503": status(503),
    "hang up": lambda handler, faulty, text: hang_up(handler, {}),
    "redirect loop": status(307, Location="/v1/chat/completions"),
    "long wait": status(429, Retry_After="86400"),
    "no credit": status(429, error_code="insufficient_quota"),
}
PAID: dict[str, Fault] = {
    "garbage": worked(lambda handler, faulty, text: handler.send(200, f"<html>{KEY}</html>".encode())),
    "an error": worked(lambda handler, faulty, text: handler.send(200, {"error": {"message": f"Bearer {KEY}"}})),
    "half a body": worked(lambda handler, faulty, text: written(handler, iter([b'{"choices": ["']))),
    "a gigabyte": worked(lambda handler, faulty, text: written(handler, (b" " * 2**20 for _ in range(2**10)))),
    "a drip": worked(lambda handler, faulty, text: written(handler, drip())),
    "another model": worked(lambda handler, faulty, text: handler.send(200, {**WRONG, "model": f"another {KEY}"})),
    "no end": worked(lambda handler, faulty, text: handler.send(200, completion("", "error", usage()))),
}
RIGHT: dict[str, dict[str, Any] | None] = {
    "counts": usage(),
    "1e30": usage(prompt_tokens=1e30, completion_tokens=1e30),
    "none": None,
    "negative": usage(completion_tokens=-1),
    "true": usage(prompt_tokens=True),
    "10**30": usage(completion_tokens=10**30),
}
SLOW = ("a gigabyte", "a drip")
RARE = {"a gigabyte": 0.1, "a drip": 0.3, "redirect loop": 0.2, "long wait": 0.2, "no credit": 0.2}


class Faulty:
    """What the server does with a request depends on its prompt and on how often it came, not on the order of the threads."""

    def __init__(
        self, server: Endpoint, answer: Callable[[str], str], seed: int, fault_rate: float = 0.5, *, slow: bool = True
    ) -> None:
        """slow: whether faults that take their time are among them."""
        self._answer, self._seed, self._rate = answer, seed, fault_rate
        self._faults = {name: fault for name, fault in (UNPAID | PAID).items() if slow or name not in SLOW}
        self._lock = threading.Lock()
        self._came: Counter[str] = Counter()
        self.happened: Counter[str] = Counter()
        self.billed_usd = 0.0
        server.otherwise = self.step

    def bill(self) -> None:
        with self._lock:
            self.billed_usd += BILLED

    def step(self, handler: Handler, request: dict[str, Any]) -> None:
        text = request["messages"][-1]["content"]
        with self._lock:
            key = json.dumps(request["messages"])
            self._came[key] += 1
            random = Random(f"{self._seed} {key} {self._came[key]}")
            weights = [RARE.get(name, 1.0) for name in self._faults]
            name = random.choices(list(self._faults), weights)[0] if random.random() < self._rate else ""
            counts = random.choice(list(RIGHT))
            self.happened[name or f"right, {counts}"] += 1
        if name:
            self._faults[name](handler, self, text)
        else:
            self.bill()
            handler.send(200, completion(self._answer(text), usage=RIGHT[counts]))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    monkeypatch.setenv("LASTRESORT_API_KEY", KEY)
    with serving() as endpoint:
        yield endpoint


@pytest.mark.release
@pytest.mark.parametrize("count", [40, pytest.param(600, marks=pytest.mark.slow)])
def test_right_answers_among_faults(
    server: Endpoint, tmp_path: Path, count: int, caplog: pytest.LogCaptureFixture
) -> None:
    """600 prompts make more than 1,000 requests, of which about half fail."""
    faulty = Faulty(server, lambda text: f"<{text}>", seed=1, slow=count > 100)
    prompts = ask(*(str(n) for n in range(count)))
    spent: list[float] = []
    scored: dict[int, str] = {}
    said = []

    def take(index: int, answer: Answer) -> None:
        scored[index] = answer.text
        spent.append(answer.paid)

    for _ in range(count):
        with ResponseCache(tmp_path / "responses.sqlite") as cache:
            asked = ApiModel(
                parse_endpoint(server.name),
                timeout_s=0.4,
                patience=RetryPolicy(attempts=4),
                sleep=lambda _: None,
                on_lost=spent.append,
                **PRICES,
            )
            try:
                answers = CachedModel(asked, cache).generate(prompts, DECODING, take)
                break
            except StoppedError as stopped:  # anything else could not be resumed
                said.append(str(stopped))
            finally:
                asked.close()
    assert [answer.text for answer in answers] == [f"<{n}>" for n in range(count)]
    assert scored == {n: f"<{n}>" for n in range(count)}
    assert sum(spent) >= faulty.billed_usd
    assert sum(spent) < 20 * faulty.billed_usd
    assert said
    assert all("\n" not in sentence and len(sentence) < 1000 for sentence in said)
    assert KEY[:10] not in "".join(said) + caplog.text
    assert KEY[:10].encode() not in (tmp_path / "responses.sqlite").read_bytes()
    if count > 100:
        assert sum(faulty.happened.values()) > 1000
        assert set(faulty.happened) >= set(UNPAID) | set(PAID)


def endpoint_task(folder: Path, server: Endpoint) -> Path:
    return scripted_task(
        folder,
        quality=[],
        task={"model": server.name, "ladder": ["prompting"], "use": {"prompt_price": 10.0, "output_price": 100.0}},
    )


def climbed(task: Path, *options: str, patch: pytest.MonkeyPatch) -> tuple[int, str]:
    patch.setattr(sys, "argv", ["lastresort", "climb", str(task), *options])
    out, error = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(error):
        code = guarded(app)
    return code, out.getvalue() + error.getvalue()


@pytest.mark.slow
def test_a_climb_among_faults_decides_as_one_without_and_shows_no_key(
    server: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server knows most teams. It also says the key in every answer, after the team, on the first line of what it says."""
    monkeypatch.setattr(
        "lastresort.models.api.model.RetryPolicy", lambda: RetryPolicy(attempts=4, first_wait_s=0.0, longest_wait_s=0.0)
    )
    monkeypatch.setattr("lastresort.models.calls.wait_s", lambda *_: 0.0)
    teams = {row["input"]: row["output"] for row in rows()}

    def answer(text: str) -> str:
        known = next((team for case, team in teams.items() if case in text), "unknown")
        return known if Random(text).random() < 0.93 else f"{TEAMS[0]} or {KEY}"

    decisions = []
    for name, rate in (("clean", 0.0), ("faulty", 0.4)):
        faulty = Faulty(server, answer, seed=2, fault_rate=rate, slow=False)
        (folder := tmp_path / name).mkdir()
        monkeypatch.chdir(folder)
        task, said, options = endpoint_task(folder / "task", server), "", ["--run", "r", "--gate", "none"]
        for _ in range(300):
            code, words = climbed(task, *options, patch=monkeypatch)
            said += words
            if code != 4:
                break
            options = ["--run", "r", "--resume"]
        assert code == 0, said[-2000:]
        decisions.append(json.loads((folder / "r" / "decision.json").read_text()))
        for options in (["--json"], ["--markdown"], []):
            monkeypatch.setattr(sys, "argv", ["lastresort", "report", "r", *options])
            out = io.StringIO()
            with redirect_stdout(out):
                assert guarded(app) == 0
            said += out.getvalue()
        assert KEY not in said
        files = [path for path in folder.rglob("*") if path.is_file()]
        assert len(files) > 5
        assert [path for path in files if KEY.encode() in path.read_bytes()] == []
        assert any("***" in answer for answer in _answers(folder / "r" / "record.sqlite"))
        spent = sum(json.loads(body)["usd"] for body in _bodies(folder / "r" / "record.sqlite", "budget_spent"))
        assert spent >= faulty.billed_usd > 0
    clean, among_faults = map(_decided, decisions)
    assert clean == among_faults
    assert faulty.happened.total() - sum(faulty.happened[f"right, {name}"] for name in RIGHT) > 50


def _decided(decision: dict[str, Any]) -> dict[str, Any]:
    """Without what depends on the counts that the server gives."""
    whole = comparable(decision)
    return {
        "verdict": whole["verdict"],
        "rungs": [(rung["name"], rung["chosen"], rung["test"], rung["failures"]) for rung in whole["rungs"]],
    }


def _answers(path: Path) -> list[str]:
    with sqlite3.connect(path) as raw:
        return [answer for (answer,) in raw.execute("SELECT answer FROM item")]


def _bodies(path: Path, kind: str) -> list[str]:
    with sqlite3.connect(path) as raw:
        return [body for (body,) in raw.execute("SELECT body FROM event WHERE kind = ?", (kind,))]


def test_logs_of_other_libraries_show_no_key(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also of one that brings a handler of its own, as huggingface_hub does."""
    monkeypatch.setenv("LASTRESORT_API_KEY", KEY)
    own, plain, written_there = logging.getLogger("a.library"), logging.getLogger("another"), io.StringIO()
    handler = logging.StreamHandler(written_there)
    own.addHandler(handler)
    own.propagate = False

    def command(**_: Any) -> None:
        own.warning("token %s of %d%%", KEY, 5)
        own.warning("100%% of nothing %s", "here")
        plain.warning("the key %r", {"Authorization": f"Bearer {KEY}"})
        plain.warning("wrong %d arguments")

    assert guarded(command) == 0
    own.removeHandler(handler)
    assert written_there.getvalue() == "token *** of 5%\n100% of nothing here\n"
    said = capsys.readouterr().err
    assert "Bearer ***" in said
    assert KEY not in said
