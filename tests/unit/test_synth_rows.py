"""Synthetic rows: made from train alone, kept apart from dev and test, with where each comes from."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from climb_support import TEAMS, rows
from lastresort.app.synth import SynthRequest, forecast_synth
from lastresort.climb.prepare import PreparedTask, prepare
from lastresort.data.read import read_examples
from lastresort.errors import InputError
from lastresort.spec.task import load_task
from lastresort.synthesis.kinds import KINDS, Kind
from lastresort.synthesis.kinds.kind import Draw, RowRequest
from synth_support import Teacher, fresh_rows, made, routing, synth, unwritten


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
        assert origin["prompt"] == f"{origin['kind']}/1"
        assert (origin["teacher"], origin["passed"][-1]) == ("scripted:script.json", "agreement")
        assert origin["usd"] == pytest.approx(0.01 / 3 + 0.01)
    assert {row["synthetic"]["kind"] for row in written} == set(KINDS)
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
    found = synth(monkeypatch, path, Teacher(fresh_rows()), n=240, kinds=("paraphrase",), balance="any", agreement=0)
    uses = Counter(row["synthetic"]["seeds"][0] for row in made(found))
    assert len(uses) == len(prepared_task(path).split.train)
    assert max(uses.values()) <= 6


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
    assert len(blind) == 24
    assert all(prompt.splitlines()[-1] in {row["input"] for row in made(found)} for prompt in blind)


@pytest.mark.parametrize("balance", ["train", "even"])
def test_labels_get_their_shares(balance: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = routing(tmp_path)
    many = [row for row in rows() if row["output"] != TEAMS[2]] + [row for row in rows() if row["output"] == TEAMS[2]][
        :60
    ]
    (tmp_path / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in many), encoding="utf-8")
    train = Counter(row.output for row in prepared_task(path).split.train)
    found = synth(monkeypatch, path, Teacher(fresh_rows()), n=30, balance=balance)
    together = train + Counter(found.labels)
    assert found.made == 30
    if balance == "even":
        assert max(together.values()) - min(together[label] for label in TEAMS) <= max(
            1, max(train.values()) - min(together.values())
        )
        assert found.labels[TEAMS[2]] > 15
    else:
        for label in TEAMS:
            assert abs(found.labels.get(label, 0) - 30 * train[label] / train.total()) < 1


SORTING = " ".join(f"Rule {number}: cases of kind {number} go to desk {number}." for number in range(60))


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
        return RowRequest("twisted", "Twist this row {n} times.", (draw.next_row(),), None, draw.number)

    monkeypatch.setitem(KINDS, "twisted", Kind("twisted", request))
    teacher = Teacher(fresh_rows())
    found = synth(monkeypatch, routing(tmp_path), teacher, n=6, kinds=("twisted",))
    assert {row["synthetic"]["prompt"] for row in made(found)} == {"twisted/1"}
    assert "Twist this row 3 times." in teacher.prompts[0]


def test_a_forecast_opens_no_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError

    monkeypatch.setattr("lastresort.app.synth.open_model", refuse)
    path = routing(tmp_path)
    unknown = forecast_synth(SynthRequest(path, "openai:big", n=90))
    assert (unknown.usd, set(unknown.first), unknown.n) == (None, set(KINDS), 90)
    priced = forecast_synth(SynthRequest(path, "openai:big", n=90, prompt_price=1.0, output_price=4.0))
    twice = forecast_synth(SynthRequest(path, "openai:big", n=180, prompt_price=1.0, output_price=4.0))
    assert priced.usd is not None
    assert twice.usd == pytest.approx(2 * priced.usd, rel=0.05)
    assert 0.01 < priced.usd < 0.2
    assert forecast_synth(SynthRequest(path)).teaches_itself
    assert not (tmp_path / "routing-synthetic.jsonl").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"kinds": ("paraphrse",)}, '"paraphrse", expected paraphrase, answer, expansion, harder. Did you mean "paraphrase"?'),
        ({"balance": "evn"}, '--balance: found "evn", expected train, even, any. Did you mean "even"?'),
        ({"n": 0}, "--n: found 0, expected a number of at least 1."),
        ({"usd": float("nan")}, "--usd: found nan, expected a number of at least 0."),
        ({"usd": 1.0, "teacher": "openai:big"}, "--usd: a limit of 1 USD without the prices of openai:big"),
        ({"settings": {"limits.usd": 2}, "teacher": "openai:big"}, 'key "limits.usd": a limit of 2 USD without the prices'),
        ({"settings": {"score": {"judge": "openai:j"}}, "agreement": 1}, "found --agreement 1 for a task with a judge"),
        ({"settings": {"output": {}, "score": "rouge_l", "examples": "texts.jsonl"}, "kinds": ("answer",)}, "are no labels"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_sentence(options: dict[str, Any], said: str, tmp_path: Path) -> None:
    path = routing(tmp_path)
    texts = [{**row, "output": f"We are sorry about {row['input']}."} for row in rows()]
    (tmp_path / "texts.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in texts), encoding="utf-8")
    with pytest.raises(InputError) as error:
        forecast_synth(SynthRequest(path, **options))
    assert said in str(error.value)
