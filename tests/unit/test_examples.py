"""The tickets that ship as the example: regenerated alike, valid, varied, balanced, and not given away by single words."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from itertools import combinations as choices_of
from itertools import product as combinations
from math import prod
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from datasketch import MinHash, MinHashLSH
from jsonschema import Draft202012Validator

from examples_support import EXAMPLES, module_of

TICKETS = EXAMPLES / "tickets"
FIELDS = ("team", "priority", "product")


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    return module_of(TICKETS / "make_tickets.py")


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    return [json.loads(line) for line in (TICKETS / "tickets.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def made(maker: ModuleType) -> Any:
    return maker.make()


def words_of(text: str) -> list[str]:
    return re.findall(r"[\w'-]+", text.lower())


def test_the_rows_can_be_made_again_byte_for_byte(made: Any) -> None:
    assert "".join(t.line() for t in made).encode() == (TICKETS / "tickets.jsonl").read_bytes()


def test_another_seed_makes_other_rows(maker: ModuleType, made: Any) -> None:
    other = {t.text for t in maker.make(rows=200, seed=maker.SEED + 1)}
    assert len(other & {t.text for t in made}) < 10


def test_every_answer_validates_and_every_label_occurs(rows: list[dict[str, Any]]) -> None:
    schema = json.loads((TICKETS / "ticket.schema.json").read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)
    for row in rows:
        assert set(row) == {"id", "input", "output"}
        validator.validate(row["output"])
        assert list(row["output"]) == schema["required"]
    for key in FIELDS:
        assert {row["output"][key] for row in rows} == set(schema["properties"][key]["enum"])


def test_the_schema_refuses_what_is_not_an_answer(rows: list[dict[str, Any]]) -> None:
    validator = Draft202012Validator(json.loads((TICKETS / "ticket.schema.json").read_text(encoding="utf-8")))
    right = rows[0]["output"]
    for wrong in ({"team": "sales"}, {"order": "r4821"}, {"order": "R48215"}, {"product": "toaster"}, {"note": "x"}):
        assert not validator.is_valid(right | wrong), wrong
    assert not validator.is_valid({k: v for k, v in right.items() if k != "order"})


def test_there_are_enough_rows_and_no_two_alike(rows: list[dict[str, Any]]) -> None:
    assert len(rows) >= 1000
    assert len({row["id"] for row in rows}) == len(rows)
    assert len({" ".join(words_of(row["input"])) for row in rows}) == len(rows)


def test_hardly_a_row_is_a_near_duplicate_of_another(rows: list[dict[str, Any]]) -> None:
    index, hits = MinHashLSH(threshold=0.8, num_perm=128), 0
    for row in rows:
        words, sketch = words_of(row["input"]), MinHash(num_perm=128)
        sketch.update_batch([" ".join(words[i : i + 3]).encode() for i in range(max(1, len(words) - 2))])
        hits += bool(index.query(sketch))
        index.insert(row["id"], sketch)
    assert hits / len(rows) < 0.01


def test_no_label_is_rare_and_none_rules(rows: list[dict[str, Any]]) -> None:
    for key, most in (("team", 0.4), ("priority", 0.6), ("product", 0.25)):
        shares = [n / len(rows) for n in Counter(row["output"][key] for row in rows).values()]
        assert min(shares) >= 0.06, key
        assert max(shares) <= most, key
    assert 0.3 <= sum(row["output"]["order"] is None for row in rows) / len(rows) <= 0.6


def test_every_rule_of_the_house_has_cases_and_every_case_its_rule(made: Any) -> None:
    stated = set(re.findall(r"^\| ([TPCO]-\S+) \|", (TICKETS / "RULES.md").read_text(encoding="utf-8"), flags=re.M))
    cases = Counter(rule for ticket in made for rule in ticket.rules)
    assert set(cases) == stated
    assert min(cases.values()) >= 40


def test_the_rules_of_the_house_say_what_the_program_does(maker: ModuleType) -> None:
    """Each table row ends with the label; every combination of facts must get the label of the rule that it names."""
    text = (TICKETS / "RULES.md").read_text(encoding="utf-8")
    label = dict(re.findall(r"^\| ([TP]-\S+) \|.*\| (\w+) \|$", text, flags=re.M))
    for kind, machine, workplace, again, deadline in combinations(maker.KINDS, maker.NAMES, *[(False, True)] * 3):
        facts = maker.Facts(kind, machine, workplace, again, deadline)
        for found, rule in (maker.team_of(facts), maker.priority_of(facts)):
            assert label[rule] == found, facts


@pytest.mark.parametrize(
    ("facts", "answer"),
    [
        (("fault", "coffee"), ("repair", "normal", "coffee")),
        (("fault", "lamp"), ("delivery", "normal", "lamp")),
        (("money_broken", "fan", True), ("repair", "business", "fan")),
        (("money", None, True, True), ("billing", "business", None)),
        (("supplies", "clock", False, False, True), ("parts", "normal", "part")),
        (("question", "robot", True, True, True), ("advice", "normal", "robot")),
        (("danger", "lamp", True), ("delivery", "danger", "lamp")),
        (("danger", "clock"), ("repair", "danger", "clock")),
        (("app", "kettle", False, True), ("app", "normal", "kettle")),
    ],
)
def test_cases_worked_by_hand(maker: ModuleType, facts: tuple[Any, ...], answer: tuple[str, ...]) -> None:
    it = maker.Facts(*facts)
    assert (maker.team_of(it)[0], maker.priority_of(it)[0], maker.product_of(it)[0]) == answer


@pytest.mark.parametrize("cue", ["again", "deadline"])
def test_what_never_counts_tells_nothing_of_the_priority(made: Any, cue: str) -> None:
    """Where a place of work decides: a ticket with the cue comes from one as often as a ticket without."""
    plain = [t for t in made if t.facts.kind not in ("danger", "question")]
    told, silent = (
        [t.answer["priority"] == "business" for t in plain if getattr(t.facts, cue) is said] for said in (True, False)
    )
    assert min(len(told), len(silent)) >= 150
    assert abs(sum(told) / len(told) - sum(silent) / len(silent)) < 0.08


def test_order_numbers_can_be_read_from_the_ticket_and_others_stand_beside_them(rows: list[dict[str, Any]]) -> None:
    several = 0
    for row in rows:
        seen = {f"R{digits}" for digits in re.findall(r"\br[ -]?(\d{4})\b", row["input"], flags=re.I)}
        assert seen >= {row["output"]["order"]} - {None}, row
        assert (row["output"]["order"] is None) == (not seen), row
        several += len(seen) > 1
    assert several >= 50


def test_each_matter_is_said_in_many_ways(maker: ModuleType) -> None:
    for kind in maker.KINDS:
        packs = [kind] if kind != "fault" else ["fault_any", *(f"fault_{code}" for code in maker.NAMES)]
        lines = [line for pack in packs for line in maker.lines_of(pack)]
        ways = sum(prod(c.count("|") + 1 for c in re.findall(r"\[([^\]]*)\]", line)) for line in lines)
        names = 3 if any("{p}" in line for line in lines) else 1
        assert len(set(lines)) >= 18, kind
        assert ways * names >= 100, kind


def test_no_word_gives_a_label_away(rows: list[dict[str, Any]]) -> None:
    """A rule that asks for one word (or the lack of it) gains little over always saying the commonest label."""
    held = [(set(words_of(row["input"])), row["output"]) for row in rows]
    common = [w for w, n in Counter(w for words, _ in held for w in words).items() if n >= 5]
    for key in FIELDS:
        every = Counter(output[key] for _, output in held)
        base = max(every.values()) / len(held)
        for word in common:
            having = Counter(output[key] for words, output in held if word in words)
            right = max(having.values()) + max((every - having).values(), default=0)
            assert right / len(held) <= base + 0.08, (key, word)


@pytest.mark.parametrize("name", ["tickets", "json-only"])
def test_the_task_files_name_what_is_there(name: str, rows: list[dict[str, Any]]) -> None:
    folder = EXAMPLES / name
    task = yaml.safe_load((folder / "task.yaml").read_text(encoding="utf-8"))
    assert task["task"] == name
    assert (folder / task["examples"]).resolve() == TICKETS / "tickets.jsonl"
    assert (folder / task["output"]["schema"]).resolve() == TICKETS / "ticket.schema.json"
    assert 0 < task["bar"] < 1
    assert len(rows) - task["split"]["dev"] - task["split"]["test"] >= 500
    for key in rows[0]["output"]:
        assert key in task["about"]


def test_the_instruction_does_not_hold_the_house_rules() -> None:
    labels = json.loads((TICKETS / "ticket.schema.json").read_text(encoding="utf-8"))["properties"]
    for name in ("tickets", "json-only"):
        about = yaml.safe_load((EXAMPLES / name / "task.yaml").read_text(encoding="utf-8"))["about"]
        for key in FIELDS:
            assert not set(words_of(about)) & {str(label).lower() for label in labels[key]["enum"]}


def test_the_handbook_can_be_made_again_byte_for_byte_and_every_answer_stands_in_its_passage() -> None:
    folder = EXAMPLES / "handbook"
    pages, made_rows = module_of(folder / "make_handbook.py").made()
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in made_rows)
    assert lines.encode() == (folder / "questions.jsonl").read_bytes()
    assert {page.name: page.read_text(encoding="utf-8") for page in (folder / "docs").iterdir()} == pages
    for row in made_rows:
        page, section = row["passages"][0].split("#")
        parts = {part.split("\n")[0].lower().replace(" ", "-"): part for part in pages[page].split("\n## ")[1:]}
        assert row["output"] in parts[section]
        assert row["output"] not in row["input"]


@pytest.fixture(scope="module")
def voice() -> tuple[ModuleType, ModuleType]:
    """The generator of the example and its scorer."""
    return module_of(EXAMPLES / "voice" / "make_voice.py"), module_of(EXAMPLES / "voice" / "voice.py")


def kept(voice: tuple[ModuleType, ModuleType], note: Any, reply: str) -> int:
    """How many of the four habits that a draft may have the scorer sees in a reply."""
    seen = voice[1].habits(reply, note.expected)
    return sum(has for habit, has in seen.items() if habit not in ("it is short", "nothing is left out"))


def test_the_voice_can_be_made_again_byte_for_byte_and_no_note_stands_twice(
    voice: tuple[ModuleType, ModuleType], tmp_path: Path
) -> None:
    voice[0].write(tmp_path)
    made = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert made == {path.name: path.read_bytes() for path in (EXAMPLES / "voice").glob("*.jsonl")}
    found = {name: [json.loads(line) for line in text.splitlines()] for name, text in made.items()}
    notes = [row.get("input", row.get("prompt")) for file in found.values() for row in file]
    assert len(notes) == len(set(notes)) == sum(voice[0].SIZES.values())
    assert all(row["chosen"] != row["rejected"] for row in found["pairs.jsonl"])


def test_the_scorer_sees_each_habit_that_a_draft_was_given_and_no_other(voice: tuple[ModuleType, ModuleType]) -> None:
    maker, scorer = voice
    draw = random.Random(1)
    for size in range(5):
        for habits in map(frozenset, choices_of(maker.HABITS, size)):
            for _ in range(8):
                note = maker.note_of(draw)
                seen = scorer.habits(maker.reply(note, habits, draw), note.expected)
                assert seen["the thing comes first"] == ("opening" in habits)
                assert seen["amounts are words"] == seen["nothing is left out"] == ("amount" in habits)
                assert seen["no fuss"] == ("fuss" in habits)
                assert seen["it parts until the day"] == ("closing" in habits)


def test_a_reply_with_every_habit_is_in_the_voice_and_one_that_lacks_any_is_not(
    voice: tuple[ModuleType, ModuleType],
) -> None:
    maker, scorer = voice
    draw = random.Random(2)
    for _ in range(50):
        note = maker.note_of(draw)
        right = maker.reply(note, frozenset(maker.HABITS), draw)
        assert scorer.score(right, note.expected)
        for lacking in maker.HABITS:
            assert not scorer.score(maker.reply(note, frozenset(maker.HABITS) - {lacking}, draw), note.expected)
        other = maker.note_of(draw)
        assert scorer.score(right, other.expected) == (other.expected == note.expected)
        assert not scorer.score(f"{right} {right}", note.expected)


def test_the_preferred_draft_has_more_of_the_habits_and_is_seldom_in_the_voice_itself(
    voice: tuple[ModuleType, ModuleType],
) -> None:
    """Seldom by design: best of two drafts with four habits at one half each, 1 in 6; of sent replies 1 in 100."""
    maker, scorer = voice
    draw = random.Random(3)
    perfect = {"sent": 0, "chosen": 0, "rejected": 0}
    for _ in range(400):
        note = maker.note_of(draw)
        pair = maker.pair_of(note, draw)
        assert kept(voice, note, pair["chosen"]) > kept(voice, note, pair["rejected"])
        drafts = {**pair, "sent": maker.reply(note, maker.some(maker.SENT_SHARE, draw), draw)}
        for name in perfect:
            perfect[name] += scorer.score(drafts[name], note.expected)
    assert 40 <= perfect["chosen"] <= 100
    assert perfect["rejected"] == 0
    assert perfect["sent"] <= 12


def test_the_voice_task_names_what_is_there_and_its_instruction_does_not_describe_the_voice(
    voice: tuple[ModuleType, ModuleType],
) -> None:
    folder = EXAMPLES / "voice"
    task = yaml.safe_load((folder / "task.yaml").read_text(encoding="utf-8"))
    assert task["task"] == folder.name
    assert all((folder / name).is_file() for name in (*task["examples"].values(), task["preferences"]))
    file, function = task["score"]["python"].split(":")
    assert (folder / file).is_file()
    assert hasattr(voice[1], function)
    assert not set(words_of(task["about"])) & {"until", "first", "figures", "words", "thanks", "please", "dear"}
    draw = random.Random(4)
    bare = [voice[0].reply(voice[0].note_of(draw), frozenset(), draw) for _ in range(200)]
    longest = max(len(words_of(reply)) for reply in bare)
    assert longest * 1.5 < task["decode"]["max_new_tokens"]
