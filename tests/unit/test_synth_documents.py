"""Questions from documents: each answered by its passage, twice, and none from a passage that a dev or test row names."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from document_questions import DAYS, asked_of, asks, document, questions, reads
from lastresort.app.synth import SynthRequest, forecast_synth
from lastresort.climb.prepare import prepare
from lastresort.data.read import read_examples
from lastresort.errors import DataError, InputError
from lastresort.knowledge.embedder import HashingEmbedder
from lastresort.knowledge.labels import Labels
from lastresort.knowledge.reading import read_documents
from lastresort.knowledge.store import create_store
from lastresort.knowledge.update import update
from lastresort.records.data_report import RowsLeftOut
from lastresort.report.words.synthetic import notes, question
from lastresort.rungs.retrieval.rung import store_settings
from lastresort.spec.task import load_task
from lastresort.synthesis.kinds import KINDS
from lastresort.synthesis.prompts import SYSTEM
from synth_support import WITHOUT_DOCUMENTS, Killed, Row, Teacher, made, synth


def test_questions_come_from_passages_that_the_store_of_the_task_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = questions(tmp_path / "task")
    teacher = Teacher(asks, answer=reads)
    found = synth(monkeypatch, path, teacher, n=30, kinds=("documents",))
    assert (found.made, found.ended) == (30, "rows")
    rows, examples = made(found), read_examples(found.path)
    task = load_task(path)
    documents = {one.id: one for one in read_documents(task.knowledge).documents}
    store = create_store(tmp_path / "store", HashingEmbedder(), store_settings(task))
    update(store, tuple(documents.values()))
    labels = Labels.of_store(store)
    for row, example in zip(rows, examples, strict=True):
        origin = row["synthetic"]["passage"]
        text = documents[origin["document"]].text[origin["start"] : origin["end"]]
        word = DAYS.search(text)[1]
        assert word in row["input"]
        assert f"{DAYS.search(text)[2]} days" == row["output"] == example.output
        assert example.passages == (f"{word}.md#returns",) == (origin["section"],)
        assert labels.resolve(example.passages) == [frozenset({f"{word}.md#returns:1"})]
        assert (row["synthetic"]["kind"], row["synthetic"]["passed"][-1]) == ("documents", "agreement")
    shown = [re.search(r'"document": "(\w+)', prompt)[1] for prompt in teacher.prompts if SYSTEM in prompt]
    assert len(shown) >= 10
    assert sorted(shown[:12]) == sorted(set(shown)), "each passage comes once before one comes again"
    assert found.tally.checks >= 2 * 30


def test_questions_join_the_other_kinds_and_train_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other kinds are not checked, since the teacher does not have the documents for them."""

    def any_kind(request: str, number: int) -> str:
        if "The passage:" in request:
            return asks(request, number)
        rows = [{"input": asked_of("lamp", 2000 + 3 * number + n), "output": "9 days"} for n in range(3)]
        return json.dumps({"rows": rows})

    path = questions(tmp_path)
    kinds = tuple({*KINDS} - {"answer"})
    found = synth(monkeypatch, path, Teacher(any_kind, answer=reads), n=30, kinds=kinds)
    checked = {row["synthetic"]["kind"]: "agreement" in row["synthetic"]["passed"] for row in made(found)}
    assert checked == {"paraphrase": False, "expansion": False, "harder": False, "documents": True}
    from_passages = [row for row in made(found) if row["synthetic"]["kind"] == "documents"]
    assert found.tally.checks == 2 * len(from_passages) > 6
    before = prepare(load_task(path), begins=False).split
    path.write_text(
        path.read_text().replace("  train: train.jsonl", f"  train: train.jsonl\n  synthetic: {found.path.name}")
    )
    split = prepare(load_task(path), begins=False).split
    assert (split.dev, split.test) == (before.dev, before.test)
    joined = [row for row in split.train if row.synthetic]
    assert len(joined) == 30
    assert sorted(row.passages for row in joined if row.passages) == sorted(
        tuple(row["passages"]) for row in from_passages
    )


def test_an_answer_that_the_passage_does_not_give_twice_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The teacher makes up every third answer of a request, and answers every fourth question once otherwise."""
    times: dict[str, int] = {}

    def invents(request: str, number: int) -> str:
        rows = json.loads(asks(request, number))["rows"]
        return json.dumps({"rows": [*rows[:2], {**rows[2], "output": "365 days"}]})

    def wavers(prompt: str) -> str:
        asked = prompt.split("Question: ")[1]
        times[asked] = times.get(asked, 0) + 1
        return "1 day" if int(re.search(r"\d+", asked)[0]) % 4 == 0 and times[asked] == 2 else reads(prompt)

    teacher = Teacher(invents, answer=wavers)
    found = synth(monkeypatch, questions(tmp_path), teacher, n=12, kinds=("documents",))
    assert found.made == 12
    assert not any(
        row["output"] == "365 days" or int(re.search(r"\d+", row["input"])[0]) % 4 == 0 for row in made(found)
    )
    assert found.dropped["agreement"] >= 12 // 2
    checks = [prompt for prompt in teacher.prompts if SYSTEM not in prompt]
    assert len(checks) == found.tally.checks
    assert all(DAYS.search(prompt.split("Question: ")[0].rsplit("[1]", 1)[1]) for prompt in checks)


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("named", "hidden"),
    [
        ("kettle.md#returns", "kettle"),
        ("kettle.md#returns:1", "kettle"),
        ("kettle.md#returns:7", "kettle"),
        ("kettle.md", "kettle"),
        ("returns", None),
    ],
)
def test_no_passage_that_a_dev_or_test_row_names_is_shown(
    named: str, hidden: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A section that is named without its document hides those of all documents."""
    for side in ("dev", "test"):
        path = questions(tmp_path / side, named={side: {"passages": [named]}, "train": {"passages": ["tent.md"]}})
        if hidden is None:
            with pytest.raises(
                InputError, match='found "documents" for a task without a row and a passage that can be'
            ):
                synth(monkeypatch, path, Teacher(asks, answer=reads), n=3, kinds=("documents",))
            continue
        teacher = Teacher(asks, answer=reads)
        synth(monkeypatch, path, teacher, n=36, kinds=("documents",))
        text = "\n".join(teacher.prompts)
        assert (f"The {hidden} can" in text, "The tent can" in text) == (False, True)


def test_questions_leave_train_once_a_dev_or_test_row_names_their_passage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = questions(tmp_path)
    found = synth(monkeypatch, path, Teacher(asks, answer=reads), n=36, kinds=("documents",))
    path.write_text(
        path.read_text().replace("  train: train.jsonl", f"  train: train.jsonl\n  synthetic: {found.path.name}")
    )
    all_of_them = prepare(load_task(path), begins=False)
    named = [row["id"] for row in made(found) if row["passages"] == ["kettle.md#returns"]]
    assert 0 < len(named) < 36
    test = tmp_path / "test.jsonl"
    first, *others = test.read_text().splitlines()
    test.write_text("\n".join([json.dumps({**json.loads(first), "passages": ["kettle.md#returns:4"]}), *others]))
    now = prepare(load_task(path), begins=False)
    assert {row.id for row in all_of_them.split.train} - {row.id for row in now.split.train} == set(named)
    assert now.notes == (RowsLeftOut("train", "from a held passage", len(named)),)


def test_questions_of_dev_and_test_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = questions(tmp_path)
    split = prepare(load_task(path), begins=False).split
    held = [row.input_text for row in (split.test[0], split.dev[0], split.test[1])]

    def copies(request: str, number: int) -> str:
        if number:
            return asks(request, number)
        texts = [held[0].upper(), f"Please, {held[1]}", held[2]]
        return json.dumps({"rows": [{"input": text, "output": "10 days"} for text in texts]})

    found = synth(monkeypatch, path, Teacher(copies, answer=reads), n=6, kinds=("documents",))
    assert (found.dropped["copy"], found.dropped["near"], found.made) == (2, 1, 6)


def test_a_killed_run_goes_on_with_the_next_passages_and_pays_no_answer_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = synth(
        monkeypatch, questions(tmp_path / "a"), Teacher(asks, answer=reads, usd=0.01), n=30, kinds=("documents",)
    )
    path, teacher = questions(tmp_path / "b"), Teacher(asks, answer=reads, usd=0.01)
    for fails_at in (5, 14, 40):
        teacher.fails_at = fails_at
        with pytest.raises(Killed):
            synth(monkeypatch, path, teacher, n=30, kinds=("documents",))
    teacher.fails_at = None
    found = synth(monkeypatch, path, teacher, n=30, kinds=("documents",))
    assert [row["input"] for row in made(found)] == [row["input"] for row in made(whole)]
    assert (found.tally.calls, found.tally.usd) == (whole.tally.calls, pytest.approx(whole.tally.usd))
    (path.parent / "docs" / "tent.md").write_text(document("tent", 77))
    with pytest.raises(InputError, match=r"made with other settings .the documents, or the passages that dev and test"):
        synth(monkeypatch, path, teacher, n=40, kinds=("documents",))


def test_the_answers_from_a_passage_count_towards_the_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request for three questions takes seven calls, or ten with three answers to each."""
    for agreement, requests in ((None, 3), (0, 3), (3, 2)):
        path = questions(tmp_path / str(agreement))
        teacher, kinds = Teacher(asks, answer=reads, usd=0.01), ("documents",)
        found = synth(monkeypatch, path, teacher, n=30, kinds=kinds, agreement=agreement, calls=24)
        assert (found.ended, found.requests, found.made) == ("calls", requests, 3 * requests)
        priced = {"usd": 0.24, "prompt_price": 1.0, "output_price": 1.0, "teacher_name": "openai:teacher"}
        found = synth(
            monkeypatch,
            questions(tmp_path / f"usd{agreement}"),
            teacher,
            n=30,
            kinds=kinds,
            agreement=agreement,
            **priced,
        )
        assert (found.ended, found.requests, found.tally.usd) == (
            "usd",
            requests,
            pytest.approx(0.01 * found.tally.calls),
        )


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("score", "proposed", "read", "kept"),
    [
        ("judge", "{days} days", "{days} days.", True),
        ("judge", "You have {days} days.", "You have about {days} days.", True),
        ("judge", "365 days", "{days} days", False),
        ("judge", "{days} days", "You have {days} days to send the whole thing back", False),
        ("judge", "It costs 20{days} EUR.", "It costs 200{days} EUR.", False),
        ("judge", "It costs {days}.5 EUR.", "It costs 5.{days} EUR.", False),
        ("judge", "It is -{days} degrees.", "It is {days} degrees.", False),
        ("judge", "Yes, all of it can be sent back.", "No, not all of it can be sent back.", False),
        ("judge", "You can send all of it back.", "You shouldn't send all of it back.", False),
        ("token_f1", "365 days", "{days} days", False),
        ("rouge_l", "365 days", "{days} days", False),
        ("normalized", "{days} days", "{days} Days.", True),
        ("contains", "stated", "Not stated.", False),
        ("contains", "days", "NOT STATED, not even in days", False),
    ],
)
def test_an_answer_is_kept_if_those_from_the_passage_say_the_same(
    score: str, proposed: str, read: str, kept: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the scorer compares, or without one that can, by words, numbers and negations."""

    def proposes(request: str, number: int) -> str:
        rows = json.loads(asks(request, number))["rows"]
        return json.dumps({"rows": [{**row, "output": proposed.format(days=row["output"].split()[0])} for row in rows]})

    scored = {"judge": "scripted:script.json"} if score == "judge" else score
    path = questions(tmp_path, {"score": scored})
    rows = [json.loads(line) for line in (tmp_path / "train.jsonl").read_text().splitlines()]
    lines = [
        {**row, "output": row["output"] + " or more, if it is sent back"[: n % 2 * 99]} for n, row in enumerate(rows)
    ]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    teacher = Teacher(proposes, answer=lambda prompt: read.format(days=DAYS.search(prompt)[2]))
    found = synth(monkeypatch, path, teacher, n=3, calls=28, kinds=("documents",))
    assert (found.made, found.dropped["agreement"]) == ((3, 0) if kept else (0, found.tally.proposed))


def test_an_answer_that_a_row_shown_gives_away_is_not_given_again_by_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A teacher that copies the answer of a row shown, and in the check reads nothing but the shots."""
    teacher = Teacher(lambda request, number: "", answer=lambda prompt: "NOT STATED")

    def copies(request: str, number: int) -> str:
        rows = json.loads(asks(request, number))["rows"]
        shown = [json.loads(line) for line in request.split("Rows:\n")[1].splitlines()[:3]]
        words = [f"{row['input'].split(' ', 1)[0]} {own['input']}" for row, own in zip(shown, rows, strict=True)]
        return json.dumps(
            {"rows": [{"input": text, "output": row["output"]} for text, row in zip(words, shown, strict=True)]}
        )

    def answers_from_shots(prompt: str) -> str:
        number = prompt.split("Question: ")[1].split()[0]
        shots = teacher.prompts[-1].split("[1]")[0]
        return f"{int(number) + 3} days" if re.search(rf"(?m)^{number} [A-Z]", shots) else "NOT STATED"

    teacher.write, teacher.answer = copies, answers_from_shots
    found = synth(monkeypatch, questions(tmp_path), teacher, n=6, calls=70, kinds=("documents",))
    assert (found.made, found.dropped["agreement"] > 9) == (0, True)
    checks = [prompt for prompt in teacher.prompts if SYSTEM not in prompt]
    assert all("when must the lamp go back" in prompt.split("[1]")[0] for prompt in checks), "other rows are shots"
    assert all("reply with NOT STATED" in prompt for prompt in checks)


def test_only_a_task_with_documents_and_free_answers_has_them(tmp_path: Path) -> None:
    def refused(task: Row) -> str:
        with pytest.raises(InputError) as error:
            forecast_synth(
                SynthRequest(questions(tmp_path / str(len(list(tmp_path.iterdir()))), task), kinds=("documents",))
            )
        return str(error.value)

    labels = {"output": {"choices": [f"{n} days" for n in range(3, 63)]}, "score": "choice"}
    assert "for a task whose answers are labels" in refused(labels)
    assert "for a task without documents" in refused({"knowledge": None})
    kinds = tuple({*KINDS} - {"answer"})
    found = forecast_synth(SynthRequest(questions(tmp_path / "all"), n=60, kinds=kinds))
    assert found.kinds == kinds
    assert "The passage:" in found.first["documents"][-1].content
    (line,) = [
        line for line in notes(found, agreement_off="documents, which the teacher does not have") if "Agree" in line
    ]
    assert line.startswith("Agreement is checked only for questions from documents: for other rows")
    alone = forecast_synth(SynthRequest(questions(tmp_path / "alone"), n=60, kinds=("documents",)))
    assert (found.answers, alone.answers) == (round(60 / 0.6 * 0.8 * 2 / 4), round(60 / 0.6 * 0.8 * 2))
    assert not [line for line in notes(alone, agreement_off="documents") if "Agreement" in line]


def test_documents_are_read_and_sent_only_where_the_kinds_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A damaged document stops no other kind, and an endpoint is shown passages only where that was said beforehand."""
    path = questions(tmp_path)
    (tmp_path / "docs" / "bad.pdf").write_bytes(b"%PDF-1.7 and nothing else")
    default = forecast_synth(SynthRequest(path, "openai:teacher", n=12))
    assert set(default.kinds) == WITHOUT_DOCUMENTS - {"answer"}
    assert "go to" not in " ".join([question(default), *notes(default, agreement_off=None)])
    with pytest.raises(DataError, match=r"bad\.pdf"):
        forecast_synth(SynthRequest(path, "openai:teacher", n=12, kinds=("documents",)))
    (tmp_path / "docs" / "bad.pdf").unlink()
    sent = forecast_synth(SynthRequest(path, "openai:teacher", n=12, kinds=("documents",)))
    said = "Passages of the documents go to openai:teacher, and so leave this machine unless it runs here."
    assert said in question(sent)
    assert said in notes(sent, agreement_off=None)
    local = forecast_synth(SynthRequest(path, n=12, kinds=("documents",)))
    assert said.split(" go to")[0] not in " ".join([question(local), *notes(local, agreement_off=None)])


def test_documents_that_may_not_be_in_a_prompt_go_to_no_endpoint(tmp_path: Path) -> None:
    path = questions(tmp_path, {"use": {"context": "forbidden"}})
    with pytest.raises(
        InputError, match=r"openai:teacher, an endpoint, for questions from documents that may not be in"
    ):
        forecast_synth(SynthRequest(path, "openai:teacher", n=12, kinds=("paraphrase", "documents")))
    assert forecast_synth(SynthRequest(path, "openai:teacher", n=12)).n == 12
    assert forecast_synth(SynthRequest(path, n=12, kinds=("documents",))).n == 12


def test_more_answers_from_the_passage_may_be_wanted_in_a_mix_and_pay_for_themselves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two in five questions are not answered as they were meant, and the default limit of calls still makes all rows."""

    def any_kind(request: str, number: int) -> str:
        if "The passage:" not in request:
            rows = [{"input": asked_of("lamp", 2000 + 3 * number + n), "output": "9 days"} for n in range(3)]
            return json.dumps({"rows": rows})
        rows = json.loads(asks(request, number))["rows"]
        return json.dumps(
            {"rows": [{**row, "output": "365 days"} if n == number % 3 else row for n, row in enumerate(rows)]}
        )

    kinds = ("paraphrase", "documents")
    mixed = synth(
        monkeypatch, questions(tmp_path / "a"), Teacher(any_kind, answer=reads), n=12, kinds=kinds, agreement=3
    )
    from_passages = [row for row in made(mixed) if row["synthetic"]["kind"] == "documents"]
    dropped = mixed.dropped["agreement"]
    assert (mixed.made, mixed.tally.checks) == (12, 3 * (len(from_passages) + dropped + mixed.tally.surplus))
    alone = synth(
        monkeypatch, questions(tmp_path / "b"), Teacher(any_kind, answer=reads), n=60, kinds=("documents",), agreement=5
    )
    assert (alone.made, alone.ended) == (60, "rows")
    with pytest.raises(InputError, match="found --agreement 3 for a task with documents"):
        forecast_synth(SynthRequest(questions(tmp_path / "c"), kinds=("paraphrase",), agreement=3))
