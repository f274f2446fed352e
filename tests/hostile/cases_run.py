"""Runs that were changed: their record, decision, winner and names."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from corpus import Case

from climb_support import scripted_task
from lastresort.app.climb import climb
from lastresort.records.record import Record
from lastresort.spec.task import load_task
from record_support import edit

Change = Callable[[Path], object]
RUN = "runs/routing-1"
REPORT, JSON, MARKDOWN, SALVAGE = (
    ["report", RUN],
    ["report", RUN, "--json"],
    ["report", RUN, "--markdown"],
    ["report", RUN, "--salvage"],
)
CHAT, EXPORT, RECHECK = (
    ["chat", RUN, "--once", "lamp"],
    ["export", RUN, "--to", "trl"],
    ["recheck", RUN, "--prompt", "prompt.txt"],
)
GATE = ["gate", "task/task.yaml", "--tuned", RUN, "--quick"]
RESUME = ["climb", "task/task.yaml", "--run", RUN, "--resume"]
READERS = {
    "report": REPORT,
    "report --json": JSON,
    "report --markdown": MARKDOWN,
    "chat": CHAT,
    "export": EXPORT,
    "recheck": RECHECK,
    "gate": GATE,
}


@cache
def finished() -> tempfile.TemporaryDirectory[str]:
    """A small climb that prompting won, with a curve as a training leaves one. Made once, deleted when the tests end."""
    folder = tempfile.TemporaryDirectory()
    path = scripted_task(
        Path(folder.name) / "task",
        quality=[{"right": 0.97}],
        task={"ladder": ["prompting"], "split": {"dev": 20, "test": 60}},
    )
    run = climb(load_task(path), Path(folder.name) / RUN, gate="none").run
    with Record.open(run) as record:
        for step in range(3):
            record.add_curve_point("lr", step, {"loss": 2.0 - step})
    return folder


def on(words: list[str], *changes: Change) -> Callable[[Path], list[str]]:
    """The command on the finished run after these changes to it."""

    def make(folder: Path) -> list[str]:
        spared = None if words == RESUME else shutil.ignore_patterns("candidates", "calls.jsonl")
        shutil.copytree(finished().name, folder, dirs_exist_ok=True, symlinks=True, ignore=spared)
        (folder / "prompt.txt").write_text("Say which team it is.")
        for change in changes:
            change(folder / RUN)
        return list(words)

    return make


def sql(*statements: str, rechain: bool = False) -> Change:
    return lambda run: edit(run, *statements, rechain=rechain)


def written(name: str, content: bytes | str) -> Change:
    def change(run: Path) -> None:
        (run / name).write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))

    return change


def replaced(name: str, old: str, new: str) -> Change:
    def change(run: Path) -> None:
        text = (run / name).read_text("utf-8")
        assert old in text, (old, text)
        (run / name).write_text(text.replace(old, new), encoding="utf-8")

    return change


def linked(name: str, target: str) -> Change:
    def change(run: Path) -> None:
        path = run / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        path.symlink_to(target)

    return change


def special(name: str, kind: str) -> Change:
    def change(run: Path) -> None:
        path = run / name
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        if kind == "a FIFO":
            os.mkfifo(path)
        elif kind == "a folder":
            path.mkdir()
        else:
            path.symlink_to(
                {"a device": "/dev/zero", "a link to itself": path.name, "/proc": "/proc/self/environ"}[kind]
            )

    return change


def flipped(position: float, by: int) -> Change:
    """A few bytes of the record, at this part of its length."""

    def change(run: Path) -> None:
        content = bytearray((run / "record.sqlite").read_bytes())
        start = int(position * (len(content) - 3))
        for place in range(start, start + 3):
            content[place] ^= by
        (run / "record.sqlite").write_bytes(bytes(content))

    return change


def cut(share: float) -> Change:
    def change(run: Path) -> None:
        content = (run / "record.sqlite").read_bytes()
        (run / "record.sqlite").write_bytes(content[: int(share * len(content))])

    return change


def decision(**keys: Any) -> Change:
    """decision.json with other values under these keys."""

    def change(run: Path) -> None:
        path = run / "decision.json"
        path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **keys}), encoding="utf-8")

    return change


def body(kind: str, text: str) -> str:
    """The body of the events of a kind."""
    return f"UPDATE event SET body = '{text}' WHERE kind = '{kind}'"


DEEP = "[" * 3000 + "]" * 3000
DEEP_OBJECT = '{"a":' * 900 + "1" + "}" * 900
BIG = "9" * 5000
INSERT = "INSERT INTO event (at, kind, key, body) VALUES ('2026-01-01', 'rung_skipped', 'sft', '{}')"

EDITS: dict[str, Change] = {
    "scores of items are zero": sql("UPDATE item SET score = 0"),
    "one score is 1": sql(
        "UPDATE item SET score = 1 WHERE rowid_is IS NULL".replace("rowid_is IS NULL", "position = 0")
    ),
    "an answer is another": sql("UPDATE item SET answer = 'billing' WHERE measurement = 1 AND position = 3"),
    "no items": sql("DELETE FROM item"),
    "one item less": sql("DELETE FROM item WHERE measurement = 1 AND position = 2"),
    "an item more": sql(
        "INSERT INTO item SELECT measurement, 9999, id, score, answer, expected, input, finish, format_ok, prompt_tokens, "
        "completion_tokens, seconds, usd, passages FROM item WHERE measurement = 1 AND position = 0"
    ),
    "items of no measurement": sql(
        "INSERT INTO item SELECT 9999, position, id, score, answer, expected, input, finish, format_ok, prompt_tokens, "
        "completion_tokens, seconds, usd, passages FROM item WHERE measurement = 1"
    ),
    "no measurements": sql("DELETE FROM measurement"),
    "a measurement of another rung": sql("UPDATE measurement SET rung = 'sft' WHERE id = 1"),
    "no events": sql("DELETE FROM event"),
    "an event in the middle less": sql("DELETE FROM event WHERE id = 5"),
    "an event in the middle less, with its hash": sql(
        "DELETE FROM event WHERE id = 5", "DELETE FROM chain WHERE source = 'event' AND row = 5"
    ),
    "an event more": sql(INSERT),
    "two events exchanged": sql(
        "UPDATE event SET id = -1 WHERE id = 4",
        "UPDATE event SET id = 4 WHERE id = 5",
        "UPDATE event SET id = 5 WHERE id = -1",
    ),
    "the bar is another": sql("UPDATE event SET body = replace(body, '\"bar\": 0.8', '\"bar\": 0.2')"),
    "times are others": sql("UPDATE event SET at = '2020-01-01T00:00:00+00:00'"),
    "kinds are others": sql("UPDATE event SET kind = 'rung_flown' WHERE id = 4"),
    "no curve": sql("DELETE FROM curve"),
    "a point of a curve is another": sql("UPDATE curve SET body = '{\"loss\": 0.1}' WHERE id = 2"),
    "no chain": sql("DELETE FROM chain"),
    "the chain begins later": sql("DELETE FROM chain WHERE id < 4"),
    "the chain's numbers are moved": sql("UPDATE chain SET id = id + 1000"),
    "a hash is empty": sql("UPDATE chain SET sha256 = '' WHERE id = 3"),
    "a hash is a blob": sql("UPDATE chain SET sha256 = x'ff00' WHERE id = 3"),
    "the source of a hash is another": sql("UPDATE chain SET source = 'item' WHERE id = 3"),
    "the row of a hash is text": sql("UPDATE chain SET row = 'x' WHERE id = 3"),
    "the row of a hash is huge": sql("UPDATE chain SET row = 9223372036854775807 WHERE id = 3"),
}
STATEMENTS: dict[str, str] = {
    "a body that is no JSON": body("rung_searched", "{broken"),
    "a body that is a list": body("rung_searched", "[1]"),
    "a body that is a number": body("rung_searched", "5"),
    "a body that is null": body("rung_searched", "null"),
    "a body of 3,000 brackets": body("rung_searched", DEEP),
    "a body of 900 objects": body("task_read", f'{{"task": {DEEP_OBJECT}}}'),
    "a body of 5,000 digits": body("error_shared", f'{{"r": {BIG}}}'),
    "a body that is a blob": "UPDATE event SET body = x'ff00fe' WHERE kind = 'task_read'",
    "a body with a field more": body("error_shared", '{"r": 1, "weather": 2}'),
    "a body without its field": body("error_shared", "{}"),
    "a task without its keys": body("task_read", '{"task": {}}'),
    "a task whose bar is infinite": body("task_read", '{"task": {"bar": Infinity}}'),
    "a task that is a list": body("task_read", '{"task": []}'),
    "a time that is none": "UPDATE event SET at = 'evil'",
    "a time that is a blob": "UPDATE event SET at = x'ff'",
    "a time far off": "UPDATE event SET at = '99999-01-01'",
    "a kind that is a blob": "UPDATE event SET kind = x'ff' WHERE id = 4",
    "a score that is text": "UPDATE item SET score = 'high'",
    "a score that is a blob": "UPDATE item SET score = x'00'",
    "a score of 1e308": "UPDATE item SET score = 1e308",
    "an infinite score": "UPDATE item SET score = 9e999",
    "a score below 0": "UPDATE item SET score = -1",
    "infinite seconds": "UPDATE item SET seconds = 9e999",
    "tokens that are text": "UPDATE item SET prompt_tokens = 'many'",
    "tokens that are a fraction": "UPDATE item SET prompt_tokens = 1.5",
    "an answer that is a blob": "UPDATE item SET answer = x'fffe'",
    "an answer that is not UTF-8": "UPDATE item SET answer = CAST(x'fffe' AS TEXT)",
    "a position that is text": "UPDATE item SET position = 'first' WHERE position = 0",
    "passages that are no JSON": "UPDATE item SET passages = '{a'",
    "passages that are a number": "UPDATE item SET passages = '5'",
    "passages of numbers": "UPDATE item SET passages = '[1, 2]'",
    "passages that are a blob": "UPDATE item SET passages = x'ff'",
    "passages that are deep": f"UPDATE item SET passages = '{DEEP}'",
    "a format that is text": "UPDATE item SET format_ok = 'yes'",
    "a count that is text": "UPDATE measurement SET n_available = 'many'",
    "a split that is a blob": "UPDATE measurement SET split = x'ff'",
    "a stage that is no JSON": "INSERT OR REPLACE INTO stage VALUES (1, '{')",
    "a stage that is a list": "INSERT OR REPLACE INTO stage VALUES (1, '[1]')",
    "a stage that is a blob": "INSERT OR REPLACE INTO stage VALUES (1, x'ff')",
}
ROWS = {what: sql(statement) for what, statement in STATEMENTS.items()}
RECOMPUTED = {what: sql(statement, rechain=True) for what, statement in STATEMENTS.items()}
SCHEMAS: dict[str, Change] = {
    "a view without an end in the place of events": sql(
        "ALTER TABLE event RENAME TO other",
        "CREATE VIEW event AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) "
        "SELECT i AS id, '' AS at, 'x' AS kind, '' AS key, '{}' AS body FROM n",
    ),
    "a view of everything": sql("CREATE VIEW more AS SELECT * FROM event"),
    "a trigger more": sql("CREATE TRIGGER more AFTER INSERT ON stage BEGIN DELETE FROM item; END"),
    "a table less": sql("DROP TABLE stage"),
    "a table with a column more": sql("ALTER TABLE curve ADD COLUMN more"),
    "a table more": sql("CREATE TABLE more (x)"),
    "an index less": sql("DROP INDEX event_by_key"),
    "no chain, as before it was kept": sql("DROP TABLE chain"),
    "a newer version": sql("PRAGMA user_version = 7"),
    "an older version": sql("PRAGMA user_version = 0"),
    "another program's mark": sql("PRAGMA application_id = 1"),
}
FILES: dict[str, Change] = {
    "an empty record": written("record.sqlite", b""),
    "a record of text": written("record.sqlite", "no database" * 1000),
    "a record of zeros": written("record.sqlite", bytes(100_000)),
    **{
        f"a record that is {kind}": special("record.sqlite", kind)
        for kind in ("a FIFO", "a folder", "a device", "/proc")
    },
    **{f"a record cut at {share:.0%}": cut(share) for share in (0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99)},
}
COMPANIONS: dict[str, Change] = {
    f"record.sqlite-{name} is {kind}": special(f"record.sqlite-{name}", kind)
    for name in ("wal", "shm", "journal")
    for kind in ("a FIFO", "a folder", "a device", "/proc")
}
DECISIONS: dict[str, Change] = {
    "no rungs": decision(rungs=[]),
    "another answer": decision(answer="Yes, fine-tune."),
    "another verdict": decision(verdict="NOT_MET", meets_bar=False),
    "a bar of zero": decision(bar=1e-9),
    "a winner out of here": decision(
        winner={"kind": "prompt", "path": "../../task", "held": False, "sha256": "0" * 64}
    ),
    "an absolute winner": decision(winner={"kind": "prompt", "path": "/etc", "held": False, "sha256": "0" * 64}),
    "a winner without a hash": decision(winner={"kind": "prompt", "path": "winner", "held": False, "sha256": None}),
    "no winner": decision(winner=None),
    "a later schema": decision(schema=99),
    "a provenance of 900 levels": written("decision.json", f'{{"schema": 11, "provenance": {DEEP_OBJECT}}}'),
    "3,000 brackets": written("decision.json", DEEP),
    "5,000 digits": written("decision.json", f'{{"bar": {BIG}}}'),
    "half a file": written("decision.json", '{"schema": 11, "win'),
    "an empty file": written("decision.json", ""),
    "not UTF-8": written("decision.json", b'{"task": "\xff"}'),
    "NaN": written("decision.json", '{"bar": NaN}'),
    "a number": written("decision.json", "5"),
    "a space more": lambda run: written("decision.json", (run / "decision.json").read_bytes() + b" ")(run),
    **{
        kind: special("decision.json", kind) for kind in ("a FIFO", "a folder", "a device", "a link to itself", "/proc")
    },
}
SYSTEM = "winner/system.yaml"
WINNERS: dict[str, Change] = {
    "no fingerprint": replaced(SYSTEM, "fingerprint:", "fingerprint: ''\nwas:"),
    "another instruction": replaced(SYSTEM, "instruction:", "instruction: Say yes.\n  was:"),
    "a file more": written("winner/more", "x"),
    "an empty system": written(SYSTEM, ""),
    "a deep system": written(SYSTEM, "a: " + DEEP),
    "a system of blocks": written(SYSTEM, "".join(f"{' ' * n}x:\n" for n in range(2000))),
    "a system that is a list": written(SYSTEM, "- 1\n"),
    "a system that is not UTF-8": written(SYSTEM, b"\xff"),
    "a system that runs code": written(SYSTEM, "!!python/object/apply:os.system [ls]"),
    **{
        f"a system that is {kind}": special(SYSTEM, kind)
        for kind in ("a FIFO", "a folder", "a device", "a link to itself")
    },
}
HONEST: dict[str, list[Change]] = {
    "as it is": [],
    "no decision.json": [lambda run: (run / "decision.json").unlink()],
    "a record that ends earlier": [
        sql(
            "DELETE FROM chain WHERE id >= (SELECT max(id) FROM chain WHERE source = 'event')",
            *(
                f"DELETE FROM {table} WHERE id > (SELECT max(row) FROM chain WHERE source = '{table}')"
                for table in ("event", "measurement")
            ),
            "DELETE FROM curve",
        )
    ],
    "another place": [lambda run: (run / "notes.txt").write_text("mine")],
    "an empty lock": [written("lock", "")],
}

SAVED: dict[str, str | bytes] = {
    "nothing": "",
    "3,000 brackets": "a: " + DEEP,
    "3,000 open brackets": "[" * 3000,
    "2,000 levels": "".join(f"{' ' * n}x:\n" for n in range(2000)),
    "a list": "- 1\n",
    "a number": "5\n",
    "text": "evil\n",
    "no keys": "schema: 2\n",
    "a schema that is a list": "schema: [1]\n",
    "a schema of 5,000 digits": f"schema: {BIG}\n",
    "a month of 13": "schema: 2026-13-45\n",
    "not UTF-8": b"schema: \xff\n",
    "a NUL": "schema: 1\0\n",
    "code": "!!python/object/apply:os.system [ls]\n",
    "an alias bomb": "x0: &x0 [1, 1]\n" + "".join(f"x{n}: &x{n} [*x{n - 1}, *x{n - 1}]\n" for n in range(1, 40)),
    "an alias to itself": "schema: &a [*a]\n",
    "two documents": "schema: 2\n---\nschema: 2\n",
}
DOCUMENTS: dict[str, str | bytes] = {
    "nothing": "",
    "3,000 brackets": DEEP,
    "900 objects": DEEP_OBJECT,
    "a list": "[1]",
    "a number": "5",
    "null": "null",
    "an empty object": "{}",
    "5,000 digits": f'{{"file": {BIG}}}',
    "NaN": '{"file": NaN}',
    "not UTF-8": b'{"file": "\xff"}',
    "half a file": '{"file": {"mod',
    "a file that is a list": '{"file": [1], "content": [], "code": 3}',
}


def alone(content: str | bytes) -> Callable[[Path], list[str]]:
    """A system without a run."""

    def make(folder: Path) -> list[str]:
        (folder / "saved").mkdir()
        written("system.yaml", content)(folder / "saved")
        return ["chat", "saved", "--once", "a"]

    return make


def prompted(change: Change) -> Callable[[Path], list[str]]:
    """The file with the instruction of a recheck."""
    make = on(RECHECK)

    def changed(folder: Path) -> list[str]:
        words = make(folder)
        (folder / "prompt.txt").unlink()
        change(folder)
        return words

    return changed


def trained(name: str, content: str | bytes, words: list[str]) -> Callable[[Path], list[str]]:
    """The output folder of a training whose document holds this."""

    def make(folder: Path) -> list[str]:
        (folder / "out").mkdir()
        written(name, content)(folder / "out")
        (folder / "rows.jsonl").write_text('{"input": "a", "output": "b"}\n' * 4)
        (folder / "train.yaml").write_text("model: someone/model\nobjective: sft\ndata: rows.jsonl\noutput: out\n")
        return list(words)

    return make


CASES: dict[str, Case] = {
    **{f"a saved system: {what}": Case(alone(content), named="system.yaml") for what, content in SAVED.items()},
    **{
        f"the prompt of a recheck is {kind}": Case(prompted(special("prompt.txt", kind)), named="prompt.txt")
        for kind in ("a FIFO", "a folder", "a device", "a link to itself", "/proc")
    },
    "the prompt of a recheck is not UTF-8": Case(prompted(written("prompt.txt", b"\xff")), named="prompt.txt"),
    "the prompt of a recheck is not there": Case(prompted(lambda folder: None), named="prompt.txt"),
    "the prompt of a recheck is empty": Case(prompted(written("prompt.txt", " ")), named="prompt.txt"),
    "the prompt of a recheck is 5 MB": Case(prompted(written("prompt.txt", "a" * 5_000_000)), named="prompt.txt"),
    **{
        f"the record of a training: {what}: export": Case(
            trained("training.json", content, ["export", "out", "--to", "trl"]), named="training.json"
        )
        for what, content in DOCUMENTS.items()
    },
    **{
        f"how a training began: {what}": Case(
            trained("begun.json", content, ["train", "train.yaml", "--resume"]), named="begun.json"
        )
        for what, content in DOCUMENTS.items()
    },
    **{
        f"{what}, all hashes recomputed: {name}": Case(on(words, change), "either")
        for what, change in RECOMPUTED.items()
        for name, words in (("report", REPORT), ("watch", ["watch", RUN]))
    },
    **{
        f"{what}: report": Case(on(REPORT, change), named="record.sqlite")
        for what, change in {**EDITS, **ROWS}.items()
        if "stage" not in what
    },
    **{f"{what}: report": Case(on(REPORT, change)) for what, change in {**SCHEMAS, **FILES}.items()},
    **{f"{what}: watch": Case(on(["watch", RUN], change)) for what, change in {**ROWS, **SCHEMAS, **FILES}.items()},
    **{
        f"{what}: {name}": Case(on(words, change), named=what.partition(" ")[0])
        for what, change in COMPANIONS.items()
        for name, words in (("report", REPORT), ("watch", ["watch", RUN]), ("resume", RESUME))
    },
    **{f"{what}: salvage": Case(on(SALVAGE, change), "accepted") for what, change in COMPANIONS.items()},
    **{f"no items: {name}": Case(on(words, EDITS["no items"]), named="measurement") for name, words in READERS.items()},
    **{
        f"no items: {name}": Case(on(words, EDITS["no items"]))
        for name, words in (("resume", RESUME), ("watch", ["watch", RUN]))
    },
    **{
        f"decision.json: {what}: {name}": Case(on(words, change), named="decision.json")
        for what, change in DECISIONS.items()
        for name, words in (("report", REPORT), ("chat", CHAT))
    },
    **{
        f"decision.json: another answer: {name}": Case(on(words, DECISIONS["another answer"]), named="decision.json")
        for name, words in READERS.items()
    },
    **{
        f"the winner: {what}: {name}": Case(on(words, change), named="winner")
        for what, change in WINNERS.items()
        for name, words in (("report", REPORT), ("chat", CHAT))
    },
    **{
        f"the winner: a file more: {name}": Case(on(words, WINNERS["a file more"]), named="winner")
        for name, words in READERS.items()
    },
    **{
        f"{what}: {name}": Case(on(words, *changes), "accepted")
        for what, changes in HONEST.items()
        for name, words in (("report", REPORT), ("chat", CHAT), ("watch", ["watch", RUN]), ("resume", RESUME))
    },
    **{
        f"three bytes at {part:.0%}: report": Case(on(REPORT, flipped(part, 0x55)), "either")
        for part in [n / 40 for n in range(41)]
    },
    **{
        f"{what}: salvage": Case(on(SALVAGE, change), "either")
        for what, change in {**EDITS, **ROWS, **SCHEMAS, **FILES}.items()
    },
}
