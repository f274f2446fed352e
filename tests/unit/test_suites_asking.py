"""Asking a suite: rounds, batches that are never regrouped, what is kept, what is left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from gate_support import Letters, Recorder, Words
from lastresort.errors import ContractError, InfrastructureError
from lastresort.gate.suites.asking import answered_here, answers_key, ask
from lastresort.gate.suites.suite import Question, SuiteItem, TextRequest, Transcript
from lastresort.models.protocol import OnAnswer, Prompt
from lastresort.records.responses import KeptAnswer, SuiteAnswers
from lastresort.types import Answer, Decoding, Message


def test_batches_are_cut_from_the_order_and_finish_their_rounds_before_the_next() -> None:
    suite, model = Words(rounds=3), Recorder(batch_size=4)
    items = suite.draw(0, 0, 10)
    found = ask(model, suite, items)
    sizes = [len(call) for call in model.calls]
    assert sizes == [4, 4, 4, 4, 4, 4, 2, 2, 2]
    assert model.calls[0] == [item.text for item in items[:4]]
    assert model.calls[3] == [item.text for item in items[4:8]]
    assert model.calls[1] == ["More? (1)"] * 4
    assert list(found.transcripts) == [item.id for item in items]
    assert list(found.transcripts[items[9].id]) == ["say", "more 1", "more 2"]
    assert found.transcripts[items[9].id]["say"].text == items[9].facts["word"]
    assert (found.new, found.left_out) == (10, ())


def test_questions_of_a_kind_go_together_and_replies_come_back_in_order() -> None:
    suite, model = Letters(), Recorder(batch_size=3)
    found = ask(model, suite, suite.draw(0, 0, 3))
    texts = [f"Word {number}?" for number in range(3)]
    assert model.calls == [texts, texts]  # those of 4 tokens, those of 9
    assert model.scored == [texts]
    said = found.transcripts["letters/1/0/1"]
    assert {key: (reply.text, reply.logps) for key, reply in said.items()} == {
        "short": ("Word 1?", ()),
        "likelier": ("no", (-3.0, -2.0)),
        "long": ("Word 1?", ()),
    }


def test_a_gate_killed_half_way_asks_nothing_twice(tmp_path: Path) -> None:
    suite = Words(rounds=2)
    items = suite.draw(0, 0, 12)
    killed, goes_on = Recorder(fails_at=4), Recorder()
    with SuiteAnswers(tmp_path / "answers.sqlite") as kept, pytest.raises(KeyboardInterrupt):
        ask(killed, suite, items, kept)
    with SuiteAnswers(tmp_path / "answers.sqlite") as kept:
        found = ask(goes_on, suite, items, kept)
        asked = [text for call in (*killed.calls[:2], *goes_on.calls) for text in call if text.startswith("Say")]
        assert asked == [item.text for item in items]  # the second batch of the killed one was not finished
        assert found.new == 8
        assert found.transcripts == ask(Recorder(), suite, items).transcripts
        again = Recorder()
        assert ask(again, suite, items, kept).transcripts == found.transcripts
        assert again.calls == []


def test_an_infrastructure_failure_is_raised_and_never_scored(tmp_path: Path) -> None:
    suite = Words()
    model = Recorder(fails_at=2, error=lambda: InfrastructureError("down"))
    with SuiteAnswers(tmp_path / "answers.sqlite") as kept:
        with pytest.raises(InfrastructureError, match="down"):
            ask(model, suite, suite.draw(0, 0, 8), kept)
        assert ask(Recorder(), suite, suite.draw(0, 0, 8), kept).new == 4


@pytest.mark.parametrize(("matters", "sizes"), [(False, [1, 2]), (True, [4, 2])])
def test_a_batch_of_which_a_part_is_known(tmp_path: Path, matters: bool, sizes: list[int]) -> None:
    """Where an answer can depend on its batch, it is asked as a whole, and what was known stays."""
    suite, items = Words(), Words().draw(0, 0, 6)
    with SuiteAnswers(tmp_path / "answers.sqlite") as kept:
        ask(Recorder(batch_size=3), suite, items[:3], kept)
        model = Recorder(batch_size=4, batch_matters=matters)
        found = ask(model, suite, items, kept)
        assert [len(call) for call in model.calls] == sizes
        assert found.new == 3
        assert ask(Recorder(), suite, items, kept).new == 0


def test_what_is_kept_is_of_one_model_one_version_and_one_way_of_asking(tmp_path: Path) -> None:
    suite, items = Words(), Words().draw(0, 0, 4)
    other = Recorder()
    other.fingerprint = "0" * 64
    with SuiteAnswers(tmp_path / "answers.sqlite") as kept:
        assert ask(Recorder(), suite, items, kept).new == 4
        assert ask(other, suite, items, kept).new == 4
        assert ask(Recorder(), replace(suite, version=2), items, kept).new == 4
        assert ask(Recorder(), replace(suite, mode="loud"), items, kept).new == 4
        assert ask(Recorder(), suite, items, kept).new == 0


class Overtaken(Recorder):
    """Another gate asks the same and keeps its answers first."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def generate(
        self, prompts: Sequence[Prompt], decoding: Decoding, on_answer: OnAnswer | None = None
    ) -> list[Answer]:
        with SuiteAnswers(self._path) as kept:
            ask(Recorder(), Words(), Words().draw(0, 0, 8), kept, answered=answered_here(lambda: 0.0))
        return [replace(answer, text="late") for answer in super().generate(prompts, decoding, on_answer)]


def test_the_slower_of_two_gates_goes_on_with_the_answers_that_are_kept(tmp_path: Path) -> None:
    """As it would after a resume."""
    path, items = tmp_path / "answers.sqlite", Words().draw(0, 0, 8)
    with SuiteAnswers(path) as kept:
        found = ask(Overtaken(path), Words(), items[:4], kept)
        assert "late" not in {said["say"].text for said in found.transcripts.values()}
        assert replace(found, new=0) == ask(Recorder(), Words(), items[:4], kept)
        assert found.new == 4


def test_an_item_that_asks_otherwise_under_the_same_name_is_another_one(tmp_path: Path) -> None:
    suite, items = Words(), Words().draw(0, 0, 2)
    changed = [replace(items[0], text="Say: something else"), items[1]]
    with SuiteAnswers(tmp_path / "answers.sqlite") as kept:
        ask(Recorder(), suite, items, kept)
        found = ask(Recorder(), suite, changed, kept)
        assert found.new == 1
        assert found.transcripts[items[0].id]["say"].text == "something else"


def test_what_the_context_cannot_hold_is_left_out_and_counted_and_that_is_kept_too(tmp_path: Path) -> None:
    suite, items = Words(rounds=2), Words().draw(0, 0, 5)
    long_one = replace(items[1], text="Say: " + "x" * 100)
    with SuiteAnswers(tmp_path / "answers.sqlite") as kept:
        model = Recorder(context_tokens=80)
        found = ask(model, suite, [items[0], long_one, *items[2:]], kept)
        assert found.left_out == (long_one.id,)
        assert long_one.id not in found.transcripts
        assert [item.id for item, _ in found.with_transcripts([items[0], long_one])] == [items[0].id]
        assert all(len(text) < 80 for call in model.calls for text in call)
        again = Recorder(context_tokens=80)
        assert ask(again, suite, [items[0], long_one, *items[2:]], kept).left_out == (long_one.id,)
        assert again.calls == []


def test_the_key_of_an_answer_of_the_gate_does_not_change_by_accident(tmp_path: Path) -> None:
    [item] = Words().draw(0, 0, 1)
    opening = "dd22a73af2a4a3a540d4c17e0e39eedb807ba6a62f9b754c379d36eb702565ce"
    with SuiteAnswers(tmp_path / "answers.sqlite") as kept:
        kept.put(answers_key(Recorder(), Words()), {item.id: opening}, {item.id: KeptAnswer(None)})
        assert ask(Recorder(), Words(), [item], kept).new == 0


def test_an_item_can_become_too_long_in_a_later_round() -> None:
    suite, items = Words(rounds=2), Words().draw(0, 0, 2)
    room = len(items[0].text) + 16
    assert ask(Recorder(context_tokens=room), suite, items[:1]).left_out == (items[0].id,)
    assert ask(Recorder(context_tokens=200), suite, items[:1]).left_out == ()


def test_the_longest_option_needs_room() -> None:
    items = Letters().draw(0, 0, 1)
    assert ask(Recorder(context_tokens=7 + 9), Letters(), items).left_out == ()
    assert ask(Recorder(context_tokens=7 + 8), Letters(), items).left_out == (items[0].id,)


class Repeats(Words):
    def ask(self, item: SuiteItem, said: Transcript) -> list[Question]:
        return [TextRequest("say", (Message("user", item.text),), Decoding(4))]


def test_a_suite_that_would_ask_for_ever_is_stopped() -> None:
    with pytest.raises(ContractError, match='asks "say" of odd/1/0/0 twice'):
        ask(Recorder(), Repeats(), Repeats().draw(0, 0, 1))


def test_seconds_are_shared_in_a_batch_and_kept(tmp_path: Path) -> None:
    ticks = iter(range(100))
    suite, items = Words(), Words().draw(0, 0, 8)
    with SuiteAnswers(tmp_path / "answers.sqlite") as kept:
        assert ask(Recorder(), suite, items, kept, answered=answered_here(lambda: float(next(ticks)))).seconds == 2.0
        assert ask(Recorder(), suite, items[:6], kept).seconds == pytest.approx(1.5)


def test_tokens_are_counted_and_kept(tmp_path: Path) -> None:
    """Each item asks twice for words, a token in and a token out, and for the likelier of yes and no after 7 characters."""
    suite, items = Letters(), Letters().draw(0, 0, 6)
    with SuiteAnswers(tmp_path / "answers.sqlite") as kept:
        first = ask(Recorder(), suite, items, kept)
        again = ask(Recorder(), suite, items[:4], kept)
    assert (first.tokens_in, first.tokens_out) == (6 * (1 + 1 + 7 + 5), 6 * 2)
    assert (again.new, again.tokens_in, again.tokens_out) == (0, 4 * 14, 4 * 2)


def test_an_item_that_will_ask_otherwise_later_is_another_one(tmp_path: Path) -> None:
    suite, items = Words(), Words().draw(0, 0, 4)
    reworded = [replace(item, facts={**item.facts, "again": "Really?"}) for item in items]
    with SuiteAnswers(tmp_path / "answers.sqlite") as kept:
        assert [ask(Recorder(), suite, asked, kept).new for asked in (items, items, reworded)] == [4, 0, 4]


def test_a_damaged_file_is_moved_aside_and_filled_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "answers.sqlite"
    path.write_bytes(b"no database at all" * 50)
    suite, items = Words(), Words().draw(0, 0, 4)
    with SuiteAnswers(path) as kept:
        assert ask(Recorder(), suite, items, kept).new == 4
    assert (tmp_path / "answers.sqlite.damaged-1").exists()
    assert "kept answers of the gate start empty" in caplog.text


def test_of_two_answers_of_one_item_the_first_stays(tmp_path: Path) -> None:
    asking, openings = answers_key(Recorder(), Words()), {"a": "1", "b": "2"}
    with SuiteAnswers(tmp_path / "answers.sqlite") as kept:
        kept.put(asking, openings, {"a": KeptAnswer({"say": 1}, 0.5)})
        kept.put(asking, openings, {"a": KeptAnswer({"say": 2}), "b": KeptAnswer(None)})
        assert kept.known(asking, openings) == {"a": KeptAnswer({"say": 1}, 0.5), "b": KeptAnswer(None)}
        assert kept.known(asking, {"a": "other", "c": "3"}) == {}


class Mixed(Letters):
    """Every third item asks for words only."""

    def ask(self, item: SuiteItem, said: Transcript) -> list[Question]:
        questions = list(super().ask(item, said))
        return questions if int(item.id.split("/")[-1]) % 3 else questions[:1]


def test_items_that_begin_alike_are_asked_together_and_come_back_in_their_order() -> None:
    items = Mixed().draw(0, 0, 9)
    model = Recorder(batch_size=4)
    found = ask(model, Mixed(), items)
    assert model.calls[0] == ["Word 0?", "Word 3?", "Word 6?"]
    assert model.scored == [["Word 1?", "Word 2?", "Word 4?", "Word 5?"], ["Word 7?", "Word 8?"]]
    assert list(found.transcripts) == [item.id for item in items]
