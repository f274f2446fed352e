"""The cache in front of a model: nothing twice, nothing mixed up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lastresort.errors import CandidateError, InfrastructureError
from lastresort.models.cached import CachedModel
from lastresort.models.scripted import Faults, Script, ScriptedModel, ScriptedQuality, ScriptRule
from lastresort.records.responses import ResponseCache
from lastresort.types import Answer, Decoding, Grammar, Message

GREEDY = Decoding(max_new_tokens=20)
SAMPLED = Decoding(max_new_tokens=20, temperature=1.0, seed=7)


class Memory:
    def __init__(self) -> None:
        self.bodies: dict[str, dict[str, Any]] = {}
        self.puts: list[int] = []

    def get_many(self, keys: Sequence[str]) -> dict[str, dict[str, Any]]:
        return {key: self.bodies[key] for key in keys if key in self.bodies}

    def put_many(self, bodies: Mapping[str, Mapping[str, Any]]) -> None:
        self.puts.append(len(bodies))
        self.bodies |= {key: dict(body) for key, body in bodies.items()}

    def drop_many(self, keys: Sequence[str]) -> None:
        for key in keys:
            del self.bodies[key]


class InBatches(ScriptedModel):
    batch_matters = True
    batch_size = 3


def ask(*texts: str) -> list[tuple[Message, ...]]:
    return [(Message("user", text),) for text in texts]


ECHO = Script(rules=(ScriptRule("(.+)", r"<\1>"),), seconds=1.5)


def texts(answers: Sequence[Any]) -> list[str]:
    return [answer.text for answer in answers]


@pytest.mark.parametrize(("kind", "kept"), [(ScriptedModel, 4), (InBatches, 3)])
def test_what_is_kept_is_known_without_a_call(kind: type[ScriptedModel], kept: int) -> None:
    """Batches of three: the second one would be another than that of a alone."""
    memory, inner = Memory(), kind(ECHO)
    model = CachedModel(inner, memory)
    model.generate(ask("a", "b", "c", "d"), SAMPLED)
    calls = inner.calls
    found = texts(model.kept(ask("a", "b", "c", "d", "e"), SAMPLED))
    assert found == ["<a>", "<b>", "<c>", "<d>"][:kept]
    assert inner.calls == calls
    assert model.kept(ask("a"), GREEDY) == []


def test_a_repeated_prompt_is_answered_from_the_cache_with_its_original_cost() -> None:
    memory, inner = Memory(), ScriptedModel(ECHO, prompt_price=3.0)
    first = CachedModel(inner, memory).generate(ask("a", "b"), GREEDY)
    again = CachedModel(inner, memory).generate(ask("b", "a"), GREEDY)
    assert again == [replace(answer, paid=0.0) for answer in first[::-1]]
    assert inner.calls == 2
    assert first[0].seconds == 1.5
    assert first[0].usd == first[0].paid > 0


def test_what_several_ask_at_once_is_paid_once() -> None:
    memory, arrived = Memory(), list[float]()
    cached = CachedModel(ScriptedModel(ECHO, prompt_price=3.0), memory)
    first, second = cached.generate(ask("a", "a"), GREEDY, lambda _, answer: arrived.append(answer.paid))
    assert (first.paid, second.paid, second.usd) == (first.usd, 0.0, first.usd)
    assert arrived == [first.usd, 0.0]
    assert all("paid" not in body for body in memory.bodies.values())


def test_misses_are_forwarded_together_and_answers_come_back_in_order() -> None:
    memory, inner = Memory(), ScriptedModel(ECHO)
    CachedModel(inner, memory).generate(ask("b"), GREEDY)
    arrived: dict[int, str] = {}
    cached = CachedModel(inner, memory)
    answers = cached.generate(ask("a", "b", "c"), GREEDY, lambda i, answer: arrived.update({i: answer.text}))
    assert texts(answers) == ["<a>", "<b>", "<c>"]
    assert arrived == {0: "<a>", 1: "<b>", 2: "<c>"}
    assert inner.calls == 3


def test_the_same_prompt_twice_in_a_greedy_call_is_asked_once() -> None:
    inner = ScriptedModel(ECHO)
    cached = CachedModel(inner, Memory())
    assert texts(cached.generate(ask("a", "a"), GREEDY)) == ["<a>", "<a>"]
    assert inner.calls == 1


def test_samples_of_one_prompt_stay_apart_and_are_replayed_each() -> None:
    script = Script(default="right", wrong=("w1", "w2"), quality=(ScriptedQuality(0.5),))
    memory = Memory()
    first = texts(CachedModel(ScriptedModel(script), memory).generate(ask(*["x"] * 12), SAMPLED))
    assert len(set(first)) > 1
    inner = ScriptedModel(script)
    assert texts(CachedModel(inner, memory).generate(ask(*["x"] * 12), SAMPLED)) == first
    assert inner.calls == 0
    fewer_first = Memory()
    CachedModel(ScriptedModel(script), fewer_first).generate(ask(*["x"] * 5), SAMPLED)
    assert texts(CachedModel(ScriptedModel(script), fewer_first).generate(ask(*["x"] * 12), SAMPLED)) == first


@pytest.mark.parametrize(
    "other",
    [
        Decoding(max_new_tokens=21),
        Decoding(max_new_tokens=20, temperature=0.5),
        Decoding(max_new_tokens=20, seed=1),
        Decoding(max_new_tokens=20, stop=("\n",)),
        Decoding(max_new_tokens=20, reasoning_effort="low"),
        Decoding(max_new_tokens=20, grammar=Grammar(choices=("a", "b"))),
    ],
)
def test_another_decoding_is_another_question(other: Decoding) -> None:
    inner = ScriptedModel(ECHO)
    cached = CachedModel(inner, Memory())
    cached.generate(ask("a"), GREEDY)
    cached.generate(ask("a"), other)
    assert inner.calls == 2


def test_the_key_of_an_answer_does_not_change_by_accident() -> None:
    """Under another key, every kept answer is asked again, and paid for. An effort that is not set is no part of it."""
    cached = CachedModel(ScriptedModel(ECHO), memory := Memory())
    cached.fingerprint = "f"
    cached.generate([(Message("user", "a"),)], GREEDY)
    assert list(memory.bodies) == ["54173cde553aedbeb5ac837f4c5cd797fa628b4fe1428a95b1ca5585dfebaa95"]


def test_the_order_of_a_schemas_properties_is_part_of_the_question() -> None:
    inner = ScriptedModel(ECHO)
    cached = CachedModel(inner, Memory())
    for names in (("a", "b"), ("b", "a")):
        schema = {"type": "object", "properties": {name: {} for name in names}}
        cached.generate(ask("x"), Decoding(max_new_tokens=20, grammar=Grammar(json_schema=schema)))
    assert inner.calls == 2


def test_role_extra_and_fingerprint_are_part_of_the_question() -> None:
    memory, inner = Memory(), ScriptedModel(ECHO)
    cached = CachedModel(inner, memory)
    prompts = [
        (Message("user", "a"),),
        (Message("system", "a"), Message("user", "a")),
        (Message("user", "a", {"name": "n"}),),
    ]
    cached.generate(prompts, GREEDY)
    assert inner.calls == 3
    CachedModel(ScriptedModel(ECHO, adapter=Path("tuned")), memory).generate(prompts[:1], GREEDY)
    assert len(memory.bodies) == 4


def test_paid_answers_survive_a_failure_and_are_not_asked_again() -> None:
    memory = Memory()
    script = Script(rules=ECHO.rules, faults=Faults(fail_at=(3,)))
    inner = ScriptedModel(script)
    with pytest.raises(InfrastructureError):
        CachedModel(inner, memory).generate(ask("a", "b", "c", "d"), GREEDY)
    assert len(memory.bodies) == 2
    assert texts(CachedModel(inner, memory).generate(ask("a", "b", "c", "d"), GREEDY)) == ["<a>", "<b>", "<c>", "<d>"]
    assert inner.calls == 5  # four answers and one failure


def test_where_the_batch_matters_it_is_stored_and_replayed_whole() -> None:
    memory, inner = Memory(), InBatches(ECHO)
    CachedModel(inner, memory).generate(ask("a", "b", "c", "d"), GREEDY)
    assert memory.puts == [3, 1]
    same = CachedModel(inner, memory).generate(ask("a", "b", "c", "d"), GREEDY)
    assert texts(same) == ["<a>", "<b>", "<c>", "<d>"]
    assert inner.calls == 4
    CachedModel(inner, memory).generate(ask("b", "a", "c", "d"), GREEDY)
    assert inner.calls == 7  # the second batch, d alone, is as before


def test_where_the_batch_matters_answers_are_passed_on_as_they_arrive_and_stored_whole() -> None:
    memory = Memory()
    seen: list[tuple[int, str, int]] = []

    def arrived(index: int, answer: Answer) -> None:
        seen.append((index, answer.text, sum(memory.puts)))

    CachedModel(InBatches(ECHO), memory).generate(ask("a", "b", "c", "d"), GREEDY, arrived)
    assert seen == [(0, "<a>", 0), (1, "<b>", 0), (2, "<c>", 0), (3, "<d>", 3)]
    seen.clear()
    CachedModel(InBatches(ECHO), memory).generate(ask("a", "b", "c", "d"), GREEDY, arrived)
    assert [text for _, text, _ in seen] == ["<a>", "<b>", "<c>", "<d>"]


def test_a_batch_of_which_a_part_is_lost_is_computed_again_as_a_whole() -> None:
    memory, inner = Memory(), InBatches(ECHO)
    CachedModel(inner, memory).generate(ask("a", "b", "c"), GREEDY)
    memory.bodies.pop(next(iter(memory.bodies)))
    CachedModel(inner, memory).generate(ask("a", "b", "c"), GREEDY)
    assert inner.calls == 6


def test_a_batch_that_was_cut_leaves_nothing_and_finished_batches_stay() -> None:
    memory = Memory()
    inner = InBatches(Script(rules=ECHO.rules, faults=Faults(fail_at=(5,))))
    with pytest.raises(InfrastructureError):
        CachedModel(inner, memory).generate(ask("a", "b", "c", "d", "e"), GREEDY)
    assert memory.puts == [3]
    CachedModel(inner, memory).generate(ask("a", "b", "c", "d", "e"), GREEDY)
    assert inner.calls == 7  # five of the first time, of which the last failed, and the second batch again


def test_where_the_batch_matters_samples_of_one_prompt_stay_apart_across_batches() -> None:
    script = Script(default="right", wrong=("w1", "w2"), quality=(ScriptedQuality(0.5),))
    memory, inner = Memory(), InBatches(script)
    first = CachedModel(inner, memory).generate(ask(*["x"] * 12, "y"), SAMPLED)
    assert len(set(texts(first[:12]))) > 1
    assert memory.puts == [2] + [1] * 11  # the first samples of x and y, then each further sample of x by itself
    assert CachedModel(inner, memory).generate(ask(*["x"] * 12, "y"), SAMPLED) == first
    assert inner.calls == 13


def test_another_engine_path_is_another_question_and_the_rest_is_passed_on() -> None:
    class Elsewhere(ScriptedModel):
        computed_by = "another engine"
        precision = "bfloat16"

    memory = Memory()
    CachedModel(ScriptedModel(ECHO), memory).generate(ask("a"), GREEDY)
    elsewhere = Elsewhere(ECHO)
    cached = CachedModel(elsewhere, memory)
    cached.generate(ask("a"), GREEDY)
    assert (elsewhere.calls, cached.precision) == (1, "bfloat16")


def test_a_decoding_is_checked_by_the_model_itself() -> None:
    class Strict(ScriptedModel):
        def check_decoding(self, decoding: Decoding) -> None:
            raise CandidateError(f"at most 9 tokens, not {decoding.max_new_tokens}")

    CachedModel(ScriptedModel(ECHO), Memory()).check_decoding(GREEDY)
    with pytest.raises(CandidateError, match="not 20"):
        CachedModel(Strict(ECHO), Memory()).check_decoding(GREEDY)


def test_with_the_real_store_answers_outlive_the_process(tmp_path: Path) -> None:
    with ResponseCache(tmp_path / "responses.sqlite") as store:
        first = CachedModel(ScriptedModel(ECHO), store).generate(ask("a", "é\ud800"), GREEDY)
    with ResponseCache(tmp_path / "responses.sqlite") as store:
        inner = ScriptedModel(ECHO)
        assert CachedModel(inner, store).generate(ask("a"), GREEDY) == first[:1]
        assert inner.calls == 0
