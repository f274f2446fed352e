"""Synthetic rows: made from train alone, kept apart from dev and test, with where each comes from."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from climb_support import TEAMS, rows
from lastresort.app.synth import SynthRequest, forecast_synth
from lastresort.app.synth_recipe import seed_rows, task_hash
from lastresort.climb.prepare import PreparedTask, prepare
from lastresort.climb.workload import machine_of
from lastresort.data.duplicates import input_hash
from lastresort.data.read import read_examples
from lastresort.errors import InputError
from lastresort.rungs.forecast import answering
from lastresort.spec.task import load_task
from lastresort.synthesis.filters import Balance, SeenRows, wanted_rows
from lastresort.synthesis.journal import RequestBatch, RowOrigin, SyntheticRow, Tally
from lastresort.synthesis.kinds import KINDS, Draw, Kind, RowRequest, SeedRows, Turns
from lastresort.synthesis.make import planned_batch
from lastresort.synthesis.prompts import VERSION
from lastresort.synthesis.recipe import USUAL_YIELD, Lengths, Recipe, SpendingLimits, expected_requests
from lastresort.systems.system import PromptDesign
from lastresort.types import Example, Message
from synth_support import WITHOUT_DOCUMENTS, Teacher, fresh_rows, made, routing, synth, team_of, unwritten
from tiny_model import save_tiny_model


def prepared_task(path: Path) -> PreparedTask:
    return prepare(load_task(path), begins=False)


def test_rows_are_made_filtered_and_tell_where_they_come_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = routing(tmp_path)
    found = synth(monkeypatch, path, Teacher(fresh_rows(), usd=0.01), n=24)
    examples, written = read_examples(found.path), made(found)
    assert (found.made, len(examples), found.ended) == (24, 24, "rows")
    assert [row.output for row in examples] == [row["output"] for row in written]
    train = {row.id for row in prepared_task(path).split.train}
    for row in written:
        origin = row["synthetic"]
        assert set(origin["seeds"]) <= train
        assert origin["prompt"] == f"{origin['kind']}/{VERSION}"
        assert (origin["teacher"], origin["passed"][-1]) == ("scripted:script.json", "agreement")
        assert any(origin["usd"] == pytest.approx(0.01 / rows + 0.01) for rows in (1, 2, 3))
    assert {row["synthetic"]["kind"] for row in written} == WITHOUT_DOCUMENTS
    assert found.tally.calls == found.tally.requests + 24
    assert found.tally.usd == pytest.approx(0.01 * found.tally.calls)
    assert found.diversity is not None


def test_no_dev_or_test_row_reaches_a_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor a train row that a climb leaves out because dev or test hold it."""
    path = routing(tmp_path)
    split = prepared_task(path).split
    twin = {"id": "twin", "input": f"{split.test[0].input_text.capitalize()}!", "output": split.test[0].output}
    held = [{"id": row.id, "input": row.input_text, "output": row.output} for row in (*split.dev, *split.test)]
    train = [{"id": row.id, "input": row.input_text, "output": row.output} for row in split.train]
    for name, side in (("train", [*train, twin]), ("dev", held[:60]), ("test", held[60:])):
        (tmp_path / f"{name}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in side), encoding="utf-8")
    given = {"examples": {name: f"{name}.jsonl" for name in ("train", "dev", "test")}, "split": {}}
    for options in (None, given):
        teacher = Teacher(fresh_rows())
        again = routing(tmp_path, options)
        found = synth(
            monkeypatch,
            again,
            teacher,
            n=60,
            out=tmp_path / f"{options is None}.jsonl",
            runs=tmp_path / f"{options is None}",
        )
        sides = prepared_task(again).split
        said = "\n".join(teacher.prompts)
        assert found.made == 60
        assert not [row.id for row in (*sides.dev, *sides.test) if row.input_text in said]
        assert twin["input"] not in said
        assert sum(row.input_text in said for row in sides.train) > 40


def test_each_row_of_train_has_its_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = routing(tmp_path)
    found = synth(monkeypatch, path, Teacher(fresh_rows()), n=240, kinds=("paraphrase",), agreement=0)
    uses = Counter(row["synthetic"]["seeds"][0] for row in made(found))
    assert len(uses) == len(prepared_task(path).split.train)
    assert max(uses.values()) <= 6


def planned_rows(
    train: Counter[str],
    n: int,
    *,
    kinds: Sequence[str],
    balance: Balance = "train",
    choices: tuple[str, ...] | None = None,
) -> tuple[dict[str, int], Counter[str], list[RowRequest]]:
    """What is wanted, kept and asked for, where every row is good, and a teacher's own label is that of the first row shown."""
    rows = [
        Example(f"{label} {number}", (Message("user", f"{label} {number}"),), label)
        for label in train
        for number in range(train[label])
    ]
    labels = choices or tuple(train)
    wanted = wanted_rows(rows, labels, n, balance)
    known = SeenRows(rows, [], lambda _: None, wanted, free_answers=False)
    seeds = SeedRows(tuple(rows), {label: [row for row in rows if row.output == label] for label in labels})
    recipe = Recipe(
        teacher="t",
        n=n,
        kinds=tuple(kinds),
        seeds=seeds,
        instruction="",
        blind=PromptDesign(""),
        agreement=0,
        passage_checks=2,
        agrees=lambda *_: True,
        supports=lambda *_: True,
        spelt=str,
        lengths=Lengths(1, 1, 1),
        seed=0,
        made="",
    )
    found, turns = Tally(), Turns(seeds, {})
    asked: list[RowRequest] = []
    while known.labels.total() < n and len(asked) < 10 * n:
        planned, _ = planned_batch(recipe, known, found, turns, SpendingLimits())
        resumed, _ = planned_batch(recipe, known, found, Turns(seeds, found.shown), SpendingLimits())
        assert resumed == planned
        asked += planned
        kept = []
        for label in [request.answer or request.shown[0].output for request in planned for _ in range(request.n)]:
            if known.missing(label) > 0:
                known.labels[label] += 1
                kept.append(label)
        origin = RowOrigin(kind="harder", teacher="t", seeds=(), seed_inputs=(), prompt="", passed=(), made="")
        new = tuple(SyntheticRow(id="", turns=(Message("user", ""),), output=label, synthetic=origin) for label in kept)
        shown = tuple((request.kind, request.shown[0].id) for request in planned)
        found.add_batch(RequestBatch(number=found.batches, requests=len(planned), rows=new, dropped=(), shown=shown))
    return wanted, known.labels, asked


@pytest.mark.parametrize("labels", [1, 2, 3, 4, 7])
def test_every_row_of_every_label_has_its_turn(labels: int) -> None:
    train = Counter({f"label {number}": 10 + 8 * number for number in range(labels)})
    _, _, asked = planned_rows(train, 3 * train.total(), kinds=["paraphrase"])
    uses = Counter(request.shown[0].id for request in asked)
    assert len(uses) == train.total()
    assert max(uses.values()) <= 2


@pytest.mark.parametrize("kinds", [["answer"], sorted(WITHOUT_DOCUMENTS)])
def test_each_of_many_labels_gets_its_share(kinds: list[str]) -> None:
    """Also where a share is smaller than what one request may give: only what is missing is asked for."""
    wanted, kept, asked = planned_rows(Counter({f"label {number}": 5 for number in range(40)}), 60, kinds=kinds)
    assert set(wanted.values()) == {1, 2}
    assert kept == wanted
    assert sum(request.n for request in asked) == 60


@pytest.mark.parametrize("wanted", [[1] * 20 + [2] * 20, [60], [3, 0, 7]])
def test_the_forecast_counts_requests_for_what_each_label_misses(wanted: list[int]) -> None:
    drawn, runs = Random(1), 400
    asked = 0
    for _ in range(runs):
        for missing in wanted:
            while missing:
                asked += 1
                missing -= sum(drawn.random() < USUAL_YIELD for _ in range(min(3, missing)))
    assert expected_requests(wanted) == pytest.approx(asked / runs, rel=0.03)


def test_limits_count_the_answers_to_the_rows_that_a_request_asks_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One row of each of three labels is missing: with the answers to them these are six calls, not twelve."""
    teacher = Teacher(fresh_rows())
    found = synth(monkeypatch, routing(tmp_path), teacher, n=3, calls=6, kinds=("answer",))
    assert (found.made, found.ended, len(teacher.prompts)) == (3, "rows", 6)


def test_a_label_that_train_lacks_is_asked_for_by_name() -> None:
    train = Counter(billing=30, shipping=30)
    choices = ("billing", "shipping", "legal")
    wanted, kept, asked = planned_rows(train, 36, kinds=sorted(WITHOUT_DOCUMENTS), balance="even", choices=choices)
    assert kept == wanted
    assert kept["legal"] > 30
    assert {request.kind for request in asked if request.answer == "legal"} == {"answer"}
    assert sum(request.n for request in asked) == 36


def test_a_label_that_no_kind_can_make_takes_no_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One without rows to paraphrase: the others get all, where requests for labels that are full would be paid for in vain."""
    task, teacher = {"output": {"choices": [*TEAMS, "legal"]}}, Teacher(fresh_rows())
    found = synth(
        monkeypatch, routing(tmp_path, task), teacher, n=30, kinds=("paraphrase",), balance="even", agreement=0
    )
    assert (found.made, found.ended, found.dropped["share"]) == (30, "rows", 0)
    assert set(found.labels) == set(TEAMS)


def test_rows_for_a_label_are_asked_for_next_to_others() -> None:
    _, _, asked = planned_rows(Counter(billing=30, shipping=30), 30, kinds=["answer"])
    for request in asked:
        assert [row.output == request.answer for row in request.shown] == [True] * 4 + [False] * 2


@pytest.mark.parametrize("kind", ["answer", "expansion"])
def test_a_row_that_train_has_several_times_is_shown_once(kind: str) -> None:
    """The teacher would take it for what rows usually look like."""
    texts = ["lamp broken", "Lamp broken ", "refund late", "lamp broken", "new address", "refund late"]
    rows_ = tuple(
        Example(str(n), (Message("user", text),), "repair" if text.lower().startswith("lamp") else "other")
        for n, text in enumerate(texts)
    )
    by_label = {label: [row for row in rows_ if row.output == label] for label in ("repair", "other")}
    seeds = SeedRows(rows_, by_label)
    for seed in range(9):
        shown = KINDS[kind].request(Draw(seeds, Turns(seeds, {}), Random(seed), "repair")).shown
        assert len({row.input_text.strip().lower() for row in shown}) == len(shown) == 3


def test_an_input_that_train_has_several_times_has_one_turn(tmp_path: Path) -> None:
    split = prepared_task(routing(tmp_path)).split
    sides = {
        name: [{"input": row.input_text, "output": row.output} for row in side]
        for name, side in (("train", split.train), ("dev", split.dev), ("test", split.test))
    }
    again = [{**row, "input": f"{row['input'].upper()}!"} for row in sides["train"]]
    otherwise = {**sides["train"][0], "output": TEAMS[TEAMS.index(sides["train"][0]["output"]) - 1]}
    sides["train"] += [*again, *again, otherwise]
    for name, side in sides.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in side), encoding="utf-8")
    given = {"examples": {name: f"{name}.jsonl" for name in sides}, "split": {}}
    prepared = prepared_task(routing(tmp_path, given))
    found = seed_rows(prepared, 0)
    assert len(prepared.split.train) == 3 * len(split.train) + 1
    assert Counter(map(input_hash, found.rows)) == Counter(map(input_hash, split.train))
    assert sum(map(len, found.by_label.values())) == len(split.train) + 1  # of each label that it has


def test_what_is_in_the_task_already_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = routing(tmp_path)
    with (tmp_path / "rows.jsonl").open("a", encoding="utf-8") as file:
        file.writelines(json.dumps({"input": text, "output": TEAMS[0]}) + "\n" for text in UNLIKE)
    split = prepared_task(path).split
    copies = [split.test[0].input_text.upper(), f"{split.dev[0].input_text}.", split.train[0].input_text]
    near = [text.replace("er", "re", 1) for text in UNLIKE]
    found = synth(monkeypatch, path, Teacher(unwritten([*copies, *near])), n=6, kinds=("expansion",), balance="any")
    assert (found.dropped["copy"], found.dropped["near"]) == (3, len(UNLIKE))
    kept = {row["input"] for row in made(found)}
    assert not kept & {*copies, *near}


UNLIKE = (
    "green lantern flickers above eastern pier since monday",
    "our neighbour borrowed a ladder and forgot about returning",
    "yesterday thunder frightened sheep beside railway bridge",
    "seventeen teapots stand under chestnut trees behind school",
    "bakery window shows gingerbread towers every december",
    "pianist ordered heavier curtains against winter draughts",
)  # of any side


def test_rows_whose_answer_the_teacher_does_not_give_again_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(text: str) -> str:
        return TEAMS[1] if " near Lima" in text else Teacher(fresh_rows()).answer(text)

    path = routing(tmp_path)
    found = synth(monkeypatch, path, Teacher(fresh_rows(), answer=answer), n=60)
    lost = [row for row in found.tally.dropped if row.by == "agreement"]
    assert lost
    assert all("near Lima" in row.input and row.output != TEAMS[1] for row in lost)
    assert not [row for row in made(found) if "near Lima" in row["input"] and row["output"] != TEAMS[1]]
    teacher = Teacher(fresh_rows(), answer=answer)
    off = synth(monkeypatch, path, teacher, n=30, agreement=0, out=tmp_path / "off.jsonl", runs=tmp_path / "other")
    assert (off.dropped["agreement"], len(teacher.prompts)) == (0, off.tally.requests)
    assert "agreement" not in made(off)[0]["synthetic"]["passed"]


def test_the_blind_answer_does_not_see_the_proposed_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    teacher = Teacher(fresh_rows())
    found = synth(monkeypatch, routing(tmp_path), teacher, n=12, agreement=2)
    blind = [prompt for prompt in teacher.prompts if "You write training rows" not in prompt]
    inputs = {row["input"] for row in made(found)}
    assert {prompt.splitlines()[-1] for prompt in blind} == inputs
    assert len({prompt.removesuffix(prompt.splitlines()[-1]) for prompt in blind}) == 1, (
        "all else is the same for all rows"
    )


@pytest.mark.parametrize("balance", ["train", "even"])
def test_labels_get_their_shares(balance: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = routing(tmp_path)
    many = [row for row in rows() if row["output"] != TEAMS[2]] + [row for row in rows() if row["output"] == TEAMS[2]][
        :60
    ]
    (tmp_path / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in many), encoding="utf-8")
    train = Counter(row.output for row in prepared_task(path).split.train)
    found = synth(monkeypatch, path, Teacher(fresh_rows()), n=30, balance=balance)
    assert found.made == 30
    if balance == "even":
        raised = [train[label] + n for label, n in found.labels.items()]
        assert max(raised) - min(raised) <= 1
        assert all(train[label] >= max(raised) - 1 for label in TEAMS if label not in found.labels)
        assert found.labels[TEAMS[2]] > 15
    else:
        for label in TEAMS:
            assert abs(found.labels.get(label, 0) - 30 * train[label] / train.total()) < 1


def talks(folder: Path) -> Path:
    """The task of routing, in which each row has a conversation of its own."""
    path = routing(folder)
    lines = []
    for number, row in enumerate(rows()):
        before = [("user", f"order {number} is late"), ("assistant", "what is wrong?")]
        said = [*before, ("user", row["input"]), ("assistant", row["output"])]
        lines.append(json.dumps({"messages": [{"role": role, "content": content} for role, content in said]}))
    (folder / "rows.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return path


def test_new_turns_continue_the_conversation_that_the_teacher_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = Teacher(fresh_rows())
    found = synth(monkeypatch, talks(tmp_path), teacher, n=24, agreement=0)
    assert {row["synthetic"]["kind"] for row in made(found)} == WITHOUT_DOCUMENTS
    requests = [prompt for prompt in teacher.prompts if "Rows:" in prompt]
    assert all("the next turn of the conversation of the first row" in prompt for prompt in requests)
    firsts = {json.loads(prompt.split("Rows:\n")[1].splitlines()[0])["conversation"][0] for prompt in requests}
    continued = [row["messages"][0]["content"] for row in made(found) if len(row["synthetic"]["seeds"]) > 1]
    assert continued
    assert {f"user: {first}" for first in continued} <= firsts


def test_an_answer_that_was_not_given_again_is_remembered_by_a_later_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, options = talks(tmp_path), {"kinds": ("expansion",), "balance": "any"}
    teacher = Teacher(unwritten(UNLIKE[:4]), answer=lambda text: TEAMS[1] if text == UNLIKE[0] else TEAMS[0])
    assert synth(monkeypatch, path, teacher, n=2, **options).dropped["agreement"] == 1
    again = Teacher(unwritten([*3 * UNLIKE[:1], UNLIKE[4]]), answer=lambda _: TEAMS[0])
    assert synth(monkeypatch, path, again, n=3, **options).dropped["copy"] == 1
    assert not any(prompt.endswith(UNLIKE[0]) for prompt in again.prompts)


SORTING = " ".join(f"Rule {number}: cases of kind {number} go to desk {number}." for number in range(220))


@pytest.mark.slow
def test_rows_of_a_conversation_keep_its_earlier_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    talks = [
        {"messages": [
            {"role": "system", "content": SORTING},
            {"role": "user", "content": row["input"]},
            {"role": "assistant", "content": row["output"]},
        ]}
        for row in rows()
    ]  # fmt: skip
    path = routing(tmp_path)
    (tmp_path / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in talks), encoding="utf-8")
    found = synth(monkeypatch, path, Teacher(fresh_rows()), n=6)
    assert found.made == 6
    for example in read_examples(found.path):
        assert [turn.role for turn in example.input] == ["system", "user"]
        assert example.input[0].content == SORTING


def test_synthetic_rows_join_train_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dev and test are the same with and without them; a row that somebody put in by hand and that is in test is left out."""
    path = routing(tmp_path)
    before = prepared_task(path).split
    found = synth(monkeypatch, path, Teacher(fresh_rows()), n=12, out=tmp_path / "made: {12}.jsonl")
    with found.path.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"input": before.test[0].input_text, "output": before.test[0].output}) + "\n")
    words = found.lines()
    line = next(line for line in words if line.startswith("  examples: "))
    assert line == '  examples: {train: rows.jsonl, synthetic: "made: {12}.jsonl"}'
    path.write_text(path.read_text().replace("examples: rows.jsonl", line.strip()), encoding="utf-8")
    after = prepared_task(path)
    assert after.split.dev == before.dev
    assert after.split.test == before.test
    assert {row.id for row in after.split.train} - {row.id for row in before.train} == {
        row["id"] for row in made(found)[:-1]
    }
    assert after.leaks == 1
    assert "made: {12}.jsonl" in after.files
    assert load_task(path).resolved()["examples"] == {"train": "rows.jsonl", "synthetic": "made: {12}.jsonl"}
    again = synth(monkeypatch, path, Teacher(fresh_rows()), n=12, out=found.path)
    assert again.tally.calls == found.tally.calls, "the file that it makes is none of the rows that it shows"


def test_synthetic_rows_of_the_task_are_neither_shown_nor_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of other files, and those that are in train itself."""
    path = routing(tmp_path)
    sides = prepared_task(path).split
    first = synth(monkeypatch, path, Teacher(fresh_rows()), n=12)
    second = synth(monkeypatch, path, Teacher(fresh_rows()), n=12, seed=1, out=tmp_path / "second.jsonl")
    assert {row["input"] for row in made(first)} & {row["input"] for row in made(second)}
    files = {
        name: [{"input": row.input_text, "output": row.output} for row in side]
        for name, side in (("train", sides.train), ("dev", sides.dev), ("test", sides.test))
    }
    files["train"] += made(second)
    for name, side in files.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in side), encoding="utf-8")
    sources = {**{name: f"{name}.jsonl" for name in files}, "synthetic": [first.path.name, "third.jsonl"]}
    (tmp_path / "third.jsonl").touch()
    path, teacher = routing(tmp_path, {"examples": sources, "split": {}}), Teacher(fresh_rows())
    third = synth(monkeypatch, path, teacher, n=60, out=tmp_path / "third.jsonl", runs=tmp_path / "other")
    known = {row["input"] for row in (*made(first), *made(second))}
    assert third.made == 60
    assert third.dropped["copy"] > 0
    assert not known & {row["input"] for row in made(third)}
    assert not [one for one in known if one in "\n".join(teacher.prompts)]
    trained = {row.id for row in prepared_task(path).split.train}
    assert trained >= {row["id"] for row in (*made(first), *made(second), *made(third))}


def test_a_scorer_that_expects_something_else_than_an_answer_judges_no_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as facts that an answer must hold, as in dev and test of the example voice."""
    source = "def score(answer, expected):\n    facts = expected.split('; ')\n    return len(facts) > 1 and facts[0] in answer\n"
    (tmp_path / "facts.py").write_text(source, encoding="utf-8")
    sides = {"train": rows()[:80], "dev": rows()[80:140], "test": rows()[140:]}
    for name, side in sides.items():
        written = side if name == "train" else [{**row, "output": f"{row['output']}; case"} for row in side]
        (tmp_path / f"{name}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in written), encoding="utf-8")
    task = {
        "score": {"python": "facts.py:score"},
        "output": {},
        "examples": {name: f"{name}.jsonl" for name in sides},
        "split": {},
    }
    found = synth(monkeypatch, routing(tmp_path, task), Teacher(fresh_rows()), n=6)
    assert (found.made, found.dropped["answer"], found.tally.calls) == (6, 0, found.tally.requests)


def test_a_kind_is_a_line_in_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its words, too: no other table has to know it."""

    def request(draw: Draw) -> RowRequest:
        return RowRequest("twisted", "Twist this row.", (draw.next_row("twisted"),), None)

    monkeypatch.setitem(KINDS, "twisted", Kind("twisted", request))
    teacher = Teacher(fresh_rows())
    found = synth(monkeypatch, routing(tmp_path), teacher, n=6, kinds=("twisted",))
    assert {row["synthetic"]["prompt"] for row in made(found)} == {f"twisted/{VERSION}"}
    assert "Twist this row." in teacher.prompts[0]


def test_another_seed_shows_other_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To every kind, those with a single row as well."""
    path, shown = routing(tmp_path), []
    for seed in (0, 1):
        teacher, out = Teacher(fresh_rows()), tmp_path / f"{seed}.jsonl"
        found = synth(
            monkeypatch, path, teacher, n=24, seed=seed, out=out, kinds=("paraphrase", "harder"), balance="any"
        )
        shown.append({row["synthetic"]["seeds"][0] for row in made(found)})
    assert len(shown[0] & shown[1]) < len(shown[0]) / 2


def test_no_more_rows_are_asked_for_than_are_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where answers are no labels; what comes too many is shown."""
    teacher = Teacher(fresh_rows())
    found = synth(monkeypatch, routing(tmp_path), teacher, n=1, balance="any", kinds=("harder",))
    assert (found.made, "Rows to write: 1." in teacher.prompts[0], len(teacher.prompts)) == (1, True, 2)
    surplus = replace(found, tally=replace(found.tally, surplus=2))
    assert "  more than --n" in "\n".join(surplus.lines())


def test_requests_beyond_what_is_missing_ask_for_three_rows_where_any_will_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are planned since three of five rows are dropped. At most one of a batch asks for the rest of a division by three."""

    def unsure(text: str) -> str:
        return team_of(text) if Random(text).random() < 0.4 else "nothing"

    teacher = Teacher(fresh_rows(), answer=unsure)
    found = synth(monkeypatch, routing(tmp_path), teacher, n=60, balance="any", calls=500)
    asked = Counter(re.findall(r"Rows to write: (\d)", "\n".join(teacher.prompts)))
    assert (found.made, found.tally.requests) == (60, asked.total())
    assert asked["1"] + asked["2"] <= found.tally.batches
    assert found.tally.surplus <= 2


def test_a_row_has_no_price_where_none_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = routing(tmp_path)
    for teacher_name, usd in (("openai:big", None), ("org/teacher", 0.0)):
        out = tmp_path / f"{usd}.jsonl"
        monkeypatch.setattr("lastresort.app.synth.absolute_name", lambda name, folder: name)
        found = synth(monkeypatch, path, Teacher(fresh_rows()), teacher_name=teacher_name, n=3, out=out)
        assert {row["synthetic"]["usd"] for row in made(found)} == {usd}


def test_the_price_of_a_judge_may_change(tmp_path: Path) -> None:
    prices = ({}, {"prompt_price": 1, "output_price": 4}, {"prompt_price": 2, "output_price": 4})
    tasks = [load_task(routing(tmp_path, {"score": {"judge": {"model": "openai:j", **some}}})) for some in prices]
    assert len({task_hash(task, "") for task in tasks}) == 1
    assert task_hash(load_task(routing(tmp_path, {"score": {"judge": "openai:k"}})), "") != task_hash(tasks[0], "")


def test_a_forecast_opens_no_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError

    monkeypatch.setattr("lastresort.models.open.open_model", refuse)
    path = routing(tmp_path)
    unknown = forecast_synth(SynthRequest(path, "openai:big", n=90))
    assert (unknown.usd, set(unknown.first), unknown.n) == (None, WITHOUT_DOCUMENTS, 90)
    priced = forecast_synth(SynthRequest(path, "openai:big", n=90, prompt_price=1.0, output_price=4.0))
    twice = forecast_synth(SynthRequest(path, "openai:big", n=180, prompt_price=1.0, output_price=4.0))
    assert priced.usd is not None
    assert twice.usd == pytest.approx(2 * priced.usd, rel=0.05)
    assert 0.01 < priced.usd < 0.5
    assert "if each reply has the maximum length, without thinking" in priced.lines()[0]
    assert forecast_synth(SynthRequest(path)).teaches_itself
    assert not (tmp_path / "routing-synthetic.jsonl").exists()


def test_a_forecast_counts_replies_as_long_as_they_may_be_and_times_a_local_teacher(tmp_path: Path) -> None:
    """A request for three short rows has room for 512 tokens. A local teacher gets one after the other."""
    path, model = routing(tmp_path), save_tiny_model(tmp_path / "model")
    output = forecast_synth(SynthRequest(path, "openai:big", n=30, agreement=0, prompt_price=0.0, output_price=1.0))
    assert output.usd == pytest.approx(output.requests * 512 / 1e6)
    assert output.seconds is None
    local = forecast_synth(SynthRequest(path, str(model), n=30, agreement=0))
    machine = machine_of(load_task(path), str(model), (0.0, 0.0))
    replies = answering("", machine, local.requests, 0, 0, 512, alone=True).seconds
    assert local.seconds is not None
    assert replies is not None
    assert replies < local.seconds < 2 * replies
    assert f"{local.requests} requests, at no cost, in about " in local.lines()[0]
    at_workers = forecast_synth(SynthRequest(path, str(model), n=30, agreement=0, ray="local"))
    assert at_workers.lines() == [
        local.lines()[0], "This time is that of one process; the workers of --ray share the calls.", *local.lines()[1:]
    ]  # fmt: skip
    elsewhere = forecast_synth(SynthRequest(path, "openai:big", n=30, agreement=0, ray="local"))
    assert not elsewhere.at_workers, "no worker makes calls to an endpoint"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"kinds": ("paraphrse",)}, '"paraphrse", expected paraphrase, answer, expansion, harder, documents. Did you mean'),
        ({"balance": "evn"}, '--balance: found "evn", expected train, even, any. Did you mean "even"?'),
        ({"n": 0}, "--n: found 0, expected a number of at least 1."),
        ({"prompt_price": -1.0}, "--prompt-price: found -1, expected a number of at least 0."),
        ({"output_price": float("nan")}, "--output-price: found nan, expected a number of at least 0."),
        ({"usd": float("nan")}, "--usd: found nan, expected a number of at least 0."),
        ({"prompt_price": 1.0, "teacher": "openai:big"}, "--prompt-price: found one price"),
        ({"usd": 1.0, "teacher": "openai:big"}, "--usd: a limit of 1 USD without the prices of openai:big"),
        ({"settings": {"limits.usd": 2}, "teacher": "openai:big"}, 'key "limits.usd": a limit of 2 USD without the prices'),
        ({"settings": {"score": {"judge": "openai:j"}}, "agreement": 1}, "found --agreement 1 for a task with a judge"),
        ({"settings": {"output": {}, "score": "rouge_l", "examples": "texts.jsonl"}, "kinds": ("answer",)}, "are not labels"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_sentence(options: dict[str, Any], said: str, tmp_path: Path) -> None:
    path = routing(tmp_path)
    texts = [{**row, "output": f"We are sorry about {row['input']}."} for row in rows()]
    (tmp_path / "texts.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in texts), encoding="utf-8")
    with pytest.raises(InputError) as error:
        forecast_synth(SynthRequest(path, **options))
    assert said in str(error.value)
