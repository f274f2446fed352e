"""A response cache that somebody changed: what is no answer is asked again, and nothing in the file can run."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from lastresort.models.cached import CachedModel
from lastresort.models.scripted import Script, ScriptedModel, ScriptRule
from lastresort.records.responses import Asking, KeptAnswer, ResponseCache, SuiteAnswers
from lastresort.types import Decoding, Message

ECHO = Script(rules=(ScriptRule("(.+)", r"<\1>"),), seconds=1.5)
PROMPTS = [(Message("user", text),) for text in ("a", "b")]
GREEDY = Decoding(max_new_tokens=20)
BODY = {"text": "CHANGED", "prompt_tokens": 1, "completion_tokens": 1, "finish": "stop", "seconds": 0.0, "usd": 0.0}


class InBatches(ScriptedModel):
    batch_matters = True
    batch_size = 2


def body(**changed: Any) -> str:
    return json.dumps(BODY | changed)


def without(name: str) -> str:
    return json.dumps({key: value for key, value in BODY.items() if key != name})


CHANGED: dict[str, Any] = {
    "broken JSON": '{"text": ',
    "nothing": "",
    "text": "CHANGED",
    "null": "null",
    "a list": "[]",
    "a number": "7",
    "an empty object": "{}",
    "deep JSON": "[" * 100_000,
    "5,000 digits": '{"text": "CHANGED", "prompt_tokens": ' + "9" * 5000 + "}",
    "a blob": b"CHANGED",
    "a blob that is a body": body().encode(),
    "an integer": 7,
    "a float": 1.5,
    "no text": without("text"),
    "no count": without("prompt_tokens"),
    "no finish": without("finish"),
    "another key": body(passages=["x"]),
    "a payment": body(paid=-5.0),
    "text that is a number": body(text=5),
    "text that is null": body(text=None),
    "text that is a list": body(text=["CHANGED"]),
    "a count that is negative": body(prompt_tokens=-1),
    "a count that is true": body(prompt_tokens=True),
    "a count that is a float": body(completion_tokens=1.5),
    "a count that is text": body(completion_tokens="1"),
    "a count of 10^30": body(prompt_tokens=10**30),
    "another finish": body(finish="evil"),
    "a finish that is a list": body(finish=["stop"]),
    "negative seconds": body(seconds=-1.0),
    "infinite seconds": body(seconds=float("inf")),
    "seconds that are no number": body(seconds=float("nan")),
    "seconds that are text": body(seconds="1"),
    "a negative price": body(usd=-1.0),
    "a price that is no number": body(usd=float("nan")),
    "a price that is true": body(usd=True),
    "a price that is null": body(usd=None),
    "a price of 400 digits": body(usd=10**400),
}  # fmt: skip


def texts(answers: Sequence[Any]) -> list[str]:
    return [answer.text for answer in answers]


def replay(path: Path, kind: type[ScriptedModel]) -> tuple[list[str], int]:
    """The answers, and how often the model was called for them."""
    inner = kind(ECHO)
    with ResponseCache(path) as cache:
        return texts(CachedModel(inner, cache).generate(PROMPTS, GREEDY)), inner.calls


@pytest.mark.parametrize("kind", [ScriptedModel, InBatches])
@pytest.mark.parametrize("name", CHANGED)
def test_a_row_that_is_no_answer_is_asked_again_and_the_others_stay(
    tmp_path: Path, name: str, kind: type[ScriptedModel], caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "responses.sqlite"
    assert replay(path, kind) == (["<a>", "<b>"], 2)
    with sqlite3.connect(path) as raw:
        key = raw.execute("SELECT key FROM response ORDER BY key").fetchone()[0]
        raw.execute("UPDATE response SET body = ? WHERE key = ?", (CHANGED[name], key))
    again = 1 if kind is ScriptedModel else 2
    assert replay(path, kind) == (["<a>", "<b>"], again)
    assert replay(path, kind) == (["<a>", "<b>"], 0), "what was asked again is kept"
    assert caplog.text.count("cannot be read. Their prompts are answered again") == 1
    assert not list(tmp_path.glob("*damaged*"))


def test_text_that_is_not_utf8_starts_the_file_anew(tmp_path: Path) -> None:
    path = tmp_path / "responses.sqlite"
    replay(path, ScriptedModel)
    with sqlite3.connect(path) as raw:
        raw.execute("UPDATE response SET body = CAST(x'ff00fe' AS TEXT)")
    assert replay(path, ScriptedModel)[0] == ["<a>", "<b>"]


ENDLESS = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT x AS key, '{}' AS body FROM n"
SCHEMAS: dict[str, Callable[[sqlite3.Connection], object]] = {
    "a view without end": lambda raw: (raw.execute("DROP TABLE response"), raw.execute(f"CREATE VIEW response AS {ENDLESS}")),
    "a trigger": lambda raw: raw.execute("CREATE TRIGGER t AFTER INSERT ON response BEGIN DELETE FROM response; END"),
    "a trigger without end": lambda raw: raw.execute(
        f"CREATE TRIGGER t BEFORE DELETE ON response BEGIN SELECT count(*) FROM ({ENDLESS}); END"
    ),
    "an index": lambda raw: raw.execute("CREATE INDEX i ON response (body)"),
    "an index on an expression": lambda raw: raw.execute("CREATE INDEX i ON response (length(body))"),
    "another table": lambda raw: raw.execute("CREATE TABLE other (x)"),
    "another column": lambda raw: raw.execute("ALTER TABLE response ADD COLUMN more TEXT"),
    "a generated column": lambda raw: raw.execute("ALTER TABLE response ADD COLUMN more TEXT AS (hex(body))"),
    "no table": lambda raw: raw.execute("DROP TABLE response"),
    "a table of other types": lambda raw: (raw.execute("DROP TABLE response"), raw.execute("CREATE TABLE response (key, body)")),
}  # fmt: skip


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_file_with_other_tables_is_moved_aside(tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "responses.sqlite"
    replay(path, ScriptedModel)
    with sqlite3.connect(path) as raw:
        SCHEMAS[name](raw)
    assert replay(path, ScriptedModel) == (["<a>", "<b>"], 2)
    assert replay(path, ScriptedModel) == (["<a>", "<b>"], 0)
    assert [aside.name for aside in tmp_path.glob("*damaged*")] == ["responses.sqlite.damaged-1"]
    assert "expected the tables of this version" in caplog.text


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("said", "[]"), ("said", "7"), ("said", "{"), ("said", b"{}"), ("seconds", "slow"), ("seconds", -1.0),
        ("seconds", float("inf")),
        ("tokens_in", -1), ("tokens_in", "many"), ("tokens_out", 1.5), ("said", "[" * 100_000),
    ],
)  # fmt: skip
def test_kept_answers_of_the_gate_that_are_none_start_the_file_anew(tmp_path: Path, column: str, value: Any) -> None:
    path, asking, openings = tmp_path / "answers.sqlite", Asking("m", "general", 1), {"i": "o", "none": "o"}
    kept = {"i": KeptAnswer({"choice": 1}, 0.5, 3, 4), "none": KeptAnswer(None)}
    with SuiteAnswers(path) as file:
        file.put(asking, openings, kept)
        assert file.known(asking, openings) == kept
    with sqlite3.connect(path) as raw:
        raw.execute(f"UPDATE answer SET {column} = ? WHERE item = 'i'", (value,))
    with SuiteAnswers(path) as file:
        assert file.known(asking, openings) == {}
        file.put(asking, openings, kept)
        assert file.known(asking, openings) == kept
